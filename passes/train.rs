//! The optimizer as part of the program: accumulation, clipping, AdamW, written in the IR.

use crate::tape::{Tape, V};
use ir::names::{LOSS_COUNT, LOSS_MEAN, LOSS_SUM};
use ir::{Adam, Bin, DType, Func, Graph, Loop, NodeId, Op, Type, Un};

/// How a step updates the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of tensors with two or more axes; biases and gains have none.
    pub weight_decay: f64,
    /// Largest global norm of the gradient; 0 for no limit.
    pub grad_clip: f64,
    /// Micro-batches whose losses and gradients are added up before they are averaged.
    pub accumulate: u32,
}

impl Default for Optimizer {
    fn default() -> Optimizer {
        Optimizer { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1, grad_clip: 1.0, accumulate: 1 }
    }
}

/// Names of the state that `train_step` adds, in front of the parameter's.
pub const MOMENTS: [&str; 2] = ["adamw.m.", "adamw.v."];

/// A step from a program with outputs `loss.sum`, `loss.count` and `grad.<path>`, the gradient of the sum: further inputs `lr` and `step`
/// (from 1), outputs `loss`, the mean, `grad_norm`, its gradient's, and the new value of every parameter and moment.
pub fn train_step(graph: &Graph, optimizer: &Optimizer) -> Result<Graph, String> {
    let graph = if optimizer.accumulate > 1 { accumulate(graph, optimizer.accumulate)? } else { graph.clone() };
    let main = graph.main();
    let result =
        |name: &str| graph.outputs.iter().position(|o| o == name).map(|i| main.results[i]).ok_or_else(|| format!("there is no output {name}"));
    let inputs = main.inputs().len() as u32;
    let tape = Tape::new(Func { results: vec![], ..main.clone() });
    let scalar = Type::scalar(DType::F32);
    let (sum, count) = (tape.at(result(LOSS_SUM)?), tape.at(result(LOSS_COUNT)?));
    let share = share(count);
    let lr = tape.add(Op::Input(inputs, scalar.clone()), &[]);
    let step = tape.add(Op::Input(inputs + 1, scalar), &[]);
    let params: Vec<(String, Type, NodeId)> =
        main.ids().filter_map(|id| if let Op::Param(n, ty) = &main.node(id).op { Some((n.to_string(), ty.clone(), id)) } else { None }).collect();
    let grads = params.iter().map(|p| result(&format!("grad.{}", p.0)).map(|id| tape.at(id))).collect::<Result<Vec<V>, _>>()?;
    let squares = grads.iter().map(|g| sum_all(*g * *g)).reduce(|a, b| a + b).ok_or("there is nothing to train")?;
    let norm = squares.un(Un::Sqrt) * share;
    let clip = match optimizer.grad_clip {
        0.0 => share,
        // min(1, limit / norm)
        limit => (norm.num(limit) / (norm + 1e-6)).bin(Bin::Minimum, norm.num(1.0)) * share,
    };
    // 1 / (1 − βᵗ)
    let correction = |beta: f64| (-(step * beta.ln()).un(Un::Exp) + 1.0).un(Un::Recip);
    let (c1, c2) = (correction(optimizer.beta1), correction(optimizer.beta2));
    let mut outputs = vec![LOSS_MEAN.to_string(), "grad_norm".into()];
    let mut results = vec![(sum * share).id, norm.id];
    for ((name, ty, p), g) in params.iter().zip(grads) {
        let stacked = usize::from(name.contains("{}"));
        let decay = if ty.rank() - stacked >= 2 { optimizer.weight_decay } else { 0.0 };
        let bits = |x: f64| x.to_bits();
        let adam = Adam { beta1: bits(optimizer.beta1), beta2: bits(optimizer.beta2), eps: bits(optimizer.eps), decay: bits(decay) };
        let state = |prefix: &str| tape.add(Op::Param(format!("{prefix}{name}").as_str().into(), ty.clone()), &[]);
        let (m, v) = (state(MOMENTS[0]), state(MOMENTS[1]));
        let new = tape.at(*p).op(Op::AdamW(adam), &[g, m, v, clip, lr, c1, c2]);
        for (i, prefix) in [(0, ""), (1, MOMENTS[0]), (2, MOMENTS[1])] {
            outputs.push(format!("@{prefix}{name}"));
            results.push(new.op(Op::Get(i), &[]).id);
        }
    }
    let mut func = tape.func.into_inner();
    func.results = results;
    let mut out = graph.with_main(func, outputs);
    out.inputs.extend(["lr".to_string(), "step".into()]);
    Ok(out.sweep())
}

/// The program with the mean loss `loss` in place of `loss.sum` and `loss.count`, and gradients of the mean in place of the sum's.
pub fn mean_loss(graph: &Graph) -> Result<Graph, String> {
    let main = graph.main();
    let at = |name: &str| graph.outputs.iter().position(|o| o == name).map(|i| main.results[i]).ok_or_else(|| format!("there is no output {name}"));
    at(LOSS_SUM)?;
    let count = at(LOSS_COUNT)?;
    let tape = Tape::new(Func { results: vec![], ..main.clone() });
    let share = share(tape.at(count));
    let (mut outputs, mut results) = (vec![], vec![]);
    for (name, id) in graph.outputs.iter().zip(&main.results).filter(|(name, _)| *name != LOSS_COUNT) {
        outputs.push(if name == LOSS_SUM { LOSS_MEAN.to_string() } else { name.clone() });
        results.push(if is_summed(name) { (tape.at(*id) * share).id } else { *id });
    }
    let func = Func { results, ..tape.func.into_inner() };
    Ok(graph.with_main(func, outputs).sweep())
}

/// What each of `count` terms has of their mean; nothing where there are none.
fn share(count: V) -> V {
    let zero = count.num(0.0);
    zero.bin(Bin::Lt, count).select(count.un(Un::Recip), zero)
}

fn sum_all(x: V) -> V {
    let axes: Vec<i8> = (1..=x.ty().rank() as i8).map(|a| -a).collect();
    let total = if axes.is_empty() { x } else { x.sum(&axes) };
    total.reshape(&Type::scalar(DType::F32))
}

/// Whether a result of a part of a batch adds up to the whole's.
fn is_summed(name: &str) -> bool {
    ir::names::LOSS.contains(&name) || name.starts_with("grad.")
}

/// The same losses and gradients summed over micro-batches: every input gets a further first axis.
fn accumulate(graph: &Graph, n: u32) -> Result<Graph, String> {
    let body = graph.main();
    let summed: Vec<usize> = (0..graph.outputs.len()).filter(|i| is_summed(&graph.outputs[*i])).collect();
    let inputs = body.inputs();
    let params: Vec<NodeId> = body.ids().filter(|id| matches!(body.node(*id).op, Op::Param(..))).collect();
    // the body: sums go round, tokens are stacked, parameters are the same each time
    let mut f = Func::new("micro");
    let sums: Vec<NodeId> = summed.iter().enumerate().map(|(i, o)| f.add(Op::Input(i as u32, body.ty(body.results[*o]).clone()), &[])).collect();
    let mut new: Vec<NodeId> = vec![];
    for (id, node) in body.ids().zip(&body.nodes) {
        let op = match &node.op {
            Op::Input(i, ty) => Op::Input(*i + sums.len() as u32, ty.clone()),
            Op::Param(_, ty) => Op::Input((sums.len() + inputs.len() + params.iter().position(|p| *p == id).expect("listed")) as u32, ty.clone()),
            op => op.clone(),
        };
        let args = node.args.iter().map(|a| new[a.index()]).collect();
        new.push(f.push(ir::Node { op, args, ty: node.ty.clone(), loc: node.loc }));
    }
    f.results = summed.iter().zip(&sums).map(|(o, s)| f.add(Op::Bin(ir::Bin::Add), &[*s, new[body.results[*o].index()]])).collect();
    let mut funcs = graph.funcs[..graph.funcs.len() - 1].to_vec();
    let l = Loop { func: funcs.len() as u32, trip: n, carried: sums.len() as u32, stacked: inputs.len() as u32, reverse: false };
    funcs.push(f.sweep());
    let tape = Tape::new(Func::new("main"));
    let mut args: Vec<NodeId> = summed.iter().map(|o| tape.zeros(body.ty(body.results[*o])).id).collect();
    args.extend(inputs.iter().enumerate().map(|(i, ty)| tape.add(Op::Input(i as u32, ir::stack(ty, n)), &[]).id));
    args.extend(params.iter().map(|p| tape.add(body.node(*p).op.clone(), &[]).id));
    let types: Vec<Type> = args.iter().map(|a| tape.at(*a).ty()).collect();
    let ty = Graph::repeat_type(&funcs, &l, &types.iter().collect::<Vec<_>>())?;
    let all = tape.add_typed(Op::Repeat(l), &args, ty);
    let outputs: Vec<String> = summed.iter().map(|o| graph.outputs[*o].clone()).collect();
    let results: Vec<NodeId> = (0..outputs.len()).map(|i| all.op(Op::Get(i as u32), &[]).id).collect();
    let mut main = tape.func.into_inner();
    main.results = results;
    funcs.push(main);
    Ok(Graph { funcs, inputs: graph.inputs.clone(), outputs }.sweep())
}
