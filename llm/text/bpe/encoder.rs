//! Text to ids, a thread's worth: with a memory of the words it has met.

use super::Bpe;
use crate::text::added::Specials;
use xxhash_rust::xxh3::xxh3_64;

/// Encodes text after text. It remembers words, within a bound; what it remembers changes no id.
pub struct Encoder<'b> {
    bpe: &'b Bpe,
    slots: Vec<Slot>,
    /// The words of all slots, one after another, and their ids.
    words: Vec<u8>,
    ids: Vec<u32>,
}

/// A word that was met: its hash, and where it and its ids stand.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    word: (u32, u32),
    ids: (u32, u32),
}

/// Words remembered; a power of two. A word's hash says its slot, and it takes the place of who was there.
const SLOTS: usize = 1 << 16;
/// Bytes of words remembered before all are forgotten.
const MEMORY: usize = 4 << 20;
/// Longer words are not remembered: they are rarely met again.
const LONGEST: usize = 64;

impl<'b> Encoder<'b> {
    pub(super) fn new(bpe: &'b Bpe) -> Encoder<'b> {
        Encoder { bpe, slots: vec![], words: vec![], ids: vec![] }
    }

    /// Appends the ids of a text.
    pub fn encode(&mut self, text: &str, specials: Specials, to: &mut Vec<u32>) {
        let mut at = 0;
        let bpe = self.bpe;
        for found in bpe.added.find(text, specials) {
            self.plain(&text[at..found.start], to);
            to.push(found.id);
            at = found.end;
        }
        self.plain(&text[at..], to);
    }

    /// The same of a text without added tokens.
    fn plain(&mut self, text: &str, to: &mut Vec<u32>) {
        for word in self.bpe.split.words(text) {
            self.word(word.as_bytes(), to);
        }
    }

    fn word(&mut self, word: &[u8], to: &mut Vec<u32>) {
        if let [byte] = word {
            return to.push(self.bpe.merges.bytes[usize::from(*byte)]);
        }
        if word.len() > LONGEST {
            return self.bpe.merges.encode(word, to);
        }
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); SLOTS];
        }
        let hash = xxh3_64(word);
        let at = hash as usize % SLOTS;
        let slot = self.slots[at];
        let known = slot.hash == hash && &self.words[slot.word.0 as usize..slot.word.1 as usize] == word;
        if known {
            return to.extend_from_slice(&self.ids[slot.ids.0 as usize..slot.ids.1 as usize]);
        }
        let start = to.len();
        self.bpe.merges.encode(word, to);
        self.remember(at, hash, word, &to[start..]);
    }

    fn remember(&mut self, at: usize, hash: u64, word: &[u8], ids: &[u32]) {
        if self.words.len() + word.len() > MEMORY {
            self.slots.fill(Slot::default());
            self.words.clear();
            self.ids.clear();
        }
        let (word_at, ids_at) = (self.words.len() as u32, self.ids.len() as u32);
        self.words.extend_from_slice(word);
        self.ids.extend_from_slice(ids);
        self.slots[at] = Slot { hash, word: (word_at, self.words.len() as u32), ids: (ids_at, self.ids.len() as u32) };
    }
}
