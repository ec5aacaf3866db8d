//! Beam search: the likeliest continuations, several kept at a time, each in a row of the same keys and values.

use super::generate::Generator;
use super::sample::{likeliest, log_probabilities};
use crate::error::{Error, Result};

/// A continuation of a prompt, and how likely the model holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Beam {
    /// What follows the prompt, with the token that ends it where there is one.
    pub tokens: Vec<i32>,
    /// The logarithm of its probability.
    pub log_probability: f64,
    /// What it is compared by: that, divided by a power of its length.
    pub score: f64,
}

/// When a search ends and what it looks for, as transformers has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Tokens that end a text.
    pub end: Vec<i32>,
    /// The power of its length that a text's log-probability is divided by: above 0 long texts gain.
    pub length_penalty: f64,
    /// When it ends.
    pub stopping: Stopping,
}

impl Default for Search {
    /// The mean log-probability of a token counts; no token ends a text.
    fn default() -> Search {
        Search { end: vec![], length_penalty: 1.0, stopping: Stopping::Guess }
    }
}

/// When a search ends that has as many ended texts as it has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// When the likeliest text that goes on, as if it ended now, is no better than the worst that has ended.
    Guess,
    /// At once.
    Full,
    /// When no text that goes on can become better.
    Never,
}

ir::spell!(Stopping, "end of a search", [Guess "guess", Full "full", Never "never"]);

/// A beam with one token more: the row of the beam, the token, the log-probability of all.
struct Longer {
    row: usize,
    token: i32,
    log_probability: f64,
}

impl Generator {
    /// Of the continuations of a prompt by up to `n` tokens the best that are found when as many as there are rows go on at each token; the
    /// best first, of equal ones the first. There are fewer where there are no more. What was read before is forgotten.
    ///
    /// At each token the likeliest continuations of all beams are looked at, twice as many as rows, or more where there are several ends:
    /// those that end, among as many as there are rows, become results, and the others go on.
    ///
    /// Of a prompt longer than the context the last part is read. A token at which the beams change places costs a copy of all keys and
    /// values, there and back; one at which each goes on where it is costs none.
    pub fn beams(&mut self, prompt: &[i32], n: usize, search: &Search) -> Result<Vec<Beam>> {
        if prompt.is_empty() {
            return Err(Error("the prompt is empty: give at least one character".into()));
        }
        self.forget();
        let start = Beam { tokens: vec![], log_probability: 0.0, score: 0.0 };
        if n == 0 {
            return Ok(vec![start]);
        }
        let (mut beams, mut ended) = (vec![start], Vec::<Beam>::new());
        let mut next = vec![prompt[prompt.len().saturating_sub(self.context())..].to_vec()];
        loop {
            next.resize(self.rows(), vec![]);
            self.read_rows(&next.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            let longer = self.longer(&beams, search)?;
            let (ends, mut open): (Vec<_>, Vec<_>) = longer.into_iter().enumerate().partition(|(_, l)| search.ends(l, &beams, n));
            let best = ends.into_iter().filter(|(place, _)| *place < self.rows());
            ended.extend(best.map(|(_, l)| l.after(&beams, search)));
            // the sort keeps the order of equal ones, so that the first that ended stays
            ended.sort_by(|a, b| b.score.total_cmp(&a.score));
            ended.truncate(self.rows());
            open.truncate(self.rows());
            let open: Vec<Longer> = open.into_iter().map(|(_, l)| l).collect();
            if open.is_empty() || self.is_over(&ended, &open, &beams, n, search) {
                return Ok(ended);
            }
            let mut from: Vec<usize> = open.iter().map(|l| l.row).collect();
            from.extend(open.len()..self.rows());
            self.reorder(&from)?;
            next = open.iter().map(|l| vec![l.token]).collect();
            beams = open.iter().map(|l| l.after(&beams, search)).collect();
        }
    }

    /// The likeliest of all beams with one token more: as many as there are rows remain when that many end.
    fn longer(&self, beams: &[Beam], search: &Search) -> Result<Vec<Longer>> {
        let count = self.rows() * (1 + search.end.len()).max(2);
        let mut all = vec![];
        for (row, beam) in beams.iter().enumerate() {
            let own = log_probabilities(self.logits(row))?;
            let with = |token: i32| Longer { row, token, log_probability: beam.log_probability + own[token as usize] };
            all.extend(likeliest(&own, count).into_iter().map(with).filter(|l| l.log_probability > f64::NEG_INFINITY));
        }
        // rows and tokens are in order already, and the sort keeps that of equal ones
        all.sort_by(|a, b| b.log_probability.total_cmp(&a.log_probability));
        all.truncate(count);
        Ok(all)
    }

    /// Whether what has ended is the result, though some could go on.
    fn is_over(&self, ended: &[Beam], open: &[Longer], beams: &[Beam], n: usize, search: &Search) -> bool {
        let Some(worst) = ended.last().filter(|_| ended.len() == self.rows()) else { return false };
        let length = if search.stopping == Stopping::Never && search.length_penalty > 0.0 { n } else { beams[open[0].row].tokens.len() + 1 };
        search.stopping == Stopping::Full || search.score(open[0].log_probability, length) <= worst.score
    }
}

impl Search {
    /// What a text of so many tokens is compared by.
    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / (length as f64).powf(self.length_penalty)
    }

    /// Whether a beam goes on no further: by its token, or by its length.
    fn ends(&self, longer: &Longer, beams: &[Beam], n: usize) -> bool {
        self.end.contains(&longer.token) || beams[longer.row].tokens.len() + 1 >= n
    }
}

impl Longer {
    /// The beam, given those before.
    fn after(&self, beams: &[Beam], search: &Search) -> Beam {
        let tokens: Vec<i32> = beams[self.row].tokens.iter().copied().chain([self.token]).collect();
        let score = search.score(self.log_probability, tokens.len());
        Beam { tokens, log_probability: self.log_probability, score }
    }
}
