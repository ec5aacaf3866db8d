"""GPT-2 124M training steps and nanoGPT's CPU recipe: PyTorch eager beside eggcorn, alternating, on one machine.

Usage: python benches/compare.py path/to/eggcorn [rounds]
Needs torch and transformers.
"""

import json
import statistics
import subprocess
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

THREADS = 2
torch.set_num_threads(THREADS)


def torch_step(config, batch, seq, steps):
    """Seconds of forward, backward, clip and AdamW, the first not counted."""
    torch.manual_seed(1)
    model = GPT2LMHeadModel(config)
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-4)
    ids = torch.randint(config.vocab_size, (batch, seq))
    labels = torch.randint(config.vocab_size, (batch, seq))
    seconds = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        logits = model(ids).logits
        loss = torch.nn.functional.cross_entropy(logits.view(-1, config.vocab_size), labels.view(-1))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def ours(eggcorn, batch, seq, steps, sets=()):
    command = [eggcorn, "bench", "train", "gpt2", "--batch", str(batch), "--seq", str(seq), "--threads", str(THREADS), "--steps", str(steps), "--json"]
    for s in sets:
        command += ["--set", s]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    eggcorn, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    gpt2 = GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    small = GPT2Config(vocab_size=65, n_positions=64, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    small_sets = ["vocab_size=65", "n_positions=64", "n_embd=128", "n_layer=4", "n_head=4"]
    print(f"torch {torch.__version__}, {THREADS} threads, {rounds} alternating rounds, medians (least to greatest)")
    for name, config, sets, batch, seq, steps in [
        ("gpt2 124M", gpt2, [], 1, 1024, 3),
        ("gpt2 124M", gpt2, [], 4, 256, 3),
        ("shakespeare-char", small, small_sets, 12, 64, 100),
    ]:
        theirs, mine, shares, memory = [], [], [], []
        for _ in range(rounds):
            theirs += [batch * seq / s for s in torch_step(config, batch, seq, steps)]
            result = ours(eggcorn, batch, seq, steps, sets)
            mine.append(result["tokens_per_second"])
            shares.append(result["share_of_peak"])
            memory.append((result["planned_bytes"], result["added_bytes"]))
        t, m = statistics.median(theirs), statistics.median(mine)
        print(
            f"{name:17} {batch:2} x {seq:4}: eggcorn {m:8.0f} tokens/s ({min(mine):.0f} to {max(mine):.0f}), torch eager {t:8.0f} ({min(theirs):.0f} to {max(theirs):.0f}), "
            f"ratio {m / t:.2f}; {100 * statistics.median(shares):.0f} % of the measured FMA peak; {memory[0][0] / 2**20:.0f} MiB planned, {memory[0][1] / 2**20:.0f} added"
        )


main()
