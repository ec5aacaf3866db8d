//! Records of what people preferred, as documents: a prompt, and answers that are good or bad.

use super::documents::ORDER;
use super::marks::Marks;
use super::permutation::Permutation;
use super::piece::Piece;
use super::sources::Source;
use crate::config::{Config, Preference};
use crate::error::{Error, Result};
use crate::text::{Specials, TextEncoder, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// What somebody thought of answers to a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Record {
    /// One is better than the other.
    Pair { prompt: String, chosen: String, rejected: String },
    /// One is good or bad.
    Single { prompt: String, completion: String, label: bool },
}

/// Documents a row: two answers, and whether the first is good.
pub(crate) const TOGETHER: u64 = 3;

/// The records of a file as lines of JSON, whatever its format: an array of objects, or an object a line. They have `prompt`, `chosen` and
/// `rejected`, texts or lists of messages, or `instruction`, `input`, `chosen` and `rejected` as Alpaca's instructions, or `prompt`,
/// `completion` and `label`. The error names the line, or the number in an array.
pub fn preferences(path: &Path, text: &str) -> Result<String> {
    let fail = |at: usize, why: String| Error(format!("{}:{at}: {why}", path.display()));
    let mut all = String::new();
    let mut add = |at: usize, value: &Value| -> Result<()> {
        let record = record(value).map_err(|why| fail(at, why))?;
        all += &serde_json::to_string(&record).expect("a record has a JSON form");
        all.push('\n');
        Ok(())
    };
    if text.trim_start().starts_with('[') {
        let values: Vec<Value> = serde_json::from_str(text).map_err(|e| fail(e.line(), format!("this is no JSON: {e}")))?;
        values.iter().enumerate().try_for_each(|(i, value)| add(i + 1, value).map_err(|e| Error(format!("{e} (the number is the record's)"))))?;
    } else {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let value = serde_json::from_str(line).map_err(|e| fail(i + 1, format!("this is no JSON: {e}")))?;
            add(i + 1, &value)?;
        }
    }
    if all.is_empty() {
        return Err(Error(format!("{}: there is no record: {EXPECTED}", path.display())));
    }
    Ok(all)
}

/// All words of records, for whoever learns a tokenizer of them.
pub fn words(lines: &str) -> String {
    let one = |record: Record| match record {
        Record::Pair { prompt, chosen, rejected } => format!("{prompt}{chosen}\n{rejected}\n"),
        Record::Single { prompt, completion, .. } => format!("{prompt}{completion}\n"),
    };
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).map(one).collect()
}

const EXPECTED: &str = "expected {\"prompt\": …, \"chosen\": …, \"rejected\": …}, or {\"prompt\": …, \"completion\": …, \"label\": true}";

fn record(value: &Value) -> std::result::Result<Record, String> {
    let Value::Object(object) = value else { return Err(format!("a record is no object: {EXPECTED}")) };
    if let (Some(chosen), Some(rejected)) = (object.get("chosen"), object.get("rejected")) {
        let [(before, chosen), (other, rejected)] = [answer("chosen", chosen)?, answer("rejected", rejected)?];
        if before != other {
            return Err("the messages before the chosen answer and before the rejected one are others: expected one conversation".into());
        }
        return filled(Record::Pair { prompt: prompt(object)? + &before, chosen, rejected });
    }
    match (object.get("completion"), object.get("label")) {
        (Some(completion), Some(label)) => {
            let (before, completion) = answer("completion", completion)?;
            let label = label.as_bool().or(label.as_i64().filter(|n| (0..=1).contains(n)).map(|n| n == 1));
            let label = label.ok_or("label is neither true nor false: expected one of them, or 1 or 0")?;
            filled(Record::Single { prompt: prompt(object)? + &before, completion, label })
        }
        _ => {
            let names: Vec<&str> = object.keys().map(String::as_str).collect();
            Err(format!("a record has {}: {EXPECTED}", if names.is_empty() { "nothing".into() } else { names.join(", ") }))
        }
    }
}

/// An answer of no words is nothing to learn.
fn filled(record: Record) -> std::result::Result<Record, String> {
    let empty = match &record {
        Record::Pair { chosen, rejected, .. } => [("chosen", chosen), ("rejected", rejected)].into_iter().find(|(_, text)| text.is_empty()),
        Record::Single { completion, .. } => Some(("completion", completion)).filter(|(_, text)| text.is_empty()),
    };
    empty.map_or(Ok(record.clone()), |(name, _)| Err(format!("{name} is empty: expected at least one character")))
}

/// What is asked: a prompt, messages, or an instruction as Alpaca has it (Taori et al. 2023).
fn prompt(object: &Map<String, Value>) -> std::result::Result<String, String> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (object.get("prompt"), text("instruction")) {
        (Some(Value::String(prompt)), _) => Ok(prompt.clone()),
        (Some(Value::Array(messages)), _) => messages.iter().map(message).collect(),
        (Some(_), _) => Err("prompt is no text: expected one, or a list of messages".into()),
        (None, Some(instruction)) => {
            let input = text("input").map_or(String::new(), |input| format!("\n\n### Input:\n{input}"));
            Ok(format!(
                "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### \
                 Instruction:\n{instruction}{input}\n\n### Response:\n"
            ))
        }
        (None, None) => Ok(String::new()),
    }
}

/// An answer, and the messages before it, where it is a list of some.
fn answer(name: &str, value: &Value) -> std::result::Result<(String, String), String> {
    match value {
        Value::String(text) => Ok((String::new(), text.clone())),
        Value::Array(messages) => {
            let (last, before) = messages.split_last().ok_or_else(|| format!("{name} is an empty list: expected messages"))?;
            if last["role"] != "assistant" {
                return Err(format!("{name} ends with no message of the assistant: the last one is the answer"));
            }
            Ok((before.iter().map(message).collect::<std::result::Result<String, String>>()?, content(last)?))
        }
        _ => Err(format!("{name} is no text: expected one, or a list of messages")),
    }
}

fn content(message: &Value) -> std::result::Result<String, String> {
    let text = message["content"].as_str().ok_or("a message has no content: expected {\"role\": …, \"content\": …}")?;
    Ok(text.into())
}

/// A message as plain text: who says it, and what.
fn message(value: &Value) -> std::result::Result<String, String> {
    let role = value["role"].as_str().ok_or("a message has no role: expected {\"role\": …, \"content\": …}")?;
    Ok(format!("{role}: {}\n", content(value)?))
}

impl Source {
    /// Records as documents, three a record: the chosen answer and the rejected one behind their prompt, and 1; of single answers for `kto` the
    /// answer, the same prompt with an answer to another, and whether the answer is good. Answers and what ends them are asked.
    pub(super) fn preferences(name: &str, lines: &str, config: &Config, tokenizer: &Tokenizer, marks: &Marks) -> Result<Source> {
        let records: Vec<Record> = lines
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|e| Error(format!("{name}: this is no record: {e}"))))
            .collect::<Result<_>>()?;
        let end = super::documents::end(tokenizer, marks)?;
        let mut encoder = tokenizer.encoder();
        let parts = split(name, &records, config.data.held_out)?.map(|records| match config.preference.kind {
            Preference::Kto => singles(&records, end, &mut encoder),
            Preference::Dpo | Preference::Ipo | Preference::Orpo | Preference::SimPo => pairs(name, &records, end, &mut encoder),
        });
        let [train, held_out] = parts;
        Ok(Source::marked(name, &train?, &held_out?))
    }
}

/// Those to learn from, and those that are held out, spread over all.
fn split<'r>(name: &str, records: &'r [Record], held_out: f64) -> Result<[Vec<&'r Record>; 2]> {
    let count = records.len();
    let first = (count as f64 * (1.0 - held_out)) as usize;
    if first == 0 || first == count {
        return Err(Error(format!("{name}: of {count} records data.held_out = {held_out} leaves none of a part: use more, or another share")));
    }
    let order: Vec<usize> = (0..count as u64).map(|i| Permutation::new(count as u64, ORDER).at(i) as usize).collect();
    Ok([&order[..first], &order[first..]].map(|places| places.iter().map(|i| &records[*i]).collect()))
}

/// A prompt and an answer, which is asked with what ends it.
fn document(prompt: &str, answer: &str, end: i32, encoder: &mut TextEncoder) -> Result<Piece> {
    let (prompt, answer) = (encoder.encode(prompt, Specials::Text)?, encoder.encode(answer, Specials::Text)?);
    let asked = (0..=prompt.len() + answer.len()).map(|i| i >= prompt.len()).collect();
    Piece::marked([prompt, answer, vec![end]].concat(), asked)
}

fn pairs(name: &str, records: &[&Record], end: i32, encoder: &mut TextEncoder) -> Result<Vec<Piece>> {
    let mut all = vec![];
    for record in records {
        let Record::Pair { prompt, chosen, rejected } = record else {
            return Err(Error(format!("{name}: a record has one answer alone, which is good or bad; try preference.kind = \"kto\"")));
        };
        all.extend([document(prompt, chosen, end, encoder)?, document(prompt, rejected, end, encoder)?, Piece::all(vec![1])]);
    }
    Ok(all)
}

/// Single answers, of a pair each of both; beside each the answer to another prompt, half of all away.
fn singles(records: &[&Record], end: i32, encoder: &mut TextEncoder) -> Result<Vec<Piece>> {
    let one = |record: &&Record| match record {
        Record::Pair { prompt, chosen, rejected } => vec![(prompt.clone(), chosen.clone(), true), (prompt.clone(), rejected.clone(), false)],
        Record::Single { prompt, completion, label } => vec![(prompt.clone(), completion.clone(), *label)],
    };
    let all: Vec<(String, String, bool)> = records.iter().flat_map(one).collect();
    let mut out = vec![];
    for (i, (prompt, answer, good)) in all.iter().enumerate() {
        let other = &all[(i + all.len().div_ceil(2)) % all.len()].1;
        out.extend([document(prompt, answer, end, encoder)?, document(prompt, other, end, encoder)?, Piece::all(vec![i32::from(*good)])]);
    }
    Ok(out)
}
