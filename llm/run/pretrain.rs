//! Training on texts, whatever is asked of them.

use super::ahead::{Ahead, batch};
use super::ending::Ending;
use super::evaluation::{Evaluation, Judged};
use super::reference;
use super::saving::Saving;
use super::teacher::Teacher;
use super::unigram::Unigram;
use crate::config::{Aim, Config, DataConfig, TrainConfig};
use crate::data::{Batch, Collator, Data, Source};
use crate::error::{Error, Result};
use crate::step::{Report, Step};
use passes::Options;
use runtime::limits::resident_peak;
use runtime::{Device, Session};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What happens while training, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Event {
    /// The program is compiled. Bytes are those that are planned, `flops` the operations of a step's products, and `ceiling` those that the
    /// device does in a second at best, where that is known.
    Ready {
        parameters: usize,
        bytes: usize,
        compile_seconds: f64,
        kernels: usize,
        from_step: u64,
        to_step: u64,
        sources: Vec<Reads>,
        flops: f64,
        ceiling: Option<f64>,
    },
    /// Something to know that is no error.
    Notice(String),
    /// A step is done.
    Step { step: u64, loss: f64, grad_norm: f64, lr: f64, tokens_per_second: f64, cost: Cost },
    /// The held-out text was evaluated, in part or, at the end, whole.
    Evaluated { step: u64, loss: f64, whole: bool },
    /// Something else that was found of the held-out text.
    Measured { step: u64, what: String, value: f64 },
    /// A checkpoint is on disk.
    Saved { step: u64 },
    /// A text was written on the way.
    Sampled { step: u64, text: String },
}

/// What a step took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Tokens of the run so far.
    pub tokens: u64,
    /// Seconds of the step, without what it waited for its batch.
    pub seconds: f64,
    /// Seconds it waited for its batch.
    pub waited: f64,
    /// The share of the device's ceiling that its products reached in the step's seconds, where the ceiling is known.
    pub mfu: Option<f64>,
    /// The most bytes of the host's memory that the process has had; 0 where the system does not say.
    pub memory: usize,
}

/// The parts of a loss that has two.
const PARTS: [&str; 2] = ["masked loss", "next-sentence loss"];
/// What is found of classes.
const OF_CLASSES: [&str; 2] = ["accuracy", "macro-F1"];
/// What a loss is compared with.
const UNIGRAM: &str = "unigram baseline";
/// What else is measured of answers.
pub(super) const EXACT_MATCH: &str = "exact match";
/// Batches whose labels a baseline counts.
const COUNTED: u64 = 256;

/// What a run reads of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Reads {
    /// What a person calls the source.
    pub source: String,
    /// Tokens for training; none where they are made as they are read.
    pub tokens: Option<u64>,
    /// How often they are read over, from the first step to the last.
    pub epochs: f64,
}

impl Reads {
    /// Of sources, each read over so often.
    pub(super) fn of(sources: &[Source], epochs: Vec<f64>) -> Vec<Reads> {
        let tokens = |s: &Source| (!s.train.is_made()).then(|| s.train.count());
        sources.iter().zip(epochs).map(|(s, epochs)| Reads { source: s.name.clone(), tokens: tokens(s), epochs }).collect()
    }
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
    pub(super) config: Config,
    pub(super) data: Arc<Data>,
    /// The step it takes, again and again.
    pub step: Step,
    evaluation: Evaluation,
    device: Device,
    options: Options,
    teacher: Option<Teacher>,
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
        let config = config.adapted()?;
        config.check()?;
        let config = config.divided()?;
        let (start, device) = (Instant::now(), device.into());
        let marks = sources.first().map(|s| s.marks.clone()).unwrap_or_default();
        config.check_filling(&marks)?;
        // what imitates reads what a text is read by
        let aim = if config.aim() == Aim::Imitation { Aim::NextToken } else { config.aim() };
        let collator =
            Collator::new(aim, &config.objective, &config.data, &marks)?.weighing(&config.classify.weights).preferring(config.preference.kind);
        let data = Arc::new(Data::asking(sources, &config.data, collator, config.train.context, config.train.rows())?);
        let options = Options { machine: device.target()?.machine(), precision: config.train.precision.dtype(), ..options.clone() };
        let step = Step::new(&config, device.clone(), &options)?;
        let evaluation = Evaluation::new(&config, device.clone(), &options, step.session())?;
        Ok(Trainer { config, data, step, evaluation, device, options, teacher: None, compile_seconds: start.elapsed().as_secs_f64() })
    }

    /// Lets a model say what it says of each batch, for this one to imitate.
    pub fn imitating(&mut self, teacher: Teacher) {
        self.teacher = Some(teacher);
    }

    /// Finds what the model says of answers before it learns which are preferred, where that is asked: with the weights as they are, kept in a
    /// run directory, or of a run that goes on as it was kept there. `tell` hears how many of all pairs are done.
    pub fn refer(&mut self, dir: Option<&Path>, tell: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let c = &self.config;
        if c.aim() != Aim::Preferences || !c.preference.kind.refers() {
            return Ok(());
        }
        let known = match dir {
            Some(dir) if self.step.done() > 0 => reference::read(c, &self.data, dir)?,
            _ => reference::compute(c, &self.data, (self.device.clone(), &self.options), &self.step, dir, tell)?,
        };
        let data = Arc::get_mut(&mut self.data).ok_or_else(|| Error("the data is read already: find the reference before the first step".into()))?;
        data.knowing(known);
        Ok(())
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
        let mut saving = dir.map(|dir| Saving::new(dir, &t, self.data.fingerprint(), self.step.done()));
        let before = t.tokens_before(self.step.done());
        let mut meter =
            Meter { train: t.clone(), tokens: before, flops: self.flops(), ceiling: self.device.ceiling(t.precision.dtype()), memory: None };
        show(self.ready(&meter)?)?;
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
                self.save(saving.as_mut(), show)?;
                return Ok(Outcome::Stopped(self.step.done()));
            }
            let start = Instant::now();
            let batch = ahead.next()?;
            let begin = Instant::now();
            let batch = self.told(batch)?;
            let Report { loss, grad_norm, lr, skipped } = self.step.take(&batch)?;
            let step = self.step.done();
            let tokens = if self.data.is_bucketed() { batch.i32s("input_ids").len() as u64 } else { t.tokens(step - 1) };
            let cost = meter.cost(tokens, begin.elapsed(), begin - start);
            let tokens_per_second = tokens as f64 / start.elapsed().as_secs_f64();
            if skipped {
                let what = format!("step {step}: loss {loss:.4} and norm {grad_norm:.4} stand out from the steps before, and nothing was updated");
                show(Event::Notice(what))?;
            }
            show(Event::Step { step, loss, grad_norm, lr, tokens_per_second, cost })?;
            if step < t.steps {
                let evaluated = self.on_the_way(step, &t, saving.as_mut(), show)?;
                evaluated.into_iter().for_each(|loss| ending.evaluated(loss));
            }
        }
        self.save(saving.as_mut(), show)?;
        let (step, judged) = (self.step.done(), self.judge(None)?);
        let loss = judged.loss;
        show(Event::Evaluated { step, loss, whole: true })?;
        for (what, value) in [(UNIGRAM, self.unigram()?), (EXACT_MATCH, judged.exact)] {
            value.map_or(Ok(()), |value| show(Event::Measured { step, what: what.into(), value }))?;
        }
        show_parts(step, &judged, show)?;
        if let Some(saving) = saving.filter(|_| t.keep_best) {
            self.compare_last(saving, loss)?;
        }
        Ok(Outcome::Finished(loss))
    }

    /// What there is to do after a step that is not the last; the held-out loss, where it was evaluated.
    fn on_the_way(
        &mut self,
        step: u64,
        t: &TrainConfig,
        mut saving: Option<&mut Saving>,
        show: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<Option<f64>> {
        let mut evaluated = None;
        if step.is_multiple_of(t.eval_every) {
            let judged = self.judge(Some(t.eval_batches))?;
            evaluated = Some(judged.loss);
            show(Event::Evaluated { step, loss: judged.loss, whole: false })?;
            show_parts(step, &judged, show)?;
            let seen = self.step.take_seen();
            seen.into_iter().try_for_each(|(what, value)| show(Event::Measured { step, what: format!("training {what}"), value }))?;
        }
        let due = saving.as_ref().is_some_and(|s| s.due(step));
        if due {
            self.save(saving.as_deref_mut(), show)?;
        }
        if let (Some(saving), Some(loss)) = (saving, evaluated) {
            saving.evaluated(&self.step, loss, due)?;
        }
        Ok(evaluated)
    }

    /// Whether the last checkpoint is the best, too: on the batches by which the others were compared.
    fn compare_last(&mut self, mut saving: Saving, whole: f64) -> Result<()> {
        let batches = self.config.train.eval_batches;
        let all = self.data.held_out(self.config.train.batch, self.config.train.context)?.count();
        let loss = if batches < all { self.evaluate(Some(batches))? } else { whole };
        saving.evaluated(&self.step, loss, true)
    }

    /// One step at a rate of one's own; its loss.
    pub(super) fn step_at(&mut self, rate: f64) -> Result<f64> {
        let t = &self.config.train;
        let batch = batch(&self.data, t, self.step.done())?;
        let batch = self.told(batch)?;
        Ok(self.step.take_at(&batch, rate)?.loss)
    }

    /// One step; its loss and the norm of its gradient. A loss that is not finite is an error, and the step does not count.
    pub fn one_step(&mut self) -> Result<(f64, f64)> {
        let t = &self.config.train;
        let batch = batch(&self.data, t, self.step.done())?;
        let batch = self.told(batch)?;
        let report = self.step.take(&batch)?;
        Ok((report.loss, report.grad_norm))
    }

    /// A batch with what the teacher says of it, where there is one.
    fn told(&mut self, batch: Batch) -> Result<Batch> {
        match &mut self.teacher {
            Some(teacher) => teacher.told(batch),
            None => Ok(batch),
        }
    }

    /// The mean loss over held-out text: all of it, or `batches` spread evenly.
    pub fn evaluate(&mut self, batches: Option<usize>) -> Result<f64> {
        Ok(self.judge(batches)?.loss)
    }

    /// The same with all that is looked at.
    pub fn judge(&mut self, batches: Option<usize>) -> Result<Judged> {
        let held_out = self.data.held_out(self.config.train.batch, self.config.train.context)?;
        let all = held_out.count();
        let n = batches.unwrap_or(all).min(all);
        self.evaluation.judge((0..n).map(|i| held_out.batch(i * all / n)))
    }

    /// The same of all that another source holds out.
    pub fn judge_other(&mut self, source: Source) -> Result<Judged> {
        let (data, t) = (&self.config.data, &self.config.train);
        let data = DataConfig { weights: vec![], curriculum: vec![], ..data.clone() };
        let collator = Collator::new(self.config.aim(), &self.config.objective, &data, &source.marks)?;
        let data = Data::asking(vec![source], &data, collator, t.context, t.rows())?;
        let held_out = data.held_out(t.batch, t.context)?;
        self.evaluation.judge((0..held_out.count()).map(|i| held_out.batch(i)))
    }

    /// The held-out loss of knowing how often each token is asked in the first batches, and nothing else; of what asks a text's tokens one after
    /// the other there are better baselines, and none of this kind.
    fn unigram(&self) -> Result<Option<f64>> {
        let t = &self.config.train;
        match self.config.aim() {
            Aim::NextToken | Aim::Prefix | Aim::Fim | Aim::Classes | Aim::Preferences | Aim::Rewards | Aim::Policy | Aim::Imitation => {
                return Ok(None);
            }
            Aim::Masked | Aim::Answer | Aim::Spans => {}
        }
        let steps = t.steps.min(COUNTED);
        let unigram = Unigram::of(self.config.model.vocab_size(), (0..steps).map(|step| self.data.batch(t.seed, step, t.step_rows(), t.context)))?;
        let held_out = self.data.held_out(t.batch, t.context)?;
        unigram.loss((0..held_out.count()).map(|i| held_out.batch(i))).map(Some)
    }

    fn save(&self, saving: Option<&mut Saving>, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let Some(saving) = saving else { return Ok(()) };
        saving.save(&self.step)?;
        show(Event::Saved { step: self.step.done() })
    }

    /// Operations of the products of a step: a forward pass over those pairs of tokens that masks leave, and twice that backward (Chowdhery
    /// et al. 2022, appendix B), whatever is computed again.
    fn flops(&self) -> f64 {
        3.0 * self.evaluation.flops() * f64::from(self.config.train.accumulate)
    }

    fn ready(&self, meter: &Meter) -> Result<Event> {
        let session = self.step.session();
        Ok(Event::Ready {
            parameters: self.step.parameters(),
            bytes: session.bytes() + self.evaluation.bytes(),
            compile_seconds: self.compile_seconds,
            kernels: session.program().kernels.len(),
            from_step: self.step.done(),
            to_step: self.config.train.steps,
            sources: self.sources()?,
            flops: meter.flops,
            ceiling: meter.ceiling,
        })
    }

    /// What is read of each source in the whole run.
    fn sources(&self) -> Result<Vec<Reads>> {
        let t = &self.config.train;
        let epochs = self.data.epochs(t.seed, t.rows(), t.context)?;
        Ok(Reads::of(self.data.sources(), epochs))
    }

    /// The session of the training step.
    pub fn session(&self) -> &Session {
        self.step.session()
    }
}

/// What steps are measured by.
struct Meter {
    train: TrainConfig,
    /// Tokens of the run so far; where rows are of several lengths, those before it went on are counted as if all had been of the longest.
    tokens: u64,
    /// Operations of a whole step.
    flops: f64,
    ceiling: Option<f64>,
    /// What the process had of memory, and when it was looked.
    memory: Option<(Instant, usize)>,
}

/// How often memory is looked at: the system takes a while to say.
const LOOK: Duration = Duration::from_secs(1);

impl Meter {
    /// What a step of so many tokens took.
    fn cost(&mut self, tokens: u64, took: Duration, waited: Duration) -> Cost {
        let seconds = took.as_secs_f64();
        let t = &self.train;
        let share = tokens as f64 / (t.step_rows() * t.context) as f64;
        let mfu = self.ceiling.map(|ceiling| share * self.flops / seconds / ceiling);
        self.tokens += tokens;
        Cost { tokens: self.tokens, seconds, waited: waited.as_secs_f64(), mfu, memory: self.memory() }
    }

    fn memory(&mut self) -> usize {
        let known = self.memory.filter(|(when, _)| when.elapsed() < LOOK);
        self.memory.insert(known.unwrap_or_else(|| (Instant::now(), resident_peak()))).1
    }
}

/// Says both parts of a loss that has two, and how many texts are taken for what they are.
fn show_parts(step: u64, judged: &Judged, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
    let parts = judged.sentence.into_iter().flat_map(|sentence| PARTS.into_iter().zip([judged.loss - sentence, sentence]));
    let classes = judged.classes.iter().flat_map(|c| OF_CLASSES.into_iter().zip([c.accuracy(), c.macro_f1()]));
    let seen = judged.seen.iter().map(|(what, value)| (what.as_str(), *value));
    parts.chain(classes).chain(seen).try_for_each(|(what, value)| show(Event::Measured { step, what: what.into(), value }))
}
