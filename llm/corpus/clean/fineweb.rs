//! FineWeb's own filters, with the definitions of datatrove.

use super::config::CleanConfig;
use super::words::{duplicates, length, share};

/// Why a document is not of FineWeb's quality.
pub fn quality(text: &str, words: &[&str], c: &CleanConfig) -> Option<&'static str> {
    let lines: Vec<&str> = text.split('\n').collect();
    let of_lines = |test: &dyn Fn(&str) -> bool| share(lines.iter().filter(|l| test(l)).count(), lines.len());
    let punctuated = of_lines(&|l| l.ends_with(['.', '\'', '"', '!', '?']));
    if c.min_punctuated_lines > 0.0 && punctuated <= c.min_punctuated_lines {
        return Some("fineweb-punctuation");
    }
    if c.max_short_lines > 0.0 && of_lines(&|l| length(l) <= c.short_line) >= c.max_short_lines {
        return Some("fineweb-short-lines");
    }
    let characters = length(text) - (lines.len() - 1);
    let repeated = duplicates(lines.iter().copied().filter(|l| !l.trim().is_empty())).1;
    if c.max_repeated_line_characters > 0.0 && share(repeated, characters) >= c.max_repeated_line_characters {
        return Some("fineweb-repeated-lines");
    }
    (c.max_line_ends > 0.0 && share(lines.len() - 1, words.len()) > c.max_line_ends).then_some("fineweb-lists")
}
