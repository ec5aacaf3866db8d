//! What a model is trained to make small, in primitive operations. A loss is a sum and a count, so that parts of a batch that ask
//! different numbers of tokens add up to the whole; whoever trains divides once.

mod policies;
mod preferences;
mod tokens;

pub use policies::{Average, Clip, Imitation, Kl, imitation, k1, k3, policy, values};
pub use preferences::{Answers, Kto, Pairwise, bradley_terry, dpo, drift, ipo, kto, orpo, seen, seen_single, simpo};
pub use tokens::{Terms, cross_entropy, cross_entropy_weighted, cross_entropy_with, exact, log_probabilities};

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

    /// The same as something that is looked at beside: its results `<name>.sum` and `<name>.count`.
    pub fn output_named(self, b: &'g Builder, name: &str) {
        b.output(&format!("{name}.sum"), self.sum);
        b.output(&format!("{name}.count"), self.count);
    }

    /// The same under names of its own, as one of several things that are looked at.
    pub fn output_as(self, b: &'g Builder, [sum, count]: [&str; 2]) {
        b.output(sum, self.sum);
        b.output(count, self.count);
    }
}

/// The sum of all elements, a scalar.
fn total(x: Tensor) -> Tensor {
    let axes: Vec<i8> = (1..=x.ty().dims.len() as i8).map(|axis| -axis).collect();
    x.sum_axes(&axes).reshape([] as [Dim; 0])
}

/// The sum of what is counted, and how often that is. x: [B, N], counted: truth [B, N]
#[track_caller]
fn counted<'g>(s: &Scope<'g>, x: Tensor<'g>, counted: Tensor<'g>) -> Loss<'g> {
    Loss { sum: total(counted.select(x, s.num(0.0))), count: total(counted.cast(DType::F32)) }
}

/// log σ(x) = min(x, 0) − log(1 + exp −|x|), which is finite for every finite x, as its gradient is.
#[track_caller]
fn log_sigmoid<'g>(s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
    x.minimum(s.num(0.0)) - ((-x.abs()).exp() + 1.0).log()
}

/// The value, through which no gradient flows.
fn frozen(x: Tensor) -> Tensor {
    x.apply(ir::Op::StopGradient, &[])
}
