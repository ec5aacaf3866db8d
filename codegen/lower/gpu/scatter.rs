//! Adding rows of updates by index, in order, so that the sum has one order: each cube owns some rows, and goes through all updates.

use super::{LANES, THREADS};
use crate::kernel::{Buf, Ix, Kernel, Stmt, Writer, load};
use crate::lower::Gpu;
use crate::spec::Spec;

pub(super) fn lower(spec: &Spec, (tokens, rows, width): (usize, usize, usize), name: &str, target: &Gpu) -> Kernel {
    let lanes = if width.is_multiple_of(LANES) { LANES } else { 1 };
    let own = rows.div_ceil(4 * target.processors).max(1);
    let cubes = if width == 0 { 0 } else { rows.div_ceil(own) };
    let threads = (width / lanes).next_power_of_two().min(THREADS);
    let mut writer = Writer::cubes(name, spec.params.clone(), cubes, threads);
    let w = &mut writer;
    let (index, updates, out) = (Buf::Arg(0), Buf::Arg(1), Buf::Arg(2));
    let first = w.name("first", w.cube() * own);
    let end = w.name("end", (first.clone() + own).min(rows));
    w.each("t", 0i64, tokens, 1, |w, t| {
        let row = w.var("row");
        w.push(Stmt::LetValue(row, load(index, t.clone(), 1, None)));
        let row = Ix::Var(row);
        let add = |w: &mut Writer| {
            w.each("c", w.thread() * lanes, width, (threads * lanes) as i64, |w, c| {
                let at = w.name("at", row.clone() * width + c.clone());
                let sum = load(out, at.clone(), lanes as u32, None).plus(load(updates, t.clone() * width + c, lanes as u32, None));
                w.store(out, at, sum, None);
            });
        };
        w.branch(row.clone(), first.clone(), |_| {}, |w| w.branch(row.clone(), end.clone(), add, |_| {}));
    });
    writer.finish()
}
