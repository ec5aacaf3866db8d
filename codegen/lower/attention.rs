//! Attention, forward and backward, without scores in memory: a block of rows of them lives in scratch.
//!
//! FlashAttention-2 (Dao 2023), with whole rows of a query block at a time, which a CPU's cache holds: the softmax needs no rescaling.
//! Heads are independent; the backward of grouped heads goes through a group one head after the other.

use super::Cpu;
use super::point::access_at;
use super::rows::split_index;
use super::tile::{Acc, Panel};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, LocalId, Writer, load};
use crate::spec::{Access, Heads, Spec};
use ir::{Red, Un};

/// Row blocks of the backward's query block, in tiles.
const TILES: usize = 16;

/// What is the same for every head.
struct Shape<'a> {
    h: &'a Heads,
    target: Cpu,
    /// Rows and vectors of the register tile.
    rows: usize,
    vectors: usize,
    /// Row length of the scores in scratch.
    pitch: usize,
    scale: LocalId,
}

/// A matrix of one head: where it begins and its strides.
struct Matrix {
    buf: Buf,
    at: Ix,
    /// Step from one position to the next.
    row: i64,
    /// Step along the depth.
    col: i64,
}

impl Matrix {
    fn new(w: &mut Writer, a: &Access, head: &[Ix]) -> Matrix {
        let rank = a.strides.len();
        let index: Vec<Ix> = head.iter().cloned().chain([Ix::Const(0), Ix::Const(0)]).collect();
        let at = w.name("m", access_at(a, &index));
        Matrix { buf: Buf::Arg(a.arg), at, row: a.strides[rank - 2], col: a.strides[rank - 1] }
    }
    fn cell(&self, row: Ix, col: Ix) -> Ix {
        self.at.clone() + row * self.row + col * self.col
    }
    fn scalar(&self, row: Ix, col: Ix) -> Expr {
        load(self.buf, self.cell(row, col), 1, None)
    }
}

impl<'a> Shape<'a> {
    fn new(h: &'a Heads, target: &Cpu, w: &mut Writer, scale: usize) -> Shape<'a> {
        let (rows, vectors) = target.tile(h.keys.max(h.depth));
        let width = vectors * target.lanes as usize;
        let local = w.local("scale", Elem::F32, 1, 1);
        w.set(local, 0, load(Buf::Arg(scale), Ix::Const(0), 1, None));
        Shape { h, target: *target, rows, vectors, pitch: h.keys.next_multiple_of(width), scale: local }
    }

    fn lanes(&self) -> i64 {
        i64::from(self.target.lanes)
    }
    fn width(&self) -> usize {
        self.vectors * self.target.lanes as usize
    }
    fn scale(&self) -> Expr {
        Writer::get(self.scale, 0)
    }

    /// Keys that row `i` sees.
    fn visible(&self, i: Ix) -> Ix {
        if self.h.causal() { (i + 1i64).min(self.h.keys) } else { Ix::from(self.h.keys) }
    }

    /// The columns of x, transposed: panels of keys, depth by depth.
    fn pack(&self, w: &mut Writer, x: &Matrix, depth: usize, dst: Buf) {
        w.each("p", 0i64, self.h.keys, self.width() as i64, |w, p| {
            let at = w.name("at", x.cell(p.clone(), Ix::Const(0)));
            let valid = (!self.h.keys.is_multiple_of(self.width())).then(|| Ix::from(self.h.keys) - p.clone());
            let (depth_ix, to) = (Ix::from(depth), p * depth);
            Panel { src: x.buf, at, along: x.col, across: x.row, depth: &depth_ix, width: self.width(), valid, dst, to, lanes: self.target.lanes }
                .pack(w);
        });
    }

    /// scores[i, :end] = Σ x(row + i, d) panel(d, :) for `rows` rows; row 0 goes to line `line` of the scores.
    fn scores(&self, w: &mut Writer, x: &Matrix, row: &Ix, rows: usize, depth: usize, panels: Buf, end: &Ix, scores: Buf, line: &Ix) {
        let lanes = self.lanes();
        w.each("jp", 0i64, end.clone(), self.width() as i64, |w, jp| {
            let acc = Acc::new(w, rows, self.vectors, self.target.lanes);
            acc.zero(w);
            let a = |i: &Ix, k: &Ix| x.scalar(row.clone() + i.clone(), k.clone());
            let b = |k: &Ix, j: &Ix| load(panels, jp.clone() * depth + k.clone() * self.width() + j.clone() * lanes, self.target.lanes, None);
            acc.product(w, Ix::Const(0), Ix::from(depth), &a, &b);
            acc.each(w, &mut |w, i, j| {
                let at = (line.clone() + i.clone()) * self.pitch + jp.clone() + j.clone() * lanes;
                w.store(scores, at, acc.get(i, j), None);
            });
        });
    }

    /// out(row + i, :) = f(i, Σ a(i, k) x(k, :)) for k < end.
    fn combine(
        &self,
        w: &mut Writer,
        rows: usize,
        (from, end): (Ix, Ix),
        a: &dyn Fn(&Ix, &Ix) -> Expr,
        x: &Matrix,
        depth: usize,
        out: (&Matrix, &Ix),
        add: bool,
        finish: &dyn Fn(&Ix, Expr) -> Expr,
    ) {
        let lanes = self.lanes();
        let (_, vectors) = self.target.tile(depth);
        let width = vectors * self.target.lanes as usize;
        w.each("dp", 0i64, depth, width as i64, |w, dp| {
            let acc = Acc::new(w, rows, vectors, self.target.lanes);
            let column = |j: &Ix| dp.clone() + j.clone() * lanes;
            let left = |j: &Ix| (!depth.is_multiple_of(acc.width())).then(|| Ix::from(depth) - column(j));
            let cell = |i: &Ix, j: &Ix| out.0.cell(out.1.clone() + i.clone(), column(j));
            if add {
                acc.fill(w, &mut |_, i, j| load(out.0.buf, cell(i, j), self.target.lanes, left(j)));
            } else {
                acc.zero(w);
            }
            let b = |k: &Ix, j: &Ix| load(x.buf, x.cell(k.clone(), column(j)), self.target.lanes, left(j));
            acc.product(w, from.clone(), end.clone(), a, &b);
            acc.each(w, &mut |w, i, j| w.store(out.0.buf, cell(i, j), finish(i, acc.get(i, j)), left(j)));
        });
    }

    /// Calls `body` for blocks of rows in lo..hi, the last with however many are left.
    fn row_blocks(&self, w: &mut Writer, n: usize, body: &mut dyn FnMut(&mut Writer, &Ix, usize)) {
        let tail = n % self.rows;
        w.each("i0", 0i64, n - tail, self.rows as i64, |w, i| {
            let i = w.name("i0", i);
            body(w, &i, self.rows);
        });
        if tail > 0 {
            body(w, &Ix::from(n - tail), tail);
        }
    }
}

/// Operands: q, k, v, scale, o, lse.
pub(crate) fn forward(spec: &Spec, h: &Heads, name: &str, target: &Cpu) -> Kernel {
    let mut w = Writer::new(name, spec.params.clone(), h.heads.iter().product());
    let s = Shape::new(h, target, &mut w, 3);
    let panels = w.scratch(s.pitch * h.depth);
    let scores = w.scratch(s.rows * s.pitch);
    let inverse = w.scratch(s.rows);
    let (lo, hi) = (w.lo(), w.hi());
    w.each("u", lo, hi, 1, |w, u| {
        let u = w.name("u", u);
        let head = split_index(w, u, &h.heads);
        let shared = grouped(w, h, &head);
        let [q, o] = [&h.q, &h.o].map(|a| Matrix::new(w, a, &head));
        let [k, v] = [&h.k, &h.v].map(|a| Matrix::new(w, a, &shared));
        s.pack(w, &k, h.depth, panels);
        s.row_blocks(w, h.queries, &mut |w, i0, rows| {
            let seen = w.name("seen", s.visible(i0.clone() + (rows as i64 - 1)));
            let end = w.name("end", seen.clone().up_to(s.width() as i64));
            s.scores(w, &q, i0, rows, h.depth, panels, &end, scores, &Ix::Const(0));
            w.each("i", 0i64, rows, 1, |w, i| {
                let row = i0.clone() + i.clone();
                let visible = w.name("visible", s.visible(row.clone()));
                let base = w.name("base", i.clone() * s.pitch);
                let (max, sum) = softmax_row(w, &s, scores, &base, &visible, &end);
                let total = Expr::un(Un::Log, sum.clone()).plus(max);
                w.store(Buf::Arg(h.lse.arg), access_at(&h.lse, &head.iter().cloned().chain([row]).collect::<Vec<_>>()), total, None);
                w.store(inverse, i, Expr::un(Un::Recip, sum), None);
            });
            let p = |i: &Ix, j: &Ix| load(scores, i.clone() * s.pitch + j.clone(), 1, None);
            let finish = |i: &Ix, x: Expr| x.times(load(inverse, i.clone(), 1, None).splat(target.lanes));
            s.combine(w, rows, (Ix::Const(0), seen), &p, &v, h.value_depth, (&o, i0), false, &finish);
        });
    });
    w.finish()
}

/// The head of k and v that a query head reads.
fn grouped(w: &mut Writer, h: &Heads, head: &[Ix]) -> Vec<Ix> {
    let mut out = head.to_vec();
    if let (Some(last), true) = (out.last_mut(), h.labels.group > 1) {
        *last = w.name("shared", last.clone().div(i64::from(h.labels.group)));
    }
    out
}

/// Turns a row of scores into exp(scale · s − max), 0 where nothing is visible; gives the maximum and the sum.
fn softmax_row(w: &mut Writer, s: &Shape, scores: Buf, base: &Ix, visible: &Ix, end: &Ix) -> (Expr, Expr) {
    let lanes = s.target.lanes;
    let (max, sum) = (w.local("max", Elem::F32, lanes, 1), w.local("sum", Elem::F32, lanes, 1));
    let top = w.local("top", Elem::F32, 1, 1);
    let lowest = Expr::f32(-3.0e38);
    w.set(max, 0, lowest.clone().splat(lanes));
    let scaled = |c: &Ix| load(scores, base.clone() + c.clone(), lanes, None).times(s.scale().splat(lanes));
    w.each("c", 0i64, visible.clone(), i64::from(lanes), |w, c| {
        let (x, have) = (w.local("x", Elem::F32, lanes, 1), Writer::get(max, 0));
        w.set(x, 0, scaled(&c));
        // NaN reaches the row through its exponential
        let more = Expr::larger(Writer::get(x, 0), have.clone());
        w.set(max, 0, Expr::Keep { valid: visible.clone() - c, a: Box::new(more), b: Box::new(have) });
    });
    w.set(top, 0, reduce(Red::Max, Writer::get(max, 0), lanes));
    w.set(sum, 0, Expr::f32(0.0).splat(lanes));
    w.each("c", 0i64, end.clone(), i64::from(lanes), |w, c| {
        let e = Expr::un(Un::Exp, scaled(&c).minus(Writer::get(top, 0).splat(lanes)));
        let x = w.local("x", Elem::F32, lanes, 1);
        w.set(x, 0, Expr::Keep { valid: visible.clone() - c.clone(), a: Box::new(e), b: Box::new(Expr::f32(0.0).splat(lanes)) });
        w.set(sum, 0, Writer::get(sum, 0).plus(Writer::get(x, 0)));
        w.store(scores, base.clone() + c, Writer::get(x, 0), None);
    });
    let total = w.local("total", Elem::F32, 1, 1);
    w.set(total, 0, reduce(Red::Sum, Writer::get(sum, 0), lanes));
    (Writer::get(top, 0), Writer::get(total, 0))
}

fn reduce(red: Red, x: Expr, lanes: u32) -> Expr {
    if lanes == 1 { x } else { Expr::Lanes(red, Box::new(x)) }
}

/// Operands: q, k, v, o, lse, do, scale, dq, dk, dv. A unit is a head of k and v with all query heads that read it.
pub(crate) fn backward(spec: &Spec, h: &Heads, name: &str, target: &Cpu) -> Kernel {
    let group = h.labels.group as usize;
    let mut units = h.heads.clone();
    if let (Some(last), true) = (units.last_mut(), group > 1) {
        *last /= group;
    }
    let mut w = Writer::new(name, spec.params.clone(), units.iter().product());
    let s = Shape::new(h, target, &mut w, 6);
    let block = (s.rows * TILES).min(h.queries.next_multiple_of(s.rows)).max(1);
    let (k_panels, v_panels) = (w.scratch(s.pitch * h.depth), w.scratch(s.pitch * h.value_depth));
    let (p, ds) = (w.scratch(block * s.pitch), w.scratch(block * s.pitch));
    let (lo, hi) = (w.lo(), w.hi());
    w.each("u", lo, hi, 1, |w, u| {
        let u = w.name("u", u);
        let shared = split_index(w, u, &units);
        let [d_o, dq, dk, dv] = [0, 1, 2, 3].map(|i| &h.backward[i]);
        let [k, v, dk, dv] = [&h.k, &h.v, dk, dv].map(|a| Matrix::new(w, a, &shared));
        s.pack(w, &k, h.depth, k_panels);
        s.pack(w, &v, h.value_depth, v_panels);
        zero(w, &dk, h.keys, h.depth);
        zero(w, &dv, h.keys, h.value_depth);
        w.each("g", 0i64, group, 1, |w, g| {
            let mut head = shared.clone();
            if let (Some(last), true) = (head.last_mut(), group > 1) {
                *last = w.name("head", last.clone() * group + g);
            }
            let [q, o, d_o, dq] = [&h.q, &h.o, d_o, dq].map(|a| Matrix::new(w, a, &head));
            let lse = |row: Ix| load(Buf::Arg(h.lse.arg), access_at(&h.lse, &head.iter().cloned().chain([row]).collect::<Vec<_>>()), 1, None);
            let one = Backward { s: &s, q, k: &k, v_panels, k_panels, o, d_o, dq, dk: &dk, dv: &dv, p, ds };
            let tail = h.queries % block;
            w.each("b0", 0i64, h.queries - tail, block as i64, |w, b0| one.block(w, &b0, block, &lse));
            if tail > 0 {
                one.block(w, &Ix::from(h.queries - tail), tail, &lse);
            }
        });
    });
    w.finish()
}

fn zero(w: &mut Writer, m: &Matrix, rows: usize, cols: usize) {
    w.each("r", 0i64, rows, 1, |w, r| {
        w.each("c", 0i64, cols, 1, |w, c| w.store(m.buf, m.cell(r.clone(), c), Expr::f32(0.0), None));
    });
}

/// One query head's backward.
struct Backward<'a> {
    s: &'a Shape<'a>,
    q: Matrix,
    k: &'a Matrix,
    k_panels: Buf,
    v_panels: Buf,
    o: Matrix,
    d_o: Matrix,
    dq: Matrix,
    dk: &'a Matrix,
    dv: &'a Matrix,
    p: Buf,
    ds: Buf,
}

impl Backward<'_> {
    /// The queries from b0 on: their dq, and what they add to dk and dv.
    fn block(&self, w: &mut Writer, b0: &Ix, n: usize, lse: &dyn Fn(Ix) -> Expr) {
        let (s, h) = (self.s, self.s.h);
        let b0 = &w.name("b0", b0.clone());
        let seen = w.name("seen", s.visible(b0.clone() + (n as i64 - 1)));
        let end = w.name("end", seen.clone().up_to(s.width() as i64));
        s.row_blocks(w, n, &mut |w, i0, rows| {
            let row = w.name("row", b0.clone() + i0.clone());
            s.scores(w, &self.q, &row, rows, h.depth, self.k_panels, &end, self.p, i0);
            s.scores(w, &self.d_o, &row, rows, h.value_depth, self.v_panels, &end, self.ds, i0);
            w.each("i", 0i64, rows, 1, |w, i| self.row(w, &(i0.clone() + i.clone()), &(row.clone() + i), &end, lse));
            let seen = w.name("seen", s.visible(row.clone() + (rows as i64 - 1)));
            let ds = |i: &Ix, j: &Ix| load(self.ds, (i0.clone() + i.clone()) * s.pitch + j.clone(), 1, None);
            s.combine(w, rows, (Ix::Const(0), seen), &ds, self.k, h.depth, (&self.dq, &row), false, &|_, x| x);
        });
        // keys that no query of this block sees have only zeros to add
        let tail = h.keys % s.rows;
        let add = |w: &mut Writer, j0: &Ix, rows: usize| {
            for (weights, x, depth, out) in [(self.ds, &self.q, h.depth, self.dk), (self.p, &self.d_o, h.value_depth, self.dv)] {
                let a = |j: &Ix, i: &Ix| load(weights, i.clone() * s.pitch + j0.clone() + j.clone(), 1, None);
                let x = Matrix { buf: x.buf, at: x.cell(b0.clone(), Ix::Const(0)), row: x.row, col: x.col };
                s.combine(w, rows, (Ix::Const(0), Ix::from(n)), &a, &x, depth, (out, j0), true, &|_, x| x);
            }
        };
        w.each("j0", 0i64, seen.clone().min(h.keys - tail), s.rows as i64, |w, j0| {
            let j0 = w.name("j0", j0);
            add(w, &j0, s.rows);
        });
        if tail > 0 {
            w.branch(h.keys - tail, seen, |w| add(w, &Ix::from(h.keys - tail), tail), |_| {});
        }
    }

    /// P = exp(scale · S − L) and dS = P ∘ (dP − D) · scale for one row, D = Σ dO ∘ O.
    fn row(&self, w: &mut Writer, line: &Ix, row: &Ix, end: &Ix, lse: &dyn Fn(Ix) -> Expr) {
        let (s, h) = (self.s, self.s.h);
        let lanes = s.target.lanes;
        let row = &w.name("row", row.clone());
        let visible = w.name("visible", s.visible(row.clone()));
        let base = w.name("base", line.clone() * s.pitch);
        let (d, l, sum) = (w.local("d", Elem::F32, 1, 1), w.local("l", Elem::F32, 1, 1), w.local("sum", Elem::F32, lanes, 1));
        w.set(l, 0, lse(row.clone()));
        w.set(sum, 0, Expr::f32(0.0).splat(lanes));
        w.each("c", 0i64, h.value_depth, i64::from(lanes), |w, c| {
            let valid = Some(Ix::from(h.value_depth) - c.clone());
            let at = |m: &Matrix| load(m.buf, m.cell(row.clone(), c.clone()), lanes, valid.clone());
            w.set(sum, 0, Expr::fma(at(&self.o), at(&self.d_o), Writer::get(sum, 0)));
        });
        w.set(d, 0, reduce(Red::Sum, Writer::get(sum, 0), lanes));
        let splat = |local| Writer::get(local, 0).splat(lanes);
        w.each("c", 0i64, end.clone(), i64::from(lanes), |w, c| {
            let at = base.clone() + c.clone();
            let x = load(self.p, at.clone(), lanes, None).times(s.scale().splat(lanes)).minus(splat(l));
            let p = w.local("p", Elem::F32, lanes, 1);
            let zeros = Box::new(Expr::f32(0.0).splat(lanes));
            w.set(p, 0, Expr::Keep { valid: visible.clone() - c.clone(), a: Box::new(Expr::un(Un::Exp, x)), b: zeros });
            let ds = load(self.ds, at.clone(), lanes, None).minus(splat(d)).times(Writer::get(p, 0)).times(s.scale().splat(lanes));
            w.store(self.p, at.clone(), Writer::get(p, 0), None);
            w.store(self.ds, at, ds, None);
        });
    }
}
