//! Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", program 1): the sign of a mean of gradients.
//!
//! Every element moves by the whole learning rate, so that wants to be a third to a tenth of AdamW's, and weight decay as much larger.

use super::{Rate, below_one, not_negative};
use crate::tape::V;
use ir::Bin;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lion {
    /// What of the mean is in the step.
    pub beta1: f64,
    /// Decay of the mean of gradients.
    pub beta2: f64,
    /// Share of itself that a parameter loses in a step, times the learning rate.
    pub weight_decay: f64,
}

impl Default for Lion {
    fn default() -> Lion {
        Lion { beta1: 0.9, beta2: 0.99, weight_decay: 0.1 }
    }
}

/// The mean of gradients.
pub(super) const SLOTS: [&str; 1] = ["lion.m"];

impl Lion {
    pub(super) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        let &[m] = kept else { unreachable!("one mean is kept") };
        let step = sign(m * self.beta1 + g * (1.0 - self.beta1));
        let step = if self.weight_decay == 0.0 { step } else { step + p * self.weight_decay };
        vec![p - step * rate.lr, m * self.beta2 + g * (1.0 - self.beta2)]
    }

    pub(super) fn check(&self) -> Result<(), String> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        not_negative("weight_decay", self.weight_decay)
    }
}

/// −1, 0 or 1; of NaN 0.
fn sign(x: V) -> V {
    let zero = x.num(0.0);
    let negative = x.bin(Bin::Lt, zero).select(x.num(-1.0), zero);
    zero.bin(Bin::Lt, x).select(x.num(1.0), negative)
}
