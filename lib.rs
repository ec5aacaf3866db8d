//! A compiler for building language models from scratch.
//!
//! A model is plain mathematics in Rust and becomes an [`ir::Graph`]; [`passes`] finds attention and the rest in it and differentiates
//! it; [`codegen`] turns it into kernels and machine code; [`runtime`] runs it; [`llm`] trains language models with it.
//! `examples/own_model.rs` is a model of one's own with the whole command line, `examples/own_loop.rs` a training loop of one's own.

extern crate self as eggcorn;

pub mod cli;

pub use codegen;
pub use ir;
pub use llm;
pub use models;
pub use passes;
pub use runtime;
