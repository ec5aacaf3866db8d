//! The training loops, one plain file each, and the evaluation on the way.

mod ahead;
mod confusion;
mod coordinates;
mod ending;
mod evaluation;
mod pretrain;
mod rates;
mod saving;
mod unigram;

pub use confusion::{Confusion, OfClass};
pub use evaluation::{Evaluation, Judged};
pub use pretrain::{Cost, Event, Outcome, Reads, Trainer};
pub use rates::Rates;
