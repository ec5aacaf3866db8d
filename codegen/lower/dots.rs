//! Products of a few rows with rows of another matrix: what reading a token does to weights that lie along their sums.
//!
//! Memory bounds them, so every element of B is asked of it once and in order, from several rows at a time: one stream does not keep
//! memory busy. While these rows, then in cache, meet the other rows of A, the next are on their way. Each sum has a vector of its own,
//! whose lanes are added up at the end. Where each row meets the matrix of its group, rows go one by one: of the matrices only those in use
//! are read, and rows of one group after another find theirs in cache.

use super::contract::Product;
use super::point::{Point, Values, access_at, address, per_row};
use super::rows::split_index;
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Stmt, Writer, load};
use ir::Red;

/// Rows of B at a time.
const STREAMS: usize = 8;
/// Rows of A at a time: as many sums as there are registers for beside operands.
const ROWS: usize = 3;

/// The kernel of a product whose operands both lie along their one sum.
pub(super) fn lower(product: &Product, name: &str) -> Kernel {
    let (blocks, tail) = (product.n().div_ceil(STREAMS), product.n() % STREAMS);
    let around = if product.by.is_some() { &[] } else { &product.spec.dims[..product.loops] };
    let mut w = Writer::new(name, product.spec.params.clone(), around.iter().product::<usize>() * blocks);
    let (lo, hi) = (w.lo(), w.hi());
    w.each("u", lo, hi, 1, |w, u| {
        let column = w.name("column", u.clone().rem(blocks) * STREAMS);
        // of groups each row has its own
        let outer = if product.by.is_some() { vec![Ix::Const(0)] } else { split_index(w, u.div(blocks), around) };
        let dots = Dots { product, outer, column: column.clone() };
        if tail == 0 {
            return dots.rows(w, STREAMS);
        }
        w.branch(column + STREAMS, product.n() + 1, |w| dots.rows(w, STREAMS), |w| dots.rows(w, tail));
    });
    w.finish()
}

/// Some columns of one product.
#[derive(Clone)]
struct Dots<'a> {
    product: &'a Product,
    outer: Vec<Ix>,
    column: Ix,
}

impl Dots<'_> {
    fn index(&self, row: &Ix, k: &Ix, column: &Ix) -> Vec<Ix> {
        let column = self.column.clone() + column.clone();
        self.outer.iter().cloned().chain([row.clone(), k.clone(), column]).collect()
    }

    fn rows(&self, w: &mut Writer, columns: usize) {
        if self.product.by.is_some() {
            return w.each("r", 0i64, self.product.m(), 1, |w, r| self.own_row(w, &r, columns));
        }
        let (m, tail) = (self.product.m(), self.product.m() % ROWS);
        w.each("r", 0i64, m - tail, ROWS as i64, |w, r| {
            let r = w.name("r", r);
            self.tile(w, &r, ROWS, columns);
        });
        if tail > 0 {
            self.tile(w, &Ix::from(m - tail), tail, columns);
        }
    }

    /// A row with the matrix of its group; of none, its sums are 0.
    fn own_row(&self, w: &mut Writer, row: &Ix, columns: usize) {
        let own = self.product.spec.own().expect("the product is grouped");
        let group = w.value("group", load(Buf::Arg(own.group.arg), access_at(&own.group, &self.index(row, &Ix::Const(0), &Ix::Const(0))), 1, None));
        let inside = |w: &mut Writer| Dots { outer: vec![group.clone()], ..self.clone() }.tile(w, row, 1, columns);
        let nothing = |w: &mut Writer| w.each("j", 0i64, columns, 1, |w, j| self.finish(w, row, &j, Expr::f32(0.0).splat(self.product.target.lanes)));
        w.branch(-1i64, group.clone(), |w| w.branch(group.clone(), self.product.spec.dims[own.dim], inside, nothing), nothing);
    }

    fn tile(&self, w: &mut Writer, first: &Ix, rows: usize, columns: usize) {
        let (p, lanes) = (self.product, self.product.target.lanes);
        let (a, b) = p.operands();
        let sums = w.local("sum", Elem::F32, lanes, rows * columns);
        let (x, ys) = (w.local("x", Elem::F32, lanes, 1), w.local("y", Elem::F32, lanes, columns));
        let at = |i: &Ix, j: &Ix| i.clone() * columns + j.clone();
        w.unrolled("s", rows * columns, |w, s| w.set(sums, s, Expr::f32(0.0).splat(lanes)));
        let a_at = |i: &Ix, k: &Ix| access_at(a, &self.index(&(first.clone() + i.clone()), k, &Ix::Const(0)));
        let b_at = |j: &Ix, k: &Ix| access_at(b, &self.index(&Ix::Const(0), k, j));
        let step = |w: &mut Writer, k: &Ix, valid: Option<Ix>| {
            w.unrolled("j", columns, |w, j| w.set(ys, j.clone(), load(Buf::Arg(b.arg), b_at(&j, k), lanes, valid.clone())));
            w.unrolled("i", rows, |w, i| {
                w.set(x, 0, load(Buf::Arg(a.arg), a_at(&i, k), lanes, valid.clone()));
                w.unrolled("j", columns, |w, j| {
                    let sum = Expr::fma(Writer::get(x, 0), Writer::get(ys, j.clone()), Writer::get(sums, at(&i, &j)));
                    w.set(sums, at(&i, &j), sum);
                });
            });
        };
        // each tile of rows asks for its share of the next rows of B
        let share = if p.by.is_none() && p.m() > ROWS { STREAMS.div_ceil(p.m().div_ceil(ROWS)) } else { 0 };
        let next = Ix::from(STREAMS) + first.clone().div(ROWS) * share;
        let whole = p.k() - p.k() % lanes as usize;
        w.each("k", 0i64, whole, i64::from(lanes), |w, k| {
            w.unrolled("j", share, |w, j| w.push(Stmt::Prefetch(Buf::Arg(b.arg), b_at(&(next.clone() + j), &k))));
            step(w, &k, None);
        });
        if whole < p.k() {
            step(w, &Ix::from(whole), Some(Ix::from(p.k() - whole)));
        }
        w.unrolled("i", rows, |w, i| {
            w.unrolled("j", columns, |w, j| self.finish(w, &(first.clone() + i.clone()), &j, Writer::get(sums, at(&i, &j))));
        });
    }

    /// Adds up the lanes of a sum, and stores what becomes of it.
    fn finish(&self, w: &mut Writer, row: &Ix, j: &Ix, sum: Expr) {
        let (spec, lanes) = (&self.product.spec, self.product.target.lanes);
        let sum = if lanes == 1 { sum } else { Expr::Lanes(Red::Sum, Box::new(sum)) };
        let constant = per_row(&spec.dag, spec.dims.len());
        let wanted: Vec<usize> = spec.stores.iter().map(|s| s.step).collect();
        let point = Point { index: self.index(row, &Ix::Const(0), j), lanes: 1, valid: None };
        let values = Values::new(&spec.dag, &constant).at(w, &wanted, &point, Some(sum));
        for (store, value) in spec.stores.iter().zip(values) {
            w.store(Buf::Arg(store.access.arg), address(store.access.offset, &store.access.strides, &point.index), value, None);
        }
    }
}
