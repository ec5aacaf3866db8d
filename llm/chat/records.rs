//! Files of records to conversations: Alpaca's instructions, messages as ChatML and ShareGPT have them, prompts with their completions.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Role {
    /// What holds for the whole conversation.
    System,
    /// Who asks.
    User,
    /// Who answers, and is trained.
    Assistant,
}

ir::spell!(Role, "role", [System "system", User "user" | "human", Assistant "assistant" | "gpt" | "model" | "bot"]);

/// What one says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who.
    pub role: Role,
    /// What.
    pub content: String,
    /// Of a record of Alpaca's kind its instruction, and
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// its input, both of which `content` has, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
}

impl Message {
    /// What one says.
    pub fn new(role: Role, content: impl Into<String>) -> Message {
        Message { role, content: content.into(), instruction: None, input: None }
    }
}

/// Messages in order: perhaps the system's, then questions and answers in turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Where it was read: a file and a line, or a number.
    pub place: String,
    /// The messages.
    pub messages: Vec<Message>,
}

/// Names of an object's two texts of which the second answers the first.
const PAIRS: [[&str; 2]; 4] = [["prompt", "completion"], ["prompt", "response"], ["question", "answer"], ["instruction", "response"]];
/// Names of an object's list of messages, and in it of who speaks and what.
const LISTS: [&str; 2] = ["messages", "conversations"];
const SPEAKERS: [&str; 2] = ["role", "from"];
const CONTENTS: [&str; 2] = ["content", "value"];
/// What is expected of an object.
const EXPECTED: &str = "expected \"messages\" of \"role\" and \"content\", \"conversations\" of \"from\" and \"value\", \"instruction\", \"input\" and \
                        \"output\", or \"prompt\" and \"completion\"";

/// The records of a file: an array of objects, or an object a line. The error names the file, and the line or the number of the record.
pub fn read_records(path: &Path, text: &str) -> Result<Vec<Conversation>> {
    let file = path.display();
    let all: Vec<(String, Value)> = if text.trim_start().starts_with('[') {
        let all: Vec<Value> = serde_json::from_str(text).map_err(|e| Error(format!("{file}: this is no list of records in JSON: {e}")))?;
        all.into_iter().enumerate().map(|(i, v)| (format!("{file}: record {}", i + 1), v)).collect()
    } else {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let one = |(i, line): (usize, &str)| {
            let place = format!("{file}:{}", i + 1);
            let value = serde_json::from_str(line)
                .map_err(|e| Error(format!("{place}: this is no record in JSON: {e}; expected an object a line, or one list of them")))?;
            Ok((place, value))
        };
        lines.map(one).collect::<Result<_>>()?
    };
    if all.is_empty() {
        return Err(Error(format!("{file}: there is no record: {EXPECTED}")));
    }
    all.into_iter()
        .map(|(place, value)| {
            conversation(value).map(|messages| Conversation { place: place.clone(), messages }).map_err(|why| Error(format!("{place}: {why}")))
        })
        .collect()
}

/// Conversations as lines, and back: what is handed from who reads files to who has a tokenizer.
pub fn records_of(lines: &str) -> Result<Vec<Conversation>> {
    lines.lines().map(|line| serde_json::from_str(line).map_err(|e| Error(format!("this is no conversation: {e}")))).collect()
}

fn conversation(value: Value) -> std::result::Result<Vec<Message>, String> {
    let Value::Object(object) = value else { return Err(format!("a record is an object: {EXPECTED}")) };
    let messages = match LISTS.iter().find_map(|name| object.get(*name).map(|list| (*name, list))) {
        Some((name, list)) => {
            let list = list.as_array().ok_or_else(|| format!("{name} is no list of messages: {EXPECTED}"))?;
            let system = text(&object, "system").filter(|s| !s.trim().is_empty()).map(|s| Message::new(Role::System, s));
            let said = list.iter().enumerate().map(|(i, m)| message(m).map_err(|why| format!("message {}: {why}", i + 1)));
            system.map(Ok).into_iter().chain(said).collect::<std::result::Result<Vec<_>, String>>()?
        }
        None => pair(&object)?,
    };
    check(&messages)?;
    Ok(messages)
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    object.get(name).and_then(Value::as_str).map(str::to_string)
}

/// A message of a list.
pub(crate) fn message(value: &Value) -> std::result::Result<Message, String> {
    let object = value.as_object().ok_or("it is no object of a role and a content")?;
    let field = |names: [&str; 2], what: &str| {
        let found = names.iter().find_map(|name| object.get(*name));
        let found = found.ok_or_else(|| format!("it has no {what}: expected \"{}\" or \"{}\"", names[0], names[1]))?;
        found.as_str().map(str::to_string).ok_or_else(|| format!("its {what} is no text: expected a text in quotes"))
    };
    let role: Role = field(SPEAKERS, "role")?.parse().map_err(|why| format!("the role {why}; messages of tools are not read"))?;
    Ok(Message::new(role, field(CONTENTS, "content")?))
}

/// A question and its answer: of Alpaca's kind, or two texts.
fn pair(object: &Map<String, Value>) -> std::result::Result<Vec<Message>, String> {
    let (question, answer) = match (text(object, "instruction"), text(object, "output")) {
        (Some(instruction), Some(output)) => {
            let input = text(object, "input").filter(|input| !input.trim().is_empty());
            let content = input.as_ref().map_or(instruction.clone(), |input| format!("{instruction}\n\n{input}"));
            (Message { instruction: Some(instruction), input, ..Message::new(Role::User, content) }, output)
        }
        (Some(_), None) if !object.contains_key("response") => return Err("the conversation has no answer: \"output\" is missing".into()),
        _ => {
            let both = PAIRS.iter().find_map(|[a, b]| Some((text(object, a)?, text(object, b)?)));
            let names: Vec<&str> = object.keys().map(String::as_str).collect();
            let (prompt, completion) = both.ok_or_else(|| format!("{EXPECTED}; it has {}", names.join(", ")))?;
            (Message::new(Role::User, prompt), completion)
        }
    };
    let system = text(object, "system").filter(|s| !s.trim().is_empty()).map(|s| Message::new(Role::System, s));
    Ok(system.into_iter().chain([question, Message::new(Role::Assistant, answer)]).collect())
}

/// A conversation is questions and answers in turns, the first a question and the last an answer, perhaps behind what the system says.
pub(crate) fn check(messages: &[Message]) -> std::result::Result<(), String> {
    let turns = &messages[usize::from(messages.first().is_some_and(|m| m.role == Role::System))..];
    let first = messages.len() - turns.len() + 1;
    if let Some((i, message)) = messages.iter().enumerate().find(|(_, m)| m.content.trim().is_empty()) {
        let who = message.role;
        return Err(format!("message {}, the {who}'s, is empty: expected at least one character", i + 1));
    }
    for (i, message) in turns.iter().enumerate() {
        let expected = if i % 2 == 0 { Role::User } else { Role::Assistant };
        if message.role != expected {
            let at = first + i;
            return Err(format!(
                "message {at} is the {}'s, expected the {expected}'s: questions and answers take turns, the system speaks first",
                message.role
            ));
        }
    }
    if turns.len() % 2 == 1 || turns.is_empty() {
        return Err("the conversation has no answer: expected an assistant's message at its end".into());
    }
    Ok(())
}

/// Conversations as lines, which [`records_of`] reads.
pub fn lines(conversations: &[Conversation]) -> String {
    conversations.iter().map(|c| serde_json::to_string(c).expect("a conversation has a JSON form") + "\n").collect()
}

impl Conversation {
    /// The same with what the system says, where it says nothing yet.
    pub fn with_system(mut self, system: &str) -> Conversation {
        if !system.is_empty() && self.messages.first().is_none_or(|m| m.role != Role::System) {
            self.messages.insert(0, Message::new(Role::System, system));
        }
        self
    }
}
