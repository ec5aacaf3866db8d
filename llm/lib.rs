//! Language models from scratch, on top of the compiler.

mod checkpoint;
mod config;
mod data;
mod error;
mod generate;
mod own_text;
mod tokenizer;
mod train;
mod weights;

pub use checkpoint::{Manifest, checksum, read as read_manifest, restore, save};
pub use config::{Config, DataConfig, Precision, RECIPES, TrainConfig, recipe, set_path};
pub use data::{Batch, Data, random, read_text};
pub use error::{Error, Result, nearest};
pub use generate::{Generator, Sampling, sample};
pub use own_text::OWN_TEXT;
pub use tokenizer::{Kind, Tokenizer};
pub use train::{Event, Outcome, Trainer, bound, initialise, step_program, with_vocabulary};
pub use weights::{load as load_weights, read_ids, serialize, state, tensors, write_file};
