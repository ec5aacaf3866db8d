//! Pieces of a text that can go, and what each is known by.

use super::config::DedupKind;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_128;

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// What goes with it: the piece, and what separates it from the next.
    pub range: Range<usize>,
    /// What it says.
    pub text: &'a str,
}

impl Piece<'_> {
    /// Whether there are so many words in it.
    pub fn has_words(&self, least: usize) -> bool {
        least == 0 || self.text.split_whitespace().nth(least - 1).is_some()
    }
}

impl DedupKind {
    /// How many pieces of this kind a text has: numbers of pieces go on from document to document.
    pub(super) fn pieces(self, text: &str) -> u64 {
        match self {
            DedupKind::Documents | DedupKind::Near => 1,
            DedupKind::Paragraphs => paragraphs(text).len() as u64,
            DedupKind::Lines => lines(text).count() as u64,
            DedupKind::Substrings => words(text).count() as u64,
        }
    }
}

/// The lines of a text, with their ends.
pub fn lines(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        Piece { range: start..at, text: line.trim_end_matches(['\n', '\r']) }
    })
}

/// The paragraphs of a text: lines that are not blank, with the blank ones that follow them.
pub fn paragraphs(text: &str) -> Vec<Piece<'_>> {
    let mut found: Vec<Piece> = vec![];
    let mut after_blank = true;
    for line in lines(text) {
        let blank = line.text.trim().is_empty();
        match found.last_mut() {
            Some(last) if blank => last.range.end = line.range.end,
            // what stands between the two is the lines' ends
            Some(last) if !after_blank => {
                last.text = &text[last.range.start..line.range.start + line.text.len()];
                last.range.end = line.range.end;
            }
            _ if blank => {}
            _ => found.push(line),
        }
        after_blank = blank;
    }
    found
}

/// The words of a text as they are written: what spaces separate, with the spaces that follow.
pub fn words(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut at = text.len() - text.trim_start().len();
    std::iter::from_fn(move || {
        let rest = &text[at..];
        if rest.is_empty() {
            return None;
        }
        let word = &rest[..rest.find(char::is_whitespace).unwrap_or(rest.len())];
        let space = rest[word.len()..].find(|c: char| !c.is_whitespace()).map_or(rest.len(), |n| word.len() + n);
        at += space;
        Some(Piece { range: at - space..at, text: word })
    })
}

/// An odd number of 128 bits whose powers weigh the words of a passage.
const BASE: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// A key for each passage of so many words, in order of their first words.
///
/// It is the sum of the words' hashes of 128 bits, weighed with powers of a number, modulo 2¹²⁸: each is made from the one before it, at a
/// price that does not depend on the length.
pub fn passages(text: &str, length: usize) -> impl Iterator<Item = u128> + '_ {
    let oldest = (1..length).fold(1u128, |power, _| power.wrapping_mul(BASE));
    let mut ring = vec![0u128; length];
    let (mut sum, mut seen) = (0u128, 0);
    words(text).filter_map(move |word| {
        let hash = xxh3_128(word.text.as_bytes());
        let place = &mut ring[seen % length];
        sum = sum.wrapping_sub(place.wrapping_mul(oldest)).wrapping_mul(BASE).wrapping_add(hash);
        *place = hash;
        seen += 1;
        (seen >= length).then_some(sum)
    })
}
