//! What grouped products add to a product: which rows are of a group, and what becomes of those that are not.
//!
//! Where each row meets the matrix of its group, threads go through the groups, and through the tiles of rows between a group's first and
//! last: of a tile only the group's own rows leave the registers, so any order of rows is right, and where groups stand together hardly a
//! tile is computed twice. Where each group has a sum, it goes from its first row to its last, and others between are 0 in what is packed.

use super::contract::{Block, Product};
use super::tile::Acc;
use crate::kernel::{Buf, Elem, Expr, Ix, Writer, load};
use crate::spec::{Spec, Template};
use ir::Bin;

/// What of a product the groups are of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum By {
    /// Each row has one, whose matrix it meets.
    Rows,
    /// Each term of the sums has one, to whose sum it belongs.
    Sums,
}

impl By {
    /// What of a contraction the groups are of, as its template has the dims.
    pub fn of(spec: &Spec) -> Option<By> {
        let Template::Contract { out, own, .. } = &spec.template else { return None };
        own.as_ref().map(|own| if own.dim >= *out { By::Rows } else { By::Sums })
    }
}

/// Whose rows.
#[derive(Clone, Debug)]
pub(super) enum Whose {
    /// A group's.
    Of(Ix),
    /// Those of no group.
    Nobody,
}

/// What of a product is computed at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    /// Indices of the loops; of a grouped product the group.
    pub outer: Vec<Ix>,
    /// From where to where it is summed, if not over all.
    pub sums: Option<[Ix; 2]>,
    pub(super) whose: Option<Whose>,
    /// More than 0 where other groups' rows stand between.
    pub(super) others: Option<Ix>,
}

/// Where rows of a group stand.
struct Bounds {
    first: Ix,
    /// One past the last.
    end: Ix,
    count: Ix,
}

impl Product {
    /// The product of some rows and columns, group by group.
    pub(super) fn groups(&self, w: &mut Writer, by: By, rows: (Ix, Ix), cols: (Ix, Ix), bufs: [Option<Buf>; 2]) {
        let rows = (w.name("m0", rows.0), w.name("m1", rows.1));
        w.each("group", 0i64, self.group_count(), 1, |w, group| {
            let whose = Whose::Of(group.clone());
            let part = Part { outer: vec![group], whose: Some(whose.clone()), ..Part::default() };
            match by {
                By::Rows => {
                    let of = self.bounds(w, rows.clone(), &whose);
                    let tile = self.rows as i64;
                    let tiles = (of.first.clone().down_to(tile), of.end.clone().up_to(tile).min(rows.1.clone()));
                    w.branch(of.first, of.end, |w| self.columns(w, &part, tiles, cols.clone(), bufs), |_| {});
                }
                By::Sums => {
                    let of = self.bounds(w, (Ix::Const(0), Ix::from(self.k())), &whose);
                    let from = w.name("from", of.first.min(of.end.clone()));
                    let others = w.name("others", of.end.clone() - from.clone() - of.count);
                    self.columns(w, &Part { sums: Some([from, of.end]), others: Some(others), ..part }, rows.clone(), cols.clone(), bufs);
                }
            }
        });
        if by == By::Rows {
            self.nobody(w, rows, cols);
        }
    }

    fn group_count(&self) -> usize {
        self.spec.own().map_or(0, |own| self.spec.dims[own.dim])
    }

    /// What becomes of rows of no group, whose product is 0.
    fn nobody(&self, w: &mut Writer, rows: (Ix, Ix), cols: (Ix, Ix)) {
        let part = Part { outer: vec![Ix::Const(0)], ..Part::default() };
        let block = Block::nothing(self, &part);
        let of = self.bounds(w, rows, &Whose::Nobody);
        w.each("row", of.first, of.end, 1, |w, row| {
            self.if_own(w, &row, &Whose::Nobody, |w| {
                w.each("jr", cols.0, cols.1, self.width() as i64, |w, jr| {
                    let acc = Acc::new(w, 1, self.vectors, self.target.lanes);
                    acc.zero(w);
                    block.epilogue(w, &acc, &row, &jr);
                });
            });
        });
    }

    /// 1 where a row, or a term of the sums, is theirs, else 0.
    fn own(&self, at: &Ix, whose: &Whose) -> Expr {
        let group = &self.spec.own().expect("the product is grouped").group;
        let along = if self.by == Some(By::Rows) { self.loops } else { self.spec.dims.len() - 2 };
        let have = load(Buf::Arg(group.arg), at.clone() * group.strides[along] + group.offset, 1, None);
        let whole = |n: i64| Box::new(Expr::Const(n as f64, Elem::I32));
        let if_less = |a: Expr, b: Expr, x: Box<Expr>, y: Box<Expr>| Expr::Select(Box::new(Expr::bin(Bin::Lt, a, b)), x, y);
        match whose {
            Whose::Of(group) => Expr::Select(Box::new(Expr::bin(Bin::Eq, have, Expr::Index(group.clone()))), whole(1), whole(0)),
            Whose::Nobody => {
                let beyond = if_less(have.clone(), *whole(self.group_count() as i64), whole(0), whole(1));
                if_less(have, *whole(0), whole(1), Box::new(beyond))
            }
        }
    }

    fn if_own(&self, w: &mut Writer, at: &Ix, whose: &Whose, then: impl FnOnce(&mut Writer)) {
        let own = self.own(at, whose);
        let own = w.value("own", own);
        w.branch(0i64, own, then, |_| {});
    }

    /// Where their rows stand in a range; from its end to its beginning, where there are none.
    fn bounds(&self, w: &mut Writer, (lo, hi): (Ix, Ix), whose: &Whose) -> Bounds {
        let seen = w.local("seen", Elem::I32, 1, 3);
        for (i, start) in [Expr::Index(hi.clone()), Expr::Index(lo.clone()), Expr::Const(0.0, Elem::I32)].into_iter().enumerate() {
            w.set(seen, i, start);
        }
        w.each("row", lo, hi, 1, |w, row| {
            self.if_own(w, &row, whose, |w| {
                w.set(seen, 0, Expr::bin(Bin::Minimum, Writer::get(seen, 0), Expr::Index(row.clone())));
                w.set(seen, 1, Expr::Index(row.clone() + 1i64));
                w.set(seen, 2, Writer::get(seen, 2).plus(Expr::Const(1.0, Elem::I32)));
            });
        });
        let mut read = |name: &str, i: usize| w.value(name, Writer::get(seen, i));
        Bounds { first: read("first", 0), end: read("end", 1), count: read("count", 2) }
    }
}

impl Block<'_> {
    /// Visits a tile's accumulators, of a group's own rows alone where there are groups.
    pub(super) fn each_own(&self, w: &mut Writer, acc: &Acc, ir: &Ix, visit: &mut dyn FnMut(&mut Writer, &Ix, &Ix)) {
        let Some(whose) = self.of_rows() else { return acc.each(w, visit) };
        w.unrolled("i", acc.rows, |w, i| {
            self.product.if_own(w, &(ir.clone() + i.clone()), whose, |w| w.unrolled("j", acc.vectors, |w, j| visit(w, &i, &j)));
        });
    }

    /// What is done for rows, if any is the group's own.
    pub(super) fn if_any(&self, w: &mut Writer, ir: &Ix, rows: usize, then: impl FnOnce(&mut Writer)) {
        let Some(whose) = self.of_rows() else { return then(w) };
        let any = w.local("any", Elem::I32, 1, 1);
        w.set(any, 0, Expr::Const(0.0, Elem::I32));
        w.unrolled("i", rows, |w, i| w.set(any, 0, Writer::get(any, 0).plus(self.product.own(&(ir.clone() + i), whose))));
        let any = w.value("any", Writer::get(any, 0));
        w.branch(0i64, any, then, |_| {});
    }

    fn of_rows(&self) -> Option<&Whose> {
        self.part.whose.as_ref().filter(|_| self.product.by == Some(By::Rows))
    }

    /// Makes other groups' terms 0 in a panel of so many numbers a term.
    pub(super) fn clear_others(&self, w: &mut Writer, panel: Buf, at: Ix, width: usize) {
        let (Some(whose), Some(others)) = (&self.part.whose, &self.part.others) else { return };
        let clear = |w: &mut Writer, k: &Ix| {
            let line = at.clone() + k.clone() * width;
            w.each("j", 0i64, width, 1, |w, j| w.store(panel, line + j, Expr::f32(0.0), None));
        };
        let every = |w: &mut Writer| {
            w.each("k", 0i64, self.depth.clone(), 1, |w, k| {
                let own = self.product.own(&(self.pc.clone() + k.clone()), whose);
                let own = w.value("own", own);
                w.branch(0i64, own, |_| {}, |w| clear(w, &k));
            });
        };
        w.branch(0i64, others.clone(), every, |_| {});
    }
}
