//! Where a text ends before its last token: at the first of some strings, which may come in pieces.

use crate::error::{Error, Result};

/// Text as it comes, until one of some strings is in it: the one that ends first, of several the longest. What may be the beginning of one
/// is held back until that is decided, so that it does not matter in which pieces a text comes.
#[derive(Clone, Debug)]
pub struct Stop {
    strings: Vec<String>,
    held: String,
    stopped: bool,
}

impl Stop {
    /// Stops at the first of these strings, none of which is empty.
    pub fn new(strings: &[String]) -> Result<Stop> {
        if strings.iter().any(String::is_empty) {
            return Err(Error("--stop is empty: a text ends at once where nothing is; give at least one character".into()));
        }
        Ok(Stop { strings: strings.to_vec(), held: String::new(), stopped: false })
    }

    /// Takes a piece of the text; what can be shown now. After a stop that is nothing.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let ends = |s: &String| self.held.find(s.as_str()).map(|at| (at + s.len(), at));
        let found = self.strings.iter().filter_map(ends).min().map(|(_, at)| at);
        self.stopped = found.is_some();
        let end = found.unwrap_or_else(|| self.held.len() - self.beginning());
        let shown = self.held[..end].to_string();
        self.held = if self.stopped { String::new() } else { self.held.split_off(end) };
        shown
    }

    /// Whether one of the strings has come.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// What was held back and turned out to be text.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes of the longest end of the text that begins one of the strings.
    fn beginning(&self) -> usize {
        let begins = |end: &str| self.strings.iter().any(|s| s.starts_with(end));
        let mut ends = self.held.char_indices().map(|(at, _)| &self.held[at..]);
        ends.find(|end| begins(end)).map_or(0, str::len)
    }
}
