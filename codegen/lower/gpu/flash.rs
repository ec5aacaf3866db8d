//! Attention of 16-bit operands on tensor cores, forward and backward: FlashAttention-2 (Dao 2023).
//!
//! A plane of threads owns sixteen rows, a cube four planes. Scores stay in registers: as a product's sums they are what the next
//! product wants as its left operand. The backward's cubes of keys compute the scores transposed, so that this holds for P and dS too.
//! Every sum has one order, and no two threads add to one place.

use super::super::point::access_at;
use super::attention::{Cubes, lse_at, scalar, shared_head, visible};
use super::matrices::{CHUNK, Lanes, Side, chunk_at};
use super::rows::guard;
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, LocalId, PLANE, Stmt, Writer, load};
use crate::lower::Gpu;
use crate::spec::{Access, Heads, Spec, Visible};
use ir::{Bin, Red, Un};

/// Rows of a cube, and of a plane.
const ROWS: usize = 64;
const OWN: usize = 16;
const THREADS: usize = ROWS / OWN * PLANE;
/// Positions of a tile of the backward.
const TILE: usize = 32;
/// The deepest heads whose sums registers hold.
const DEEPEST: usize = 128;
/// Where a row's maximum begins: below every score but −∞, which is a masked one's.
const LOWEST: f64 = -3.0e38;

/// Whether an attention is plain or causal, and its operands are of 16 bits and lie so that chunks of eight can be copied.
pub(super) fn fits(spec: &Spec, h: &Heads, target: &Gpu, aligned: &[bool]) -> bool {
    let read = [&h.q, &h.k, &h.v].into_iter().chain((!h.backward.is_empty()).then_some(&h.o)).chain(h.backward.first());
    let copied = |a: &Access| {
        let (last, others) = a.strides.split_last().expect("a matrix has a depth");
        spec.params[a.arg].elem.is_half() && aligned[a.arg] && *last == 1 && a.offset % 8 == 0 && others.iter().all(|s| s % 8 == 0)
    };
    let written = |a: &Access| a.strides.last() == Some(&1);
    let depths = [h.depth, h.value_depth];
    target.tensor
        && h.is_plain()
        && (h.visible == Visible::default() || h.causal(&spec.dag))
        && depths.iter().all(|d| d.is_multiple_of(OWN) && *d <= DEEPEST)
        && shared_bytes(h) <= target.shared
        && read.into_iter().all(copied)
        && h.backward.iter().skip(1).chain([&h.o]).all(written)
}

/// Bytes of shared memory of the larger kernel.
fn shared_bytes(h: &Heads) -> usize {
    2 * (ROWS + 2 * ROWS.max(TILE)) * (h.depth + h.value_depth) + 1024
}

/// A matrix of one head in memory.
struct Matrix {
    arg: usize,
    at: Ix,
    row: i64,
    rows: i64,
    depth: usize,
}

impl Matrix {
    fn new(w: &mut Writer, a: &Access, head: &[Ix], (rows, depth): (usize, usize)) -> Matrix {
        let index: Vec<Ix> = head.iter().cloned().chain([Ix::Const(0), Ix::Const(0)]).collect();
        let at = w.name("m", access_at(a, &index));
        Matrix { arg: a.arg, at, row: a.strides[a.strides.len() - 2], rows: rows as i64, depth }
    }
    /// Starts copying rows from `first` on to a tile; those past the end are zeros.
    fn stage(&self, w: &mut Writer, (tile, to): (&Tile, &Ix), first: &Ix, exact: bool) {
        for round in 0..(tile.rows * tile.chunks).div_ceil(THREADS) {
            let pieces = tile.rows * tile.chunks;
            let piece = w.name("piece", w.thread() + round * THREADS);
            guard(w, piece.clone(), pieces, (round + 1) * THREADS <= pieces, |w| {
                let line = w.name("line", piece.clone().div(tile.chunks));
                let chunk = w.name("chunk", piece.rem(tile.chunks));
                let row = w.name("row", first.clone() + line.clone());
                let (row, valid) =
                    if exact { (row, Ix::from(CHUNK)) } else { (row.clone().min(self.rows - 1), row.below(self.rows as usize) * CHUNK) };
                let from = self.at.clone() + row * self.row + chunk.clone() * CHUNK;
                w.push(Stmt::CopyAsync { src: self.arg, from, dst: tile.buf, to: to.clone() + chunk_at(tile.chunks, line, chunk), valid });
            });
        }
    }
    /// Writes a plane's sums, two elements at a time, of the rows there are.
    fn put(&self, w: &mut Writer, sums: LocalId, first: &Ix, lane: &Ix) {
        for half in 0..2usize {
            let row = w.name("row", first.clone() + lane.clone().div(4) + 8 * half as i64);
            guard(w, row.clone(), self.rows as usize, false, |w| {
                for n in 0..self.depth / 8 {
                    let at = self.at.clone() + row.clone() * self.row + lane.clone().rem(4) * 2i64 + 8 * n as i64;
                    w.store(Buf::Arg(self.arg), at, Expr::Pair(Box::new(Writer::get(sums, n)), 2 * half as u32), None);
                }
            });
        }
    }
}

/// Rows in shared memory, some times over.
struct Tile {
    buf: Buf,
    rows: usize,
    chunks: usize,
}

impl Tile {
    fn new(w: &mut Writer, elem: Elem, (rows, depth): (usize, usize), times: usize) -> Tile {
        Tile { buf: w.shared(elem, CHUNK as u32, times * rows * depth), rows, chunks: depth / CHUNK }
    }
    fn size(&self) -> usize {
        self.rows * self.chunks * CHUNK
    }
    fn depth(&self) -> usize {
        self.chunks * CHUNK
    }
}

/// What every part of a kernel knows of its thread.
struct Place {
    elem: Elem,
    lane: Ix,
    /// The plane's first row in the cube.
    plane: Ix,
    scale: Expr,
}

impl Place {
    fn new(w: &mut Writer, elem: Elem, scale: usize) -> Place {
        let lane = w.name("lane", w.thread().rem(PLANE));
        let plane = w.name("plane", w.thread().div(PLANE) * OWN);
        Place { elem, lane, plane, scale: scalar(w, "scale", load(Buf::Arg(scale), Ix::Const(0), 1, None)) }
    }
    /// Zeroed sums, of sixteen rows and so many columns.
    fn sums(&self, w: &mut Writer, name: &str, columns: usize) -> LocalId {
        let sums = w.local(name, Elem::F32, 4, columns / 8);
        self.zero(w, sums, columns);
        sums
    }
    fn zero(&self, w: &mut Writer, sums: LocalId, columns: usize) {
        (0..columns / 8).for_each(|n| w.set(sums, n, Expr::f32(0.0).splat(4)));
    }
    /// The plane's rows of a tile as a left operand, in registers.
    fn left(&self, w: &mut Writer, name: &str, tile: &Tile) -> LocalId {
        let to = w.local(name, self.elem, CHUNK as u32, tile.depth() / OWN);
        let lanes = Lanes::new(w, (tile.chunks, true), Side::Left, &self.lane, &self.plane);
        for k in 0..tile.depth() / OWN {
            w.push(Stmt::LoadMatrix { to: (to, k), src: tile.buf, row: lanes.at(0, k), transposed: false });
        }
        to
    }
    /// sums += left · tileᵀ, over the depth.
    fn times_rows(&self, w: &mut Writer, sums: LocalId, left: LocalId, (tile, lanes): (&Tile, &Lanes), slot: &Ix) {
        let b = w.local("b", self.elem, CHUNK as u32, 1);
        for k in 0..tile.depth() / 16 {
            for block in 0..tile.rows / 16 {
                self.multiply(w, (sums, 2 * block), (left, k), b, tile.buf, slot.clone() + lanes.at(block, k), lanes.transposed());
            }
        }
    }
    /// sums += left · tile, over the tile's rows.
    fn times(&self, w: &mut Writer, sums: LocalId, left: LocalId, (tile, lanes): (&Tile, &Lanes), slot: &Ix) {
        let b = w.local("b", self.elem, CHUNK as u32, 1);
        for k in 0..tile.rows / 16 {
            for block in 0..tile.depth() / 16 {
                self.multiply(w, (sums, 2 * block), (left, k), b, tile.buf, slot.clone() + lanes.at(block, k), lanes.transposed());
            }
        }
    }
    fn multiply(&self, w: &mut Writer, acc: (LocalId, usize), a: (LocalId, usize), b: LocalId, src: Buf, row: Ix, transposed: bool) {
        w.push(Stmt::LoadMatrix { to: (b, 0), src, row, transposed });
        for half in 0..2 {
            w.push(Stmt::Mma { acc: (acc.0, acc.1 + half), a, b: (b, 0), half: half as u32 });
        }
    }
    /// Sums as a left operand.
    fn pack(&self, w: &mut Writer, name: &str, sums: LocalId, columns: usize) -> LocalId {
        let to = w.local(name, self.elem, CHUNK as u32, columns / 16);
        for t in 0..columns / 16 {
            w.push(Stmt::Pack { to: (to, t), from: [(sums, 2 * t), (sums, 2 * t + 1)] });
        }
        to
    }
    /// The thread's column in a tile of eight.
    fn column(&self, n: usize) -> Ix {
        self.lane.clone().rem(4) * 2i64 + 8 * n as i64
    }
    /// The combined value of the four threads that share rows, of a scalar in a local.
    fn across(&self, w: &mut Writer, x: LocalId, two: fn(Expr, Expr) -> Expr) {
        let other = w.local("other", Elem::F32, 1, 1);
        for bits in [1, 2] {
            w.push(Stmt::Exchange { to: other, from: x, bits });
            w.set(x, 0, two(Writer::get(x, 0), Writer::get(other, 0)));
        }
    }
    /// For each of a thread's two rows, whatever of its four sums.
    fn halves(&self, w: &mut Writer, name: &str, four: &Expr, two: fn(Expr, Expr) -> Expr) -> [LocalId; 2] {
        [0, 1].map(|h| {
            let x = w.local(name, Elem::F32, 1, 1);
            w.set(x, 0, two(four.clone().lane(2 * h, 4), four.clone().lane(2 * h + 1, 4)));
            self.across(w, x, two);
            x
        })
    }
}

/// Values of a thread's two rows beside its four sums.
fn by_row(rows: [Expr; 2]) -> Expr {
    let [a, b] = rows;
    Expr::Vector(vec![a.clone(), a, b.clone(), b])
}

/// Values of a thread's two columns beside its four sums.
fn by_column(columns: [Expr; 2]) -> Expr {
    let [a, b] = columns;
    Expr::Vector(vec![a.clone(), b.clone(), a, b])
}

fn get(locals: [LocalId; 2]) -> [Expr; 2] {
    locals.map(|l| Writer::get(l, 0))
}

/// x where a < b (or a ≤ b), else `other`, four at once.
fn only(bin: Bin, a: Expr, b: Expr, x: Expr, other: f64) -> Expr {
    Expr::Select(Box::new(Expr::bin(bin, a, b)), Box::new(x), Box::new(Expr::f32(other).splat(4)))
}

/// Operands: q, k, v, scale, o, lse.
pub(super) fn forward(spec: &Spec, h: &Heads, name: &str) -> Kernel {
    let cubes = Cubes::new(&h.heads, h.queries, ROWS);
    let mut writer = Writer::cubes(&format!("{name}_tensor"), spec.params.clone(), cubes.count(), THREADS);
    let w = &mut writer;
    let f = Forward::new(w, spec, h, &cubes);
    let r = f.begin(w);
    let seen = visible(h, (f.first.clone() + (ROWS - 1)).min(h.queries as i64 - 1));
    w.each("j0", 0i64, seen.clone(), f.keys.rows as i64, |w, j0| {
        let next = w.name("next", j0.clone() + f.keys.rows);
        w.branch(next.clone(), seen, |w| f.stage(w, &next), |_| {});
        w.push(Stmt::Commit);
        let turn = w.name("turn", f.turn(&j0));
        f.scores(w, &r, &turn);
        // the cube's first row sees the least
        w.branch(visible(h, f.first.clone()), next, |w| f.mask(w, &r, &j0), |_| {});
        f.weigh(w, &r);
        let weights = f.p.pack(w, "p", r.s, f.keys.rows);
        f.p.times(w, r.sum, weights, (&f.values, &r.values_down), &(turn * f.values.size()));
        // the next tile has landed, and this one may be overwritten
        w.push(Stmt::Wait(0));
        w.barrier();
    });
    f.finish(w, &r);
    writer.finish()
}

/// The forward of a cube, whose planes own queries: its head's matrices, and its tiles of them.
struct Forward<'a> {
    h: &'a Heads,
    p: Place,
    head: Vec<Ix>,
    /// The cube's first query.
    first: Ix,
    /// q, o, k, v.
    matrices: [Matrix; 4],
    own: Tile,
    /// The keys and values that pass by.
    keys: Tile,
    values: Tile,
}

/// What a plane keeps from one tile of keys to the next.
struct Running {
    query: LocalId,
    /// Where the thread's rows of keys begin, and of values.
    rows_of_keys: Lanes,
    values_down: Lanes,
    /// Σ p v and Σ p, each scaled by the exponential of the maximum so far.
    sum: LocalId,
    total: LocalId,
    top: [LocalId; 2],
    /// The scores of a tile, then their exponentials.
    s: LocalId,
    /// The thread's first row; its two, or the last there is; and one past the last key that each sees.
    row: Ix,
    rows: [Ix; 2],
    ends: [Ix; 2],
}

impl<'a> Forward<'a> {
    fn new(w: &mut Writer, spec: &Spec, h: &'a Heads, cubes: &Cubes) -> Forward<'a> {
        let (head, first) = cubes.place(w, w.cube());
        let shared = shared_head(w, h, &head);
        let [q, o] = [(&h.q, h.depth), (&h.o, h.value_depth)].map(|(a, d)| Matrix::new(w, a, &head, (h.queries, d)));
        let [k, v] = [(&h.k, h.depth), (&h.v, h.value_depth)].map(|(a, d)| Matrix::new(w, a, &shared, (h.keys, d)));
        let p = Place::new(w, spec.params[h.q.arg].elem, 3);
        let own = Tile::new(w, p.elem, (ROWS, h.depth), 1);
        let keys_at_once = if h.depth.max(h.value_depth) <= 64 { 64 } else { 32 };
        let [keys, values] = [h.depth, h.value_depth].map(|d| Tile::new(w, p.elem, (keys_at_once, d), 2));
        Forward { h, p, head, first, matrices: [q, o, k, v], own, keys, values }
    }

    /// Which of its two places a tile of keys has.
    fn turn(&self, j0: &Ix) -> Ix {
        j0.clone().div(self.keys.rows).rem(2)
    }

    /// Starts copying the keys and values from `j0` on.
    fn stage(&self, w: &mut Writer, j0: &Ix) {
        let turn = w.name("turn", self.turn(j0));
        let exact = self.h.keys.is_multiple_of(self.keys.rows);
        let [_, _, k, v] = &self.matrices;
        k.stage(w, (&self.keys, &(turn.clone() * self.keys.size())), j0, exact);
        v.stage(w, (&self.values, &(turn * self.values.size())), j0, exact);
    }

    /// The queries in registers, the first keys in shared memory, and sums of nothing.
    fn begin(&self, w: &mut Writer) -> Running {
        let (h, p, zero) = (self.h, &self.p, Ix::Const(0));
        self.matrices[0].stage(w, (&self.own, &zero), &self.first, h.queries.is_multiple_of(ROWS));
        self.stage(w, &zero);
        w.push(Stmt::Commit);
        w.push(Stmt::Wait(0));
        w.barrier();
        let query = p.left(w, "q", &self.own);
        let rows_of_keys = Lanes::new(w, (self.keys.chunks, true), Side::Right, &p.lane, &zero);
        let values_down = Lanes::new(w, (self.values.chunks, false), Side::Right, &p.lane, &zero);
        let sum = p.sums(w, "sum", h.value_depth);
        let total = w.local("total", Elem::F32, 4, 1);
        w.set(total, 0, Expr::f32(0.0).splat(4));
        let top = [0, 1].map(|_| w.local("top", Elem::F32, 1, 1));
        top.iter().for_each(|t| w.set(*t, 0, Expr::f32(LOWEST)));
        let row = w.name("row", self.first.clone() + p.plane.clone() + p.lane.clone().div(4));
        let rows = [0i64, 8].map(|half| (row.clone() + half).min(h.queries as i64 - 1));
        let ends = rows.clone().map(|r| w.name("end", visible(h, r)));
        let s = p.sums(w, "s", self.keys.rows);
        Running { query, rows_of_keys, values_down, sum, total, top, s, row, rows, ends }
    }

    /// The scores of the tile that has this turn.
    fn scores(&self, w: &mut Writer, r: &Running, turn: &Ix) {
        let p = &self.p;
        p.zero(w, r.s, self.keys.rows);
        p.times_rows(w, r.s, r.query, (&self.keys, &r.rows_of_keys), &(turn.clone() * self.keys.size()));
        (0..self.keys.rows / 8).for_each(|n| w.set(r.s, n, Writer::get(r.s, n).times(p.scale.clone().splat(4))));
    }

    /// −∞ where a row sees none of the keys from `j0` on.
    fn mask(&self, w: &mut Writer, r: &Running, j0: &Ix) {
        for n in 0..self.keys.rows / 8 {
            let key = w.name("key", j0.clone() + self.p.column(n));
            let columns = by_column([0i64, 1].map(|i| Expr::Index(key.clone() + i)));
            w.set(r.s, n, only(Bin::Lt, columns, by_row(r.ends.clone().map(Expr::Index)), Writer::get(r.s, n), f64::NEG_INFINITY));
        }
    }

    /// The scores become weights by the largest so far, and what was summed before is scaled to that.
    fn weigh(&self, w: &mut Writer, r: &Running) {
        let (p, tiles) = (&self.p, self.keys.rows / 8);
        let most = w.local("most", Elem::F32, 4, 1);
        w.set(most, 0, Writer::get(r.s, 0));
        // NaN reaches the row through its exponential
        (1..tiles).for_each(|n| w.set(most, 0, Expr::larger(Writer::get(r.s, n), Writer::get(most, 0))));
        let most = p.halves(w, "most", &Writer::get(most, 0), Expr::larger);
        let new = [0, 1].map(|i| scalar(w, "new", Expr::larger(Writer::get(most[i], 0), Writer::get(r.top[i], 0))));
        let keep = [0, 1].map(|i| scalar(w, "keep", Expr::un(Un::Exp, Writer::get(r.top[i], 0).minus(new[i].clone()))));
        for i in 0..2 {
            w.set(r.top[i], 0, new[i].clone());
        }
        let kept = w.local("kept", Elem::F32, 4, 1);
        w.set(kept, 0, by_row(keep));
        w.set(r.total, 0, Writer::get(r.total, 0).times(Writer::get(kept, 0)));
        for n in 0..tiles {
            w.set(r.s, n, Expr::un(Un::Exp, Writer::get(r.s, n).minus(by_row(new.clone()))));
            w.set(r.total, 0, Writer::get(r.total, 0).plus(Writer::get(r.s, n)));
        }
        (0..self.h.value_depth / 8).for_each(|n| w.set(r.sum, n, Writer::get(r.sum, n).times(Writer::get(kept, 0))));
    }

    /// Writes the output and the log of the sum of exponentials.
    fn finish(&self, w: &mut Writer, r: &Running) {
        let (h, p) = (self.h, &self.p);
        let total = p.halves(w, "total", &Writer::get(r.total, 0), Expr::plus);
        let inverse = get(total).map(|t| scalar(w, "inverse", Expr::un(Un::Recip, t)));
        (0..h.value_depth / 8).for_each(|n| w.set(r.sum, n, Writer::get(r.sum, n).times(by_row(inverse.clone()))));
        let plane = w.name("plane", self.first.clone() + p.plane.clone());
        self.matrices[1].put(w, r.sum, &plane, &p.lane);
        let lse = |w: &mut Writer, half: usize| {
            let lse = Expr::un(Un::Log, Writer::get(total[half], 0)).plus(Writer::get(r.top[half], 0));
            w.store(Buf::Arg(h.lse.arg), lse_at(h, &self.head, &r.rows[half]), lse, None);
        };
        // one of the four threads that share rows
        let both = |w: &mut Writer| (0..2).for_each(|half| guard(w, r.row.clone() + 8 * half as i64, h.queries, false, |w| lse(w, half)));
        w.branch(p.lane.clone().rem(4), 1, both, |_| {});
    }
}

/// Operands: q, k, v, o, lse, do, scale, dq, dk, dv.
pub(super) fn backward(spec: &Spec, h: &Heads, name: &str) -> Kernel {
    let shared_heads = h.shared_heads();
    let (of_keys, of_queries) = (Cubes::new(&shared_heads, h.keys, ROWS), Cubes::new(&h.heads, h.queries, ROWS));
    let mut writer = Writer::cubes(&format!("{name}_tensor"), spec.params.clone(), of_keys.count() + of_queries.count(), THREADS);
    let w = &mut writer;
    let p = Place::new(w, spec.params[h.q.arg].elem, 6);
    let depths = [h.depth, h.value_depth];
    let own = depths.map(|d| Tile::new(w, p.elem, (ROWS, d), 1));
    let turns = depths.map(|d| Tile::new(w, p.elem, (TILE, d), 2));
    let [lse, d] = [0, 1].map(|_| w.shared(Elem::F32, 1, ROWS.max(2 * TILE)));
    let b = Backward { h, p, own, turns, lse, d };
    let cube = w.cube();
    let keys = of_keys.count();
    w.branch(cube.clone(), keys, |w| b.keys(w, cube.clone(), &of_keys), |w| b.queries(w, cube.clone() - keys, &of_queries));
    writer.finish()
}

/// What a plane that owns keys has: its rows of k and v, where it finds those of q and do, and its sums.
struct OwnKeys {
    key: LocalId,
    value: LocalId,
    rows: [Lanes; 2],
    down: [Lanes; 2],
    dk: LocalId,
    dv: LocalId,
    /// Scores of a tile, then their weights; and their gradients.
    s: LocalId,
    dp: LocalId,
    /// The cube's first key, and the thread's.
    first: Ix,
    own: Ix,
}

impl OwnKeys {
    /// Of keys and values that are in shared memory.
    fn new(w: &mut Writer, b: &Backward, first: Ix) -> OwnKeys {
        let p = &b.p;
        let (key, value) = (p.left(w, "k", &b.own[0]), p.left(w, "v", &b.own[1]));
        let (rows, down) = b.lanes(w);
        let (dk, dv) = (p.sums(w, "dk", b.h.depth), p.sums(w, "dv", b.h.value_depth));
        let (s, dp) = (p.sums(w, "s", TILE), p.sums(w, "dp", TILE));
        let own = w.name("own", first.clone() + p.plane.clone() + p.lane.clone().div(4));
        OwnKeys { key, value, rows, down, dk, dv, s, dp, first, own }
    }
}

/// D = Σ dO ∘ O, P = exp(scale · S − L), dS = P ∘ (dP − D) · scale.
struct Backward<'a> {
    h: &'a Heads,
    p: Place,
    /// The rows that planes own, and those that pass by: of q or k, and of do or v.
    own: [Tile; 2],
    turns: [Tile; 2],
    /// L and D of queries.
    lse: Buf,
    d: Buf,
}

impl Backward<'_> {
    fn of_query(&self, w: &mut Writer, head: &[Ix]) -> [Matrix; 4] {
        let h = self.h;
        [(&h.q, h.depth), (&h.o, h.value_depth), (&h.backward[0], h.value_depth), (&h.backward[1], h.depth)]
            .map(|(a, d)| Matrix::new(w, a, head, (h.queries, d)))
    }
    fn of_key(&self, w: &mut Writer, head: &[Ix]) -> [Matrix; 4] {
        let h = self.h;
        [(&h.k, h.depth), (&h.v, h.value_depth), (&h.backward[2], h.depth), (&h.backward[3], h.value_depth)]
            .map(|(a, d)| Matrix::new(w, a, head, (h.keys, d)))
    }

    /// L and D of the query that a thread sees to, left in shared memory.
    fn row(&self, w: &mut Writer, [o, d_o]: [&Matrix; 2], head: &[Ix], query: Ix, to: Ix) {
        let row = w.name("row", query.min(self.h.queries as i64 - 1));
        w.store(self.lse, to.clone(), load(Buf::Arg(self.h.lse.arg), lse_at(self.h, head, &row), 1, None), None);
        let sum = w.local("d", Elem::F32, CHUNK as u32, 1);
        w.set(sum, 0, Expr::f32(0.0).splat(CHUNK as u32));
        w.each("c", 0i64, self.h.value_depth, CHUNK as i64, |w, c| {
            let at = |m: &Matrix| load(Buf::Arg(m.arg), m.at.clone() + row.clone() * m.row + c.clone(), CHUNK as u32, None);
            w.set(sum, 0, Expr::fma(at(o), at(d_o), Writer::get(sum, 0)));
        });
        w.store(self.d, to, Expr::Lanes(Red::Sum, Box::new(Writer::get(sum, 0))), None);
    }

    /// Lanes of the tiles that pass by: as rows times which, and as what is summed over.
    fn lanes(&self, w: &mut Writer) -> ([Lanes; 2], [Lanes; 2]) {
        let of =
            |w: &mut Writer, along: bool| self.turns.each_ref().map(|t| Lanes::new(w, (t.chunks, along), Side::Right, &self.p.lane, &Ix::Const(0)));
        (of(w, true), of(w, false))
    }

    /// P and dS of sixteen rows and a tile of columns, from S and dP: `lse` and `d` give four at once.
    fn weights(
        &self,
        w: &mut Writer,
        (s, dp): (LocalId, LocalId),
        of: &mut dyn FnMut(&mut Writer, usize) -> (Expr, Expr),
        mask: &dyn Fn(&mut Writer),
    ) {
        let n = TILE / 8;
        let rest: Vec<Expr> = (0..n)
            .map(|n| {
                let (lse, d) = of(w, n);
                let x = Expr::fma(Writer::get(s, n), self.p.scale.clone().splat(4), Expr::un(Un::Neg, lse));
                w.set(s, n, Expr::un(Un::Exp, x));
                d
            })
            .collect();
        mask(w);
        for (n, d) in rest.into_iter().enumerate() {
            w.set(dp, n, Writer::get(dp, n).minus(d).times(Writer::get(s, n)).times(self.p.scale.clone().splat(4)));
        }
    }

    /// A cube whose planes own keys.
    fn keys(&self, w: &mut Writer, cube: Ix, cubes: &Cubes) {
        let (h, p) = (self.h, &self.p);
        let (shared, first) = cubes.place(w, cube);
        let [k, v, dk, dv] = self.of_key(w, &shared);
        for (m, tile) in [&k, &v].into_iter().zip(&self.own) {
            m.stage(w, (tile, &Ix::Const(0)), &first, h.keys.is_multiple_of(ROWS));
        }
        w.push(Stmt::Commit);
        w.push(Stmt::Wait(0));
        w.barrier();
        let keys = OwnKeys::new(w, self, first);
        let group = h.group;
        w.each("g", 0i64, group, 1, |w, g| {
            let mut head = shared.clone();
            if let (Some(last), true) = (head.last_mut(), group > 1) {
                *last = w.name("head", last.clone() * group + g);
            }
            self.keys_of_head(w, &keys, &head);
        });
        let plane = w.name("plane", keys.first.clone() + p.plane.clone());
        dk.put(w, keys.dk, &plane, &p.lane);
        dv.put(w, keys.dv, &plane, &p.lane);
    }

    /// What the queries of a head add to dk and dv of a cube's keys.
    fn keys_of_head(&self, w: &mut Writer, keys: &OwnKeys, head: &[Ix]) {
        let h = self.h;
        let [q, o, d_o, _] = self.of_query(w, head);
        let stage = |w: &mut Writer, i0: &Ix| {
            let turn = w.name("turn", i0.clone().div(TILE).rem(2));
            for (m, tile) in [&q, &d_o].into_iter().zip(&self.turns) {
                m.stage(w, (tile, &(turn.clone() * tile.size())), i0, h.queries.is_multiple_of(TILE));
            }
            let t = w.thread();
            w.branch(t.clone(), TILE, |w| self.row(w, [&o, &d_o], head, i0.clone() + t.clone(), turn * TILE + t.clone()), |_| {});
        };
        let from = if !h.visible.to.is_empty() { keys.first.clone() } else { Ix::Const(0) };
        w.branch(from.clone(), h.queries, |w| stage(w, &from), |_| {});
        w.push(Stmt::Commit);
        w.push(Stmt::Wait(0));
        w.barrier();
        w.each("i0", from.clone(), h.queries, TILE as i64, |w, i0| {
            let next = w.name("next", i0.clone() + TILE);
            w.branch(next.clone(), h.queries, |w| stage(w, &next), |_| {});
            w.push(Stmt::Commit);
            self.keys_of_tile(w, keys, &i0);
            w.push(Stmt::Wait(0));
            w.barrier();
        });
    }

    /// What the queries from `i0` on, which are in shared memory, add to dk and dv.
    fn keys_of_tile(&self, w: &mut Writer, keys: &OwnKeys, i0: &Ix) {
        let p = &self.p;
        let (s, dp, [q, d_o]) = (keys.s, keys.dp, &self.turns);
        let turn = w.name("turn", i0.clone().div(TILE).rem(2));
        let slots = self.turns.each_ref().map(|t| turn.clone() * t.size());
        p.zero(w, s, TILE);
        p.zero(w, dp, TILE);
        p.times_rows(w, s, keys.key, (q, &keys.rows[0]), &slots[0]);
        p.times_rows(w, dp, keys.value, (d_o, &keys.rows[1]), &slots[1]);
        let mut of = |w: &mut Writer, n: usize| {
            let at = w.name("at", turn.clone() * TILE + p.column(n));
            let two = |w: &mut Writer, name: &str, buf: Buf| by_column([0i64, 1].map(|i| scalar(w, name, load(buf, at.clone() + i, 1, None))));
            (two(w, "l", self.lse), two(w, "d", self.d))
        };
        self.weights(w, (s, dp), &mut of, &|w: &mut Writer| self.mask_where_needed(w, keys, i0));
        let (weights, ds) = (p.pack(w, "p", s, TILE), p.pack(w, "ds", dp, TILE));
        p.times(w, keys.dv, weights, (d_o, &keys.down[1]), &slots[1]);
        p.times(w, keys.dk, ds, (q, &keys.down[0]), &slots[0]);
    }

    /// The weights of keys that a query from `i0` on does not see, and of queries that there are not, become 0.
    fn mask_where_needed(&self, w: &mut Writer, keys: &OwnKeys, i0: &Ix) {
        if !self.h.queries.is_multiple_of(TILE) {
            self.mask(w, keys, i0);
        } else if !self.h.visible.to.is_empty() {
            w.branch(i0.clone(), keys.first.clone() + (ROWS - 1), |w| self.mask(w, keys, i0), |_| {});
        }
    }

    fn mask(&self, w: &mut Writer, keys: &OwnKeys, i0: &Ix) {
        let (h, s) = (self.h, keys.s);
        for n in 0..TILE / 8 {
            let query = w.name("query", i0.clone() + self.p.column(n));
            let columns = by_column([0i64, 1].map(|i| Expr::Index(query.clone() + i)));
            let own = by_row([0i64, 8].map(|half| Expr::Index(keys.own.clone() + half)));
            if !h.visible.to.is_empty() {
                w.set(s, n, only(Bin::Le, own, columns.clone(), Writer::get(s, n), 0.0));
            }
            w.set(s, n, only(Bin::Lt, columns, Expr::Index(Ix::from(h.queries)).splat(4), Writer::get(s, n), 0.0));
        }
    }

    /// A cube whose planes own queries.
    fn queries(&self, w: &mut Writer, cube: Ix, cubes: &Cubes) {
        let (h, p) = (self.h, &self.p);
        let cube = w.name("cube", cube);
        let (head, first) = cubes.place(w, cube);
        let shared = shared_head(w, h, &head);
        let [q, o, d_o, dq] = self.of_query(w, &head);
        let [k, v, _, _] = self.of_key(w, &shared);
        let stage = |w: &mut Writer, j0: &Ix| {
            let turn = w.name("turn", j0.clone().div(TILE).rem(2));
            for (m, tile) in [&k, &v].into_iter().zip(&self.turns) {
                m.stage(w, (tile, &(turn.clone() * tile.size())), j0, h.keys.is_multiple_of(TILE));
            }
        };
        for (m, tile) in [&q, &d_o].into_iter().zip(&self.own) {
            m.stage(w, (tile, &Ix::Const(0)), &first, h.queries.is_multiple_of(ROWS));
        }
        let t = w.thread();
        w.branch(t.clone(), ROWS, |w| self.row(w, [&o, &d_o], &head, first.clone() + t.clone(), t.clone()), |_| {});
        stage(w, &Ix::Const(0));
        w.push(Stmt::Commit);
        w.push(Stmt::Wait(0));
        w.barrier();
        let (query, d_out) = (p.left(w, "q", &self.own[0]), p.left(w, "do", &self.own[1]));
        let (rows, down) = self.lanes(w);
        let line = w.name("line", p.plane.clone() + p.lane.clone().div(4));
        let two = |w: &mut Writer, name: &str, buf: Buf| by_row([0i64, 8].map(|half| scalar(w, name, load(buf, line.clone() + half, 1, None))));
        let (lse, d) = (two(w, "l", self.lse), two(w, "d", self.d));
        let ends = [0i64, 8].map(|half| w.name("end", visible(h, (first.clone() + line.clone() + half).min(h.queries as i64 - 1))));
        let sum = p.sums(w, "dq", h.depth);
        let (s, dp) = (p.sums(w, "s", TILE), p.sums(w, "dp", TILE));
        let seen = visible(h, (first.clone() + (ROWS - 1)).min(h.queries as i64 - 1));
        w.each("j0", 0i64, seen.clone(), TILE as i64, |w, j0| {
            let next = w.name("next", j0.clone() + TILE);
            w.branch(next.clone(), seen, |w| stage(w, &next), |_| {});
            w.push(Stmt::Commit);
            let turn = w.name("turn", j0.clone().div(TILE).rem(2));
            let slots = self.turns.each_ref().map(|t| turn.clone() * t.size());
            p.zero(w, s, TILE);
            p.zero(w, dp, TILE);
            p.times_rows(w, s, query, (&self.turns[0], &rows[0]), &slots[0]);
            p.times_rows(w, dp, d_out, (&self.turns[1], &rows[1]), &slots[1]);
            let mask = |w: &mut Writer| {
                for n in 0..TILE / 8 {
                    let key = w.name("key", j0.clone() + p.column(n));
                    let columns = by_column([0i64, 1].map(|i| Expr::Index(key.clone() + i)));
                    w.set(s, n, only(Bin::Lt, columns, by_row(ends.clone().map(Expr::Index)), Writer::get(s, n), 0.0));
                }
            };
            let sometimes = |w: &mut Writer| w.branch(visible(h, first.clone()), next.clone(), mask, |_| {});
            self.weights(w, (s, dp), &mut |_, _| (lse.clone(), d.clone()), &sometimes);
            let ds = p.pack(w, "ds", dp, TILE);
            p.times(w, sum, ds, (&self.turns[0], &down[0]), &slots[0]);
            w.push(Stmt::Wait(0));
            w.barrier();
        });
        let plane = w.name("plane", first + p.plane.clone());
        dq.put(w, sum, &plane, &p.lane);
    }
}
