//! Memory, threads, devices and sessions.

mod backend;
mod device;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu;
#[cfg(feature = "llvm")]
mod host;
mod memory;
#[cfg(feature = "llvm")]
mod peak;
mod pool;
mod session;

pub use backend::Fault;
pub use device::Device;
pub use memory::{Block, machine_memory};
#[cfg(feature = "llvm")]
pub use peak::fma_peak;
pub use pool::{Barrier, Pool};
pub use session::Session;
