//! Specs to kernels for graphics processors: cubes of threads, shared memory, vectors of four.

mod attention;
mod cols;
mod contract;
mod flash;
mod grouped;
mod matrices;
mod product;
mod rows;
mod scatter;
mod tensor;
mod width;

use super::Gpu;
use super::point::vectorisable;
use crate::kernel::{Buf, Expr, Ix, Kernel, Writer, load};
use crate::spec::{Spec, Template};
use ir::Red;

/// Threads of a cube, where nothing else decides.
const THREADS: usize = 256;
/// Lanes of a vector: sixteen bytes, which is what these machines load at once.
const LANES: usize = 4;

/// The kernel of a spec. `aligned` says of each operand whether it always begins at a multiple of sixteen bytes.
pub(crate) fn lower(spec: &Spec, name: &str, target: &Gpu, aligned: &[bool]) -> Kernel {
    let mut kernel = match &spec.template {
        Template::Rows { tail } => rows::lower(spec.clone(), *tail, name),
        Template::Cols { reduced } => cols::lower(spec.clone(), reduced, name),
        Template::Contract { .. } => contract::lower(spec, name, target, aligned),
        Template::Attention(heads) if flash::fits(spec, heads, target, aligned) => flash::forward(spec, heads, name),
        Template::AttentionBwd(heads) if flash::fits(spec, heads, target, aligned) => flash::backward(spec, heads, name),
        Template::Attention(heads) => attention::forward(spec, heads, name),
        Template::AttentionBwd(heads) => attention::backward(spec, heads, name),
        Template::ScatterAdd { tokens, rows, width } => scatter::lower(spec, (*tokens, *rows, *width), name, target),
    };
    width::widen(&mut kernel, aligned);
    kernel
}

/// Lanes along the last dim: a whole vector where every access allows it and the dim divides, else one.
fn lanes(spec: &Spec, row: usize) -> usize {
    let whole = spec.dims.last().is_some_and(|n| n.is_multiple_of(LANES));
    if whole && vectorisable(spec, row) { LANES } else { 1 }
}

/// The index of each dim of a position that counts vectors along the last.
fn vector_index(w: &mut Writer, position: Ix, dims: &[usize], lanes: usize) -> Vec<Ix> {
    let mut counted = dims.to_vec();
    if let Some(last) = counted.last_mut() {
        *last /= lanes;
    }
    let mut index = super::rows::split_index(w, position, &counted);
    if let Some(last) = index.last_mut() {
        *last = w.name("c", last.clone() * lanes);
    }
    index
}

/// The value that `group` threads after one another hold, combined in a fixed order: by halves, through shared memory. `slot` is the
/// thread's place in `shared`, a vector a place, and `t` its number in the group, whose members stand `apart` places from one another.
fn combine(w: &mut Writer, (red, lanes): (Red, usize), value: Expr, group: usize, apart: usize, t: &Ix, slot: &Ix, shared: Buf) {
    let at = |i: Ix| load(shared, i * lanes, lanes as u32, None);
    w.store(shared, slot.clone() * lanes, value, None);
    w.barrier();
    let mut half = group / 2;
    while half > 0 {
        w.branch(
            t.clone(),
            half,
            |w| {
                let two = Expr::bin(super::rows::combine(red), at(slot.clone()), at(slot.clone() + half * apart));
                w.store(shared, slot.clone() * lanes, two, None);
            },
            |_| {},
        );
        w.barrier();
        half /= 2;
    }
}
