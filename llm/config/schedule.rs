//! The learning rate of each step.

use serde::{Deserialize, Serialize};

/// How the learning rate goes after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Curve {
    /// Half a period of a cosine, to the end.
    #[default]
    Cosine,
    /// A straight line, to the end.
    Linear,
    /// It stays.
    Constant,
    /// It stays, and falls in the last part of the steps (Hu et al. 2024).
    Wsd,
    /// As the root of the step falls: √(warm-up / step).
    InverseSqrt,
    /// The same, with a warm-up that meets it (Vaswani et al. 2017); the original's factor · (width · warm-up)^-½ is the highest rate.
    Noam,
    /// From a 25th up by a cosine, and down by one (Smith & Topin 2018), as PyTorch's `OneCycleLR`.
    OneCycle,
}

ir::spell!(Curve, "schedule", [
    Cosine "cosine", Linear "linear", Constant "constant", Wsd "wsd" | "trapezoid", InverseSqrt "inverse-sqrt" | "inverse_sqrt", Noam "noam",
    OneCycle "one-cycle" | "one_cycle" | "onecycle"
]);

/// How the last part of a schedule that stays falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Decay {
    /// A straight line.
    #[default]
    Linear,
    /// 1 − √x of the way x.
    Sqrt,
}

ir::spell!(Decay, "decay", [Linear "linear", Sqrt "1-sqrt" | "sqrt"]);

/// The learning rate as a function of the step: warm-up, then a curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The curve.
    pub curve: Curve,
    /// All steps.
    pub steps: u64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// The last steps, in which one that stays falls.
    pub decay: u64,
    /// How it falls.
    pub decay_shape: Decay,
    /// The highest rate.
    pub lr: f64,
    /// The rate at the end.
    pub min_lr: f64,
}

/// What part of its highest rate a cycle begins with, and what part of that it ends with: PyTorch's `div_factor` and `final_div_factor`.
const FIRST: f64 = 1.0 / 25.0;
const LAST: f64 = 1e-4;

impl Schedule {
    /// The rate at the end where none is set.
    pub fn usual_min_lr(curve: Curve, lr: f64) -> f64 {
        match curve {
            Curve::Cosine | Curve::Linear | Curve::Wsd => lr / 10.0,
            Curve::Constant => lr,
            Curve::InverseSqrt | Curve::Noam => 0.0,
            Curve::OneCycle => lr * FIRST * LAST,
        }
    }

    /// The rate of a step, counted from 0. After the last it stays what it was, but for a curve that has no end.
    pub fn at(&self, step: u64) -> f64 {
        let (warmup, lr) = (self.warmup as f64, self.lr);
        match self.curve {
            Curve::OneCycle => return self.cycle(step as f64),
            Curve::Noam if warmup > 0.0 => return lr * f64::min(((step + 1) as f64 / warmup).sqrt().recip(), (step + 1) as f64 / warmup),
            Curve::Noam | Curve::Cosine | Curve::Linear | Curve::Constant | Curve::Wsd | Curve::InverseSqrt => {}
        }
        if step < self.warmup {
            return lr * (step + 1) as f64 / (warmup + 1.0);
        }
        let span = self.steps.saturating_sub(self.warmup).max(1);
        let done = ((step - self.warmup) as f64 / span as f64).min(1.0);
        match self.curve {
            Curve::Cosine => self.min_lr + 0.5 * (1.0 + (std::f64::consts::PI * done).cos()) * (lr - self.min_lr),
            Curve::Linear => lr + (self.min_lr - lr) * done,
            Curve::Constant => lr,
            Curve::Wsd => self.fallen(step),
            // without a warm-up from the first step on, as if that had been one
            Curve::InverseSqrt | Curve::Noam | Curve::OneCycle => lr * (warmup.max(1.0) / (step as f64).max(1.0)).sqrt().min(1.0),
        }
    }

    /// The rate of one that stays, and then falls.
    fn fallen(&self, step: u64) -> f64 {
        let from = self.steps.saturating_sub(self.decay);
        if step < from {
            return self.lr;
        }
        let done = ((step - from) as f64 / self.decay.max(1) as f64).min(1.0);
        let left = match self.decay_shape {
            Decay::Linear => 1.0 - done,
            Decay::Sqrt => 1.0 - done.sqrt(),
        };
        self.min_lr + (self.lr - self.min_lr) * left
    }

    /// A cosine from a 25th to the highest rate, which the last step of the warm-up has, and one from there to the last step.
    fn cycle(&self, step: f64) -> f64 {
        let (top, end) = ((self.warmup as f64 - 1.0).max(0.0), self.steps as f64 - 1.0);
        let between = |from: f64, to: f64, done: f64| to + (from - to) / 2.0 * ((std::f64::consts::PI * done).cos() + 1.0);
        if step < top {
            return between(self.lr * FIRST, self.lr, step / top);
        }
        between(self.lr, self.min_lr, ((step - top) / (end - top).max(1.0)).min(1.0))
    }
}
