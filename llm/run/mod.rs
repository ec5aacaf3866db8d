//! The training loops, one plain file each, and the evaluation on the way.

mod ahead;
mod ending;
mod evaluation;
mod pretrain;
mod saving;
mod unigram;

pub use evaluation::{Evaluation, Judged};
pub use pretrain::{Cost, Event, Outcome, Reads, Trainer};
