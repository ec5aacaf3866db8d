//! How alike texts are, by the least numbers that permutations give to their n-grams of words (MinHash, Broder 1997).
//!
//! Each n-gram is one hash of 64 bits, of which 32 go on; permutation k maps such a number x to `a·x + b` modulo 2³² with an odd `a`, which
//! is a permutation of them, and a text's k-th minimum is the least that its n-grams come to. Two texts have the k-th minimum in common
//! where it comes from an n-gram of both, which of a random permutation is as likely as their similarity: the n-grams of both by those of
//! either. x is a hash and so random already, and with that a permutation so simple is as good as one drawn from all: the errors of
//! estimates are what is expected of independent draws (`tests/corpus_dedup.rs` measures them).

use crate::corpus::words::{Windows, each_hash, mix};
use xxhash_rust::xxh3::xxh3_128;

/// The permutations, and with that how many minima a signature has.
pub struct Permutations {
    factors: Vec<i32>,
    terms: Vec<i32>,
}

/// The minima of a text, as many as there are permutations. They are compared as signed numbers, of which processors have the least sooner.
pub type Signature = Vec<i32>;

impl Permutations {
    /// As many permutations as asked for, drawn with a seed.
    pub fn new(seed: u64, count: usize) -> Permutations {
        let draw = |k: usize| mix(mix(seed).wrapping_add(k as u64 + 1)) >> 32;
        let factors = (0..count).map(|k| (draw(2 * k) | 1) as u32 as i32).collect();
        Permutations { factors, terms: (0..count).map(|k| draw(2 * k + 1) as u32 as i32).collect() }
    }

    /// The signature of a text by its n-grams of words; of one with fewer words by all of them at once. None of a text without words.
    pub fn signature(&self, text: &str, ngram: usize) -> Option<Signature> {
        let mut minima = vec![i32::MAX; self.factors.len()];
        let mut windows = Windows::new(ngram);
        let mut any = false;
        each_hash(text, |word| {
            if let Some(hash) = windows.push(word) {
                self.lower(&mut minima, hash);
                any = true;
            }
        });
        if let Some(hash) = windows.short() {
            self.lower(&mut minima, hash);
            any = true;
        }
        any.then_some(minima)
    }

    /// Takes an n-gram into the minima.
    fn lower(&self, minima: &mut [i32], hash: u64) {
        let x = (hash >> 32) as u32 as i32;
        for ((least, a), b) in minima.iter_mut().zip(&self.factors).zip(&self.terms) {
            *least = (*least).min(a.wrapping_mul(x).wrapping_add(*b));
        }
    }
}

/// The keys of a signature's bands, each of so many rows: 128 bits of the band's number and its minima.
pub fn band_keys(signature: &[i32], rows: usize) -> impl Iterator<Item = u128> + '_ {
    let mut bytes = Vec::with_capacity(4 + 4 * rows);
    signature.chunks_exact(rows).enumerate().map(move |(band, minima)| {
        bytes.clear();
        bytes.extend((band as u32).to_le_bytes());
        minima.iter().for_each(|m| bytes.extend(m.to_le_bytes()));
        xxh3_128(&bytes)
    })
}

/// The share of equal minima, which estimates the similarity.
pub fn similarity(a: &[i32], b: &[i32]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}
