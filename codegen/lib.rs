//! Kernels to machine code.
//!
//! A graph is grouped into [`Spec`]s ([`group`]), each spec is lowered to a [`Kernel`] for a [`Target`]'s parameters, and a kernel is
//! printed ([`llvm`]) or interpreted. Nothing in specs or kernels names LLVM.

mod interpret;
#[cfg(feature = "llvm")]
pub mod llvm;
pub mod kernel;
mod lower;
pub mod spec;

pub use interpret::{Memory, interpret};
pub use kernel::Kernel;
pub use lower::{Target, lower};
pub use spec::Spec;
