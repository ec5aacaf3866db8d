//! Losses of tokens: what a label costs.

use super::{Loss, total};
use ir::{DType, Scope, Tensor};

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
    cross_entropy_weighted(s, logits, labels, None, terms)
}

/// The same, where each label counts as much as its weight says, in the sum and in the count, as PyTorch's `cross_entropy(weight=)` has it of
/// the weight of the label's class; label smoothing is weighed as the label is. weights: [B, T]
#[track_caller]
pub fn cross_entropy_weighted<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>, weights: Option<Tensor<'g>>, terms: Terms) -> Loss<'g> {
    let (loss, counted) = (of_labels(s, logits, labels, terms), s.int(0).le(labels).cast(DType::F32));
    let (loss, counted) = match weights {
        Some(weights) => (loss * weights.reshape(loss.ty().dims), counted * weights),
        None => (loss, counted),
    };
    Loss { sum: total(loss), count: total(counted) }
}

/// The loss of each label, 0 where it is negative: [B, T, 1].
#[track_caller]
fn of_labels<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>, terms: Terms) -> Tensor<'g> {
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
    loss
}

/// log softmax(logits) at the label of each token, 0 where the label is negative: [B, T]. logits: [B, T, V], labels: [B, T]
#[track_caller]
pub fn log_probabilities<'g>(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
    -of_labels(s, logits, labels, Terms::default()).reshape((labels.dim(-2), labels.dim(-1)))
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
    Loss { sum: total(asked.select(missed.le(zero).select(one, zero), zero)), count: total(asked.cast(DType::F32)) }
}
