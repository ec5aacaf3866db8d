//! Which buffers of a routine are one: decided on the steps as they will run, by what each reads and writes.

use super::state::{NewState, in_step, may_overwrite};
use super::steps::{BufferKind, Routine, Step, Table, touched};
use crate::spec::{Spec, Step as Pure, Template};
use crate::touch::Touch;
use std::collections::BTreeMap;

/// The steps that touch each buffer: from the first to the last of them it lives.
pub(crate) struct Lives(Vec<Vec<usize>>);

impl Lives {
    pub(crate) fn new(r: &Routine) -> Lives {
        let mut users = vec![vec![]; r.buffers.len()];
        for (s, step) in r.steps.iter().enumerate() {
            for b in touched(step) {
                if users[b].last() != Some(&s) {
                    users[b].push(s);
                }
            }
        }
        Lives(users)
    }

    fn ends(&self) -> BTreeMap<usize, (usize, usize)> {
        self.0.iter().enumerate().filter_map(|(b, users)| Some((b, (*users.first()?, *users.last()?)))).collect()
    }

    /// The steps that touch either of two buffers.
    fn either(&self, a: usize, b: usize) -> Vec<usize> {
        let mut out: Vec<usize> = self.0[a].iter().chain(&self.0[b]).copied().collect();
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// Buffers by the one that each has become, and the first and last step of those that stand for themselves.
pub(crate) struct Sharing {
    pub same: Vec<usize>,
    pub life: BTreeMap<usize, (usize, usize)>,
}

impl Sharing {
    /// The steps from `copies` on write state back.
    pub(crate) fn new(r: &Routine, states: &[NewState], copies: usize, table: &Table) -> Sharing {
        let lives = Lives::new(r);
        let mut out = Sharing { same: (0..r.buffers.len()).collect(), life: lives.ends() };
        for s in states {
            let users: Vec<usize> = lives.either(s.old, s.new).into_iter().filter(|u| *u < copies).collect();
            if may_overwrite(s, r, table, &users) {
                out.join(s.new, s.old);
            }
        }
        for (i, step) in r.steps.iter().enumerate() {
            if let Step::Kernel { kernel, args } = step {
                for (new, old) in candidates(&table.specs[*kernel]) {
                    out.take_over(r, table, i, args[new], args[old]);
                }
            }
        }
        out.same = (0..r.buffers.len()).map(|b| out.find(b)).collect();
        out
    }

    /// The buffer that this one has become.
    fn find(&self, mut b: usize) -> usize {
        while self.same[b] != b {
            b = self.same[b];
        }
        b
    }

    /// `a` becomes `b`.
    fn join(&mut self, a: usize, b: usize) {
        let (gone, kept) = (self.life.remove(&a), self.life.get_mut(&b));
        if let (Some(gone), Some(kept)) = (gone, kept) {
            *kept = (kept.0.min(gone.0), kept.1.max(gone.1));
        }
        self.same[a] = b;
    }

    /// A temporary that a step makes takes the memory of one that nothing reads after it.
    fn take_over(&mut self, r: &Routine, table: &Table, step: usize, new: usize, old: usize) {
        let Step::Kernel { kernel, args } = &r.steps[step] else { return };
        let (a, b) = (self.find(new), self.find(old));
        let is_temp = |b: usize| matches!(r.buffers[b].kind, BufferKind::Temp(_));
        let (born, dead) = (self.life.get(&a).map(|l| l.0), self.life.get(&b).map(|l| l.1));
        let fits = a != b && is_temp(a) && is_temp(b) && r.buffers[a].bytes == r.buffers[b].bytes;
        if !fits || born != Some(step) || dead != Some(step) {
            return;
        }
        let of = |one: usize| table.specs[*kernel].touches().into_iter().filter(|r| self.find(args[r.arg]) == one).collect::<Vec<Touch>>();
        let (reads, writes) = (of(b), of(a));
        if reads.iter().all(|r| !r.written) && in_step(&r.steps[step], table, &reads, &writes) {
            self.join(a, b);
        }
    }
}

/// Results of a kernel with operands that are loaded where they are stored.
fn candidates(spec: &Spec) -> Vec<(usize, usize)> {
    if !matches!(spec.template, Template::Rows { .. }) {
        return vec![];
    }
    let loads = || spec.dag.steps.iter().filter_map(|(s, _)| if let Pure::Load(a) = s { Some(a) } else { None });
    let like = |s: &crate::spec::Store| {
        let access = s.access.clone();
        loads().filter(move |l| l.offset == access.offset && l.strides == access.strides).map(move |l| (s.access.arg, l.arg)).collect::<Vec<_>>()
    };
    spec.stores.iter().flat_map(like).collect()
}
