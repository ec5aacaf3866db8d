//! Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023), in primitive operations.
//!
//! Parameters have the names and layouts of Hugging Face's Llama checkpoints.

use crate::architecture::{Architecture, Hidden, Kept, Made, Place, Reading, Shape};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{linear, rms_norm, silu, softmax};
use ir::{DType, Scope, Tensor};
use serde::{Deserialize, Serialize};

/// The settings of a Llama.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Llama {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest context.
    pub max_position_embeddings: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// The longest wave length of the rotary positions is 2π times about this.
    pub rope_theta: f64,
    /// ε of RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
}

impl Default for Llama {
    /// A Llama of 110M parameters: the shape of GPT-2 small.
    fn default() -> Llama {
        Llama {
            vocab_size: 32000,
            max_position_embeddings: 1024,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_key_value_heads: 4,
            hidden_size: 768,
            intermediate_size: 2048,
            rope_theta: 10000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: false,
        }
    }
}

impl Architecture for Llama {
    fn name() -> &'static str {
        "llama"
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let angles = self.angles(s, read.head_positions(s));
        let (cos, sin) = (angles.cos(), angles.sin());
        let x = self.embedding(s).gather(read.tokens); // [B, T, C]
        read.blocks(&s.at("model"), "layers", self.num_hidden_layers, x, |s, x, place| self.block(s, x, [cos, sin], place))
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let x = rms_norm(&s.at("model").at("norm"), x, self.rms_norm_eps);
        let words = if self.tie_word_embeddings { self.embedding(s) } else { s.at("lm_head").param("weight", [self.vocab_size, self.hidden_size]) };
        x.contract("btc,vc->btv", words)
    }

    fn cache(&self) -> Vec<Kept> {
        Kept::keys_and_values(self.num_hidden_layers, self.num_key_value_heads, self.max_position_embeddings, self.head_size())
    }

    /// N(0, 0.02), residual projections scaled by 1/√(2 · layers), norms 1.
    fn init(&self, path: &str) -> Init {
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["weight", "input_layernorm" | "post_attention_layernorm" | "norm", ..] => Init::Ones,
            ["weight", "o_proj" | "down_proj", ..] => Init::Normal(0.02 / (2.0 * self.num_hidden_layers as f64).sqrt()),
            _ => Init::Normal(0.02),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.max_position_embeddings, dropout: 0.0 }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Llama::default();
        let (n, c) = (self.num_attention_heads, self.hidden_size);
        check::sizes(&[
            ("vocab_size", self.vocab_size, usual.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings, usual.max_position_embeddings),
            ("num_attention_heads", n, usual.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads, usual.num_key_value_heads),
            ("hidden_size", c, usual.hidden_size),
            ("intermediate_size", self.intermediate_size, usual.intermediate_size),
        ])?;
        check::layers("num_hidden_layers", self.num_hidden_layers)?;
        check::divides("num_attention_heads", n, "hidden_size", c)?;
        if !self.head_size().is_multiple_of(2) {
            let (d, fits) = (self.head_size(), n * (self.head_size() + 1));
            return Err(format!(
                "hidden_size is {c}, so each of the {n} heads has a width of {d}, and rotary positions turn pairs; try hidden_size = {fits}"
            ));
        }
        check::divides("num_key_value_heads", self.num_key_value_heads, "num_attention_heads", n)?;
        check::within("rope_theta", self.rope_theta, 1.0..=1e12, usual.rope_theta)?;
        check::within("rms_norm_eps", self.rms_norm_eps, 1e-12..=1.0, "1e-5")
    }

    fn hub() -> &'static [&'static str] {
        &["LlamaForCausalLM"]
    }

    fn from_hub(c: &mut hub::Config) -> Result<Llama, String> {
        c.must("hidden_act", "silu")?;
        c.must("attention_bias", false)?;
        c.must("mlp_bias", false)?;
        c.must("rope_interleaved", false)?;
        // how products are cut to pieces, dropout, and what some published files say of themselves
        c.neutral(&["pretraining_tp", "attention_dropout", "is_llama_config"]);
        let (hidden_size, num_attention_heads) = (c.size_or("hidden_size", 4096)?, c.size_or("num_attention_heads", 32)?);
        c.must("head_dim", hidden_size / num_attention_heads.max(1))?;
        Ok(Llama {
            vocab_size: c.size_or("vocab_size", 32000)?,
            max_position_embeddings: c.size_or("max_position_embeddings", 2048)?,
            num_hidden_layers: c.size_or("num_hidden_layers", 32)?,
            num_attention_heads,
            num_key_value_heads: c.size_or("num_key_value_heads", num_attention_heads)?,
            hidden_size,
            intermediate_size: c.size_or("intermediate_size", 11008)?,
            rope_theta: rope_theta(c)?,
            rms_norm_eps: c.number_or("rms_norm_eps", 1e-6)?,
            tie_word_embeddings: c.flag("tie_word_embeddings", false)?,
        })
    }

    /// Positions are written both as transformers 5 reads them and as 4 does.
    fn to_hub(&self) -> Result<hub::Written, String> {
        Ok(hub::Written::new("LlamaForCausalLM", "llama")
            .with("vocab_size", self.vocab_size)
            .with("max_position_embeddings", self.max_position_embeddings)
            .with("num_hidden_layers", self.num_hidden_layers)
            .with("num_attention_heads", self.num_attention_heads)
            .with("num_key_value_heads", self.num_key_value_heads)
            .with("hidden_size", self.hidden_size)
            .with("intermediate_size", self.intermediate_size)
            .with("head_dim", self.head_size())
            .with("hidden_act", "silu")
            .with("rope_theta", self.rope_theta)
            .with("rope_parameters", serde_json::json!({"rope_type": "default", "rope_theta": self.rope_theta}))
            .with("rms_norm_eps", self.rms_norm_eps)
            .with("attention_bias", false)
            .with("mlp_bias", false)
            .with("tie_word_embeddings", self.tie_word_embeddings))
    }
}

/// θ of the rotary positions, which transformers 5 writes into `rope_parameters`, and 4 beside `rope_scaling`.
fn rope_theta(c: &mut hub::Config) -> Result<f64, String> {
    let beside = c.maybe_number("rope_theta")?;
    c.within("rope_scaling", |c| c.must("type", "default").and(c.must("rope_type", "default")))?;
    let inside = c.within("rope_parameters", |c| {
        c.must("rope_type", "default")?;
        c.maybe_number("rope_theta")
    })?;
    Ok(inside.flatten().or(beside).unwrap_or(10000.0))
}

impl Llama {
    /// The width of a head.
    fn head_size(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    fn embedding<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("model").at("embed_tokens").param("weight", [self.vocab_size, self.hidden_size])
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, rotation: [Tensor<'g>; 2], place: Place<'g>) -> Made<'g> {
        let (y, present) = self.attention(&s.at("self_attn"), rms_norm(&s.at("input_layernorm"), x, self.rms_norm_eps), rotation, &place);
        let x = x + y;
        Made::new(x + self.mlp(&s.at("mlp"), rms_norm(&s.at("post_attention_layernorm"), x, self.rms_norm_eps)), present)
    }

    /// The angle of each position [.., T, 1] and pair, [.., T, D/2]: t · θ^(−2i/D)
    fn angles<'g>(&self, s: &Scope<'g>, positions: Tensor<'g>) -> Tensor<'g> {
        let half = self.head_size() / 2;
        let rate = (s.iota(-1, half).cast(DType::F32) * (-self.rope_theta.ln() / half as f64)).exp();
        positions.cast(DType::F32) * rate
    }

    /// softmax(q kᵀ / √d, causal) v with rotated q and k; a group of query heads shares one k and v
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, [cos, sin]: [Tensor<'g>; 2], place: &Place<'g>) -> (Tensor<'g>, [Tensor<'g>; 2]) {
        let (b, t) = (x.dim(-3), x.dim(-2));
        let (n, kv, d) = (self.num_attention_heads, self.num_key_value_heads, self.head_size());
        let heads = |name, n: usize| linear(&s.at(name), x, n * d).reshape((b, t, n, d)).transpose(&[0, 2, 1, 3]); // [B, H, T, D]
        let q = rope(heads("q_proj", n), cos, sin);
        let (k, v) = (rope(heads("k_proj", kv), cos, sin), heads("v_proj", kv));
        let [k, v] = place.with_past(k, v);
        let shared = |x: Tensor<'g>| {
            let (b, t) = (x.dim(-4), x.dim(-2));
            x.reshape((b, kv, 1usize, t, d)).broadcast((b, kv, n / kv, t, d)).reshape((b, n, t, d))
        };
        let scores = q.contract("bhtd,bhsd->bhts", shared(k)) / (d as f64).sqrt();
        let scores = place.visible(s, scores);
        let y = softmax(scores).contract("bhts,bhsd->bhtd", shared(v));
        (linear(&s.at("o_proj"), y.transpose(&[0, 2, 1, 3]).reshape((b, t, n * d)), self.hidden_size), [k, v])
    }

    /// (silu(x W₁) ∘ x W₃) W₂
    fn mlp<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let gate = silu(linear(&s.at("gate_proj"), x, self.intermediate_size));
        linear(&s.at("down_proj"), gate * linear(&s.at("up_proj"), x, self.intermediate_size), self.hidden_size)
    }
}

/// x ∘ cos + rotate(x) ∘ sin, where rotate takes (left, right) to (−right, left)
fn rope<'g>(x: Tensor<'g>, cos: Tensor<'g>, sin: Tensor<'g>) -> Tensor<'g> {
    let [left, right] = x.chunks();
    x * cos.concat(-1, cos) + (-right).concat(-1, left) * sin.concat(-1, sin)
}
