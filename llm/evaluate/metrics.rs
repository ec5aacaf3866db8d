//! What becomes of log-probabilities of answers, as lm-evaluation-harness has it.

use super::samples::Sample;
use std::collections::BTreeMap;
use std::f64::consts::LN_2;

/// A mean over questions, and its standard error: the sample's deviation over √n, which one question has none of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Its standard error.
    pub error: Option<f64>,
}

impl Mean {
    /// Of numbers, one at least.
    pub fn of(all: &[f64]) -> Mean {
        let n = all.len() as f64;
        let mean = all.iter().sum::<f64>() / n;
        let squares: f64 = all.iter().map(|x| (x - mean) * (x - mean)).sum();
        Mean { mean, error: (all.len() > 1).then(|| (squares / (n - 1.0)).sqrt() / n.sqrt()) }
    }
}

/// Which answer is chosen, by log-probability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// As it is.
    None,
    /// Divided by the answer's characters.
    Characters,
    /// Divided by its bytes.
    Bytes,
}

impl Norm {
    /// The number of the answer that is chosen, the first of equals.
    pub fn choice(self, sample: &Sample) -> usize {
        let length = |choice: &str| match self {
            Norm::None => 1.0,
            Norm::Characters => choice.chars().count() as f64,
            Norm::Bytes => choice.len() as f64,
        };
        let all = sample.log_probabilities.iter().zip(&sample.choices).map(|(p, choice)| p / length(choice));
        all.enumerate().fold((0, f64::NEG_INFINITY), |best, (i, p)| if p > best.1 { (i, p) } else { best }).0
    }
}

/// What questions of a task, or of a group of them, come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Number of questions.
    pub questions: usize,
    /// The share that is answered right, by log-probability.
    pub acc: Mean,
    /// By log-probability a character.
    pub acc_norm: Mean,
    /// By log-probability a byte.
    pub acc_bytes: Mean,
    /// −Σ log₂ p of the right answers over Σ of their bytes.
    pub bits_per_byte: f64,
    /// The share that guessing answers right.
    pub chance: f64,
    /// The share that always the same number answers right, of the best; none where every right answer has one number, as of minimal pairs.
    pub majority: Option<f64>,
}

impl Summary {
    /// Of samples, one at least.
    pub fn of(all: &[&Sample]) -> Summary {
        let acc = |norm: Norm| Mean::of(&all.iter().map(|s| f64::from(u8::from(norm.choice(s) == s.target))).collect::<Vec<_>>());
        let n = all.len() as f64;
        let mut targets: BTreeMap<usize, usize> = BTreeMap::new();
        all.iter().for_each(|s| *targets.entry(s.target).or_default() += 1);
        let nats: f64 = all.iter().map(|s| -s.log_probabilities[s.target]).sum();
        let bytes: f64 = all.iter().map(|s| s.choices[s.target].len() as f64).sum();
        Summary {
            questions: all.len(),
            acc: acc(Norm::None),
            acc_norm: acc(Norm::Characters),
            acc_bytes: acc(Norm::Bytes),
            bits_per_byte: nats / LN_2 / bytes.max(1.0),
            chance: all.iter().map(|s| 1.0 / s.choices.len() as f64).sum::<f64>() / n,
            majority: targets.values().copied().max().filter(|_| targets.len() > 1).map(|most| most as f64 / n),
        }
    }
}

/// Samples by their group, in order of name.
pub fn groups(all: &[Sample]) -> BTreeMap<&str, Vec<&Sample>> {
    let mut groups: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    all.iter().for_each(|s| groups.entry(s.group.as_deref().unwrap_or_default()).or_default().push(s));
    groups
}
