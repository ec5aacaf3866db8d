//! Windows of tokens: those of an epoch in an order that looks random, and all of them in their own.

use super::permutation::{Permutation, Purpose};
use std::ops::Range;

/// The windows of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    tokens: u64,
    context: u64,
}

impl Windows {
    /// Of so many tokens, which are more than the context has.
    pub(super) fn new(tokens: u64, context: u64) -> Windows {
        Windows { tokens, context }
    }

    /// Windows an epoch. Each has a token more than the context, which it shares with the next. What is over is less than two windows: it
    /// lets the first begin elsewhere in each epoch, so that windows end at other places.
    pub(super) fn an_epoch(self) -> u64 {
        ((self.tokens - self.context) / self.context).max(1)
    }

    /// The tokens of the window of a number: each epoch has all of its windows once.
    pub(super) fn shuffled(self, seed: u64, source: u64, number: u64) -> Range<u64> {
        let windows = self.an_epoch();
        let (epoch, place) = (number / windows, number % windows);
        let over = self.tokens - 1 - windows * self.context;
        let phase = Purpose::Phase.key(seed, [source, epoch, 0]) % (over + 1);
        let window = Permutation::new(windows, Purpose::Windows.key(seed, [source, epoch, 0])).at(place);
        let start = phase + window * self.context;
        start..start + self.context + 1
    }

    /// Windows of all tokens in order.
    pub(super) fn count(self) -> u64 {
        self.tokens.saturating_sub(1).div_ceil(self.context)
    }

    /// The tokens of one of them; the last may be shorter.
    pub(super) fn nth(self, number: u64) -> Range<u64> {
        let start = number * self.context;
        start..(start + self.context + 1).min(self.tokens)
    }
}
