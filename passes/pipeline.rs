//! The middle of the compiler: what is written to what is run, in order. Every command calls [`compile`].

use crate::cost::Machine;
use crate::fuse::{FuncReport, Fuser, Opt, fuse};
use crate::group::Which;
use crate::tiles::{Tiles, tile_rows};
use crate::train::{Update, mean_loss, train_step};
use crate::{Legality, Method, grad, joint, lower_precision, rules};
use ir::names::LOSS_SUM;
use ir::{DType, Graph};

/// How a program is compiled.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much to rewrite.
    pub opt: Opt,
    /// The rules that may be used: those of this class and of the stricter ones.
    pub rules: Legality,
    /// What it will run on: prices.
    pub machine: Machine,
    /// The type of products' operands; all else is `f32`.
    pub precision: DType,
    /// Parameters that gradients are for.
    pub trainable: Vec<Which>,
    /// Which rows go through in tiles.
    pub tiles: Tiles,
    /// Bytes the program may use, where that is limited.
    pub budget: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            opt: Opt::Egg,
            rules: Legality::Approximate,
            machine: Machine::CPU,
            precision: DType::F32,
            trainable: vec![Which::all()],
            tiles: Tiles::default(),
            budget: None,
        }
    }
}

impl From<Opt> for Options {
    /// With every rule, at the prices of a processor, in 32 bits.
    fn from(opt: Opt) -> Options {
        Options { opt, ..Options::default() }
    }
}

/// What is wanted of a program.
#[derive(Clone, Copy, Debug)]
pub enum Goal<'a> {
    /// Its results, as they are written.
    Results,
    /// Its results, and of this one the gradient.
    Gradient(&'a str),
    /// The mean of its loss, a sum and a count, besides its other results.
    Mean,
    /// The same, and the gradient of the mean.
    MeanGradient,
    /// A step of training on the mean of its loss.
    Step(&'a Update),
}

impl Goal<'_> {
    /// The result that is differentiated.
    fn loss(&self) -> Option<&str> {
        match self {
            Goal::Results | Goal::Mean => None,
            Goal::Gradient(loss) => Some(loss),
            Goal::MeanGradient | Goal::Step(_) => Some(LOSS_SUM),
        }
    }
}

/// Every stage of a program, to look at.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// Composites found.
    pub fused: Graph,
    /// With gradients, where they are wanted.
    pub grad: Option<Graph>,
    /// Forward and backward optimised together.
    pub joint: Option<Graph>,
    /// With products in the asked precision.
    pub rounded: Graph,
    /// With large values, as logits are, a tile of rows at a time.
    pub tiled: Graph,
    /// What is run: the mean taken, the optimizers added.
    pub whole: Graph,
    /// What each saturation did.
    pub reports: Vec<FuncReport>,
}

impl Stages {
    /// What a saturation left unseen because it hit a cap, or an extraction could not prove best: for whoever must say so.
    pub fn notices(&self) -> Vec<String> {
        let unfinished = |r: &&FuncReport| !r.saturation.saturated || r.method != Method::Exact;
        self.reports.iter().filter(unfinished).map(FuncReport::to_string).collect()
    }

    /// What is run.
    pub fn last(&self) -> &Graph {
        &self.whole
    }
}

/// Every stage of a program whose dims are bound. A debug build verifies the graph after each pass; one that breaks an invariant is a
/// fault of the pass, and a panic.
pub fn compile(graph: &Graph, goal: Goal, options: &Options) -> Result<Stages, String> {
    let mut forward = Fuser::new(options.clone(), rules::forward());
    let mut s = Stages { fused: verified("fuse", fuse(graph, &mut forward)), ..Stages::default() };
    s.reports = forward.reports;
    let mut found = &s.fused;
    if let Some(loss) = goal.loss() {
        let differentiated = s.grad.insert(verified("grad", grad(&s.fused, loss, &trainable(goal, options))?));
        let mut both = Fuser::new(options.clone(), rules::both());
        found = s.joint.insert(verified("joint", joint(differentiated, &mut both)));
        s.reports.append(&mut both.reports);
    }
    s.rounded = verified("lower_precision", lower_precision(found, options.precision));
    s.tiled = verified("tile_rows", tile_rows(&s.rounded, options.tiles));
    s.whole = match goal {
        Goal::Results | Goal::Gradient(_) => s.tiled.clone(),
        Goal::Mean | Goal::MeanGradient => verified("mean_loss", mean_loss(&s.tiled)?),
        Goal::Step(update) => verified("train_step", train_step(&s.tiled, update)?),
    };
    Ok(s)
}

fn verified(pass: &str, graph: Graph) -> Graph {
    if cfg!(debug_assertions)
        && let Err(errors) = ir::verify(&graph)
    {
        panic!("{pass} broke the graph:\n{}", errors.join("\n"));
    }
    graph
}

/// What a step does not update has no gradient.
fn trainable(goal: Goal, options: &Options) -> Vec<Which> {
    match goal {
        Goal::Step(update) => update.trainable(),
        Goal::Results | Goal::Gradient(_) | Goal::Mean | Goal::MeanGradient => options.trainable.clone(),
    }
}

/// [`compile`] for a program's results and, where `loss` names one, its gradient.
pub fn optimize(graph: &Graph, loss: Option<&str>, options: impl Into<Options>) -> Result<Stages, String> {
    compile(graph, loss.map_or(Goal::Results, Goal::Gradient), &options.into())
}
