//! Adam (Kingma & Ba 2015), as PyTorch's `Adam`: weight decay is part of the gradient, and so of both means.

use super::{AdamW, Rate};
use crate::tape::V;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the latter.
    pub eps: f64,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
}

impl Default for Adam {
    fn default() -> Adam {
        Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// Means of gradients and of their squares.
pub(super) const SLOTS: [&str; 2] = ["adam.m", "adam.v"];

impl Adam {
    /// The same with a weight decay beside the gradient.
    fn decoupled(&self, weight_decay: f64) -> AdamW {
        AdamW { beta1: self.beta1, beta2: self.beta2, eps: self.eps, weight_decay }
    }

    pub(super) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        let g = if self.weight_decay == 0.0 { g } else { g + p * self.weight_decay };
        self.decoupled(0.0).update(p, g, kept, rate)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.decoupled(self.weight_decay).check()
    }
}
