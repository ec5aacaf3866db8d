//! Where a routine's buffers live in its arena, and which of them are one.

use super::routine::{BufferKind, Routine, Step, Table, touched};
use crate::spec::{Step as Pure, Template};
use passes::Interval;
use std::collections::BTreeMap;

/// Gives every temporary a place in the arena. `in_place` lists (step, output, input): buffers that may be one.
pub(crate) fn place_buffers(r: &mut Routine, in_place: &[(usize, usize, usize)], table: &mut Table) {
    let mut life: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for (s, step) in r.steps.iter().enumerate() {
        for b in touched(step) {
            let l = life.entry(b).or_insert((s, s));
            l.1 = s;
        }
    }
    let temp = |r: &Routine, b: usize| matches!(r.buffers[b].kind, BufferKind::Temp(_));
    // buffers that became one, by the one that stands for both
    let mut same: Vec<usize> = (0..r.buffers.len()).collect();
    for (s, out, input) in in_place {
        let (a, b) = (same[*out], same[*input]);
        let fits = a != b && temp(r, a) && temp(r, b) && r.buffers[a].bytes == r.buffers[b].bytes;
        if fits && life.get(&b).is_some_and(|l| l.1 == *s) && life.get(&a).is_some_and(|l| l.0 == *s) {
            let merged = (life[&b].0, life[&a].1);
            life.insert(b, merged);
            life.remove(&a);
            for x in &mut same {
                if *x == a {
                    *x = b;
                }
            }
        }
    }
    let owners: Vec<usize> = life.keys().copied().filter(|b| temp(r, *b)).collect();
    let intervals: Vec<Interval> = owners.iter().map(|b| Interval { bytes: r.buffers[*b].bytes, first: life[b].0, last: life[b].1 }).collect();
    r.arena = passes::plan(&intervals);
    for b in 0..r.buffers.len() {
        if let (BufferKind::Temp(_), Some(i)) = (&r.buffers[b].kind, owners.iter().position(|o| *o == same[b])) {
            r.buffers[b].kind = BufferKind::Temp(r.arena.offsets[i]);
        }
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
