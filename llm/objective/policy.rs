//! Programs of what a model wrote: the loss of a policy, and what it says of its answers.

use super::goes_on;
use crate::config::Config;
use crate::error::Result;
use ir::{Builder, DType, Dim, Graph, Scope, Tensor};
use models::losses::{self, Kl, log_probabilities};
use models::{Model, Reading, heads};

/// Columns besides tokens and labels, `f32`: how much better each answer or token was than expected, log-probabilities when it was written,
/// those of the start, what was expected then, and what came.
pub(crate) const ADVANTAGES: &str = "advantages";
pub(crate) const OLD: &str = "old";
pub(crate) const START: &str = "reference";
pub(crate) const VALUES: &str = "old_values";
pub(crate) const RETURNS: &str = "returns";

/// Answers behind their prompts, as a model reads them.
struct Answers<'g> {
    s: Scope<'g>,
    labels: Tensor<'g>,
    log_prob: Tensor<'g>,
    /// What is to be expected from each token on: [B, T].
    values: Option<Tensor<'g>>,
    further: Vec<(&'static str, Tensor<'g>)>,
}

impl<'g> Answers<'g> {
    /// Nothing is dropped, in learning neither: a ratio of probabilities is of one model.
    fn read(b: &'g Builder, model: &Model, temperature: f64, values: bool) -> Result<Answers<'g>> {
        goes_on(model)?;
        let s = b.scope();
        let [ids, labels] = ["input_ids", "labels"].map(|name| s.input(name, DType::I32, shape()));
        let hidden = model.hidden(&s, &Reading::of(ids));
        let logits = model.head(&s, hidden.x);
        let logits = if temperature == 1.0 { logits } else { logits * (1.0 / temperature) };
        let log_prob = log_probabilities(&s, logits, labels);
        let values = values.then(|| heads::value(&s, model.normed(&s, hidden.x)));
        Ok(Answers { s, labels, log_prob, values, further: hidden.losses })
    }

    fn column(&self, name: &str) -> Tensor<'g> {
        self.s.input(name, DType::F32, shape())
    }
}

fn shape() -> (Dim, Dim) {
    (Dim::sym('B'), Dim::sym('T'))
}

/// The program that learns: results are the loss and what is looked at.
pub(super) fn policies(config: &Config) -> Result<Graph> {
    let (b, how, model) = (Builder::default(), &config.policy, &config.model);
    {
        let answers = Answers::read(&b, model, how.temperature, how.has_values())?;
        let s = &answers.s;
        let old = if how.reads_old() { answers.column(OLD) } else { answers.log_prob.apply(ir::Op::StopGradient, &[]) };
        let advantages = match answers.values {
            Some(_) => answers.column(ADVANTAGES),
            None => s.input(ADVANTAGES, DType::F32, (Dim::sym('B'), Dim::ONE)),
        };
        let kl = how.in_loss().then(|| Kl { reference: answers.column(START), weight: how.kl });
        let average = how.average(how.longest(&config.data, config.train.context));
        let (mut loss, mut seen) = losses::policy(s, [answers.log_prob, old, advantages], answers.labels, (how.clip(), kl, average));
        if let Some(values) = answers.values {
            let [before, returns] = [VALUES, RETURNS].map(|name| answers.column(name));
            let of_values = losses::values(s, [values, before, returns], answers.labels, how.value_clip);
            loss.sum = loss.sum + of_values.sum * how.value_weight;
            seen.push(("value_loss", of_values));
        }
        loss.with(&answers.further).output(&b);
        seen.into_iter().for_each(|(name, seen)| seen.output_named(&b, name));
    }
    Ok(model.finish(b, false)?)
}

/// The program that says how likely answers are, `log_prob` `f32[B,T]`, and, where values are learned, `values` `f32[B,T]`.
pub(crate) fn said(model: &Model, temperature: f64, values: bool) -> Result<Graph> {
    let b = Builder::default();
    {
        let answers = Answers::read(&b, model, temperature, values)?;
        b.output("log_prob", answers.log_prob);
        answers.values.into_iter().for_each(|v| b.output("values", v));
    }
    Ok(model.finish(b, false)?)
}

/// The program of the reward of texts, `reward` `f32[B,1]`, of `input_ids` and `attention_mask`, `i32[B,T]`.
pub(crate) fn rewards(model: &Model) -> Result<Graph> {
    let b = Builder::default();
    {
        let s = b.scope();
        let [ids, mask] = ["input_ids", "attention_mask"].map(|name| s.input(name, DType::I32, shape()));
        let hidden = model.hidden(&s, &Reading::of(ids));
        b.output("reward", heads::reward(&s, model.normed(&s, hidden.x), Some(mask)));
    }
    Ok(model.finish(b, false)?)
}
