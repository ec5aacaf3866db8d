//! Attention, forward and backward, a row of scores a thread, never a matrix of them in memory.
//!
//! FlashAttention-2 (Dao 2023): keys and values pass through shared memory a tile at a time; the softmax is rescaled as it goes. The
//! backward is two kinds of cubes in one kernel: those with keys to their threads sum dk and dv over queries, those with queries sum dq
//! over keys. Every sum has one order, and nothing is added to memory by two threads.

use super::super::point::access_at;
use super::super::rows::split_index;
use super::LANES;
use super::rows::guard;
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, LocalId, Writer, load};
use crate::spec::{Access, Heads, Spec};
use ir::{Bin, Un};

/// Threads of a cube: rows of queries, or of keys.
const ROWS: usize = 64;
/// Positions of a tile in shared memory.
const TILE: usize = 16;
/// Where a row's maximum begins: below every score but −∞, whose exponential it makes 0.
const LOWEST: f64 = -3.0e38;

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
    /// How many cubes there are.
    fn cubes(heads: &[usize], rows: usize) -> usize {
        Cubes::new(heads, rows, ROWS).count()
    }
}

/// Keys that a query sees.
pub(super) fn visible(h: &Heads, query: Ix) -> Ix {
    if !h.visible.to.is_empty() { (query + 1i64).min(h.keys) } else { Ix::from(h.keys) }
}

/// One past the last key that any query of a cube sees.
fn seen(h: &Heads, seat: &Seat) -> Ix {
    visible(h, (seat.first.clone() + (ROWS - 1)).min(h.queries as i64 - 1))
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

/// `value` where key < end, else `other`.
fn where_seen(key: &Ix, end: &Ix, value: Expr, other: f64) -> Expr {
    let seen = Expr::bin(Bin::Lt, Expr::Index(key.clone()), Expr::Index(end.clone()));
    Expr::Select(Box::new(seen), Box::new(value), Box::new(Expr::f32(other)))
}

/// Lanes in which rows are read: a vector, where every matrix is contiguous along its depth.
fn lanes_of(h: &Heads) -> usize {
    let matrices = [&h.q, &h.k, &h.v, &h.o].into_iter().chain(&h.backward);
    let contiguous = matrices.into_iter().all(|a| a.strides.last() == Some(&1));
    if contiguous && h.depth.is_multiple_of(LANES) && h.value_depth.is_multiple_of(LANES) { LANES } else { 1 }
}

/// An element of the log of the sum of exponentials.
pub(super) fn lse_at(h: &Heads, head: &[Ix], row: &Ix) -> Ix {
    access_at(&h.lse, &head.iter().cloned().chain([row.clone()]).collect::<Vec<_>>())
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
    w.set(top, 0, Expr::f32(LOWEST));
    w.set(total, 0, Expr::f32(0.0));
    let (keys, values) = (k.shelf(w), v.shelf(w));
    let mine = w.name("visible", visible(h, seat.real.clone()));
    w.each("j0", 0i64, seen(h, &seat), TILE as i64, |w, j0| {
        k.stage(w, &j0, &keys);
        v.stage(w, &j0, &values);
        w.barrier();
        w.each("j", 0i64, TILE, 1, |w, j| {
            let key = w.name("key", j0.clone() + j.clone());
            let s = query.dot(w, "s", &keys, &j).times(scale.clone());
            let s = scalar(w, "s", where_seen(&key, &mine, s, LOWEST));
            // NaN reaches the row through its exponential
            let new = scalar(w, "new", Expr::larger(s.clone(), Writer::get(top, 0)));
            let keep = scalar(w, "keep", Expr::un(Un::Exp, Writer::get(top, 0).minus(new.clone())));
            let p = scalar(w, "p", where_seen(&key, &mine, Expr::un(Un::Exp, s.minus(new.clone())), 0.0));
            w.set(top, 0, new);
            w.set(total, 0, Expr::fma(Writer::get(total, 0), keep.clone(), p.clone()));
            sum.add(w, Some(&keep), &p, &values, &j);
        });
        w.barrier();
    });
    guard(w, seat.own.clone(), h.queries, h.queries.is_multiple_of(ROWS), |w| {
        let inverse = scalar(w, "inverse", Expr::un(Un::Recip, Writer::get(total, 0)));
        sum.scale(w, &inverse);
        o.put(w, &seat.real, &sum);
        let lse = Expr::un(Un::Log, Writer::get(total, 0)).plus(Writer::get(top, 0));
        w.store(Buf::Arg(h.lse.arg), lse_at(h, &seat.head, &seat.real), lse, None);
    });
    writer.finish()
}

/// Operands: q, k, v, o, lse, do, scale, dq, dk, dv.
pub(super) fn backward(spec: &Spec, h: &Heads, name: &str) -> Kernel {
    let shared_heads = h.shared_heads();
    let (of_keys, of_queries) = (Seat::cubes(&shared_heads, h.keys), Seat::cubes(&h.heads, h.queries));
    let mut writer = Writer::cubes(name, spec.params.clone(), of_keys + of_queries, ROWS);
    let w = &mut writer;
    let (lanes, scale) = (lanes_of(h), scalar(w, "scale", load(Buf::Arg(6), Ix::Const(0), 1, None)));
    let shelf =
        |w: &mut Writer, depth: usize| Shelf { buf: w.shared(Elem::F32, lanes as u32, TILE * depth), lanes: lanes as u32, vectors: depth / lanes };
    let shelves = [shelf(w, h.depth), shelf(w, h.value_depth)];
    let b = Backward { h, lanes, scale, shelves, lse: w.shared(Elem::F32, 1, TILE), d: w.shared(Elem::F32, 1, TILE) };
    let cube = w.cube();
    w.branch(cube.clone(), of_keys, |w| b.keys(w, cube.clone(), &shared_heads), |w| b.queries(w, cube.clone() - of_keys));
    writer.finish()
}

/// The backward: D = Σ dO ∘ O, P = exp(scale · S − L), dS = P ∘ (dP − D) · scale.
struct Backward<'a> {
    h: &'a Heads,
    lanes: usize,
    scale: Expr,
    /// Room for rows of q or k, and of do or v.
    shelves: [Shelf; 2],
    /// Room for L and D of a tile's queries.
    lse: Buf,
    d: Buf,
}

impl Backward<'_> {
    /// q, o, do and dq of a head.
    fn of_query(&self, w: &mut Writer, head: &[Ix]) -> [Matrix; 4] {
        let h = self.h;
        [(&h.q, h.depth), (&h.o, h.value_depth), (&h.backward[0], h.value_depth), (&h.backward[1], h.depth)]
            .map(|(a, d)| Matrix::new(w, a, head, (h.queries, d), self.lanes))
    }

    /// k, v, dk and dv of a head.
    fn of_key(&self, w: &mut Writer, head: &[Ix]) -> [Matrix; 4] {
        let h = self.h;
        [(&h.k, h.depth), (&h.v, h.value_depth), (&h.backward[2], h.depth), (&h.backward[3], h.value_depth)]
            .map(|(a, d)| Matrix::new(w, a, head, (h.keys, d), self.lanes))
    }

    /// P and dS of a query and a key, from the sums of products S and dP.
    fn weights(&self, w: &mut Writer, (query, key): (&Ix, &Ix), (s, dp): (Expr, Expr), (lse, d): (Expr, Expr)) -> (Expr, Expr) {
        let e = Expr::un(Un::Exp, s.times(self.scale.clone()).minus(lse));
        let seen = where_seen(key, &visible(self.h, query.clone()), e, 0.0);
        let p = scalar(w, "p", where_seen(query, &Ix::from(self.h.queries), seen, 0.0));
        let ds = scalar(w, "ds", dp.minus(d).times(p.clone()).times(self.scale.clone()));
        (p, ds)
    }

    /// A cube with keys to its threads.
    fn keys(&self, w: &mut Writer, cube: Ix, heads: &[usize]) {
        let h = self.h;
        let seat = Seat::new(w, cube, heads, h.keys);
        let [k, v, dk, dv] = self.of_key(w, &seat.head);
        let (key, value) = (k.line(w, "k", &seat.real), v.line(w, "v", &seat.real));
        let (dk_sum, dv_sum) = (dk.zeros(w, "dk"), dv.zeros(w, "dv"));
        let group = h.group;
        w.each("g", 0i64, group, 1, |w, g| {
            let mut head = seat.head.clone();
            if let (Some(last), true) = (head.last_mut(), group > 1) {
                *last = w.name("head", last.clone() * group + g);
            }
            let [q, o, d_o, _] = self.of_query(w, &head);
            // queries before the cube's first key see none of its keys
            let from = if !h.visible.to.is_empty() { seat.first.clone() } else { Ix::Const(0) };
            w.each("i0", from, h.queries, TILE as i64, |w, i0| {
                q.stage(w, &i0, &self.shelves[0]);
                d_o.stage(w, &i0, &self.shelves[1]);
                let t = w.thread();
                w.branch(
                    t.clone(),
                    TILE,
                    |w| {
                        let row = w.name("row", (i0.clone() + t.clone()).min(h.queries as i64 - 1));
                        w.store(self.lse, t.clone(), load(Buf::Arg(h.lse.arg), lse_at(h, &head, &row), 1, None), None);
                        let d = o.dot(w, "d", &d_o, &row);
                        w.store(self.d, t.clone(), d, None);
                    },
                    |_| {},
                );
                w.barrier();
                w.each("i", 0i64, TILE, 1, |w, i| {
                    let query = w.name("query", i0.clone() + i.clone());
                    let sums = (key.dot(w, "s", &self.shelves[0], &i), value.dot(w, "dp", &self.shelves[1], &i));
                    let of_row = (load(self.lse, i.clone(), 1, None), load(self.d, i.clone(), 1, None));
                    let (p, ds) = self.weights(w, (&query, &seat.own), sums, of_row);
                    dv_sum.add(w, None, &p, &self.shelves[1], &i);
                    dk_sum.add(w, None, &ds, &self.shelves[0], &i);
                });
                w.barrier();
            });
        });
        guard(w, seat.own.clone(), h.keys, h.keys.is_multiple_of(ROWS), |w| {
            dk.put(w, &seat.real, &dk_sum);
            dv.put(w, &seat.real, &dv_sum);
        });
    }

    /// A cube with queries to its threads.
    fn queries(&self, w: &mut Writer, cube: Ix) {
        let h = self.h;
        let cube = w.name("cube", cube);
        let seat = Seat::new(w, cube, &h.heads, h.queries);
        let shared = shared_head(w, h, &seat.head);
        let [q, o, d_o, dq] = self.of_query(w, &seat.head);
        let [k, v, _, _] = self.of_key(w, &shared);
        let (query, d_out, sum) = (q.line(w, "q", &seat.real), d_o.line(w, "do", &seat.real), dq.zeros(w, "dq"));
        let d = o.dot(w, "d", &d_o, &seat.real);
        let lse = scalar(w, "l", load(Buf::Arg(h.lse.arg), lse_at(h, &seat.head, &seat.real), 1, None));
        w.each("j0", 0i64, seen(h, &seat), TILE as i64, |w, j0| {
            k.stage(w, &j0, &self.shelves[0]);
            v.stage(w, &j0, &self.shelves[1]);
            w.barrier();
            w.each("j", 0i64, TILE, 1, |w, j| {
                let key = w.name("key", j0.clone() + j.clone());
                let sums = (query.dot(w, "s", &self.shelves[0], &j), d_out.dot(w, "dp", &self.shelves[1], &j));
                let (_, ds) = self.weights(w, (&seat.own, &key), sums, (lse.clone(), d.clone()));
                sum.add(w, None, &ds, &self.shelves[0], &j);
            });
            w.barrier();
        });
        guard(w, seat.own.clone(), h.queries, h.queries.is_multiple_of(ROWS), |w| dq.put(w, &seat.real, &sum));
    }
}
