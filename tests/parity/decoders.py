"""GPT-2, Llama with its relatives, and Gemma."""

from common import Case
from transformers import (
    Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GemmaConfig, GemmaForCausalLM, GPT2Config, GPT2LMHeadModel,
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)


def gpt2(vocab, positions, layers, heads, width, **more):
    return lambda: GPT2LMHeadModel(GPT2Config(
        vocab_size=vocab, n_positions=positions, n_layer=layers, n_head=heads, n_embd=width, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        bos_token_id=0, eos_token_id=1, attn_implementation="eager", **more,
    ))


def family(config, model):
    """A function that makes models of a relative of Llama's."""
    def make(vocab, positions, layers, heads, kv, width, inner, **more):
        return lambda: model(config(
            vocab_size=vocab, max_position_embeddings=positions, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
            hidden_size=width, intermediate_size=inner, bos_token_id=0, eos_token_id=1, attn_implementation="eager", **more,
        ))
    return make


llama = family(LlamaConfig, LlamaForCausalLM)
mistral = family(MistralConfig, MistralForCausalLM)
qwen2 = family(Qwen2Config, Qwen2ForCausalLM)
qwen3 = family(Qwen3Config, Qwen3ForCausalLM)


def gemmas(config, model):
    """The same of a Gemma: the row of its embedding that fills up has a gradient, too."""
    make = family(config, model)
    return lambda *sizes, **more: make(*sizes, pad_token_id=None, **more)


gemma = gemmas(GemmaConfig, GemmaForCausalLM)
gemma2 = gemmas(Gemma2Config, Gemma2ForCausalLM)
gemma3 = gemmas(Gemma3TextConfig, Gemma3ForCausalLM)


def rope(kind, **more):
    return dict(rope_parameters=dict(rope_type=kind, rope_theta=10000.0, **more))


def cases():
    return [
        Case("gpt2", gpt2(101, 24, 3, 2, 32), 2, 17, device=True),
        Case("gpt2 odd width, one token", gpt2(257, 80, 2, 3, 51), 3, 1),
        Case("gpt2 long", gpt2(50, 128, 1, 3, 48), 1, 100),
        Case("gpt2 filled up right", gpt2(101, 70, 2, 2, 32), 3, 9, padding=(0, 4, 8)),
        Case("gpt2 filled up left", gpt2(101, 70, 2, 2, 32), 3, 9, padding=(0, 4, 8), side="left"),
        Case("gpt2 own inner width, gelu, untied", gpt2(101, 24, 2, 2, 32, n_inner=50, activation_function="gelu", layer_norm_epsilon=1e-3,
                                                         tie_word_embeddings=False), 2, 11),
        Case("llama", llama(101, 64, 3, 4, 2, 32, 56), 2, 17, device=True),
        Case("llama one key head, tied", llama(257, 80, 2, 4, 1, 64, 96, tie_word_embeddings=True, rms_norm_eps=1e-3), 3, 33),
        Case("llama heads alike", llama(64, 128, 2, 6, 6, 48, 100, rope_parameters=dict(rope_type="default", rope_theta=500.0)), 1, 100),
        Case("llama biases, own head size", llama(101, 64, 2, 4, 2, 36, 50, attention_bias=True, mlp_bias=True, head_dim=10), 2, 7),
        Case("llama filled up left", llama(101, 70, 2, 4, 2, 32, 40), 3, 9, padding=(0, 4, 8), side="left"),
        Case("llama rope linear", llama(101, 64, 2, 4, 2, 32, 40, **rope("linear", factor=4.0)), 2, 31),
        Case("llama rope dynamic", llama(101, 64, 2, 4, 2, 32, 40, **rope("dynamic", factor=4.0)), 2, 31),
        Case("llama rope yarn", llama(101, 64, 2, 4, 2, 64, 40, **rope("yarn", factor=4.0, original_max_position_embeddings=16)), 2, 31),
        Case("llama rope yarn, all said", llama(67, 64, 2, 4, 1, 36, 40, tie_word_embeddings=True, head_dim=14, **rope(
            "yarn", factor=8.0, original_max_position_embeddings=256, beta_fast=16.0, beta_slow=0.5, attention_factor=0.8, truncate=False)), 2, 1),
        Case("llama rope yarn, mscale", llama(67, 64, 2, 4, 2, 32, 40, **rope(
            "yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.7, mscale_all_dim=1.3)), 2, 15),
        Case("llama rope llama3", llama(101, 64, 2, 4, 2, 64, 40, **rope(
            "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)), 2, 31),
        Case("mistral", mistral(101, 80, 2, 4, 2, 32, 56, sliding_window=5), 2, 17, device=True),
        Case("mistral no window, own head size", mistral(67, 64, 2, 4, 1, 36, 50, sliding_window=None, head_dim=12), 1, 20,
             exported="LlamaForCausalLM"),
        Case("qwen2", qwen2(101, 80, 2, 4, 2, 32, 56), 2, 17, device=True),
        Case("qwen2 windows above, tied", qwen2(67, 80, 3, 6, 1, 36, 50, use_sliding_window=True, sliding_window=4, max_window_layers=1,
                                                tie_word_embeddings=True), 2, 13),
        Case("qwen3", qwen3(101, 80, 2, 4, 2, 32, 56, head_dim=16), 2, 17, device=True),
        Case("qwen3 tied, odd", qwen3(67, 80, 3, 3, 1, 30, 50, head_dim=14, tie_word_embeddings=True, attention_bias=True), 3, 11),
        Case("gemma", gemma(101, 80, 2, 4, 2, 32, 56, head_dim=12), 2, 17, device=True),
        Case("gemma untied, biases, odd", gemma(67, 64, 3, 3, 1, 35, 50, head_dim=6, tie_word_embeddings=False, attention_bias=True,
                                                rms_norm_eps=1e-3), 3, 1),
        Case("gemma2", gemma2(101, 80, 5, 4, 2, 32, 56, head_dim=12, sliding_window=5, query_pre_attn_scalar=17, attn_logit_softcapping=3.0,
                              final_logit_softcapping=2.0), 2, 17, device=True),
        Case("gemma2 untied, no caps, odd", gemma2(67, 64, 4, 3, 1, 36, 50, head_dim=10, sliding_window=3, query_pre_attn_scalar=10,
                                                   tie_word_embeddings=False, attn_logit_softcapping=None, final_logit_softcapping=None), 1, 13),
        Case("gemma3", gemma3(101, 80, 8, 4, 2, 32, 56, head_dim=12, sliding_window=5, query_pre_attn_scalar=17, rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=1e6),
            sliding_attention=dict(rope_type="default", rope_theta=1e4))), 2, 17, device=True),
        Case("gemma3 untied, cap, odd", gemma3(67, 64, 3, 5, 1, 35, 50, head_dim=6, sliding_window=2, sliding_window_pattern=3,
                                               query_pre_attn_scalar=6, tie_word_embeddings=False, final_logit_softcapping=3.0), 2, 9),
        Case("gemma3 filled up left", gemma3(101, 70, 3, 4, 2, 32, 40, head_dim=8, sliding_window=4, sliding_window_pattern=2,
                                             query_pre_attn_scalar=8), 3, 9, padding=(0, 4, 8), side="left"),
    ]
