//! Gradients of operands that a score function captures: summed in order of queries, and of the keys of each.

use super::reduce;
use crate::kernel::{Buf, Elem, Expr, Ix, LocalId, Writer, load};
use crate::lower::point::{Point, access_at, row_index};
use crate::lower::score::{Row, Span};
use crate::spec::{At, Captured, Heads};
use ir::Red;

/// One gradient, at a row.
pub(super) struct Gradient<'a> {
    pub of: &'a Captured,
    /// The sum over the row's keys, where it has one place for all of them.
    sum: Option<LocalId>,
    /// The row's index, where it has one.
    index: Option<Ix>,
}

/// Steps along queries and along keys.
fn steps(c: &Captured) -> (i64, i64) {
    let n = c.access.strides.len();
    (c.access.strides[n - 2], c.access.strides[n - 1])
}

/// Whether a query and a key, or a query, have a place of their own, which is written once.
fn is_stored(c: &Captured) -> bool {
    c.at.is_none() && steps(c).0 != 0
}

/// Zeros where a head's sums go.
pub(super) fn clear(w: &mut Writer, h: &Heads, c: &Captured, head: &[Ix]) {
    if is_stored(c) {
        return;
    }
    let (query, key) = steps(c);
    let many = |n: usize, step: i64| if step == 0 { 1 } else { n };
    w.each("r", 0i64, c.at.map_or(1, |at| at.rows), 1, |w, r| {
        w.each("i", 0i64, many(h.queries, query), 1, |w, i| {
            w.each("j", 0i64, many(h.keys, key), 1, |w, j| {
                let at = access_at(&c.access, &head.iter().cloned().chain([i.clone(), j]).collect::<Vec<_>>());
                w.store(Buf::Arg(c.access.arg), at + r.clone() * c.at.map_or(0, |at| at.row), Expr::f32(0.0), None);
            });
        });
    });
}

impl<'a> Gradient<'a> {
    pub(super) fn new(w: &mut Writer, of: &'a Captured, row: &mut Row, columns: &Span) -> Gradient<'a> {
        let lanes = row.score.lanes;
        let index = of.at.filter(|at| row.score.is_row(at.index)).map(|at| {
            let value = row.scalar(w, at.index);
            row_index(w, value, 1)
        });
        let sum = (steps(of).1 == 0 && (of.at.is_none() || index.is_some())).then(|| w.local("sum", Elem::F32, lanes, 1));
        if let Some(sum) = sum {
            w.set(sum, 0, Expr::f32(0.0).splat(lanes));
        }
        let g = Gradient { of, sum, index };
        if is_stored(of) && sum.is_none() {
            g.outside(w, row, columns);
        }
        g
    }

    /// Zeros at the keys of a row that are not computed.
    fn outside(&self, w: &mut Writer, row: &Row, columns: &Span) {
        let (lanes, keys) = (i64::from(row.score.lanes), Ix::from(row.score.h.keys));
        // the last vector that is computed reaches as far as this
        let next = columns.end.clone().up_to(lanes);
        for (from, end) in [(Ix::Const(0), columns.from.clone()), (next, keys)] {
            w.each("c", from, end, lanes, |w, c| self.write(w, row, &c, &Ix::Const(0), row.score.constant(0.0), false));
        }
    }

    /// The values of the keys from c on.
    pub(super) fn add(&self, w: &mut Writer, row: &Row, c: &Ix, value: Expr, index: Option<Expr>) {
        if let Some(sum) = self.sum {
            return w.set(sum, 0, Writer::get(sum, 0).plus(value));
        }
        match (self.of.at, &self.index, index) {
            (None, ..) => self.write(w, row, c, &Ix::Const(0), value, !is_stored(self.of)),
            (Some(at), Some(index), _) => inside(w, index, at.rows, |w| self.write(w, row, c, &(index.clone() * at.row), value, true)),
            (Some(at), None, Some(index)) => self.scatter(w, row, c, value, (at, index)),
            (Some(_), None, None) => unreachable!("an index that is no row's is computed at each key"),
        }
    }

    /// Each lane to the place of its own index. Lanes behind the last key have 0 to add, and do so at its place.
    fn scatter(&self, w: &mut Writer, row: &Row, c: &Ix, value: Expr, (at, index): (At, Expr)) {
        let (arg, lanes) = (Buf::Arg(self.of.access.arg), row.score.lanes);
        let local = w.local("index", Elem::I32, lanes, 1);
        w.set(local, 0, index);
        for i in 0..lanes {
            let index = row_index(w, Writer::get(local, 0).lane(i, lanes), 1);
            let place = access_at(&self.of.access, &row.point(c).lane(i).index) + index.clone() * at.row;
            let new = load(arg, place.clone(), 1, None).plus(value.clone().lane(i, lanes));
            inside(w, &index, at.rows, |w| w.store(arg, place, new, None));
        }
    }

    /// Stores or adds values of the keys from c on, `moved` by so many elements.
    fn write(&self, w: &mut Writer, row: &Row, c: &Ix, moved: &Ix, value: Expr, add: bool) {
        let (access, point) = (&self.of.access, row.point(c));
        let put = |w: &mut Writer, p: &Point, value: Expr| {
            let (arg, at) = (Buf::Arg(access.arg), access_at(access, &p.index) + moved.clone());
            let value = if add { load(arg, at.clone(), p.lanes, p.valid.clone()).plus(value) } else { value };
            w.store(arg, at, value, p.valid.clone());
        };
        if steps(self.of).1 == 1 || point.lanes == 1 {
            return put(w, &point, value);
        }
        for i in 0..point.lanes {
            let one = |w: &mut Writer| put(w, &point.lane(i), value.clone().lane(i, point.lanes));
            match &point.valid {
                None => one(w),
                Some(valid) => w.branch(i64::from(i), valid.clone(), one, |_| {}),
            }
        }
    }

    /// The row's sum, if it has one.
    pub(super) fn finish(&self, w: &mut Writer, row: &Row) {
        let Some(sum) = self.sum else { return };
        let (arg, place) = (Buf::Arg(self.of.access.arg), access_at(&self.of.access, &row.point(&Ix::Const(0)).index));
        let total = reduce(Red::Sum, Writer::get(sum, 0), row.score.lanes);
        match (self.of.at, &self.index) {
            (Some(at), Some(index)) => inside(w, index, at.rows, |w| {
                let place = place + index.clone() * at.row;
                w.store(arg, place.clone(), load(arg, place, 1, None).plus(total), None);
            }),
            _ if is_stored(self.of) => w.store(arg, place, total, None),
            _ => w.store(arg, place.clone(), load(arg, place, 1, None).plus(total), None),
        }
    }
}

/// What happens where an index is in 0..rows.
fn inside(w: &mut Writer, index: &Ix, rows: i64, body: impl FnOnce(&mut Writer)) {
    w.branch(index.clone(), 0i64, |_| {}, |w| w.branch(index.clone(), rows, body, |_| {}));
}
