//! The update of parameters as part of the program: accumulation, the mean, clipping, and each group's optimizer.

use crate::group::{Group, Which};
use crate::optimizer::{AdamW, Optimizer, Rate, below_one, not_negative};
use crate::outlier::Outliers;
use crate::state::State;
use crate::tape::{Tape, V};
use ir::names::{self, GRAD_NORM, LOSS_COUNT, LOSS_MEAN, LOSS_SUM};
use ir::{Bin, DType, Func, Graph, Loop, NodeId, Op, Type, Un};

/// How a step updates the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// A parameter is updated as the first group that holds it says; one in no group is frozen: it has no gradient and nothing is kept
    /// for it.
    pub groups: Vec<Group>,
    /// Largest norm of the whole gradient; 0 for no limit.
    pub grad_clip: f64,
    /// Micro-batches whose losses and gradients are added up before they are averaged.
    pub accumulate: u32,
    /// Decay of the moving average of each parameter that is trained, kept beside it; 0 for none.
    pub average: f64,
    /// Which steps update nothing.
    pub outliers: Outliers,
}

impl Default for Update {
    fn default() -> Update {
        Update::adamw(AdamW::default())
    }
}

/// Micro-batches are unrolled to calls, so their number is bounded.
pub const ACCUMULATE_MAX: u32 = 4096;

impl Update {
    /// Every parameter by AdamW; biases, gains and scalars do not decay. The gradient's norm is at most 1.
    pub fn adamw(settings: AdamW) -> Update {
        let plain = AdamW { weight_decay: 0.0, ..settings };
        let groups = vec![Group::new(Which::matrices(), Optimizer::AdamW(settings)), Group::new(Which::all(), Optimizer::AdamW(plain))];
        Update { groups, grad_clip: 1.0, accumulate: 1, average: 0.0, outliers: Outliers::default() }
    }

    /// The group of a parameter, if it is trained.
    pub fn group(&self, path: &str, ty: &Type) -> Option<&Group> {
        self.groups.iter().find(|g| g.which.holds(path, ty))
    }

    /// Which parameters are trained.
    pub fn trainable(&self) -> Vec<Which> {
        self.groups.iter().map(|g| g.which.clone()).collect()
    }

    /// Which setting is outside its range, if one is.
    pub fn check(&self) -> Result<(), String> {
        self.groups.iter().try_for_each(Group::check)?;
        not_negative("grad_clip", self.grad_clip)?;
        below_one("the average's decay", self.average)?;
        self.outliers.check()?;
        if !(1..=ACCUMULATE_MAX).contains(&self.accumulate) {
            return Err(format!("accumulate is {}, expected 1 to {ACCUMULATE_MAX}", self.accumulate));
        }
        Ok(())
    }
}

/// A parameter that is trained.
struct Trained<'t, 'u> {
    path: String,
    ty: Type,
    value: V<'t>,
    /// The gradient of the loss's sum.
    grad: V<'t>,
    group: &'u Group,
}

impl<'t> Trained<'t, '_> {
    /// The learning rate of it, of the step's: a number, or of stacked layers one for each.
    fn rate(&self, lr: V<'t>, stacked: usize) -> V<'t> {
        let Group { lr: share, growth, .. } = *self.group;
        let lr = if share == 1.0 { lr } else { lr * share };
        if growth == 1.0 || stacked == 0 {
            return lr;
        }
        // growthⁱ⁻ⁿ⁺¹, which is at most 1
        let (axis, layers) = (-(self.ty.rank() as i8), self.ty.dims[0]);
        let number = lr.iota(axis, layers).as_f32() - (layers.size() as f64 - 1.0);
        lr * (number * growth.ln()).un(Un::Exp)
    }

    /// What is kept of it, by name: the parameter, what its optimizer keeps, its average. Of each the old and the new value.
    fn updated(&self, tape: &'t Tape, scale: V<'t>, [lr, step]: [V<'t>; 2], average: f64) -> Vec<(String, V<'t>, V<'t>)> {
        let (optimizer, stacked) = (&self.group.optimizer, names::loops(&self.path));
        let state = |name: &str, ty: &Type| tape.add(Op::Param(name.into(), ty.clone()), &[]);
        let slots = optimizer.slots(&self.ty, stacked).into_iter().map(|(slot, ty)| {
            let name = State::Slot(slot, &self.path).to_string();
            let value = state(&name, &ty);
            (name, value)
        });
        let all: Vec<(String, V)> = std::iter::once((self.path.clone(), self.value)).chain(slots).collect();
        let kept: Vec<V> = all[1..].iter().map(|s| s.1).collect();
        let rate = Rate { lr: self.rate(lr, stacked), step, stacked };
        let new = optimizer.update(self.value, self.grad * scale, &kept, rate);
        let mut out: Vec<_> = all.into_iter().zip(&new).map(|((name, old), new)| (name, old, *new)).collect();
        if average > 0.0 {
            let name = State::Average(&self.path).to_string();
            let old = state(&name, &self.ty);
            let toward = old + (new[0] - old) * (1.0 - average);
            // it starts as what the first step makes
            out.push((name, old, step.bin(Bin::Le, step.num(1.0)).select(new[0], toward)));
        }
        out
    }
}

/// A step from a program with outputs `loss.sum`, `loss.count` and `grad.<path>`, the gradient of the sum: further inputs `lr` and `step`
/// (from 1), outputs `loss`, the mean, `grad_norm`, its gradient's, and the new value of every parameter that is trained and of what its
/// optimizer keeps; what else is looked at goes through. Where outliers are looked for, `skipped` says whether this is one: then nothing is updated.
pub fn train_step(graph: &Graph, update: &Update) -> Result<Graph, String> {
    update.check()?;
    let graph = if update.accumulate > 1 { accumulate(graph, update.accumulate)? } else { graph.clone() };
    let main = graph.main();
    let inputs = main.inputs().len() as u32;
    let tape = Tape::new(Func { results: vec![], ..main.clone() });
    let input = |i: u32| tape.add(Op::Input(inputs + i, Type::scalar(DType::F32)), &[]);
    let (lr, step) = (input(0), input(1));
    let (sum, share) = (tape.at(result(&graph, LOSS_SUM)?), share(tape.at(result(&graph, LOSS_COUNT)?)));
    let trained = trained(&graph, &tape, update)?;
    let squares = trained.iter().map(|p| sum_all(p.grad * p.grad)).reduce(|a, b| a + b);
    let norm = squares.ok_or("there is nothing to train: no group holds a parameter")?.un(Un::Sqrt) * share;
    let scale = match update.grad_clip {
        0.0 => share,
        // min(1, limit / norm)
        limit => (norm.num(limit) / (norm + 1e-6)).bin(Bin::Minimum, norm.num(1.0)) * share,
    };
    let mut outputs = vec![LOSS_MEAN.to_string(), GRAD_NORM.into()];
    let mut results = vec![(sum * share).id, norm.id];
    let found = update.outliers.find(&tape, [sum * share, norm], step);
    for (name, id) in graph.outputs.iter().zip(&main.results).filter(|(name, _)| names::is_seen(name)) {
        outputs.push(name.clone());
        results.push(*id);
    }
    for p in &trained {
        for (name, old, new) in p.updated(&tape, scale, [lr, step], update.average) {
            let new = found.as_ref().map_or(new, |f| f.skip.select(old, new));
            outputs.push(names::new_value(&name));
            results.push(new.id);
        }
    }
    drop(trained);
    for (name, value) in found.map_or(vec![], |f| f.results) {
        outputs.push(name);
        results.push(value.id);
    }
    let mut out = graph.with_main(Func { results, ..tape.func.into_inner() }, outputs);
    out.inputs.extend(["lr".to_string(), "step".into()]);
    Ok(out.sweep())
}

/// The parameters that a group holds, with their gradients.
fn trained<'t, 'u>(graph: &Graph, tape: &'t Tape, update: &'u Update) -> Result<Vec<Trained<'t, 'u>>, String> {
    let main = graph.main();
    let mut out = vec![];
    for id in main.ids() {
        let Op::Param(path, ty) = &main.node(id).op else { continue };
        let Some(group) = update.group(path, ty) else { continue };
        group.optimizer.fits(path, ty, names::loops(path))?;
        let grad = tape.at(result(graph, &names::gradient(path))?);
        out.push(Trained { path: path.to_string(), ty: ty.clone(), value: tape.at(id), grad, group });
    }
    Ok(out)
}

fn result(graph: &Graph, name: &str) -> Result<NodeId, String> {
    graph.outputs.iter().position(|o| o == name).map(|i| graph.main().results[i]).ok_or_else(|| format!("there is no output {name}"))
}

/// The program with the mean loss `loss` in place of `loss.sum` and `loss.count`, and gradients of the mean in place of the sum's.
pub fn mean_loss(graph: &Graph) -> Result<Graph, String> {
    let main = graph.main();
    result(graph, LOSS_SUM)?;
    let tape = Tape::new(Func { results: vec![], ..main.clone() });
    let share = share(tape.at(result(graph, LOSS_COUNT)?));
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
    names::LOSS.contains(&name) || names::gradient_of(name).is_some()
}

/// The same losses and gradients summed over micro-batches: every input gets a further first axis.
fn accumulate(graph: &Graph, n: u32) -> Result<Graph, String> {
    let body = graph.main();
    let adds = |i: &usize| is_summed(&graph.outputs[*i]) || names::is_seen(&graph.outputs[*i]);
    let summed: Vec<usize> = (0..graph.outputs.len()).filter(adds).collect();
    let inputs = body.inputs();
    let params: Vec<NodeId> = body.ids().filter(|id| matches!(body.node(*id).op, Op::Param(..))).collect();
    // the body: sums go round, tokens are stacked, parameters are the same each time
    let mut f = Func::new("micro");
    let sums: Vec<NodeId> = summed.iter().enumerate().map(|(i, o)| f.add(Op::Input(i as u32, body.ty(body.results[*o]).clone()), &[])).collect();
    let mut new: Vec<NodeId> = vec![];
    for (id, node) in body.ids().zip(&body.nodes) {
        let op = if let Op::Input(i, ty) = &node.op {
            Op::Input(*i + sums.len() as u32, ty.clone())
        } else if let Op::Param(_, ty) = &node.op {
            Op::Input((sums.len() + inputs.len() + params.iter().position(|p| *p == id).expect("listed")) as u32, ty.clone())
        } else {
            node.op.clone()
        };
        let args = node.args.iter().map(|a| new[a.index()]).collect();
        new.push(f.push(ir::Node { op, args, ty: node.ty.clone(), loc: node.loc }));
    }
    f.results = summed.iter().zip(&sums).map(|(o, s)| f.add(Op::Bin(Bin::Add), &[*s, new[body.results[*o].index()]])).collect();
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
