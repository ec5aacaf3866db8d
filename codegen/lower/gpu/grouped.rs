//! What grouped products add to tiles of a product: a cube goes through the groups of its rows, of which each thread stores its own; or
//! through the terms between the first and the last of its group, others of which are 0 in shared memory.

use super::super::grouped::By;
use super::combine;
use super::product::Kinds;
use crate::kernel::{Buf, Elem, Expr, Ix, Writer, load};
use crate::spec::{Own, Spec};
use ir::{Bin, Red};

/// Terms of the sums that a tile is summed over.
pub(super) struct Terms {
    pub from: Ix,
    pub to: Ix,
}

/// The groups of a product's rows, or of its terms.
pub(super) struct Groups<'a> {
    own: &'a Own,
    by: By,
    /// How many there are.
    count: usize,
    /// Step of the operand that holds them from one row, or term, to the next.
    step: i64,
}

impl<'a> Groups<'a> {
    pub(super) fn new(spec: &'a Spec, kinds: &Kinds, by: By) -> Groups<'a> {
        let own = spec.own().expect("the product is grouped");
        let step = |dims: &std::ops::Range<usize>| dims.clone().map(|d| own.group.strides[d]).find(|s| *s != 0);
        let along = if by == By::Rows { &kinds.rows } else { &kinds.sums };
        Groups { own, by, count: spec.dims[own.dim], step: step(along).unwrap_or(0) }
    }

    /// Whether each row has a group, rather than each term of the sums.
    pub(super) fn of_rows(&self) -> bool {
        self.by == By::Rows
    }

    fn load(&self, at: &Ix) -> Expr {
        load(Buf::Arg(self.own.group.arg), at.clone() * self.step + self.own.group.offset, 1, None)
    }

    /// The group of a row; one number for all that are no group's, behind the last.
    fn of(&self, w: &mut Writer, at: &Ix) -> Expr {
        let have = w.local("have", Elem::I32, 1, 1);
        w.set(have, 0, self.load(at));
        let (have, none) = (Writer::get(have, 0), whole(self.count as i64));
        let negative = Expr::bin(Bin::Lt, have.clone(), whole(0));
        Expr::Select(Box::new(negative), Box::new(none.clone()), Box::new(Expr::bin(Bin::Minimum, have, none)))
    }

    /// Whether a term is of a group.
    pub(super) fn is_own(&self, at: &Ix, group: &Ix) -> Expr {
        Expr::bin(Bin::Eq, self.load(at), Expr::Index(group.clone()))
    }

    /// What is done where a row is of a group.
    pub(super) fn if_own(&self, w: &mut Writer, row: &Ix, group: &Ix, then: impl FnOnce(&mut Writer)) {
        let own = Expr::bin(Bin::Eq, self.of(w, row), Expr::Index(group.clone()));
        let own = w.value("own", Expr::Select(Box::new(own), Box::new(whole(1)), Box::new(whole(0))));
        w.branch(0i64, own, then, |_| {});
    }

    /// A product for each group from the least to the greatest of a tile's rows, over no terms where it has none of them.
    pub(super) fn of_tile(&self, w: &mut Writer, (first, rows, m): (&Ix, usize, usize), all: Terms, product: &mut dyn FnMut(&mut Writer, Ix, Terms)) {
        let ends = w.local("ends", Elem::I32, 1, 2);
        w.set(ends, 0, whole(self.count as i64));
        w.set(ends, 1, whole(0));
        let last = Ix::from(m - 1);
        w.each("r", 0i64, rows, 1, |w, r| {
            let row = w.name("row", (first.clone() + r).min(last.clone()));
            let group = self.of(w, &row);
            w.set(ends, 0, Expr::bin(Bin::Minimum, Writer::get(ends, 0), group.clone()));
            w.set(ends, 1, Expr::bin(Bin::Maximum, Writer::get(ends, 1), group));
        });
        let least = w.value("least", Writer::get(ends, 0));
        let most = w.value("most", Writer::get(ends, 1));
        w.each("group", least, most + 1i64, 1, |w, group| {
            let any = w.local("any", Elem::I32, 1, 1);
            w.set(any, 0, whole(0));
            w.each("r", 0i64, rows, 1, |w, r| {
                let row = w.name("row", (first.clone() + r).min(last.clone()));
                let own = Expr::bin(Bin::Eq, self.of(w, &row), Expr::Index(group.clone()));
                w.set(any, 0, Expr::Select(Box::new(own), Box::new(whole(1)), Box::new(Writer::get(any, 0))));
            });
            let any = w.value("any", Writer::get(any, 0));
            let to = w.name("to", all.to.clone() * any * group.clone().below(self.count));
            product(w, group, Terms { from: all.from.clone(), to });
        });
    }

    /// The terms from a group's first, at the beginning of a tile of them, to its last. All threads of the cube look for them.
    pub(super) fn terms(&self, w: &mut Writer, group: &Ix, terms: usize, (threads, depth): (usize, usize)) -> Terms {
        let ends = w.local("ends", Elem::I32, 1, 2);
        w.set(ends, 0, whole(0));
        w.set(ends, 1, whole(0));
        w.each("term", w.thread(), terms, threads as i64, |w, term| {
            // how many stand behind the first, and before the end
            for (i, reach) in [Ix::from(terms) - term.clone(), term.clone() + 1i64].into_iter().enumerate() {
                let further = Expr::bin(Bin::Maximum, Writer::get(ends, i), Expr::Index(reach));
                w.set(ends, i, Expr::Select(Box::new(self.is_own(&term, group)), Box::new(further), Box::new(Writer::get(ends, i))));
            }
        });
        let thread = w.thread();
        let [behind, end] = [0, 1].map(|i| {
            let shared = w.shared(Elem::I32, 1, threads);
            combine(w, (Red::Max, 1), Writer::get(ends, i), threads, 1, &thread, &thread, shared);
            w.value("reach", load(shared, Ix::Const(0), 1, None))
        });
        Terms { from: (Ix::from(terms) - behind).min(end.clone()).down_to(depth as i64), to: end }
    }
}

fn whole(n: i64) -> Expr {
    Expr::Const(n as f64, Elem::I32)
}
