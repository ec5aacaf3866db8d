//! Each token's successor.

use super::{Draws, Filled, IGNORED};
use crate::data::packing::Packing;

/// Pieces one after the other, the last token of each only asked.
pub(super) fn row(packing: Packing, pieces: &[Vec<i32>]) -> Filled {
    let mut columns: Filled = vec![vec![]; if packing == Packing::BestFit { 4 } else { 2 }];
    for (document, piece) in (1..).zip(pieces) {
        let places = piece.len() - 1;
        columns[0].extend(&piece[..places]);
        columns[1].extend(&piece[1..]);
        if packing == Packing::BestFit {
            columns[2].extend(std::iter::repeat_n(document, places));
            columns[3].extend(0..places as i32);
        }
    }
    columns
}

/// A piece whose beginning is seen by all of it, and is not asked: as long as any, so that each length is met.
pub(super) fn prefix_row(pieces: &[Vec<i32>], key: u64) -> Filled {
    let piece = pieces.concat();
    let places = piece.len() - 1;
    let prefix = Draws::new(key).below(places);
    let labels = (0..places).map(|i| if i + 1 < prefix { IGNORED } else { piece[i + 1] });
    vec![piece[..places].to_vec(), labels.collect(), (0..places).map(|i| i32::from(i < prefix)).collect()]
}
