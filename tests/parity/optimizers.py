"""Optimizers beside PyTorch's: twenty steps of one small model on one text, and then every parameter."""

import importlib
import inspect
import pathlib
import tempfile

import common
import torch
import transformers
from safetensors.torch import load_file

VOCABULARY, CONTEXT, STEPS, LR, CLIP = 21, 8, 20, 5e-3, 0.5
# of each parameter's largest element
TOLERANCE = 1e-5


class Lion(torch.optim.Optimizer):
    """PyTorch has none: Chen et al. 2023, program 1."""

    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                update = (beta1 * m + (1 - beta1) * p.grad).sign() + group["weight_decay"] * p
                p -= group["lr"] * update
                m.mul_(beta2).add_(p.grad, alpha=1 - beta2)


def muon(params, **settings):
    """PyTorch's, with products of 32 bits where it has 16."""
    module = importlib.import_module("torch.optim._muon")
    source = inspect.getsource(module._zeropower_via_newtonschulz).replace("torch.bfloat16", "torch.float32")
    exec(source, module.__dict__)
    return torch.optim.Muon(params, **settings)


def model():
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False,
    )
    torch.manual_seed(5)
    return transformers.LlamaForCausalLM(config)


def split(model):
    """Matrices, which decay, and gains, which do not."""
    params = list(model.parameters())
    return [p for p in params if p.dim() > 1], [p for p in params if p.dim() < 2]


def alike(make):
    """One optimizer for all: weight decay is that of matrices."""

    def optimizers(model, decay):
        matrices, gains = split(model)
        return [make([{"params": matrices, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}])]

    return optimizers


def of_layers(model, decay):
    """Muon inside of layers, AdamW elsewhere."""
    matrices, gains = split(model)
    inside = [p for n, p in model.named_parameters() if p.dim() > 1 and ".layers." in n]
    outside = [p for p in matrices if not any(p is q for q in inside)]
    rest = [{"params": outside, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
    muons = muon(inside, lr=LR, momentum=0.95, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [muons, torch.optim.AdamW(rest, lr=LR, betas=(0.9, 0.99), eps=1e-6)]


CASES = {
    "adamw": (alike(lambda p: torch.optim.AdamW(p, lr=LR, betas=(0.9, 0.99), eps=1e-6)), 0.1, ["eps=1e-6"]),
    "adam": (alike(lambda p: torch.optim.Adam(p, lr=LR, betas=(0.8, 0.9), eps=1e-6)), 0.01, ["beta1=0.8", "beta2=0.9", "eps=1e-6"]),
    "sgd": (alike(lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9)), 0.1, []),
    "sgd with Nesterov's momentum": (alike(lambda p: torch.optim.SGD(p, lr=LR, momentum=0.8, nesterov=True)), 0.2, ["momentum=0.8", "nesterov=true"]),
    "lion": (alike(lambda p: Lion(p, LR, (0.9, 0.99), 0.0)), 0.1, []),
    "adafactor": (alike(lambda p: torch.optim.Adafactor(p, lr=LR)), 0.1, []),
    "muon": (of_layers, 0.1, ["eps=1e-6"]),
}


def trained(make, decay, ids):
    net = model().train()
    optimizers = make(net, decay)
    for _ in range(STEPS):
        net.zero_grad()
        logits = net(input_ids=ids[None, :-1]).logits
        common.cross_entropy(logits, ids[None, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        for optimizer in optimizers:
            optimizer.step()
    return {n: p.detach() for n, p in net.named_parameters()}


def checks(eggcorn):
    """Names of checks and what each found to be wrong."""
    torch.manual_seed(8)
    # training has one window alone, so every row of every batch is that
    ids = torch.randint(VOCABULARY, (CONTEXT + 1,))
    for name, (make, decay, more) in CASES.items():
        want = trained(make, decay, ids)
        start = dict(model().named_parameters())
        with tempfile.TemporaryDirectory() as d:
            common.save(model(), f"{d}/hf", VOCABULARY)
            pathlib.Path(f"{d}/text").write_text("".join(common.character(i) for i in ids.tolist() * 2))
            settings = [f"train.{s}" for s in (f"context={CONTEXT}", "batch=3", f"steps={STEPS}", f"lr={LR}", "schedule=constant", "warmup=0", f"grad_clip={CLIP}")]
            settings += [f"optimizer.{s}" for s in (f"name={name.split()[0]}", f"weight_decay={decay}", *more)] + ["data.held_out=0.5"]
            sets = [word for s in settings for word in ("--set", s)]
            common.run([eggcorn, "train", "--init-from", f"{d}/hf", "--data", f"{d}/text", "--out", f"{d}/run", *sets])
            common.run([eggcorn, "export", f"{d}/run", f"{d}/out"])
            have = load_file(f"{d}/out/model.safetensors")
        differences = {n: (have[n] - w).abs() / w.abs().max() for n, w in want.items()}
        if name == "lion":
            # a sign of what is almost 0 is rounding's: few elements
            flipped = sum((x > TOLERANCE).sum().item() for x in differences.values())
            differences = {n: x[x <= TOLERANCE] for n, x in differences.items()} if flipped <= 5 else differences
        worst = max((x.max().item(), n) for n, x in differences.items() if x.numel())
        moved = max((want[n] - p).abs().max().item() for n, p in start.items())
        wrong = [f"{worst[1]} differs by {worst[0]:.1e}"] if worst[0] > TOLERANCE else []
        wrong += ["nothing moved"] if moved < 1e-3 else []
        yield f"{name} after {STEPS} steps", f"{len(want)} parameters, worst {worst[0]:.1e}", wrong
