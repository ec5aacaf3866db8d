//! Text from a model.

mod generate;

pub use generate::{Generator, Sampling, sample};
