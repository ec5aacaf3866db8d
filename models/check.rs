//! Ranges of settings.

use std::fmt::{Debug, Display};
use std::ops::{Bound, RangeBounds};

/// A setting that must lie in a range. The error names it, its value, the range, and something to try.
pub fn within<T: PartialOrd + Debug>(name: &str, value: T, range: impl RangeBounds<T>, attempt: impl Display) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("{name} is {}, expected {}; try {name} = {attempt}", plain(&value), words(&range)))
}

/// A range as people say it.
fn words<T: Debug>(range: &impl RangeBounds<T>) -> String {
    let low = match range.start_bound() {
        Bound::Included(x) => Some(format!("at least {}", plain(x))),
        Bound::Excluded(x) => Some(format!("above {}", plain(x))),
        Bound::Unbounded => None,
    };
    let high = match range.end_bound() {
        Bound::Included(x) => Some(format!("at most {}", plain(x))),
        Bound::Excluded(x) => Some(format!("below {}", plain(x))),
        Bound::Unbounded => None,
    };
    low.into_iter().chain(high).collect::<Vec<_>>().join(" and ")
}

/// A number as people write it: whole ones without a fraction.
fn plain(x: &impl Debug) -> String {
    let text = format!("{x:?}");
    text.strip_suffix(".0").map_or(text.clone(), String::from)
}

/// The largest extent of a tensor that a setting names.
pub const LARGEST: usize = 1 << 24;

/// Sizes by name and value, each at least 1 and no larger than a tensor's axis may be; the third is what to try.
pub fn sizes(fields: &[(&str, usize, usize)]) -> Result<(), String> {
    fields.iter().try_for_each(|(name, value, attempt)| within(name, *value, 1..=LARGEST, attempt))
}

/// Layers are unrolled to calls, so their number is bounded.
pub fn layers(name: &str, n: usize) -> Result<(), String> {
    within(name, n, 1..=4096, 12)
}

/// A number that must divide another.
pub fn divides(small_name: &str, small: usize, name: &str, n: usize) -> Result<(), String> {
    if n.is_multiple_of(small) {
        return Ok(());
    }
    let fits = (1..=small).rev().find(|d| n.is_multiple_of(*d)).expect("1 divides");
    Err(format!("{small_name} is {small} and does not divide {name}, which is {n}; try {small_name} = {fits}"))
}

/// Heads of attention, so many of a residual stream of a width; each as wide as is said, or, where that is 0, a share of the stream.
pub fn heads(n: usize, width: usize, head_dim: usize) -> Result<(), String> {
    within("head_dim", head_dim, 0..=LARGEST / n, 64)?;
    if head_dim == 0 { divides("num_attention_heads", n, "hidden_size", width) } else { Ok(()) }
}

/// The same heads, in pairs that rotary positions turn.
pub fn turned(n: usize, width: usize, head_dim: usize) -> Result<(), String> {
    let d = if head_dim > 0 { head_dim } else { width / n };
    if d.is_multiple_of(2) {
        return Ok(());
    }
    if head_dim > 0 {
        return Err(format!("head_dim is {d}, and rotary positions turn pairs; try head_dim = {}", d + 1));
    }
    let fits = n * (d + 1);
    Err(format!("hidden_size is {width}, so each of the {n} heads has a width of {d}, and rotary positions turn pairs; try hidden_size = {fits}"))
}

/// A probability of dropout.
pub fn dropout(name: &str, p: f64) -> Result<(), String> {
    within(name, p, 0.0..1.0, "0.1")
}
