//! Text to batches.

mod batch;
mod own_text;
mod read;
mod windows;

pub use batch::{Batch, Column, Values};
pub use own_text::OWN_TEXT;
pub use read::read_text;
pub use windows::{Data, random};
