//! Tokens that stand together, and which of them are asked.

use crate::error::{Error, Result};

/// Consecutive tokens of a document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The tokens.
    pub ids: Vec<i32>,
    /// For each of them whether it is asked; empty where all are.
    pub asked: Vec<bool>,
}

impl Piece {
    /// Tokens that are asked, all of them.
    pub fn all(ids: Vec<i32>) -> Piece {
        Piece { ids, asked: vec![] }
    }

    /// Tokens with a mark each. Fails where there are not as many marks as tokens.
    pub fn marked(ids: Vec<i32>, asked: Vec<bool>) -> Result<Piece> {
        if ids.len() == asked.len() {
            return Ok(Piece { ids, asked });
        }
        Err(Error(format!("there are {} tokens and {} marks of which are asked: expected one each", ids.len(), asked.len())))
    }

    /// Whether a token is asked.
    pub fn asks(&self, place: usize) -> bool {
        self.asked.get(place).copied().unwrap_or(self.asked.is_empty())
    }

    /// How many tokens are asked of one that has something before it: all that are, but the first.
    pub fn count(&self) -> usize {
        (1..self.ids.len()).filter(|i| self.asks(*i)).count()
    }

    /// The first tokens, at most so many.
    pub fn truncate(&mut self, tokens: usize) {
        self.ids.truncate(tokens);
        self.asked.truncate(tokens);
    }
}
