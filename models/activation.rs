//! What stands between the two products of a feed-forward part.

use crate::layers::{gelu, gelu_exact, relu, silu};
use ir::{Scope, Tensor};
use serde::{Deserialize, Serialize};

/// A function of each number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Activation {
    /// x Φ(x).
    Gelu,
    /// The same in the tanh form.
    GeluTanh,
    /// max(x, 0).
    Relu,
    /// x · sigmoid x.
    Silu,
}

ir::spell!(Activation, "activation", [Gelu "gelu", GeluTanh "gelu_new" | "gelu_pytorch_tanh", Relu "relu", Silu "silu" | "swish"]);

impl Activation {
    /// The function of each element.
    #[track_caller]
    pub fn of<'g>(self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        match self {
            Activation::Gelu => gelu_exact(x),
            Activation::GeluTanh => gelu(x),
            Activation::Relu => relu(s, x),
            Activation::Silu => silu(x),
        }
    }
}
