//! Text to batches.

mod batch;
mod own_text;
mod windows;

pub use batch::{Batch, Column, Values};
pub use own_text::OWN_TEXT;
pub use windows::{Data, random, read_text};
