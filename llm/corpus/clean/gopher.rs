//! Gopher's filters, with the definitions of datatrove.

use super::config::CleanConfig;
use super::words::{Grams, duplicates, is_marks, length, share};

const STOP_WORDS: [&str; 8] = ["the", "be", "to", "of", "and", "that", "have", "with"];

/// Why a document is not of Gopher's quality.
pub fn quality(text: &str, words: &[&str], c: &CleanConfig) -> Option<&'static str> {
    let proper: Vec<&&str> = words.iter().filter(|w| !is_marks(w)).collect();
    let mean = proper.iter().map(|w| length(w)).sum::<usize>() as f64 / proper.len().max(1) as f64;
    let a_word = |n: usize| share(n, words.len());
    let (mut lines, mut bullets, mut ellipses) = (0, 0, 0);
    for line in text.lines() {
        lines += 1;
        bullets += usize::from(line.trim_start().starts_with(['•', '-']));
        ellipses += usize::from(ends_in_ellipsis(line.trim_end()));
    }
    let alphabetic = || a_word(words.iter().filter(|w| w.chars().any(char::is_alphabetic)).count());
    let stop_words = || words.iter().filter(|w| STOP_WORDS.contains(w)).count();
    let rules: [(&'static str, bool); 10] = [
        ("gopher-short", proper.len() < c.min_words),
        ("gopher-long", c.max_words > 0 && proper.len() > c.max_words),
        ("gopher-short-words", mean < c.min_mean_word),
        ("gopher-long-words", c.max_mean_word > 0.0 && mean > c.max_mean_word),
        ("gopher-hashes", above(a_word(text.matches('#').count()), c.max_symbols)),
        ("gopher-ellipses", above(a_word(text.matches("...").count() + text.matches('…').count()), c.max_symbols)),
        ("gopher-bullet-lines", above(share(bullets, lines), c.max_bullet_lines)),
        ("gopher-ellipsis-lines", above(share(ellipses, lines), c.max_ellipsis_lines)),
        ("gopher-not-alphabetic", alphabetic() < c.min_alphabetic),
        ("gopher-stop-words", stop_words() < c.min_stop_words),
    ];
    rules.iter().find(|r| r.1).map(|r| r.0)
}

fn ends_in_ellipsis(line: &str) -> bool {
    line.ends_with("...") || line.ends_with('…')
}

/// Whether a share is above a threshold that is switched on.
fn above(value: f64, threshold: f64) -> bool {
    threshold > 0.0 && value > threshold
}

const TOP: [&str; 3] = ["gopher-top-2-gram", "gopher-top-3-gram", "gopher-top-4-gram"];
const REPEATED: [&str; 6] = [
    "gopher-repeated-5-grams",
    "gopher-repeated-6-grams",
    "gopher-repeated-7-grams",
    "gopher-repeated-8-grams",
    "gopher-repeated-9-grams",
    "gopher-repeated-10-grams",
];

/// Why a document repeats itself too often.
pub fn repetition(text: &str, words: &[&str], c: &CleanConfig) -> Option<&'static str> {
    let all = length(text);
    let paragraphs: Vec<&str> = split_runs(text.trim(), 2);
    let (n, characters) = duplicates(paragraphs.iter().copied());
    if above(share(n, paragraphs.len()), c.max_duplicate_paragraphs) {
        return Some("gopher-duplicate-paragraphs");
    }
    if above(share(characters, all), c.max_duplicate_paragraph_characters) {
        return Some("gopher-duplicate-paragraph-characters");
    }
    let lines = split_runs(text, 1);
    let (n, characters) = duplicates(lines.iter().copied());
    if above(share(n, lines.len()), c.max_duplicate_lines) {
        return Some("gopher-duplicate-lines");
    }
    if above(share(characters, all), c.max_duplicate_line_characters) {
        return Some("gopher-duplicate-line-characters");
    }
    let grams = Grams::of(words);
    let top = (0..3).find(|n| c.max_top_ngram[*n] > 0.0 && above(share(grams.top(n + 2), all), c.max_top_ngram[*n]));
    let repeated = || (0..6).find(|n| c.max_duplicate_ngram[*n] > 0.0 && above(share(grams.repeated(n + 5), all), c.max_duplicate_ngram[*n]));
    top.map(|n| TOP[n]).or_else(|| repeated().map(|n| REPEATED[n]))
}

/// What stands between runs of at least so many line ends.
fn split_runs(text: &str, least: usize) -> Vec<&str> {
    let (mut found, mut from, mut at) = (vec![], 0, 0);
    let bytes = text.as_bytes();
    while let Some(n) = text[at..].find('\n') {
        let start = at + n;
        let run = bytes[start..].iter().take_while(|b| **b == b'\n').count();
        at = start + run;
        if run >= least {
            found.push(&text[from..start]);
            from = at;
        }
    }
    found.push(&text[from..]);
    found
}
