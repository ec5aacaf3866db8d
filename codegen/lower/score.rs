//! What becomes of a score between its product and the softmax, a vector of keys at a time, and which keys a row sees.

use super::point::{Point, Values, address, operands, per_row, row_index, signed_index};
use crate::kernel::{Elem, Expr, Ix, Writer};
use crate::spec::{Dag, Heads, Step};
use ir::Bin;

/// A score function, lowered for vectors of some lanes.
pub(crate) struct Score<'a> {
    pub h: &'a Heads,
    pub dag: &'a Dag,
    pub lanes: u32,
    /// Steps that have one value a row, and those that have one a head.
    rows: Vec<bool>,
    heads: Vec<bool>,
    /// Whether a vector may reach beyond the last key.
    ragged: bool,
}

/// Keys from one on, before another.
#[derive(Clone)]
pub(crate) struct Span {
    pub from: Ix,
    pub end: Ix,
}

impl Span {
    /// What another span has of this one; there may be nothing, and then the end is not after the beginning.
    pub(crate) fn within(self, w: &mut Writer, other: &Span) -> Span {
        Span { from: w.name("from", self.from.max(other.from.clone())), end: w.name("end", self.end.min(other.end.clone())) }
    }
}

/// How far a bound is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Each row is looked at.
    Exact,
    /// Only what shows without looking at each row: the span may be too wide.
    Cheap,
}

impl<'a> Score<'a> {
    pub(crate) fn new(h: &'a Heads, dag: &'a Dag, lanes: u32) -> Score<'a> {
        let (rows, heads) = (per_row(dag, h.heads.len() + 1), per_row(dag, h.heads.len()));
        Score { h, dag, lanes, rows, heads, ragged: !h.keys.is_multiple_of(lanes as usize) }
    }

    /// Keys that any of `count` rows from `first` on sees.
    pub(crate) fn span(&self, w: &mut Writer, head: &[Ix], (first, count): (&Ix, &Ix), depth: Depth) -> Span {
        let (visible, keys) = (&self.h.visible, self.h.keys as i64);
        let last = first.clone() + (count.clone() - 1i64);
        let (mut from, mut end) = (Ix::Const(0), Ix::Const(keys));
        for step in &visible.to {
            if let Some(to) = self.natural(*step, head, &last) {
                end = (to + 1i64).min(end);
            } else if let Some(to) = self.extreme(w, *step, head, (first, count), Bin::Maximum, depth) {
                let after = clamp(to, -1, keys - 1).plus(Expr::Const(1.0, Elem::I32));
                end = row_index(w, after, 1).min(end);
            }
        }
        end = w.name("end", end);
        for step in &visible.from {
            if let Some(least) = self.natural(*step, head, first) {
                from = least.max(from);
            } else if let Some(least) = self.extreme(w, *step, head, (first, count), Bin::Minimum, depth) {
                from = row_index(w, clamp(least, 0, keys), 1).max(from);
            }
        }
        let from = if visible.from.is_empty() { from } else { w.name("from", from.min(end.clone())) };
        Span { from, end }
    }

    /// A bound that is an index and grows along the queries from 0 on or later, at a row.
    fn natural(&self, step: usize, head: &[Ix], row: &Ix) -> Option<Ix> {
        match &self.dag.steps[step].0 {
            Step::Index { offset, strides } if *offset >= 0 && strides.iter().all(|s| *s >= 0) => Some(address(*offset, strides, &at(head, row))),
            Step::Index { .. }
            | Step::Load(_)
            | Step::Const(_)
            | Step::Product
            | Step::Cotangent
            | Step::Un(..)
            | Step::Bin(..)
            | Step::Select(..)
            | Step::Cast(_)
            | Step::Random(..)
            | Step::Gather { .. }
            | Step::Reduce(..) => None,
        }
    }

    /// The greatest or least of a bound's values over some rows.
    fn extreme(&self, w: &mut Writer, step: usize, head: &[Ix], (first, count): (&Ix, &Ix), extreme: Bin, depth: Depth) -> Option<Expr> {
        if let Step::Index { offset, strides } = &self.dag.steps[step].0 {
            let last = (strides[head.len()] >= 0) == (extreme == Bin::Maximum);
            let row = if last { first.clone() + (count.clone() - 1i64) } else { first.clone() };
            return Some(signed_index(*offset, strides, &at(head, &row)));
        }
        if self.heads[step] || *count == Ix::Const(1) {
            return Some(self.values().row(w, step, &at(head, first)));
        }
        if depth == Depth::Cheap {
            return None;
        }
        let best = w.local("bound", Elem::I32, 1, 1);
        let value = self.values().row(w, step, &at(head, first));
        w.set(best, 0, value);
        w.each("r", first.clone() + 1i64, first.clone() + count.clone(), 1, |w, r| {
            let value = self.values().row(w, step, &at(head, &r));
            w.set(best, 0, Expr::bin(extreme, value, Writer::get(best, 0)));
        });
        Some(Writer::get(best, 0))
    }

    fn values(&self) -> Values<'_> {
        Values::new(self.dag, &self.rows)
    }

    /// A row, with what some steps need of it computed once.
    pub(crate) fn row(&self, w: &mut Writer, head: &[Ix], row: &Ix, span: Span, wanted: &[usize]) -> Row<'_> {
        let index: Vec<Ix> = head.iter().cloned().chain([row.clone()]).collect();
        let mut values = self.values();
        values.hoist(w, wanted, &at(head, row));
        Row { score: self, values, index, span }
    }

    /// Steps before the cotangent from which others, that may need it, are computed.
    pub(crate) fn before_cotangent(&self, wanted: &[usize]) -> Vec<usize> {
        let mut late = vec![];
        for (step, _) in &self.dag.steps {
            late.push(matches!(step, Step::Cotangent) || operands(step).iter().any(|o| late[*o]));
        }
        let needed = self.values().needed(wanted);
        let read = needed.iter().filter(|i| late[**i]).flat_map(|i| operands(&self.dag.steps[*i].0));
        let mut out: Vec<usize> = read.chain(wanted.iter().copied()).filter(|i| !late[*i] && !self.rows[*i]).collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Whether a step has one value a row.
    pub(crate) fn is_row(&self, step: usize) -> bool {
        self.rows[step]
    }

    /// Lanes from a column on that exist, where some may not.
    pub(crate) fn left(&self, c: &Ix) -> Option<Ix> {
        self.ragged.then(|| Ix::from(self.h.keys) - c.clone())
    }

    /// A constant in every lane.
    pub(crate) fn constant(&self, x: f64) -> Expr {
        Expr::f32(x).splat(self.lanes)
    }
}

/// One row of scores.
pub(crate) struct Row<'a> {
    pub score: &'a Score<'a>,
    values: Values<'a>,
    /// The head and the query.
    pub index: Vec<Ix>,
    /// Keys that it sees.
    pub span: Span,
}

impl Row<'_> {
    /// Steps at the keys from `c` on, where some steps are known.
    pub(crate) fn at(&self, w: &mut Writer, wanted: &[usize], known: &[(usize, Expr)], c: &Ix) -> Vec<Expr> {
        let mut values = self.values.clone();
        for (step, value) in known {
            values.set_column(*step, value.clone());
        }
        values.at(w, wanted, &self.point(c), None)
    }

    /// A leaf of the DAG, wherever it stands, with its value.
    pub(crate) fn leaf(&self, leaf: &Step, value: &Expr) -> Vec<(usize, Expr)> {
        let steps = self.score.dag.steps.iter().enumerate();
        steps.filter(|(_, (step, _))| step == leaf).map(|(i, _)| (i, value.clone())).collect()
    }

    /// The scalar of a step that has one a row.
    pub(crate) fn scalar(&mut self, w: &mut Writer, step: usize) -> Expr {
        let point = self.point(&Ix::Const(0));
        self.values.row(w, step, &point.index)
    }

    /// The point of the keys from `c` on.
    pub(crate) fn point(&self, c: &Ix) -> Point {
        let index = self.index.iter().cloned().chain([c.clone()]).collect();
        Point { index, lanes: self.score.lanes, valid: self.score.left(c) }
    }

    /// `value` where a key is seen, else `other`.
    pub(crate) fn where_seen(&self, c: &Ix, value: Expr, other: Expr) -> Expr {
        let below = |end: &Ix| end.clone() - c.clone();
        let value = Expr::Keep { valid: below(&self.span.end), a: Box::new(value), b: Box::new(other.clone()) };
        if self.span.from == Ix::Const(0) {
            return value;
        }
        Expr::Keep { valid: below(&self.span.from), a: Box::new(other), b: Box::new(value) }
    }

    /// A fresh vector.
    pub(crate) fn local(&self, w: &mut Writer, name: &str, value: Expr) -> Expr {
        let local = w.local(name, Elem::F32, self.score.lanes, 1);
        w.set(local, 0, value);
        Writer::get(local, 0)
    }
}

/// A row's point.
fn at(head: &[Ix], row: &Ix) -> Vec<Ix> {
    head.iter().cloned().chain([row.clone(), Ix::Const(0)]).collect()
}

fn clamp(x: Expr, low: i64, high: i64) -> Expr {
    let whole = |n: i64| Expr::Const(n as f64, Elem::I32);
    Expr::bin(Bin::Maximum, Expr::bin(Bin::Minimum, x, whole(high)), whole(low))
}
