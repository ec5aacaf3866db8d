//! Kernels to machine code.
//!
//! A function is grouped into kernels, each described by a [`Spec`]; a spec is lowered to a [`Kernel`] for a [`Target`]'s parameters;
//! a kernel is printed ([`llvm`]) or interpreted. A [`Program`] is a graph's routines and distinct kernels. Nothing in specs or
//! kernels names LLVM.
//!
//! ```
//! use codegen::{Cpu, Program, Target};
//!
//! let graph: ir::Graph = "\
//! main(%0 x: f32[2,4]) {
//!   %1 = tanh %0    : f32[2,4]
//!   %2 = mul %1, %0 : f32[2,4]
//!   return y=%2
//! }
//! ".parse().unwrap();
//! let program = Program::new(&graph, &Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 20, pairs: false }));
//! assert_eq!(program.kernels.len(), 1, "both ops are one kernel");
//! ```

#![deny(clippy::wildcard_enum_match_arm)]

#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod gpu;
pub mod kernel;
#[cfg(feature = "llvm")]
pub mod llvm;
mod lower;
#[cfg(any(feature = "llvm", feature = "wgpu", feature = "cuda"))]
mod polynomials;
mod routine;
pub mod spec;
mod touch;
mod work;

/// FNV-1a over 128 bits: what tells kernels apart, on disk and on devices.
#[cfg(any(feature = "llvm", feature = "wgpu", feature = "cuda"))]
pub(crate) fn hash128(bytes: impl Iterator<Item = u8>) -> u128 {
    bytes.fold(0x6C62_272E_07BB_0142_62B8_2175_6295_C58D, |h, b| (h ^ u128::from(b)).wrapping_mul(0x0100_0000_0000_0000_0000_013B))
}

pub use kernel::{Kernel, Memory, interpret};
pub use lower::{Cpu, Gpu, Target, lower};
pub use routine::{Address, Buffer, BufferKind, COUNT_MAX, Call, LoopInput, LoopResult, LoopStep, Place, Program, Region, Routine, Step, Table};
pub use spec::Spec;
pub use touch::Touch;
pub use work::Work;
