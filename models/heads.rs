//! Heads that say something of a text, or of each of its tokens, by what the blocks made of it: classes, rewards, values. Parameters have
//! the names of Hugging Face's.

use crate::layers::{linear, nth, projection};
use ir::{DType, Scope, Tensor};
use serde::{Deserialize, Serialize};

/// Which of a text's tokens speak for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pooling {
    /// The mean of all.
    Mean,
    /// The first alone.
    First,
    /// The last alone.
    Last,
}

ir::spell!(Pooling, "pooling", [Mean "mean", First "cls" | "first", Last "last"]);

/// A head that says which of some classes a text is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many classes there are.
    pub classes: usize,
    /// Which tokens speak for the text.
    pub pooling: Pooling,
}

/// What speaks for each text, [B, 1, C], of what was made of its tokens, [B, T, C]. mask: `i32[B,T]`, 1 where there is a token, of which a
/// text may have none: 0 is its mean then, and the row's first place its first and last.
#[track_caller]
pub fn pooled<'g>(s: &Scope<'g>, x: Tensor<'g>, mask: Option<Tensor<'g>>, pooling: Pooling) -> Tensor<'g> {
    let (rows, tokens, width) = (x.dim(-3), x.dim(-2), x.dim(-1));
    match (pooling, mask) {
        (Pooling::Mean, Some(mask)) => {
            let there = mask.cast(DType::F32);
            let mean = there.contract("bt,btc->bc", x) / there.sum().maximum(s.num(1.0));
            mean.reshape((rows, 1usize, width))
        }
        (Pooling::Mean, None) => x.sum_axes(&[-2]) / s.size(tokens).cast(DType::F32),
        (Pooling::First, _) => nth(s, x, s.int(0)),
        (Pooling::Last, Some(mask)) => {
            let place = s.iota(-1, tokens).cast(DType::F32);
            let last = s.int(1).le(mask).select(place, s.num(0.0)).max();
            nth(s, x, last.cast(DType::I32).reshape([rows]))
        }
        (Pooling::Last, None) => nth(s, x, s.size(tokens).cast(DType::I32) + s.int(-1)),
    }
}

/// x Wᵀ: a score for each class, of what speaks for a text, as Hugging Face's decoders have it. [B, 1, C] to [B, 1, classes]
#[track_caller]
pub fn score<'g>(s: &Scope<'g>, x: Tensor<'g>, classes: usize) -> Tensor<'g> {
    linear(&s.at("score"), x, classes)
}

/// One number a text, by its last token: a reward. x: [B, T, C] to [B, 1]
#[track_caller]
pub fn reward<'g>(s: &Scope<'g>, x: Tensor<'g>, mask: Option<Tensor<'g>>) -> Tensor<'g> {
    let rows = x.dim(-3);
    score(s, pooled(s, x, mask, Pooling::Last), 1).reshape((rows, 1usize))
}

/// One number a token, w · x + b: what is to be expected from there on, as TRL's models with such a head have it. [B, T, C] to [B, T]
#[track_caller]
pub fn value<'g>(s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
    let (rows, tokens) = (x.dim(-3), x.dim(-2));
    projection(&s.at("v_head.summary"), x, 1, true).reshape((rows, tokens))
}

/// Whether a tensor is a head's that says what a text or a token is worth, or an optimizer's state of one.
pub fn is_head(name: &str) -> bool {
    const HEADS: [&str; 3] = ["score.weight", "v_head.summary.weight", "v_head.summary.bias"];
    HEADS.iter().any(|head| name.strip_suffix(head).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

/// How often a text of each class was taken for each: [classes, classes], of rows the class that is right, of columns the likeliest, the
/// first of several that are. Rows whose label is negative do not count. logits: [B, 1, classes], labels: [B, 1]
#[track_caller]
pub fn confusion<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
    let (rows, classes) = (logits.dim(-3), logits.dim(-1));
    let logits = logits.reshape((rows, classes));
    let (number, zero, one) = (s.iota(-1, classes), s.num(0.0), s.num(1.0));
    let behind = s.size(classes).cast(DType::F32);
    let place = number.cast(DType::F32);
    // the least of the numbers whose logit is the largest
    let first = -logits.equals(logits.max()).select(-place, -behind).max();
    let taken = place.equals(first).select(one, zero);
    let right = number.equals(labels).select(one, zero);
    right.contract("bi,bj->ij", taken)
}
