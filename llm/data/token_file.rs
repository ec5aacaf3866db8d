//! A file of tokens, read where it is asked.
//!
//! Reads are positional: the system's page cache is the memory, no copy of the corpus is kept, and a file that is cut short under a
//! reader is an error. Mapped memory would end the process there, and would need `unsafe`.

use crate::error::{Error, Result, file_error};
use crate::files::{irregular, read_exact_at};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How a token stands in a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Width {
    /// In two bytes.
    U16,
    /// In four.
    U32,
}

ir::spell!(Width, "type of tokens", [U16 "u16", U32 "u32"]);

impl Width {
    /// What the ids of a vocabulary of a size need.
    pub fn of(vocabulary: usize) -> Width {
        if vocabulary > 1 << 16 { Width::U32 } else { Width::U16 }
    }

    /// Ids as a file's bytes; each is of a vocabulary that this is wide enough for.
    pub fn written(self, ids: &[i32]) -> Vec<u8> {
        match self {
            Width::U16 => ids.iter().flat_map(|id| (*id as u16).to_le_bytes()).collect(),
            Width::U32 => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        }
    }

    /// Bytes a token.
    pub fn bytes(self) -> u64 {
        match self {
            Width::U16 => 2,
            Width::U32 => 4,
        }
    }

    /// The ids of a file's bytes. Those of four bytes that are no `i32` become negative, which no vocabulary has.
    fn ids(self, bytes: &[u8]) -> Vec<i32> {
        match self {
            Width::U16 => bytes.as_chunks().0.iter().map(|b| i32::from(u16::from_le_bytes(*b))).collect(),
            Width::U32 => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect(),
        }
    }
}

/// A file that is read at positions.
#[derive(Debug)]
pub(super) struct Positional {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// Open all the time, where there are not too many.
    file: Option<File>,
}

impl Positional {
    /// Finds a file and its length. One that is not `kept` open is opened anew at each read.
    pub(super) fn open(path: &Path, kept: bool) -> Result<Positional> {
        let fail = |e: io::Error| file_error(path, "the tokens cannot be read", e);
        let what = std::fs::metadata(path).map_err(fail)?;
        if let Some(what) = irregular(&what) {
            return Err(file_error(path, "the tokens cannot be read", format!("it is {what}; name a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        Ok(Positional { path: path.into(), bytes: what.len(), file: kept.then_some(file) })
    }

    /// The bytes at a position.
    pub(super) fn read(&self, at: u64, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = match &self.file {
            Some(file) => read_exact_at(file, &mut bytes, at),
            None => File::open(&self.path).and_then(|file| read_exact_at(&file, &mut bytes, at)),
        };
        read.map_err(|e| {
            let short = format!("it ended at or before byte {}: it was cut short since it was opened; write it again", at + count as u64);
            let why = if e.kind() == io::ErrorKind::UnexpectedEof { short } else { e.to_string() };
            file_error(&self.path, "the tokens cannot be read", why)
        })?;
        Ok(bytes)
    }
}

/// A file of tokens, or a range of one, with where its documents begin.
#[derive(Debug)]
pub struct TokenFile {
    pub(super) file: Positional,
    pub(super) width: Width,
    /// Bytes before the first token: the header's, and those of tokens that are another part's.
    pub(super) before: u64,
    /// Number of tokens.
    pub(super) tokens: u64,
    /// Ids are below this.
    pub(super) vocabulary: usize,
    /// The starts of documents, and their number; without it all tokens are one document.
    pub(super) documents: Option<(Positional, u64)>,
}

impl TokenFile {
    /// Appends tokens of a range within the file. An id beyond the vocabulary is an error.
    pub(super) fn read(&self, at: u64, count: usize, to: &mut Vec<i32>) -> Result<()> {
        let width = self.width.bytes();
        let ids = self.width.ids(&self.file.read(self.before + at * width, count * width as usize)?);
        if let Some(i) = ids.iter().position(|id| !(0..self.vocabulary as i64).contains(&i64::from(*id))) {
            let (place, id) = (at + i as u64, i64::from(ids[i]) & 0xFFFF_FFFF);
            return Err(Error(format!(
                "{}: token {place} is {id}, and the vocabulary is 0..{}; this file is of another tokenizer, or damaged",
                self.file.path.display(),
                self.vocabulary
            )));
        }
        to.extend(ids);
        Ok(())
    }

    /// Number of documents.
    pub(super) fn documents(&self) -> u64 {
        self.documents.as_ref().map_or(1, |d| d.1)
    }

    /// The tokens of consecutive documents, each as a range within the file.
    pub(super) fn ranges(&self, documents: Range<u64>) -> Result<Vec<Range<u64>>> {
        let Some((file, _)) = &self.documents else { return Ok(documents.map(|_| 0..self.tokens).collect()) };
        let bytes = file.read(documents.start * 8, (documents.end - documents.start + 1) as usize * 8)?;
        let starts: Vec<u64> = bytes.as_chunks().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
        let range = |(i, pair): (usize, &[u64])| match pair {
            [start, end] if start <= end && *end <= self.tokens => Ok(*start..*end),
            _ => {
                let number = documents.start + i as u64;
                let why = format!("document {number} is tokens {} to {} of {}; write the shards again", pair[0], pair[1], self.tokens);
                Err(file_error(&file.path, "the documents are damaged", why))
            }
        };
        starts.windows(2).enumerate().map(range).collect()
    }

    /// The same file's tokens of a range, as one document.
    pub(super) fn part(&self, range: Range<u64>) -> Result<TokenFile> {
        let file = Positional::open(&self.file.path, true)?;
        let before = self.before + range.start * self.width.bytes();
        Ok(TokenFile { file, before, tokens: range.end - range.start, documents: None, ..*self })
    }
}
