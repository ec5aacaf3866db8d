//! What is told of a corpus: how many documents, of what lengths and languages, what each stage removed, what it says most.

use super::report::{Report, Tally};
use super::words::each_word;
use super::work::Work;
use super::{Document, parts};
use crate::data::Index;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// A corpus card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Version of this format.
    pub format: u32,
    /// Documents, those that are held out among them.
    pub documents: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// Characters of it.
    pub characters: u64,
    /// Tokens to train on, and held out.
    pub tokens: [u64; 2],
    /// The tokenizer's number of tokens.
    pub vocabulary: usize,
    /// The tokenizer's fingerprint.
    pub tokenizer: String,
    /// What each stage did, in order.
    pub stages: Vec<StageCard>,
    /// Documents by bytes: of `n` the entry counts those of 2ⁿ up to, and not with, 2ⁿ⁺¹.
    pub lengths: BTreeMap<u32, u64>,
    /// Documents by language; empty where that was not looked for.
    pub languages: BTreeMap<String, u64>,
    /// What is said most often in the sample: words, pairs and triples of words, with their counts.
    pub ngrams: [Vec<(String, u64)>; 3],
    /// Bytes of text that these were counted in: some of the documents, the same ones whenever the card is made.
    pub sampled: u64,
    /// Some documents, shortened.
    pub samples: Vec<Document>,
}

/// What a stage did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCard {
    /// The stage.
    pub name: String,
    /// Documents before and after.
    pub documents: [u64; 2],
    /// Bytes of text before and after.
    pub bytes: [u64; 2],
    /// What it removed or changed, by reason, with examples.
    pub tallies: BTreeMap<String, Tally>,
    /// Other counts.
    pub counts: BTreeMap<String, u64>,
}

impl StageCard {
    /// What a report says.
    pub fn of(name: &str, report: Report) -> StageCard {
        StageCard {
            name: name.into(),
            documents: [report.documents_in, report.documents],
            bytes: [report.bytes_in, report.bytes],
            tallies: report.tallies,
            counts: report.counts,
        }
    }
}

/// Bytes of text that n-grams are counted in.
const SAMPLE: u64 = 4 << 20;
/// The n-grams that are told.
const TOP: usize = 20;
/// Documents that are shown, and characters of each.
const SHOWN: (usize, usize) = (5, 600);

impl Card {
    /// Looks at the documents of some folders of parts.
    pub fn of(work: &Work, stages: Vec<StageCard>, index: &Index, folders: &[PathBuf]) -> Result<Card> {
        let mut seen = Seen::default();
        let bytes: u64 = reports(folders)?.iter().map(|r| r.bytes).sum();
        let every = bytes.div_ceil(SAMPLE).max(1);
        for part in folders.iter().map(|f| parts(f)).collect::<Result<Vec<_>>>()?.into_iter().flatten() {
            for document in part.read()? {
                work.go_on()?;
                seen.look(document?, every);
            }
        }
        let tokens = [&index.parts.train, &index.parts.held_out].map(|files| files.iter().map(|f| f.tokens).sum());
        Ok(Card {
            format: 1,
            documents: seen.documents,
            bytes: seen.bytes,
            characters: seen.characters,
            tokens,
            vocabulary: index.tokenizer.vocabulary,
            tokenizer: index.tokenizer.fingerprint.clone(),
            stages,
            lengths: seen.lengths,
            languages: seen.languages,
            ngrams: seen.ngrams.map(top),
            sampled: seen.sampled,
            samples: seen.samples,
        })
    }
}

fn reports(folders: &[PathBuf]) -> Result<Vec<Report>> {
    let all = folders.iter().map(|f| parts(f)).collect::<Result<Vec<_>>>()?;
    all.into_iter().flatten().map(|p| p.finished()).collect()
}

/// What was seen of the documents so far.
#[derive(Default)]
struct Seen {
    documents: u64,
    bytes: u64,
    characters: u64,
    lengths: BTreeMap<u32, u64>,
    languages: BTreeMap<String, u64>,
    ngrams: [HashMap<String, u64>; 3],
    sampled: u64,
    samples: Vec<Document>,
}

impl Seen {
    /// Looks at a document; its n-grams are counted where it is one of every so many.
    fn look(&mut self, document: Document, every: u64) {
        let length = document.text.len() as u64;
        if self.documents.is_multiple_of(every) {
            self.count(&document.text);
            if self.samples.len() < SHOWN.0 {
                let text = document.text.chars().take(SHOWN.1).collect();
                self.samples.push(Document { text, ..document.clone() });
            }
        }
        self.documents += 1;
        self.bytes += length;
        self.characters += document.text.chars().count() as u64;
        *self.lengths.entry(length.max(1).ilog2()).or_default() += 1;
        if let Some(language) = document.language {
            *self.languages.entry(language).or_default() += 1;
        }
    }

    fn count(&mut self, text: &str) {
        self.sampled += text.len() as u64;
        let mut last: Vec<String> = vec![];
        each_word(text, |word: &str| {
            if last.len() == 3 {
                last.remove(0);
            }
            last.push(word.to_string());
            for n in 1..=last.len() {
                *self.ngrams[n - 1].entry(last[last.len() - n..].join(" ")).or_default() += 1;
            }
        });
    }
}

/// The most frequent, of equals in the order of their letters.
fn top(counts: HashMap<String, u64>) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = counts.into_iter().collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(TOP);
    all
}
