"""Questions with four answers, GPT-2 124M: lm-evaluation-harness on transformers beside eggcorn eval, alternating.

Usage: python benches/evaluate.py path/to/eggcorn [--items N] [--rounds N] [--batch N]
Needs torch, transformers, accelerate, lm-eval[api] and tokenizers. Weights are random; questions are as long as HellaSwag's: about 70 tokens, answers of about 25.
Both are timed from questions in memory to log-probabilities: without loading the model, and for eggcorn without compiling, which its cache
of objects keeps from the first round.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
THREADS = 2


def made(folder):
    """A random GPT-2 with words as tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {"<|endoftext|>": 0} | {f"w{i}": i for i in range(1, 50257)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>").save_pretrained(folder)
    torch.manual_seed(1)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0)).save_pretrained(folder)


def questions(n):
    draw = random.Random(1)
    words = lambda low, high: " ".join(f"w{draw.randint(1, 50256)}" for _ in range(draw.randint(low, high)))
    return [{"q": words(30, 110), "a": [words(10, 40) for _ in range(4)], "t": draw.randrange(4)} for _ in range(n)]


def harness(model, items):
    from lm_eval.api.instance import Instance

    requests = [Instance("loglikelihood", {}, (item["q"], " " + answer), i) for item in items for i, answer in enumerate(item["a"])]
    start = time.perf_counter()
    said = model.loglikelihood(requests, disable_tqdm=True)
    return time.perf_counter() - start, [p for p, _ in said]


def ours(eggcorn, folder):
    command = [eggcorn, "eval", f"{folder}/model", "--task", f"{folder}/own.toml={folder}/own.jsonl", "--out", f"{folder}/out", "--threads", str(THREADS), "--json"]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    said = [p for line in open(f"{folder}/out/own.jsonl") for p in json.loads(line)["logprobs"]]
    return out["seconds"], said


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("eggcorn")
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    import lm_eval.models.huggingface as hf
    import torch

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        made(f"{folder}/model")
        items = questions(args.items)
        pathlib.Path(f"{folder}/own.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        pathlib.Path(f"{folder}/own.toml").write_text('text = "{{ q }}"\nchoices = "a"\ntarget = "t"\n')
        model = hf.HFLM(pretrained=f"{folder}/model", device="cpu", dtype="float32", batch_size=args.batch)
        rows = []
        for _ in range(args.rounds):
            (mine, here), (theirs, there) = ours(args.eggcorn, folder), harness(model, items)
            worst = max(abs(a - b) for a, b in zip(here, there, strict=True))
            assert worst < 1e-2, f"log-probabilities differ by {worst}"
            rows.append((mine, theirs))
            print(f"{args.items} questions: {mine:.2f} s, the harness in batches of {args.batch} {theirs:.2f} s, {theirs / mine:.2f} x; log-probabilities within {worst:.1e}", flush=True)
        mine, theirs = (statistics.median(column) for column in zip(*rows))
        print(f"torch {torch.__version__}, {THREADS} threads: {args.items / mine:.1f} questions/s, the harness {args.items / theirs:.1f}, {theirs / mine:.2f} x")


main()
