"""Losses of preferences, policies and imitation, and their gradients, on random logits: beside trl's functions where it has them, and else
beside the papers' formulas in PyTorch. The programs are those that tests/losses.rs keeps.

Of trl's trainers the functions that take tensors are called alone, on whatever stands for a trainer; without trl the formulas are left."""

import collections
import pathlib
import tempfile
import types
from unittest import mock

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import common

try:
    from trl import DPOTrainer, GRPOTrainer, KTOTrainer
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.gkd import GKDTrainer
    from trl.experimental.orpo import ORPOTrainer
except ImportError:
    DPOTrainer = None

TOLERANCE = 1e-5
PROGRAMS = pathlib.Path(__file__).parent.parent / "snapshots"
PAIRS, TIME, CLASSES = 5, 9, 23
KL, LENGTH, CLIP = 0.05, 7.0, (0.2, 0.28)


def program(name, folder):
    """A kept program as a file of IR text."""
    text = (PROGRAMS / f"it__losses__{name}.snap").read_text().split("---\n", 2)[2]
    path = f"{folder}/{name}.ir"
    pathlib.Path(path).write_text(text)
    return path


def holes(labels):
    """Nothing is asked of the beginning and of what is filled up, more or less of each row."""
    for row in labels.reshape(-1, labels.shape[-1]):
        begin, end = torch.randint(0, 3, (1,)).item(), TIME - torch.randint(0, 4, (1,)).item()
        row[:begin] = row[end:] = -100
    return labels


def of_tokens(x, labels):
    """log p of each label, and 0 where there is none."""
    picked = x.log_softmax(-1).gather(-1, labels.clamp_min(0)[..., None])[..., 0]
    return torch.where(labels >= 0, picked, 0.0)


def trainer(**settings):
    """What stands for a trainer: it has these, and is asked for nothing else that matters."""
    same = lambda x: x
    accelerator = mock.MagicMock(device=torch.device("cpu"), num_processes=1, gather=same, gather_for_metrics=same)
    metrics = collections.defaultdict(lambda: collections.defaultdict(list))
    return mock.MagicMock(accelerator=accelerator, _metrics=metrics, aux_loss_enabled=False, **settings)


class Pairs:
    """Chosen and rejected answers, and what a reference says of them."""

    def __init__(self):
        self.logits = (2 * torch.randn(2 * PAIRS, TIME, CLASSES)).requires_grad_()
        self.labels = holes(torch.randint(CLASSES, (PAIRS, 2, TIME)))
        self.reference = -3 * torch.rand(PAIRS, 2) - 10
        self.label = torch.randint(2, (PAIRS, 1))

    def given(self, *names):
        return {name: getattr(self, name).detach() for name in ("logits", "labels", *names)}

    def rows(self):
        """Labels and log p of tokens as trl has them: all that are chosen, then all that are rejected."""
        logits, labels = (x.unflatten(0, (PAIRS, 2)).transpose(0, 1).flatten(0, 1) for x in (self.logits, self.labels.flatten(0, 1)))
        return labels, of_tokens(logits, labels)

    def sums(self):
        labels, log_p = self.rows()
        return log_p.sum(-1).chunk(2), (labels >= 0).sum(-1).chunk(2)

    def ratios(self):
        (chosen, rejected), _ = self.sums()
        return chosen - self.reference[:, 0], rejected - self.reference[:, 1]

    def means(self):
        return [x / n for x, n in zip(*self.sums())]


def trl_batch(labels):
    """A batch whose tokens after the first are what is asked."""
    mask = F.pad((labels >= 0).int(), (1, 0))
    return {"input_ids": F.pad(labels.clamp_min(0), (1, 0)), "attention_mask": torch.ones_like(mask), "completion_mask": mask}


def answered(log_p):
    """What a model says, and of all that is only logged, nothing."""
    said = collections.defaultdict(lambda: torch.zeros_like(log_p), log_probs=log_p, is_top1=log_p > 0)
    return lambda **_: type("Output", (), {"__getattr__": lambda _, name: said[name]})()


def trl_dpo(kind, beta):
    def loss(case):
        labels, log_p = case.rows()
        chosen, rejected = case.reference.T
        batch = trl_batch(labels) | {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        own = trainer(
            precompute_ref_logps=True, ld_alpha=None, f_divergence_type="reverse_kl", loss_types=[kind], loss_weights=[1.0], beta=beta,
            label_smoothing=0.0, use_weighting=False,
        )
        return DPOTrainer._compute_loss(own, answered(log_p), batch, False)

    return loss


def dpo(beta, smoothing=0.0, margin=0.0):
    def loss(case):
        chosen, rejected = case.ratios()
        z = beta * (chosen - rejected) - margin
        return (-F.logsigmoid(z) * (1 - smoothing) - F.logsigmoid(-z) * smoothing).mean()

    return loss


def trl_kto(case):
    labels, log_p = case.rows()
    (own_labels, _), (own, other) = labels.chunk(2), log_p.chunk(2)
    batch = trl_batch(own_labels) | {"label": case.label[:, 0].bool(), "ref_logps": case.reference[:, 0], "ref_KL_logps": case.reference[:, 1]}
    like = trainer(
        precompute_ref_logps=True, calculate_KL=True, loss_type="kto", beta=0.4, desirable_weight=1.5, undesirable_weight=0.5,
        _compute_kl_logps=lambda *_: other.sum(-1).detach(),
    )
    return KTOTrainer._compute_loss(like, answered(own), batch, False)


def kto(case):
    own, other = case.ratios()
    z = other.mean().clamp(min=0).detach()
    good, bad = 1.5 * (1 - (0.4 * (own - z)).sigmoid()), 0.5 * (1 - (0.4 * (z - own)).sigmoid())
    return torch.where(case.label[:, 0] > 0, good, bad).mean()


def trl_orpo(case):
    losses, *_ = ORPOTrainer.odds_ratio_loss(trainer(beta=0.3), *case.means())
    return (-case.means()[0] - losses).mean()


def orpo(case):
    odds = [x - torch.log1p(-x.exp()) for x in case.means()]
    return (-case.means()[0] - 0.3 * F.logsigmoid(odds[0] - odds[1])).mean()


def trl_simpo(case):
    own = trainer(alpha=0.0, loss_type="simpo", beta=2.0, simpo_gamma=0.5, label_smoothing=0.0)
    return CPOTrainer.cpo_loss(own, *case.means())[0].mean()


def simpo(case):
    chosen, rejected = case.means()
    return -F.logsigmoid(2.0 * (chosen - rejected) - 0.5).mean()


def ipo(case):
    (chosen, rejected), (_, (n, m)) = case.ratios(), case.sums()
    return (chosen / n - rejected / m - 1 / (2 * 0.3)).square().mean()


class Rewards:
    def __init__(self):
        self.rewards, self.asked = (2 * torch.randn(PAIRS, 2)).requires_grad_(), torch.ones(PAIRS, 1)

    def given(self):
        return {"rewards": self.rewards.detach(), "asked": self.asked}


def bradley_terry(case):
    return -F.logsigmoid(case.rewards[:, 0] - case.rewards[:, 1] - 0.5).mean()


class Rollouts:
    """Answers of a policy, as it was then, and what each was worth."""

    def __init__(self):
        self.logits = (2 * torch.randn(PAIRS, TIME, CLASSES)).requires_grad_()
        self.labels = holes(torch.randint(CLASSES, (PAIRS, TIME)))
        now = of_tokens(self.logits, self.labels).detach()
        self.old, self.reference = (now + 0.4 * torch.randn(PAIRS, TIME) for _ in range(2))
        self.advantages = torch.randn(PAIRS, 1)
        self.teacher = 2 * torch.randn(PAIRS, TIME, CLASSES)
        self.mask = self.labels >= 0

    def given(self, *names):
        return {name: getattr(self, name).detach() for name in ("logits", "labels", *names)}

    def mean(self, x):
        return (x * self.mask).sum() / self.mask.sum()


def trl_grpo(kind, beta=0.0):
    def loss(case):
        log_p = of_tokens(case.logits, case.labels)
        n = torch.tensor(float(case.mask.sum()))
        # the KL of the paper, which trl multiplies by the ratio unless told
        args = types.SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1)
        own = trainer(
            args=args, beta=beta, loss_type=kind, epsilon_low=CLIP[0], epsilon_high=CLIP[1], max_completion_length=LENGTH, top_entropy_quantile=1.0,
            off_policy_mask_threshold=None, importance_sampling_level="token", use_vllm=False, current_gradient_accumulation_steps=1,
            _entropy_bonus_enabled=False, _get_per_token_logps_and_entropies=lambda *_, **__: (log_p, torch.zeros_like(log_p), None),
        )
        ids = case.labels.clamp_min(0)
        inputs = {
            "prompt_ids": ids[:, :1], "prompt_mask": torch.ones(PAIRS, 1), "completion_ids": ids, "completion_mask": case.mask.int(),
            "advantages": case.advantages[:, 0], "old_per_token_logps": case.old, "ref_per_token_logps": case.reference, "num_items_in_batch": n,
        }
        return GRPOTrainer._compute_loss(own, None, inputs)

    return loss


def grpo(kind, beta=0.0):
    def loss(case):
        log_p = of_tokens(case.logits, case.labels)
        ratio = (log_p - case.old).exp()
        gained = torch.min(ratio * case.advantages, ratio.clamp(1 - CLIP[0], 1 + CLIP[1]) * case.advantages)
        log_ratio = case.reference - log_p
        x = (-gained + beta * (log_ratio.exp() - log_ratio - 1)) * case.mask
        if kind == "dapo":
            return x.sum() / case.mask.sum()
        return x.sum() / (PAIRS * LENGTH) if kind == "dr_grpo" else (x.sum(-1) / case.mask.sum(-1)).mean()

    return loss


class Values:
    def __init__(self):
        self.values = torch.randn(PAIRS, TIME).requires_grad_()
        self.old, self.returns = torch.randn(PAIRS, TIME), torch.randn(PAIRS, TIME)
        self.labels = holes(torch.randint(CLASSES, (PAIRS, TIME)))

    def given(self):
        return {name: getattr(self, name).detach() for name in ("values", "old", "returns", "labels")}


def values(case):
    near = torch.clamp(case.values, case.old - 0.2, case.old + 0.2)
    x = 0.5 * torch.max((case.values - case.returns).square(), (near - case.returns).square())
    mask = case.labels >= 0
    return (x * mask).sum() / mask.sum()


def trl_imitation(beta, temperature=1.0):
    return lambda case: GKDTrainer.generalized_jsd_loss(case.logits, case.teacher, case.labels, beta, temperature)


def imitation(kind, temperature=1.0):
    def loss(case):
        q, p = ((x / temperature).log_softmax(-1) for x in (case.logits, case.teacher))
        kl = lambda a, b: (a.exp() * (a - b)).sum(-1)
        if kind == "mixed":
            m = (0.3 * p.exp() + 0.7 * q.exp()).log()
            return case.mean(0.3 * kl(p, m) + 0.7 * kl(q, m))
        return case.mean(kl(p, q) if kind == "forward" else kl(q, p))

    return loss


# the program, what it is of, what it reads besides logits and labels, what is differentiated, the formula, and trl's function
CASES = [
    ("dpo", Pairs, ["reference"], dpo(0.3), lambda: trl_dpo("sigmoid", 0.3)),
    ("cdpo", Pairs, ["reference"], dpo(0.2, 0.1), None),
    ("odpo", Pairs, ["reference"], dpo(0.3, 0.0, 0.5), None),
    ("ipo", Pairs, ["reference"], ipo, lambda: trl_dpo("ipo", 0.3)),
    ("kto", Pairs, ["reference", "label"], kto, lambda: trl_kto),
    ("orpo", Pairs, [], orpo, lambda: trl_orpo),
    ("simpo", Pairs, [], simpo, lambda: trl_simpo),
    ("bradley_terry", Rewards, [], bradley_terry, None),
    ("grpo", Rollouts, ["old", "advantages"], grpo("grpo"), lambda: trl_grpo("grpo")),
    ("grpo_kl", Rollouts, ["old", "advantages", "reference"], grpo("grpo", KL), lambda: trl_grpo("grpo", KL)),
    ("dapo", Rollouts, ["old", "advantages"], grpo("dapo"), lambda: trl_grpo("dapo")),
    ("dr_grpo", Rollouts, ["old", "advantages"], grpo("dr_grpo"), lambda: trl_grpo("dr_grpo")),
    ("values", Values, [], values, None),
    ("forward_kl", Rollouts, ["teacher"], imitation("forward"), lambda: trl_imitation(0)),
    ("reverse_kl", Rollouts, ["teacher"], imitation("reverse"), lambda: trl_imitation(1)),
    ("warm_reverse_kl", Rollouts, ["teacher"], imitation("reverse", 2.0), lambda: trl_imitation(1, 2.0)),
    ("mixed_kl", Rollouts, ["teacher"], imitation("mixed"), lambda: trl_imitation(0.3)),
]


def expected(case, loss):
    """The loss, and its gradient by what is learned."""
    (path, x), = ((n, x) for n, x in vars(case).items() if isinstance(x, torch.Tensor) and x.requires_grad)
    x.grad = None
    mean = loss(case)
    mean.backward()
    return {"loss": mean.detach(), f"grad.{path}": x.grad.clone()}


def checks(eggcorn):
    """Names of checks, what each found, and what is wrong."""
    for name, kind, more, formula, trl in CASES:
        torch.manual_seed(len(name))
        case = kind()
        peers = [("its formula", formula)] + ([("trl", trl())] if trl and DPOTrainer else [])
        with tempfile.TemporaryDirectory() as d:
            given = case.given(*more)
            save_file({n: x.to(torch.int64 if x.dtype == torch.int64 else torch.float32).contiguous() for n, x in given.items()}, f"{d}/in.safetensors")
            common.run([eggcorn, "run", program(name, d), "--input", f"{d}/in.safetensors", "--out", f"{d}/out.safetensors", "--grad"])
            have = load_file(f"{d}/out.safetensors")
        wrong, worst = [], 0.0
        for peer, loss in peers:
            for what, want in expected(case, loss).items():
                error = ((have[what] - want).abs().max() / want.abs().max().clamp_min(1e-3)).item()
                worst = max(worst, error)
                wrong += [f"{what} differs from {peer} by {error:.1e}"] if not error <= TOLERANCE else []
        yield f"{name} beside {' and '.join(p for p, _ in peers)}", f"worst {worst:.1e}", wrong
