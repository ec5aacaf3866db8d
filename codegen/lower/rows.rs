//! Pointwise kernels and reductions along rows.
//!
//! A row is passed over once for each level of reductions, and a last time for what is computed from them; pointwise work is done again
//! in each pass, because a row stays in cache and a buffer would not be faster.

use super::Cpu;
use super::point::{Point, Values, operands, per_row, vectorisable};
use crate::kernel::{Elem, Expr, Ix, Kernel, LocalId, Writer};
use crate::spec::{Dag, Spec, Step};
use ir::Red;

/// Elements of a unit of flat pointwise work.
const BLOCK: usize = 4096;
/// Vectors a loop step: enough independent sums to hide an addition's latency.
const UNROLL: usize = 4;

pub(crate) fn lower(mut spec: Spec, tail: usize, name: &str, target: &Cpu) -> Kernel {
    let reduces = spec.dag.steps.iter().any(|s| matches!(s.0, Step::Reduce(..)));
    let rank = spec.dims.len();
    let classes: Vec<u8> = (0..rank).map(|d| u8::from(reduces && d >= rank - tail)).collect();
    let classes = spec.collapse(&classes);
    let row = if reduces { classes.iter().filter(|c| **c == 0).count() } else { spec.dims.len().saturating_sub(1) };
    if row == spec.dims.len() {
        // a row of one element: an axis of size 1 makes the general case of it
        spec.push_unit();
    }
    let lanes = if vectorisable(&spec, row) { target.lanes } else { 1 };
    let flat = !reduces && spec.dims.len() == 1;
    let units = if flat { spec.dims[0].div_ceil(BLOCK) } else { spec.dims[..row].iter().product() };
    let mut w = Writer::new(name, spec.params.clone(), units);
    let (lo, hi) = (w.lo(), w.hi());
    let spec = &spec;
    w.each("u", lo, hi, 1, |w, u| {
        let u = w.name("u", u);
        if flat {
            let start = w.name("start", u * BLOCK);
            let end = w.name("end", (start.clone() + BLOCK).min(spec.dims[0]));
            Row { spec, row: 0, lanes, outer: vec![] }.emit(w, start, end);
        } else {
            let outer = split_index(w, u, &spec.dims[..row]);
            let width = spec.dims[spec.dims.len() - 1];
            Row { spec, row, lanes, outer }.emit(w, Ix::Const(0), Ix::from(width));
        }
    });
    w.finish()
}

/// The index of each dim of a row-major position.
pub(crate) fn split_index(w: &mut Writer, position: Ix, dims: &[usize]) -> Vec<Ix> {
    let mut rest = position;
    let mut out = vec![Ix::Const(0); dims.len()];
    for (d, n) in dims.iter().enumerate().rev() {
        if d == 0 {
            out[0] = rest.clone();
        } else {
            // where there is nothing, nothing is split, but the text must be one
            let n = (*n).max(1);
            out[d] = w.name("i", rest.clone().rem(n));
            rest = w.name("i", rest.div(n));
        }
    }
    out
}

struct Row<'a> {
    spec: &'a Spec,
    /// First dim of the row.
    row: usize,
    lanes: u32,
    outer: Vec<Ix>,
}

/// After how many passes over the row each step is known.
pub(crate) fn levels(dag: &Dag) -> Vec<usize> {
    let mut out: Vec<usize> = vec![];
    for (step, _) in &dag.steps {
        let level = operands(step).into_iter().map(|o| out[o]).max().unwrap_or(0);
        out.push(level + usize::from(matches!(step, Step::Reduce(..))));
    }
    out
}

impl Row<'_> {
    fn emit(&self, w: &mut Writer, start: Ix, end: Ix) {
        let dag = &self.spec.dag;
        let constant = per_row(dag, self.row);
        let mut values = Values::new(dag, &constant);
        let level = levels(dag);
        let last = level.iter().copied().max().unwrap_or(0);
        let row_index: Vec<Ix> = self.outer.iter().cloned().chain(vec![Ix::Const(0); self.spec.dims.len() - self.row]).collect();
        for pass in 0..=last {
            for step in (0..dag.steps.len()).filter(|i| constant[*i] && level[*i] == pass && !matches!(dag.steps[*i].0, Step::Reduce(..))) {
                values.row(w, step, &row_index);
            }
            let reductions: Vec<(usize, Red, usize)> = dag
                .steps
                .iter()
                .enumerate()
                .filter_map(|(i, (s, _))| if let Step::Reduce(red, x) = s { Some((i, *red, *x)) } else { None })
                .filter(|(_, _, x)| level[*x] == pass)
                .collect();
            if !reductions.is_empty() {
                self.reduce(w, &mut values, &reductions, &start, &end);
            }
        }
        let (rows, wholes): (Vec<_>, Vec<_>) = self.spec.stores.iter().partition(|s| values.is_row_store(s, self.row));
        if !wholes.is_empty() {
            self.passes(w, &start, &end, &mut |w, point, _| values.store(w, &wholes, &point));
        }
        for store in rows {
            values.store_row(w, store, &row_index);
        }
    }

    fn reduce(&self, w: &mut Writer, values: &mut Values, reductions: &[(usize, Red, usize)], start: &Ix, end: &Ix) {
        let sums: Vec<LocalId> = reductions.iter().map(|_| w.local("sum", Elem::F32, self.lanes, UNROLL)).collect();
        for (sum, (_, red, _)) in sums.iter().zip(reductions) {
            w.unrolled("j", UNROLL, |w, j| w.set(*sum, j, identity(*red).splat(self.lanes)));
        }
        let args: Vec<usize> = reductions.iter().map(|r| r.2).collect();
        self.passes(w, start, end, &mut |w, point, j| {
            for ((sum, (_, red, _)), x) in sums.iter().zip(reductions).zip(values.at(w, &args, &point, None)) {
                let have = Writer::get(*sum, j.clone());
                let new = Expr::bin(combine(*red), x, have.clone());
                let new = match &point.valid {
                    Some(valid) => Expr::Keep { valid: valid.clone(), a: Box::new(new), b: Box::new(have) },
                    None => new,
                };
                w.set(*sum, j.clone(), new);
            }
        });
        for (sum, (step, red, _)) in sums.iter().zip(reductions) {
            let of = |j: i64| Writer::get(*sum, j);
            let two = |a, b| Expr::bin(combine(*red), a, b);
            let total = two(two(of(0), of(1)), two(of(2), of(3)));
            let total = if self.lanes == 1 { total } else { Expr::Lanes(*red, Box::new(total)) };
            let local = w.local("r", Elem::F32, 1, 1);
            w.set(local, 0, total);
            values.set_row(*step, Writer::get(local, 0));
        }
    }

    /// Visits the row's points; `visit` gets a point and which of the unrolled positions it is.
    fn passes(&self, w: &mut Writer, start: &Ix, end: &Ix, visit: &mut dyn FnMut(&mut Writer, Point, Ix)) {
        self.inner_loops(w, self.row, self.outer.clone(), start, end, visit);
    }

    fn inner_loops(&self, w: &mut Writer, dim: usize, index: Vec<Ix>, start: &Ix, end: &Ix, visit: &mut dyn FnMut(&mut Writer, Point, Ix)) {
        if dim + 1 < self.spec.dims.len() {
            return w.each("t", 0i64, self.spec.dims[dim], 1, |w, i| {
                let index = index.iter().cloned().chain([i]).collect();
                self.inner_loops(w, dim + 1, index, start, end, visit);
            });
        }
        let lanes = i64::from(self.lanes);
        let step = lanes * UNROLL as i64;
        let at = |i: Ix| -> Vec<Ix> { index.iter().cloned().chain([i]).collect() };
        let middle = w.name("middle", start.clone() + (end.clone() - start.clone()).down_to(step));
        w.each("i", start.clone(), middle.clone(), step, |w, i| {
            w.unrolled("j", UNROLL, |w, j| {
                let i = w.name("c", i.clone() + j.clone() * lanes);
                visit(w, Point { index: at(i), lanes: self.lanes, valid: None }, j);
            });
        });
        w.each("i", middle, end.clone(), lanes, |w, i| {
            let valid = (self.lanes > 1).then(|| end.clone() - i.clone());
            visit(w, Point { index: at(i), lanes: self.lanes, valid }, Ix::Const(0));
        });
    }
}

pub(crate) fn identity(red: Red) -> Expr {
    Expr::f32(if red == Red::Sum { 0.0 } else { f64::NEG_INFINITY })
}

pub(crate) fn combine(red: Red) -> ir::Bin {
    if red == Red::Sum { ir::Bin::Add } else { ir::Bin::Maximum }
}
