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
    /// The sum of two numbers of so many digits, as in `12+34=046`.
    Add,
}

ir::spell!(Task, "task", [None "none", Sort "sort", Reverse "reverse", Add "add"]);

impl Task {
    /// Symbols of what is asked and of the answer, of a length.
    pub(crate) fn lengths(self, length: usize) -> [usize; 2] {
        match self {
            Task::None | Task::Sort | Task::Reverse => [length, length],
            // both numbers, + and =; a sum may have a digit more
            Task::Add => [2 * length + 2, length + 1],
        }
    }

    /// Symbols of an answer, where there is a task.
    pub(crate) fn answer(self, length: usize) -> Option<usize> {
        (self != Task::None).then_some(self.lengths(length)[1])
    }

    /// How many sequences there are of a length and so many symbols.
    pub(crate) fn sequences(self, length: usize, symbols: usize) -> f64 {
        match self {
            Task::None | Task::Sort | Task::Reverse => (symbols as f64).powi(length as i32),
            Task::Add => 100f64.powi(length as i32),
        }
    }

    /// The symbols of the task, the first so many of those there are, where that is asked.
    pub(crate) fn symbols(self, count: usize) -> &'static str {
        match self {
            Task::None | Task::Sort | Task::Reverse => &SYMBOLS[..count],
            Task::Add => "0123456789+=",
        }
    }
}

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

    /// Symbols of what is asked and of the answer.
    fn lengths(&self) -> [u64; 2] {
        self.task.lengths(self.length).map(|n| n as u64)
    }

    /// Where a document begins.
    fn start(&self, document: u64) -> u64 {
        let [asked, answer] = self.lengths();
        document / 2 * (asked + answer) + document % 2 * asked
    }

    /// The document that a token is of.
    pub(super) fn document_at(&self, token: u64) -> u64 {
        let [asked, answer] = self.lengths();
        2 * (token / (asked + answer)) + u64::from(token % (asked + answer) >= asked)
    }

    pub(super) fn count(&self) -> u64 {
        self.start(self.documents())
    }

    /// The tokens of consecutive documents, a range each.
    pub(super) fn ranges(&self, documents: Range<u64>) -> Vec<Range<u64>> {
        documents.map(|d| self.start(d)..self.start(d + 1)).collect()
    }

    pub(super) fn read(&self, range: Range<u64>) -> Result<Vec<i32>> {
        let mut ids = vec![];
        let last = range.end.checked_sub(1).filter(|_| !range.is_empty());
        for document in last.map_or(0..0, |last| self.document_at(range.start)..self.document_at(last) + 1) {
            let sequence = self.sequence(document / 2)?;
            let answer = if document % 2 == 0 { sequence } else { self.answer(sequence) };
            let of = |at: u64| at.saturating_sub(self.start(document)).min(answer.len() as u64) as usize;
            ids.extend(answer[of(range.start)..of(range.end)].iter().map(|s| self.symbols[*s]));
        }
        Ok(ids)
    }

    fn answer(&self, mut sequence: Vec<usize>) -> Vec<usize> {
        match self.task {
            Task::None => {}
            Task::Sort => sequence.sort_unstable(),
            Task::Reverse => sequence.reverse(),
            Task::Add => return sum(&sequence, self.length),
        }
        sequence
    }

    /// The sequence of a pair: the first that is drawn and of this part.
    fn sequence(&self, number: u64) -> Result<Vec<usize>> {
        let purpose = random(0x7461_736B, u64::from(self.held_out));
        let key = random(purpose, number);
        let drawn = |draw: u64| -> Vec<usize> {
            let key = random(key, draw);
            let some = |count: usize, of: usize| -> Vec<usize> { (0..count as u64).map(|i| (random(key, i) % of as u64) as usize).collect() };
            match self.task {
                Task::None | Task::Sort | Task::Reverse => some(self.length, self.symbols.len()),
                Task::Add => {
                    let digits = some(2 * self.length, 10);
                    let (a, b) = digits.split_at(self.length);
                    [a, &[PLUS], b, &[EQUALS]].concat()
                }
            }
        };
        let part = |s: &[usize]| s.iter().fold(0, |hash, symbol| random(hash, *symbol as u64)).is_multiple_of(PARTS);
        let found = (0..DRAWS).map(drawn).find(|s| part(s) == self.held_out);
        found.ok_or_else(|| Error("there are too few sequences: try a larger data.task_length or data.task_symbols".into()))
    }
}

/// The places of these signs among the symbols of sums.
const PLUS: usize = 10;
const EQUALS: usize = 11;

/// The digits of the sum of two numbers of so many digits, with a zero before them where there is one fewer.
fn sum(asked: &[usize], length: usize) -> Vec<usize> {
    let mut digits = vec![0; length + 1];
    let mut carried = 0;
    for i in (0..length).rev() {
        let all = asked[i] + asked[length + 1 + i] + carried;
        (digits[i + 1], carried) = (all % 10, all / 10);
    }
    digits[0] = carried;
    digits
}
