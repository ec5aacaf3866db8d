//! Beam search: the likeliest continuations, several kept at a time, each in a row of the same keys and values.

use super::generate::Generator;
use super::sample::{likeliest, log_probabilities};
use crate::error::{Error, Result};

/// A continuation of a prompt, and how likely the model holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Beam {
    /// What follows the prompt.
    pub tokens: Vec<i32>,
    /// The logarithm of its probability.
    pub log_probability: f64,
}

/// A beam with one token more: the row of the beam, the token, the log-probability of all.
struct Longer {
    row: usize,
    token: i32,
    log_probability: f64,
}

impl Generator {
    /// Of the continuations of a prompt by `n` tokens the likeliest that are found when as many as there are rows go on at each token; the
    /// likeliest first, of equal ones the first. There are fewer where there are no more. What was read before is forgotten.
    ///
    /// Of a prompt longer than the context the last part is read. A token at which the beams change places costs a copy of all keys and
    /// values, there and back; one at which each goes on where it is costs none.
    pub fn beams(&mut self, prompt: &[i32], n: usize) -> Result<Vec<Beam>> {
        if prompt.is_empty() {
            return Err(Error("the prompt is empty: give at least one character".into()));
        }
        self.forget();
        let mut beams = vec![Beam { tokens: vec![], log_probability: 0.0 }];
        let mut next = vec![prompt[prompt.len().saturating_sub(self.context())..].to_vec()];
        for _ in 0..n {
            next.resize(self.rows(), vec![]);
            self.read_rows(&next.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            let longer = self.longer(&beams)?;
            let mut from: Vec<usize> = longer.iter().map(|l| l.row).collect();
            from.extend(longer.len()..self.rows());
            self.reorder(&from)?;
            next = longer.iter().map(|l| vec![l.token]).collect();
            beams = longer.iter().map(|l| l.after(&beams)).collect();
        }
        Ok(beams)
    }

    /// The likeliest of all beams with one token more, as many as there are rows.
    fn longer(&self, beams: &[Beam]) -> Result<Vec<Longer>> {
        let mut all = vec![];
        for (row, beam) in beams.iter().enumerate() {
            let own = log_probabilities(self.logits(row))?;
            let with = |token: i32| Longer { row, token, log_probability: beam.log_probability + own[token as usize] };
            all.extend(likeliest(&own, self.rows()).into_iter().map(with).filter(|l| l.log_probability > f64::NEG_INFINITY));
        }
        // rows and tokens are in order already, and the sort keeps that of equal ones
        all.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        all.truncate(self.rows());
        Ok(all)
    }
}

impl Longer {
    /// The beam, given those before.
    fn after(&self, beams: &[Beam]) -> Beam {
        let tokens = beams[self.row].tokens.iter().copied().chain([self.token]).collect();
        Beam { tokens, log_probability: self.log_probability }
    }
}
