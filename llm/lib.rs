//! Language models from scratch, on top of the compiler.
//!
//! A [`Config`] says everything that determines a run, but for the text; a [`Trainer`] trains, and a [`Generator`] writes.
//!
//! ```
//! use llm::{Data, Kind, Models, Tokenizer, recipe};
//!
//! let config = recipe("shakespeare-char", &Models::default()).unwrap();
//! let config = config.set("n_layer=2").unwrap().set("train.lr=.001").unwrap();
//! config.check().unwrap();
//!
//! let text = "to be or not to be";
//! let tokenizer = Tokenizer::of(Kind::Char, text).unwrap();
//! let data = Data::split(tokenizer.encode(text).unwrap(), 0.5, 4).unwrap();
//! let batch = data.batch(1, 0, 2, 4).unwrap();
//! assert_eq!(batch.column("input_ids").unwrap().shape, [2, 4]);
//! ```

pub mod adapter;
mod batched;
pub mod chat;
mod classify;
mod config;
pub mod corpus;
mod counts;
mod data;
mod decode;
pub mod embed;
mod error;
pub mod evaluate;
mod files;
pub mod hub;
mod objective;
pub mod record;
pub mod reward;
mod run;
mod seen;
mod step;
pub mod text;
mod weights;

pub use classify::Classifier;
pub use config::{
    AdapterConfig, AdapterKind, Aim, Asked, ChatConfig, ClassifyConfig, Config, Curve, DataConfig, Decay, Depth, Depths, DistillConfig, Divergence,
    GroupConfig, Models, NewTokens, ObjectiveConfig, OptimizerConfig, OptimizerName, PolicyConfig, PolicyKind, Precision, Preference,
    PreferenceConfig, RECIPES, RESUMABLE, Recipe, RewardKind, Schedule, Size, TrainConfig, of_width, recipe,
};
pub use counts::{Counts, step_flops};
pub use data::{
    Batch, Collator, Column, Data, Header, HeldOut, INDEX, Index, IndexFile, IndexParts, IndexTokenizer, Labelled, Made, Marks, OWN_TEXT, Packing,
    Parts, Permutation, Piece, Shards, Source, Stage, Task, TextReader, TokenFile, TokenFiles, Tokens, Unit, Values, Width, pairs, preferences,
    random, read_text, symbols, words,
};
pub use decode::{Beam, Choice, Generator, Sampling, Search, Stop, Stopping, likeliest, log_probabilities, sample};
pub use error::{Error, Result, hint, nearest};
pub use files::{Irregular, NewFile, irregular, read_short, write_file};
pub use objective::{Mode, Objective, bound, parameters};
pub use run::{
    Confusion, Cost, Evaluation, Event, Judged, OfClass, Outcome, Policy, REFERENCE, ROLLOUTS, Rates, Reads, Rollout, Teacher, Trainer,
    generalised_advantages, group_advantages, rollouts,
};
pub use step::{Report, Step, step_program};
pub use text::{Decoder, Kind, Specials, Tokenizer};
pub use weights::{
    BEST, Checkpoint, Manifest, RunLock, at_step, checksum, initialise, kept, load_weights, open_checkpoint, read_manifest, save, utc,
};
pub use weights::{named, packed};
