//! Tokens that are hidden, to be guessed by all the others (Devlin et al. 2019, §3.1).

use super::{Collator, Draws, Filled, IGNORED};

/// What begins and ends a text takes places, too.
pub(super) fn places(of: &Collator, context: usize) -> usize {
    let separators = if of.sentences() { 2 } else { 1 };
    let around = usize::from(of.marks.begin.is_some()) + separators * usize::from(of.marks.separator.is_some());
    context.saturating_sub(around).max(1)
}

/// The pieces as one text, with what begins and ends it.
pub(super) fn row(of: &Collator, pieces: &[Vec<i32>], key: u64) -> Filled {
    let ids: Vec<i32> = of.marks.begin.into_iter().chain(pieces.concat()).chain(of.marks.separator).collect();
    let (ids, labels) = hide(of, ids, &mut Draws::new(key));
    let mask = vec![1; ids.len()];
    vec![ids, labels, mask]
}

/// Two segments, each with what ends it; of what is too long for the row, the longer loses its end. The third piece says whether the
/// second follows the first.
pub(super) fn sentences(of: &Collator, pieces: &[Vec<i32>], key: u64, context: usize) -> Filled {
    let (mut a, mut b) = (&pieces[0][..], &pieces[1][..]);
    while a.len() + b.len() > places(of, context) {
        let longer = if a.len() > b.len() { &mut a } else { &mut b };
        *longer = &longer[..longer.len() - 1];
    }
    let first: Vec<i32> = of.marks.begin.into_iter().chain(a.iter().copied()).chain(of.marks.separator).collect();
    let second: Vec<i32> = b.iter().copied().chain(of.marks.separator).collect();
    let types = [vec![0; first.len()], vec![1; second.len()]].concat();
    let (ids, labels) = hide(of, [first, second].concat(), &mut Draws::new(key));
    let mask = vec![1; ids.len()];
    vec![ids, labels, mask, types, pieces[2].clone()]
}

/// Of the tokens that are text a share is asked, at least one: most are hidden behind the mask, some are another token, some stay.
pub(super) fn hide(of: &Collator, mut ids: Vec<i32>, draws: &mut Draws) -> (Vec<i32>, Vec<i32>) {
    let mut labels = vec![IGNORED; ids.len()];
    let words = words(of, &ids);
    let texts: usize = words.iter().map(|w| w.len()).sum();
    if texts == 0 {
        return (ids, labels);
    }
    // BERT's program rounds so, and asks one of a short text
    let most = ((texts as f64 * of.config.mask_rate).round() as usize).clamp(1, texts);
    let mut asked = 0;
    for word in shuffled(draws, words.len()).into_iter().map(|i| words[i].clone()) {
        // a word that would be too much is left, for another that is short enough; the first is never too much
        if asked > 0 && asked + word.len() > most {
            continue;
        }
        asked += word.len();
        for place in word {
            labels[place] = ids[place];
            let share = draws.share();
            if share < of.config.mask_hidden {
                ids[place] = of.marks.mask.expect("it was asked for");
            } else if share < of.config.mask_hidden + of.config.mask_random {
                ids[place] = of.marks.text(draws.below(of.marks.texts().max(1)));
            }
        }
        if asked >= most {
            break;
        }
    }
    (ids, labels)
}

/// The places of text: each alone, or those of a word together.
fn words(of: &Collator, ids: &[i32]) -> Vec<std::ops::Range<usize>> {
    let mut words: Vec<std::ops::Range<usize>> = vec![];
    for (place, id) in ids.iter().enumerate().filter(|(_, id)| of.marks.is_text(**id)) {
        let goes_on = of.config.whole_word && of.marks.within.get(*id as usize).is_some_and(|within| *within);
        match words.last_mut().filter(|word| goes_on && word.end == place) {
            Some(word) => word.end += 1,
            None => words.push(place..place + 1),
        }
    }
    words
}

/// The numbers below a bound in a random order.
fn shuffled(draws: &mut Draws, bound: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..bound).collect();
    for i in (1..bound).rev() {
        let other = draws.below(i + 1);
        all.swap(i, other);
    }
    all
}
