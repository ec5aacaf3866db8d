//! What a model costs, counted in its program.

use crate::error::Result;
use crate::objective::{Mode, Objective};
use codegen::{Cpu, Program, Target};
use ir::{Graph, NodeId, Op};
use models::Model;
use passes::{Goal, Options, compile, flops};

/// Sizes and costs of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// Numbers that are learned.
    pub parameters: usize,
    /// Operations of the products of a forward pass over a whole context, those of attention over every pair of tokens.
    pub forward: f64,
    /// The same over those pairs alone that masks leave.
    pub seen: f64,
    /// The longest context, in tokens; an encoder and a decoder read as many.
    pub context: usize,
    /// Bytes that generation keeps of a token, in 32 bits.
    pub cache: usize,
    /// Tables that are also multiplied with, by path: embeddings that are the head, too.
    pub tied: Vec<String>,
}

impl Counts {
    /// Counts a model.
    pub fn of(model: &Model) -> Result<Counts> {
        let context = model.context();
        let (graph, forward) = forward(model, 1, context)?;
        let cache = model.cache().iter().map(|k| k.layers * k.heads * k.depth * 4).sum();
        let parameters = graph.params().iter().map(|p| p.1.count()).sum();
        Ok(Counts { parameters, forward: flops(&forward), seen: products(&forward), context, cache, tied: tied(&graph) })
    }
}

/// Operations of the products of one training step that learns from so many tokens: a forward pass over those pairs of tokens that masks
/// leave, and twice that backward (Chowdhery et al. 2022, appendix B).
pub fn step_flops(model: &Model, batch: usize, context: usize) -> Result<f64> {
    Ok(3.0 * products(&forward(model, batch, context)?.1))
}

/// The program of a forward pass as it is written, and optimised.
fn forward(model: &Model, batch: usize, context: usize) -> Result<(Graph, Graph)> {
    let graph = Objective::of(model).bound(model, Mode::Evaluate, batch, context)?.keep_outputs(&["logits"]);
    let fused = compile(&graph, Goal::Results, &Options::default())?.last().clone();
    Ok((graph, fused))
}

/// What the kernels of a program multiply, on whatever processor.
fn products(graph: &Graph) -> f64 {
    Program::new(graph, &Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 20, pairs: false })).work().flops
}

/// Parameters of which rows are taken and that are multiplied with as well.
fn tied(graph: &Graph) -> Vec<String> {
    let main = graph.main();
    let used = |id: NodeId, by: fn(&Op) -> bool| main.nodes.iter().any(|n| n.args.contains(&id) && by(&n.op));
    let both = |id: NodeId| used(id, |op| matches!(op, Op::Gather)) && used(id, |op| matches!(op, Op::Contract(_)));
    main.ids()
        .filter(|id| both(*id))
        .filter_map(|id| if let Op::Param(path, _) = &main.node(id).op { Some(path.to_string()) } else { None })
        .collect()
}
