//! Where a routine's buffers live in its arena.

use super::sharing::Sharing;
use super::state::NewState;
use super::steps::{BufferKind, Routine, Step, Table};
use crate::spec::{Step as Pure, Template};
use passes::Interval;

/// Gives every temporary a place in the arena, or that of the state it is written over. The steps from `copies` on write state back.
pub(crate) fn place_buffers(r: &mut Routine, states: &[NewState], copies: usize, table: &mut Table) {
    let Sharing { same, life } = Sharing::new(r, states, copies, table);
    let is_temp = |b: usize| matches!(r.buffers[b].kind, BufferKind::Temp(_));
    let owners: Vec<usize> = life.keys().copied().filter(|b| is_temp(*b)).collect();
    let intervals: Vec<Interval> = owners.iter().map(|b| Interval { bytes: r.buffers[*b].bytes, first: life[b].0, last: life[b].1 }).collect();
    r.arena = passes::plan(&intervals);
    for (owner, offset) in owners.iter().zip(&r.arena.offsets) {
        r.buffers[*owner].kind = BufferKind::Temp(*offset);
    }
    for b in 0..r.buffers.len() {
        r.buffers[b].kind = r.buffers[same[b]].kind.clone();
    }
    drop_self_copies(r, &same, table);
    merge_operands(r, &same, table);
}

/// Operands of a kernel that have become one buffer become one operand: a kernel may take it that no two of its operands overlap.
fn merge_operands(r: &mut Routine, same: &[usize], table: &mut Table) {
    for step in &mut r.steps {
        let Step::Kernel { kernel, args } = step else { continue };
        // the others have their operands by number, and what they write they do not read
        if !matches!(table.specs[*kernel].template, Template::Rows { .. } | Template::Cols { .. } | Template::Contract { .. }) {
            continue;
        }
        let mut kept: Vec<usize> = vec![];
        let mut new = vec![];
        for a in args.iter() {
            new.push(kept.iter().position(|k| same[*k] == same[*a]).unwrap_or(kept.len()));
            if new.last() == Some(&kept.len()) {
                kept.push(*a);
            }
        }
        if kept.len() < args.len() {
            let mut spec = table.specs[*kernel].clone();
            spec.merge_params(&new);
            (*kernel, *args) = (table.add(spec), kept);
        }
    }
}

/// A copy of a buffer onto itself, which sharing memory has made, is no work.
fn drop_self_copies(r: &mut Routine, same: &[usize], table: &Table) {
    let is_copy = |kernel: usize| {
        let s = &table.specs[kernel];
        matches!(s.template, Template::Rows { .. })
            && matches!(&s.dag.steps[..], [(Pure::Load(a), _)] if s.stores.len() == 1 && a.offset == s.stores[0].access.offset && a.strides == s.stores[0].access.strides)
    };
    r.steps.retain(|s| match s {
        Step::Kernel { kernel, args } => !(args.len() == 2 && same[args[0]] == same[args[1]] && is_copy(*kernel)),
        Step::Loop(_) => true,
    });
}
