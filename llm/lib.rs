//! Language models from scratch, on top of the compiler.

mod config;
mod data;
mod decode;
mod error;
mod objective;
mod run;
mod text;
mod weights;

pub use config::{Config, DataConfig, Models, Precision, RECIPES, RESUMABLE, Recipe, Schedule, TrainConfig, recipe};
pub use data::{Batch, Data, OWN_TEXT, random, read_text};
pub use decode::{Generator, Sampling, sample};
pub use error::{Error, Result, hint, nearest};
pub use objective::{Mode, Objective, bound};
pub use run::{Event, Outcome, Trainer, initialise, step_program, with_vocabulary};
pub use text::{Kind, Tokenizer};
pub use weights::{Manifest, checksum, load_weights, read_ids, read_manifest, restore, save, serialize, state, tensors, write_file};
