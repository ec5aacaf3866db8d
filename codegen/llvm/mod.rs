//! Kernels to machine code through LLVM: verify, optimise, emit an object, load it.

mod cache;
mod host;
mod jit;
mod math;
mod print;
mod probe;

pub use cache::{Cache, SOURCES, Usage, key};
pub use host::{Host, host, target_for, version};
pub use jit::Entry;
pub use probe::{Rates, rates};

use crate::kernel::Kernel;
use crate::lower::Cpu;
use host::machine;
use inkwell::context::Context;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::FileType;
use jit::{load, loaded};
use std::sync::atomic::{AtomicUsize, Ordering};

/// LLVM's passes for kernels: vectors and unrolling are explicit already.
const PASSES: &str = "default<O2>";

/// The LLVM text of a kernel before LLVM's passes, accepted by its verifier, without this machine's name and features.
pub fn text(kernel: &Kernel, target: &Cpu) -> Result<String, String> {
    let context = Context::create();
    let module = context.create_module("kernel");
    print::print(&context, &module, kernel, &kernel.name, &machine()?, target.lanes);
    module.verify().map_err(|e| format!("{}: LLVM's verifier: {e}", kernel.name))?;
    let text = module.print_to_string().to_string();
    let machine_specific = |l: &&str| !l.contains("target-cpu") && !l.starts_with("source_filename") && !l.starts_with("; ModuleID");
    Ok(text.lines().filter(machine_specific).collect::<Vec<_>>().join("\n"))
}

fn object(kernel: &Kernel, symbol: &str, host: &Host) -> Result<Vec<u8>, String> {
    let context = Context::create();
    let module = context.create_module(symbol);
    let machine = machine()?;
    module.set_triple(&machine.get_triple());
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    print::print(&context, &module, kernel, symbol, &machine, host.target.lanes);
    module.verify().map_err(|e| format!("{}: LLVM's verifier: {e}", kernel.name))?;
    let options = PassBuilderOptions::create();
    options.set_loop_vectorization(false);
    options.set_loop_slp_vectorization(false);
    options.set_loop_unrolling(false);
    module.run_passes(PASSES, &machine, options).map_err(|e| format!("{}: LLVM's passes: {e}", kernel.name))?;
    let buffer = machine.write_to_memory_buffer(&module, FileType::Object).map_err(|e| format!("{}: LLVM's code generator: {e}", kernel.name))?;
    Ok(buffer.as_slice().to_vec())
}

/// How a compilation went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Distinct kernels.
    pub kernels: usize,
    /// Of these, found in the cache on disk.
    pub cached: usize,
}

/// Machine code of kernels, in order. Compiles on `threads` threads; equal kernels are compiled once. Objects come from the cache that
/// the environment names, where it has them.
pub fn compile(kernels: &[Kernel], threads: usize) -> Result<(Vec<Entry>, Compiled), String> {
    let (host, cache) = (host(), Cache::of_environment()?);
    let keys: Vec<String> = kernels.iter().map(|k| key(k, &host)).collect();
    let mut wanted: Vec<usize> = (0..kernels.len()).filter(|i| !keys[..*i].contains(&keys[*i])).collect();
    let total = wanted.len();
    wanted.retain(|i| loaded(&keys[*i]).is_none());
    let (next, cached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || -> Result<(), String> {
        while let Some(i) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            cached.fetch_add(usize::from(bring(&kernels[*i], &keys[*i], &host, cache.as_ref())?), Ordering::Relaxed);
        }
        Ok(())
    };
    std::thread::scope(|s| {
        let others: Vec<_> = (1..threads.min(wanted.len())).map(|_| s.spawn(work)).collect();
        let mine = work();
        let joined = others.into_iter().map(|h| h.join().unwrap_or_else(|_| Err("a compiling thread panicked".into())));
        joined.chain([mine]).collect::<Result<Vec<()>, _>>()
    })?;
    let cached = cached.into_inner();
    if let Some(cache) = cache.filter(|_| cached < wanted.len()) {
        cache.sweep();
    }
    let entries = keys.iter().map(|k| loaded(k).expect("it was compiled")).collect();
    Ok((entries, Compiled { kernels: total, cached }))
}

/// Loads a kernel's object, kept or made anew; whether it was kept.
fn bring(kernel: &Kernel, key: &str, host: &Host, cache: Option<&Cache>) -> Result<bool, String> {
    if let Some(bytes) = cache.and_then(|c| c.get(key)) {
        return load(&bytes, key).map(|()| true);
    }
    let bytes = object(kernel, key, host)?;
    if let Some(cache) = cache {
        cache.put(key, &bytes);
    }
    load(&bytes, key).map(|()| false)
}
