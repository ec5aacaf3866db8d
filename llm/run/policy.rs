//! The loop of a policy: it writes answers, they are rewarded, and it takes steps on them. What they are worth beside what was expected is
//! what `grpo.rs` and `ppo.rs` say.

use super::ending::Ending;
use super::evaluation::{Evaluation, Judged};
use super::grpo::Grpo;
use super::ppo::Ppo;
use super::pretrain::{Cost, EXACT_MATCH, Event, Outcome, Reads};
use super::rollout::{Kept, Rollout, Writer, Written};
use super::saving::Saving;
use super::teacher::Teacher;
use crate::config::{Aim, Config};
use crate::data::{Batch, Collator, Data, Source, Values};
use crate::decode::Generator;
use crate::error::{Error, Result};
use crate::objective::{START, said_program};
use crate::reward::Reward;
use crate::step::{Report, Step};
use crate::text::Tokenizer;
use crate::weights::{checkpoint, load_weights};
use ir::Graph;
use models::Model;
use passes::{Goal, Options, State, compile};
use runtime::limits::resident_peak;
use runtime::{Device, Session};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A policy in training.
pub struct Policy {
    config: Config,
    data: Arc<Data>,
    /// The step it takes, again and again.
    pub step: Step,
    writer: Writer,
    evaluation: Evaluation,
    /// What the weights of the start, and those of now, say of answers.
    start: Option<Said>,
    now: Option<Said>,
    learner: Learner,
    device: Device,
    options: Options,
    compile_seconds: f64,
}

/// What a step on answers reads besides them.
enum Learner {
    Grpo(Grpo),
    Ppo(Ppo),
    /// What a teacher says of the answers, whatever they are worth.
    Imitation(Teacher),
}

/// A program that says how likely answers are, and what is to be expected of each token.
pub(super) struct Said {
    session: Session,
    rows: usize,
    context: usize,
}

impl Said {
    /// Of the weights that a step has, as they are whenever it is asked.
    fn of_step(config: &Config, step: &Step, device: &Device, options: &Options) -> Result<Said> {
        let program = Said::program(config, &config.model, config.policy.has_values(), options)?;
        Ok(Said::new(config, Session::sharing_whole(&program, device.clone(), options.budget, step.session())?))
    }

    /// Of the model that a step's parameters stand beside, without them: it holds nothing of its own.
    fn of_base(config: &Config, step: &Step, device: &Device, options: &Options) -> Result<Said> {
        let program = Said::program(config, &step.reference(), false, options)?;
        Ok(Said::new(config, Session::sharing_whole(&program, device.clone(), options.budget, step.session())?))
    }

    /// Of weights of its own, which are to be filled.
    fn alone(config: &Config, device: &Device, options: &Options) -> Result<Said> {
        let program = Said::program(config, &config.model, config.policy.has_values(), options)?;
        Ok(Said::new(config, Session::within(&program, device.clone(), options.budget)?))
    }

    fn new(config: &Config, session: Session) -> Said {
        Said { session, rows: config.train.batch, context: config.train.context }
    }

    fn program(config: &Config, model: &Model, values: bool, options: &Options) -> Result<Graph> {
        let t = &config.train;
        let graph = said_program(model, config.policy.temperature, values)?.bind(&|s| match s {
            'B' => Some(t.batch as u64),
            'T' => Some(t.context as u64),
            _ => None,
        })?;
        Ok(compile(&graph, Goal::Results, options)?.last().clone())
    }

    /// Of a batch: log-probabilities, and values where there are some, a number a token.
    pub(super) fn of(&mut self, batch: &Batch) -> Result<(Vec<f32>, Vec<f32>)> {
        let (mut log_probs, mut values) = (vec![], vec![]);
        let all = batch.i32s("labels").len() / self.context;
        for first in (0..all).step_by(self.rows) {
            let part = |name: &str| &batch.i32s(name)[first * self.context..(first + self.rows) * self.context];
            ["input_ids", "labels"].iter().try_for_each(|name| self.session.set_i32(name, part(name)))?;
            self.session.run().map_err(|e| Error(e.to_string()))?;
            let read = |name: &str| self.session.output(name).map_or(vec![], |block| block.f32s().to_vec());
            log_probs.extend(read("log_prob"));
            values.extend(read("values"));
        }
        Ok((log_probs, values))
    }
}

/// The directory in a run's that has the weights of the start, where they are asked again.
const FIRST: &str = "start";
/// How often it is said that nothing is to be learned.
const AGAIN: u64 = 50;

impl Policy {
    /// Compiles the programs and starts from the seed. The model's vocabulary is the tokenizer's.
    pub fn compiled(config: Config, sources: Vec<Source>, tokenizer: Tokenizer, reward: Reward, device: Device, options: &Options) -> Result<Policy> {
        let learner = if config.policy.has_values() { Learner::Ppo(Ppo::new(&config.policy)) } else { Learner::Grpo(Grpo::new(&config.policy)) };
        Policy::learning(config, sources, tokenizer, reward, learner, device, options)
    }

    /// The same of a model that imitates what a teacher says of answers that the model writes.
    pub fn imitating(
        config: Config,
        sources: Vec<Source>,
        tokenizer: Tokenizer,
        teacher: Teacher,
        device: Device,
        options: &Options,
    ) -> Result<Policy> {
        Policy::learning(config, sources, tokenizer, Reward::Exact, Learner::Imitation(teacher), device, options)
    }

    fn learning(
        config: Config,
        sources: Vec<Source>,
        tokenizer: Tokenizer,
        reward: Reward,
        learner: Learner,
        device: Device,
        options: &Options,
    ) -> Result<Policy> {
        let config = config.adapted()?;
        config.check()?;
        let config = config.divided()?;
        let begin = Instant::now();
        let (t, p) = (&config.train, &config.policy);
        let marks = sources.first().map(|s| s.marks.clone()).unwrap_or_default();
        // answers that are right, to look at held-out ones by
        let told = config.asking(Aim::NextToken);
        let collator = Collator::new(Aim::NextToken, &told.objective, &told.data, &marks)?;
        let end = marks.end.or(sources.first().and_then(|s| s.last()));
        let data = Arc::new(Data::asking(sources, &config.data, collator, t.context, t.rows())?);
        let options = Options { machine: device.target()?.machine(), precision: t.precision.dtype(), ..options.clone() };
        let step = Step::new(&config, device.clone(), &options)?;
        let evaluation = Evaluation::new(&told, device.clone(), &options, step.session())?;
        let generator = Generator::sharing_rows(&config.model, device.clone(), &options, t.step_rows(), step.session())?;
        let now = p.reads_old().then(|| Said::of_step(&config, &step, &device, &options)).transpose()?;
        let writer = Writer::new(&config, data.clone(), tokenizer, generator, reward, end);
        let compile_seconds = begin.elapsed().as_secs_f64();
        Ok(Policy { config, data, step, writer, evaluation, start: None, now, learner, device, options, compile_seconds })
    }

    /// Goes on from a run directory's checkpoint.
    pub fn resume(&mut self, dir: &Path) -> Result<u64> {
        let (done, steps) = (self.step.resume(dir, &self.data.fingerprint())?, self.config.train.steps);
        if done > steps {
            return Err(Error(format!("{}: train.steps is {steps}, and this run is saved after step {done}", dir.display())));
        }
        self.learner.resume(self.step.kl).map_err(|why| Error(format!("{}: {why}", dir.display())))?;
        Ok(done)
    }

    /// Makes what says how likely answers were at the start: the model alone, where all that is learned stands beside it, or else the weights
    /// of the start, which are read, or kept as such.
    fn begin(&mut self, dir: Option<&Path>) -> Result<()> {
        if !self.config.policy.refers() {
            return Ok(());
        }
        let (config, kept) = (&self.config, dir.is_some_and(|dir| dir.join(FIRST).is_dir()));
        if self.step.is_beside() && !(kept && self.step.done() > 0) {
            self.start = Some(Said::of_base(config, &self.step, &self.device, &self.options)?);
            return Ok(());
        }
        let start = self.start.insert(Said::alone(config, &self.device, &self.options)?);
        if let (Some(dir), 0) = (dir, self.step.done()) {
            std::fs::create_dir_all(dir.join(FIRST)).map_err(|e| Error(format!("{}: {e}", dir.join(FIRST).display())))?;
            checkpoint::save(&dir.join(FIRST), self.step.session(), 0, &self.data.fingerprint())?;
        }
        match dir {
            Some(dir) => {
                let tensors = checkpoint::open(&dir.join(FIRST))?.tensors;
                load_weights(&mut [&mut start.session], &tensors, &|name| State::parse(name).is_parameter()).map(drop)
            }
            // a run that keeps nothing begins where it stands
            None => {
                let all: Vec<String> = start.session.params().map(|p| p.0.to_string()).collect();
                all.iter().try_for_each(|name| Ok(start.session.set_param(name, &self.step.session().param(name)?)?))
            }
        }
    }

    /// Trains to the end, or until `stop` is set, saving to `dir` where one is given. A reward that fails is an error, behind a checkpoint.
    pub fn run(&mut self, dir: Option<&Path>, stop: &AtomicBool, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<Outcome> {
        let t = self.config.train.clone();
        self.begin(dir)?;
        let mut saving = dir.map(|dir| Saving::new(dir, &t, self.data.fingerprint(), self.step.done()));
        let mut kept = dir.map(|dir| Kept::open(dir, self.step.done())).transpose()?;
        show(self.ready()?)?;
        for notice in self.step.notices() {
            show(Event::Notice(notice.clone()))?;
        }
        self.step.kl = self.learner.followed();
        if self.step.done() == 0 {
            self.look(Some(t.eval_batches), false, show)?;
        }
        let (mut ending, mut idle) = (Ending::new(&t), 0);
        while self.step.done() < t.steps {
            let stopped = stop.load(Ordering::Relaxed);
            if let Some(why) = ending.why().filter(|_| !stopped) {
                show(Event::Notice(format!("{why}: it ends after step {} of {}, and goes on with --resume", self.step.done(), t.steps)))?;
                break;
            }
            if stopped {
                self.save(saving.as_mut(), show)?;
                return Ok(Outcome::Stopped(self.step.done()));
            }
            let before = self.step.done();
            if let Err(why) = self.round(kept.as_mut(), &mut idle, show) {
                self.save(saving.as_mut(), show)?;
                return Err(Error(format!("{why}\nit is saved after step {}", self.step.done())));
            }
            let done = self.step.done();
            let crossed = |every: u64| every > 0 && before / every != done / every;
            if done < t.steps && crossed(t.eval_every) {
                let loss = self.look(Some(t.eval_batches), false, show)?;
                ending.evaluated(loss);
                let due = crossed(t.save_every);
                if due {
                    self.save(saving.as_mut(), show)?;
                }
                saving.as_mut().map_or(Ok(()), |s| s.evaluated(&self.step, loss, due))?;
            } else if done < t.steps && (crossed(t.save_every) || saving.as_ref().is_some_and(|s| s.due(done))) {
                self.save(saving.as_mut(), show)?;
            }
        }
        self.save(saving.as_mut(), show)?;
        let missed = self.look(None, true, show)?;
        saving.map_or(Ok(()), |mut s| s.evaluated(&self.step, missed, true))?;
        Ok(Outcome::Finished(missed))
    }

    /// Answers, and the steps on them.
    fn round(&mut self, kept: Option<&mut Kept>, idle: &mut u64, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let (begin, t, p) = (Instant::now(), self.config.train.clone(), self.config.policy.clone());
        let first = self.step.done();
        let (written, said) = self.writer.write(first)?;
        let rewards: Vec<f64> = written.iter().map(|w| w.reward).collect();
        if let Some(odd) = rewards.iter().find(|r| !r.is_finite()) {
            return Err(Error(format!("a reward is {odd}: expected a finite number")));
        }
        let mut batch = self.writer.rows(&written);
        let reference = self.start.as_mut().map(|s| s.of(&batch)).transpose()?.map(|s| s.0);
        let old = self.now.as_mut().map(|s| s.of(&batch)).transpose()?;
        let shape = [written.len(), t.context];
        if let Some(reference) = reference.clone().filter(|_| p.in_loss()) {
            batch = batch.with(START, &shape, Values::F32(reference));
        }
        let (batch, advantages, measured) = match &mut self.learner {
            Learner::Grpo(grpo) => grpo.columns(batch, &written, old),
            Learner::Ppo(ppo) => ppo.columns(batch, &written, old.unwrap_or_default(), reference, t.context),
            Learner::Imitation(teacher) => (teacher.told(batch)?, vec![0.0; written.len()], vec![]),
        };
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        let advantages_of = |i: usize| advantages[i];
        let rollout = |(i, (w, a)): (usize, (&Written, &crate::reward::Answer))| Rollout {
            step: first + 1,
            prompt: a.prompt.clone(),
            text: a.text.clone(),
            right: a.right.clone(),
            tokens: w.answer.len(),
            reward: w.reward,
            advantage: advantages_of(i),
        };
        let rollouts: Vec<Rollout> = written.iter().zip(&said).enumerate().map(rollout).collect();
        kept.map_or(Ok(()), |kept| kept.write(&rollouts))?;
        let alike = !matches!(self.learner, Learner::Imitation(_)) && advantages.iter().all(|a| a.abs() < 1e-12);
        *idle = if alike { *idle + 1 } else { 0 };
        if alike && *idle % AGAIN == 1 {
            let step = first + 1;
            show(Event::Notice(format!(
                "step {step}: every answer is worth what the others to its prompt are ({mean:.4}), so that there is nothing to learn; try prompts that \
                 are sometimes answered well, or another policy.reward"
            )))?;
        }
        let followed = self.learner.followed();
        let rest = p.updates.min(t.steps - first);
        let wrote = begin.elapsed().as_secs_f64();
        let tokens: usize = written.iter().map(|w| w.answer.len()).sum();
        for update in 0..rest {
            let start = Instant::now();
            let Report { loss, grad_norm, lr, .. } = self.step.take(&batch)?;
            let seconds = start.elapsed().as_secs_f64() + if update == 0 { wrote } else { 0.0 };
            let step = self.step.done();
            let cost = Cost { tokens: step * (t.step_rows() * t.context) as u64, seconds, waited: 0.0, mfu: None, memory: resident_peak() };
            show(Event::Step { step, loss, grad_norm, lr, tokens_per_second: tokens as f64 / seconds, cost })?;
        }
        self.step.kl = followed;
        let step = self.step.done();
        if first == 0 || first / t.eval_every != step / t.eval_every || step == t.steps {
            let length = tokens as f64 / written.len() as f64;
            let ours = [("reward".to_string(), mean), ("answer tokens".into(), length)];
            let seen = self.step.take_seen().into_iter().map(|(name, value)| (format!("training {name}"), value));
            ours.into_iter().chain(measured).chain(seen).try_for_each(|(what, value)| show(Event::Measured { step, what, value }))?;
        }
        Ok(())
    }

    /// Looks at held-out prompts: the loss of the right answer, and how often greedy writing gives it; the share of those it does not.
    fn look(&mut self, batches: Option<usize>, whole: bool, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<f64> {
        let (step, judged) = (self.step.done(), self.judge(batches)?);
        // before the first step there is no line of one to stand in
        if step > 0 {
            show(Event::Evaluated { step, loss: judged.loss, whole })?;
        }
        let exact = judged.exact.unwrap_or(0.0);
        show(Event::Measured { step, what: EXACT_MATCH.into(), value: exact })?;
        Ok(1.0 - exact)
    }

    /// What is found of right answers to held-out prompts.
    pub fn judge(&mut self, batches: Option<usize>) -> Result<Judged> {
        let held_out = self.data.held_out(self.config.train.batch, self.config.train.context)?;
        let all = held_out.count();
        let n = batches.unwrap_or(all).min(all);
        self.evaluation.judge((0..n).map(|i| held_out.batch(i * all / n)))
    }

    fn save(&self, saving: Option<&mut Saving>, show: &mut dyn FnMut(Event) -> Result<()>) -> Result<()> {
        let Some(saving) = saving else { return Ok(()) };
        saving.save(&self.step)?;
        show(Event::Saved { step: self.step.done() })
    }

    fn ready(&self) -> Result<Event> {
        let (session, t) = (self.step.session(), &self.config.train);
        let prompts = t.steps / self.config.policy.updates * (t.step_rows() / self.config.policy.group) as u64;
        let epochs = self.data.epochs(t.seed, prompts, t.context)?;
        Ok(Event::Ready {
            parameters: self.step.parameters(),
            bytes: session.bytes() + self.evaluation.bytes(),
            compile_seconds: self.compile_seconds,
            kernels: session.program().kernels.len(),
            from_step: self.step.done(),
            to_step: t.steps,
            sources: Reads::of(self.data.sources(), epochs),
            flops: 3.0 * self.evaluation.flops() * f64::from(t.accumulate),
            ceiling: None,
        })
    }
}

impl Learner {
    /// The weight of the distance, where it follows a target.
    fn followed(&self) -> Option<f64> {
        match self {
            Learner::Grpo(_) | Learner::Imitation(_) => None,
            Learner::Ppo(ppo) => ppo.followed(),
        }
    }

    fn resume(&mut self, kept: Option<f64>) -> std::result::Result<(), String> {
        match self {
            Learner::Grpo(_) | Learner::Imitation(_) => Ok(()),
            Learner::Ppo(ppo) => ppo.resume(kept),
        }
    }
}
