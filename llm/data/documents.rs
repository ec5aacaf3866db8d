//! A text as documents: its lines, or pairs of a text and its answer.

use super::labelled::Labelled;
use super::made::{Made, Task};
use super::marks::Marks;
use super::permutation::Permutation;
use super::sources::Source;
use super::tokens::Tokens;
use crate::chat::{Chat, Conversation, Message, Role, Template, check, lines as lines_of, message, records_of};
use crate::config::{Aim, Config};
use crate::error::{Error, Result};
use crate::text::{Specials, Tokenizer};
use crate::weights::checksum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// What a text is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Unit {
    /// It is one.
    #[default]
    Text,
    /// Each line is a document.
    Lines,
    /// Each line is a text and its answer, with a tab between; of a file .jsonl an object with two texts.
    Pairs,
    /// Each line is a class and its text, with a tab between; also tables and objects (`docs/guide`).
    Classes,
    /// A record a line, of a prompt and answers that are better and worse.
    Preferences,
    /// Each record is a conversation.
    Chat,
}

ir::spell!(
    Unit,
    "unit",
    [Text "text", Lines "lines", Pairs "pairs", Classes "classes", Preferences "preferences", Chat "chat"]
);

/// Names of an object's two texts that are looked for; of others the two there are count, in the order of their names.
const FIELDS: [[&str; 2]; 5] =
    [["source", "target"], ["input", "output"], ["prompt", "completion"], ["question", "answer"], ["instruction", "response"]];

/// The order in which documents are held out, so that a sorted file is not cut at its end.
pub(super) const ORDER: u64 = 0x6C69_6E65;

/// The text of a file as lines of pairs, whatever its format; a prompt of messages with its answer is a conversation's line, which has no tab,
/// and then all are. The error names the line.
pub fn pairs(path: &Path, text: &str) -> Result<String> {
    let objects = path.extension().is_some_and(|e| e == "jsonl" || e == "ndjson");
    let fail = |line: usize, why: String| Error(format!("{}:{}: {why}", path.display(), line + 1));
    let mut all = String::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let talking = if objects { talking(line).map_err(|why| fail(i, why))? } else { None };
        if !all.is_empty() && talking.is_some() != talk(&all) {
            return Err(fail(i, "some prompts are messages and some are texts: expected all of a file alike".into()));
        }
        if let Some(messages) = talking {
            all += &lines_of(&[Conversation { place: format!("{}:{}", path.display(), i + 1), messages }]);
            continue;
        }
        let [source, target] = if objects { object(line) } else { tabbed(line) }.map_err(|why| fail(i, why))?;
        if let Some(empty) = [("text", &source), ("answer", &target)].iter().find(|(_, part)| part.is_empty()) {
            return Err(fail(i, format!("the {} is empty: expected at least one character", empty.0)));
        }
        all.extend([&source, "\t", &target, "\n"]);
    }
    if all.is_empty() { Err(Error(format!("{}: there is no pair: expected a text, a tab and its answer a line", path.display()))) } else { Ok(all) }
}

/// Whether lines of pairs are conversations, which a template makes texts of.
pub(crate) fn talk(lines: &str) -> bool {
    lines.lines().next().is_some_and(|line| !line.is_empty() && !line.contains('\t'))
}

/// Names of an answer to messages.
const ANSWERS: [&str; 6] = ["completion", "answer", "target", "output", "response", "solution"];

/// The messages of an object whose prompt is some, with its answer, or whose `messages` are a conversation; none of one that is two texts.
fn talking(line: &str) -> std::result::Result<Option<Vec<Message>>, String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("this is no JSON: {e}"))?;
    let list = |name: &str| value[name].as_array().map(|list| list.iter().map(message).collect::<std::result::Result<Vec<_>, String>>()).transpose();
    let messages = match (list("prompt")?, list("messages")?) {
        (Some(prompt), _) => {
            let text = |name: &str| value[name].as_str().map(|text| vec![Message::new(Role::Assistant, text)]);
            let answers = ANSWERS.iter().find_map(|name| text(name).map(Ok).or_else(|| list(name).transpose())).transpose()?;
            let none = || format!("a prompt of messages has no answer: expected {}, a text", ir::either(&ANSWERS));
            [prompt, answers.ok_or_else(none)?].concat()
        }
        (None, Some(messages)) => messages,
        (None, None) => return Ok(None),
    };
    check(&messages).map(|()| Some(messages))
}

fn tabbed(line: &str) -> std::result::Result<[String; 2], String> {
    let parts: Vec<&str> = line.split('\t').collect();
    match parts[..] {
        [source, target] => Ok([source.into(), target.into()]),
        _ => Err(format!("a line has {} tabs, expected one, between a text and its answer; try data.documents = \"lines\"", parts.len() - 1)),
    }
}

fn object(line: &str) -> std::result::Result<[String; 2], String> {
    let value: Value = serde_json::from_str(line).map_err(|e| format!("this is no JSON: {e}"))?;
    let text = |name: &str| value[name].as_str().map(|s| s.replace(['\t', '\n', '\r'], " "));
    if let Some(pair) = FIELDS.iter().find_map(|[a, b]| Some([text(a)?, text(b)?])) {
        return Ok(pair);
    }
    let names: Vec<&String> = value.as_object().map(|o| o.iter().filter(|(_, v)| v.is_string()).map(|(k, _)| k).collect()).unwrap_or_default();
    match names[..] {
        [a, b] => Ok([text(a).unwrap_or_default(), text(b).unwrap_or_default()]),
        _ => Err(format!("an object has {} texts, expected two, as {{\"source\": \"…\", \"target\": \"…\"}}", names.len())),
    }
}

impl Source {
    /// A text as the configuration takes it, by a tokenizer that has all that is asked for.
    pub fn of(name: &str, text: &str, config: &Config, tokenizer: &Tokenizer) -> Result<Source> {
        Source::by(name, text, config, tokenizer, None)
    }

    /// The same where messages may be asked, of which a template makes texts.
    pub fn by(name: &str, text: &str, config: &Config, tokenizer: &Tokenizer, template: Option<&Template>) -> Result<Source> {
        let (data, marks) = (&config.data, Marks::of(tokenizer));
        // what the template ends an answer with ends it, and nothing else
        let talks = data.documents == Unit::Pairs && data.task == Task::None && talk(text);
        let marks = if talks { Marks { end: None, ..marks } } else { marks };
        let source = match data.documents {
            _ if data.task != Task::None => made(name, config, tokenizer)?,
            Unit::Text => Source::text(name, tokenizer.encode_in(text, Specials::Text, runtime::cores())?, data.held_out),
            Unit::Lines if config.objective.next_sentence => Source::sentences(name, &sentences(text, tokenizer)?, data.held_out),
            Unit::Lines => Source::documents(name, &lines(text, config, tokenizer, &marks)?, 1, data.held_out),
            Unit::Chat => return Err(Error(format!("{name}: conversations are read with a template"))),
            Unit::Pairs if talks => Source::documents(name, &of_talk(name, text, config, tokenizer, template)?, 2, data.held_out),
            Unit::Pairs => Source::documents(name, &of_pairs(text, config, tokenizer, &marks)?, 2, data.held_out),
            Unit::Preferences => Source::preferences(name, text, config, tokenizer, template, &marks)?,
            Unit::Classes => {
                let labelled = Labelled::read(Path::new(name), text, &config.classify)?;
                labelled.sources(name, &labelled.parts(&config.classify, data.held_out)?, config, tokenizer)?.0
            }
        };
        Ok(source.with_marks(marks))
    }

    /// Splits documents, of which so many stand together; the held out are spread over all.
    pub fn documents(name: &str, documents: &[Vec<i32>], together: usize, held_out: f64) -> Source {
        let count = documents.len() / together;
        let first = (count as f64 * (1.0 - held_out)) as usize;
        let order: Vec<usize> = (0..count as u64).map(|i| Permutation::new(count.max(1) as u64, ORDER).at(i) as usize).collect();
        let of = |places: &[usize]| joined(places.iter().flat_map(|i| &documents[i * together..(i + 1) * together]));
        let (train, held_out) = (of(&order[..first]), of(&order[first..]));
        Source { name: name.into(), train, held_out, fingerprint: fingerprint(documents), marks: Marks::default() }
    }

    /// Splits sentences, of which an empty one ends a text; the last texts are held out.
    pub fn sentences(name: &str, sentences: &[Vec<i32>], held_out: f64) -> Source {
        let last = (sentences.len() as f64 * (1.0 - held_out)) as usize;
        let cut = sentences[..last].iter().rposition(Vec::is_empty).map_or(last, |end| end + 1);
        let (train, held_out) = (joined(&sentences[..cut]), joined(&sentences[cut..]));
        Source { name: name.into(), train, held_out, fingerprint: fingerprint(sentences), marks: Marks::default() }
    }
}

pub(super) fn joined<'d>(documents: impl IntoIterator<Item = &'d Vec<i32>>) -> Tokens {
    let (mut ids, mut starts) = (vec![], vec![0]);
    for document in documents {
        ids.extend(document);
        starts.push(ids.len() as u64);
    }
    Tokens::Documents { ids, starts, asked: vec![] }
}

pub(super) fn fingerprint(documents: &[Vec<i32>]) -> String {
    let bytes = documents.iter().flat_map(|d| std::iter::once(-1).chain(d.iter().copied())).flat_map(i32::to_le_bytes);
    checksum(&bytes.collect::<Vec<u8>>())
}

/// Each line's tokens, none where it is empty.
fn sentences(text: &str, tokenizer: &Tokenizer) -> Result<Vec<Vec<i32>>> {
    let mut encoder = tokenizer.encoder();
    text.lines().map(|line| encoder.encode(line.trim(), Specials::Text)).collect()
}

/// The symbols of a configuration's task, which are the text its tokenizer is learned from.
pub fn symbols(config: &Config) -> &'static str {
    config.data.task.symbols(config.data.task_symbols)
}

fn made(name: &str, config: &Config, tokenizer: &Tokenizer) -> Result<Source> {
    let one = |c: char| match tokenizer.encode(&c.to_string())?[..] {
        [id] => Ok(id),
        _ => Err(Error(format!("the symbol {c} is no token by itself: try data.tokenizer = \"char\""))),
    };
    let ids = symbols(config).chars().map(one).collect::<Result<Vec<i32>>>()?;
    let [train, held_out] = Made::parts(config.data.task, config.data.task_length, &ids);
    let fingerprint = checksum(format!("{train:?}").as_bytes());
    Ok(Source { name: name.into(), train: Tokens::Made(train), held_out: Tokens::Made(held_out), fingerprint, marks: Marks::default() })
}

/// Each line's tokens; where they are asked one after the other, between two of what ends a document, so that first and end are asked, too.
fn lines(text: &str, config: &Config, tokenizer: &Tokenizer, marks: &Marks) -> Result<Vec<Vec<i32>>> {
    let around = match config.aim() {
        Aim::NextToken | Aim::Fim | Aim::Prefix | Aim::Imitation => Some(end(tokenizer, marks)?),
        Aim::Masked | Aim::Answer | Aim::Spans | Aim::Classes | Aim::Preferences | Aim::Rewards | Aim::Policy => None,
    };
    let mut encoder = tokenizer.encoder();
    let mut one = |line: &str| -> Result<Vec<i32>> {
        let ids = encoder.encode(line, Specials::Text)?;
        Ok(around.into_iter().chain(ids).chain(around).collect())
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(&mut one).collect()
}

/// Texts and answers in turns. A decoder reads both as one, the tab between them and what ends them included.
fn of_pairs(text: &str, config: &Config, tokenizer: &Tokenizer, marks: &Marks) -> Result<Vec<Vec<i32>>> {
    let decoder = config.aim() != Aim::Answer;
    let after = if decoder && marks.end.is_none() { Some(end(tokenizer, marks)?) } else { None };
    let mut encoder = tokenizer.encoder();
    let mut all = vec![];
    for (source, target) in text.lines().filter_map(|line| line.split_once('\t')) {
        all.push(encoder.encode(&if decoder { format!("{source}\t") } else { source.into() }, Specials::Text)?);
        all.push(encoder.encode(target, Specials::Text)?.into_iter().chain(after).collect());
    }
    Ok(all)
}

/// Prompts of messages and their answers in turns, each what the template makes of it: a prompt up to where an answer begins, an answer with
/// what ends it.
fn of_talk(name: &str, text: &str, config: &Config, tokenizer: &Tokenizer, template: Option<&Template>) -> Result<Vec<Vec<i32>>> {
    let template = template.ok_or_else(|| Error(format!("{name}: messages are read with a template")))?;
    if config.aim() == Aim::Answer {
        return Err(Error(format!("{name}: a prompt is messages, which a decoder goes on with, and this model answers texts")));
    }
    let chat = Chat::new(template, tokenizer);
    let mut all = vec![];
    for conversation in records_of(text)? {
        let conversation = conversation.with_system(&config.chat.system);
        let answered = chat.answered(&conversation)?;
        all.push(chat.prompt(&conversation.messages[..conversation.messages.len() - 1])?);
        all.push(answered.ids.iter().enumerate().filter(|(i, _)| answered.asks(*i)).map(|(_, id)| *id).collect());
    }
    Ok(all)
}

/// What ends a document: a token for that, or the end of a line.
pub(super) fn end(tokenizer: &Tokenizer, marks: &Marks) -> Result<i32> {
    let line = || tokenizer.encode("\n").ok().filter(|ids| ids.len() == 1).map(|ids| ids[0]);
    let none = || Error("the tokenizer has no token that ends a document: add one with eggcorn tokenizer extend --special '<|endoftext|>'".into());
    marks.end.or_else(line).ok_or_else(none)
}
