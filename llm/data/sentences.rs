//! Pairs of segments of which one is to say whether the second follows the first (Devlin et al. 2019, appendix A.2): runs of a text's
//! sentences that fill a row, cut in two; for half of them the second part is another text's.

use super::collate::Draws;
use super::packing::Row;
use super::tokens::Tokens;
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Sentences of one text, two or more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    /// The number of its text.
    text: usize,
    sentences: Range<u64>,
}

/// The runs of a part, for rows with places for so many tokens: those that were asked for last are kept.
#[derive(Debug, Default)]
pub(super) struct Segments(Mutex<Option<(u64, Arc<Vec<Run>>)>>);

/// Draws of another text before it is given up.
const DRAWS: usize = 1000;

impl Segments {
    /// How many rows there are.
    pub(super) fn rows(&self, tokens: &Tokens, places: u64) -> Result<u64> {
        Ok(self.runs(tokens, places)?.len() as u64)
    }

    /// Both segments of a row as ranges of tokens: where the second follows the first, it begins where that ends.
    pub(super) fn row(&self, tokens: &Tokens, places: u64, number: u64, key: u64) -> Result<Row> {
        let (runs, mut draws) = (self.runs(tokens, places)?, Draws::new(key));
        let run = &runs[number as usize];
        let length = (run.sentences.end - run.sentences.start) as usize;
        let cut = run.sentences.start + 1 + draws.below(length - 1) as u64;
        let second = if draws.share() < 0.5 {
            cut..run.sentences.end
        } else {
            let other = (0..DRAWS).map(|_| &runs[draws.below(runs.len())]).find(|other| other.text != run.text);
            let other = &other.ok_or_else(too_few)?.sentences;
            other.start + draws.below((other.end - other.start) as usize) as u64..other.end
        };
        [run.sentences.start..cut, second].map(|sentences| whole(tokens, sentences)).into_iter().collect()
    }

    fn runs(&self, tokens: &Tokens, places: u64) -> Result<Arc<Vec<Run>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, runs)) = kept.as_ref().filter(|(of, _)| *of == places) {
            return Ok(runs.clone());
        }
        let runs = Arc::new(find(tokens, places)?);
        *kept = Some((places, runs.clone()));
        Ok(runs)
    }
}

/// The tokens of consecutive sentences.
fn whole(tokens: &Tokens, sentences: Range<u64>) -> Result<Range<u64>> {
    let ranges = tokens.ranges(sentences)?;
    Ok(ranges[0].start..ranges[ranges.len() - 1].end)
}

/// Sentences are taken as long as there is room, and two in any case; an empty one ends a text.
fn find(tokens: &Tokens, places: u64) -> Result<Vec<Run>> {
    let (mut runs, mut text, mut start, mut taken) = (vec![], 0, 0, 0);
    let lengths: Vec<u64> = tokens.ranges(0..tokens.documents())?.into_iter().map(|r| r.end - r.start).collect();
    for (i, length) in (0..).zip(lengths.iter().copied().chain([0])) {
        let ends = length == 0;
        if ends || (i - start >= 2 && taken + length > places) {
            if i - start >= 2 {
                runs.push(Run { text, sentences: start..i });
            }
            (start, taken) = (i + u64::from(ends), 0);
        }
        taken += length;
        text += usize::from(ends);
    }
    if runs.first().map(|r: &Run| r.text) == runs.last().map(|r| r.text) { Err(too_few()) } else { Ok(runs) }
}

fn too_few() -> Error {
    Error("objective.next_sentence needs two texts of two lines at least, with an empty line between texts, in what is trained on and in what is held out".into())
}
