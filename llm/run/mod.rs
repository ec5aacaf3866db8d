//! The training loops, one plain file each, and the evaluation on the way.

mod advantage;
mod ahead;
mod confusion;
mod coordinates;
mod ending;
mod evaluation;
mod grpo;
mod policy;
mod ppo;
mod pretrain;
mod rates;
mod reference;
mod rollout;
mod saving;
mod teacher;
mod unigram;

pub use advantage::{generalised_advantages, group_advantages};
pub use confusion::{Confusion, OfClass};
pub use evaluation::{Evaluation, Judged};
pub use policy::Policy;
pub use pretrain::{Cost, Event, Outcome, Reads, Trainer};
pub use rates::Rates;
pub use reference::REFERENCE;
pub use rollout::{ROLLOUTS, Rollout, rollouts};
pub use teacher::Teacher;
