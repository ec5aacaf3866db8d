//! Answers that people preferred: two a row, beside each other.

use super::{Collator, Filled, IGNORED};
use crate::config::{Aim, Preference};
use crate::data::piece::Piece;

/// Two documents, whose answers are asked, and what is known of both: whether the first is good, and, where there is a reference, the bits of
/// its log-probabilities. Of rewards the last token is read, too, for it is where they are said.
pub(super) fn row(of: &Collator, mut pieces: Vec<Piece>, context: usize) -> Filled {
    if of.aim == Aim::Rewards {
        pieces.iter_mut().take(2).for_each(|piece| {
            piece.ids.push(0);
            piece.asked.push(true);
        });
    }
    let [first, second] = [0, 1].map(|i| document(&pieces[i], context));
    let beside = |column: usize, fill: i32| {
        let filled = |x: &[i32]| x.iter().copied().chain(std::iter::repeat_n(fill, context - x.len())).collect::<Vec<i32>>();
        [filled(&first[column]), filled(&second[column])].concat()
    };
    let good = (of.preference == Preference::Kto).then(|| pieces[2].ids.clone());
    let before = of.preference.refers().then(|| pieces.get(3).map_or(vec![], |p| p.ids.clone()));
    let known = good.into_iter().chain(before).filter(|_| of.aim == Aim::Preferences);
    [beside(0, 0), beside(1, IGNORED)].into_iter().chain(known).collect()
}

/// What is read of a document and what is asked. Of one that is too long the beginning of the prompt is left away, then the answer's end.
fn document(piece: &Piece, context: usize) -> [Vec<i32>; 2] {
    let all = piece.ids.len();
    let answer = (0..all).position(|i| piece.asks(i)).unwrap_or(all);
    // the last token of the prompt stays, for the answer's first is guessed from it
    let from = all.saturating_sub(context + 1).min(answer.saturating_sub(1));
    let to = all.min(from + context + 1);
    let places = from..to.saturating_sub(1).max(from);
    let labels = places.clone().map(|i| if piece.asks(i + 1) { piece.ids[i + 1] } else { IGNORED });
    [piece.ids[places.clone()].to_vec(), labels.collect()]
}
