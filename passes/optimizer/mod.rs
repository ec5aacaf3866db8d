//! Optimizers as mathematics: each says what it keeps beside a parameter, and what a step makes of both.
//!
//! To add one: a file with its settings, what it keeps and its update, and its lines here.

mod adamw;
mod sgd;

pub use adamw::AdamW;
pub use sgd::Sgd;

use crate::tape::V;

/// How a parameter is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
}

/// What every optimizer may keep, by name: the state `adamw.m.<path>` of the parameter `<path>`.
pub(crate) const SLOTS: [&[&str]; 2] = [&adamw::SLOTS, &sgd::SLOTS];

/// Scalars that the updates of a step share.
#[derive(Clone, Copy)]
pub(crate) struct Rate<'t> {
    /// The learning rate.
    pub lr: V<'t>,
    /// The number of the step, from 1.
    pub step: V<'t>,
}

impl Optimizer {
    /// What is kept for a parameter, by name; each has the parameter's type and starts as 0.
    pub fn slots(&self) -> &'static [&'static str] {
        match self {
            Optimizer::AdamW(_) => &adamw::SLOTS,
            Optimizer::Sgd(o) => o.slots(),
        }
    }

    /// New values of a parameter and of what is kept for it, in that order. `g` is the gradient of the mean loss, clipped.
    pub(crate) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        match self {
            Optimizer::AdamW(o) => o.update(p, g, kept, rate),
            Optimizer::Sgd(o) => o.update(p, g, kept, rate),
        }
    }

    /// Which setting is outside its range, if one is.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Optimizer::AdamW(o) => o.check(),
            Optimizer::Sgd(o) => o.check(),
        }
    }
}

/// A setting from 0 to below 1. The test is of what the program computes with, a float of 32 bits.
fn below_one(name: &str, x: f64) -> Result<(), String> {
    if x >= 0.0 && (x as f32) < 1.0 { Ok(()) } else { Err(format!("{name} is {x}, expected at least 0 and below 1")) }
}

/// A setting that is 0 or a normal number.
pub(crate) fn not_negative(name: &str, x: f64) -> Result<(), String> {
    if x >= 0.0 && (x as f32).is_finite() { Ok(()) } else { Err(format!("{name} is {x}, expected a number of at least 0")) }
}
