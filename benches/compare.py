"""GPT-2 124M training steps and nanoGPT's CPU recipe: PyTorch in every mode beside eggcorn in both precisions, alternating, on one machine.

Usage: python benches/compare.py path/to/eggcorn [rounds] [modes]
Modes are of eager, compile, eager-bf16, compile-bf16 (autocast), pure-bf16 (a model in 16 bits, whose small updates are lost), with commas
between; all but the last unless given. Needs torch and transformers, and a C++ compiler for what is compiled.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

THREADS = 2
MODES = ["eager", "compile", "eager-bf16", "compile-bf16"]
torch.set_num_threads(THREADS)


class Torch:
    """A model and its optimizer in one mode, which takes a step when asked."""

    def __init__(self, mode, config, batch, seq):
        torch.manual_seed(1)
        model = GPT2LMHeadModel(config)
        if mode == "pure-bf16":
            model = model.to(torch.bfloat16)
        decay = [p for p in model.parameters() if p.dim() >= 2]
        rest = [p for p in model.parameters() if p.dim() < 2]
        self.model, self.vocabulary = model, config.vocab_size
        self.opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-4)
        self.cast = mode.endswith("-bf16") and mode != "pure-bf16"
        self.loss = torch.compile(self.loss_of) if mode.startswith("compile") else self.loss_of
        self.ids = torch.randint(config.vocab_size, (batch, seq))
        self.labels = torch.randint(config.vocab_size, (batch, seq))

    def loss_of(self, ids, labels):
        logits = self.model(ids).logits
        return torch.nn.functional.cross_entropy(logits.view(-1, self.vocabulary), labels.view(-1))

    def step(self):
        """Seconds of forward, backward, clip and AdamW."""
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if self.cast else contextlib.nullcontext():
            loss = self.loss(self.ids, self.labels)
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.opt.step()
        return time.perf_counter() - start


def ours(eggcorn, precision, batch, seq, steps, sets=()):
    command = [eggcorn, "bench", "train", "gpt2", "--batch", str(batch), "--seq", str(seq), "--threads", str(THREADS), "--steps", str(steps), "--json"]
    command += ["--precision", precision] + [word for s in sets for word in ("--set", s)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def spread(rates):
    return f"{statistics.median(rates):8.0f} tokens/s ({min(rates):.0f} to {max(rates):.0f})"


def main():
    eggcorn, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    modes = sys.argv[3].split(",") if len(sys.argv) > 3 else MODES
    gpt2 = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    small = GPT2Config(vocab_size=65, n_positions=64, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    small_sets = ["vocab_size=65", "n_positions=64", "n_embd=128", "n_layer=4", "n_head=4"]
    print(f"torch {torch.__version__}, {THREADS} threads, {rounds} alternating rounds, medians (least to greatest)")
    for name, config, sets, batch, seq, steps in [
        ("gpt2 124M", gpt2, [], 1, 1024, 3),
        ("gpt2 124M", gpt2, [], 4, 256, 3),
        ("shakespeare-char", small, small_sets, 12, 64, 100),
    ]:
        theirs, mine, memory, shares = {m: [] for m in modes}, {"f32": [], "bf16": []}, {}, {"f32": [], "bf16": []}
        peers = {mode: Torch(mode, config, batch, seq) for mode in modes}
        for peer in peers.values():
            peer.step()
            peer.step()
        for _ in range(rounds):
            for mode, peer in peers.items():
                theirs[mode] += [batch * seq / peer.step() for _ in range(steps)]
            for precision in mine:
                result = ours(eggcorn, precision, batch, seq, steps, sets)
                mine[precision].append(result["tokens_per_second"])
                shares[precision].append(result["share_of_peak"])
                memory[precision] = (result["planned_bytes"], result["added_bytes"])
        best = max(statistics.median(rates) for rates in theirs.values())
        print(f"{name}, {batch} x {seq}")
        for mode, rates in theirs.items():
            print(f"  torch {mode:12} {spread(rates)}")
        for precision, rates in mine.items():
            planned, added = (b / 2**20 for b in memory[precision])
            print(
                f"  eggcorn {precision:10} {spread(rates)}, {statistics.median(rates) / best:.2f} of the best of torch; "
                f"{100 * statistics.median(shares[precision]):.0f} % of the peak measured for it; {planned:.0f} MiB planned, {added:.0f} added"
            )


main()
