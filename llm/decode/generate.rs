//! Text from a model, a token at a time, with keys and values kept.

use crate::data::random;
use crate::error::{Error, Result};
use models::Model;
use passes::{Opt, optimize};
use runtime::{Device, Session};

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

/// A model that writes.
pub struct Generator {
    session: Session,
    context: usize,
    vocab: usize,
    /// Tokens whose keys and values are kept.
    seen: Vec<i32>,
}

impl Generator {
    /// Compiles the program for one token. Weights are still zero.
    pub fn new(model: &Model, device: impl Into<Device>) -> Result<Generator> {
        let graph = model.step_graph().map_err(|e| Error(e.to_string()))?.bind(&|s| (s == 'B').then_some(1))?;
        let session = Session::new(optimize(&graph, None, Opt::Egg)?.last(), device)?;
        Ok(Generator { session, context: model.context(), vocab: model.vocab_size(), seen: vec![] })
    }

    /// The session, to fill its weights.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Reads a token; the logits of the next. When the context is full, its later half is read again.
    pub fn read(&mut self, token: i32) -> Result<&[f32]> {
        if self.seen.len() == self.context {
            let kept = self.seen.split_off(self.context - self.context / 2);
            self.seen.clear();
            for t in kept {
                self.push(t)?;
            }
        }
        self.push(token)?;
        Ok(&self.session.output("logits").expect("the program has logits").f32s()[..self.vocab])
    }

    fn push(&mut self, token: i32) -> Result<()> {
        self.session.set_i32("input_ids", &[token])?;
        self.session.set_i32("position", &[self.seen.len() as i32])?;
        self.session.run().map_err(|e| Error(e.to_string()))?;
        self.seen.push(token);
        Ok(())
    }

    /// Writes `n` tokens after a prompt, calling `show` with each as it comes.
    pub fn generate(&mut self, prompt: &[i32], n: usize, sampling: &Sampling, show: &mut dyn FnMut(i32)) -> Result<Vec<i32>> {
        let (last, before) = prompt.split_last().ok_or_else(|| Error("the prompt is empty: give at least one character".into()))?;
        for t in before {
            self.read(*t)?;
        }
        let (mut token, mut out) = (*last, vec![]);
        for i in 0..n {
            let logits = self.read(token)?;
            token = sample(logits, sampling, i as u64);
            out.push(token);
            show(token);
        }
        Ok(out)
    }
}

/// The chosen token: a function of the logits, the seed and the token's number.
pub fn sample(logits: &[f32], sampling: &Sampling, number: u64) -> i32 {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
    if sampling.temperature <= 0.0 {
        return order[0] as i32;
    }
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k);
    }
    let best = f64::from(logits[order[0]]);
    let weights: Vec<f64> = order.iter().map(|i| ((f64::from(logits[*i]) - best) / sampling.temperature).exp()).collect();
    let unit = (random(sampling.seed, number) >> 11) as f64 / (1u64 << 53) as f64;
    let mut left = unit * weights.iter().sum::<f64>();
    for (i, w) in order.iter().zip(&weights) {
        left -= w;
        if left < 0.0 {
            return *i as i32;
        }
    }
    order[order.len() - 1] as i32
}
