//! The choice of the next token.

use crate::data::random;
use crate::error::{Error, Result};

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the most likely token.
    pub temperature: f64,
    /// Only this many most likely tokens are considered; 0 for all.
    pub top_k: usize,
    /// Seed of the choice.
    pub seed: u64,
}

impl Sampling {
    /// Why nothing can be chosen so, if nothing can.
    pub fn check(&self) -> Result<()> {
        if self.temperature.is_finite() && self.temperature >= 0.0 {
            return Ok(());
        }
        Err(Error(format!(
            "--temperature is {}, expected at least 0 and finite; 0 takes the likeliest token, 1 the model's own choice",
            self.temperature
        )))
    }
}

/// The chosen token: a function of the logits, the seed and the token's number. Of equally likely tokens the first counts as likelier.
///
/// A token with a logit of −∞ is never chosen, and one with +∞ always. Fails where there is no choice: a logit is NaN, several are +∞,
/// or all are −∞.
pub fn sample(logits: &[f32], sampling: &Sampling, number: u64) -> Result<i32> {
    sampling.check()?;
    let order = candidates(logits)?;
    let best = order[0];
    // the difference of two infinities is no number, and neither is a share of temperature 0
    if sampling.temperature == 0.0 || logits[best] == f32::INFINITY {
        return Ok(best as i32);
    }
    let kept = if sampling.top_k == 0 { order.len() } else { sampling.top_k.min(order.len()) };
    Ok(draw(&order[..kept], logits, sampling, number) as i32)
}

/// The tokens that can be chosen, the likeliest first, of equal ones the first.
fn candidates(logits: &[f32]) -> Result<Vec<usize>> {
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
    if let (Some(first), Some(second)) = (infinite.next(), infinite.next()) {
        return fail(first, &format!(", that of token {second} too"));
    }
    let mut order: Vec<usize> = (0..logits.len()).filter(|i| logits[*i] > f32::NEG_INFINITY).collect();
    order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).expect("none is NaN"));
    if order.is_empty() { Err(Error(format!("no token can be chosen: all {} logits are -inf", logits.len()))) } else { Ok(order) }
}

/// One of the tokens, each with its share of Σ exp(logit / temperature).
fn draw(order: &[usize], logits: &[f32], sampling: &Sampling, number: u64) -> usize {
    let best = f64::from(logits[order[0]]);
    let weights: Vec<f64> = order.iter().map(|i| ((f64::from(logits[*i]) - best) / sampling.temperature).exp()).collect();
    let unit = (random(sampling.seed, number) >> 11) as f64 / (1u64 << 53) as f64;
    let mut left = unit * weights.iter().sum::<f64>();
    for (i, w) in order.iter().zip(&weights) {
        left -= w;
        if left < 0.0 {
            return *i;
        }
    }
    // rounding has left a little: it belongs to the last that has a share
    order[weights.iter().rposition(|w| *w > 0.0).expect("the best has a share of 1")]
}
