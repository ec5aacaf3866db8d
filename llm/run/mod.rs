//! The training loops, one plain file each, and the evaluation on the way.

mod ahead;
mod ending;
mod evaluation;
mod pretrain;
mod saving;

pub use evaluation::Evaluation;
pub use pretrain::{Cost, Event, Outcome, Reads, Trainer};
