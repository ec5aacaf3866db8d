//! A text into the words that byte-pair encoding works within.
//!
//! Each splitting is one of the regular expressions that tokenizers in use have, as a function by hand: an expression with look-ahead is
//! several times slower. [`Split::pattern`] is the expression, and the tests hold the function to it.

mod classes;
mod gpt2;
mod gpt4;
mod gpt4o;

use classes::{NUMBER, Text};
use serde::{Deserialize, Serialize};

/// How text becomes words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Split {
    /// Not at all: the whole text is one word.
    None,
    /// GPT-2's: contractions, letters, digits, the rest, each with a space before it.
    #[default]
    Gpt2,
    /// GPT-2's within pieces that hold no digit; each digit is a word (StarCoder, SmolLM).
    Gpt2Digits,
    /// GPT-4's (cl100k): up to three digits, line ends with what is before them, any sign before letters.
    Gpt4,
    /// The same, but for spaces at the end of a text (Llama 3).
    Llama3,
    /// The same with each digit a word (Qwen 2).
    Qwen2,
    /// GPT-4o's (o200k): words begin with capitals.
    Gpt4o,
}

ir::spell!(
    Split,
    "splitting",
    [None "none", Gpt2 "gpt2", Gpt2Digits "gpt2-digits", Gpt4 "gpt4", Llama3 "llama3", Qwen2 "qwen2", Gpt4o "gpt4o"]
);

/// What the expressions of GPT-4's family share: contractions before, line ends and spaces behind.
macro_rules! gpt4_like {
    ($digits:literal, $end:literal) => {
        concat!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|", $digits, r"| ?[^\s\p{L}\p{N}]+[\r\n]*|", $end, r"\s*[\r\n]+|\s+(?!\S)|\s+")
    };
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const GPT4: &str = gpt4_like!(r"\p{N}{1,3}", r"\s+\z|");
const LLAMA3: &str = gpt4_like!(r"\p{N}{1,3}", "");
const QWEN2: &str = gpt4_like!(r"\p{N}", "");
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
/// Other ways in which expressions of the same meaning are written.
const ALIASES: [(Split, &str); 2] = [
    (Split::Gpt2, r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"),
    (Split::Gpt4, r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"),
];

impl Split {
    /// The regular expression whose matches, one after another, are the words; none where one expression is not enough.
    pub fn pattern(self) -> Option<&'static str> {
        match self {
            Split::None | Split::Gpt2Digits => None,
            Split::Gpt2 => Some(GPT2),
            Split::Gpt4 => Some(GPT4),
            Split::Llama3 => Some(LLAMA3),
            Split::Qwen2 => Some(QWEN2),
            Split::Gpt4o => Some(GPT4O),
        }
    }

    /// The splitting of an expression, if it is a known one.
    pub fn of_pattern(pattern: &str) -> Option<Split> {
        let alias = ALIASES.iter().find(|a| a.1 == pattern).map(|a| a.0);
        alias.or_else(|| Split::ALL.iter().copied().find(|s| s.pattern() == Some(pattern)))
    }

    /// The words of a text: all of it, in order.
    pub fn words(self, text: &str) -> Words<'_> {
        Words { split: self, text: Text::of(text), at: 0, to: 0 }
    }

    /// The last place at or before `limit` where a text may be cut without changing its words, if there is one after its start: between
    /// two words of Latin letters, or after a line. It is the same whatever follows.
    pub fn cut(self, text: &str, limit: usize) -> Option<usize> {
        if self == Split::None {
            return None;
        }
        let bytes = text.as_bytes();
        let letter = |at: usize| bytes[at].is_ascii_alphabetic();
        let between = |at: usize| {
            // every splitting ends a word of letters before a space, and begins the next with it
            let space = bytes[at] == b' ' && letter(at - 1) && letter(at + 1);
            // white space of one character is a word, or belongs to the signs before it
            space || (bytes[at - 1] == b'\n' && letter(at) && bytes[at - 2].is_ascii_graphic())
        };
        (2..limit.min(bytes.len().saturating_sub(1))).rev().find(|at| between(*at))
    }
}

/// The words of a text.
pub struct Words<'t> {
    split: Split,
    text: Text<'t>,
    at: usize,
    /// The end of the piece that is split by itself: the text, but where digits stand apart.
    to: usize,
}

impl<'t> Iterator for Words<'t> {
    type Item = &'t str;

    fn next(&mut self) -> Option<&'t str> {
        let (at, text) = (self.at, self.text);
        if at == text.len() {
            return None;
        }
        if at == self.to {
            self.to = self.piece();
        }
        let piece = text.up_to(self.to);
        self.at = match self.split {
            Split::None => text.len(),
            Split::Gpt2 | Split::Gpt2Digits => gpt2::end(piece, at),
            Split::Gpt4 => gpt4::end(piece, at, 3, true),
            Split::Llama3 => gpt4::end(piece, at, 3, false),
            Split::Qwen2 => gpt4::end(piece, at, 1, false),
            Split::Gpt4o => gpt4o::end(piece, at),
        };
        Some(text.slice(at, self.at))
    }
}

impl Words<'_> {
    /// Where the piece that begins here ends.
    fn piece(&self) -> usize {
        if self.split != Split::Gpt2Digits {
            return self.text.len();
        }
        let (class, n) = self.text.class(self.at);
        if class & NUMBER != 0 { self.at + n } else { self.text.run(self.at, !NUMBER) }
    }
}
