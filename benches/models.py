"""A training step of each kind of model beside PyTorch, eager and compiled: the model of transformers there, its config.json here.

Usage: python benches/models.py path/to/eggcorn [rounds] [name ...]
Each side computes the loss, its gradients, their norm, clips, and takes a step of AdamW on random tokens, in turn. Needs torch, transformers
and, to compile, a C++ compiler.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers as hf

THREADS = 2
torch.set_num_threads(THREADS)

NONE = dict(attention_dropout=0.0)
BERT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
SMALL = dict(vocab_size=1000, hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=256)
BASE = dict(vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, max_position_embeddings=1024)
GEMMA = dict(head_dim=64, query_pre_attn_scalar=64, sliding_window=128)
MOE = dict(num_local_experts=8, num_experts_per_tok=2, **NONE)

# class, settings of a small model and of one of about 100M parameters that are used for a token
KINDS = {
    "bert": (hf.BertConfig, hf.BertForMaskedLM, dict(SMALL, **BERT), dict(BASE, intermediate_size=3072, **BERT)),
    "t5": (hf.T5Config, hf.T5ForConditionalGeneration,
           dict(vocab_size=1000, d_model=128, d_kv=32, d_ff=352, num_layers=2, num_heads=4, dropout_rate=0.0, feed_forward_proj="gated-gelu"),
           dict(vocab_size=32128, d_model=640, d_kv=64, d_ff=1664, num_layers=8, num_heads=10, dropout_rate=0.0, feed_forward_proj="gated-gelu")),
    "mixtral": (hf.MixtralConfig, hf.MixtralForCausalLM, dict(SMALL, num_key_value_heads=2, **MOE),
                dict(BASE, hidden_size=640, num_attention_heads=10, num_key_value_heads=5, intermediate_size=1024, num_hidden_layers=8, **MOE)),
    "gemma2": (hf.Gemma2Config, hf.Gemma2ForCausalLM, dict(SMALL, num_key_value_heads=2, **{**GEMMA, "head_dim": 32, "query_pre_attn_scalar": 32}, **NONE),
               dict(BASE, num_key_value_heads=4, **GEMMA, **NONE)),
    "gemma3": (hf.Gemma3TextConfig, hf.Gemma3ForCausalLM, dict(SMALL, num_key_value_heads=2, **{**GEMMA, "head_dim": 32, "query_pre_attn_scalar": 32}, **NONE),
               dict(BASE, num_key_value_heads=4, **GEMMA, **NONE)),
    "qwen3": (hf.Qwen3Config, hf.Qwen3ForCausalLM, dict(SMALL, num_key_value_heads=2, head_dim=32, **NONE), dict(BASE, num_key_value_heads=4, head_dim=64, **NONE)),
    "llama": (hf.LlamaConfig, hf.LlamaForCausalLM, dict(SMALL, num_key_value_heads=2, **NONE), dict(BASE, num_key_value_heads=4, **NONE)),
}


class Theirs:
    """A model of theirs that trains, its first steps done."""

    def __init__(self, model, vocab, batch, seq, compiled):
        self.model, self.vocab, self.shape = model, vocab, (batch, seq)
        decay = [p for p in model.parameters() if p.dim() >= 2]
        rest = [p for p in model.parameters() if p.dim() < 2]
        self.opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], lr=1e-4)
        self.run = torch.compile(self.loss) if compiled else self.loss
        self.seconds(2)

    def loss(self, ids, labels):
        more = {"decoder_input_ids": ids} if self.model.config.is_encoder_decoder else {}
        logits = self.model(input_ids=ids, use_cache=False, **more).logits if self.model.config.model_type != "bert" else self.model(input_ids=ids).logits
        return torch.nn.functional.cross_entropy(logits.reshape(-1, self.vocab), labels.reshape(-1))

    def seconds(self, steps):
        out = []
        for _ in range(steps):
            ids, labels = torch.randint(self.vocab, self.shape), torch.randint(self.vocab, self.shape)
            start = time.perf_counter()
            loss = self.run(ids, labels)
            self.opt.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.opt.step()
            out.append(time.perf_counter() - start)
        return out


def ours(eggcorn, folder, batch, seq, steps):
    command = [eggcorn, "bench", "train", folder, "--batch", str(batch), "--seq", str(seq), "--threads", str(THREADS), "--steps", str(steps), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(eggcorn, rounds, name, size, config, kind, batch, seq, steps):
    torch.manual_seed(0)
    # scores with a soft cap are no kernel of theirs
    config._attn_implementation = "eager" if name == "gemma2" else "sdpa"
    models = {}
    for how in ("eager", "compiled"):
        try:
            models[how] = Theirs(kind(config), config.vocab_size, batch, seq, how == "compiled")
        except Exception as why:
            print(f"{name} {size}: not {how} by PyTorch here: {str(why).splitlines()[0][:120]}")
    all_, memory = {"eggcorn": [], **{how: [] for how in models}}, 0
    with tempfile.TemporaryDirectory() as folder:
        next(iter(models.values())).model.save_pretrained(folder)
        for _ in range(rounds):
            here = ours(eggcorn, folder, batch, seq, steps)
            all_["eggcorn"].append(here["seconds"]["median"])
            for how, model in models.items():
                all_[how] += model.seconds(steps)
    m = {how: statistics.median(s) for how, s in all_.items()}
    best = min(v for how, v in m.items() if how != "eggcorn")
    shown = ", ".join(f"{how} {1e3 * m[how]:.1f} ms ({1e3 * min(s):.1f} to {1e3 * max(s):.1f})" for how, s in all_.items())
    millions = sum(p.numel() for p in next(iter(models.values())).model.parameters()) / 1e6
    share = here["share_of_peak"]
    print(f"{name:8} {size:5} {millions:6.1f}M {batch} x {seq}: {shown}; {best / m['eggcorn']:.2f} x the better"
          + (f", {100 * share:.0f} % of the peak" if share else ""), flush=True)


def main():
    eggcorn, rounds, names = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3, sys.argv[3:] or list(KINDS)
    print(f"torch {torch.__version__}, transformers {hf.__version__}, {THREADS} threads, {rounds} alternating rounds, medians (least to greatest)")
    for name in names:
        config, kind, small, base = KINDS[name]
        measure(eggcorn, rounds, name, "small", config(**small), kind, 8, 128, 20)
        measure(eggcorn, rounds, name, "base", config(**base), kind, 2, 256, 3)


main()
