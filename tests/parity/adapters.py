"""Adapters beside PEFT's: logits and gradients of its files, twenty steps of training, what is merged, and what PEFT reads of ours."""

import contextlib
import copy
import json
import pathlib
import tempfile

import common
import torch
import transformers
from safetensors.torch import load_file, save_file

from skips import skip

VOCABULARY, CONTEXT, STEPS, LR = 21, 8, 20, 1e-2
# of the largest element
TOLERANCE = 2e-5
LOSSES = 1e-5


def llama():
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=CONTEXT, tie_word_embeddings=False,
    )
    return transformers.LlamaForCausalLM(config)


def gpt2():
    # a head that is the embedding, and matrices that lie otherwise
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=12, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return transformers.GPT2LMHeadModel(config)


LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GPT2 = ["c_attn", "c_proj", "c_fc"]
CASES = {
    "lora": (llama, dict(r=3, lora_alpha=6, target_modules=LLAMA)),
    "lora of GPT-2": (gpt2, dict(r=2, lora_alpha=3, target_modules=GPT2, fan_in_fan_out=True)),
    "lora with the head": (llama, dict(r=4, lora_alpha=4, target_modules=["q_proj", "lm_head"])),
    "rslora": (llama, dict(r=4, lora_alpha=5, target_modules=["v_proj", "down_proj"], use_rslora=True)),
    "ranks of their own": (llama, dict(r=3, lora_alpha=6, target_modules=LLAMA, rank_pattern={"q_proj": 1, "mlp.up_proj": 4}, alpha_pattern={"v_proj": 2})),
    "ranks of GPT-2": (gpt2, dict(r=2, lora_alpha=3, target_modules=GPT2, rank_pattern={r"h\.\d+\.attn\.c_proj": 4, "c_proj": 1}, fan_in_fan_out=True)),
    "modules whole": (llama, dict(r=3, lora_alpha=6, target_modules=LLAMA, modules_to_save=["lm_head", "norm"])),
    "dora": (llama, dict(r=3, lora_alpha=6, target_modules=LLAMA, use_dora=True)),
    "dora of GPT-2": (gpt2, dict(r=2, lora_alpha=4, target_modules=GPT2, use_dora=True, fan_in_fan_out=True)),
}


def adapted(peft, make, settings, random):
    """A random model and the same with an adapter, which is random too or starts as PEFT has it."""
    torch.manual_seed(5)
    plain = make()
    common.spread(plain, 5)
    config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=not random, **settings)
    return plain, peft.get_peft_model(copy.deepcopy(plain), config)


def differs(name, have, want, tolerance=TOLERANCE):
    error = common.relative(have, want)
    return [] if error <= tolerance else [f"{name} differs by {error:.1e}"]


def forward(eggcorn, peft, make, settings, d):
    """Logits, loss and the gradients of all that is beside the model."""
    plain, model = adapted(peft, make, settings, True)
    common.save(plain, f"{d}/hf", VOCABULARY)
    model.save_pretrained(f"{d}/lora")
    ids, labels = torch.randint(VOCABULARY, (2, CONTEXT)), torch.randint(VOCABULARY, (2, CONTEXT))
    logits = model(input_ids=ids).logits
    loss = common.cross_entropy(logits, labels)
    loss.backward()
    save_file({"input_ids": ids, "labels": labels}, f"{d}/in.safetensors")
    common.run([eggcorn, "run", f"{d}/hf", "--adapter", f"{d}/lora", "--input", f"{d}/in.safetensors", "--out", f"{d}/out.safetensors", "--grad"])
    have = load_file(f"{d}/out.safetensors")
    wrong = differs("logits", have["logits"], logits.detach()) + differs("loss", have["loss"].reshape(()), loss.detach())
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    for name, grad in grads.items():
        own = name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
        own = own.removesuffix(".weight") if "magnitude" in own else own
        wrong += differs(own, have["grad." + own], grad, 1e-4)
    return f"{len(grads)} gradients", wrong


def training(eggcorn, peft, make, settings, d):
    """Losses of twenty steps on one text, and what then is beside the model, as PEFT reads it; and what both make of the two."""
    plain, model = adapted(peft, make, settings, False)
    common.save(plain, f"{d}/hf", VOCABULARY)
    model.save_pretrained(f"{d}/start")
    # training has one window alone, so every row of every batch is that
    ids = torch.randint(VOCABULARY, (CONTEXT + 1,))
    pathlib.Path(f"{d}/text").write_text("".join(common.character(i) for i in ids.tolist() * 2))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR, betas=(0.9, 0.99), weight_decay=0.0)
    want = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = common.cross_entropy(model(input_ids=ids[None, :-1]).logits, ids[None, 1:])
        loss.backward()
        optimizer.step()
        want.append(loss.item())
    sets = [f"train.{s}" for s in (f"context={CONTEXT}", "batch=2", f"steps={STEPS}", f"lr={LR}", "schedule=constant", "warmup=0", "grad_clip=0")]
    sets = [word for s in sets + ["optimizer.weight_decay=0", "data.held_out=0.5"] for word in ("--set", s)]
    common.run([eggcorn, "finetune", "lora", "--init-from", f"{d}/hf", "--adapter", f"{d}/start", "--data", f"{d}/text", "--out", f"{d}/run", *sets])
    events = [json.loads(line) for line in open(f"{d}/run/metrics.jsonl")]
    have = [e["loss"] for e in events if e["event"] == "step"]
    worst = max(abs(a - b) for a, b in zip(have, want, strict=True))
    wrong = [] if worst <= LOSSES * max(want) else [f"losses differ by {worst:.1e}"]
    wrong += [] if want[-1] < 0.96 * want[0] else [f"nothing is learned: {want[0]} to {want[-1]}"]
    # ours as PEFT loads it, and what both merge
    common.run([eggcorn, "export", f"{d}/run", f"{d}/lora", "--adapter"])
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(plain), f"{d}/lora").eval()
    with torch.no_grad():
        own, read = model.eval()(input_ids=ids[None, 1:]).logits, loaded(input_ids=ids[None, 1:]).logits
        wrong += differs("PEFT's logits of our file", read, own, 1e-3)
        common.run([eggcorn, "merge", f"{d}/run", "--out", f"{d}/merged"])
        common.run([eggcorn, "export", f"{d}/merged", f"{d}/merged-hf"])
        merged = type(plain).from_pretrained(f"{d}/merged-hf").eval()
        wrong += differs("logits of what is merged", merged(input_ids=ids[None, 1:]).logits, read, 1e-5)
        for (name, a), (_, b) in zip(merged.named_parameters(), loaded.merge_and_unload().named_parameters(), strict=True):
            wrong += differs(f"merged {name}", a, b, 1e-5)
    return f"worst loss {worst:.1e}", wrong


# tokens before every text: of a GPT-2, whose positions are learned, and of a Llama with fewer heads of keys
BEFORE = {
    "prompt": (llama, "PromptTuningConfig", {}),
    "prompt of GPT-2": (gpt2, "PromptTuningConfig", {}),
    "prefix": (llama, "PrefixTuningConfig", {}),
    "prefix of GPT-2": (gpt2, "PrefixTuningConfig", {}),
    "prefix that was projected": (gpt2, "PrefixTuningConfig", dict(prefix_projection=True, encoder_hidden_size=7)),
}
TOKENS = 3
TEXT = CONTEXT - TOKENS


def before(peft, make, kind, settings):
    """A random model, and the same behind random tokens."""
    torch.manual_seed(6)
    plain = make()
    common.spread(plain, 6)
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS, **settings)
    return plain, peft.get_peft_model(copy.deepcopy(plain), config)


def of_text(model, ids):
    """Logits of the text: those of a prompt's own tokens stand before them."""
    return model(input_ids=ids).logits[:, -ids.shape[1]:]


def behind(eggcorn, peft, make, kind, settings, d):
    """Logits, loss and the gradient of what stands before a text; greedy text; and training, whose file PEFT reads."""
    plain, model = before(peft, make, kind, settings)
    common.save(plain, f"{d}/hf", VOCABULARY)
    model.save_pretrained(f"{d}/peft")
    ids, labels = torch.randint(VOCABULARY, (2, TEXT)), torch.randint(VOCABULARY, (2, TEXT))
    logits = of_text(model, ids)
    loss = common.cross_entropy(logits, labels)
    loss.backward()
    save_file({"input_ids": ids, "labels": labels}, f"{d}/in.safetensors")
    common.run([eggcorn, "run", f"{d}/hf", "--adapter", f"{d}/peft", "--input", f"{d}/in.safetensors", "--out", f"{d}/out.safetensors", "--grad"])
    have = load_file(f"{d}/out.safetensors")
    wrong = differs("logits", have["logits"], logits.detach()) + differs("loss", have["loss"].reshape(()), loss.detach())
    own = model.prompt_encoder.default.embedding.weight
    if not settings:
        wrong += differs("gradient", have["grad.prompt_embeddings"], own.grad, 1e-4)
        wrong += steps(eggcorn, peft, plain, model, ids[0], d)
    return f"{len(have)} results", wrong


def steps(eggcorn, peft, plain, model, ids, d):
    """Losses of twenty steps, the file that PEFT reads, and greedy text of it."""
    ids = torch.cat([ids, ids[:1]])
    pathlib.Path(f"{d}/text").write_text("".join(common.character(i) for i in ids.tolist() * 2))
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer, want = torch.optim.AdamW(own, lr=LR, betas=(0.9, 0.99), weight_decay=0.0), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = common.cross_entropy(of_text(model, ids[None, :-1]), ids[None, 1:])
        loss.backward()
        optimizer.step()
        want.append(loss.item())
    sets = [f"train.{s}" for s in (f"context={TEXT}", "batch=2", f"steps={STEPS}", f"lr={LR}", "schedule=constant", "warmup=0", "grad_clip=0")]
    sets = [word for s in sets + ["optimizer.weight_decay=0", "data.held_out=0.5"] for word in ("--set", s)]
    common.run([eggcorn, "train", "--init-from", f"{d}/hf", "--adapter", f"{d}/peft", "--data", f"{d}/text", "--out", f"{d}/run", *sets])
    events = [json.loads(line) for line in open(f"{d}/run/metrics.jsonl")]
    have = [e["loss"] for e in events if e["event"] == "step"]
    worst = max(abs(a - b) for a, b in zip(have, want, strict=True))
    wrong = [] if worst <= LOSSES * max(want) else [f"losses differ by {worst:.1e}"]
    wrong += [] if want[-1] < want[0] else [f"nothing is learned: {want[0]} to {want[-1]}"]
    common.run([eggcorn, "export", f"{d}/run", f"{d}/ours", "--adapter"])
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(plain), f"{d}/ours").eval()
    with torch.no_grad():
        wrong += differs("PEFT's logits of our file", of_text(loaded, ids[None, 1:]), of_text(model.eval(), ids[None, 1:]), 1e-3)
        written = []
        for _ in range(3):
            written.append(of_text(loaded, torch.tensor([[0, 1, *written]]))[0, -1].argmax().item())
    text = common.run([eggcorn, "generate", f"{d}/run", "--prompt", common.character(0) + common.character(1), "--max-tokens", "3", "--temperature", "0"])
    right = "".join(common.character(i) for i in written)
    return wrong + ([] if right in text else [f"greedy text {text!r} has no {right!r}"])


def checks(eggcorn):
    """Names of checks and what each found to be wrong."""
    try:
        import peft
    except ImportError as missing:
        return skip(f"SKIPPED parity of adapters: {missing}; pip install peft==0.21.2 to run it", "peft")
    for name, (make, settings) in CASES.items():
        for what, check in (("forward and backward", forward), (f"{STEPS} steps, read again, merged", training)):
            with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(None):
                said, wrong = check(eggcorn, peft, make, settings, d)
            yield f"{name}, {what}", said, wrong
    for name, (make, kind, settings) in BEFORE.items():
        with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(None):
            said, wrong = behind(eggcorn, peft, make, kind, settings, d)
        yield f"{name}, forward, backward, {STEPS} steps, read again", said, wrong
