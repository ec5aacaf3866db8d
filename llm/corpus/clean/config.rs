//! What cleaning does.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Unicode's normal forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Form {
    /// Characters composed: one way to write é. It changes nothing that one sees.
    #[default]
    Nfc,
    /// Compatible characters are one, too: ﬁ is fi, ² is 2, full-width letters are letters.
    Nfkc,
    /// As it is.
    None,
}

ir::spell!(Form, "normal form", [Nfc "nfc", Nfkc "nfkc", None "none"]);

/// Filters that were published with a corpus.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Filter {
    /// Gopher's, of quality and of repetition (Rae et al. 2021, table A1).
    Gopher,
    /// Those of quality alone.
    GopherQuality,
    /// Those of repetition alone.
    GopherRepetition,
    /// C4's, of lines and of documents (Raffel et al. 2020).
    C4,
    /// FineWeb's own (Penedo et al. 2024).
    FineWeb,
}

ir::spell!(
    Filter,
    "filter",
    [Gopher "gopher", GopherQuality "gopher-quality", GopherRepetition "gopher-repetition", C4 "c4", FineWeb "fineweb"]
);

/// What is hidden behind a mask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Mask {
    /// Addresses of mail, which become `<EMAIL>`.
    Email,
    /// Telephone numbers, which become `<PHONE>`.
    Phone,
    /// Public addresses of the internet, version 4 and 6, which become `<IP>`.
    Ip,
}

ir::spell!(Mask, "mask", [Email "email", Phone "phone", Ip "ip"]);

/// What cleaning does, in the order of the fields. By default it changes how a text is written and not what it says: filters, which were
/// made for pages of the web and remove most of a book's dialogue or verse, are off until they are asked for.
///
/// A threshold of 0 is switched off.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CleanConfig {
    /// Line ends of other systems, and page breaks, become `\n`.
    pub line_ends: bool,
    /// Control characters, but for `\n` and the tabulator, and characters without width are removed: the soft hyphen, the zero width space
    /// and the byte order mark. Joiners stay, which scripts and emoji need.
    pub invisible: bool,
    /// The normal form.
    pub unicode: Form,
    /// Spaces at line ends are removed.
    pub trailing_spaces: bool,
    /// Blank lines that may follow each other.
    pub max_blank_lines: usize,
    /// Which filters are on. What follows are their thresholds.
    pub filters: Vec<Filter>,
    /// C4: lines that do not end in `.`, `?`, `!` or a quotation mark, or that end in `...`, are removed.
    pub terminal_punctuation: bool,
    /// C4: lines of fewer words are removed.
    pub min_line_words: usize,
    /// C4: lines with a word of more characters are removed.
    pub max_word_length: usize,
    /// C4: marks of citations, as in `[12]`, are removed.
    pub citations: bool,
    /// C4: lines that name JavaScript are removed.
    pub javascript: bool,
    /// C4: lines about cookies and terms of use are removed.
    pub policy: bool,
    /// C4: documents with this placeholder are removed.
    pub lorem_ipsum: bool,
    /// C4: documents with a curly bracket are removed, which are often programs.
    pub curly_bracket: bool,
    /// C4: documents of fewer sentences are removed.
    pub min_sentences: usize,
    /// Gopher: fewest words of a document.
    pub min_words: usize,
    /// Gopher: most words of a document.
    pub max_words: usize,
    /// Gopher: least mean of the words' lengths in characters.
    pub min_mean_word: f64,
    /// Gopher: largest mean of the words' lengths in characters.
    pub max_mean_word: f64,
    /// Gopher: most `#` a word, and most ellipses a word.
    pub max_symbols: f64,
    /// Gopher: largest share of lines that begin with a bullet.
    pub max_bullet_lines: f64,
    /// Gopher: largest share of lines that end in an ellipsis.
    pub max_ellipsis_lines: f64,
    /// Gopher: least share of words with a letter.
    pub min_alphabetic: f64,
    /// Gopher: fewest of the words the, be, to, of, and, that, have and with.
    pub min_stop_words: usize,
    /// Gopher: largest share of paragraphs that occurred before in the document.
    pub max_duplicate_paragraphs: f64,
    /// Gopher: largest share of characters in such paragraphs.
    pub max_duplicate_paragraph_characters: f64,
    /// Gopher: largest share of lines that occurred before in the document.
    pub max_duplicate_lines: f64,
    /// Gopher: largest share of characters in such lines.
    pub max_duplicate_line_characters: f64,
    /// Gopher: largest share of characters in the most frequent 2, 3 and 4 words.
    pub max_top_ngram: [f64; 3],
    /// Gopher: largest share of characters in 5, 6, 7, 8, 9 and 10 words that occurred before.
    pub max_duplicate_ngram: [f64; 6],
    /// FineWeb: documents whose share of lines that end in punctuation is not above this are removed.
    pub min_punctuated_lines: f64,
    /// FineWeb: documents whose share of short lines reaches this are removed.
    pub max_short_lines: f64,
    /// FineWeb: characters that a short line has at most.
    pub short_line: usize,
    /// FineWeb: documents whose share of characters in repeated lines reaches this are removed.
    pub max_repeated_line_characters: f64,
    /// FineWeb: most line ends a word.
    pub max_line_ends: f64,
    /// The language of each document is found out and kept with it.
    pub identify: bool,
    /// Languages that are kept, as codes of ISO 639-3; of all, where none is named.
    pub languages: Vec<String>,
    /// How sure the language must be, from 0 to 1, where languages are named.
    pub language_confidence: f64,
    /// What is hidden behind masks.
    pub masks: Vec<Mask>,
}

impl Default for CleanConfig {
    fn default() -> CleanConfig {
        CleanConfig {
            line_ends: true,
            invisible: true,
            unicode: Form::Nfc,
            trailing_spaces: true,
            max_blank_lines: 2,
            filters: vec![],
            terminal_punctuation: true,
            min_line_words: 3,
            max_word_length: 1000,
            citations: true,
            javascript: true,
            policy: true,
            lorem_ipsum: true,
            curly_bracket: false,
            min_sentences: 3,
            min_words: 50,
            max_words: 100_000,
            min_mean_word: 3.0,
            max_mean_word: 10.0,
            max_symbols: 0.1,
            max_bullet_lines: 0.9,
            max_ellipsis_lines: 0.3,
            min_alphabetic: 0.8,
            min_stop_words: 2,
            max_duplicate_paragraphs: 0.3,
            max_duplicate_paragraph_characters: 0.2,
            max_duplicate_lines: 0.3,
            max_duplicate_line_characters: 0.2,
            max_top_ngram: [0.2, 0.18, 0.16],
            max_duplicate_ngram: [0.15, 0.14, 0.13, 0.12, 0.11, 0.1],
            min_punctuated_lines: 0.12,
            max_short_lines: 0.67,
            short_line: 30,
            max_repeated_line_characters: 0.01,
            max_line_ends: 0.3,
            identify: false,
            languages: vec![],
            language_confidence: 0.0,
            masks: vec![],
        }
    }
}

impl CleanConfig {
    /// Whether this can be.
    pub fn check(&self) -> Result<()> {
        self.shares().into_iter().try_for_each(share)?;
        for (name, mean) in [("min_mean_word", self.min_mean_word), ("max_mean_word", self.max_mean_word)] {
            if !mean.is_finite() || mean < 0.0 {
                return Err(Error(format!("clean.{name} is {mean}: expected a number of characters, or 0 for no threshold")));
            }
        }
        self.languages.iter().try_for_each(|code| super::language::check(code))
    }

    /// The settings that are shares of something, by name.
    fn shares(&self) -> Vec<(&'static str, f64)> {
        let mut all = vec![
            ("max_symbols", self.max_symbols),
            ("max_bullet_lines", self.max_bullet_lines),
            ("max_ellipsis_lines", self.max_ellipsis_lines),
            ("min_alphabetic", self.min_alphabetic),
            ("max_duplicate_paragraphs", self.max_duplicate_paragraphs),
            ("max_duplicate_paragraph_characters", self.max_duplicate_paragraph_characters),
            ("max_duplicate_lines", self.max_duplicate_lines),
            ("max_duplicate_line_characters", self.max_duplicate_line_characters),
            ("min_punctuated_lines", self.min_punctuated_lines),
            ("max_short_lines", self.max_short_lines),
            ("max_repeated_line_characters", self.max_repeated_line_characters),
            ("max_line_ends", self.max_line_ends),
            ("language_confidence", self.language_confidence),
        ];
        all.extend(self.max_top_ngram.map(|x| ("max_top_ngram", x)));
        all.extend(self.max_duplicate_ngram.map(|x| ("max_duplicate_ngram", x)));
        all
    }

    /// Whether a filter is on, by itself or with others.
    pub(super) fn has(&self, filter: Filter) -> bool {
        let gopher = matches!(filter, Filter::GopherQuality | Filter::GopherRepetition);
        self.filters.contains(&filter) || (gopher && self.filters.contains(&Filter::Gopher))
    }
}

fn share((name, value): (&str, f64)) -> Result<()> {
    let fine = (0.0..=1.0).contains(&value);
    if fine { Ok(()) } else { Err(Error(format!("clean.{name} is {value}: expected a share from 0 to 1, where 0 is no threshold"))) }
}
