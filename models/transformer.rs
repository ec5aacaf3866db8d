//! The Transformer (Vaswani et al. 2017): an encoder, and a decoder that sees what it made, in primitive operations.
//!
//! Parameters have the names and layouts of Hugging Face's Marian checkpoints, which are of this form. As there, and as in the paper's own
//! program, a position's sines come before its cosines; the paper's text takes turns, which is the same in another order of the width.

use crate::activation::Activation;
use crate::architecture::{Architecture, Hidden, Kept, Kind, Made, Place, Reading, Shape};
use crate::attention::{attend_to, heads};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{dropout, layer_norm, projection};
use ir::{DType, Dim, Dims, Scope, Tensor};
use serde::{Deserialize, Serialize};

/// The settings of a Transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transformer {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest text, of either side.
    pub max_position_embeddings: usize,
    /// Number of the encoder's blocks.
    pub encoder_layers: usize,
    /// Number of the decoder's blocks.
    pub decoder_layers: usize,
    /// Number of the encoder's attention heads.
    pub encoder_attention_heads: usize,
    /// Number of the decoder's attention heads.
    pub decoder_attention_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width inside the encoder's feed-forward part.
    pub encoder_ffn_dim: usize,
    /// Width inside the decoder's feed-forward part.
    pub decoder_ffn_dim: usize,
    /// What stands between the feed-forward part's products.
    pub activation: Activation,
    /// Whether embeddings are multiplied with √d_model.
    pub scale_embedding: bool,
    /// Whether each token's logit has a number of its own added.
    pub logits_bias: bool,
    /// Probability of dropout in training.
    pub dropout: f64,
}

impl Default for Transformer {
    /// The paper's base model, with 37,000 tokens: 63,082,496 parameters.
    fn default() -> Transformer {
        Transformer {
            vocab_size: 37000,
            max_position_embeddings: 512,
            encoder_layers: 6,
            decoder_layers: 6,
            encoder_attention_heads: 8,
            decoder_attention_heads: 8,
            d_model: 512,
            encoder_ffn_dim: 2048,
            decoder_ffn_dim: 2048,
            activation: Activation::Relu,
            scale_embedding: true,
            logits_bias: false,
            dropout: 0.0,
        }
    }
}

const EPS: f64 = 1e-5;

impl Architecture for Transformer {
    fn name() -> &'static str {
        "transformer"
    }

    fn kind(&self) -> Kind {
        Kind::EncoderDecoder
    }

    fn encode<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Option<Tensor<'g>> {
        let at = s.at("model.encoder");
        Some(read.blocks(&at, "layers", self.encoder_layers, self.embedded(s, read), |s, x, place| self.encoder_block(s, x, &place)).x)
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let at = s.at("model.decoder");
        read.blocks(&at, "layers", self.decoder_layers, self.embedded(s, read), |s, x, place| self.decoder_block(s, x, &place))
    }

    fn source<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Vec<Tensor<'g>> {
        let kept = |s: &Scope<'g>, x| self.keys_and_values(&s.at("encoder_attn"), x, self.decoder_attention_heads).to_vec();
        s.at("model.decoder").scan("layers", self.decoder_layers, x, &[], |s, x, _| (x, kept(s, x))).1
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let logits = x.contract("btc,vc->btv", self.words(s));
        if self.logits_bias { logits + s.param("final_logits_bias", [1, self.vocab_size]) } else { logits }
    }

    fn cache(&self) -> Vec<Kept> {
        Kept::keys_and_values(self.decoder_layers, self.decoder_attention_heads, self.max_position_embeddings, self.decoder_head())
    }

    fn source_cache(&self) -> Vec<Kept> {
        Kept::of_source(self.decoder_layers, self.decoder_attention_heads, self.max_position_embeddings, self.decoder_head())
    }

    /// Glorot's, as the paper's program has it, of which the deviation is √(2 / (in + out)); embeddings N(0, 1/√d_model), norms 1, biases 0.
    fn init(&self, path: &str) -> Init {
        let glorot = |inner: usize| Init::Normal((2.0 / (self.d_model + inner) as f64).sqrt());
        let inner = if path.contains(".encoder.") { self.encoder_ffn_dim } else { self.decoder_ffn_dim };
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["bias" | "final_logits_bias", ..] => Init::Zeros,
            ["weight", "shared", ..] => Init::Normal(1.0 / (self.d_model as f64).sqrt()),
            ["weight", norm, ..] if norm.ends_with("layer_norm") => Init::Ones,
            ["weight", "fc1" | "fc2", ..] => glorot(inner),
            _ => glorot(self.d_model),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.max_position_embeddings, dropout: self.dropout }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Transformer::default();
        check::sizes(&[
            ("vocab_size", self.vocab_size, usual.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings, usual.max_position_embeddings),
            ("encoder_attention_heads", self.encoder_attention_heads, usual.encoder_attention_heads),
            ("decoder_attention_heads", self.decoder_attention_heads, usual.decoder_attention_heads),
            ("d_model", self.d_model, usual.d_model),
            ("encoder_ffn_dim", self.encoder_ffn_dim, usual.encoder_ffn_dim),
            ("decoder_ffn_dim", self.decoder_ffn_dim, usual.decoder_ffn_dim),
        ])?;
        check::layers("encoder_layers", self.encoder_layers)?;
        check::layers("decoder_layers", self.decoder_layers)?;
        check::divides("encoder_attention_heads", self.encoder_attention_heads, "d_model", self.d_model)?;
        check::divides("decoder_attention_heads", self.decoder_attention_heads, "d_model", self.d_model)?;
        check::dropout("dropout", self.dropout)
    }

    fn hub() -> &'static [&'static str] {
        &["MarianMTModel"]
    }

    fn from_hub(c: &mut hub::Config) -> Result<Transformer, String> {
        for must in ["is_encoder_decoder", "share_encoder_decoder_embeddings", "tie_word_embeddings", "static_position_embeddings"] {
            c.must(must, true)?;
        }
        for must_not in ["normalize_before", "normalize_embedding", "add_final_layer_norm", "add_bias_logits"] {
            c.must(must_not, false)?;
        }
        let usual = Transformer::default();
        let (vocab_size, encoder_layers) = (c.size_or("vocab_size", 58101)?, c.size_or("encoder_layers", 12)?);
        c.must("decoder_vocab_size", vocab_size)?;
        // dropout and how parameters start, a copy of encoder_layers, and other tasks' heads
        c.neutral(&["attention_dropout", "activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "init_std", "num_hidden_layers"]);
        c.neutral(&["classif_dropout", "classifier_dropout"]);
        Ok(Transformer {
            vocab_size,
            max_position_embeddings: c.size_or("max_position_embeddings", 1024)?,
            encoder_layers,
            decoder_layers: c.size_or("decoder_layers", 12)?,
            encoder_attention_heads: c.size_or("encoder_attention_heads", 16)?,
            decoder_attention_heads: c.size_or("decoder_attention_heads", 16)?,
            d_model: c.size_or("d_model", 1024)?,
            encoder_ffn_dim: c.size_or("encoder_ffn_dim", 4096)?,
            decoder_ffn_dim: c.size_or("decoder_ffn_dim", 4096)?,
            activation: c.one_of("activation_function", &["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"])?.parse()?,
            scale_embedding: c.flag("scale_embedding", false)?,
            logits_bias: c.tensor("final_logits_bias").unwrap_or(true),
            dropout: c.number_or("dropout", usual.dropout)?,
        })
    }

    fn to_hub(&self) -> Result<hub::Written, String> {
        if !self.logits_bias {
            return Err("logits_bias is false, and there each token's logit has a number added".into());
        }
        Ok(hub::Written::new("MarianMTModel", "marian")
            .with("is_encoder_decoder", true)
            .with("vocab_size", self.vocab_size)
            .with("decoder_vocab_size", self.vocab_size)
            .with("max_position_embeddings", self.max_position_embeddings)
            .with("encoder_layers", self.encoder_layers)
            .with("decoder_layers", self.decoder_layers)
            .with("encoder_attention_heads", self.encoder_attention_heads)
            .with("decoder_attention_heads", self.decoder_attention_heads)
            .with("d_model", self.d_model)
            .with("encoder_ffn_dim", self.encoder_ffn_dim)
            .with("decoder_ffn_dim", self.decoder_ffn_dim)
            .with("activation_function", self.activation.name())
            .with("scale_embedding", self.scale_embedding)
            .with("dropout", self.dropout)
            .with("attention_dropout", self.dropout))
    }
}

impl Transformer {
    /// The width of a head of the decoder.
    fn decoder_head(&self) -> usize {
        self.d_model / self.decoder_attention_heads
    }

    /// The embedding of tokens, which is also the output projection.
    fn words<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("model.shared").param("weight", [self.vocab_size, self.d_model])
    }

    /// √C · token + position. [B, T, C]
    fn embedded<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Tensor<'g> {
        let words = self.words(s).gather(read.tokens);
        let words = if self.scale_embedding { words * (self.d_model as f64).sqrt() } else { words };
        dropout(s, words + self.waves(s, read.positions(s)), self.dropout, read.key)
    }

    /// Of each position p the sines of p · 10000^(−2i/C), then the cosines. [.., T] to [.., T, C]
    fn waves<'g>(&self, s: &Scope<'g>, positions: Tensor<'g>) -> Tensor<'g> {
        let c = self.d_model;
        let column: Dims = positions.ty().dims.into_iter().chain([Dim::ONE]).collect();
        let position = positions.reshape(column).cast(DType::F32);
        let angles = |n: usize| position * (s.iota(-1, n).cast(DType::F32) * (-2.0 * 10000f64.ln() / c as f64)).exp();
        let sines = angles(c.div_ceil(2)).sin();
        if c == 1 { sines } else { sines.concat(-1, angles(c / 2).cos()) }
    }

    fn encoder_block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, place: &Place<'g>) -> Made<'g> {
        let (own, heads) = (s.at("self_attn"), self.encoder_attention_heads);
        let y = self.attention(&own, x, self.keys_and_values(&own, x, heads), place, 0, |scores| place.there(s, scores));
        let x = self.added(&s.at("self_attn_layer_norm"), x, y, place, 1);
        Made::new(self.feed_forward(s, x, self.encoder_ffn_dim, place), [])
    }

    fn decoder_block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, place: &Place<'g>) -> Made<'g> {
        let (own, other, heads) = (s.at("self_attn"), s.at("encoder_attn"), self.decoder_attention_heads);
        let [k, v] = self.keys_and_values(&own, x, heads);
        let [k, v] = place.with_past(k, v);
        let y = self.attention(&own, x, [k, v], place, 0, |scores| place.visible(s, scores));
        let x = self.added(&s.at("self_attn_layer_norm"), x, y, place, 1);
        let of_source = place.of_source(|source| self.keys_and_values(&other, source, heads));
        let y = self.attention(&other, x, of_source, place, 2, |scores| place.in_source(s, scores));
        let x = self.added(&s.at("encoder_attn_layer_norm"), x, y, place, 3);
        Made::new(self.feed_forward(s, x, self.decoder_ffn_dim, place), [k, v])
    }

    /// LayerNorm(x + y), where y may be dropped.
    fn added<'g>(&self, norm: &Scope<'g>, x: Tensor<'g>, y: Tensor<'g>, place: &Place<'g>, n: u32) -> Tensor<'g> {
        layer_norm(norm, x + dropout(norm, y, self.dropout, place.key.map(|k| k + norm.uint(n))), EPS)
    }

    /// LayerNorm(x + act(x W₁ + b₁) W₂ + b₂)
    fn feed_forward<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, inner: usize, place: &Place<'g>) -> Tensor<'g> {
        let y = self.activation.of(s, projection(&s.at("fc1"), x, inner, true));
        self.added(&s.at("final_layer_norm"), x, projection(&s.at("fc2"), y, self.d_model, true), place, 4)
    }

    /// x Wᵀ + b by heads: [B, H, T, D]
    fn heads<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, n: usize) -> Tensor<'g> {
        heads(projection(s, x, self.d_model, true), n, self.d_model / n)
    }

    fn keys_and_values<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, n: usize) -> [Tensor<'g>; 2] {
        ["k_proj", "v_proj"].map(|name| self.heads(&s.at(name), x, n))
    }

    /// softmax(mask(q kᵀ / √d)) v, projected. Its place of dropout is `n`.
    fn attention<'g>(
        &self,
        s: &Scope<'g>,
        x: Tensor<'g>,
        [k, v]: [Tensor<'g>; 2],
        place: &Place<'g>,
        n: u32,
        mask: impl FnOnce(Tensor<'g>) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let heads = k.dim(-3).value().map_or(1, |n| n as usize);
        let (q, key) = (self.heads(&s.at("q_proj"), x, heads), place.key.map(|k| k + s.uint(n)));
        let root = ((self.d_model / heads) as f64).sqrt();
        let y = attend_to(s, [q, k, v], key, self.dropout, |scores| mask(scores / root));
        projection(&s.at("out_proj"), y, self.d_model, true)
    }
}
