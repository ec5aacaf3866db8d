//! Every invariant of a graph, checked after each pass.

use crate::graph::{Func, Graph};
use crate::infer::infer;
use crate::op::Op;
use crate::types::Type;

/// Checks a graph; each error names the function and the node.
pub fn verify(graph: &Graph) -> Result<(), Vec<String>> {
    let mut errors = vec![];
    for (i, func) in graph.funcs.iter().enumerate() {
        verify_func(func, &graph.funcs[..i], &mut errors);
    }
    match graph.funcs.last() {
        None => errors.push("there is no main function".into()),
        Some(main) => {
            if main.results.len() != graph.outputs.len() {
                errors.push(format!("main returns {} values under {} names", main.results.len(), graph.outputs.len()));
            }
            if main.inputs().len() != graph.inputs.len() {
                errors.push(format!("main has {} inputs and {} names for them", main.inputs().len(), graph.inputs.len()));
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn verify_func(func: &Func, before: &[Func], errors: &mut Vec<String>) {
    for (id, node) in func.ids().zip(&func.nodes) {
        let mut fail = |why: String| errors.push(format!("{}: {id} = {}: {why}", func.name, node.op));
        if let Some(a) = node.args.iter().find(|a| **a >= id) {
            fail(format!("operand {a} does not come before it"));
            continue;
        }
        let types: Vec<&Type> = node.args.iter().map(|a| func.ty(*a)).collect();
        let ty = match &node.op {
            Op::Repeat(l) => Graph::repeat_type(before, l, &types),
            op => infer(op, &types),
        };
        match ty {
            Ok(ty) if ty == node.ty => {}
            Ok(ty) => fail(format!("has type {}, should have {ty}", node.ty)),
            Err(why) => fail(why),
        }
    }
    let indices: Vec<u32> = func.nodes.iter().filter_map(|n| if let Op::Input(i, _) = n.op { Some(i) } else { None }).collect();
    if !indices.iter().copied().eq(0..indices.len() as u32) {
        errors.push(format!("{}: inputs are not numbered 0..{}", func.name, indices.len()));
    }
    if let Some(r) = func.results.iter().find(|r| r.index() >= func.nodes.len()) {
        errors.push(format!("{}: result {r} does not exist", func.name));
    }
}
