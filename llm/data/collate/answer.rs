//! An answer to a text.

use super::{Collator, Filled};

/// A pair: a text and what it is answered with, each with what ends it.
pub(super) fn row(of: &Collator, pieces: &[Vec<i32>], context: usize) -> Filled {
    let target = super::target(&of.config, of.aim, context);
    let [source, answer] = [0, 1].map(|i| pieces.get(i).cloned().unwrap_or_default());
    let ended = |mut ids: Vec<i32>, room: usize| {
        ids.truncate(room - usize::from(of.marks.end.is_some()));
        ids.extend(of.marks.end);
        ids
    };
    columns(of, ended(source, context), ended(answer, target))
}

/// The answer is read from what begins it, which is what fills rows up (as T5 does), and asked.
pub(super) fn columns(of: &Collator, source: Vec<i32>, target: Vec<i32>) -> Filled {
    let read = std::iter::once(of.marks.pad).chain(target.iter().copied()).take(target.len()).collect();
    let mask = vec![1; source.len()];
    vec![read, target, source, mask]
}
