//! Losses of a model that writes, is rewarded, and learns from that; and of one that imitates another. All are means over tokens that are
//! asked, whose label is not negative.

use super::{Loss, counted, total};
use ir::{DType, Scope, Tensor};

/// How far a token's probability may move from what it was when it was written, until it gains nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Down to 1 − this of it.
    pub low: f64,
    /// Up to 1 + this of it; DAPO has more here (Yu et al. 2025, "clip-higher").
    pub high: f64,
}

/// What a loss of tokens is the mean of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Average {
    /// Each answer counts the same, as the mean of its tokens (GRPO, Shao et al. 2024).
    Answers,
    /// Each token counts the same (DAPO).
    Tokens,
    /// Each answer counts as its tokens' sum by so many, which no length changes (Dr. GRPO, Liu et al. 2025).
    Length(f64),
}

/// How far a policy is from another, of a token that it wrote (Schulman 2020, "Approximating KL divergence"): of both the mean is
/// KL(π ‖ π₀), and k3 varies less and is never below 0.
#[derive(Clone, Copy)]
pub struct Kl<'g> {
    /// log π₀ of each token: [B, T].
    pub reference: Tensor<'g>,
    /// How much it counts.
    pub weight: f64,
}

/// log π − log π₀
#[track_caller]
pub fn k1<'g>(policy: Tensor<'g>, reference: Tensor<'g>) -> Tensor<'g> {
    policy - reference
}

/// π₀ / π − 1 − log(π₀ / π)
#[track_caller]
pub fn k3<'g>(policy: Tensor<'g>, reference: Tensor<'g>) -> Tensor<'g> {
    let log_ratio = reference - policy;
    log_ratio.exp() - log_ratio - 1.0
}

/// The loss of the tokens that were written, clipped (PPO, Schulman et al. 2017, equation 7), and what is looked at: the share of tokens
/// where the clip counts, and k3 where there is a reference.
///
/// −min(ρ A, clip(ρ) A) + weight · k3, where ρ = π / π of when it was written. `log_prob` and `old`: [B, T], advantages: [B, 1] or [B, T],
/// labels: [B, T]
#[track_caller]
pub fn policy<'g>(
    s: &Scope<'g>,
    [log_prob, old, advantages]: [Tensor<'g>; 3],
    labels: Tensor<'g>,
    (clip, kl, average): (Clip, Option<Kl<'g>>, Average),
) -> (Loss<'g>, Vec<(&'static str, Loss<'g>)>) {
    let (asked, zero) = (s.int(0).le(labels), s.num(0.0));
    // a token that is not asked may have had any probability
    let ratio = asked.select(log_prob - old, zero).exp();
    let within = ratio.maximum(s.num(1.0 - clip.low)).minimum(s.num(1.0 + clip.high));
    let (free, clipped) = (ratio * advantages, within * advantages);
    let mut loss = -free.minimum(clipped);
    let mut seen = vec![("clipped", counted(s, clipped.lt(free).select(s.num(1.0), zero), asked))];
    if let Some(kl) = kl {
        let divergence = k3(log_prob, asked.select(kl.reference, log_prob));
        seen.push(("kl", counted(s, divergence, asked)));
        if kl.weight > 0.0 {
            loss = loss + divergence * kl.weight;
        }
    }
    (averaged(s, loss, asked, average), seen)
}

/// A loss of tokens as a sum and a count of answers or tokens.
#[track_caller]
fn averaged<'g>(s: &Scope<'g>, loss: Tensor<'g>, asked: Tensor<'g>, average: Average) -> Loss<'g> {
    let (loss, tokens) = (asked.select(loss, s.num(0.0)), asked.cast(DType::F32).sum());
    let answers = || total(s.num(0.0).lt(tokens).cast(DType::F32));
    match average {
        Average::Tokens => Loss { sum: total(loss), count: total(tokens) },
        Average::Answers => Loss { sum: total(loss.sum() / tokens.maximum(s.num(1.0))), count: answers() },
        Average::Length(n) => Loss { sum: total(loss) * (1.0 / n), count: answers() },
    }
}

/// The loss of values beside what was returned, half its square, clipped as policies are: ½ max((v − R)², (v₀ + clip(v − v₀) − R)²), where v₀
/// was the value then. All are [B, T].
#[track_caller]
pub fn values<'g>(s: &Scope<'g>, [value, old, returns]: [Tensor<'g>; 3], labels: Tensor<'g>, clip: f64) -> Loss<'g> {
    let near = old + (value - old).maximum(s.num(-clip)).minimum(s.num(clip));
    let square = |x: Tensor<'g>| (x - returns) * (x - returns);
    counted(s, square(value).maximum(square(near)) * 0.5, s.int(0).le(labels))
}

/// Whose distribution the distance is taken of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Imitation {
    /// KL(teacher ‖ student): all that the teacher may say.
    Forward,
    /// KL(student ‖ teacher): nothing that the teacher would not say.
    Reverse,
    /// Both, of a mixture that has this share of the teacher (Agarwal et al. 2024, generalised Jensen-Shannon).
    Mixed(f64),
}

/// The distance of a student's next token from a teacher's (Hinton et al. 2015), both at a temperature, summed over the vocabulary. logits of
/// both: [B, T, V], labels: [B, T]. No gradient goes to the teacher.
#[track_caller]
pub fn imitation<'g>(s: &Scope<'g>, [student, teacher]: [Tensor<'g>; 2], labels: Tensor<'g>, how: Imitation, temperature: f64) -> Loss<'g> {
    let asked = s.int(0).le(labels.reshape((labels.dim(-2), labels.dim(-1), 1usize)));
    let log_softmax = |x: Tensor<'g>| {
        let x = asked.select(x, s.num(0.0)) * (1.0 / temperature);
        let x = x - x.max();
        x - x.exp().sum().log()
    };
    let (p, q) = (log_softmax(super::frozen(teacher)), log_softmax(student));
    let kl = |a: Tensor<'g>, b: Tensor<'g>| (a.exp() * (a - b)).sum();
    let distance = match how {
        Imitation::Forward => kl(p, q),
        Imitation::Reverse => kl(q, p),
        Imitation::Mixed(share) => {
            let mixture = (p.exp() * share + q.exp() * (1.0 - share)).log();
            kl(p, mixture) * share + kl(q, mixture) * (1.0 - share)
        }
    };
    counted(s, distance, asked)
}
