//! How a model learns from rewards of what it writes: the section `[policy]`.

use super::{Config, DataConfig};
use models::check::within;
use models::losses::{Average, Clip};
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// Which loss of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PolicyKind {
    /// Answers beside others to the same prompt (Shao et al. 2024).
    #[default]
    Grpo,
    /// The same, each token counted alike (Yu et al. 2025).
    Dapo,
    /// The same, neither lengths nor deviations divided by (Liu et al. 2025).
    DrGrpo,
    /// Each token beside what was to be expected there (Schulman et al. 2017).
    Ppo,
}

ir::spell!(PolicyKind, "kind of policy", [Grpo "grpo", Dapo "dapo", DrGrpo "dr-grpo", Ppo "ppo"]);

/// What an answer is rewarded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RewardKind {
    /// It is the right one: 1, else 0.
    #[default]
    Exact,
    /// What a regular expression finds in it is the right one, or where the expression has no group, that it finds something.
    Match,
    /// It is of a length: 1 less what it is off by, in shares of that length, and at least 0.
    Length,
    /// What a model of rewards says.
    Model,
    /// What a command says.
    Command,
}

ir::spell!(RewardKind, "reward", [Exact "exact", Match "match", Length "length", Model "model", Command "command"]);

/// How a model learns from what it writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// The loss: grpo, dapo, dr-grpo or ppo.
    pub kind: PolicyKind,
    /// What is rewarded: exact, match, length, model or command.
    pub reward: RewardKind,
    /// The regular expression of match; its first group is compared with the right answer.
    pub reward_pattern: String,
    /// The characters of length.
    pub reward_length: usize,
    /// The directory of the model of rewards, as eggcorn reward makes one.
    pub reward_model: String,
    /// The command, which reads a line of JSON an answer and writes its reward, a line each.
    pub reward_command: String,
    /// Seconds that it has for all answers of a step.
    pub reward_seconds: f64,
    /// Answers to a prompt, which are compared with each other; 1 of ppo.
    pub group: usize,
    /// The most tokens of an answer; 0 for as many as the row has room for, or as a task's answer has.
    pub tokens: usize,
    /// Logits are divided by it when an answer is written; 1 is the policy itself.
    pub temperature: f64,
    /// Steps on the same answers.
    pub updates: u64,
    /// How far down the ratio of probabilities counts: to 1 less this.
    pub clip_low: f64,
    /// How far up: to 1 and this.
    pub clip_high: f64,
    /// The weight of the distance from the start; 0 for none.
    pub kl: f64,
    /// The distance, in nats an answer, that the weight is fitted to, of ppo; 0 where it stays.
    pub kl_target: f64,
    /// The weight of the loss of values, of ppo.
    pub value_weight: f64,
    /// How far a value may move from what it was, of ppo.
    pub value_clip: f64,
    /// How much a reward counts a token earlier, of ppo.
    pub gamma: f64,
    /// How much later tokens' surprises count, of ppo (Schulman et al. 2016).
    pub lambda: f64,
}

impl Default for PolicyConfig {
    fn default() -> PolicyConfig {
        PolicyConfig {
            kind: PolicyKind::Grpo,
            reward: RewardKind::Exact,
            reward_pattern: String::new(),
            reward_length: 100,
            reward_model: String::new(),
            reward_command: String::new(),
            reward_seconds: 60.0,
            group: 8,
            tokens: 0,
            temperature: 1.0,
            updates: 1,
            clip_low: 0.2,
            clip_high: 0.2,
            kl: 0.0,
            kl_target: 0.0,
            value_weight: 0.5,
            value_clip: 0.2,
            gamma: 1.0,
            lambda: 0.95,
        }
    }
}

impl PolicyConfig {
    /// Whether it learns what is to be expected of each token.
    pub fn has_values(&self) -> bool {
        self.kind == PolicyKind::Ppo
    }

    /// How far probabilities may move.
    pub fn clip(&self) -> Clip {
        Clip { low: self.clip_low, high: self.clip_high }
    }

    /// What the loss is the mean of, where answers have at most so many tokens.
    pub fn average(&self, tokens: usize) -> Average {
        match self.kind {
            PolicyKind::Grpo => Average::Answers,
            PolicyKind::Dapo | PolicyKind::Ppo => Average::Tokens,
            PolicyKind::DrGrpo => Average::Length(tokens as f64),
        }
    }

    /// Whether advantages are divided by the deviation of their group.
    pub fn scales(&self) -> bool {
        match self.kind {
            PolicyKind::Grpo | PolicyKind::Dapo => true,
            PolicyKind::DrGrpo | PolicyKind::Ppo => false,
        }
    }

    /// Whether the program reads what probabilities were when answers were written: in the first step on them they are its own.
    pub fn reads_old(&self) -> bool {
        self.updates > 1 || self.has_values()
    }

    /// Whether the loss has the distance from the start; of ppo the rewards have it.
    pub fn in_loss(&self) -> bool {
        self.kl > 0.0 && !self.has_values()
    }

    /// Whether the weights of the start are asked.
    pub fn refers(&self) -> bool {
        self.kl > 0.0
    }

    /// The most tokens of an answer, in rows of a context.
    pub fn longest(&self, data: &DataConfig, context: usize) -> usize {
        match self.tokens {
            0 => data.task.answer(data.task_length).unwrap_or(context),
            n => n,
        }
    }

    /// Why these settings are none, or do not fit the rows.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let usual = PolicyConfig::default();
        if !config.data.pairs() {
            return Err(
                "a policy answers prompts, and data.documents is not pairs; try data.documents = \"pairs\" with a file of a prompt, a tab and its \
                 right answer a line, or data.task = \"sort\""
                    .into(),
            );
        }
        let rows = config.train.step_rows();
        within("policy.group", self.group, 1..=rows, usual.group.min(rows))?;
        if !rows.is_multiple_of(self.group) {
            return Err(format!(
                "policy.group is {}, and a step has {rows} rows, train.batch times train.accumulate: expected a multiple of the group; try \
                 train.batch = {}",
                self.group,
                self.group * rows.div_ceil(self.group)
            ));
        }
        if !self.has_values() && self.group < 2 {
            return Err("policy.group is 1, and an answer alone is no better than others; try policy.group = 8, or policy.kind = \"ppo\"".into());
        }
        if !config.train.ramp.is_empty() {
            return Err("train.ramp: a policy learns from whole groups in every step; leave it away".into());
        }
        within("policy.tokens", self.tokens, 0..=config.train.context, usual.tokens)?;
        within("policy.temperature", self.temperature, (Excluded(0.0), Included(10.0)), usual.temperature)?;
        within("policy.updates", self.updates, 1..=1000, usual.updates)?;
        within("policy.clip_low", self.clip_low, (Excluded(0.0), Excluded(1.0)), usual.clip_low)?;
        within("policy.clip_high", self.clip_high, (Excluded(0.0), Included(1e6)), usual.clip_high)?;
        within("policy.kl", self.kl, 0.0..=1e6, 0.04)?;
        within("policy.kl_target", self.kl_target, 0.0..=1e6, "6, or 0 for none")?;
        within("policy.value_weight", self.value_weight, 0.0..=1e6, usual.value_weight)?;
        within("policy.value_clip", self.value_clip, (Excluded(0.0), Included(1e6)), usual.value_clip)?;
        within("policy.gamma", self.gamma, 0.0..=1.0, usual.gamma)?;
        within("policy.lambda", self.lambda, 0.0..=1.0, usual.lambda)?;
        within("policy.reward_seconds", self.reward_seconds, (Excluded(0.0), Included(1e6)), usual.reward_seconds)?;
        within("policy.reward_length", self.reward_length, 1..=1 << 30, usual.reward_length)?;
        self.check_reward()
    }

    fn check_reward(&self) -> Result<(), String> {
        let needs = |name: &str, value: &str, example: &str| {
            if value.is_empty() { Err(format!("policy.reward is {}, and policy.{name} is empty; try {example}", self.reward)) } else { Ok(()) }
        };
        match self.reward {
            RewardKind::Exact | RewardKind::Length => Ok(()),
            RewardKind::Match => {
                needs("reward_pattern", &self.reward_pattern, "policy.reward_pattern = \"= (\\\\d+)\"")?;
                regex::Regex::new(&self.reward_pattern).map(|_| ()).map_err(|e| format!("policy.reward_pattern: {e}"))
            }
            RewardKind::Model => needs("reward_model", &self.reward_model, "policy.reward_model = \"runs/reward\""),
            RewardKind::Command => needs("reward_command", &self.reward_command, "policy.reward_command = \"python3 reward.py\""),
        }
    }
}
