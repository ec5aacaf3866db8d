//! What runs a program: a processor's threads, or a device.

use crate::device::Device;
use crate::memory::Block;
use codegen::Program;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Why a run did not end as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The first kernel that wrote a value that is not finite, how many calls before it were, and what it wrote where; what it computes, read
    /// and wrote, a line each; and the parameter of the model that is nearest to it.
    #[allow(missing_docs)]
    NotFinite { kernel: String, call: usize, wrote: String, details: Vec<String>, near: Option<Box<Near>> },
    /// What a device's driver says.
    Device(String),
}

/// A parameter of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Near {
    /// Its path; of one that is stacked the layer's own.
    pub path: String,
    /// The path it is stacked under.
    pub stack: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Fault::NotFinite { kernel, call, wrote, details, near } => {
                write!(f, "kernel {kernel} (call {call}) wrote {wrote}")?;
                near.iter().try_for_each(|near| write!(f, "\n  at or after {}", near.path))?;
                details.iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
            Fault::Device(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Fault {}

/// A parameter's memory, which one session holds or several.
#[derive(Clone)]
pub(crate) enum Held {
    /// The host's. Whoever runs kernels on it or looks at it has it locked. A build without LLVM runs nothing there.
    #[cfg_attr(not(feature = "llvm"), allow(dead_code))]
    Host(Arc<Mutex<Block>>),
    /// A device's.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    Device(Arc<codegen::gpu::Device>, codegen::gpu::Memory),
}

impl Held {
    /// Whether programs on a device can use it.
    pub(crate) fn is_on(&self, device: &Device) -> bool {
        match (self, device) {
            (Held::Host(_), Device::Cpu(_)) => true,
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            (Held::Device(a, _), Device::Gpu(b)) => Arc::ptr_eq(a, b),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            (Held::Host(_), Device::Gpu(_)) | (Held::Device(..), Device::Cpu(_)) => false,
        }
    }
}

/// A compiled program in the memory of what runs it. Inputs and results pass through memory of the host.
pub(crate) trait Backend: Send + Sync {
    /// Runs every call once; `fetch` says whether results are wanted in the host's memory.
    fn run(&mut self, program: &Program, fetch: bool) -> Result<(), Fault>;
    /// The same, with the seconds of each call.
    fn run_timed(&mut self) -> Result<Vec<f64>, String> {
        Err("a device's kernels are not timed one by one; the driver's own profiler does that".into())
    }
    /// The same, looking at what each call wrote.
    fn run_checked(&mut self, program: &Program) -> Result<(), Fault>;
    /// An input's memory, to write.
    fn input(&mut self, i: usize) -> &mut Block;
    /// A result's memory, unless it is a new value of state.
    fn output(&self, i: usize) -> Option<&Block>;
    /// Shows the bytes of every parameter, all at one moment.
    fn show_params(&self, show: &mut dyn FnMut(&[&[u8]])) -> Result<(), String>;
    /// A parameter's bytes.
    fn param(&self, i: usize) -> Result<Vec<u8>, String>;
    /// Writes a parameter's bytes from the number `at` on.
    fn set_param(&mut self, i: usize, at: usize, bytes: &[u8]) -> Result<(), String>;
    /// A parameter's memory.
    fn held(&self, i: usize) -> Held;
    /// Puts other memory in the place of a parameter's, if it can be reached from here.
    fn hold(&mut self, i: usize, held: &Held) -> bool;
    /// Fills the arena with NaN.
    fn poison(&mut self) -> Result<(), String>;
    /// Bytes allocated.
    fn bytes(&self, program: &Program) -> usize;
}
