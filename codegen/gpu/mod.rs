//! Kernels to devices through CubeCL: the only module that names it.
//!
//! [`Source`] is a kernel with how its operands are bound; it prints as WGSL and as CUDA C++ with no device present, and [`Device`]
//! compiles and launches it.

mod build;
#[cfg(feature = "cuda")]
mod compile_only;
mod device;
mod math;
mod print;
mod tensor;

#[cfg(feature = "cuda")]
pub use compile_only::{Launched, compile_only, take_launched};
pub use device::{Device, Entry, Memory, Recording};

use crate::kernel::{Elem, Kernel};
use cubecl::Compiler;
use cubecl::prelude::*;
use std::sync::Arc;

/// Bytes at whose multiples a buffer may be bound; what remains of an address travels as a number.
pub const BINDING: usize = 256;
/// The most cubes along one axis of a launch.
const AXIS: usize = 65535;

/// The language a kernel becomes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// WebGPU's.
    Wgsl,
    /// NVIDIA's C++.
    Cuda,
}

impl Dialect {
    /// The feature of this crate that brings its printer.
    fn feature(self) -> &'static str {
        if self == Dialect::Wgsl { "wgpu" } else { "cuda" }
    }
}

/// A kernel as CubeCL takes it.
#[derive(Clone)]
pub struct Source {
    kernel: Arc<Kernel>,
    /// Whether each operand may begin between places where a buffer can be bound.
    offsets: Arc<[bool]>,
    dialect: Dialect,
    /// A hash of all that the code depends on: it is compared at every launch.
    key: u128,
}

impl Source {
    /// Of a kernel for cubes.
    pub fn new(kernel: &Kernel, offsets: &[bool], dialect: Dialect) -> Source {
        let key = crate::hash128(format!("{kernel:?}{offsets:?}{dialect:?}").bytes());
        Source { kernel: Arc::new(kernel.clone()), offsets: offsets.into(), dialect, key }
    }

    fn threads(&self) -> usize {
        self.kernel.cube.expect("a kernel for cubes has threads")
    }

    fn settings(&self) -> KernelSettings {
        let settings = KernelSettings::new((self.threads() as u32, 1, 1).into(), ExecutionMode::Unchecked, AddressType::U32);
        settings.kernel_name(self.kernel.name.clone())
    }

    /// Cubes along two axes, and whether there are more than there is work for.
    fn cubes(&self) -> (usize, usize, bool) {
        let n = self.kernel.units;
        let x = n.min(AXIS);
        let y = n.div_ceil(x.max(1));
        (x, y, x * y > n)
    }

    /// The text in the kernel's dialect, where this build has a printer for it.
    pub fn text(&self) -> Result<String, String> {
        match self.dialect {
            Dialect::Wgsl if self.kernel.params.iter().any(|p| p.elem == Elem::BF16) => {
                Err(format!("{}: WebGPU's language has no bf16; use another --precision", self.kernel.name))
            }
            #[cfg(feature = "wgpu")]
            Dialect::Wgsl => {
                let options = cubecl::WgpuCompilationOptions::default();
                self.emit(|k| Compiler::compile(&mut cubecl_wgpu::WgslCompiler, k, &options).map(|t| t.to_string()))
            }
            #[cfg(feature = "cuda")]
            Dialect::Cuda => {
                use cubecl_cpp::shared::{CompilationOptions, CppCompiler};
                let mut options = CompilationOptions { warp_size: 32, ..Default::default() };
                options.supports_features.grid_constants = true;
                self.emit(|k| CppCompiler::<cubecl_cpp::target::Cuda>::default().compile(k, &options).map(|t| t.to_string()))
            }
            #[allow(unreachable_patterns)]
            missing @ (Dialect::Wgsl | Dialect::Cuda) => {
                Err(format!("this build does not print {missing:?}; build with --features {}", missing.feature()))
            }
        }
    }

    /// Emission panics on what a language has no words for; here that is an error like any other.
    fn emit<E: std::fmt::Display>(&self, emit: impl FnOnce(KernelDefinition) -> Result<String, E>) -> Result<String, String> {
        let name = &self.kernel.name;
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| emit(self.define())))
            .map_err(|_| format!("{name}: it cannot be written in this language"))?
            .map_err(|e| format!("{name}: {e}"))
    }
}

impl KernelMetadata for Source {
    fn name(&self) -> &'static str {
        "eggcorn"
    }
    fn id(&self) -> KernelId {
        KernelId::new::<Self>().info(self.key).cube_dim(self.settings().cube_dim)
    }
    fn address_type(&self) -> cubecl::ir::ElemType {
        build::U32
    }
}

impl CubeKernel for Source {
    fn define(&self) -> KernelDefinition {
        print::print(self)
    }
}
