//! Words of a text, as documents are compared by.

use xxhash_rust::xxh3::xxh3_64;

/// Calls a function with each word of a text: a run of letters and digits in lower case. A character of a script that is written without
/// spaces is a word by itself.
pub fn each_word(text: &str, mut take: impl FnMut(&str)) {
    let mut word = String::new();
    let end = |word: &mut String, take: &mut dyn FnMut(&str)| {
        if !word.is_empty() {
            take(word);
            word.clear();
        }
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        } else if c.is_ascii() || !c.is_alphanumeric() {
            end(&mut word, &mut take);
        } else if without_spaces(c) {
            end(&mut word, &mut take);
            word.push(c);
            end(&mut word, &mut take);
        } else {
            word.extend(c.to_lowercase());
        }
    }
    end(&mut word, &mut take);
}

/// Calls a function with the hash of each word.
pub fn each_hash(text: &str, mut take: impl FnMut(u64)) {
    each_word(text, |word| take(xxh3_64(word.as_bytes())));
}

/// Thai, Lao, Myanmar, Khmer, kana and Han.
fn without_spaces(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// An odd number whose powers weigh the words of a window.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes of all windows of so many words, in order: each is made from the one before it.
pub struct Windows {
    ring: Vec<u64>,
    at: usize,
    seen: usize,
    sum: u64,
    /// What the oldest word of a window is weighed with.
    oldest: u64,
}

impl Windows {
    /// Windows of `length` words, at least 1.
    pub fn new(length: usize) -> Windows {
        let oldest = (1..length).fold(1u64, |power, _| power.wrapping_mul(BASE));
        Windows { ring: vec![0; length.max(1)], at: 0, seen: 0, sum: 0, oldest }
    }

    /// Takes the hash of the next word, and gives the hash of the window that ends with it, where there are words enough.
    pub fn push(&mut self, word: u64) -> Option<u64> {
        self.sum = self.sum.wrapping_sub(self.ring[self.at].wrapping_mul(self.oldest)).wrapping_mul(BASE).wrapping_add(word);
        self.ring[self.at] = word;
        self.at = if self.at + 1 == self.ring.len() { 0 } else { self.at + 1 };
        self.seen += 1;
        (self.seen >= self.ring.len()).then(|| mix(self.sum))
    }

    /// The hash of all words so far, where they are fewer than a window has; none of no words.
    pub fn short(&self) -> Option<u64> {
        (self.seen > 0 && self.seen < self.ring.len()).then(|| mix(self.sum))
    }
}

/// Spreads every bit of a number over all of them (the end of SplitMix64).
pub fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
