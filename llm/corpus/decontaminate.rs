//! Documents that evaluation sets are in are taken out: what is to measure a model must not be what it learned from.
//!
//! A document is known by the n-grams of words, 13 by default, that it has in common with a set. Of the sets a hash of 64 bits is held for
//! each n-gram: 10⁷ of them and 10¹⁰ of a corpus meet by chance once in two hundred such corpora.

use super::document::Document;
use super::read::complete;
use super::report::Report;
use super::rows::too_large;
use super::words::{Windows, each_hash, each_word};
use super::work::{Work, map_parts};
use crate::error::{Error, Result, file_error};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// Which documents are taken out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecontaminateConfig {
    /// The evaluation sets: files of text, and of JSON lines (`.jsonl`), of whose records every string counts.
    pub against: Vec<PathBuf>,
    /// Words of an n-gram. Texts of a set that have fewer are not looked for.
    pub ngram: usize,
    /// The share of a document's n-grams that may stand in sets; with 0 any of them takes it out.
    pub max_overlap: f64,
}

impl Default for DecontaminateConfig {
    fn default() -> DecontaminateConfig {
        DecontaminateConfig { against: vec![], ngram: 13, max_overlap: 0.0 }
    }
}

impl DecontaminateConfig {
    /// An error where a setting is out of its range.
    pub fn check(&self) -> Result<()> {
        if self.against.is_empty() {
            return Err(Error("decontaminate.against is empty; name a file of an evaluation set".into()));
        }
        if !(1..=1000).contains(&self.ngram) {
            return Err(Error(format!("decontaminate.ngram is {}: expected 1 to 1000", self.ngram)));
        }
        if !(0.0..1.0).contains(&self.max_overlap) {
            return Err(Error(format!("decontaminate.max_overlap is {}: expected 0 or more, and less than 1", self.max_overlap)));
        }
        Ok(())
    }
}

/// Takes a number that is a hash already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.0 = self.0 << 8 | u64::from(*b));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The n-grams of all sets, each with the number of the first set that has it.
struct Sets {
    ngrams: HashMap<u64, u32, BuildHasherDefault<AsItIs>>,
    names: Vec<String>,
    /// Of all files' bytes.
    checksum: Xxh3,
    /// Texts with fewer words than an n-gram has.
    short: u64,
}

/// Bytes that an n-gram takes in a table that has just grown, with the one that it grew from.
const AN_NGRAM: u64 = 56;

impl Sets {
    fn read(work: &Work, config: &DecontaminateConfig) -> Result<Sets> {
        let names = config.against.iter().map(|p| p.display().to_string()).collect();
        let mut sets = Sets { ngrams: HashMap::default(), names, checksum: Xxh3::new(), short: 0 };
        for (set, path) in config.against.iter().enumerate() {
            let is_json = path.extension().is_some_and(|e| e == "jsonl" || e == "ndjson");
            let file = File::open(path).map_err(|e| file_error(path, "the evaluation set cannot be read", e))?;
            let mut take = |text: &str| sets.take(text, set as u32, config.ngram, work);
            match is_json {
                true => each_record(path, BufReader::new(file), &mut take)?,
                false => take(&whole(path, file, work.memory)?)?,
            }
        }
        Ok(sets)
    }

    fn take(&mut self, text: &str, set: u32, ngram: usize, work: &Work) -> Result<()> {
        work.go_on()?;
        self.checksum.update(text.as_bytes());
        self.checksum.update(&[0xff]);
        let mut windows = Windows::new(ngram);
        each_hash(text, |word| {
            if let Some(hash) = windows.push(word) {
                self.ngrams.entry(hash).or_insert(set);
            }
        });
        self.short += u64::from(windows.short().is_some());
        let (bytes, room) = (self.ngrams.len() as u64 * AN_NGRAM, work.memory / 2);
        if bytes > room { Err(too_large("the n-grams of the evaluation sets", bytes, room)) } else { Ok(()) }
    }
}

/// A text file.
fn whole(path: &Path, file: File, memory: u64) -> Result<String> {
    let fail = |e: std::io::Error| file_error(path, "the evaluation set cannot be read", e);
    let length = file.metadata().map_err(fail)?.len();
    if length > memory / 4 {
        return Err(too_large(&format!("the bytes of {}", path.display()), length, memory / 4));
    }
    let mut bytes = vec![];
    file.take(memory / 4 + 1).read_to_end(&mut bytes).map_err(fail)?;
    String::from_utf8(bytes).map_err(|e| file_error(path, "the evaluation set is no UTF-8, expected text or JSON lines (.jsonl)", e))
}

/// The longest record of a set.
const LONGEST_RECORD: u64 = 64 << 20;

/// Every string of every record.
fn each_record(path: &Path, mut lines: impl BufRead, take: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let mut line = vec![];
    for number in 1.. {
        line.clear();
        let fail = |e: &dyn std::fmt::Display| file_error(path, &format!("line {number} is no record of an evaluation set"), e);
        if (&mut lines).take(LONGEST_RECORD).read_until(b'\n', &mut line).map_err(|e| fail(&e))? == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            each_string(&serde_json::from_slice(&line).map_err(|e| fail(&e))?, take)?;
        }
    }
    Ok(())
}

fn each_string(value: &serde_json::Value, take: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    match value {
        serde_json::Value::String(text) => take(text),
        serde_json::Value::Array(all) => all.iter().try_for_each(|v| each_string(v, take)),
        serde_json::Value::Object(all) => all.values().try_for_each(|v| each_string(v, take)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Ok(()),
    }
}

/// Takes documents out that have n-grams of words in common with evaluation sets, from the parts of a folder to those of another. The
/// report says of each set how many documents it was in, with the first n-grams as examples.
pub fn decontaminate(work: &Work, from: &Path, to: &Path, config: &DecontaminateConfig) -> Result<Report> {
    config.check()?;
    let parts = complete(from)?;
    super::make_ready(&parts, to)?;
    let sets = Sets::read(work, config)?;
    if sets.ngrams.is_empty() {
        let what = format!("no text of the evaluation sets has {} words", config.ngram);
        return Err(Error(format!("{what}, so none can be found; try a smaller decontaminate.ngram")));
    }
    let settings = format!("{} {} {:?} {:032x}", config.ngram, config.max_overlap, sets.names, sets.checksum.digest128());
    let reports = map_parts(work, "decontaminate", &parts, to, &settings, &|old, new, mut report| {
        let mut writer = new.write()?;
        for document in old.read()? {
            work.go_on()?;
            let document = document?;
            if stays(&document, &sets, config, &mut report) {
                writer.push(&document)?;
            }
        }
        writer.finish(report)
    })?;
    let mut all = super::sum(&reports);
    all.count("n-grams of the sets", sets.ngrams.len() as u64);
    all.count("texts of the sets that are too short", sets.short);
    Ok(all)
}

/// Whether a document has few enough n-grams of sets.
fn stays(document: &Document, sets: &Sets, config: &DecontaminateConfig, report: &mut Report) -> bool {
    // the first n-gram of each set, by the number of its last word
    let mut found: BTreeMap<u32, usize> = BTreeMap::new();
    let (mut words, mut all, mut of_sets) = (0, 0u64, 0u64);
    let mut windows = Windows::new(config.ngram);
    each_hash(&document.text, |word| {
        words += 1;
        let Some(hash) = windows.push(word) else { return };
        all += 1;
        if let Some(set) = sets.ngrams.get(&hash) {
            of_sets += 1;
            found.entry(*set).or_insert(words);
        }
    });
    if of_sets == 0 {
        return true;
    }
    if of_sets as f64 <= config.max_overlap * all as f64 {
        report.count("documents with few n-grams of the sets", 1);
        return true;
    }
    for (set, end) in found {
        let reason = format!("in {}", sets.names[set as usize]);
        report.tally(&reason, document.text.len(), &document.id, &ngram(&document.text, end - config.ngram..end));
    }
    false
}

/// Some of a text's words.
fn ngram(text: &str, range: std::ops::Range<usize>) -> String {
    let (mut words, mut at) = (vec![], 0);
    each_word(text, |word| {
        if range.contains(&at) {
            words.push(word.to_string());
        }
        at += 1;
    });
    words.join(" ")
}
