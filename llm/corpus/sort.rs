//! Sorting what does not fit in memory.
//!
//! A record is so many words of 64 bits, compared one after another, and stands in files as rows of little-endian words ([`Rows`]).
//! Records are sorted in memory as long as there is room, each such run goes to a file, and runs are merged in streams; where there are
//! more of them than files may be open, groups are merged to longer ones first. What comes out is the ascending sequence of all that went
//! in, equal ones included: it depends neither on the room nor on the order.

use super::rows::{RowWriter, Rows};
use super::work::Work;
use crate::error::{Result, file_error};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;

/// What a sort may use.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of records in memory, or of buffers before files.
    pub bytes: u64,
    /// Files that are open at once, at least 2.
    pub files: usize,
}

/// Files that all threads together have open: systems allow 1024 where nobody changed that.
const OPEN_FILES: usize = 640;

impl Budget {
    /// What one of a stage's threads may use where it does one sort at a time.
    pub fn a_thread(work: &Work) -> Budget {
        let threads = work.threads.max(1);
        Budget { bytes: (work.memory / threads as u64).max(1 << 9), files: (OPEN_FILES / threads).clamp(2, 128) }
    }

    /// The same files, and a part of the bytes.
    pub fn share(self, of: u64) -> Budget {
        Budget { bytes: self.bytes / of, ..self }
    }

    /// Bytes that are read ahead of one file.
    fn buffer(&self) -> usize {
        (self.bytes as usize / self.files.max(2)).clamp(1 << 9, 1 << 18)
    }
}

/// A place for runs, which is gone with them.
struct Spill {
    folder: PathBuf,
    files: usize,
}

impl Spill {
    /// What a killed process has left in the folder is removed.
    fn new(folder: PathBuf) -> Spill {
        let _ = std::fs::remove_dir_all(&folder);
        Spill { folder, files: 0 }
    }

    /// Writes a run, and says where it is.
    fn write<const N: usize>(&mut self, records: impl Iterator<Item = Result<[u64; N]>>) -> Result<Section> {
        let path = self.folder.join(self.files.to_string());
        let fail = |e: io::Error| file_error(&path, "a run of a sort cannot be written", e);
        std::fs::create_dir_all(&self.folder).map_err(fail)?;
        let mut file = BufWriter::with_capacity(1 << 16, File::create(&path).map_err(fail)?);
        let mut count = 0;
        for record in records {
            let record = record?;
            record.iter().try_for_each(|w| file.write_all(&w.to_le_bytes())).map_err(fail)?;
            count += 1;
        }
        file.flush().map_err(fail)?;
        self.files += 1;
        Ok(Section { path, rows: 0..count })
    }
}

impl Drop for Spill {
    fn drop(&mut self) {
        // files that stay cost space, and the next sort in this place removes them
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Ascending records in a file.
#[derive(Clone, Debug)]
pub struct Section {
    path: PathBuf,
    rows: Range<u64>,
}

impl Section {
    /// The records of a file whose first word is at least `from` and, where there is one, below `to`.
    pub fn between(rows: &Rows, from: u64, to: Option<u64>) -> Result<Section> {
        let end = to.map_or(Ok(rows.count()), |to| rows.below(to))?;
        Ok(Section { path: rows.path().into(), rows: rows.below(from)?..end })
    }
}

/// Reads a section.
struct Source<const N: usize> {
    file: BufReader<File>,
    section: Section,
}

impl<const N: usize> Source<N> {
    fn open(section: Section, buffer: usize) -> Result<Source<N>> {
        let fail = |e: io::Error| file_error(&section.path, "a run of a sort cannot be read", e);
        let mut file = BufReader::with_capacity(buffer, File::open(&section.path).map_err(fail)?);
        file.seek(SeekFrom::Start(section.rows.start * 8 * N as u64)).map_err(fail)?;
        Ok(Source { file, section })
    }

    fn next(&mut self) -> Result<Option<[u64; N]>> {
        if self.section.rows.next().is_none() {
            return Ok(None);
        }
        let mut record = [0; N];
        for word in &mut record {
            let mut bytes = [0; 8];
            let read = self.file.read_exact(&mut bytes);
            read.map_err(|e| file_error(&self.section.path, "a run of a sort was cut or cannot be read", e))?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(Some(record))
    }
}

/// Sorted records that come out of several files.
pub struct Merge<const N: usize> {
    // before `_spill`: files are closed before their folder goes
    sources: Vec<Source<N>>,
    /// The next record of each source that has one.
    next: BinaryHeap<Reverse<([u64; N], usize)>>,
    _spill: Option<Spill>,
}

impl<const N: usize> Merge<N> {
    /// The records of all sections. `folder` is for what is merged on the way, and gone afterwards.
    pub fn of(sections: Vec<Section>, folder: PathBuf, budget: Budget) -> Result<Merge<N>> {
        Merge::with(sections, Spill::new(folder), budget)
    }

    fn with(mut sections: Vec<Section>, mut spill: Spill, budget: Budget) -> Result<Merge<N>> {
        sections.retain(|s| !s.rows.is_empty());
        let files = budget.files.max(2);
        while sections.len() > files {
            let mut longer = vec![];
            for group in sections.chunks(files) {
                longer.push(spill.write(Merge::<N>::now(group.to_vec(), budget)?)?);
                // what was merged is not needed again, where it is the sort's own
                group.iter().filter(|s| s.path.starts_with(&spill.folder)).for_each(|s| drop(std::fs::remove_file(&s.path)));
            }
            sections = longer;
        }
        Ok(Merge { _spill: Some(spill), ..Merge::now(sections, budget)? })
    }

    /// Opens all sections at once.
    fn now(sections: Vec<Section>, budget: Budget) -> Result<Merge<N>> {
        let mut sources = sections.into_iter().map(|s| Source::open(s, budget.buffer())).collect::<Result<Vec<Source<N>>>>()?;
        let mut next = BinaryHeap::new();
        for (i, source) in sources.iter_mut().enumerate() {
            next.extend(source.next()?.map(|record| Reverse((record, i))));
        }
        Ok(Merge { sources, next, _spill: None })
    }

    /// The least record that is left, whose source moves on.
    fn take(&mut self) -> Result<Option<[u64; N]>> {
        let Some(mut top) = self.next.peek_mut() else { return Ok(None) };
        let Reverse((record, source)) = *top;
        match self.sources[source].next()? {
            Some(following) => top.0.0 = following,
            None => drop(PeekMut::pop(top)),
        }
        Ok(Some(record))
    }
}

impl<const N: usize> Iterator for Merge<N> {
    type Item = Result<[u64; N]>;

    fn next(&mut self) -> Option<Result<[u64; N]>> {
        self.take().transpose()
    }
}

/// Takes records in any order, and gives them in theirs.
pub struct Sorter<const N: usize> {
    records: Vec<[u64; N]>,
    room: usize,
    runs: Vec<Section>,
    spill: Spill,
    budget: Budget,
}

impl<const N: usize> Sorter<N> {
    /// A sorter whose runs go to a folder of its own, which is gone afterwards.
    pub fn new(folder: PathBuf, budget: Budget) -> Sorter<N> {
        let room = (budget.bytes as usize / (8 * N)).max(1);
        Sorter { records: vec![], room, runs: vec![], spill: Spill::new(folder), budget }
    }

    /// Takes a record.
    pub fn push(&mut self, record: [u64; N]) -> Result<()> {
        if self.records.len() == self.room {
            self.write_run()?;
        }
        if self.records.len() == self.records.capacity() {
            // twice as many, but never more than there is room for
            let more = self.records.len().max(1 << 10).min(self.room - self.records.len());
            self.records.reserve_exact(more);
        }
        self.records.push(record);
        Ok(())
    }

    fn write_run(&mut self) -> Result<()> {
        self.records.sort_unstable();
        self.runs.push(self.spill.write(self.records.iter().map(|r| Ok(*r)))?);
        self.records.clear();
        Ok(())
    }

    /// All records, ascending.
    pub fn finish(mut self) -> Result<Sorted<N>> {
        if self.runs.is_empty() {
            self.records.sort_unstable();
            return Ok(Sorted::Memory(self.records.into_iter()));
        }
        self.write_run()?;
        drop(std::mem::take(&mut self.records));
        Ok(Sorted::Files(Merge::with(self.runs, self.spill, self.budget)?))
    }

    /// Writes all records to a file of rows, ascending and each once.
    pub fn write_distinct(self, mut to: RowWriter) -> Result<u64> {
        let mut last = None;
        for record in self.finish()? {
            let record = record?;
            if last != Some(record) {
                to.push_words(&record)?;
                last = Some(record);
            }
        }
        to.finish()
    }
}

/// Sorted records: all in memory, or merged from files.
pub enum Sorted<const N: usize> {
    /// There were few.
    Memory(std::vec::IntoIter<[u64; N]>),
    /// There were many.
    Files(Merge<N>),
}

impl<const N: usize> Iterator for Sorted<N> {
    type Item = Result<[u64; N]>;

    fn next(&mut self) -> Option<Result<[u64; N]>> {
        match self {
            Sorted::Memory(records) => records.next().map(Ok),
            Sorted::Files(merge) => merge.next(),
        }
    }
}
