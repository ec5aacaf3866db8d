//! Which checkpoints a run keeps: the last ones, the best, those of every so many steps, and one every so many minutes.

use crate::config::TrainConfig;
use crate::error::Result;
use crate::step::Step;
use crate::weights::checkpoint::{BEST, at_step, keep, kept, read, remove};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is saved of a training, and when it was last.
pub(super) struct Saving<'a> {
    dir: &'a Path,
    train: &'a TrainConfig,
    /// The name of what it is trained on.
    text: String,
    /// The lowest held-out loss so far.
    best: f64,
    last: Instant,
}

impl<'a> Saving<'a> {
    /// Of a training that goes on after a step. A best checkpoint of a later step is of a past that comes again.
    pub(super) fn new(dir: &'a Path, train: &'a TrainConfig, text: String, done: u64) -> Saving<'a> {
        let before = read(&dir.join(BEST)).ok().flatten().filter(|m| m.step <= done && done > 0);
        let best = before.and_then(|m| m.loss).unwrap_or(f64::INFINITY);
        Saving { dir, train, text, best, last: Instant::now() }
    }

    /// Whether a checkpoint is due after a step.
    pub(super) fn due(&self, step: u64) -> bool {
        let t = self.train;
        let minutes = Duration::from_secs_f64(60.0 * t.save_minutes);
        step.is_multiple_of(t.save_every) || self.is_milestone(step) || !minutes.is_zero() && self.last.elapsed() >= minutes
    }

    fn is_milestone(&self, step: u64) -> bool {
        self.train.milestone_every > 0 && step.is_multiple_of(self.train.milestone_every)
    }

    /// Saves after a step, keeps what is to be kept, and then removes what is no longer.
    pub(super) fn save(&mut self, step: &Step) -> Result<()> {
        step.save(self.dir, &self.text)?;
        self.last = Instant::now();
        let rolling = self.train.keep_last > 1;
        if rolling || self.is_milestone(step.done()) {
            keep(self.dir, &at_step(self.dir, step.done()), None)?;
        }
        let passing: Vec<u64> = kept(self.dir).into_iter().filter(|s| *s <= step.done() && !self.is_milestone(*s)).collect();
        let stay = if rolling { self.train.keep_last as usize } else { 0 };
        passing.iter().rev().skip(stay).for_each(|s| remove(&at_step(self.dir, *s)));
        Ok(())
    }

    /// What a held-out loss means for the best checkpoint; `saved` where the run's last one is of this step.
    pub(super) fn evaluated(&mut self, step: &Step, loss: f64, saved: bool) -> Result<()> {
        if !self.train.keep_best || loss >= self.best || loss.is_nan() {
            return Ok(());
        }
        self.best = loss;
        if saved {
            return keep(self.dir, &self.dir.join(BEST), Some(loss));
        }
        step.save_best(self.dir, &self.text, loss)
    }
}
