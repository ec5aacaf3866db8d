//! The choice of the next token, in time linear in the vocabulary: what is left out is found by partitioning, not by sorting.

use crate::data::random;
use crate::error::{Error, Result};
use std::cmp::Ordering;

/// How the next token is chosen. What is set applies in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Added to the logits of these tokens; −∞ forbids one.
    pub bias: Vec<(i32, f32)>,
    /// Divides the positive logits of tokens that the text has, and multiplies the negative ones; 1 changes nothing, above 1 makes them
    /// rarer.
    pub repetition_penalty: f64,
    /// Taken from the logits of tokens that the text has; 0 changes nothing.
    pub presence_penalty: f64,
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f64,
    /// Only this many most likely tokens are considered; 0 for all.
    pub top_k: usize,
    /// Of those only the fewest, the likeliest, that together have this share; 1 for all.
    pub top_p: f64,
    /// Of those only the ones at least this many times as likely as the likeliest; 0 for all.
    pub min_p: f64,
    /// Seed of the choice.
    pub seed: u64,
}

impl Default for Sampling {
    /// By the model's own distribution.
    fn default() -> Sampling {
        let (bias, repetition_penalty, presence_penalty) = (vec![], 1.0, 0.0);
        Sampling { bias, repetition_penalty, presence_penalty, temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1 }
    }
}

impl Sampling {
    /// The most likely token.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// Why nothing can be chosen so, if nothing can.
    pub fn check(&self) -> Result<()> {
        let range = |name: &str, x: f64, fits: bool, want: &str| {
            if fits { Ok(()) } else { Err(Error(format!("--{name} is {x}, expected {want}"))) }
        };
        let t = self.temperature;
        range("temperature", t, t.is_finite() && t >= 0.0, "at least 0 and finite; 0 takes the likeliest token, 1 the model's own choice")?;
        range("top-p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1; 1 considers all tokens, .9 is usual")?;
        range("min-p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1; 0 considers all tokens, .05 is usual")?;
        let r = self.repetition_penalty;
        range("repetition-penalty", r, r.is_finite() && r > 0.0, "above 0 and finite; 1 changes nothing, 1.1 is usual")?;
        range("presence-penalty", self.presence_penalty, self.presence_penalty.is_finite(), "a finite number; 0 changes nothing")?;
        match self.bias.iter().find(|b| b.1.is_nan() || b.1 == f32::INFINITY) {
            Some((token, bias)) => Err(Error(format!("--logit-bias of token {token} is {bias}, expected a finite number, or -inf to forbid it"))),
            None => Ok(()),
        }
    }

    /// The logits with bias and penalties, given the text so far.
    fn adjusted(&self, logits: &[f32], text: &[i32]) -> Result<Vec<f32>> {
        let mut out = logits.to_vec();
        for (token, bias) in &self.bias {
            let logit = usize::try_from(*token).ok().and_then(|t| out.get_mut(t));
            let last = logits.len().saturating_sub(1);
            *logit.ok_or_else(|| Error(format!("--logit-bias: there is no token {token}; the model has 0 to {last}")))? += bias;
        }
        if self.repetition_penalty == 1.0 && self.presence_penalty == 0.0 {
            return Ok(out);
        }
        let mut met = vec![false; out.len()];
        for token in text.iter().filter_map(|t| usize::try_from(*t).ok()).filter(|t| *t < logits.len()) {
            if !std::mem::replace(&mut met[token], true) {
                out[token] = self.penalised(out[token]);
            }
        }
        Ok(out)
    }

    fn penalised(&self, logit: f32) -> f32 {
        let x = f64::from(logit);
        let repeated = if x > 0.0 { x / self.repetition_penalty } else { x * self.repetition_penalty };
        (repeated - self.presence_penalty) as f32
    }
}

/// The chosen token: a function of the logits, the sampling, the text so far and the token's number. Of equally likely tokens the first
/// counts as likelier.
///
/// A token with a logit of −∞ is never chosen, and one with +∞ always. Fails where there is no choice: a logit is NaN, several are +∞,
/// or all are −∞; and for a bias of a token that the model does not have.
pub fn sample(logits: &[f32], sampling: &Sampling, text: &[i32], number: u64) -> Result<i32> {
    sampling.check()?;
    check_logits(logits)?;
    let logits = &sampling.adjusted(logits, text)?;
    let mut tokens = possible(logits)?;
    let best = tokens.iter().copied().min_by(|a, b| likelier(logits, *a, *b)).expect("a token is possible");
    // the difference of two infinities is no number, and neither is a share of temperature 0
    if sampling.temperature == 0.0 || logits[best] == f32::INFINITY {
        return Ok(best as i32);
    }
    if (1..tokens.len()).contains(&sampling.top_k) {
        keep_likeliest(&mut tokens, logits, sampling.top_k);
    }
    let top = f64::from(logits[best]);
    let share = |i: usize| ((f64::from(logits[i]) - top) / sampling.temperature).exp();
    if sampling.top_p < 1.0 {
        keep_mass(&mut tokens, logits, sampling.top_p, &share);
    }
    tokens.retain(|i| share(*i) >= sampling.min_p);
    Ok(draw(&tokens, &share, sampling.seed, number) as i32)
}

/// The logarithm of every token's probability by the model itself, at temperature 1.
pub fn log_probabilities(logits: &[f32]) -> Result<Vec<f64>> {
    check_logits(logits)?;
    possible(logits)?;
    let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    if top == f64::INFINITY {
        return Ok(logits.iter().map(|x| if *x == f32::INFINITY { 0.0 } else { f64::NEG_INFINITY }).collect());
    }
    let all = logits.iter().map(|x| (f64::from(*x) - top).exp()).sum::<f64>().ln();
    Ok(logits.iter().map(|x| f64::from(*x) - top - all).collect())
}

/// The `n` tokens with the greatest values, the greatest first, of equal ones the first; fewer where there are no more.
pub fn likeliest(values: &[f64], n: usize) -> Vec<i32> {
    let order = |a: &usize, b: &usize| values[*b].total_cmp(&values[*a]).then(a.cmp(b));
    let mut tokens: Vec<usize> = (0..values.len()).collect();
    if n < tokens.len() {
        tokens.select_nth_unstable_by(n, order);
        tokens.truncate(n);
    }
    tokens.sort_unstable_by(order);
    tokens.into_iter().map(|t| t as i32).collect()
}

/// Fails where nothing can be said of what is likelier.
fn check_logits(logits: &[f32]) -> Result<()> {
    let fail = |token: usize, what: &str| {
        Err(Error(format!(
            "the logit of token {token} is {}{what}: the model's weights are no good, look for the step with train --check-finite",
            logits[token]
        )))
    };
    if let Some(token) = logits.iter().position(|x| x.is_nan()) {
        return fail(token, "");
    }
    let mut infinite = (0..logits.len()).filter(|i| logits[*i] == f32::INFINITY);
    match (infinite.next(), infinite.next()) {
        (Some(first), Some(second)) => fail(first, &format!(", that of token {second} too")),
        _ => Ok(()),
    }
}

/// The tokens that can be chosen, in order.
fn possible(logits: &[f32]) -> Result<Vec<usize>> {
    let tokens: Vec<usize> = (0..logits.len()).filter(|i| logits[*i] > f32::NEG_INFINITY).collect();
    if tokens.is_empty() { Err(Error(format!("no token can be chosen: all {} logits are -inf", logits.len()))) } else { Ok(tokens) }
}

/// The likelier token is less; of equal ones, as zeros of either sign are, the first.
fn likelier(logits: &[f32], a: usize, b: usize) -> Ordering {
    logits[b].partial_cmp(&logits[a]).expect("none is NaN").then(a.cmp(&b))
}

/// Keeps the `k` likeliest, in order; at least one and not all.
fn keep_likeliest(tokens: &mut Vec<usize>, logits: &[f32], k: usize) {
    let mut order = tokens.clone();
    let (_, last, _) = order.select_nth_unstable_by(k - 1, |a, b| likelier(logits, *a, *b));
    let last = *last;
    tokens.retain(|t| likelier(logits, *t, last).is_le());
}

/// Keeps the fewest of the likeliest that have a share of all, in order: the half in which the last of them stands is halved again.
fn keep_mass(tokens: &mut Vec<usize>, logits: &[f32], p: f64, share: &dyn Fn(usize) -> f64) {
    let mut wanted = p * tokens.iter().map(|t| share(*t)).sum::<f64>();
    let mut order = tokens.clone();
    let mut rest = &mut order[..];
    while rest.len() > 1 {
        let half = rest.len() / 2;
        rest.select_nth_unstable_by(half, |a, b| likelier(logits, *a, *b));
        let (above, below) = rest.split_at_mut(half);
        let mass: f64 = above.iter().map(|t| share(*t)).sum();
        rest = if mass >= wanted {
            above
        } else {
            wanted -= mass;
            below
        };
    }
    let last = rest[0];
    tokens.retain(|t| likelier(logits, *t, last).is_le());
}

/// One of the tokens, each with its share of all.
fn draw(tokens: &[usize], share: &dyn Fn(usize) -> f64, seed: u64, number: u64) -> usize {
    let shares: Vec<f64> = tokens.iter().map(|t| share(*t)).collect();
    let unit = (random(seed, number) >> 11) as f64 / (1u64 << 53) as f64;
    let mut left = unit * shares.iter().sum::<f64>();
    for (token, share) in tokens.iter().zip(&shares) {
        left -= share;
        if left < 0.0 {
            return *token;
        }
    }
    // rounding has left a little: it belongs to the last that has a share
    tokens[shares.iter().rposition(|w| *w > 0.0).expect("the best has a share of 1")]
}
