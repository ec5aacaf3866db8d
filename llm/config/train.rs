//! How a model is trained: the settings, their ranges, and the learning rate of each step.

use super::Precision;
use models::check::within;
use passes::{ACCUMULATE_MAX, AdamW, Update};
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Number of steps.
    pub steps: u64,
    /// Windows a micro-batch.
    pub batch: usize,
    /// Tokens a window.
    pub context: usize,
    /// Micro-batches a step.
    pub accumulate: u32,
    /// What products are computed in: f32 or bf16.
    pub precision: Precision,
    /// Highest learning rate.
    pub lr: f64,
    /// Learning rate at the end; a tenth of `lr` where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lr: Option<f64>,
    /// Steps of linear warm-up; below 1, a share of all steps.
    pub warmup: f64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for no limit.
    pub grad_clip: f64,
    /// Seed of initialisation, batches and dropout.
    pub seed: u64,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// Held-out batches an evaluation on the way uses; the last uses all.
    pub eval_batches: usize,
    /// Steps between checkpoints.
    pub save_every: u64,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            steps: 2000,
            batch: 12,
            context: 64,
            accumulate: 1,
            precision: Precision::F32,
            lr: 1e-3,
            min_lr: None,
            warmup: 0.05,
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.1,
            grad_clip: 1.0,
            seed: 1337,
            eval_every: 250,
            eval_batches: 20,
            save_every: 500,
        }
    }
}

/// Settings that may be others when a run goes on: how long, and how often it is looked at and saved. All others make it another run.
/// With other steps the rates are those of a run that had so many from its beginning, from the step on where it goes on.
pub const RESUMABLE: [&str; 4] = ["steps", "eval_every", "eval_batches", "save_every"];

impl TrainConfig {
    /// The learning rate as a function of the step.
    pub fn schedule(&self) -> Schedule {
        let warmup = if self.warmup < 1.0 { (self.warmup * self.steps as f64).round() } else { self.warmup };
        Schedule { steps: self.steps, warmup: warmup as u64, lr: self.lr, min_lr: self.min_lr.unwrap_or(self.lr / 10.0) }
    }

    /// What a step does to the parameters: AdamW, under which only tensors of two or more axes decay.
    pub fn update(&self) -> Update {
        let settings = AdamW { beta1: self.beta1, beta2: self.beta2, weight_decay: self.weight_decay, ..AdamW::default() };
        Update { grad_clip: self.grad_clip, accumulate: self.accumulate, ..Update::adamw(settings) }
    }

    /// Rows a step, of all its micro-batches.
    pub fn step_rows(&self) -> usize {
        self.batch * self.accumulate as usize
    }

    /// Rows of all steps.
    pub fn rows(&self) -> u64 {
        self.steps * self.step_rows() as u64
    }

    /// The learning rate of a step, counted from 0.
    pub fn lr_at(&self, step: u64) -> f64 {
        self.schedule().at(step)
    }

    /// Why this cannot be trained, if it cannot: the first setting that is out of its range.
    pub fn check(&self) -> Result<(), String> {
        let usual = TrainConfig::default();
        if self.precision == Precision::F16 {
            return Err("train.precision is f16, whose range is too small for gradients: expected f32 or bf16".into());
        }
        let whole = |name: &str, value: u64, most: u64, usual: u64| within(&format!("train.{name}"), value, 1..=most, usual);
        whole("steps", self.steps, STEPS, usual.steps)?;
        whole("batch", self.batch as u64, WINDOWS, usual.batch as u64)?;
        whole("context", self.context as u64, models::check::LARGEST as u64, usual.context as u64)?;
        whole("accumulate", self.accumulate.into(), ACCUMULATE_MAX.into(), usual.accumulate.into())?;
        whole("eval_every", self.eval_every, STEPS, usual.eval_every)?;
        whole("eval_batches", self.eval_batches as u64, STEPS, usual.eval_batches as u64)?;
        whole("save_every", self.save_every, STEPS, usual.save_every)?;
        within("train.seed", self.seed, 0..=i64::MAX as u64, usual.seed)?;
        self.check_tokens()?;
        // what is larger has no place in 32 bits beside a gradient
        let large = 1e30;
        within("train.lr", self.lr, (Excluded(0.0), Included(large)), "1e-3")?;
        self.check_schedule()?;
        within("train.beta1", self.beta1, 0.0..1.0, usual.beta1)?;
        within("train.beta2", self.beta2, 0.0..1.0, usual.beta2)?;
        within("train.weight_decay", self.weight_decay, 0.0..=large, usual.weight_decay)?;
        within("train.grad_clip", self.grad_clip, 0.0..=large, usual.grad_clip)
    }

    /// A step's tokens are counted in 32 bits.
    fn check_tokens(&self) -> Result<(), String> {
        let tokens = self.batch as u128 * self.context as u128 * u128::from(self.accumulate);
        if tokens <= i32::MAX as u128 {
            return Ok(());
        }
        let (batch, context, accumulate) = (self.batch, self.context, self.accumulate);
        Err(format!(
            "train.batch is {batch}, train.context {context} and train.accumulate {accumulate}: {tokens} tokens a step, expected at most {}; \
             try train.batch = 12",
            i32::MAX
        ))
    }

    fn check_schedule(&self) -> Result<(), String> {
        if let Some(min_lr) = self.min_lr {
            within("train.min_lr", min_lr, 0.0..=self.lr, format!("{:e}, a tenth of train.lr", self.lr / 10.0))?;
        }
        if self.warmup >= 1.0 && self.warmup.fract() != 0.0 {
            return Err(format!("train.warmup is {:?}, expected whole steps, or a share below 1; try train.warmup = 0.05", self.warmup));
        }
        within("train.warmup", self.warmup, 0.0..=self.steps as f64, "0.05, a share of train.steps")
    }
}

/// More steps than any run has.
const STEPS: u64 = 1_000_000_000;
/// More windows than any step has.
const WINDOWS: u64 = 1 << 20;

/// The learning rate as a function of the step: linear warm-up, then a cosine to the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// All steps.
    pub steps: u64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// The highest rate.
    pub lr: f64,
    /// The rate at the end.
    pub min_lr: f64,
}

impl Schedule {
    /// The rate of a step, counted from 0. After the last it stays what it was.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1);
        let done = (step - self.warmup) as f64 / span as f64;
        self.min_lr + 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()) * (self.lr - self.min_lr)
    }
}
