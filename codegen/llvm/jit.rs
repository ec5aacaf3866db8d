//! The JIT: objects to entry points in this process.

use super::host::machine;
use inkwell::llvm_sys::error::{LLVMErrorRef, LLVMGetErrorMessage};
use inkwell::llvm_sys::orc2::lljit::*;
use inkwell::llvm_sys::orc2::*;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{LazyLock, Mutex};

/// A kernel in memory: `(buffers, lo, hi, scratch)`.
pub type Entry = unsafe extern "C" fn(*const *mut u8, i64, i64, *mut f32);

/// The JIT, and where every kernel it holds is. It lives as long as the process.
struct Jit {
    jit: LLVMOrcLLJITRef,
    entries: HashMap<String, Entry>,
}

// SAFETY: ORC's LLJIT may be used from any thread; the mutex below makes uses follow one another.
#[allow(unsafe_code)]
unsafe impl Send for Jit {}

static JIT: LazyLock<Mutex<Option<Jit>>> = LazyLock::new(|| Mutex::new(None));

pub(super) fn loaded(symbol: &str) -> Option<Entry> {
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
pub(super) fn load(bytes: &[u8], symbol: &str) -> Result<(), String> {
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
