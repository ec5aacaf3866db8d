//! The training loop.

use crate::config::Config;
use crate::data::{Batch, Data, random};
use crate::error::{Error, Result};
use crate::objective::{Mode, Objective, bound};
use crate::text::Tokenizer;
use crate::weights::checkpoint;
use ir::names::{LOSS, LOSS_COUNT, LOSS_SUM};
use models::Model;
use passes::{Opt, Optimizer, lower_precision, optimize, train_step};
use runtime::{Device, Session};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What happens while training, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Event {
    /// The program is compiled.
    Ready { parameters: usize, bytes: usize, compile_seconds: f64, kernels: usize, from_step: u64 },
    /// Something to know that is no error.
    Notice(String),
    /// A step is done.
    Step { step: u64, loss: f64, grad_norm: f64, lr: f64, tokens_per_second: f64 },
    /// The held-out text was evaluated, in part or, at the end, whole.
    Evaluated { step: u64, loss: f64, whole: bool },
    /// A checkpoint is on disk.
    Saved { step: u64 },
}

/// How training ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps are done; the loss over all held-out text.
    Finished(f64),
    /// It was asked to stop after this many steps, which are saved.
    Stopped(u64),
}

/// A model in training.
pub struct Trainer {
    config: Config,
    data: Data,
    /// Checksum of the tokens.
    text: String,
    session: Session,
    evaluation: Session,
    step: u64,
    /// Look at every kernel's result and stop at the first that is not finite.
    pub check_finite: bool,
    compile_seconds: f64,
    notices: Vec<String>,
}

/// A training step's program, dims bound, and what the compiler has to say of it.
pub fn step_program(model: &Model, config: &Config, opt: Opt) -> Result<(ir::Graph, Vec<String>)> {
    let t = &config.train;
    let graph = bound(model, t.batch, t.context)?.keep_outputs(&LOSS);
    let stages = optimize(&graph, Some(LOSS_SUM), opt)?;
    let optimizer =
        Optimizer { beta1: t.beta1, beta2: t.beta2, eps: 1e-8, weight_decay: t.weight_decay, grad_clip: t.grad_clip, accumulate: t.accumulate };
    let graph = lower_precision(stages.last(), t.precision.dtype());
    Ok((train_step(&graph, &optimizer)?, stages.notices()))
}

impl Trainer {
    /// Compiles the programs and starts from the seed. The model's vocabulary is the tokenizer's.
    pub fn new(config: Config, tokens: Vec<i32>, device: impl Into<Device>) -> Result<Trainer> {
        config.check()?;
        let (start, device) = (Instant::now(), device.into());
        let text = checkpoint::checksum(&tokens.iter().flat_map(|t| t.to_le_bytes()).collect::<Vec<u8>>());
        let data = Data::split(tokens, config.data.held_out, config.train.context)?;
        let (program, notices) = step_program(&config.model, &config, Opt::Egg)?;
        let mut session = Session::new(&program, device.clone())?;
        let forward = Objective::NextToken.bound(&config.model, Mode::Evaluate, config.train.batch, config.train.context)?.keep_outputs(&LOSS);
        let forward = lower_precision(optimize(&forward, None, Opt::Egg)?.last(), config.train.precision.dtype());
        let evaluation = Session::new(&forward, device)?;
        initialise(&mut session, &config.model, config.train.seed)?;
        Ok(Trainer { config, data, text, session, evaluation, step: 0, check_finite: false, compile_seconds: start.elapsed().as_secs_f64(), notices })
    }

    /// Goes on from a run directory's checkpoint. Refused where it was made of another text.
    pub fn resume(&mut self, dir: &Path) -> Result<u64> {
        let manifest = checkpoint::read(dir)?.ok_or_else(|| Error(format!("{}: there is no checkpoint to resume from", dir.display())))?;
        if manifest.text != self.text {
            return Err(Error(format!("{}: this run was trained on another text; give the same --data", dir.display())));
        }
        checkpoint::restore(dir, &manifest, &mut self.session, &|_| true)?;
        self.step = manifest.step;
        Ok(self.step)
    }

    /// The session of the training step.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Trains to the end, or until `stop` is set, saving to `dir` where one is given.
    pub fn run(&mut self, dir: Option<&Path>, stop: &AtomicBool, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<Outcome> {
        let t = self.config.train.clone();
        let parameters = self.session.params().filter(|p| !p.0.starts_with("adamw.")).map(|p| p.1.count()).sum();
        let bytes = self.session.bytes() + self.evaluation.bytes();
        let kernels = self.session.program().kernels.len();
        show(Event::Ready { parameters, bytes, compile_seconds: self.compile_seconds, kernels, from_step: self.step })?;
        for notice in &self.notices {
            show(Event::Notice(notice.clone()))?;
        }
        while self.step < t.steps {
            if stop.load(Ordering::Relaxed) {
                self.save(dir, show)?;
                return Ok(Outcome::Stopped(self.step));
            }
            let start = Instant::now();
            let (loss, grad_norm) = self.one_step()?;
            let tokens = (t.batch * t.context) as f64 * f64::from(t.accumulate);
            let lr = t.lr_at(self.step - 1);
            show(Event::Step { step: self.step, loss, grad_norm, lr, tokens_per_second: tokens / start.elapsed().as_secs_f64() })?;
            if self.step.is_multiple_of(t.eval_every) && self.step < t.steps {
                let loss = self.evaluate(Some(t.eval_batches))?;
                show(Event::Evaluated { step: self.step, loss, whole: false })?;
            }
            if self.step.is_multiple_of(t.save_every) && self.step < t.steps {
                self.save(dir, show)?;
            }
        }
        self.save(dir, show)?;
        let loss = self.evaluate(None)?;
        show(Event::Evaluated { step: self.step, loss, whole: true })?;
        Ok(Outcome::Finished(loss))
    }

    fn save(&self, dir: Option<&Path>, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let Some(dir) = dir else { return Ok(()) };
        checkpoint::save(dir, &self.session, self.step, &self.text)?;
        show(Event::Saved { step: self.step })
    }

    /// One step; its loss and the norm of its gradient. A loss that is not finite is an error, and the step does not count.
    pub fn one_step(&mut self) -> Result<(f64, f64)> {
        let t = &self.config.train;
        let rows = t.batch * t.accumulate as usize;
        let Batch { ids, labels } = self.data.batch(t.seed, self.step, rows, t.context);
        self.session.set_i32("input_ids", &ids)?;
        self.session.set_i32("labels", &labels)?;
        self.session.set_f32("lr", &[t.lr_at(self.step) as f32])?;
        self.session.set_f32("step", &[(self.step + 1) as f32])?;
        if self.session.inputs().any(|n| n == "key") {
            let keys: Vec<u32> =
                (0..u64::from(t.accumulate)).map(|i| random(t.seed ^ 0x64726F70, self.step * u64::from(t.accumulate) + i) as u32).collect();
            self.session.set_u32("key", &keys)?;
        }
        if self.check_finite {
            self.session.run_checked().map_err(|e| Error(format!("step {}: {e}", self.step + 1)))?;
        } else {
            self.session.run().map_err(|e| Error(format!("step {}: {e}; the last checkpoint is untouched", self.step + 1)))?;
        }
        let read = |name: &str| f64::from(self.session.output(name).expect("a training step has it").f32s()[0]);
        let (loss, norm) = (read("loss"), read("grad_norm"));
        if !loss.is_finite() || !norm.is_finite() {
            return Err(Error(format!(
                "step {}: the loss is {loss} and the gradient's norm {norm}; try a smaller train.lr, or --check-finite to see the first kernel; the last checkpoint is untouched",
                self.step + 1
            )));
        }
        self.step += 1;
        Ok((loss, norm))
    }

    /// The mean loss over held-out text: all of it, or `batches` spread evenly.
    pub fn evaluate(&mut self, batches: Option<usize>) -> Result<f64> {
        let t = &self.config.train;
        self.evaluation.adopt_params(&self.session)?;
        let all = self.data.held_out_batches(t.batch, t.context);
        let n = batches.unwrap_or(all.len()).min(all.len());
        let (mut total, mut count) = (0.0, 0.0);
        for i in 0..n {
            let b = &all[i * all.len() / n];
            self.evaluation.set_i32("input_ids", &b.ids)?;
            self.evaluation.set_i32("labels", &b.labels)?;
            self.evaluation.run().map_err(|e| Error(e.to_string()))?;
            let read = |name| f64::from(self.evaluation.output(name).expect("the program has a loss").f32s()[0]);
            total += read(LOSS_SUM);
            count += read(LOSS_COUNT);
        }
        Ok(total / count.max(1.0))
    }
}

/// Fills parameters as the model says, piece by piece, so that a layer's start does not depend on how many there are.
pub fn initialise(session: &mut Session, model: &Model, seed: u64) -> Result<()> {
    let all: Vec<(String, usize, usize)> = session
        .params()
        .filter(|p| !p.0.starts_with("adamw.") && !p.0.starts_with("past."))
        .map(|p| (p.0.to_string(), p.1.sizes()[0], p.1.count()))
        .collect();
    for (name, trip, count) in all {
        let pieces = if name.contains("{}") { trip } else { 1 };
        session.fill_param(&name, |values| {
            for (i, piece) in values.chunks_mut(count / pieces).enumerate() {
                let name = name.replacen("{}", &i.to_string(), 1);
                model.init(&name).fill(seed, &name, piece);
            }
        })?;
    }
    Ok(())
}

/// Sets the model's vocabulary to the tokenizer's.
pub fn with_vocabulary(model: &Model, tokenizer: &Tokenizer) -> Result<Model> {
    Ok(model.with_vocabulary(tokenizer.size())?)
}
