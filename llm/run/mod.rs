//! The training loops, one plain file each.

mod pretrain;

pub use pretrain::{Event, Outcome, Trainer, initialise, step_program, with_vocabulary};
