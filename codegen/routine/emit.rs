//! From groups of ops to a routine: every value in memory gets a place, every group a kernel.

use super::dag::DagBuilder;
use super::expand::expand;
use super::group::{Group, Kind, group};
use super::heads::{Operand, heads, score_order};
use super::homes::{Home, axis_of};
use super::layout::{KernelArgs, Layout};
use super::needed::Needed;
use super::placement::place_buffers;
use super::prepare::{prepare, reshape_base};
use super::role::{Role, role};
use super::score::{Place as ScorePlace, ScoreSteps};
use super::state::{NewState, write_back};
use super::steps::{Buffer, BufferKind, Calling, LoopInput, LoopResult, LoopStep, Place, Routine, Step, Table};
use super::update::{emit_update, updated};
use crate::kernel::Elem;
use crate::spec::{Access, Dag, Own, Spec, Template};
use ir::names::new_value_of;
use ir::{DType, Func, Labels, Lie, Loop, NodeId, Op, Type};
use std::collections::BTreeMap;
use std::ops::Range;

/// Lowers a function. `routines` are those of the functions before it; `outputs` are the names of main's results.
pub(crate) fn lower(func: &Func, routines: &[Routine], table: &mut Table, outputs: &[String], calling: &Calling) -> Routine {
    let func = prepare(&expand(func), calling.rings, routines);
    let groups = group(&func);
    let needed = Needed::new(&func, &groups);
    let emitter = Emitter { func: &func, needed: &needed, routines, members: members(&func), layout: Layout::new(&func, table) };
    emitter.run(outputs, calling)
}

/// The state of lowering one function.
struct Emitter<'a> {
    func: &'a Func,
    needed: &'a Needed<'a>,
    routines: &'a [Routine],
    /// The `get` of each member of a tuple that anyone reads.
    members: BTreeMap<(NodeId, u32), NodeId>,
    layout: Layout<'a>,
}

fn members(func: &Func) -> BTreeMap<(NodeId, u32), NodeId> {
    let member = |id: NodeId| if let Op::Get(i) = func.node(id).op { Some(((func.node(id).args[0], i), id)) } else { None };
    func.ids().rev().filter_map(member).collect()
}

/// The labels of a product's operands: those of the result are 0, 1, 2, …, those that are summed follow.
struct Operands {
    a: Labels,
    b: Labels,
    out: u8,
    /// Of a grouped product: those of the groups, and that of the matrices.
    own: Option<(Labels, u8)>,
}

impl Operands {
    fn of(op: &Op) -> Operands {
        let labels = |l: &[u8]| l.iter().copied().collect();
        if let Op::Contract(e) = op {
            return Operands { a: e.a.clone(), b: e.b.clone(), out: e.out, own: None };
        }
        if let Op::Grouped(lie) = op {
            // n f, then e c
            let w = if *lie == Lie::Plain { [2, 3, 1] } else { [2, 1, 3] };
            return Operands { a: labels(&[0, 3]), b: labels(&w), out: 2, own: Some((labels(&[0]), 2)) };
        }
        assert!(matches!(op, Op::GroupedSum(_)), "{op} is no product");
        // e c f, then n
        Operands { a: labels(&[3, 1]), b: labels(&[3, 2]), out: 3, own: Some((labels(&[3]), 0)) }
    }
}

impl Emitter<'_> {
    fn run(mut self, outputs: &[String], calling: &Calling) -> Routine {
        let mut states = self.place_results(outputs);
        self.place_parts();
        for group in &self.needed.groups.groups {
            self.emit(group);
        }
        let copies = self.layout.routine.steps.len();
        write_back(&mut self.layout, &states);
        states.extend(self.updated_operands(&calling.stacked));
        place_buffers(&mut self.layout.routine, &states, copies, self.layout.table);
        self.layout.routine
    }

    /// Stacked operands of which updates make a stacked result: an iteration has its own piece of both, so they may be one buffer.
    fn updated_operands(&self, stacked: &Range<usize>) -> Vec<NewState> {
        let one = |(i, value): (usize, &NodeId)| {
            let operand = updated(self.func, *value, self.routines).filter(|o| stacked.contains(o))?;
            let old = self.layout.routine.buffers.iter().position(|b| b.kind == BufferKind::Input(operand))?;
            Some(NewState { old, new: self.layout.routine.results[i].ok()?, ty: self.func.ty(*value).clone() })
        };
        self.func.results.iter().enumerate().skip(stacked.start).filter_map(one).collect()
    }

    /// Gives every result its place: new values of state stand aside, and what is read of them is the state.
    fn place_results(&mut self, outputs: &[String]) -> Vec<NewState> {
        let mut states = vec![];
        for (i, r) in self.func.results.iter().enumerate() {
            if let Op::Input(input, _) = self.func.node(*r).op {
                self.layout.routine.results.push(Err(input as usize));
                continue;
            }
            let base = reshape_base(self.func, *r);
            let ty = self.func.ty(base).clone();
            let (buffer, read) = match outputs.get(i).and_then(|o| new_value_of(o)) {
                Some(path) => {
                    let (old, new) = (self.layout.param(&path.into(), &ty), self.layout.temp(&ty));
                    states.push(NewState { old, new, ty: ty.clone() });
                    (new, old)
                }
                None => {
                    let buffer = self.layout.buffer(BufferKind::Result(i), &ty);
                    (buffer, buffer)
                }
            };
            self.layout.stand(base, Home::dense(buffer, ty.sizes()));
            self.layout.routine.results.push(Ok(read));
        }
        states
    }

    /// Parts of a concatenation are written where they will stand, where they can be.
    fn place_parts(&mut self) {
        for id in self.func.ids().rev() {
            let Op::Concat(axis) = self.func.node(id).op else { continue };
            if self.needed.groups.of[id.index()].is_none() {
                continue;
            }
            let whole = self.layout.placed(id);
            for (part, home) in self.parts(id, axis, &whole) {
                let base = reshape_base(self.func, part);
                let fits = home.reshape(&self.func.ty(base).sizes());
                if let Some(home) = fits.filter(|_| self.placeable(base)) {
                    self.layout.stand(base, home);
                }
            }
        }
    }

    /// The operands of a concatenation, each with the part of the whole that it is.
    fn parts(&self, id: NodeId, axis: i8, whole: &Home) -> Vec<(NodeId, Home)> {
        let axis = axis_of(self.func.ty(id), axis);
        let mut at = 0;
        let part = |part: &NodeId| {
            let start = at;
            at += self.func.ty(*part).dims[axis].size();
            (*part, whole.slice(axis, start, at))
        };
        self.func.node(id).args.iter().map(part).collect()
    }

    /// Whether a value has no place yet and its kernel can write to any.
    fn placeable(&self, id: NodeId) -> bool {
        let op = |id: NodeId| &self.func.node(id).op;
        let kernel = match role(op(id)) {
            Role::Pointwise | Role::Product => true,
            Role::Alone => matches!(op(id), Op::Concat(_)),
            Role::Member => matches!(op(self.func.node(id).args[0]), Op::Attention(_) | Op::AttentionBwd(_)),
            Role::Given(_) | Role::Immediate(_) | Role::Reduce | Role::View(_) | Role::Tuple => false,
        };
        kernel && !self.layout.has_home(id)
    }

    fn emit(&mut self, group: &Group) {
        let first = group.nodes[0];
        match (&group.kind, &self.func.node(first).op) {
            (Kind::Rows { dims, tail }, _) => self.emit_dag(group, dims, Template::Rows { tail: tail.unwrap_or(0) }),
            (Kind::Cols { dims, axes }, _) => {
                let reduced = (0..dims.len()).map(|d| axes.contains(&d)).collect();
                self.emit_dag(group, dims, Template::Cols { reduced });
            }
            (Kind::Contract { dims }, Op::Contract(_) | Op::Grouped(_) | Op::GroupedSum(_)) => self.emit_contract(group, dims),
            (Kind::Single, Op::Attention(_) | Op::AttentionBwd(_)) => self.emit_attention(first),
            (Kind::Single, Op::ScatterAdd) => self.emit_scatter(first),
            (Kind::Single, Op::Update(axis)) => emit_update(&mut self.layout, first, *axis),
            (Kind::Single, Op::Concat(axis)) => self.emit_concat(first, *axis),
            (Kind::Single, Op::Pad(axis, before, _)) => self.emit_pad(first, *axis, *before),
            (Kind::Single, Op::Repeat(l)) => self.emit_loop(first, &l.clone()),
            (kind, op) => unreachable!("{op} does not lead a group of {kind:?}"),
        }
    }

    /// The stores of a group: its values that need memory.
    fn outputs(&self, group: &Group) -> Vec<NodeId> {
        group.nodes.iter().copied().filter(|n| self.needed.is_written(*n)).collect()
    }

    fn emit_dag(&mut self, group: &Group, dims: &[usize], template: Template) {
        let outputs = self.outputs(group);
        if outputs.is_empty() {
            return;
        }
        let mut d = DagBuilder::new(group, self.needed, dims.to_vec(), dims.len());
        d.build(&mut self.layout, &outputs);
        let stores = d.stores(&mut self.layout, &outputs);
        let spec = Spec { template, dims: dims.to_vec(), params: d.args.params.clone(), dag: d.dag.clone(), stores };
        self.layout.step(spec, d.args.buffers);
    }

    fn emit_contract(&mut self, group: &Group, dims: &[usize]) {
        let product = group.nodes[0];
        let labels = Operands::of(&self.func.node(product).op);
        let args = self.func.node(product).args.clone();
        let homes: Vec<Home> = args.iter().map(|a| self.layout.home(*a)).collect();
        let of: Vec<&Labels> = [&labels.a, &labels.b].into_iter().chain(labels.own.iter().map(|own| &own.0)).collect();
        let size = |l: u8| of.iter().zip(&homes).find_map(|(ls, home)| ls.iter().position(|x| *x == l).map(|at| home.dims[at]));
        let inner = (labels.out..).map_while(size);
        let all: Vec<usize> = dims.iter().copied().chain(inner).collect();
        let mut d = DagBuilder::new(group, self.needed, dims.to_vec(), all.len());
        d.product = Some(product);
        let mut accesses = vec![];
        for ((home, labels), arg) in homes.iter().zip(&of).zip(&args) {
            let stride = |l: u8| labels.iter().position(|x| *x == l).map_or(0, |i| if home.dims[i] == 1 { 0 } else { home.strides[i] });
            let arg = d.args.arg(home.buffer, Elem::of(self.func.ty(*arg).dtype), false);
            accesses.push(Access { arg, offset: home.offset, strides: (0..all.len() as u8).map(stride).collect() });
        }
        let outputs = self.outputs(group);
        d.build(&mut self.layout, &outputs);
        let stores = d.stores(&mut self.layout, &outputs);
        let mut accesses = accesses.into_iter();
        let mut next = || accesses.next().expect("a product has its operands");
        let (a, b) = (next(), next());
        let own = labels.own.map(|(_, dim)| Own { group: next(), dim: usize::from(dim) });
        let template = Template::Contract { out: dims.len(), a, b, own };
        let spec = Spec { template, dims: all, params: d.args.params, dag: d.dag, stores };
        self.layout.step(spec, d.args.buffers);
    }

    fn emit_attention(&mut self, id: NodeId) {
        let node = self.func.node(id).clone();
        let (Op::Attention(a) | Op::AttentionBwd(a)) = &node.op else { unreachable!("only attention is emitted here") };
        let forward = matches!(node.op, Op::Attention(_));
        // forward q, k, v, scale; backward q, k, v, o, lse, do, scale; then what the score's function captures
        let mut homes: Vec<Home> = node.args.iter().map(|x| self.layout.home(*x)).collect();
        let scale = node.op.fixed_operands() - 1;
        for (i, labels) in [&a.q, &a.k, &a.v, &a.o, &a.rows(), &a.o].into_iter().enumerate().take(scale) {
            let dtype = self.func.ty(node.args[i]).dtype;
            homes[i] = self.with_unit_depth(&homes[i], dtype, labels, a.scores);
        }
        if homes[scale].offset != 0 {
            homes[scale] = self.layout.dense(&homes[scale].clone(), self.func.ty(node.args[scale]).dtype);
        }
        // a gradient of what is captured that nobody reads is not computed
        let fixed = if forward { 2 } else { 3 };
        let read = |i: &usize| *i < fixed || self.members.contains_key(&(id, *i as u32));
        let results: Vec<usize> = (0..node.ty.parts.len()).filter(read).collect();
        let result_homes: Vec<Home> = results.iter().map(|i| self.member_home(id, *i as u32)).collect();
        let mut k = KernelArgs::default();
        let operand = |arg: usize, h: &Home| Operand { arg, offset: h.offset, strides: h.strides.clone() };
        let types: Vec<&Type> = node.args.iter().map(|x| self.func.ty(*x)).collect();
        // what is read has its operand by number; results that share a buffer are one operand
        let reads: Vec<Operand> = homes.iter().zip(&types).map(|(h, t)| operand(k.push(h.buffer, Elem::of(t.dtype), false), h)).collect();
        let writes = results.iter().zip(&result_homes).map(|(i, h)| operand(k.result(h.buffer, Elem::of(node.ty.parts[*i].dtype)), h));
        let writes: Vec<Operand> = writes.collect();
        let place = |o: &Operand, home| ScorePlace { arg: o.arg, elem: k.params[o.arg].elem, home };
        let captured: Vec<ScorePlace> = reads.iter().zip(&homes).skip(scale + 1).map(|(o, h)| place(o, h)).collect();
        let gradients: Vec<(usize, ScorePlace)> =
            results.iter().zip(writes.iter().zip(&result_homes)).skip(fixed).map(|(i, (o, h))| (i - fixed, place(o, h))).collect();
        let matrices: Vec<Operand> = reads.into_iter().take(scale).chain(writes).collect();
        let mut h = heads(a, [0, 1, 2].map(|i| self.func.ty(node.args[i])), &matrices);
        let dims: Vec<usize> = h.heads.iter().copied().chain([h.queries, h.keys]).collect();
        let mut score = ScoreSteps::describe(a, &score_order(a), &types[scale + 1..], &captured, &mut h);
        h.captured = gradients.iter().map(|(n, place)| score.gradient(*n, place)).collect();
        let dag = score.finish();
        let template = if forward { Template::Attention(Box::new(h)) } else { Template::AttentionBwd(Box::new(h)) };
        self.layout.step(Spec { template, dims, params: k.params, dag, stores: vec![] }, k.buffers);
    }

    /// An operand of attention whose depth steps by single elements, as its vectors are read: copied where it does not.
    fn with_unit_depth(&mut self, home: &Home, dtype: DType, labels: &[u8], scores: u8) -> Home {
        let Some(depth) = labels.iter().position(|l| *l >= scores).filter(|d| home.strides[*d] != 1) else { return home.clone() };
        let order: Vec<u8> = (0..labels.len() as u8).filter(|j| usize::from(*j) != depth).chain([depth as u8]).collect();
        let turned = home.transpose(&order);
        let dense = self.layout.dense(&turned, dtype);
        let mut back = vec![0u8; order.len()];
        for (to, from) in order.iter().enumerate() {
            back[usize::from(*from)] = to as u8;
        }
        dense.transpose(&back)
    }

    /// Where a member of a tuple goes: where its `get` was placed, or a buffer nobody reads.
    fn member_home(&mut self, id: NodeId, i: u32) -> Home {
        if let Some(get) = self.members.get(&(id, i)).copied() {
            return self.layout.placed(get);
        }
        let ty = self.func.ty(id).parts[i as usize].clone();
        let buffer = self.layout.temp(&ty);
        Home::dense(buffer, ty.sizes())
    }

    fn emit_scatter(&mut self, id: NodeId) {
        let node = self.func.node(id).clone();
        let [base, index, updates] = node.args[..] else { unreachable!("scatter_add has three operands") };
        let to = self.layout.home(id);
        let from = self.layout.home(base);
        self.layout.copy(&from, &to, node.ty.dtype);
        let (index, updates) = (self.layout.dense_from_start(index), self.layout.dense_from_start(updates));
        let rows = to.dims[0];
        let width = to.dims[1..].iter().product();
        let tokens = index.dims.iter().product();
        let mut k = KernelArgs::default();
        k.push(index.buffer, Elem::I32, false);
        k.push(updates.buffer, Elem::of(node.ty.dtype), false);
        k.push(to.buffer, Elem::of(node.ty.dtype), true);
        let template = Template::ScatterAdd { tokens, rows, width };
        self.layout.step(Spec { template, dims: vec![tokens, width], params: k.params, dag: Dag::default(), stores: vec![] }, k.buffers);
    }

    fn emit_concat(&mut self, id: NodeId, axis: i8) {
        let whole = self.layout.home(id);
        for (part, to) in self.parts(id, axis, &whole) {
            let from = self.layout.home(part);
            let there = from.buffer == to.buffer
                && from.offset == to.offset
                && from.dims.iter().zip(&from.strides).zip(&to.strides).all(|((d, a), b)| *d == 1 || a == b);
            if !there {
                self.layout.copy(&from, &to, self.func.ty(id).dtype);
            }
        }
    }

    fn emit_pad(&mut self, id: NodeId, axis: i8, before: u32) {
        let (to, ty) = (self.layout.home(id), self.func.ty(id).clone());
        let from = self.layout.home(self.func.node(id).args[0]);
        self.layout.clear(&to, ty.dtype);
        let (axis, before) = (axis_of(&ty, axis), before as usize);
        self.layout.copy(&from, &to.slice(axis, before, before + from.dims[axis]), ty.dtype);
    }

    fn emit_loop(&mut self, id: NodeId, l: &Loop) {
        let rings = self.rings(id, l);
        let stacks = self.stacks(id, l);
        let inputs = self.loop_inputs(id, l, &rings, &stacks);
        let results = self.loop_results(id, l, &rings, &stacks);
        let arena = self.bytes(self.routines[l.func as usize].arena.bytes);
        self.layout.routine.steps.push(Step::Loop(Box::new(LoopStep { routine: l.func as usize, shape: l.clone(), inputs, results, arena })));
    }

    /// A temporary of so many bytes.
    fn bytes(&mut self, bytes: usize) -> usize {
        self.layout.routine.buffers.push(Buffer { kind: BufferKind::Temp(0), bytes });
        self.layout.routine.buffers.len() - 1
    }

    /// For each carried operand its ring, and how many slots of how many bytes that has: two, or one for every iteration where a result
    /// is what was carried.
    fn rings(&mut self, id: NodeId, l: &Loop) -> Vec<(usize, usize, usize)> {
        let carried = l.carried as usize;
        let results = &self.routines[l.func as usize].results;
        let ring = |j: usize| {
            let all = results.iter().skip(carried).any(|r| *r == Err(j));
            (if all { l.trip as usize + 1 } else { 2 }, self.func.ty(id).parts[j].bytes())
        };
        (0..carried).map(ring).map(|(slots, bytes)| (self.bytes(bytes * slots), slots, bytes)).collect()
    }

    /// For each result that is stacked the buffer it is stacked in: where it was placed, or a new one.
    fn stacks(&mut self, id: NodeId, l: &Loop) -> Vec<Option<usize>> {
        let results = &self.routines[l.func as usize].results;
        let parts = self.func.ty(id).parts.iter().zip(results).enumerate();
        let mut stack = |(i, (part, result)): (usize, (&Type, &Result<usize, usize>))| {
            if i < l.carried as usize || result.is_err() {
                return None;
            }
            let placed = self.members.get(&(id, i as u32)).filter(|get| self.layout.has_home(**get)).copied();
            Some(if let Some(get) = placed { self.layout.placed(get).buffer } else { self.layout.temp(part) })
        };
        parts.map(&mut stack).collect()
    }

    /// Where the body reads its operands. One that a result is written over is copied to where that will stand.
    fn loop_inputs(&mut self, id: NodeId, l: &Loop, rings: &[(usize, usize, usize)], stacks: &[Option<usize>]) -> Vec<LoopInput> {
        let body = &self.routines[l.func as usize];
        let mut inputs = vec![];
        for (i, arg) in self.func.node(id).args.iter().enumerate() {
            let (home, ty) = (self.layout.home(*arg), self.func.ty(*arg));
            if let Some((ring, slots, bytes)) = rings.get(i).copied() {
                self.layout.copy(&home, &Home::dense(ring, ty.sizes()), ty.dtype);
                inputs.push(LoopInput::Carried { ring, slots, bytes });
                continue;
            }
            let over = (0..stacks.len()).find(|r| body.operand_of(*r) == Some(i)).and_then(|r| stacks[r]);
            let home = match over {
                Some(buffer) => {
                    let to = Home::dense(buffer, ty.sizes());
                    self.layout.copy(&home, &to, ty.dtype);
                    to
                }
                None if home.is_dense() => home,
                None => self.layout.dense(&home, ty.dtype),
            };
            let place = Place { buffer: home.buffer, offset: home.offset as usize * ty.dtype.bytes() };
            inputs.push(if i < (l.carried + l.stacked) as usize {
                LoopInput::Stacked { place, bytes: ty.bytes() / l.trip as usize }
            } else {
                LoopInput::Invariant(place)
            });
        }
        inputs
    }

    /// Where the body writes its results, and so where the members of the loop stand.
    fn loop_results(&mut self, id: NodeId, l: &Loop, rings: &[(usize, usize, usize)], stacks: &[Option<usize>]) -> Vec<LoopResult> {
        let mut results = vec![];
        for (i, part) in self.func.ty(id).parts.iter().enumerate() {
            let home = match (rings.get(i), &self.routines[l.func as usize].results[i], stacks[i]) {
                (Some((ring, slots, bytes)), ..) => {
                    results.push(LoopResult::Carried { ring: *ring, slots: *slots, bytes: *bytes });
                    let last = (l.trip as usize % slots) * bytes / part.dtype.bytes();
                    Home { offset: last as i64, ..Home::dense(*ring, part.sizes()) }
                }
                (None, Err(j), _) => {
                    results.push(LoopResult::Alias);
                    Home::dense(rings[*j].0, part.sizes())
                }
                (None, Ok(_), stack) => {
                    let buffer = stack.expect("what is neither carried nor kept in a ring is stacked");
                    results.push(LoopResult::Stacked { buffer, bytes: part.bytes() / l.trip as usize });
                    Home::dense(buffer, part.sizes())
                }
            };
            if let Some(get) = self.members.get(&(id, i as u32)).copied() {
                self.layout.stand(get, home);
            }
        }
        results
    }
}
