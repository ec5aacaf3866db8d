//! Contractions as packed, register-tiled matrix products.
//!
//! Columns of B are packed into panels as wide as the register tile, A is read by broadcasts from memory (or packed where its rows are
//! not contiguous along k), C stays in registers and leaves through the epilogue. K blocks go in order whatever the partition, so bits
//! do not depend on the number of threads.

use super::Cpu;
use super::grouped::{By, Part};
use super::point::{Point, Values, access_at, address, per_row, vectorisable};
use super::rows::split_index;
use super::tile::{Acc, Panel, lines};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Stmt, Writer, load};
use crate::spec::{Access, Own, Spec, Step, Store, Template};
use ir::{Bin, Red};

/// Longest k block.
const DEPTH_MAX: usize = 1024;
/// Products of at most this many rows read B where it is: packing would cost more than it saves.
const DIRECT_ROWS: usize = 32;
/// Rows of B that such a product reads side by side: from one alone memory comes slower than it can.
const STREAMS: usize = 16;
/// Sums that such a product holds in cache meanwhile.
const DIRECT_FLOATS: usize = 32 << 10;

/// The same sum of products as a reduction along rows: for shapes that are no matrix product.
pub(crate) fn as_rows(spec: &Spec) -> Spec {
    let Template::Contract { out, a, b, own } = &spec.template else { unreachable!("only contractions are lowered here") };
    let chosen = own.as_ref().map(|own| own.dim).filter(|dim| dim >= out);
    let mut steps = own.as_ref().map_or_else(|| product_steps(a, b), |own| own_steps(spec, own, [a, b], *out));
    let tail = spec.dims.len() - out - usize::from(chosen.is_some());
    if tail > 0 {
        steps.push((Step::Reduce(Red::Sum, steps.len() - 1), Elem::F32));
    }
    let product = steps.len() - 1;
    let (dag, new) = spec.dag.after(steps, product);
    let stores = spec.stores.iter().map(|s| Store { step: new[s.step], access: s.access.clone(), at: None }).collect();
    let mut rows = Spec { template: Template::Rows { tail }, dag, stores, ..spec.clone() };
    // the matrix is found by index, not looked for along a dim
    chosen.into_iter().for_each(|dim| rows.remove_dim(dim, dim));
    rows
}

fn product_steps(a: &Access, b: &Access) -> Vec<(Step, Elem)> {
    vec![(Step::Load(a.clone()), Elem::F32), (Step::Load(b.clone()), Elem::F32), (Step::Bin(Bin::Mul, 0, 1), Elem::F32)]
}

/// A product that counts only where the group is the index: where that is summed, b is read at the group's matrix.
fn own_steps(spec: &Spec, own: &Own, [a, b]: [&Access; 2], out: usize) -> Vec<(Step, Elem)> {
    let group = (Step::Load(own.group.clone()), Elem::I32);
    let groups = spec.dims[own.dim] as i64;
    if own.dim >= out {
        let matrix = if groups == 0 { Step::Const(0.0) } else { Step::Gather { access: b.clone(), row: b.strides[own.dim], rows: groups, index: 0 } };
        return vec![group, (Step::Load(a.clone()), Elem::F32), (matrix, Elem::F32), (Step::Bin(Bin::Mul, 1, 2), Elem::F32)];
    }
    let strides = (0..spec.dims.len()).map(|d| i64::from(d == own.dim)).collect();
    let mut steps = product_steps(a, b);
    steps.extend([
        group,
        (Step::Index { offset: 0, strides }, Elem::I32),
        (Step::Bin(Bin::Eq, 3, 4), Elem::Bool),
        (Step::Const(0.0), Elem::F32),
        (Step::Select(5, 2, 6), Elem::F32),
    ]);
    steps
}

/// A contraction seen as matrix products: loops around, one row dim, one column dim, sums of which the last is blocked.
pub(super) struct Product {
    /// Dims in the order: loops, row, sums, column.
    pub(super) spec: Spec,
    pub(super) loops: usize,
    pub(super) target: Cpu,
    pub(super) rows: usize,
    pub(super) vectors: usize,
    /// Length of a k block.
    depth: usize,
    /// Columns packed at a time.
    columns: usize,
    /// Whether B is read in place.
    direct: bool,
    /// Whether operands are `bfloat16` and multiplied in pairs along k.
    pub(super) pairs: bool,
    /// Whether threads divide rows; else columns.
    split_rows: bool,
    /// What of it the groups are of, where it is grouped.
    pub(super) by: Option<By>,
}

impl Product {
    pub(super) fn new(mut spec: Spec, target: &Cpu) -> Option<Product> {
        let Template::Contract { out, a, b, own } = &spec.template else { unreachable!("only contractions are lowered here") };
        let by = By::of(&spec);
        let class = |d: usize| match (d < *out, a.strides[d] != 0, b.strides[d] != 0) {
            _ if own.as_ref().is_some_and(|own| own.dim == d) => 2,
            (false, ..) => 3,
            (true, true, false) => 0,
            (true, false, true) => 1,
            (true, ..) => 2,
        };
        let classes: Vec<u8> = (0..spec.dims.len()).map(class).collect();
        if spec.dims.contains(&0) {
            return None;
        }
        let mut classes = spec.collapse(&classes);
        // the first store also holds sums between k blocks, so it must be able to; where none is, there is one block
        let holds_sums = |s: &Store| spec.params[s.access.arg].elem == Elem::F32;
        let holds = spec.stores.iter().position(holds_sums);
        spec.stores.swap(0, holds.unwrap_or(0));
        let main = spec.stores[0].access.clone();
        let grouped = |d: usize| spec.own().is_some_and(|own| own.group.strides[d] != 0);
        let column = (0..classes.len()).find(|d| main.strides[*d] == 1 && classes[*d] < 2 && !grouped(*d))?;
        if classes[column] == 0 {
            let Template::Contract { a, b, .. } = &mut spec.template else { unreachable!("as above") };
            std::mem::swap(a, b);
            for c in &mut classes {
                *c = [1, 0, 2, 3][usize::from(*c)];
            }
        }
        // a row dim of size 1 where there is none
        let row = (0..classes.len()).filter(|d| classes[*d] == 0).max_by_key(|d| spec.dims[*d]);
        let sums: Vec<usize> = (0..classes.len()).filter(|d| classes[*d] == 3).collect();
        if holds.is_none() && sums.len() > 1 {
            return None;
        }
        let loops: Vec<usize> = (0..classes.len()).filter(|d| classes[*d] != 3 && *d != column && Some(*d) != row).collect();
        let one = spec.dims.len();
        spec.push_unit();
        let order: Vec<usize> =
            loops.iter().copied().chain([row.unwrap_or(one)]).chain(if sums.is_empty() { vec![one] } else { sums }).chain([column]).collect();
        spec.reorder(&order);
        if target.lanes > 1 && !vectorisable(&spec, spec.dims.len() - 1) {
            return None;
        }
        let (m, n) = (spec.dims[loops.len()], spec.dims[spec.dims.len() - 1]);
        let inner = spec.dims[spec.dims.len() - 2];
        let Template::Contract { a, b, .. } = &spec.template else { unreachable!("as above") };
        let direct = m <= DIRECT_ROWS && b.strides[spec.dims.len() - 1] == 1 && by != Some(By::Sums);
        // what is read once is widened as it is read: memory bounds that
        let pairs = target.pairs && !direct && by != Some(By::Sums) && [a, b].iter().all(|x| spec.params[x.arg].elem == Elem::BF16);
        let (rows, vectors) = if direct { target.flat_tile(m, n) } else { target.tile(n) };
        let width = vectors * target.lanes as usize;
        let (depth, held) = if direct && holds.is_some() && inner * n * 4 > target.cache {
            (STREAMS, DIRECT_FLOATS / m)
        } else {
            let depth = if inner <= DEPTH_MAX || holds.is_none() { inner } else { inner.div_ceil(inner.div_ceil(768)).next_multiple_of(8) };
            (depth, target.cache * 6 / 10 / 4 / lines(&Ix::from(depth), pairs).known().map_or(1, |n| n.max(1) as usize))
        };
        let columns = (held / width).max(1) * width;
        Some(Product { loops: loops.len(), target: *target, rows, vectors, depth, columns, direct, pairs, split_rows: m >= n && !direct, by, spec })
    }

    pub(super) fn m(&self) -> usize {
        self.spec.dims[self.loops]
    }
    pub(super) fn n(&self) -> usize {
        self.spec.dims[self.spec.dims.len() - 1]
    }
    pub(super) fn k(&self) -> usize {
        self.spec.dims[self.spec.dims.len() - 2]
    }
    /// Whether a few rows meet rows of the other operand.
    pub(super) fn lies_along_sums(&self) -> bool {
        let (a, b) = self.operands();
        let [column, sum] = [1, 2].map(|back| self.spec.dims.len() - back);
        self.m() <= DIRECT_ROWS
            && self.outer_sums().is_empty()
            && self.by != Some(By::Sums)
            && a.strides[sum] == 1
            && b.strides[sum] == 1
            && b.strides[column] != 1
    }
    /// Sums around the blocked one.
    fn outer_sums(&self) -> std::ops::Range<usize> {
        self.loops + 1..self.spec.dims.len() - 2
    }
    pub(super) fn width(&self) -> usize {
        self.vectors * self.target.lanes as usize
    }
    /// Pieces that threads divide inside one matrix product.
    fn parts(&self) -> usize {
        if self.split_rows { self.m().div_ceil(self.rows) } else { self.n().div_ceil(self.width()) }
    }

    pub(super) fn emit(&self, name: &str) -> Kernel {
        // groups are gone through by every thread: of some there is more to do than of others
        let loops = if self.by.is_some() { &[] } else { &self.spec.dims[..self.loops] };
        let around: usize = loops.iter().product();
        // many products are divided whole
        let parts = if around >= 16 { 1 } else { self.parts() };
        let mut w = Writer::new(name, self.spec.params.clone(), around * parts);
        let (elem, lines) = if self.pairs { (Elem::U32, self.depth.div_ceil(2)) } else { (Elem::F32, self.depth) };
        let b = (!self.direct).then(|| w.scratch_of(elem, lines * self.columns.min(self.n().next_multiple_of(self.width()))));
        let a = self.packs_a().then(|| w.scratch_of(elem, lines * self.rows + self.target.lanes as usize));
        let (lo, hi) = (w.lo(), w.hi());
        w.each("p", lo.clone().div(parts), (hi.clone() + (parts as i64 - 1)).div(parts), 1, |w, p| {
            let p = w.name("p", p);
            let first = w.name("first", (lo.clone() - p.clone() * parts).max(0i64));
            let last = w.name("last", (hi.clone() - p.clone() * parts).min(parts));
            let outer = split_index(w, p, loops);
            let all = parts == 1;
            let range = |unit: usize, n: usize| if all { (Ix::Const(0), Ix::from(n)) } else { (first.clone() * unit, (last.clone() * unit).min(n)) };
            let (rows, cols) = if self.split_rows {
                (range(self.rows, self.m()), (Ix::Const(0), Ix::from(self.n())))
            } else {
                ((Ix::Const(0), Ix::from(self.m())), range(self.width(), self.n()))
            };
            let part = Part { outer, ..Part::default() };
            match self.by {
                None => self.columns(w, &part, rows, cols, [b, a]),
                Some(by) => self.groups(w, by, rows, cols, [b, a]),
            }
        });
        w.finish()
    }

    /// Columns of some rows; of one group, where there are such.
    pub(super) fn columns(&self, w: &mut Writer, part: &Part, rows: (Ix, Ix), cols: (Ix, Ix), [b, a]: [Option<Buf>; 2]) {
        let (first, last) = (w.name("n0", cols.0), w.name("n1", cols.1));
        w.each("jc", first, last.clone(), self.columns as i64, |w, jc| {
            let end = w.name("end", (jc.clone() + self.columns).min(last));
            let block = |w: &mut Writer, sums: Vec<Ix>, pc: Ix, hi: Ix, turn: Option<[Ix; 2]>| {
                let depth = w.name("depth", (hi - pc.clone()).min(self.depth));
                let block = Block { product: self, part, sums, pc, depth, turn, jc: jc.clone(), end: end.clone(), a, b };
                block.pack_b(w);
                block.rows(w, rows.clone());
            };
            if let Some([from, to]) = &part.sums {
                // a group without rows has a sum, too
                let blocks = w.name("blocks", (to.clone() - from.clone() + (self.depth as i64 - 1)).div(self.depth).max(1i64));
                return w.each("block", 0i64, blocks.clone(), 1, |w, i| {
                    let pc = w.name("pc", from.clone() + i.clone() * self.depth);
                    block(w, vec![], pc, to.clone(), Some([i, blocks]));
                });
            }
            self.sums(w, self.outer_sums().start, vec![], &mut |w, sums| {
                w.each("pc", 0i64, self.k(), self.depth as i64, |w, pc| block(w, sums.clone(), pc, Ix::from(self.k()), None));
            });
        });
    }

    fn sums(&self, w: &mut Writer, dim: usize, index: Vec<Ix>, body: &mut dyn FnMut(&mut Writer, Vec<Ix>)) {
        if dim == self.outer_sums().end {
            return body(w, index);
        }
        w.each("ko", 0i64, self.spec.dims[dim], 1, |w, i| self.sums(w, dim + 1, index.iter().cloned().chain([i]).collect(), body));
    }

    pub(super) fn operands(&self) -> (&crate::spec::Access, &crate::spec::Access) {
        if let Template::Contract { a, b, .. } = &self.spec.template { (a, b) } else { unreachable!("a product is a contraction") }
    }

    fn packs_a(&self) -> bool {
        // rows of other groups are taken out of what is packed
        let apart = self.operands().0.strides[self.spec.dims.len() - 2] != 1 || self.by == Some(By::Sums);
        !self.direct && self.k() > 1 && apart
    }
}

/// One block of columns and of k.
pub(super) struct Block<'a> {
    pub(super) product: &'a Product,
    pub(super) part: &'a Part,
    pub(super) sums: Vec<Ix>,
    pub(super) pc: Ix,
    pub(super) depth: Ix,
    /// Its number and how many there are, where that is known only as it runs.
    turn: Option<[Ix; 2]>,
    jc: Ix,
    end: Ix,
    a: Option<Buf>,
    b: Option<Buf>,
}

impl Block<'_> {
    fn index(&self, row: Ix, k: Ix, column: Ix) -> Vec<Ix> {
        self.part.outer.iter().cloned().chain([row]).chain(self.sums.iter().cloned()).chain([k, column]).collect()
    }

    /// A block of no sums: what is left is the epilogue.
    pub(super) fn nothing<'a>(product: &'a Product, part: &'a Part) -> Block<'a> {
        let none = || Ix::Const(0);
        let sums = vec![none(); product.spec.dims.len() - product.loops - 3];
        Block { product, part, sums, pc: none(), depth: none(), turn: None, jc: none(), end: none(), a: None, b: None }
    }

    fn masked(&self) -> bool {
        !self.product.n().is_multiple_of(self.product.width())
    }

    fn left(&self, column: &Ix) -> Option<Ix> {
        self.masked().then(|| Ix::from(self.product.n()) - column.clone())
    }

    fn pack_b(&self, w: &mut Writer) {
        let Some(dst) = self.b else { return };
        let p = self.product;
        let b = p.operands().1;
        let rank = p.spec.dims.len();
        w.each("j", self.jc.clone(), self.end.clone(), p.width() as i64, |w, j| {
            let at = w.name("at", access_at(b, &self.index(Ix::Const(0), self.pc.clone(), j.clone())));
            let to = w.name("to", (j.clone() - self.jc.clone()) * lines(&self.depth, p.pairs));
            let (along, across) = (b.strides[rank - 2], b.strides[rank - 1]);
            let valid = self.left(&j);
            Panel {
                src: Buf::Arg(b.arg),
                at,
                along,
                across,
                depth: &self.depth,
                pairs: p.pairs,
                width: p.width(),
                valid,
                dst,
                to: to.clone(),
                lanes: p.target.lanes,
            }
            .pack(w);
            self.clear_others(w, dst, to, p.width());
        });
    }

    fn rows(&self, w: &mut Writer, rows: (Ix, Ix)) {
        let p = self.product;
        let tail = p.m() % p.rows;
        let whole = w.name("whole", rows.1.clone().min(p.m() - tail));
        if p.direct {
            // what is read once meets all rows at once, while the next is on its way
            return w.each("jr", self.jc.clone(), self.end.clone(), p.width() as i64, |w, jr| {
                w.each("ir", rows.0, whole, p.rows as i64, |w, ir| {
                    self.if_any(w, &ir, p.rows, |w| {
                        self.ask_ahead(w, &ir, &jr);
                        self.tile(w, &ir, &jr, p.rows);
                    });
                });
                if tail > 0 {
                    let ir = Ix::from(p.m() - tail);
                    self.if_any(w, &ir, tail, |w| self.tile(w, &ir, &jr, tail));
                }
            });
        }
        w.each("ir", rows.0.clone(), whole, p.rows as i64, |w, ir| self.row_block(w, ir, p.rows));
        if tail > 0 {
            let from = Ix::from(p.m() - tail);
            // the range that reaches the end has the tail
            w.branch(p.m() - 1, rows.1, |w| self.row_block(w, from, tail), |_| {});
        }
    }

    /// Asks for a part of what the tile's columns read of B in the next k block, so that all blocks of rows ask for all of it.
    fn ask_ahead(&self, w: &mut Writer, ir: &Ix, jr: &Ix) {
        let p = self.product;
        let blocks = p.m() / p.rows;
        if p.depth == p.k() || blocks == 0 {
            return;
        }
        let b = p.operands().1;
        let along = b.strides[p.spec.dims.len() - 2];
        let share = p.depth.div_ceil(blocks);
        let k = self.pc.clone() + p.depth + ir.clone().div(p.rows) * share;
        let next = w.name("next", access_at(b, &self.index(Ix::Const(0), k, jr.clone())));
        w.unrolled("k", share, |w, k| {
            w.unrolled("j", p.vectors, |w, j| {
                let at = next.clone() + k.clone() * along + j * i64::from(p.target.lanes);
                w.push(Stmt::Prefetch(Buf::Arg(b.arg), at));
            });
        });
    }

    fn row_block(&self, w: &mut Writer, ir: Ix, rows: usize) {
        let p = self.product;
        let ir = w.name("ir", ir);
        self.if_any(w, &ir, rows, |w| {
            self.pack_a(w, &ir, rows);
            w.each("jr", self.jc.clone(), self.end.clone(), p.width() as i64, |w, jr| self.tile(w, &ir, &jr, rows));
        });
    }

    fn pack_a(&self, w: &mut Writer, ir: &Ix, rows: usize) {
        let Some(dst) = self.a else { return };
        let p = self.product;
        let (a, rank, lanes) = (p.operands().0, p.spec.dims.len(), p.target.lanes);
        let across = a.strides[p.loops];
        let along = a.strides[rank - 2];
        let at = w.name("at", access_at(a, &self.index(ir.clone(), self.pc.clone(), Ix::Const(0))));
        let term = |k: Ix, i: Ix, lanes: u32| {
            let valid = (lanes > 1).then(|| Ix::from(rows));
            load(Buf::Arg(a.arg), at.clone() + k * along + i * across, lanes, valid)
        };
        let line = |w: &mut Writer, k: &Ix, both: bool| {
            let value = |i: Ix, lanes: u32| {
                if !p.pairs {
                    return term(k.clone(), i, lanes);
                }
                let first = k.clone() * 2i64;
                let second = if both { term(first.clone() + 1i64, i.clone(), lanes) } else { Expr::f32(0.0).splat(lanes) };
                Expr::word(term(first, i, lanes), second)
            };
            if across == 1 && rows <= lanes as usize {
                // lanes past the tile are overwritten by the next k
                return w.store(dst, k.clone() * rows, value(Ix::Const(0), lanes), None);
            }
            w.unrolled("i", rows, |w, i| w.store(dst, k.clone() * rows + i.clone(), value(i, 1), None));
        };
        let full = if p.pairs { w.name("full", self.depth.clone().div(2)) } else { self.depth.clone() };
        w.each("k", 0i64, full.clone(), 1, |w, k| line(w, &k, true));
        if p.pairs && !p.k().is_multiple_of(2) {
            w.branch(full.clone() * 2i64, self.depth.clone(), |w| line(w, &full, false), |_| {});
        }
        self.clear_others(w, dst, Ix::Const(0), rows);
    }

    fn tile(&self, w: &mut Writer, ir: &Ix, jr: &Ix, rows: usize) {
        let p = self.product;
        let lanes = p.target.lanes;
        let acc = Acc::of(w, rows, p.vectors, lanes, p.pairs);
        let [position, total] = self.turn.clone().unwrap_or_else(|| self.known_turn());
        let main = &p.spec.stores[0].access;
        let cell = |i: &Ix, j: &Ix| {
            let column = jr.clone() + j.clone() * i64::from(lanes);
            (access_at(main, &self.index(ir.clone() + i.clone(), Ix::Const(0), column.clone())), self.left(&column))
        };
        let position = if total == Ix::Const(1) { Ix::Const(0) } else { w.name("block", position) };
        w.branch(
            0i64,
            position.clone(),
            |w| {
                acc.fill(w, &mut |_, i, j| {
                    let (at, valid) = cell(i, j);
                    load(Buf::Arg(main.arg), at, lanes, valid)
                });
            },
            |w| acc.zero(w),
        );
        self.multiply(w, &acc, ir, jr, rows);
        w.branch(
            position,
            total - 1i64,
            |w| {
                self.each_own(w, &acc, ir, &mut |w, i, j| {
                    let (at, valid) = cell(i, j);
                    w.store(Buf::Arg(main.arg), at, acc.get(i, j), valid);
                });
            },
            |w| self.epilogue(w, &acc, ir, jr),
        );
    }

    /// The number of this block among all that sum to the same, and how many these are.
    fn known_turn(&self) -> [Ix; 2] {
        let p = self.product;
        let blocks = p.k().div_ceil(p.depth);
        let outer_sums = &p.spec.dims[p.outer_sums()];
        let position = self.sums.iter().zip(outer_sums).fold(Ix::Const(0), |at, (i, n)| at * *n + i.clone()) * blocks + self.pc.clone().div(p.depth);
        [position, Ix::from(blocks * outer_sums.iter().product::<usize>())]
    }

    fn multiply(&self, w: &mut Writer, acc: &Acc, ir: &Ix, jr: &Ix, rows: usize) {
        let p = self.product;
        let lanes = p.target.lanes;
        let (a, b) = p.operands();
        let rank = p.spec.dims.len();
        let (row_step, along) = (a.strides[p.loops], a.strides[rank - 2]);
        let a_at = w.name("a0", access_at(a, &self.index(ir.clone(), self.pc.clone(), Ix::Const(0))));
        let b_at = match self.b {
            Some(_) => w.name("b0", (jr.clone() - self.jc.clone()) * lines(&self.depth, p.pairs)),
            None => w.name("b0", access_at(b, &self.index(Ix::Const(0), self.pc.clone(), jr.clone()))),
        };
        let a_value = |i: &Ix, k: &Ix| match self.a {
            Some(packed) => load(packed, k.clone() * rows + i.clone(), 1, None),
            None if p.pairs => Expr::Words { buf: Buf::Arg(a.arg), at: a_at.clone() + i.clone() * row_step + k.clone() * 2i64, lanes: 1 },
            None => load(Buf::Arg(a.arg), a_at.clone() + i.clone() * row_step + k.clone() * along, 1, None),
        };
        let b_value = |k: &Ix, j: &Ix| {
            let j = j.clone() * i64::from(lanes);
            match self.b {
                Some(packed) => load(packed, b_at.clone() + k.clone() * p.width() + j, lanes, None),
                None => load(Buf::Arg(b.arg), b_at.clone() + k.clone() * b.strides[rank - 2] + j.clone(), lanes, self.left(&(jr.clone() + j))),
            }
        };
        if !p.pairs || self.a.is_some() {
            return acc.product(w, Ix::Const(0), lines(&self.depth, p.pairs), &a_value, &b_value);
        }
        let full = w.name("full", self.depth.clone().div(2));
        acc.product(w, Ix::Const(0), full.clone(), &a_value, &b_value);
        if p.k().is_multiple_of(2) {
            return;
        }
        let last = |i: &Ix, k: &Ix| {
            let at = a_at.clone() + i.clone() * row_step + k.clone() * 2i64;
            Expr::word(load(Buf::Arg(a.arg), at, 1, None), Expr::f32(0.0))
        };
        let multiply = |w: &mut Writer| acc.product(w, full.clone(), full.clone() + 1i64, &last, &b_value);
        w.branch(full.clone() * 2i64, self.depth.clone(), multiply, |_| {});
    }

    pub(super) fn epilogue(&self, w: &mut Writer, acc: &Acc, ir: &Ix, jr: &Ix) {
        let spec = &self.product.spec;
        let constant = per_row(&spec.dag, spec.dims.len() - 1);
        let wanted: Vec<usize> = spec.stores.iter().map(|s| s.step).collect();
        self.each_own(w, acc, ir, &mut |w, i, j| {
            let column = jr.clone() + j.clone() * i64::from(acc.lanes);
            let index = self.index(ir.clone() + i.clone(), Ix::Const(0), column.clone());
            let point = Point { index, lanes: acc.lanes, valid: self.left(&column) };
            let values = Values::new(&spec.dag, &constant);
            for (store, value) in spec.stores.iter().zip(values.at(w, &wanted, &point, Some(acc.get(i, j)))) {
                let at = address(store.access.offset, &store.access.strides, &point.index);
                w.store(Buf::Arg(store.access.arg), at, value, point.valid.clone());
            }
        });
    }
}
