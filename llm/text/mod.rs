//! Tokenizers.

mod added;
mod alphabet;
mod blocks;
mod bpe;
mod count;
mod decoder;
mod file;
mod hf;
mod learn;
mod ranks;
mod split;
mod subword;
mod template;
mod tokenizer;
mod unigram;

pub use added::{Added, AddedToken, Found, Specials};
pub use blocks::Blocks;
pub use bpe::{Alphabet, Bpe, Encoder, Learned, Merges, Step as MergeStep, Ties, learn as learn_merges};
pub use count::{Counted, Splitter, WordCounts};
pub use decoder::Decoder;
pub use hf::{Engine, Wrapped};
pub use learn::{Algorithm, END_OF_TEXT, Learning};
pub use split::{Split, Words};
pub use subword::Subword;
pub use template::Template;
pub use tokenizer::{Kind, TextEncoder, Tokenizer};
