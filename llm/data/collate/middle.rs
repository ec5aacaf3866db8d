//! The middle of a text, asked after its beginning and its end (Bavarian et al. 2022, §3): of a share of texts, in one of two orders.

use super::{Collator, Draws};

/// Each piece in its own order, or with its middle last. One that is too short for marks stays as it is.
pub(super) fn rows(of: &Collator, pieces: &[Vec<i32>], key: u64) -> Vec<Vec<i32>> {
    let mut draws = Draws::new(key);
    pieces.iter().map(|piece| row(of, piece, &mut draws)).collect()
}

/// As long as the piece: marks take the places of its last tokens.
fn row(of: &Collator, piece: &[i32], draws: &mut Draws) -> Vec<i32> {
    let marks = 3 + usize::from(of.marks.end.is_some());
    let changed = draws.share() < of.config.fim_rate;
    let (Some([beginning, end, middle]), true) = (of.marks.fim, changed && piece.len() > marks) else { return piece.to_vec() };
    let text = &piece[..piece.len() - marks];
    let (a, b) = (draws.below(text.len() + 1), draws.below(text.len() + 1));
    let (first, rest) = text.split_at(a.min(b));
    let (asked, last) = rest.split_at(a.max(b) - first.len());
    let parts: [&[i32]; 6] = if draws.share() < of.config.spm_rate {
        [&[beginning, end], last, &[middle], first, asked, &[]]
    } else {
        [&[beginning], first, &[end], last, &[middle], asked]
    };
    parts.concat().into_iter().chain(of.marks.end).collect()
}
