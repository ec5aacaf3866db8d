//! From what was written to composites: normal form, saturation, extraction, for one function at a time.

use crate::choose::Method;
use crate::cost::Machine;
use crate::extract::Problem;
use crate::pipeline::Options;
use crate::rule::{Report, Rewriter, Rule, saturate};
use crate::rules;
use crate::term::{Terms, add_func, egraph};
use egg::Id;
use ir::{DType, Func, Graph};
use std::fmt;

/// How much to rewrite. All levels share the same rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Opt {
    /// Nothing: every op as written.
    Off,
    /// Each rule where it applies, once taken never undone.
    Greedy,
    /// Equality saturation and the cheapest plan.
    #[default]
    Egg,
}

ir::spell!(Opt, "optimiser", [Off "off", Greedy "greedy", Egg "egg"]);

/// What happened to one function.
#[derive(Clone, Debug)]
pub struct FuncReport {
    /// The function.
    pub name: String,
    /// Ops before and after.
    pub ops: (usize, usize),
    /// The saturation.
    pub saturation: Report,
    /// How the plan was found.
    pub method: Method,
    /// Predicted seconds of the plan.
    pub seconds: f64,
}

impl fmt::Display for FuncReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (before, after) = self.ops;
        let s = &self.saturation;
        write!(f, "{}: {before} ops to {after}; ", self.name)?;
        match s.saturated {
            true => write!(f, "saturated in {} rounds, {} e-nodes", s.rounds, s.nodes)?,
            false => write!(f, "CAP HIT after {} rounds, {} e-nodes: not every form was seen", s.rounds, s.nodes)?,
        }
        write!(f, "; {} plan", if self.method == Method::Exact { "optimal" } else { "climbed" })
    }
}

/// The level, the rules of a stage, and what was reported so far.
pub struct Fuser {
    /// The level.
    pub opt: Opt,
    /// Prices.
    pub machine: Machine,
    /// The type of products' operands.
    pub precision: DType,
    /// One report a function that was saturated.
    pub reports: Vec<FuncReport>,
    rules: Vec<Rule>,
    normal: Vec<Rule>,
}

impl Fuser {
    /// A fuser with these rules and the normal form, as far as their class is allowed. Saturation also has the choices, which one-way
    /// rewriting cannot use.
    pub fn new(options: impl Into<Options>, mut rules: Vec<Rule>) -> Fuser {
        let Options { opt, rules: allowed, machine, precision, .. } = options.into();
        if opt == Opt::Egg {
            rules.extend(rules::choices());
        }
        let within = |rules: Vec<Rule>| rules.into_iter().filter(|r| r.legality <= allowed).collect();
        Fuser { opt, machine, precision, reports: vec![], rules: within(rules), normal: within(rules::normal_form()) }
    }
}

/// Finds composites in every function.
pub fn fuse(graph: &Graph, fuser: &mut Fuser) -> Graph {
    let mut funcs: Vec<Func> = vec![];
    for func in &graph.funcs {
        let better = fuse_func(func, &funcs, fuser);
        funcs.push(better);
    }
    Graph { funcs, ..graph.clone() }.sweep()
}

/// One function; `funcs` are those it may call.
pub fn fuse_func(func: &Func, funcs: &[Func], o: &mut Fuser) -> Func {
    match o.opt {
        Opt::Off => func.sweep(),
        Opt::Greedy => rewrite_func(func, funcs, &o.normal.iter().chain(&o.rules).collect::<Vec<_>>()),
        Opt::Egg => saturate_func(&rewrite_func(func, funcs, &o.normal.iter().collect::<Vec<_>>()), funcs, o, func.nodes.len()),
    }
}

/// A function rewritten by one-way rules.
pub(crate) fn rewrite_func(func: &Func, funcs: &[Func], rules: &[&Rule]) -> Func {
    let mut terms = Terms::new(funcs);
    let ids = terms.add_func(func);
    let mut rewriter = Rewriter::new(rules);
    let roots: Vec<Id> = func.results.iter().map(|r| rewriter.rewrite(&mut terms, ids[r.index()])).collect();
    terms.to_func(&func.name, &roots, &func.inputs())
}

fn saturate_func(func: &Func, funcs: &[Func], o: &mut Fuser, before: usize) -> Func {
    let mut eg = egraph(funcs);
    let (_, root) = add_func(&mut eg, func);
    let saturation = saturate(&mut eg, &o.rules);
    let problem = Problem::new(&eg, root, &o.machine);
    let (plan, method) = problem.solve();
    let mut terms = Terms::new(funcs);
    let (root, _) = problem.terms(&plan, &|id| eg.find(id), &mut terms);
    let roots: Vec<Id> = terms.term(root).args.to_vec();
    let out = terms.to_func(&func.name, &roots, &func.inputs());
    let ops = (before, out.nodes.len());
    o.reports.push(FuncReport { name: func.name.clone(), ops, saturation, method, seconds: problem.cost(&plan) });
    out
}
