//! What a loss is to be compared with: that of a model which knows how often each token is asked, and nothing else.

use crate::data::Batch;
use crate::error::Result;

/// How often each token is asked.
pub(super) struct Unigram {
    counts: Vec<u64>,
    all: u64,
}

impl Unigram {
    /// Counts the labels of batches; each of the vocabulary's tokens counts once more, so that none is impossible.
    pub(super) fn of(vocabulary: usize, batches: impl IntoIterator<Item = Result<Batch>>) -> Result<Unigram> {
        let mut unigram = Unigram { counts: vec![1; vocabulary], all: vocabulary as u64 };
        for batch in batches {
            for label in batch?.i32s("labels").iter().filter(|l| **l >= 0) {
                unigram.counts[*label as usize] += 1;
                unigram.all += 1;
            }
        }
        Ok(unigram)
    }

    /// Its mean loss over the labels of others, in nats.
    pub(super) fn loss(&self, batches: impl IntoIterator<Item = Result<Batch>>) -> Result<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for batch in batches {
            for label in batch?.i32s("labels").iter().filter(|l| **l >= 0) {
                sum -= (self.counts[*label as usize] as f64 / self.all as f64).ln();
                count += 1.0;
            }
        }
        Ok(sum / f64::max(count, 1.0))
    }
}
