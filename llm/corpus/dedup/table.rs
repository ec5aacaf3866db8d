//! What is kept of each document, to be found by its place: its length, its name, its signature.

use crate::corpus::document::Document;
use crate::corpus::rows::{RowWriter, Rows};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bits of a place that number a thing within its part; those above number the part.
const WITHIN: u32 = 40;

/// The most parts a stage has.
pub const PARTS: usize = 1 << (64 - WITHIN);

/// Where a document, a paragraph, a line or a word is: the number of its part, then its own in that part. Places ascend as the corpus is
/// read.
pub type Place = u64;

/// The place of what is numbered in a part.
pub fn place(part: usize, number: u64) -> Result<Place> {
    if part >= PARTS || number >> WITHIN != 0 {
        return Err(Error(format!("there are more than {PARTS} parts, or more than 2^{WITHIN} words in one; make fewer, or smaller ones")));
    }
    Ok(((part as u64) << WITHIN) | number)
}

/// The first place of a part.
pub fn first_place(part: usize) -> Place {
    (part as u64) << WITHIN
}

fn part_of(place: Place) -> usize {
    (place >> WITHIN) as usize
}

fn number_of(place: Place) -> u64 {
    place & ((1 << WITHIN) - 1)
}

/// The files of a part: of each document a row, its bytes and where its id ends as `u64` and its minima as `i32`, all little-endian, and
/// the ids one after another.
fn files(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("{name}.table")), folder.join(format!("{name}.ids")))
}

fn width(minima: usize) -> usize {
    16 + 4 * minima
}

/// Writes what is kept of a part's documents.
pub struct TableWriter {
    rows: RowWriter,
    ids: RowWriter,
    minima: usize,
}

impl TableWriter {
    /// Begins the files of a part, with so many minima a document.
    pub fn create(folder: &Path, name: &str, minima: usize, made_of: &str) -> Result<TableWriter> {
        let (rows, ids) = files(folder, name);
        Ok(TableWriter { rows: RowWriter::create(&rows, width(minima), made_of)?, ids: RowWriter::create(&ids, 1, made_of)?, minima })
    }

    /// Appends a document. One without a signature has zeros, which nobody asks for.
    pub fn push(&mut self, document: &Document, signature: &[i32]) -> Result<()> {
        self.ids.push(document.id.as_bytes())?;
        self.rows.push_words(&[document.text.len() as u64, self.ids.bytes()])?;
        (0..self.minima).try_for_each(|k| self.rows.push(&signature.get(k).copied().unwrap_or(0).to_le_bytes()))
    }

    /// Puts the files in their places.
    pub fn finish(self) -> Result<()> {
        self.ids.finish()?;
        self.rows.finish().map(drop)
    }
}

/// What is known of a document.
pub struct Entry {
    /// Bytes of its text.
    pub bytes: u64,
    /// Its minima.
    pub signature: Vec<i32>,
}

/// Files of parts that are open at once.
const OPEN: usize = 64;

/// The tables of all parts.
pub struct Tables<'a> {
    folder: &'a Path,
    /// Of each part its name and what it was made of.
    parts: &'a [(String, String)],
    minima: usize,
    open: BTreeMap<usize, (Rows, Rows)>,
}

impl<'a> Tables<'a> {
    /// The tables of parts, named with what they were made of, in order.
    pub fn new(folder: &'a Path, parts: &'a [(String, String)], minima: usize) -> Tables<'a> {
        Tables { folder, parts, minima, open: BTreeMap::new() }
    }

    fn of(&mut self, part: usize) -> Result<&(Rows, Rows)> {
        if !self.open.contains_key(&part) {
            if self.open.len() == OPEN {
                self.open.clear();
            }
            let (name, made_of) = &self.parts[part];
            let (rows, ids) = files(self.folder, name);
            self.open.insert(part, (Rows::open(&rows, width(self.minima), made_of)?, Rows::open(&ids, 1, made_of)?));
        }
        Ok(&self.open[&part])
    }

    /// What is known of the document at a place.
    pub fn entry(&mut self, place: Place) -> Result<Entry> {
        let mut row = vec![0; width(self.minima)];
        self.of(part_of(place))?.0.read(number_of(place), &mut row)?;
        let signature = row[16..].chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().expect("four bytes"))).collect();
        Ok(Entry { bytes: word(&row[..8]), signature })
    }

    /// The id of the document at a place.
    pub fn id(&mut self, place: Place) -> Result<String> {
        let (minima, number) = (self.minima, number_of(place));
        let (rows, ids) = self.of(part_of(place))?;
        let end = |n: u64| {
            let mut row = vec![0; width(minima)];
            rows.read(n, &mut row).map(|()| word(&row[8..16]))
        };
        let start = if number == 0 { 0 } else { end(number - 1)? };
        let mut id = vec![0; end(number)?.saturating_sub(start) as usize];
        ids.read(start, &mut id)?;
        Ok(String::from_utf8_lossy(&id).into_owned())
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}
