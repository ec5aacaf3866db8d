//! Which pairs become tokens: the most frequent one, again and again.

use rustc_hash::FxHashMap;
use std::collections::BinaryHeap;

/// What was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The pairs in order, and the id that each becomes.
    pub pairs: Vec<((u32, u32), u32)>,
    /// How often each stood in the words when it was chosen.
    pub counts: Vec<u64>,
    /// The tokens by id, those that were given first.
    pub tokens: Vec<Vec<u8>>,
}

/// Tokens, and how two become one.
pub struct Alphabet<'a> {
    /// The tokens that words are made of at first, and others that take an id.
    pub tokens: Vec<Vec<u8>>,
    /// What two tokens are together. Where that is a token already, the pair becomes it.
    pub join: &'a dyn Fn(&[u8], &[u8]) -> Vec<u8>,
    /// Which of several pairs that are equally frequent is first.
    pub ties: Ties,
}

/// Which of several pairs that are equally frequent becomes a token first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// The one of lower ids, so that the order of words does not matter.
    #[default]
    LowerIds,
    /// The one that stands first in the words as they are given: what a dictionary of counts gives, and books have. It costs a search.
    First,
}

/// A pair in the heap. The most frequent is the greatest; of equals the one of lower ids.
#[derive(PartialEq, Eq)]
struct Candidate {
    count: u64,
    pair: (u32, u32),
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> std::cmp::Ordering {
        self.count.cmp(&other.count).then(other.pair.cmp(&self.pair))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Where a pair stands: how often, and in which words it did at some time.
#[derive(Default)]
struct Places {
    count: u64,
    words: Vec<u32>,
}

/// Words with their counts, and where their pairs are.
struct Words {
    /// All words' ids in a row, and where each word begins; a word that has shrunk leaves room behind it.
    ids: Vec<u32>,
    start: Vec<usize>,
    len: Vec<u32>,
    counts: Vec<u64>,
}

/// Learns pairs from words and their counts until there are `size` tokens. A pair must stand at least `least` times (and once). `each` is
/// told the number of tokens so far, and ends the work with `false`.
pub fn learn(
    words: impl Iterator<Item = (Vec<u32>, u64)>,
    alphabet: Alphabet,
    size: usize,
    least: u64,
    each: &mut dyn FnMut(usize) -> bool,
) -> Learned {
    let mut ids: FxHashMap<Vec<u8>, u32> = alphabet.tokens.iter().enumerate().map(|(id, t)| (t.clone(), id as u32)).collect();
    let mut words = Words::of(words);
    let mut places = words.places();
    let mut heap: BinaryHeap<Candidate> = places.iter().map(|(pair, p)| Candidate { count: p.count, pair: *pair }).collect();
    let mut learned = Learned { pairs: vec![], counts: vec![], tokens: alphabet.tokens };
    let mut changed: Vec<(u32, u32)> = vec![];
    while learned.tokens.len() < size && each(learned.tokens.len()) {
        let Some(Candidate { count, pair }) = heap.pop() else { break };
        let now = places.get(&pair).map_or(0, |p| p.count);
        if now != count {
            // it lost some since it was pushed
            if now > 0 {
                heap.push(Candidate { count: now, pair });
            }
            continue;
        }
        if count < least.max(1) {
            break;
        }
        let pair = match alphabet.ties {
            Ties::LowerIds => pair,
            Ties::First => first_of(pair, count, &words, &places, &mut heap),
        };
        let token = (alphabet.join)(&learned.tokens[pair.0 as usize], &learned.tokens[pair.1 as usize]);
        let id = *ids.entry(token.clone()).or_insert(learned.tokens.len() as u32);
        if id as usize == learned.tokens.len() {
            learned.tokens.push(token);
        }
        let found = places.remove(&pair).expect("it was just looked at");
        changed.clear();
        for word in found.words {
            words.merge(word, pair, id, &mut places, &mut changed);
        }
        changed.sort_unstable();
        changed.dedup();
        heap.extend(changed.iter().filter_map(|p| places.get(p).filter(|c| c.count > 0).map(|c| Candidate { count: c.count, pair: *p })));
        learned.pairs.push((pair, id));
        learned.counts.push(count);
    }
    learned
}

/// Of a pair and all others of its count the one that stands first; the others go back to the heap.
fn first_of(pair: (u32, u32), count: u64, words: &Words, places: &FxHashMap<(u32, u32), Places>, heap: &mut BinaryHeap<Candidate>) -> (u32, u32) {
    let mut equal = vec![pair];
    while heap.peek().is_some_and(|c| c.count == count) {
        let pair = heap.pop().expect("it was just seen").pair;
        match places.get(&pair).map_or(0, |p| p.count) {
            now if now == count => equal.push(pair),
            // it lost some since it was pushed
            0 => {}
            now => heap.push(Candidate { count: now, pair }),
        }
    }
    let first = equal.iter().copied().min_by_key(|p| words.first(*p, &places[p])).expect("there is one");
    equal.sort_unstable();
    equal.dedup();
    heap.extend(equal.into_iter().filter(|p| *p != first).map(|pair| Candidate { count, pair }));
    first
}

impl Words {
    /// Where a pair stands first: the word, and the place in it.
    fn first(&self, pair: (u32, u32), places: &Places) -> Option<(u32, usize)> {
        let at = |word: u32| {
            let ids = &self.ids[self.start[word as usize]..][..self.len[word as usize] as usize];
            ids.windows(2).position(|w| (w[0], w[1]) == pair).map(|at| (word, at))
        };
        places.words.iter().filter_map(|w| at(*w)).min()
    }

    fn of(words: impl Iterator<Item = (Vec<u32>, u64)>) -> Words {
        let mut all = Words { ids: vec![], start: vec![], len: vec![], counts: vec![] };
        // a word of one token has no pair
        for (ids, count) in words.filter(|w| w.0.len() > 1 && w.1 > 0) {
            all.start.push(all.ids.len());
            all.len.push(ids.len() as u32);
            all.counts.push(count);
            all.ids.extend(ids);
        }
        all
    }

    fn places(&self) -> FxHashMap<(u32, u32), Places> {
        let mut places: FxHashMap<(u32, u32), Places> = FxHashMap::default();
        for word in 0..self.start.len() {
            for pair in self.ids[self.start[word]..][..self.len[word] as usize].windows(2) {
                let place = places.entry((pair[0], pair[1])).or_default();
                place.count += self.counts[word];
                if place.words.last() != Some(&(word as u32)) {
                    place.words.push(word as u32);
                }
            }
        }
        places
    }

    /// Merges a pair in a word, from the left, and counts the pairs that go and come.
    fn merge(&mut self, word: u32, pair: (u32, u32), id: u32, places: &mut FxHashMap<(u32, u32), Places>, changed: &mut Vec<(u32, u32)>) {
        let (start, n, count) = (self.start[word as usize], self.len[word as usize] as usize, self.counts[word as usize]);
        let ids = &mut self.ids[start..start + n];
        let (mut from, mut to) = (0, 0);
        while from < n {
            if from + 1 == n || (ids[from], ids[from + 1]) != pair {
                ids[to] = ids[from];
                (from, to) = (from + 1, to + 1);
                continue;
            }
            let before = to.checked_sub(1).map(|i| ids[i]);
            let after = ids.get(from + 2).copied();
            ids[to] = id;
            (from, to) = (from + 2, to + 1);
            if let Some(before) = before {
                // where the token before is new, its old pair was with the first half of this one
                less(places, (before, pair.0), count);
                more(places, (before, id), count, word, changed);
            }
            if let Some(after) = after {
                less(places, (pair.1, after), count);
                more(places, (id, after), count, word, changed);
            }
        }
        self.len[word as usize] = to as u32;
    }
}

/// A pair goes. One that is not counted any more, as the pair that is being merged, needs none.
fn less(places: &mut FxHashMap<(u32, u32), Places>, pair: (u32, u32), count: u64) {
    if let Some(place) = places.get_mut(&pair) {
        place.count = place.count.saturating_sub(count);
    }
}

fn more(places: &mut FxHashMap<(u32, u32), Places>, pair: (u32, u32), count: u64, word: u32, changed: &mut Vec<(u32, u32)>) {
    let place = places.entry(pair).or_default();
    place.count += count;
    if place.words.last() != Some(&word) {
        place.words.push(word);
    }
    changed.push(pair);
}
