//! A program on this machine's processors, compiled by LLVM.
#![allow(unsafe_code)]

use crate::backend::{Backend, Fault, Held};
use crate::barrier::lock;
use crate::finite::{self, Memory};
use crate::memory::Block;
use crate::pool::Pool;
use codegen::llvm::{Compiled, Entry, compile};
use codegen::{Address, Call, Program, Region};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

pub(crate) struct Host {
    pool: Arc<Pool>,
    calls: Vec<Prepared>,
    /// Whether a parameter's memory is another than the one that calls point to.
    stale: bool,
    inputs: Vec<Block>,
    params: Vec<Arc<Mutex<Block>>>,
    outputs: Vec<Option<Block>>,
    arena: Block,
    scratch: Vec<Block>,
}

/// A call with its pointers resolved.
struct Prepared {
    entry: Entry,
    units: i64,
    call: Call,
    buffers: Vec<*mut u8>,
}

// SAFETY: the pointers are into blocks that the host owns, or holds a share of, and that are never moved or shrunk; they are followed
// in `run` and `run_checked` alone, which borrow the host exclusively and have every shared block locked.
unsafe impl Send for Host {}
// SAFETY: a host that is shared can only be looked at: its own blocks then have no writer, and parameters are locked for each look.
unsafe impl Sync for Host {}

impl Host {
    /// `given` has, for each parameter, memory to use instead of new.
    pub(crate) fn new(program: &Program, pool: Arc<Pool>, given: &[Option<Held>]) -> Result<(Host, Compiled), String> {
        refuse_too_large(program, pool.threads(), given)?;
        let (entries, compiled) = compile(&program.kernels, pool.threads())?;
        let block = |ty: &ir::Type| Block::new(ty.bytes());
        let param = |(ty, given): (&ir::Type, &Option<Held>)| match given {
            Some(Held::Host(block)) => Ok(block.clone()),
            _ => block(ty).map(|b| Arc::new(Mutex::new(b))),
        };
        let inputs = program.inputs.iter().map(|i| block(&i.1)).collect::<Result<Vec<_>, _>>()?;
        let params = program.params.iter().map(|p| &p.1).zip(given).map(param).collect::<Result<Vec<_>, _>>()?;
        let output = |(i, o): (usize, &(String, ir::Type))| program.output_state(i).is_none().then(|| block(&o.1)).transpose();
        let outputs = program.outputs.iter().enumerate().map(output).collect::<Result<Vec<_>, _>>()?;
        let arena = Block::new(program.arena_bytes())?;
        let scratch = (0..pool.threads()).map(|_| Block::new(4 * program.scratch_floats())).collect::<Result<Vec<_>, _>>()?;
        let prepared = |call: Call| Prepared {
            entry: entries[call.kernel],
            units: program.kernels[call.kernel].units as i64,
            buffers: vec![std::ptr::null_mut(); call.args.len()],
            call,
        };
        let calls = program.calls().into_iter().map(prepared).collect();
        Ok((Host { pool, calls, stale: true, inputs, params, outputs, arena, scratch }, compiled))
    }
}

impl Host {
    /// Points calls to memory, where a parameter's is another since.
    fn resolve(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let mut calls = std::mem::take(&mut self.calls);
        for c in &mut calls {
            c.buffers = c.call.args.iter().map(|a| self.pointer(a)).collect();
        }
        self.calls = calls;
    }

    fn pointer(&self, a: &Address) -> *mut u8 {
        match a.region {
            Region::Input(i) => self.inputs[i].at(a.offset, a.bytes),
            Region::Param(i) => lock(&self.params[i]).at(a.offset, a.bytes),
            Region::Output(i) => self.outputs[i].as_ref().expect("the result has memory of its own").at(a.offset, a.bytes),
            Region::Arena => self.arena.at(a.offset, a.bytes),
        }
    }

    /// Every parameter's memory, locked: in the order of addresses, which all sessions keep, so that no two wait for each other.
    fn locked(&self) -> Vec<MutexGuard<'_, Block>> {
        let mut order: Vec<usize> = (0..self.params.len()).collect();
        order.sort_unstable_by_key(|i| Arc::as_ptr(&self.params[*i]));
        let mut held: Vec<_> = order.into_iter().map(|i| (i, lock(&self.params[i]))).collect();
        held.sort_unstable_by_key(|h| h.0);
        held.into_iter().map(|h| h.1).collect()
    }
}

/// A host between two calls of a checked run.
struct Looked<'a> {
    host: &'a Host,
    params: Vec<MutexGuard<'a, Block>>,
}

impl Memory for Looked<'_> {
    fn bytes(&self, a: &Address) -> Result<Cow<'_, [u8]>, String> {
        let block = match a.region {
            Region::Input(i) => &self.host.inputs[i],
            Region::Param(i) => &self.params[i],
            Region::Output(i) => self.host.outputs[i].as_ref().expect("the result has memory of its own"),
            Region::Arena => &self.host.arena,
        };
        Ok(block.bytes()[a.offset..a.offset + a.bytes].into())
    }
}

impl Host {
    /// Runs every call; `done` hears of each that all threads have done with.
    fn each_call(&mut self, done: &(dyn Fn() + Sync)) {
        self.resolve();
        let _held = self.locked();
        let (calls, scratch, barrier, threads) = (Calls(&self.calls), &self.scratch, &self.pool.barrier, self.pool.threads() as i64);
        self.pool.run(&|t| {
            let (scratch, t) = (scratch[t].at(0, 0).cast(), t as i64);
            for call in calls.get() {
                let (lo, hi) = (call.units * t / threads, call.units * (t + 1) / threads);
                if lo < hi {
                    // SAFETY: the kernel was compiled for these buffers, whose sizes its types fix; threads have disjoint units and
                    // scratch of their own; the barrier orders kernels; no other session is at the parameters.
                    unsafe { (call.entry)(call.buffers.as_ptr(), lo, hi, scratch) };
                }
                barrier.wait();
                if t == 0 {
                    done();
                }
            }
        });
    }
}

impl Backend for Host {
    fn run(&mut self, _: &Program, _: bool) -> Result<(), Fault> {
        self.each_call(&|| {});
        Ok(())
    }

    fn run_timed(&mut self) -> Result<Vec<f64>, String> {
        let times = Mutex::new((Instant::now(), vec![]));
        self.each_call(&|| {
            let (last, seconds) = &mut *lock(&times);
            let now = Instant::now();
            seconds.push((now - std::mem::replace(last, now)).as_secs_f64());
        });
        Ok(times.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).1)
    }

    /// On one thread.
    fn run_checked(&mut self, program: &Program) -> Result<(), Fault> {
        self.resolve();
        let looked = Looked { host: self, params: self.locked() };
        let scratch = self.scratch[0].at(0, 0).cast();
        for (n, c) in self.calls.iter().enumerate() {
            let before = finite::before(program, &c.call, &looked).map_err(Fault::Device)?;
            // SAFETY: as in `run`, with one thread; nobody looks meanwhile.
            unsafe { (c.entry)(c.buffers.as_ptr(), 0, c.units, scratch) };
            if let Some(fault) = finite::after(program, n, &c.call, &before, &looked).map_err(Fault::Device)? {
                return Err(fault);
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

    fn show_params(&self, show: &mut dyn FnMut(&[&[u8]])) -> Result<(), String> {
        let held = self.locked();
        show(&held.iter().map(|p| p.bytes()).collect::<Vec<_>>());
        Ok(())
    }

    fn param(&self, i: usize) -> Result<Vec<u8>, String> {
        Ok(lock(&self.params[i]).bytes().to_vec())
    }

    fn set_param(&mut self, i: usize, at: usize, bytes: &[u8]) -> Result<(), String> {
        lock(&self.params[i]).bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn held(&self, i: usize) -> Held {
        Held::Host(self.params[i].clone())
    }

    fn hold(&mut self, i: usize, held: &Held) -> bool {
        match held {
            Held::Host(block) => {
                self.stale |= !Arc::ptr_eq(block, &self.params[i]);
                self.params[i] = block.clone();
                true
            }
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Held::Device(..) => false,
        }
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
fn refuse_too_large(program: &Program, threads: usize, given: &[Option<Held>]) -> Result<(), String> {
    let there: usize = program.params.iter().zip(given).filter(|(_, g)| g.is_some()).map(|(p, _)| p.1.bytes()).sum();
    let need = program.bytes() - there + 4 * threads * program.scratch_floats();
    match crate::limits::machine_memory() {
        Some(have) if need > have.available => Err(have.refuse(need)),
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
