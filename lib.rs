//! A compiler for building language models from scratch.
//!
//! A model is plain mathematics in Rust and becomes an [`ir::Graph`]; [`passes`] finds attention and the rest in it and differentiates
//! it; [`codegen`] turns it into kernels and machine code; [`runtime`] runs it; [`llm`] trains language models with it.
//! `examples/own_model.rs` is a model of one's own with the whole command line, `examples/own_loop.rs` a training loop of one's own.
//!
//! ```
//! # #[cfg(feature = "llvm")]
//! # {
//! use eggcorn::llm::{Config, Kind, Models, Tokenizer, Trainer};
//! use eggcorn::runtime::Device;
//!
//! let text = "the quick brown fox jumps over the lazy dog. ".repeat(20);
//! let tokenizer = Tokenizer::of(Kind::Char, &text).unwrap();
//! let config = "[model]\narch = 'gpt2'\nn_layer = 1\nn_head = 2\nn_embd = 8\n[train]\nbatch = 2\ncontext = 8";
//! let mut config = Config::parse(config, "text", &Models::default()).unwrap();
//! config.model = config.model.with_vocabulary(tokenizer.size()).unwrap();
//! let mut trainer = Trainer::new(config, tokenizer.encode(&text).unwrap(), Device::open("cpu", 1).unwrap()).unwrap();
//! let (loss, _) = trainer.one_step().unwrap();
//! assert!((loss - (tokenizer.size() as f64).ln()).abs() < 0.1, "an untrained model guesses");
//! # }
//! ```

extern crate self as eggcorn;

pub mod cli;

pub use codegen;
pub use ir;
pub use llm;
pub use models;
pub use passes;
pub use runtime;
