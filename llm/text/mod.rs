//! Text to ids and back.

mod decoder;
mod file;
mod tokenizer;

pub use decoder::Decoder;
pub use tokenizer::{Kind, Tokenizer};
