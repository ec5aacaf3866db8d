//! A context and what follows it as tokens, as lm-evaluation-harness has them.

use super::rows::Request;
use crate::error::{Error, Result};
use crate::hub::Generation;
use crate::text::{Specials, Tokenizer};

/// How pairs of texts become tokens.
pub struct Seam<'t> {
    tokenizer: &'t Tokenizer,
    /// The token that stands before a text with nothing before it.
    prefix: i32,
    /// What the tokenizer puts before a text.
    before: Vec<i32>,
    /// The most tokens that are read.
    context: usize,
}

impl<'t> Seam<'t> {
    /// Of a tokenizer and what is known of texts that a model writes, which says what they begin with; else that is what ends one. Fails where there is no such token.
    pub fn of(tokenizer: &'t Tokenizer, generation: &Generation, context: usize) -> Result<Seam<'t>> {
        let known = generation.begin.or(generation.end.first().copied()).or(tokenizer.end_of_text());
        let first = || tokenizer.encode(&tokenizer.start()).ok()?.first().copied();
        let none = || Error("the tokenizer has no token that a text could begin with".into());
        Ok(Seam::new(tokenizer, known.or_else(first).ok_or_else(none)?, context))
    }

    /// Of a tokenizer. `prefix` stands before what has no context.
    pub fn new(tokenizer: &'t Tokenizer, prefix: i32, context: usize) -> Seam<'t> {
        Seam { tokenizer, prefix, before: tokenizer.template().before, context }
    }

    /// The request for what follows a context, and how many tokens at its beginning are not read, for there are too many. Spaces at the context's end go
    /// to what follows, and both are encoded together, so that the seam is as in a text.
    pub fn request(&self, context: &str, continuation: &str) -> Result<(Request, usize)> {
        let (mut tokens, asked) = self.pair(context, continuation)?;
        if asked == 0 {
            return Err(Error(format!("{continuation:?} adds no token to what stands before it")));
        }
        if asked > self.context {
            return Err(Error(format!("{continuation:?} has {asked} tokens, and the model reads {}", self.context)));
        }
        let cut = tokens.len().saturating_sub(self.context + 1);
        tokens.drain(..cut);
        Ok((Request { tokens, asked }, cut))
    }

    /// All tokens, and how many are asked.
    fn pair(&self, context: &str, continuation: &str) -> Result<(Vec<i32>, usize)> {
        let encode = |text: &str| self.tokenizer.encode_with(text, Specials::Token);
        if context.is_empty() {
            let ids = encode(continuation)?;
            let own = ids.first() == Some(&self.prefix);
            let asked = ids.len() - usize::from(own);
            return Ok(([if own { vec![] } else { vec![self.prefix] }, ids].concat(), asked));
        }
        let end = context.trim_end_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c));
        let whole = [self.before.clone(), encode(&format!("{context}{continuation}"))?].concat();
        let first = self.before.len() + encode(end)?.len();
        if first == 0 {
            // of a context of spaces alone everything is asked
            let asked = whole.len();
            return Ok(([vec![self.prefix], whole].concat(), asked));
        }
        let asked = whole.len().saturating_sub(first);
        Ok((whole, asked))
    }
}
