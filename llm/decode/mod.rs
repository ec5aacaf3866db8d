//! Text from a model.

mod generate;
mod sample;

pub use generate::Generator;
pub use sample::{Sampling, sample};
