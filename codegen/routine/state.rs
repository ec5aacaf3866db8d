//! State: its new value is computed aside and copied over the old one when everything has read that. Where it is proven that nothing
//! reads of the old value what was overwritten, the two are one buffer, and the copy is no work.

use super::homes::Home;
use super::layout::Layout;
use super::steps::{LoopInput, LoopResult, Routine, Step, Table};
use crate::spec::Template;
use crate::touch::Touch;
use ir::Type;

/// A state tensor, or an operand that updates make a result of; the buffer its new value is computed in; and the type of both.
pub(crate) struct NewState {
    pub old: usize,
    pub new: usize,
    pub ty: Type,
}

/// The copies at the end of a routine.
pub(crate) fn write_back(layout: &mut Layout, states: &[NewState]) {
    for s in states {
        let whole = |buffer| Home::dense(buffer, vec![s.ty.count()]);
        layout.copy(&whole(s.new), &whole(s.old), s.ty.dtype);
    }
}

/// Whether the new value may be written over the old one: whatever a step reads of the old value, no step before it has written of the
/// new one, and neither has another iteration of its own kernel. `users` are the steps that touch either, in order, but for the copy.
pub(crate) fn may_overwrite(s: &NewState, routine: &Routine, table: &Table, users: &[usize]) -> bool {
    let mut written: Vec<Touch> = vec![];
    for step in users.iter().map(|u| &routine.steps[*u]) {
        let reads = touches(step, s.old, table);
        let writes = touches(step, s.new, table).into_iter().filter(|r| r.written).collect::<Vec<_>>();
        let clear = reads.iter().all(|r| written.iter().all(|w| r.is_apart(w)));
        if !clear || (!reads.is_empty() && !writes.is_empty() && !in_step(step, table, &reads, &writes)) {
            return false;
        }
        written.extend(writes);
    }
    true
}

/// Whether a kernel may write these elements over those it reads: at each point of the iteration it reads before it writes, so an element
/// may be read where it is written and nowhere else. Products are not so: their results hold sums before the epilogue reads anything. Nor
/// is what goes by index.
pub(crate) fn in_step(step: &Step, table: &Table, reads: &[Touch], writes: &[Touch]) -> bool {
    let Step::Kernel { kernel, .. } = step else { return false };
    let spec = &table.specs[*kernel];
    let same = |r: &Touch, w: &Touch| r.offset == w.offset && r.dims == w.dims && w.is_one_to_one();
    let clear = |r: &Touch, w: &Touch| spec.params[r.arg].elem == spec.params[w.arg].elem && (same(r, w) || r.is_apart(w));
    let in_order = matches!(spec.template, Template::Rows { .. }) && spec.stores.iter().all(|s| s.at.is_none());
    in_order && reads.iter().all(|r| writes.iter().all(|w| clear(r, w)))
}

/// What a step touches of a buffer. A loop is not looked into: it reads whatever it is given, and writes all of what it makes.
fn touches(step: &Step, buffer: usize, table: &Table) -> Vec<Touch> {
    match step {
        Step::Kernel { kernel, args } => table.specs[*kernel].touches().into_iter().filter(|r| args[r.arg] == buffer).collect(),
        Step::Loop(l) => {
            let reads = |i: &&LoopInput| match i {
                LoopInput::Stacked { place, .. } | LoopInput::Invariant(place) => place.buffer == buffer,
                LoopInput::Carried { .. } => false,
            };
            let writes = |r: &&LoopResult| match r {
                LoopResult::Stacked { buffer: b, .. } => *b == buffer,
                LoopResult::Carried { .. } | LoopResult::Alias => false,
            };
            let reads = l.inputs.iter().filter(reads).map(|_| Touch::everything(false));
            reads.chain(l.results.iter().filter(writes).map(|_| Touch::everything(true))).collect()
        }
    }
}
