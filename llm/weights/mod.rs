//! Weights and state on disk.

pub(crate) mod checkpoint;
mod lock;
pub mod named;
mod safetensors;
mod start;

pub use self::safetensors::{load as load_weights, serialize, state};
pub use checkpoint::{Checkpoint, Manifest, checksum, open as open_checkpoint, read as read_manifest, save};
pub use lock::{RunLock, utc};
pub use start::initialise;
