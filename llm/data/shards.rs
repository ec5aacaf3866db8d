//! Prepared corpora: a folder of token files with an index, or a plain file of tokens as nanoGPT and llm.c have them.
//!
//! A folder holds [`INDEX`] and, for each [`IndexFile`] in it, `FILE`, the tokens, and `FILE` with the extension `docs`: the start of each
//! document in tokens, as `u64` little-endian, and the number of tokens at the end. Tokens are little-endian and stand alone, or behind
//! llm.c's header of 256 numbers.

use super::token_file::{Positional, TokenFile, Width};
use super::tokens::{TokenFiles, Tokens};
use crate::error::{Error, Result, file_error};
use crate::files::read_short;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// The index's name in a folder.
pub const INDEX: &str = "index.json";

/// What a prepared folder says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Version of this format: 1.
    pub format: u32,
    /// What made the tokens.
    pub tokenizer: IndexTokenizer,
    /// How a token stands in the files.
    pub dtype: Width,
    /// What stands before them.
    pub header: Header,
    /// The files.
    pub parts: IndexParts,
}

/// The tokenizer of a prepared folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexTokenizer {
    /// Its file in the folder.
    pub file: String,
    /// Its fingerprint: 32 hexadecimal digits.
    pub fingerprint: String,
    /// Number of tokens.
    pub vocabulary: usize,
    /// The token that ends each document, where one does.
    pub end_of_text: Option<u32>,
}

/// The files of a prepared folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexParts {
    /// For training.
    pub train: Vec<IndexFile>,
    /// For evaluation.
    pub held_out: Vec<IndexFile>,
}

/// A file of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexFile {
    /// Its name in the folder.
    pub file: String,
    /// Number of tokens.
    pub tokens: u64,
    /// Number of documents.
    pub documents: u64,
    /// xxh3 of the whole file, 128 bits: 32 hexadecimal digits.
    pub checksum: String,
}

/// What stands before the tokens of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Header {
    /// Nothing: the file is tokens, as nanoGPT's.
    Absent,
    /// 256 `i32`: a magic number, a version and the number of tokens.
    LlmC,
}

ir::spell!(Header, "header", [Absent "none", LlmC "llm.c"]);

impl Header {
    /// Its length in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Header::Absent => 0,
            Header::LlmC => 1024,
        }
    }
}

impl Width {
    /// The magic number and the version of llm.c's header: of GPT-2's tokens and of Llama 3's.
    pub fn magic(self) -> [u32; 2] {
        match self {
            Width::U16 => [20240520, 1],
            Width::U32 => [20240801, 7],
        }
    }
}

/// More bytes than any index has.
const LONGEST: u64 = 16 << 20;
/// More tokens, or documents, than any file has.
const MOST: u64 = 1 << 40;
/// Files that are kept open; of more, each is opened for each read.
const OPEN: usize = 100;

/// Tokens for training and held out, in files.
#[derive(Debug)]
pub struct Shards {
    /// For training.
    pub train: Tokens,
    /// Held out.
    pub held_out: Tokens,
    /// Says which tokens these are: 32 hexadecimal digits. Of a folder it follows from its index, with the checksums in there.
    pub fingerprint: String,
}

impl Index {
    /// Reads and checks the index of a folder.
    pub fn read(dir: &Path) -> Result<Index> {
        let path = dir.join(INDEX);
        let text = read_short(&path, LONGEST).map_err(|e| {
            let absent = e.kind() == io::ErrorKind::NotFound;
            let why = if absent { "there is no such file; name a folder that was prepared, or a text".into() } else { e.to_string() };
            file_error(&path, "the index cannot be read", why)
        })?;
        let index: Index = serde_json::from_str(&text).map_err(|e| file_error(&path, "this is no index of shards", e))?;
        index.check().map_err(|why| file_error(&path, "this index is not right", why))?;
        Ok(index)
    }

    /// What is wrong with it, if anything is.
    fn check(&self) -> std::result::Result<(), String> {
        if self.format != 1 {
            return Err(format!("its format is {}, and this version reads format 1; prepare the corpus again", self.format));
        }
        let tokenizer = &self.tokenizer;
        plain(&tokenizer.file)?;
        digits("the tokenizer's fingerprint", &tokenizer.fingerprint)?;
        if !(1..=i32::MAX as usize).contains(&tokenizer.vocabulary) {
            return Err(format!("the vocabulary is {}, expected 1 to {}", tokenizer.vocabulary, i32::MAX));
        }
        if let Some(id) = tokenizer.end_of_text.filter(|id| *id as usize >= tokenizer.vocabulary) {
            return Err(format!("the end of text is {id}, and the vocabulary is 0..{}", tokenizer.vocabulary));
        }
        let mut names = BTreeSet::new();
        for file in self.files() {
            file.check()?;
            if !names.insert(&file.file) {
                return Err(format!("{} is named twice", file.file));
            }
        }
        Ok(())
    }

    /// Every file of tokens.
    fn files(&self) -> impl Iterator<Item = &IndexFile> {
        self.parts.train.iter().chain(&self.parts.held_out)
    }

    /// Says which tokens these are: 32 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        format!("{:032x}", xxh3_128(&serde_json::to_vec(self).expect("an index has a JSON form")))
    }

    /// Opens a part of a folder.
    fn open(&self, dir: &Path, files: &[IndexFile]) -> Result<Tokens> {
        let kept = self.files().count() <= OPEN;
        let files = files.iter().map(|f| self.open_file(dir, f, kept)).collect::<Result<_>>()?;
        Ok(Tokens::Files(TokenFiles::new(files)))
    }

    fn open_file(&self, dir: &Path, of: &IndexFile, kept: bool) -> Result<TokenFile> {
        let file = Positional::open(&dir.join(&of.file), kept)?;
        let documents = Positional::open(&dir.join(&of.file).with_extension("docs"), kept)?;
        is_long(&file, self.header.bytes() + of.tokens * self.dtype.bytes(), &format!("{} tokens", of.tokens))?;
        is_long(&documents, 8 * (of.documents + 1), &format!("the starts of {} documents", of.documents))?;
        if self.header == Header::LlmC && llm_c(&file)? != Some((self.dtype, of.tokens)) {
            let why = format!("it is not that of {} tokens of {}; write the shards again", of.tokens, self.dtype);
            return Err(file_error(&file.path, "llm.c's header is not right", why));
        }
        let (first, last) = (number(&documents, 0)?, number(&documents, 8 * of.documents)?);
        if first != 0 || last != of.tokens {
            let why = format!("they go from token {first} to {last}, and the file has {}; write the shards again", of.tokens);
            return Err(file_error(&documents.path, "the documents are damaged", why));
        }
        let (width, before, vocabulary) = (self.dtype, self.header.bytes(), self.tokenizer.vocabulary);
        Ok(TokenFile { file, width, before, tokens: of.tokens, vocabulary, documents: Some((documents, of.documents)) })
    }
}

impl IndexFile {
    fn check(&self) -> std::result::Result<(), String> {
        plain(&self.file)?;
        digits(&format!("the checksum of {}", self.file), &self.checksum)?;
        if self.tokens > MOST || self.documents > MOST {
            return Err(format!("{} has {} tokens in {} documents, expected at most {MOST}", self.file, self.tokens, self.documents));
        }
        Ok(())
    }
}

impl Shards {
    /// Opens a prepared folder. Lengths and the ends of documents are checked now; ids, and starts of documents, as they are read;
    /// checksums by [`Shards::verify`] alone. With a tokenizer's fingerprint, shards of another tokenizer are refused.
    pub fn open(dir: &Path, fingerprint: Option<&str>) -> Result<Shards> {
        let index = Index::read(dir)?;
        if let Some(want) = fingerprint.filter(|want| *want != index.tokenizer.fingerprint) {
            let have = &index.tokenizer.fingerprint;
            let why = format!("its tokenizer has the fingerprint {have}, and this one {want}; prepare the corpus again, or use its own tokenizer");
            return Err(file_error(dir, "these shards are of another tokenizer", why));
        }
        let (train, held_out) = (index.open(dir, &index.parts.train)?, index.open(dir, &index.parts.held_out)?);
        Ok(Shards { train, held_out, fingerprint: index.fingerprint() })
    }

    /// Opens a plain file of tokens: nanoGPT's, or one with llm.c's header. Beside `…train….bin` that with `val` in its place is held out;
    /// where there is none, the last tokens are, a share of them. Each file is one document.
    ///
    /// The fingerprint is of the lengths and of 4 KiB at 256 places of each file, for nothing says more without reading it whole.
    pub fn plain(path: &Path, vocabulary: usize, held_out: f64) -> Result<Shards> {
        let whole = plain_file(path, vocabulary)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().replacen("train", "val", 1);
        let other = path.with_file_name(name);
        let of = |file: TokenFile| Tokens::Files(TokenFiles::new(vec![file]));
        if other != path && other.exists() {
            let held_out = plain_file(&other, vocabulary)?;
            let fingerprint = format!("{:032x}", xxh3_128(&[sampled(&whole.file)?, sampled(&held_out.file)?].concat()));
            return Ok(Shards { train: of(whole), held_out: of(held_out), fingerprint });
        }
        let fingerprint = format!("{:032x}", xxh3_128(&sampled(&whole.file)?));
        let at = (whole.tokens as f64 * (1.0 - held_out)) as u64;
        Ok(Shards { train: of(whole.part(0..at)?), held_out: of(whole.part(at..whole.tokens)?), fingerprint })
    }

    /// Reads a prepared folder whole: every checksum, id and document.
    pub fn verify(dir: &Path) -> Result<()> {
        let index = Index::read(dir)?;
        for of in index.files() {
            let file = index.open_file(dir, of, true)?;
            file.verify()?;
            let have = file.file.checksum()?;
            if have != of.checksum {
                let why = format!("it is {have}, and {INDEX} says {}; write the shards again", of.checksum);
                return Err(file_error(&file.file.path, "its checksum is another", why));
            }
        }
        Ok(())
    }
}

/// Read at once where a file is read whole.
const CHUNK: u64 = 1 << 20;

impl TokenFile {
    /// Reads every token and every document.
    fn verify(&self) -> Result<()> {
        let chunks = |all: u64| (0..all).step_by(CHUNK as usize).map(move |at| at..(at + CHUNK).min(all));
        for range in chunks(self.tokens) {
            self.read(range.start, (range.end - range.start) as usize, &mut vec![])?;
        }
        chunks(self.documents()).try_for_each(|documents| self.ranges(documents).map(drop))
    }
}

impl Positional {
    fn checksum(&self) -> Result<String> {
        let mut hash = Xxh3::new();
        for at in (0..self.bytes).step_by(CHUNK as usize) {
            hash.update(&self.read(at, CHUNK.min(self.bytes - at) as usize)?);
        }
        Ok(format!("{:032x}", hash.digest128()))
    }
}

/// A file of tokens without an index.
fn plain_file(path: &Path, vocabulary: usize) -> Result<TokenFile> {
    let file = Positional::open(path, true)?;
    let (width, before) = llm_c(&file)?.map_or((Width::U16, 0), |h| (h.0, Header::LlmC.bytes()));
    let tokens = match llm_c(&file)? {
        Some((_, tokens)) => tokens,
        None if file.bytes.is_multiple_of(2) => file.bytes / 2,
        None => return Err(file_error(path, "this is no file of tokens of two bytes", format!("it has {} bytes; is it a text?", file.bytes))),
    };
    is_long(&file, before + tokens * width.bytes(), &format!("{tokens} tokens"))?;
    Ok(TokenFile { file, width, before, tokens, vocabulary, documents: None })
}

/// How tokens stand behind llm.c's header and how many there are, where there is one.
fn llm_c(file: &Positional) -> Result<Option<(Width, u64)>> {
    if file.bytes < Header::LlmC.bytes() {
        return Ok(None);
    }
    let head = file.read(0, 12)?;
    let word = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let width = [Width::U16, Width::U32].into_iter().find(|w| w.magic() == [word(0), word(4)]);
    Ok(width.map(|w| (w, u64::from(word(8)))))
}

/// A file's length, and 4 KiB at places spread over it.
fn sampled(file: &Positional) -> Result<Vec<u8>> {
    let mut bytes = file.bytes.to_le_bytes().to_vec();
    let last = file.bytes.saturating_sub(4096);
    for i in 0..256 {
        let at = (u128::from(last) * i / 255) as u64;
        bytes.extend(file.read(at, (file.bytes - at).min(4096) as usize)?);
    }
    Ok(bytes)
}

/// The `u64` at a byte.
fn number(file: &Positional, at: u64) -> Result<u64> {
    Ok(u64::from_le_bytes(file.read(at, 8)?.try_into().expect("eight bytes were read")))
}

/// A file has the length that it should have.
fn is_long(file: &Positional, want: u64, what: &str) -> Result<()> {
    let (have, path) = (file.bytes, file.path.display());
    match have.cmp(&want) {
        std::cmp::Ordering::Equal => Ok(()),
        order => {
            let how = if order.is_lt() { "cut short" } else { "too long" };
            Err(Error(format!("{path}: the file is {how}: {what} are {want} bytes, and it has {have}; write the shards again")))
        }
    }
}

/// A name in a folder, and no path out of it.
fn plain(name: &str) -> std::result::Result<(), String> {
    let bad = ["", ".", ".."].contains(&name) || name.contains(['/', '\\', '\0']);
    if bad { Err(format!("{name:?} is no plain name of a file in its folder")) } else { Ok(()) }
}

fn digits(what: &str, text: &str) -> std::result::Result<(), String> {
    let good = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if good { Ok(()) } else { Err(format!("{what} is {text:?}, expected 32 hexadecimal digits")) }
}
