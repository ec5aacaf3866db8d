//! What model code holds: a scope, and tensors that are `Copy` and have operators.
//!
//! Mathematics needs no `?`: mistakes are recorded with the model's file and line, and [`Builder::finish`] returns them all at once.

use crate::graph::{Func, Graph, Loc, Node, NodeId, stack};
use crate::infer::infer;
use crate::op::{Axes, Bin, Ein, Loop, Op, Red, Row, Un, num};
use crate::types::{DType, Dim, Dims, Type};
use std::cell::RefCell;
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
    func: Func,
    /// Values of the enclosing function that the body reads, with their inputs here: the same each iteration.
    captured: Vec<(NodeId, NodeId)>,
    /// Parameters declared in the body, with their inputs here: one an iteration.
    params: Vec<(String, NodeId)>,
}

struct State {
    funcs: Vec<Func>,
    frames: Vec<Frame>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    errors: Vec<ModelError>,
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
}

/// A place in a model's tree of parameter names.
#[derive(Clone)]
pub struct Scope<'g> {
    builder: &'g Builder,
    path: String,
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
        let main = Frame { func: Func::new("main"), captured: vec![], params: vec![] };
        Builder { state: RefCell::new(State { funcs: vec![], frames: vec![main], inputs: vec![], outputs: vec![], errors: vec![] }) }
    }
}

impl Builder {
    /// The root of the parameter names.
    pub fn scope(&self) -> Scope<'_> {
        Scope { builder: self, path: String::new() }
    }

    /// Names a result of the program.
    pub fn output(&self, name: &str, value: Tensor) {
        let mut state = self.state.borrow_mut();
        state.outputs.push(name.into());
        let main = state.frames.first_mut().expect("the main frame stands until the end");
        main.func.results.push(value.id);
    }

    /// The graph, or every mistake that was made on the way.
    pub fn finish(self) -> Result<Graph, ModelErrors> {
        let mut state = self.state.into_inner();
        if !state.errors.is_empty() {
            return Err(ModelErrors(state.errors));
        }
        let main = state.frames.pop().expect("the main frame stands until the end");
        state.funcs.push(main.func);
        Ok(Graph { funcs: state.funcs, inputs: state.inputs, outputs: state.outputs }.sweep())
    }

    fn tensor(&self, id: NodeId) -> Tensor<'_> {
        Tensor { builder: self, id, depth: self.state.borrow().frames.len() - 1 }
    }

    fn error(&self, loc: Loc, message: String) {
        self.state.borrow_mut().errors.push(ModelError { loc, message });
    }

    fn push(&self, op: Op, args: Vec<NodeId>, ty: Type, loc: Loc) -> Tensor<'_> {
        let id = {
            let mut state = self.state.borrow_mut();
            let frame = state.frames.last_mut().expect("a frame is open");
            frame.func.push(Node { op, args, ty, loc: Some(loc) })
        };
        self.tensor(id)
    }

    /// The id of a tensor in the open function, taken in from the enclosing ones if need be.
    fn here(&self, t: Tensor) -> NodeId {
        let top = self.state.borrow().frames.len() - 1;
        (t.depth + 1..=top).fold(t.id, |id, depth| self.capture(id, depth))
    }

    fn capture(&self, outer: NodeId, depth: usize) -> NodeId {
        let mut state = self.state.borrow_mut();
        if let Some((_, inner)) = state.frames[depth].captured.iter().find(|c| c.0 == outer) {
            return *inner;
        }
        let source = state.frames[depth - 1].func.node(outer).clone();
        let frame = &mut state.frames[depth];
        // constants are cheaper written again than passed in
        let node = if matches!(source.op, Op::Const(..)) { source } else { input_node(&frame.func, source.ty) };
        let is_input = matches!(node.op, Op::Input(..));
        let inner = frame.func.push(node);
        if is_input {
            frame.captured.push((outer, inner));
        }
        inner
    }

    fn apply(&self, op: Op, args: &[Tensor], loc: Loc) -> Tensor<'_> {
        let ids: Vec<NodeId> = args.iter().map(|a| self.here(*a)).collect();
        let types: Vec<Type> = {
            let state = self.state.borrow();
            let func = &state.frames.last().expect("a frame is open").func;
            ids.iter().map(|i| func.ty(*i).clone()).collect()
        };
        match infer(&op, &types.iter().collect::<Vec<_>>()) {
            Ok(ty) => self.push(op, ids, ty, loc),
            Err(why) => {
                self.error(loc, why);
                // a stand-in that keeps later shapes sensible; `finish` hands out no graph
                let ty = types.into_iter().next().unwrap_or(Type::scalar(DType::F32));
                self.push(num(0.0), vec![], ty, loc)
            }
        }
    }
}

fn input_node(func: &Func, ty: Type) -> Node {
    let index = func.inputs().len() as u32;
    Node { op: Op::Input(index, ty.clone()), args: vec![], ty, loc: None }
}

impl<'g> Scope<'g> {
    /// A scope below this one.
    pub fn at(&self, name: &str) -> Scope<'g> {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Scope { builder: self.builder, path }
    }

    /// A trainable `f32` tensor, declared where it is used.
    #[track_caller]
    pub fn param(&self, name: &str, shape: impl Shape) -> Tensor<'g> {
        self.declare(self.at(name).path, Type::f32(shape.dims()), Loc(Location::caller()))
    }

    fn declare(&self, path: String, ty: Type, loc: Loc) -> Tensor<'g> {
        if let Err(why) = ty.checked_count() {
            self.builder.error(loc, format!("parameter {path}: {why}"));
        }
        let depth = self.builder.state.borrow().frames.len();
        if depth == 1 {
            return self.builder.push(Op::Param(path.as_str().into(), ty.clone()), vec![], ty, loc);
        }
        let mut state = self.builder.state.borrow_mut();
        let frame = state.frames.last_mut().expect("a frame is open");
        if let Some((_, id)) = frame.params.iter().find(|p| p.0 == path) {
            return Tensor { builder: self.builder, id: *id, depth: depth - 1 };
        }
        let node = input_node(&frame.func, ty);
        let id = frame.func.push(node);
        frame.params.push((path, id));
        Tensor { builder: self.builder, id, depth: depth - 1 }
    }

    /// An input of the program.
    #[track_caller]
    pub fn input(&self, name: &str, dtype: DType, shape: impl Shape) -> Tensor<'g> {
        let ty = Type::of(dtype, shape.dims());
        let id = {
            let mut state = self.builder.state.borrow_mut();
            state.inputs.push(name.into());
            let main = &mut state.frames.first_mut().expect("the main frame stands").func;
            let node = input_node(main, ty);
            main.push(node)
        };
        Tensor { builder: self.builder, id, depth: 0 }
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
        let (loc, b) = (Loc(Location::caller()), self.builder);
        if n == 0 {
            b.error(loc, format!("{name}: a model needs at least one layer"));
            return (x, vec![]);
        }
        let x_here = b.here(x);
        let stacked_here: Vec<NodeId> = stacked.iter().map(|s| b.here(*s)).collect();
        let (x_ty, own_types) = {
            let state = b.state.borrow();
            let func = &state.frames.last().expect("a frame is open").func;
            let own = |i: &NodeId| Type { dims: func.ty(*i).dims.iter().skip(1).copied().collect(), ..func.ty(*i).clone() };
            (func.ty(x_here).clone(), stacked_here.iter().map(own).collect::<Vec<_>>())
        };
        let mut frame = Frame { func: Func::new(name), captured: vec![], params: vec![] };
        let mut inputs = vec![];
        for ty in std::iter::once(x_ty.clone()).chain(own_types) {
            let node = input_node(&frame.func, ty);
            inputs.push(frame.func.push(node));
        }
        b.state.borrow_mut().frames.push(frame);
        let inner: Vec<Tensor> = inputs.iter().map(|i| b.tensor(*i)).collect();
        let (y, ys) = layer(&self.at(name).at("{}"), inner[0], &inner[1..]);
        let results: Vec<NodeId> = std::iter::once(&y).chain(&ys).map(|t| b.here(*t)).collect();
        let mut frame = b.state.borrow_mut().frames.pop().expect("the body's frame is open");
        if *frame.func.ty(results[0]) != x_ty {
            b.error(loc, format!("{name}: a layer takes {x_ty} and gives {}", frame.func.ty(results[0])));
            return (x, ys);
        }
        frame.func.results = results;
        let mut args = vec![x_here];
        args.extend(&stacked_here);
        for (path, id) in &frame.params {
            let ty = stack(frame.func.ty(*id), n as u32);
            args.push(b.here(self.declare(path.clone(), ty, loc)));
        }
        let count = args.len() as u32 - 1;
        args.extend(frame.captured.iter().map(|c| c.0));
        let order: Vec<NodeId> = inputs.iter().copied().chain(frame.params.iter().map(|p| p.1)).chain(frame.captured.iter().map(|c| c.1)).collect();
        let func = with_input_order(&frame.func, &order);
        let (op, ty) = {
            let mut state = b.state.borrow_mut();
            let l = Loop { func: state.funcs.len() as u32, trip: n as u32, carried: 1, stacked: count, reverse: false };
            state.funcs.push(func);
            let func = &state.frames.last().expect("a frame is open").func;
            let types: Vec<&Type> = args.iter().map(|a| func.ty(*a)).collect();
            (Op::Repeat(l.clone()), Graph::repeat_type(&state.funcs, &l, &types))
        };
        match ty {
            Ok(ty) => {
                let all = b.push(op, args, ty.clone(), loc);
                let mut parts = (0..ty.parts.len() as u32).map(|i| b.apply(Op::Get(i), &[all], loc));
                (parts.next().expect("a repeat carries a value"), parts.collect())
            }
            Err(why) => {
                b.error(loc, why);
                (x, ys)
            }
        }
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
    /// The type.
    pub fn ty(self) -> Type {
        self.builder.state.borrow().frames[self.depth].func.ty(self.id).clone()
    }

    /// The id in the function it was made in.
    pub fn id(self) -> NodeId {
        self.id
    }

    /// A dim, by axis from the end.
    pub fn dim(self, axis: i8) -> Dim {
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
        self.apply(Op::Slice(axis, lo as u32, hi as u32), &[])
    }

    /// The last axis in `n` equal parts.
    #[track_caller]
    pub fn chunks<const N: usize>(self) -> [Tensor<'g>; N] {
        let width = self.dim(-1).value().unwrap_or(0) as usize / N;
        std::array::from_fn(|i| self.slice(-1, i * width, (i + 1) * width))
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
    exp Exp, log Log, sqrt Sqrt, rsqrt Rsqrt, recip Recip, tanh Tanh, sin Sin, cos Cos, abs Abs;
    maximum Maximum, minimum Minimum, lt Lt, le Le, equals Eq;
    Add add Add, Sub sub Sub, Mul mul Mul, Div div Div
);

impl<'g> std::ops::Neg for Tensor<'g> {
    type Output = Tensor<'g>;
    #[track_caller]
    fn neg(self) -> Tensor<'g> {
        self.apply(Op::Un(Un::Neg), &[])
    }
}
