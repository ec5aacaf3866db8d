//! Adafactor (Shazeer & Stern 2018), as PyTorch's `Adafactor`: the mean of squares of a matrix is kept of its rows and of its columns alone, so
//! that its state is next to nothing; there is no first mean. Steps are relative to a parameter's own size.

use super::{Rate, Slot, at_least, flat, not_negative, root_mean_square, small, sum};
use crate::tape::V;
use ir::{Bin, Type, Un};

/// The settings, by PyTorch's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adafactor {
    /// The exponent, from −1 to 0, of the step's number: its power is what of the means is new.
    pub beta2_decay: f64,
    /// The least root of a mean of squares.
    pub eps1: f64,
    /// The least size of a parameter, by which its step is measured.
    pub eps2: f64,
    /// The largest root mean square of a step before the learning rate.
    pub d: f64,
    /// Share of itself that a parameter loses in a step, times the learning rate.
    pub weight_decay: f64,
}

impl Default for Adafactor {
    fn default() -> Adafactor {
        Adafactor { beta2_decay: -0.8, eps1: f64::from(f32::EPSILON), eps2: 1e-3, d: 1.0, weight_decay: 0.0 }
    }
}

/// Means of squares: along rows and along columns of a matrix; of each element of what is none.
pub(super) const SLOTS: [&str; 3] = ["adafactor.r", "adafactor.c", "adafactor.v"];

/// `[…, a, 1]` and `[…, 1, b]` of a matrix `[…, a, b]`; all else is kept as it is.
pub(super) fn slots(ty: &Type, stacked: usize) -> Vec<Slot> {
    let [rows, columns, all] = SLOTS;
    if ty.rank() >= stacked + 2 { vec![(rows, flat(ty, 1)), (columns, flat(ty, 2))] } else { vec![(all, ty.clone())] }
}

impl Adafactor {
    pub(super) fn update<'t>(&self, p: V<'t>, g: V<'t>, kept: &[V<'t>], rate: Rate<'t>) -> Vec<V<'t>> {
        let fresh = rate.step.bin(Bin::Pow, p.num(self.beta2_decay));
        let toward = |old: V<'t>, new: V<'t>| old + (new - old) * fresh;
        let (squares, kept) = match kept {
            [rows, columns] => {
                let (rows, columns) = (toward(*rows, mean(g * g, 1)), toward(*columns, mean(g * g, 2)));
                (rows * columns / at_least(mean(rows, 2), self.eps1), vec![rows, columns])
            }
            [all] => {
                let all = toward(*all, g * g);
                (all, vec![all])
            }
            _ => unreachable!("two means of a matrix or one of each element are kept"),
        };
        let step = at_least(squares, self.eps1 * self.eps1).un(Un::Rsqrt) * g;
        let limit = at_least(root_mean_square(step, rate.stacked) * (1.0 / self.d), 1.0);
        let most = rate.lr.bin(Bin::Minimum, rate.step.un(Un::Rsqrt));
        let alpha = at_least(root_mean_square(p, rate.stacked), self.eps2) * most;
        let left = if self.weight_decay == 0.0 { p } else { p - p * (rate.lr * self.weight_decay) };
        std::iter::once(left - step * (alpha / limit)).chain(kept).collect()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(-1.0..=0.0).contains(&self.beta2_decay) {
            return Err(format!("beta2_decay is {}, expected -1 to 0", self.beta2_decay));
        }
        small("eps1", self.eps1)?;
        // its square is in the program, too
        small("the square of eps1", self.eps1 * self.eps1)?;
        not_negative("eps2", self.eps2)?;
        if !(self.d >= 1.0 && (self.d as f32).is_finite()) {
            return Err(format!("d is {}, expected at least 1", self.d));
        }
        not_negative("weight_decay", self.weight_decay)
    }
}

/// The mean along an axis counted from the end, which stays with size 1; 0 of nothing.
fn mean(x: V, axis: usize) -> V {
    let n = x.ty().dim(-(axis as i8)).size();
    sum(x, axis..=axis) * (1.0 / n.max(1) as f64)
}
