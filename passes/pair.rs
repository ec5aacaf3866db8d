//! A loop's body forward and backward: one joint function, and how it is cut into two that pass residuals between them.

use crate::cut::{Saveable, cheapest_cut};
use crate::precision::{held_in_half, hold_in_half, lower_func};
use ir::{Class, DType, Func, Graph, Loop, NodeId, Op, Type};
use std::collections::HashMap;

/// What an input of a joint body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Goes from one forward iteration to the next.
    Carried,
    /// One an iteration, known to both directions: a parameter.
    Stacked,
    /// The same every iteration.
    Invariant,
    /// Goes from one backward iteration to the next.
    BackwardCarried,
    /// One a backward iteration.
    BackwardStacked,
}

/// A joint body: inputs by role, forward results, then what the backward carries, then what it stacks.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The body.
    pub func: Func,
    /// The role of each input, in the order of [`Role`].
    pub roles: Vec<Role>,
    /// Iterations.
    pub trip: u32,
    /// Whether the forward loop runs from the last iteration to the first.
    pub reverse: bool,
    /// How many forward results are carried.
    pub carried: usize,
    /// How many results are forward results.
    pub results: usize,
}

/// A joint body cut in two.
pub struct Split {
    forward: Func,
    backward: Func,
    /// Inputs of the joint body that the forward reads, in the forward's order.
    pub(crate) forward_inputs: Vec<usize>,
    /// What each input of the backward is.
    backward_inputs: Vec<Source>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Input(usize),
    Residual(usize),
}

impl Pair {
    /// How many values the backward carries.
    pub fn backward_carried(&self) -> usize {
        self.roles.iter().filter(|r| **r == Role::BackwardCarried).count()
    }

    fn inputs(&self) -> Vec<NodeId> {
        let mut found: Vec<(u32, NodeId)> =
            self.func.ids().filter_map(|id| if let Op::Input(i, _) = self.func.node(id).op { Some((i, id)) } else { None }).collect();
        found.sort_unstable();
        found.into_iter().map(|f| f.1).collect()
    }

    /// Which nodes depend on a cotangent: those the backward must compute.
    fn backward_nodes(&self) -> Vec<bool> {
        let mut is_backward = vec![false; self.func.nodes.len()];
        for id in self.func.ids() {
            let node = self.func.node(id);
            is_backward[id.index()] = if let Op::Input(i, _) = &node.op {
                matches!(self.roles[*i as usize], Role::BackwardCarried | Role::BackwardStacked)
            } else {
                node.args.iter().any(|a| is_backward[a.index()])
            };
        }
        is_backward
    }

    /// The body with products in a float of 16 bits, and as much of what is kept for the backward.
    pub(crate) fn lowered(self, dtype: DType) -> Pair {
        if !dtype.is_half() {
            return self;
        }
        let lowered = Pair { func: lower_func(&self.func, dtype).sweep(), ..self };
        let held = held_in_half(&lowered.func, &lowered.residuals());
        Pair { func: hold_in_half(&lowered.func, &held, dtype).sweep(), ..lowered }
    }

    /// Cuts the body where the fewest bytes cross from the forward to the backward.
    pub fn split(&self) -> Split {
        let saved = self.residuals();
        let inputs = self.inputs();
        let forward_results: Vec<NodeId> = self.func.results[..self.results].iter().chain(&saved).copied().collect();
        let (forward, forward_sources) = extract(&self.func, &forward_results, &HashMap::new(), &inputs, &self.roles, Role::Carried);
        let residuals: HashMap<NodeId, usize> = saved.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let (backward, backward_inputs) =
            extract(&self.func, &self.func.results[self.results..], &residuals, &inputs, &self.roles, Role::BackwardCarried);
        let forward_inputs = forward_sources.iter().map(|s| if let Source::Input(i) = s { *i } else { unreachable!("the forward has no residuals") });
        Split { forward, backward, forward_inputs: forward_inputs.collect(), backward_inputs }
    }

    /// The values to save. What both directions know is free: inputs that are not carried, and leaves.
    fn residuals(&self) -> Vec<NodeId> {
        let func = &self.func;
        let (is_backward, live) = (self.backward_nodes(), func.live());
        let free = |id: NodeId| {
            let op = &func.node(id).op;
            if let Op::Input(i, _) = op { self.roles[*i as usize] != Role::Carried } else { op.spec().class == Class::Leaf }
        };
        let read = self.read_by_backward(&is_backward, &live);
        let forward: Vec<NodeId> = func.ids().filter(|id| live[id.index()] && !is_backward[id.index()] && !free(*id)).collect();
        let mut at = vec![None; func.nodes.len()];
        let mut values = vec![];
        for (i, id) in forward.iter().enumerate() {
            at[id.index()] = Some(i);
            values.push(Saveable {
                bytes: saveable(func, *id).then(|| func.ty(*id).bytes() as u64),
                once: !recomputable(&func.node(*id).op),
                read: read[id.index()],
                needs: func.node(*id).args.iter().filter_map(|a| at[a.index()]).collect(),
            });
        }
        cheapest_cut(&values).into_iter().map(|i| forward[i]).collect()
    }

    /// Which values the backward reads, or returns.
    fn read_by_backward(&self, is_backward: &[bool], live: &[bool]) -> Vec<bool> {
        let mut read = vec![false; self.func.nodes.len()];
        for id in &self.func.results[self.results..] {
            read[id.index()] = true;
        }
        for id in self.func.ids().filter(|id| live[id.index()] && is_backward[id.index()]) {
            for a in &self.func.node(id).args {
                read[a.index()] = true;
            }
        }
        read
    }

    /// The forward loop, its body added to `funcs`. `outer` holds what each joint input gets.
    pub(crate) fn emit_forward(&self, split: &Split, outer: &[Option<NodeId>], funcs: &mut Vec<Func>, func: &mut Func) -> NodeId {
        let args: Vec<NodeId> = split.forward_inputs.iter().map(|i| outer[*i].expect("forward operands are known")).collect();
        let stacked = split.forward_inputs.iter().filter(|i| self.roles[**i] == Role::Stacked).count();
        self.emit(split.forward.clone(), self.carried, stacked, self.reverse, &args, funcs, func)
    }

    /// The backward loop. Residuals are members of the tuple `forward`.
    pub(crate) fn emit_backward(&self, split: &Split, outer: &[Option<NodeId>], forward: NodeId, funcs: &mut Vec<Func>, func: &mut Func) -> NodeId {
        let mut args = vec![];
        let mut stacked = 0;
        for source in &split.backward_inputs {
            match source {
                Source::Residual(i) => {
                    args.push(func.add(Op::Get((self.results + i) as u32), &[forward]));
                    stacked += 1;
                }
                Source::Input(i) => {
                    args.push(outer[*i].expect("backward operands are known"));
                    stacked += usize::from(matches!(self.roles[*i], Role::Stacked | Role::BackwardStacked));
                }
            }
        }
        self.emit(split.backward.clone(), self.backward_carried(), stacked, !self.reverse, &args, funcs, func)
    }

    fn emit(&self, body: Func, carried: usize, stacked: usize, reverse: bool, args: &[NodeId], funcs: &mut Vec<Func>, func: &mut Func) -> NodeId {
        let l = Loop { func: funcs.len() as u32, trip: self.trip, carried: carried as u32, stacked: stacked as u32, reverse };
        let name = self.func.name.split('.').next().unwrap_or("body");
        funcs.push(Func { name: format!("{name}.{}", if reverse == self.reverse { "forward" } else { "backward" }), ..body });
        let types: Vec<&Type> = args.iter().map(|a| func.ty(*a)).collect();
        let ty = Graph::repeat_type(funcs, &l, &types).unwrap_or_else(|why| panic!("{name}: {why}"));
        func.add_typed(Op::Repeat(l), args, ty)
    }
}

/// Whether a value can be a residual. Views are not: what they look at is saved instead.
fn saveable(func: &Func, id: NodeId) -> bool {
    let node = func.node(id);
    node.op.spec().class != Class::View && node.ty.dtype != DType::Tuple
}

/// Whether the backward may compute a value again: cheap work, no products and no loops.
fn recomputable(op: &Op) -> bool {
    match op.spec().class {
        Class::Pointwise | Class::View | Class::Structure => !matches!(op, Op::Repeat(_)),
        Class::Composite | Class::Reduce => true,
        Class::Index => matches!(op, Op::Concat(_) | Op::Pad(..)),
        Class::Leaf => !matches!(op, Op::Input(..)),
        Class::Contract => false,
    }
}

/// The part of a joint body that computes `results` from residuals and inputs, and what its inputs are: carried, stacked, invariant.
fn extract(
    func: &Func,
    results: &[NodeId],
    residuals: &HashMap<NodeId, usize>,
    inputs: &[NodeId],
    roles: &[Role],
    carried: Role,
) -> (Func, Vec<Source>) {
    let mut needed = vec![false; func.nodes.len()];
    let mut stack: Vec<NodeId> = results.to_vec();
    while let Some(id) = stack.pop() {
        if !std::mem::replace(&mut needed[id.index()], true) && !residuals.contains_key(&id) {
            stack.extend(&func.node(id).args);
        }
    }
    let uses = |i: usize| needed[inputs[i].index()] && !residuals.contains_key(&inputs[i]);
    let pick = |role: Role| (0..inputs.len()).filter(move |i| roles[*i] == role);
    let mut sources: Vec<Source> = pick(carried).map(Source::Input).collect();
    let mut used_residuals: Vec<usize> = residuals.iter().filter(|(id, _)| needed[id.index()]).map(|(_, i)| *i).collect();
    used_residuals.sort_unstable();
    sources.extend(used_residuals.into_iter().map(Source::Residual));
    for role in [Role::Stacked, Role::BackwardStacked, Role::Invariant] {
        sources.extend(pick(role).filter(|i| uses(*i)).map(Source::Input));
    }
    let mut out = Func::new(&func.name);
    let mut new: HashMap<NodeId, NodeId> = HashMap::new();
    let by_residual: HashMap<usize, NodeId> = residuals.iter().map(|(id, i)| (*i, *id)).collect();
    for (i, source) in sources.iter().enumerate() {
        let at = match source {
            Source::Input(j) => inputs[*j],
            Source::Residual(j) => by_residual[j],
        };
        new.insert(at, out.add(Op::Input(i as u32, func.ty(at).clone()), &[]));
    }
    for id in func.ids().filter(|id| needed[id.index()]) {
        if let std::collections::hash_map::Entry::Vacant(_) = new.entry(id) {
            let node = func.node(id);
            let args = node.args.iter().map(|a| new[a]).collect();
            new.insert(id, out.push(ir::Node { args, ..node.clone() }));
        }
    }
    out.results = results.iter().map(|r| new[r]).collect();
    (out.sweep(), sources)
}
