//! Pairs that the program makes: a sequence of symbols, and what is to be made of it.

use super::permutation::random;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What is to be made of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Task {
    /// There is a text, and nothing is made.
    #[default]
    None,
    /// The same symbols in order (minGPT's demonstration).
    Sort,
    /// The same symbols from the last to the first.
    Reverse,
}

ir::spell!(Task, "task", [None "none", Sort "sort", Reverse "reverse"]);

/// The symbols there are, in their order.
pub const SYMBOLS: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// Of four sequences one is held out, as in minGPT.
const PARTS: u64 = 4;
/// Pairs for training: more than any run takes.
const TRAIN: u64 = 1 << 40;
/// Pairs held out.
const HELD_OUT: u64 = 1024;
/// Sequences that are drawn before it is clear that there is none of a part.
const DRAWS: u64 = 1000;

/// Pairs of one part, each a function of its number. The sequences of one part are none of the other's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    task: Task,
    length: usize,
    /// The ids of the symbols.
    symbols: Vec<i32>,
    held_out: bool,
}

impl Made {
    /// Pairs for training, and those held out, of sequences of a length.
    pub fn parts(task: Task, length: usize, symbols: &[i32]) -> [Made; 2] {
        [false, true].map(|held_out| Made { task, length, symbols: symbols.to_vec(), held_out })
    }

    /// Sequences and answers, one document each.
    pub(super) fn documents(&self) -> u64 {
        2 * if self.held_out { HELD_OUT } else { TRAIN }
    }

    pub(super) fn count(&self) -> u64 {
        self.documents() * self.length as u64
    }

    /// The tokens of consecutive documents, a range each.
    pub(super) fn ranges(&self, documents: Range<u64>) -> Vec<Range<u64>> {
        let n = self.length as u64;
        documents.map(|d| d * n..(d + 1) * n).collect()
    }

    pub(super) fn read(&self, range: Range<u64>) -> Result<Vec<i32>> {
        let n = self.length as u64;
        let mut ids = vec![];
        for document in range.start / n..range.end.div_ceil(n) {
            let sequence = self.sequence(document / 2)?;
            let answer = if document % 2 == 0 { sequence } else { self.answer(sequence) };
            let of = |at: u64| (at.saturating_sub(document * n)).min(n) as usize;
            ids.extend(answer[of(range.start)..of(range.end)].iter().map(|s| self.symbols[*s]));
        }
        Ok(ids)
    }

    fn answer(&self, mut sequence: Vec<usize>) -> Vec<usize> {
        match self.task {
            Task::None => {}
            Task::Sort => sequence.sort_unstable(),
            Task::Reverse => sequence.reverse(),
        }
        sequence
    }

    /// The sequence of a pair: the first that is drawn and of this part.
    fn sequence(&self, number: u64) -> Result<Vec<usize>> {
        let purpose = random(0x7461_736B, u64::from(self.held_out));
        let key = random(purpose, number);
        let drawn = |draw: u64| -> Vec<usize> {
            let key = random(key, draw);
            (0..self.length as u64).map(|i| (random(key, i) % self.symbols.len() as u64) as usize).collect()
        };
        let part = |s: &[usize]| s.iter().fold(0, |hash, symbol| random(hash, *symbol as u64)).is_multiple_of(PARTS);
        let found = (0..DRAWS).map(drawn).find(|s| part(s) == self.held_out);
        found.ok_or_else(|| Error("there are too few sequences: try a larger data.task_length or data.task_symbols".into()))
    }
}
