//! Byte-pair encoding over bytes: Sennrich et al., 2016, as GPT-2 has it.
//!
//! A text is split into words, a word into bytes, and the pair of lowest rank becomes one token, again and again, the leftmost first.

mod encoder;
mod merges;
mod train;

pub use encoder::Encoder;
pub use merges::{Merges, Step};
pub use train::{Alphabet, Learned, Ties, learn};

use super::added::Added;
use super::split::Split;

/// A vocabulary of byte strings, and how text becomes ids of it.
#[derive(Clone, Debug)]
pub struct Bpe {
    /// How text becomes words.
    pub split: Split,
    /// The bytes of each id; nothing for an id that is none.
    pub tokens: Vec<Vec<u8>>,
    /// Which pairs become one.
    pub merges: Merges,
    /// Tokens that stand outside of words.
    pub added: Added,
}

impl Bpe {
    /// Number of ids, those that are none of a token among them.
    pub fn size(&self) -> usize {
        self.tokens.len()
    }

    /// An encoder, for a thread.
    pub fn encoder(&self) -> Encoder<'_> {
        Encoder::new(self)
    }

    /// The bytes of an id, if it is one.
    pub fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.tokens.get(id as usize).filter(|t| !t.is_empty()).map(Vec::as_slice)
    }
}
