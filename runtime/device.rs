//! What programs run on, by name.

use crate::pool::Pool;
use std::sync::Arc;

/// The names of devices, for people.
pub const DEVICES: &str = "cpu, wgpu (Vulkan, Metal or Direct3D), wgpu:software, cuda and cuda:N";

/// What a program runs on.
#[derive(Clone)]
pub enum Device {
    /// This machine's processors.
    Cpu(Arc<Pool>),
    /// A graphics processor.
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    Gpu(Arc<codegen::gpu::Device>),
}

impl Device {
    /// By the name people give it: `cpu`, `wgpu`, `wgpu:software`, `cuda`, `cuda:1`. A processor's programs run on so many
    /// threads, but no more than it has cores for this process.
    pub fn open(name: &str, threads: usize) -> Result<Device, String> {
        let kind = name.split(':').next().unwrap_or_default();
        let built = match kind {
            // more threads than cores only wait for each other, and no result depends on their number
            "cpu" if name == kind => return Ok(Device::Cpu(Arc::new(Pool::open(threads.min(crate::limits::cores()))?))),
            "wgpu" => cfg!(feature = "wgpu"),
            "cuda" => cfg!(feature = "cuda"),
            _ => return Err(format!("there is no device {name}; there are {DEVICES}")),
        };
        if built { open(name) } else { Err(format!("device {name}: this build has no {kind}; build with --features {kind}")) }
    }

    /// What people see: the threads, or what the driver says.
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu(pool) => format!("cpu, {} threads", pool.threads()),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Device::Gpu(device) => device.name().to_string(),
        }
    }

    /// Operations a second that a processor's threads do at best in a precision, measured now in some milliseconds; devices have no such
    /// measure yet.
    #[cfg_attr(not(feature = "llvm"), allow(unused_variables))]
    pub fn ceiling(&self, precision: ir::DType) -> Option<f64> {
        match self {
            #[cfg(feature = "llvm")]
            Device::Cpu(pool) => Some(crate::peak::fma_peak(pool.threads()) * crate::peak::times_faster(precision)),
            #[cfg(not(feature = "llvm"))]
            Device::Cpu(_) => None,
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Device::Gpu(_) => None,
        }
    }

    /// Bytes a second that a processor's threads read of so many, measured now; devices have no such measure yet.
    #[cfg_attr(not(feature = "llvm"), allow(unused_variables))]
    pub fn read_ceiling(&self, bytes: usize) -> Option<f64> {
        match self {
            #[cfg(feature = "llvm")]
            Device::Cpu(pool) => Some(crate::peak::read_peak(pool.threads(), bytes)),
            #[cfg(not(feature = "llvm"))]
            Device::Cpu(_) => None,
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Device::Gpu(_) => None,
        }
    }

    /// What kernels of a graph are lowered for.
    #[cfg_attr(not(feature = "llvm"), allow(unused_variables))]
    pub fn target_for(&self, graph: &ir::Graph) -> Result<codegen::Target, String> {
        match self {
            #[cfg(feature = "llvm")]
            Device::Cpu(_) => Ok(codegen::Target::Cpu(codegen::llvm::target_for(graph))),
            #[allow(unreachable_patterns)]
            _ => self.target(),
        }
    }

    /// What kernels are lowered for, of graphs that have no floats of 16 bits.
    pub fn target(&self) -> Result<codegen::Target, String> {
        match self {
            #[cfg(feature = "llvm")]
            Device::Cpu(_) => Ok(codegen::Target::Cpu(codegen::llvm::host().target)),
            #[cfg(not(feature = "llvm"))]
            Device::Cpu(_) => Err("this build cannot compile for processors; build with --features llvm, or name another --device".into()),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Device::Gpu(device) => Ok(codegen::Target::Gpu(device.target())),
        }
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn open(name: &str) -> Result<Device, String> {
    Ok(Device::Gpu(Arc::new(codegen::gpu::Device::open(name)?)))
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn open(name: &str) -> Result<Device, String> {
    unreachable!("a build without graphics processors opens none: {name}")
}

impl From<Arc<Pool>> for Device {
    fn from(pool: Arc<Pool>) -> Device {
        Device::Cpu(pool)
    }
}
