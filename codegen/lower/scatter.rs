//! Adding rows of updates by index, in order, so that the sum has one order: each unit owns a block of columns.

use super::Cpu;
use crate::kernel::{Buf, Kernel, Writer, load};
use crate::spec::Spec;

/// Vectors of columns a unit.
const VECTORS: i64 = 2;

pub(crate) fn lower(spec: &Spec, (tokens, rows, width): (usize, usize, usize), name: &str, target: &Cpu) -> Kernel {
    let lanes = i64::from(target.lanes);
    let block = lanes * VECTORS;
    let mut w = Writer::new(name, spec.params.clone(), width.div_ceil(block as usize));
    let (index, updates, out) = (Buf::Arg(0), Buf::Arg(1), Buf::Arg(2));
    let (lo, hi) = (w.lo() * block, (w.hi() * block).min(width));
    let (lo, hi) = (w.name("first", lo), w.name("last", hi));
    w.each("t", 0i64, tokens, 1, |w, t| {
        let row = w.value("row", load(index, t.clone(), 1, None));
        let add = |w: &mut Writer| {
            w.each("c", lo.clone(), hi.clone(), lanes, |w, c| {
                let valid = Some(hi.clone() - c.clone());
                let at = row.clone() * width + c.clone();
                let sum = load(out, at.clone(), target.lanes, valid.clone()).plus(load(updates, t.clone() * width + c, target.lanes, valid.clone()));
                w.store(out, at, sum, valid);
            });
        };
        // 0 ≤ row < rows
        w.branch(-1i64, row.clone(), |w| w.branch(row.clone(), rows, add, |_| {}), |_| {});
    });
    w.finish()
}
