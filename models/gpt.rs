//! GPT-2: a decoder-only transformer, in primitive operations (Radford et al. 2019); by settings also nanoGPT's form, without biases.
//!
//! Nothing here is fused; the compiler finds attention, LayerNorm, GELU and cross-entropy in this arithmetic.
//! Parameters have the names and layouts of Hugging Face's GPT-2 checkpoints.

use crate::activation::Activation;
use crate::architecture::{Architecture, Hidden, Kept, Made, Place, Reading, Shape};
use crate::attention::{attend, heads};
use crate::check;
use crate::hub;
use crate::init::Init;
use crate::layers::{affine, dropout, layer_norm, plain_affine, plain_layer_norm};
use ir::{Scope, Tensor};
use serde::{Deserialize, Serialize};

/// The settings of a GPT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpt {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest context, the number of learned positions.
    pub n_positions: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Number of attention heads.
    pub n_head: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width inside the feed-forward part; 0 for four times that of the residual stream.
    pub n_inner: usize,
    /// The function inside the feed-forward part.
    pub activation: Activation,
    /// Whether projections and norms have a bias.
    pub bias: bool,
    /// ε of LayerNorm.
    pub layer_norm_epsilon: f64,
    /// Whether the output projection is the embedding.
    pub tie_word_embeddings: bool,
    /// Probability of dropout in training.
    pub dropout: f64,
    /// Standard deviation that projections start with.
    pub initializer_range: f64,
    /// Standard deviation that embeddings of tokens and positions start with.
    pub embedding_range: f64,
}

impl Default for Gpt {
    /// GPT-2 small: 124,439,808 parameters.
    fn default() -> Gpt {
        Gpt {
            vocab_size: 50257,
            n_positions: 1024,
            n_layer: 12,
            n_head: 12,
            n_embd: 768,
            n_inner: 0,
            activation: Activation::GeluTanh,
            bias: true,
            layer_norm_epsilon: 1e-5,
            tie_word_embeddings: true,
            dropout: 0.0,
            initializer_range: 0.02,
            embedding_range: 0.02,
        }
    }
}

impl Architecture for Gpt {
    fn name() -> &'static str {
        "gpt2"
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let (root, positions) = (s.at("transformer"), read.positions(s));
        let (words, places) = (self.words(s), root.at("wpe").param("weight", [self.n_positions, self.n_embd]));
        let x = read.embed(|ids| words.gather(ids)) + places.gather(positions); // [B, T, C]
        read.blocks(&root, "h", self.n_layer, dropout(s, x, self.dropout, read.key), |s, x, place| self.block(s, x, place))
    }

    fn normed<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.norm(&s.at("transformer").at("ln_f"), x)
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let words = if self.tie_word_embeddings { self.words(s) } else { s.at("lm_head").param("weight", [self.vocab_size, self.n_embd]) };
        self.normed(s, x).contract("btc,vc->btv", words)
    }

    fn cache(&self) -> Vec<Kept> {
        Kept::keys_and_values(self.n_layer, self.n_head, self.n_positions, self.n_embd / self.n_head)
    }

    /// GPT-2's initialisation: N(0, 0.02) unless said, residual projections scaled by 1/√(2 · layers).
    fn init(&self, path: &str) -> Init {
        match path.rsplit('.').collect::<Vec<_>>()[..] {
            ["bias", ..] => Init::Zeros,
            ["weight", "ln_1" | "ln_2" | "ln_f", ..] => Init::Ones,
            ["weight", "c_proj", ..] => Init::Normal(self.initializer_range / (2.0 * self.n_layer as f64).sqrt()),
            ["weight", "wte" | "wpe", ..] => Init::Normal(self.embedding_range),
            _ => Init::Normal(self.initializer_range),
        }
    }

    fn shape(&self) -> Shape {
        Shape { vocabulary: self.vocab_size, context: self.n_positions, dropout: self.dropout }
    }

    fn check(&self) -> Result<(), String> {
        let usual = Gpt::default();
        check::sizes(&[
            ("vocab_size", self.vocab_size, usual.vocab_size),
            ("n_positions", self.n_positions, usual.n_positions),
            ("n_head", self.n_head, usual.n_head),
            ("n_embd", self.n_embd, usual.n_embd),
        ])?;
        check::layers("n_layer", self.n_layer)?;
        check::divides("n_head", self.n_head, "n_embd", self.n_embd)?;
        check::within("n_inner", self.n_inner, 0..=check::LARGEST, 4 * self.n_embd)?;
        check::within("layer_norm_epsilon", self.layer_norm_epsilon, 1e-12..=1.0, "1e-5")?;
        check::within("initializer_range", self.initializer_range, 0.0..=10.0, "0.02")?;
        check::within("embedding_range", self.embedding_range, 0.0..=10.0, "0.02")?;
        check::dropout("dropout", self.dropout)
    }

    fn hub() -> &'static [&'static str] {
        &["GPT2LMHeadModel"]
    }

    fn from_hub(c: &mut hub::Config) -> Result<Gpt, String> {
        c.must("scale_attn_weights", true)?;
        c.must("scale_attn_by_inverse_layer_idx", false)?;
        // the same products in another type, a copy of n_positions, and other heads' settings
        c.neutral(&["reorder_and_upcast_attn", "n_ctx", "summary_activation", "summary_first_dropout"]);
        c.neutral(&["summary_proj_to_labels", "summary_type", "summary_use_proj", "embd_pdrop", "attn_pdrop"]);
        let (n_embd, n_inner) = (c.size_or("n_embd", 768)?, c.size_or("n_inner", 0)?);
        Ok(Gpt {
            vocab_size: c.size_or("vocab_size", 50257)?,
            n_positions: c.size_or("n_positions", 1024)?,
            n_layer: c.size_or("n_layer", 12)?,
            n_head: c.size_or("n_head", 12)?,
            n_embd,
            // the usual width need not be said
            n_inner: if n_embd.checked_mul(4) == Some(n_inner) { 0 } else { n_inner },
            activation: c.one_of("activation_function", &["gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu"])?.parse()?,
            // of nanoGPT's models: transformers takes zeros for what is not there
            bias: c.flag("bias", true)?,
            layer_norm_epsilon: c.number_or("layer_norm_epsilon", 1e-5)?,
            tie_word_embeddings: c.flag("tie_word_embeddings", true)?,
            dropout: c.number_or("resid_pdrop", 0.1)?,
            ..Gpt::default()
        })
    }

    fn to_hub(&self) -> Result<hub::Written, String> {
        if !self.bias {
            return Err("bias is false, and GPT-2 has biases there".into());
        }
        let sizes = hub::Written::new("GPT2LMHeadModel", "gpt2")
            .with("vocab_size", self.vocab_size)
            .with("n_positions", self.n_positions)
            .with("n_layer", self.n_layer)
            .with("n_head", self.n_head)
            .with("n_embd", self.n_embd)
            .with("n_inner", self.inner())
            .with("layer_norm_epsilon", self.layer_norm_epsilon)
            .with("activation_function", self.activation.name())
            .with("tie_word_embeddings", self.tie_word_embeddings);
        Ok(["embd_pdrop", "attn_pdrop", "resid_pdrop"].iter().fold(sizes, |w, key| w.with(key, self.dropout)))
    }
}

impl Gpt {
    /// The embedding of tokens, which is also the head's projection.
    fn words<'g>(&self, s: &Scope<'g>) -> Tensor<'g> {
        s.at("transformer").at("wte").param("weight", [self.vocab_size, self.n_embd])
    }

    /// The width inside the feed-forward part.
    fn inner(&self) -> usize {
        if self.n_inner > 0 { self.n_inner } else { 4 * self.n_embd }
    }

    fn norm<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if self.bias { layer_norm(s, x, self.layer_norm_epsilon) } else { plain_layer_norm(s, x, self.layer_norm_epsilon) }
    }

    fn project<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, width: usize) -> Tensor<'g> {
        if self.bias { affine(s, x, width) } else { plain_affine(s, x, width) }
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, place: Place<'g>) -> Made<'g> {
        let (y, present) = self.attention(&s.at("attn"), self.norm(&s.at("ln_1"), x), &place);
        let x = x + y;
        Made::new(x + self.mlp(&s.at("mlp"), self.norm(&s.at("ln_2"), x), place.key), present)
    }

    /// softmax(q kᵀ / √d, causal) v, per head
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, place: &Place<'g>) -> (Tensor<'g>, [Tensor<'g>; 2]) {
        let d = self.n_embd / self.n_head;
        let qkv = self.project(&s.at("c_attn"), x, 3 * self.n_embd).chunks().map(|x| heads(x, self.n_head, d)); // [B, H, T, D]
        let (y, present) = attend(s, qkv, place, self.dropout, |scores| place.visible(s, scores / (d as f64).sqrt()));
        (dropout(s, self.project(&s.at("c_proj"), y, self.n_embd), self.dropout, place.key.map(|k| k + s.uint(1))), present)
    }

    /// gelu(x W₁ + b₁) W₂ + b₂
    fn mlp<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, key: Option<Tensor<'g>>) -> Tensor<'g> {
        let x = self.project(&s.at("c_fc"), x, self.inner());
        let y = self.activation.of(s, x);
        dropout(s, self.project(&s.at("c_proj"), y, self.n_embd), self.dropout, key.map(|k| k + s.uint(2)))
    }
}
