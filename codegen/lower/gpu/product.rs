//! A contraction as a product of matrices: its dims by kind, and what leaves a tile of it.

use super::super::point::{Point, Values, access_at, per_row};
use super::super::rows::split_index;
use crate::kernel::{Buf, Expr, Ix, Writer};
use crate::spec::{Spec, Template};
use std::ops::Range;

/// The kinds of a contraction's dims.
pub(super) struct Kinds {
    pub loops: Range<usize>,
    pub rows: Range<usize>,
    pub sums: Range<usize>,
    pub columns: Range<usize>,
}

/// Puts the dims in the order loops, rows, sums, columns, with b the operand whose dims the result is contiguous along.
pub(super) fn arrange(mut spec: Spec) -> (Spec, Kinds) {
    let Template::Contract { out, a, b, own } = &spec.template else { unreachable!("only contractions are lowered here") };
    let kind = |d: usize| match (d < *out, a.strides[d] != 0, b.strides[d] != 0) {
        // groups are gone through around everything
        _ if own.as_ref().is_some_and(|own| own.dim == d) => 0,
        (false, ..) => 2,
        (true, true, false) => 1,
        (true, false, true) => 3,
        (true, ..) => 0,
    };
    let kinds: Vec<u8> = (0..spec.dims.len()).map(kind).collect();
    let mut kinds = spec.collapse(&kinds);
    let main = &spec.stores[0].access;
    // rows that have groups stay rows
    let grouped = |d: usize| spec.own().is_some_and(|own| own.group.strides[d] != 0);
    if (0..kinds.len()).any(|d| main.strides[d] == 1 && kinds[d] == 1 && !grouped(d)) {
        let Template::Contract { a, b, .. } = &mut spec.template else { unreachable!("as above") };
        std::mem::swap(a, b);
        for k in &mut kinds {
            *k = [0, 3, 2, 1][usize::from(*k)];
        }
    }
    // what the result is contiguous along stands last
    let main = spec.stores[0].access.clone();
    let mut order: Vec<usize> = (0..kinds.len()).collect();
    order.sort_by_key(|d| (kinds[*d], kinds[*d] == 3 && main.strides[*d] == 1));
    spec.reorder(&order);
    let mut at = 0;
    let mut next = |k: u8| {
        let from = at;
        at += kinds.iter().filter(|x| **x == k).count();
        from..at
    };
    let (loops, rows, sums, columns) = (next(0), next(1), next(2), next(3));
    (spec, Kinds { loops, rows, sums, columns })
}

/// Computes the epilogue at a place of the result, from `column` on, and stores it. `outer` and `own` are the indices of loops and rows.
pub(super) fn store(w: &mut Writer, (spec, kinds): (&Spec, &Kinds), product: Expr, lanes: usize, outer: &[Ix], own: &[Ix], column: Ix) {
    let columns = split_index(w, column, &spec.dims[kinds.columns.clone()]);
    let sums = vec![Ix::Const(0); kinds.sums.len()];
    let point = Point { index: [outer, own, &sums, &columns].concat(), lanes: lanes as u32, valid: None };
    let constant = per_row(&spec.dag, spec.dims.len().saturating_sub(1));
    let wanted: Vec<usize> = spec.stores.iter().map(|s| s.step).collect();
    let values = Values::new(&spec.dag, &constant);
    for (store, value) in spec.stores.iter().zip(values.at(w, &wanted, &point, Some(product))) {
        w.store(Buf::Arg(store.access.arg), access_at(&store.access, &point.index), value, None);
    }
}
