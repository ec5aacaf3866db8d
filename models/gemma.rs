//! Gemma 1, 2 and 3 by settings (Gemma Team 2024, 2024, 2025), in primitive operations: RMSNorms whose gain is 1 + weight, also behind each
//! part; a scaled embedding; GELU-gated feed-forward parts; soft caps; layers with a window between layers without.
//!
//! Parameters have the names and layouts of Hugging Face's Gemma checkpoints.

use crate::architecture::{Architecture, Hidden, Kept, Layers, Made, Place, Reading, Shape};
use crate::attention::{attend, heads};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{dropout, gelu, linear, projection};
use crate::positions::{FULL, RopeScaling, SLIDING, layer_types, rope, rotation, seen, windowed};
use ir::{Scope, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Bound::{Excluded, Included};

/// The settings of a Gemma.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gemma {
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
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Scores are divided by the square root of this; 0 for the width of a head.
    pub query_pre_attn_scalar: usize,
    /// Scores lie within this on either side; 0 for no bound.
    pub attn_logit_softcapping: f64,
    /// Logits lie within this on either side; 0 for no bound.
    pub final_logit_softcapping: f64,
    /// Whether there is a norm behind each part, too, before it is added to the stream.
    pub sandwich_norms: bool,
    /// Whether there is a norm of each head's queries and keys.
    pub qk_norm: bool,
    /// Whether attention's projections have a bias.
    pub attention_bias: bool,
    /// How many tokens a token sees in a block with a window, itself among them; 0 where no block has one.
    pub sliding_window: usize,
    /// Of so many blocks the last has no window.
    pub sliding_window_pattern: usize,
    /// The longest wave length of the rotary positions is 2π times about this, in blocks without a window.
    pub rope_theta: f64,
    /// The same in blocks with a window, whose rates nothing slows; 0 for the same positions in all.
    pub rope_local_base_freq: f64,
    /// ε of RMSNorm.
    pub rms_norm_eps: f64,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Probability of dropout in training.
    pub dropout: f64,
    /// How rotary positions are slowed for longer contexts.
    pub rope_scaling: RopeScaling,
}

impl Default for Gemma {
    /// A Gemma 3 of 100M parameters, about the shape of GPT-2 small.
    fn default() -> Gemma {
        Gemma {
            vocab_size: 32000,
            max_position_embeddings: 1024,
            num_hidden_layers: 12,
            num_attention_heads: 4,
            num_key_value_heads: 1,
            head_dim: 256,
            hidden_size: 768,
            intermediate_size: 2048,
            query_pre_attn_scalar: 0,
            attn_logit_softcapping: 0.0,
            final_logit_softcapping: 0.0,
            sandwich_norms: true,
            qk_norm: true,
            attention_bias: false,
            sliding_window: 256,
            sliding_window_pattern: 6,
            rope_theta: 1e6,
            rope_local_base_freq: 10000.0,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            dropout: 0.0,
            rope_scaling: RopeScaling::default(),
        }
    }
}

/// The cosine and the sine of each position and pair.
type Turn<'g> = [Tensor<'g>; 2];

impl Architecture for Gemma {
    fn name() -> &'static str {
        "gemma"
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let turned = |theta, scaling: &RopeScaling| rotation(s, read.head_positions(s), theta, scaling, self.head_dim);
        let global = turned(self.rope_theta, &self.rope_scaling);
        let local = if self.rope_local_base_freq > 0.0 { turned(self.rope_local_base_freq, &RopeScaling::default()) } else { global };
        let x = read.embed(|ids| self.embedding(s).gather(ids) * (self.hidden_size as f64).sqrt()); // [B, T, C]
        let mut all = Hidden::from(dropout(s, x, self.dropout, read.key));
        for layers in self.layers() {
            let next = read.blocks(&s.at("model"), "layers", layers, all.x, |s, x, place| {
                let turn = if self.window(place.layer) > 0 { local } else { global };
                self.block(s, x, turn, place)
            });
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
        capped(x.contract("btc,vc->btv", words), self.final_logit_softcapping)
    }

    fn cache(&self) -> Vec<Kept> {
        let of = |layers| Kept::keys_and_values(layers, self.num_key_value_heads, self.max_position_embeddings, self.head_dim);
        self.layers().into_iter().flat_map(of).collect()
    }

    /// N(0, 0.02), residual projections scaled by 1/√(2 · layers), gains 1, which are weights 0, biases 0.
    fn init(&self, path: &str) -> Init {
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["bias", ..] => Init::Zeros,
            ["weight", "o_proj" | "down_proj", ..] => Init::Normal(0.02 / (2.0 * self.num_hidden_layers as f64).sqrt()),
            ["weight", module, ..] if module.ends_with("norm") => Init::Zeros,
            _ => Init::Normal(0.02),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.max_position_embeddings, dropout: self.dropout }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Gemma::default();
        let n = self.num_attention_heads;
        check::sizes(&[
            ("vocab_size", self.vocab_size, usual.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings, usual.max_position_embeddings),
            ("num_attention_heads", n, usual.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads, usual.num_key_value_heads),
            ("hidden_size", self.hidden_size, usual.hidden_size),
            ("intermediate_size", self.intermediate_size, usual.intermediate_size),
            ("sliding_window_pattern", self.sliding_window_pattern, usual.sliding_window_pattern),
        ])?;
        check::layers("num_hidden_layers", self.num_hidden_layers)?;
        check::within("head_dim", self.head_dim, 1..=check::LARGEST / n, usual.head_dim)?;
        check::turned(n, self.hidden_size, self.head_dim)?;
        check::divides("num_key_value_heads", self.num_key_value_heads, "num_attention_heads", n)?;
        check::within("query_pre_attn_scalar", self.query_pre_attn_scalar, 0..=check::LARGEST, self.head_dim)?;
        check::within("attn_logit_softcapping", self.attn_logit_softcapping, 0.0..=1e6, 50)?;
        check::within("final_logit_softcapping", self.final_logit_softcapping, 0.0..=1e6, 30)?;
        check::within("sliding_window", self.sliding_window, 0..=check::LARGEST, usual.sliding_window)?;
        if self.rope_local_base_freq != 0.0 {
            check::within("rope_local_base_freq", self.rope_local_base_freq, 1.0..=1e12, usual.rope_local_base_freq)?;
        }
        self.rope_scaling.check(self.rope_theta)?;
        check::dropout("dropout", self.dropout)?;
        check::within("rms_norm_eps", self.rms_norm_eps, (Excluded(0.0), Included(1.0)), "1e-6")
    }

    fn hub() -> &'static [&'static str] {
        &["GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM"]
    }

    fn from_hub(c: &mut hub::Config) -> Result<Gemma, String> {
        let family = Family::of(c.architecture()?);
        let usual = family.usual();
        family.activation(c)?;
        c.must("use_bidirectional_attention", false)?;
        // how keys and values are kept
        c.neutral(&["cache_implementation"]);
        let max_position_embeddings = c.size_or("max_position_embeddings", usual.max_position_embeddings)?;
        let num_hidden_layers = c.size_or("num_hidden_layers", usual.num_hidden_layers)?;
        let positions = family.positions(c, max_position_embeddings)?;
        let (sliding_window, sliding_window_pattern) = family.windows(c, num_hidden_layers)?;
        let cap = |c: &mut hub::Config, key: &str, usual: f64| if c.is_null(key) { Ok(0.0) } else { c.number_or(key, usual) };
        Ok(Gemma {
            vocab_size: c.size_or("vocab_size", usual.vocab_size)?,
            max_position_embeddings,
            num_hidden_layers,
            num_attention_heads: c.size_or("num_attention_heads", usual.num_attention_heads)?,
            num_key_value_heads: c.size_or("num_key_value_heads", usual.num_key_value_heads)?,
            head_dim: c.size_or("head_dim", usual.head_dim)?,
            hidden_size: c.size_or("hidden_size", usual.hidden_size)?,
            intermediate_size: c.size_or("intermediate_size", usual.intermediate_size)?,
            query_pre_attn_scalar: if family == Family::One { 0 } else { c.size_or("query_pre_attn_scalar", 256)? },
            attn_logit_softcapping: if family == Family::Two { cap(c, "attn_logit_softcapping", usual.attn_logit_softcapping)? } else { 0.0 },
            final_logit_softcapping: if family == Family::One { 0.0 } else { cap(c, "final_logit_softcapping", usual.final_logit_softcapping)? },
            attention_bias: c.flag("attention_bias", false)?,
            sliding_window,
            sliding_window_pattern,
            rope_theta: positions.theta,
            rope_local_base_freq: positions.local,
            rope_scaling: positions.scaling,
            rms_norm_eps: c.number_or("rms_norm_eps", usual.rms_norm_eps)?,
            tie_word_embeddings: c.flag("tie_word_embeddings", true)?,
            dropout: c.number_or("attention_dropout", 0.0)?,
            ..usual
        })
    }

    fn to_hub(&self) -> Result<hub::Written, String> {
        let family = self.family()?;
        let (architecture, model_type) = family.names();
        let to = hub::Written::new(architecture, model_type)
            .with("vocab_size", self.vocab_size)
            .with("max_position_embeddings", self.max_position_embeddings)
            .with("num_hidden_layers", self.num_hidden_layers)
            .with("num_attention_heads", self.num_attention_heads)
            .with("num_key_value_heads", self.num_key_value_heads)
            .with("head_dim", self.head_dim)
            .with("hidden_size", self.hidden_size)
            .with("intermediate_size", self.intermediate_size)
            .with("attention_bias", self.attention_bias)
            .with("attention_dropout", self.dropout)
            .with("rms_norm_eps", self.rms_norm_eps)
            .with("tie_word_embeddings", self.tie_word_embeddings)
            .with(if family == Family::One { "hidden_act" } else { "hidden_activation" }, TANH);
        if family == Family::One {
            return Ok(self.rope_scaling.written(to, self.rope_theta, self.head_dim));
        }
        let cap = |x: f64| if x > 0.0 { Value::from(x) } else { Value::Null };
        let to = to
            .with("query_pre_attn_scalar", self.scale())
            .with("attn_logit_softcapping", cap(self.attn_logit_softcapping))
            .with("final_logit_softcapping", cap(self.final_logit_softcapping))
            .with("sliding_window", if self.sliding_window > 0 { self.sliding_window } else { self.max_position_embeddings })
            .with("layer_types", layer_types((0..self.num_hidden_layers).map(|i| self.window(i) > 0)));
        if family == Family::Two {
            return Ok(self.rope_scaling.written(to, self.rope_theta, self.head_dim));
        }
        let global = self.rope_scaling.to_hub(self.rope_theta, self.head_dim);
        let local = match self.rope_local_base_freq {
            0.0 => global.clone(),
            theta => RopeScaling::default().to_hub(theta, self.head_dim),
        };
        Ok(to.with("rope_parameters", json!({ FULL: global, SLIDING: local })))
    }
}

impl Gemma {
    fn embedding<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("model").at("embed_tokens").param("weight", [self.vocab_size, self.hidden_size])
    }

    /// What scores are divided by the square root of.
    fn scale(&self) -> usize {
        if self.query_pre_attn_scalar > 0 { self.query_pre_attn_scalar } else { self.head_dim }
    }

    /// The window of a layer; 0 where it has none.
    fn window(&self, layer: usize) -> usize {
        if (layer + 1).is_multiple_of(self.sliding_window_pattern) { 0 } else { self.sliding_window }
    }

    /// Loops over layers that are alike: over whole patterns, then over those left, which all have a window.
    fn layers(&self) -> Vec<Layers> {
        let (n, period) = (self.num_hidden_layers, self.sliding_window_pattern);
        if self.sliding_window == 0 || period > n {
            return vec![n.into()];
        }
        let whole = n / period * period;
        let rest = Layers { first: whole, count: n - whole, period: 1 };
        [Layers::pattern(whole, period), rest].into_iter().filter(|layers| layers.count > 0).collect()
    }

    /// x / √(mean x² + ε) · (1 + weight)
    fn norm<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        x * ((x * x).mean() + self.rms_norm_eps).rsqrt() * (s.param("weight", [x.dim(-1)]) + 1.0)
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, turn: Turn<'g>, place: Place<'g>) -> Made<'g> {
        let dropped = |y: Tensor<'g>, at: u32| dropout(s, y, self.dropout, place.key.map(|k| k + s.uint(at)));
        let behind = |name, y| if self.sandwich_norms { self.norm(&s.at(name), y) } else { y };
        let (y, present) = self.attention(&s.at("self_attn"), self.norm(&s.at("input_layernorm"), x), turn, &place);
        // the norm between is behind the one part, or in front of the other
        let x = x + dropped(behind("post_attention_layernorm", y), 1);
        let before = if self.sandwich_norms { "pre_feedforward_layernorm" } else { "post_attention_layernorm" };
        let y = self.mlp(&s.at("mlp"), self.norm(&s.at(before), x));
        Made::new(x + dropped(behind("post_feedforward_layernorm", y), 2), present)
    }

    /// softmax(cap(q kᵀ / √d), causal or within the window) v with rotated q and k; a group of query heads shares one k and v
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, turn: Turn<'g>, place: &Place<'g>) -> (Tensor<'g>, [Tensor<'g>; 2]) {
        let (n, kv, d) = (self.num_attention_heads, self.num_key_value_heads, self.head_dim);
        let project = |name, n: usize| heads(projection(&s.at(name), x, n * d, self.attention_bias), n, d); // [B, H, T, D]
        let normed = |name, x| if self.qk_norm { self.norm(&s.at(name), x) } else { x };
        let q = rope(normed("q_norm", project("q_proj", n)), turn);
        let (k, v) = (rope(normed("k_norm", project("k_proj", kv)), turn), project("v_proj", kv));
        let (y, present) = attend(s, [q, k, v], place, self.dropout, |x| {
            let x = capped(x / (self.scale() as f64).sqrt(), self.attn_logit_softcapping);
            seen(s, x, place, self.window(place.layer))
        });
        (projection(&s.at("o_proj"), y, self.hidden_size, self.attention_bias), present)
    }

    /// (gelu(x W₁) ∘ x W₃) W₂
    fn mlp<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let gate = gelu(linear(&s.at("gate_proj"), x, self.intermediate_size));
        linear(&s.at("down_proj"), gate * linear(&s.at("up_proj"), x, self.intermediate_size), self.hidden_size)
    }

    /// Whether any layer has a window.
    fn has_windows(&self) -> bool {
        (0..self.num_hidden_layers).any(|i| self.window(i) > 0)
    }

    /// The model of `transformers` that has these settings, or what none of them has.
    fn family(&self) -> Result<Family, String> {
        let none = |what: &str| Err(format!("{what}, and no Gemma there has that"));
        let local = self.rope_local_base_freq > 0.0 && self.has_windows();
        let family = match (self.sandwich_norms, self.qk_norm) {
            (false, false) => Family::One,
            (true, false) => Family::Two,
            (true, true) => Family::Three,
            (false, true) => return none("qk_norm is true and sandwich_norms is false"),
        };
        if family == Family::One && (self.has_windows() || self.scale() != self.head_dim || self.final_logit_softcapping > 0.0) {
            return none("sandwich_norms is false beside a window, query_pre_attn_scalar or final_logit_softcapping");
        }
        if family != Family::Two && self.attn_logit_softcapping > 0.0 {
            return none("attn_logit_softcapping is above 0 without sandwich_norms or with qk_norm");
        }
        if family != Family::Three && local {
            return none("rope_local_base_freq is above 0 without qk_norm");
        }
        if family != Family::One && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return none("num_attention_heads does not divide hidden_size");
        }
        Ok(family)
    }
}

/// cap · tanh(x / cap), or x where the cap is 0
fn capped(x: Tensor, cap: f64) -> Tensor {
    if cap > 0.0 { (x / cap).tanh() * cap } else { x }
}

const TANH: &str = "gelu_pytorch_tanh";

/// The models of `transformers` that these settings are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    One,
    Two,
    Three,
}

/// Rotary positions of a file.
struct Rotary {
    theta: f64,
    local: f64,
    scaling: RopeScaling,
}

impl Family {
    fn of(architecture: &str) -> Family {
        [Family::Two, Family::Three].into_iter().find(|f| f.names().0 == architecture).unwrap_or(Family::One)
    }

    /// What it is called there, and its type.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Family::One => ("GemmaForCausalLM", "gemma"),
            Family::Two => ("Gemma2ForCausalLM", "gemma2"),
            Family::Three => ("Gemma3ForCausalLM", "gemma3_text"),
        }
    }

    /// What a file means that says nothing.
    fn usual(self) -> Gemma {
        let one = Gemma {
            vocab_size: 256_000,
            max_position_embeddings: 8192,
            num_hidden_layers: 28,
            num_attention_heads: 16,
            num_key_value_heads: 16,
            hidden_size: 3072,
            intermediate_size: 24576,
            sandwich_norms: false,
            qk_norm: false,
            ..Gemma::default()
        };
        let two = Gemma {
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            hidden_size: 2304,
            intermediate_size: 9216,
            attn_logit_softcapping: 50.0,
            final_logit_softcapping: 30.0,
            sandwich_norms: true,
            ..one.clone()
        };
        match self {
            Family::One => one,
            Family::Two => two,
            Family::Three => Gemma { vocab_size: 262_208, max_position_embeddings: 1 << 17, final_logit_softcapping: 0.0, qk_norm: true, ..two },
        }
    }

    /// The first files of Gemma 1 say `gelu` and mean its tanh form.
    fn activation(self, c: &mut hub::Config) -> Result<(), String> {
        let words: &[&str] = if self == Family::One { &[TANH, "gelu_new", "gelu"] } else { &[TANH, "gelu_new"] };
        c.one_of("hidden_act", words)?;
        c.one_of("hidden_activation", &[TANH, "gelu_new"])?;
        Ok(())
    }

    /// The window, and of how many blocks the last has none.
    fn windows(self, c: &mut hub::Config, layers: usize) -> Result<(usize, usize), String> {
        if self == Family::One {
            return Ok((0, 1));
        }
        let window = c.size_or("sliding_window", 4096)?;
        let written = c.size_or("_sliding_window_pattern", 6)?;
        let usual = if self == Family::Two { 2 } else { c.size_or("sliding_window_pattern", written)? };
        let pattern = windowed(c, layers)?.map_or(Ok(usual), |types| pattern_of(&types))?;
        if c.is_null("sliding_window") && pattern != 1 {
            return Err("sliding_window is null, and there are layers with a window: expected how many tokens they see".into());
        }
        Ok(if pattern == 1 { (0, 1) } else { (window, pattern) })
    }

    /// Where tokens stand, with a window and without.
    fn positions(self, c: &mut hub::Config, context: usize) -> Result<Rotary, String> {
        if self != Family::Three {
            let (theta, scaling) = RopeScaling::from_hub(c, 10000.0, context)?;
            return Ok(Rotary { theta, local: 0.0, scaling });
        }
        let (theta, local) = (c.number_or("rope_theta", 1e6)?, c.number_or("rope_local_base_freq", 1e4)?);
        let old = c.within("rope_scaling", |c| RopeScaling::within_hub(c, theta, context))?;
        let new = c.within("rope_parameters", |c| {
            let full = c.within(FULL, |c| RopeScaling::within_hub(c, theta, context))?;
            Ok((full, c.within(SLIDING, |c| RopeScaling::within_hub(c, local, context))?))
        })?;
        let (full, sliding) = new.unwrap_or((None, None));
        let (theta, scaling) = old.or(full).unwrap_or((theta, RopeScaling::default()));
        let sliding = sliding.unwrap_or((local, RopeScaling::default()));
        match sliding {
            same if same == (theta, scaling.clone()) => Ok(Rotary { theta, local: 0.0, scaling }),
            (local, RopeScaling::Default {}) => Ok(Rotary { theta, local, scaling }),
            _ => Err(format!("rope_parameters.{SLIDING}.rope_type slows layers with a window otherwise than those without: expected \"default\"")),
        }
    }
}

/// Of how many layers the last has no window: the shortest pattern that these layers are of, from the first on.
fn pattern_of(windowed: &[bool]) -> Result<usize, String> {
    let fits = |period: &usize| windowed.iter().enumerate().all(|(i, w)| *w != (i + 1).is_multiple_of(*period));
    let found = (1..=windowed.len() + 1).find(fits);
    found.ok_or_else(|| format!("layer_types is no pattern that this model has: expected {FULL:?} for every second, third, … and {SLIDING:?} else"))
}
