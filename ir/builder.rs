//! What model code holds: a scope, and tensors that are `Copy` and have operators.
//!
//! Mathematics needs no `?`: mistakes are recorded with the model's file and line, and [`Builder::finish`] returns them all at once.

use crate::graph::{Func, Graph, Loc, Node, NodeId, stack};
use crate::infer::infer;
use crate::limits::{check_limits, check_ops, unrolled, unrolled_op};
use crate::names::{Place, new_value_of};
use crate::naming::{check_name, check_params};
use crate::op::{Axes, Bin, Ein, Loop, Op, Red, Row, Un, num};
use crate::types::{DType, Dim, Dims, Type};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::panic::Location;

/// A mistake in a model.
#[derive(Clone, Debug)]
pub struct ModelError {
    /// The line of the model.
    pub loc: Loc,
    /// What is wrong there.
    pub message: String,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.loc, self.message)
    }
}

/// Every mistake of a model.
#[derive(Clone, Debug)]
pub struct ModelErrors(pub Vec<ModelError>);

impl fmt::Display for ModelErrors {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0.iter().map(ModelError::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for ModelErrors {}

/// A function being written, and what it has taken from outside.
struct Frame {
    /// Tells this body from others that were open at the same depth.
    number: u32,
    func: Func,
    /// Values of the enclosing function that the body reads, with their inputs here: the same each iteration.
    captured: HashMap<NodeId, NodeId>,
    /// The same in the order they were taken.
    captures: Vec<(NodeId, NodeId)>,
    /// Parameters declared here: in main themselves, in a body inputs, one an iteration.
    params: Vec<Declared>,
    /// Where each path stands among them.
    paths: HashMap<String, usize>,
    /// How many inputs the function has.
    inputs: u32,
}

/// A parameter, and the line that declared it first.
#[derive(Clone)]
struct Declared {
    path: String,
    id: NodeId,
    loc: Loc,
}

impl Frame {
    fn new(number: u32, name: &str) -> Frame {
        let func = Func::new(name);
        Frame { number, func, captured: HashMap::new(), captures: vec![], params: vec![], paths: HashMap::new(), inputs: 0 }
    }

    fn input(&mut self, ty: Type, loc: Option<Loc>) -> NodeId {
        self.inputs += 1;
        self.func.push(Node { op: Op::Input(self.inputs - 1, ty.clone()), args: vec![], ty, loc })
    }
}

/// An input or result of main: its name, its value and the line that named it.
struct Named {
    name: String,
    id: NodeId,
    loc: Loc,
}

struct State {
    funcs: Vec<Func>,
    /// Ops of each function with its loops unrolled.
    ops: Vec<u64>,
    frames: Vec<Frame>,
    /// How many frames there have been.
    opened: u32,
    inputs: Vec<Named>,
    outputs: Vec<Named>,
    errors: Vec<ModelError>,
}

impl State {
    fn top(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the main frame stands until the end")
    }

    fn main(&mut self) -> &mut Frame {
        self.frames.first_mut().expect("the main frame stands until the end")
    }

    fn error(&mut self, loc: Loc, message: String) {
        self.errors.push(ModelError { loc, message });
    }
}

/// Collects a model into a [`Graph`].
pub struct Builder {
    state: RefCell<State>,
}

/// A value in a model.
#[derive(Clone, Copy)]
pub struct Tensor<'g> {
    builder: &'g Builder,
    id: NodeId,
    depth: usize,
    /// The number of the frame it was made in.
    frame: u32,
}

/// A place in a model's tree of parameter names.
#[derive(Clone)]
pub struct Scope<'g> {
    builder: &'g Builder,
    path: String,
    /// Whose parameters it declares: main's, or one an iteration of the loop whose body has this depth and number.
    depth: usize,
    frame: u32,
}

/// Whatever lists dims: arrays, vectors, and tuples that mix numbers and symbols.
pub trait Shape {
    /// The dims, outermost first.
    fn dims(self) -> Dims;
}

impl<D: Into<Dim>, const N: usize> Shape for [D; N] {
    fn dims(self) -> Dims {
        self.into_iter().map(Into::into).collect()
    }
}

impl Shape for Dims {
    fn dims(self) -> Dims {
        self
    }
}

macro_rules! tuple_shapes {
    ($(($($t:ident $i:tt),+)),+) => { $(
        impl<$($t: Into<Dim>),+> Shape for ($($t,)+) {
            fn dims(self) -> Dims { [$(self.$i.into()),+].into_iter().collect() }
        }
    )+ };
}
tuple_shapes!((A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3), (A 0, B 1, C 2, D 3, E 4));

impl Default for Builder {
    fn default() -> Builder {
        let frames = vec![Frame::new(0, "main")];
        Builder { state: RefCell::new(State { funcs: vec![], ops: vec![], frames, opened: 1, inputs: vec![], outputs: vec![], errors: vec![] }) }
    }
}

impl Builder {
    /// The root of the parameter names.
    pub fn scope(&self) -> Scope<'_> {
        Scope { builder: self, path: String::new(), depth: 0, frame: 0 }
    }

    /// Names a result of the program. `@path` names the new value of that parameter, which has its type.
    #[track_caller]
    pub fn output(&self, name: &str, value: Tensor) {
        let loc = Loc(Location::caller());
        let id = if self.owns(value, loc) && value.depth == 0 { value.id } else { self.stand_in(value, loc) };
        let mut state = self.state.borrow_mut();
        if let Err(why) = check_name(new_value_of(name).unwrap_or(name)) {
            state.error(loc, format!("result {why}"));
        }
        if name.starts_with("grad.") {
            state.error(loc, format!("result {name}: names that begin with grad. are for the gradients that differentiation adds"));
        }
        let first = state.outputs.iter().find(|o| o.name == name).map(|o| o.loc);
        if let Some(first) = first {
            state.error(loc, format!("result {name} is named here and at {first}"));
        }
        if !state.main().func.ty(id).is_tensor() {
            state.error(loc, format!("result {name} is a tuple; take a member with get"));
        }
        state.outputs.push(Named { name: name.into(), id, loc });
    }

    /// A result made inside a layer is none of the program: what stands for it.
    fn stand_in(&self, value: Tensor, loc: Loc) -> NodeId {
        let mut state = self.state.borrow_mut();
        if value.depth > 0 && state.frames.len() > value.depth {
            state.error(loc, "a result is a value of the model, not of a layer: return it from the layer".into());
        }
        state.main().func.push(Node { op: num(0.0), args: vec![], ty: Type::scalar(DType::F32), loc: Some(loc) })
    }

    /// The graph, or every mistake that was made on the way.
    #[track_caller]
    pub fn finish(self) -> Result<Graph, ModelErrors> {
        let mut state = self.state.into_inner();
        let loc = Loc(Location::caller());
        check_contract(&mut state, loc);
        let main = state.frames.pop().expect("the main frame stands until the end");
        let results = state.outputs.iter().map(|o| o.id).collect();
        state.funcs.push(Func { results, ..main.func });
        let names = |named: Vec<Named>| named.into_iter().map(|n| n.name).collect();
        let graph = Graph { funcs: state.funcs, inputs: names(state.inputs), outputs: names(state.outputs) };
        if state.errors.is_empty()
            && let Err(why) = check_limits(&graph)
        {
            state.errors.push(ModelError { loc, message: why });
        }
        if state.errors.is_empty() { Ok(graph.sweep()) } else { Err(ModelErrors(state.errors)) }
    }

    fn tensor(&self, id: NodeId) -> Tensor<'_> {
        let state = self.state.borrow();
        let depth = state.frames.len() - 1;
        Tensor { builder: self, id, depth, frame: state.frames[depth].number }
    }

    fn error(&self, loc: Loc, message: String) {
        self.state.borrow_mut().error(loc, message);
    }

    /// Whether a tensor can be used where a model is now; if not, that is an error.
    fn owns(&self, t: Tensor, loc: Loc) -> bool {
        if !std::ptr::eq(self, t.builder) {
            self.error(loc, "this value belongs to another builder".into());
            return false;
        }
        let open = self.state.borrow().frames.get(t.depth).is_some_and(|f| f.number == t.frame);
        if !open {
            self.error(loc, "this value belongs to a layer that has ended: return it from the layer".into());
        }
        open
    }

    fn push(&self, op: Op, args: Vec<NodeId>, ty: Type, loc: Loc) -> Tensor<'_> {
        let id = self.state.borrow_mut().top().func.push(Node { op, args, ty, loc: Some(loc) });
        self.tensor(id)
    }

    /// A value of a type for what could not be made: it keeps later shapes sensible, and `finish` hands out no graph.
    fn broken(&self, ty: Type, loc: Loc) -> Tensor<'_> {
        self.push(num(0.0), vec![], ty, loc)
    }

    fn declare_new(&self, depth: usize, path: String, ty: Type, loc: Loc) -> NodeId {
        let mut state = self.state.borrow_mut();
        let frame = &mut state.frames[depth];
        let id = if depth == 0 {
            frame.func.push(Node { op: Op::Param(path.as_str().into(), ty.clone()), args: vec![], ty, loc: Some(loc) })
        } else {
            frame.input(ty, Some(loc))
        };
        frame.paths.insert(path.clone(), frame.params.len());
        frame.params.push(Declared { path, id, loc });
        id
    }

    /// The id of a tensor in the open function, taken in from the enclosing ones if need be.
    fn here(&self, t: Tensor, loc: Loc) -> NodeId {
        if !self.owns(t, loc) {
            return self.broken(Type::scalar(DType::F32), loc).id;
        }
        let top = self.state.borrow().frames.len() - 1;
        (t.depth + 1..=top).fold(t.id, |id, depth| self.capture(id, depth))
    }

    fn capture(&self, outer: NodeId, depth: usize) -> NodeId {
        let mut state = self.state.borrow_mut();
        if let Some(inner) = state.frames[depth].captured.get(&outer) {
            return *inner;
        }
        let source = state.frames[depth - 1].func.node(outer).clone();
        let frame = &mut state.frames[depth];
        // constants are cheaper written again than passed in
        if matches!(source.op, Op::Const(..)) {
            return frame.func.push(source);
        }
        let inner = frame.input(source.ty, source.loc);
        frame.captured.insert(outer, inner);
        frame.captures.push((outer, inner));
        inner
    }

    fn apply(&self, op: Op, args: &[Tensor], loc: Loc) -> Tensor<'_> {
        let ids: Vec<NodeId> = args.iter().map(|a| self.here(*a, loc)).collect();
        let (inferred, first) = {
            let state = self.state.borrow();
            let func = &state.frames.last().expect("a frame is open").func;
            let types: Vec<&Type> = ids.iter().map(|i| func.ty(*i)).collect();
            (infer(&op, &types), types.first().filter(|t| t.is_tensor()).map(|t| (*t).clone()))
        };
        match inferred {
            Ok(ty) => self.push(op, ids, ty, loc),
            Err(why) => {
                self.error(loc, why);
                self.broken(first.unwrap_or(Type::scalar(DType::F32)), loc)
            }
        }
    }
}

/// What can only be said when all of a model is known: what its results and parameters are to each other.
fn check_contract(state: &mut State, end: Loc) {
    let main = &state.frames[0];
    let mut errors = vec![];
    if state.outputs.is_empty() && state.errors.is_empty() {
        errors.push((end, "the model has no result: name one with output".to_string()));
    }
    for o in &state.outputs {
        let Some(path) = new_value_of(&o.name) else { continue };
        match main.paths.get(path).map(|i| &main.params[*i]) {
            None => errors.push((o.loc, format!("result {} is the new value of a parameter that the model does not have", o.name))),
            Some(p) if main.func.ty(p.id) != main.func.ty(o.id) => {
                let (have, want) = (main.func.ty(o.id), main.func.ty(p.id));
                errors.push((o.loc, format!("result {} is {have}, and the parameter, declared at {}, is {want}", o.name, p.loc)));
            }
            Some(_) => {}
        }
    }
    let params: Vec<(&str, &Type)> = main.params.iter().map(|p| (p.path.as_str(), main.func.ty(p.id))).collect();
    errors.extend(check_params(&params).into_iter().map(|(i, why)| (main.params[i].loc, why)));
    for p in main.params.iter().filter(|p| p.path.starts_with("grad.")) {
        errors.push((p.loc, format!("parameter {}: names that begin with grad. are for gradients", p.path)));
    }
    for i in &state.inputs {
        if let Some(p) = main.paths.get(&i.name).map(|p| &main.params[*p]) {
            errors.push((i.loc, format!("input {} has the name of the parameter declared at {}", i.name, p.loc)));
        }
    }
    for (loc, why) in errors {
        state.error(loc, why);
    }
}

/// The layers of a pattern: `count` times `step` of them, from number `first` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Number of the first layer.
    pub first: usize,
    /// Layers in one iteration.
    pub step: usize,
    /// Iterations.
    pub count: usize,
}

impl<'g> Scope<'g> {
    /// A scope below this one.
    pub fn at(&self, name: &str) -> Scope<'g> {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Scope { path, ..*self }
    }

    /// A trainable `f32` tensor, declared where it is used. In a layer, its own scope has one an iteration; a scope from outside the layer
    /// has one that all iterations share.
    #[track_caller]
    pub fn param(&self, name: &str, shape: impl Shape) -> Tensor<'g> {
        self.declare(self.at(name).path, Type::f32(shape.dims()), Loc(Location::caller()))
    }

    fn declare(&self, path: String, ty: Type, loc: Loc) -> Tensor<'g> {
        let b = self.builder;
        let ty = match infer(&Op::Param(path.as_str().into(), ty.clone()), &[]) {
            Ok(ty) => ty,
            Err(why) => {
                b.error(loc, format!("parameter {path}: {why}"));
                return b.broken(Type::scalar(DType::F32), loc);
            }
        };
        let here = |id| Tensor { builder: b, id, depth: self.depth, frame: self.frame };
        if b.state.borrow().frames.get(self.depth).is_none_or(|f| f.number != self.frame) {
            b.error(loc, format!("parameter {path}: its scope belongs to a layer that has ended"));
            return b.broken(ty, loc);
        }
        let known = {
            let state = b.state.borrow();
            let frame = &state.frames[self.depth];
            frame.paths.get(&path).map(|i| (frame.params[*i].clone(), frame.func.ty(frame.params[*i].id).clone()))
        };
        let Some((first, had)) = known else { return here(b.declare_new(self.depth, path, ty, loc)) };
        if had != ty {
            b.error(loc, format!("parameter {path} is {ty} here and {had} at {}", first.loc));
            return b.broken(ty, loc);
        }
        here(first.id)
    }

    /// An input of the program.
    #[track_caller]
    pub fn input(&self, name: &str, dtype: DType, shape: impl Shape) -> Tensor<'g> {
        let (b, loc) = (self.builder, Loc(Location::caller()));
        let mut ty = Type::of(dtype, shape.dims());
        if let Err(why) = infer(&Op::Input(0, ty.clone()), &[]) {
            b.error(loc, format!("input {name}: {why}"));
            ty = Type::scalar(DType::F32);
        }
        let mut state = b.state.borrow_mut();
        if let Err(why) = check_name(name) {
            state.error(loc, format!("input {why}"));
        }
        if let Some(first) = state.inputs.iter().find(|i| i.name == name).map(|i| i.loc) {
            state.error(loc, format!("input {name} is named here and at {first}"));
        }
        let id = state.main().input(ty, Some(loc));
        state.inputs.push(Named { name: name.into(), id, loc });
        Tensor { builder: b, id, depth: 0, frame: 0 }
    }

    /// A number.
    #[track_caller]
    pub fn num(&self, x: f64) -> Tensor<'g> {
        self.builder.push(num(x), vec![], Type::scalar(DType::F32), Loc(Location::caller()))
    }

    /// A whole number of type `i32`.
    #[track_caller]
    pub fn int(&self, n: i32) -> Tensor<'g> {
        self.builder.push(Op::Const(f64::from(n).to_bits(), DType::I32), vec![], Type::scalar(DType::I32), Loc(Location::caller()))
    }

    /// A whole number of type `u32`.
    #[track_caller]
    pub fn uint(&self, n: u32) -> Tensor<'g> {
        self.builder.push(Op::Const(f64::from(n).to_bits(), DType::U32), vec![], Type::scalar(DType::U32), Loc(Location::caller()))
    }

    /// A constant of any type.
    #[track_caller]
    pub(crate) fn constant(&self, op: Op) -> Tensor<'g> {
        self.builder.apply(op, &[], Loc(Location::caller()))
    }

    /// A dim as a number.
    #[track_caller]
    pub fn size(&self, dim: Dim) -> Tensor<'g> {
        self.builder.apply(Op::Size(dim), &[], Loc(Location::caller()))
    }

    /// 0, 1, 2, … along an axis counted from the end.
    #[track_caller]
    pub fn iota(&self, axis: i8, dim: impl Into<Dim>) -> Tensor<'g> {
        self.builder.apply(Op::Iota(axis, dim.into()), &[], Loc(Location::caller()))
    }

    /// `x` after `n` layers, each with its own parameters: those declared in `layer` under `name.{}`.
    #[track_caller]
    pub fn layers(&self, name: &str, n: usize, x: Tensor<'g>, layer: impl FnOnce(&Scope<'g>, Tensor<'g>) -> Tensor<'g>) -> Tensor<'g> {
        self.layers_with(name, n, x, &[], |s, x, _| layer(s, x))
    }

    /// As [`layers`](Self::layers), with further values of which each layer takes its own slice along the first axis.
    #[track_caller]
    pub fn layers_with(
        &self,
        name: &str,
        n: usize,
        x: Tensor<'g>,
        stacked: &[Tensor<'g>],
        layer: impl FnOnce(&Scope<'g>, Tensor<'g>, &[Tensor<'g>]) -> Tensor<'g>,
    ) -> Tensor<'g> {
        let (y, _) = self.scan(name, n, x, stacked, |s, x, own| (layer(s, x, own), vec![]));
        y
    }

    /// As [`layers_with`](Self::layers_with), where each layer also returns values, which come back stacked.
    #[track_caller]
    pub fn scan(
        &self,
        name: &str,
        n: usize,
        x: Tensor<'g>,
        stacked: &[Tensor<'g>],
        layer: impl FnOnce(&Scope<'g>, Tensor<'g>, &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>),
    ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        self.pattern(name, Places { first: 0, step: 1, count: n }, x, stacked, |s, x, own| layer(&s[0], x, own))
    }

    /// As [`scan`](Self::scan) for a pattern of layers: each iteration is several, one after the other, and has a scope for each. Those of
    /// iteration i are `name.{first + step · i}` and the next ones.
    #[track_caller]
    pub fn pattern(
        &self,
        name: &str,
        layers: Places,
        x: Tensor<'g>,
        stacked: &[Tensor<'g>],
        layer: impl FnOnce(&[Scope<'g>], Tensor<'g>, &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>),
    ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let (loc, b) = (Loc(Location::caller()), self.builder);
        let trip = self.trip(name, layers.count, loc);
        if let Err(why) = check_name(name) {
            b.error(loc, format!("layers: {why}"));
        }
        if layers.step == 0 {
            b.error(loc, format!("{name}: a pattern has at least one layer"));
        }
        let x_here = b.here(x, loc);
        let stacked: Vec<NodeId> = stacked.iter().map(|s| self.stacked(name, trip, b.here(*s, loc), loc)).collect();
        let inner = self.open(name, x_here, &stacked);
        let place = |j: usize| Place { step: layers.step.max(1), first: layers.first + j }.to_string();
        let scope = |j: usize| Scope { depth: inner[0].depth, frame: inner[0].frame, ..self.at(name).at(&place(j)) };
        let scopes: Vec<Scope> = (0..layers.step.max(1)).map(scope).collect();
        let (y, ys) = layer(&scopes, inner[0], &inner[1..]);
        let results: Vec<NodeId> = std::iter::once(&y).chain(&ys).map(|t| b.here(*t, loc)).collect();
        let (l, args) = self.close(trip, x_here, stacked, results, loc);
        let (ty, types) = {
            let state = b.state.borrow();
            let func = &state.frames.last().expect("a frame is open").func;
            let types: Vec<&Type> = args.iter().map(|a| func.ty(*a)).collect();
            let outputs = state.funcs[l.func as usize].outputs();
            (check_body(name, &outputs, types[0]).and_then(|()| Graph::repeat_type(&state.funcs, &l, &types)), outputs)
        };
        match ty {
            Ok(ty) => {
                let all = b.push(Op::Repeat(l), args, ty.clone(), loc);
                let mut parts = (0..ty.parts.len() as u32).map(|i| b.apply(Op::Get(i), &[all], loc));
                (parts.next().expect("a repeat carries a value"), parts.collect())
            }
            Err(why) => {
                b.error(loc, why);
                (b.tensor(x_here), types[1..].iter().map(|t| b.broken(stack(t, trip), loc)).collect())
            }
        }
    }

    /// A number of iterations that a program can have.
    fn trip(&self, name: &str, n: usize, loc: Loc) -> u32 {
        if n == 0 {
            self.builder.error(loc, format!("{name}: a model needs at least one layer"));
        }
        u32::try_from(n)
            .unwrap_or_else(|_| {
                self.builder.error(loc, format!("{name}: {n} layers are too many"));
                1
            })
            .max(1)
    }

    /// A value of which each layer takes its own slice, or what stands for one that has no slice for each.
    fn stacked(&self, name: &str, trip: u32, id: NodeId, loc: Loc) -> NodeId {
        let ty = self.builder.tensor(id).ty();
        if ty.is_tensor() && ty.dims.first() == Some(&Dim::from(trip)) {
            return id;
        }
        self.builder.error(loc, format!("{name}: each of {trip} layers takes its slice of {ty}, whose first axis must be {trip}"));
        let rest = Type { dims: ty.dims.iter().skip(1).copied().collect(), ..ty };
        self.builder.broken(stack(&rest, trip), loc).id
    }

    /// Opens the body of a loop; its carried value and its slices there.
    fn open(&self, name: &str, x: NodeId, stacked: &[NodeId]) -> Vec<Tensor<'g>> {
        let b = self.builder;
        let inputs: Vec<NodeId> = {
            let mut state = b.state.borrow_mut();
            let mut frame = Frame::new(state.opened, name);
            state.opened += 1;
            let func = &state.top().func;
            let own = |i: &NodeId| Type { dims: func.ty(*i).dims.iter().skip(1).copied().collect(), ..func.ty(*i).clone() };
            let types: Vec<Type> = std::iter::once(func.ty(x).clone()).chain(stacked.iter().map(own)).collect();
            let inputs = types.into_iter().map(|ty| frame.input(ty, None)).collect();
            state.frames.push(frame);
            inputs
        };
        inputs.into_iter().map(|i| b.tensor(i)).collect()
    }

    /// Closes the body of a loop, which becomes a function; the loop over it, and its operands: x, slices, parameters, captured values.
    fn close(&self, trip: u32, x: NodeId, stacked: Vec<NodeId>, results: Vec<NodeId>, loc: Loc) -> (Loop, Vec<NodeId>) {
        let b = self.builder;
        let mut frame = b.state.borrow_mut().frames.pop().expect("the body's frame is open");
        frame.func.results = results;
        let mut order: Vec<NodeId> = frame.func.ids().filter(|i| matches!(frame.func.node(*i).op, Op::Input(..))).take(1 + stacked.len()).collect();
        let mut args: Vec<NodeId> = std::iter::once(x).chain(stacked).collect();
        for p in &frame.params {
            let ty = stack(frame.func.ty(p.id), trip);
            args.push(b.here(self.declare(p.path.clone(), ty, p.loc), p.loc));
            order.push(p.id);
        }
        let stacked = args.len() as u32 - 1;
        args.extend(frame.captures.iter().map(|c| c.0));
        order.extend(frame.captures.iter().map(|c| c.1));
        let func = with_input_order(&frame.func, &order);
        let mut state = b.state.borrow_mut();
        let l = Loop { func: state.funcs.len() as u32, trip, carried: 1, stacked, reverse: false };
        let ops = unrolled(&func, &state.ops);
        state.ops.push(ops);
        state.funcs.push(func);
        if let Err(why) = check_ops(unrolled_op(&Op::Repeat(l.clone()), &state.ops)) {
            state.error(loc, why);
        }
        (l, args)
    }
}

/// Whether the body of a loop gives back what it takes, and tensors beside.
fn check_body(name: &str, outputs: &[Type], x: &Type) -> Result<(), String> {
    if outputs[0] != *x {
        return Err(format!("{name}: a layer takes {x} and gives {}", outputs[0]));
    }
    match outputs.iter().find(|t| !t.is_tensor()) {
        Some(t) => Err(format!("{name}: a layer gives {t}, which is no tensor; take a member with get")),
        None => Ok(()),
    }
}

fn with_input_order(func: &Func, order: &[NodeId]) -> Func {
    let mut out = func.clone();
    for (i, id) in order.iter().enumerate() {
        if let Op::Input(index, _) = &mut out.nodes[id.index()].op {
            *index = i as u32;
        }
    }
    out.sweep()
}

impl<'g> Tensor<'g> {
    /// The type; that of a number where the value belongs to a layer that has ended, whose use is an error.
    pub fn ty(self) -> Type {
        self.known_type().unwrap_or(Type::scalar(DType::F32))
    }

    fn known_type(self) -> Option<Type> {
        let state = self.builder.state.borrow();
        state.frames.get(self.depth).filter(|f| f.number == self.frame).map(|f| f.func.ty(self.id).clone())
    }

    /// The id in the function it was made in.
    pub fn id(self) -> NodeId {
        self.id
    }

    /// A dim, by axis from the end; 1 where there are fewer axes, which would broadcast.
    #[track_caller]
    pub fn dim(self, axis: i8) -> Dim {
        if axis >= 0 {
            let loc = Loc(Location::caller());
            self.builder.error(loc, format!("axes count from the end: -1 is the last, and {axis} is none"));
        }
        self.ty().dim(axis)
    }

    /// Any op with this tensor as its first operand.
    #[track_caller]
    pub fn apply(self, op: Op, rest: &[Tensor<'g>]) -> Tensor<'g> {
        let args: Vec<Tensor> = std::iter::once(self).chain(rest.iter().copied()).collect();
        self.builder.apply(op, &args, Loc(Location::caller()))
    }

    #[track_caller]
    fn num(self, x: f64) -> Tensor<'g> {
        self.builder.push(num(x), vec![], Type::scalar(DType::F32), Loc(Location::caller()))
    }

    /// Σ a·b over the labels the result lacks: `x.contract("btc,cd->btd", w)`.
    #[track_caller]
    pub fn contract(self, labels: &str, other: Tensor<'g>) -> Tensor<'g> {
        match labels.parse::<Ein>() {
            Ok(ein) => self.apply(Op::Contract(ein), &[other]),
            Err(why) => {
                self.builder.error(Loc(Location::caller()), why);
                self
            }
        }
    }

    /// Σ over the last axis, kept with size 1.
    #[track_caller]
    pub fn sum(self) -> Tensor<'g> {
        self.sum_axes(&[-1])
    }

    /// Σ over axes counted from the end, kept with size 1.
    #[track_caller]
    pub fn sum_axes(self, axes: &[i8]) -> Tensor<'g> {
        self.apply(Op::Reduce(Red::Sum, Axes::from_slice(axes)), &[])
    }

    /// The largest element of the last axis, kept with size 1.
    #[track_caller]
    pub fn max(self) -> Tensor<'g> {
        self.apply(Op::Reduce(Red::Max, Axes::from_slice(&[-1])), &[])
    }

    /// Mean over the last axis, kept with size 1.
    #[track_caller]
    pub fn mean(self) -> Tensor<'g> {
        match self.dim(-1).value() {
            Some(n) => self.sum() * (1.0 / n as f64),
            None => self.sum() / self.builder.apply(Op::Size(self.dim(-1)), &[], Loc(Location::caller())),
        }
    }

    /// The same elements in other dims.
    #[track_caller]
    pub fn reshape(self, shape: impl Shape) -> Tensor<'g> {
        self.apply(Op::Reshape(shape.dims()), &[])
    }

    /// Axes in another order: axis i of the result is axis `order[i]`.
    #[track_caller]
    pub fn transpose(self, order: &[u8]) -> Tensor<'g> {
        self.apply(Op::Transpose(order.iter().copied().collect()), &[])
    }

    /// Repeats size-1 and missing axes.
    #[track_caller]
    pub fn broadcast(self, shape: impl Shape) -> Tensor<'g> {
        self.apply(Op::Broadcast(shape.dims()), &[])
    }

    /// Elements `lo..hi` of an axis counted from the end.
    #[track_caller]
    pub fn slice(self, axis: i8, lo: usize, hi: usize) -> Tensor<'g> {
        match (u32::try_from(lo), u32::try_from(hi)) {
            (Ok(lo), Ok(hi)) => self.apply(Op::Slice(axis, lo, hi), &[]),
            _ => {
                self.builder.error(Loc(Location::caller()), format!("slice(x: {}): {lo}..{hi} is outside every axis", self.ty()));
                self
            }
        }
    }

    /// The last axis in `N` equal parts.
    #[track_caller]
    pub fn chunks<const N: usize>(self) -> [Tensor<'g>; N] {
        let ty = self.ty();
        let whole = ty.dims.last().and_then(|d| d.value()).filter(|w| N > 0 && w.is_multiple_of(N as u64));
        match whole {
            Some(whole) => {
                let width = whole as usize / N;
                std::array::from_fn(|i| self.slice(-1, i * width, (i + 1) * width))
            }
            None => {
                self.builder.error(Loc(Location::caller()), format!("chunks(x: {ty}): the last axis is not {N} equal parts"));
                [self; N]
            }
        }
    }

    /// This tensor, then another, along an axis.
    #[track_caller]
    pub fn concat(self, axis: i8, other: Tensor<'g>) -> Tensor<'g> {
        self.apply(Op::Concat(axis), &[other])
    }

    /// Rows of this table by index.
    #[track_caller]
    pub fn gather(self, index: Tensor<'g>) -> Tensor<'g> {
        self.apply(Op::Gather, &[index])
    }

    /// This with `values` written along an axis from position `start` on, an `i32` that broadcasts over it with 1 along the axis.
    #[track_caller]
    pub fn update(self, axis: i8, values: Tensor<'g>, start: Tensor<'g>) -> Tensor<'g> {
        self.apply(Op::Update(axis), &[values, start])
    }

    /// `a` where this is true, else `b`.
    #[track_caller]
    pub fn select(self, a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
        self.apply(Op::Select, &[a, b])
    }

    /// Another element type.
    #[track_caller]
    pub fn cast(self, dtype: DType) -> Tensor<'g> {
        self.apply(Op::Cast(dtype), &[])
    }

    /// A member of a tuple.
    #[track_caller]
    pub fn get(self, i: u32) -> Tensor<'g> {
        self.apply(Op::Get(i), &[])
    }

    /// A composite over rows, by name: for the definitions of ops, not for models.
    #[track_caller]
    pub(crate) fn row(self, row: Row, rest: &[Tensor<'g>]) -> Tensor<'g> {
        self.apply(Op::Row(row), rest)
    }

    /// xᵃ
    #[track_caller]
    pub fn pow(self, a: f64) -> Tensor<'g> {
        let a = self.num(a);
        self.apply(Op::Bin(Bin::Pow), &[a])
    }
}

/// Elementwise methods and operators, by op.
macro_rules! methods {
    ($($un:ident $Un:ident),+; $($bin:ident $Bin:ident),+; $($Trait:ident $f:ident $Op:ident),+) => {
        #[allow(missing_docs)]
        impl<'g> Tensor<'g> {
            $(#[track_caller] pub fn $un(self) -> Tensor<'g> { self.apply(Op::Un(Un::$Un), &[]) })+
            $(#[track_caller] pub fn $bin(self, other: Tensor<'g>) -> Tensor<'g> { self.apply(Op::Bin(Bin::$Bin), &[other]) })+
        }
        $(impl<'g> std::ops::$Trait for Tensor<'g> {
            type Output = Tensor<'g>;
            #[track_caller] fn $f(self, other: Tensor<'g>) -> Tensor<'g> { self.apply(Op::Bin(Bin::$Op), &[other]) }
        }
        impl<'g> std::ops::$Trait<f64> for Tensor<'g> {
            type Output = Tensor<'g>;
            #[track_caller] fn $f(self, other: f64) -> Tensor<'g> { let c = self.num(other); self.apply(Op::Bin(Bin::$Op), &[c]) }
        })+
    };
}
methods!(
    exp Exp, log Log, sqrt Sqrt, rsqrt Rsqrt, recip Recip, tanh Tanh, sin Sin, cos Cos, abs Abs, erf Erf;
    maximum Maximum, minimum Minimum, lt Lt, le Le, equals Eq, and And, shr Shr;
    Add add Add, Sub sub Sub, Mul mul Mul, Div div Div
);

impl<'g> std::ops::Neg for Tensor<'g> {
    type Output = Tensor<'g>;
    #[track_caller]
    fn neg(self) -> Tensor<'g> {
        self.apply(Op::Un(Un::Neg), &[])
    }
}
