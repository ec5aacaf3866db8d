"""Gemma 1, 2 and 3."""

from common import Case
from transformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, GemmaConfig, GemmaForCausalLM


def family(config, model):
    def make(vocab, positions, layers, heads, kv, width, inner, head_dim, **more):
        return lambda: model(config(
            vocab_size=vocab, max_position_embeddings=positions, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
            hidden_size=width, intermediate_size=inner, head_dim=head_dim, bos_token_id=0, eos_token_id=1,
            # PyTorch gives the row of a token that fills up no gradient, wherever it stands
            pad_token_id=None,
            attn_implementation="eager", **more,
        ))
    return make


gemma = family(GemmaConfig, GemmaForCausalLM)
gemma2 = family(Gemma2Config, Gemma2ForCausalLM)
gemma3 = family(Gemma3TextConfig, Gemma3ForCausalLM)


def cases():
    return [
        Case("gemma", gemma(101, 80, 2, 4, 1, 32, 56, 8), 2, 17, device=True),
        Case("gemma odd", gemma(67, 80, 3, 3, 3, 30, 50, 14, rms_norm_eps=1e-3), 1, 1),
        Case("gemma2", gemma2(101, 80, 4, 4, 2, 32, 56, 8, sliding_window=5, query_pre_attn_scalar=8), 2, 17, device=True),
        Case("gemma2 odd layers, other caps", gemma2(67, 80, 3, 2, 1, 30, 50, 14, sliding_window=4, query_pre_attn_scalar=20,
                                                     attn_logit_softcapping=3.0, final_logit_softcapping=5.0), 3, 11),
        Case("gemma3", gemma3(101, 80, 7, 4, 2, 32, 56, 8, sliding_window=5, query_pre_attn_scalar=8), 2, 17, device=True),
        Case("gemma3 few layers", gemma3(67, 80, 3, 2, 1, 30, 50, 14, sliding_window=4, query_pre_attn_scalar=20), 3, 11, padding=(0, 4, 8), side="left"),
    ]
