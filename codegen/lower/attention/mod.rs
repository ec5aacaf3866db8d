//! Attention, forward and backward, without scores in memory: a block of rows of them lives in scratch.
//!
//! FlashAttention-2 (Dao 2023), with whole rows of a query block at a time, which a CPU's cache holds: the softmax needs no rescaling.
//! Heads are independent; the backward of grouped heads goes through a group one head after the other.

mod backward;
mod captured;
mod forward;

pub(super) use backward::backward;
pub(super) use forward::forward;

use super::Cpu;
use super::point::access_at;
use super::score::Span;
use super::tile::{Acc, Panel};
use crate::kernel::{Buf, Elem, Expr, Ix, LocalId, Writer, load};
use crate::spec::{Access, Heads};
use ir::{Bin, Red, Un};

/// Floats of the values that tiles of rows share, a block of keys at a time: a part of the smallest cache.
const SHARED: usize = 8 << 10;

/// Keys of such a block.
fn shared(depth: usize) -> usize {
    (SHARED / depth.max(1)).max(1)
}

/// Floats of a cache line.
const LINE: usize = 16;

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
        let (rows, vectors) = Shape::tile(h, target);
        let width = vectors * target.lanes as usize;
        let local = w.local("scale", Elem::F32, 1, 1);
        w.set(local, 0, load(Buf::Arg(scale), Ix::Const(0), 1, None));
        let columns = h.keys.next_multiple_of(width);
        // an odd number of cache lines: what is in one column of many rows has other places in a cache
        let pitch = if columns.is_multiple_of(2 * LINE) { columns + LINE } else { columns };
        Shape { h, target: *target, rows, vectors, pitch, scale: local }
    }

    /// Rows and vectors of the register tile.
    fn tile(h: &Heads, target: &Cpu) -> (usize, usize) {
        target.tile(h.keys.max(h.depth))
    }

    /// Columns of scores that are computed where some keys are seen: from a whole panel on, to a multiple of `unit` or the last.
    fn columns(&self, w: &mut Writer, seen: &Span, unit: usize) -> Span {
        let unit = unit as i64;
        let from = w.name("begin", seen.from.clone().down_to(unit).down_to(self.width() as i64));
        Span { from, end: w.name("stop", seen.end.clone().up_to(unit).min(self.h.keys)) }
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

    /// The columns of x from some keys on, transposed: panels of keys, depth by depth.
    fn pack(&self, w: &mut Writer, x: &Matrix, depth: usize, keys: &Span, dst: Buf) {
        w.each("p", keys.from.clone().down_to(self.width() as i64), keys.end.clone(), self.width() as i64, |w, p| {
            let at = w.name("at", x.cell(p.clone(), Ix::Const(0)));
            let valid = (!self.h.keys.is_multiple_of(self.width())).then(|| Ix::from(self.h.keys) - p.clone());
            let (depth_ix, to) = (Ix::from(depth), p * depth);
            Panel {
                src: x.buf,
                at,
                along: x.col,
                across: x.row,
                depth: &depth_ix,
                pairs: false,
                width: self.width(),
                valid,
                dst,
                to,
                lanes: self.target.lanes,
            }
            .pack(w);
        });
    }

    /// scores[i, columns] = Σ x(row + i, d) panel(d, :) for `rows` rows; row 0 goes to line `line` of the scores.
    fn scores(&self, w: &mut Writer, x: &Matrix, row: &Ix, rows: usize, depth: usize, panels: Buf, columns: &Span, scores: Buf, line: &Ix) {
        let lanes = self.lanes();
        w.each("jp", columns.from.clone(), columns.end.clone(), self.width() as i64, |w, jp| {
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

    /// The same of a few rows, whose products with a key are summed along the depth: keys are read once, where they lie, and only those
    /// that are seen.
    fn few_scores(&self, w: &mut Writer, x: &Matrix, row: &Ix, rows: usize, keys: &Matrix, columns: &Span, (scores, line): (Buf, &Ix)) {
        let (lanes, depth) = (self.target.lanes, self.h.depth);
        let sums = w.local("dot", Elem::F32, lanes, rows);
        let key = w.local("key", Elem::F32, lanes, 1);
        w.each("j", columns.from.clone(), columns.end.clone(), 1, |w, j| {
            w.unrolled("i", rows, |w, i| w.set(sums, i, Expr::f32(0.0).splat(lanes)));
            for d in (0..depth).step_by(lanes as usize) {
                let valid = (d + lanes as usize > depth).then(|| Ix::from(depth - d));
                w.set(key, 0, load(keys.buf, keys.cell(j.clone(), Ix::from(d)), lanes, valid.clone()));
                w.unrolled("i", rows, |w, i| {
                    let query = load(x.buf, x.cell(row.clone() + i.clone(), Ix::from(d)), lanes, valid.clone());
                    w.set(sums, i.clone(), Expr::fma(query, Writer::get(key, 0), Writer::get(sums, i)));
                });
            }
            w.unrolled("i", rows, |w, i| {
                w.store(scores, (line.clone() + i.clone()) * self.pitch + j.clone(), reduce(Red::Sum, Writer::get(sums, i), lanes), None);
            });
        });
    }

    /// out(row + i, :) += Σ a(i, k) x(k, :) for the keys k of a span.
    fn combine(&self, w: &mut Writer, rows: usize, keys: &Span, a: &dyn Fn(&Ix, &Ix) -> Expr, x: &Matrix, depth: usize, out: (&Matrix, &Ix)) {
        let lanes = self.lanes();
        let (_, vectors) = self.target.tile(depth);
        let width = vectors * self.target.lanes as usize;
        w.each("dp", 0i64, depth, width as i64, |w, dp| {
            let acc = Acc::new(w, rows, vectors, self.target.lanes);
            let column = |j: &Ix| dp.clone() + j.clone() * lanes;
            let left = |j: &Ix| (!depth.is_multiple_of(acc.width())).then(|| Ix::from(depth) - column(j));
            let cell = |i: &Ix, j: &Ix| out.0.cell(out.1.clone() + i.clone(), column(j));
            acc.fill(w, &mut |_, i, j| load(out.0.buf, cell(i, j), self.target.lanes, left(j)));
            let b = |k: &Ix, j: &Ix| load(x.buf, x.cell(k.clone(), column(j)), self.target.lanes, left(j));
            acc.product(w, keys.from.clone(), keys.end.clone(), a, &b);
            acc.each(w, &mut |w, i, j| w.store(out.0.buf, cell(i, j), acc.get(i, j), left(j)));
        });
    }

    /// Rows that share what is read of keys and values: so many tiles, or as many as have room for their scores, so many numbers a pair, in
    /// the cache that a thread has to itself.
    fn rows_that_share(h: &Heads, target: &Cpu, tiles: usize, numbers: usize) -> usize {
        let rows = Shape::tile(h, target).0;
        let room = target.cache / 2 / (4 * numbers * rows * h.keys.max(1));
        rows * room.clamp(1, tiles).min(h.queries.div_ceil(rows).max(1))
    }

    /// Blocks of so many keys of a span, and in each the tiles of rows.
    fn blocks(
        &self,
        w: &mut Writer,
        keys: &Span,
        size: usize,
        (first, last, n): (&Ix, &Ix, usize),
        body: &mut dyn FnMut(&mut Writer, &Ix, usize, &Span),
    ) {
        w.each("kb", keys.from.clone().down_to(size as i64), keys.end.clone(), size as i64, |w, from| {
            let block = Span { from: w.name("from", from.clone()), end: w.name("end", (from + size).min(keys.end.clone())) };
            self.row_blocks(w, (first, last), n, &mut |w, i0, rows| body(w, i0, rows, &block));
        });
    }

    /// Calls `body` for blocks of the rows `from..end` of `n`, the last with however many are left.
    fn row_blocks(&self, w: &mut Writer, (from, end): (&Ix, &Ix), n: usize, body: &mut dyn FnMut(&mut Writer, &Ix, usize)) {
        let tail = n % self.rows;
        w.each("i0", from.clone(), end.clone().min(n - tail), self.rows as i64, |w, i| {
            let i = w.name("i0", i);
            body(w, &i, self.rows);
        });
        if tail > 0 {
            w.branch(n - tail, end.clone(), |w| body(w, &Ix::from(n - tail), tail), |_| {});
        }
    }
}

/// A scalar of each row: an access over (heads…, position).
fn of_row(a: &Access, head: &[Ix], row: &Ix) -> Ix {
    access_at(a, &head.iter().cloned().chain([row.clone()]).collect::<Vec<_>>())
}

/// The head of k and v that a query head reads.
fn grouped(w: &mut Writer, h: &Heads, head: &[Ix]) -> Vec<Ix> {
    let mut out = head.to_vec();
    if let (Some(last), true) = (out.last_mut(), h.group > 1) {
        *last = w.name("shared", last.clone().div(h.group));
    }
    out
}

fn reduce(red: Red, x: Expr, lanes: u32) -> Expr {
    if lanes == 1 { x } else { Expr::Lanes(red, Box::new(x)) }
}

fn zero(w: &mut Writer, m: &Matrix, rows: usize, cols: usize) {
    w.each("r", 0i64, rows, 1, |w, r| {
        w.each("c", 0i64, cols, 1, |w, c| w.store(m.buf, m.cell(r.clone(), c), Expr::f32(0.0), None));
    });
}

/// Below its exponential a probability counts as 0: it adds nothing to a sum that has 1 in it, and what is smaller still would be
/// subnormal, which processors are slow with.
const LEAST: f64 = -80.0;

/// The exponential of scores that may be anything, −∞ among it.
fn exponential(w: &mut Writer, x: Expr, lanes: u32) -> Expr {
    let (local, least) = (w.local("x", Elem::F32, lanes, 1), Expr::f32(LEAST).splat(lanes));
    w.set(local, 0, x);
    let x = Writer::get(local, 0);
    let below = Expr::bin(Bin::Lt, x.clone(), least.clone());
    let held = Expr::Select(Box::new(below.clone()), Box::new(least), Box::new(x));
    Expr::Select(Box::new(below), Box::new(Expr::f32(0.0).splat(lanes)), Box::new(Expr::un(Un::Exp, held)))
}
