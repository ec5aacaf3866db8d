//! Weights and state on disk.

pub(crate) mod checkpoint;
mod safetensors;
mod start;

pub use self::safetensors::{load as load_weights, read_ids, serialize, state, tensors, write_file};
pub use checkpoint::{Manifest, checksum, read as read_manifest, restore, save};
pub use start::initialise;
