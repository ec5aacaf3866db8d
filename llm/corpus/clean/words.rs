//! Words, lines and repetitions, as filters count them.

use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// The words of a text: what stands between white space, where marks at both ends are words of their own, a run of one mark being one. So
/// `"Well..."` is `"`, `Well`, `...` and `"`; marks inside a word, as in `don't`, are part of it.
pub fn words(text: &str) -> Vec<&str> {
    let mut found = vec![];
    text.split_whitespace().for_each(|w| split(w, &mut found));
    found
}

fn split<'a>(word: &'a str, found: &mut Vec<&'a str>) {
    let start = word.find(|c| !is_mark(c)).unwrap_or(word.len());
    let end = word.rfind(|c| !is_mark(c)).map_or(start, |n| n + word[n..].chars().next().map_or(0, char::len_utf8));
    marks(&word[..start], found);
    if start < end {
        found.push(&word[start..end]);
    }
    marks(&word[end..], found);
}

/// Marks, of which a run of one is one.
fn marks<'a>(text: &'a str, found: &mut Vec<&'a str>) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let n = rest.find(|c| c != first).unwrap_or(rest.len());
        found.push(&rest[..n]);
        rest = &rest[n..];
    }
}

/// Whether a character is punctuation or another sign, and no part of a word.
fn is_mark(c: char) -> bool {
    !c.is_alphanumeric() && !is_part_of_word(c)
}

/// Signs that words are written with: what modifies a letter, which Unicode does not count among letters.
fn is_part_of_word(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{900}'..='\u{DFF}' | '\u{E30}'..='\u{E4E}' | '\u{200C}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}')
}

/// Whether a word is marks alone.
pub fn is_marks(word: &str) -> bool {
    word.chars().all(is_mark)
}

/// Characters of a text.
pub fn length(text: &str) -> usize {
    // bytes that do not continue a character; faster than decoding
    text.bytes().filter(|b| (*b as i8) >= -0x40).count()
}

/// A share of a whole; of nothing there is none.
pub fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How many texts occurred before among them, and their characters.
pub fn duplicates<'a>(texts: impl Iterator<Item = &'a str>) -> (usize, usize) {
    let mut seen = std::collections::HashSet::new();
    texts.filter(|t| !seen.insert(*t)).fold((0, 0), |(n, characters), t| (n + 1, characters + length(t)))
}

/// Words with their hashes and lengths, counted once for all lengths of n-grams.
pub struct Grams {
    hashes: Vec<u64>,
    /// Characters of all words before each.
    before: Vec<usize>,
}

impl Grams {
    /// Of the words of a text.
    pub fn of(words: &[&str]) -> Grams {
        let mut before = vec![0];
        words.iter().for_each(|w| before.push(before[before.len() - 1] + length(w)));
        Grams { hashes: words.iter().map(|w| xxh3_64(w.as_bytes())).collect(), before }
    }

    /// The hash of `n` words from a place.
    fn hash(&self, at: usize, n: usize) -> u64 {
        self.hashes[at..at + n].iter().fold(n as u64, |h, w| (h ^ w).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
    }

    /// Characters of `n` words from a place, without spaces.
    fn characters(&self, at: usize, n: usize) -> usize {
        self.before[at + n] - self.before[at]
    }

    /// The places where `n` words begin.
    fn places(&self, n: usize) -> std::ops::Range<usize> {
        0..(self.hashes.len() + 1).saturating_sub(n)
    }

    /// The characters, with spaces between words, of all occurrences of the most frequent `n` words: of several the first.
    pub fn top(&self, n: usize) -> usize {
        let hashes: Vec<u64> = self.places(n).map(|at| self.hash(at, n)).collect();
        let mut counts: HashMap<u64, usize> = HashMap::with_capacity(hashes.len());
        hashes.iter().for_each(|h| *counts.entry(*h).or_default() += 1);
        let most = counts.values().copied().max().unwrap_or(0);
        let first = hashes.iter().position(|h| counts[h] == most);
        first.map_or(0, |at| (self.characters(at, n) + n - 1) * most)
    }

    /// The characters, without spaces, of `n` words that occurred before. Those found are not part of the next.
    pub fn repeated(&self, n: usize) -> usize {
        let mut seen = std::collections::HashSet::with_capacity(self.hashes.len());
        let (mut at, mut characters) = (0, 0);
        while at < self.places(n).end {
            let is_new = seen.insert(self.hash(at, n));
            characters += if is_new { 0 } else { self.characters(at, n) };
            at += if is_new { 1 } else { n };
        }
        characters
    }
}
