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

    /// The same with another loss's sum, of which each term counts as many of these as a weight says, of each row the same. weight: [B, 1]
    #[track_caller]
    pub fn plus(self, other: Loss<'g>, weight: Tensor<'g>) -> Loss<'g> {
        let weight = weight.reshape((1usize, weight.dim(-2))).max().reshape([] as [Dim; 0]);
        Loss { sum: self.sum + other.sum * weight, ..self }
    }

    /// Makes it what a program is trained on: its results `loss.sum` and `loss.count`.
    pub fn output(self, b: &'g Builder) {
        b.output(LOSS_SUM, self.sum);
        b.output(LOSS_COUNT, self.count);
    }

    /// The same under names of its own, as one of several things that are looked at.
    pub fn output_as(self, b: &'g Builder, [sum, count]: [&str; 2]) {
        b.output(sum, self.sum);
        b.output(count, self.count);
    }
}

/// What is added to the loss of a label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// The share ε of the target that is spread over all V tokens alike: (1 − ε) of the label's loss and ε of the mean of all tokens', as
    /// PyTorch's `cross_entropy(label_smoothing=)` has it (Szegedy et al. 2016).
    pub label_smoothing: f64,
    /// The weight of log² Σ exp logits (PaLM's auxiliary loss, Chowdhery et al. 2022).
    pub z_loss: f64,
}

/// −log softmax(logits) at the label, over all tokens whose label is not negative. logits: [B, T, V], labels: [B, T]
#[track_caller]
pub fn cross_entropy<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>) -> Loss<'g> {
    cross_entropy_with(s, logits, labels, Terms::default())
}

/// The same with further terms of each label that is counted.
#[track_caller]
pub fn cross_entropy_with<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>, terms: Terms) -> Loss<'g> {
    let labels = labels.reshape((labels.dim(-2), labels.dim(-1), 1usize));
    let (counted, zero) = (s.int(0).le(labels), s.num(0.0));
    // a row that is ignored may hold anything: replaced here, not at the end, so that no gradient meets it
    let x = counted.select(logits, zero);
    // what is common to a row is taken off before anything is rounded
    let m = x.max();
    let (picked, log_sum) = (s.iota(-1, x.dim(-1)).equals(labels).select(x, zero).sum(), (x - m).exp().sum().log());
    let mut loss = counted.select(log_sum - (picked - m), zero);
    if terms.label_smoothing > 0.0 {
        let all = counted.select(log_sum - (x - m).mean(), zero);
        loss = loss * (1.0 - terms.label_smoothing) + all * terms.label_smoothing;
    }
    if terms.z_loss > 0.0 {
        let z = log_sum + m;
        loss = loss + counted.select(z * z, zero) * terms.z_loss;
    }
    let total = |x: Tensor<'g>| x.sum_axes(&[-1, -2, -3]).reshape([] as [Dim; 0]);
    Loss { sum: total(loss), count: total(counted.cast(DType::F32)) }
}

/// How many rows that are asked anything have every label as the likeliest token, and how many there are: what greedy writing would get
/// wholly right, for it reads the labels as long as it writes them. A tie is no hit. logits: [B, T, V], labels: [B, T]
#[track_caller]
pub fn exact<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>) -> Loss<'g> {
    let (one, zero) = (s.num(1.0), s.num(0.0));
    let labels = labels.reshape((labels.dim(-2), labels.dim(-1), 1usize));
    let (counted, label) = (s.int(0).le(labels), s.iota(-1, logits.dim(-1)).equals(labels));
    let others = label.select(s.num(f64::NEG_INFINITY), logits).max();
    let hit = others.lt(label.select(logits, zero).sum());
    let of_row = |x: Tensor<'g>| x.sum_axes(&[-2]);
    let missed = of_row(counted.select(hit.select(zero, one), zero));
    let asked = zero.lt(of_row(counted.cast(DType::F32)));
    let total = |x: Tensor<'g>| x.sum_axes(&[-1, -2, -3]).reshape([] as [Dim; 0]);
    Loss { sum: total(asked.select(missed.le(zero).select(one, zero), zero)), count: total(asked.cast(DType::F32)) }
}
