//! What a model is trained to make small, in primitive operations. A loss is a sum and a count, so that parts of a batch that ask
//! different numbers of tokens add up to the whole; whoever trains divides once.

use ir::names::{LOSS_COUNT, LOSS_SUM};
use ir::{Builder, DType, Dim, Scope, Tensor};

/// A loss before it is averaged; both are scalars.
#[derive(Clone, Copy)]
pub struct Loss<'g> {
    /// The sum over all that is asked.
    pub sum: Tensor<'g>,
    /// How much is asked.
    pub count: Tensor<'g>,
}

impl<'g> Loss<'g> {
    /// The same with further losses, numbers that add to its mean.
    #[track_caller]
    pub fn with(self, further: &[(&'static str, Tensor<'g>)]) -> Loss<'g> {
        further.iter().fold(self, |loss, (_, mean)| Loss { sum: loss.sum + *mean * loss.count, ..loss })
    }

    /// Makes it what a program is trained on: its results `loss.sum` and `loss.count`.
    pub fn output(self, b: &'g Builder) {
        b.output(LOSS_SUM, self.sum);
        b.output(LOSS_COUNT, self.count);
    }
}

/// −log softmax(logits) at the label, over all tokens whose label is not negative. logits: [B, T, V], labels: [B, T]
#[track_caller]
pub fn cross_entropy<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>) -> Loss<'g> {
    let labels = labels.reshape((labels.dim(-2), labels.dim(-1), 1usize));
    let (counted, zero) = (s.int(0).le(labels), s.num(0.0));
    // a row that is ignored may hold anything: replaced here, not at the end, so that no gradient meets it
    let x = counted.select(logits, zero);
    // what is common to a row is taken off before anything is rounded
    let m = x.max();
    let picked = s.iota(-1, x.dim(-1)).equals(labels).select(x, zero).sum();
    let loss = counted.select((x - m).exp().sum().log() - (picked - m), zero);
    let total = |x: Tensor<'g>| x.sum_axes(&[-1, -2, -3]).reshape([] as [Dim; 0]);
    Loss { sum: total(loss), count: total(counted.cast(DType::F32)) }
}
