//! How a model is trained: the settings and their ranges.

use super::{Curve, Decay, Precision, Ramp, Schedule};
use models::check::within;
use passes::{ACCUMULATE_MAX, Outliers};
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
    /// Smaller steps at the beginning, as in `[{until = 500, accumulate = 1}, {until = 1000, context = 32}]`.
    pub ramp: Vec<Ramp>,
    /// Lengths that rows are filled up to where data.packing is bucketed, besides `context`; a quarter and a half of it where there is none.
    pub lengths: Vec<usize>,
    /// What products are computed in: f32 or bf16.
    pub precision: Precision,
    /// Highest learning rate.
    pub lr: f64,
    /// How the learning rate goes after its warm-up: cosine, linear, constant, wsd, inverse-sqrt, noam or one-cycle.
    pub schedule: Curve,
    /// Learning rate at the end; a tenth of `lr` where it is not set. A constant and a root of the step have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_lr: Option<f64>,
    /// Steps of linear warm-up; below 1, a share of all steps.
    pub warmup: f64,
    /// The last steps, in which the rate of wsd falls; below 1, a share of all steps.
    pub decay: f64,
    /// How it falls: linear or 1-sqrt.
    pub decay_shape: Decay,
    /// Largest norm of the gradient; 0 for no limit.
    pub grad_clip: f64,
    /// Decay of a moving average of the weights, which is kept beside them; 0 for none.
    pub ema: f64,
    /// Updates of steps are skipped whose loss is so many standard deviations above the mean of the last 128; 0 for none.
    pub skip_loss: f64,
    /// The same of the gradient's norm.
    pub skip_norm: f64,
    /// Every step reads the batch of the first: a model and a training that are right learn it by heart.
    pub one_batch: bool,
    /// Minutes after which a run ends, with a checkpoint; 0 for none.
    pub time_limit: f64,
    /// Evaluations without a better held-out loss after which it ends, counted from where it goes on; 0 for none.
    pub patience: u64,
    /// Seed of initialisation, batches and dropout.
    pub seed: u64,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// Held-out batches an evaluation on the way uses; the last uses all.
    pub eval_batches: usize,
    /// The first so many questions of each file of a task that an evaluation on the way asks; the last asks all.
    pub eval_questions: usize,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Minutes after which a checkpoint is saved, too; 0 for steps alone.
    pub save_minutes: f64,
    /// How many of the last checkpoints are kept; from 2 on each is a directory in the run's, as step-500.
    pub keep_last: u32,
    /// Keep the checkpoint of the lowest held-out loss in the directory best.
    pub keep_best: bool,
    /// Steps between checkpoints that are kept for good, each in a directory as step-500; 0 for none.
    pub milestone_every: u64,
    /// Steps between texts that are written on the way; 0 for none.
    pub sample_every: u64,
    /// What they begin with; nothing for what the tokenizer begins a text with.
    pub sample_prompt: String,
    /// Tokens of each.
    pub sample_tokens: usize,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            steps: 2000,
            batch: 12,
            context: 64,
            accumulate: 1,
            ramp: vec![],
            lengths: vec![],
            precision: Precision::F32,
            lr: 1e-3,
            schedule: Curve::Cosine,
            min_lr: None,
            warmup: 0.05,
            decay: 0.2,
            decay_shape: Decay::Linear,
            grad_clip: 1.0,
            ema: 0.0,
            skip_loss: 0.0,
            skip_norm: 0.0,
            one_batch: false,
            time_limit: 0.0,
            patience: 0,
            seed: 1337,
            eval_every: 250,
            eval_batches: 20,
            eval_questions: 100,
            save_every: 500,
            save_minutes: 0.0,
            keep_last: 1,
            keep_best: true,
            milestone_every: 0,
            sample_every: 0,
            sample_prompt: String::new(),
            sample_tokens: 100,
        }
    }
}

/// Settings that may be others when a run goes on: how long, and how often it is looked at and saved. All others make it another run.
/// With other steps the rates are those of a run that had so many from its beginning, from the step on where it goes on.
pub const RESUMABLE: [&str; 14] = [
    "steps",
    "eval_every",
    "eval_batches",
    "eval_questions",
    "save_every",
    "save_minutes",
    "keep_last",
    "keep_best",
    "milestone_every",
    "sample_every",
    "sample_prompt",
    "sample_tokens",
    "time_limit",
    "patience",
];

impl TrainConfig {
    /// The learning rate as a function of the step.
    pub fn schedule(&self) -> Schedule {
        let part = |x: f64| (if x < 1.0 { (x * self.steps as f64).round() } else { x }) as u64;
        let min_lr = self.min_lr.unwrap_or(Schedule::usual_min_lr(self.schedule, self.lr));
        Schedule {
            curve: self.schedule,
            steps: self.steps,
            warmup: part(self.warmup),
            decay: part(self.decay),
            decay_shape: self.decay_shape,
            lr: self.lr,
            min_lr,
        }
    }

    /// Lengths of rows, in their order, `context` the last.
    pub fn lengths(&self) -> Vec<usize> {
        let usual = [self.context / 4, self.context / 2];
        let some = if self.lengths.is_empty() { &usual[..] } else { &self.lengths[..] };
        let mut all: Vec<usize> = some.iter().copied().filter(|n| *n > 0).chain([self.context]).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Which steps update nothing.
    pub fn outliers(&self) -> Outliers {
        Outliers { loss: self.skip_loss, norm: self.skip_norm }
    }

    /// Rows a step, of all its micro-batches.
    pub fn step_rows(&self) -> usize {
        self.batch * self.accumulate as usize
    }

    /// The number of the batch that a step reads.
    pub fn batch_of(&self, step: u64) -> u64 {
        if self.one_batch { 0 } else { step }
    }

    /// Rows of all steps.
    pub fn rows(&self) -> u64 {
        self.micro_batches(self.steps) * self.batch as u64
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
        whole("eval_questions", self.eval_questions as u64, STEPS, usual.eval_questions as u64)?;
        whole("save_every", self.save_every, STEPS, usual.save_every)?;
        within("train.time_limit", self.time_limit, 0.0..=1e9, "15, in minutes")?;
        within("train.patience", self.patience, 0..=STEPS, 5)?;
        self.check_kept()?;
        within("train.seed", self.seed, 0..=i64::MAX as u64, usual.seed)?;
        self.lengths.iter().try_for_each(|n| within("train.lengths", *n, 1..=self.context, self.context.div_ceil(2)))?;
        self.check_tokens()?;
        self.check_ramp()?;
        // what is larger has no place in 32 bits beside a gradient
        let large = 1e30;
        within("train.lr", self.lr, (Excluded(0.0), Included(large)), "1e-3")?;
        self.check_schedule()?;
        within("train.grad_clip", self.grad_clip, 0.0..=large, usual.grad_clip)?;
        within("train.ema", self.ema, 0.0..1.0, 0.999)?;
        // of 128 numbers none is further from their mean than 11.2 deviations
        within("train.skip_loss", self.skip_loss, 0.0..=11.0, 3)?;
        within("train.skip_norm", self.skip_norm, 0.0..=11.0, 3)
    }

    /// What is saved and written on the way.
    fn check_kept(&self) -> Result<(), String> {
        within("train.save_minutes", self.save_minutes, 0.0..=1e6, "30, or 0 for steps alone")?;
        within("train.keep_last", self.keep_last, 1..=10_000, 1)?;
        within("train.milestone_every", self.milestone_every, 0..=STEPS, "10000, or 0 for none")?;
        within("train.sample_every", self.sample_every, 0..=STEPS, "1000, or 0 for none")?;
        within("train.sample_tokens", self.sample_tokens, 1..=100_000, 100)
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
        for (key, part, attempt) in [("warmup", self.warmup, 0.05), ("decay", self.decay, 0.2)] {
            if part >= 1.0 && part.fract() != 0.0 {
                return Err(format!("train.{key} is {part:?}, expected whole steps, or a share below 1; try train.{key} = {attempt}"));
            }
            within(&format!("train.{key}"), part, 0.0..=self.steps as f64, format!("{attempt}, a share of train.steps"))?;
        }
        let Schedule { warmup, decay, steps, .. } = self.schedule();
        if self.schedule == Curve::Wsd && warmup + decay > steps {
            return Err(format!("train.warmup and train.decay are {warmup} and {decay} steps, and train.steps is {steps}: try train.decay = 0.2"));
        }
        Ok(())
    }
}

/// More steps than any run has.
const STEPS: u64 = 1_000_000_000;
/// More windows than any step has.
const WINDOWS: u64 = 1 << 20;
