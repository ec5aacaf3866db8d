//! Models as Hugging Face's libraries have them on disk: read, taken over into run directories, and written.
//!
//! Parameters have the names and layouts of such a model's tensors, and its settings are each model's own affair
//! ([`models::Architecture::from_hub`]), so what stands here is of every model.

mod begin;
mod directory;
mod export;
mod flat;
mod generation;
mod import;
mod labels;

pub use directory::Directory;
pub use export::{Export, FileType, export};
pub use flat::Flat;
pub use generation::Generation;
pub(crate) use import::write_run;
pub use import::{Imported, import};
pub use labels::Labels;

/// The names of the files of a model's directory.
const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";
const TENSORS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer_config.json";

/// More bytes than any of the files has that say something of a model.
const LONGEST: u64 = 64 << 20;
