//! A function as a list of kernels over buffers.

use crate::spec::Spec;
use ir::{Loop, Name};
use passes::Arena;
use std::collections::HashMap;
use std::ops::Range;

/// A buffer of a routine.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// What it is.
    pub kind: BufferKind,
    /// Size.
    pub bytes: usize,
}

/// What a buffer is.
#[derive(Clone, Debug, PartialEq)]
pub enum BufferKind {
    /// An operand of the function.
    Input(usize),
    /// Parameters and state, by path.
    Param(Name),
    /// A result of the function.
    Result(usize),
    /// Scratch between kernels, at this offset of the routine's arena.
    Temp(usize),
}

/// A buffer with a byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Place {
    pub buffer: usize,
    pub offset: usize,
}

/// One step of a routine.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Step {
    /// A kernel of the program's table on these buffers.
    Kernel { kernel: usize, args: Vec<usize> },
    /// A loop over another routine.
    Loop(Box<LoopStep>),
}

/// How a loop's body gets its operands and gives its results.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct LoopStep {
    pub routine: usize,
    pub shape: Loop,
    pub inputs: Vec<LoopInput>,
    pub results: Vec<LoopResult>,
    /// The body's arena.
    pub arena: usize,
}

/// Where a loop's body reads an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LoopInput {
    /// Slot s of a ring of slots, s the number of iterations so far.
    Carried { ring: usize, slots: usize, bytes: usize },
    /// The iteration's own piece.
    Stacked { place: Place, bytes: usize },
    /// The same each time.
    Invariant(Place),
}

/// Where a loop's body writes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum LoopResult {
    /// The next slot of a ring.
    Carried { ring: usize, slots: usize, bytes: usize },
    /// The iteration's own piece.
    Stacked { buffer: usize, bytes: usize },
    /// Nowhere: it is a carried operand, whose ring keeps every iteration's.
    Alias,
}

/// A function as steps.
#[derive(Clone, Debug, Default)]
pub struct Routine {
    /// The function's name.
    pub name: String,
    /// Its buffers.
    pub buffers: Vec<Buffer>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// The buffer of each result; `None` where the result is the carried operand of that number.
    pub results: Vec<Result<usize, usize>>,
    /// The arena of its temporaries.
    pub arena: Arena,
}

impl Routine {
    /// The operand that a result is written over, where the two are one buffer.
    pub(crate) fn operand_of(&self, result: usize) -> Option<usize> {
        let buffer = self.results[result].ok()?;
        if let BufferKind::Input(operand) = self.buffers[buffer].kind { Some(operand) } else { None }
    }
}

/// How the loops over a function call it, where they agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Calling {
    /// How many carried operands keep a ring of every iteration, if asked.
    pub rings: usize,
    /// The operands that are stacked: results from the first of these numbers on are, too.
    pub stacked: Range<usize>,
}

/// Distinct kernels of a program.
#[derive(Default)]
pub struct Table {
    /// The specs.
    pub specs: Vec<Spec>,
    index: HashMap<String, usize>,
}

impl Table {
    /// Drops kernels that no step names, and renumbers the others.
    pub(crate) fn sweep(&mut self, routines: &mut [Routine]) {
        let mut new: Vec<Option<usize>> = vec![None; self.specs.len()];
        for step in routines.iter().flat_map(|r| &r.steps) {
            if let Step::Kernel { kernel, .. } = step {
                new[*kernel] = Some(0);
            }
        }
        for (count, n) in new.iter_mut().flatten().enumerate() {
            *n = count;
        }
        let mut i = 0;
        self.specs.retain(|_| {
            i += 1;
            new[i - 1].is_some()
        });
        for step in routines.iter_mut().flat_map(|r| &mut r.steps) {
            if let Step::Kernel { kernel, .. } = step {
                *kernel = new[*kernel].expect("a step names it");
            }
        }
        self.index.clear();
    }

    /// The number of a kernel, new or known.
    pub(crate) fn add(&mut self, spec: Spec) -> usize {
        let key = format!("{spec:?}");
        *self.index.entry(key).or_insert_with(|| {
            self.specs.push(spec);
            self.specs.len() - 1
        })
    }
}

/// Buffers a step reads or writes.
pub(crate) fn touched(step: &Step) -> Vec<usize> {
    match step {
        Step::Kernel { args, .. } => args.clone(),
        Step::Loop(l) => {
            let input = |i: &LoopInput| match i {
                LoopInput::Carried { ring, .. } => *ring,
                LoopInput::Stacked { place, .. } | LoopInput::Invariant(place) => place.buffer,
            };
            let result = |r: &LoopResult| match r {
                LoopResult::Carried { ring, .. } => Some(*ring),
                LoopResult::Stacked { buffer, .. } => Some(*buffer),
                LoopResult::Alias => None,
            };
            l.inputs.iter().map(input).chain(l.results.iter().filter_map(result)).chain([l.arena]).collect()
        }
    }
}
