//! Text to batches, as a function of the seed and the step: any step's batch can be made without the ones before.

use super::batch::{Batch, Values};
use crate::error::{Error, Result};

/// Tokens to learn from and tokens held out.
#[derive(Clone, Debug)]
pub struct Data {
    /// For training.
    pub train: Vec<i32>,
    /// For evaluation.
    pub held_out: Vec<i32>,
}

impl Data {
    /// Splits tokens; the last part is held out. Fails where either part is shorter than one window.
    pub fn split(tokens: Vec<i32>, held_out: f64, context: usize) -> Result<Data> {
        let at = (tokens.len() as f64 * (1.0 - held_out)) as usize;
        let (train, rest) = tokens.split_at(at);
        for (name, part) in [("training part", train), ("held-out part", rest)] {
            if part.len() < context + 1 {
                let n = part.len();
                return Err(Error(format!(
                    "the {name} of the text has {n} tokens, and a window of context {context} needs {}: use more text or a smaller train.context",
                    context + 1
                )));
            }
        }
        Ok(Data { train: train.to_vec(), held_out: rest.to_vec() })
    }

    /// The batch of a step: `rows` windows from places that depend on the seed and their number alone.
    pub fn batch(&self, seed: u64, step: u64, rows: usize, context: usize) -> Batch {
        let mut windows = Windows::default();
        for row in 0..rows as u64 {
            let number = step * rows as u64 + row;
            let at = (random(seed, number) % (self.train.len() - context) as u64) as usize;
            windows.ids.extend(&self.train[at..at + context]);
            windows.labels.extend(&self.train[at + 1..at + context + 1]);
        }
        windows.batch(rows, context)
    }

    /// The held-out tokens as batches of consecutive windows; the last batch is filled up with unasked rows. Each token is asked once, but
    /// for the first, which has nothing before it. `rows` and `context` are at least 1.
    pub fn held_out_batches(&self, rows: usize, context: usize) -> Vec<Batch> {
        let windows: Vec<&[i32]> = (0..self.held_out.len().saturating_sub(1))
            .step_by(context)
            .map(|at| &self.held_out[at..(at + context + 1).min(self.held_out.len())])
            .collect();
        let fill = |batch: &mut Windows, window: &[i32]| {
            let n = window.len().saturating_sub(1);
            batch.ids.extend(&window[..n]);
            batch.ids.extend(vec![0; context - n]);
            batch.labels.extend(&window[window.len() - n..]);
            batch.labels.extend(vec![-100; context - n]);
        };
        let batch = |chunk: &[&[i32]]| {
            let mut b = Windows::default();
            chunk.iter().for_each(|w| fill(&mut b, w));
            (chunk.len()..rows).for_each(|_| fill(&mut b, &[]));
            b.batch(rows, context)
        };
        windows.chunks(rows).map(batch).collect()
    }
}

/// Windows of tokens and the tokens that follow them, row by row; −100 where nothing is asked.
#[derive(Default)]
struct Windows {
    ids: Vec<i32>,
    labels: Vec<i32>,
}

impl Windows {
    fn batch(self, rows: usize, context: usize) -> Batch {
        let shape = [rows, context];
        Batch::default().with("input_ids", &shape, Values::I32(self.ids)).with("labels", &shape, Values::I32(self.labels))
    }
}

/// 64 random bits of a counter under a seed (SplitMix64's output function).
pub fn random(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
