"""nanoGPT's ckpt.pt as a directory that eggcorn reads: config.json and model.safetensors.

Usage: python examples/nanogpt_to_hf.py out/ckpt.pt DIR [data/shakespeare_char/meta.pkl]
Then: eggcorn import DIR --out runs/mine, or DIR wherever a model is named. Of a model of characters meta.pkl says which; it is a pickle, so
give your own alone. One of GPT-2's tokens has GPT-2's tokenizer: eggcorn import DIR --tokenizer tokenizer.json --out runs/mine.

transformers loads the directory, too; where nanoGPT trained without biases it says that they are missing and takes zeros, which is right.
Needs torch and safetensors.
"""

import json
import pathlib
import pickle
import sys

import torch
from safetensors.torch import save_file

# nanoGPT has PyTorch's Linear where GPT-2's own files have the same matrices transposed
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def tensors(state):
    out = {}
    for name, x in state.items():
        # torch.compile puts a prefix before; the mask is a constant, and the head is the embedding
        name = name.removeprefix("_orig_mod.")
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        out[name] = (x.t() if name.endswith(TRANSPOSED) else x).float().contiguous()
    return out


def config(args):
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu", "layer_norm_epsilon": 1e-5,
        "vocab_size": args["vocab_size"], "n_positions": args["block_size"], "n_layer": args["n_layer"], "n_head": args["n_head"],
        "n_embd": args["n_embd"], "bias": args["bias"], "tie_word_embeddings": True,
        **{key: args.get("dropout", 0.0) for key in ("embd_pdrop", "attn_pdrop", "resid_pdrop")},
        **{key: None for key in ("bos_token_id", "eos_token_id")},
    }


def tokenizer(characters):
    """A character a token: byte-pair encoding without a pair."""
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
        "post_processor": None, "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "vocab": characters, "merges": []},
    }


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    checkpoint = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True)
    save_file(tensors(checkpoint["model"]), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config(checkpoint["model_args"]), indent=2) + "\n")
    if len(sys.argv) == 4:
        meta = pickle.loads(pathlib.Path(sys.argv[3]).read_bytes())
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer(meta["stoi"]), indent=2) + "\n")


main()
