//! What an answer is worth: by a rule, by a model, or by a command.

mod command;
mod model;

pub use command::Command;
pub use model::RewardModel;

use crate::config::{Models, PolicyConfig, RewardKind};
use crate::error::{Error, Result};
use crate::text::Tokenizer;
use passes::Options;
use regex::Regex;
use runtime::Device;
use std::path::Path;
use std::time::Duration;

/// An answer that was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The tokens of the prompt and of the answer.
    pub ids: Vec<i32>,
    /// What was asked.
    pub prompt: String,
    /// What was written.
    pub text: String,
    /// What would be right.
    pub right: String,
}

/// Who says what an answer is worth.
pub enum Reward {
    /// 1 where it is the right one.
    Exact,
    /// 1 where what the expression finds is the right one, or, without a group, where it finds anything.
    Match(Regex),
    /// 1 less what it is off by, in shares of so many characters.
    Length(usize),
    /// What a model says.
    Model(Box<RewardModel>),
    /// What a command says.
    Command(Command),
}

impl Reward {
    /// What a configuration asks for, of answers that a tokenizer wrote in rows of so many tokens, so many at once.
    pub fn open(
        config: &PolicyConfig,
        models: &Models,
        tokenizer: &Tokenizer,
        [rows, context]: [usize; 2],
        device: &Device,
        options: &Options,
    ) -> Result<Reward> {
        Ok(match config.reward {
            RewardKind::Exact => Reward::Exact,
            RewardKind::Match => Reward::matching(&config.reward_pattern)?,
            RewardKind::Length => Reward::Length(config.reward_length),
            RewardKind::Model => {
                let path = Path::new(&config.reward_model);
                Reward::Model(Box::new(RewardModel::open(path, models, tokenizer, [rows, context], device, options)?))
            }
            RewardKind::Command => Reward::Command(Command::start(&config.reward_command, Duration::from_secs_f64(config.reward_seconds))?),
        })
    }

    /// By a regular expression.
    pub fn matching(pattern: &str) -> Result<Reward> {
        Regex::new(pattern).map(Reward::Match).map_err(|e| Error(format!("policy.reward_pattern: {e}")))
    }

    /// What each answer is worth, a finite number.
    pub fn of(&mut self, answers: &[Answer]) -> Result<Vec<f64>> {
        let rule = |worth: &dyn Fn(&Answer) -> f64| Ok(answers.iter().map(worth).collect());
        match self {
            Reward::Exact => rule(&|a| f64::from(u8::from(a.text.trim() == a.right.trim()))),
            Reward::Match(pattern) => rule(&|a| f64::from(u8::from(matches(pattern, a)))),
            Reward::Length(n) => rule(&|a| (1.0 - (a.text.chars().count() as f64 - *n as f64).abs() / *n as f64).max(0.0)),
            Reward::Model(model) => model.of(answers),
            Reward::Command(command) => command.of(answers),
        }
    }
}

fn matches(pattern: &Regex, answer: &Answer) -> bool {
    let Some(found) = pattern.captures(&answer.text) else { return false };
    found.get(1).is_none_or(|group| group.as_str().trim() == answer.right.trim())
}
