"""Mixtures of experts: Mixtral, OLMoE and DeepSeek-V2."""

from common import Case, Decoder, cross_entropy
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, MixtralConfig, MixtralForCausalLM, OlmoeConfig, OlmoeForCausalLM

# what a file calls the parts of an expert, and its layer
NAMES = {
    "mixtral": ("block_sparse_moe", "w1", "w3", "w2"),
    "olmoe": ("mlp", "gate_proj", "up_proj", "down_proj"),
    "deepseek_v2": ("mlp", "gate_proj", "up_proj", "down_proj"),
}


class Mixture(Decoder):
    """Guesses successors; its loss has the routers' where the configuration says so."""

    # products of all experts at once ask for widths that are multiples
    loading = {"experts_implementation": "eager"}

    @staticmethod
    def forward(model, columns):
        config = model.config
        routed = getattr(config, "output_router_logits", False) and config.model_type != "deepseek_v2"
        out = model(**{k: v for k, v in columns.items() if k != "labels"}, **(dict(output_router_logits=True) if routed else {}))
        loss = cross_entropy(out.logits, columns["labels"])
        return out.logits, loss + config.router_aux_loss_coef * out.aux_loss if routed else loss

    @staticmethod
    def gradients(model):
        """Gradients by the names that files have: an expert's parts are one tensor each there."""
        layer, gate, up, down = NAMES[model.config.model_type]
        for name, p in model.named_parameters():
            name = name.replace(".mlp.", f".{layer}.") if layer != "mlp" else name
            stem, _, last = name.rpartition(".experts.")
            if not stem:
                yield name, p.grad
                continue
            for e, grad in enumerate(p.grad):
                parts = zip((gate, up), grad.chunk(2)) if last == "gate_up_proj" else [(down, grad)]
                yield from ((f"{stem}.experts.{e}.{part}.weight", g) for part, g in parts)


def mixtral(vocab, positions, layers, heads, kv, width, inner, experts, chosen, **more):
    return lambda: MixtralForCausalLM(MixtralConfig(
        vocab_size=vocab, max_position_embeddings=positions, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
        hidden_size=width, intermediate_size=inner, num_local_experts=experts, num_experts_per_tok=chosen, bos_token_id=0, eos_token_id=1,
        router_aux_loss_coef=0.1, attn_implementation="eager", experts_implementation="eager", **more,
    ))


def olmoe(vocab, positions, layers, heads, kv, width, inner, experts, chosen, **more):
    return lambda: OlmoeForCausalLM(OlmoeConfig(
        vocab_size=vocab, max_position_embeddings=positions, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv,
        hidden_size=width, intermediate_size=inner, num_experts=experts, num_experts_per_tok=chosen, bos_token_id=0, eos_token_id=1,
        pad_token_id=0, router_aux_loss_coef=0.1, attn_implementation="eager", experts_implementation="eager", **more,
    ))


def deepseek(vocab, positions, layers, heads, width, inner, latent, experts, chosen, **more):
    settings = dict(
        vocab_size=vocab, max_position_embeddings=positions, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
        hidden_size=width, intermediate_size=2 * inner, moe_intermediate_size=inner, kv_lora_rank=latent, n_routed_experts=experts,
        num_experts_per_tok=chosen, n_shared_experts=1, first_k_dense_replace=1, q_lora_rank=None, qk_rope_head_dim=4, qk_nope_head_dim=6,
        v_head_dim=5, topk_method="greedy", n_group=None, topk_group=None, bos_token_id=0, eos_token_id=1, attn_implementation="eager", experts_implementation="eager",
    )
    return lambda: DeepseekV2ForCausalLM(DeepseekV2Config(**settings | more))


def cases():
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=20, mscale=0.7, mscale_all_dim=0.7)
    return [
        Case("mixtral", mixtral(101, 80, 2, 4, 2, 32, 40, 8, 2, output_router_logits=True), 2, 17, kind=Mixture, device=True),
        Case("mixtral window, tied, odd", mixtral(67, 80, 3, 3, 1, 30, 21, 3, 3, sliding_window=4, tie_word_embeddings=True), 3, 11, kind=Mixture),
        Case("mixtral one expert, own head size", mixtral(101, 64, 2, 4, 2, 36, 50, 1, 1, head_dim=10), 1, 7, kind=Mixture),
        Case("mixtral filled up right", mixtral(101, 70, 2, 4, 2, 32, 40, 5, 2, output_router_logits=True), 3, 9, kind=Mixture, padding=(0, 4, 8)),
        Case("olmoe", olmoe(101, 80, 2, 4, 4, 32, 20, 16, 4, output_router_logits=True), 2, 17, kind=Mixture),
        Case("olmoe weights to 1, one key head", olmoe(67, 80, 2, 4, 1, 32, 21, 7, 3, norm_topk_prob=True), 1, 20, kind=Mixture),
        Case("deepseek", deepseek(101, 80, 3, 4, 32, 20, 16, 8, 2, q_lora_rank=12), 2, 17, kind=Mixture, device=True),
        Case("deepseek no query latent, scaled", deepseek(67, 80, 2, 3, 30, 11, 8, 5, 3, first_k_dense_replace=0, routed_scaling_factor=2.5,
                                                        n_shared_experts=2, attention_bias=True), 3, 11, kind=Mixture),
        Case("deepseek groups, yarn", deepseek(101, 80, 2, 4, 32, 20, 16, 8, 3, topk_method="group_limited_greedy", n_group=4, topk_group=2,
                                             rope_parameters=yarn), 1, 31, kind=Mixture),
    ]
