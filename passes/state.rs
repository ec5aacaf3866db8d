//! What a state tensor of a program is, by its name.

use crate::optimizer::SLOTS;
use ir::names::{AVERAGE, OUTLIER, PAST};
use std::fmt;

/// A state tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State<'a> {
    /// A parameter of the model, by path.
    Parameter(&'a str),
    /// What an optimizer keeps for the parameter of a path: the slot's name, then the path.
    Slot(&'a str, &'a str),
    /// The moving average of the parameter of a path.
    Average(&'a str),
    /// Losses or norms of earlier steps.
    Outlier(&'a str),
    /// Keys or values of earlier tokens.
    Past(&'a str),
}

impl<'a> State<'a> {
    /// Reads a name.
    pub fn parse(name: &'a str) -> State<'a> {
        let after = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix('.');
        if let Some(rest) = after(PAST) {
            return State::Past(rest);
        }
        if let Some(path) = after(AVERAGE) {
            return State::Average(path);
        }
        if let Some(what) = after(OUTLIER) {
            return State::Outlier(what);
        }
        let slot = |slot: &&'static str| after(slot).map(|path| State::Slot(slot, path));
        SLOTS.into_iter().flatten().find_map(slot).unwrap_or(State::Parameter(name))
    }

    /// Whether this is a weight of the model, neither kept by an optimizer nor of earlier tokens.
    pub fn is_parameter(self) -> bool {
        matches!(self, State::Parameter(_))
    }
}

impl fmt::Display for State<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            State::Parameter(path) => f.write_str(path),
            State::Slot(slot, path) => write!(f, "{slot}.{path}"),
            State::Average(path) => write!(f, "{AVERAGE}.{path}"),
            State::Outlier(what) => write!(f, "{OUTLIER}.{what}"),
            State::Past(what) => write!(f, "{PAST}.{what}"),
        }
    }
}
