//! Specs to kernels: how work is split, vectorised, packed and kept in registers, for the parameters of a target.

mod attention;
mod cols;
mod contract;
mod point;
mod rows;
mod scatter;
mod tile;

use crate::kernel::Kernel;
use crate::spec::{Spec, Template};

/// What kernels need to know of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// `f32` lanes of a vector register.
    pub lanes: u32,
    /// Vector registers.
    pub registers: u32,
    /// Bytes of the cache a thread has to itself.
    pub cache: usize,
}

impl Target {
    /// Rows and vectors of the register tile of a product: as many accumulators as leave room for operands.
    pub(crate) fn tile(&self, columns: usize) -> (usize, usize) {
        let shapes: &[(usize, usize)] = if self.registers >= 32 { &[(6, 4), (8, 3), (12, 2), (14, 1)] } else { &[(6, 2), (10, 1)] };
        let width = |vectors: usize| vectors * self.lanes as usize;
        // the shape that computes the fewest columns nobody needs; wide ones first
        let waste = |s: &&(usize, usize)| columns.div_ceil(width(s.1)) * width(s.1);
        *shapes.iter().min_by_key(waste).expect("there is a shape")
    }
}

/// The kernel of a spec for a target.
pub fn lower(spec: &Spec, name: &str, target: &Target) -> Kernel {
    match &spec.template {
        Template::Rows { tail } => rows::lower(spec.clone(), *tail, name, target),
        Template::Cols { reduced } => cols::lower(spec.clone(), reduced.clone(), name, target),
        Template::Contract { .. } => contract::lower(spec, name, target),
        Template::Attention(heads) => attention::forward(spec, heads, name, target),
        Template::AttentionBwd(heads) => attention::backward(spec, heads, name, target),
        Template::ScatterAdd { tokens, rows, width } => scatter::lower(spec, (*tokens, *rows, *width), name, target),
    }
}
