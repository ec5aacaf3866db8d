//! A compiled program with its memory: set inputs, run, read results.
#![allow(unsafe_code)]

use crate::memory::Block;
use crate::pool::Pool;
use codegen::llvm::{Compiled, Entry, compile};
use codegen::{Address, Cpu, Program, Region, Target};
use ir::{DType, Graph};
use std::sync::Arc;

/// A program ready to run.
pub struct Session {
    program: Program,
    pool: Arc<Pool>,
    calls: Vec<Prepared>,
    inputs: Vec<Block>,
    params: Vec<Block>,
    outputs: Vec<Option<Block>>,
    arena: Block,
    scratch: Vec<Block>,
    /// How compilation went.
    pub compiled: Compiled,
}

/// A call with its pointers resolved.
struct Prepared {
    entry: Entry,
    units: i64,
    kernel: usize,
    buffers: Vec<*mut u8>,
}

// SAFETY: the pointers are into blocks that the session owns and never moves or shrinks; `run` borrows the session exclusively.
unsafe impl Send for Session {}
// SAFETY: a shared session can only be looked at.
unsafe impl Sync for Session {}

/// The first kernel whose result was not finite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotFinite {
    /// The kernel.
    pub kernel: String,
    /// How many calls before it were finite.
    pub call: usize,
}

impl Session {
    /// Compiles a graph whose dims are bound for this machine and allocates its memory.
    pub fn new(graph: &Graph, pool: Arc<Pool>) -> Result<Session, String> {
        Session::for_target(graph, pool, &codegen::llvm::host().target)
    }

    /// As [`new`](Self::new), with kernels shaped for a target that may be smaller than this machine: what a test of another one needs.
    pub fn for_target(graph: &Graph, pool: Arc<Pool>, target: &Cpu) -> Result<Session, String> {
        let program = Program::new(graph, &Target::Cpu(*target));
        refuse_too_large(&program, pool.threads())?;
        let (entries, compiled) = compile(&program.kernels, pool.threads())?;
        let block = |ty: &ir::Type| Block::new(ty.bytes());
        let inputs = program.inputs.iter().map(|i| block(&i.1)).collect::<Result<Vec<_>, _>>()?;
        let params = program.params.iter().map(|p| block(&p.1)).collect::<Result<Vec<_>, _>>()?;
        let output = |(i, o): (usize, &(String, ir::Type))| program.output_state(i).is_none().then(|| block(&o.1)).transpose();
        let outputs = program.outputs.iter().enumerate().map(output).collect::<Result<Vec<_>, _>>()?;
        let arena = Block::new(program.arena_bytes())?;
        let scratch = (0..pool.threads()).map(|_| Block::new(4 * program.scratch_floats())).collect::<Result<Vec<_>, _>>()?;
        let mut session = Session { program, pool, calls: vec![], inputs, params, outputs, arena, scratch, compiled };
        let resolve = |a: &Address| match a.region {
            Region::Input(i) => session.inputs[i].at(a.offset),
            Region::Param(i) => session.params[i].at(a.offset),
            Region::Output(i) => session.outputs[i].as_ref().expect("the result has memory of its own").at(a.offset),
            Region::Arena => session.arena.at(a.offset),
        };
        let prepare = |call: codegen::Call| Prepared {
            entry: entries[call.kernel],
            units: session.program.kernels[call.kernel].units as i64,
            kernel: call.kernel,
            buffers: call.args.iter().map(resolve).collect(),
        };
        let calls = session.program.calls().into_iter().map(prepare).collect();
        session.calls = calls;
        Ok(session)
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Bytes the session allocated: inputs, parameters, results, arena and scratch. This is the predicted peak.
    pub fn bytes(&self) -> usize {
        self.program.bytes() + self.scratch.iter().map(Block::len).sum::<usize>()
    }

    /// Runs the program once.
    pub fn run(&mut self) {
        let (calls, scratch, barrier, threads) = (&self.calls, &self.scratch, &self.pool.barrier, self.pool.threads() as i64);
        let calls = Calls(calls);
        self.pool.run(&|t| {
            let (scratch, t) = (scratch[t].at(0).cast(), t as i64);
            for call in calls.get() {
                let (lo, hi) = (call.units * t / threads, call.units * (t + 1) / threads);
                if lo < hi {
                    // SAFETY: the kernel was compiled for these buffers, whose sizes its types fix; threads have disjoint units and
                    // scratch of their own; the barrier orders kernels.
                    unsafe { (call.entry)(call.buffers.as_ptr(), lo, hi, scratch) };
                }
                barrier.wait();
            }
        });
    }

    /// Runs the program once, on one thread, and stops at the first kernel that writes a value that is not finite. Results of attention
    /// and scatter kernels are seen by the kernels that read them.
    pub fn run_checked(&mut self) -> Result<(), NotFinite> {
        let scratch = self.scratch[0].at(0).cast();
        for (n, call) in self.calls.iter().enumerate() {
            // SAFETY: as in `run`, with one thread.
            unsafe { (call.entry)(call.buffers.as_ptr(), 0, call.units, scratch) };
            if self.wrote_infinite(call) {
                return Err(NotFinite { kernel: self.program.kernels[call.kernel].name.clone(), call: n });
            }
        }
        Ok(())
    }

    /// Looks at what a call's stores can have written: the dense span of each written `f32` operand.
    fn wrote_infinite(&self, call: &Prepared) -> bool {
        let spec = &self.program.specs[call.kernel];
        spec.stores.iter().any(|s| {
            let param = &spec.params[s.access.arg];
            let span: i64 = 1 + s.access.strides.iter().zip(&spec.dims).map(|(s, n)| s * (*n as i64 - 1)).sum::<i64>();
            // SAFETY: the store's own access stays inside its buffer, and so does the span it covers.
            let written = unsafe {
                std::slice::from_raw_parts(call.buffers[s.access.arg].cast::<f32>().offset(s.access.offset as isize), span.max(0) as usize)
            };
            param.elem == codegen::kernel::Elem::F32 && !spec.dims.contains(&0) && written.iter().any(|x| !x.is_finite())
        })
    }

    /// Fills the arena with NaN, so that a kernel that reads what nobody wrote shows.
    pub fn poison(&mut self) {
        self.arena.f32s_mut().fill(f32::NAN);
    }

    /// Inputs' names, types and memory.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.program.inputs.iter().map(|i| i.0.as_str())
    }

    fn input(&mut self, name: &str, dtype: DType, len: usize) -> Result<&mut Block, String> {
        let i = self.program.inputs.iter().position(|i| i.0 == name).ok_or_else(|| {
            let known: Vec<&str> = self.program.inputs.iter().map(|i| i.0.as_str()).collect();
            format!("the program has no input {name}; it has {}", known.join(", "))
        })?;
        let ty = &self.program.inputs[i].1;
        if ty.dtype != dtype || ty.count() != len {
            return Err(format!("input {name} is {ty}, not {len} elements of {dtype}"));
        }
        Ok(&mut self.inputs[i])
    }

    /// Sets an `f32` input.
    pub fn set_f32(&mut self, name: &str, values: &[f32]) -> Result<(), String> {
        self.input(name, DType::F32, values.len())?.f32s_mut().copy_from_slice(values);
        Ok(())
    }

    /// Sets an `i32` input.
    pub fn set_i32(&mut self, name: &str, values: &[i32]) -> Result<(), String> {
        self.input(name, DType::I32, values.len())?.i32s_mut().copy_from_slice(values);
        Ok(())
    }

    /// Sets a `u32` input.
    pub fn set_u32(&mut self, name: &str, values: &[u32]) -> Result<(), String> {
        let bits: Vec<i32> = values.iter().map(|x| *x as i32).collect();
        self.input(name, DType::U32, values.len())?.i32s_mut().copy_from_slice(&bits);
        Ok(())
    }

    /// Sets a truth-valued input, a word an element in memory.
    pub fn set_bool(&mut self, name: &str, values: &[bool]) -> Result<(), String> {
        let words: Vec<i32> = values.iter().map(|x| i32::from(*x)).collect();
        self.input(name, DType::Bool, values.len())?.i32s_mut().copy_from_slice(&words);
        Ok(())
    }

    /// Names of the results.
    pub fn outputs(&self) -> impl Iterator<Item = &str> {
        self.program.outputs.iter().map(|o| o.0.as_str())
    }

    /// The memory of a result.
    pub fn output(&self, name: &str) -> Option<&Block> {
        let i = self.program.outputs.iter().position(|o| o.0 == name)?;
        match self.program.output_state(i) {
            Some(p) => Some(&self.params[p]),
            None => self.outputs[i].as_ref(),
        }
    }

    /// Parameters and state: path, type, memory.
    pub fn params(&self) -> impl Iterator<Item = (&str, &ir::Type, &Block)> {
        self.program.params.iter().zip(&self.params).map(|((n, t), b)| (n.as_ref(), t, b))
    }

    /// A parameter's memory, to write.
    pub fn param_mut(&mut self, name: &str) -> Option<&mut Block> {
        let i = self.program.params.iter().position(|p| p.0.as_ref() == name)?;
        Some(&mut self.params[i])
    }

    /// Copies every parameter that another session has, too.
    pub fn copy_params(&mut self, from: &Session) {
        for (i, (name, _)) in self.program.params.iter().enumerate() {
            if let Some(j) = from.program.params.iter().position(|p| p.0 == *name) {
                self.params[i].bytes_mut().copy_from_slice(from.params[j].bytes());
            }
        }
    }
}

/// Refuses, before anything is allocated, what the machine has no room for.
fn refuse_too_large(program: &Program, threads: usize) -> Result<(), String> {
    let need = program.bytes() + 4 * threads * program.scratch_floats();
    match crate::memory::machine_memory() {
        Some((_, have)) if need > have => {
            let mib = |n: usize| n >> 20;
            Err(format!("this program needs {} MiB, and {} MiB are available: use a smaller batch, context or model", mib(need), mib(have)))
        }
        _ => Ok(()),
    }
}

/// Prepared calls shared among the threads of one run.
struct Calls<'a>(&'a [Prepared]);

// SAFETY: threads only read the list; what its pointers lead to is divided among them by units.
unsafe impl Sync for Calls<'_> {}

impl Calls<'_> {
    fn get(&self) -> &[Prepared] {
        self.0
    }
}
