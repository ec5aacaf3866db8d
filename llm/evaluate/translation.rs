//! Translations against references: BLEU and chrF with the arithmetic of sacreBLEU (Post 2018), to the digit.
// what is added up are whole numbers, whose order does not matter
#![allow(clippy::iter_over_hash_type)]

use crate::error::{Error, Result};
use regex::Regex;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::LazyLock;

/// The longest n-grams of BLEU.
const WORDS: usize = 4;

/// The longest n-grams of characters of chrF.
const CHARACTERS: usize = 6;

/// Hypotheses with their references: of each the same number, one at least.
pub struct Corpus<'a> {
    hypotheses: &'a [String],
    /// A list a file of references.
    references: &'a [Vec<String>],
}

/// BLEU of a corpus: 13a's words, exponential smoothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Bleu {
    /// 0 to 100.
    pub score: f64,
    /// Of n-grams of 1 to 4 words, in percent.
    pub precisions: [f64; WORDS],
    /// What is taken off for shortness.
    pub brevity: f64,
    /// Words of hypotheses.
    pub words: u64,
    /// Words of the references that are nearest in length.
    pub reference_words: u64,
    references: usize,
}

/// chrF of a corpus, with n-grams of up to so many words: 0 is chrF2 (Popović 2015), 2 is chrF2++ (Popović 2017).
#[derive(Clone, Debug, PartialEq)]
pub struct Chrf {
    /// 0 to 100.
    pub score: f64,
    words: usize,
    references: usize,
}

impl<'a> Corpus<'a> {
    /// Checks that there are as many references as hypotheses.
    pub fn new(hypotheses: &'a [String], references: &'a [Vec<String>]) -> Result<Corpus<'a>> {
        let n = hypotheses.len();
        match references.iter().position(|r| r.len() != n) {
            _ if n == 0 => Err(Error("there are no hypotheses: expected a line each".into())),
            _ if references.is_empty() => Err(Error("there are no references: give a file with as many lines as there are hypotheses".into())),
            Some(i) => Err(Error(format!("there are {n} hypotheses, and {} references in number {}: expected as many", references[i].len(), i + 1))),
            None => Ok(Corpus { hypotheses, references }),
        }
    }

    /// Each hypothesis with its references.
    fn each(&self) -> impl Iterator<Item = (&'a str, Vec<&'a str>)> {
        self.hypotheses.iter().enumerate().map(|(i, h)| (h.as_str(), self.references.iter().map(|r| r[i].as_str()).collect()))
    }

    /// BLEU over all.
    pub fn bleu(&self) -> Bleu {
        let (mut correct, mut total, mut words, mut reference_words) = ([0u64; WORDS], [0u64; WORDS], 0u64, 0u64);
        for (hypothesis, references) in self.each() {
            let (hypothesis, references) = (words_13a(hypothesis), references.into_iter().map(words_13a).collect::<Vec<_>>());
            words += hypothesis.len() as u64;
            // of references that are as near the shorter counts
            let length = references.iter().map(Vec::len).min_by_key(|n| (n.abs_diff(hypothesis.len()), *n)).unwrap_or(0);
            reference_words += length as u64;
            for n in 1..=WORDS {
                let most = references.iter().fold(Counts::default(), |most, r| larger(most, counts(r, n)));
                for (gram, count) in counts(&hypothesis, n) {
                    total[n - 1] += count;
                    correct[n - 1] += count.min(most.get(gram).copied().unwrap_or(0));
                }
            }
        }
        let brevity = match words {
            0 => 0.0,
            n if n < reference_words => (1.0 - reference_words as f64 / n as f64).exp(),
            _ => 1.0,
        };
        let (score, precisions) = bleu_of(&correct, &total, brevity);
        Bleu { score, precisions, brevity, words, reference_words, references: self.references.len() }
    }

    /// chrF over all, with n-grams of up to so many words.
    pub fn chrf(&self, words: usize) -> Chrf {
        let mut all = vec![[0; 3]; CHARACTERS + words];
        for (hypothesis, references) in self.each() {
            let best = references.into_iter().map(|r| matches(hypothesis, r, words)).map(|m| (f_score(&m), m));
            // of references that are as good the first
            let best = best.fold((-1.0, vec![]), |best, next| if next.0 > best.0 { next } else { best });
            all.iter_mut().zip(best.1).for_each(|(sum, own)| (0..3).for_each(|i| sum[i] += own[i]));
        }
        Chrf { score: f_score(&all), words, references: self.references.len() }
    }
}

impl fmt::Display for Bleu {
    /// As sacreBLEU prints it, with its signature but for the version.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let precisions: Vec<String> = self.precisions.iter().map(|p| format!("{p:.1}")).collect();
        let ratio = if self.reference_words > 0 { self.words as f64 / self.reference_words as f64 } else { 0.0 };
        let (words, of) = (self.words, self.reference_words);
        write!(f, "BLEU|nrefs:{}|case:mixed|eff:no|tok:13a|smooth:exp = {:.2} {}", self.references, self.score, precisions.join("/"))?;
        write!(f, " (BP = {:.3} ratio = {ratio:.3} hyp_len = {words} ref_len = {of})", self.brevity)
    }
}

impl fmt::Display for Chrf {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let name = format!("chrF2{}", "+".repeat(self.words));
        write!(f, "{name}|nrefs:{}|case:mixed|eff:yes|nc:{CHARACTERS}|nw:{}|space:no = {:.2}", self.references, self.words, self.score)
    }
}

/// How often each n-gram is there.
type Counts<'t, T> = FxHashMap<&'t [T], u64>;

fn counts<T: Eq + std::hash::Hash>(all: &[T], n: usize) -> Counts<'_, T> {
    let mut counts = Counts::default();
    all.windows(n).for_each(|gram| *counts.entry(gram).or_default() += 1);
    counts
}

fn larger<'t, T: Eq + std::hash::Hash>(mut most: Counts<'t, T>, other: Counts<'t, T>) -> Counts<'t, T> {
    for (gram, count) in other {
        let own = most.entry(gram).or_default();
        *own = count.max(*own);
    }
    most
}

/// The score, and the precisions in percent.
fn bleu_of(correct: &[u64; WORDS], total: &[u64; WORDS], brevity: f64) -> (f64, [f64; WORDS]) {
    let mut precisions = [0.0; WORDS];
    if correct.iter().all(|c| *c == 0) {
        return (0.0, precisions);
    }
    let mut smooth = 1.0;
    for n in (0..WORDS).take_while(|n| total[*n] > 0) {
        precisions[n] = if correct[n] == 0 {
            smooth *= 2.0;
            100.0 / (smooth * total[n] as f64)
        } else {
            100.0 * correct[n] as f64 / total[n] as f64
        };
    }
    // what sacreBLEU takes for the logarithm of nothing
    let log = |p: &f64| if *p == 0.0 { -9999999999.0 } else { p.ln() };
    (brevity * (precisions.iter().map(log).sum::<f64>() / WORDS as f64).exp(), precisions)
}

/// Whether Python takes a character for space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// The words of mteval-v13a.
fn words_13a(text: &str) -> Vec<String> {
    static RULES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        let rule = |pattern: &str| Regex::new(pattern).expect("the expression is well-formed");
        [
            (rule(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), " $1 "),
            (rule(r"([^0-9])([\.,])"), "$1 $2 "),
            (rule(r"([\.,])([^0-9])"), " $1 $2"),
            (rule(r"([0-9])(-)"), "$1 $2 "),
        ]
    });
    let text = text.trim_end_matches(is_space).replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    let text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    let text = RULES.iter().fold(format!(" {text} "), |text, (rule, by)| rule.replace_all(&text, *by).into_owned());
    split(&text).map(str::to_string).collect()
}

/// The words of chrF++: a mark at a word's end, or else at its beginning, is one of its own.
fn words_chrf(text: &str) -> Vec<String> {
    let marks = |c: Option<char>| c.is_some_and(|c| c.is_ascii_punctuation());
    let mut out: Vec<String> = vec![];
    for word in split(text) {
        let (first, last) = (word.chars().next(), word.chars().next_back());
        if word.chars().count() == 1 {
            out.push(word.into());
        } else if marks(last) {
            let (before, mark) = word.split_at(word.len() - 1);
            out.extend([before.into(), mark.into()]);
        } else if marks(first) {
            let (mark, after) = word.split_at(1);
            out.extend([mark.into(), after.into()]);
        } else {
            out.push(word.into());
        }
    }
    out
}

/// Of each length, n-grams of the hypothesis, of the reference, and of both.
fn matches(hypothesis: &str, reference: &str, words: usize) -> Vec<[u64; 3]> {
    let characters = |text: &str| split(text).flat_map(str::chars).collect::<Vec<char>>();
    let of_characters = (1..=CHARACTERS).map(|n| common(&characters(hypothesis), &characters(reference), n));
    let of_words = (1..=words).map(|n| common(&words_chrf(hypothesis), &words_chrf(reference), n));
    of_characters.chain(of_words).collect()
}

fn common<T: Eq + std::hash::Hash>(hypothesis: &[T], reference: &[T], n: usize) -> [u64; 3] {
    let of = counts(reference, n);
    let (mut all, mut both) = (0, 0);
    for (gram, count) in counts(hypothesis, n) {
        all += count;
        both += count.min(of.get(gram).copied().unwrap_or(0));
    }
    let reference = reference.len().saturating_sub(n - 1) as u64;
    [if reference > 0 { all } else { 0 }, reference, both]
}

/// F2 of the mean precision and recall of the lengths that both have.
fn f_score(all: &[[u64; 3]]) -> f64 {
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for [hypothesis, reference, both] in all.iter().filter(|m| m[0] > 0 && m[1] > 0) {
        precision += *both as f64 / *hypothesis as f64;
        recall += *both as f64 / *reference as f64;
        orders += 1.0;
    }
    if orders == 0.0 || precision + recall == 0.0 {
        return 0.0;
    }
    let (precision, recall, factor) = (precision / orders, recall / orders, 4.0);
    100.0 * ((1.0 + factor) * precision * recall / (factor * precision + recall))
}
