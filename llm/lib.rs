//! Language models from scratch, on top of the compiler.

mod config;
mod data;
mod decode;
mod error;
mod objective;
mod run;
mod step;
mod text;
mod weights;

pub use config::{Config, DataConfig, Models, Precision, RECIPES, RESUMABLE, Recipe, Schedule, TrainConfig, recipe};
pub use data::{Batch, Column, Data, OWN_TEXT, Values, random, read_text};
pub use decode::{Generator, Sampling, sample};
pub use error::{Error, Result, hint, nearest};
pub use objective::{Mode, Objective, bound};
pub use run::{Evaluation, Event, Outcome, Trainer};
pub use step::{Report, Step, step_program};
pub use text::{Kind, Tokenizer};
pub use weights::{Manifest, checksum, initialise, load_weights, read_ids, read_manifest, restore, save, serialize, state, tensors, write_file};
