//! What products are computed in.

use serde::{Deserialize, Serialize};

/// What products are computed in; all else is `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Operands rounded to bfloat16, sums in 32 bits.
    Bf16,
    /// The same with 16-bit floats of less range: not for training, whose gradients are too small for it.
    F16,
}

ir::spell!(Precision, "precision", [F32 "f32", Bf16 "bf16", F16 "f16"]);

impl Precision {
    /// The type of products' operands.
    pub fn dtype(self) -> ir::DType {
        match self {
            Precision::F32 => ir::DType::F32,
            Precision::Bf16 => ir::DType::BF16,
            Precision::F16 => ir::DType::F16,
        }
    }
}
