//! What only makes sense across crates.
#![allow(clippy::iter_over_hash_type)]

mod common;
/// Compiled programs against evaluation.
mod compiled;
/// Random programs at every level, and a wrong kernel caught.
mod fuzz;
mod random_graphs;
/// Gradients against finite differences; every stage of both models means the same.
mod stages;
