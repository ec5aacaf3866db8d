//! A program on this machine's processors, compiled by LLVM.
#![allow(unsafe_code)]

use crate::backend::{Backend, Fault};
use crate::memory::Block;
use crate::pool::Pool;
use codegen::llvm::{Compiled, Entry, compile};
use codegen::{Address, Call, Program, Region};
use std::borrow::Cow;
use std::sync::Arc;

pub(crate) struct Host {
    pool: Arc<Pool>,
    calls: Vec<Prepared>,
    inputs: Vec<Block>,
    params: Vec<Block>,
    outputs: Vec<Option<Block>>,
    arena: Block,
    scratch: Vec<Block>,
}

/// A call with its pointers resolved.
struct Prepared {
    entry: Entry,
    units: i64,
    kernel: usize,
    buffers: Vec<*mut u8>,
}

// SAFETY: the pointers are into blocks that the host owns and never moves or shrinks; `run` borrows it exclusively.
unsafe impl Send for Host {}
// SAFETY: a shared host can only be looked at.
unsafe impl Sync for Host {}

impl Host {
    pub(crate) fn new(program: &Program, pool: Arc<Pool>) -> Result<(Host, Compiled), String> {
        refuse_too_large(program, pool.threads())?;
        let (entries, compiled) = compile(&program.kernels, pool.threads())?;
        let block = |ty: &ir::Type| Block::new(ty.bytes());
        let inputs = program.inputs.iter().map(|i| block(&i.1)).collect::<Result<Vec<_>, _>>()?;
        let params = program.params.iter().map(|p| block(&p.1)).collect::<Result<Vec<_>, _>>()?;
        let output = |(i, o): (usize, &(String, ir::Type))| program.output_state(i).is_none().then(|| block(&o.1)).transpose();
        let outputs = program.outputs.iter().enumerate().map(output).collect::<Result<Vec<_>, _>>()?;
        let arena = Block::new(program.arena_bytes())?;
        let scratch = (0..pool.threads()).map(|_| Block::new(4 * program.scratch_floats())).collect::<Result<Vec<_>, _>>()?;
        let mut host = Host { pool, calls: vec![], inputs, params, outputs, arena, scratch };
        host.calls = program.calls().into_iter().map(|c| host.prepare(program, &entries, c)).collect();
        Ok((host, compiled))
    }

    fn prepare(&self, program: &Program, entries: &[Entry], call: Call) -> Prepared {
        let resolve = |a: &Address| match a.region {
            Region::Input(i) => self.inputs[i].at(a.offset),
            Region::Param(i) => self.params[i].at(a.offset),
            Region::Output(i) => self.outputs[i].as_ref().expect("the result has memory of its own").at(a.offset),
            Region::Arena => self.arena.at(a.offset),
        };
        let units = program.kernels[call.kernel].units as i64;
        Prepared { entry: entries[call.kernel], units, kernel: call.kernel, buffers: call.args.iter().map(resolve).collect() }
    }

    /// Looks at what a call's stores can have written: the dense span of each written `f32` operand.
    fn wrote_infinite(&self, program: &Program, call: &Prepared) -> bool {
        let spec = &program.specs[call.kernel];
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
}

impl Backend for Host {
    fn run(&mut self, _: &Program, _: bool) -> Result<(), Fault> {
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
        Ok(())
    }

    /// On one thread. Results of attention and scatter kernels are seen by the kernels that read them.
    fn run_checked(&mut self, program: &Program) -> Result<(), Fault> {
        let scratch = self.scratch[0].at(0).cast();
        for (n, call) in self.calls.iter().enumerate() {
            // SAFETY: as in `run`, with one thread.
            unsafe { (call.entry)(call.buffers.as_ptr(), 0, call.units, scratch) };
            if self.wrote_infinite(program, call) {
                return Err(Fault::NotFinite { kernel: program.kernels[call.kernel].name.clone(), call: n });
            }
        }
        Ok(())
    }

    fn input(&mut self, i: usize) -> &mut Block {
        &mut self.inputs[i]
    }

    fn output(&self, i: usize) -> Option<&Block> {
        self.outputs[i].as_ref()
    }

    fn param(&self, i: usize) -> Result<Cow<'_, [u8]>, String> {
        Ok(self.params[i].bytes().into())
    }

    fn set_param(&mut self, i: usize, bytes: &[u8]) -> Result<(), String> {
        self.params[i].bytes_mut().copy_from_slice(bytes);
        Ok(())
    }

    fn adopt(&mut self, i: usize, from: &dyn Backend, j: usize) -> Result<(), String> {
        self.set_param(i, &from.param(j)?)
    }

    fn poison(&mut self) -> Result<(), String> {
        self.arena.f32s_mut().fill(f32::NAN);
        Ok(())
    }

    fn bytes(&self, program: &Program) -> usize {
        program.bytes() + self.scratch.iter().map(Block::len).sum::<usize>()
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
