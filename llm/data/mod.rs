//! Text to batches.

mod own_text;
mod windows;

pub use own_text::OWN_TEXT;
pub use windows::{Batch, Data, random, read_text};
