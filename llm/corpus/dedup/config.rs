//! What duplicates are, and which of them stays.

use super::minhash::Permutations;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// What is compared with what. The kinds follow one another in this order, each on what the one before it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DedupKind {
    /// Documents whose text is the same, byte for byte.
    Documents,
    /// Documents that share most of their n-grams of words.
    Near,
    /// Paragraphs, which blank lines separate, that are the same.
    Paragraphs,
    /// Lines that are the same.
    Lines,
    /// Passages of many words that stand in several places.
    Substrings,
}

ir::spell!(
    DedupKind,
    "kind of duplicates",
    [Documents "documents", Near "near", Paragraphs "paragraphs", Lines "lines", Substrings "substrings"]
);

/// Which document of a cluster stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Keep {
    /// The first in order.
    First,
    /// The one of most bytes, of several the first.
    Longest,
}

ir::spell!(Keep, "rule of what stays", [First "first", Longest "longest"]);

/// How duplicates are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DedupConfig {
    /// Remove documents whose text is exactly another's.
    pub documents: bool,
    /// Remove documents that are nearly another.
    pub near: bool,
    /// Remove paragraphs that stood before.
    pub paragraphs: bool,
    /// Remove lines that stood before.
    pub lines: bool,
    /// Remove passages of many words that stood before.
    pub substrings: bool,
    /// Of what is nearly the same, what stays.
    pub keep: Keep,
    /// Words of an n-gram; near documents share many.
    pub ngram: usize,
    /// Bands: two documents are compared where all rows of any band are equal, which at similarity `s` happens with a probability of
    /// `1 - (1 - s^rows)^bands`.
    pub bands: usize,
    /// Rows of a band.
    pub rows: usize,
    /// The least estimated similarity (shared n-grams by all n-grams) of documents that are compared; 0 does not ask.
    pub min_similarity: f64,
    /// What permutations are drawn with.
    pub seed: u64,
    /// Paragraphs of fewer words are never removed.
    pub min_paragraph_words: usize,
    /// Lines of fewer words are never removed.
    pub min_line_words: usize,
    /// Words of the shortest passage that is removed.
    pub substring_words: usize,
}

impl Default for DedupConfig {
    fn default() -> DedupConfig {
        DedupConfig {
            documents: true,
            near: true,
            paragraphs: false,
            lines: false,
            substrings: false,
            keep: Keep::First,
            ngram: 5,
            bands: 14,
            rows: 8,
            min_similarity: 0.7,
            seed: 1,
            min_paragraph_words: 5,
            min_line_words: 5,
            substring_words: 50,
        }
    }
}

impl DedupConfig {
    /// An error where a setting is out of its range.
    pub fn check(&self) -> Result<()> {
        let ranges = [("ngram", self.ngram, 1, 1000), ("bands", self.bands, 1, 1000), ("rows", self.rows, 1, 100)];
        let more = [
            ("min_paragraph_words", self.min_paragraph_words, 0, usize::MAX),
            ("min_line_words", self.min_line_words, 0, usize::MAX),
            ("substring_words", self.substring_words, 2, 100_000),
        ];
        for (name, value, least, most) in ranges.into_iter().chain(more) {
            if !(least..=most).contains(&value) {
                return Err(Error(format!("dedup.{name} is {value}: expected {least} to {most}")));
            }
        }
        if !(0.0..=1.0).contains(&self.min_similarity) {
            return Err(Error(format!("dedup.min_similarity is {}: expected 0 to 1", self.min_similarity)));
        }
        if self.kinds().is_empty() {
            let names: Vec<&str> = DedupKind::ALL.iter().map(|k| k.name()).collect();
            return Err(Error(format!("no kind of duplicates is asked for; try one of {}", names.join(", "))));
        }
        Ok(())
    }

    /// The kinds that are asked for, in order.
    pub fn kinds(&self) -> Vec<DedupKind> {
        DedupKind::ALL.iter().copied().filter(|k| self.has(*k)).collect()
    }

    fn has(&self, kind: DedupKind) -> bool {
        match kind {
            DedupKind::Documents => self.documents,
            DedupKind::Near => self.near,
            DedupKind::Paragraphs => self.paragraphs,
            DedupKind::Lines => self.lines,
            DedupKind::Substrings => self.substrings,
        }
    }

    /// Asks for these kinds and no others.
    pub fn only(self, kinds: &[DedupKind]) -> DedupConfig {
        let has = |k| kinds.contains(&k);
        DedupConfig {
            documents: has(DedupKind::Documents),
            near: has(DedupKind::Near),
            paragraphs: has(DedupKind::Paragraphs),
            lines: has(DedupKind::Lines),
            substrings: has(DedupKind::Substrings),
            ..self
        }
    }

    /// The settings that determine what a kind removes, as text.
    pub(super) fn settings(&self, kind: DedupKind) -> String {
        match kind {
            DedupKind::Documents => "documents".into(),
            DedupKind::Near => {
                let numbers = [self.ngram, self.bands, self.rows].map(|n| n.to_string()).join(" ");
                format!("near {numbers} {} {} {}", self.min_similarity, self.seed, self.keep)
            }
            DedupKind::Paragraphs => format!("paragraphs {}", self.min_paragraph_words),
            DedupKind::Lines => format!("lines {}", self.min_line_words),
            DedupKind::Substrings => format!("substrings {}", self.substring_words),
        }
    }

    pub(super) fn permutations(&self) -> Permutations {
        Permutations::new(self.seed, self.bands * self.rows)
    }
}
