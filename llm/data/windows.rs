//! Windows of tokens: those of an epoch in an order that looks random, and all of them in their own.

use super::permutation::{Permutation, Purpose};
use std::ops::Range;

/// The windows of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    /// Tokens, and one more where each window's last is not only asked.
    tokens: u64,
    context: u64,
    /// Tokens a window, besides those that have places.
    asked: u64,
    /// Whether they begin elsewhere in each epoch.
    stagger: bool,
}

impl Windows {
    /// Of so many tokens, which are more than a window has. Whether it has one more than places, which is only asked.
    pub(super) fn new(tokens: u64, context: u64, shifts: bool, stagger: bool) -> Windows {
        let asked = u64::from(shifts);
        Windows { tokens: tokens + 1 - asked, context, asked, stagger }
    }

    /// Windows an epoch. Where each has a token more than the context, it shares that with the next. Where epochs are staggered, what is over is
    /// less than two windows: it lets the first begin elsewhere in each epoch, so that windows end at other places.
    pub(super) fn an_epoch(self) -> u64 {
        let whole = (self.tokens - 1) / self.context;
        if self.stagger { ((self.tokens - self.context) / self.context).max(1) } else { whole }
    }

    /// The tokens of the window of a number: each epoch has all of its windows once.
    pub(super) fn shuffled(self, seed: u64, source: u64, number: u64) -> Range<u64> {
        let windows = self.an_epoch();
        let (epoch, place) = (number / windows, number % windows);
        let over = self.tokens - 1 - windows * self.context;
        let phase = if self.stagger { Purpose::Phase.key(seed, [source, epoch, 0]) % (over + 1) } else { 0 };
        let window = Permutation::new(windows, Purpose::Windows.key(seed, [source, epoch, 0])).at(place);
        let start = phase + window * self.context;
        start..start + self.context + self.asked
    }

    /// Windows of all tokens in order.
    pub(super) fn count(self) -> u64 {
        self.tokens.saturating_sub(1).div_ceil(self.context)
    }

    /// The tokens of one of them; the last may be shorter.
    pub(super) fn nth(self, number: u64) -> Range<u64> {
        let start = number * self.context;
        start..(start + self.context + self.asked).min(self.tokens + self.asked - 1)
    }
}
