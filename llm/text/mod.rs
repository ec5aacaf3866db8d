//! Text to ids and back.

mod tokenizer;

pub use tokenizer::{Kind, Tokenizer};
