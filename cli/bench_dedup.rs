//! `eggcorn bench dedup`: planted duplicates, how many of them are found, how fast and in how much memory, beside what theory says.

use super::options::{bytes, mebibytes};
use super::say;
use eggcorn::llm::corpus::{DedupConfig, DedupKind, Document, Part, Report, Share, Work, clusters, dedup};
use eggcorn::llm::{Error, Result, random};
use eggcorn::runtime::limits::resident_peak;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// What is planted and how it is looked for.
#[derive(clap::Args)]
#[command(next_help_heading = "Deduplication")]
pub struct DedupArgs {
    /// Bytes of text to deduplicate.
    #[arg(long, value_name = "BYTES", default_value = "100MiB", value_parser = bytes)]
    corpus: usize,
    /// Bytes of memory that deduplication may use.
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = bytes)]
    memory: usize,
    /// Bands of a signature.
    #[arg(long, default_value_t = DedupConfig::default().bands)]
    bands: usize,
    /// Rows of a band.
    #[arg(long, default_value_t = DedupConfig::default().rows)]
    rows: usize,
    /// The least estimated similarity of what is merged.
    #[arg(long, default_value_t = DedupConfig::default().min_similarity)]
    min_similarity: f64,
    /// What the corpus is drawn with.
    #[arg(long, default_value_t = 1)]
    corpus_seed: u64,
    /// Where the corpus is made, in a folder that is gone afterwards.
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    within: PathBuf,
}

/// Bytes of text a part, about.
const PART: usize = 16 << 20;
/// Of so many documents one has a duplicate of each kind.
const ONE_IN: u64 = 40;
/// Similarities of planted near duplicates.
const PLANTED: [f64; 5] = [0.6, 0.7, 0.8, 0.9, 1.0];
/// Words of an n-gram.
const NGRAM: usize = 5;
/// Words there are. Two texts of 1000 words share an n-gram by chance once in 10¹⁷.
const VOCABULARY: u64 = 1 << 16;

/// A folder that is gone at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // what stays costs space in a folder for what is temporary
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A document of the corpus, which follows from a seed and a number.
struct Base {
    words: Vec<u64>,
    /// What changes of it are drawn with.
    key: u64,
}

impl Base {
    fn new(seed: u64, number: u64) -> Base {
        let key = random(seed, number);
        // 150 to 1050 words
        let length = 150 + random(key, 0) % 901;
        Base { words: (1..=length).map(|i| random(key, i) % VOCABULARY).collect(), key }
    }

    fn ngrams(words: &[u64]) -> HashSet<&[u64]> {
        words.windows(NGRAM).collect()
    }

    /// It with words replaced, so that the similarity is as near to the one asked for as words allow; and what it is.
    fn near(&self, similarity: f64) -> (Vec<u64>, f64) {
        let mut words = self.words.clone();
        let own = Base::ngrams(&self.words);
        let n = words.len() - (NGRAM - 1);
        // of n n-grams m are replaced: (n - m) / (n + m) is the similarity
        let goal = (n as f64 * (1.0 - similarity) / (1.0 + similarity)).round() as usize;
        let mut gone = vec![false; n];
        let mut count = 0;
        let mut draw = 1 << 32;
        while count < goal {
            draw += 1;
            let mut at = (random(self.key, draw) % words.len() as u64) as usize;
            let lost = |at: usize, gone: &[bool]| (at.saturating_sub(NGRAM - 1)..=at.min(n - 1)).filter(|g| !gone[*g]).count();
            // near the end a word beside one that was replaced, which few n-grams have of their own
            while lost(at, &gone) > goal - count {
                draw += 1;
                at = (random(self.key, draw) % words.len() as u64) as usize;
            }
            count += lost(at, &gone);
            gone[at.saturating_sub(NGRAM - 1)..=at.min(n - 1)].fill(true);
            words[at] = VOCABULARY + random(self.key, draw + (1 << 33)) % VOCABULARY;
        }
        let other = Base::ngrams(&words);
        let both = own.intersection(&other).count() as f64;
        let measured = both / ((own.len() + other.len()) as f64 - both);
        (words, measured)
    }
}

/// A word by its number: syllables.
fn spell(mut number: u64, into: &mut String) {
    const ENDS: [&str; 16] = ["a", "e", "i", "o", "u", "an", "en", "in", "on", "un", "ar", "er", "or", "as", "es", "is"];
    loop {
        into.push(b"bdfgklmnprstvwxz"[(number % 16) as usize] as char);
        into.push_str(ENDS[(number / 16 % 16) as usize]);
        number /= 256;
        if number == 0 {
            return;
        }
    }
}

/// Words as sentences; `plain` writes them another way, of the same words.
fn text(words: &[u64], plain: bool) -> String {
    let mut out = String::new();
    for (i, word) in words.iter().enumerate() {
        let (before, start) = (if i == 0 { "" } else { " " }, out.len() + usize::from(i > 0));
        out.push_str(before);
        spell(*word, &mut out);
        if !plain && i % 12 == 0 {
            out[start..=start].make_ascii_uppercase();
        }
        if !plain && i % 12 == 11 {
            out.push('.');
        }
    }
    out
}

/// What was planted under one name.
#[derive(Default)]
struct Planted {
    /// The similarity of each pair, as it was measured.
    similarities: Vec<f64>,
    found: usize,
}

/// The corpus in a folder: its bytes, and what was planted by name. A document's id is its number; that of a copy has its name before it.
fn plant(args: &DedupArgs, folder: &Path) -> Result<(u64, BTreeMap<String, Planted>)> {
    let mut planted: BTreeMap<String, Planted> = BTreeMap::new();
    let (mut all, mut number) = (0, 0);
    let mut later: Vec<Document> = vec![];
    for part in 0.. {
        let mut writer = Part::new(folder, &format!("{part:05}")).write()?;
        for copy in later.drain(..) {
            writer.push(&copy)?;
        }
        while writer.bytes() < PART as u64 && all + writer.bytes() < args.corpus as u64 {
            let base = Base::new(args.corpus_seed, number);
            writer.push(&Document::new(number.to_string(), text(&base.words, false)))?;
            if let Some((name, words, plain, similarity)) = copies(&base, number) {
                planted.entry(name.clone()).or_default().similarities.push(similarity);
                let copy = Document::new(format!("{name}/{number}"), text(&words, plain));
                // some in this part, some in the next
                if random(base.key, 1 << 40).is_multiple_of(2) { writer.push(&copy)? } else { later.push(copy) }
            }
            number += 1;
        }
        all += writer.finish(Report::default())?.bytes;
        if all >= args.corpus as u64 && later.is_empty() {
            break;
        }
    }
    Ok((all, planted))
}

/// The copies of a document, at most one of them: a name, the words, whether they are written another way, and the similarity.
fn copies(base: &Base, number: u64) -> Option<(String, Vec<u64>, bool, f64)> {
    let kind = number % ONE_IN;
    if kind == 0 {
        return Some(("exact".into(), base.words.clone(), false, 1.0));
    }
    let similarity = PLANTED.get(kind as usize - 1)?;
    let (words, measured) = base.near(*similarity);
    Some((format!("near {similarity:.1}"), words, true, measured))
}

/// Makes a corpus, deduplicates it and prints what was found.
pub fn run(args: &DedupArgs, threads: usize, as_json: bool) -> Result<()> {
    let scratch = Scratch(args.within.join(format!("eggcorn-bench-dedup-{}", std::process::id())));
    let (from, to) = (scratch.0.join("corpus"), scratch.0.join("dedup"));
    let (bytes, mut planted) = plant(args, &from)?;
    let config = DedupConfig { bands: args.bands, rows: args.rows, min_similarity: args.min_similarity, ..DedupConfig::default() };
    let before = resident_peak();
    let stop = AtomicBool::new(false);
    let work = Work { threads, memory: args.memory as u64, share: Share::ALL, stop: &stop, progress: &|_| {} };
    let start = Instant::now();
    let report = dedup(&work, &from, &to, &config)?;
    let seconds = start.elapsed().as_secs_f64();
    let wrong = count(&to, &mut planted)?;
    let figures = Figures { bytes, report, seconds, before, peak: resident_peak(), wrong, threads };
    if as_json {
        say!("{}", figures.json(&planted, &config))
    } else {
        figures.table(&planted, &config, args.memory)
    }
    Ok(())
}

/// Counts the pairs that were found, and gives how many were that had not been planted.
fn count(folder: &Path, planted: &mut BTreeMap<String, Planted>) -> Result<u64> {
    let mut wrong = 0;
    for kind in [DedupKind::Documents, DedupKind::Near] {
        let (all, _) = clusters(folder, kind, usize::MAX)?.ok_or_else(|| Error("the clusters were not listed".into()))?;
        for (kept, removed) in all.iter().flat_map(|c| c.removed.iter().map(|r| (c.kept.id.as_str(), r.id.as_str()))) {
            let pair = |a: &str, b: &str| b.split_once('/').filter(|(_, number)| *number == a).map(|(name, _)| name.to_string());
            match pair(kept, removed).or(pair(removed, kept)).and_then(|name| planted.get_mut(&name)) {
                Some(planted) => planted.found += 1,
                None => wrong += 1,
            }
        }
    }
    Ok(wrong)
}

/// How likely two documents of a similarity meet in a band, and how likely they do and also have as many equal minima as is asked for.
fn theory(similarity: f64, config: &DedupConfig) -> (f64, f64) {
    // of each number of equal minima how likely it is, over any and over no full band
    let (mut any, mut none) = (vec![1.0], vec![1.0]);
    let mut band = vec![1.0];
    for _ in 0..config.rows {
        band = product(&band, &[1.0 - similarity, similarity]);
    }
    let full = band[config.rows];
    for _ in 0..config.bands {
        any = product(&any, &band);
        none = product(&none, &band[..config.rows]);
    }
    let least = (config.min_similarity * (config.bands * config.rows) as f64 - 1e-9).ceil().max(0.0) as usize;
    let tail = |p: &[f64]| p.iter().skip(least).sum::<f64>();
    (1.0 - (1.0 - full).powi(config.bands as i32), tail(&any) - tail(&none))
}

/// The distribution of a sum.
fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; a.len() + b.len() - 1];
    for (i, x) in a.iter().enumerate() {
        b.iter().enumerate().for_each(|(j, y)| out[i + j] += x * y);
    }
    out
}

struct Figures {
    bytes: u64,
    report: Report,
    seconds: f64,
    /// Peaks of the process before and after.
    before: usize,
    peak: usize,
    wrong: u64,
    threads: usize,
}

/// A row of the table.
struct Row<'a> {
    name: &'a str,
    pairs: usize,
    similarity: f64,
    meet: f64,
    expected: f64,
    recall: f64,
}

fn rows<'a>(planted: &'a BTreeMap<String, Planted>, config: &DedupConfig) -> Vec<Row<'a>> {
    let of = |(name, p): (&'a String, &Planted)| {
        let pairs = p.similarities.len();
        let mean = |f: &dyn Fn(f64) -> f64| p.similarities.iter().map(|s| f(*s)).sum::<f64>() / pairs as f64;
        Row {
            name,
            pairs,
            similarity: mean(&|s| s),
            meet: mean(&|s| theory(s, config).0),
            expected: mean(&|s| theory(s, config).1),
            recall: p.found as f64 / pairs as f64,
        }
    };
    planted.iter().map(of).collect()
}

impl Figures {
    /// Of the pairs that were found, the share of those that were planted.
    fn precision(&self, planted: &BTreeMap<String, Planted>) -> f64 {
        let right: usize = planted.values().map(|p| p.found).sum();
        right as f64 / (right as u64 + self.wrong).max(1) as f64
    }

    fn speed(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }

    fn table(&self, planted: &BTreeMap<String, Planted>, config: &DedupConfig, memory: usize) {
        say!("{} of text, {} documents, {} of them removed", mebibytes(self.bytes as usize), self.report.documents_in, {
            self.report.documents_in - self.report.documents
        });
        say!("{} bands of {} rows, similarity at least {}", config.bands, config.rows, config.min_similarity);
        say!("{:10} {:>7} {:>11} {:>9} {:>12} {:>9}", "planted", "pairs", "similarity", "in theory", "with check", "found");
        for r in rows(planted, config) {
            let [meet, expected, recall] = [r.meet, r.expected, r.recall].map(|x| format!("{:.2} %", 100.0 * x));
            say!("{:10} {:>7} {:>11.4} {meet:>9} {expected:>12} {recall:>9}", r.name, r.pairs, r.similarity);
        }
        say!("  precision  {:.3} %, {} pairs that were not planted", 100.0 * self.precision(planted), self.wrong);
        say!("  speed      {:.1} MB/s with {} threads, {:.2} s", self.speed(), self.threads, self.seconds);
        say!("  memory     {} of the process, {} before; {} allowed", mebibytes(self.peak), mebibytes(self.before), mebibytes(memory));
    }

    fn json(&self, planted: &BTreeMap<String, Planted>, config: &DedupConfig) -> serde_json::Value {
        let row = |r: &Row| {
            serde_json::json!({"planted": r.name, "pairs": r.pairs, "similarity": r.similarity, "theory": r.meet,
                "theory_with_check": r.expected, "recall": r.recall})
        };
        serde_json::json!({
            "bytes": self.bytes, "documents": self.report.documents_in, "removed": self.report.documents_in - self.report.documents,
            "bands": config.bands, "rows": config.rows, "min_similarity": config.min_similarity,
            "planted": rows(planted, config).iter().map(row).collect::<Vec<_>>(), "precision": self.precision(planted),
            "not_planted": self.wrong, "megabytes_per_second": self.speed(), "seconds": self.seconds, "threads": self.threads,
            "peak_bytes": self.peak, "peak_bytes_before": self.before,
        })
    }
}
