//! The graph: functions in an append-only arena, every operand before its user, every callee before its caller.

use crate::infer::infer;
use crate::limits::check_limits;
use crate::names::new_value_of;
use crate::op::{Attn, Loop, Name, Op};
use crate::types::{Dim, Dims, Type};
use std::collections::HashMap;
use std::fmt;

/// A value of a function. Ids only point backwards.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The position in [`Func::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Where in a model an op was written.
#[derive(Clone, Copy, Debug)]
pub struct Loc(pub &'static std::panic::Location<'static>);

impl fmt::Display for Loc {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0.file(), self.0.line(), self.0.column())
    }
}

/// An op applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// The op.
    pub op: Op,
    /// Its operands.
    pub args: Vec<NodeId>,
    /// Its type.
    pub ty: Type,
    /// The model line it comes from, where that is known. Not part of equality.
    pub loc: Option<Loc>,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.op == other.op && self.args == other.args && self.ty == other.ty
    }
}

/// A function: inputs are `Input` nodes, results are a list.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Func {
    /// The name, for people.
    pub name: String,
    /// The nodes in order of dependence.
    pub nodes: Vec<Node>,
    /// What it returns.
    pub results: Vec<NodeId>,
}

/// A program: functions, of which the last is `main`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Graph {
    /// The functions; one may call only those before it.
    pub funcs: Vec<Func>,
    /// Names of main's inputs.
    pub inputs: Vec<String>,
    /// Names of main's results. A name `@path` is the new value of that state tensor.
    pub outputs: Vec<String>,
}

impl Func {
    /// An empty function.
    pub fn new(name: &str) -> Func {
        Func { name: name.into(), ..Func::default() }
    }

    /// Appends an op and infers its type. Panics where the op is ill-typed: a pass that builds such a node is wrong.
    pub fn add(&mut self, op: Op, args: &[NodeId]) -> NodeId {
        let types: Vec<&Type> = args.iter().map(|a| self.ty(*a)).collect();
        let ty = infer(&op, &types).unwrap_or_else(|why| panic!("{}: {why}", self.name));
        self.add_typed(op, args, ty)
    }

    /// Appends an op whose type is known, as a `repeat`'s is.
    pub fn add_typed(&mut self, op: Op, args: &[NodeId], ty: Type) -> NodeId {
        self.push(Node { op, args: args.to_vec(), ty, loc: None })
    }

    /// Appends a node.
    pub fn push(&mut self, node: Node) -> NodeId {
        debug_assert!(node.args.iter().all(|a| a.index() < self.nodes.len()), "{}: an operand does not precede its user", self.name);
        self.nodes.push(node);
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// The node of an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The type of a value.
    pub fn ty(&self, id: NodeId) -> &Type {
        &self.node(id).ty
    }

    /// All ids, in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The types of the inputs, in order.
    pub fn inputs(&self) -> Vec<Type> {
        let mut found: Vec<(u32, Type)> =
            self.nodes.iter().filter_map(|n| if let Op::Input(i, ty) = &n.op { Some((*i, ty.clone())) } else { None }).collect();
        found.sort_by_key(|f| f.0);
        found.into_iter().map(|f| f.1).collect()
    }

    /// The types of the results.
    pub fn outputs(&self) -> Vec<Type> {
        self.results.iter().map(|r| self.ty(*r).clone()).collect()
    }

    /// Which nodes the results need.
    pub fn live(&self) -> Vec<bool> {
        self.needed(&[])
    }

    /// Which nodes the results and some others need.
    fn needed(&self, kept: &[NodeId]) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        for r in self.results.iter().chain(kept) {
            live[r.index()] = true;
        }
        for id in self.ids().rev() {
            if live[id.index()] {
                for a in &self.node(id).args {
                    live[a.index()] = true;
                }
            }
        }
        live
    }

    /// The canonical form: dead nodes dropped, equal nodes merged, inputs first, then parameters, constants and the rest.
    pub fn sweep(&self) -> Func {
        self.sweep_keeping(&[])
    }

    /// The same, where some nodes stay that no result needs: state that is only written.
    pub(crate) fn sweep_keeping(&self, kept: &[NodeId]) -> Func {
        let live = self.needed(kept);
        let rank = |op: &Op| match op {
            Op::Input(..) => 0,
            Op::Param(..) => 1,
            Op::Const(..) => 2,
            _ => 3,
        };
        let mut order: Vec<NodeId> = self.ids().filter(|id| live[id.index()] || matches!(self.node(*id).op, Op::Input(..))).collect();
        order.sort_by_key(|id| match &self.node(*id).op {
            Op::Input(i, _) => (0, *i),
            op => (rank(op), 0),
        });
        let mut out = Func::new(&self.name);
        let mut new = vec![NodeId(0); self.nodes.len()];
        let mut seen: HashMap<(Op, Vec<NodeId>), NodeId> = HashMap::new();
        for id in order {
            let node = self.node(id);
            let args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
            let key = (node.op.clone(), args.clone());
            new[id.index()] = *seen.entry(key).or_insert_with(|| out.push(Node { args, ..node.clone() }));
        }
        out.results = self.results.iter().map(|r| new[r.index()]).collect();
        out
    }
}

impl Graph {
    /// The function that is the program.
    pub fn main(&self) -> &Func {
        self.funcs.last().expect("a graph has a main function")
    }

    /// The same graph with another main.
    pub fn with_main(&self, main: Func, outputs: Vec<String>) -> Graph {
        let mut graph = self.clone();
        *graph.funcs.last_mut().expect("a graph has a main function") = main;
        graph.outputs = outputs;
        graph
    }

    /// The type of a `repeat` with these operands, by the signature of its body.
    pub fn repeat_type(funcs: &[Func], l: &Loop, args: &[&Type]) -> Result<Type, String> {
        let body = funcs.get(l.func as usize).ok_or_else(|| format!("there is no function f{} before this one", l.func))?;
        let (carried, stacked) = (l.carried as usize, l.stacked as usize);
        let inputs = body.inputs();
        let fits = l.trip > 0 && carried + stacked <= inputs.len() && args.len() == inputs.len() && carried <= body.results.len();
        if !fits {
            return Err(format!("repeat of f{}: {} operands for {} inputs over {} iterations", l.func, args.len(), inputs.len(), l.trip));
        }
        for (i, (have, want)) in args.iter().zip(&inputs).enumerate() {
            let want = if (carried..carried + stacked).contains(&i) { stack(want, l.trip) } else { want.clone() };
            if **have != want {
                return Err(format!("repeat of f{}: operand {i} is {have}, expected {want}", l.func));
            }
        }
        let outputs = body.outputs();
        if outputs.is_empty() {
            return Err(format!("repeat of f{}: it gives nothing", l.func));
        }
        if outputs[..carried] != inputs[..carried] {
            return Err(format!("repeat of f{}: what goes round changes its type", l.func));
        }
        let ty = Type::tuple(outputs.iter().enumerate().map(|(i, t)| if i < carried { t.clone() } else { stack(t, l.trip) }).collect());
        ty.parts.iter().try_for_each(|p| p.checked_count().map(|_| ()))?;
        Ok(ty)
    }

    /// The same program with only these results.
    pub fn keep_outputs(&self, names: &[&str]) -> Graph {
        let kept: Vec<usize> = (0..self.outputs.len()).filter(|i| names.contains(&self.outputs[*i].as_str())).collect();
        let main = Func { results: kept.iter().map(|i| self.main().results[*i]).collect(), ..self.main().clone() };
        self.with_main(main, kept.iter().map(|i| self.outputs[*i].clone()).collect()).sweep()
    }

    /// The same program on other parameters: `other` says which one is read in the place of one, by path.
    pub fn on_other_params(&self, other: impl Fn(&str) -> Option<String>) -> Graph {
        let mut graph = self.clone();
        for node in graph.funcs.iter_mut().flat_map(|f| &mut f.nodes) {
            if let Op::Param(name, _) = &mut node.op
                && let Some(new) = other(name)
            {
                *name = new.into();
            }
        }
        graph
    }

    /// Replaces symbolic dims by sizes. Fails naming the first symbol that has none.
    pub fn bind(&self, size_of: &dyn Fn(char) -> Option<u64>) -> Result<Graph, String> {
        let mut funcs: Vec<Func> = vec![];
        for f in &self.funcs {
            let bound = bind_func(f, &funcs, size_of)?;
            funcs.push(bound);
        }
        let bound = Graph { funcs, ..self.clone() };
        check_limits(&bound)?;
        Ok(bound)
    }

    /// Names of the dims that have no size yet, each once.
    pub fn symbols(&self) -> Vec<char> {
        let nodes = || self.funcs.iter().flat_map(|f| &f.nodes);
        let of_types = nodes().flat_map(|n| n.ty.parts.iter().chain([&n.ty])).flat_map(|t| &t.dims);
        let of_ops = nodes().flat_map(|n| match &n.op {
            Op::Size(d) | Op::GroupedSum(d) => vec![*d],
            Op::Attention(a) | Op::AttentionBwd(a) => a.f.dims().collect(),
            _ => vec![],
        });
        let mut found: Vec<char> = of_types.copied().chain(of_ops).flat_map(|d| d.symbols()).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Parameters and state of main with their types, in order of first use.
    pub fn params(&self) -> Vec<(Name, Type)> {
        let param = |n: &Node| if let Op::Param(name, ty) = &n.op { Some((name.clone(), ty.clone())) } else { None };
        self.main().nodes.iter().filter_map(param).collect()
    }

    /// Main in canonical form. State that is only written is a parameter, too, and has the type of what is written.
    fn sweep_main(&self, main: &Func) -> Func {
        let mut main = main.clone();
        let mut params: HashMap<Name, NodeId> = HashMap::new();
        for id in main.ids() {
            if let Op::Param(name, _) = &main.node(id).op {
                params.insert(name.clone(), id);
            }
        }
        let states = self.outputs.iter().zip(main.results.clone()).filter_map(|(o, r)| new_value_of(o).map(|path| (path, r)));
        let mut kept = vec![];
        for (path, r) in states {
            let ty = main.ty(r).clone();
            let new = || main.push(Node { op: Op::Param(path.into(), ty.clone()), args: vec![], ty, loc: None });
            kept.push(params.get(path).copied().unwrap_or_else(new));
        }
        main.sweep_keeping(&kept)
    }

    /// Every function in canonical form, functions nobody calls dropped.
    pub fn sweep(&self) -> Graph {
        let last = self.funcs.len().saturating_sub(1);
        let one = |(i, f): (usize, &Func)| if i == last { self.sweep_main(f) } else { f.sweep() };
        let funcs: Vec<Func> = self.funcs.iter().enumerate().map(one).collect();
        let mut used = vec![false; funcs.len()];
        if let Some(main) = used.last_mut() {
            *main = true;
        }
        // callees come before callers, so one walk from the end sees every use
        for i in (0..funcs.len()).rev() {
            if used[i] {
                for node in &funcs[i].nodes {
                    if let Op::Repeat(l) = &node.op {
                        used[l.func as usize] = true;
                    }
                }
            }
        }
        let new: Vec<u32> = used
            .iter()
            .scan(0, |n, u| {
                let i = *n;
                *n += u32::from(*u);
                Some(i)
            })
            .collect();
        let mut kept: Vec<Func> = funcs.into_iter().zip(&used).filter(|(_, u)| **u).map(|(f, _)| f).collect();
        for node in kept.iter_mut().flat_map(|f| &mut f.nodes) {
            if let Op::Repeat(l) = &mut node.op {
                l.func = new[l.func as usize];
            }
        }
        Graph { funcs: kept, ..self.clone() }
    }
}

/// The type of `trip` values of a type, one after the other.
pub fn stack(ty: &Type, trip: u32) -> Type {
    Type { dtype: ty.dtype, dims: std::iter::once(Dim::from(trip)).chain(ty.dims.iter().copied()).collect(), parts: vec![] }
}

fn bind_func(f: &Func, before: &[Func], size_of: &dyn Fn(char) -> Option<u64>) -> Result<Func, String> {
    let dim = |d: &Dim| {
        d.bind(size_of).ok_or_else(|| {
            let missing: Vec<String> = d.symbols().filter(|s| size_of(*s).is_none()).map(String::from).collect();
            if missing.is_empty() {
                format!("dim {d} is too large")
            } else {
                format!("dim {} has no size: name it, as in --dim {}=64", missing.join(", "), missing[0])
            }
        })
    };
    let dims = |ds: &Dims| ds.iter().map(dim).collect::<Result<Dims, _>>();
    let bind_type = |t: &Type| -> Result<Type, String> { Ok(Type { dtype: t.dtype, dims: dims(&t.dims)?, parts: t.parts.clone() }) };
    let mut out = Func::new(&f.name);
    for node in &f.nodes {
        let op = match &node.op {
            Op::Param(name, ty) => Op::Param(name.clone(), bind_type(ty)?),
            Op::Input(i, ty) => Op::Input(*i, bind_type(ty)?),
            Op::Iota(axis, d) => Op::Iota(*axis, dim(d)?),
            Op::Size(d) => crate::op::num(dim(d)?.size() as f64),
            Op::Reshape(ds) => Op::Reshape(dims(ds)?),
            Op::Broadcast(ds) => Op::Broadcast(dims(ds)?),
            Op::RandomBits(ds) => Op::RandomBits(dims(ds)?),
            Op::GroupedSum(groups) => Op::GroupedSum(dim(groups)?),
            Op::Attention(a) => Op::Attention(Attn { f: a.f.map_dims(&dims)?.into(), ..a.clone() }),
            Op::AttentionBwd(a) => Op::AttentionBwd(Attn { f: a.f.map_dims(&dims)?.into(), ..a.clone() }),
            op => op.clone(),
        };
        let types: Vec<&Type> = node.args.iter().map(|a| out.ty(*a)).collect();
        let ty = match &op {
            Op::Repeat(l) => Graph::repeat_type(before, l, &types)?,
            op => infer(op, &types).map_err(|why| match node.loc {
                Some(loc) => format!("{loc}: {why}"),
                None => why,
            })?,
        };
        out.push(Node { op, args: node.args.clone(), ty, loc: node.loc });
    }
    out.results = f.results.clone();
    Ok(out)
}
