//! Programs in primitive operations. Models depend on `ir` alone and name no fused op.
//!
//! A model implements [`Architecture`] and stands in [`MODELS`]; nothing else knows one by name. One handle, [`Model`], is what the rest
//! of the compiler holds, for these and for a person's own:
//!
//! ```
//! use ir::Builder;
//! use models::{Gpt, Model, Reading};
//!
//! let model = Model::from(Gpt { vocab_size: 65, n_positions: 32, n_layer: 2, n_head: 2, n_embd: 8, ..Gpt::default() });
//! let b = Builder::default();
//! let s = b.scope();
//! let tokens = s.input("input_ids", ir::DType::I32, [1usize, 32]);
//! let hidden = model.hidden(&s, &Reading::of(tokens));
//! b.output("logits", model.head(&s, hidden.x));
//! let graph = b.finish().unwrap();
//! assert_eq!(graph.main().outputs()[0].to_string(), "f32[1,32,65]");
//! ```

mod activation;
mod adaptation;
mod architecture;
pub mod attention;
mod before;
mod bert;
pub mod check;
mod deepseek;
mod gemma;
mod gpt;
pub mod heads;
pub mod hub;
mod init;
pub mod layers;
mod llama;
pub mod losses;
mod mixtral;
mod model;
pub mod moe;
pub mod positions;
mod t5;
mod transformer;

pub use activation::Activation;
pub use adaptation::Adaptation;
pub use architecture::{Architecture, Branches, Documents, Encoded, Hidden, Kept, Kepts, Kind, Layers, Leading, Made, Place, Reading, Shape, Source};
pub use before::{Alike, Before, Learned};
pub use bert::{Bert, Family};
pub use deepseek::Deepseek;
pub use gemma::Gemma;
pub use gpt::Gpt;
pub use heads::{Head, Pooling};
pub use init::Init;
pub use llama::{Biases, Llama};
pub use mixtral::{Form, Mixtral};
pub use model::{Entry, Model};
pub use positions::{Positions, RopeScaling};
pub use t5::T5;
pub use transformer::Transformer;

/// Every model of this crate.
pub const MODELS: [Entry; 8] = [
    Entry::of::<Gpt>().formerly("gpt"),
    Entry::of::<Llama>(),
    Entry::of::<Gemma>(),
    Entry::of::<Mixtral>(),
    Entry::of::<Deepseek>(),
    Entry::of::<Bert>(),
    Entry::of::<T5>(),
    Entry::of::<Transformer>(),
];

/// A model of this crate at its default size.
pub fn by_name(name: &str) -> Option<Model> {
    MODELS.iter().find(|m| m.name() == name)?.default().ok()
}
