//! Records of what people preferred, as documents: a prompt, and answers that are good or bad.

use super::documents::ORDER;
use super::marks::Marks;
use super::permutation::Permutation;
use super::piece::Piece;
use super::sources::Source;
use crate::chat::{Chat, Conversation, Message, Role, Template, check, message};
use crate::config::{Config, Preference};
use crate::error::{Error, Result};
use crate::text::{Specials, TextEncoder, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// What is asked: a text as it is, or messages that a template makes a text of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Messages(Vec<Message>),
}

/// What somebody thought of answers to a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Record {
    /// One is better than the other.
    Pair { prompt: Prompt, chosen: String, rejected: String },
    /// One is good or bad.
    Single { prompt: Prompt, completion: String, label: bool },
}

impl Record {
    fn prompt(&self) -> &Prompt {
        match self {
            Record::Pair { prompt, .. } | Record::Single { prompt, .. } => prompt,
        }
    }

    fn answers(&self) -> Vec<&str> {
        match self {
            Record::Pair { chosen, rejected, .. } => vec![chosen, rejected],
            Record::Single { completion, .. } => vec![completion],
        }
    }
}

/// Documents a row: two answers, and whether the first is good.
pub(crate) const TOGETHER: u64 = 3;

/// The records of a file as lines of JSON, whatever its format: an array of objects, or an object a line. They have `prompt`, `chosen` and
/// `rejected`, texts or lists of messages, or `instruction`, `input`, `chosen` and `rejected` as Alpaca's instructions, or `prompt`,
/// `completion` and `label`. All of a file are texts, or all are messages. The error names the line, or the number in an array.
pub fn preferences(path: &Path, text: &str) -> Result<String> {
    let fail = |at: usize, why: String| Error(format!("{}:{at}: {why}", path.display()));
    let (mut all, mut kind) = (String::new(), None);
    let mut add = |at: usize, value: &Value| -> Result<()> {
        let record = record(value).map_err(|why| fail(at, why))?;
        let talks = matches!(record.prompt(), Prompt::Messages(_));
        if *kind.get_or_insert(talks) != talks {
            let [this, others] = if talks { ["messages", "texts"] } else { ["a text", "messages"] };
            return Err(fail(at, format!("the record is {this}, and those before it are {others}: expected all of a file alike")));
        }
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

/// Whether lines of records are of messages, which a template makes texts of.
pub(crate) fn talk(lines: &str) -> bool {
    lines.starts_with("{\"prompt\":[")
}

/// All words of records, for whoever learns a tokenizer of them.
pub fn words(lines: &str) -> String {
    let one = |record: Record| {
        let prompt = match record.prompt() {
            Prompt::Text(text) => text.clone(),
            Prompt::Messages(messages) => messages.iter().map(|m| format!("{}\n", m.content)).collect(),
        };
        format!("{prompt}{}\n", record.answers().join("\n"))
    };
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).map(one).collect()
}

/// The conversations of records of messages, one an answer.
pub(crate) fn conversations(lines: &str, config: &Config) -> Vec<Conversation> {
    let one = |(i, record): (usize, Record)| -> Vec<Conversation> {
        let place = format!("record {}", i + 1);
        record.answers().into_iter().filter_map(|answer| conversation(record.prompt(), answer, &place, config)).collect()
    };
    lines.lines().enumerate().filter_map(|(i, line)| Some((i, serde_json::from_str(line).ok()?))).flat_map(one).collect()
}

/// A prompt with an answer, where it is messages.
fn conversation(prompt: &Prompt, answer: &str, place: &str, config: &Config) -> Option<Conversation> {
    let Prompt::Messages(messages) = prompt else { return None };
    let messages = messages.iter().cloned().chain([Message::new(Role::Assistant, answer)]).collect();
    Some(Conversation { place: place.into(), messages }.with_system(&config.chat.system))
}

const EXPECTED: &str = "expected {\"prompt\": …, \"chosen\": …, \"rejected\": …}, or {\"prompt\": …, \"completion\": …, \"label\": true}";

fn record(value: &Value) -> std::result::Result<Record, String> {
    let Value::Object(object) = value else { return Err(format!("a record is no object: {EXPECTED}")) };
    if let (Some(chosen), Some(rejected)) = (object.get("chosen"), object.get("rejected")) {
        let [(prompt, chosen), (other, rejected)] = [said(object, "chosen", chosen)?, said(object, "rejected", rejected)?];
        if prompt != other {
            return Err("the messages before the chosen answer and before the rejected one are others: expected one conversation".into());
        }
        return filled(Record::Pair { prompt, chosen, rejected });
    }
    match (object.get("completion"), object.get("label")) {
        (Some(completion), Some(label)) => {
            let (prompt, completion) = said(object, "completion", completion)?;
            let label = label.as_bool().or(label.as_i64().filter(|n| (0..=1).contains(n)).map(|n| n == 1));
            let label = label.ok_or("label is neither true nor false: expected one of them, or 1 or 0")?;
            filled(Record::Single { prompt, completion, label })
        }
        _ => {
            let names: Vec<&str> = object.keys().map(String::as_str).collect();
            Err(format!("a record has {}: {EXPECTED}", if names.is_empty() { "nothing".into() } else { names.join(", ") }))
        }
    }
}

/// An answer of no words is nothing to learn, and messages are questions and answers in turns.
fn filled(record: Record) -> std::result::Result<Record, String> {
    let names = if matches!(record, Record::Pair { .. }) { &["chosen", "rejected"][..] } else { &["completion"] };
    if let Some((name, _)) = names.iter().zip(record.answers()).find(|(_, text)| text.is_empty()) {
        return Err(format!("{name} is empty: expected at least one character"));
    }
    if let Prompt::Messages(messages) = record.prompt() {
        for answer in record.answers() {
            check(&messages.iter().cloned().chain([Message::new(Role::Assistant, answer)]).collect::<Vec<_>>())?;
        }
    }
    Ok(record)
}

/// What is asked, and an answer: messages where either is some, of which all but the last are asked.
fn said(object: &Map<String, Value>, name: &str, answer: &Value) -> std::result::Result<(Prompt, String), String> {
    let asked = match object.get("prompt") {
        Some(Value::Array(list)) => Some(messages(list)?),
        Some(Value::String(_)) | None => None,
        Some(_) => return Err("prompt is no text: expected one, or a list of messages".into()),
    };
    match (asked, answer) {
        (None, Value::String(text)) => Ok((Prompt::Text(prompt(object)), text.clone())),
        (Some(asked), Value::String(text)) => Ok((Prompt::Messages(asked), text.clone())),
        (asked, Value::Array(list)) => {
            let (last, before) = list.split_last().ok_or_else(|| format!("{name} is an empty list: expected messages"))?;
            let (last, before) = (message(last)?, messages(before)?);
            if last.role != Role::Assistant {
                return Err(format!("{name} ends with no message of the assistant: the last one is the answer"));
            }
            let asked = asked.unwrap_or_else(|| question(object).map(|text| Message::new(Role::User, text)).into_iter().collect());
            Ok((Prompt::Messages([asked, before].concat()), last.content))
        }
        _ => Err(format!("{name} is no text: expected one, or a list of messages")),
    }
}

fn messages(list: &[Value]) -> std::result::Result<Vec<Message>, String> {
    list.iter().enumerate().map(|(i, value)| message(value).map_err(|why| format!("message {}: {why}", i + 1))).collect()
}

fn text<'o>(object: &'o Map<String, Value>, name: &str) -> Option<&'o str> {
    object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What a message asks, of a record whose answers are messages.
fn question(object: &Map<String, Value>) -> Option<String> {
    let input = text(object, "input").map_or(String::new(), |input| format!("\n\n{input}"));
    text(object, "prompt").map(str::to_string).or_else(|| Some(format!("{}{input}", text(object, "instruction")?)))
}

/// What is asked as a text: a prompt, or an instruction as Alpaca has it (Taori et al. 2023).
fn prompt(object: &Map<String, Value>) -> String {
    match (object.get("prompt").and_then(Value::as_str), text(object, "instruction")) {
        (Some(prompt), _) => prompt.into(),
        (None, Some(instruction)) => {
            let input = text(object, "input").map_or(String::new(), |input| format!("\n\n### Input:\n{input}"));
            format!(
                "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n### \
                 Instruction:\n{instruction}{input}\n\n### Response:\n"
            )
        }
        (None, None) => String::new(),
    }
}

impl Source {
    /// Records as documents, three a record: the chosen answer and the rejected one behind their prompt, and 1; of single answers for `kto` the
    /// answer, the same prompt with an answer to another, and whether the answer is good. Answers and what ends them are asked: of messages
    /// what the template has behind its prompt, of texts the end of a document.
    pub(super) fn preferences(
        name: &str,
        lines: &str,
        config: &Config,
        tokenizer: &Tokenizer,
        template: Option<&Template>,
        marks: &Marks,
    ) -> Result<Source> {
        let records: Vec<Record> = lines
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|e| Error(format!("{name}: this is no record: {e}"))))
            .collect::<Result<_>>()?;
        let mut written = match template.filter(|_| talk(lines)) {
            Some(template) => Written::Talk { chat: Chat::new(template, tokenizer), name, config },
            None if talk(lines) => return Err(Error(format!("{name}: messages are read with a template"))),
            None => Written::Text { encoder: tokenizer.encoder(), end: super::documents::end(tokenizer, marks)? },
        };
        let parts = split(name, &records, config.data.held_out)?.map(|records| match config.preference.kind {
            Preference::Kto => singles(&records, &mut written),
            Preference::Dpo | Preference::Ipo | Preference::Orpo | Preference::SimPo => pairs(name, &records, &mut written),
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

/// How prompts and answers become tokens.
enum Written<'a> {
    Text { encoder: TextEncoder<'a>, end: i32 },
    Talk { chat: Chat<'a>, name: &'a str, config: &'a Config },
}

impl Written<'_> {
    /// A prompt and an answer, which is asked with what ends it.
    fn document(&mut self, prompt: &Prompt, answer: &str) -> Result<Piece> {
        match (self, prompt) {
            (Written::Text { encoder, end }, Prompt::Text(prompt)) => {
                let (prompt, answer) = (encoder.encode(prompt, Specials::Text)?, encoder.encode(answer, Specials::Text)?);
                let asked = (0..=prompt.len() + answer.len()).map(|i| i >= prompt.len()).collect();
                Piece::marked([prompt, answer, vec![*end]].concat(), asked)
            }
            (Written::Talk { chat, name, config }, prompt) => {
                let none = || Error(format!("{name}: a record is a text, and the first is messages"));
                chat.answered(&conversation(prompt, answer, name, config).ok_or_else(none)?)
            }
            (Written::Text { .. }, Prompt::Messages(_)) => Err(Error("messages are read with a template".into())),
        }
    }
}

fn pairs(name: &str, records: &[&Record], written: &mut Written) -> Result<Vec<Piece>> {
    let mut all = vec![];
    for record in records {
        let Record::Pair { prompt, chosen, rejected } = record else {
            return Err(Error(format!("{name}: a record has one answer alone, which is good or bad; try preference.kind = \"kto\"")));
        };
        all.extend([written.document(prompt, chosen)?, written.document(prompt, rejected)?, Piece::all(vec![1])]);
    }
    Ok(all)
}

/// Single answers, of a pair each of both; beside each the answer to another prompt, half of all away.
fn singles(records: &[&Record], written: &mut Written) -> Result<Vec<Piece>> {
    let one = |record: &&Record| match record {
        Record::Pair { prompt, chosen, rejected } => vec![(prompt.clone(), chosen.clone(), true), (prompt.clone(), rejected.clone(), false)],
        Record::Single { prompt, completion, label } => vec![(prompt.clone(), completion.clone(), *label)],
    };
    let all: Vec<(Prompt, String, bool)> = records.iter().flat_map(one).collect();
    let mut out = vec![];
    for (i, (prompt, answer, good)) in all.iter().enumerate() {
        let other = &all[(i + all.len().div_ceil(2)) % all.len()].1;
        out.extend([written.document(prompt, answer)?, written.document(prompt, other)?, Piece::all(vec![i32::from(*good)])]);
    }
    Ok(out)
}
