"""LoRA beside PEFT's on PyTorch: a real model, the same texts in the same batches, losses, seconds and memory.

Usage: python benches/lora.py path/to/eggcorn MODEL TEXT [rank] [batch] [context]
MODEL is a directory as transformers writes it, with tokenizer.json (benches/smollm2.py writes SmolLM2's), TEXT a file. Both begin with one
adapter, which PEFT makes, and take 20 steps on the text's first windows, all in one batch that is read again and again; then losses are
compared, and medians of a step's seconds and the most memory that each process had are told. Needs torch, transformers, tokenizers, peft and safetensors.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

THREADS, STEPS, LR = 2, 20, 2e-4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def theirs(folder, start, ids, batch):
    """In a process of its own, whose memory is looked at."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(THREADS)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), start, is_trainable=True).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LR, betas=(0.9, 0.99), weight_decay=0.0)
    x = torch.tensor([ids[:-1]] * batch)
    y = torch.tensor([ids[1:]] * batch)
    losses, seconds = [], []
    for _ in range(STEPS):
        begin = time.perf_counter()
        optimizer.zero_grad()
        logits = model(input_ids=x).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.reshape(-1))
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
        losses.append(loss.item())
    print(json.dumps({"losses": losses, "seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def ours(eggcorn, folder, start, text, scratch, batch, context):
    sets = ["data.held_out=0.5", "optimizer.weight_decay=0", "train.schedule=constant", "train.warmup=0", "train.grad_clip=0", "train.one_batch=true"]
    sets += [f"train.{s}" for s in (f"steps={STEPS}", f"batch={batch}", f"context={context}", f"lr={LR}", "eval_batches=1", "eval_every=1000")]
    command = [eggcorn, "finetune", "lora", "--init-from", folder, "--adapter", start, "--data", text, "--out", f"{scratch}/run", "--threads", str(THREADS)]
    done = subprocess.run(command + [w for s in sets for w in ("--set", s)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    events = [json.loads(line) for line in open(f"{scratch}/run/metrics.jsonl")]
    steps = [e for e in events if e["event"] == "step"]
    return {"losses": [e["loss"] for e in steps], "seconds": [e["ms"] / 1e3 for e in steps], "memory": max(e["memory"] for e in steps)}


def main():
    eggcorn, folder, text = sys.argv[1:4]
    rank, batch, context = (int(x) for x in (sys.argv[4:7] + ["8", "1", "256"][len(sys.argv) - 4:]))
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    import torch
    with tempfile.TemporaryDirectory() as d:
        torch.manual_seed(1)
        settings = LoraConfig(task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, target_modules=TARGETS)
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), settings).save_pretrained(f"{d}/start")
        tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        content = pathlib.Path(text).read_text(encoding="utf-8")
        # a text of one window, twice: the second is held out, and so every row of every batch is the first
        ids = tokenizer.encode(content, add_special_tokens=False).ids[: context + 1]
        window = tokenizer.decode(ids)
        assert tokenizer.encode(window * 2, add_special_tokens=False).ids == ids * 2, "the window's end is no end of a token: choose another context"
        pathlib.Path(f"{d}/text").write_text(window * 2, encoding="utf-8")
        mine = ours(eggcorn, folder, f"{d}/start", f"{d}/text", d, batch, context)
        code = f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); import lora; lora.theirs({folder!r}, {d + '/start'!r}, {ids!r}, {batch})"
        other = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    worst = max(abs(a - b) for a, b in zip(mine["losses"], other["losses"], strict=True))
    print(f"rank {rank}, {batch} × {context} tokens, {STEPS} steps: losses {other['losses'][0]:.4f} to {other['losses'][-1]:.4f}, worst difference {worst:.1e}")
    for name, run in (("eggcorn", mine), ("peft", other)):
        print(f"{name:8} {statistics.median(run['seconds']):.3f} s a step, at most {run['memory'] / 2**20:.0f} MiB")
    speed = statistics.median(other["seconds"]) / statistics.median(mine["seconds"])
    print(f"{speed:.2f} times its speed, {mine['memory'] / other['memory']:.2f} of its memory")


if __name__ == "__main__":
    main()
