//! Which source a row is of: closed forms of the row's number, so that nothing has to be remembered.

use super::permutation::{Permutation, Purpose};
use serde::{Deserialize, Serialize};

/// Weights of sources from a share of the run on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The share of the run's rows that are before it.
    pub from: f64,
    /// Each source's weight.
    pub weights: Vec<f64>,
}

/// Rows dealt to sources in blocks: of each block's rows a source has a number that follows its weight, at places that look random.
#[derive(Debug)]
pub(super) struct Mixture {
    sources: usize,
    stages: Vec<Dealt>,
}

/// A stage in whole numbers.
#[derive(Debug)]
struct Dealt {
    /// The number of its first row.
    first: u64,
    /// Rows a block that are of each source or one before it.
    ends: Vec<u64>,
}

/// Rows a block.
pub const BLOCK: u64 = 1024;

impl Mixture {
    /// One source alone, or several with weights (equal where there are none) and what they become in a run of `rows` rows.
    pub(super) fn new(sources: usize, weights: &[f64], curriculum: &[Stage], rows: u64) -> Result<Mixture, String> {
        check(weights, curriculum)?;
        let fits = |key: &str, n: usize| if n == sources { Ok(()) } else { Err(format!("{key} has {n} numbers, and there are {sources} sources")) };
        let equal = vec![1.0; sources];
        let weights = if weights.is_empty() { &equal } else { weights };
        fits("data.weights", weights.len())?;
        let mut stages = vec![Dealt { first: 0, ends: ends(weights) }];
        for stage in curriculum {
            fits("a stage of data.curriculum", stage.weights.len())?;
            let first = (stage.from * rows as f64).round() as u64;
            stages.retain(|s| s.first < first);
            stages.push(Dealt { first, ends: ends(&stage.weights) });
        }
        Ok(Mixture { sources, stages })
    }

    /// For consecutive rows from one on: each one's source and its number among the source's rows.
    pub(super) fn deal(&self, seed: u64, first: u64, rows: u64) -> Vec<(usize, u64)> {
        let mut counts = self.counts(seed, first);
        let one = |row: u64| {
            let source = self.source(seed, row);
            counts[source] += 1;
            (source, counts[source] - 1)
        };
        (first..first + rows).map(one).collect()
    }

    /// How many of the first rows are of each source.
    pub(super) fn counts(&self, seed: u64, rows: u64) -> Vec<u64> {
        if self.sources == 1 {
            return vec![rows];
        }
        let mut counts = vec![0; self.sources];
        for (i, stage) in self.stages.iter().enumerate() {
            let end = self.stages.get(i + 1).map_or(rows, |next| next.first.min(rows));
            let own = end.saturating_sub(stage.first);
            (0..self.sources).for_each(|s| counts[s] += stage.quota(s) * (own / BLOCK));
            (end - own % BLOCK..end).for_each(|row| counts[self.source(seed, row)] += 1);
        }
        counts
    }

    /// The source of a row.
    fn source(&self, seed: u64, row: u64) -> usize {
        let stage = self.stages.partition_point(|s| s.first <= row) - 1;
        let Dealt { first, ends } = &self.stages[stage];
        let (block, place) = ((row - first) / BLOCK, (row - first) % BLOCK);
        let slot = Permutation::new(BLOCK, Purpose::Sources.key(seed, [stage as u64, block, 0])).at(place);
        ends.partition_point(|end| *end <= slot)
    }
}

impl Dealt {
    /// Rows a block of a source.
    fn quota(&self, source: usize) -> u64 {
        self.ends[source] - if source == 0 { 0 } else { self.ends[source - 1] }
    }
}

/// Why weights are none, if they are none.
pub fn check(weights: &[f64], curriculum: &[Stage]) -> Result<(), String> {
    if !weights.is_empty() {
        check_weights("data.weights", weights)?;
    }
    let mut before = -1.0;
    for Stage { from, weights } in curriculum {
        check_weights("a stage of data.curriculum", weights)?;
        if !(0.0..1.0).contains(from) || *from <= before {
            return Err(format!(
                "a stage of data.curriculum is from {from:?}, expected a share of the run from 0.0 to below 1.0 that grows from stage to stage; \
                 try [{{from = 0.8, weights = {weights:?}}}]"
            ));
        }
        before = *from;
    }
    Ok(())
}

fn check_weights(key: &str, weights: &[f64]) -> Result<(), String> {
    if let Some(w) = weights.iter().find(|w| !(0.0..=1e30).contains(*w)) {
        return Err(format!("{key}: a weight is {w:?}, expected 0.0 to 1e30; try 0.5"));
    }
    let sum: f64 = weights.iter().sum();
    let least = sum / BLOCK as f64;
    match weights.iter().find(|w| (0.0..least).contains(*w) && **w > 0.0) {
        Some(w) => Err(format!("{key}: a weight is {w:?} of {sum:?} in all, expected 0.0 or at least one part in {BLOCK}; try {least:?}")),
        None if sum == 0.0 => Err(format!("{key}: no weight is above 0.0; try 1.0")),
        None => Ok(()),
    }
}

/// The ends of each source's rows in a block: shares in whole rows, those left over to the largest remainders (Hamilton's method).
fn ends(weights: &[f64]) -> Vec<u64> {
    let sum: f64 = weights.iter().sum();
    let shares: Vec<f64> = weights.iter().map(|w| w / sum * BLOCK as f64).collect();
    let mut quotas: Vec<u64> = shares.iter().map(|s| *s as u64).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|a, b| shares[*b].fract().total_cmp(&shares[*a].fract()));
    let left = BLOCK - quotas.iter().sum::<u64>();
    order.into_iter().take(left as usize).for_each(|i| quotas[i] += 1);
    let mut end = 0;
    let next = |quota: u64| {
        end += quota;
        end
    };
    quotas.into_iter().map(next).collect()
}
