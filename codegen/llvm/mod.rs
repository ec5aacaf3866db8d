//! Kernels to machine code through LLVM: verify, optimise, emit an object, load it.
//!
//! Objects are kept on disk under a hash of all that went into them, so that the second compilation of a program is a read.

mod math;
mod print;

use crate::kernel::Kernel;
use crate::lower::Cpu;
use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::llvm_sys::error::{LLVMErrorRef, LLVMGetErrorMessage};
use inkwell::llvm_sys::orc2::lljit::*;
use inkwell::llvm_sys::orc2::*;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::{CodeModel, FileType, InitializationConfig, RelocMode, Target as LlvmTarget, TargetMachine};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, OnceLock};

/// A kernel in memory: `(buffers, lo, hi, scratch)`.
pub type Entry = unsafe extern "C" fn(*const *mut u8, i64, i64, *mut f32);

/// LLVM's passes for kernels: vectors and unrolling are explicit already.
const PASSES: &str = "default<O2>";

/// What this machine offers.
#[derive(Clone, Debug)]
pub struct Host {
    /// LLVM's name of the processor.
    pub cpu: String,
    /// LLVM's list of its features.
    pub features: String,
    /// What kernels need to know.
    pub target: Cpu,
}

/// Probes this machine.
pub fn host() -> Host {
    let cpu = TargetMachine::get_host_cpu_name().to_string();
    let features = TargetMachine::get_host_cpu_features().to_string();
    let has = |f: &str| features.split(',').any(|x| x.strip_prefix('+') == Some(f));
    let (lanes, registers) = match (has("avx512f") && has("avx512vl"), has("avx2") && has("fma"), has("neon")) {
        (true, ..) => (16, 32),
        (_, true, _) => (8, 16),
        (.., true) => (4, 32),
        _ => (4, 16),
    };
    Host { cpu, features, target: Cpu { lanes, registers, cache: cache_bytes() } }
}

/// The second-level cache of one core; 1 MiB where the system does not tell.
fn cache_bytes() -> usize {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let size = read("/sys/devices/system/cpu/cpu0/cache/index2/size").and_then(|t| t.trim().strip_suffix('K')?.parse::<usize>().ok());
    size.map_or(1 << 20, |k| k << 10)
}

/// The version of LLVM.
pub fn version() -> String {
    let (major, minor, patch) = inkwell::support::get_llvm_version();
    format!("{major}.{minor}.{patch}")
}

fn machine() -> Result<TargetMachine, String> {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    READY.get_or_init(|| LlvmTarget::initialize_native(&InitializationConfig::default())).clone()?;
    let triple = TargetMachine::get_default_triple();
    let target = LlvmTarget::from_triple(&triple).map_err(|e| e.to_string())?;
    let (cpu, features) = (TargetMachine::get_host_cpu_name(), TargetMachine::get_host_cpu_features());
    target
        .create_target_machine(&triple, &cpu.to_string(), &features.to_string(), OptimizationLevel::Default, RelocMode::PIC, CodeModel::Default)
        .ok_or_else(|| format!("LLVM has no code generator for {triple}"))
}

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

/// What a kernel's object is a function of.
fn key(kernel: &Kernel, host: &Host) -> String {
    let mut kernel = kernel.clone();
    kernel.name = "k".into();
    let all = format!("{kernel}\n{}\n{}\n{:?}\n{}\n{PASSES}\n{}", host.cpu, host.features, host.target, version(), env!("CARGO_PKG_VERSION"));
    format!("k{:032x}", crate::hash128(&all))
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

/// Where objects are kept, unless the environment has no home.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("EGGCORN_CACHE").or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("eggcorn"))).or_else(|| set("HOME").map(|h| h.join(".cache/eggcorn")))
}

/// An object from the cache; one that is not an ELF or Mach-O file is ignored.
fn cached(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    (checksum(body).to_le_bytes() == *sum).then(|| body.to_vec())
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3))
}

/// Keeps an object. A cache that cannot be written costs time, not correctness, so failures are not errors.
fn keep(path: &Path, object: &[u8]) {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let bytes = [object, &checksum(object).to_le_bytes()].concat();
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(path.parent().expect("the cache is a directory"))?;
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, path)
    };
    if write().is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
}

/// How a compilation went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Distinct kernels.
    pub kernels: usize,
    /// Of these, found in the cache on disk.
    pub cached: usize,
}

/// Machine code of kernels, in order. Compiles on `threads` threads; equal kernels are compiled once.
pub fn compile(kernels: &[Kernel], threads: usize) -> Result<(Vec<Entry>, Compiled), String> {
    let host = host();
    let keys: Vec<String> = kernels.iter().map(|k| key(k, &host)).collect();
    let mut wanted: Vec<usize> = (0..kernels.len()).filter(|i| !keys[..*i].contains(&keys[*i])).collect();
    let total = wanted.len();
    wanted.retain(|i| loaded(&keys[*i]).is_none());
    let dir = cache_dir();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let hits = std::sync::atomic::AtomicUsize::new(0);
    let work = || -> Result<(), String> {
        while let Some(i) = wanted.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let path = dir.as_ref().map(|d| d.join(format!("{}.o", keys[*i])));
            let bytes = match path.as_deref().and_then(cached) {
                Some(bytes) => {
                    hits.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    bytes
                }
                None => {
                    let bytes = object(&kernels[*i], &keys[*i], &host)?;
                    if let Some(path) = &path {
                        keep(path, &bytes);
                    }
                    bytes
                }
            };
            load(&bytes, &keys[*i])?;
        }
        Ok(())
    };
    std::thread::scope(|s| {
        let others: Vec<_> = (1..threads.min(wanted.len())).map(|_| s.spawn(work)).collect();
        let mine = work();
        others
            .into_iter()
            .map(|h| h.join().unwrap_or_else(|_| Err("a compiling thread panicked".into())))
            .chain([mine])
            .collect::<Result<Vec<()>, _>>()
    })?;
    let entries = keys.iter().map(|k| loaded(k).expect("it was compiled")).collect();
    Ok((entries, Compiled { kernels: total, cached: hits.into_inner() }))
}

/// The JIT, and where every kernel it holds is. It lives as long as the process.
struct Jit {
    jit: LLVMOrcLLJITRef,
    entries: HashMap<String, Entry>,
}

// SAFETY: ORC's LLJIT may be used from any thread; the mutex below makes uses follow one another.
#[allow(unsafe_code)]
unsafe impl Send for Jit {}

static JIT: LazyLock<Mutex<Option<Jit>>> = LazyLock::new(|| Mutex::new(None));

fn loaded(symbol: &str) -> Option<Entry> {
    JIT.lock().ok()?.as_ref()?.entries.get(symbol).copied()
}

#[allow(unsafe_code)]
fn check(error: LLVMErrorRef) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a failed call hands out an error that is ours to turn into a message, once.
    let message = unsafe { CStr::from_ptr(LLVMGetErrorMessage(error)) };
    Err(format!("LLVM's JIT: {}", message.to_string_lossy()))
}

#[allow(unsafe_code)]
fn create() -> Result<Jit, String> {
    machine()?;
    let mut jit = std::ptr::null_mut();
    // SAFETY: a null builder asks for the default JIT; the out parameter is ours.
    check(unsafe { LLVMOrcCreateLLJIT(&mut jit, std::ptr::null_mut()) })?;
    let mut generator = std::ptr::null_mut();
    // SAFETY: the JIT was just created; the generator resolves the C library's mathematics and becomes the JIT's.
    unsafe {
        let prefix = LLVMOrcLLJITGetGlobalPrefix(jit);
        check(LLVMOrcCreateDynamicLibrarySearchGeneratorForProcess(&mut generator, prefix, None, std::ptr::null_mut()))?;
        LLVMOrcJITDylibAddGenerator(LLVMOrcLLJITGetMainJITDylib(jit), generator);
    }
    Ok(Jit { jit, entries: HashMap::new() })
}

#[allow(unsafe_code)]
fn load(bytes: &[u8], symbol: &str) -> Result<(), String> {
    let mut guard = JIT.lock().map_err(|_| "the JIT is broken by an earlier panic".to_string())?;
    if guard.is_none() {
        *guard = Some(create()?);
    }
    let jit = guard.as_mut().expect("it was just created");
    if jit.entries.contains_key(symbol) {
        return Ok(());
    }
    let name = CString::new(symbol).expect("a symbol has no zero");
    let mut address: LLVMOrcExecutorAddress = 0;
    // SAFETY: the object was emitted by LLVM for this machine (or read back under a checksum) and is copied; the symbol it defines has
    // the type of `Entry`, because `print` gave it that; the JIT is never dropped, so the address stays valid.
    let entry = unsafe {
        let buffer = inkwell::llvm_sys::core::LLVMCreateMemoryBufferWithMemoryRangeCopy(bytes.as_ptr().cast(), bytes.len(), name.as_ptr());
        check(LLVMOrcLLJITAddObjectFile(jit.jit, LLVMOrcLLJITGetMainJITDylib(jit.jit), buffer))?;
        check(LLVMOrcLLJITLookup(jit.jit, &mut address, name.as_ptr()))?;
        std::mem::transmute::<usize, Entry>(address as usize)
    };
    jit.entries.insert(symbol.into(), entry);
    Ok(())
}
