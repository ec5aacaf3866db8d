//! Which pairs of tokens become one, and a word's way from bytes to tokens.

use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The pairs that become one token, and in which order of preference.
#[derive(Clone, Debug, Default)]
pub struct Merges {
    /// The id of each byte.
    pub bytes: Vec<u32>,
    /// The rank of a pair, lowest first, and the id it becomes.
    pub pairs: FxHashMap<(u32, u32), (u32, u32)>,
    /// Words that are tokens whatever their pairs are; nothing where that is not asked.
    pub whole: FxHashMap<Vec<u8>, u32>,
}

/// One merge of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The two ids.
    pub pair: (u32, u32),
    /// The rank of the pair.
    pub rank: u32,
    /// The word after it.
    pub word: Vec<u32>,
}

/// Words up to this length are searched for their best pair again and again; longer ones keep their pairs in a heap.
const SHORT: usize = 64;

impl Merges {
    /// Appends the ids of a word.
    pub fn encode(&self, word: &[u8], to: &mut Vec<u32>) {
        if let Some(id) = self.whole.get(word) {
            return to.push(*id);
        }
        let start = to.len();
        to.extend(word.iter().map(|b| self.bytes[usize::from(*b)]));
        if word.len() <= SHORT {
            self.merge_short(to, start);
        } else {
            let merged = self.merge_long(&to[start..]);
            to.truncate(start);
            to.extend(merged);
        }
    }

    /// Every merge of a word, in order.
    pub fn steps(&self, word: &[u8]) -> Vec<Step> {
        let mut ids: Vec<u32> = word.iter().map(|b| self.bytes[usize::from(*b)]).collect();
        let mut steps = vec![];
        while let Some((rank, at)) = best(&ids.windows(2).map(|w| self.rank(w[0], w[1])).collect::<Vec<_>>()) {
            let pair = (ids[at], ids[at + 1]);
            ids[at] = self.pairs[&pair].1;
            ids.remove(at + 1);
            steps.push(Step { pair, rank, word: ids.clone() });
        }
        steps
    }

    /// The rank of a pair; the highest number for one that stays two.
    fn rank(&self, a: u32, b: u32) -> u32 {
        self.pairs.get(&(a, b)).map_or(u32::MAX, |p| p.0)
    }

    /// Merges what stands from `start` on, in time quadratic in its length.
    fn merge_short(&self, ids: &mut Vec<u32>, start: usize) {
        let mut ranks = [u32::MAX; SHORT];
        let mut n = ids.len() - start;
        for i in 0..n.saturating_sub(1) {
            ranks[i] = self.rank(ids[start + i], ids[start + i + 1]);
        }
        while let Some((_, at)) = best(&ranks[..n.saturating_sub(1)]) {
            let i = start + at;
            ids[i] = self.pairs[&(ids[i], ids[i + 1])].1;
            ids.remove(i + 1);
            ranks.copy_within(at + 1..n - 1, at);
            n -= 1;
            if at + 1 < n {
                ranks[at] = self.rank(ids[i], ids[i + 1]);
            }
            if at > 0 {
                ranks[at - 1] = self.rank(ids[i - 1], ids[i]);
            }
        }
    }

    /// The same in time n log n: a list of tokens linked both ways, and a heap of their pairs.
    fn merge_long(&self, ids: &[u32]) -> Vec<u32> {
        let mut word = Linked::of(ids);
        let mut heap: BinaryHeap<Reverse<(u32, u32, u32, u32)>> = BinaryHeap::with_capacity(ids.len());
        let push = |heap: &mut BinaryHeap<_>, word: &Linked, at: u32| {
            if let Some((a, b)) = word.pair(at)
                && let Some((rank, _)) = self.pairs.get(&(a, b))
            {
                heap.push(Reverse((*rank, at, a, b)));
            }
        };
        (0..ids.len() as u32).for_each(|at| push(&mut heap, &word, at));
        while let Some(Reverse((_, at, a, b))) = heap.pop() {
            // what was a pair when it was pushed may have gone
            if word.pair(at) == Some((a, b)) {
                word.merge(at, self.pairs[&(a, b)].1);
                push(&mut heap, &word, at);
                if let Some(before) = word.before(at) {
                    push(&mut heap, &word, before);
                }
            }
        }
        word.ids()
    }
}

/// The lowest rank and where it stands first; none where no pair merges.
fn best(ranks: &[u32]) -> Option<(u32, usize)> {
    let (mut low, mut at) = (u32::MAX, 0);
    for (i, rank) in ranks.iter().enumerate() {
        if *rank < low {
            (low, at) = (*rank, i);
        }
    }
    (low != u32::MAX).then_some((low, at))
}

/// Tokens in a row, from which one can be taken out at once. The end of either direction is [`NONE`].
struct Linked {
    ids: Vec<u32>,
    next: Vec<u32>,
    before: Vec<u32>,
}

/// No place; and the id of a token that is gone.
const NONE: u32 = u32::MAX;

impl Linked {
    fn of(ids: &[u32]) -> Linked {
        let n = ids.len() as u32;
        let next = (1..=n).map(|i| if i < n { i } else { NONE }).collect();
        let before = (0..n).map(|i| i.checked_sub(1).unwrap_or(NONE)).collect();
        Linked { ids: ids.to_vec(), next, before }
    }

    fn pair(&self, at: u32) -> Option<(u32, u32)> {
        let (id, next) = (self.ids[at as usize], self.next[at as usize]);
        (id != NONE && next != NONE).then(|| (id, self.ids[next as usize]))
    }

    fn before(&self, at: u32) -> Option<u32> {
        Some(self.before[at as usize]).filter(|b| *b != NONE)
    }

    /// Puts a token in the place of two.
    fn merge(&mut self, at: u32, id: u32) {
        let gone = self.next[at as usize] as usize;
        let next = self.next[gone];
        (self.ids[at as usize], self.ids[gone], self.next[at as usize]) = (id, NONE, next);
        if next != NONE {
            self.before[next as usize] = at;
        }
    }

    fn ids(self) -> Vec<u32> {
        self.ids.into_iter().filter(|id| *id != NONE).collect()
    }
}
