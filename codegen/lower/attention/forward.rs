//! The forward kernel: blocks of queries are independent, and those of one head that one thread has share the packed keys.

use super::{Matrix, Shape, exponential, grouped, of_row, reduce, shared};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Writer, load};
use crate::lower::Cpu;
use crate::lower::rows::split_index;
use crate::lower::score::{Depth, Row, Score, Span};
use crate::spec::{Heads, Spec, Step};
use ir::{Bin, Red, Un};

/// Queries up to which keys are not packed: that would cost more than it saves.
const FEW: usize = 4;
/// Tiles of rows of a unit at most: they share what is read of keys and values.
const TILES: usize = 8;
/// Maxima of a row that are found side by side: each waits for itself alone.
const MAXIMA: usize = 4;
/// Where a row's maximum begins: no score but −∞ is below, and the exponential of that is 0.
const LOWEST: f64 = f32::MIN as f64;

/// Operands: q, k, v, scale, o, lse.
pub(in crate::lower) fn forward(spec: &Spec, h: &Heads, name: &str, target: &Cpu) -> Kernel {
    let block = Shape::rows_that_share(h, target, TILES, 1);
    let blocks = h.queries.div_ceil(block);
    let mut w = Writer::new(name, spec.params.clone(), h.heads.iter().product::<usize>() * blocks);
    let s = Shape::new(h, target, &mut w, 3);
    let score = Score::new(h, &spec.dag, target.lanes);
    let few = h.queries <= FEW && [&h.q, &h.k].iter().all(|a| a.strides.last() == Some(&1));
    let panels = (!few).then(|| w.scratch(s.pitch * h.depth));
    let (scores, inverse) = (w.scratch(block * s.pitch), w.scratch(block));
    let sums = w.scratch(block * h.value_depth.next_multiple_of(target.lanes as usize));
    let (lo, hi) = (w.lo(), w.hi());
    w.each("u", lo.clone(), hi, 1, |w, u| {
        let u = w.name("u", u);
        let turn = w.name("turn", u.clone().rem(blocks.max(1)));
        let head = split_index(w, u.clone().div(blocks.max(1)), &h.heads);
        let shared = grouped(w, h, &head);
        let [q, o] = [&h.q, &h.o].map(|a| Matrix::new(w, a, &head));
        let [k, v] = [&h.k, &h.v].map(|a| Matrix::new(w, a, &shared));
        if let Some(panels) = panels {
            let all = score.span(w, &head, (&Ix::Const(0), &Ix::from(h.queries)), Depth::Cheap);
            // a thread's first unit of a head packs for those that follow
            w.branch((u - lo).min(turn.clone()), 1i64, |w| s.pack(w, &k, h.depth, &all, panels), |_| {});
        }
        let first = w.name("first", in_turn(&turn, blocks) * block);
        let last = w.name("last", (first.clone() + block).min(h.queries));
        let f = Forward { s: &s, score: &score, head: &head, q, k, v, o, panels, scores, sums, inverse };
        f.unit(w, &first, &last);
    });
    w.finish()
}

/// The block whose turn it is: from both ends inwards, so that threads share evenly what grows along the queries.
fn in_turn(turn: &Ix, blocks: usize) -> Ix {
    let half = turn.clone().div(2);
    half.clone() + turn.clone().rem(2) * (Ix::from(blocks) - 1i64 - half * 2i64)
}

/// One head's forward.
struct Forward<'a> {
    s: &'a Shape<'a>,
    score: &'a Score<'a>,
    head: &'a [Ix],
    q: Matrix,
    k: Matrix,
    v: Matrix,
    o: Matrix,
    /// The keys, packed; `None` where few queries read them where they lie.
    panels: Option<Buf>,
    scores: Buf,
    sums: Buf,
    inverse: Buf,
}

impl Forward<'_> {
    /// Rows of the output. Tiles of them share a panel of keys while their scores are computed, and a block of values while these are
    /// weighed; sums go on from block to block, so that their order is that of the keys.
    fn unit(&self, w: &mut Writer, first: &Ix, last: &Ix) {
        let (s, h) = (self.s, self.s.h);
        let seen = self.score.span(w, self.head, (first, &(last.clone() - first.clone())), Depth::Exact);
        let all = s.columns(w, &seen, 1);
        s.blocks(w, &all, s.width(), (first, last, h.queries), &mut |w, i0, rows, keys| {
            let line = i0.clone() - first.clone();
            let columns = self.columns(w, i0, rows, keys);
            match self.panels {
                Some(panels) => s.scores(w, &self.q, i0, rows, h.depth, panels, &columns, self.scores, &line),
                None => s.few_scores(w, &self.q, i0, rows, &self.k, &columns, (self.scores, &line)),
            }
        });
        s.row_blocks(w, (first, last), h.queries, &mut |w, i0, rows| {
            let columns = self.columns(w, i0, rows, &all);
            w.each("i", 0i64, rows, 1, |w, i| self.row(w, &(i0.clone() + i), first, &columns));
        });
        self.values(w, first, last, &seen);
    }

    /// Rows of the output, from their probabilities. Sums are held in 32 bits, whatever the output is.
    fn values(&self, w: &mut Writer, first: &Ix, last: &Ix, seen: &Span) {
        let (s, h) = (self.s, self.s.h);
        let (lanes, depth) = (s.lanes(), h.value_depth);
        let held = Matrix { buf: self.sums, at: Ix::Const(0), row: depth.next_multiple_of(lanes as usize) as i64, col: 1 };
        let count = last.clone() - first.clone();
        w.each("z", 0i64, count.clone() * held.row, lanes, |w, z| w.store(held.buf, z, self.score.constant(0.0), None));
        s.blocks(w, seen, shared(depth), (first, last, h.queries), &mut |w, i0, rows, keys| {
            let line = w.name("line", i0.clone() - first.clone());
            let seen = self.score.span(w, self.head, (i0, &Ix::from(rows)), Depth::Exact).within(w, keys);
            let p = |i: &Ix, j: &Ix| load(self.scores, (line.clone() + i.clone()) * s.pitch + j.clone(), 1, None);
            s.combine(w, rows, &seen, &p, &self.v, depth, (&held, &line));
        });
        w.each("r", 0i64, count, 1, |w, r| {
            let inverse = w.local("inverse", Elem::F32, s.target.lanes, 1);
            w.set(inverse, 0, load(self.inverse, r.clone(), 1, None).splat(s.target.lanes));
            w.each("d", 0i64, depth, lanes, |w, d| {
                let valid = (depth as i64 % lanes != 0).then(|| Ix::from(depth) - d.clone());
                let x = load(held.buf, held.cell(r.clone(), d.clone()), s.target.lanes, None);
                w.store(self.o.buf, self.o.cell(first.clone() + r.clone(), d), x.times(Writer::get(inverse, 0)), valid);
            });
        });
    }

    /// Columns of scores of a tile that are computed, of some.
    fn columns(&self, w: &mut Writer, i0: &Ix, rows: usize, of: &Span) -> Span {
        let seen = self.score.span(w, self.head, (i0, &Ix::from(rows)), Depth::Exact);
        self.s.columns(w, &seen, 1).within(w, of)
    }

    /// A row of the probabilities, but for its sum's inverse, and its log-sum-exp. Scores begin with those of row `first`.
    fn row(&self, w: &mut Writer, row: &Ix, first: &Ix, columns: &Span) {
        let (s, h) = (self.s, self.s.h);
        let row = w.name("row", row.clone());
        let i = w.name("i", row.clone() - first.clone());
        let span = self.score.span(w, self.head, (&row, &Ix::Const(1)), Depth::Exact);
        let base = w.name("base", i.clone() * s.pitch);
        let wanted: Vec<usize> = [h.score, h.sink, h.weight].into_iter().flatten().collect();
        let mut line = self.score.row(w, self.head, &row, span, &wanted);
        let sink = h.sink.map(|step| line.scalar(w, step));
        let top = self.maximum(w, &line, &base, sink.as_ref());
        let sum = self.exponentials(w, &line, &base, (&top, sink), columns);
        let total = Expr::un(Un::Log, sum.clone()).plus(top);
        w.store(Buf::Arg(h.lse.arg), of_row(&h.lse, self.head, &row), total, None);
        // a row that sees nothing
        let none = Expr::bin(Bin::Eq, sum.clone(), Expr::f32(0.0));
        let inverse = Expr::Select(Box::new(none), Box::new(Expr::f32(0.0)), Box::new(Expr::un(Un::Recip, sum)));
        w.store(self.inverse, i, inverse, None);
    }

    fn scaled(&self, base: &Ix, c: &Ix) -> Expr {
        let lanes = self.s.target.lanes;
        load(self.scores, base.clone() + c.clone(), lanes, None).times(self.s.scale().splat(lanes))
    }

    /// The greatest score of a row. Where scores are more than products they take their place.
    fn maximum(&self, w: &mut Writer, line: &Row, base: &Ix, sink: Option<&Expr>) -> Expr {
        let (s, h) = (self.s, self.s.h);
        let lanes = s.target.lanes;
        let (max, top) = (w.local("max", Elem::F32, lanes, MAXIMA), w.local("top", Elem::F32, 1, 1));
        w.unrolled("j", MAXIMA, |w, j| w.set(max, j, Expr::f32(LOWEST).splat(lanes)));
        let visit = |w: &mut Writer, c: Ix, j: Ix| {
            let mut x = line.local(w, "x", self.scaled(base, &c));
            if let Some(score) = h.score {
                let value = line.at(w, &[score], &line.leaf(&Step::Product, &x), &c).remove(0);
                x = line.local(w, "x", value);
                w.store(self.scores, base.clone() + c.clone(), x.clone(), None);
            }
            let have = Writer::get(max, j.clone());
            // NaN reaches the row through its exponential
            let more = Expr::larger(x, have.clone());
            let new = line.where_seen(&c, more, have);
            w.set(max, j, new);
        };
        let (step, all) = (i64::from(lanes), i64::from(lanes) * MAXIMA as i64);
        let from = w.name("from", line.span.from.clone().down_to(step));
        let middle = w.name("middle", from.clone() + (line.span.end.clone() - from.clone()).max(0i64).down_to(all));
        w.each("c", from, middle.clone(), all, |w, c| w.unrolled("j", MAXIMA, |w, j| visit(w, c.clone() + j.clone() * step, j)));
        w.each("c", middle, line.span.end.clone(), step, |w, c| visit(w, c, Ix::Const(0)));
        let greatest = (1..MAXIMA as i64).fold(Writer::get(max, 0), |a, j| Expr::larger(a, Writer::get(max, j)));
        w.set(top, 0, reduce(Red::Max, greatest, lanes));
        if let Some(sink) = sink {
            w.set(top, 0, Expr::larger(sink.clone(), Writer::get(top, 0)));
        }
        Writer::get(top, 0)
    }

    /// Turns scores into exp(score − max), 0 where nothing is seen; gives their sum. What values are weighed by takes their place.
    fn exponentials(&self, w: &mut Writer, line: &Row, base: &Ix, (top, sink): (&Expr, Option<Expr>), columns: &Span) -> Expr {
        let (s, h) = (self.s, self.s.h);
        let lanes = s.target.lanes;
        let (sum, total) = (w.local("sum", Elem::F32, lanes, 1), w.local("total", Elem::F32, 1, 1));
        w.set(sum, 0, Expr::f32(0.0).splat(lanes));
        w.each("c", columns.from.clone(), columns.end.clone(), i64::from(lanes), |w, c| {
            let at = base.clone() + c.clone();
            let score = if h.score.is_some() { load(self.scores, at.clone(), lanes, None) } else { self.scaled(base, &c) };
            let below = score.minus(top.clone().splat(lanes));
            let e = if h.score.is_some() { exponential(w, below, lanes) } else { Expr::un(Un::Exp, below) };
            let e = line.where_seen(&c, e, self.score.constant(0.0));
            let mut x = line.local(w, "x", e);
            w.set(sum, 0, Writer::get(sum, 0).plus(x.clone()));
            if let Some(weight) = h.weight {
                x = line.at(w, &[weight], &[], &c).remove(0).times(x);
            }
            w.store(self.scores, at, x, None);
        });
        w.set(total, 0, reduce(Red::Sum, Writer::get(sum, 0), lanes));
        if let Some(sink) = sink {
            w.set(total, 0, Writer::get(total, 0).plus(Expr::un(Un::Exp, sink.minus(top.clone()))));
        }
        Writer::get(total, 0)
    }
}
