//! Mixtral: Llama's blocks with a mixture of experts each (Jiang et al. 2024), in primitive operations; by settings also OLMoE, with norms of
//! all queries and of all keys (Muennighoff et al. 2024).
//!
//! Parameters have the names and layouts of Hugging Face's checkpoints.

use crate::architecture::{Architecture, Hidden, Kept, Made, Place, Reading, Shape};
use crate::attention::{attend, heads};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{linear, rms_norm};
use crate::moe::{Experts, Routers};
use crate::positions::{RopeScaling, rope, rotation, seen};
use ir::{Scope, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The settings of a Mixtral.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mixtral {
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
    /// Width of a head; 0 for the residual stream's share of one.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside an expert.
    pub intermediate_size: usize,
    /// Number of experts.
    pub num_experts: usize,
    /// Experts a token goes to.
    pub num_experts_per_tok: usize,
    /// Whether the weights of a token's experts are made to sum to 1.
    pub norm_topk_prob: bool,
    /// Whose names parameters have, and whether queries and keys have a norm.
    pub form: Form,
    /// How many tokens a token sees, itself among them; 0 for all before it.
    pub sliding_window: usize,
    /// The longest wave length of the rotary positions is 2π times about this.
    pub rope_theta: f64,
    /// ε of RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// What the experts' imbalance adds to the loss; 0 for nothing.
    pub router_aux_loss_coef: f64,
    /// What the size of the routers' logits adds to the loss; 0 for nothing.
    pub router_z_loss_coef: f64,
    /// How rotary positions are slowed for longer contexts.
    pub rope_scaling: RopeScaling,
}

/// Of which family a model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Form {
    /// Experts are `block_sparse_moe.experts.{}.w1`, `w3`, `w2`.
    Mixtral,
    /// Experts are `mlp.experts.{}.gate_proj`, `up_proj`, `down_proj`; all queries and all keys have an RMSNorm.
    Olmoe,
}

ir::spell!(Form, "form of a mixture", [Mixtral "mixtral", Olmoe "olmoe"]);

impl Default for Mixtral {
    /// Of 8 experts of which two are active, as many parameters active as the default Llama has.
    fn default() -> Mixtral {
        Mixtral {
            vocab_size: 32000,
            max_position_embeddings: 1024,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_key_value_heads: 4,
            head_dim: 0,
            hidden_size: 768,
            intermediate_size: 1024,
            num_experts: 8,
            num_experts_per_tok: 2,
            norm_topk_prob: true,
            form: Form::Mixtral,
            sliding_window: 0,
            rope_theta: 10000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: false,
            router_aux_loss_coef: 0.001,
            router_z_loss_coef: 0.0,
            rope_scaling: RopeScaling::default(),
        }
    }
}

impl Architecture for Mixtral {
    fn name() -> &'static str {
        "mixtral"
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let turned = rotation(s, read.head_positions(s), self.rope_theta, &self.rope_scaling, self.head_size());
        let x = read.embed(|ids| self.embedding(s).gather(ids)); // [B, T, C]
        // nobody trains on what is read beside its past
        let noted = read.past.is_none() && (self.router_aux_loss_coef > 0.0 || self.router_z_loss_coef > 0.0);
        let block = |s: &Scope<'g>, x, place| self.block(s, x, turned, noted, &place);
        let mut all = read.blocks(&s.at("model"), "layers", self.num_hidden_layers, x, block);
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

    fn cache(&self) -> Vec<Kept> {
        Kept::keys_and_values(self.num_hidden_layers, self.num_key_value_heads, self.max_position_embeddings, self.head_size())
    }

    /// N(0, 0.02), residual projections scaled by 1/√(2 · layers), norms 1.
    fn init(&self, path: &str) -> Init {
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["weight", "input_layernorm" | "post_attention_layernorm" | "norm" | "q_norm" | "k_norm", ..] => Init::Ones,
            ["weight", "o_proj" | "down_proj" | "w2", ..] => Init::Normal(0.02 / (2.0 * self.num_hidden_layers as f64).sqrt()),
            _ => Init::Normal(0.02),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.max_position_embeddings, dropout: 0.0 }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Mixtral::default();
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
        check::heads(n, c, self.head_dim)?;
        check::turned(n, c, self.head_dim)?;
        check::divides("num_key_value_heads", self.num_key_value_heads, "num_attention_heads", n)?;
        self.experts().check("num_experts", "num_experts_per_tok")?;
        check::within("sliding_window", self.sliding_window, 0..=check::LARGEST, 512)?;
        self.rope_scaling.check(self.rope_theta)?;
        check::within("router_aux_loss_coef", self.router_aux_loss_coef, 0.0..=1e3, "0.001")?;
        check::within("router_z_loss_coef", self.router_z_loss_coef, 0.0..=1e3, "0.001")?;
        check::within("rms_norm_eps", self.rms_norm_eps, 1e-12..=1.0, "1e-5")
    }

    fn hub() -> &'static [&'static str] {
        &["MixtralForCausalLM", "OlmoeForCausalLM"]
    }

    fn from_hub(c: &mut hub::Config) -> Result<Mixtral, String> {
        let form = if c.architecture()? == "OlmoeForCausalLM" { Form::Olmoe } else { Form::Mixtral };
        let usual = form.usual();
        c.one_of("hidden_act", &["silu", "swish"])?;
        c.must("attention_bias", false)?;
        // it moves what a router sees in training alone
        c.must("router_jitter_noise", 0.0)?;
        c.must("attention_dropout", 0.0)?;
        let max_position_embeddings = c.size_or("max_position_embeddings", usual.max_position_embeddings)?;
        let (rope_theta, rope_scaling) = RopeScaling::from_hub(c, usual.rope_theta, max_position_embeddings)?;
        let num_attention_heads = c.size_or("num_attention_heads", usual.num_attention_heads)?;
        let keys = if c.is_null("num_key_value_heads") { num_attention_heads } else { usual.num_key_value_heads };
        let (hidden_size, head_dim) = (c.size_or("hidden_size", usual.hidden_size)?, c.size_or("head_dim", 0)?);
        let weight = c.number_or("router_aux_loss_coef", usual.router_aux_loss_coef)?;
        let olmoe = form == Form::Olmoe;
        Ok(Mixtral {
            vocab_size: c.size_or("vocab_size", usual.vocab_size)?,
            max_position_embeddings,
            num_hidden_layers: c.size_or("num_hidden_layers", usual.num_hidden_layers)?,
            num_attention_heads,
            num_key_value_heads: c.size_or("num_key_value_heads", keys)?,
            // the stream's share need not be said
            head_dim: if head_dim.checked_mul(num_attention_heads) == Some(hidden_size) { 0 } else { head_dim },
            hidden_size,
            intermediate_size: c.size_or("intermediate_size", usual.intermediate_size)?,
            num_experts: c.size_or(form.count(), usual.num_experts)?,
            num_experts_per_tok: c.size_or("num_experts_per_tok", usual.num_experts_per_tok)?,
            norm_topk_prob: if olmoe { c.flag("norm_topk_prob", false)? } else { true },
            form,
            sliding_window: if olmoe { 0 } else { c.size_or("sliding_window", 0)? },
            rope_theta,
            rms_norm_eps: c.number_or("rms_norm_eps", usual.rms_norm_eps)?,
            tie_word_embeddings: c.flag("tie_word_embeddings", false)?,
            // a file's loss has it where the file says so
            router_aux_loss_coef: if c.flag("output_router_logits", false)? { weight } else { 0.0 },
            router_z_loss_coef: 0.0,
            rope_scaling,
        })
    }

    fn to_hub(&self) -> Result<hub::Written, String> {
        let olmoe = self.form == Form::Olmoe;
        let none = |what: &str| Err(format!("{what}, and no model there has that"));
        if !olmoe && !self.norm_topk_prob {
            return none("norm_topk_prob is false where form is mixtral");
        }
        if olmoe && self.sliding_window > 0 {
            return none("sliding_window is above 0 where form is olmoe");
        }
        if olmoe && self.head_dim > 0 {
            return none("head_dim is not the stream's share of a head where form is olmoe");
        }
        let (architecture, model_type) = if olmoe { ("OlmoeForCausalLM", "olmoe") } else { ("MixtralForCausalLM", "mixtral") };
        let to = hub::Written::new(architecture, model_type)
            .with("vocab_size", self.vocab_size)
            .with("max_position_embeddings", self.max_position_embeddings)
            .with("num_hidden_layers", self.num_hidden_layers)
            .with("num_attention_heads", self.num_attention_heads)
            .with("num_key_value_heads", self.num_key_value_heads)
            .with("hidden_size", self.hidden_size)
            .with("intermediate_size", self.intermediate_size)
            .with(self.form.count(), self.num_experts)
            .with("num_experts_per_tok", self.num_experts_per_tok)
            .with("output_router_logits", self.router_aux_loss_coef > 0.0)
            .with("router_aux_loss_coef", self.router_aux_loss_coef)
            .with("hidden_act", "silu")
            .with("rms_norm_eps", self.rms_norm_eps)
            .with("tie_word_embeddings", self.tie_word_embeddings);
        let to = self.rope_scaling.written(to, self.rope_theta, self.head_size());
        if olmoe {
            return Ok(to.with("norm_topk_prob", self.norm_topk_prob));
        }
        let window = if self.sliding_window > 0 { Value::from(self.sliding_window) } else { Value::Null };
        Ok(to.with("sliding_window", window).with("head_dim", self.head_size()))
    }
}

impl Form {
    /// What a file means that says nothing.
    fn usual(self) -> Mixtral {
        let mixtral = Mixtral {
            vocab_size: 32000,
            max_position_embeddings: 1 << 17,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 8,
            hidden_size: 4096,
            intermediate_size: 14336,
            rope_theta: 1e6,
            ..Mixtral::default()
        };
        match self {
            Form::Mixtral => mixtral,
            Form::Olmoe => Mixtral {
                vocab_size: 50304,
                max_position_embeddings: 4096,
                num_hidden_layers: 16,
                num_attention_heads: 16,
                num_key_value_heads: 16,
                hidden_size: 2048,
                intermediate_size: 2048,
                num_experts: 64,
                num_experts_per_tok: 8,
                rope_theta: 10000.0,
                router_aux_loss_coef: 0.01,
                ..mixtral
            },
        }
    }

    /// What a file calls the number of experts.
    fn count(self) -> &'static str {
        if self == Form::Olmoe { "num_experts" } else { "num_local_experts" }
    }
}

impl Mixtral {
    /// The width of a head.
    fn head_size(&self) -> usize {
        if self.head_dim > 0 { self.head_dim } else { self.hidden_size / self.num_attention_heads }
    }

    fn experts(&self) -> Experts {
        Experts {
            count: self.num_experts,
            chosen: self.num_experts_per_tok,
            groups: 1,
            chosen_groups: 1,
            width: self.intermediate_size,
            normalised: self.norm_topk_prob,
            scale: 1.0,
            names: if self.form == Form::Olmoe { ["gate_proj", "up_proj", "down_proj"] } else { ["w1", "w3", "w2"] },
        }
    }

    fn embedding<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("model").at("embed_tokens").param("weight", [self.vocab_size, self.hidden_size])
    }

    fn norm<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        rms_norm(s, x, self.rms_norm_eps)
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, turned: [Tensor<'g>; 2], noted: bool, place: &Place<'g>) -> Made<'g> {
        let (y, present) = self.attention(&s.at("self_attn"), self.norm(&s.at("input_layernorm"), x), turned, place);
        let x = x + y;
        let name = if self.form == Form::Olmoe { "mlp" } else { "block_sparse_moe" };
        let (y, logits) = self.experts().apply(&s.at(name), self.norm(&s.at("post_attention_layernorm"), x));
        Made { noted: if noted { vec![logits] } else { vec![] }, ..Made::new(x + y, present) }
    }

    /// softmax(q kᵀ / √d, causal) v with rotated q and k; a group of query heads shares one k and v
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, turned: [Tensor<'g>; 2], place: &Place<'g>) -> (Tensor<'g>, [Tensor<'g>; 2]) {
        let (n, kv, d) = (self.num_attention_heads, self.num_key_value_heads, self.head_size());
        let project = |name: &str, n: usize| linear(&s.at(name), x, n * d); // [B, T, n·D]
        let normed = |name: &str, x| if self.form == Form::Olmoe { self.norm(&s.at(name), x) } else { x };
        let placed = |name: &str, norm: &str, n: usize| rope(heads(normed(norm, project(name, n)), n, d), turned);
        let (q, k, v) = (placed("q_proj", "q_norm", n), placed("k_proj", "k_norm", kv), heads(project("v_proj", kv), kv, d));
        let (y, present) = attend(s, [q, k, v], place, 0.0, |x| seen(s, x / (d as f64).sqrt(), place, self.sliding_window));
        (linear(&s.at("o_proj"), y, self.hidden_size), present)
    }
}
