//! Names with a meaning: they are spelled here and nowhere else.
//!
//! A state tensor has a path; its new value is the result `@path`, its gradient the result `grad.path`. A `{}` in a path stands for the
//! iteration of the loop that reads it.

/// The result that is a loss before it is averaged: a sum over all that is asked.
pub const LOSS_SUM: &str = "loss.sum";
/// The result that says how many terms that sum has.
pub const LOSS_COUNT: &str = "loss.count";
/// The results of an objective.
pub const LOSS: [&str; 2] = [LOSS_SUM, LOSS_COUNT];
/// The result that is the loss averaged.
pub const LOSS_MEAN: &str = "loss";
