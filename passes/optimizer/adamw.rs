//! AdamW (Loshchilov & Hutter 2019, algorithm 2): Adam with decoupled weight decay.

use super::{Rate, below_one, not_negative, small};
use crate::tape::V;
use ir::{Bin, Un};

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
    /// Share of itself that a parameter loses in a step, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 }
    }
}

/// Means of gradients and of their squares.
pub(super) const SLOTS: [&str; 2] = ["adamw.m", "adamw.v"];

impl AdamW {
    pub(super) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        let &[m, v] = kept else { unreachable!("two means are kept") };
        let m = m * self.beta1 + g * (1.0 - self.beta1);
        let v = v * self.beta2 + g * g * (1.0 - self.beta2);
        let (c1, c2) = (correction(rate.step, self.beta1), correction(rate.step, self.beta2));
        let step = m * c1 / ((v * c2).un(Un::Sqrt) + self.eps);
        let step = if self.weight_decay == 0.0 { step } else { step + p * self.weight_decay };
        vec![p - step * rate.lr, m, v]
    }

    pub(super) fn check(&self) -> Result<(), String> {
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        // a parameter that never had a gradient is divided by it
        small("eps", self.eps)?;
        not_negative("weight_decay", self.weight_decay)
    }
}

/// 1 / (1 − βᵗ), what a mean that started as 0 is too small by. Written so that no digits cancel where β is almost 1:
/// 1 − e⁻ˣ = 2 tanh(x/2) / (1 + tanh(x/2)).
fn correction(step: V, beta: f64) -> V {
    let half = step * (beta.ln() * -0.5);
    let tanh = half.un(Un::Tanh);
    tanh.num(0.5).bin(Bin::Div, tanh) + 0.5
}
