//! What counting would do: n-grams with added counts, the baselines of a model of a text.

use rustc_hash::FxHashMap;

/// The lengths that are counted: a token and up to five before it.
pub const ORDERS: usize = 6;

/// What is added to every count.
pub const SMOOTHING: f64 = 0.1;

/// Counts, in a text to learn from, of the n-grams of another text, which is the one that is guessed: memory follows that one's length.
///
/// p(x | h) = (count(h x) + a) / (count(h ·) + a V), where h are the n − 1 symbols before x, or as many as there are.
pub struct Counting {
    /// The text that is guessed.
    asked: Vec<i32>,
    /// Each n-gram by the one that it goes on from, 0 for none, and its last symbol.
    tree: FxHashMap<(u32, i32), u32>,
    /// How often each is there.
    count: Vec<u64>,
    /// How often each goes on.
    goes_on: Vec<u64>,
    /// The last symbols of what was learned from, for what comes next.
    tail: Vec<i32>,
}

impl Counting {
    /// Of a text that is guessed; nothing is counted yet.
    pub fn of(asked: Vec<i32>) -> Counting {
        let mut out = Counting { asked, tree: FxHashMap::default(), count: vec![0], goes_on: vec![0], tail: vec![] };
        for start in 0..out.asked.len() {
            let mut at = 0;
            for i in start..out.asked.len().min(start + ORDERS) {
                let next = out.count.len() as u32;
                at = *out.tree.entry((at, out.asked[i])).or_insert(next);
                if at == next {
                    out.count.push(0);
                    out.goes_on.push(0);
                }
            }
        }
        out
    }

    /// Learns from the next part of a text.
    pub fn learn(&mut self, part: &[i32]) {
        let all: Vec<i32> = self.tail.iter().chain(part).copied().collect();
        let before = self.tail.len();
        for start in 0..all.len() {
            let mut at = 0;
            for (i, symbol) in all.iter().enumerate().skip(start).take(ORDERS) {
                // what was there before is counted
                let new = i >= before;
                self.goes_on[at as usize] += u64::from(new);
                let Some(next) = self.tree.get(&(at, *symbol)) else { break };
                at = *next;
                self.count[at as usize] += u64::from(new);
            }
        }
        self.tail = all[all.len() - all.len().min(ORDERS - 1)..].to_vec();
    }

    /// −Σ log p of the text from a symbol on, in nats, by n-grams of a length of 1 to [`ORDERS`], of symbols of which there are so many.
    pub fn nats(&self, order: usize, first: usize, symbols: usize) -> f64 {
        let one = |i: usize| {
            let start = (i + 1).saturating_sub(order);
            let history = self.asked[start..i].iter().fold(0, |at, symbol| self.tree[&(at, *symbol)]);
            let count = self.count[self.tree[&(history, self.asked[i])] as usize] as f64;
            -((count + SMOOTHING) / (self.goes_on[history as usize] as f64 + SMOOTHING * symbols as f64)).ln()
        };
        (first..self.asked.len()).map(one).sum()
    }
}
