//! The loss of a text, in windows that overlap.

use super::ngram::Counting;
use super::rows::Request;
use crate::data::Tokens;
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use std::ops::Range;

/// Windows over the tokens of a text. Each token is asked once: the first window asks all it has, each further one the last `stride` of its
/// tokens, by all the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Number of tokens.
    pub tokens: u64,
    /// How many are read at once.
    pub context: u64,
    /// How many a window asks.
    pub stride: u64,
    /// The number of the first that is asked: 1, or 0 where something stands before the text.
    pub first: u64,
}

impl Windows {
    /// Checks the stride.
    pub fn new(tokens: u64, context: usize, stride: usize, begins: bool) -> Result<Windows> {
        if !(1..=context).contains(&stride) {
            return Err(Error(format!("a stride of {stride}: expected 1 to {context}, the tokens that the model reads at once")));
        }
        Ok(Windows { tokens, context: context as u64, stride: stride as u64, first: u64::from(!begins) })
    }

    /// How many tokens are asked.
    pub fn asked(&self) -> u64 {
        self.tokens.saturating_sub(self.first)
    }

    /// Number of windows.
    pub fn count(&self) -> u64 {
        match self.asked() {
            0 => 0,
            n => 1 + n.saturating_sub(self.context).div_ceil(self.stride),
        }
    }

    /// Of a window of a number below that: the tokens that are read or asked, and how many of them are asked. What stands before the text is none
    /// of them.
    pub fn nth(&self, number: u64) -> (Range<u64>, u64) {
        let end = |k: u64| self.tokens.min(self.first + self.context + k * self.stride);
        let (from, to) = (if number == 0 { self.first } else { end(number - 1) }, end(number));
        ((to - 1).saturating_sub(self.context)..to, to - from)
    }
}

/// How well a text was guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TextLoss {
    /// −Σ log p, in nats.
    pub nats: f64,
    /// Tokens that were asked.
    pub tokens: u64,
    /// Bytes that they stand for.
    pub bytes: u64,
}

impl TextLoss {
    /// Nats a token.
    pub fn loss(&self) -> f64 {
        self.nats / self.tokens.max(1) as f64
    }

    /// e to the loss.
    pub fn perplexity(&self) -> f64 {
        self.loss().exp()
    }

    /// Bits a byte of the text, which is comparable whatever the tokens.
    pub fn bits_per_byte(&self) -> f64 {
        self.nats / std::f64::consts::LN_2 / self.bytes.max(1) as f64
    }

    /// Both together.
    pub fn and(self, other: TextLoss) -> TextLoss {
        TextLoss { nats: self.nats + other.nats, tokens: self.tokens + other.tokens, bytes: self.bytes + other.bytes }
    }
}

/// Windows that are asked at once: as many as a few runs read, so that a long corpus is never in memory.
const TOGETHER: u64 = 256;

/// The loss of a text whose tokens `read` gives by range, and `score` asks for. `begin` stands before it, so that its first token is asked,
/// too.
pub fn text_loss(
    windows: &Windows,
    begin: Option<i32>,
    tokenizer: &Tokenizer,
    read: &dyn Fn(Range<u64>) -> Result<Vec<i32>>,
    score: &mut dyn FnMut(&[Request]) -> Result<f64>,
) -> Result<TextLoss> {
    let mut all = TextLoss::default();
    let mut number = 0;
    while number < windows.count() {
        let next = windows.count().min(number + TOGETHER);
        let request = |k: u64| {
            let (range, asked) = windows.nth(k);
            let before = begin.filter(|_| range.start == 0 && range.end <= windows.context);
            Ok(Request { tokens: before.into_iter().chain(read(range)?).collect(), asked: asked as usize })
        };
        let requests: Vec<Request> = (number..next).map(request).collect::<Result<_>>()?;
        let asked: Vec<i32> = requests.iter().flat_map(|r| &r.tokens[r.tokens.len() - r.asked..]).copied().collect();
        all = all.and(TextLoss { nats: -score(&requests)?, tokens: asked.len() as u64, bytes: bytes_of(tokenizer, &asked).len() as u64 });
        number = next;
    }
    Ok(all)
}

/// Tokens that are counted at a time.
const PART: u64 = 1 << 16;

/// What counting would do with the same text, by the n-grams of another part: of the tokens where those are characters or bytes, else of
/// bytes, whose bits are comparable.
pub struct Counted {
    counting: Counting,
    /// The symbols before the first that is asked.
    first: usize,
    symbols: usize,
    /// What they are called.
    pub what: &'static str,
    /// What is asked, without its loss.
    asked: TextLoss,
}

impl Counted {
    /// Counts. `train` is there to be learned from.
    pub fn new(windows: &Windows, tokenizer: &Tokenizer, asked: &Tokens, train: &[&Tokens]) -> Result<Counted> {
        let bytes = matches!(tokenizer, Tokenizer::Subword(_));
        let symbols = |ids: Vec<i32>| if bytes { bytes_of(tokenizer, &ids).into_iter().map(i32::from).collect() } else { ids };
        let ids = asked.read(0..windows.tokens)?;
        let whole = bytes_of(tokenizer, &ids).len();
        let before = bytes_of(tokenizer, &ids[..ids.len().min(windows.first as usize)]).len();
        let first = if bytes { before } else { windows.first as usize };
        let asked = TextLoss { nats: 0.0, tokens: windows.asked(), bytes: (whole - before) as u64 };
        let mut counting = Counting::of(symbols(ids));
        for tokens in train {
            for start in (0..tokens.count()).step_by(PART as usize) {
                counting.learn(&symbols(tokens.read(start..tokens.count().min(start + PART))?));
            }
        }
        let what = if matches!(tokenizer, Tokenizer::Char { .. }) { "characters" } else { "bytes" };
        Ok(Counted { counting, first, symbols: if bytes { 256 } else { tokenizer.size() }, what, asked })
    }

    /// What n-grams of a length of 1 to [`ORDERS`](super::ORDERS) say of the text.
    pub fn loss(&self, order: usize) -> TextLoss {
        TextLoss { nats: self.counting.nats(order, self.first, self.symbols), ..self.asked }
    }
}

fn bytes_of(tokenizer: &Tokenizer, ids: &[i32]) -> Vec<u8> {
    let mut bytes = vec![];
    ids.iter().for_each(|id| tokenizer.bytes(*id, &mut bytes));
    bytes
}
