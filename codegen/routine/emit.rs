//! From groups of ops to a routine: every value in memory gets a place, every group a kernel.

use super::dag::{DagBuilder, KernelArgs};
use super::expand::{expand, pointwise};
use super::group::{Group, Groups, Kind, group, is_view, producers};
use super::heads::{Operand, heads};
use super::homes::{Home, axis_of};
use super::placement::place_buffers;
use super::prepare::{prepare, reshape_base};
use super::routine::{Buffer, BufferKind, LoopInput, LoopResult, LoopStep, Place, Routine, Step, Table};
use crate::kernel::Elem;
use crate::spec::{Access, Dag, Spec, Step as Pure, Store, Template};
use ir::{DType, Func, Loop, Name, NodeId, Op, Type};
use std::collections::{BTreeSet, HashMap};

/// Where main's results go, and which are new values of state.
pub(crate) struct Outside<'a> {
    pub outputs: &'a [String],
}

/// Lowers a function. `routines` are those of the functions before it; `carried` operands keep a ring of all iterations, if asked.
pub(crate) fn lower(func: &Func, routines: &[Routine], table: &mut Table, outside: Option<&Outside>, carried: usize) -> Routine {
    let func = prepare(&expand(func), carried);
    let groups = group(&func);
    let b = Emitter {
        func: &func,
        groups: &groups,
        routines,
        table,
        outside,
        routine: Routine { name: func.name.clone(), ..Routine::default() },
        homes: vec![None; func.nodes.len()],
        params: HashMap::new(),
        written: BTreeSet::new(),
        in_place: vec![],
    };
    b.run()
}
/// Shorter rows are not worth padding.
const WORTH_PADDING: usize = 64;

/// The state of lowering one function.
pub(crate) struct Emitter<'a> {
    pub func: &'a Func,
    pub groups: &'a Groups,
    routines: &'a [Routine],
    table: &'a mut Table,
    outside: Option<&'a Outside<'a>>,
    routine: Routine,
    homes: Vec<Option<Home>>,
    params: HashMap<Name, usize>,
    /// Values that need memory.
    pub written: BTreeSet<NodeId>,
    /// (step, output, input): buffers a kernel may use one for the other.
    in_place: Vec<(usize, usize, usize)>,
}

impl Emitter<'_> {
    fn buffer(&mut self, kind: BufferKind, ty: &Type) -> usize {
        self.routine.buffers.push(Buffer { kind, bytes: ty.bytes() });
        self.routine.buffers.len() - 1
    }

    fn temp(&mut self, ty: &Type) -> usize {
        self.buffer(BufferKind::Temp(0), ty)
    }

    fn run(mut self) -> Routine {
        self.written = self.values_in_memory();
        for id in self.func.ids() {
            let ty = self.func.ty(id).clone();
            let buffer = match &self.func.node(id).op {
                Op::Input(i, _) => self.buffer(BufferKind::Input(*i as usize), &ty),
                Op::Param(name, _) => {
                    let b = self.buffer(BufferKind::Param(name.clone()), &ty);
                    self.params.insert(name.clone(), b);
                    b
                }
                _ => continue,
            };
            self.homes[id.index()] = Some(Home::dense(buffer, ty.sizes()));
        }
        self.place_results();
        self.place_parts();
        for g in 0..self.groups.groups.len() {
            let group = self.groups.groups[g].clone();
            self.emit(&group);
        }
        place_buffers(&mut self.routine, &self.in_place, self.table);
        self.routine
    }

    /// Values that something outside their kernel reads.
    fn values_in_memory(&self) -> BTreeSet<NodeId> {
        let mut out: BTreeSet<NodeId> = self.func.results.iter().filter_map(|r| producers(self.func, *r)).collect();
        let live = self.func.live();
        for id in self.func.ids().filter(|id| live[id.index()]) {
            let node = self.func.node(id);
            if is_view(&node.op) || node.op == Op::Tuple {
                continue;
            }
            let own = self.groups.of[id.index()];
            for a in &node.args {
                let Some(p) = producers(self.func, *a) else { continue };
                if (self.groups.of[p.index()] != own || is_view(&self.func.node(*a).op)) && !matches!(node.op, Op::Reduce(..)) {
                    out.insert(p);
                }
            }
        }
        // what a reduction reads may be computed inside it; its own operands are then needed instead
        for id in self.func.ids().filter(|id| live[id.index()] && matches!(self.func.node(*id).op, Op::Reduce(..))) {
            let x = self.func.node(id).args[0];
            if self.groups.of[x.index()].is_none() || self.groups.of[x.index()] != self.groups.of[id.index()] {
                self.need(x, self.groups.of[id.index()], &mut out);
            }
        }
        out
    }

    fn need(&self, x: NodeId, reader: Option<usize>, out: &mut BTreeSet<NodeId>) {
        if self.inlined(x, reader, out) {
            for a in &self.func.node(x).args {
                self.need(*a, reader, out);
            }
        } else if let Some(p) = producers(self.func, x)
            && self.groups.of[p.index()] != reader
        {
            out.insert(p);
        }
    }

    /// Whether a reduction along columns computes this operand again instead of reading it: cheap work of a rows kernel that nothing
    /// else wants in memory.
    pub(crate) fn inlined(&self, x: NodeId, reader: Option<usize>, written: &BTreeSet<NodeId>) -> bool {
        let in_rows = |g: usize| matches!(self.groups.groups[g].kind, Kind::Rows { .. });
        let cols = reader.is_some_and(|g| matches!(self.groups.groups[g].kind, Kind::Cols { .. }));
        let node = self.func.node(x);
        cols && pointwise(&node.op)
            && !matches!(node.op, Op::Gather)
            && !written.contains(&x)
            && self.groups.of[x.index()].is_some_and(in_rows)
            && self.func.ty(x).dims.last().is_some_and(|d| d.size() > 1)
    }

    fn place_results(&mut self) {
        let results = self.func.results.clone();
        for (i, r) in results.into_iter().enumerate() {
            if let Op::Input(input, _) = self.func.node(r).op {
                self.routine.results.push(Err(input as usize));
                continue;
            }
            let base = reshape_base(self.func, r);
            let ty = self.func.ty(base).clone();
            let buffer = match self.state_of(i).filter(|b| self.may_overwrite(*b, base)) {
                Some(buffer) => buffer,
                None => self.buffer(BufferKind::Result(i), &ty),
            };
            self.homes[base.index()] = Some(Home::dense(buffer, ty.sizes()));
            self.routine.results.push(Ok(buffer));
        }
    }

    /// The buffer of the state tensor that result `i` is the new value of.
    fn state_of(&self, i: usize) -> Option<usize> {
        let name = self.outside?.outputs.get(i)?.strip_prefix('@')?;
        self.params.get(name).copied()
    }

    /// Whether the kernel that computes `id` is the last to read the state and reads each element where it writes it.
    fn may_overwrite(&self, buffer: usize, id: NodeId) -> bool {
        let Some(group) = self.groups.of[id.index()] else { return false };
        let param = self.func.ids().find(|p| self.homes[p.index()].as_ref().is_some_and(|h| h.buffer == buffer));
        let Some(param) = param else { return false };
        let mut readers = self.func.ids().filter(|u| self.func.node(*u).args.contains(&param));
        let rows = matches!(self.groups.groups[group].kind, Kind::Rows { tail: None, .. });
        rows && readers
            .all(|u| self.groups.of[u.index()].is_some_and(|g| g < group || (g == group && self.func.ty(u).dims == self.func.ty(param).dims)))
    }

    /// Parts of a concatenation are written where they will stand, where they can be.
    fn place_parts(&mut self) {
        for id in self.func.ids().rev() {
            let Op::Concat(axis) = self.func.node(id).op else { continue };
            if self.groups.of[id.index()].is_none() {
                continue;
            }
            let whole = self.placed(id);
            for (part, home) in self.parts(id, axis, &whole) {
                let base = reshape_base(self.func, part);
                let fits = home.reshape(&self.func.ty(base).sizes());
                if let Some(home) = fits.filter(|_| self.placeable(base)) {
                    self.homes[base.index()] = Some(home);
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
        let op = &self.func.node(id).op;
        let kernel = match op {
            Op::Get(_) => matches!(self.func.node(self.func.node(id).args[0]).op, Op::Attention(_) | Op::AttentionBwd(_)),
            Op::Concat(_) | Op::Contract(_) => true,
            op => pointwise(op),
        };
        kernel && self.homes[id.index()].is_none()
    }

    /// The home of a value that is no view: where it was placed, or a new dense buffer.
    fn placed(&mut self, id: NodeId) -> Home {
        if let Some(home) = &self.homes[id.index()] {
            return home.clone();
        }
        let ty = self.func.ty(id).clone();
        let home = self.room(&ty);
        self.homes[id.index()] = Some(home.clone());
        home
    }

    /// Memory for a value. Rows of 16-bit elements begin at whole chunks of sixteen bytes, as they are copied to matrices: a vocabulary's
    /// size is seldom so kind.
    fn room(&mut self, ty: &Type) -> Home {
        let dims = ty.sizes();
        let padded = dims.len() > 1 && ty.dtype.is_half() && dims[dims.len() - 1] >= WORTH_PADDING;
        let mut rows = dims.clone();
        if let (Some(last), true) = (rows.last_mut(), padded) {
            *last = last.next_multiple_of(16 / ty.dtype.bytes());
        }
        let buffer = self.temp(&Type::of(ty.dtype, rows.iter().copied()));
        Home { dims, ..Home::dense(buffer, rows) }
    }

    /// Where a value in memory stands. Views that strides cannot say are copied.
    pub(crate) fn home(&mut self, id: NodeId) -> Home {
        if let Some(h) = &self.homes[id.index()] {
            return h.clone();
        }
        let node = self.func.node(id).clone();
        let dims = node.ty.sizes();
        let home = match &node.op {
            Op::Reshape(_) => {
                let base = self.home(node.args[0]);
                match base.reshape(&dims) {
                    Some(h) => h,
                    None => {
                        let dense = self.dense(&base, self.func.ty(node.args[0]));
                        dense.reshape(&dims).expect("a dense value has every shape")
                    }
                }
            }
            Op::Transpose(order) => self.home(node.args[0]).transpose(order),
            Op::Slice(a, lo, hi) => self.home(node.args[0]).slice(axis_of(&node.ty, *a), *lo as usize, *hi as usize),
            _ => return self.placed(id),
        };
        self.homes[id.index()] = Some(home.clone());
        home
    }

    /// A dense copy of what stands at `from`.
    fn dense(&mut self, from: &Home, ty: &Type) -> Home {
        let buffer = self.temp(ty);
        let to = Home::dense(buffer, from.dims.clone());
        self.copy(from, &to, ty.dtype);
        to
    }

    fn copy(&mut self, from: &Home, to: &Home, dtype: DType) {
        let mut k = KernelArgs::default();
        let load = Access { arg: k.arg(from.buffer, Elem::of(dtype), false), offset: from.offset, strides: from.strides.clone() };
        self.write(k, Pure::Load(load), to, dtype);
    }

    /// A kernel that writes one value, which reads the operands in `k`.
    fn write(&mut self, mut k: KernelArgs, value: Pure, to: &Home, dtype: DType) {
        let elem = Elem::of(dtype);
        let access = Access { arg: k.arg(to.buffer, elem, true), offset: to.offset, strides: to.strides.clone() };
        let (dag, stores) = (Dag { steps: vec![(value, elem)] }, vec![Store { step: 0, access }]);
        self.step(Spec { template: Template::Rows { tail: 0 }, dims: to.dims.clone(), params: k.params, dag, stores }, k.buffers);
    }

    fn step(&mut self, spec: Spec, args: Vec<usize>) {
        let kernel = self.table.add(spec);
        self.routine.steps.push(Step::Kernel { kernel, args });
    }

    fn emit(&mut self, group: &Group) {
        let first = group.nodes[0];
        match (&group.kind, &self.func.node(first).op) {
            (Kind::Rows { dims, tail }, _) => self.emit_dag(group, dims, Template::Rows { tail: tail.unwrap_or(0) }),
            (Kind::Cols { dims, axes }, _) => {
                let reduced = (0..dims.len()).map(|d| axes.contains(&d)).collect();
                self.emit_dag(group, dims, Template::Cols { reduced });
            }
            (Kind::Contract { dims }, Op::Contract(_)) => self.emit_contract(group, dims),
            (Kind::Single, Op::Attention(_) | Op::AttentionBwd(_)) => self.emit_attention(first),
            (Kind::Single, Op::ScatterAdd) => self.emit_scatter(first),
            (Kind::Single, Op::Concat(axis)) => self.emit_concat(first, *axis),
            (Kind::Single, Op::Pad(axis, before, _)) => self.emit_pad(first, *axis, *before),
            (Kind::Single, Op::Repeat(l)) => self.emit_loop(first, &l.clone()),
            (kind, op) => unreachable!("{op} does not lead a group of {kind:?}"),
        }
    }

    /// The stores of a group: its values that need memory.
    fn outputs(&self, group: &Group) -> Vec<NodeId> {
        group.nodes.iter().copied().filter(|n| self.written.contains(n)).collect()
    }

    fn emit_dag(&mut self, group: &Group, dims: &[usize], template: Template) {
        let outputs = self.outputs(group);
        if outputs.is_empty() {
            return;
        }
        let mut d = DagBuilder::new(group, dims.to_vec(), dims.len());
        d.build(self, &outputs);
        let stores = d.stores(self, &outputs);
        let spec = Spec { template, dims: dims.to_vec(), params: d.args.params.clone(), dag: d.dag.clone(), stores };
        self.note_in_place(&spec, &d.args.buffers);
        self.step(spec, d.args.buffers);
    }

    /// A pointwise or row kernel may write a result over an operand it reads at the same places and nowhere else.
    fn note_in_place(&mut self, spec: &Spec, buffers: &[usize]) {
        let Template::Rows { .. } = spec.template else { return };
        for s in &spec.stores {
            for (step, _) in &spec.dag.steps {
                let Pure::Load(a) = step else { continue };
                let same = a.offset == s.access.offset && a.strides == s.access.strides && a.arg != s.access.arg;
                let alone = spec.dag.steps.iter().all(|(o, _)| match o {
                    Pure::Load(o) | Pure::Gather { access: o, .. } => o.arg != a.arg || o == a,
                    _ => true,
                });
                if same && alone && spec.params[a.arg].elem == spec.params[s.access.arg].elem {
                    self.in_place.push((self.routine.steps.len(), buffers[s.access.arg], buffers[a.arg]));
                }
            }
        }
    }

    fn emit_contract(&mut self, group: &Group, dims: &[usize]) {
        let product = group.nodes[0];
        let Op::Contract(ein) = self.func.node(product).op.clone() else { unreachable!("a contraction leads its group") };
        let args = self.func.node(product).args.clone();
        let homes = [self.home(args[0]), self.home(args[1])];
        let elem = Elem::of(self.func.ty(args[0]).dtype);
        let labels = [&ein.a, &ein.b];
        let mut all: Vec<usize> = dims.to_vec();
        for l in ein.contracted() {
            let at = ein.a.iter().position(|x| *x == l).expect("a contracted label is in both operands");
            all.push(homes[0].dims[at]);
        }
        let order: Vec<u8> = ein.outs().into_iter().chain(ein.contracted()).collect();
        let mut d = DagBuilder::new(group, dims.to_vec(), all.len());
        d.product = Some(product);
        let mut operands = vec![];
        for (home, labels) in homes.iter().zip(labels) {
            let stride = |l: &u8| labels.iter().position(|x| x == l).map_or(0, |i| if home.dims[i] == 1 { 0 } else { home.strides[i] });
            let arg = d.args.arg(home.buffer, elem, false);
            operands.push(Access { arg, offset: home.offset, strides: order.iter().map(stride).collect() });
        }
        let outputs = self.outputs(group);
        d.build(self, &outputs);
        let stores = d.stores(self, &outputs);
        let [a, b] = <[Access; 2]>::try_from(operands).expect("a contraction has two operands");
        let template = Template::Contract { out: dims.len(), a, b };
        let spec = Spec { template, dims: all, params: d.args.params, dag: d.dag, stores };
        self.step(spec, d.args.buffers);
    }

    fn emit_attention(&mut self, id: NodeId) {
        let node = self.func.node(id).clone();
        let (Op::Attention(a) | Op::AttentionBwd(a)) = &node.op else { unreachable!("only attention is emitted here") };
        let forward = matches!(node.op, Op::Attention(_));
        // forward q, k, v, scale; backward q, k, v, o, lse, do, scale
        let mut homes: Vec<Home> = node.args.iter().map(|x| self.home(*x)).collect();
        let scale = homes.len() - 1;
        for (i, labels) in [&a.q, &a.k, &a.v, &a.o, &a.rows(), &a.o].into_iter().enumerate().take(scale) {
            let dtype = self.func.ty(node.args[i]).dtype;
            homes[i] = self.with_unit_depth(&homes[i], dtype, labels, a.scores);
        }
        if homes[scale].offset != 0 {
            homes[scale] = self.dense(&homes[scale].clone(), self.func.ty(node.args[scale]));
        }
        let results: Vec<Home> = (0..node.ty.parts.len() as u32).map(|i| self.member_home(id, i)).collect();
        let mut k = KernelArgs::default();
        let operand = |k: &mut KernelArgs, h: &Home, dtype, written| Operand {
            arg: k.push(h.buffer, Elem::of(dtype), written),
            offset: h.offset,
            strides: h.strides.clone(),
        };
        let types: Vec<DType> = node.args.iter().map(|x| self.func.ty(*x).dtype).collect();
        let reads: Vec<Operand> = homes.iter().zip(types).map(|(h, t)| operand(&mut k, h, t, false)).collect();
        let writes: Vec<Operand> = results.iter().zip(&node.ty.parts).map(|(h, t)| operand(&mut k, h, t.dtype, true)).collect();
        let matrices: Vec<Operand> = reads.into_iter().take(scale).chain(writes).collect();
        let h = Box::new(heads(a, [0, 1, 2].map(|i| self.func.ty(node.args[i])), &matrices));
        let template = if forward { Template::Attention(h) } else { Template::AttentionBwd(h) };
        self.step(Spec { template, dims: vec![], params: k.params, dag: Dag::default(), stores: vec![] }, k.buffers);
    }

    /// An operand of attention whose depth steps by single elements, as its vectors are read: copied where it does not.
    fn with_unit_depth(&mut self, home: &Home, dtype: DType, labels: &[u8], scores: u8) -> Home {
        let Some(depth) = labels.iter().position(|l| *l >= scores).filter(|d| home.strides[*d] != 1) else { return home.clone() };
        let order: Vec<u8> = (0..labels.len() as u8).filter(|j| usize::from(*j) != depth).chain([depth as u8]).collect();
        let turned = home.transpose(&order);
        let dense = self.dense(&turned, &Type::of(dtype, turned.dims.iter().copied()));
        let mut back = vec![0u8; order.len()];
        for (to, from) in order.iter().enumerate() {
            back[usize::from(*from)] = to as u8;
        }
        dense.transpose(&back)
    }

    /// The `get` of a member of a tuple, if anyone reads it.
    fn member(&self, id: NodeId, i: u32) -> Option<NodeId> {
        self.func.ids().find(|g| self.func.node(*g).op == Op::Get(i) && self.func.node(*g).args[0] == id)
    }

    /// Where a member of a tuple goes: where its `get` was placed, or a buffer nobody reads.
    fn member_home(&mut self, id: NodeId, i: u32) -> Home {
        if let Some(get) = self.member(id, i) {
            return self.placed(get);
        }
        let ty = self.func.ty(id).parts[i as usize].clone();
        let buffer = self.temp(&ty);
        Home::dense(buffer, ty.sizes())
    }

    fn emit_scatter(&mut self, id: NodeId) {
        let node = self.func.node(id).clone();
        let [base, index, updates] = node.args[..] else { unreachable!("scatter_add has three operands") };
        let to = self.home(id);
        let from = self.home(base);
        if from.is_dense() && from.offset == 0 {
            self.in_place.push((self.routine.steps.len(), to.buffer, from.buffer));
        }
        self.copy(&from, &to, node.ty.dtype);
        let dense = |b: &mut Self, x: NodeId| {
            let h = b.home(x);
            if h.is_dense() && h.offset == 0 { h } else { b.dense(&h, b.func.ty(x)) }
        };
        let (index, updates) = (dense(self, index), dense(self, updates));
        let rows = to.dims[0];
        let width = to.dims[1..].iter().product();
        let tokens = index.dims.iter().product();
        let mut k = KernelArgs::default();
        k.push(index.buffer, Elem::I32, false);
        k.push(updates.buffer, Elem::F32, false);
        k.push(to.buffer, Elem::F32, true);
        let template = Template::ScatterAdd { tokens, rows, width };
        self.step(Spec { template, dims: vec![tokens, width], params: k.params, dag: Dag::default(), stores: vec![] }, k.buffers);
    }

    fn emit_concat(&mut self, id: NodeId, axis: i8) {
        let whole = self.home(id);
        for (part, to) in self.parts(id, axis, &whole) {
            let from = self.home(part);
            let there = from.buffer == to.buffer
                && from.offset == to.offset
                && from.dims.iter().zip(&from.strides).zip(&to.strides).all(|((d, a), b)| *d == 1 || a == b);
            if !there {
                self.copy(&from, &to, self.func.ty(id).dtype);
            }
        }
    }

    fn emit_pad(&mut self, id: NodeId, axis: i8, before: u32) {
        let (to, ty) = (self.home(id), self.func.ty(id).clone());
        let from = self.home(self.func.node(id).args[0]);
        self.write(KernelArgs::default(), Pure::Const(0.0), &to, ty.dtype);
        let (axis, before) = (axis_of(&ty, axis), before as usize);
        self.copy(&from, &to.slice(axis, before, before + from.dims[axis]), ty.dtype);
    }

    fn emit_loop(&mut self, id: NodeId, l: &Loop) {
        let node = self.func.node(id).clone();
        let body = &self.routines[l.func as usize];
        let (carried, stacked) = (l.carried as usize, l.stacked as usize);
        let aliased = |j: usize| body.results.iter().skip(carried).any(|r| *r == Err(j));
        let rings: Vec<(usize, usize, usize)> = (0..carried)
            .map(|j| {
                let bytes = node.ty.parts[j].bytes();
                let slots = if aliased(j) { l.trip as usize + 1 } else { 2 };
                self.routine.buffers.push(Buffer { kind: BufferKind::Temp(0), bytes: bytes * slots });
                (self.routine.buffers.len() - 1, slots, bytes)
            })
            .collect();
        let mut inputs = vec![];
        for (i, arg) in node.args.iter().enumerate() {
            let (home, ty) = (self.home(*arg), self.func.ty(*arg).clone());
            if let Some((ring, slots, bytes)) = rings.get(i).copied() {
                self.copy(&home, &Home::dense(ring, ty.sizes()), ty.dtype);
                inputs.push(LoopInput::Carried { ring, slots, bytes });
                continue;
            }
            let home = if home.is_dense() { home } else { self.dense(&home, &ty) };
            let place = Place { buffer: home.buffer, offset: home.offset as usize * ty.dtype.bytes() };
            inputs.push(if i < carried + stacked {
                LoopInput::Stacked { place, bytes: ty.bytes() / l.trip as usize }
            } else {
                LoopInput::Invariant(place)
            });
        }
        let mut results = vec![];
        for (i, part) in node.ty.parts.iter().enumerate() {
            let home = match (rings.get(i), &self.routines[l.func as usize].results[i]) {
                (Some((ring, slots, bytes)), _) => {
                    results.push(LoopResult::Carried { ring: *ring, slots: *slots, bytes: *bytes });
                    let last = (l.trip as usize % slots) * bytes / part.dtype.bytes();
                    Home { offset: last as i64, ..Home::dense(*ring, part.sizes()) }
                }
                (None, Err(j)) => {
                    results.push(LoopResult::Alias);
                    Home::dense(rings[*j].0, part.sizes())
                }
                (None, _) => {
                    let buffer = self.temp(part);
                    results.push(LoopResult::Stacked { buffer, bytes: part.bytes() / l.trip as usize });
                    Home::dense(buffer, part.sizes())
                }
            };
            if let Some(get) = self.member(id, i as u32) {
                self.homes[get.index()] = Some(home);
            }
        }
        self.routine.buffers.push(Buffer { kind: BufferKind::Temp(0), bytes: self.routines[l.func as usize].arena.bytes });
        let arena = self.routine.buffers.len() - 1;
        self.routine.steps.push(Step::Loop(Box::new(LoopStep { routine: l.func as usize, shape: l.clone(), inputs, results, arena })));
    }
}
