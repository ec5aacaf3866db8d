"""Checks and times eggcorn on one GPU, PyTorch compiled beside it, alternating, on one device in one call.

Usage: python benches/gpu.py path/to/eggcorn [--checks path/to/test/binary] [--json gpu.json] [--minutes 8.5] [--rounds 2]
Without torch it measures eggcorn alone, and says so. benches/gpu.sh run calls this. What there is no time for is said to be missing;
the file is written after every part, so that a machine that goes away leaves what was known.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

try:
    import torch
except ImportError:
    torch = None

GPT2 = dict(n_layer=12, n_head=12, n_embd=768, vocab_size=50257, n_positions=1024)
LLAMA_110M = dict(num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=12, hidden_size=768, intermediate_size=2048, vocab_size=32000, max_position_embeddings=2048)
LLAMA_1B = dict(num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, hidden_size=2048, intermediate_size=8192, vocab_size=32000, max_position_embeddings=2048)


class Report:
    """What is known so far, on disk after every part, and the time that is left."""

    def __init__(self, path, minutes):
        self.path, self.end, self.parts = path, time.monotonic() + 60 * minutes, {}

    def left(self):
        return self.end - time.monotonic()

    def add(self, part, value):
        self.parts[part] = value
        if self.path:
            with open(self.path + ".tmp", "w") as file:
                json.dump(self.parts, file, indent=1)
            os.replace(self.path + ".tmp", self.path)


def output(command, seconds, **environment):
    """A command's standard output, or an error of one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1), env=os.environ | environment)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no time was left after {seconds:.0f} s") from None
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return done.stdout


def device():
    query = "name,driver_version,memory.total,power.limit,clocks.max.sm"
    try:
        return output(["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"], 20).strip()
    except (OSError, RuntimeError) as e:
        return f"unknown: {e}"


def check(binary, report):
    """Every template, the models, and a thousand random programs, these in as many processes as there are cores."""
    processes, limit = min(os.cpu_count() or 1, 16), 0.5 * report.left()
    random = "devices::cuda::random_programs_are_as_evaluated"
    commands = [([binary, "devices::cuda", "--skip", random], {})]
    commands += [([binary, random, "--exact"], {"EGGCORN_FUZZ": "heavy", "EGGCORN_SHARD": f"{i}/{processes}"}) for i in range(processes)]
    start = time.monotonic()
    environment = os.environ | {"REQUIRE": "cuda", "RUST_BACKTRACE": "0"}
    running = [subprocess.Popen(c, env=environment | e, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for c, e in commands]
    failed, passed, late = [], 0, 0
    for child in running:
        try:
            text = child.communicate(timeout=max(1, limit - (time.monotonic() - start)))[0]
        except subprocess.TimeoutExpired:
            child.kill()
            text, late = child.communicate()[0], late + 1
        passed += sum(int(n) for n in re.findall(r"(\d+) passed", text))
        failed += [line for line in text.splitlines() if line.endswith("FAILED") or "panicked at" in line or "differs" in line]
    seconds = time.monotonic() - start
    return dict(passed=passed, failed=failed[:40], out_of_time=late, processes=len(running), seconds=round(seconds, 1), random_programs=1000)


def ours(eggcorn, report, what, model, sets, *rest):
    command = [eggcorn, "bench", what, model, "--device", "cuda", "--json", *rest]
    for key, value in sets.items():
        command += ["--set", f"{key}={value}"]
    return json.loads(output(command, report.left()))["tokens_per_second"]


def torch_model(model, sets):
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    if model == "gpt2":
        config = GPT2Config(**sets, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="sdpa")
        return GPT2LMHeadModel(config).cuda()
    return LlamaForCausalLM(LlamaConfig(**sets, attn_implementation="sdpa")).cuda()


def torch_training(model, sets, batch, seq, steps):
    """Tokens a second: torch.compile, bfloat16 autocast, flash attention, fused AdamW, clipping."""
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    net = torch_model(model, sets)
    compiled = torch.compile(net)
    opt = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    vocab = sets["vocab_size"]
    ids, labels = (torch.randint(vocab, (batch, seq), device="cuda") for _ in range(2))
    seconds = []
    for step in range(steps + 5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = compiled(ids).logits
            loss = torch.nn.functional.cross_entropy(logits.view(-1, vocab), labels.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        if step >= 5:
            seconds.append(time.perf_counter() - start)
    del net, compiled, opt
    torch.cuda.empty_cache()
    return batch * seq / statistics.median(seconds)


def torch_decode(sets, tokens):
    """Tokens a second of one sequence, static cache, CUDA graphs."""
    net = torch_model("gpt2", sets).eval().to(torch.float32)
    forward = torch.compile(lambda ids, past: net(ids, past_key_values=past, use_cache=True), mode="reduce-overhead")
    seconds, past = [], None
    with torch.no_grad():
        token = torch.zeros((1, 1), dtype=torch.long, device="cuda")
        for step in range(tokens + 5):
            torch.cuda.synchronize()
            start = time.perf_counter()
            out = forward(token, past)
            past, token = out.past_key_values, out.logits[:, -1:].argmax(-1).clone()
            torch.cuda.synchronize()
            if step >= 5:
                seconds.append(time.perf_counter() - start)
    return 1 / statistics.median(seconds)


def matmul_rate():
    """The device's bfloat16 product rate, the best of a few sizes."""
    best = 0.0
    for n in (4096, 8192):
        a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        for _ in range(3):
            a @ b
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(20):
            a @ b
        torch.cuda.synchronize()
        best = max(best, 20 * 2 * n**3 / (time.perf_counter() - start))
    return best


def guarded(f, *args):
    """A figure, or why there is none: one that fails must not cost the others."""
    try:
        return f(*args)
    except Exception as e:
        return f"{type(e).__name__}: {(str(e).splitlines() or [''])[0][:120]}"


def numbers(values):
    return [v for v in values if not isinstance(v, str)]


def show(row):
    def text(values):
        if not numbers(values):
            return str(values[-1]) if values else "not measured"
        return f"{statistics.median(numbers(values)):.0f} tokens/s ({min(numbers(values)):.0f} to {max(numbers(values)):.0f})"

    mine, theirs = numbers(row["eggcorn"]), numbers(row["torch"])
    ratio = f"{statistics.median(mine) / statistics.median(theirs):.2f} x" if mine and theirs else "-"
    return f"| {row['work']} | {text(row['eggcorn'])} | {text(row['torch'])} | {ratio} |"


def compare(report, work, rounds, mine, theirs):
    """One row: both sides alternating, as long as there is time for a round."""
    row, longest = dict(work=work, eggcorn=[], torch=[]), 0.0
    for _ in range(rounds):
        if report.left() < max(10.0, 1.2 * longest):
            break
        start = time.monotonic()
        row["eggcorn"].append(guarded(mine))
        if theirs:
            row["torch"].append(guarded(theirs))
        longest = max(longest, time.monotonic() - start)
    return row


def training_cases():
    return [
        ("GPT-2 124M training, bf16, 16 x 1024", "gpt2", GPT2, 16, 1024),
        ("Llama 110M training, bf16, 16 x 1024", "llama", LLAMA_110M, 16, 1024),
        ("Llama 1B training, bf16, 4 x 1024", "llama", LLAMA_1B, 4, 1024),
    ]


def main():
    args = argparse.ArgumentParser()
    args.add_argument("eggcorn")
    args.add_argument("--checks")
    args.add_argument("--json")
    args.add_argument("--minutes", type=float, default=8.5)
    args.add_argument("--rounds", type=int, default=2)
    args = args.parse_args()
    report = Report(args.json, args.minutes)
    report.add("device", device())
    print(report.parts["device"], flush=True)
    failed = False
    if args.checks:
        report.add("checks", checks := check(args.checks, report))
        failed = bool(checks["failed"] or checks["out_of_time"] or not checks["passed"])
        print(f"== checks: {checks['passed']} passed, {len(checks['failed'])} failed, {checks['out_of_time']} out of time, {checks['seconds']} s")
        print("\n".join(checks["failed"]), flush=True)
    lines = guarded(lambda: output([args.eggcorn, "bench", "ops", "--device", "cuda", "--steps", "30", "--json"], min(90, report.left())))
    ops = [json.loads(line) for line in lines.splitlines() if line.startswith("{")] or lines
    report.add("ops", ops)
    for op in ops if isinstance(ops, list) else []:
        print(f"  {op['op']:18} {op['bytes_per_second'] / 1e9:8.1f} GB/s, {100 * op['share_of_copy']:3.0f} % of a copy")
    has_torch = torch is not None and torch.cuda.is_available()
    if not has_torch:
        print("torch with CUDA is not installed here: eggcorn is measured alone", flush=True)
    rows = []
    for work, model, sets, batch, seq in training_cases():
        sizes = ["--precision", "bf16", "--batch", str(batch), "--seq", str(seq), "--steps", "10"]
        theirs = (lambda: torch_training(model, sets, batch, seq, 10)) if has_torch else None
        rows.append(compare(report, work, args.rounds, lambda: ours(args.eggcorn, report, "train", model, sets, *sizes), theirs))
        report.add("rows", rows)
    theirs = (lambda: torch_decode(GPT2, 50)) if has_torch else None
    rows.append(compare(report, "GPT-2 124M decoding, one sequence", args.rounds, lambda: ours(args.eggcorn, report, "generate", "gpt2", GPT2, "--steps", "50"), theirs))
    report.add("rows", rows)
    mine = numbers(rows[0]["eggcorn"])
    rate = guarded(matmul_rate) if has_torch and mine else "not measured"
    if not isinstance(rate, str):
        # 6 flops a parameter and token, and attention's 12 l d t
        share = statistics.median(mine) * (6 * 124e6 + 12 * 12 * 768 * 1024) / rate
        report.add("model_flops_utilisation", dict(share=share, measured_bf16_rate=rate))
        print(f"GPT-2's model FLOPs utilisation: {100 * share:.1f} % of {rate / 1e12:.0f} TFLOP/s measured in bfloat16")
    print("| work | eggcorn | torch.compile | ratio |\n| --- | --- | --- | --- |")
    print("\n".join(show(row) for row in rows))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
