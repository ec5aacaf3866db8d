//! The CubeCL printer: one arm a statement, one arm an expression.

use super::build::{Block, F32, U32, memory_elem};
use super::{Dialect, Source};
use crate::kernel::{Buf, Elem, Expr, Fragment, Ix, Kernel, Local, Shared, Stmt};
use cubecl::ir::pliron::value::Value;
use cubecl::prelude::*;
use ir::{Bin, Red, Un};

/// An index variable while printing: unrolled ones are constants.
#[derive(Clone, Copy)]
enum Known {
    Number(i64),
    Value(Value),
}

struct Printer<'a> {
    kernel: &'a Kernel,
    args: Vec<Value>,
    /// Where each operand begins in its binding, in its vectors, where that is not its start.
    offsets: Vec<Option<Value>>,
    shared: Vec<Value>,
    locals: Vec<Vec<Value>>,
    vars: Vec<Option<Known>>,
}

/// The kernel as CubeCL's IR.
pub(super) fn print(source: &Source) -> KernelDefinition {
    let kernel = &*source.kernel;
    let mut builder = KernelBuilder::new(source.settings());
    let mut args = vec![];
    for (param, width) in kernel.params.iter().zip(&kernel.widths) {
        let ty = Block { scope: &builder.scope }.vector(memory_elem(param.elem), *width);
        args.push(builder.buffer(ty));
    }
    let ids: Vec<Option<usize>> = source.offsets.iter().map(|o| o.then(|| builder.scalar(U32))).collect();
    let b = Block { scope: &builder.scope };
    let offsets = ids.into_iter().map(|id| id.map(|id| b.scalar(id))).collect();
    let shared = regions(&b, kernel, source.dialect);
    let slot = |l: &Local| if l.elem.is_half() { b.fragment() } else { b.value_type(l.elem, l.lanes) };
    let local = |l: &Local| (0..l.count).map(|_| b.local(slot(l))).collect();
    let locals = kernel.locals.iter().map(local).collect();
    let mut p = Printer { kernel, args, offsets, shared, locals, vars: vec![None; kernel.vars.len()] };
    let cube = b.cube();
    (p.vars[0], p.vars[1]) = (Some(Known::Value(cube)), Some(Known::Value(b.thread())));
    if source.cubes().2 {
        b.if_(b.ult(cube, b.index(kernel.units as i64)), |b| p.block(b, &kernel.body), |_| {});
    } else {
        p.block(&b, &kernel.body);
    }
    builder.build()
}

/// Memory that a cube shares. Where pointers can be cast it is one array, so that where each region lies is ours to say.
fn regions(b: &Block, kernel: &Kernel, dialect: Dialect) -> Vec<Value> {
    let shape = |s: &Shared| (b.vector(memory_elem(s.elem), s.lanes), s.count / s.lanes as usize);
    if dialect == Dialect::Wgsl || kernel.shared.len() < 2 {
        return kernel.shared.iter().map(|s| b.shared(shape(s).0, shape(s).1, 16)).collect();
    }
    let size = |s: &Shared| (s.elem.bytes() * s.count).div_ceil(16);
    // a group's product wants its tiles, which come first, at whole periods of their swizzle
    let all = b.shared(b.vector(F32, 4), kernel.shared.iter().map(size).sum(), 1024);
    let mut at = 0;
    let mut region = |s: &Shared| {
        let place = b.at(all, b.index(at as i64));
        at += size(s);
        b.shared_as(place, shape(s).0, shape(s).1)
    };
    kernel.shared.iter().map(&mut region).collect()
}

/// The element of a region of shared memory.
fn memory_name(kernel: &Kernel, buf: Buf) -> Elem {
    let Buf::Shared(i) = buf else { unreachable!("a group multiplies what is shared") };
    kernel.shared[i].elem
}

impl Printer<'_> {
    fn block(&mut self, b: &Block, body: &[Stmt]) {
        for s in body {
            self.stmt(b, s);
        }
    }

    fn stmt(&mut self, b: &Block, s: &Stmt) {
        match s {
            Stmt::For { var, lo, hi, step, unroll: true, body } => {
                let bound = |ix: &Ix| self.known(ix).expect("an unrolled loop has constant bounds");
                let (mut i, hi) = (bound(lo), bound(hi));
                while i < hi {
                    self.vars[var.0 as usize] = Some(Known::Number(i));
                    self.block(b, body);
                    i += step;
                }
            }
            Stmt::For { var, lo, hi, step, body, .. } => {
                let bounds = (self.ix(b, lo), self.ix(b, hi), *step);
                b.for_(bounds, |b, i| {
                    self.vars[var.0 as usize] = Some(Known::Value(i));
                    self.block(b, body);
                });
            }
            Stmt::Let(v, ix) => self.vars[v.0 as usize] = Some(self.known(ix).map_or_else(|| Known::Value(self.ix(b, ix)), Known::Number)),
            Stmt::LetValue(v, e) => self.vars[v.0 as usize] = Some(Known::Value(b.to_index(self.expr(b, e)))),
            Stmt::Set(l, at, e) => {
                let value = self.expr(b, e);
                b.set(self.slot(l.0, at), value);
            }
            Stmt::Store { buf, at, value, valid } => {
                assert!(valid.is_none(), "{}: a GPU's stores are guarded by branches", self.kernel.name);
                self.store(b, *buf, at, value);
            }
            Stmt::If { a, b: end, then, otherwise } => match (self.known(a), self.known(end)) {
                (Some(x), Some(y)) => self.block(b, if x < y { then } else { otherwise }),
                _ => {
                    let p = b.ult(self.ix(b, a), self.ix(b, end));
                    let this = std::cell::RefCell::new(&mut *self);
                    b.if_(p, |b| this.borrow_mut().block(b, then), |b| this.borrow_mut().block(b, otherwise));
                }
            },
            Stmt::Prefetch(..) => unreachable!("a GPU's kernel copies ahead to shared memory"),
            Stmt::Transpose { .. } => unreachable!("a GPU's kernel transposes through shared memory"),
            Stmt::Barrier => b.barrier(),
            Stmt::CopyAsync { src, from, dst, to, valid } => {
                let bytes = b.imul(self.ix(b, valid), b.index(self.kernel.params[*src].elem.bytes() as i64));
                b.copy_async(self.place(b, Buf::Arg(*src), from), self.place(b, *dst, to), bytes);
            }
            Stmt::Commit => b.commit(),
            Stmt::Wait(but) => b.wait(*but),
            Stmt::LoadMatrix { to, src, row, transposed } => b.load_matrix(self.place(b, *src, row), self.fragment(to), *transposed),
            Stmt::Pack { to, from } => {
                let elem = memory_elem(self.kernel.locals[to.0.0 as usize].elem);
                let word = |f: &Fragment, i: u32| {
                    let sums = b.get(self.fragment(f));
                    let two = b.pack(b.value_type(Elem::F32, 2), vec![b.lane(sums, 2 * i), b.lane(sums, 2 * i + 1)]);
                    b.bits(b.cast(two, b.vector(elem, 2)), b.vector(U32, 1))
                };
                let words = from.iter().flat_map(|f| [word(f, 0), word(f, 1)]).collect();
                b.set(self.fragment(to), b.pack(b.fragment(), words));
            }
            Stmt::Exchange { to, from, bits } => b.set(self.fragment(&(*to, 0)), b.exchange(b.get(self.fragment(&(*from, 0))), *bits)),
            Stmt::GroupMma { acc, a, b: right, columns } => {
                let [x, y] = [a, right].map(|(buf, at)| b.descriptor(self.place(b, *buf, at)));
                let elem = memory_name(self.kernel, a.0);
                let sums = b.group_mma(elem, b.get(self.fragment(&(*acc, 0))), [x, y], *columns);
                b.set(self.fragment(&(*acc, 0)), sums);
            }
            Stmt::Fence => b.fence(),
            Stmt::Mma { acc, a, b: right, half } => {
                let elem = self.kernel.locals[a.0.0 as usize].elem;
                let words = b.get(self.fragment(right));
                let halves = [2 * half, 2 * half + 1].map(|i| b.lane(words, i));
                let sum = b.mma(elem, b.get(self.fragment(a)), halves, b.get(self.fragment(acc)));
                b.set(self.fragment(acc), sum);
            }
        }
    }

    /// The value of an index whose variables are all unrolled.
    fn known(&self, ix: &Ix) -> Option<i64> {
        ix.value(&|v| match self.vars[v.0 as usize]? {
            Known::Number(n) => Some(n),
            Known::Value(_) => None,
        })
    }

    fn ix(&self, b: &Block, ix: &Ix) -> Value {
        if let Some(n) = self.known(ix) {
            return b.index(n);
        }
        match ix {
            Ix::Const(n) => b.index(*n),
            Ix::Var(v) => match self.vars[v.0 as usize].expect("an index is named before it is used") {
                Known::Number(n) => b.index(n),
                Known::Value(v) => v,
            },
            Ix::Add(x, y) => b.iadd(self.ix(b, x), self.ix(b, y)),
            Ix::Sub(x, y) => b.isub(self.ix(b, x), self.ix(b, y)),
            Ix::Mul(x, y) => b.imul(self.ix(b, x), self.ix(b, y)),
            Ix::Div(x, y) => b.udiv(self.ix(b, x), self.ix(b, y)),
            Ix::Rem(x, y) => b.urem(self.ix(b, x), self.ix(b, y)),
            Ix::Min(x, y) => b.umin(self.ix(b, x), self.ix(b, y)),
            Ix::Max(x, y) => b.umax(self.ix(b, x), self.ix(b, y)),
            Ix::Xor(x, y) => b.xor(self.ix(b, x), self.ix(b, y)),
        }
    }

    fn slot(&self, local: u32, at: &Ix) -> Value {
        let at = self.known(at).expect("a register tile is indexed by constants");
        self.locals[local as usize][at as usize]
    }

    fn fragment(&self, (local, at): &Fragment) -> Value {
        self.locals[local.0 as usize][*at]
    }

    /// A buffer's memory, its element and width.
    fn memory(&self, buf: Buf) -> (Value, Elem, u32) {
        match buf {
            Buf::Arg(i) => (self.args[i], self.kernel.params[i].elem, self.kernel.widths[i]),
            Buf::Shared(i) => (self.shared[i], self.kernel.shared[i].elem, self.kernel.shared[i].lanes),
            Buf::Scratch(_) => unreachable!("a GPU's thread has no scratch memory"),
        }
    }

    /// The place of an element, or of the vector that begins there.
    fn place(&self, b: &Block, buf: Buf, at: &Ix) -> Value {
        let (memory, _, width) = self.memory(buf);
        let at = self.ix(b, &at.clone().div(i64::from(width)));
        let at = match buf {
            Buf::Arg(i) => self.offsets[i].map_or(at, |o| b.iadd(o, at)),
            Buf::Shared(_) | Buf::Scratch(_) => at,
        };
        b.at(memory, at)
    }

    fn load(&self, b: &Block, buf: Buf, at: &Ix, lanes: u32) -> Value {
        let (_, elem, width) = self.memory(buf);
        let value = if width == lanes {
            b.get(self.place(b, buf, at))
        } else {
            let lane = |i: u32| b.get(self.place(b, buf, &(at.clone() + i64::from(i))));
            b.pack(b.vector(memory_elem(elem), lanes), (0..lanes).map(lane).collect())
        };
        match elem {
            Elem::Bool => b.ine(value, b.splat(b.word(0), Elem::U32, lanes)),
            // arithmetic is in 32 bits, which has to be said
            Elem::BF16 | Elem::F16 => b.cast(value, b.value_type(Elem::F32, lanes)),
            Elem::F32 | Elem::I32 | Elem::U32 => value,
        }
    }

    fn store(&self, b: &Block, buf: Buf, at: &Ix, value: &Expr) {
        let (_, elem, width) = self.memory(buf);
        let lanes = self.kernel.lanes(value);
        let mut value = self.expr(b, value);
        if elem == Elem::Bool {
            let word = |x| b.splat(b.word(x), Elem::U32, lanes);
            value = b.select(value, word(1), word(0));
        }
        if elem.is_half() {
            value = b.cast(value, b.vector(memory_elem(elem), lanes));
        }
        if width == lanes {
            return b.set(self.place(b, buf, at), value);
        }
        for i in 0..lanes {
            b.set(self.place(b, buf, &(at.clone() + i64::from(i))), b.lane(value, i));
        }
    }

    fn expr(&self, b: &Block, e: &Expr) -> Value {
        match e {
            Expr::Const(x, elem) => b.constant(*x, *elem),
            Expr::Local(l, at) => b.get(self.slot(l.0, at)),
            Expr::Load { buf, at, lanes, valid } => {
                assert!(valid.is_none(), "{}: a GPU's loads are guarded by branches", self.kernel.name);
                self.load(b, *buf, at, *lanes)
            }
            Expr::Splat(x, lanes) => b.splat(self.expr(b, x), self.kernel.elem(x), *lanes),
            Expr::Index(i) => b.cast(self.ix(b, i), b.value_type(Elem::I32, 1)),
            Expr::Ramp { base, step, lanes } => {
                let lane = |i: u32| b.cast(self.ix(b, &(base.clone() + step * i64::from(i))), b.value_type(Elem::I32, 1));
                b.pack(b.value_type(Elem::I32, *lanes), (0..*lanes).map(lane).collect())
            }
            Expr::Un(un, x) => self.unary(b, *un, self.expr(b, x), self.kernel.lanes(x)),
            Expr::Bin(bin, x, y) => self.binary(b, *bin, (self.kernel.elem(x), self.kernel.lanes(x)), self.expr(b, x), self.expr(b, y)),
            Expr::Fma(x, y, z) => b.fma(self.expr(b, x), self.expr(b, y), self.expr(b, z)),
            Expr::Select(p, x, y) => b.select(self.expr(b, p), self.expr(b, x), self.expr(b, y)),
            Expr::Cast(to, x) => self.cast(b, self.kernel.elem(x), *to, self.expr(b, x), self.kernel.lanes(x)),
            Expr::Keep { .. } => unreachable!("a GPU's kernel has no masks"),
            Expr::Word(..) | Expr::Words { .. } | Expr::Dot(..) => unreachable!("a GPU's kernel multiplies matrices"),
            Expr::Lanes(red, x) => {
                let (value, n) = (self.expr(b, x), self.kernel.lanes(x));
                let mut lanes: Vec<Value> = (0..n).map(|i| b.lane(value, i)).collect();
                let bin = if *red == Red::Sum { Bin::Add } else { Bin::Maximum };
                while lanes.len() > 1 {
                    let high = lanes.split_off(lanes.len() / 2);
                    lanes = lanes.into_iter().zip(high).map(|(x, y)| self.binary(b, bin, (Elem::F32, 1), x, y)).collect();
                }
                lanes[0]
            }
            Expr::Lane(x, i) => b.lane(self.expr(b, x), *i),
            Expr::Vector(lanes) => {
                let ty = b.value_type(self.kernel.elem(&lanes[0]), lanes.len() as u32);
                b.pack(ty, lanes.iter().map(|x| self.expr(b, x)).collect())
            }
            Expr::Pair(x, i) => {
                let value = self.expr(b, x);
                b.pack(b.value_type(self.kernel.elem(x), 2), vec![b.lane(value, *i), b.lane(value, i + 1)])
            }
            Expr::Random { key, counter } => {
                let lanes = self.kernel.lanes(e);
                let word = |x: &Expr| self.cast(b, self.kernel.elem(x), Elem::U32, self.expr(b, x), lanes);
                let (key, counter) = (word(key), word(counter));
                let spread = b.imul(key, b.splat(b.word(0x9E37_79B9), Elem::U32, lanes));
                mix(b, b.iadd(mix(b, b.xor(counter, key), lanes), spread), lanes)
            }
        }
    }

    fn unary(&self, b: &Block, un: Un, x: Value, lanes: u32) -> Value {
        match un {
            Un::Exp => b.exp(x),
            Un::Log => b.log(x),
            Un::Neg => b.fneg(x),
            Un::Sqrt => b.sqrt(x),
            Un::Rsqrt => b.rsqrt(x),
            Un::Recip => b.recip(x),
            Un::Tanh => b.tanh(x, lanes),
            Un::Sin => b.sine(x, lanes, false),
            Un::Cos => b.sine(x, lanes, true),
            Un::Abs => b.fabs(x),
            Un::Erf => b.erf(x, lanes),
        }
    }

    fn binary(&self, b: &Block, bin: Bin, (elem, lanes): (Elem, u32), x: Value, y: Value) -> Value {
        if elem == Elem::Bool {
            // truth has no order of its own
            let [x, y] = [x, y].map(|x| self.cast(b, elem, Elem::U32, x, lanes));
            return self.binary(b, bin, (Elem::U32, lanes), x, y);
        }
        let less = |x, y| match elem {
            Elem::F32 | Elem::BF16 | Elem::F16 => b.flt(x, y),
            Elem::I32 => b.slt(x, y),
            Elem::U32 | Elem::Bool => b.ult(x, y),
        };
        match (bin, elem) {
            (Bin::Add, Elem::F32) => b.fadd(x, y),
            (Bin::Sub, Elem::F32) => b.fsub(x, y),
            (Bin::Mul, Elem::F32) => b.fmul(x, y),
            (Bin::Add, _) => b.iadd(x, y),
            (Bin::Sub, _) => b.isub(x, y),
            (Bin::Mul, _) => b.imul(x, y),
            (Bin::Div, _) => b.fdiv(x, y),
            (Bin::Pow, _) => b.power(x, y, lanes),
            (Bin::Maximum, Elem::F32) => b.extreme(x, y, less(y, x)),
            (Bin::Minimum, Elem::F32) => b.extreme(x, y, less(x, y)),
            (Bin::Maximum, _) => b.select(less(y, x), x, y),
            (Bin::Minimum, _) => b.select(less(x, y), x, y),
            (Bin::Lt, _) => less(x, y),
            (Bin::Le, Elem::F32) => b.fle(x, y),
            (Bin::Le, Elem::I32) => b.sle(x, y),
            (Bin::Le, _) => b.ule(x, y),
            (Bin::Eq, Elem::F32) => b.feq(x, y),
            (Bin::Eq, _) => b.ieq(x, y),
            (Bin::And, _) => b.and(x, y),
            // a shift is by less than a word is long, and by a number without sign
            (Bin::Shr, _) => b.shift_right(x, b.and(self.cast(b, elem, Elem::U32, y, lanes), b.splat(b.word(31), Elem::U32, lanes))),
        }
    }

    fn cast(&self, b: &Block, from: Elem, to: Elem, x: Value, lanes: u32) -> Value {
        let number = |n: f64, elem| b.splat(b.constant(n, elem), elem, lanes);
        match (from, to) {
            _ if from == to => x,
            (Elem::F32, Elem::BF16 | Elem::F16) => b.cast(b.cast(x, b.vector(memory_elem(to), lanes)), b.value_type(Elem::F32, lanes)),
            (_, Elem::BF16 | Elem::F16) => self.cast(b, Elem::F32, to, self.cast(b, from, Elem::F32, x, lanes), lanes),
            (Elem::Bool, _) => b.select(x, number(1.0, to), number(0.0, to)),
            // NaN, which some devices hold equal to anything, is true
            (Elem::F32, Elem::Bool) => b.select(b.is_nan(x), number(1.0, to), b.fne(x, number(0.0, from))),
            (Elem::F32, Elem::I32 | Elem::U32) => b.to_whole(x, to, lanes),
            (_, Elem::Bool) => b.ine(x, number(0.0, from)),
            _ => b.cast(x, b.value_type(to, lanes)),
        }
    }
}

/// As `ir::random_bits` mixes.
fn mix(b: &Block, x: Value, lanes: u32) -> Value {
    let word = |n: u32| b.splat(b.word(n), Elem::U32, lanes);
    let x = b.xor(x, b.shift_right(x, word(16)));
    let x = b.imul(x, word(0x7FEB_352D));
    let x = b.xor(x, b.shift_right(x, word(15)));
    let x = b.imul(x, word(0x846C_A68B));
    b.xor(x, b.shift_right(x, word(16)))
}
