//! Weights and state on disk.

pub(crate) mod checkpoint;
pub(crate) mod checksum;
mod file;
mod load;
mod lock;
pub mod named;
pub mod packed;
mod start;
pub(crate) mod write;

pub use checkpoint::{BEST, Base, Checkpoint, Manifest, at_step, kept, open as open_checkpoint, read as read_manifest, save};
pub use checksum::checksum;
pub use load::load as load_weights;
pub(crate) use load::pieces;
pub use lock::{RunLock, utc};
pub use start::initialise;
pub(crate) use start::{averaged, initialise_scaled};
