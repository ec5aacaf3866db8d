//! Files of rows of one width, which say how many they have and what they were made of.
//!
//! The rows stand one after another with nothing between; behind the last are 40 bytes: `eggrows1`, the width in bytes and the number of
//! rows as little-endian `u64`, and the 16 bytes of what it was made of. A file whose length is not what these say was cut.

use crate::error::{Error, Result, file_error};
use crate::files::{NewFile, read_exact_at};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"eggrows1";
const TRAILER: usize = 40;

/// What is to be done about a file that is damaged.
const AGAIN: &str = "remove it, and the stage makes it again";

/// The end of a file of rows.
fn trailer(width: usize, count: u64, made_of: &str) -> [u8; TRAILER] {
    let mut end = [0; TRAILER];
    let made_of = u128::from_str_radix(made_of, 16).expect("what something was made of is 32 hexadecimal digits");
    end[..8].copy_from_slice(MAGIC);
    end[8..16].copy_from_slice(&(width as u64).to_le_bytes());
    end[16..24].copy_from_slice(&count.to_le_bytes());
    end[24..].copy_from_slice(&made_of.to_le_bytes());
    end
}

/// Writes a file of rows, which is there once it is finished.
pub struct RowWriter {
    file: BufWriter<NewFile>,
    path: PathBuf,
    width: usize,
    bytes: u64,
    made_of: String,
}

impl RowWriter {
    /// Begins a file of rows of `width` bytes. `made_of` is 32 hexadecimal digits.
    pub fn create(path: &Path, width: usize, made_of: &str) -> Result<RowWriter> {
        let fail = |e: io::Error| file_error(path, "the file cannot be written", e);
        path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(fail)?;
        let file = BufWriter::with_capacity(1 << 16, NewFile::create(path).map_err(fail)?);
        Ok(RowWriter { file, path: path.into(), width, bytes: 0, made_of: made_of.into() })
    }

    /// Appends bytes, of one row or of several.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|e| file_error(&self.path, "the file cannot be written", e))
    }

    /// Appends a row of words.
    pub fn push_words<const N: usize>(&mut self, words: &[u64; N]) -> Result<()> {
        words.iter().try_for_each(|w| self.push(&w.to_le_bytes()))
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the file in its place, and gives its number of rows.
    pub fn finish(mut self) -> Result<u64> {
        let count = self.bytes / self.width as u64;
        let fail = |e: io::Error| file_error(&self.path, "the file cannot be written", e);
        self.file.write_all(&trailer(self.width, count, &self.made_of)).map_err(fail)?;
        self.file.into_inner().map_err(|e| fail(e.into_error()))?.commit().map_err(fail)?;
        Ok(count)
    }
}

/// A file of rows, read by position.
pub struct Rows {
    file: File,
    path: PathBuf,
    width: usize,
    count: u64,
}

impl Rows {
    /// Opens a file of rows of `width` bytes that must have been made of what is said.
    pub fn open(path: &Path, width: usize, made_of: &str) -> Result<Rows> {
        let fail = |e: io::Error| file_error(path, "the rows cannot be read", e);
        let file = File::open(path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let count = length.saturating_sub(TRAILER as u64) / width as u64;
        let mut end = [0; TRAILER];
        if length == count * width as u64 + TRAILER as u64 {
            read_exact_at(&file, &mut end, length - TRAILER as u64).map_err(fail)?;
        }
        if end[..24] != trailer(width, count, made_of)[..24] {
            return Err(file_error(path, "the file was cut or is damaged", AGAIN));
        }
        if end != trailer(width, count, made_of) {
            return Err(file_error(path, "it was made of other files or with other settings", "run the step that makes it again"));
        }
        Ok(Rows { file, path: path.into(), width, count })
    }

    /// Whether there is a whole file that was made of what is said.
    pub fn are_there(path: &Path, width: usize, made_of: &str) -> bool {
        Rows::open(path, width, made_of).is_ok()
    }

    /// How many rows there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads rows from the one numbered `first` on, as many as there is room for.
    pub fn read(&self, first: u64, into: &mut [u8]) -> Result<()> {
        if first + (into.len() / self.width) as u64 > self.count {
            return Err(file_error(&self.path, &format!("there is no row {first}, there are {}", self.count), AGAIN));
        }
        read_exact_at(&self.file, into, first * self.width as u64).map_err(|e| file_error(&self.path, "the rows cannot be read", e))
    }

    /// The first word of a row.
    fn first_word(&self, row: u64) -> Result<u64> {
        let mut word = vec![0; self.width];
        self.read(row, &mut word)?;
        Ok(u64::from_le_bytes(word[..8].try_into().expect("a row has a word")))
    }

    /// Of rows that ascend by their first word, the number of those where it is less than `bound`.
    pub fn below(&self, bound: u64) -> Result<u64> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_word(middle)? < bound {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        Ok(low)
    }
}

/// The bytes of what cannot be held in memory, as an error.
pub fn too_large(what: &str, bytes: u64, memory: u64) -> Error {
    let mebibytes = |b: u64| b.div_ceil(1 << 20);
    Error(format!("{what} take {} MiB of the {} MiB there are; try --memory {}MiB", mebibytes(bytes), mebibytes(memory), mebibytes(2 * bytes)))
}
