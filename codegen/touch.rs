//! Which elements of its operands a kernel touches.

use crate::spec::{Access, Heads, Spec, Step, Template, Visible};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Elements of an operand: offset + Σ step · i, each i below its size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Touch {
    pub arg: usize,
    pub written: bool,
    pub offset: i64,
    /// Size and step of each dim of the iteration.
    pub dims: Vec<(usize, i64)>,
}

/// Beyond so many cases it counts as not proven that two touches are apart.
const CASES_MAX: usize = 4096;

impl Touch {
    fn new(access: &Access, written: bool, sizes: &[usize]) -> Touch {
        assert_eq!(access.strides.len(), sizes.len(), "{access} has a stride for each dim");
        // what does not step along a dim is touched though that has no points: the sum of an empty row
        let dim = |(n, step): (&usize, &i64)| (if *step == 0 { (*n).max(1) } else { *n }, *step);
        Touch { arg: access.arg, written, offset: access.offset, dims: sizes.iter().zip(&access.strides).map(dim).collect() }
    }

    /// The first so many elements.
    fn dense(arg: usize, written: bool, count: usize) -> Touch {
        Touch { arg, written, offset: 0, dims: vec![(count, 1)] }
    }

    /// Any element, as it is read or written by what is not looked into.
    pub(crate) fn everything(written: bool) -> Touch {
        Touch::dense(0, written, 1 << 48)
    }

    /// The first and the last element, if there are any.
    pub fn span(&self) -> Option<(i64, i64)> {
        let ends = self.dims.iter().map(|(n, step)| (*n as i64 - 1) * step);
        let (low, high) = ends.fold((self.offset, self.offset), |(low, high), end| (low + end.min(0), high + end.max(0)));
        self.dims.iter().all(|d| d.0 > 0).then_some((low, high))
    }

    /// Every element, by number in its operand; one that a broadcast touches again and again once.
    pub fn elements(&self) -> impl Iterator<Item = usize> {
        let dims: Vec<(i64, i64)> = self.dims.iter().filter(|d| d.1 != 0).map(|(n, step)| (*n as i64, *step)).collect();
        let (count, offset) = (dims.iter().map(|d| d.0).product::<i64>(), self.offset);
        (0..count).map(move |i| {
            let (mut rest, mut at) = (i, offset);
            for (n, step) in dims.iter().rev() {
                at += rest % n * step;
                rest /= n;
            }
            at as usize
        })
    }

    /// How many elements that is.
    pub fn distinct(&self) -> f64 {
        self.dims.iter().map(|(n, step)| if *step == 0 { 1.0 } else { *n as f64 }).product()
    }

    /// Whether every point of the iteration has an element of its own. Strides of a value in memory never lead two indices to one
    /// element, so only a broadcast does.
    pub fn is_one_to_one(&self) -> bool {
        self.dims.iter().all(|(n, step)| *n <= 1 || *step != 0)
    }

    /// Whether it is proven that the two have no element in common.
    pub fn is_apart(&self, other: &Touch) -> bool {
        if self.span().is_none() || other.span().is_none() {
            return true;
        }
        // Σ step · k = difference of the offsets, for each k between its bounds: no solution, no common element
        let mut terms: BTreeMap<Reverse<i64>, (i64, i64)> = BTreeMap::new();
        for (sign, (n, step)) in self.dims.iter().map(|d| (1, d)).chain(other.dims.iter().map(|d| (-1, d))) {
            let end = sign * step.signum() * (*n as i64 - 1);
            let bounds = terms.entry(Reverse(step.abs())).or_default();
            *bounds = (bounds.0 + end.min(0), bounds.1 + end.max(0));
        }
        let terms: Vec<Term> = terms.into_iter().map(|(Reverse(step), (low, high))| Term { step, low, high }).filter(|t| t.step != 0).collect();
        !solvable(&terms, other.offset - self.offset, &mut 0)
    }
}

/// step · k, with k between two bounds, both included.
struct Term {
    step: i64,
    low: i64,
    high: i64,
}

/// Whether the terms may sum to a number. Their steps fall.
fn solvable(terms: &[Term], target: i64, cases: &mut usize) -> bool {
    *cases += 1;
    if *cases > CASES_MAX {
        return true;
    }
    let Some((first, rest)) = terms.split_first() else { return target == 0 };
    // k must leave what the smaller steps can still make
    let (low, high) = rest.iter().fold((0, 0), |(low, high), t| (low + t.step * t.low, high + t.step * t.high));
    let from = (target - high + first.step - 1).div_euclid(first.step).max(first.low);
    let to = (target - low).div_euclid(first.step).min(first.high);
    (from..=to).any(|k| solvable(rest, target - k * first.step, cases))
}

impl Spec {
    /// What the kernel reads and writes. A gather may read any row of its table, and a store by index write any.
    pub fn touches(&self) -> Vec<Touch> {
        let mut out = match &self.template {
            Template::Rows { .. } | Template::Cols { .. } => vec![],
            Template::Contract { a, b, own, .. } => {
                let accesses = [a, b].into_iter().chain(own.iter().map(|own| &own.group));
                accesses.map(|a| Touch::new(a, false, &self.dims)).collect()
            }
            Template::Attention(h) => attention(h, false),
            Template::AttentionBwd(h) => attention(h, true),
            Template::ScatterAdd { tokens, rows, width } => {
                vec![Touch::dense(0, false, *tokens), Touch::dense(1, false, tokens * width), Touch::dense(2, true, rows * width)]
            }
        };
        for (step, _) in &self.dag.steps {
            match step {
                Step::Load(access) => out.push(Touch::new(access, false, &self.dims)),
                Step::Gather { access, row, rows, .. } => {
                    let mut touch = Touch::new(access, false, &self.dims);
                    touch.dims.push((*rows as usize, *row));
                    out.push(touch);
                }
                Step::Const(_)
                | Step::Index { .. }
                | Step::Product
                | Step::Cotangent
                | Step::Un(..)
                | Step::Bin(..)
                | Step::Select(..)
                | Step::Cast(_)
                | Step::Random(..)
                | Step::Reduce(..) => {}
            }
        }
        for store in &self.stores {
            let mut touch = Touch::new(&store.access, true, &self.dims);
            touch.dims.extend(store.at.map(|at| (at.rows as usize, at.row)));
            out.push(touch);
        }
        out
    }

    /// Whether a kernel has −∞ as a constant, as masks do, or as a result for rows that see nothing.
    pub fn has_lowest(&self) -> bool {
        matches!(&self.template, Template::Attention(h) if h.visible != Visible::default() && !h.causal(&self.dag))
            || self.dag.steps.iter().any(|(step, _)| matches!(step, Step::Const(x) if *x as f32 == f32::NEG_INFINITY))
    }
}

/// q, k, v, scale, then o and lse: written forward; backward read, as the output's cotangent is, while the gradients are written.
fn attention(h: &Heads, backward: bool) -> Vec<Touch> {
    let shared = h.shared_heads();
    let with = |heads: &[usize], rest: &[usize]| -> Vec<usize> { heads.iter().chain(rest).copied().collect() };
    let (q, k) = (with(&h.heads, &[h.queries, h.depth]), with(&shared, &[h.keys, h.depth]));
    let (v, o) = (with(&shared, &[h.keys, h.value_depth]), with(&h.heads, &[h.queries, h.value_depth]));
    let rows = with(&h.heads, &[h.queries]);
    let scale = Touch::dense(if backward { 6 } else { 3 }, false, 1);
    let mut out = vec![Touch::new(&h.q, false, &q), Touch::new(&h.k, false, &k), Touch::new(&h.v, false, &v), scale];
    out.push(Touch::new(&h.o, !backward, &o));
    out.push(Touch::new(&h.lse, !backward, &rows));
    for (i, (access, sizes)) in h.backward.iter().zip([&o, &q, &k, &v]).enumerate() {
        out.push(Touch::new(access, i > 0, sizes));
    }
    out.extend(h.dlse.iter().map(|a| Touch::new(a, false, &rows)));
    for c in &h.captured {
        let mut touch = Touch::new(&c.access, true, &with(&h.heads, &[h.queries, h.keys]));
        touch.dims.extend(c.at.map(|at| (at.rows as usize, at.row)));
        out.push(touch);
    }
    out
}
