//! Steps that stand out from those before: their update is not made, as llm.c does.
//!
//! The losses and the gradients' norms of the last steps are state of the program. One that is many deviations above their mean is no reason to
//! change a parameter. The choice is made in the program, where all stays as it is, to the bit.

use crate::state::State;
use crate::tape::{Tape, V};
use ir::names::{self, SKIPPED};
use ir::{Bin, DType, Op, Type, Un};

/// Which steps update nothing: those whose loss or gradient's norm is so many standard deviations above the mean of the last
/// [`OUTLIER_WINDOW`], itself among them. 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outliers {
    /// Of the loss.
    pub loss: f64,
    /// Of the gradient's norm.
    pub norm: f64,
}

/// How many steps are looked at. None is skipped before there are so many.
pub const OUTLIER_WINDOW: u32 = 128;

/// What a program says of outliers.
pub(crate) struct Found<'t> {
    /// Whether nothing is to be updated.
    pub skip: V<'t>,
    /// Results by name.
    pub results: Vec<(String, V<'t>)>,
}

impl Outliers {
    /// Whether there is any limit.
    pub fn any(&self) -> bool {
        self.loss > 0.0 || self.norm > 0.0
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        // of n numbers none is further from their mean than (n − 1) / √n deviations
        let most = f64::from(OUTLIER_WINDOW - 1) / f64::from(OUTLIER_WINDOW).sqrt();
        for (name, z) in [("loss", self.loss), ("norm", self.norm)] {
            if !(0.0..most).contains(&z) {
                return Err(format!(
                    "the limit of the {name} is {z} deviations, expected 0 for none, or below {most:.1}, which none of {OUTLIER_WINDOW} exceeds"
                ));
            }
        }
        Ok(())
    }

    /// Looks at a step's loss and norm; nothing where there is no limit. Steps count from 1.
    pub(crate) fn find<'t>(&self, tape: &'t Tape, [loss, norm]: [V<'t>; 2], step: V<'t>) -> Option<Found<'t>> {
        let full = step.num(f64::from(OUTLIER_WINDOW)).bin(Bin::Lt, step);
        let (mut results, mut skips) = (vec![], vec![]);
        for (name, limit, value) in [("loss", self.loss, loss), ("norm", self.norm, norm)].into_iter().filter(|o| o.1 > 0.0) {
            let name = State::Outlier(name).to_string();
            let window = Type::f32([OUTLIER_WINDOW as usize]);
            let old = tape.add(Op::Param(name.as_str().into(), window), &[]);
            let one = value.reshape(&Type::f32([1usize]));
            let new = old.op(Op::Slice(-1, 1, OUTLIER_WINDOW), &[]).op(Op::Concat(-1), &[one]);
            results.push((names::new_value(&name), new));
            let share = 1.0 / f64::from(OUTLIER_WINDOW);
            let mean = new.sum(&[-1]) * share;
            let deviation = (((new - mean) * (new - mean)).sum(&[-1]) * share).un(Un::Sqrt);
            let far = (deviation * limit).bin(Bin::Lt, one - mean);
            skips.push(far.reshape(&Type::scalar(DType::Bool)));
        }
        let no = step.num(1.0).bin(Bin::Lt, step.num(0.0));
        let skip = skips.into_iter().reduce(|a, b| a.select(a, b))?;
        let skip = full.select(skip, no);
        results.push((SKIPPED.into(), skip.select(step.num(1.0), step.num(0.0))));
        Some(Found { skip, results })
    }
}
