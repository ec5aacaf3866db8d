//! Pieces of words and their probabilities: a unigram language model by expectation maximisation (Kudo, 2018, as SentencePiece has it).
//!
//! It begins with every substring that is frequent and throws away, round by round, those without which the text is as likely. The library
//! that runs such models learns them, too, but sums in the order of a hash, so that no two runs give the same; here every sum has an order.

use rustc_hash::FxHashMap;

/// Characters of the longest piece.
const LONGEST: usize = 16;
/// Pieces to begin with, at most.
const SEEDS: usize = 1_000_000;
/// Words whose substrings are looked at, the most frequent ones.
const SEED_WORDS: usize = 200_000;
/// Share of the pieces that outlive a round.
const KEPT: f64 = 0.75;
/// Rounds of expectation and maximisation between two prunings.
const ROUNDS: usize = 2;
/// Parts of the words that are summed apart, and then added in order, whatever the threads.
const PARTS: usize = 64;

/// A word with its characters' ends, and how often it stands in the text.
struct Word<'w> {
    text: &'w str,
    ends: Vec<usize>,
    count: f64,
}

impl<'w> Word<'w> {
    fn of(text: &'w str, count: u64) -> Word<'w> {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8()).collect();
        Word { text, ends, count: count as f64 }
    }

    fn start(&self, character: usize) -> usize {
        character.checked_sub(1).map_or(0, |c| self.ends[c])
    }
}

/// Pieces with their log-probabilities. Characters are never thrown away.
struct Pieces {
    list: Vec<(String, f64)>,
    ids: FxHashMap<String, usize>,
}

impl Pieces {
    fn of(list: Vec<(String, f64)>) -> Pieces {
        let ids = list.iter().enumerate().map(|(id, p)| (p.0.clone(), id)).collect();
        Pieces { list, ids }
    }

    fn is_character(&self, id: usize) -> bool {
        self.list[id].0.chars().nth(1).is_none()
    }

    /// The pieces of a word as edges: each from the character it begins at to the one behind it, in order.
    fn edges(&self, word: &Word) -> Vec<(usize, usize, usize)> {
        let mut edges = vec![];
        for from in 0..word.ends.len() {
            for to in from + 1..=(from + LONGEST).min(word.ends.len()) {
                if let Some(id) = self.ids.get(&word.text[word.start(from)..word.ends[to - 1]]) {
                    edges.push((from, to, *id));
                }
            }
        }
        edges
    }

    /// The likeliest pieces of a word, none of them `without`.
    fn best(&self, word: &Word, without: Option<usize>) -> Option<Vec<usize>> {
        let n = word.ends.len();
        let mut best = vec![(f64::NEG_INFINITY, 0, 0); n + 1];
        best[0].0 = 0.0;
        for (from, to, id) in self.edges(word).into_iter().filter(|e| Some(e.2) != without) {
            let score = best[from].0 + self.list[id].1;
            if score > best[to].0 {
                best[to] = (score, from, id);
            }
        }
        let (mut at, mut path) = (n, vec![]);
        while at > 0 {
            if best[at].0 == f64::NEG_INFINITY {
                return None;
            }
            path.push(best[at].2);
            at = best[at].1;
        }
        path.reverse();
        Some(path)
    }

    /// Adds how often each piece is expected in a word, over all ways to cut it.
    fn expect(&self, word: &Word, counts: &mut [f64]) {
        let (n, edges) = (word.ends.len(), self.edges(word));
        let (mut before, mut after) = (vec![f64::NEG_INFINITY; n + 1], vec![f64::NEG_INFINITY; n + 1]);
        (before[0], after[n]) = (0.0, 0.0);
        for &(from, to, id) in &edges {
            before[to] = log_add(before[to], before[from] + self.list[id].1);
        }
        for &(from, to, id) in edges.iter().rev() {
            after[from] = log_add(after[from], after[to] + self.list[id].1);
        }
        if before[n].is_finite() {
            for (from, to, id) in edges {
                counts[id] += word.count * (before[from] + self.list[id].1 + after[to] - before[n]).exp();
            }
        }
    }
}

fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// The pieces of words, `size` of them where there are so many, with log-probabilities, the likeliest first. `each` is told how many there
/// are after each round, and ends the work with `false`.
pub fn learn(words: &[(&str, u64)], size: usize, threads: usize, each: &mut dyn FnMut(usize) -> bool) -> Vec<(String, f64)> {
    let words: Vec<Word> = words.iter().map(|(text, count)| Word::of(text, *count)).collect();
    let mut pieces = seeds(&words);
    // a tenth more, of which the least likely go at the end
    let desired = size + size / 10;
    loop {
        for _ in 0..ROUNDS {
            let counts = summed(&words, pieces.list.len(), threads, &|word, counts| pieces.expect(word, counts));
            pieces = maximised(&pieces, &counts);
        }
        if pieces.list.len() <= desired || !each(pieces.list.len()) {
            break;
        }
        let before = pieces.list.len();
        pieces = pruned(&pieces, &words, desired, threads);
        if pieces.list.len() == before {
            break;
        }
    }
    last(pieces, size)
}

/// Every character, and the substrings that stand in the words at least twice, those of most characters in all first.
fn seeds(words: &[Word]) -> Pieces {
    let mut characters: FxHashMap<&str, f64> = FxHashMap::default();
    let mut longer: FxHashMap<&str, f64> = FxHashMap::default();
    let mut order: Vec<&Word> = words.iter().collect();
    order.sort_by(|a, b| b.count.total_cmp(&a.count).then(a.text.cmp(b.text)));
    for word in words {
        (0..word.ends.len()).for_each(|c| *characters.entry(&word.text[word.start(c)..word.ends[c]]).or_default() += word.count);
    }
    for word in order.into_iter().take(SEED_WORDS) {
        for from in 0..word.ends.len() {
            for to in from + 2..=(from + LONGEST).min(word.ends.len()) {
                *longer.entry(&word.text[word.start(from)..word.ends[to - 1]]).or_default() += word.count;
            }
        }
    }
    let mut found: Vec<(String, f64)> =
        longer.into_iter().filter(|s| s.1 >= 2.0).map(|(s, n)| (s.to_string(), n * s.chars().count() as f64)).collect();
    found.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.truncate(SEEDS);
    let mut all: Vec<(String, f64)> = characters.into_iter().map(|(c, n)| (c.to_string(), n)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all.extend(found);
    let sum: f64 = all.iter().map(|p| p.1).sum();
    all.iter_mut().for_each(|p| p.1 = (p.1 / sum).ln());
    Pieces::of(all)
}

/// Sums over words what a function adds for each, in threads.
fn summed(words: &[Word], n: usize, threads: usize, add: &(dyn Fn(&Word, &mut [f64]) + Sync)) -> Vec<f64> {
    let parts: Vec<&[Word]> = words.chunks(words.len().div_ceil(PARTS).max(1)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = vec![];
        loop {
            let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(part) = parts.get(at) else { return done };
            let mut counts = vec![0.0; n];
            part.iter().for_each(|w| add(w, &mut counts));
            done.push((at, counts));
        }
    };
    let mut all: Vec<(usize, Vec<f64>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.clamp(1, PARTS)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    all.sort_by_key(|p| p.0);
    let mut sum = vec![0.0; n];
    all.iter().for_each(|(_, counts)| sum.iter_mut().zip(counts).for_each(|(s, c)| *s += c));
    sum
}

/// Log-probabilities by what was expected, sparse by the digamma function; pieces that are hardly expected go.
fn maximised(pieces: &Pieces, counts: &[f64]) -> Pieces {
    let stays = |id: &usize| pieces.is_character(*id) || counts[*id] >= 0.5;
    let kept: Vec<usize> = (0..counts.len()).filter(stays).collect();
    let expected = |id: usize| counts[id].max(0.5);
    let sum = digamma(kept.iter().map(|id| expected(*id)).sum());
    Pieces::of(kept.iter().map(|id| (pieces.list[*id].0.clone(), digamma(expected(*id)) - sum)).collect())
}

/// The derivative of the logarithm of the gamma function, of a number above 0, by its asymptotic series.
fn digamma(mut x: f64) -> f64 {
    let mut sum = 0.0;
    while x < 7.0 {
        sum -= 1.0 / x;
        x += 1.0;
    }
    let r = 1.0 / (x * x);
    sum + x.ln() - 0.5 / x - r * (1.0 / 12.0 - r * (1.0 / 120.0 - r / 252.0))
}

/// Leaves out the pieces whose loss makes the text least unlikely: some of them, and not more than down to `desired`.
fn pruned(pieces: &Pieces, words: &[Word], desired: usize, threads: usize) -> Pieces {
    let used = summed(words, pieces.list.len(), threads, &|word, counts| {
        pieces.best(word, None).into_iter().flatten().for_each(|id| counts[id] += word.count);
    });
    let total: f64 = used.iter().sum();
    let mut losses: Vec<(f64, usize)> = vec![];
    let mut kept: Vec<usize> = (0..used.len()).filter(|id| pieces.is_character(*id)).collect();
    for id in (0..used.len()).filter(|id| !pieces.is_character(*id)) {
        let word = Word::of(&pieces.list[id].0, 1);
        // what stands in other pieces' place already is not missed
        if pieces.best(&word, None).is_none_or(|b| b != [id]) {
            continue;
        }
        match pieces.best(&word, Some(id)) {
            None => kept.push(id),
            Some(_) if used[id] == 0.0 => {}
            Some(others) => losses.push((loss(&used, total, id, &others), id)),
        }
    }
    losses.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let most = desired.max((KEPT * pieces.list.len() as f64) as usize);
    kept.extend(losses.iter().map(|l| l.1).take(most.saturating_sub(kept.len())));
    kept.sort_unstable();
    Pieces::of(kept.into_iter().map(|id| pieces.list[id].clone()).collect())
}

/// How much less likely the text is where a piece is written as others.
fn loss(used: &[f64], total: f64, id: usize, others: &[usize]) -> f64 {
    let now = used[id].ln() - total.ln();
    let sum = (total + used[id] * (others.len() as f64 - 1.0)).ln();
    let then: f64 = others.iter().map(|o| (used[*o] + used[id]).ln() - sum).sum();
    used[id] / total * (now - then)
}

/// All characters, and the likeliest pieces besides, in the order of their probabilities.
fn last(pieces: Pieces, size: usize) -> Vec<(String, f64)> {
    let (mut kept, mut rest): (Vec<(String, f64)>, Vec<(String, f64)>) = pieces.list.into_iter().partition(|p| p.0.chars().nth(1).is_none());
    let by_score = |a: &(String, f64), b: &(String, f64)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    rest.sort_by(by_score);
    rest.truncate(size.saturating_sub(kept.len()));
    kept.extend(rest);
    kept.sort_by(by_score);
    kept
}
