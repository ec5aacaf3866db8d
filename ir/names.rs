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
/// The result that is the norm of the averaged loss's gradient.
pub const GRAD_NORM: &str = "grad_norm";
/// The scope of keys and values of earlier tokens.
pub const PAST: &str = "past";
/// What stands in a path for the iteration.
pub const LOOP: &str = "{}";

/// How many loops a parameter is stacked for.
pub fn loops(path: &str) -> usize {
    path.matches(LOOP).count()
}

/// The path of one iteration's part, as in a file of weights.
pub fn iteration(path: &str, i: usize) -> String {
    path.replacen(LOOP, &i.to_string(), 1)
}

/// The result that is the new value of a state tensor.
pub fn new_value(path: &str) -> String {
    format!("@{path}")
}

/// The state tensor that a result is the new value of.
pub fn new_value_of(result: &str) -> Option<&str> {
    result.strip_prefix('@')
}

/// The result that is the gradient by a parameter.
pub fn gradient(path: &str) -> String {
    format!("grad.{path}")
}

/// The parameter that a result is the gradient by.
pub fn gradient_of(result: &str) -> Option<&str> {
    result.strip_prefix("grad.")
}
