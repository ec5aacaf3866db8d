//! Names with a meaning: they are spelled here and nowhere else.
//!
//! A state tensor has a path; its new value is the result `@path`, its gradient the result `grad.path`. A place in a path stands for the
//! iteration of the loop that reads it: `{}` for its number, `{2i+1}` for twice that and 1, so that layers of a pattern keep their numbers.

use std::fmt;
use std::ops::Range;

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
/// The scope of parameters averaged over steps.
pub const AVERAGE: &str = "ema";
/// The scope of losses and norms of earlier steps.
pub const OUTLIER: &str = "outlier";
/// The result that is 1 where a step updated nothing because it stands out, else 0.
pub const SKIPPED: &str = "skipped";
/// What stands in a path for the iteration's number.
pub const LOOP: &str = "{}";

/// Whether a result is the sum or the count of something that is looked at beside a loss, as `accuracy.sum` and `accuracy.count` are.
pub fn is_seen(name: &str) -> bool {
    seen(name).is_some() && gradient_of(name).is_none() && !LOSS.contains(&name)
}

/// What a result is the sum or the count of.
pub fn seen(name: &str) -> Option<&str> {
    name.strip_suffix(".sum").or_else(|| name.strip_suffix(".count"))
}

/// What stands in a path for an iteration: a number that follows from the iteration's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// How far it is from one iteration's number to the next, at least 1.
    pub step: usize,
    /// The number of the first iteration.
    pub first: usize,
}

impl Place {
    /// The number of iteration `i`.
    pub fn number(self, i: usize) -> usize {
        self.step * i + self.first
    }

    /// Reads what stands between braces, as it is printed and no other way.
    fn parse(inside: &str) -> Option<Place> {
        let place = match inside.split_once('i') {
            None if inside.is_empty() => Place { step: 1, first: 0 },
            None => return None,
            Some((step, first)) => {
                let step = if step.is_empty() { 1 } else { step.parse().ok()? };
                let first = if first.is_empty() { 0 } else { first.strip_prefix('+')?.parse().ok()? };
                Place { step, first }
            }
        };
        let plain = place.to_string();
        ((1..=MOST).contains(&place.step) && place.first <= MOST && plain[1..plain.len() - 1] == *inside).then_some(place)
    }
}

/// The largest number in a place.
const MOST: usize = 1 << 24;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match (self.step, self.first) {
            (1, 0) => f.write_str(LOOP),
            (1, first) => write!(f, "{{i+{first}}}"),
            (step, 0) => write!(f, "{{{step}i}}"),
            (step, first) => write!(f, "{{{step}i+{first}}}"),
        }
    }
}

/// The places of a path, and where in it each is.
pub fn places(path: &str) -> impl Iterator<Item = (Range<usize>, Place)> + '_ {
    path.match_indices('{').filter_map(|(start, _)| {
        let length = path[start..].find('}')?;
        Place::parse(&path[start + 1..start + length]).map(|place| (start..start + length + 1, place))
    })
}

/// How many loops a parameter is stacked for.
pub fn loops(path: &str) -> usize {
    places(path).count()
}

/// The path of one iteration's part, as in a file of weights.
pub fn iteration(path: &str, i: usize) -> String {
    match places(path).next() {
        Some((range, place)) => format!("{}{}{}", &path[..range.start], place.number(i), &path[range.end..]),
        None => path.to_string(),
    }
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
