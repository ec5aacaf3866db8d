"""LoRA beside matrices in few bits: the same steps on the same batches beside whole matrices, 8 bits and NF4.

Usage: python benches/qlora.py path/to/eggcorn MODEL TEXT [steps] [batch] [context]
MODEL is a directory as transformers writes it, with tokenizer.json (benches/smollm2.py writes SmolLM2's), TEXT a file. Prints a line a kind:
the largest difference of a step's loss from that beside whole matrices, that of the last five steps' mean, a step's median seconds, and
memory: what the plan says, and the most that the process had.
"""

import json
import statistics
import subprocess
import sys
import tempfile


def run(eggcorn, folder, text, scratch, kind, steps, batch, context):
    sets = ["adapter.kind=lora", "adapter.rank=8", f"adapter.base={kind}", "data.held_out=0.002", "train.schedule=constant", "train.warmup=0"]
    sets += [f"train.{s}" for s in (f"steps={steps}", f"batch={batch}", f"context={context}", "lr=2e-4", "eval_batches=1", f"eval_every={steps + 1}")]
    command = [eggcorn, "finetune", "lora", "--init-from", folder, "--data", text, "--out", f"{scratch}/{kind}", "--threads", "2"]
    done = subprocess.run(command + [w for s in sets for w in ("--set", s)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    events = [json.loads(line) for line in open(f"{scratch}/{kind}/metrics.jsonl")]
    ready = next(e for e in events if e["event"] == "ready")
    of = [e for e in events if e["event"] == "step"]
    return ready["bytes"], [e["loss"] for e in of], statistics.median(e["ms"] for e in of), max(e["memory"] for e in of)


def main():
    eggcorn, folder, text = sys.argv[1:4]
    steps, batch, context = (int(x) for x in (sys.argv[4:7] + ["20", "1", "256"][len(sys.argv) - 4:]))
    mib = lambda b: f"{b / 2**20:,.0f} MiB"
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("whole", "int8", "nf4"):
            planned, losses, ms, memory = run(eggcorn, folder, text, scratch, kind, steps, batch, context)
            whole = losses if kind == "whole" else whole
            worst = max(abs(a - b) for a, b in zip(losses, whole))
            last = abs(statistics.mean(losses[-5:]) - statistics.mean(whole[-5:]))
            print(f"{kind:5}  loss {losses[0]:.4f} to {losses[-1]:.4f}, off by at most {worst:.4f}, of the last five {last:.4f}; "
                  f"{ms / 1e3:.3f} s a step; {mib(planned)} planned, {mib(memory)} the process")


main()
