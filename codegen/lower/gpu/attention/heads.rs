//! Gradients of captured operands whose places queries and keys share: a cube sums all of a head, in one order.
//!
//! A sum of everything is a sum a thread, and then of the threads. What goes by index is left in shared memory, a tile of pairs at a time,
//! and each row of the table has a thread that adds to it what belongs there.

use super::backward::{Backward, Place};
use super::{ROWS, Seat, TILE};
use crate::kernel::{Buf, Elem, Expr, Ix, LocalId, Writer, load};
use crate::lower::gpu::combine;
use crate::lower::point::{access_at, row_index};
use crate::lower::rows::split_index;
use crate::spec::{At, Captured};
use ir::Red;

/// Pairs of a tile: a thread's query and so many keys.
const PAIRS: usize = ROWS * TILE;

/// One captured operand.
struct Shared<'a> {
    of: &'a Captured,
    way: Way,
}

/// How its gradient is summed.
enum Way {
    /// In a register of each thread.
    Sum(LocalId),
    /// By index, with room for a tile's values and indices.
    Table { at: At, values: Buf, indices: Buf },
}

/// What the cubes of heads need.
pub(super) struct OfHeads<'a> {
    b: &'a Backward<'a>,
    captured: Vec<Shared<'a>>,
    /// Room for a number a thread.
    threads: Buf,
}

impl<'a> OfHeads<'a> {
    pub(super) fn new(w: &mut Writer, b: &'a Backward<'a>) -> OfHeads<'a> {
        let one = |w: &mut Writer, of: &'a Captured| {
            let way = match of.at {
                None => Way::Sum(w.local("sum", Elem::F32, 1, 1)),
                Some(at) => Way::Table { at, values: w.shared(Elem::F32, 1, PAIRS), indices: w.shared(Elem::I32, 1, PAIRS) },
            };
            Shared { of, way }
        };
        let captured = b.captured(Place::Head).into_iter().map(|c| one(w, c)).collect();
        OfHeads { b, captured, threads: w.shared(Elem::F32, 1, ROWS) }
    }

    /// A cube with a head.
    pub(super) fn emit(&self, w: &mut Writer, cube: Ix) {
        let h = self.b.h;
        let cube = w.name("of_head", cube);
        let head = split_index(w, cube, &h.heads);
        self.captured.iter().for_each(|c| self.clear(w, c, &head));
        w.each("i0", 0i64, h.queries, ROWS as i64, |w, first| {
            let own = w.name("own", first.clone() + w.thread());
            let real = w.name("real", own.clone().min(h.queries as i64 - 1));
            self.rows(w, &Seat { head: head.clone(), first, own, real });
        });
        for c in &self.captured {
            if let Way::Sum(sum) = c.way {
                self.total(w, c.of, sum, &head);
            }
        }
    }

    fn clear(&self, w: &mut Writer, c: &Shared, head: &[Ix]) {
        let h = self.b.h;
        let at = match &c.way {
            Way::Sum(sum) => return w.set(*sum, 0, Expr::f32(0.0)),
            Way::Table { at, .. } => at,
        };
        let n = c.of.access.strides.len();
        let many = |count: usize, step: i64| if step == 0 { 1 } else { count };
        let (queries, keys) = (many(h.queries, c.of.access.strides[n - 2]), many(h.keys, c.of.access.strides[n - 1]));
        w.each("r", w.thread(), at.rows, ROWS as i64, |w, r| {
            w.each("i", 0i64, queries, 1, |w, i| {
                w.each("j", 0i64, keys, 1, |w, j| {
                    let place = access_at(&c.of.access, &head.iter().cloned().chain([i.clone(), j]).collect::<Vec<_>>());
                    w.store(Buf::Arg(c.of.access.arg), place + r.clone() * at.row, Expr::f32(0.0), None);
                });
            });
        });
    }

    /// What so many queries as there are threads add.
    fn rows(&self, w: &mut Writer, seat: &Seat) {
        let all: Vec<&Captured> = self.captured.iter().map(|c| c.of).collect();
        let tile = &mut |w: &mut Writer, j: &Ix, pair: super::backward::Pair| {
            let mut indices = pair.indices.into_iter();
            for (c, value) in self.captured.iter().zip(pair.values) {
                match &c.way {
                    Way::Sum(sum) => w.set(*sum, 0, Writer::get(*sum, 0).plus(value)),
                    Way::Table { values, indices: to, .. } => {
                        let slot = j.clone() * ROWS + w.thread();
                        w.store(*values, slot.clone(), value, None);
                        w.store(*to, slot, indices.next().expect("an operand by index has one"), None);
                    }
                }
            }
        };
        self.b.over_tiles(w, seat, &all, &mut |w, j, _, pair| tile(w, j, pair), &mut |w, j0| {
            for c in &self.captured {
                if let Way::Table { at, values, indices } = &c.way {
                    self.gather(w, c.of, seat, (at, *values, *indices), j0);
                }
            }
        });
    }

    /// Each thread adds to its own rows of a table what the pairs of a tile have for them.
    fn gather(&self, w: &mut Writer, c: &Captured, seat: &Seat, (at, values, indices): (&At, Buf, Buf), j0: &Ix) {
        let h = self.b.h;
        w.each("e", 0i64, PAIRS, 1, |w, e| {
            let row = row_index(w, load(indices, e.clone(), 1, None), 1);
            let add = |w: &mut Writer| {
                let (query, key) = (seat.first.clone() + e.clone().rem(ROWS), j0.clone() + e.clone().div(ROWS));
                let (query, key) = (query.min(h.queries as i64 - 1), key.min(h.keys as i64 - 1));
                let place = access_at(&c.access, &seat.head.iter().cloned().chain([query, key]).collect::<Vec<_>>()) + row.clone() * at.row;
                let place = w.name("place", place);
                let sum = load(Buf::Arg(c.access.arg), place.clone(), 1, None).plus(load(values, e.clone(), 1, None));
                w.store(Buf::Arg(c.access.arg), place, sum, None);
            };
            let mine = |w: &mut Writer| {
                let owner = w.name("owner", row.clone().rem(ROWS));
                w.branch(owner.clone(), w.thread() + 1i64, |w| w.branch(w.thread(), owner.clone() + 1i64, add, |_| {}), |_| {});
            };
            w.branch(row.clone(), 0i64, |_| {}, |w| w.branch(row.clone(), at.rows, mine, |_| {}));
        });
    }

    /// The sum of the threads' sums.
    fn total(&self, w: &mut Writer, c: &Captured, sum: LocalId, head: &[Ix]) {
        let t = w.thread();
        combine(w, (Red::Sum, 1), Writer::get(sum, 0), ROWS, 1, &t, &t, self.threads);
        w.branch(
            t,
            1,
            |w| {
                let place = access_at(&c.access, &head.iter().cloned().chain([Ix::Const(0), Ix::Const(0)]).collect::<Vec<_>>());
                w.store(Buf::Arg(c.access.arg), place, load(self.threads, Ix::Const(0), 1, None), None);
            },
            |_| {},
        );
        // the room is used again
        w.barrier();
    }
}
