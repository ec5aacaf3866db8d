//! GPT-2: a decoder-only transformer, in primitive operations (Radford et al. 2019).
//!
//! Nothing here is fused; the compiler finds attention, LayerNorm, GELU and cross-entropy in this arithmetic.
//! Parameters have the names and layouts of Hugging Face's GPT-2 checkpoints.

use crate::init::Init;
use crate::layers::{Past, affine, causal, dropout, gelu, layer_norm, softmax};
use ir::{DType, Scope, Tensor};
use serde::{Deserialize, Serialize};

/// The shape of a GPT.
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
    /// Probability of dropout in training.
    pub dropout: f64,
}

impl Default for Gpt {
    /// GPT-2 small: 124,439,808 parameters.
    fn default() -> Gpt {
        Gpt { vocab_size: 50257, n_positions: 1024, n_layer: 12, n_head: 12, n_embd: 768, dropout: 0.0 }
    }
}

const EPS: f64 = 1e-5;

impl Gpt {
    /// What the blocks make of tokens [B, T], [B, T, C]. `key` seeds dropout; without one nothing is dropped.
    pub fn hidden<'g>(&self, s: &Scope<'g>, tokens: Tensor<'g>, key: Option<Tensor<'g>>) -> Tensor<'g> {
        let root = s.at("transformer");
        let x = dropout(s, self.embed(&root, tokens, s.iota(-1, tokens.dim(-1))), self.dropout, key); // [B, T, C]
        match key {
            None => root.layers("h", self.n_layer, x, |s, x| self.block(s, x, None, None).0),
            Some(key) => {
                let layer = s.iota(-1, self.n_layer).cast(DType::U32);
                root.layers_with("h", self.n_layer, x, &[layer], |s, x, own| self.block(s, x, Some(key + (own[0] + s.uint(1)) * s.uint(8)), None).0)
            }
        }
    }

    /// Logits [B, T, V] of what the blocks made, [B, T, C].
    pub fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let root = s.at("transformer");
        let words = root.at("wte").param("weight", [self.vocab_size, self.n_embd]);
        layer_norm(&root.at("ln_f"), x, EPS).contract("btc,vc->btv", words)
    }

    /// Logits of one token a sequence, `tokens` [B, 1] at `position`, with keys and values of the tokens before it in `past`.
    pub fn step<'g>(&self, s: &Scope<'g>, tokens: Tensor<'g>, position: Tensor<'g>, past: [Tensor<'g>; 2]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let root = s.at("transformer");
        let x = self.embed(&root, tokens, position.reshape([1usize]));
        let (x, present) = root.scan("h", self.n_layer, x, &past, |s, x, own| {
            let (x, present) = self.block(s, x, None, Some(Past { k: own[0], v: own[1], position }));
            (x, present.to_vec())
        });
        (self.head(s, x), present)
    }

    /// Keys and values that `step` remembers, each [layers, B, H, S, D].
    pub fn past_shape(&self) -> [usize; 4] {
        [self.n_layer, self.n_head, self.n_positions, self.n_embd / self.n_head]
    }

    fn embed<'g>(&self, s: &Scope<'g>, tokens: Tensor<'g>, positions: Tensor<'g>) -> Tensor<'g> {
        let words = s.at("wte").param("weight", [self.vocab_size, self.n_embd]);
        let places = s.at("wpe").param("weight", [self.n_positions, self.n_embd]);
        words.gather(tokens) + places.gather(positions)
    }

    fn block<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, key: Option<Tensor<'g>>, past: Option<Past<'g>>) -> (Tensor<'g>, [Tensor<'g>; 2]) {
        let (y, present) = self.attention(&s.at("attn"), layer_norm(&s.at("ln_1"), x, EPS), key, past);
        let x = x + y;
        (x + self.mlp(&s.at("mlp"), layer_norm(&s.at("ln_2"), x, EPS), key), present)
    }

    /// softmax(q kᵀ / √d, causal) v, per head
    fn attention<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, key: Option<Tensor<'g>>, past: Option<Past<'g>>) -> (Tensor<'g>, [Tensor<'g>; 2]) {
        let (b, t, d) = (x.dim(-3), x.dim(-2), self.n_embd / self.n_head);
        let heads = |x: Tensor<'g>| x.reshape((b, t, self.n_head, d)).transpose(&[0, 2, 1, 3]); // [B, H, T, D]
        let [q, k, v] = affine(&s.at("c_attn"), x, 3 * self.n_embd).chunks().map(heads);
        let [k, v] = past.map_or([k, v], |p| p.with(s, k, v));
        let scores = q.contract("bhtd,bhsd->bhts", k) / (d as f64).sqrt();
        let scores = past.map_or_else(|| causal(s, scores), |p| p.mask(s, scores));
        let weights = dropout(s, softmax(scores), self.dropout, key); // [B, H, T, T]
        let y = weights.contract("bhts,bhsd->bhtd", v).transpose(&[0, 2, 1, 3]).reshape((b, t, self.n_embd));
        (dropout(s, affine(&s.at("c_proj"), y, self.n_embd), self.dropout, key.map(|k| k + s.uint(1))), [k, v])
    }

    /// gelu(x W₁ + b₁) W₂ + b₂
    fn mlp<'g>(&self, s: &Scope<'g>, x: Tensor<'g>, key: Option<Tensor<'g>>) -> Tensor<'g> {
        let y = gelu(affine(&s.at("c_fc"), x, 4 * self.n_embd));
        dropout(s, affine(&s.at("c_proj"), y, self.n_embd), self.dropout, key.map(|k| k + s.uint(2)))
    }

    /// GPT-2's initialisation: N(0, 0.02), residual projections scaled by 1/√(2 · layers).
    pub fn init(&self, name: &str) -> Init {
        match name.rsplit('.').collect::<Vec<_>>()[..] {
            ["bias", ..] => Init::Zeros,
            ["weight", "ln_1" | "ln_2" | "ln_f", ..] => Init::Ones,
            ["weight", "c_proj", ..] => Init::Normal(0.02 / (2.0 * self.n_layer as f64).sqrt()),
            _ => Init::Normal(0.02),
        }
    }

    /// Why this is not a model, if it is not.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("n_positions", self.n_positions),
            ("n_layer", self.n_layer),
            ("n_head", self.n_head),
            ("n_embd", self.n_embd),
        ];
        crate::positive(&positive)?;
        crate::layers("n_layer", self.n_layer)?;
        crate::divides("n_head", self.n_head, "n_embd", self.n_embd)?;
        if (0.0..1.0).contains(&self.dropout) { Ok(()) } else { Err(format!("dropout is {}, expected at least 0 and below 1", self.dropout)) }
    }

    /// What one training step costs in floating-point operations: 6 a parameter and token, and attention's share (Chowdhery et al. 2022, appendix B).
    pub fn flops_a_token(&self, context: usize) -> f64 {
        let c = self.n_embd as f64;
        let products = self.n_layer as f64 * 12.0 * c * c + self.vocab_size as f64 * c;
        6.0 * products + 12.0 * self.n_layer as f64 * c * context as f64 / 2.0
    }
}
