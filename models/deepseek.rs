//! DeepSeek-V2: attention over a latent of all heads' keys and values, which alone is kept of a token, and mixtures of many small experts with
//! shared ones beside, behind dense layers (DeepSeek-AI 2024), in primitive operations.
//!
//! Parameters have the names and layouts of Hugging Face's checkpoints.

use crate::architecture::{Architecture, Hidden, Kept, Layers, Made, Place, Reading, Shape};
use crate::attention::{heads, merged, weigh};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{gated, linear, projection, rms_norm};
use crate::moe::{Experts, Routers};
use crate::positions::{RopeScaling, rope, rotation};
use ir::{Dim, Scope, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The settings of a DeepSeek-V2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deepseek {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest context.
    pub max_position_embeddings: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of heads.
    pub num_attention_heads: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part of a dense block.
    pub intermediate_size: usize,
    /// Width inside an expert.
    pub moe_intermediate_size: usize,
    /// How many blocks, the first, have no experts.
    pub first_k_dense_replace: usize,
    /// Number of experts that are routed to.
    pub n_routed_experts: usize,
    /// Number of experts that every token goes to.
    pub n_shared_experts: usize,
    /// Experts a token is routed to.
    pub num_experts_per_tok: usize,
    /// In how many groups experts stand; divides them.
    pub n_group: usize,
    /// Of how many groups, those with the best experts, a token's are.
    pub topk_group: usize,
    /// What the weights of experts are multiplied by.
    pub routed_scaling_factor: f64,
    /// Width of the latent that queries are made of; 0 for none.
    pub q_lora_rank: usize,
    /// Width of the latent that keys and values are made of.
    pub kv_lora_rank: usize,
    /// Width of a head's queries and keys where positions do not matter.
    pub qk_nope_head_dim: usize,
    /// Width of what positions turn; of keys all heads have one.
    pub qk_rope_head_dim: usize,
    /// Width of a head's values.
    pub v_head_dim: usize,
    /// Whether the projections to latents and back to the stream have a bias.
    pub attention_bias: bool,
    /// The longest wave length of the rotary positions is 2π times about this.
    pub rope_theta: f64,
    /// How rotary positions are slowed for longer contexts.
    pub rope_scaling: RopeScaling,
    /// Under YaRN, what scores grow by with the logarithm of its factor.
    pub mscale_all_dim: f64,
    /// ε of RMSNorm; of the latents' it is 1e-6.
    pub rms_norm_eps: f64,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// What the experts' imbalance adds to the loss; 0 for nothing.
    pub router_aux_loss_coef: f64,
    /// What the size of the routers' logits adds to the loss; 0 for nothing.
    pub router_z_loss_coef: f64,
}

impl Default for Deepseek {
    /// A small one: 12 layers as wide as GPT-2's, 16 experts of which 4 are active.
    fn default() -> Deepseek {
        Deepseek {
            vocab_size: 32000,
            max_position_embeddings: 1024,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            hidden_size: 768,
            intermediate_size: 2048,
            moe_intermediate_size: 384,
            first_k_dense_replace: 1,
            n_routed_experts: 16,
            n_shared_experts: 1,
            num_experts_per_tok: 4,
            n_group: 1,
            topk_group: 1,
            routed_scaling_factor: 1.0,
            q_lora_rank: 0,
            kv_lora_rank: 256,
            qk_nope_head_dim: 64,
            qk_rope_head_dim: 32,
            v_head_dim: 64,
            attention_bias: false,
            rope_theta: 10000.0,
            rope_scaling: RopeScaling::default(),
            mscale_all_dim: 0.0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: false,
            router_aux_loss_coef: 0.001,
            router_z_loss_coef: 0.0,
        }
    }
}

/// ε of the latents' RMSNorm.
const LATENT_EPS: f64 = 1e-6;

impl Architecture for Deepseek {
    fn name() -> &'static str {
        "deepseek"
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let turned = rotation(s, read.head_positions(s), self.rope_theta, &self.rope_scaling, self.qk_rope_head_dim);
        // nobody trains on what is read beside its past
        let noted = read.past.is_none() && (self.router_aux_loss_coef > 0.0 || self.router_z_loss_coef > 0.0);
        let mut all = Hidden::from(read.embed(|ids| self.embedding(s).gather(ids))); // [B, T, C]
        for (layers, routed) in self.layers() {
            let next = read.blocks(&s.at("model"), "layers", layers, all.x, |s, x, place| {
                let (y, kept) = self.attention(&s.at("self_attn"), self.norm(&s.at("input_layernorm"), x), turned, &place);
                let x = x + y;
                let (y, logits) = self.feed(&s.at("mlp"), self.norm(&s.at("post_attention_layernorm"), x), routed);
                Made { noted: logits.filter(|_| noted).into_iter().collect(), ..Made::new(x + y, kept) }
            });
            all.x = next.x;
            all.kept.extend(next.kept);
            all.noted.extend(next.noted);
        }
        all.losses = Routers::new(s, &all.noted, read.mask)
            .map_or(vec![], |routers| routers.losses(s, self.num_experts_per_tok, self.router_aux_loss_coef, self.router_z_loss_coef));
        all
    }

    fn normed<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.norm(&s.at("model").at("norm"), x)
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let x = self.normed(s, x);
        let words = if self.tie_word_embeddings { self.embedding(s) } else { s.at("lm_head").param("weight", [self.vocab_size, self.hidden_size]) };
        x.contract("btc,vc->btv", words)
    }

    /// The latent, and the keys that positions have turned, in one.
    fn cache(&self) -> Vec<Kept> {
        let of = |layers| Kept::each(layers, &[("latent", 1, self.kv_lora_rank + self.qk_rope_head_dim)], self.max_position_embeddings);
        self.layers().into_iter().flat_map(|(layers, _)| of(layers)).collect()
    }

    /// N(0, 0.02), residual projections scaled by 1/√(2 · layers), norms 1, biases 0.
    fn init(&self, path: &str) -> Init {
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["bias", ..] => Init::Zeros,
            ["weight", "input_layernorm" | "post_attention_layernorm" | "norm" | "q_a_layernorm" | "kv_a_layernorm", ..] => Init::Ones,
            ["weight", "o_proj" | "down_proj", ..] => Init::Normal(0.02 / (2.0 * self.num_hidden_layers as f64).sqrt()),
            _ => Init::Normal(0.02),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.max_position_embeddings, dropout: 0.0 }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Deepseek::default();
        check::sizes(&[
            ("vocab_size", self.vocab_size, usual.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings, usual.max_position_embeddings),
            ("num_attention_heads", self.num_attention_heads, usual.num_attention_heads),
            ("hidden_size", self.hidden_size, usual.hidden_size),
            ("intermediate_size", self.intermediate_size, usual.intermediate_size),
            ("moe_intermediate_size", self.moe_intermediate_size, usual.moe_intermediate_size),
            ("kv_lora_rank", self.kv_lora_rank, usual.kv_lora_rank),
            ("qk_nope_head_dim", self.qk_nope_head_dim, usual.qk_nope_head_dim),
            ("qk_rope_head_dim", self.qk_rope_head_dim, usual.qk_rope_head_dim),
            ("v_head_dim", self.v_head_dim, usual.v_head_dim),
            ("n_group", self.n_group, usual.n_group),
        ])?;
        check::layers("num_hidden_layers", self.num_hidden_layers)?;
        check::within("first_k_dense_replace", self.first_k_dense_replace, 0..=self.num_hidden_layers, 1)?;
        check::within("q_lora_rank", self.q_lora_rank, 0..=check::LARGEST, 0)?;
        check::within("n_shared_experts", self.n_shared_experts, 0..=check::LARGEST / self.moe_intermediate_size, 1)?;
        if !self.qk_rope_head_dim.is_multiple_of(2) {
            let d = self.qk_rope_head_dim;
            return Err(format!("qk_rope_head_dim is {d}, and rotary positions turn pairs; try qk_rope_head_dim = {}", d + 1));
        }
        check::divides("n_group", self.n_group, "n_routed_experts", self.n_routed_experts)?;
        check::within("topk_group", self.topk_group, 1..=self.n_group, self.n_group)?;
        let within = self.topk_group * (self.n_routed_experts / self.n_group);
        check::within("num_experts_per_tok", self.num_experts_per_tok, 1..=within, within)?;
        self.experts().check("n_routed_experts", "num_experts_per_tok")?;
        check::within("routed_scaling_factor", self.routed_scaling_factor, 1e-6..=1e6, 1)?;
        self.rope_scaling.check(self.rope_theta)?;
        check::within("mscale_all_dim", self.mscale_all_dim, 0.0..=1e3, 0)?;
        if self.mscale_all_dim > 0.0 && !matches!(self.rope_scaling, RopeScaling::Yarn { .. }) {
            return Err("mscale_all_dim goes with the factor of YaRN, and rope_scaling is no yarn; try mscale_all_dim = 0".into());
        }
        check::within("router_aux_loss_coef", self.router_aux_loss_coef, 0.0..=1e3, "0.001")?;
        check::within("router_z_loss_coef", self.router_z_loss_coef, 0.0..=1e3, "0.001")?;
        check::within("rms_norm_eps", self.rms_norm_eps, 1e-12..=1.0, "1e-6")
    }

    fn hub() -> &'static [&'static str] {
        &["DeepseekV2ForCausalLM"]
    }

    fn from_hub(c: &mut hub::Config) -> Result<Deepseek, String> {
        c.one_of("hidden_act", &["silu", "swish"])?;
        c.one_of("scoring_func", &["softmax"])?;
        c.must("mlp_bias", false)?;
        c.must("attention_dropout", 0.0)?;
        c.must("moe_layer_freq", 1)?;
        // weights are never made to sum to 1 there, whatever this says; the rest is of training, or of widths that follow
        c.neutral(&["norm_topk_prob", "aux_loss_alpha", "seq_aux", "ep_size", "pretraining_tp", "head_dim", "qk_head_dim", "output_router_logits"]);
        let limited = c.one_of("topk_method", &["greedy", "group_limited_greedy"])? == "group_limited_greedy";
        let (n_group, topk_group) = (c.size_or("n_group", 1)?, c.size_or("topk_group", 1)?);
        let num_attention_heads = c.size_or("num_attention_heads", 32)?;
        c.must("num_key_value_heads", num_attention_heads)?;
        let max_position_embeddings = c.size_or("max_position_embeddings", 2048)?;
        let object = c.get("rope_scaling").or(c.get("rope_parameters"));
        let mscale_all_dim = object.and_then(|o| o.get("mscale_all_dim")).and_then(Value::as_f64).unwrap_or(0.0);
        let (rope_theta, rope_scaling) = RopeScaling::from_hub(c, 10000.0, max_position_embeddings)?;
        let yarn = matches!(rope_scaling, RopeScaling::Yarn { .. });
        Ok(Deepseek {
            vocab_size: c.size_or("vocab_size", 32000)?,
            max_position_embeddings,
            num_hidden_layers: c.size_or("num_hidden_layers", 32)?,
            num_attention_heads,
            hidden_size: c.size_or("hidden_size", 4096)?,
            intermediate_size: c.size_or("intermediate_size", 11008)?,
            moe_intermediate_size: c.size_or("moe_intermediate_size", 1407)?,
            first_k_dense_replace: c.size_or("first_k_dense_replace", 0)?,
            n_routed_experts: c.size_or("n_routed_experts", 64)?,
            n_shared_experts: c.size_or("n_shared_experts", 2)?,
            num_experts_per_tok: c.size("num_experts_per_tok")?,
            n_group: if limited { n_group } else { 1 },
            topk_group: if limited { topk_group } else { 1 },
            routed_scaling_factor: c.number_or("routed_scaling_factor", 1.0)?,
            q_lora_rank: if c.is_null("q_lora_rank") { 0 } else { c.size_or("q_lora_rank", 1536)? },
            kv_lora_rank: c.size_or("kv_lora_rank", 512)?,
            qk_nope_head_dim: c.size_or("qk_nope_head_dim", 128)?,
            qk_rope_head_dim: c.size_or("qk_rope_head_dim", 64)?,
            v_head_dim: c.size_or("v_head_dim", 128)?,
            attention_bias: c.flag("attention_bias", false)?,
            rope_theta,
            rope_scaling,
            mscale_all_dim: if yarn { mscale_all_dim } else { 0.0 },
            rms_norm_eps: c.number_or("rms_norm_eps", 1e-6)?,
            tie_word_embeddings: c.flag("tie_word_embeddings", false)?,
            router_aux_loss_coef: 0.0,
            router_z_loss_coef: 0.0,
        })
    }

    fn to_hub(&self) -> Result<hub::Written, String> {
        if self.n_shared_experts == 0 {
            return Err("n_shared_experts is 0, and no model there has none".into());
        }
        let limited = self.topk_group < self.n_group;
        let or_null = |n: usize, has: bool| if has { Value::from(n) } else { Value::Null };
        let mut rotary = self.rope_scaling.to_hub(self.rope_theta, self.qk_rope_head_dim);
        let to = self.rope_scaling.written(hub::Written::new("DeepseekV2ForCausalLM", "deepseek_v2"), self.rope_theta, self.qk_rope_head_dim);
        let to = if self.mscale_all_dim > 0.0 {
            rotary["mscale_all_dim"] = self.mscale_all_dim.into();
            to.with("rope_scaling", rotary.clone()).with("rope_parameters", rotary)
        } else {
            to
        };
        Ok(to
            .with("vocab_size", self.vocab_size)
            .with("max_position_embeddings", self.max_position_embeddings)
            .with("num_hidden_layers", self.num_hidden_layers)
            .with("num_attention_heads", self.num_attention_heads)
            .with("num_key_value_heads", self.num_attention_heads)
            .with("hidden_size", self.hidden_size)
            .with("intermediate_size", self.intermediate_size)
            .with("moe_intermediate_size", self.moe_intermediate_size)
            .with("first_k_dense_replace", self.first_k_dense_replace)
            .with("n_routed_experts", self.n_routed_experts)
            .with("n_shared_experts", self.n_shared_experts)
            .with("num_experts_per_tok", self.num_experts_per_tok)
            .with("topk_method", if limited { "group_limited_greedy" } else { "greedy" })
            .with("n_group", or_null(self.n_group, limited))
            .with("topk_group", or_null(self.topk_group, limited))
            .with("routed_scaling_factor", self.routed_scaling_factor)
            .with("q_lora_rank", or_null(self.q_lora_rank, self.q_lora_rank > 0))
            .with("kv_lora_rank", self.kv_lora_rank)
            .with("qk_nope_head_dim", self.qk_nope_head_dim)
            .with("qk_rope_head_dim", self.qk_rope_head_dim)
            .with("v_head_dim", self.v_head_dim)
            .with("attention_bias", self.attention_bias)
            .with("hidden_act", "silu")
            .with("rms_norm_eps", self.rms_norm_eps)
            .with("tie_word_embeddings", self.tie_word_embeddings))
    }
}

impl Deepseek {
    /// Blocks that are alike, and whether they have experts.
    fn layers(&self) -> Vec<(Layers, bool)> {
        let first = self.first_k_dense_replace;
        let rest = Layers { first, count: self.num_hidden_layers - first, period: 1 };
        [(Layers::from(first), false), (rest, true)].into_iter().filter(|(layers, _)| layers.count > 0).collect()
    }

    fn experts(&self) -> Experts {
        Experts {
            count: self.n_routed_experts,
            chosen: self.num_experts_per_tok,
            groups: self.n_group,
            chosen_groups: self.topk_group,
            width: self.moe_intermediate_size,
            normalised: false,
            scale: self.routed_scaling_factor,
            names: ["gate_proj", "up_proj", "down_proj"],
        }
    }

    fn embedding<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("model").at("embed_tokens").param("weight", [self.vocab_size, self.hidden_size])
    }

    fn norm<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        rms_norm(s, x, self.rms_norm_eps)
    }

    /// The feed-forward part, and its router's logits where it has experts.
    fn feed<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, routed: bool) -> (Tensor<'g>, Option<Tensor<'g>>) {
        if !routed {
            return (gated(s, x, self.intermediate_size, false), None);
        }
        let (y, logits) = self.experts().apply(s, x);
        let shared = self.n_shared_experts * self.moe_intermediate_size;
        (if shared > 0 { y + gated(&s.at("shared_experts"), x, shared, false) } else { y }, Some(logits))
    }

    /// What scores are multiplied by.
    fn score_scale(&self) -> f64 {
        let longer = match self.rope_scaling {
            RopeScaling::Yarn { factor, .. } if factor > 1.0 => 1.0 + 0.1 * self.mscale_all_dim * factor.ln(),
            _ => 1.0,
        };
        longer * longer / ((self.qk_nope_head_dim + self.qk_rope_head_dim) as f64).sqrt()
    }

    /// Queries by head, [B, H, T, D], those that positions do not turn and those that they do.
    fn queries<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, turned: [Tensor<'g>; 2]) -> [Tensor<'g>; 2] {
        let (n, plain, d) = (self.num_attention_heads, self.qk_nope_head_dim, self.qk_nope_head_dim + self.qk_rope_head_dim);
        let q = if self.q_lora_rank > 0 {
            let latent = projection(&s.at("q_a_proj"), x, self.q_lora_rank, self.attention_bias);
            linear(&s.at("q_b_proj"), rms_norm(&s.at("q_a_layernorm"), latent, LATENT_EPS), n * d)
        } else {
            linear(&s.at("q_proj"), x, n * d)
        };
        let q = heads(q, n, d);
        [q.slice(-1, 0, plain), turn(q.slice(-1, plain, d), turned)]
    }

    /// softmax(q kᵀ, causal) v of keys and values that are W c of a latent c, beside which all heads' keys have one turned part. It is written
    /// as that where a whole text is read. Beside what is kept of tokens before, W meets the queries instead, q (W c) = (q W) c, and the
    /// probabilities' latents: then all heads attend to one, and nothing is computed of a kept token again.
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, turned: [Tensor<'g>; 2], place: &Place<'g>) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let (n, rank, plain, dv) = (self.num_attention_heads, self.kv_lora_rank, self.qk_nope_head_dim, self.v_head_dim);
        let (b, t, width) = (x.dim(-3), x.dim(-2), rank + self.qk_rope_head_dim);
        let [q, q_turned] = self.queries(s, x, turned);
        let both = projection(&s.at("kv_a_proj_with_mqa"), x, width, self.attention_bias);
        let latent = rms_norm(&s.at("kv_a_layernorm"), both.slice(-1, 0, rank), LATENT_EPS).reshape((b, 1usize, t, rank));
        let one = latent.concat(-1, turn(both.slice(-1, rank, width).reshape((b, 1usize, t, self.qk_rope_head_dim)), turned));
        let w = s.at("kv_b_proj").param("weight", [n * (plain + dv), rank]).reshape([n, plain + dv, rank]);
        let (to_keys, to_values) = (w.slice(-2, 0, plain), w.slice(-2, plain, plain + dv)); // [H, D, R]
        let score = |x: Tensor<'g>| place.visible(s, x * self.score_scale());
        let (y, kept) = if place.sees_kept() {
            let kept = place.with_kept(&[one]);
            let q = q.contract("bhtd,hdr->bhtr", to_keys).concat(-1, q_turned);
            let y = weigh(s, [q, kept[0], kept[0].slice(-1, 0, rank)], place.key, 0.0, score);
            (y.contract("bhtr,hdr->bhtd", to_values), kept)
        } else {
            let every = (b, Dim::from(n), t, Dim::from(self.qk_rope_head_dim));
            let k = latent.reshape((b, t, rank)).contract("btr,hdr->bhtd", to_keys).concat(-1, one.slice(-1, rank, width).broadcast(every));
            let v = latent.reshape((b, t, rank)).contract("btr,hdr->bhtd", to_values);
            (weigh(s, [q.concat(-1, q_turned), k, v], place.key, 0.0, score), vec![one])
        };
        (projection(&s.at("o_proj"), merged(y), self.hidden_size, self.attention_bias), kept)
    }
}

/// Neighbours are turned, and stand in halves afterwards, in queries as in keys.
fn turn<'g>(x: Tensor<'g>, by: [Tensor<'g>; 2]) -> Tensor<'g> {
    let (b, n, t, d) = (x.dim(-4), x.dim(-3), x.dim(-2), x.dim(-1));
    let half = d.value().map_or(1, |d| d as usize / 2);
    rope(x.reshape((b, n, t, half, 2usize)).transpose(&[0, 1, 2, 4, 3]).reshape((b, n, t, d)), by)
}
