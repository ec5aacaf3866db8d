//! Text from a model, a token at a time, with keys and values kept.

use super::sample::{Sampling, sample};
use crate::error::{Error, Result};
use models::Model;
use passes::{Goal, Options, compile};
use runtime::{Device, Session};

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
        Generator::compiled(model, device, &Options::default())
    }

    /// The same, compiled as `options` say; prices are the device's.
    pub fn compiled(model: &Model, device: impl Into<Device>, options: &Options) -> Result<Generator> {
        let device = device.into();
        Generator::with(model, &device, options, |graph| Session::within(graph, device.clone(), options.budget))
    }

    /// The same with the weights of a session that has them under the same paths, such as one in training: there is no second copy.
    pub fn sharing(model: &Model, device: impl Into<Device>, options: &Options, weights: &Session) -> Result<Generator> {
        let device = device.into();
        Generator::with(model, &device, options, |graph| Session::sharing(graph, device.clone(), options.budget, weights))
    }

    fn with(
        model: &Model,
        device: &Device,
        options: &Options,
        open: impl FnOnce(&ir::Graph) -> std::result::Result<Session, String>,
    ) -> Result<Generator> {
        let graph = model.step_graph().map_err(|e| Error(e.to_string()))?.bind(&|s| "BT".contains(s).then_some(1))?;
        let options = Options { machine: device.target()?.machine(), ..options.clone() };
        let session = open(compile(&graph, Goal::Results, &options)?.last())?;
        Ok(Generator { session, context: model.context(), vocab: model.vocab_size(), seen: vec![] })
    }

    /// The session, to fill its weights.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The most tokens that are seen at once.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Reads a token; the logits of the next. When the context is full, its later half is read again, rounded down.
    pub fn read(&mut self, token: i32) -> Result<&[f32]> {
        if !(0..self.vocab as i64).contains(&i64::from(token)) {
            return Err(Error(format!("there is no token {token}; the model has 0 to {}", self.vocab - 1)));
        }
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
        self.session.set_i32("last", &[0])?;
        self.session.run().map_err(|e| Error(e.to_string()))?;
        self.seen.push(token);
        Ok(())
    }

    /// Writes `n` tokens after a prompt, calling `show` with each as it comes. Of a prompt longer than the context the last part is read,
    /// as much as the context holds. What was read before is forgotten.
    pub fn generate(&mut self, prompt: &[i32], n: usize, sampling: &Sampling, show: &mut dyn FnMut(i32) -> Result<()>) -> Result<Vec<i32>> {
        let (mut token, before) = match prompt[prompt.len().saturating_sub(self.context)..].split_last() {
            Some((last, before)) => (*last, before),
            None => return Err(Error("the prompt is empty: give at least one character".into())),
        };
        self.seen.clear();
        for t in before {
            self.read(*t)?;
        }
        let mut out = vec![];
        for i in 0..n {
            let logits = self.read(token)?;
            token = sample(logits, sampling, i as u64)?;
            out.push(token);
            show(token)?;
        }
        Ok(out)
    }
}
