//! Specs to kernels: how work is split, vectorised, packed and kept in registers, for the parameters of a target.

mod attention;
mod cols;
mod contract;
mod dots;
pub(crate) mod gpu;
mod grouped;
mod point;
mod rows;
mod scatter;
mod score;
mod tile;

use crate::kernel::Kernel;
use crate::spec::{Spec, Template};

/// What kernels are lowered for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// A processor: vectors, registers, a cache.
    Cpu(Cpu),
    /// A graphics processor: cubes of threads.
    Gpu(Gpu),
}

impl Target {
    /// Prices of work on this kind of machine.
    pub fn machine(&self) -> passes::Machine {
        match self {
            Target::Cpu(_) => passes::Machine::CPU,
            Target::Gpu(_) => passes::Machine::GPU,
        }
    }
}

/// What kernels need to know of a processor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cpu {
    /// `f32` lanes of a vector register.
    pub lanes: u32,
    /// Vector registers.
    pub registers: u32,
    /// Bytes of the cache a thread has to itself.
    pub cache: usize,
    /// Whether products of `bfloat16` take two at a time.
    pub pairs: bool,
}

/// What kernels need to know of a graphics processor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Gpu {
    /// Multiprocessors: how many cubes run at once, about.
    pub processors: usize,
    /// Bytes of memory a cube's threads may share.
    pub shared: usize,
    /// Whether it multiplies matrices of 16 bits, as NVIDIA's do from Ampere on.
    pub tensor: bool,
    /// Whether groups of planes multiply what is in shared memory, as Hopper's do.
    pub hopper: bool,
}

impl Cpu {
    /// Rows and vectors of the register tile of a product: as many accumulators as leave room for operands.
    pub(crate) fn tile(&self, columns: usize) -> (usize, usize) {
        self.flat_tile(1, columns)
    }

    /// The same for a product of so few rows that it matters in how many steps they are done.
    pub(crate) fn flat_tile(&self, rows: usize, columns: usize) -> (usize, usize) {
        let shapes: &[(usize, usize)] = if self.registers >= 32 { &[(6, 4), (8, 3), (12, 2), (14, 1)] } else { &[(6, 2), (10, 1)] };
        let width = |vectors: usize| vectors * self.lanes as usize;
        // the shape that computes the fewest columns nobody needs; wide ones first
        let waste = |s: &&(usize, usize)| (columns.div_ceil(width(s.1)) * width(s.1), rows.div_ceil(s.0));
        *shapes.iter().min_by_key(waste).expect("there is a shape")
    }
}

/// The kernel of a spec for a target. `aligned` says of each operand whether it always begins at a whole vector.
pub fn lower(spec: &Spec, name: &str, target: &Target, aligned: &[bool]) -> Kernel {
    match target {
        Target::Cpu(cpu) => lower_cpu(spec, name, cpu),
        Target::Gpu(gpu) => gpu::lower(spec, name, gpu, aligned),
    }
}

/// A matrix product where it is one, else sums along rows.
fn product(spec: &Spec, name: &str, target: &Cpu) -> Kernel {
    match contract::Product::new(spec.clone(), target) {
        Some(product) if product.lies_along_sums() => dots::lower(&product, name),
        Some(product) => product.emit(name),
        None => {
            let rows = contract::as_rows(spec);
            let tail = if let Template::Rows { tail } = rows.template { tail } else { unreachable!("as_rows gives rows") };
            rows::lower(rows, tail, name, target)
        }
    }
}

fn lower_cpu(spec: &Spec, name: &str, target: &Cpu) -> Kernel {
    match &spec.template {
        Template::Rows { tail } => rows::lower(spec.clone(), *tail, name, target),
        Template::Cols { reduced } => cols::lower(spec.clone(), reduced.clone(), name, target),
        Template::Contract { .. } => product(spec, name, target),
        Template::Attention(heads) => attention::forward(spec, heads, name, target),
        Template::AttentionBwd(heads) => attention::backward(spec, heads, name, target),
        Template::ScatterAdd { tokens, rows, width } => scatter::lower(spec, (*tokens, *rows, *width), name, target),
    }
}
