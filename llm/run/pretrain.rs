//! Training on texts, whatever is asked of them.

use super::ahead::Ahead;
use super::ending::Ending;
use super::evaluation::Evaluation;
use crate::config::Config;
use crate::data::{Collator, Data, Source};
use crate::error::{Error, Result};
use crate::step::{Report, Step};
use passes::{Options, State};
use runtime::{Device, Session};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What happens while training, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Event {
    /// The program is compiled.
    Ready { parameters: usize, bytes: usize, compile_seconds: f64, kernels: usize, from_step: u64, sources: Vec<Reads> },
    /// Something to know that is no error.
    Notice(String),
    /// A step is done.
    Step { step: u64, loss: f64, grad_norm: f64, lr: f64, tokens_per_second: f64 },
    /// The held-out text was evaluated, in part or, at the end, whole.
    Evaluated { step: u64, loss: f64, whole: bool },
    /// A checkpoint is on disk.
    Saved { step: u64 },
}

/// What a run reads of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Reads {
    /// What a person calls the source.
    pub source: String,
    /// Tokens for training.
    pub tokens: u64,
    /// How often they are read over, from the first step to the last.
    pub epochs: f64,
}

/// How training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are done; the loss over all held-out text.
    Finished(f64),
    /// It was asked to stop after this many steps, which are saved.
    Stopped(u64),
}

/// So often a text may be read until it teaches next to nothing (Muennighoff et al. 2023, "Scaling data-constrained language models").
const OFTEN: f64 = 40.0;

/// A model in training.
pub struct Trainer {
    config: Config,
    data: Arc<Data>,
    /// The step it takes, again and again.
    pub step: Step,
    evaluation: Evaluation,
    compile_seconds: f64,
}

impl Trainer {
    /// Compiles the programs and starts from the seed. The model's vocabulary is the tokenizer's.
    pub fn new(config: Config, tokens: Vec<i32>, device: impl Into<Device>) -> Result<Trainer> {
        let text = Source::text("the text", tokens, config.data.held_out);
        Trainer::compiled(config, vec![text], device, &Options::default())
    }

    /// The same on any sources, compiled as `options` say; the precision is the configuration's, and prices are the device's.
    pub fn compiled(config: Config, sources: Vec<Source>, device: impl Into<Device>, options: &Options) -> Result<Trainer> {
        config.check()?;
        let (start, device) = (Instant::now(), device.into());
        let marks = sources.first().map(|s| s.marks.clone()).unwrap_or_default();
        let collator = Collator::new(config.aim(), &config.objective, config.data.packing, &marks)?;
        let data = Arc::new(Data::asking(sources, &config.data, collator, config.train.context, config.train.rows())?);
        let options = Options { machine: device.target()?.machine(), precision: config.train.precision.dtype(), ..options.clone() };
        let step = Step::new(&config, device.clone(), &options)?;
        let evaluation = Evaluation::new(&config, device, &options, step.session())?;
        Ok(Trainer { config, data, step, evaluation, compile_seconds: start.elapsed().as_secs_f64() })
    }

    /// Goes on from a run directory's checkpoint. Refused where it was made of another text, or is beyond the last step.
    pub fn resume(&mut self, dir: &Path) -> Result<u64> {
        let (done, steps) = (self.step.resume(dir, &self.data.fingerprint())?, self.config.train.steps);
        if done <= steps {
            return Ok(done);
        }
        let dir = dir.display();
        Err(Error(format!("{dir}: train.steps is {steps}, and this run is saved after step {done}; try --set train.steps={}", done + 1)))
    }

    /// Trains to the end, or until `stop` is set, saving to `dir` where one is given.
    pub fn run(&mut self, dir: Option<&Path>, stop: &AtomicBool, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<Outcome> {
        let t = self.config.train.clone();
        let tokens = (t.batch * t.context) as f64 * f64::from(t.accumulate);
        show(self.ready()?)?;
        for Reads { source, epochs, .. } in self.sources()?.iter().filter(|s| s.epochs > OFTEN) {
            show(Event::Notice(format!(
                "{source} is read {epochs:.0} times over, and reading it more than about {OFTEN} times teaches next to nothing"
            )))?;
        }
        for notice in self.step.notices() {
            show(Event::Notice(notice.clone()))?;
        }
        let ahead = Ahead::new(self.data.clone(), &t, self.step.done()..t.steps)?;
        let mut ending = Ending::new(&t);
        while self.step.done() < t.steps {
            if let Some(why) = ending.why() {
                show(Event::Notice(format!("{why}: it ends after step {} of {}, and goes on with --resume", self.step.done(), t.steps)))?;
                break;
            }
            if stop.load(Ordering::Relaxed) {
                self.save(dir, show)?;
                return Ok(Outcome::Stopped(self.step.done()));
            }
            let start = Instant::now();
            let Report { loss, grad_norm, lr, skipped } = self.step.take(&ahead.next()?)?;
            let step = self.step.done();
            if skipped {
                let what = format!("step {step}: loss {loss:.4} and norm {grad_norm:.4} stand out from the steps before, and nothing was updated");
                show(Event::Notice(what))?;
            }
            show(Event::Step { step, loss, grad_norm, lr, tokens_per_second: tokens / start.elapsed().as_secs_f64() })?;
            if step.is_multiple_of(t.eval_every) && step < t.steps {
                let loss = self.evaluate(Some(t.eval_batches))?;
                ending.evaluated(loss);
                show(Event::Evaluated { step, loss, whole: false })?;
            }
            if step.is_multiple_of(t.save_every) && step < t.steps {
                self.save(dir, show)?;
            }
        }
        self.save(dir, show)?;
        let loss = self.evaluate(None)?;
        show(Event::Evaluated { step: self.step.done(), loss, whole: true })?;
        Ok(Outcome::Finished(loss))
    }

    /// One step; its loss and the norm of its gradient. A loss that is not finite is an error, and the step does not count.
    pub fn one_step(&mut self) -> Result<(f64, f64)> {
        let t = &self.config.train;
        let batch = self.data.batch(t.seed, t.batch_of(self.step.done()), t.step_rows(), t.context)?;
        let report = self.step.take(&batch)?;
        Ok((report.loss, report.grad_norm))
    }

    /// The mean loss over held-out text: all of it, or `batches` spread evenly.
    pub fn evaluate(&mut self, batches: Option<usize>) -> Result<f64> {
        let held_out = self.data.held_out(self.config.train.batch, self.config.train.context)?;
        let all = held_out.count();
        let n = batches.unwrap_or(all).min(all);
        self.evaluation.mean_loss((0..n).map(|i| held_out.batch(i * all / n)))
    }

    fn save(&self, dir: Option<&Path>, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let Some(dir) = dir else { return Ok(()) };
        self.step.save(dir, &self.data.fingerprint())?;
        show(Event::Saved { step: self.step.done() })
    }

    fn ready(&self) -> Result<Event> {
        let session = self.step.session();
        Ok(Event::Ready {
            parameters: session.params().filter(|p| State::parse(p.0).is_parameter()).map(|p| p.1.count()).sum(),
            bytes: session.bytes() + self.evaluation.bytes(),
            compile_seconds: self.compile_seconds,
            kernels: session.program().kernels.len(),
            from_step: self.step.done(),
            sources: self.sources()?,
        })
    }

    /// What is read of each source in the whole run.
    fn sources(&self) -> Result<Vec<Reads>> {
        let t = &self.config.train;
        let epochs = self.data.epochs(t.seed, t.rows(), t.context)?;
        let one = |(s, epochs): (&Source, f64)| Reads { source: s.name.clone(), tokens: s.train.count(), epochs };
        Ok(self.data.sources().iter().zip(epochs).map(one).collect())
    }

    /// The session of the training step.
    pub fn session(&self) -> &Session {
        self.step.session()
    }
}
