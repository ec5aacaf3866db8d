//! Which learning rate: steps whose rate grows until the loss does (Smith 2017, "Cyclical learning rates", §3.3).

use super::Trainer;
use crate::error::{Error, Result};

/// Rates, and the losses of steps at them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Each step's rate, and the loss after it, smoothed.
    pub points: Vec<(f64, f64)>,
}

/// What of a smoothed loss is of the steps before.
const SMOOTH: f64 = 0.9;
/// A loss so much above the first ends the search.
const LOST: f64 = 1.25;

impl Rates {
    /// The rate with the lowest loss.
    pub fn lowest(&self) -> f64 {
        self.points.iter().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0.0, |p| p.0)
    }

    /// A rate to train with: a tenth of that with the lowest loss, where it still falls. One digit of it.
    pub fn suggestion(&self) -> f64 {
        format!("{:.0e}", self.lowest() / 10.0).parse().unwrap_or(0.0)
    }
}

impl Trainer {
    /// Takes so many steps at rates from one to another, each by the same factor above that before it, and ends early where the loss is lost. The
    /// parameters are of no use afterwards.
    pub fn find_rate(&mut self, from: f64, to: f64, steps: u64) -> Result<Rates> {
        if !(from > 0.0 && to > from && to.is_finite() && steps >= 2) {
            return Err(Error(format!("rates from {from:e} to {to:e} in {steps} steps: expected a growing rate above 0, and 2 steps or more")));
        }
        let (mut points, mut mean, mut first): (Vec<(f64, f64)>, f64, f64) = (vec![], 0.0, f64::NAN);
        for i in 0..steps {
            let rate = from * (to / from).powf(i as f64 / (steps - 1) as f64);
            // a loss that is no number ends the search as one that is lost does
            let Ok(loss) = self.step_at(rate) else { break };
            mean = SMOOTH * mean + (1.0 - SMOOTH) * loss;
            let smooth = mean / (1.0 - SMOOTH.powi(i as i32 + 1));
            if i == 0 {
                first = smooth;
            }
            // the loss is of the parameters before this step: of the rate before it
            if let Some(last) = points.last_mut() {
                last.1 = smooth;
            }
            if smooth > LOST * first {
                break;
            }
            points.push((rate, smooth));
        }
        points.pop();
        if points.len() < 2 {
            return Err(Error(format!("the loss is lost at the first rate, {from:e}: begin with a smaller one")));
        }
        Ok(Rates { points })
    }
}
