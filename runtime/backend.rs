//! What runs a program: a processor's threads, or a device.

use crate::memory::Block;
use codegen::Program;
use std::borrow::Cow;
use std::fmt;

/// Why a run did not end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first kernel that wrote a value that is not finite, and how many calls before it were.
    #[allow(missing_docs)]
    NotFinite { kernel: String, call: usize },
    /// What a device's driver says.
    Device(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::NotFinite { kernel, call } => write!(f, "kernel {kernel} (call {call}) wrote a value that is not finite"),
            Fault::Device(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

/// A compiled program in the memory of what runs it. Inputs and results pass through memory of the host.
pub(crate) trait Backend: Send + Sync {
    /// Runs every call once; `fetch` says whether results are wanted in the host's memory.
    fn run(&mut self, program: &Program, fetch: bool) -> Result<(), Fault>;
    /// The same, looking at what each call wrote.
    fn run_checked(&mut self, program: &Program) -> Result<(), Fault>;
    /// An input's memory, to write.
    fn input(&mut self, i: usize) -> &mut Block;
    /// A result's memory, unless it is a new value of state.
    fn output(&self, i: usize) -> Option<&Block>;
    /// A parameter's bytes.
    fn param(&self, i: usize) -> Result<Cow<'_, [u8]>, String>;
    /// Writes a parameter.
    fn set_param(&mut self, i: usize, bytes: &[u8]) -> Result<(), String>;
    /// Takes over a parameter of another backend.
    fn adopt(&mut self, i: usize, from: &dyn Backend, j: usize) -> Result<(), String>;
    /// Fills the arena with NaN.
    fn poison(&mut self) -> Result<(), String>;
    /// Bytes allocated.
    fn bytes(&self, program: &Program) -> usize;
    /// The device's memory of a parameter, on a device.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    fn memory(&self, _: usize) -> Option<codegen::gpu::Memory> {
        None
    }
}
