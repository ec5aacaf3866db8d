//! Programs of answers that people preferred: two a row, beside each other.

use super::goes_on;
use crate::config::{Config, Preference, PreferenceConfig};
use crate::error::Result;
use ir::{Builder, DType, Dim, Graph, Scope, Tensor};
use models::losses::{self, Answers, Loss};
use models::{Model, Reading, heads};

/// What is read of each pair, `i32[B,2,T]`.
pub(crate) const COLUMNS: [&str; 2] = ["input_ids", "labels"];
/// The log-probabilities of both answers before, `f32[B,2]`.
pub(crate) const REFERENCE: &str = "reference";
/// Whether the first answer is good, `i32[B,1]`.
pub(crate) const GOOD: &str = "good";

/// Pairs as a model reads them.
struct Pairs<'g> {
    s: Scope<'g>,
    labels: Tensor<'g>,
    /// What the blocks made, `[2*B, T, C]`.
    x: Tensor<'g>,
    further: Vec<(&'static str, Tensor<'g>)>,
}

impl<'g> Pairs<'g> {
    /// Nothing is dropped, in learning neither: what is compared with a reference is the same model.
    fn read(b: &'g Builder, model: &Model) -> Result<Pairs<'g>> {
        goes_on(model)?;
        let (s, rows) = (b.scope(), Dim::sym('B'));
        let both = rows.times(Dim::num(2)).expect("a small number");
        let shape = || (rows, Dim::num(2), Dim::sym('T'));
        let [ids, labels] = COLUMNS.map(|name| s.input(name, DType::I32, shape()));
        let hidden = model.hidden(&s, &Reading::of(ids.reshape((both, Dim::sym('T')))));
        Ok(Pairs { s, labels, x: hidden.x, further: hidden.losses })
    }

    fn answers(&self, model: &Model) -> Answers<'g> {
        Answers::of(&self.s, model.head(&self.s, self.x), self.labels)
    }

    fn reference(&self) -> Tensor<'g> {
        self.s.input(REFERENCE, DType::F32, (Dim::sym('B'), Dim::num(2)))
    }
}

/// The program of preferences: results are the loss and what is looked at.
pub(super) fn preferences(config: &Config) -> Result<Graph> {
    let (b, how, model) = (Builder::default(), &config.preference, &config.model);
    {
        let pairs = Pairs::read(&b, model)?;
        let answers = pairs.answers(model);
        let reference = how.kind.refers().then(|| pairs.reference());
        let good = (how.kind == Preference::Kto).then(|| pairs.s.input(GOOD, DType::I32, (Dim::sym('B'), Dim::ONE)));
        let (loss, rewards) = loss(&pairs.s, answers, (reference, good), how);
        loss.with(&pairs.further).output(&b);
        let seen = match good {
            Some(good) => losses::seen_single(&pairs.s, rewards, answers, good),
            None => losses::seen(&pairs.s, rewards, answers),
        };
        seen.into_iter().for_each(|(name, seen)| seen.output_named(&b, name));
        if let Some(reference) = reference {
            losses::drift(&pairs.s, answers, reference).output_named(&b, "kl");
        }
    }
    Ok(model.finish(b, false)?)
}

/// The loss of answers, and what each is worth by what the policy says.
fn loss<'g>(
    s: &Scope<'g>,
    answers: Answers<'g>,
    (reference, good): (Option<Tensor<'g>>, Option<Tensor<'g>>),
    how: &PreferenceConfig,
) -> (Loss<'g>, Tensor<'g>) {
    let before = || reference.expect("what refers to it reads it");
    let (pairwise, beta) = (how.pairwise(), how.beta());
    let of_ratio = || (answers.log_prob - before()) * beta;
    match how.kind {
        Preference::Dpo => (losses::dpo(s, answers, before(), &pairwise), of_ratio()),
        Preference::Ipo => (losses::ipo(s, answers, before(), &pairwise), of_ratio() / answers.tokens.maximum(s.num(1.0))),
        Preference::Kto => {
            let good = good.expect("single answers are good or bad");
            (losses::kto(s, answers, before(), good, &how.unpaired()), of_ratio())
        }
        Preference::Orpo => (losses::orpo(s, answers, &pairwise), answers.mean(s) * beta),
        Preference::SimPo => (losses::simpo(s, answers, &pairwise), answers.mean(s) * beta),
    }
}

/// The program that a reference is computed by: its result `log_prob` is that of both answers, `f32[B,2]`.
pub(crate) fn reference(model: &Model) -> Result<Graph> {
    let b = Builder::default();
    {
        let pairs = Pairs::read(&b, model)?;
        b.output("log_prob", pairs.answers(model).log_prob);
    }
    Ok(model.finish(b, false)?)
}

/// The program of rewards, one a text, learned from pairs (Ouyang et al. 2022).
pub(super) fn rewards(config: &Config) -> Result<Graph> {
    let (b, model) = (Builder::default(), &config.model);
    {
        let pairs = Pairs::read(&b, model)?;
        let (s, rows, time) = (&pairs.s, Dim::sym('B'), Dim::sym('T'));
        let tokens = s.int(0).le(pairs.labels).cast(DType::F32);
        // the last token that is read stands before the last that is asked
        let place = s.iota(-1, time).cast(DType::F32);
        let last = s.int(0).le(pairs.labels).select(place, s.num(0.0)).max();
        let mask = place.le(last).cast(DType::I32).reshape((rows.times(Dim::num(2)).expect("a small number"), time));
        let rewards = heads::reward(s, model.normed(s, pairs.x), Some(mask)).reshape((rows, 2usize));
        let answers = Answers { log_prob: rewards, tokens: tokens.sum().reshape((rows, 2usize)) };
        losses::bradley_terry(s, rewards, answers.both(s), &config.preference.rewards()).with(&pairs.further).output(&b);
        for (name, seen) in losses::seen(s, rewards, answers) {
            seen.output_named(&b, name);
        }
    }
    Ok(model.finish(b, false)?)
}
