//! The backward kernel. A unit is a head of k and v with all query heads that read it, one after the other.

use super::captured::{Gradient, clear};
use super::{Matrix, Shape, exponential, of_row, reduce, shared, zero};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Writer, load};
use crate::lower::Cpu;
use crate::lower::rows::split_index;
use crate::lower::score::{Depth, Row, Score, Span};
use crate::spec::{Heads, Spec, Step};
use ir::{Bin, Red, Un};

/// Row blocks of a query block, in tiles.
const TILES: usize = 8;

/// Operands: q, k, v, o, lse, do, scale, dq, dk, dv.
pub(in crate::lower) fn backward(spec: &Spec, h: &Heads, name: &str, target: &Cpu) -> Kernel {
    let units = h.shared_heads();
    let mut w = Writer::new(name, spec.params.clone(), units.iter().product());
    let s = Shape::new(h, target, &mut w, 6);
    let score = Score::new(h, &spec.dag, target.lanes);
    let block = Shape::rows_that_share(h, target, TILES, 2);
    let (k_panels, v_panels) = (w.scratch(s.pitch * h.depth), w.scratch(s.pitch * h.value_depth));
    let (p, ds) = (w.scratch(block * s.pitch), w.scratch(block * s.pitch));
    let (lo, hi) = (w.lo(), w.hi());
    w.each("u", lo, hi, 1, |w, u| {
        let u = w.name("u", u);
        let shared = split_index(w, u, &units);
        let [d_o, dq, dk, dv] = [0, 1, 2, 3].map(|i| &h.backward[i]);
        let [k, v, dk, dv] = [&h.k, &h.v, dk, dv].map(|a| Matrix::new(w, a, &shared));
        let all = Span { from: Ix::Const(0), end: Ix::from(h.keys) };
        s.pack(w, &k, h.depth, &all, k_panels);
        s.pack(w, &v, h.value_depth, &all, v_panels);
        zero(w, &dk, h.keys, h.depth);
        zero(w, &dv, h.keys, h.value_depth);
        w.each("g", 0i64, h.group, 1, |w, g| {
            let mut head = shared.clone();
            if let (Some(last), true) = (head.last_mut(), h.group > 1) {
                *last = w.name("head", last.clone() * h.group + g);
            }
            let [q, o, d_o, dq] = [&h.q, &h.o, d_o, dq].map(|a| Matrix::new(w, a, &head));
            zero(w, &dq, h.queries, h.depth);
            h.captured.iter().for_each(|c| clear(w, h, c, &head));
            let one = Backward { s: &s, score: &score, head, q, k: &k, v_panels, k_panels, o, d_o, dq, dk: &dk, dv: &dv, p, ds };
            let tail = h.queries % block;
            w.each("b0", 0i64, h.queries - tail, block as i64, |w, b0| one.block(w, &b0, block));
            if tail > 0 {
                one.block(w, &Ix::from(h.queries - tail), tail);
            }
        });
    });
    w.finish()
}

/// One query head's backward.
struct Backward<'a> {
    s: &'a Shape<'a>,
    score: &'a Score<'a>,
    head: Vec<Ix>,
    q: Matrix,
    k: &'a Matrix,
    k_panels: Buf,
    v_panels: Buf,
    o: Matrix,
    d_o: Matrix,
    dq: Matrix,
    dk: &'a Matrix,
    dv: &'a Matrix,
    p: Buf,
    ds: Buf,
}

impl Backward<'_> {
    /// The queries from b0 on: their dq, and what they add to dk, dv and gradients of what is captured.
    fn block(&self, w: &mut Writer, b0: &Ix, n: usize) {
        let (s, h) = (self.s, self.s.h);
        let b0 = &w.name("b0", b0.clone());
        let seen = self.score.span(w, &self.head, (b0, &Ix::from(n)), Depth::Exact);
        let columns = s.columns(w, &seen, s.rows);
        let tiles = (&Ix::Const(0), &Ix::from(n), n);
        s.blocks(w, &columns, s.width(), tiles, &mut |w, i0, rows, keys| {
            let row = w.name("row", b0.clone() + i0.clone());
            s.scores(w, &self.q, &row, rows, h.depth, self.k_panels, keys, self.p, i0);
            s.scores(w, &self.d_o, &row, rows, h.value_depth, self.v_panels, keys, self.ds, i0);
        });
        w.each("i", 0i64, n, 1, |w, i| self.row(w, &i, &(b0.clone() + i.clone()), &columns));
        s.blocks(w, &seen, shared(h.depth), tiles, &mut |w, i0, rows, keys| {
            let row = w.name("row", b0.clone() + i0.clone());
            let seen = self.score.span(w, &self.head, (&row, &Ix::from(rows)), Depth::Exact).within(w, keys);
            let ds = |i: &Ix, j: &Ix| load(self.ds, (i0.clone() + i.clone()) * s.pitch + j.clone(), 1, None);
            s.combine(w, rows, &seen, &ds, self.k, h.depth, (&self.dq, &row));
        });
        self.add(w, b0, n, &seen);
    }

    /// What the queries from b0 on add to dk and dv of the keys that any of them sees: the others have only zeros to get.
    fn add(&self, w: &mut Writer, b0: &Ix, n: usize, seen: &Span) {
        let (s, h) = (self.s, self.s.h);
        let (tail, queries) = (h.keys % s.rows, Span { from: Ix::Const(0), end: Ix::from(n) });
        let add = |w: &mut Writer, j0: &Ix, rows: usize| {
            for (weights, x, depth, out) in [(self.ds, &self.q, h.depth, self.dk), (self.p, &self.d_o, h.value_depth, self.dv)] {
                let a = |j: &Ix, i: &Ix| load(weights, i.clone() * s.pitch + j0.clone() + j.clone(), 1, None);
                let x = Matrix { buf: x.buf, at: x.cell(b0.clone(), Ix::Const(0)), row: x.row, col: x.col };
                s.combine(w, rows, &queries, &a, &x, depth, (out, j0));
            }
        };
        w.each("j0", seen.from.clone().down_to(s.rows as i64), seen.end.clone().min(h.keys - tail), s.rows as i64, |w, j0| {
            let j0 = w.name("j0", j0);
            add(w, &j0, s.rows);
        });
        if tail > 0 {
            w.branch(h.keys - tail, seen.end.clone(), |w| add(w, &Ix::from(h.keys - tail), tail), |_| {});
        }
    }

    /// One row: P = exp(S − L), D = Σ dO ∘ O − dL, the score's cotangent P ∘ (dP − D), and from it the product's, times its scale.
    fn row(&self, w: &mut Writer, line: &Ix, row: &Ix, columns: &Span) {
        let (s, h) = (self.s, self.s.h);
        let row = &w.name("row", row.clone());
        let base = w.name("base", line.clone() * s.pitch);
        let span = self.score.span(w, &self.head, (row, &Ix::Const(1)), Depth::Exact);
        let (l, d) = (self.log_sum(w, row), self.inner_product(w, row));
        let late: Vec<usize> =
            h.dscore.into_iter().chain(h.captured.iter().flat_map(|c| [Some(c.step), c.at.map(|at| at.index)]).flatten()).collect();
        let all: Vec<usize> = h.score.into_iter().chain(h.weight).chain(late.iter().copied()).collect();
        let early: Vec<usize> = h.score.into_iter().chain(h.weight).chain(self.score.before_cotangent(&late)).collect();
        let mut values = self.score.row(w, &self.head, row, span, &all);
        let gradients: Vec<Gradient> = h.captured.iter().map(|c| Gradient::new(w, c, &mut values, columns)).collect();
        w.each("c", columns.from.clone(), columns.end.clone(), i64::from(s.target.lanes), |w, c| {
            self.vector(w, &values, &base, &c, (&l, &d), (&early, &late), &gradients);
        });
        gradients.iter().for_each(|g| g.finish(w, &values));
    }

    /// L, or 0 where the row sees nothing: every exponential is 0 then all the same.
    fn log_sum(&self, w: &mut Writer, row: &Ix) -> Expr {
        let h = self.s.h;
        let l = w.local("l", Elem::F32, 1, 1);
        w.set(l, 0, load(Buf::Arg(h.lse.arg), of_row(&h.lse, &self.head, row), 1, None));
        let none = Expr::bin(Bin::Eq, Writer::get(l, 0), Expr::f32(f64::NEG_INFINITY));
        w.set(l, 0, Expr::Select(Box::new(none), Box::new(Expr::f32(0.0)), Box::new(Writer::get(l, 0))));
        Writer::get(l, 0)
    }

    /// D = Σ dO ∘ O − dL.
    fn inner_product(&self, w: &mut Writer, row: &Ix) -> Expr {
        let (h, lanes) = (self.s.h, self.s.target.lanes);
        let (d, sum) = (w.local("d", Elem::F32, 1, 1), w.local("sum", Elem::F32, lanes, 1));
        w.set(sum, 0, Expr::f32(0.0).splat(lanes));
        w.each("c", 0i64, h.value_depth, i64::from(lanes), |w, c| {
            let valid = Some(Ix::from(h.value_depth) - c.clone());
            let at = |m: &Matrix| load(m.buf, m.cell(row.clone(), c.clone()), lanes, valid.clone());
            w.set(sum, 0, Expr::fma(at(&self.o), at(&self.d_o), Writer::get(sum, 0)));
        });
        let total = reduce(Red::Sum, Writer::get(sum, 0), lanes);
        let dlse = h.dlse.as_ref().map(|a| load(Buf::Arg(a.arg), of_row(a, &self.head, row), 1, None));
        w.set(d, 0, dlse.into_iter().fold(total, Expr::minus));
        Writer::get(d, 0)
    }

    /// The keys from c on of a row.
    fn vector(
        &self,
        w: &mut Writer,
        row: &Row,
        base: &Ix,
        c: &Ix,
        (l, d): (&Expr, &Expr),
        (early, late): (&[usize], &[usize]),
        gradients: &[Gradient],
    ) {
        let (s, h) = (self.s, self.s.h);
        let lanes = s.target.lanes;
        let splat = |x: &Expr| x.clone().splat(lanes);
        let at = base.clone() + c.clone();
        let product = row.local(w, "s", load(self.p, at.clone(), lanes, None).times(splat(&s.scale())));
        let mut known = row.leaf(&Step::Product, &product);
        let values = row.at(w, early, &known, c);
        known.extend(early.iter().copied().zip(values.iter().cloned()));
        let mut values = values.into_iter();
        let score = h.score.and_then(|_| values.next());
        let weight = h.weight.and_then(|_| values.next());
        // a derivative may be anything where the score is −∞
        let none = score.as_ref().map(|x| Expr::bin(Bin::Eq, x.clone(), self.score.constant(f64::NEG_INFINITY)));
        let seen = |x: Expr| {
            let zero = self.score.constant(0.0);
            let x = none.iter().fold(x, |x, none| Expr::Select(Box::new(none.clone()), Box::new(zero.clone()), Box::new(x)));
            row.where_seen(c, x, zero)
        };
        let p = match score {
            Some(score) => exponential(w, score.minus(splat(l)), lanes),
            None => Expr::un(Un::Exp, product.minus(splat(l))),
        };
        let p = row.local(w, "p", row.where_seen(c, p, self.score.constant(0.0)));
        let weighed = |x: Expr| weight.iter().fold(x, |x, weight| x.times(weight.clone()));
        let t = weighed(load(self.ds, at.clone(), lanes, None)).minus(splat(d)).times(p.clone());
        w.store(self.p, at.clone(), weighed(p), None);
        if h.score.is_none() && late.is_empty() {
            return w.store(self.ds, at, t.times(splat(&s.scale())), None);
        }
        let t = row.local(w, "t", seen(t));
        known.extend(row.leaf(&Step::Cotangent, &t));
        let results = row.at(w, late, &known, c);
        let of = |step: usize| results[late.iter().position(|l| *l == step).expect("it was wanted")].clone();
        let ds = h.dscore.map_or(t, |step| seen(of(step)));
        w.store(self.ds, at, ds.times(splat(&s.scale())), None);
        for g in gradients {
            let value = row.local(w, "dx", seen(of(g.of.step)));
            g.add(w, row, c, value, g.of.at.map(|at| of(at.index)));
        }
    }
}
