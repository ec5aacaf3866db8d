//! The backward kernel: cubes with keys to their threads, cubes with queries, and where something captured wants them cubes with heads.

use super::heads::OfHeads;
use super::{Line, Matrix, ROWS, Seat, Shelf, TILE, lanes_of, lse_at, of_row, real, scalar, shared_head, where_below, where_seen};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, LocalId, Writer, load};
use crate::lower::gpu::rows::guard;
use crate::lower::point::access_at;
use crate::lower::score::{Depth, Row, Score, Span};
use crate::spec::{Captured, Heads, Spec, Step, Visible};
use ir::{Bin, Un};

/// Operands: q, k, v, o, lse, do, scale, dq, dk, dv.
pub(in crate::lower::gpu) fn backward(spec: &Spec, h: &Heads, name: &str) -> Kernel {
    let shared_heads = h.shared_heads();
    let (of_keys, of_queries) = (Seat::cubes(&shared_heads, h.keys), Seat::cubes(&h.heads, h.queries));
    let summed = h.captured.iter().any(|c| Place::of(c) == Place::Head);
    let of_heads = if summed { h.heads.iter().product() } else { 0 };
    let mut writer = Writer::cubes(name, spec.params.clone(), of_keys + of_queries + of_heads, ROWS);
    let w = &mut writer;
    let (lanes, scale) = (lanes_of(h), scalar(w, "scale", load(Buf::Arg(6), Ix::Const(0), 1, None)));
    let shelf =
        |w: &mut Writer, depth: usize| Shelf { buf: w.shared(Elem::F32, lanes as u32, TILE * depth), lanes: lanes as u32, vectors: depth / lanes };
    let shelves = [shelf(w, h.depth), shelf(w, h.value_depth)];
    let (lse, d) = (w.shared(Elem::F32, 1, TILE), w.shared(Elem::F32, 1, TILE));
    let b = Backward { h, score: Score::new(h, &spec.dag, 1), lanes, scale, shelves, lse, d };
    let cube = w.cube();
    w.branch(
        cube.clone(),
        of_keys,
        |w| b.keys(w, cube.clone(), &shared_heads),
        |w| {
            let rest = w.name("cube", cube.clone() - of_keys);
            if !summed {
                return b.queries(w, &rest);
            }
            w.branch(rest.clone(), of_queries, |w| b.queries(w, &rest), |w| OfHeads::new(w, &b).emit(w, rest.clone() - of_queries));
        },
    );
    writer.finish()
}

/// Which cubes see to the gradient of something captured: those whose threads own what it is summed over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// One place a key.
    Key,
    /// One a query.
    Query,
    /// One a query and key.
    Pair,
    /// Places that queries and keys share.
    Head,
}

impl Place {
    pub(super) fn of(c: &Captured) -> Place {
        let n = c.access.strides.len();
        match (c.at, c.access.strides[n - 2], c.access.strides[n - 1]) {
            (Some(_), ..) | (None, 0, 0) => Place::Head,
            (None, 0, _) => Place::Key,
            (None, _, 0) => Place::Query,
            (None, ..) => Place::Pair,
        }
    }
}

/// The backward: D = Σ dO ∘ O − dL, P = exp(S − L), the score's cotangent P ∘ (dP − D).
pub(super) struct Backward<'a> {
    pub h: &'a Heads,
    pub score: Score<'a>,
    lanes: usize,
    scale: Expr,
    /// Room for rows of q or k, and of do or v.
    pub shelves: [Shelf; 2],
    /// Room for L and D of a tile's queries.
    lse: Buf,
    d: Buf,
}

/// What a query's row has, once.
pub(super) struct OfRow<'a> {
    pub row: Row<'a>,
    pub query: Ix,
    pub lse: Expr,
    pub d: Expr,
}

/// What comes of a query and a key.
pub(super) struct Pair {
    /// What the output's cotangent is weighed by, and the cotangent of the product, times the scale.
    p: Expr,
    ds: Expr,
    /// What gradients of captured operands get, 0 where the key is not seen.
    pub values: Vec<Expr>,
    /// The places by index where they get it.
    pub indices: Vec<Expr>,
}

impl<'a> Backward<'a> {
    /// q, o, do and dq of a head.
    pub(super) fn of_query(&self, w: &mut Writer, head: &[Ix]) -> [Matrix; 4] {
        let h = self.h;
        [(&h.q, h.depth), (&h.o, h.value_depth), (&h.backward[0], h.value_depth), (&h.backward[1], h.depth)]
            .map(|(a, d)| Matrix::new(w, a, head, (h.queries, d), self.lanes))
    }

    /// k, v, dk and dv of a head.
    pub(super) fn of_key(&self, w: &mut Writer, head: &[Ix]) -> [Matrix; 4] {
        let h = self.h;
        [(&h.k, h.depth), (&h.v, h.value_depth), (&h.backward[2], h.depth), (&h.backward[3], h.value_depth)]
            .map(|(a, d)| Matrix::new(w, a, head, (h.keys, d), self.lanes))
    }

    /// What is captured and has its gradient in one kind of place.
    pub(super) fn captured(&self, place: Place) -> Vec<&'a Captured> {
        self.h.captured.iter().filter(|c| Place::of(c) == place).collect()
    }

    /// L of a row, 0 where it sees nothing, and D.
    pub(super) fn sums(&self, w: &mut Writer, head: &[Ix], row: &Ix, o: &Matrix, d_o: &Matrix) -> (Expr, Expr) {
        let h = self.h;
        let lse = scalar(w, "l", load(Buf::Arg(h.lse.arg), lse_at(h, head, row), 1, None));
        let none = Expr::bin(Bin::Eq, lse.clone(), Expr::f32(f64::NEG_INFINITY));
        let lse = scalar(w, "l", Expr::Select(Box::new(none), Box::new(Expr::f32(0.0)), Box::new(lse)));
        let d = o.dot(w, "d", d_o, row);
        let dlse = h.dlse.as_ref().map(|a| load(Buf::Arg(a.arg), of_row(a, head, row), 1, None));
        (lse, scalar(w, "d", dlse.into_iter().fold(d, Expr::minus)))
    }

    /// A query's row. `real` is the query, or the last there is.
    pub(super) fn row<'b>(
        &'b self,
        w: &mut Writer,
        head: &[Ix],
        (query, real): (&Ix, &Ix),
        (lse, d): (Expr, Expr),
        captured: &[&Captured],
    ) -> OfRow<'b> {
        let span = self.score.span(w, head, (real, &Ix::Const(1)), Depth::Exact);
        let wanted = captured.iter().flat_map(|c| [Some(c.step), c.at.map(|at| at.index)]).flatten();
        let all: Vec<usize> = self.h.score.into_iter().chain(self.h.weight).chain(self.h.dscore).chain(wanted).collect();
        OfRow { row: self.score.row(w, head, real, span, &all), query: query.clone(), lse, d }
    }

    /// A pair, from the sums of products S and dP.
    pub(super) fn pair(&self, w: &mut Writer, of: &OfRow, key: &Ix, (s, dp): (Expr, Expr), captured: &[&Captured]) -> Pair {
        let (h, real) = (self.h, real(w, key, self.h.keys));
        let product = scalar(w, "s", s.times(self.scale.clone()));
        let wanted = captured.iter().map(|c| c.step).chain(captured.iter().filter_map(|c| c.at.map(|at| at.index)));
        let late: Vec<usize> = h.dscore.into_iter().chain(wanted).collect();
        let early: Vec<usize> = h.score.into_iter().chain(h.weight).chain(self.score.before_cotangent(&late)).collect();
        let mut known = of.row.leaf(&Step::Product, &product);
        let values = of.row.at(w, &early, &known, &real);
        known.extend(early.iter().copied().zip(values.iter().cloned()));
        let mut values = values.into_iter();
        let score = h.score.and_then(|_| values.next());
        let weight = h.weight.and_then(|_| values.next());
        let inside = |x: Expr| where_below(&of.query, &Ix::from(h.queries), where_seen(key, &of.row.span, x, 0.0), 0.0);
        // a derivative may be anything where the score is −∞
        let none = score.as_ref().map(|x| Expr::bin(Bin::Eq, x.clone(), Expr::f32(f64::NEG_INFINITY)));
        let seen = |x: Expr| inside(none.iter().fold(x, |x, n| Expr::Select(Box::new(n.clone()), Box::new(Expr::f32(0.0)), Box::new(x))));
        let p = scalar(w, "p", inside(Expr::un(Un::Exp, score.unwrap_or(product).minus(of.lse.clone()))));
        let weighed = |x: Expr| weight.iter().fold(x, |x, weight| x.times(weight.clone()));
        let t = scalar(w, "t", seen(weighed(dp).minus(of.d.clone()).times(p.clone())));
        known.extend(of.row.leaf(&Step::Cotangent, &t));
        let mut results = of.row.at(w, &late, &known, &real).into_iter();
        let ds = h.dscore.and_then(|_| results.next()).map_or(t, seen);
        let ds = scalar(w, "ds", ds.times(self.scale.clone()));
        let values = results.by_ref().take(captured.len()).map(|x| scalar(w, "dx", seen(x))).collect();
        Pair { p: scalar(w, "w", weighed(p)), ds, values, indices: results.collect() }
    }

    /// A cube with keys to its threads.
    fn keys(&self, w: &mut Writer, cube: Ix, heads: &[usize]) {
        let h = self.h;
        let seat = Seat::new(w, cube, heads, h.keys);
        let [k, v, dk, dv] = self.of_key(w, &seat.head);
        let (key, value) = (k.line(w, "k", &seat.real), v.line(w, "v", &seat.real));
        let (dk_sum, dv_sum) = (dk.zeros(w, "dk"), dv.zeros(w, "dv"));
        let captured = self.captured(Place::Key);
        let sums: Vec<LocalId> = captured.iter().map(|_| w.local("sum", Elem::F32, 1, 1)).collect();
        w.each("g", 0i64, h.group, 1, |w, g| {
            let mut head = seat.head.clone();
            if let (Some(last), true) = (head.last_mut(), h.group > 1) {
                *last = w.name("head", last.clone() * h.group + g);
            }
            sums.iter().for_each(|sum| w.set(*sum, 0, Expr::f32(0.0)));
            // queries before the cube's first key see none of its keys
            let from = if h.causal(self.score.dag) { seat.first.clone() } else { Ix::Const(0) };
            w.each("i0", from, h.queries, TILE as i64, |w, i0| {
                self.where_met(w, &seat, &head, &i0, |w| {
                    self.queries_tile(w, &seat, &head, &i0, (&key, &value), (&dk_sum, &dv_sum), (&captured, &sums))
                });
            });
            guard(w, seat.own.clone(), h.keys, h.keys.is_multiple_of(ROWS), |w| {
                for (c, sum) in captured.iter().zip(&sums) {
                    let index: Vec<Ix> = head.iter().cloned().chain([Ix::Const(0), seat.real.clone()]).collect();
                    w.store(Buf::Arg(c.access.arg), access_at(&c.access, &index), Writer::get(*sum, 0), None);
                }
            });
        });
        guard(w, seat.own.clone(), h.keys, h.keys.is_multiple_of(ROWS), |w| {
            dk.put(w, &seat.real, &dk_sum);
            dv.put(w, &seat.real, &dv_sum);
        });
    }

    /// Where a query of a tile sees a key of a cube: every thread of the cube agrees.
    fn where_met(&self, w: &mut Writer, seat: &Seat, head: &[Ix], i0: &Ix, body: impl FnOnce(&mut Writer)) {
        let h = self.h;
        if h.visible == Visible::default() || h.causal(self.score.dag) {
            return body(w);
        }
        let count = (Ix::from(h.queries) - i0.clone()).min(TILE);
        let seen = self.score.span(w, head, (i0, &count), Depth::Exact);
        let later = seat.first.clone() + ROWS;
        w.branch(seen.from, later, |w| w.branch(seat.first.clone(), seen.end, body, |_| {}), |_| {});
    }

    /// What the queries of a tile add to the gradients of a cube's keys.
    fn queries_tile(
        &self,
        w: &mut Writer,
        seat: &Seat,
        head: &[Ix],
        i0: &Ix,
        (key, value): (&Line, &Line),
        (dk, dv): (&Line, &Line),
        (captured, sums): (&[&Captured], &[LocalId]),
    ) {
        let h = self.h;
        let [q, o, d_o, _] = self.of_query(w, head);
        q.stage(w, i0, &self.shelves[0]);
        d_o.stage(w, i0, &self.shelves[1]);
        let t = w.thread();
        w.branch(
            t.clone(),
            TILE,
            |w| {
                let row = w.name("row", (i0.clone() + t.clone()).min(h.queries as i64 - 1));
                let (lse, d) = self.sums(w, head, &row, &o, &d_o);
                w.store(self.lse, t.clone(), lse, None);
                w.store(self.d, t.clone(), d, None);
            },
            |_| {},
        );
        w.barrier();
        w.each("i", 0i64, TILE, 1, |w, i| {
            let query = w.name("query", i0.clone() + i.clone());
            let real = real(w, &query, h.queries);
            let of_row = (load(self.lse, i.clone(), 1, None), load(self.d, i.clone(), 1, None));
            let row = self.row(w, head, (&query, &real), of_row, captured);
            let products = (key.dot(w, "s", &self.shelves[0], &i), value.dot(w, "dp", &self.shelves[1], &i));
            let pair = self.pair(w, &row, &seat.own, products, captured);
            dv.add(w, None, &pair.p, &self.shelves[1], &i);
            dk.add(w, None, &pair.ds, &self.shelves[0], &i);
            for (sum, value) in sums.iter().zip(pair.values) {
                w.set(*sum, 0, Writer::get(*sum, 0).plus(value));
            }
        });
        w.barrier();
    }

    /// A cube with queries to its threads.
    fn queries(&self, w: &mut Writer, cube: &Ix) {
        let h = self.h;
        let seat = Seat::new(w, cube.clone(), &h.heads, h.queries);
        let [_, _, _, dq] = self.of_query(w, &seat.head);
        let sum = dq.zeros(w, "dq");
        let (captured, pairs) = (self.captured(Place::Query), self.captured(Place::Pair));
        let all: Vec<&Captured> = captured.iter().chain(&pairs).copied().collect();
        let sums: Vec<LocalId> = captured.iter().map(|_| w.local("sum", Elem::F32, 1, 1)).collect();
        sums.iter().for_each(|sum| w.set(*sum, 0, Expr::f32(0.0)));
        let seen = self.over_tiles(
            w,
            &seat,
            &all,
            &mut |w, j, key, pair| {
                sum.add(w, None, &pair.ds, &self.shelves[0], j);
                for (sum, value) in sums.iter().zip(&pair.values) {
                    w.set(*sum, 0, Writer::get(*sum, 0).plus(value.clone()));
                }
                for (c, value) in pairs.iter().zip(&pair.values[captured.len()..]) {
                    self.put(w, c, &seat, key, value.clone());
                }
            },
            &mut |_, _| {},
        );
        let end = Ix::from(h.keys);
        for c in &pairs {
            for (from, end) in [(Ix::Const(0), seen.from.clone().down_to(TILE as i64)), (seen.end.clone().up_to(TILE as i64), end.clone())] {
                w.each("j", from, end, 1, |w, j| self.put(w, c, &seat, &j, Expr::f32(0.0)));
            }
        }
        guard(w, seat.own.clone(), h.queries, h.queries.is_multiple_of(ROWS), |w| {
            dq.put(w, &seat.real, &sum);
            for (c, sum) in captured.iter().zip(&sums) {
                let index: Vec<Ix> = seat.head.iter().cloned().chain([seat.real.clone(), Ix::Const(0)]).collect();
                w.store(Buf::Arg(c.access.arg), access_at(&c.access, &index), Writer::get(*sum, 0), None);
            }
        });
    }

    /// A value of a query and a key, if there are such.
    fn put(&self, w: &mut Writer, c: &Captured, seat: &Seat, key: &Ix, value: Expr) {
        let h = self.h;
        guard(w, seat.own.clone(), h.queries, h.queries.is_multiple_of(ROWS), |w| {
            guard(w, key.clone(), h.keys, h.keys.is_multiple_of(TILE), |w| {
                let index: Vec<Ix> = seat.head.iter().cloned().chain([seat.real.clone(), key.clone()]).collect();
                w.store(Buf::Arg(c.access.arg), access_at(&c.access, &index), value, None);
            });
        });
    }

    /// Visits the keys that a cube's queries see: `visit` gets the key's number in its tile, the key, and what comes of it, and `after`
    /// what was a tile's first key.
    pub(super) fn over_tiles(
        &self,
        w: &mut Writer,
        seat: &Seat,
        captured: &[&Captured],
        visit: &mut dyn FnMut(&mut Writer, &Ix, &Ix, Pair),
        after: &mut dyn FnMut(&mut Writer, &Ix),
    ) -> Span {
        let h = self.h;
        let shared = shared_head(w, h, &seat.head);
        let [q, o, d_o, _] = self.of_query(w, &seat.head);
        let [k, v, _, _] = self.of_key(w, &shared);
        let (query, d_out) = (q.line(w, "q", &seat.real), d_o.line(w, "do", &seat.real));
        let sums = self.sums(w, &seat.head, &seat.real, &o, &d_o);
        let row = self.row(w, &seat.head, (&seat.own, &seat.real), sums, captured);
        let seen = self.score.span(w, &seat.head, (&seat.first, &seat.count(h.queries)), Depth::Exact);
        w.each("j0", seen.from.clone().down_to(TILE as i64), seen.end.clone(), TILE as i64, |w, j0| {
            k.stage(w, &j0, &self.shelves[0]);
            v.stage(w, &j0, &self.shelves[1]);
            w.barrier();
            w.each("j", 0i64, TILE, 1, |w, j| {
                let key = w.name("key", j0.clone() + j.clone());
                let products = (query.dot(w, "s", &self.shelves[0], &j), d_out.dot(w, "dp", &self.shelves[1], &j));
                let pair = self.pair(w, &row, &key, products, captured);
                visit(w, &j, &key, pair);
            });
            w.barrier();
            after(w, &j0);
        });
        seen
    }
}
