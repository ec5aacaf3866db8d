//! A function as a list of kernels over buffers: where each value stands, what each kernel is, and what may share memory.

use crate::expand::{expand, pointwise};
use crate::group::{Group, Groups, Kind, group, is_view, producers};
use crate::heads::{Operand, heads};
use crate::kernel::{Elem, Param};
use crate::spec::{Access, Dag, Spec, Step as Pure, Store, Template};
use ir::{DType, Func, Loop, Name, NodeId, Op, Type};
use passes::{Arena, Interval};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A buffer of a routine.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// What it is.
    pub kind: BufferKind,
    /// Size.
    pub bytes: usize,
}

/// What a buffer is.
#[derive(Clone, Debug, PartialEq)]
pub enum BufferKind {
    /// An operand of the function.
    Input(usize),
    /// Parameters and state, by path.
    Param(Name),
    /// A result of the function.
    Result(usize),
    /// Scratch between kernels, at this offset of the routine's arena.
    Temp(usize),
}

/// A buffer with a byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Place {
    pub buffer: usize,
    pub offset: usize,
}

/// One step of a routine.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Step {
    /// A kernel of the program's table on these buffers.
    Kernel { kernel: usize, args: Vec<usize> },
    /// A loop over another routine.
    Loop(Box<LoopStep>),
}

/// How a loop's body gets its operands and gives its results.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct LoopStep {
    pub routine: usize,
    pub shape: Loop,
    pub inputs: Vec<LoopInput>,
    pub results: Vec<LoopResult>,
    /// The body's arena.
    pub arena: usize,
}

/// Where a loop's body reads an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LoopInput {
    /// Slot s of a ring of slots, s the number of iterations so far.
    Carried { ring: usize, slots: usize, bytes: usize },
    /// The iteration's own piece.
    Stacked { place: Place, bytes: usize },
    /// The same each time.
    Invariant(Place),
}

/// Where a loop's body writes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LoopResult {
    /// The next slot of a ring.
    Carried { ring: usize, slots: usize, bytes: usize },
    /// The iteration's own piece.
    Stacked { buffer: usize, bytes: usize },
    /// Nowhere: it is a carried operand, whose ring keeps every iteration's.
    Alias,
}

/// A function as steps.
#[derive(Clone, Debug, Default)]
pub struct Routine {
    /// The function's name.
    pub name: String,
    /// Its buffers.
    pub buffers: Vec<Buffer>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The buffer of each result; `None` where the result is the carried operand of that number.
    pub results: Vec<Result<usize, usize>>,
    /// The arena of its temporaries.
    pub arena: Arena,
}

/// Distinct kernels of a program.
#[derive(Default)]
pub struct Table {
    /// The specs.
    pub specs: Vec<Spec>,
    index: HashMap<String, usize>,
}

impl Table {
    fn add(&mut self, spec: Spec) -> usize {
        let key = format!("{spec:?}");
        *self.index.entry(key).or_insert_with(|| {
            self.specs.push(spec);
            self.specs.len() - 1
        })
    }
}

/// Where a value stands: elements of a buffer by strides.
#[derive(Clone, Debug, PartialEq)]
struct Home {
    buffer: usize,
    offset: i64,
    dims: Vec<usize>,
    strides: Vec<i64>,
}

fn row_major(dims: &[usize]) -> Vec<i64> {
    let mut out = vec![1i64; dims.len()];
    for d in (0..dims.len().saturating_sub(1)).rev() {
        out[d] = out[d + 1] * dims[d + 1] as i64;
    }
    out
}

impl Home {
    fn dense(buffer: usize, dims: Vec<usize>) -> Home {
        let strides = row_major(&dims);
        Home { buffer, offset: 0, dims, strides }
    }
    fn is_dense(&self) -> bool {
        let want = row_major(&self.dims);
        self.dims.iter().zip(&self.strides).zip(want).all(|((d, s), w)| *d == 1 || *s == w)
    }
    fn transpose(&self, order: &[u8]) -> Home {
        let pick = |i: &u8| usize::from(*i);
        Home { dims: order.iter().map(|i| self.dims[pick(i)]).collect(), strides: order.iter().map(|i| self.strides[pick(i)]).collect(), ..*self }
    }
    fn slice(&self, axis: usize, lo: usize, hi: usize) -> Home {
        let mut out = self.clone();
        out.offset += lo as i64 * self.strides[axis];
        out.dims[axis] = hi - lo;
        out
    }
    /// The same elements under other dims, where strides can say so.
    fn reshape(&self, dims: &[usize]) -> Option<Home> {
        if dims.contains(&0) {
            return Some(Home { dims: dims.to_vec(), strides: row_major(dims), ..*self });
        }
        let old: Vec<(usize, i64)> = self.dims.iter().copied().zip(self.strides.iter().copied()).filter(|d| d.0 != 1).collect();
        let (mut strides, mut i, mut j) = (vec![0i64; dims.len()], 0, 0);
        while j < dims.len() {
            if dims[j] == 1 {
                strides[j] = 1;
                j += 1;
                continue;
            }
            // the least runs of old and new dims with one product
            let (from, to) = (i, j);
            let (mut have, mut want) = (old.get(i)?.0, dims[j]);
            while have != want {
                if have < want {
                    i += 1;
                    have *= old.get(i)?.0;
                } else {
                    j += 1;
                    want *= *dims.get(j)?;
                }
            }
            if !(from..i).all(|k| old[k].1 == old[k + 1].1 * old[k + 1].0 as i64) {
                return None;
            }
            let mut step = old[i].1;
            for k in (to..=j).rev() {
                strides[k] = step;
                step *= dims[k] as i64;
            }
            i += 1;
            j += 1;
        }
        Some(Home { dims: dims.to_vec(), strides, ..*self })
    }
}

/// Where main's results go, and which are new values of state.
pub(crate) struct Outside<'a> {
    pub outputs: &'a [String],
}

/// Lowers a function. `routines` are those of the functions before it.
pub(crate) fn lower(func: &Func, routines: &[Routine], table: &mut Table, outside: Option<&Outside>) -> Routine {
    let func = prepare(&expand(func), outside.is_some());
    let groups = group(&func);
    let b = Builder {
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

/// Copies where memory is wanted and a value has none of its own: constants as operands of products and loops, and results that are
/// operands, views, or one value twice.
fn prepare(func: &Func, is_main: bool) -> Func {
    let mut out = Func::new(&func.name);
    let mut new: Vec<NodeId> = vec![];
    let copy = |out: &mut Func, id: NodeId| {
        let ty = out.ty(id).clone();
        out.add_typed(Op::Broadcast(ty.dims.clone()), &[id], ty)
    };
    for node in &func.nodes {
        let in_memory = !pointwise(&node.op) && !matches!(node.op, Op::Reduce(..));
        let mut args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        for (i, a) in args.iter_mut().enumerate() {
            let table = matches!(node.op, Op::Gather) && i == 0;
            if (in_memory || table) && matches!(out.node(*a).op, Op::Const(..) | Op::Iota(..) | Op::Size(_)) {
                *a = copy(&mut out, *a);
            }
        }
        new.push(out.push(ir::Node { args, ..node.clone() }));
    }
    let mut taken: BTreeSet<NodeId> = BTreeSet::new();
    for (i, r) in func.results.iter().enumerate() {
        let mut id = new[r.index()];
        let alias = !is_main && i > 0 && matches!(out.node(id).op, Op::Input(..));
        let base = reshape_base(&out, id);
        let computed = !matches!(out.node(base).op, Op::Input(..) | Op::Param(..) | Op::Const(..) | Op::Iota(..) | Op::Size(_));
        let loops = producers(&out, id).is_some_and(|p| matches!(out.node(p).op, Op::Repeat(_)));
        if !alias && (!computed || loops || (is_view(&out.node(base).op) && !matches!(out.node(base).op, Op::Get(_))) || !taken.insert(base)) {
            id = copy(&mut out, id);
            taken.insert(id);
        }
        out.results.push(id);
    }
    out
}

/// The value whose elements a chain of reshapes shows in the same order.
fn reshape_base(func: &Func, id: NodeId) -> NodeId {
    match &func.node(id).op {
        Op::Reshape(_) => reshape_base(func, func.node(id).args[0]),
        _ => id,
    }
}

struct Builder<'a> {
    func: &'a Func,
    groups: &'a Groups,
    routines: &'a [Routine],
    table: &'a mut Table,
    outside: Option<&'a Outside<'a>>,
    routine: Routine,
    homes: Vec<Option<Home>>,
    params: HashMap<Name, usize>,
    /// Values that need memory.
    written: BTreeSet<NodeId>,
    /// (step, output, input): buffers a kernel may use one for the other.
    in_place: Vec<(usize, usize, usize)>,
}

impl Builder<'_> {
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
        self.plan();
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
    fn inlined(&self, x: NodeId, reader: Option<usize>, written: &BTreeSet<NodeId>) -> bool {
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
            let ty = self.func.ty(id).clone();
            if self.homes[id.index()].is_none() {
                let buffer = self.temp(&ty);
                self.homes[id.index()] = Some(Home::dense(buffer, ty.sizes()));
            }
            let whole = self.homes[id.index()].clone().expect("it was just placed");
            let axis = (ty.rank() as i64 + i64::from(axis)) as usize;
            let mut at = 0;
            for part in self.func.node(id).args.clone() {
                let n = self.func.ty(part).dims[axis].size();
                let home = whole.slice(axis, at, at + n);
                at += n;
                let base = reshape_base(self.func, part);
                let fits = home.reshape(&self.func.ty(base).sizes());
                if let Some(home) = fits.filter(|_| self.placeable(base)) {
                    self.homes[base.index()] = Some(home);
                }
            }
        }
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

    /// Where a value in memory stands. Views that strides cannot say are copied.
    fn home(&mut self, id: NodeId) -> Home {
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
            Op::Slice(a, lo, hi) => {
                let axis = (dims.len() as i64 + i64::from(*a)) as usize;
                self.home(node.args[0]).slice(axis, *lo as usize, *hi as usize)
            }
            _ => {
                let buffer = self.temp(&node.ty);
                Home::dense(buffer, dims)
            }
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
        let elem = Elem::of(dtype);
        let mut k = KernelArgs::default();
        let load = Access { arg: k.arg(from.buffer, elem, false), offset: from.offset, strides: from.strides.clone() };
        let store = Access { arg: k.arg(to.buffer, elem, true), offset: to.offset, strides: to.strides.clone() };
        let dag = Dag { steps: vec![(Pure::Load(load), elem)] };
        let spec = Spec {
            template: Template::Rows { tail: 0 },
            dims: from.dims.clone(),
            params: k.params,
            dag,
            stores: vec![Store { step: 0, access: store }],
        };
        self.step(spec, k.buffers);
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
                if same && alone && spec.params[a.arg].elem.bytes() == spec.params[s.access.arg].elem.bytes() {
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
            let arg = d.args.arg(home.buffer, Elem::F32, false);
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
        // operands by number: forward q, k, v, scale; backward q, k, v, o, lse, do, scale
        let mut homes: Vec<Home> = node.args.iter().map(|x| self.home(*x)).collect();
        let scale = homes.len() - 1;
        for (i, x) in node.args.iter().enumerate().filter(|(i, _)| *i != scale && (forward || *i != 4)) {
            // vectors are read along the depth, which attention labels give last in q, k, v and o as models write them
            let labels = [&a.q, &a.k, &a.v, &a.o, &a.o, &a.o][i];
            let depth = labels.iter().position(|l| *l >= a.scores).expect("a depth label");
            if homes[i].strides[depth] != 1 {
                let order: Vec<u8> = (0..labels.len() as u8).filter(|j| usize::from(*j) != depth).chain([depth as u8]).collect();
                let dense = self.dense(&homes[i].transpose(&order), self.func.ty(*x));
                let mut back = vec![0u8; order.len()];
                for (to, from) in order.iter().enumerate() {
                    back[usize::from(*from)] = to as u8;
                }
                homes[i] = dense.transpose(&back);
            }
        }
        if homes[scale].offset != 0 {
            homes[scale] = self.dense(&homes[scale].clone(), self.func.ty(node.args[scale]));
        }
        let results: Vec<Home> = (0..node.ty.parts.len() as u32).map(|i| self.member_home(id, i)).collect();
        let mut k = KernelArgs::default();
        let operand = |k: &mut KernelArgs, h: &Home, written: bool| Operand {
            arg: k.push(h.buffer, Elem::F32, written),
            offset: h.offset,
            strides: h.strides.clone(),
        };
        let reads: Vec<Operand> = homes.iter().map(|h| operand(&mut k, h, false)).collect();
        let writes: Vec<Operand> = results.iter().map(|h| operand(&mut k, h, true)).collect();
        let mut by_role: Vec<Operand> = vec![];
        let mut reads: Vec<Option<Operand>> = reads.into_iter().map(Some).collect();
        let mut take = |i: usize| reads[i].take().expect("each operand has one role");
        if forward {
            by_role.extend([take(0), take(1), take(2)]);
            by_role.extend(writes);
        } else {
            by_role.extend([take(0), take(1), take(2), take(3), take(4), take(5)]);
            by_role.extend(writes);
        }
        let types = [0, 1, 2].map(|i| self.func.ty(node.args[i]));
        let h = Box::new(heads(a, types, &by_role));
        let template = if forward { Template::Attention(h) } else { Template::AttentionBwd(h) };
        let spec = Spec { template, dims: vec![], params: k.params, dag: Dag::default(), stores: vec![] };
        self.step(spec, k.buffers);
    }

    /// Where a member of a tuple goes: where its `get` was placed, or a buffer nobody reads.
    fn member_home(&mut self, id: NodeId, i: u32) -> Home {
        let get = self.func.ids().find(|g| self.func.node(*g).op == Op::Get(i) && self.func.node(*g).args[0] == id);
        let ty = self.func.ty(id).parts[i as usize].clone();
        if let Some(get) = get {
            if self.homes[get.index()].is_none() {
                let buffer = self.temp(&ty);
                self.homes[get.index()] = Some(Home::dense(buffer, ty.sizes()));
            }
            return self.homes[get.index()].clone().expect("it was just placed");
        }
        let buffer = self.temp(&ty);
        Home::dense(buffer, ty.sizes())
    }

    fn emit_scatter(&mut self, id: NodeId) {
        let node = self.func.node(id).clone();
        let [base, index, updates] = node.args[..] else { unreachable!("scatter_add has three operands") };
        let to = self.home(id);
        let from = self.home(base);
        self.in_place.push((self.routine.steps.len(), to.buffer, from.buffer));
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
        let ty = self.func.ty(id).clone();
        let axis = (ty.rank() as i64 + i64::from(axis)) as usize;
        let mut at = 0;
        for part in self.func.node(id).args.clone() {
            let n = self.func.ty(part).dims[axis].size();
            let to = whole.slice(axis, at, at + n);
            at += n;
            let from = self.home(part);
            let there = from.buffer == to.buffer
                && from.offset == to.offset
                && from.dims.iter().zip(&from.strides).zip(&to.strides).all(|((d, a), b)| *d == 1 || a == b);
            if !there {
                self.copy(&from, &to, ty.dtype);
            }
        }
    }

    fn emit_pad(&mut self, id: NodeId, axis: i8, before: u32) {
        let (to, ty) = (self.home(id), self.func.ty(id).clone());
        let x = self.func.node(id).args[0];
        let from = self.home(x);
        let elem = Elem::of(ty.dtype);
        let mut k = KernelArgs::default();
        let store = Access { arg: k.arg(to.buffer, elem, true), offset: to.offset, strides: to.strides.clone() };
        let dag = Dag { steps: vec![(Pure::Const(0.0), elem)] };
        let spec = Spec {
            template: Template::Rows { tail: 0 },
            dims: to.dims.clone(),
            params: k.params,
            dag,
            stores: vec![Store { step: 0, access: store }],
        };
        self.step(spec, k.buffers);
        let axis = (ty.rank() as i64 + i64::from(axis)) as usize;
        let n = self.func.ty(x).dims[axis].size();
        self.copy(&from, &to.slice(axis, before as usize, before as usize + n), ty.dtype);
    }

    fn emit_loop(&mut self, id: NodeId, l: &Loop) {
        let node = self.func.node(id).clone();
        let body = &self.routines[l.func as usize];
        let (carried, stacked) = (l.carried as usize, l.stacked as usize);
        let aliased = |j: usize| !l.reverse && body.results.iter().skip(carried).any(|r| *r == Err(j));
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
            let get = self.func.ids().find(|g| self.func.node(*g).op == Op::Get(i as u32) && self.func.node(*g).args[0] == id);
            let home = match (rings.get(i), &self.routines[l.func as usize].results[i]) {
                (Some((ring, slots, bytes)), _) => {
                    results.push(LoopResult::Carried { ring: *ring, slots: *slots, bytes: *bytes });
                    let last = (l.trip as usize % slots) * bytes / part.dtype.bytes();
                    Home { offset: last as i64, ..Home::dense(*ring, part.sizes()) }
                }
                (None, Err(j)) if !l.reverse && *j < carried => {
                    results.push(LoopResult::Alias);
                    Home::dense(rings[*j].0, part.sizes())
                }
                (None, _) => {
                    let buffer = self.temp(part);
                    results.push(LoopResult::Stacked { buffer, bytes: part.bytes() / l.trip as usize });
                    Home::dense(buffer, part.sizes())
                }
            };
            if let Some(get) = get {
                self.homes[get.index()] = Some(home);
            }
        }
        self.routine.buffers.push(Buffer { kind: BufferKind::Temp(0), bytes: self.routines[l.func as usize].arena.bytes });
        let arena = self.routine.buffers.len() - 1;
        self.routine.steps.push(Step::Loop(Box::new(LoopStep { routine: l.func as usize, shape: l.clone(), inputs, results, arena })));
    }

    /// Gives every temporary a place in the arena.
    fn plan(&mut self) {
        let r = &mut self.routine;
        let mut life: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
        for (s, step) in r.steps.iter().enumerate() {
            for b in touched(step) {
                let l = life.entry(b).or_insert((s, s));
                l.1 = s;
            }
        }
        let temp = |r: &Routine, b: usize| matches!(r.buffers[b].kind, BufferKind::Temp(_));
        // buffers that became one, by the one that stands for both
        let mut same: Vec<usize> = (0..r.buffers.len()).collect();
        for (s, out, input) in &self.in_place {
            let (a, b) = (same[*out], same[*input]);
            let fits = a != b && temp(r, a) && temp(r, b) && r.buffers[a].bytes == r.buffers[b].bytes;
            if fits && life.get(&b).is_some_and(|l| l.1 == *s) && life.get(&a).is_some_and(|l| l.0 == *s) {
                let merged = (life[&b].0, life[&a].1);
                life.insert(b, merged);
                life.remove(&a);
                for x in &mut same {
                    if *x == a {
                        *x = b;
                    }
                }
            }
        }
        let owners: Vec<usize> = life.keys().copied().filter(|b| temp(r, *b)).collect();
        let intervals: Vec<Interval> = owners.iter().map(|b| Interval { bytes: r.buffers[*b].bytes, first: life[b].0, last: life[b].1 }).collect();
        r.arena = passes::plan(&intervals);
        for b in 0..r.buffers.len() {
            if let (BufferKind::Temp(_), Some(i)) = (&r.buffers[b].kind, owners.iter().position(|o| *o == same[b])) {
                r.buffers[b].kind = BufferKind::Temp(r.arena.offsets[i]);
            }
        }
        drop_self_copies(r, &same, self.table);
    }
}

/// A copy of a buffer onto itself, which sharing memory has made, is no work.
fn drop_self_copies(r: &mut Routine, same: &[usize], table: &Table) {
    let is_copy = |kernel: usize| {
        let s = &table.specs[kernel];
        matches!(s.template, Template::Rows { .. })
            && matches!(&s.dag.steps[..], [(Pure::Load(a), _)] if s.stores.len() == 1 && a.offset == s.stores[0].access.offset && a.strides == s.stores[0].access.strides)
    };
    r.steps.retain(|s| match s {
        Step::Kernel { kernel, args } => !(args.len() == 2 && same[args[0]] == same[args[1]] && is_copy(*kernel)),
        Step::Loop(_) => true,
    });
}

/// Buffers a step reads or writes.
pub(crate) fn touched(step: &Step) -> Vec<usize> {
    match step {
        Step::Kernel { args, .. } => args.clone(),
        Step::Loop(l) => {
            let input = |i: &LoopInput| match i {
                LoopInput::Carried { ring, .. } => *ring,
                LoopInput::Stacked { place, .. } | LoopInput::Invariant(place) => place.buffer,
            };
            let result = |r: &LoopResult| match r {
                LoopResult::Carried { ring, .. } => Some(*ring),
                LoopResult::Stacked { buffer, .. } => Some(*buffer),
                LoopResult::Alias => None,
            };
            l.inputs.iter().map(input).chain(l.results.iter().filter_map(result)).chain([l.arena]).collect()
        }
    }
}

/// The operands of one kernel.
#[derive(Default)]
struct KernelArgs {
    buffers: Vec<usize>,
    params: Vec<Param>,
}

impl KernelArgs {
    /// The operand that is this buffer, new or known.
    fn arg(&mut self, buffer: usize, elem: Elem, written: bool) -> usize {
        match self.buffers.iter().position(|b| *b == buffer) {
            Some(i) => {
                self.params[i].written |= written;
                i
            }
            None => self.push(buffer, elem, written),
        }
    }
    fn push(&mut self, buffer: usize, elem: Elem, written: bool) -> usize {
        self.buffers.push(buffer);
        self.params.push(Param { elem, written });
        self.buffers.len() - 1
    }
}

/// The pointwise part of a kernel while it is built.
struct DagBuilder<'a> {
    group: &'a Group,
    /// Dims that values are aligned to.
    dims: Vec<usize>,
    /// Rank of the iteration, which may have further dims behind.
    rank: usize,
    args: KernelArgs,
    dag: Dag,
    steps: HashMap<NodeId, usize>,
    product: Option<NodeId>,
}

impl<'a> DagBuilder<'a> {
    fn new(group: &'a Group, dims: Vec<usize>, rank: usize) -> DagBuilder<'a> {
        DagBuilder { group, dims, rank, args: KernelArgs::default(), dag: Dag::default(), steps: HashMap::new(), product: None }
    }

    fn build(&mut self, b: &mut Builder, outputs: &[NodeId]) {
        for id in outputs {
            self.value(b, *id);
        }
    }

    fn push(&mut self, step: Pure, dtype: DType) -> usize {
        self.dag.steps.push((step, Elem::of(dtype)));
        self.dag.steps.len() - 1
    }

    /// Strides of a value over the iteration: aligned at the end of `dims`, 0 where it is broadcast.
    fn aligned(&self, dims: &[usize], strides: &[i64]) -> Vec<i64> {
        let skip = self.dims.len() - dims.len();
        let own = dims.iter().zip(strides).map(|(d, s)| if *d == 1 { 0 } else { *s });
        std::iter::repeat_n(0, skip).chain(own).chain(std::iter::repeat_n(0, self.rank - self.dims.len())).collect()
    }

    fn value(&mut self, b: &mut Builder, id: NodeId) -> usize {
        if let Some(s) = self.steps.get(&id) {
            return *s;
        }
        let node = b.func.node(id).clone();
        let own = b.groups.of[id.index()];
        let here = self.group.nodes.contains(&id);
        let reader = b.groups.of[self.group.nodes[0].index()];
        let step = match &node.op {
            Op::Const(bits, dtype) => self.push(Pure::Const(f64::from_bits(*bits)), *dtype),
            Op::Size(d) => self.push(Pure::Const(d.size() as f64), DType::F32),
            Op::Iota(..) => {
                let dims = node.ty.sizes();
                let mut strides = vec![0; dims.len()];
                strides[0] = 1;
                let strides = self.aligned(&dims, &strides);
                self.push(Pure::Index { offset: 0, strides }, DType::I32)
            }
            _ if Some(id) == self.product => self.push(Pure::Product, DType::F32),
            op if here || (own != reader && pointwise(op) && b.inlined(id, reader, &b.written)) => self.compute(b, id, op),
            _ => {
                let home = b.home(id);
                let arg = self.args.arg(home.buffer, Elem::of(node.ty.dtype), false);
                let strides = self.aligned(&home.dims, &home.strides);
                self.push(Pure::Load(Access { arg, offset: home.offset, strides }), node.ty.dtype)
            }
        };
        self.steps.insert(id, step);
        step
    }

    fn compute(&mut self, b: &mut Builder, id: NodeId, op: &Op) -> usize {
        let node = b.func.node(id).clone();
        if *op == Op::Gather {
            return self.gather(b, id);
        }
        let args: Vec<usize> = node.args.iter().map(|a| self.value(b, *a)).collect();
        let step = match op {
            Op::Un(u) => Pure::Un(*u, args[0]),
            Op::Bin(f) => Pure::Bin(*f, args[0], args[1]),
            Op::Select => Pure::Select(args[0], args[1], args[2]),
            Op::Cast(_) | Op::StopGradient | Op::Broadcast(_) => Pure::Cast(args[0]),
            Op::Reduce(red, _) => Pure::Reduce(*red, args[0]),
            Op::RandomBits(_) => {
                let dims = node.ty.sizes();
                let strides = self.aligned(&dims, &row_major(&dims));
                let counter = self.push(Pure::Index { offset: 0, strides }, DType::I32);
                let counter = self.push(Pure::Cast(counter), DType::U32);
                Pure::Random(args[0], counter)
            }
            op => unreachable!("{op} is not pointwise"),
        };
        self.push(step, node.ty.dtype)
    }

    fn gather(&mut self, b: &mut Builder, id: NodeId) -> usize {
        let node = b.func.node(id).clone();
        let [table, index] = node.args[..] else { unreachable!("gather has two operands") };
        let home = b.home(table);
        let index_dims = b.func.ty(index).sizes();
        // the index is aligned with the leading dims of the result: give it the rest as size-1 axes
        let rest = home.dims.len() - 1;
        let i = match &b.func.node(index).op {
            // computed in this kernel, element by element
            _ if self.group.nodes.contains(&index) => self.value(b, index),
            Op::Const(..) | Op::Size(_) => self.value(b, index),
            Op::Iota(axis, _) => {
                let mut strides = vec![0; self.dims.len()];
                let at = self.dims.len() as i64 - rest as i64 + i64::from(*axis);
                strides[at as usize] = 1;
                strides.resize(self.rank, 0);
                self.push(Pure::Index { offset: 0, strides }, DType::I32)
            }
            _ => {
                let place = b.home(index);
                let arg = self.args.arg(place.buffer, Elem::I32, false);
                let dims: Vec<usize> = index_dims.iter().copied().chain(std::iter::repeat_n(1, rest)).collect();
                let strides: Vec<i64> = place.strides.iter().copied().chain(std::iter::repeat_n(0, rest)).collect();
                let strides = self.aligned(&dims, &strides);
                self.push(Pure::Load(Access { arg, offset: place.offset, strides }), DType::I32)
            }
        };
        let arg = self.args.arg(home.buffer, Elem::of(node.ty.dtype), false);
        let strides = self.aligned(&home.dims[1..], &home.strides[1..]);
        let access = Access { arg, offset: home.offset, strides };
        self.push(Pure::Gather { access, row: home.strides[0], rows: home.dims[0] as i64, index: i }, node.ty.dtype)
    }

    fn stores(&mut self, b: &mut Builder, outputs: &[NodeId]) -> Vec<Store> {
        let store = |d: &mut Self, b: &mut Builder, id: NodeId| {
            let home = b.home(id);
            let arg = d.args.arg(home.buffer, Elem::of(b.func.ty(id).dtype), true);
            let strides = d.aligned(&home.dims, &home.strides);
            Store { step: d.steps[&id], access: Access { arg, offset: home.offset, strides } }
        };
        outputs.iter().map(|id| store(self, b, *id)).collect()
    }
}
