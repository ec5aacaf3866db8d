//! Programs in primitive operations. Models depend on `ir` alone and name no fused op.

mod gpt;
mod init;
pub mod layers;
mod llama;
pub mod losses;

pub use gpt::Gpt;
pub use init::Init;
pub use llama::Llama;

use ir::{Builder, DType, Dim, Graph, ModelErrors, Scope, Tensor};
use serde::{Deserialize, Serialize};

/// A model of this crate, with its shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "arch", rename_all = "lowercase")]
pub enum Model {
    /// GPT-2.
    Gpt(Gpt),
    /// Llama.
    Llama(Llama),
}

/// The names `by_name` knows.
pub const NAMES: [&str; 2] = ["gpt2", "llama"];

/// A model at its default size.
pub fn by_name(name: &str) -> Option<Model> {
    match name {
        "gpt2" => Some(Model::Gpt(Gpt::default())),
        "llama" => Some(Model::Llama(Llama::default())),
        _ => None,
    }
}

impl Model {
    /// What the blocks make of tokens `i32[B,T]`: [B, T, C]. `key`, a `u32`, seeds dropout; without one nothing is dropped.
    pub fn hidden<'g>(&self, s: &Scope<'g>, tokens: Tensor<'g>, key: Option<Tensor<'g>>) -> Tensor<'g> {
        match self {
            Model::Gpt(m) => m.hidden(s, tokens, key),
            Model::Llama(m) => m.hidden(s, tokens),
        }
    }

    /// Logits [B, T, V] of what the blocks made.
    pub fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        match self {
            Model::Gpt(m) => m.head(s, x),
            Model::Llama(m) => m.head(s, x),
        }
    }

    /// The probability of dropout in training.
    pub fn dropout(&self) -> f64 {
        match self {
            Model::Gpt(m) => m.dropout,
            Model::Llama(_) => 0.0,
        }
    }

    /// The program for one token a sequence: inputs `input_ids` `i32[B,1]` and `position` `i32`, state `past.k` and `past.v`, outputs
    /// `logits` and the new state.
    pub fn step_graph(&self) -> Result<Graph, ModelErrors> {
        let b = Builder::default();
        let s = b.scope();
        let batch = Dim::sym('B');
        let tokens = s.input("input_ids", DType::I32, (batch, Dim::ONE));
        let position = s.input("position", DType::I32, [] as [Dim; 0]);
        let [layers, heads, length, depth] = match self {
            Model::Gpt(m) => m.past_shape(),
            Model::Llama(m) => m.past_shape(),
        };
        let past = ["k", "v"].map(|name| s.at("past").param(name, (Dim::from(layers), batch, Dim::from(heads), Dim::from(length), Dim::from(depth))));
        let (logits, present) = match self {
            Model::Gpt(m) => m.step(&s, tokens, position, past),
            Model::Llama(m) => m.step(&s, tokens, position, past),
        };
        b.output("logits", logits);
        b.output("@past.k", present[0]);
        b.output("@past.v", present[1]);
        b.finish()
    }

    /// How a parameter starts.
    pub fn init(&self, name: &str) -> Init {
        match self {
            Model::Gpt(m) => m.init(name),
            Model::Llama(m) => m.init(name),
        }
    }

    /// Why this is not a model, if it is not.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Model::Gpt(m) => m.check(),
            Model::Llama(m) => m.check(),
        }
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        match self {
            Model::Gpt(m) => m.vocab_size,
            Model::Llama(m) => m.vocab_size,
        }
    }

    /// Longest context.
    pub fn context(&self) -> usize {
        match self {
            Model::Gpt(m) => m.n_positions,
            Model::Llama(m) => m.max_position_embeddings,
        }
    }

    /// Floating-point operations of a training step, a token.
    pub fn flops_a_token(&self, context: usize) -> f64 {
        match self {
            Model::Gpt(m) => m.flops_a_token(context),
            Model::Llama(m) => m.flops_a_token(context),
        }
    }
}

fn positive(fields: &[(&str, usize)]) -> Result<(), String> {
    match fields.iter().find(|f| !(1..=1 << 24).contains(&f.1)) {
        Some((name, value)) => Err(format!("{name} is {value}, expected 1 to {}", 1 << 24)),
        None => Ok(()),
    }
}

/// Layers are unrolled to calls, so their number is bounded.
fn layers(name: &str, n: usize) -> Result<(), String> {
    if n <= 4096 { Ok(()) } else { Err(format!("{name} is {n}, expected at most 4096")) }
}

fn divides(small_name: &str, small: usize, name: &str, n: usize) -> Result<(), String> {
    if n.is_multiple_of(small) { Ok(()) } else { Err(format!("{small_name} is {small} and does not divide {name}, which is {n}")) }
}
