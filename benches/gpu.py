"""Training steps and decoding on one GPU: PyTorch compiled beside eggcorn, alternating, on one device in one call.

Usage: python benches/gpu.py path/to/eggcorn [rounds]
Without torch it measures eggcorn alone, and says so. benches/gpu.sh builds, checks and then calls this.
"""

import json
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


def ours(eggcorn, what, model, sets, *rest):
    command = [eggcorn, "bench", what, model, "--device", "cuda", "--json", *rest]
    for key, value in sets.items():
        command += ["--set", f"{key}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return done.stderr.strip().splitlines()[-1]
    return json.loads(done.stdout)["tokens_per_second"]


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
    try:
        return f(*args)
    except Exception as e:  # one figure that fails must not cost the others
        return f"{type(e).__name__}: {str(e).splitlines()[0][:80]}"


def show(name, mine, theirs, unit="tokens/s"):
    def text(values):
        numbers = [v for v in values if not isinstance(v, str)]
        if not numbers:
            return str(values[-1]) if values else "not measured"
        return f"{statistics.median(numbers):.0f} {unit} ({min(numbers):.0f} to {max(numbers):.0f})"

    numbers = [[v for v in side if not isinstance(v, str)] for side in (mine, theirs)]
    ratio = f"{statistics.median(numbers[0]) / statistics.median(numbers[1]):.2f} x" if all(numbers) else "-"
    return f"| {name} | {text(mine)} | {text(theirs)} | {ratio} |"


def main():
    eggcorn, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
    has_torch = torch is not None and torch.cuda.is_available()
    if not has_torch:
        print("torch with CUDA is not installed here: eggcorn is measured alone")
    rows = []
    cases = [
        ("GPT-2 124M training, bf16, 16 x 1024", "gpt2", GPT2, 16, 1024),
        ("Llama 110M training, bf16, 16 x 1024", "llama", LLAMA_110M, 16, 1024),
        ("Llama 1B training, bf16, 4 x 1024", "llama", LLAMA_1B, 4, 1024),
    ]
    for name, model, sets, batch, seq in cases:
        mine, theirs = [], []
        for _ in range(rounds):
            mine.append(ours(eggcorn, "train", model, sets, "--precision", "bf16", "--batch", str(batch), "--seq", str(seq), "--steps", "10"))
            if has_torch:
                theirs.append(guarded(torch_training, model, sets, batch, seq, 10))
        rows.append(show(name, mine, theirs))
        if has_torch and model == "gpt2" and not isinstance(mine[-1], str):
            # 6 flops a parameter and token, and attention's 12 l d t
            flops = 6 * 124e6 + 12 * 12 * 768 * 1024
            rate = guarded(matmul_rate)
            if not isinstance(rate, str):
                print(f"GPT-2's model FLOPs utilisation: {100 * mine[-1] * flops / rate:.1f} % of {rate / 1e12:.0f} TFLOP/s measured in bfloat16")
    decode = [ours(eggcorn, "generate", "gpt2", GPT2, "--steps", "50") for _ in range(rounds)]
    rows.append(show("GPT-2 124M decoding, one sequence", decode, [guarded(torch_decode, GPT2, 50)] if has_torch else []))
    print("| work | eggcorn | torch.compile | ratio |\n| --- | --- | --- | --- |")
    print("\n".join(rows))


main()
