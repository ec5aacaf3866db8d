"""Reading a prompt and writing tokens after it, GPT-2 124M and a Llama of 125M: transformers on PyTorch beside eggcorn, alternating.

Usage: python benches/generate.py path/to/eggcorn [rounds]
Needs torch and transformers; torch.compile needs a C++ compiler.
"""

import json
import statistics
import subprocess
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import StaticCache

THREADS, PROMPT, TOKENS = 2, 512, 20
torch.set_num_threads(THREADS)

LLAMA = LlamaConfig(
    vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4, max_position_embeddings=1024
)
MODELS = {"gpt2": lambda: GPT2LMHeadModel(GPT2Config()), "llama": lambda: LlamaForCausalLM(LLAMA)}


def timed(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


@torch.no_grad()
def prefill(model, ids):
    return timed(lambda: model(ids, use_cache=True, logits_to_keep=1))


@torch.no_grad()
def decode(model, depth, batch):
    """Seconds a token after so many, the median."""
    past, seconds = None, []
    if depth:
        past = model(torch.randint(1000, (batch, depth)), use_cache=True, logits_to_keep=1).past_key_values
    for _ in range(TOKENS):
        start = time.perf_counter()
        past = model(torch.full((batch, 1), 5), past_key_values=past, use_cache=True).past_key_values
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


@torch.no_grad()
def compiled_decode(model, compiled, depth):
    """The same of the compiled model, on a cache that does not grow."""
    cache = StaticCache(config=model.config, max_cache_len=1024)
    if depth:
        model(torch.randint(1000, (1, depth)), past_key_values=cache, cache_position=torch.arange(depth), logits_to_keep=1)
    seconds = []
    for i in range(TOKENS):
        at = torch.tensor([depth + i])
        seconds.append(timed(lambda: compiled(torch.tensor([[5]]), past_key_values=cache, cache_position=at)))
    return statistics.median(seconds)


def ours(eggcorn, name, depth, batch=1):
    command = [eggcorn, "bench", "generate", name, "--depth", str(depth), "--batch", str(batch), "--threads", str(THREADS), "--steps", str(TOKENS), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    eggcorn, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print(f"torch {torch.__version__}, {THREADS} threads, ms, medians of {rounds} alternating rounds (least to greatest)")
    show = lambda x: f"{1e3 * statistics.median(x):.1f} ({1e3 * min(x):.1f} to {1e3 * max(x):.1f})"
    for name, make in MODELS.items():
        torch.manual_seed(1)
        model = make().eval()
        compiled = torch.compile(model)
        ids = torch.randint(1000, (1, PROMPT))
        rows = []
        prefill(compiled, ids), prefill(model, ids)
        for _ in range(rounds):
            rows.append((ours(eggcorn, name, PROMPT)["prompt_seconds"], prefill(model, ids), prefill(compiled, ids)))
        mine, eager, fast = zip(*rows)
        best = min(map(statistics.median, (eager, fast)))
        print(f"{name} prompt of {PROMPT}: {show(mine)}, eager {show(eager)}, compiled {show(fast)}, {best / statistics.median(mine):.2f} x", flush=True)
        alone = None
        for depth, batch in ((0, 1), (512, 1), (1000, 1), (0, 8), (0, 32)):
            rows = []
            for _ in range(rounds):
                line = ours(eggcorn, name, depth, batch)
                both = [decode(model, depth, batch)] + ([compiled_decode(model, compiled, depth)] if batch == 1 else [])
                rows.append((line["seconds"]["median"], line["share_of_read"], min(both)))
            mine, share, best = zip(*rows)
            rate = batch / statistics.median(mine)
            alone = alone or rate
            print(
                f"{name} token {batch} x after {depth}: {show(mine)}, {100 * statistics.median(share):.0f} % of what is read a second, "
                f"the better of eager and compiled {show(best)}, {statistics.median(best) / statistics.median(mine):.2f} x; "
                f"{rate / alone:.1f} x one row's tokens a second",
                flush=True,
            )


if __name__ == "__main__":
    main()
