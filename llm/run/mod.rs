//! The training loops, one plain file each.

mod pretrain;

pub use pretrain::{Event, Outcome, Trainer, bound, initialise, step_program, with_vocabulary};
