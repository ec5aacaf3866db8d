//! A graph as a program: routines, distinct kernels, and the flat list of prepared calls they unroll to.

use super::emit::lower;
use super::steps::{Buffer, BufferKind, Calling, LoopInput, LoopResult, LoopStep, Routine, Step, Table, touched};
use crate::kernel::Kernel;
use crate::lower::{Target, lower as lower_kernel};
use crate::spec::Spec;
use crate::touch::Touch;
use ir::{Graph, Loop, Name, Op, Type};
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

impl Address {
    /// The byte behind the last.
    fn end(&self) -> usize {
        self.offset + self.bytes
    }

    fn overlaps(&self, other: &Address) -> bool {
        self.region == other.region && self.bytes.min(other.bytes) > 0 && self.offset < other.end() && other.offset < self.end()
    }

    /// So many bytes of a buffer.
    fn part(&self, offset: usize, bytes: usize) -> Address {
        assert!(offset + bytes <= self.bytes, "{bytes} bytes from byte {offset} of {self:?}");
        Address { region: self.region, offset: self.offset + offset, bytes }
    }
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
            let outputs = if i == last { &graph.outputs[..] } else { &[] };
            let routine = lower(func, &routines, &mut table, outputs, &calling(graph, i));
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

    /// What devices rely on: each operand lies inside its region, and its kernel's accesses inside it; none that is written overlaps
    /// another.
    fn check(&self, call: &Call, touches: &[Touch]) {
        let spec = &self.specs[call.kernel];
        assert_eq!(call.args.len(), spec.params.len(), "a call has an operand for each parameter\n{spec}");
        for a in &call.args {
            assert!(a.end() <= self.region_bytes(a.region), "{a:?} is outside its region\n{spec}");
        }
        for r in touches {
            let (bytes, elem) = (call.args[r.arg].bytes as i64, spec.params[r.arg].elem.bytes() as i64);
            let inside = r.span().is_none_or(|(low, high)| low >= 0 && (high + 1) * elem <= bytes);
            assert!(inside && (spec.params[r.arg].written || !r.written), "{r:?} is outside {:?}\n{spec}", call.args[r.arg]);
        }
        for (i, a) in call.args.iter().enumerate().filter(|(i, _)| spec.params[*i].written) {
            let other = call.args.iter().enumerate().find(|(j, b)| *j != i && a.overlaps(b));
            assert!(other.is_none(), "operand {i}, {a:?}, is written and overlaps operand {other:?}\n{spec}");
        }
    }

    fn region_bytes(&self, region: Region) -> usize {
        match region {
            Region::Input(i) => self.inputs[i].1.bytes(),
            Region::Param(i) => self.params[i].1.bytes(),
            Region::Output(i) => self.outputs[i].1.bytes(),
            Region::Arena => self.arena_bytes(),
        }
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

    /// Refuses a program that needs more bytes than it may use, where that is limited.
    pub fn within(&self, budget: Option<usize>) -> Result<(), String> {
        let need = self.bytes();
        let Some(budget) = budget.filter(|b| need > *b) else { return Ok(()) };
        let (state, values) = (self.param_bytes(), self.arena_bytes());
        Err(format!(
            "the program needs {need} bytes, {state} of them parameters and state and {values} what it computes on the way, and may use \
             {budget}; try a smaller batch or context, or a larger --max-memory"
        ))
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
            BufferKind::Input(_) | BufferKind::Result(_) | BufferKind::Temp(_) => None,
        }
    }

    /// The flat list of calls: loops unrolled, addresses resolved. Panics where a call would touch what is not its own: a program that
    /// was made for a well-typed graph has none.
    pub fn calls(&self) -> Vec<Call> {
        let main = self.main();
        let param = |name: &Name| self.params.iter().position(|p| p.0 == *name).expect("main's parameters are listed");
        let resolve = |b: &Buffer| match &b.kind {
            BufferKind::Input(i) => Address { region: Region::Input(*i), offset: 0, bytes: b.bytes },
            BufferKind::Param(name) => Address { region: Region::Param(param(name)), offset: 0, bytes: b.bytes },
            BufferKind::Result(i) => Address { region: Region::Output(*i), offset: 0, bytes: b.bytes },
            BufferKind::Temp(offset) => Address { region: Region::Arena, offset: *offset, bytes: b.bytes },
        };
        let addresses: Vec<Address> = main.buffers.iter().map(resolve).collect();
        let mut out = vec![];
        self.unroll(main, &addresses, &mut out);
        let touches: Vec<Vec<Touch>> = self.specs.iter().map(Spec::touches).collect();
        out.iter().for_each(|call| self.check(call, &touches[call.kernel]));
        out
    }

    fn unroll(&self, routine: &Routine, at: &[Address], out: &mut Vec<Call>) {
        for step in &routine.steps {
            match step {
                Step::Kernel { kernel, args } => out.push(Call { kernel: *kernel, args: args.iter().map(|a| at[*a]).collect() }),
                Step::Loop(l) => {
                    for round in 0..l.shape.trip as usize {
                        let body = &self.routines[l.routine];
                        let inner: Vec<Address> = body.buffers.iter().map(|b| inside(l, at, round, b)).collect();
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

/// Where a buffer of a loop's body is in a round, given where those of the loop are.
fn inside(l: &LoopStep, at: &[Address], round: usize, b: &Buffer) -> Address {
    let trip = l.shape.trip as usize;
    let i = if l.shape.reverse { trip - 1 - round } else { round };
    match &b.kind {
        BufferKind::Input(j) => match l.inputs[*j] {
            LoopInput::Carried { ring, slots, bytes } => at[ring].part(round % slots * bytes, b.bytes),
            LoopInput::Stacked { place, bytes } => at[place.buffer].part(place.offset + i * bytes, b.bytes),
            LoopInput::Invariant(place) => at[place.buffer].part(place.offset, b.bytes),
        },
        BufferKind::Result(j) => match l.results[*j] {
            LoopResult::Carried { ring, slots, bytes } => at[ring].part((round + 1) % slots * bytes, b.bytes),
            LoopResult::Stacked { buffer, bytes } => at[buffer].part(i * bytes, b.bytes),
            LoopResult::Alias => unreachable!("an alias is written by nobody"),
        },
        BufferKind::Temp(offset) => at[l.arena].part(*offset, b.bytes),
        BufferKind::Param(_) => unreachable!("only main names parameters"),
    }
}

/// How a function is called: what every loop over it has in common. None keeps a ring of all iterations where one runs backwards, whose
/// rings are in the other order than its stacks.
fn calling(graph: &Graph, func: usize) -> Calling {
    let all = graph.funcs.iter().flat_map(|f| &f.nodes).filter_map(|n| if let Op::Repeat(l) = &n.op { Some(l) } else { None });
    let loops: Vec<&Loop> = all.filter(|l| l.func as usize == func).collect();
    let rings = loops.iter().map(|l| if l.reverse { 0 } else { l.carried as usize }).min().unwrap_or(0);
    let stacked = |l: &&Loop| l.carried as usize..(l.carried + l.stacked) as usize;
    let first = loops.first().map_or(0..0, stacked);
    Calling { rings, stacked: if loops.iter().all(|l| stacked(l) == first) { first } else { 0..0 } }
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
