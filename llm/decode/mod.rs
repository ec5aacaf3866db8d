//! Text from a model.

mod beam;
mod generate;
mod reader;
mod sample;
mod source;
mod stop;

pub use beam::{Beam, Search, Stopping};
pub use generate::{Choice, Generator};
pub use sample::{Sampling, likeliest, log_probabilities, sample};
pub use stop::Stop;
