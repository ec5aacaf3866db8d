//! Whole documents packed into rows.

use super::permutation::{Permutation, Purpose};
use super::tokens::Tokens;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// How tokens become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Packing {
    /// Windows of the tokens in order, whatever documents they are of.
    #[default]
    Windows,
    /// Whole documents, each where it fits best; none sees another.
    BestFit,
    /// Whole documents, each in a row of its own that is filled up.
    Padded,
    /// The same, a step's rows of like lengths, and filled up to the shortest of some lengths that has room.
    Bucketed,
}

ir::spell!(Packing, "packing", [Windows "windows", BestFit "best-fit", Padded "padded", Bucketed "bucketed"]);

impl Packing {
    /// Whether each document has rows of its own.
    pub(super) fn is_alone(self) -> bool {
        match self {
            Packing::Padded | Packing::Bucketed => true,
            Packing::Windows | Packing::BestFit => false,
        }
    }
}

/// What a row is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Whether a row is one piece.
    pub(super) alone: bool,
    /// Whether the last token of a range is only asked, and takes no place.
    pub(super) shifts: bool,
}

/// The tokens of a row: ranges, each of which gives one place fewer than it has tokens where the last is only asked.
pub(super) type Row = Vec<Range<u64>>;

/// Documents that are packed together: as many consecutive ones of their order.
pub const DOCUMENTS: u64 = 4096;

/// The order of rows that documents of a source are packed into. All of it follows from the key; kept are how many rows the blocks of the
/// epochs have, and the last block's rows.
#[derive(Debug, Default)]
pub(super) struct Plans(Mutex<Memo>);

/// What an order follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Key {
    /// The seed of the documents' order; without one they stay in theirs.
    pub(super) seed: Option<u64>,
    /// The source's number.
    pub(super) source: u64,
    /// Places a row.
    pub(super) context: u64,
    /// What a row is of.
    pub(super) shape: Shape,
    /// Rows that are read together and are of like lengths; 0 where rows are of any.
    pub(super) group: u64,
}

#[derive(Debug, Default)]
struct Memo {
    key: Key,
    /// For each epoch so far the rows before each block, and in all.
    epochs: Vec<Vec<u64>>,
    last: Option<([u64; 2], Arc<Vec<Row>>)>,
}

impl Plans {
    /// The row of a number; after the last of an epoch's rows follow the next epoch's.
    pub(super) fn row(&self, tokens: &Tokens, key: Key, mut number: u64) -> Result<Row> {
        let mut memo = self.memo(key);
        let mut epoch = 0;
        while number >= memo.rows(tokens, epoch)? {
            number -= memo.rows(tokens, epoch)?;
            epoch += 1;
        }
        let before = &memo.epochs[epoch as usize];
        let block = before.partition_point(|b| *b <= number) - 1;
        let row = number - before[block];
        Ok(memo.block(tokens, [epoch, block as u64])?[row as usize].clone())
    }

    /// Rows of an epoch.
    pub(super) fn rows(&self, tokens: &Tokens, key: Key, epoch: u64) -> Result<u64> {
        self.memo(key).rows(tokens, epoch)
    }

    fn memo(&self, key: Key) -> impl std::ops::DerefMut<Target = Memo> {
        let mut memo = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memo.key != key {
            *memo = Memo { key, ..Memo::default() };
        }
        memo
    }
}

impl Memo {
    /// Rows of an epoch; those of the ones before are known then, too.
    fn rows(&mut self, tokens: &Tokens, epoch: u64) -> Result<u64> {
        for epoch in self.epochs.len() as u64..=epoch {
            let mut before = vec![0];
            for block in 0..tokens.documents().div_ceil(DOCUMENTS) {
                let rows = self.plan(tokens, [epoch, block])?.len() as u64;
                before.push(before[block as usize] + rows.next_multiple_of(self.key.group.max(1)));
            }
            self.epochs.push(before);
        }
        match self.epochs[epoch as usize].last() {
            Some(rows) if *rows > 0 => Ok(*rows),
            _ if self.key.shape.shifts => Err(Error("no document has two tokens, and one of them is asked after the other: use more text".into())),
            _ => Err(Error("no document has a token: use more text".into())),
        }
    }

    /// The rows of a block, in a random order.
    fn block(&mut self, tokens: &Tokens, number: [u64; 2]) -> Result<Arc<Vec<Row>>> {
        if let Some((_, rows)) = self.last.as_ref().filter(|last| last.0 == number) {
            return Ok(rows.clone());
        }
        let packed = self.plan(tokens, number)?;
        let rows = Arc::new(match self.key.seed {
            None => packed,
            Some(seed) if self.key.group > 0 => self.grouped(packed, seed, number),
            Some(seed) => {
                let order = Permutation::new(packed.len() as u64, Purpose::Rows.key(seed, [self.key.source, number[0], number[1]]));
                (0..packed.len() as u64).map(|place| packed[order.at(place) as usize].clone()).collect()
            }
        });
        self.last = Some((number, rows.clone()));
        Ok(rows)
    }

    /// Rows in groups of like lengths, the groups in a random order; of all that are first the longest come first, so that what needs the most
    /// memory is met at once. The last group is filled up with rows of nothing.
    fn grouped(&self, mut rows: Vec<Row>, seed: u64, number: [u64; 2]) -> Vec<Row> {
        let group = self.key.group as usize;
        rows.sort_by_key(|row| Reverse(row.iter().map(|r| r.end - r.start).sum::<u64>()));
        rows.resize(rows.len().next_multiple_of(group), vec![]);
        let groups = (rows.len() / group) as u64;
        let fixed = u64::from(number == [0, 0]);
        let order = Permutation::new((groups - fixed).max(1), Purpose::Rows.key(seed, [self.key.source, number[0], number[1]]));
        let of = |place: u64| if place < fixed { place } else { fixed + order.at(place - fixed) };
        (0..groups).flat_map(|place| rows[of(place) as usize * group..][..group].to_vec()).collect()
    }

    /// The documents of a block of an epoch, packed.
    fn plan(&self, tokens: &Tokens, [epoch, block]: [u64; 2]) -> Result<Vec<Row>> {
        let all = tokens.documents();
        let documents = block * DOCUMENTS..all.min((block + 1) * DOCUMENTS);
        let ranges = match self.key.seed {
            None => tokens.ranges(documents)?,
            Some(seed) => {
                let order = Permutation::new(all, Purpose::Documents.key(seed, [self.key.source, epoch, 0]));
                let one = |place: u64| order.at(place);
                documents.map(one).map(|d| Ok(tokens.ranges(d..d + 1)?.remove(0))).collect::<Result<_>>()?
            }
        };
        let Key { context, shape, .. } = self.key;
        let pieces = ranges.into_iter().flat_map(|r| pieces(r, context, shape));
        Ok(if shape.alone { pieces.map(|piece| vec![piece]).collect() } else { best_fit(pieces.collect(), context) })
    }
}

/// A document that fits no row is cut: where the last token of a piece is only asked, it is the first of the next, so that each token but
/// the document's first is asked.
fn pieces(document: Range<u64>, context: u64, shape: Shape) -> impl Iterator<Item = Range<u64>> {
    let asked = u64::from(shape.shifts);
    let last = document.end.saturating_sub(asked);
    (document.start..last).step_by(context as usize).map(move |at| at..(at + context + asked).min(document.end))
}

/// The longest piece first, each goes to the fullest row that has room for it. The last token of each is only asked.
fn best_fit(mut pieces: Vec<Range<u64>>, context: u64) -> Vec<Row> {
    pieces.sort_by_key(|p| Reverse(p.end - p.start));
    let (mut rows, mut room) = (Vec::<Row>::new(), BTreeSet::new());
    for piece in pieces {
        let places = piece.end - piece.start - 1;
        let fullest = room.range((places, 0)..).next().copied();
        let (left, row) = fullest.unwrap_or((context, rows.len()));
        if fullest.is_none() {
            rows.push(vec![]);
        }
        room.remove(&(left, row));
        room.insert((left - places, row));
        rows[row].push(piece);
    }
    rows
}
