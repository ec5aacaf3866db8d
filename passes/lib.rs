//! Graph to graph: the compiler's middle, in order.
//!
//! Built → normal form → composites found ([`fuse`]) → differentiated ([`grad`]) → forward and backward optimised together
//! ([`joint`]) → optimizer added ([`train_step`]). Each stage is a graph that prints, parses, verifies and evaluates.
//!
//! ```
//! use passes::{Opt, optimize};
//!
//! let written: ir::Graph = "\
//! main(%0 x: f32[2,4]) {
//!   %1 = max[-1] %0 : f32[2,1]
//!   %2 = sub %0, %1 : f32[2,4]
//!   %3 = exp %2     : f32[2,4]
//!   %4 = sum[-1] %3 : f32[2,1]
//!   %5 = div %3, %4 : f32[2,4]
//!   return y=%5
//! }
//! ".parse().unwrap();
//! let stages = optimize(&written, None, Opt::Egg).unwrap();
//! assert!(stages.fused.to_string().contains("%1 = softmax %0"));
//! ```

mod choose;
mod climb;
mod cost;
mod cut;
mod exact;
mod explain;
mod extract;
mod fuse;
mod grad;
mod joint;
mod pair;
mod parts;
mod plan;
mod precision;
mod rule;
pub mod rules;
mod tape;
mod term;
mod train;

pub use choose::{Choice, Choices, Method, Plan};
pub use cost::{FROZEN, Machine};
pub use cut::{Saveable, cheapest_cut};
pub use explain::{Proof, ProofStep, explain, replay};
pub use extract::Problem;
pub use fuse::{FuncReport, Fuser, Opt, Options, fuse, fuse_func};
pub use grad::grad;
pub use joint::joint;
pub use plan::{ALIGN, Arena, Interval, plan};
pub use precision::lower_precision;
pub use rule::{Legality, Match, Report, Rewriter, Rule, rule, saturate};
pub use term::{EGraph, Fact, Term, Terms, Typed, World, add_func, egraph};
pub use train::{MOMENTS, Optimizer, mean_loss, train_step};

use ir::Graph;

/// Every stage of a program, to look at.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// Composites found.
    pub fused: Graph,
    /// With gradients, where a loss was named.
    pub grad: Option<Graph>,
    /// Forward and backward optimised together.
    pub joint: Option<Graph>,
    /// What each saturation did.
    pub reports: Vec<FuncReport>,
}

impl Stages {
    /// What a saturation left unseen because it hit a cap, or an extraction could not prove best: for whoever must say so.
    pub fn notices(&self) -> Vec<String> {
        let unfinished = |r: &&FuncReport| !r.saturation.saturated || r.method != Method::Exact;
        self.reports.iter().filter(unfinished).map(FuncReport::to_string).collect()
    }

    /// The last stage there is.
    pub fn last(&self) -> &Graph {
        self.joint.as_ref().unwrap_or(&self.fused)
    }
}

/// Fuses a program whose dims are bound and, where `loss` names an output, differentiates it and optimises both directions together.
/// A debug build verifies the graph after each pass; one that breaks an invariant is a fault of the pass, and a panic.
pub fn optimize(graph: &Graph, loss: Option<&str>, options: impl Into<Options>) -> Result<Stages, String> {
    let options = options.into();
    let mut forward = Fuser::new(options, rules::forward());
    let fused = verified("fuse", fuse(graph, &mut forward));
    let Some(loss) = loss else {
        return Ok(Stages { fused, reports: forward.reports, ..Stages::default() });
    };
    let differentiated = verified("grad", grad(&fused, loss)?);
    let mut both = Fuser::new(options, rules::both());
    both.reports = forward.reports;
    let joint = verified("joint", joint(&differentiated, &mut both));
    Ok(Stages { fused, grad: Some(differentiated), joint: Some(joint), reports: both.reports })
}

fn verified(pass: &str, graph: Graph) -> Graph {
    if cfg!(debug_assertions)
        && let Err(errors) = ir::verify(&graph)
    {
        panic!("{pass} broke the graph:\n{}", errors.join("\n"));
    }
    graph
}
