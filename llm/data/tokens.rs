//! Tokens in order, in memory or in files.

use super::made::Made;
use super::piece::Piece;
use super::token_file::TokenFile;
use crate::error::Result;
use std::ops::Range;

/// Tokens in order, with where their documents begin.
#[derive(Debug)]
pub enum Tokens {
    /// In memory, all of one document.
    Memory(Vec<i32>),
    /// In memory, with the start of each document and the end of the last, and for each token whether it is asked, unless all are.
    #[allow(missing_docs)]
    Documents { ids: Vec<i32>, starts: Vec<u64>, asked: Vec<bool> },
    /// In files, one after another.
    Files(TokenFiles),
    /// Made when they are read: sequences and their answers in turns.
    Made(Made),
}

/// Files that are one sequence of tokens.
#[derive(Debug)]
pub struct TokenFiles {
    pub(super) files: Vec<TokenFile>,
    /// How many tokens and documents there are before each file, and in all.
    before: Vec<(u64, u64)>,
}

impl TokenFiles {
    pub(super) fn new(files: Vec<TokenFile>) -> TokenFiles {
        let mut before = vec![(0, 0)];
        for file in &files {
            let (tokens, documents) = before[before.len() - 1];
            before.push((tokens + file.tokens, documents + file.documents()));
        }
        TokenFiles { files, before }
    }

    fn total(&self) -> (u64, u64) {
        self.before[self.files.len()]
    }

    /// Reads a range; files may end within it.
    fn read(&self, mut range: Range<u64>, to: &mut Vec<i32>) -> Result<()> {
        while !range.is_empty() {
            let i = self.before.partition_point(|b| b.0 <= range.start) - 1;
            let end = range.end.min(self.before[i + 1].0);
            self.files[i].read(range.start - self.before[i].0, (end - range.start) as usize, to)?;
            range.start = end;
        }
        Ok(())
    }

    fn ranges(&self, mut documents: Range<u64>) -> Result<Vec<Range<u64>>> {
        let mut ranges = vec![];
        while !documents.is_empty() {
            let i = self.before.partition_point(|b| b.1 <= documents.start) - 1;
            let (end, (tokens, first)) = (documents.end.min(self.before[i + 1].1), self.before[i]);
            let own = self.files[i].ranges(documents.start - first..end - first)?;
            ranges.extend(own.into_iter().map(|r| r.start + tokens..r.end + tokens));
            documents.start = end;
        }
        Ok(ranges)
    }
}

impl Tokens {
    /// Documents in memory.
    pub fn of<'d>(documents: impl IntoIterator<Item = &'d Piece>) -> Tokens {
        let (mut ids, mut starts, mut asked) = (vec![], vec![0], vec![]);
        for document in documents {
            asked.extend((0..document.ids.len()).map(|i| document.asks(i)));
            ids.extend(&document.ids);
            starts.push(ids.len() as u64);
        }
        if asked.iter().all(|a| *a) {
            asked = vec![];
        }
        Tokens::Documents { ids, starts, asked }
    }

    /// Number of tokens.
    pub fn count(&self) -> u64 {
        match self {
            Tokens::Memory(ids) | Tokens::Documents { ids, .. } => ids.len() as u64,
            Tokens::Files(files) => files.total().0,
            Tokens::Made(made) => made.count(),
        }
    }

    /// Whether they are made when they are read, more than any run takes.
    pub fn is_made(&self) -> bool {
        matches!(self, Tokens::Made(_))
    }

    /// Number of documents.
    pub fn documents(&self) -> u64 {
        match self {
            Tokens::Memory(_) => 1,
            Tokens::Documents { starts, .. } => starts.len() as u64 - 1,
            Tokens::Files(files) => files.total().1,
            Tokens::Made(made) => made.documents(),
        }
    }

    /// The ids of a range of tokens that there are.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<i32>> {
        match self {
            Tokens::Memory(ids) | Tokens::Documents { ids, .. } => Ok(ids[range.start as usize..range.end as usize].to_vec()),
            Tokens::Made(made) => made.read(range),
            Tokens::Files(files) => {
                let mut ids = Vec::with_capacity((range.end - range.start) as usize);
                files.read(range, &mut ids).map(|_| ids)
            }
        }
    }

    /// The number of the document that begins at a token.
    pub(super) fn document_at(&self, start: u64) -> u64 {
        match self {
            Tokens::Documents { starts, .. } => starts.partition_point(|s| *s < start) as u64,
            Tokens::Made(made) => made.document_at(start),
            Tokens::Memory(_) | Tokens::Files(_) => 0,
        }
    }

    /// The same with which of them are asked.
    pub fn piece(&self, range: Range<u64>) -> Result<Piece> {
        let asked = match self {
            Tokens::Documents { asked, .. } if !asked.is_empty() => asked[range.start as usize..range.end as usize].to_vec(),
            Tokens::Documents { .. } | Tokens::Memory(_) | Tokens::Files(_) | Tokens::Made(_) => vec![],
        };
        Ok(Piece { ids: self.read(range)?, asked })
    }

    /// The tokens of consecutive documents, a range each.
    pub fn ranges(&self, documents: Range<u64>) -> Result<Vec<Range<u64>>> {
        match self {
            Tokens::Memory(ids) => Ok(documents.map(|_| 0..ids.len() as u64).collect()),
            Tokens::Documents { starts, .. } => Ok(documents.map(|d| starts[d as usize]..starts[d as usize + 1]).collect()),
            Tokens::Made(made) => Ok(made.ranges(documents)),
            Tokens::Files(files) => files.ranges(documents),
        }
    }
}
