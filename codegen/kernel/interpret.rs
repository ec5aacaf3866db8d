//! Runs a kernel as it will be printed, on the host, slowly: what printers are checked against.

use super::{Buf, Elem, Expr, Fragment, GROUP, GROUP_DEPTH, GROUP_ROWS, Ix, Kernel, LocalId, PLANE, Stmt};
use ir::{Bin, DType, Red};

/// A buffer of an interpreted kernel: one number an element, whatever its type.
pub type Memory = Vec<f64>;

/// Runs the units, or cubes, `lo..hi`. A cube's threads run together, statement by statement. Panics on an access outside a buffer, on a
/// read or write that meets another thread's with no barrier between them, on a barrier that not every thread reaches, and on an index of
/// a GPU's kernel below 0; the message names the kernel: such a kernel is wrong.
pub fn interpret(kernel: &Kernel, buffers: &mut [Memory], lo: i64, hi: i64) {
    let mut seen = buffers.iter().map(|b| vec![Access::default(); if kernel.cube.is_some() { b.len() } else { 0 }]).collect::<Vec<_>>();
    let Some(threads) = kernel.cube else { return Machine::new(kernel, buffers, &mut seen, (1, lo, Some(hi))).block(&kernel.body, &[0]) };
    for cube in lo..hi {
        Machine::new(kernel, buffers, &mut seen, (threads, cube, None)).block(&kernel.body, &(0..threads).collect::<Vec<_>>());
    }
}

/// Who touched a cell last: (cube, thread, barriers before), where a reader that is not alone has no thread.
#[derive(Clone, Copy, Default)]
struct Access {
    write: Option<(i64, usize, usize)>,
    read: Option<(i64, Option<usize>, usize)>,
    /// A copy to it has started and not landed.
    under_way: bool,
}

/// A thread's index variables, local arrays and copies under way.
struct Thread {
    vars: Vec<i64>,
    locals: Vec<Vec<Vec<f64>>>,
    /// Copies that no group has yet, and groups that have not landed, oldest first.
    open: Vec<Copy>,
    groups: Vec<Vec<Copy>>,
}

/// Elements on their way to a region of shared memory.
struct Copy {
    region: usize,
    to: i64,
    values: Vec<f64>,
}

struct Machine<'a> {
    kernel: &'a Kernel,
    buffers: &'a mut [Memory],
    scratch: Vec<Memory>,
    shared: Vec<Memory>,
    /// Of the buffers, and of shared memory.
    seen: &'a mut [Vec<Access>],
    seen_shared: Vec<Vec<Access>>,
    threads: Vec<Thread>,
    /// The thread whose turn it is.
    now: usize,
    cube: i64,
    barriers: usize,
}

impl<'a> Machine<'a> {
    fn new(
        kernel: &'a Kernel,
        buffers: &'a mut [Memory],
        seen: &'a mut [Vec<Access>],
        (threads, first, hi): (usize, i64, Option<i64>),
    ) -> Machine<'a> {
        let thread = |t: usize| {
            let mut vars = vec![0; kernel.vars.len()];
            (vars[0], vars[1]) = (first, hi.unwrap_or(t as i64));
            let locals = kernel.locals.iter().map(|l| vec![vec![f64::NAN; l.lanes as usize]; l.count]).collect();
            Thread { vars, locals, open: vec![], groups: vec![] }
        };
        let scratch = kernel.scratch.iter().map(|(_, n)| vec![0.0; *n]).collect();
        let shared = kernel.shared.iter().map(|s| vec![f64::NAN; s.count]).collect();
        let seen_shared = kernel.shared.iter().map(|s| vec![Access::default(); s.count]).collect();
        let threads = (0..threads).map(thread).collect();
        Machine { kernel, buffers, scratch, shared, seen, seen_shared, threads, now: 0, cube: first, barriers: 0 }
    }

    /// Runs statements for the threads of a list.
    fn block(&mut self, body: &[Stmt], who: &[usize]) {
        for s in body {
            self.stmt(s, who);
        }
    }

    fn vars(&mut self) -> &mut Vec<i64> {
        &mut self.threads[self.now].vars
    }

    /// Calls `f` for one thread after the other.
    fn each(&mut self, who: &[usize], mut f: impl FnMut(&mut Self)) {
        for t in who {
            self.now = *t;
            f(self);
        }
    }

    fn stmt(&mut self, s: &Stmt, who: &[usize]) {
        match s {
            Stmt::For { var, lo, hi, step, body, .. } => {
                self.each(who, |m| m.vars()[var.0 as usize] = m.ix(lo));
                let bounds: Vec<i64> = who.iter().map(|t| self.of(*t, hi)).collect();
                loop {
                    let going: Vec<usize> =
                        who.iter().zip(&bounds).filter(|(t, hi)| self.threads[**t].vars[var.0 as usize] < **hi).map(|(t, _)| *t).collect();
                    if going.is_empty() {
                        return;
                    }
                    self.block(body, &going);
                    self.each(&going, |m| m.vars()[var.0 as usize] += step);
                }
            }
            Stmt::Let(v, ix) => self.each(who, |m| m.vars()[v.0 as usize] = m.ix(ix)),
            Stmt::LetValue(v, e) => self.each(who, |m| m.vars()[v.0 as usize] = m.expr(e)[0] as i64),
            Stmt::Set(l, at, e) => self.each(who, |m| {
                let (at, value) = (m.ix(at) as usize, m.expr(e));
                assert_eq!(value.len(), m.kernel.locals[l.0 as usize].lanes as usize, "{}: lanes of a local", m.kernel.name);
                m.threads[m.now].locals[l.0 as usize][at] = value;
            }),
            Stmt::Store { buf, at, value, valid } => self.each(who, |m| {
                let value = m.expr(value);
                let at = m.ix(at);
                m.aligned(*buf, at, value.len());
                let n = m.lanes_valid(value.len(), valid);
                let elem = m.memory_elem(*buf);
                for (i, x) in value.into_iter().enumerate().take(n) {
                    *m.cell(*buf, at + i as i64, true) = elem.dtype().round(x);
                }
            }),
            Stmt::If { a, b, then, otherwise } => {
                let (yes, no): (Vec<usize>, Vec<usize>) = who.iter().partition(|t| self.of(**t, a) < self.of(**t, b));
                for (body, who) in [(then, yes), (otherwise, no)] {
                    if !who.is_empty() {
                        self.block(body, &who);
                    }
                }
            }
            Stmt::Prefetch(..) => {}
            Stmt::Transpose { src, at, src_row, dst, to, dst_row } => {
                let n = self.tile_width();
                let (at, to) = (self.ix(at), self.ix(to));
                let words = self.memory_elem(*dst) == Elem::U32 && self.memory_elem(*src).is_half();
                for i in 0..n {
                    for j in 0..n {
                        let x = if words { self.word(*src, at + i * src_row + 2 * j) } else { *self.cell(*src, at + i * src_row + j, false) };
                        *self.cell(*dst, to + j * dst_row + i, true) = x;
                    }
                }
            }
            Stmt::CopyAsync { src, from, dst, to, valid } => self.each(who, |m| m.copy(*src, from, *dst, to, valid)),
            Stmt::Commit => self.each(who, |m| {
                let group = std::mem::take(&mut m.threads[m.now].open);
                m.threads[m.now].groups.push(group);
            }),
            Stmt::Wait(n) => self.each(who, |m| m.land(*n)),
            Stmt::LoadMatrix { to, src, row, transposed } => self.planes(who, |m, plane| m.load_matrix(plane, *to, *src, row, *transposed)),
            Stmt::Mma { acc, a, b, half } => self.planes(who, |m, plane| m.mma(plane, *acc, *a, *b, *half as usize)),
            Stmt::GroupMma { acc, a, b, columns } => {
                for group in who.chunks(GROUP) {
                    let whole = group.len() == GROUP && group[0].is_multiple_of(GROUP) && group[GROUP - 1] == group[0] + GROUP - 1;
                    assert!(whole, "{}: a group's product without all of its threads", self.kernel.name);
                    self.group_mma(group[0], *acc, a, b, *columns);
                }
            }
            Stmt::Fence => {}
            Stmt::Pack { to, from } => self.each(who, |m| {
                let elem = m.kernel.locals[to.0.0 as usize].elem.dtype();
                let locals = &mut m.threads[m.now].locals;
                let value = from.iter().flat_map(|f| locals[f.0.0 as usize][f.1].clone()).map(|x| elem.round(x)).collect();
                locals[to.0.0 as usize][to.1] = value;
            }),
            Stmt::Exchange { to, from, bits } => self.planes(who, |m, first| {
                let values: Vec<Vec<f64>> = (first..first + PLANE).map(|t| m.threads[t].locals[from.0 as usize][0].clone()).collect();
                for l in 0..PLANE {
                    m.threads[first + l].locals[to.0 as usize][0] = values[l ^ bits].clone();
                }
            }),
            Stmt::Barrier => {
                let all = self.threads.len();
                assert_eq!(who.len(), all, "{}: {} of {all} threads reach a barrier", self.kernel.name, who.len());
                self.barriers += 1;
            }
        }
    }

    fn memory_elem(&self, buf: Buf) -> super::Elem {
        match buf {
            Buf::Arg(i) => self.kernel.params[i].elem,
            Buf::Shared(i) => self.kernel.shared[i].elem,
            Buf::Scratch(i) => self.kernel.scratch[i].0,
        }
    }

    /// A transposed tile is as wide as the kernel's vectors.
    fn tile_width(&self) -> i64 {
        self.kernel.locals.iter().map(|l| i64::from(l.lanes)).max().unwrap_or(1)
    }

    fn lanes_valid(&self, lanes: usize, valid: &Option<Ix>) -> usize {
        valid.as_ref().map_or(lanes, |v| self.ix(v).clamp(0, lanes as i64) as usize)
    }

    /// Calls `f` with the first thread of each plane, all of whose threads must be there.
    fn planes(&mut self, who: &[usize], mut f: impl FnMut(&mut Self, usize)) {
        for plane in who.chunks(PLANE) {
            let whole = plane.len() == PLANE && plane[0].is_multiple_of(PLANE) && plane[PLANE - 1] == plane[0] + PLANE - 1;
            assert!(whole, "{}: a plane's product without all of its threads", self.kernel.name);
            f(self, plane[0]);
        }
    }

    fn copy(&mut self, src: usize, from: &Ix, dst: Buf, to: &Ix, valid: &Ix) {
        let (from, to, valid) = (self.ix(from), self.ix(to), self.ix(valid));
        let Buf::Shared(region) = dst else { panic!("{}: copies go to shared memory", self.kernel.name) };
        assert!(from % 8 == 0, "{}: sixteen bytes are copied from element {from}", self.kernel.name);
        self.aligned(dst, to, 8);
        assert!((0..=8).contains(&valid), "{}: {valid} of eight elements", self.kernel.name);
        let values = (0..8).map(|i| if i < valid { *self.cell(Buf::Arg(src), from + i, false) } else { 0.0 }).collect();
        for i in 0..8 {
            // from now on nobody may read it, and nobody may be reading it
            self.cell(dst, to + i, true);
            self.seen_shared[region][(to + i) as usize].under_way = true;
        }
        self.threads[self.now].open.push(Copy { region, to, values });
    }

    fn land(&mut self, but: usize) {
        let groups = &mut self.threads[self.now].groups;
        let landed: Vec<Copy> = groups.drain(..groups.len().saturating_sub(but)).flatten().collect();
        for c in landed {
            for (i, x) in c.values.into_iter().enumerate() {
                let at = c.to + i as i64;
                self.seen_shared[c.region][at as usize].under_way = false;
                *self.cell(Buf::Shared(c.region), at, true) = x;
            }
        }
    }

    fn load_matrix(&mut self, first: usize, to: Fragment, src: Buf, row: &Ix, transposed: bool) {
        let rows: Vec<i64> = (0..PLANE).map(|l| self.of(first + l, row)).collect();
        for l in 0..PLANE {
            self.now = first + l;
            let mut value = vec![];
            for matrix in 0..4 {
                for e in 0..2 {
                    let (r, c) = (l / 4, 2 * (l % 4) + e);
                    let (r, c) = if transposed { (c, r) } else { (r, c) };
                    value.push(*self.cell(src, rows[8 * matrix + r] + c as i64, false));
                }
            }
            self.threads[first + l].locals[to.0.0 as usize][to.1] = value;
        }
        for l in 0..PLANE {
            self.aligned(src, rows[l], 8);
        }
    }

    fn mma(&mut self, first: usize, acc: Fragment, a: Fragment, b: Fragment, half: usize) {
        let get = |m: &Self, l: usize, f: Fragment, i: usize| m.threads[first + l].locals[f.0.0 as usize][f.1][i];
        let (mut left, mut right) = ([[0.0; 16]; 16], [[0.0; 8]; 16]);
        for l in 0..PLANE {
            for e in 0..2 {
                let (g, q) = (l / 4, 2 * (l % 4) + e);
                for (register, (row, k)) in [(g, q), (g + 8, q), (g, q + 8), (g + 8, q + 8)].into_iter().enumerate() {
                    left[row][k] = get(self, l, a, 2 * register + e);
                }
                for (register, k) in [q, q + 8].into_iter().enumerate() {
                    right[k][g] = get(self, l, b, 4 * half + 2 * register + e);
                }
            }
        }
        for l in 0..PLANE {
            for i in 0..4 {
                let (row, col) = (l / 4 + 8 * (i / 2), 2 * (l % 4) + i % 2);
                let sum: f64 = (0..16).map(|k| left[row][k] * right[k][col]).sum();
                let x = &mut self.threads[first + l].locals[acc.0.0 as usize][acc.1][i];
                *x = f64::from((*x + sum) as f32);
            }
        }
    }

    fn group_mma(&mut self, first: usize, acc: LocalId, a: &(Buf, Ix), b: &(Buf, Ix), columns: usize) {
        let matrix = |m: &mut Self, (buf, at): &(Buf, Ix), rows: usize| -> Vec<Vec<f64>> {
            m.now = first;
            let at = m.ix(at);
            let cell = |r: usize, k: usize| at + (r * GROUP_DEPTH + ((k / 8) ^ (r % 8)) * 8 + k % 8) as i64;
            (0..rows).map(|r| (0..GROUP_DEPTH).map(|k| *m.cell(*buf, cell(r, k), false)).collect()).collect()
        };
        let (left, right) = (matrix(self, a, GROUP_ROWS), matrix(self, b, columns));
        for t in 0..GROUP {
            let (w, l) = (t / PLANE, t % PLANE);
            for i in 0..columns / 2 {
                let (row, col) = (16 * w + l / 4 + 8 * (i / 2 % 2), i / 4 * 8 + 2 * (l % 4) + i % 2);
                let sum: f64 = left[row].iter().zip(&right[col]).map(|(x, y)| x * y).sum();
                let x = &mut self.threads[first + t].locals[acc.0 as usize][0][i];
                *x = f64::from((*x + sum) as f32);
            }
        }
    }

    /// A buffer that is addressed in vectors is so everywhere.
    fn aligned(&self, buf: Buf, at: i64, lanes: usize) {
        let width = match buf {
            Buf::Arg(i) => self.kernel.widths[i],
            Buf::Shared(i) => self.kernel.shared[i].lanes,
            Buf::Scratch(_) => 1,
        } as usize;
        assert!(width == 1 || lanes == width && at % width as i64 == 0, "{}: {lanes} lanes at {at} of {buf:?}, {width} wide", self.kernel.name);
    }

    fn cell(&mut self, buf: Buf, at: i64, write: bool) -> &mut f64 {
        let name = &self.kernel.name;
        let (memory, seen) = match buf {
            Buf::Arg(i) => (&mut self.buffers[i], Some(&mut self.seen[i])),
            Buf::Scratch(i) => (&mut self.scratch[i], None),
            Buf::Shared(i) => (&mut self.shared[i], Some(&mut self.seen_shared[i])),
        };
        let (len, place) = (memory.len(), usize::try_from(at).unwrap_or(usize::MAX));
        let Some(cell) = memory.get_mut(place) else { panic!("{name}: {buf:?}[{at}] of {len}") };
        if let Some(seen) = seen.filter(|_| self.kernel.cube.is_some()) {
            let clash = seen[place].touch((self.cube, self.now, self.barriers), write);
            assert!(!seen[place].under_way, "{name}: thread {} of cube {} touches {buf:?}[{at}] before its copy has landed", self.now, self.cube);
            assert!(!clash, "{name}: thread {} of cube {} meets another at {buf:?}[{at}] with no barrier between them", self.now, self.cube);
        }
        cell
    }

    /// Two elements of 16 bits as a word.
    fn word(&mut self, buf: Buf, at: i64) -> f64 {
        assert_eq!(self.memory_elem(buf), Elem::BF16, "{}: words are of bfloat16", self.kernel.name);
        word(*self.cell(buf, at, false), *self.cell(buf, at + 1, false))
    }

    /// An index as a thread sees it.
    fn of(&self, thread: usize, ix: &Ix) -> i64 {
        let two = |a: &Ix, b: &Ix| (self.of(thread, a), self.of(thread, b));
        let value = match ix {
            Ix::Const(n) => *n,
            Ix::Var(v) => return self.threads[thread].vars[v.0 as usize],
            Ix::Add(a, b) => {
                let (a, b) = two(a, b);
                a + b
            }
            Ix::Sub(a, b) => {
                let (a, b) = two(a, b);
                a - b
            }
            Ix::Mul(a, b) => {
                let (a, b) = two(a, b);
                a * b
            }
            Ix::Div(a, b) => {
                let (a, b) = two(a, b);
                a / b
            }
            Ix::Rem(a, b) => {
                let (a, b) = two(a, b);
                a % b
            }
            Ix::Min(a, b) => {
                let (a, b) = two(a, b);
                a.min(b)
            }
            Ix::Xor(a, b) => {
                let (a, b) = two(a, b);
                a ^ b
            }
            Ix::Max(a, b) => {
                let (a, b) = two(a, b);
                a.max(b)
            }
        };
        assert!(value >= 0 || self.kernel.cube.is_none() || matches!(ix, Ix::Min(..) | Ix::Max(..)), "{}: an index is {value}", self.kernel.name);
        value
    }

    fn ix(&self, ix: &Ix) -> i64 {
        self.of(self.now, ix)
    }

    fn expr(&mut self, e: &Expr) -> Vec<f64> {
        match e {
            Expr::Const(x, Elem::F32) => vec![f64::from(*x as f32)],
            Expr::Const(x, _) => vec![*x],
            Expr::Local(l, at) => self.threads[self.now].locals[l.0 as usize][self.ix(at) as usize].clone(),
            Expr::Load { buf, at, lanes, valid } => {
                let (at, n) = (self.ix(at), self.lanes_valid(*lanes as usize, valid));
                self.aligned(*buf, at, *lanes as usize);
                (0..*lanes as usize).map(|i| if i < n { *self.cell(*buf, at + i as i64, false) } else { 0.0 }).collect()
            }
            Expr::Splat(x, n) => vec![self.expr(x)[0]; *n as usize],
            Expr::Index(i) => vec![self.ix(i) as f64],
            Expr::Ramp { base, step, lanes } => (0..i64::from(*lanes)).map(|i| (self.ix(base) + i * step) as f64).collect(),
            Expr::Un(u, x) => self.expr(x).into_iter().map(|x| f64::from(ir::unary(*u, x) as f32)).collect(),
            Expr::Bin(b, x, y) => {
                let elem = self.elem(x);
                let (x, y) = (self.expr(x), self.expr(y));
                assert_eq!(x.len(), y.len(), "{}: lanes of {b:?}", self.kernel.name);
                x.into_iter().zip(y).map(|(x, y)| binary(*b, elem, x, y)).collect()
            }
            Expr::Fma(a, b, c) => {
                let (a, b, c) = (self.expr(a), self.expr(b), self.expr(c));
                (0..a.len()).map(|i| f64::from((a[i] as f32).mul_add(b[i] as f32, c[i] as f32))).collect()
            }
            Expr::Word(a, b) => self.expr(a).into_iter().zip(self.expr(b)).map(|(a, b)| word(a, b)).collect(),
            Expr::Words { buf, at, lanes } => {
                let at = self.ix(at);
                (0..i64::from(*lanes)).map(|i| self.word(*buf, at + 2 * i)).collect()
            }
            Expr::Dot(a, b, c) => {
                let (a, b, c) = (self.expr(a), self.expr(b), self.expr(c));
                let [a, b] = [a, b].map(|words| words.into_iter().map(halves).collect::<Vec<_>>());
                (0..a.len()).map(|i| f64::from(a[i][0].mul_add(b[i][0], a[i][1].mul_add(b[i][1], c[i] as f32)))).collect()
            }
            Expr::Select(p, a, b) => {
                let (p, a, b) = (self.expr(p), self.expr(a), self.expr(b));
                (0..p.len()).map(|i| if p[i] != 0.0 { a[i] } else { b[i] }).collect()
            }
            Expr::Cast(to, x) => {
                let from = self.elem(x);
                self.expr(x).into_iter().map(|x| cast(from, *to, x)).collect()
            }
            Expr::Keep { valid, a, b } => {
                let (n, a, b) = (self.ix(valid), self.expr(a), self.expr(b));
                (0..a.len()).map(|i| if (i as i64) < n { a[i] } else { b[i] }).collect()
            }
            Expr::Lanes(red, x) => vec![halve(*red, self.expr(x))],
            Expr::Lane(x, i) => vec![self.expr(x)[*i as usize]],
            Expr::Vector(lanes) => lanes.iter().map(|x| self.expr(x)[0]).collect(),
            Expr::Pair(x, i) => self.expr(x)[*i as usize..*i as usize + 2].to_vec(),
            Expr::Random { key, counter } => {
                let (k, c) = (self.expr(key), self.expr(counter));
                (0..c.len()).map(|i| f64::from(ir::random_bits(k[i.min(k.len() - 1)] as i64 as u32, c[i] as i64 as u32))).collect()
            }
        }
    }

    /// The element type of an expression.
    fn elem(&self, e: &Expr) -> Elem {
        self.kernel.elem(e)
    }
}

impl Access {
    /// Notes an access, and says whether it meets another thread's with nothing to order them: of the same cube since its last barrier,
    /// or of another cube at any time.
    fn touch(&mut self, (cube, thread, barriers): (i64, usize, usize), write: bool) -> bool {
        let meets = |c: i64, t: Option<usize>, b: usize| c != cube || (b == barriers && t != Some(thread));
        let mut clash = self.write.is_some_and(|(c, t, b)| meets(c, Some(t), b));
        if write {
            clash |= self.read.is_some_and(|(c, t, b)| meets(c, t, b));
            self.write = Some((cube, thread, barriers));
        } else {
            let alone = self.read.is_none_or(|(c, t, b)| c == cube && (t == Some(thread) || b < barriers));
            self.read = Some((cube, alone.then_some(thread), barriers));
        }
        clash
    }
}

/// The bits of two numbers that `bfloat16` holds, as a whole number.
fn word(first: f64, second: f64) -> f64 {
    let bits = |x: f64| (x as f32).to_bits();
    f64::from(bits(first) >> 16 | bits(second) & 0xFFFF_0000)
}

fn halves(word: f64) -> [f32; 2] {
    let word = word as u32;
    [word << 16, word & 0xFFFF_0000].map(f32::from_bits)
}

/// Halves are combined until one lane is left, as the printer's shuffles do.
fn halve(red: Red, mut x: Vec<f64>) -> f64 {
    while x.len() > 1 {
        let high = x.split_off(x.len() / 2);
        x = x.into_iter().zip(high).map(|(a, b)| binary(if red == Red::Sum { Bin::Add } else { Bin::Maximum }, Elem::F32, a, b)).collect();
    }
    x[0]
}

/// As evaluation means it, rounded as a kernel rounds; whole numbers wrap at 32 bits.
fn binary(bin: Bin, elem: Elem, x: f64, y: f64) -> f64 {
    match (bin, elem) {
        (_, Elem::I32 | Elem::U32) => ir::binary(bin, elem.dtype(), x, y),
        (Bin::Maximum | Bin::Minimum, _) => ir::binary(bin, DType::F32, x, y),
        _ => f64::from(ir::binary(bin, DType::F32, x, y) as f32),
    }
}

fn cast(from: Elem, to: Elem, x: f64) -> f64 {
    match to {
        Elem::F32 | Elem::BF16 | Elem::F16 => to.dtype().round(x),
        Elem::I32 if from == Elem::U32 => f64::from(x as u32 as i32),
        Elem::U32 if from == Elem::I32 => f64::from(x as i32 as u32),
        Elem::I32 => f64::from(x as i32),
        Elem::U32 => f64::from(x as u32),
        Elem::Bool => f64::from(u8::from(x != 0.0)),
    }
}
