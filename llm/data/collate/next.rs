//! Each token's successor.

use super::{Draws, Filled, IGNORED};
use crate::config::Aim;
use crate::data::packing::Packing;
use crate::data::piece::Piece;

/// Pieces one after the other, the last token of each only asked; a token that is not asked is read alone.
pub(super) fn row(packing: Packing, pieces: &[Piece]) -> Filled {
    let mut columns: Filled = vec![vec![]; if packing == Packing::BestFit { 4 } else { 2 }];
    for (document, piece) in (1..).zip(pieces) {
        let places = piece.ids.len() - 1;
        columns[0].extend(&piece.ids[..places]);
        columns[1].extend((1..=places).map(|i| if piece.asks(i) { piece.ids[i] } else { IGNORED }));
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

/// A text and its answer, of which the answer is asked. Of what is too long for the row, the text's beginning is left away, then the
/// answer's end.
pub(super) fn pair(aim: Aim, pieces: &[Vec<i32>], end: Option<i32>, context: usize) -> Filled {
    let answer: Vec<i32> = pieces[1..].concat().into_iter().chain(end).take(context + 1).collect();
    let source = &pieces[0][pieces[0].len().saturating_sub(context + 1 - answer.len())..];
    let all = [source, &answer].concat();
    let places = all.len() - 1;
    let labels = (0..places).map(|i| if i + 1 < source.len() { IGNORED } else { all[i + 1] }).collect();
    let mut columns = vec![all[..places].to_vec(), labels];
    if aim == Aim::Prefix {
        columns.push((0..places).map(|i| i32::from(i < source.len())).collect());
    }
    columns
}
