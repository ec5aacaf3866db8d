//! Contractions: tiles of the product in registers, tiles of the operands in shared memory.
//!
//! Dims are of four kinds: loops (of both operands), rows (of a alone), sums, columns (of b alone); those of a kind count as one, and a
//! position in it is split where an address is needed. So every contraction is a matrix product, whatever its strides.

use super::super::contract::as_rows;
use super::super::grouped::By;
use super::super::point::access_at;
use super::super::rows::split_index;
use super::grouped::{Groups, Terms};
use super::product::{Kinds, arrange, store};
use super::rows::guard;
use super::{LANES, cols, lanes};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, LocalId, Writer, load};
use crate::lower::Gpu;
use crate::spec::{Access, Spec, Step, Template};
use ir::{Bin, Red};
use std::ops::Range;

/// Products of at most this many rows are sums of a few lines: no tile pays.
const FEW_ROWS: usize = 4;

/// A tile of the product, and what a thread has of it.
#[derive(Clone, Copy)]
struct Tile {
    rows: usize,
    columns: usize,
    depth: usize,
    /// Rows of a thread.
    high: usize,
    /// Columns of a thread, in vectors.
    wide: usize,
}

const TILES: [Tile; 4] = [
    Tile { rows: 128, columns: 128, depth: 8, high: 8, wide: 2 },
    Tile { rows: 64, columns: 64, depth: 16, high: 4, wide: 1 },
    Tile { rows: 32, columns: 32, depth: 16, high: 2, wide: 1 },
    Tile { rows: 8, columns: 64, depth: 16, high: 1, wide: 1 },
];

impl Tile {
    fn threads(&self) -> usize {
        self.rows / self.high * self.across()
    }
    /// Threads along the columns.
    fn across(&self) -> usize {
        self.columns / LANES / self.wide
    }
}

pub(super) fn lower(spec: &Spec, name: &str, target: &Gpu, aligned: &[bool]) -> Kernel {
    if spec.dims.contains(&0) {
        return rows(spec, name);
    }
    if spec.own().is_some() {
        return grouped(spec, name, target);
    }
    let (spec, kinds) = arrange(spec.clone());
    if let Some(kernel) = super::tensor::lower(&spec, &kinds, name, target, aligned) {
        return kernel;
    }
    let p = Product::new(&spec, kinds, None, target);
    let Template::Contract { b, .. } = &spec.template else { unreachable!("only contractions are lowered here") };
    let step = |d: &Range<usize>| d.clone().next_back().map_or(0, |d| b.strides[d]);
    if p.m <= FEW_ROWS && step(&p.kinds.columns) == 1 && p.k > 1 {
        return lines(&spec, &p.kinds, name);
    }
    if p.m <= FEW_ROWS && step(&p.kinds.sums) == 1 {
        return rows(&spec_in_order(&spec, &p.kinds), name);
    }
    p.emit(name)
}

/// A grouped product; where each row meets the matrix of its group and there are few, as sums along the matrices' lines.
fn grouped(spec: &Spec, name: &str, target: &Gpu) -> Kernel {
    let by = By::of(spec);
    let (arranged, kinds) = arrange(spec.clone());
    let p = Product::new(&arranged, kinds, by, target);
    if by == Some(By::Rows) && p.m <= FEW_ROWS { rows(spec, name) } else { p.emit(name) }
}

/// As a reduction along rows.
fn rows(spec: &Spec, name: &str) -> Kernel {
    let rows = as_rows(spec);
    let Template::Rows { tail } = rows.template else { unreachable!("as_rows gives rows") };
    super::rows::lower(rows, tail, name)
}

/// With the sums last again, as the template has them.
fn spec_in_order(spec: &Spec, kinds: &Kinds) -> Spec {
    let mut spec = spec.clone();
    let order: Vec<usize> = [&kinds.loops, &kinds.rows, &kinds.columns, &kinds.sums].into_iter().flat_map(Range::clone).collect();
    spec.reorder(&order);
    if let Template::Contract { out, .. } = &mut spec.template {
        *out = spec.dims.len() - kinds.sums.len();
    }
    spec
}

/// As a reduction along leading dims, with the epilogue after it: few rows of a, and b contiguous along columns.
fn lines(spec: &Spec, kinds: &Kinds, name: &str) -> Kernel {
    let Template::Contract { a, b, .. } = &spec.template else { unreachable!("only contractions are lowered here") };
    let before = vec![
        (Step::Load(a.clone()), Elem::F32),
        (Step::Load(b.clone()), Elem::F32),
        (Step::Bin(Bin::Mul, 0, 1), Elem::F32),
        (Step::Reduce(Red::Sum, 2), Elem::F32),
    ];
    let (dag, new) = spec.dag.after(before, 3);
    let mut sum = Spec { dag, ..spec.clone() };
    for s in &mut sum.stores {
        s.step = new[s.step];
    }
    // columns but the last are kept dims
    let last = kinds.columns.end - 1;
    let order: Vec<usize> = (0..kinds.sums.start).chain(kinds.columns.start..last).chain(kinds.sums.clone()).chain([last]).collect();
    sum.reorder(&order);
    sum.template = Template::Cols { reduced: vec![] };
    cols::columns(&sum, kinds.sums.start + kinds.columns.len() - 1, name)
}

/// Along what an operand's tile is read in vectors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Along {
    Outer,
    Sum,
    Nothing,
}

/// An operand of the product: its rows (or columns) and sums.
struct Operand<'a> {
    access: &'a Access,
    outer: Range<usize>,
    /// Extent of the outer dims, and of a tile along them.
    n: usize,
    tile: usize,
    along: Along,
}

/// Where a thread is: its cube's first row and column, and its own place among the threads.
struct Place {
    m0: Ix,
    n0: Ix,
    x: Ix,
    y: Ix,
}

struct Product<'a> {
    spec: &'a Spec,
    kinds: Kinds,
    groups: Option<Groups<'a>>,
    tile: Tile,
    m: usize,
    n: usize,
    k: usize,
}

impl<'a> Product<'a> {
    fn new(spec: &'a Spec, kinds: Kinds, by: Option<By>, target: &Gpu) -> Product<'a> {
        let size = |r: &Range<usize>| spec.dims[r.clone()].iter().product::<usize>();
        let (around, m, n, k) = (size(&kinds.loops), size(&kinds.rows), size(&kinds.columns), size(&kinds.sums));
        let around = if by == Some(By::Rows) { 1 } else { around };
        // rounds of cubes, each as long as what a cube multiplies and loads
        let rounds = |t: &Tile| (around * m.div_ceil(t.rows) * n.div_ceil(t.columns)).div_ceil(target.processors);
        let cost = |t: &&Tile| rounds(t) * (t.rows * t.columns + 24 * (t.rows + t.columns));
        let tile = *TILES.iter().min_by_key(cost).expect("there is a tile");
        Product { spec, groups: by.map(|by| Groups::new(spec, &kinds, by)), kinds, tile, m, n, k }
    }

    fn operands(&self) -> [Operand<'a>; 2] {
        let Template::Contract { a, b, .. } = &self.spec.template else { unreachable!("a product is a contraction") };
        let operand = |access: &'a Access, outer: &Range<usize>, n: usize, tile: usize| {
            let contiguous =
                |r: &Range<usize>| r.clone().next_back().is_some_and(|d| access.strides[d] == 1 && self.spec.dims[d].is_multiple_of(LANES));
            let along = match (contiguous(outer), contiguous(&self.kinds.sums)) {
                (true, _) => Along::Outer,
                // terms of other groups are taken out one by one
                (_, true) if self.groups.as_ref().is_none_or(Groups::of_rows) => Along::Sum,
                _ => Along::Nothing,
            };
            Operand { access, outer: outer.clone(), n, tile, along }
        };
        [operand(a, &self.kinds.rows, self.m, self.tile.rows), operand(b, &self.kinds.columns, self.n, self.tile.columns)]
    }

    fn emit(&self, name: &str) -> Kernel {
        let (down, across) = (self.m.div_ceil(self.tile.rows), self.n.div_ceil(self.tile.columns));
        let loops = if self.groups.as_ref().is_some_and(Groups::of_rows) { &[] } else { &self.spec.dims[self.kinds.loops.clone()] };
        let around: usize = loops.iter().product();
        // the plan shows by its name what was chosen
        let name = &format!("{name}_tile{}x{}", self.tile.rows, self.tile.columns);
        let mut writer = Writer::cubes(name, self.spec.params.clone(), around * down * across, self.tile.threads());
        let w = &mut writer;
        let (cube, thread) = (w.cube(), w.thread());
        let m0 = w.name("m0", cube.clone().div(across).rem(down) * self.tile.rows);
        let n0 = w.name("n0", cube.clone().rem(across) * self.tile.columns);
        let outer = split_index(w, cube.div(down * across), loops);
        let y = w.name("y", thread.clone().div(self.tile.across()));
        let x = w.name("x", thread.rem(self.tile.across()));
        let place = Place { m0, n0, x, y };
        let all = Terms { from: Ix::Const(0), to: Ix::from(self.k) };
        match &self.groups {
            None => self.product(w, &place, &outer, all),
            Some(groups) if groups.of_rows() => groups.of_tile(w, (&place.m0, self.tile.rows, self.m), all, &mut |w, group, terms| {
                self.product(w, &place, &[group], terms);
            }),
            Some(groups) => {
                let terms = groups.terms(w, &outer[0], self.k, (self.tile.threads(), self.tile.depth));
                self.product(w, &place, &outer, terms);
            }
        }
        writer.finish()
    }

    /// A tile of the product over some terms of its sums.
    fn product(&self, w: &mut Writer, place: &Place, outer: &[Ix], terms: Terms) {
        let acc = w.local("acc", Elem::F32, LANES as u32, self.tile.high * self.tile.wide);
        for i in 0..self.tile.high * self.tile.wide {
            w.set(acc, i, Expr::f32(0.0).splat(LANES as u32));
        }
        let operands = self.operands();
        // in vectors where it is written and read so
        let [a, b] = [self.tile.high >= LANES, true].map(|read| if read { LANES } else { 1 });
        let mut region =
            |o: &Operand, lanes: usize| w.shared(Elem::F32, if o.along == Along::Outer { lanes } else { 1 } as u32, self.tile.depth * o.tile);
        let shared = [region(&operands[0], a), region(&operands[1], b)];
        w.each("k0", terms.from, terms.to, self.tile.depth as i64, |w, k0| {
            for ((o, buf), first) in operands.iter().zip(shared).zip([&place.m0, &place.n0]) {
                self.stage(w, o, buf, outer, first, &k0);
            }
            w.barrier();
            self.multiply(w, acc, shared, &place.x, &place.y);
            w.barrier();
        });
        self.epilogue(w, acc, outer, place);
    }

    /// Copies an operand's tile to shared memory, sums in lines: tile[k][i]. What is outside the operand is 0.
    fn stage(&self, w: &mut Writer, o: &Operand, buf: Buf, outer: &[Ix], first: &Ix, k0: &Ix) {
        let depth = self.tile.depth;
        let (lanes, per_line) = match o.along {
            Along::Outer => (LANES, o.tile / LANES),
            Along::Sum => (LANES, depth / LANES),
            Along::Nothing => (1, o.tile),
        };
        let (pieces, threads) = (depth * o.tile / lanes, self.tile.threads());
        for round in 0..pieces.div_ceil(threads) {
            let e = w.thread() + round * threads;
            let e = w.name("e", e);
            guard(w, e.clone(), pieces, (round + 1) * threads <= pieces, |w| {
                let (line, place) = (e.clone().div(per_line), e.rem(per_line));
                let (i, k) = match o.along {
                    Along::Outer => (place * lanes, line),
                    Along::Sum => (line, place * lanes),
                    Along::Nothing => (place, line),
                };
                let (i, k) = (w.name("i", i), w.name("k", k));
                let value = self.fetch(w, o, outer, first.clone() + i.clone(), k0.clone() + k.clone(), lanes);
                let to = |k: Ix| k * o.tile + i.clone();
                if o.along == Along::Sum {
                    let v = w.local("v", Elem::F32, LANES as u32, 1);
                    w.set(v, 0, value);
                    for j in 0..LANES {
                        w.store(buf, to(k.clone() + j), Writer::get(v, 0).lane(j as u32, LANES as u32), None);
                    }
                } else {
                    w.store(buf, to(k), value, None);
                }
            });
        }
    }

    /// Elements of an operand from (i, k) on, 0 where they are none of it.
    fn fetch(&self, w: &mut Writer, o: &Operand, outer: &[Ix], i: Ix, k: Ix, lanes: usize) -> Expr {
        let sums = &self.spec.dims[self.kinds.sums.clone()];
        let depth: usize = sums.iter().product();
        let (i_lanes, k_lanes) = (if o.along == Along::Outer { lanes } else { 1 }, if o.along == Along::Sum { lanes } else { 1 });
        // what is outside reads the last there is instead
        let (i_exact, k_exact) = (o.n.is_multiple_of(o.tile), depth.is_multiple_of(self.tile.depth));
        let inside = |w: &mut Writer, at: Ix, n: usize, lanes: usize, exact: bool| if exact { at } else { w.name("in", at.min(n - lanes)) };
        let (ri, rk) = (inside(w, i, o.n, i_lanes, i_exact), inside(w, k.clone(), depth, k_lanes, k_exact));
        let (own, along) = (split_index(w, ri, &self.spec.dims[o.outer.clone()]), split_index(w, rk.clone(), sums));
        let mut index = vec![Ix::Const(0); self.spec.dims.len()];
        let places = [(&self.kinds.loops, outer), (&o.outer, &own), (&self.kinds.sums, &along)];
        for (range, values) in places {
            index[range.clone()].clone_from_slice(values);
        }
        let value = load(Buf::Arg(o.access.arg), access_at(o.access, &index), lanes as u32, None);
        let or_zero = |holds: Expr, value: Expr| {
            let zero = Expr::f32(0.0).splat(lanes as u32);
            Expr::Select(Box::new(holds.splat(lanes as u32)), Box::new(value), Box::new(zero))
        };
        let own = self.groups.as_ref().filter(|g| !g.of_rows()).map(|g| g.is_own(&rk, &outer[0]));
        let value = own.map_or_else(|| value.clone(), |own| or_zero(own, value.clone()));
        if k_exact { value } else { or_zero(Expr::bin(Bin::Eq, Expr::Index(k), Expr::Index(rk)), value) }
    }

    /// Row i of the thread's tile, and the first column of its vector j.
    fn row(&self, y: &Ix, i: usize) -> Ix {
        y.clone() * self.tile.high + i
    }
    fn column(&self, x: &Ix, j: usize) -> Ix {
        x.clone() * LANES + j * (self.tile.columns / self.tile.wide)
    }

    fn multiply(&self, w: &mut Writer, acc: LocalId, [a, b]: [Buf; 2], x: &Ix, y: &Ix) {
        let Tile { high, wide, rows, columns, depth, .. } = self.tile;
        let lanes = LANES as u32;
        let step = if high >= LANES { LANES } else { 1 };
        let left = w.local("a", Elem::F32, step as u32, high / step);
        let right = w.local("b", Elem::F32, lanes, wide);
        w.each("k", 0i64, depth, 1, |w, k| {
            for i in 0..high / step {
                w.set(left, i, load(a, k.clone() * rows + self.row(y, i * step), step as u32, None));
            }
            for j in 0..wide {
                w.set(right, j, load(b, k.clone() * columns + self.column(x, j), lanes, None));
            }
            for i in 0..high {
                let one = Writer::get(left, i / step).lane((i % step) as u32, step as u32);
                for j in 0..wide {
                    let at = i * wide + j;
                    w.set(acc, at, Expr::fma(one.clone().splat(lanes), Writer::get(right, j), Writer::get(acc, at)));
                }
            }
        });
    }

    fn epilogue(&self, w: &mut Writer, acc: LocalId, outer: &[Ix], Place { m0, n0, x, y }: &Place) {
        let spec = self.spec;
        let lanes = if self.kinds.columns.is_empty() { 1 } else { lanes(spec, spec.dims.len() - 1) };
        let (m_exact, n_exact) = (self.m.is_multiple_of(self.tile.rows), self.n.is_multiple_of(self.tile.columns));
        for i in 0..self.tile.high {
            let row = w.name("row", m0.clone() + self.row(y, i));
            let stored = |w: &mut Writer| {
                let own = split_index(w, row.clone(), &spec.dims[self.kinds.rows.clone()]);
                for j in 0..self.tile.wide {
                    for lane in 0..LANES / lanes {
                        let column = w.name("column", n0.clone() + self.column(x, j) + lane);
                        guard(w, column.clone(), self.n, n_exact, |w| {
                            let product = Writer::get(acc, i * self.tile.wide + j);
                            let product = if lanes == 1 { product.lane(lane as u32, LANES as u32) } else { product };
                            store(w, (spec, &self.kinds), product, lanes, outer, &own, column);
                        });
                    }
                }
            };
            guard(w, row.clone(), self.m, m_exact, |w| match self.groups.as_ref().filter(|g| g.of_rows()) {
                None => stored(w),
                Some(groups) => groups.if_own(w, &row, &outer[0], stored),
            });
        }
    }
}
