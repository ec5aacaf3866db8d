//! Optimizers as mathematics: each says what it keeps beside a parameter, and what a step makes of both.
//!
//! To add one: a file with its settings, what it keeps and its update, and its lines here.

mod adafactor;
mod adam;
mod adamw;
mod lion;
mod muon;
mod sgd;

pub use adafactor::Adafactor;
pub use adam::Adam;
pub use adamw::AdamW;
pub use lion::Lion;
pub use muon::{Muon, Scale};
pub use sgd::Sgd;

use crate::tape::V;
use ir::{Bin, Dim, Type};

/// How a parameter is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    AdamW(AdamW),
    /// Adam, whose weight decay is part of the gradient.
    Adam(Adam),
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
    /// The sign of a mean of gradients.
    Lion(Lion),
    /// Adam without a first mean, whose second is kept of rows and columns alone.
    Adafactor(Adafactor),
    /// Momentum made orthogonal; for matrices.
    Muon(Muon),
}

/// What every optimizer may keep, by name: the state `adamw.m.<path>` of the parameter `<path>`.
pub(crate) const SLOTS: [&[&str]; 6] = [&adamw::SLOTS, &adam::SLOTS, &sgd::SLOTS, &lion::SLOTS, &adafactor::SLOTS, &muon::SLOTS];

/// What is kept beside a parameter: the name, and its type, which need not be the parameter's. It starts as 0.
pub type Slot = (&'static str, Type);

/// Scalars that the updates of a step share, and how a parameter lies.
#[derive(Clone, Copy)]
pub(crate) struct Rate<'t> {
    /// The learning rate.
    pub lr: V<'t>,
    /// The number of the step, from 1.
    pub step: V<'t>,
    /// Leading axes of the parameter that stack layers: each layer's part is updated as if it stood alone.
    pub stacked: usize,
}

impl Optimizer {
    /// What is kept for a parameter of a type, of which so many leading axes stack layers.
    pub fn slots(&self, ty: &Type, stacked: usize) -> Vec<Slot> {
        let alike = |names: &[&'static str]| names.iter().map(|name| (*name, ty.clone())).collect();
        match self {
            Optimizer::AdamW(_) => alike(&adamw::SLOTS),
            Optimizer::Adam(_) => alike(&adam::SLOTS),
            Optimizer::Sgd(o) => alike(o.slots()),
            Optimizer::Lion(_) => alike(&lion::SLOTS),
            Optimizer::Adafactor(_) => adafactor::slots(ty, stacked),
            Optimizer::Muon(_) => alike(&muon::SLOTS),
        }
    }

    /// New values of a parameter and of what is kept for it, in that order. `g` is the gradient of the mean loss, clipped.
    pub(crate) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        match self {
            Optimizer::AdamW(o) => o.update(p, g, kept, rate),
            Optimizer::Adam(o) => o.update(p, g, kept, rate),
            Optimizer::Sgd(o) => o.update(p, g, kept, rate),
            Optimizer::Lion(o) => o.update(p, g, kept, rate),
            Optimizer::Adafactor(o) => o.update(p, g, kept, rate),
            Optimizer::Muon(o) => o.update(p, g, kept, rate),
        }
    }

    /// Which setting is outside its range, if one is.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Optimizer::AdamW(o) => o.check(),
            Optimizer::Adam(o) => o.check(),
            Optimizer::Sgd(o) => o.check(),
            Optimizer::Lion(o) => o.check(),
            Optimizer::Adafactor(o) => o.check(),
            Optimizer::Muon(o) => o.check(),
        }
    }

    /// Why a parameter cannot be updated so, if it cannot.
    pub(crate) fn fits(&self, path: &str, ty: &Type, stacked: usize) -> Result<(), String> {
        let matrix = ty.rank() >= stacked + 2;
        match self {
            Optimizer::Muon(_) if !matrix => {
                let rank = ty.rank() - stacked;
                Err(format!("muon is for matrices, and {path} has {rank} axes: give it to adamw, by a group of rank {rank} above this one"))
            }
            Optimizer::Muon(_) | Optimizer::AdamW(_) | Optimizer::Adam(_) | Optimizer::Sgd(_) | Optimizer::Lion(_) | Optimizer::Adafactor(_) => {
                Ok(())
            }
        }
    }
}

/// A setting from 0 to below 1. The test is of what the program computes with, a float of 32 bits.
pub(crate) fn below_one(name: &str, x: f64) -> Result<(), String> {
    if x >= 0.0 && (x as f32) < 1.0 { Ok(()) } else { Err(format!("{name} is {x}, expected at least 0 and below 1")) }
}

/// A setting that is 0 or a normal number.
pub(crate) fn not_negative(name: &str, x: f64) -> Result<(), String> {
    if x >= 0.0 && (x as f32).is_finite() { Ok(()) } else { Err(format!("{name} is {x}, expected a number of at least 0")) }
}

/// What something is divided by: small, and not 0 in 32 bits.
fn small(name: &str, x: f64) -> Result<(), String> {
    if (x as f32).is_normal() && x > 0.0 && x <= 1.0 { Ok(()) } else { Err(format!("{name} is {x}, expected above 1e-37 and at most 1")) }
}

/// The sum over some axes counted from the end, which stay with size 1.
fn sum<'t>(x: V<'t>, axes: impl Iterator<Item = usize>) -> V<'t> {
    let axes: Vec<i8> = axes.map(|a| -(a as i8)).collect();
    if axes.is_empty() { x } else { x.sum(&axes) }
}

/// The root of the mean of squares of each layer's part.
fn root_mean_square(x: V, stacked: usize) -> V {
    let ty = x.ty();
    let own = ty.rank() - stacked;
    let count: usize = (1..=own).map(|a| ty.dim(-(a as i8)).size()).product();
    (sum(x * x, 1..=own) * (1.0 / count.max(1) as f64)).un(ir::Un::Sqrt)
}

/// A type with size 1 along an axis counted from the end.
fn flat(ty: &Type, axis: usize) -> Type {
    let mut dims = ty.dims.clone();
    let i = dims.len() - axis;
    dims[i] = Dim::ONE;
    Type { dims, ..ty.clone() }
}

fn at_least(x: V, least: f64) -> V {
    x.bin(Bin::Maximum, x.num(least))
}
