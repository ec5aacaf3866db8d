//! Chat templates: those that are shipped, a model's own, and one in a file.

use super::jinja::{BEGINS, ENDS, Jinja, LOOKED_FOR, date};
use super::records::Message;
use crate::error::{Error, Result, file_error};
use crate::files::read_short;
use crate::hub::Generation;
use crate::text::Tokenizer;
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::Path;

/// The file's name in a directory of a model, as Hugging Face's libraries have it.
pub const FILE: &str = "chat_template.jinja";
/// Where older ones have it.
const CONFIG: &str = "tokenizer_config.json";
/// More bytes than any file that is read here has.
const LONGEST: u64 = 16 << 20;

/// A template that is in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// Its name.
    pub name: &'static str,
    /// It, in Jinja.
    pub text: &'static str,
    /// Special tokens that it writes, which a tokenizer that is learned gets.
    pub specials: &'static [&'static str],
    /// The token that begins a text, where it writes one, unless the model says another.
    pub begin: &'static str,
    /// The token that ends one, the same.
    pub end: &'static str,
}

/// Every template that is shipped.
pub const SHIPPED: &[Shipped] = &[
    Shipped { name: "chatml", text: include_str!("templates/chatml.jinja"), specials: &["<|im_start|>", "<|im_end|>"], begin: "", end: "<|im_end|>" },
    Shipped {
        name: "llama-3",
        text: include_str!("templates/llama-3.jinja"),
        specials: &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        begin: "<|begin_of_text|>",
        end: "<|eot_id|>",
    },
    Shipped {
        name: "mistral",
        text: include_str!("templates/mistral.jinja"),
        specials: &["<s>", "</s>", "[INST]", "[/INST]"],
        begin: "<s>",
        end: "</s>",
    },
    Shipped {
        name: "gemma",
        text: include_str!("templates/gemma.jinja"),
        specials: &["<bos>", "<start_of_turn>", "<end_of_turn>"],
        begin: "<bos>",
        end: "<end_of_turn>",
    },
    Shipped { name: "alpaca", text: include_str!("templates/alpaca.jinja"), specials: &["<|endoftext|>"], begin: "", end: "<|endoftext|>" },
];

/// How conversations become texts.
pub struct Template {
    name: String,
    source: String,
    jinja: Jinja,
    /// What it writes for the tokens that begin and end a text.
    begin: String,
    end: String,
    specials: Vec<String>,
}

impl Template {
    /// Reads a template; `name` is what it is called in errors, and `today` what it takes for the date.
    pub fn parse(name: &str, source: &str, today: &str) -> Result<Template> {
        let today = date(today).map_err(|why| Error(format!("chat.date: {why}")))?;
        let jinja = Jinja::parse(source, today).map_err(|why| Error(format!("{name}: the chat template cannot be read: {why}")))?;
        Ok(Template { name: name.into(), source: source.into(), jinja, begin: String::new(), end: String::new(), specials: vec![] })
    }

    /// One that is shipped; none of another name.
    pub fn shipped(name: &str, today: &str) -> Option<Result<Template>> {
        let shipped = SHIPPED.iter().find(|s| s.name == name)?;
        let with = |t: Template| {
            let specials = shipped.specials.iter().map(ToString::to_string).collect();
            Template { begin: shipped.begin.into(), end: shipped.end.into(), specials, ..t }
        };
        Some(Template::parse(name, shipped.text, today).map(with))
    }

    /// The template of a name: one that is shipped, or a file.
    pub fn named(name: &str, today: &str) -> Result<Template> {
        if let Some(shipped) = Template::shipped(name, today) {
            return shipped;
        }
        let path = Path::new(name);
        let names: Vec<&str> = SHIPPED.iter().map(|s| s.name).collect();
        let text = read_short(path, LONGEST).map_err(|e| {
            Error(format!(
                "chat.template is {name}, which is no file that can be read ({e}), and no template that is shipped: expected {}, or a file in Jinja",
                ir::either(&names)
            ))
        })?;
        Template::parse(name, &text, today)
    }

    /// The template of a model's directory: its `chat_template.jinja`, or that in its `tokenizer_config.json`; none where there is neither.
    pub fn of(dir: &Path, today: &str) -> Result<Option<Template>> {
        let read = |name: &str| match read_short(&dir.join(name), LONGEST) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(file_error(&dir.join(name), "the chat template cannot be read", e)),
        };
        let config: Value = match read(CONFIG)? {
            None => Value::Null,
            Some(text) => serde_json::from_str(&text).map_err(|e| file_error(&dir.join(CONFIG), "the tokenizer's settings cannot be read", e))?,
        };
        let (name, source) = match read(FILE)? {
            Some(text) => (FILE, text),
            None => match in_config(&config["chat_template"]) {
                Some(text) => (CONFIG, text),
                None => return Ok(None),
            },
        };
        let token = |key: &str| config[key].as_str().or(config[key]["content"].as_str()).unwrap_or_default().to_string();
        let name = dir.join(name).display().to_string();
        let known = SHIPPED.iter().find(|s| s.text == source);
        let template = match known {
            Some(shipped) => Template::named(shipped.name, today)?,
            None => Template::parse(&name, &source, today)?,
        };
        let or = |said: String, usual: &str| if said.is_empty() { usual.to_string() } else { said };
        let (begin, end) = (or(token("bos_token"), &template.begin), or(token("eos_token"), &template.end));
        Ok(Some(Template { name, begin, end, ..template }))
    }

    /// The same where the tokens that begin and end a text are those of a model, unless they are its tokenizer's already.
    pub fn within(self, tokenizer: &Tokenizer, generation: &Generation) -> Template {
        let or = |own: String, other: Option<i32>| match other {
            Some(id) if own.is_empty() || tokenizer.id(&own).is_none() => tokenizer.decode(&[id]),
            _ => own,
        };
        let end = generation.end.first().copied().or(tokenizer.end_of_text());
        Template { begin: or(self.begin, generation.begin), end: or(self.end, end), ..self }
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It, in Jinja.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Special tokens that a tokenizer needs for it, where it is one that is shipped.
    pub fn specials(&self) -> &[String] {
        &self.specials
    }

    /// The token that begins a text, where it writes one.
    pub fn begin(&self) -> Option<&str> {
        (!self.begin.is_empty() && self.source.contains("bos_token")).then_some(&self.begin)
    }

    /// Whether it says itself what is trained.
    pub(super) fn marks(&self) -> bool {
        self.jinja.marks
    }

    /// The text of messages as it is written, with the characters around what is trained; with `prompt` it goes on to where an answer begins.
    pub(super) fn written(&self, messages: &[Message], prompt: bool) -> std::result::Result<String, String> {
        let values = json!({
            "messages": messages,
            "add_generation_prompt": prompt,
            "bos_token": self.begin,
            "eos_token": self.end,
        });
        self.jinja.render(&values)
    }

    /// The text of messages; with `prompt` it goes on to where an answer begins.
    pub fn text(&self, messages: &[Message], prompt: bool) -> Result<String> {
        self.check(messages).and_then(|()| self.written(messages, prompt)).map(|t| t.replace([BEGINS, ENDS], "")).map_err(|why| self.fault(&why))
    }

    /// Refuses what would be taken for a mark.
    pub(super) fn check(&self, messages: &[Message]) -> std::result::Result<(), String> {
        let odd = |c: char| [BEGINS, ENDS].contains(&c) || LOOKED_FOR.starts_with(c);
        match messages.iter().flat_map(|m| m.content.chars()).find(|c| odd(*c)) {
            Some(c) => Err(format!("a message has U+{:04X}, which Unicode says is no character: remove it", u32::from(c))),
            None => Ok(()),
        }
    }

    /// An error of the template on a conversation.
    pub(super) fn fault(&self, why: &str) -> Error {
        Error(format!("the chat template {}: {why}", self.name))
    }
}

/// A template, or the one called default of several.
fn in_config(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => all.iter().find(|t| t["name"] == "default").or(all.first()).and_then(|t| t["template"].as_str()).map(str::to_string),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}
