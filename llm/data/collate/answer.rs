//! An answer to a text.

use super::{Collator, Filled};

/// A pair: a text as it is, for so is one that is given to be answered, and what it is answered with, which something ends.
pub(super) fn row(of: &Collator, pieces: &[Vec<i32>], context: usize) -> Filled {
    let target = super::target(&of.config, of.aim, context);
    let [mut source, mut answer] = [0, 1].map(|i| pieces.get(i).cloned().unwrap_or_default());
    source.truncate(context);
    answer.truncate(target - usize::from(of.marks.end.is_some()));
    answer.extend(of.marks.end);
    columns(of, source, answer)
}

/// The answer is read from what begins it, which is what fills rows up (as T5 does), and asked.
pub(super) fn columns(of: &Collator, source: Vec<i32>, target: Vec<i32>) -> Filled {
    let read = std::iter::once(of.marks.pad).chain(target.iter().copied()).take(target.len()).collect();
    let mask = vec![1; source.len()];
    vec![read, target, source, mask]
}
