//! A graph as a program: routines, distinct kernels, and the flat list of prepared calls they unroll to.

use super::emit::{Outside, lower};
use super::routine::{BufferKind, LoopInput, LoopResult, Routine, Step, Table, touched};
use crate::kernel::Kernel;
use crate::lower::{Target, lower as lower_kernel};
use crate::spec::Spec;
use ir::{Graph, Name, Op, Type};
use std::fmt::{self, Write};

/// Bytes of the widest access of a GPU's thread.
pub const ALIGN: usize = 16;

/// A compiled graph, but for machine code.
pub struct Program {
    /// Names and types of main's inputs.
    pub inputs: Vec<(String, Type)>,
    /// Paths and types of parameters and state.
    pub params: Vec<(Name, Type)>,
    /// Names and types of main's results.
    pub outputs: Vec<(String, Type)>,
    /// One a function; the last is main's.
    pub routines: Vec<Routine>,
    /// Distinct kernels: what each computes.
    pub specs: Vec<Spec>,
    /// And how.
    pub kernels: Vec<Kernel>,
}

/// A place in a program's memory: a region, bytes from its start, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Address {
    pub region: Region,
    pub offset: usize,
    /// Of the buffer that begins there.
    pub bytes: usize,
}

/// Memory a program runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    /// An input, by number.
    Input(usize),
    /// A parameter or state tensor, by number.
    Param(usize),
    /// A result, by number.
    Output(usize),
    /// The arena.
    Arena,
}

/// A kernel with its operands resolved.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Call {
    pub kernel: usize,
    pub args: Vec<Address>,
}

impl Program {
    /// Lowers a graph whose dims are bound.
    pub fn new(graph: &Graph, target: &Target) -> Program {
        let mut table = Table::default();
        let mut routines: Vec<Routine> = vec![];
        let last = graph.funcs.len() - 1;
        for (i, func) in graph.funcs.iter().enumerate() {
            let outside = (i == last).then_some(Outside { outputs: &graph.outputs });
            let routine = lower(func, &routines, &mut table, outside.as_ref(), rings(graph, i));
            routines.push(routine);
        }
        let main = graph.main();
        table.sweep(&mut routines);
        let mut program = Program {
            inputs: graph.inputs.iter().cloned().zip(main.inputs()).collect(),
            params: graph.params(),
            outputs: graph.outputs.iter().cloned().zip(main.outputs()).collect(),
            routines,
            specs: table.specs,
            kernels: vec![],
        };
        let aligned = program.aligned(ALIGN);
        let lower = |(i, s): (usize, &Spec)| lower_kernel(s, &format!("{}_{i}", s.name()), target, &aligned[i]);
        program.kernels = program.specs.iter().enumerate().map(lower).collect();
        program
    }

    /// For each kernel, whether each operand begins at a multiple of so many bytes in every call.
    pub fn aligned(&self, bytes: usize) -> Vec<Vec<bool>> {
        let mut out: Vec<Vec<bool>> = self.specs.iter().map(|s| vec![true; s.params.len()]).collect();
        for call in self.calls() {
            for (aligned, arg) in out[call.kernel].iter_mut().zip(&call.args) {
                *aligned &= arg.offset.is_multiple_of(bytes);
            }
        }
        out
    }

    fn main(&self) -> &Routine {
        self.routines.last().expect("a program has a main routine")
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.main().arena.bytes
    }

    /// Bytes of parameters and state.
    pub fn param_bytes(&self) -> usize {
        self.params.iter().map(|p| p.1.bytes()).sum()
    }

    /// Bytes of results that are not new values of state.
    pub fn output_bytes(&self) -> usize {
        (0..self.outputs.len()).filter(|i| self.output_state(*i).is_none()).map(|i| self.outputs[i].1.bytes()).sum()
    }

    /// Bytes the program needs in all, but for threads' scratch: the predicted peak.
    pub fn bytes(&self) -> usize {
        let inputs: usize = self.inputs.iter().map(|i| i.1.bytes()).sum();
        inputs + self.param_bytes() + self.output_bytes() + self.arena_bytes()
    }

    /// Floats of scratch memory a thread needs.
    pub fn scratch_floats(&self) -> usize {
        self.kernels.iter().map(Kernel::scratch_floats).max().unwrap_or(0)
    }

    /// The state that a result is written over, if it is.
    pub fn output_state(&self, i: usize) -> Option<usize> {
        let buffer = self.main().results[i].ok()?;
        match &self.main().buffers[buffer].kind {
            BufferKind::Param(name) => self.params.iter().position(|p| p.0 == *name),
            _ => None,
        }
    }

    /// The flat list of calls: loops unrolled, addresses resolved.
    pub fn calls(&self) -> Vec<Call> {
        let main = self.main();
        let resolve = |b: &super::routine::Buffer| {
            let (region, offset) = match &b.kind {
                BufferKind::Input(i) => (Region::Input(*i), 0),
                BufferKind::Param(name) => (Region::Param(self.params.iter().position(|p| p.0 == *name).expect("main's parameters are listed")), 0),
                BufferKind::Result(i) => (Region::Output(*i), 0),
                BufferKind::Temp(offset) => (Region::Arena, *offset),
            };
            Address { region, offset, bytes: b.bytes }
        };
        let addresses: Vec<Address> = main.buffers.iter().map(resolve).collect();
        let mut out = vec![];
        self.unroll(main, &addresses, &mut out);
        out
    }

    fn unroll(&self, routine: &Routine, at: &[Address], out: &mut Vec<Call>) {
        let plus = |a: Address, n: usize| Address { offset: a.offset + n, ..a };
        for step in &routine.steps {
            match step {
                Step::Kernel { kernel, args } => out.push(Call { kernel: *kernel, args: args.iter().map(|a| at[*a]).collect() }),
                Step::Loop(l) => {
                    let body = &self.routines[l.routine];
                    let trip = l.shape.trip as usize;
                    for round in 0..trip {
                        let i = if l.shape.reverse { trip - 1 - round } else { round };
                        let input = |j: usize| match l.inputs[j] {
                            LoopInput::Carried { ring, slots, bytes } => plus(at[ring], round % slots * bytes),
                            LoopInput::Stacked { place, bytes } => plus(at[place.buffer], place.offset + i * bytes),
                            LoopInput::Invariant(place) => plus(at[place.buffer], place.offset),
                        };
                        let result = |j: usize| match l.results[j] {
                            LoopResult::Carried { ring, slots, bytes } => plus(at[ring], (round + 1) % slots * bytes),
                            LoopResult::Stacked { buffer, bytes } => plus(at[buffer], i * bytes),
                            LoopResult::Alias => unreachable!("an alias is written by nobody"),
                        };
                        let inner: Vec<Address> = body
                            .buffers
                            .iter()
                            .map(|b| {
                                let place = match &b.kind {
                                    BufferKind::Input(j) => input(*j),
                                    BufferKind::Result(j) => result(*j),
                                    BufferKind::Temp(offset) => plus(at[l.arena], *offset),
                                    BufferKind::Param(_) => unreachable!("only main names parameters"),
                                };
                                Address { bytes: b.bytes, ..place }
                            })
                            .collect();
                        self.unroll(body, &inner, out);
                    }
                }
            }
        }
    }

    /// The plan for people: each routine's steps with the buffers they touch, and the arena.
    pub fn plan_text(&self) -> String {
        let mut out = String::new();
        for r in &self.routines {
            let _ = writeln!(out, "routine {}: arena {} bytes, at least {} are live at once", r.name, r.arena.bytes, r.arena.bound);
            for (i, b) in r.buffers.iter().enumerate() {
                let _ = writeln!(out, "  b{i}: {} {} bytes", show(&b.kind), b.bytes);
            }
            for (i, s) in r.steps.iter().enumerate() {
                let args: Vec<String> = touched(s).iter().map(|b| format!("b{b}")).collect();
                let name = match s {
                    Step::Kernel { kernel, .. } => self.kernels[*kernel].name.clone(),
                    Step::Loop(l) => {
                        format!("{} × {}{}", self.routines[l.routine].name, l.shape.trip, if l.shape.reverse { " reversed" } else { "" })
                    }
                };
                let _ = writeln!(out, "  {i:3} {name} {}", args.join(" "));
            }
        }
        out
    }
}

/// How many carried operands of a function every loop over it could keep a ring of, iteration by iteration: none where one runs
/// backwards, whose rings are in the other order than its stacks.
fn rings(graph: &Graph, func: usize) -> usize {
    let loops = graph.funcs.iter().flat_map(|f| &f.nodes).filter_map(|n| if let Op::Repeat(l) = &n.op { Some(l) } else { None });
    loops.filter(|l| l.func as usize == func).map(|l| if l.reverse { 0 } else { l.carried as usize }).min().unwrap_or(0)
}

fn show(kind: &BufferKind) -> String {
    match kind {
        BufferKind::Input(i) => format!("input {i},"),
        BufferKind::Param(name) => format!("@{name},"),
        BufferKind::Result(i) => format!("result {i},"),
        BufferKind::Temp(offset) => format!("arena {offset},"),
    }
}

impl fmt::Display for Program {
    /// Every distinct kernel: its spec, then its body.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (spec, kernel) in self.specs.iter().zip(&self.kernels) {
            writeln!(f, "{spec}{kernel}")?;
        }
        Ok(())
    }
}
