//! How a model is to write where nobody says otherwise.

use super::GENERATION;
use crate::data::Marks;
use crate::decode::Sampling;
use crate::error;
use crate::files::write_file;
use models::hub::{Config, Fields};
use serde_json::Value;
use std::path::Path;

/// What `generation_config.json` says, as far as it means anything here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generation {
    /// The token that a text begins with.
    pub begin: Option<i32>,
    /// Tokens that end a text.
    pub end: Vec<i32>,
    /// The token that fills up rows.
    pub pad: Option<i32>,
    /// The token that an answer to a text begins with.
    pub answer: Option<i32>,
    /// Whether tokens are drawn; the likeliest are taken where the file says no, and where there is a file that says nothing.
    pub drawn: Option<bool>,
    /// Logits are divided by it.
    pub temperature: Option<f64>,
    /// Only this many most likely tokens are considered.
    pub top_k: Option<usize>,
    /// Only the likeliest that together have this share.
    pub top_p: Option<f64>,
    /// Only those at least this many times as likely as the likeliest.
    pub min_p: Option<f64>,
    /// Makes what the text has rarer.
    pub repetition_penalty: Option<f64>,
}

/// How many tokens are considered where they are drawn, and nobody says otherwise: transformers' default.
const TOP_K: usize = 50;

impl Generation {
    /// Reads the file's keys, of which there may be none; the ids of tokens may stand in the model's settings instead.
    pub(super) fn read(own: &Fields, model: Option<&Fields>) -> Result<Generation, String> {
        let none = Fields::new();
        let (mut own_keys, mut model) = (Config::of(own), Config::of(model.unwrap_or(&none)));
        let mut ids = |key: &str| -> Result<Vec<i32>, String> {
            let found = own_keys.get(key).or_else(|| model.get(key));
            found.map_or(Ok(vec![]), |value| tokens(key, value))
        };
        let [begin, end, pad, answer] = ["bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"].map(&mut ids);
        let one = |ids: Vec<i32>| ids.first().copied();
        let mut own_keys = Config::of(own);
        let drawn = own_keys.flag("do_sample", false)?;
        Ok(Generation {
            begin: one(begin?),
            end: end?,
            pad: one(pad?),
            answer: one(answer?),
            drawn: (!own.is_empty()).then_some(drawn),
            temperature: own_keys.maybe_number("temperature")?,
            top_k: own_keys.maybe_size("top_k")?,
            top_p: own_keys.maybe_number("top_p")?,
            min_p: own_keys.maybe_number("min_p")?,
            repetition_penalty: own_keys.maybe_number("repetition_penalty")?,
        })
    }

    /// The file's name.
    pub const FILE: &'static str = GENERATION;

    /// How a model writes that was trained to answer: from what fills rows up to what ends a text.
    pub fn of_answers(marks: &Marks) -> Generation {
        Generation { answer: Some(marks.pad), pad: Some(marks.pad), end: marks.end.into_iter().collect(), ..Generation::default() }
    }

    /// The same where a token ends a text, too.
    pub fn ending(mut self, token: i32) -> Generation {
        self.end.retain(|id| *id != token);
        self.end.insert(0, token);
        self
    }

    /// Writes the file into a directory.
    pub fn write(&self, dir: &Path) -> error::Result<()> {
        let text = serde_json::to_string_pretty(&self.written()).expect("numbers have a JSON form") + "\n";
        write_file(&dir.join(GENERATION), text.as_bytes())
    }

    /// The choice of tokens that is meant, of a seed; none where there is no file that says any.
    pub fn sampling(&self) -> Option<Sampling> {
        let plain = Sampling { repetition_penalty: self.repetition_penalty.unwrap_or(1.0), ..Sampling::default() };
        let drawn = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(TOP_K),
            top_p: self.top_p.unwrap_or(1.0),
            min_p: self.min_p.unwrap_or(0.0),
            ..plain.clone()
        };
        self.drawn.map(|yes| if yes { drawn } else { Sampling { temperature: 0.0, ..plain } })
    }

    /// The same as the file has it.
    pub(super) fn written(&self) -> Fields {
        let end = match self.end[..] {
            [one] => Some(Value::from(one)),
            [] => None,
            _ => Some(Value::from(self.end.clone())),
        };
        let fields = [
            ("bos_token_id", self.begin.map(Value::from)),
            ("eos_token_id", end),
            ("pad_token_id", self.pad.map(Value::from)),
            ("decoder_start_token_id", self.answer.map(Value::from)),
            ("do_sample", self.drawn.map(Value::from)),
            ("temperature", self.temperature.map(Value::from)),
            ("top_k", self.top_k.map(Value::from)),
            ("top_p", self.top_p.map(Value::from)),
            ("min_p", self.min_p.map(Value::from)),
            ("repetition_penalty", self.repetition_penalty.map(Value::from)),
        ];
        fields.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
    }
}

/// A token's id, or a list of such.
fn tokens(key: &str, value: &Value) -> Result<Vec<i32>, String> {
    let one = |v: &Value| v.as_i64().and_then(|id| i32::try_from(id).ok()).filter(|id| *id >= 0);
    let all = match value {
        Value::Array(all) => all.iter().map(one).collect(),
        other => one(other).map(|id| vec![id]),
    };
    all.ok_or_else(|| format!("{key} is {value}, expected a token's number or a list of such"))
}
