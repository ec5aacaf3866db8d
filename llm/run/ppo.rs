//! PPO: a token is as good as what came of it is better than what was expected, which is learned beside (Schulman et al. 2017, and of language
//! models Ziegler et al. 2019). The distance from the start is taken from the rewards, a token at a time.

use super::advantage::{adapted, generalised_advantages, whitened};
use super::rollout::Written;
use crate::config::PolicyConfig;
use crate::data::{Batch, Values};
use crate::objective::{ADVANTAGES, OLD, RETURNS, VALUES};

/// What of the settings it needs, and the weight of the distance, which may follow a target.
pub(super) struct Ppo {
    config: PolicyConfig,
    weight: f64,
}

impl Ppo {
    pub(super) fn new(config: &PolicyConfig) -> Ppo {
        Ppo { weight: config.kl, config: config.clone() }
    }

    /// The batch with what was said of each token when it was written, what each gained and what came of it; each answer's mean gain, and what
    /// else is to be known.
    pub(super) fn columns(
        &mut self,
        batch: Batch,
        written: &[Written],
        (old, values): (Vec<f32>, Vec<f32>),
        reference: Option<Vec<f32>>,
        context: usize,
    ) -> (Batch, Vec<f64>, Vec<(String, f64)>) {
        let mut gains = vec![0.0; old.len()];
        let mut returns = vec![0.0; old.len()];
        let mut distance = 0.0;
        let mut asked = vec![];
        for (row, w) in written.iter().enumerate() {
            let places: Vec<usize> = w.places().map(|at| row * context + at).collect();
            let far = |at: &usize| reference.as_ref().map_or(0.0, |r| f64::from(old[*at]) - f64::from(r[*at]));
            let mut rewards: Vec<f64> = places.iter().map(|at| -self.weight * far(at)).collect();
            *rewards.last_mut().expect("an answer has a token") += w.reward;
            distance += places.iter().map(far).sum::<f64>();
            let expected: Vec<f64> = places.iter().map(|at| f64::from(values[*at])).collect();
            let (gained, came) = generalised_advantages(&rewards, &expected, self.config.gamma, self.config.lambda);
            for (i, at) in places.iter().enumerate() {
                (gains[*at], returns[*at]) = (gained[i], came[i]);
            }
            asked.extend(places);
        }
        let of_answers: Vec<f64> = (0..written.len())
            .map(|row| written[row].places().map(|at| gains[row * context + at]).sum::<f64>() / written[row].answer.len() as f64)
            .collect();
        let mut all: Vec<f64> = asked.iter().map(|at| gains[*at]).collect();
        whitened(&mut all);
        asked.iter().zip(all).for_each(|(at, gain)| gains[*at] = gain);
        let distance = distance / written.len() as f64;
        let mut measured = vec![];
        if reference.is_some() {
            measured = vec![("kl of an answer".to_string(), distance), ("kl weight".into(), self.weight)];
            if self.config.kl_target > 0.0 {
                self.weight = adapted(self.weight, distance, self.config.kl_target, written.len());
            }
        }
        let shape = [written.len(), context];
        let single = |x: Vec<f64>| Values::F32(x.into_iter().map(|x| x as f32).collect());
        let batch = batch.with(ADVANTAGES, &shape, single(gains)).with(RETURNS, &shape, single(returns));
        (batch.with(OLD, &shape, Values::F32(old)).with(VALUES, &shape, Values::F32(values)), of_answers, measured)
    }

    /// The weight of the distance, where it follows a target: a checkpoint keeps it.
    pub(super) fn followed(&self) -> Option<f64> {
        (self.config.kl > 0.0 && self.config.kl_target > 0.0).then_some(self.weight)
    }

    /// The weight as it was when a checkpoint was saved; why there is none, if there is none.
    pub(super) fn resume(&mut self, kept: Option<f64>) -> Result<(), String> {
        if self.followed().is_some() {
            let why = "its checkpoint does not say the weight of the distance, which follows policy.kl_target; start anew in another --out";
            self.weight = kept.ok_or(why)?;
        }
        Ok(())
    }
}
