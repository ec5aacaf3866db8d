//! A training step: its program, its session, its learning rate and where it stands. Every training loop runs one.

use crate::config::{Aim, Config, Schedule, Size, TrainConfig};
use crate::data::{Batch, Packing, random};
use crate::error::{Error, Result};
use crate::objective::{Mode, Objective};
use crate::seen::Seen;
use crate::weights::checkpoint::{self, Base, Beside, Note};
use crate::weights::named::Tensors;
use crate::weights::{initialise_scaled, load_weights};
use ir::names::{GRAD_NORM, LOSS_MEAN, SKIPPED};
use ir::{Graph, Node, Op};
use models::{Adaptation, Model};
use passes::{Goal, Options, Stages, State, Update, compile};
use runtime::{Device, Fault, Session};
use std::collections::BTreeSet;
use std::path::Path;

/// A training step that runs again and again.
pub struct Step {
    session: Session,
    /// The programs of smaller steps, on the same parameters and state.
    smaller: Vec<(Size, Session)>,
    train: TrainConfig,
    schedule: Schedule,
    /// Whether rows are of several lengths.
    bucketed: bool,
    done: u64,
    notices: Vec<String>,
    fused: Graph,
    /// Parameters by path, and where in the model's source each is declared.
    lines: Vec<(String, String)>,
    /// What was looked at since somebody asked.
    seen: Seen,
    /// Look at every kernel's result and stop at the first that is not finite.
    pub check_finite: bool,
    /// The model, and what it stands beside, where that is kept elsewhere.
    model: Model,
    base: Option<Base>,
    /// Parameters of the model that others are beside.
    stays: BTreeSet<String>,
    /// Whether what stands beside the model began with what was learned elsewhere.
    begun: bool,
    /// What a checkpoint says of the weight of the distance from the start.
    pub(crate) kl: Option<f64>,
}

/// What a step gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// The mean loss before the update.
    pub loss: f64,
    /// The norm of its gradient, before it was clipped.
    pub grad_norm: f64,
    /// The learning rate of the update.
    pub lr: f64,
    /// Whether nothing was updated, for the step stands out from those before.
    pub skipped: bool,
}

/// Inputs of the program that are the step's own and no column of a batch.
const OWN: [&str; 3] = ["lr", "step", "key"];

/// A training step's program, dims bound, at every stage.
pub fn step_program(config: &Config, options: &Options) -> Result<Stages> {
    sized_program(config, Size { accumulate: config.train.accumulate, context: config.train.context }, options)
}

/// The same of a size.
fn sized_program(config: &Config, size: Size, options: &Options) -> Result<Stages> {
    let config = &config.clone().adapted()?.divided()?;
    let graph = Objective::configured(config, Mode::Train, config.train.batch, size.context)?;
    Ok(compile(&graph, Goal::Step(&Update { accumulate: size.accumulate, ..config.update()? }), options)?)
}

/// Where in a model's source each parameter is declared.
fn lines(config: &Config) -> Result<Vec<(String, String)>> {
    let graph = Objective::configured(config, Mode::Train, config.train.batch, config.train.context)?;
    let of = |node: &Node| match (&node.op, node.loc) {
        (Op::Param(path, _), Some(loc)) => Some((path.to_string(), loc.to_string())),
        _ => None,
    };
    Ok(graph.funcs.iter().flat_map(|f| &f.nodes).filter_map(of).collect())
}

impl Step {
    /// Compiles the program and starts the parameters from the seed.
    pub fn new(config: &Config, device: Device, options: &Options) -> Result<Step> {
        let config = &config.clone().adapted()?;
        let t = &config.train;
        let stages = step_program(config, options)?;
        let mut session = Session::within(stages.last(), device.clone(), options.budget)?;
        initialise_scaled(&mut session, &config.model, t.seed, config.start()?)?;
        follow(&mut session, &config.model)?;
        let smaller = config.smaller_sizes().into_iter().map(|size| {
            let stages = sized_program(config, size, options)?;
            Ok((size, Session::sharing_whole(stages.last(), device.clone(), options.budget, &session)?))
        });
        let smaller = smaller.collect::<Result<_>>()?;
        let mut notices = stages.notices();
        let name = config.optimizer.name;
        notices.extend(config.optimizer.ignored().iter().map(|key| format!("optimizer.{key} is no setting of {name}, and means nothing")));
        notices.extend(beside(config)?);
        notices.extend(undropped(config));
        Ok(Step {
            session,
            smaller,
            schedule: t.schedule(),
            train: t.clone(),
            bucketed: config.data.packing == Packing::Bucketed,
            done: 0,
            notices,
            fused: stages.fused,
            lines: lines(config)?,
            seen: Seen::default(),
            check_finite: false,
            model: config.model.clone(),
            base: None,
            stays: config.stays()?,
            begun: false,
            kl: None,
        })
    }

    /// Steps done.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// The session, which holds the parameters and the optimizer's state.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Numbers that parameters have, without the optimizer's state.
    pub fn parameters(&self) -> usize {
        self.session.params().filter(|p| State::parse(p.0).is_parameter()).map(|p| p.1.count()).sum()
    }

    /// What the compiler has to say of the program.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The model's program with what the compiler found in it.
    pub fn fused(&self) -> &Graph {
        &self.fused
    }

    /// The means of what was looked at beside the loss in the steps since this was asked last, by name.
    pub fn take_seen(&mut self) -> Vec<(String, f64)> {
        std::mem::take(&mut self.seen).means()
    }

    /// Takes one step on a batch. A loss that is not finite is an error, and the step does not count.
    pub fn take(&mut self, batch: &Batch) -> Result<Report> {
        self.take_at(batch, self.schedule.at(self.done))
    }

    /// The same at another rate than the schedule's.
    pub fn take_at(&mut self, batch: &Batch, lr: f64) -> Result<Report> {
        let (number, keys, checked) = (self.done + 1, self.keys(), self.check_finite);
        let mut size = self.train.size(self.train.batch_of(self.done));
        // rows may be as long as the longest of them needs
        size.context = batch.column("input_ids").and_then(|c| c.shape.last().copied()).filter(|_| self.bucketed).unwrap_or(size.context);
        let smaller = self.smaller.iter_mut().find(|s| s.0 == size);
        let session = smaller.map_or(&mut self.session, |s| &mut s.1);
        batch.fill(session, &OWN)?;
        session.set_f32("lr", &[lr as f32])?;
        session.set_f32("step", &[number as f32])?;
        if session.inputs().any(|n| n == "key") {
            session.set_u32("key", &keys)?;
        }
        run(session, checked, &self.lines).map_err(|e| Error(format!("step {number}: {e}")))?;
        self.seen.add(session, &[]);
        let find = |name: &str| session.output(name).map(|block| f64::from(block.f32s()[0]));
        let read = |name: &str| find(name).expect("a training step has it");
        let report = Report { loss: read(LOSS_MEAN), grad_norm: read(GRAD_NORM), lr, skipped: find(SKIPPED) == Some(1.0) };
        if !report.loss.is_finite() || !report.grad_norm.is_finite() {
            return Err(Error(format!(
                "step {number}: the loss is {} and the gradient's norm {}; try a smaller train.lr, or --check-finite to see the first kernel; the last checkpoint is untouched",
                report.loss, report.grad_norm
            )));
        }
        self.done = number;
        Ok(report)
    }

    /// A key of dropout a micro-batch, alike in no two steps.
    fn keys(&self) -> Vec<u32> {
        let first = self.train.micro_batches(self.done);
        let own = u64::from(self.train.size(self.train.batch_of(self.done)).accumulate);
        (first..first + own).map(|i| random(self.train.seed ^ 0x6472_6F70, i) as u32).collect()
    }

    /// Saves parameters, state and the number of the step to a run directory, with a name for what it was trained on.
    pub fn save(&self, dir: &Path, text: &str) -> Result<()> {
        let (step, beside, kl) = (self.done, self.beside(), self.kl);
        checkpoint::save_with(dir, &self.session, &Note { step, text, beside: beside.as_ref(), kl })
    }

    /// The same as the best of a run, of a held-out loss.
    pub(crate) fn save_best(&self, run: &Path, text: &str, loss: f64) -> Result<()> {
        let (step, beside, kl) = (self.done, self.beside(), self.kl);
        checkpoint::save_best(run, &self.session, &Note { step, text, beside: beside.as_ref(), kl }, loss)
    }

    /// What a checkpoint holds where the model stays as it is and is kept elsewhere.
    fn beside(&self) -> Option<Beside<'_>> {
        let base = self.base.as_ref()?;
        Some(Beside { base, own: Box::new(|name| !self.stays.contains(name)) })
    }

    /// The parameters of a model that others are beside were read and stay as they are: checkpoints do not hold them, and say what they are
    /// beside.
    pub(crate) fn stand_beside(&mut self, base: Base) -> Result<()> {
        self.base = Some(base);
        follow(&mut self.session, &self.model)
    }

    /// Begins with what stands beside the model in a file of tensors, and a head that is trained with it.
    pub fn start_beside(&mut self, tensors: &Tensors) -> Result<Vec<String>> {
        let (model, stays) = (&self.model, &self.stays);
        let adds = |name: &str| model.adaptation().is_some_and(|a| a.adds(name));
        let head = |name: &str| model.adaptation().is_some() && !stays.contains(name) && tensors.contains(name);
        let own = |name: &str| State::parse(name).is_parameter() && (adds(name) || head(name));
        self.begun = true;
        load_weights(&mut [&mut self.session], tensors, &own)
    }

    /// The model that what is learned is compared with: it without what stands beside it, unless that was begun with elsewhere.
    pub(crate) fn reference(&self) -> Model {
        if self.begun { self.model.clone() } else { self.model.adapted(self.model.adaptation().and_then(|a| a.switched_off())) }
    }

    /// Whether what is learned stands beside a model that is there whatever is learned, of which nothing is trained whole.
    pub(crate) fn is_beside(&self) -> bool {
        let of_model = |a: &dyn Adaptation| self.session.params().any(|(name, _)| a.adds(name) && a.init(name).is_none());
        self.model.adaptation().is_some_and(|a| !of_model(a.as_ref())) && !self.begun
    }

    /// Begins with those parameters of a file of tensors that are `wanted`; a head that is not there stays at its start. What is to be known of
    /// tensors that are not read.
    pub fn start_from(&mut self, tensors: &Tensors, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
        // what is the model's own and trained beside others begins as it is there
        let added = |name: &str| self.model.adaptation().is_some_and(|a| a.init(name).is_some());
        let there = |name: &str| !models::heads::is_head(name) || tensors.contains(name);
        let own = |name: &str| State::parse(name).is_parameter() && !added(name) && there(name) && wanted(name);
        load_weights(&mut [&mut self.session], tensors, &own)
    }

    /// Sets a part of a parameter, from a byte on.
    pub(crate) fn set_parameter_part(&mut self, name: &str, at: usize, bytes: &[u8]) -> Result<()> {
        Ok(self.session.set_param_part(name, at, bytes)?)
    }

    /// Goes on from a run directory's checkpoint. Refused where it was trained on something of another name. One that was
    /// imported has no state of an optimizer.
    pub fn resume(&mut self, dir: &Path, text: &str) -> Result<u64> {
        let saved = checkpoint::open(dir)?;
        if saved.manifest.is_imported() {
            return self.start_from(&saved.tensors, &|_| true).map(|_| 0);
        }
        if saved.manifest.text != text {
            return Err(Error(format!("{}: this run was trained on another text; give the same --data", dir.display())));
        }
        saved.is_beside(dir, self.base.as_ref())?;
        // what is restored and what it stands beside are one session's
        let own: Vec<String> = self.session.params().map(|p| p.0.to_string()).filter(|name| self.beside().is_none_or(|b| (b.own)(name))).collect();
        saved.restore(&mut self.session, &|name| own.iter().any(|o| o == name))?;
        self.kl = saved.manifest.kl;
        self.done = saved.manifest.step;
        Ok(self.done)
    }
}

/// How many parameters are trained beside a model.
fn beside(config: &Config) -> Result<Option<String>> {
    if config.model.adaptation().is_none() {
        return Ok(None);
    }
    let stays = config.stays()?;
    let count = |own: bool| -> Result<usize> {
        let all = config.parameters()?;
        Ok(all.iter().filter(|p| stays.contains(&p.0) != own).map(|p| p.1.count()).sum())
    };
    Ok(Some(format!("{} parameters are trained beside {}, which stay as they are", count(true)?, count(false)?)))
}

/// That an adapter drops nothing where what it says is compared with what was said before.
fn undropped(config: &Config) -> Option<String> {
    let compared = matches!(config.aim(), Aim::Preferences | Aim::Rewards | Aim::Policy);
    let dropped = config.adapter.is_on() && config.adapter.dropout > 0.0;
    let aim = config.aim();
    (compared && dropped).then(|| format!("adapter.dropout means nothing: the objective {aim} compares what the same model says, and drops nothing"))
}

/// Starts the parameters that follow from the model's own.
fn follow(session: &mut Session, model: &Model) -> Result<()> {
    let Some(adaptation) = model.adaptation() else { return Ok(()) };
    for (path, values) in adaptation.follow(&|path| session.param(path))? {
        session.fill_param(&path, |own| own.copy_from_slice(&values))?;
    }
    Ok(())
}

fn run(session: &mut Session, checked: bool, lines: &[(String, String)]) -> std::result::Result<(), String> {
    if checked {
        return session.run_checked().map_err(|fault| located(&fault, lines));
    }
    session.run().map_err(|e| format!("{e}; the last checkpoint is untouched"))
}

/// A fault, with the line of the model that it is nearest to.
fn located(fault: &Fault, lines: &[(String, String)]) -> String {
    let near = if let Fault::NotFinite { near: Some(near), .. } = fault { Some(&near.stack) } else { None };
    let line = near.and_then(|path| lines.iter().find(|l| l.0 == *path));
    line.map_or(fault.to_string(), |(path, at)| format!("{fault}\n  {path} is declared at {at}"))
}
