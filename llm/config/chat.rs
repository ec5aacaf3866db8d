//! How conversations become texts, and what of them is trained: the section `[chat]`.

use crate::chat::{SHIPPED, valid_date};
use models::check::within;
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// What of a conversation is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Asked {
    /// The answers, each with the token that ends it.
    #[default]
    Answers,
    /// Every token.
    All,
}

ir::spell!(Asked, "part of a conversation", [Answers "answers", All "all"]);

/// How conversations become texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChatConfig {
    /// The template: chatml, llama-3, mistral, gemma, alpaca, or a file in Jinja; nothing for the one of the model's directory, or else chatml.
    pub template: String,
    /// What of a conversation is trained: answers or all.
    pub asked: Asked,
    /// What the system says where a conversation does not say it; nothing for nothing.
    pub system: String,
    /// The share of conversations, before those that are held out, that is left for tests.
    pub test: f64,
    /// What templates take for today, so that a text does not depend on the day: a year, a month and a day.
    pub date: String,
}

impl Default for ChatConfig {
    fn default() -> ChatConfig {
        ChatConfig { template: String::new(), asked: Asked::Answers, system: String::new(), test: 0.0, date: "2024-07-26".into() }
    }
}

impl ChatConfig {
    /// Special tokens that the template writes, of one that is shipped.
    pub fn specials(&self) -> Vec<String> {
        let name = if self.template.is_empty() { SHIPPED[0].name } else { self.template.as_str() };
        SHIPPED.iter().find(|s| s.name == name).into_iter().flat_map(|s| s.specials).map(ToString::to_string).collect()
    }

    /// Why conversations cannot be read so, if they cannot.
    pub(super) fn check(&self, held_out: f64) -> Result<(), String> {
        within("chat.test", self.test, (Included(0.0), Excluded(1.0 - held_out)), 0.1)?;
        valid_date(&self.date).map_err(|why| format!("chat.date: {why}"))
    }
}
