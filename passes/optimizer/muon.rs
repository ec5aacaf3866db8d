//! Muon (Jordan et al. 2024), as PyTorch's `Muon`: Nesterov's momentum, made nearly orthogonal by five steps of Newton and Schulz's iteration.
//!
//! It is for the matrices inside of layers; embeddings, heads, biases and gains are another optimizer's. What stands before a tensor's last
//! two axes stacks matrices, each of which is updated alone: layers, or experts. Products are of 32 bits, where PyTorch's are of 16.

use super::{Rate, at_least, below_one, not_negative, sum};
use crate::tape::V;
use ir::{Ein, Un};

/// The settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Decay of the mean of gradients.
    pub momentum: f64,
    /// Whether a step is a mean of the gradient and that mean.
    pub nesterov: bool,
    /// Share of itself that a parameter loses in a step, times the learning rate.
    pub weight_decay: f64,
    /// What an orthogonal step is multiplied by.
    pub scale: Scale,
}

/// What an orthogonal step of a matrix of A rows and B columns is multiplied by, besides the learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// 0.2 √max(A, B): steps are as large as AdamW's, and so one learning rate is right for both (Liu et al. 2025).
    #[default]
    MatchAdamW,
    /// √max(1, A/B), Jordan's and PyTorch's own, for weights of which rows are results, as PyTorch's `Linear` has them.
    Original,
    /// √(A/B) (Bernstein 2025), for the same.
    Spectral,
}

ir::spell!(Scale, "scale", [MatchAdamW "match-adamw", Original "original", Spectral "spectral"]);

impl Default for Muon {
    fn default() -> Muon {
        Muon { momentum: 0.95, nesterov: true, weight_decay: 0.1, scale: Scale::MatchAdamW }
    }
}

/// The mean of gradients.
pub(super) const SLOTS: [&str; 1] = ["muon.m"];

/// Steps of the iteration, and its polynomial a x + b x³ + c x⁵, which is steepest at 0.
const STEPS: usize = 5;
const POLYNOMIAL: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// The least norm that a matrix is divided by.
const EPS: f64 = 1e-7;

impl Muon {
    pub(super) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        let &[m] = kept else { unreachable!("one mean is kept") };
        let m = m + (g - m) * (1.0 - self.momentum);
        let step = if self.nesterov { g + (m - g) * self.momentum } else { m };
        let step = orthogonal(step) * self.scale.of(p);
        let left = if self.weight_decay == 0.0 { p } else { p - p * (rate.lr * self.weight_decay) };
        vec![left - step * rate.lr, m]
    }

    pub(super) fn check(&self) -> Result<(), String> {
        below_one("momentum", self.momentum)?;
        not_negative("weight_decay", self.weight_decay)
    }
}

impl Scale {
    /// That of a parameter's matrices.
    fn of(self, p: V) -> f64 {
        let (rows, columns) = (p.ty().dim(-2).size().max(1) as f64, p.ty().dim(-1).size().max(1) as f64);
        match self {
            Scale::MatchAdamW => 0.2 * rows.max(columns).sqrt(),
            Scale::Original => (rows / columns).max(1.0).sqrt(),
            Scale::Spectral => (rows / columns).sqrt(),
        }
    }
}

/// U S' Vᵀ of each matrix U S Vᵀ, where S' is about 1: x ← a x + (b g + c g²) x with g = x xᵀ, on the shorter side.
fn orthogonal(x: V) -> V {
    let ty = x.ty();
    let tall = ty.dim(-2).size() > ty.dim(-1).size();
    let [a, b, c] = POLYNOMIAL;
    let mut x = x / at_least(sum(x * x, 1..=2).un(Un::Sqrt), EPS);
    for _ in 0..STEPS {
        let gram = if tall { product(x, "ka", x, "kb") } else { product(x, "ak", x, "bk") };
        let power = gram * b + product(gram, "ak", gram, "kb") * c;
        x = x * a + if tall { product(x, "ak", power, "kb") } else { product(power, "ak", x, "kb") };
    }
    x
}

/// A product of stacked matrices to `ab`, with the axes of each as letters.
fn product<'t>(x: V<'t>, of_x: &str, y: V<'t>, of_y: &str) -> V<'t> {
    let stack: Vec<u8> = (0..x.ty().rank() as u8 - 2).collect();
    // letters are larger than the number of any axis
    let labels = |letters: &str| [&stack[..], letters.as_bytes()].concat();
    x.ein(Ein::new(&labels(of_x), &labels(of_y), &labels("ab")), y)
}
