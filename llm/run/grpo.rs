//! GRPO: an answer is as good as it is better than others to the same prompt (Shao et al. 2024); no values are learned.

use super::advantage::group_advantages;
use super::rollout::Written;
use crate::config::PolicyConfig;
use crate::data::{Batch, Values};
use crate::objective::{ADVANTAGES, OLD};

/// What of the settings it needs.
pub(super) struct Grpo {
    group: usize,
    scaled: bool,
}

impl Grpo {
    pub(super) fn new(config: &PolicyConfig) -> Grpo {
        Grpo { group: config.group, scaled: config.scales() }
    }

    /// The batch with how much better each answer was than its group, those numbers, and what else is to be known of them.
    pub(super) fn columns(&self, batch: Batch, written: &[Written], old: Option<(Vec<f32>, Vec<f32>)>) -> (Batch, Vec<f64>, Vec<(String, f64)>) {
        let rewards: Vec<f64> = written.iter().map(|w| w.reward).collect();
        let advantages = group_advantages(&rewards, self.group, self.scaled);
        let batch = batch.with(ADVANTAGES, &[written.len(), 1], Values::F32(advantages.iter().map(|a| *a as f32).collect()));
        let alike = advantages.chunks(self.group).filter(|group| group.iter().all(|a| a.abs() < 1e-12)).count();
        let share = alike as f64 * self.group as f64 / written.len() as f64;
        let batch = match old {
            Some((old, _)) => batch.with(OLD, &[written.len(), old.len() / written.len()], Values::F32(old)),
            None => batch,
        };
        (batch, advantages, vec![("groups of equal rewards".into(), share)])
    }
}
