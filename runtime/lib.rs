//! Memory, threads, devices and sessions.
//!
//! ```
//! # #[cfg(feature = "llvm")]
//! # {
//! use runtime::{Device, Session};
//!
//! let graph: ir::Graph = "\
//! main(%0 x: f32[3]) {
//!   @w : f32[3]
//!   %1 = mul %0, @w : f32[3]
//!   return y=%1
//! }
//! ".parse().unwrap();
//! let mut session = Session::new(&graph, Device::open("cpu", 2).unwrap()).unwrap();
//! session.fill_param("w", |w| w.copy_from_slice(&[1.0, 2.0, 3.0])).unwrap();
//! session.set_f32("x", &[0.5, 0.5, 2.0]).unwrap();
//! session.run().unwrap();
//! assert_eq!(session.output("y").unwrap().f32s()[..3], [0.5, 1.0, 6.0]);
//! # }
//! ```

mod backend;
mod barrier;
mod device;
#[cfg_attr(not(any(feature = "llvm", feature = "wgpu", feature = "cuda")), allow(dead_code))]
mod finite;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu;
#[cfg(feature = "llvm")]
mod host;
pub mod limits;
mod memory;
#[cfg(feature = "llvm")]
mod peak;
mod pool;
mod session;

pub use backend::{Fault, Near};
pub use barrier::Barrier;
pub use device::{DEVICES, Device};
pub use limits::{cores, machine_memory};
pub use memory::Block;
#[cfg(feature = "llvm")]
pub use peak::fma_peak;
pub use pool::Pool;
pub use session::Session;
