"""nanoGPT's ckpt.pt through examples/nanogpt_to_hf.py: the same model by its own arithmetic."""

import pathlib
import pickle
import subprocess
import sys
import tempfile

import common
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

SCRIPT = pathlib.Path(__file__).parent.parent.parent / "examples" / "nanogpt_to_hf.py"


def logits(w, args, ids):
    """nanoGPT's forward pass, by its tensors' names."""
    b, t = ids.shape
    norm = lambda name, x: layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w.get(f"{name}.bias"), 1e-5)
    full = lambda name, x: linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:t]
    for i in range(args["n_layer"]):
        h = f"transformer.h.{i}"
        parts = full(f"{h}.attn.c_attn", norm(f"{h}.ln_1", x)).split(args["n_embd"], dim=2)
        q, k, v = (p.view(b, t, args["n_head"], -1).transpose(1, 2) for p in parts)
        y = scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, -1)
        x = x + full(f"{h}.attn.c_proj", y)
        x = x + full(f"{h}.mlp.c_proj", gelu(full(f"{h}.mlp.c_fc", norm(f"{h}.ln_2", x))))
    return linear(norm("transformer.ln_f", x), w["lm_head.weight"])


def weights(args):
    c, out = args["n_embd"], {}
    sizes = {"attn.c_attn": (3 * c, c), "attn.c_proj": (c, c), "mlp.c_fc": (4 * c, c), "mlp.c_proj": (c, 4 * c)}
    for name, rows in (("transformer.wte.weight", args["vocab_size"]), ("transformer.wpe.weight", args["block_size"])):
        out[name] = torch.randn(rows, c) * 0.2
    for i in range(args["n_layer"]):
        for part, shape in sizes.items():
            out[f"transformer.h.{i}.{part}.weight"] = torch.randn(shape) * 0.2
        out[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, args["block_size"], args["block_size"]).tril()
    norms = ["transformer.ln_f"] + [f"transformer.h.{i}.{n}" for i in range(args["n_layer"]) for n in ("ln_1", "ln_2")]
    out |= {f"{n}.weight": torch.randn(c) * 0.5 for n in norms}
    if args["bias"]:
        full = [(f"transformer.h.{i}.{part}", shape[0]) for i in range(args["n_layer"]) for part, shape in sizes.items()]
        out |= {f"{n}.bias": torch.randn(size) * 0.5 for n, size in full + [(n, c) for n in norms]}
    return out | {"lm_head.weight": out["transformer.wte.weight"]}


def checks(eggcorn):
    """Names of checks and what each found to be wrong."""
    for bias, prefix in ((False, "_orig_mod."), (True, "")):
        torch.manual_seed(3)
        args = dict(n_layer=2, n_head=3, n_embd=24, block_size=16, bias=bias, vocab_size=21, dropout=0.1)
        w = weights(args)
        ids = torch.randint(args["vocab_size"], (2, 13))
        want = logits(w, args, ids)
        with tempfile.TemporaryDirectory() as d:
            # an optimizer's state and settings stand beside
            torch.save({"model": {prefix + n: x for n, x in w.items()}, "model_args": args, "iter_num": 3, "config": {"out_dir": "out"}}, f"{d}/ckpt.pt")
            characters = [chr(0x61 + i) for i in range(args["vocab_size"])]
            meta = {"vocab_size": args["vocab_size"], "stoi": {c: i for i, c in enumerate(characters)}, "itos": dict(enumerate(characters))}
            pathlib.Path(f"{d}/meta.pkl").write_bytes(pickle.dumps(meta))
            subprocess.run([sys.executable, SCRIPT, f"{d}/ckpt.pt", f"{d}/hf", f"{d}/meta.pkl"], check=True)
            save_file({"input_ids": ids, "labels": ids.clone()}, f"{d}/in.safetensors")
            common.run([eggcorn, "import", f"{d}/hf", "--out", f"{d}/run"])
            common.run([eggcorn, "run", f"{d}/run", "--input", f"{d}/in.safetensors", "--out", f"{d}/out.safetensors"])
            error = common.relative(load_file(f"{d}/out.safetensors")["logits"], want)
            text = common.run([eggcorn, "generate", f"{d}/run", "--prompt", "abc", "--max-tokens", "1", "--temperature", "0"]).rstrip("\n")
            first = characters[logits(w, args, torch.tensor([[0, 1, 2]]))[0, -1].argmax()]
        wrong = [f"logits differ by {error:.1e}"] if error > common.TOLERANCE else []
        wrong += [f"{text} instead of abc{first}"] if text != f"abc{first}" else []
        yield f"nanoGPT's ckpt.pt {'with' if bias else 'without'} biases", f"logits {error:.1e}", wrong
