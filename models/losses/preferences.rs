//! Losses of answers that people preferred to others. Pairs stand in one axis, [B, 2]: the answer that was chosen, then the one that was
//! rejected. A pair counts where both have a token, so that rows may be filled up.

use super::{Loss, counted, frozen, log_probabilities, log_sigmoid};
use ir::{DType, Scope, Tensor};

/// What a model says of two answers a row.
#[derive(Clone, Copy)]
pub struct Answers<'g> {
    /// Σ log p over the tokens of each answer: [B, 2].
    pub log_prob: Tensor<'g>,
    /// How many tokens each has: [B, 2].
    pub tokens: Tensor<'g>,
}

/// How two answers are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pairwise {
    /// How much a difference of log-probabilities counts; of [`orpo`] the weight λ of what is added.
    pub beta: f64,
    /// By how much the chosen answer is to be better.
    pub margin: f64,
    /// The share ε of pairs that are thought to be the wrong way round.
    pub label_smoothing: f64,
}

/// How answers that are good or bad are weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kto {
    /// How much a difference of log-probabilities counts.
    pub beta: f64,
    /// The weight of answers that are good.
    pub desirable: f64,
    /// The weight of answers that are bad.
    pub undesirable: f64,
}

impl<'g> Answers<'g> {
    /// Of logits `[2*B, T, V]`, answers beside each other, and labels `[B, 2, T]`, which are negative where nothing is asked.
    #[track_caller]
    pub fn of(s: &Scope<'g>, logits: Tensor<'g>, labels: Tensor<'g>) -> Answers<'g> {
        let (rows, time) = (labels.dim(-3), labels.dim(-1));
        let of_tokens = log_probabilities(s, logits, labels.reshape((logits.dim(-3), time)));
        let pairs = |x: Tensor<'g>| x.reshape((rows, 2usize, time)).sum().reshape((rows, 2usize));
        Answers { log_prob: pairs(of_tokens), tokens: pairs(s.int(0).le(labels).cast(DType::F32)) }
    }

    /// The mean log-probability of a token of each: [B, 2].
    #[track_caller]
    pub fn mean(self, s: &Scope<'g>) -> Tensor<'g> {
        self.log_prob / self.tokens.maximum(s.num(1.0))
    }

    /// Whether both have a token: truth [B, 1].
    #[track_caller]
    pub fn both(self, s: &Scope<'g>) -> Tensor<'g> {
        s.num(0.0).lt(first(self.tokens).minimum(second(self.tokens)))
    }
}

/// The first of two: [B, 2] to [B, 1].
#[track_caller]
fn first(x: Tensor) -> Tensor {
    x.slice(-1, 0, 1)
}

/// The second.
#[track_caller]
fn second(x: Tensor) -> Tensor {
    x.slice(-1, 1, 2)
}

/// The first less the second.
#[track_caller]
fn difference(x: Tensor) -> Tensor {
    first(x) - second(x)
}

impl Pairwise {
    /// −(1 − ε) log σ(z − margin) − ε log σ(margin − z)
    #[track_caller]
    fn smoothed<'g>(&self, s: &Scope<'g>, z: Tensor<'g>) -> Tensor<'g> {
        let z = if self.margin == 0.0 { z } else { z - self.margin };
        let right = -log_sigmoid(s, z);
        if self.label_smoothing == 0.0 {
            return right;
        }
        right * (1.0 - self.label_smoothing) - log_sigmoid(s, -z) * self.label_smoothing
    }
}

/// Direct preference optimization (Rafailov et al. 2023, equation 7): −log σ(β (Δ log π − Δ log π₀)), Δ of the chosen answer less the
/// rejected one. With a margin it is ODPO (Amini et al. 2024), with smoothing conservative DPO. reference: [B, 2]
#[track_caller]
pub fn dpo<'g>(s: &Scope<'g>, policy: Answers<'g>, reference: Tensor<'g>, how: &Pairwise) -> Loss<'g> {
    counted(s, how.smoothed(s, difference(policy.log_prob - reference) * how.beta), policy.both(s))
}

/// IPO (Azar et al. 2023, equation 17): (Δ log π − Δ log π₀ − 1 / 2β)², of the mean log-probability of a token, which is what its authors
/// used. reference: [B, 2]
#[track_caller]
pub fn ipo<'g>(s: &Scope<'g>, policy: Answers<'g>, reference: Tensor<'g>, how: &Pairwise) -> Loss<'g> {
    let ratio = Answers { log_prob: policy.log_prob - reference, ..policy };
    let off = difference(ratio.mean(s)) - 0.5 / how.beta;
    counted(s, off * off, policy.both(s))
}

/// SimPO (Meng et al. 2024, equation 6): −log σ(β Δ mean log π − margin), with no reference.
#[track_caller]
pub fn simpo<'g>(s: &Scope<'g>, policy: Answers<'g>, how: &Pairwise) -> Loss<'g> {
    counted(s, how.smoothed(s, difference(policy.mean(s)) * how.beta), policy.both(s))
}

/// ORPO (Hong et al. 2024, equations 6 and 7): the chosen answer's mean loss of a token, and λ times −log σ of the logarithm of the ratio of
/// both answers' odds p / (1 − p), p = exp of the mean log-probability; no reference.
#[track_caller]
pub fn orpo<'g>(s: &Scope<'g>, policy: Answers<'g>, how: &Pairwise) -> Loss<'g> {
    let both = policy.both(s);
    // what is filled up has a probability of 1, and its odds no logarithm
    let mean = both.select(policy.mean(s), s.num(-1.0));
    let odds = mean - log_one_less_exp(mean);
    counted(s, how.smoothed(s, difference(odds)) * how.beta - first(mean), both)
}

/// log(1 − exp a) of a below 0: with t = tanh(a / 2), exp a − 1 = 2t / (1 − t), which loses nothing where a is small.
#[track_caller]
fn log_one_less_exp(a: Tensor) -> Tensor {
    let t = (a * 0.5).tanh();
    (t * -2.0).log() - (-t + 1.0).log()
}

/// KTO (Ethayarajh et al. 2024, equation 8) of single answers, good or bad: weight · (1 − σ(±β (r − z))), where r = log π − log π₀ of the
/// answer that stands first, and z the mean of that over the rows' second ones, which answer other prompts, at least 0 and without a
/// gradient. reference: [B, 2], label: [B, 1], 1 where the answer is good
#[track_caller]
pub fn kto<'g>(s: &Scope<'g>, policy: Answers<'g>, reference: Tensor<'g>, label: Tensor<'g>, how: &Kto) -> Loss<'g> {
    let (ratio, zero) = (policy.log_prob - reference, s.num(0.0));
    let (asked, others) = (zero.lt(first(policy.tokens)), zero.lt(second(policy.tokens)));
    let other = counted(s, frozen(second(ratio)), others);
    let baseline = (other.sum / other.count.maximum(s.num(1.0))).maximum(zero).reshape((1usize, 1usize));
    let good = s.int(0).lt(label);
    let distance = (first(ratio) - baseline) * how.beta;
    let weight = good.select(s.num(how.desirable), s.num(how.undesirable));
    // 1 − σ(z) = (1 − tanh(z / 2)) / 2
    let missed = (-(good.select(distance, -distance) * 0.5).tanh() + 1.0) * 0.5;
    counted(s, missed * weight, asked)
}

/// The model of Bradley and Terry (1952), by which rewards are learned (Ouyang et al. 2022, equation 1): −log σ(r of the chosen − r of the
/// rejected − margin). rewards: [B, 2], asked: truth [B, 1]
#[track_caller]
pub fn bradley_terry<'g>(s: &Scope<'g>, rewards: Tensor<'g>, asked: Tensor<'g>, how: &Pairwise) -> Loss<'g> {
    counted(s, how.smoothed(s, difference(rewards) * how.beta), asked)
}

/// What is looked at of pairs, under the names of its results: rewards of either answer, their difference, how often the chosen one has
/// more, and tokens. rewards: [B, 2]
#[track_caller]
pub fn seen<'g>(s: &Scope<'g>, rewards: Tensor<'g>, policy: Answers<'g>) -> Vec<(&'static str, Loss<'g>)> {
    let both = policy.both(s);
    let right = second(rewards).lt(first(rewards)).select(s.num(1.0), s.num(0.0));
    let all = [
        ("chosen_reward", first(rewards)),
        ("rejected_reward", second(rewards)),
        ("reward_margin", difference(rewards)),
        ("reward_accuracy", right),
        ("chosen_tokens", first(policy.tokens)),
        ("rejected_tokens", second(policy.tokens)),
    ];
    all.into_iter().map(|(name, x)| (name, counted(s, x, both))).collect()
}

/// The same of single answers: rewards of those that are good, of those that are bad, and their tokens. rewards: [B, 2], good: [B, 1]
#[track_caller]
pub fn seen_single<'g>(s: &Scope<'g>, rewards: Tensor<'g>, policy: Answers<'g>, good: Tensor<'g>) -> Vec<(&'static str, Loss<'g>)> {
    let (tokens, zero) = (first(policy.tokens), s.num(0.0));
    let (asked, is_good) = (zero.lt(tokens), s.int(0).lt(good));
    let of = |yes: Tensor<'g>, no: Tensor<'g>| zero.lt(is_good.select(yes, no));
    vec![
        ("good_reward", counted(s, first(rewards), of(tokens, zero))),
        ("bad_reward", counted(s, first(rewards), of(zero, tokens))),
        ("tokens", counted(s, tokens, asked)),
    ]
}

/// How far the policy is from the reference, of answers that stand in the data: the mean of log π − log π₀ of an answer. reference: [B, 2]
#[track_caller]
pub fn drift<'g>(s: &Scope<'g>, policy: Answers<'g>, reference: Tensor<'g>) -> Loss<'g> {
    counted(s, policy.log_prob - reference, s.num(0.0).lt(policy.tokens))
}
