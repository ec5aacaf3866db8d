//! Reductions along leading dims: a cube has a block of columns, its threads take turns at the rows.

use super::super::cols::{Columns, Reduction, arrange};
use super::super::point::{Point, Values, access_at, per_row};
use super::super::rows::{combine as two, identity, split_index};
use super::rows::guard;
use super::{THREADS, combine, lanes};
use crate::kernel::{Buf, Elem, Expr, Ix, Kernel, Writer, load};
use crate::spec::{Spec, Step};
use ir::Red;

/// Vectors of columns of a cube: a line of memory.
const ACROSS: usize = 8;

pub(crate) fn lower(spec: Spec, reduced: &[bool], name: &str) -> Kernel {
    match arrange(spec, reduced) {
        Reduction::Columns(Columns { spec, outer }) => columns(&spec, outer, name),
        Reduction::Rows(spec, tail) => super::rows::lower(spec, tail, name),
    }
}

/// Dims: kept ones, reduced ones, the column. What is stored is computed from the reductions, at a column.
pub(super) fn columns(spec: &Spec, outer: usize, name: &str) -> Kernel {
    let last = spec.dims.len() - 1;
    let lanes = lanes(spec, last);
    let width = spec.dims[last] / lanes;
    let rows: usize = spec.dims[outer..last].iter().product();
    let across = width.next_power_of_two().min(ACROSS);
    let down = rows.next_power_of_two().min(THREADS / across);
    let blocks = width.div_ceil(across);
    let mut writer = Writer::cubes(name, spec.params.clone(), spec.dims[..outer].iter().product::<usize>() * blocks, across * down);
    let w = &mut writer;
    let column = w.cube().rem(blocks) * across + w.thread().rem(across);
    let column = w.name("column", column);
    let exact = width.is_multiple_of(across);
    let real = if exact { column.clone() } else { column.clone().min(width - 1) };
    let real = w.name("c", real * lanes);
    let position = w.cube().div(blocks);
    let kept = split_index(w, position, &spec.dims[..outer]);
    let y = w.thread().div(across);
    let y = w.name("y", y);
    let point = |rows: Vec<Ix>| Point { index: kept.iter().cloned().chain(rows).chain([real.clone()]).collect(), lanes: lanes as u32, valid: None };
    let constant = per_row(&spec.dag, last);
    let reductions: Vec<(usize, Red, usize)> =
        spec.dag.steps.iter().enumerate().filter_map(|(i, (s, _))| if let Step::Reduce(r, x) = s { Some((i, *r, *x)) } else { None }).collect();
    let sums: Vec<_> = reductions.iter().map(|_| w.local("sum", Elem::F32, lanes as u32, 1)).collect();
    for (sum, (_, red, _)) in sums.iter().zip(&reductions) {
        w.set(*sum, 0, identity(*red).splat(lanes as u32));
    }
    let args: Vec<usize> = reductions.iter().map(|r| r.2).collect();
    w.each("r", y.clone(), rows, down as i64, |w, r| {
        let at = split_index(w, r, &spec.dims[outer..last]);
        let values = Values::new(&spec.dag, &constant);
        for ((sum, (_, red, _)), x) in sums.iter().zip(&reductions).zip(values.at(w, &args, &point(at), None)) {
            w.set(*sum, 0, Expr::bin(two(*red), Writer::get(*sum, 0), x));
        }
    });
    let mut values = Values::new(&spec.dag, &constant);
    // one place for all of them, one after the other
    let shared = (down > 1).then(|| w.shared(Elem::F32, lanes as u32, across * down * lanes));
    for (i, (sum, (step, red, _))) in sums.iter().zip(&reductions).enumerate() {
        if let Some(shared) = shared {
            if i > 0 {
                w.barrier();
            }
            let slot = w.thread();
            combine(w, (*red, lanes), Writer::get(*sum, 0), down, across, &y, &slot, shared);
            let top = w.thread().rem(across) * lanes;
            w.set(*sum, 0, load(shared, top, lanes as u32, None));
        }
        values.set_column(*step, Writer::get(*sum, 0));
    }
    let wanted: Vec<usize> = spec.stores.iter().map(|s| s.step).collect();
    let zeros = vec![Ix::Const(0); last - outer];
    guard(w, y, 1, down == 1, |w| {
        guard(w, column, width, exact, |w| {
            let point = point(zeros);
            for (store, value) in spec.stores.iter().zip(values.at(w, &wanted, &point, None)) {
                w.store(Buf::Arg(store.access.arg), access_at(&store.access, &point.index), value, None);
            }
        });
    });
    writer.finish()
}
