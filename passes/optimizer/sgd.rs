//! Stochastic gradient descent with momentum, as PyTorch's `SGD`: weight decay is part of the gradient, momentum is not damped.

use super::{Rate, below_one, not_negative};
use crate::tape::V;

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// What of a step is taken again in the next; with 0 nothing is kept.
    pub momentum: f64,
    /// Nesterov's momentum: the step is the gradient and what the next would take again of it.
    pub nesterov: bool,
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
}

impl Default for Sgd {
    fn default() -> Sgd {
        Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 }
    }
}

/// The step before the learning rate.
pub(super) const SLOTS: [&str; 1] = ["sgd.m"];

impl Sgd {
    pub(super) fn slots(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &SLOTS }
    }

    pub(super) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        let g = if self.weight_decay == 0.0 { g } else { g + p * self.weight_decay };
        match kept {
            [m] => {
                let m = *m * self.momentum + g;
                let step = if self.nesterov { g + m * self.momentum } else { m };
                vec![p - step * rate.lr, m]
            }
            _ => vec![p - g * rate.lr],
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        below_one("momentum", self.momentum)?;
        not_negative("weight_decay", self.weight_decay)?;
        if self.nesterov && self.momentum == 0.0 {
            Err("nesterov is a kind of momentum, and momentum is 0: try momentum = 0.9".into())
        } else {
            Ok(())
        }
    }
}
