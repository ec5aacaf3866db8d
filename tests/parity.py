"""Logits, loss and every gradient of random small models against transformers, through `eggcorn run`.

Usage: python tests/parity.py path/to/eggcorn
Needs torch, transformers and safetensors; says so and skips where they are missing, and fails there where REQUIRE names torch.
"""

import os
import subprocess
import sys
import tempfile

try:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
except ImportError as missing:
    line = f"SKIPPED parity: {missing}; pip install torch transformers safetensors to run it"
    print(line)
    if os.environ.get("SKIPPED"):
        with open(os.environ["SKIPPED"], "a") as skipped:
            skipped.write(line + "\n")
    sys.exit(1 if "torch" in os.environ.get("REQUIRE", "").split(",") else 0)

TOLERANCE = 1e-4


def gpt2(seed, layers, heads, width, vocab, positions):
    config = GPT2Config(
        vocab_size=vocab, n_positions=positions, n_embd=width, n_layer=layers, n_head=heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager",
    )
    sets = dict(vocab_size=vocab, n_positions=positions, n_embd=width, n_layer=layers, n_head=heads)
    return f"gpt2 {layers}x{width} heads {heads}", "gpt2", GPT2LMHeadModel(config), sets


def llama(seed, layers, heads, kv, width, inner, vocab, positions, tied):
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=positions,
        rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=tied, attn_implementation="eager",
    )
    sets = dict(
        vocab_size=vocab, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, max_position_embeddings=positions, tie_word_embeddings=str(tied).lower(),
    )
    return f"llama {layers}x{width} heads {heads}/{kv} tied={tied}", "llama", LlamaForCausalLM(config), sets


def relative(have, want):
    return ((have - want).abs().max() / want.abs().max().clamp_min(1e-12)).item()


def check(eggcorn, name, arch, model, sets, batch, time, seed):
    torch.manual_seed(seed)
    for p in model.parameters():
        # larger than the usual start, so that attention is not flat
        torch.nn.init.normal_(p, 0.0, 0.2 if p.dim() > 1 else 0.5)
    vocab = sets["vocab_size"]
    ids = torch.randint(vocab, (batch, time))
    labels = torch.randint(vocab, (batch, time))
    labels[0, 0] = -100
    logits = model(ids).logits
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, vocab), labels.reshape(-1), ignore_index=-100)
    loss.backward()
    with tempfile.TemporaryDirectory() as d:
        weights = {n: p.detach().contiguous().clone() for n, p in model.named_parameters()}
        save_file(weights, f"{d}/w.safetensors")
        save_file({"input_ids": ids, "labels": labels}, f"{d}/in.safetensors")
        command = [eggcorn, "run", arch, "--weights", f"{d}/w.safetensors", "--input", f"{d}/in.safetensors", "--out", f"{d}/out.safetensors", "--grad"]
        for key, value in sets.items():
            command += ["--set", f"{key}={value}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        out = load_file(f"{d}/out.safetensors")
    errors = {"logits": relative(out["logits"], logits), "loss": relative(out["loss"], loss)}
    for n, p in model.named_parameters():
        errors[f"grad.{n}"] = relative(out[f"grad.{n}"], p.grad)
    worst = max(errors, key=errors.get)
    ok = errors[worst] <= TOLERANCE
    print(f"{'ok  ' if ok else 'FAIL'} {name:36} {batch}x{time}: {len(errors)} tensors, worst {errors[worst]:.1e} ({worst})")
    return ok


def main():
    eggcorn = sys.argv[1]
    cases = [
        (gpt2(0, 3, 2, 32, 101, 24), 2, 17),
        (gpt2(0, 2, 4, 64, 257, 64), 3, 64),
        (gpt2(0, 1, 3, 48, 50, 128), 1, 100),
        (llama(0, 3, 4, 2, 32, 56, 101, 64, False), 2, 17),
        (llama(0, 2, 4, 1, 64, 96, 257, 64, True), 3, 33),
        (llama(0, 2, 6, 6, 48, 100, 64, 128, False), 1, 64),
    ]
    results = [check(eggcorn, *case, batch, time, seed) for seed, (case, batch, time) in enumerate(cases)]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(0 if all(results) else 1)


main()
