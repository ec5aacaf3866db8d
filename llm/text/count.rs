//! How often each word stands in a text of any length, in bounded memory.

use super::split::Split;
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How text becomes the words that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Splitter {
    /// As byte-pair encoding has them.
    Bytes(Split),
    /// BERT's: normalised, apart at spaces and signs.
    Bert {
        /// Whether case and accents are dropped.
        lowercase: bool,
    },
    /// Apart at spaces, each of which is a mark at its word's beginning.
    Metaspace,
}

impl Splitter {
    /// Tells each word of a text.
    pub fn words(self, text: &str, each: &mut dyn FnMut(&str)) {
        use tokenizers::normalizers::BertNormalizer;
        use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
        use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
        use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};
        let mut pieces = match self {
            Splitter::Bytes(split) => return split.words(text).for_each(each),
            Splitter::Bert { .. } | Splitter::Metaspace => PreTokenizedString::from(text),
        };
        let split = match self {
            Splitter::Bert { lowercase } => pieces
                .normalize(|s| tokenizers::Normalizer::normalize(&BertNormalizer::new(true, true, None, lowercase), s))
                .and_then(|()| BertPreTokenizer.pre_tokenize(&mut pieces)),
            Splitter::Bytes(_) | Splitter::Metaspace => Metaspace::new('▁', PrependScheme::Always, true).pre_tokenize(&mut pieces),
        };
        split.expect("neither fails on any text");
        pieces.get_splits(OffsetReferential::Normalized, OffsetType::Byte).iter().for_each(|p| each(p.0));
    }

    /// The last place at or before `limit` where a text may be cut without changing its words.
    pub fn cut(self, text: &str, limit: usize) -> Option<usize> {
        match self {
            Splitter::Bytes(split) => split.cut(text, limit),
            Splitter::Bert { .. } => Split::Gpt2.cut(text, limit),
            // a text's first word gets a mark unless it begins with a space, which becomes one
            Splitter::Metaspace => text[..text.floor_char_boundary(limit.min(text.len().saturating_sub(1)) + 1)].rfind(' ').filter(|at| *at > 0),
        }
    }
}

/// Words and how often they were met.
type Counts = FxHashMap<Box<[u8]>, u64>;

/// Counts words. What does not fit into memory goes to a temporary file, sorted, and is added up at the end.
pub struct WordCounts {
    splitter: Splitter,
    threads: usize,
    memory: usize,
    counts: Vec<Counts>,
    runs: Vec<File>,
}

/// Words with their counts, in the order of their bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The words.
    pub words: Vec<(Box<[u8]>, u64)>,
    /// Words met less often than this were left out, so that the others fit into memory; 1 where none was.
    pub least: u64,
}

/// What a word takes beside its bytes.
const OVERHEAD: usize = 48;
/// Bytes of text that a thread counts at a time.
const PIECE: usize = 1 << 20;

impl WordCounts {
    /// A count of nothing. `memory` bytes are for words.
    pub fn new(splitter: Splitter, threads: usize, memory: usize) -> WordCounts {
        WordCounts { splitter, threads: threads.max(1), memory, counts: vec![Counts::default(); threads.max(1)], runs: vec![] }
    }

    /// Counts the words of a text.
    pub fn add(&mut self, text: &str) -> Result<()> {
        self.add_all(&[text])
    }

    /// Counts the words of texts. No word is of two texts.
    pub fn add_all(&mut self, texts: &[&str]) -> Result<()> {
        let pieces: Vec<&str> = texts.iter().flat_map(|t| pieces(self.splitter, t, PIECE)).collect();
        let mut rest = &pieces[..];
        while !rest.is_empty() {
            let (mut n, mut bytes) = (0, 0);
            while n < rest.len() && bytes < 2 * PIECE * self.threads {
                bytes += rest[n].len();
                n += 1;
            }
            let (now, later) = rest.split_at(n);
            self.count(now);
            rest = later;
            if self.counts.iter().map(held).sum::<usize>() > self.memory / 2 {
                self.spill().map_err(temporary)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, pieces: &[&str]) {
        let (splitter, next) = (self.splitter, &AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for counts in &mut self.counts {
                scope.spawn(move || {
                    while let Some(piece) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                        splitter.words(piece, &mut |w| count(counts, w.as_bytes()));
                    }
                });
            }
        });
    }

    /// All words in order. Of more than fit into memory the least frequent are left out.
    pub fn finish(mut self) -> Result<Counted> {
        if self.runs.is_empty() {
            let words = sorted(&mut self.counts);
            return Ok(Counted { words, least: 1 });
        }
        self.spill().map_err(temporary)?;
        self.merged().map_err(temporary)
    }

    fn spill(&mut self) -> io::Result<()> {
        let words = sorted(&mut self.counts);
        let mut run = BufWriter::new(tempfile::tempfile()?);
        words.iter().try_for_each(|(word, n)| write(&mut run, word, *n))?;
        self.runs.push(rewound(run)?);
        Ok(())
    }

    /// Adds up the runs into one, sees how many words of each count there are, and reads those that fit.
    fn merged(self) -> io::Result<Counted> {
        let mut all = BufWriter::new(tempfile::tempfile()?);
        // bytes that words of a count take; the last place is for all beyond
        let mut sizes = vec![0usize; 1 << 16];
        let last = sizes.len() - 1;
        merge(self.runs, &mut |word, n| {
            sizes[(n as usize).min(last)] += word.len() + OVERHEAD;
            write(&mut all, word, n)
        })?;
        let (mut least, mut held) = (last + 1, 0);
        while least > 1 && held + sizes[least - 1] <= self.memory {
            least -= 1;
            held += sizes[least];
        }
        let (mut reader, mut words) = (BufReader::new(rewound(all)?), vec![]);
        while let Some((word, n)) = read(&mut reader)? {
            if n >= least as u64 {
                words.push((word, n));
            }
        }
        Ok(Counted { words, least: least as u64 })
    }
}

fn temporary(e: io::Error) -> Error {
    Error(format!("words cannot be kept in a temporary file: {e}; set TMPDIR to a folder with room, or give more --memory"))
}

fn count(counts: &mut Counts, word: &[u8]) {
    match counts.get_mut(word) {
        Some(n) => *n += 1,
        None => drop(counts.insert(word.into(), 1)),
    }
}

/// About what a table of words takes.
fn held(counts: &Counts) -> usize {
    // words are short: their mean length is not asked of each
    counts.len() * (OVERHEAD + 12)
}

/// All tables as one list in order; the tables are empty afterwards.
fn sorted(counts: &mut [Counts]) -> Vec<(Box<[u8]>, u64)> {
    let mut all: Vec<(Box<[u8]>, u64)> = counts.iter_mut().flat_map(|c| std::mem::take(c).into_iter()).collect();
    all.sort_unstable();
    all.dedup_by(|b, a| {
        let same = a.0 == b.0;
        a.1 += if same { b.1 } else { 0 };
        same
    });
    all
}

/// A text in pieces of about a size, cut where that changes no word.
pub fn pieces(splitter: Splitter, mut text: &str, size: usize) -> Vec<&str> {
    let mut pieces = vec![];
    while text.len() > size {
        let Some(at) = splitter.cut(text, size) else { break };
        let (piece, rest) = text.split_at(at);
        pieces.push(piece);
        text = rest;
    }
    if !text.is_empty() {
        pieces.push(text);
    }
    pieces
}

fn write(to: &mut impl Write, word: &[u8], n: u64) -> io::Result<()> {
    to.write_all(&(word.len() as u32).to_le_bytes())?;
    to.write_all(word)?;
    to.write_all(&n.to_le_bytes())
}

fn read(from: &mut impl Read) -> io::Result<Option<(Box<[u8]>, u64)>> {
    let (mut length, mut n) = ([0; 4], [0; 8]);
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut word = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut word)?;
    from.read_exact(&mut n)?;
    Ok(Some((word.into(), u64::from_le_bytes(n))))
}

fn rewound(file: BufWriter<File>) -> io::Result<File> {
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// A run's next word, the first in order on top of a heap.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    word: std::cmp::Reverse<Box<[u8]>>,
    n: u64,
    run: usize,
}

fn merge(runs: Vec<File>, each: &mut dyn FnMut(&[u8], u64) -> io::Result<()>) -> io::Result<()> {
    let mut runs: Vec<BufReader<File>> = runs.into_iter().map(BufReader::new).collect();
    let mut heap = BinaryHeap::new();
    let next = |from: &mut BufReader<File>, run: usize| -> io::Result<Option<Head>> {
        Ok(read(from)?.map(|(word, n)| Head { word: std::cmp::Reverse(word), n, run }))
    };
    for (run, from) in runs.iter_mut().enumerate() {
        heap.extend(next(from, run)?);
    }
    let mut now: Option<(Box<[u8]>, u64)> = None;
    while let Some(Head { word, n, run }) = heap.pop() {
        heap.extend(next(&mut runs[run], run)?);
        match &mut now {
            Some((w, sum)) if *w == word.0 => *sum += n,
            _ => {
                if let Some((w, sum)) = now.replace((word.0, n)) {
                    each(&w, sum)?;
                }
            }
        }
    }
    now.map_or(Ok(()), |(w, sum)| each(&w, sum))
}
