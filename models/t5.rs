//! T5 (Raffel et al. 2020): an encoder and a decoder that sees what it made, with scores that depend on distance, in primitive operations.
//!
//! Parameters have the names and layouts of Hugging Face's T5 checkpoints.

use crate::activation::Activation;
use crate::architecture::{Architecture, Hidden, Kept, Kind, Made, Place, Reading, Shape};
use crate::attention::{attend_to, heads};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{beside, dropout, linear, rms_norm};
use ir::{DType, Scope, Tensor};
use serde::{Deserialize, Serialize};

/// The settings of a T5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct T5 {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest text, of either side. Positions are distances, so no parameter depends on it.
    pub n_positions: usize,
    /// Number of the encoder's blocks.
    pub num_layers: usize,
    /// Number of the decoder's blocks.
    pub num_decoder_layers: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of a head.
    pub d_kv: usize,
    /// Width inside the feed-forward part.
    pub d_ff: usize,
    /// What stands between the feed-forward part's products.
    pub activation: Activation,
    /// Whether that is multiplied with a product of its own.
    pub gated: bool,
    /// Number of kinds of distances that are told apart.
    pub relative_attention_num_buckets: usize,
    /// Distances from this one on are alike.
    pub relative_attention_max_distance: usize,
    /// ε of RMSNorm.
    pub layer_norm_epsilon: f64,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Whether what the decoder made is divided by √d_model before it.
    pub scale_decoder_outputs: bool,
    /// Probability of dropout in training.
    pub dropout: f64,
}

impl Default for T5 {
    /// T5 small: 60,506,624 parameters.
    fn default() -> T5 {
        T5 {
            vocab_size: 32128,
            n_positions: 512,
            num_layers: 6,
            num_decoder_layers: 6,
            num_heads: 8,
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            activation: Activation::Relu,
            gated: false,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            tie_word_embeddings: true,
            scale_decoder_outputs: true,
            dropout: 0.0,
        }
    }
}

/// Which half of the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Encoder,
    Decoder,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Encoder => "encoder",
            Side::Decoder => "decoder",
        }
    }
}

impl Architecture for T5 {
    fn name() -> &'static str {
        "t5"
    }

    fn kind(&self) -> Kind {
        Kind::EncoderDecoder
    }

    fn encode<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Option<Tensor<'g>> {
        Some(self.stack(s, read, Side::Encoder, self.num_layers).x)
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        self.stack(s, read, Side::Decoder, self.num_decoder_layers)
    }

    fn source<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Vec<Tensor<'g>> {
        s.at("decoder").scan("block", self.num_decoder_layers, x, &[], |s, x, _| (x, self.keys_and_values(&cross(s), x).to_vec())).1
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let x = if self.scale_decoder_outputs { x / (self.d_model as f64).sqrt() } else { x };
        let words = if self.tie_word_embeddings { self.words(s) } else { s.at("lm_head").param("weight", [self.vocab_size, self.d_model]) };
        x.contract("btc,vc->btv", words)
    }

    fn cache(&self) -> Vec<Kept> {
        Kept::keys_and_values(self.num_decoder_layers, self.num_heads, self.n_positions, self.d_kv)
    }

    fn source_cache(&self) -> Vec<Kept> {
        Kept::of_source(self.num_decoder_layers, self.num_heads, self.n_positions, self.d_kv)
    }

    /// Each product begins with outputs as large as its inputs, queries with scores of 1, for these are not divided.
    fn init(&self, path: &str) -> Init {
        let inverse_root = |n: usize| Init::Normal(1.0 / (n as f64).sqrt());
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["weight", "layer_norm" | "final_layer_norm", ..] => Init::Ones,
            ["weight", "q", ..] => inverse_root(self.d_model * self.d_kv),
            ["weight", "o", ..] => inverse_root(self.num_heads * self.d_kv),
            ["weight", "wo", ..] => inverse_root(self.d_ff),
            ["weight", "k" | "v" | "wi" | "wi_0" | "wi_1" | "relative_attention_bias", ..] => inverse_root(self.d_model),
            _ => Init::Normal(1.0),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.n_positions, dropout: self.dropout }
    }

    fn check(&self) -> Result<(), String> {
        let usual = T5::default();
        check::sizes(&[
            ("vocab_size", self.vocab_size, usual.vocab_size),
            ("n_positions", self.n_positions, usual.n_positions),
            ("num_heads", self.num_heads, usual.num_heads),
            ("d_model", self.d_model, usual.d_model),
            ("d_kv", self.d_kv, usual.d_kv),
            ("d_ff", self.d_ff, usual.d_ff),
        ])?;
        check::layers("num_layers", self.num_layers)?;
        check::layers("num_decoder_layers", self.num_decoder_layers)?;
        check::within("relative_attention_num_buckets", self.relative_attention_num_buckets, 4..=256, 32)?;
        let exact = self.relative_attention_num_buckets / 2;
        check::within("relative_attention_max_distance", self.relative_attention_max_distance, exact + 1..=1 << 16, 4 * exact)?;
        check::within("layer_norm_epsilon", self.layer_norm_epsilon, 1e-12..=1.0, "1e-6")?;
        check::dropout("dropout", self.dropout)
    }

    fn hub() -> &'static [&'static str] {
        &["T5ForConditionalGeneration"]
    }

    /// Whether the output projection is the embedding follows from the tensors where those are known, as transformers 5 has it: `false` once
    /// said that it is not and that its input is not scaled, and what is written today says the second alone.
    fn from_hub(c: &mut hub::Config) -> Result<T5, String> {
        c.must("is_encoder_decoder", true)?;
        // what follows from others, how parameters start, and other tasks' heads
        c.neutral(&["dense_act_fn", "is_gated_act", "initializer_factor", "classifier_dropout", "output_past"]);
        let tied = c.flag("tie_word_embeddings", true)?;
        let usual = T5::default();
        let num_layers = c.size_or("num_layers", usual.num_layers)?;
        let (gated, activation) = match c.one_of("feed_forward_proj", FEED_FORWARD)?.split_once('-') {
            // a gate's GELU has always been the tanh form
            Some((_, "gelu")) => (true, Activation::GeluTanh),
            Some((_, activation)) => (true, activation.parse()?),
            None => (false, c.one_of("feed_forward_proj", FEED_FORWARD)?.parse()?),
        };
        Ok(T5 {
            vocab_size: c.size_or("vocab_size", usual.vocab_size)?,
            n_positions: c.size_or("n_positions", usual.n_positions)?,
            num_layers,
            num_decoder_layers: c.size_or("num_decoder_layers", num_layers)?,
            num_heads: c.size_or("num_heads", usual.num_heads)?,
            d_model: c.size_or("d_model", usual.d_model)?,
            d_kv: c.size_or("d_kv", usual.d_kv)?,
            d_ff: c.size_or("d_ff", usual.d_ff)?,
            activation,
            gated,
            relative_attention_num_buckets: c.size_or("relative_attention_num_buckets", usual.relative_attention_num_buckets)?,
            relative_attention_max_distance: c.size_or("relative_attention_max_distance", usual.relative_attention_max_distance)?,
            layer_norm_epsilon: c.number_or("layer_norm_epsilon", usual.layer_norm_epsilon)?,
            tie_word_embeddings: c.tensor("lm_head.weight").map_or(tied, |own| !own),
            scale_decoder_outputs: c.flag("scale_decoder_outputs", tied)?,
            dropout: c.number_or("dropout_rate", 0.1)?,
        })
    }

    fn to_hub(&self) -> Result<hub::Written, String> {
        let feed_forward = match (self.gated, self.activation) {
            (true, Activation::Gelu) => return Err("activation is gelu and gated is true, and there a gate's is gelu_new".into()),
            (true, Activation::GeluTanh) => "gated-gelu".into(),
            (true, activation) => format!("gated-{activation}"),
            (false, activation) => activation.to_string(),
        };
        Ok(hub::Written::new("T5ForConditionalGeneration", "t5")
            .with("is_encoder_decoder", true)
            .with("vocab_size", self.vocab_size)
            .with("n_positions", self.n_positions)
            .with("num_layers", self.num_layers)
            .with("num_decoder_layers", self.num_decoder_layers)
            .with("num_heads", self.num_heads)
            .with("d_model", self.d_model)
            .with("d_kv", self.d_kv)
            .with("d_ff", self.d_ff)
            .with("feed_forward_proj", feed_forward)
            .with("relative_attention_num_buckets", self.relative_attention_num_buckets)
            .with("relative_attention_max_distance", self.relative_attention_max_distance)
            .with("layer_norm_epsilon", self.layer_norm_epsilon)
            .with("tie_word_embeddings", self.tie_word_embeddings)
            .with("scale_decoder_outputs", self.scale_decoder_outputs)
            .with("dropout_rate", self.dropout))
    }
}

/// How `feed_forward_proj` may say what the feed-forward part is.
const FEED_FORWARD: &[&str] =
    &["relu", "gated-gelu", "gated-silu", "gated-relu", "gated-gelu_new", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "swish"];

impl T5 {
    /// The embedding of tokens.
    fn words<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("shared").param("weight", [self.vocab_size, self.d_model])
    }

    /// What one side makes of tokens.
    fn stack<'g>(&self, s: &Scope<'g>, read: &Reading<'g>, side: Side, layers: usize) -> Hidden<'g> {
        let at = s.at(side.name());
        let x = dropout(s, self.words(s).gather(read.tokens), self.dropout, read.key);
        let bias = self.bias(&at.at("block.0.layer.0.SelfAttention"), read, side);
        let made = read.blocks(&at, "block", layers, x, |s, x, place| self.block(s, x, bias, &place, side));
        let x = rms_norm(&at.at("final_layer_norm"), made.x, self.layer_norm_epsilon);
        Hidden { x: dropout(s, x, self.dropout, read.key.map(|k| k + s.uint(1))), ..made }
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, bias: Tensor<'g>, place: &Place<'g>, side: Side) -> Made<'g> {
        let own = s.at("layer.0.SelfAttention");
        let y = self.normed(&s.at("layer.0"), x);
        let [k, v] = self.keys_and_values(&own, y);
        let [k, v] = place.with_past(k, v);
        let mut x = x + self.attention(&own, y, [k, v], place, 0, |scores| {
            let scores = scores + bias;
            if side == Side::Encoder { place.there(s, scores) } else { place.visible(s, scores) }
        });
        if side == Side::Decoder {
            let (other, y) = (cross(s), self.normed(&s.at("layer.1"), x));
            let of_source = place.of_source(|source| self.keys_and_values(&other, source));
            x = x + self.attention(&other, y, of_source, place, 2, |scores| place.in_source(s, scores));
        }
        let last = s.at(if side == Side::Encoder { "layer.1" } else { "layer.2" });
        Made::new(x + self.feed_forward(&last.at("DenseReluDense"), self.normed(&last, x), place), [k, v])
    }

    fn normed<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        rms_norm(&s.at("layer_norm"), x, self.layer_norm_epsilon)
    }

    /// x Wᵀ by heads: [B, H, T, D]
    fn heads<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        heads(linear(s, x, self.num_heads * self.d_kv), self.num_heads, self.d_kv)
    }

    fn keys_and_values<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> [Tensor<'g>; 2] {
        ["k", "v"].map(|name| self.heads(&s.at(name), x))
    }

    /// softmax(f(q kᵀ)) v, projected; scores are not divided. Its places of dropout are `n` and the next.
    fn attention<'g>(
        &self,
        s: &Scope<'g>,
        x: Tensor<'g>,
        [k, v]: [Tensor<'g>; 2],
        place: &Place<'g>,
        n: u32,
        f: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let key = |n: u32| place.key.map(|k| k + s.uint(n));
        let y = attend_to(s, [self.heads(&s.at("q"), x), k, v], key(n), self.dropout, f);
        dropout(s, linear(&s.at("o"), y, self.d_model), self.dropout, key(n + 1))
    }

    /// act(x W₁) W₂, or (act(x W₁) ∘ x W₃) W₂
    fn feed_forward<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, place: &Place<'g>) -> Tensor<'g> {
        let key = |n: u32| place.key.map(|k| k + s.uint(n));
        let inner = |name| linear(&s.at(name), x, self.d_ff);
        let y = if self.gated { self.activation.of(s, inner("wi_0")) * inner("wi_1") } else { self.activation.of(s, inner("wi")) };
        dropout(s, linear(&s.at("wo"), dropout(s, y, self.dropout, key(4)), self.d_model), self.dropout, key(5))
    }

    /// What is added to scores, by the kind of distance from who asks to who is seen: [1, H, T, S], or [B, H, T, S] where each row has its
    /// own position.
    fn bias<'g>(&self, s: &Scope<'g>, read: &Reading<'g>, side: Side) -> Tensor<'g> {
        let t = read.tokens.dim(-1);
        // as many keys as there is room for what is kept
        let keys = read.past.as_ref().map_or(t, |past| past.tensors[0].1.dim(-2));
        let query = s.iota(-2, t);
        let query = read.past.as_ref().map_or(query, |past| beside(past.position, 2) + query);
        let kind = self.kinds(s, (s.iota(-1, keys) - query).cast(DType::F32), side); // [T, S] or [B, T, S]
        let table = s.at("relative_attention_bias").param("weight", [self.relative_attention_num_buckets, self.num_heads]);
        let rows = read.past.as_ref().map_or(1usize.into(), |past| past.position.dim(-1));
        table.gather(kind).reshape((rows, t, keys, self.num_heads)).transpose(&[0, 3, 1, 2])
    }

    /// The kind of each distance, counted forwards. An encoder tells before from behind, and gives half of the kinds to each; a decoder sees
    /// nothing behind.
    fn kinds<'g>(&self, s: &Scope<'g>, distance: Tensor<'g>, side: Side) -> Tensor<'g> {
        let (number, zero) = (|n: usize| s.num(n as f64), s.num(0.0));
        let (kinds, far, behind) = match side {
            Side::Encoder => {
                let half = self.relative_attention_num_buckets / 2;
                (half, distance.abs(), Some(zero.lt(distance).select(number(half), zero)))
            }
            Side::Decoder => (self.relative_attention_num_buckets, (-distance).maximum(zero), None),
        };
        let exact = kinds / 2;
        let near = far.minimum(number(exact));
        let thresholds = thresholds(kinds, self.relative_attention_max_distance);
        let kind = thresholds.into_iter().fold(near, |kind, n| kind + number(n).le(far).select(s.num(1.0), zero));
        behind.map_or(kind, |behind| kind + behind).cast(DType::I32)
    }
}

/// The distances at which each further kind begins, of those that are no kind of their own: half of all are, from 0 on; the others have
/// equal shares of the logarithm, up to the longest.
///
/// The numbers are computed in 32 bits as where the published weights were trained, for they decide on which side a power falls.
fn thresholds(kinds: usize, longest: usize) -> Vec<usize> {
    let exact = kinds / 2;
    let whole = (longest as f64 / exact as f64).ln() as f32;
    let kind = |n: usize| ((n as f32 / exact as f32).ln() / whole * (kinds - exact) as f32) as usize;
    let reaches = |n: usize| (exact..=2 * longest).find(|distance| kind(*distance) >= n).expect("the longest distance is of the last kind");
    (1..kinds - exact).map(reaches).collect()
}

/// Where a block's attention over the source has its parameters.
fn cross<'g>(s: &Scope<'g>) -> Scope<'g> {
    s.at("layer.1.EncDecAttention")
}
