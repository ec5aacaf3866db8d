//! Tiles of 16-bit elements in shared memory, and where in them a thread's rows of matrices begin.
//!
//! A tile is some rows of chunks of eight elements. Chunks are swizzled by their row, so that the eight rows of a matrix lie in different
//! banks. Whether the rows run along the sums of a product decides how a fragment's matrices are found and whether they are transposed.

use crate::kernel::{Ix, Writer};

/// Elements of a copy: sixteen bytes.
pub(super) const CHUNK: usize = 8;

/// What a row's chunks are swizzled by, in rows of so many.
fn phase(chunks: usize, row: Ix) -> Ix {
    match chunks {
        c if c >= 8 => row.rem(8),
        4 => row.div(2).rem(4),
        2 => row.div(4).rem(2),
        _ => Ix::Const(0),
    }
}

/// Where a chunk is in a tile.
pub(super) fn chunk_at(chunks: usize, row: Ix, chunk: Ix) -> Ix {
    (row.clone() * chunks + chunk.xor(phase(chunks, row))) * CHUNK
}

/// Which operand of a product a tile is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Where a thread's rows of a tile's matrices begin: what of it does not change from step to step.
pub(super) struct Lanes {
    /// Chunks of a row of the tile.
    chunks: usize,
    /// Whether rows run along the sums; else along the outer dim, and matrices are transposed.
    along_sums: bool,
    /// Elements to the thread's row.
    row: Ix,
    /// The thread's chunks, swizzled, one for each pair of a row's.
    columns: Vec<Ix>,
}

impl Lanes {
    /// For matrices from `first` on along the outer dim. Of a fragment's four matrices, a left operand's second is further along the
    /// outer dim than its first, and its third along the sums; a right operand's the other way round.
    pub(super) fn new(w: &mut Writer, (chunks, along_sums): (usize, bool), side: Side, lane: &Ix, first: &Ix) -> Lanes {
        let own = w.name("own", lane.clone().rem(8));
        let (low, high) = (lane.clone().div(8).rem(2), lane.clone().div(16));
        let (outer, sum) = if side == Side::Left { (low, high) } else { (high, low) };
        let phase = w.name("phase", phase(chunks, own.clone()));
        let (row, chunk) = if along_sums { (first.clone() + own + outer * 8i64, sum) } else { (own + sum * 8i64, first.clone().div(CHUNK) + outer) };
        let row = w.name("at", row * chunks * CHUNK);
        // adding a multiple of eight rows never changes the phase
        let column = |x: usize, w: &mut Writer| w.name("chunk", (chunk.clone() + 2 * x as i64).xor(phase.clone()) * CHUNK);
        let columns = (0..chunks.div_ceil(2)).map(|x| column(x, w)).collect();
        Lanes { chunks, along_sums, row, columns }
    }

    /// Whether the matrices are transposed when they are taken.
    pub(super) fn transposed(&self) -> bool {
        !self.along_sums
    }

    /// The fragment `block` along the outer dim, for the sums from 16 `k` on.
    pub(super) fn at(&self, block: usize, k: usize) -> Ix {
        let (column, rows) = if self.along_sums { (k, 16 * block) } else { (block, 16 * k) };
        self.row.clone() + self.columns[column].clone() + rows * self.chunks * CHUNK
    }
}
