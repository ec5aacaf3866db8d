//! Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023), in primitive operations; by settings also
//! Mistral, with a window (Jiang et al. 2023), Qwen2, with biases, and Qwen3, with norms of queries and keys (Yang et al. 2024, 2025).
//!
//! Parameters have the names and layouts of Hugging Face's checkpoints.

use crate::architecture::{Architecture, Hidden, Kept, Layers, Made, Place, Reading, Shape};
use crate::attention::{attend, heads};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{dropout, gated, projection, rms_norm};
use crate::positions::{FULL, Positions, RopeScaling, SLIDING, alibi, layer_types, rope, rotation, seen, slopes, windowed};
use ir::{Scope, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Width of a head; 0 for the residual stream's share of one.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Which projections of attention have a bias.
    pub attention_bias: Biases,
    /// Whether the feed-forward part's projections have a bias.
    pub mlp_bias: bool,
    /// Whether there is an RMSNorm of each head's queries and keys.
    pub qk_norm: bool,
    /// How many tokens a token sees, itself among them; 0 for all before it.
    pub sliding_window: usize,
    /// How many blocks, the first, have no window.
    pub max_window_layers: usize,
    /// How attention knows where tokens stand.
    pub positions: Positions,
    /// The longest wave length of the rotary positions is 2π times about this.
    pub rope_theta: f64,
    /// ε of RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Probability of dropout in training.
    pub dropout: f64,
    /// How rotary positions are slowed for longer contexts.
    pub rope_scaling: RopeScaling,
}

/// Which projections of attention have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Biases {
    /// None.
    None,
    /// Those of queries, keys and values.
    Qkv,
    /// All four.
    All,
}

ir::spell!(Biases, "choice of biases", [None "none", Qkv "qkv", All "all"]);

impl Default for Llama {
    /// A Llama of 110M parameters: the shape of GPT-2 small.
    fn default() -> Llama {
        Llama {
            vocab_size: 32000,
            max_position_embeddings: 1024,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_key_value_heads: 4,
            head_dim: 0,
            hidden_size: 768,
            intermediate_size: 2048,
            attention_bias: Biases::None,
            mlp_bias: false,
            qk_norm: false,
            sliding_window: 0,
            max_window_layers: 0,
            positions: Positions::Rotary,
            rope_theta: 10000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: false,
            dropout: 0.0,
            rope_scaling: RopeScaling::default(),
        }
    }
}

/// What tells attention where tokens stand.
#[derive(Clone, Copy)]
enum Stand<'g> {
    /// The cosine and the sine of each position and pair.
    Turned([Tensor<'g>; 2]),
    /// A slope a head.
    Slopes(Tensor<'g>),
}

impl Architecture for Llama {
    fn name() -> &'static str {
        "llama"
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let stand = match self.positions {
            Positions::Rotary => Stand::Turned(rotation(s, read.head_positions(s), self.rope_theta, &self.rope_scaling, self.head_size())),
            Positions::Alibi => Stand::Slopes(slopes(s, self.num_attention_heads)),
        };
        let x = dropout(s, read.embed(|ids| self.embedding(s).gather(ids)), self.dropout, read.key); // [B, T, C]
        let mut all = Hidden::from(x);
        for (layers, window) in self.layers() {
            let next = read.blocks(&s.at("model"), "layers", layers, all.x, |s, x, place| self.block(s, x, stand, window, place));
            all.x = next.x;
            all.kept.extend(next.kept);
        }
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
        let of = |layers| Kept::keys_and_values(layers, self.num_key_value_heads, self.max_position_embeddings, self.head_size());
        self.layers().into_iter().flat_map(|(layers, _)| of(layers)).collect()
    }

    /// N(0, 0.02), residual projections scaled by 1/√(2 · layers), norms 1, biases 0.
    fn init(&self, path: &str) -> Init {
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["bias", ..] => Init::Zeros,
            ["weight", "input_layernorm" | "post_attention_layernorm" | "norm" | "q_norm" | "k_norm", ..] => Init::Ones,
            ["weight", "o_proj" | "down_proj", ..] => Init::Normal(0.02 / (2.0 * self.num_hidden_layers as f64).sqrt()),
            _ => Init::Normal(0.02),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.max_position_embeddings, dropout: self.dropout }
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
        check::heads(n, c, self.head_dim)?;
        if self.positions == Positions::Rotary {
            check::turned(n, c, self.head_dim)?;
        }
        check::divides("num_key_value_heads", self.num_key_value_heads, "num_attention_heads", n)?;
        check::within("sliding_window", self.sliding_window, 0..=check::LARGEST, 512)?;
        check::within("max_window_layers", self.max_window_layers, 0..=self.num_hidden_layers, self.num_hidden_layers)?;
        self.rope_scaling.check(self.rope_theta)?;
        if self.positions == Positions::Alibi && self.rope_scaling != RopeScaling::default() {
            return Err("rope_scaling slows rotary positions, and positions is alibi; try positions = \"rotary\"".into());
        }
        check::dropout("dropout", self.dropout)?;
        check::within("rms_norm_eps", self.rms_norm_eps, 1e-12..=1.0, "1e-5")
    }

    fn hub() -> &'static [&'static str] {
        &["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"]
    }

    fn from_hub(c: &mut hub::Config) -> Result<Llama, String> {
        let family = Family::of(c.architecture()?);
        let usual = family.usual();
        c.one_of("hidden_act", &["silu", "swish"])?;
        // how products are cut to pieces, and what some published files say of themselves
        c.neutral(&["pretraining_tp", "is_llama_config"]);
        c.must("rope_interleaved", false)?;
        c.must("use_mrope", false)?;
        let num_attention_heads = c.size_or("num_attention_heads", usual.num_attention_heads)?;
        let as_many = family == Family::Llama || c.is_null("num_key_value_heads");
        let keys = if as_many { num_attention_heads } else { usual.num_key_value_heads };
        let max_position_embeddings = c.size_or("max_position_embeddings", usual.max_position_embeddings)?;
        let (rope_theta, rope_scaling) = RopeScaling::from_hub(c, usual.rope_theta, max_position_embeddings)?;
        let num_hidden_layers = c.size_or("num_hidden_layers", usual.num_hidden_layers)?;
        let (sliding_window, max_window_layers) = family.windows(c, num_hidden_layers)?;
        let biased = match family {
            Family::Llama | Family::Qwen3 => c.flag("attention_bias", false)?,
            Family::Mistral | Family::Qwen2 => c.must("attention_bias", family == Family::Qwen2).map(|()| false)?,
        };
        let (hidden_size, head_dim) = (c.size_or("hidden_size", usual.hidden_size)?, c.size_or("head_dim", usual.head_dim)?);
        let mlp_bias = if family == Family::Llama { c.flag("mlp_bias", false)? } else { c.must("mlp_bias", false).map(|()| false)? };
        Ok(Llama {
            vocab_size: c.size_or("vocab_size", usual.vocab_size)?,
            max_position_embeddings,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: c.size_or("num_key_value_heads", keys)?,
            // the stream's share need not be said
            head_dim: if head_dim.checked_mul(num_attention_heads) == Some(hidden_size) { 0 } else { head_dim },
            hidden_size,
            intermediate_size: c.size_or("intermediate_size", usual.intermediate_size)?,
            attention_bias: if biased { Biases::All } else { usual.attention_bias },
            mlp_bias,
            qk_norm: usual.qk_norm,
            sliding_window,
            max_window_layers,
            positions: Positions::Rotary,
            rope_theta,
            rms_norm_eps: c.number_or("rms_norm_eps", usual.rms_norm_eps)?,
            tie_word_embeddings: c.flag("tie_word_embeddings", false)?,
            dropout: c.number_or("attention_dropout", 0.0)?,
            rope_scaling,
        })
    }

    /// The plainest that has these settings.
    fn to_hub(&self) -> Result<hub::Written, String> {
        let family = self.family()?;
        let (architecture, model_type) = family.names();
        let to = hub::Written::new(architecture, model_type)
            .with("vocab_size", self.vocab_size)
            .with("max_position_embeddings", self.max_position_embeddings)
            .with("num_hidden_layers", self.num_hidden_layers)
            .with("num_attention_heads", self.num_attention_heads)
            .with("num_key_value_heads", self.num_key_value_heads)
            .with("hidden_size", self.hidden_size)
            .with("intermediate_size", self.intermediate_size)
            .with("head_dim", self.head_size())
            .with("hidden_act", "silu")
            .with("rms_norm_eps", self.rms_norm_eps)
            .with("attention_dropout", self.dropout)
            .with("tie_word_embeddings", self.tie_word_embeddings);
        let to = self.rope_scaling.written(to, self.rope_theta, self.head_size());
        let window = if self.sliding_window > 0 { Value::from(self.sliding_window) } else { Value::Null };
        Ok(match family {
            Family::Llama => to.with("attention_bias", self.attention_bias == Biases::All).with("mlp_bias", self.mlp_bias),
            Family::Mistral => to.with("sliding_window", window),
            Family::Qwen2 | Family::Qwen3 => {
                let to = if family == Family::Qwen3 { to.with("attention_bias", self.attention_bias == Biases::All) } else { to };
                let to = to.with("use_sliding_window", self.sliding_window > 0).with("max_window_layers", self.max_window_layers);
                to.with("sliding_window", window)
                    .with("layer_types", layer_types((0..self.num_hidden_layers).map(|i| i >= self.layers_without_window())))
            }
        })
    }
}

/// The models of `transformers` that these settings are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

impl Family {
    fn of(architecture: &str) -> Family {
        [Family::Mistral, Family::Qwen2, Family::Qwen3].into_iter().find(|f| f.names().0 == architecture).unwrap_or(Family::Llama)
    }

    /// What it is called there, and its type.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Family::Llama => ("LlamaForCausalLM", "llama"),
            Family::Mistral => ("MistralForCausalLM", "mistral"),
            Family::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
            Family::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
        }
    }

    /// What a file means that says nothing.
    fn usual(self) -> Llama {
        let llama = Llama {
            vocab_size: 32000,
            max_position_embeddings: 2048,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            num_key_value_heads: 32,
            hidden_size: 4096,
            intermediate_size: 11008,
            rms_norm_eps: 1e-6,
            ..Llama::default()
        };
        let qwen = Llama { vocab_size: 151_936, max_position_embeddings: 32768, intermediate_size: 22016, ..llama.clone() };
        match self {
            Family::Llama => llama,
            Family::Mistral => Llama { max_position_embeddings: 1 << 17, num_key_value_heads: 8, intermediate_size: 14336, ..llama },
            Family::Qwen2 => Llama { attention_bias: Biases::Qkv, ..qwen },
            Family::Qwen3 => Llama { head_dim: 128, qk_norm: true, ..qwen },
        }
    }

    /// The window, and how many layers have none.
    fn windows(self, c: &mut hub::Config, layers: usize) -> Result<(usize, usize), String> {
        let usual = if c.is_null("sliding_window") { 0 } else { 4096 };
        match self {
            Family::Llama => Ok((0, 0)),
            Family::Mistral => Ok((c.size_or("sliding_window", usual)?, 0)),
            Family::Qwen2 | Family::Qwen3 => {
                let window = c.size_or("sliding_window", usual)?;
                let window = if c.flag("use_sliding_window", false)? { window } else { 0 };
                let without = c.size_or("max_window_layers", 28)?.min(layers);
                let without = windowed(c, layers)?.map_or(Ok(without), |types| layers_without_window(&types, window))?;
                Ok(if without < layers && window > 0 { (window, without) } else { (0, 0) })
            }
        }
    }
}

/// How many layers, the first, have no window, of layers that have one or not.
fn layers_without_window(windowed: &[bool], window: usize) -> Result<usize, String> {
    let without = windowed.iter().take_while(|w| !**w).count();
    if let Some(i) = (without..windowed.len()).find(|i| !windowed[*i]) {
        return Err(format!("layer_types[{i}] is {FULL:?}, expected {SLIDING:?}: all layers behind the first with a window have one here"));
    }
    if without < windowed.len() && window == 0 {
        return Err(format!("layer_types[{without}] is {SLIDING:?}, and there is no window: use_sliding_window is false or sliding_window 0"));
    }
    Ok(without)
}

impl Llama {
    /// The width of a head.
    fn head_size(&self) -> usize {
        if self.head_dim > 0 { self.head_dim } else { self.hidden_size / self.num_attention_heads }
    }

    /// The plainest model of `transformers` that has these settings, or what none of them has.
    fn family(&self) -> Result<Family, String> {
        let none = |what: &str| Err(format!("{what}, and no model there has that"));
        let uneven = !self.hidden_size.is_multiple_of(self.num_attention_heads);
        match (self.positions, self.qk_norm, self.attention_bias) {
            (Positions::Alibi, ..) => none("positions is alibi"),
            (_, true, Biases::Qkv) => none("qk_norm is true and attention_bias is qkv"),
            (_, true, _) | (_, _, Biases::Qkv) if self.mlp_bias => none("mlp_bias is true beside qk_norm or attention_bias = \"qkv\""),
            (_, true, _) => Ok(Family::Qwen3),
            (_, _, Biases::Qkv) => Ok(Family::Qwen2),
            (_, _, bias) if self.sliding_window > 0 || uneven => match bias {
                _ if self.max_window_layers > 0 && self.sliding_window > 0 => {
                    none("max_window_layers is above 0 without qk_norm or attention_bias = \"qkv\"")
                }
                Biases::None if !self.mlp_bias => Ok(Family::Mistral),
                _ if uneven => none("num_attention_heads does not divide hidden_size and there are biases"),
                _ => none("there are biases beside sliding_window"),
            },
            _ => Ok(Family::Llama),
        }
    }

    /// How many layers, the first, have no window.
    fn layers_without_window(&self) -> usize {
        if self.sliding_window > 0 { self.max_window_layers } else { self.num_hidden_layers }
    }

    /// Blocks that are alike, and their window.
    fn layers(&self) -> Vec<(Layers, usize)> {
        let first = self.layers_without_window();
        let rest = Layers { first, count: self.num_hidden_layers - first, period: 1 };
        let all = [(Layers { count: first, ..Layers::from(0) }, 0), (rest, self.sliding_window)];
        all.into_iter().filter(|(layers, _)| layers.count > 0).collect()
    }

    fn embedding<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("model").at("embed_tokens").param("weight", [self.vocab_size, self.hidden_size])
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, stand: Stand<'g>, window: usize, place: Place<'g>) -> Made<'g> {
        let dropped = |y: Tensor<'g>, at: u32| dropout(s, y, self.dropout, place.key.map(|k| k + s.uint(at)));
        let (y, present) = self.attention(&s.at("self_attn"), self.norm(&s.at("input_layernorm"), x), stand, window, &place);
        let x = x + dropped(y, 1);
        Made::new(
            x + dropped(gated(&s.at("mlp"), self.norm(&s.at("post_attention_layernorm"), x), self.intermediate_size, self.mlp_bias), 2),
            present,
        )
    }

    fn norm<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        rms_norm(s, x, self.rms_norm_eps)
    }

    /// softmax(q kᵀ / √d, causal) v with rotated q and k, or slopes; a group of query heads shares one k and v
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, stand: Stand<'g>, window: usize, place: &Place<'g>) -> (Tensor<'g>, [Tensor<'g>; 2]) {
        let (n, kv, d) = (self.num_attention_heads, self.num_key_value_heads, self.head_size());
        let biased = self.attention_bias != Biases::None;
        let project = |name, n: usize| heads(projection(&s.at(name), x, n * d, biased), n, d); // [B, H, T, D]
        let placed = |name, x| {
            let x = if self.qk_norm { self.norm(&s.at(name), x) } else { x };
            if let Stand::Turned(by) = stand { rope(x, by) } else { x }
        };
        let q = placed("q_norm", project("q_proj", n));
        let (k, v) = (placed("k_norm", project("k_proj", kv)), project("v_proj", kv));
        let (y, present) = attend(s, [q, k, v], place, self.dropout, |x| {
            let x = x / (d as f64).sqrt();
            let x = if let Stand::Slopes(slopes) = stand { alibi(s, x, place, slopes) } else { x };
            seen(s, x, place, window)
        });
        (projection(&s.at("o_proj"), y, self.hidden_size, self.attention_bias == Biases::All), present)
    }
}
