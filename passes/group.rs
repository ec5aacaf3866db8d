//! Parameters by path and rank: which are trained, and how.

use crate::optimizer::{Optimizer, not_negative};
use ir::{DType, Type, names};
use std::ops::RangeInclusive;

/// Which parameters, by path and rank. Only floats of 32 bits are ever trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Which {
    /// The path; `*` stands for any text, and `#` between dots for the number of a layer.
    pub path: String,
    /// The rank; where layers are stacked, that of one layer's tensor.
    pub rank: RangeInclusive<usize>,
}

impl Which {
    /// Those whose path is like this one, in which `*` stands for any text and `#` for the number of a layer.
    pub fn path(path: &str) -> Which {
        Which { path: path.into(), rank: 0..=usize::MAX }
    }

    /// Every parameter.
    pub fn all() -> Which {
        Which::path("*")
    }

    /// Tensors with two or more axes.
    pub fn matrices() -> Which {
        Which { rank: 2..=usize::MAX, ..Which::all() }
    }

    /// Matrices of layers that have a number: no embeddings and no heads.
    pub fn layers() -> Which {
        Which { path: "*.#.*".into(), ..Which::matrices() }
    }

    /// Biases, gains and scalars: tensors with one axis or none.
    pub fn vectors() -> Which {
        Which { rank: 0..=1, ..Which::all() }
    }

    /// Whether this is one of them.
    pub fn holds(&self, path: &str, ty: &Type) -> bool {
        let rank = ty.rank().saturating_sub(names::loops(path));
        ty.dtype == DType::F32 && self.rank.contains(&rank) && is_like(path, &self.path)
    }
}

/// Whether a text is like a pattern in which `*` stands for any text and `#` for a number, or a place of one.
pub fn is_like(text: &str, pattern: &str) -> bool {
    let Some(at) = pattern.find(['*', '#']) else { return text == pattern };
    let (Some(text), rest) = (text.strip_prefix(&pattern[..at]), &pattern[at + 1..]) else { return false };
    if pattern[at..].starts_with('#') {
        return number(text).is_some_and(|n| is_like(&text[n..], rest));
    }
    text.char_indices().map(|(i, _)| i).chain([text.len()]).any(|i| is_like(&text[i..], rest))
}

/// How many bytes at the start of a text are a layer's number.
fn number(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits > 0 {
        return Some(digits);
    }
    names::places(text).next().filter(|(range, _)| range.start == 0).map(|(range, _)| range.end)
}

/// Parameters that are updated alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Which.
    pub which: Which,
    /// How.
    pub optimizer: Optimizer,
    /// Their learning rate as a share of the step's; of stacked layers the last one's.
    pub lr: f64,
    /// How many times as large each stacked layer's rate is as that of the one before it.
    pub growth: f64,
}

impl Group {
    /// These parameters by this optimizer, at the step's learning rate.
    pub fn new(which: Which, optimizer: Optimizer) -> Group {
        Group { which, optimizer, lr: 1.0, growth: 1.0 }
    }

    /// Which setting is outside its range, if one is.
    pub fn check(&self) -> Result<(), String> {
        self.optimizer.check()?;
        not_negative("the share of the learning rate", self.lr)?;
        if self.growth >= 1.0 && (self.growth as f32).is_finite() {
            return Ok(());
        }
        Err(format!("the growth of the learning rate from layer to layer is {}, expected at least 1", self.growth))
    }
}
