//! Attention, forward and backward, a row of scores a thread, never a matrix of them in memory.
//!
//! FlashAttention-2 (Dao 2023): keys and values pass through shared memory a tile at a time; the softmax is rescaled as it goes. The
//! backward is three kinds of cubes in one kernel: those with keys to their threads sum dk and dv over queries, those with queries sum dq
//! over keys, and those with a head sum over both, where an operand that the score captures wants it. Every sum has one order, and
//! nothing is added to memory by two threads.

mod backward;
mod heads;

pub(super) use backward::backward;

use super::LANES;
use super::rows::guard;
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, LocalId, Writer, load};
use crate::lower::point::access_at;
use crate::lower::rows::split_index;
use crate::lower::score::{Depth, Score, Span};
use crate::spec::{Access, Heads, Spec, Step};
use ir::{Bin, Un};

/// Threads of a cube: rows of queries, or of keys.
const ROWS: usize = 64;
/// Positions of a tile in shared memory.
const TILE: usize = 16;
/// Where a row's maximum begins: below every score but −∞, whose exponential it makes 0.
const LOWEST: f64 = f32::MIN as f64;

/// A matrix of one head: where it begins and its strides.
struct Matrix {
    buf: Buf,
    at: Ix,
    /// Step from one position to the next.
    row: i64,
    /// Step along the depth.
    col: i64,
    /// Positions.
    rows: i64,
    lanes: u32,
    /// Vectors of a row.
    vectors: usize,
}

impl Matrix {
    fn new(w: &mut Writer, a: &Access, head: &[Ix], (rows, depth): (usize, usize), lanes: usize) -> Matrix {
        let rank = a.strides.len();
        let index: Vec<Ix> = head.iter().cloned().chain([Ix::Const(0), Ix::Const(0)]).collect();
        let at = w.name("m", access_at(a, &index));
        let (row, col) = (a.strides[rank - 2], a.strides[rank - 1]);
        Matrix { buf: Buf::Arg(a.arg), at, row, col, rows: rows as i64, lanes: lanes as u32, vectors: depth / lanes }
    }
    fn cell(&self, row: &Ix, vector: impl Into<Ix>) -> Ix {
        self.at.clone() + row.clone() * self.row + vector.into() * i64::from(self.lanes) * self.col
    }
    fn get(&self, row: &Ix, vector: impl Into<Ix>) -> Expr {
        load(self.buf, self.cell(row, vector), self.lanes, None)
    }
    /// A row in registers.
    fn line(&self, w: &mut Writer, name: &str, row: &Ix) -> Line {
        let line = Line::new(w, name, self);
        line.fill(w, &|c| self.get(row, c));
        line
    }
    /// A row of zeros in registers.
    fn zeros(&self, w: &mut Writer, name: &str) -> Line {
        let line = Line::new(w, name, self);
        line.fill(w, &|_| Expr::f32(0.0).splat(self.lanes));
        line
    }
    fn put(&self, w: &mut Writer, row: &Ix, line: &Line) {
        for c in 0..self.vectors {
            w.store(self.buf, self.cell(row, c), line.get(c), None);
        }
    }
    /// Room for a tile of rows in shared memory.
    fn shelf(&self, w: &mut Writer) -> Shelf {
        Shelf { buf: w.shared(Elem::F32, self.lanes, TILE * self.vectors * self.lanes as usize), lanes: self.lanes, vectors: self.vectors }
    }
    /// Copies the rows from `first` on to shared memory; those past the end repeat the last.
    fn stage(&self, w: &mut Writer, first: &Ix, shelf: &Shelf) {
        w.each("e", w.thread(), TILE * self.vectors, ROWS as i64, |w, e| {
            let row = w.name("row", (first.clone() + e.clone().div(self.vectors)).min(self.rows - 1));
            let value = self.get(&row, e.clone().rem(self.vectors));
            w.store(shelf.buf, e * i64::from(self.lanes), value, None);
        });
    }
    /// Σ self ∘ other of a row of each, left in a local.
    fn dot(&self, w: &mut Writer, name: &str, other: &Matrix, row: &Ix) -> Expr {
        let sum = w.local(name, Elem::F32, self.lanes, 1);
        w.set(sum, 0, Expr::f32(0.0).splat(self.lanes));
        w.each("c", 0i64, self.vectors, 1, |w, c| w.set(sum, 0, Expr::fma(self.get(row, c.clone()), other.get(row, c), Writer::get(sum, 0))));
        scalar(w, name, lane_sum(Writer::get(sum, 0), self.lanes))
    }
}

/// Rows in shared memory.
struct Shelf {
    buf: Buf,
    lanes: u32,
    vectors: usize,
}

impl Shelf {
    fn get(&self, row: &Ix, vector: usize) -> Expr {
        load(self.buf, row.clone() * self.vectors * i64::from(self.lanes) + vector * self.lanes as usize, self.lanes, None)
    }
}

/// A row in registers.
struct Line {
    local: LocalId,
    lanes: u32,
    vectors: usize,
}

impl Line {
    fn new(w: &mut Writer, name: &str, m: &Matrix) -> Line {
        Line { local: w.local(name, Elem::F32, m.lanes, m.vectors), lanes: m.lanes, vectors: m.vectors }
    }
    fn get(&self, vector: usize) -> Expr {
        Writer::get(self.local, vector)
    }
    fn fill(&self, w: &mut Writer, value: &dyn Fn(usize) -> Expr) {
        for c in 0..self.vectors {
            w.set(self.local, c, value(c));
        }
    }
    /// Σ self ∘ a row in shared memory.
    fn dot(&self, w: &mut Writer, name: &str, shelf: &Shelf, row: &Ix) -> Expr {
        let sum = w.local(name, Elem::F32, self.lanes, 1);
        w.set(sum, 0, Expr::f32(0.0).splat(self.lanes));
        for c in 0..self.vectors {
            w.set(sum, 0, Expr::fma(self.get(c), shelf.get(row, c), Writer::get(sum, 0)));
        }
        scalar(w, name, lane_sum(Writer::get(sum, 0), self.lanes))
    }
    /// self = keep · self + weight · a row in shared memory.
    fn add(&self, w: &mut Writer, keep: Option<&Expr>, weight: &Expr, shelf: &Shelf, row: &Ix) {
        let splat = |x: &Expr| x.clone().splat(self.lanes);
        self.fill(w, &|c| Expr::fma(splat(weight), shelf.get(row, c), keep.map_or(self.get(c), |k| self.get(c).times(splat(k)))));
    }
    fn scale(&self, w: &mut Writer, by: &Expr) {
        self.fill(w, &|c| self.get(c).times(by.clone().splat(self.lanes)));
    }
}

fn lane_sum(x: Expr, lanes: u32) -> Expr {
    if lanes == 1 { x } else { Expr::Lanes(ir::Red::Sum, Box::new(x)) }
}

/// Cubes over heads of these sizes, so many rows a cube.
pub(super) struct Cubes<'a> {
    heads: &'a [usize],
    rows: usize,
    each: usize,
}

impl<'a> Cubes<'a> {
    pub(super) fn new(heads: &'a [usize], rows: usize, each: usize) -> Cubes<'a> {
        Cubes { heads, rows, each }
    }
    pub(super) fn count(&self) -> usize {
        self.heads.iter().product::<usize>() * self.rows.div_ceil(self.each)
    }
    /// A cube's head and its first row.
    pub(super) fn place(&self, w: &mut Writer, cube: Ix) -> (Vec<Ix>, Ix) {
        let blocks = self.rows.div_ceil(self.each).max(1);
        let first = w.name("first", cube.clone().rem(blocks) * self.each);
        (split_index(w, cube.div(blocks), self.heads), first)
    }
}

/// Where a thread is: its head, its cube's first row, its own row, and that row or the last there is.
struct Seat {
    head: Vec<Ix>,
    first: Ix,
    own: Ix,
    real: Ix,
}

impl Seat {
    fn new(w: &mut Writer, cube: Ix, heads: &[usize], rows: usize) -> Seat {
        let (head, first) = Cubes::new(heads, rows, ROWS).place(w, cube);
        let own = w.name("own", first.clone() + w.thread());
        let real = if rows.is_multiple_of(ROWS) { own.clone() } else { w.name("real", own.clone().min(rows as i64 - 1)) };
        Seat { head, first, own, real }
    }
    /// Rows of the cube that there are.
    fn count(&self, rows: usize) -> Ix {
        (Ix::from(rows) - self.first.clone()).min(ROWS)
    }
    /// How many cubes there are.
    fn cubes(heads: &[usize], rows: usize) -> usize {
        Cubes::new(heads, rows, ROWS).count()
    }
}

/// Keys that a query of a plain or causal attention sees.
pub(super) fn visible(h: &Heads, query: Ix) -> Ix {
    if !h.visible.to.is_empty() { (query + 1i64).min(h.keys) } else { Ix::from(h.keys) }
}

/// The head of k and v that a query head reads.
pub(super) fn shared_head(w: &mut Writer, h: &Heads, head: &[Ix]) -> Vec<Ix> {
    let mut out = head.to_vec();
    if let (Some(last), true) = (out.last_mut(), h.group > 1) {
        *last = w.name("shared", last.clone().div(h.group));
    }
    out
}

/// A scalar operand in a register.
pub(super) fn scalar(w: &mut Writer, name: &str, value: Expr) -> Expr {
    let local = w.local(name, Elem::F32, 1, 1);
    w.set(local, 0, value);
    Writer::get(local, 0)
}

/// `value` where an index is below `end`, else `other`.
fn where_below(at: &Ix, end: &Ix, value: Expr, other: f64) -> Expr {
    let below = Expr::bin(Bin::Lt, Expr::Index(at.clone()), Expr::Index(end.clone()));
    Expr::Select(Box::new(below), Box::new(value), Box::new(Expr::f32(other)))
}

/// `value` where a key is in a span, else `other`.
fn where_seen(key: &Ix, span: &Span, value: Expr, other: f64) -> Expr {
    let value = where_below(key, &span.end, value, other);
    if span.from == Ix::Const(0) {
        return value;
    }
    let before = Expr::bin(Bin::Lt, Expr::Index(key.clone()), Expr::Index(span.from.clone()));
    Expr::Select(Box::new(before), Box::new(Expr::f32(other)), Box::new(value))
}

/// A position, or the last there is, where tiles may reach beyond.
fn real(w: &mut Writer, at: &Ix, count: usize) -> Ix {
    if count.is_multiple_of(TILE) { at.clone() } else { w.name("real", at.clone().min(count as i64 - 1)) }
}

/// Lanes in which rows are read: a vector, where every matrix is contiguous along its depth.
fn lanes_of(h: &Heads) -> usize {
    let matrices = [&h.q, &h.k, &h.v, &h.o].into_iter().chain(&h.backward);
    let contiguous = matrices.into_iter().all(|a| a.strides.last() == Some(&1));
    if contiguous && h.depth.is_multiple_of(LANES) && h.value_depth.is_multiple_of(LANES) { LANES } else { 1 }
}

/// An element of the log of the sum of exponentials.
pub(super) fn lse_at(h: &Heads, head: &[Ix], row: &Ix) -> Ix {
    of_row(&h.lse, head, row)
}

/// A scalar of a row.
fn of_row(a: &Access, head: &[Ix], row: &Ix) -> Ix {
    access_at(a, &head.iter().cloned().chain([row.clone()]).collect::<Vec<_>>())
}

/// Operands: q, k, v, scale, o, lse.
pub(super) fn forward(spec: &Spec, h: &Heads, name: &str) -> Kernel {
    let mut writer = Writer::cubes(name, spec.params.clone(), Seat::cubes(&h.heads, h.queries), ROWS);
    let w = &mut writer;
    let seat = Seat::new(w, w.cube(), &h.heads, h.queries);
    let shared = shared_head(w, h, &seat.head);
    let lanes = lanes_of(h);
    let [q, o] = [(&h.q, h.depth), (&h.o, h.value_depth)].map(|(a, d)| Matrix::new(w, a, &seat.head, (h.queries, d), lanes));
    let [k, v] = [(&h.k, h.depth), (&h.v, h.value_depth)].map(|(a, d)| Matrix::new(w, a, &shared, (h.keys, d), lanes));
    let scale = scalar(w, "scale", load(Buf::Arg(3), Ix::Const(0), 1, None));
    let (query, sum) = (q.line(w, "q", &seat.real), o.zeros(w, "sum"));
    let (top, total) = (w.local("top", Elem::F32, 1, 1), w.local("total", Elem::F32, 1, 1));
    let (keys, values) = (k.shelf(w), v.shelf(w));
    let score = Score::new(h, &spec.dag, 1);
    let seen = score.span(w, &seat.head, (&seat.first, &seat.count(h.queries)), Depth::Exact);
    let mine = score.span(w, &seat.head, (&seat.real, &Ix::Const(1)), Depth::Exact);
    let mut row = score.row(w, &seat.head, &seat.real, mine, &[h.score, h.sink, h.weight].into_iter().flatten().collect::<Vec<_>>());
    let sink = h.sink.map(|step| row.scalar(w, step));
    w.set(top, 0, sink.clone().map_or(Expr::f32(LOWEST), |x| Expr::larger(x, Expr::f32(LOWEST))));
    w.set(total, 0, sink.map_or(Expr::f32(0.0), |x| Expr::un(Un::Exp, x.minus(Writer::get(top, 0)))));
    w.each("j0", seen.from.clone().down_to(TILE as i64), seen.end.clone(), TILE as i64, |w, j0| {
        k.stage(w, &j0, &keys);
        v.stage(w, &j0, &values);
        w.barrier();
        w.each("j", 0i64, TILE, 1, |w, j| {
            let key = w.name("key", j0.clone() + j.clone());
            let real = real(w, &key, h.keys);
            let mut s = query.dot(w, "s", &keys, &j).times(scale.clone());
            if let Some(step) = h.score {
                let product = scalar(w, "product", s);
                s = row.at(w, &[step], &row.leaf(&Step::Product, &product), &real).remove(0);
            }
            let s = scalar(w, "s", where_seen(&key, &row.span, s, LOWEST));
            // NaN reaches the row through its exponential
            let new = scalar(w, "new", Expr::larger(s.clone(), Writer::get(top, 0)));
            let keep = scalar(w, "keep", Expr::un(Un::Exp, Writer::get(top, 0).minus(new.clone())));
            let mut p = scalar(w, "p", where_seen(&key, &row.span, Expr::un(Un::Exp, s.minus(new.clone())), 0.0));
            w.set(top, 0, new);
            w.set(total, 0, Expr::fma(Writer::get(total, 0), keep.clone(), p.clone()));
            if let Some(weight) = h.weight {
                let weight = row.at(w, &[weight], &[], &real).remove(0);
                p = scalar(w, "p", weight.times(p));
            }
            sum.add(w, Some(&keep), &p, &values, &j);
        });
        w.barrier();
    });
    guard(w, seat.own.clone(), h.queries, h.queries.is_multiple_of(ROWS), |w| {
        let total = Writer::get(total, 0);
        // a row that sees nothing has the sum 0
        let none = Expr::bin(Bin::Eq, total.clone(), Expr::f32(0.0));
        let inverse = Expr::Select(Box::new(none), Box::new(Expr::f32(0.0)), Box::new(Expr::un(Un::Recip, total.clone())));
        let inverse = scalar(w, "inverse", inverse);
        sum.scale(w, &inverse);
        o.put(w, &seat.real, &sum);
        let lse = Expr::un(Un::Log, total).plus(Writer::get(top, 0));
        w.store(Buf::Arg(h.lse.arg), lse_at(h, &seat.head, &seat.real), lse, None);
    });
    writer.finish()
}
