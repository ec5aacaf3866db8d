//! What only makes sense across crates.

mod common;
/// Compiled programs against evaluation.
mod compiled;
/// Gradients against finite differences; every stage of both models means the same.
mod stages;
