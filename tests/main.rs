//! What only makes sense across crates.

mod common;
/// Gradients against finite differences; every stage of both models means the same.
mod stages;
/// Compiled programs against evaluation.
mod compiled;
