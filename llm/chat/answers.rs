//! Where the answers stand in a conversation's text: as the template marks them, or found by writing the conversation otherwise.

use super::jinja::{BEGINS, ENDS, LOOKED_FOR};
use super::records::{Message, Role};
use super::template::Template;
use crate::error::Result;
use std::ops::Range;

/// A conversation as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Its parts that are trained, in bytes: each an answer with what ends it.
    pub answers: Vec<Range<usize>>,
}

impl Template {
    /// The text of a conversation and where its answers stand in it; `specials` are the tokens of which one ends an answer. Refused where
    /// that cannot be told, or where nothing ends an answer.
    pub fn render(&self, messages: &[Message], specials: &[String]) -> Result<Rendered> {
        self.rendered(messages, specials).map_err(|why| self.fault(&why))
    }

    fn rendered(&self, messages: &[Message], specials: &[String]) -> std::result::Result<Rendered, String> {
        self.check(messages)?;
        let written = self.written(messages, false)?;
        let rendered = if self.marks() { marked(&written)? } else { Rendered { answers: self.found(messages, &written, specials)?, text: written } };
        let answers = messages.iter().filter(|m| m.role == Role::Assistant).count();
        if rendered.answers.len() != answers {
            return Err(format!(
                "it marks {} parts as generated, and the conversation has {answers} answers: put {{% generation %}} around each",
                rendered.answers.len()
            ));
        }
        rendered.answers.iter().try_for_each(|answer| ends(&rendered.text, answer, specials)).map(|()| rendered)
    }

    /// Answers where nothing marks them. Each begins where the text ends that asks for it, and ends with the special token behind it.
    fn found(&self, messages: &[Message], text: &str, specials: &[String]) -> std::result::Result<Vec<Range<usize>>, String> {
        let asked = messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant);
        let cannot = |i: usize, why: String| {
            let try_this = "put {% generation %} and {% endgeneration %} around answers";
            format!("where the answer in message {} stands cannot be told: {why}; {try_this}", i + 1)
        };
        asked.map(|(i, m)| self.answer(messages, i, m, text, specials).map_err(|why| cannot(i, why))).collect()
    }

    fn answer(
        &self,
        messages: &[Message],
        i: usize,
        message: &Message,
        text: &str,
        specials: &[String],
    ) -> std::result::Result<Range<usize>, String> {
        let content = self.content(messages, i, message, text)?;
        // what is read before the answer is written
        let prompt = self.written(&messages[..i], true)?;
        let before = &text[..content.start];
        let start = if before.starts_with(&prompt) {
            prompt.len()
        } else {
            // the past is written otherwise than it was read; what asks for the answer may still stand right before it
            let asks = prompt.strip_prefix(&self.written(&messages[..i], false)?).unwrap_or_default().to_string();
            if asks.is_empty() || !before.ends_with(&asks) {
                let at = before.bytes().zip(prompt.bytes()).take_while(|(a, b)| a == b).count();
                let at = (0..=at).rev().find(|at| before.is_char_boundary(*at) && prompt.is_char_boundary(*at)).unwrap_or(0);
                let short = |t: &str| t[at.min(t.len())..].chars().take(24).collect::<String>();
                return Err(format!(
                    "what is read before it is written goes on with {:?}, and the conversation with {:?}",
                    short(&prompt),
                    short(before)
                ));
            }
            content.start
        };
        let behind = &text[content.end..];
        let spaces = behind.len() - behind.trim_start().len();
        let end = specials.iter().filter(|s| behind[spaces..].starts_with(s.as_str())).map(|s| s.len()).max();
        let none = || {
            format!(
                "behind it stands {:?}, which begins with no special token of the tokenizer's that would end it",
                behind.chars().take(24).collect::<String>()
            )
        };
        Ok(start..content.end + spaces + end.ok_or_else(none)?)
    }

    /// Where the words of an answer stand: between what is written before and behind whatever answer there is.
    fn content(&self, messages: &[Message], i: usize, message: &Message, text: &str) -> std::result::Result<Range<usize>, String> {
        let mut other = messages.to_vec();
        other[i].content = LOOKED_FOR.into();
        let written = self.written(&other, false)?;
        let parts: Vec<&str> = written.split(LOOKED_FOR).collect();
        let [before, behind] = parts[..] else { return Err(format!("it writes an answer {} times", parts.len() - 1)) };
        let words = text.strip_prefix(before).and_then(|t| t.strip_suffix(behind));
        match words {
            Some(words) if !words.is_empty() && message.content.contains(words) => Ok(before.len()..before.len() + words.len()),
            Some(words) => Err(format!(
                "it writes {:?} for the answer {:?}",
                words.chars().take(24).collect::<String>(),
                message.content.chars().take(24).collect::<String>()
            )),
            None => Err("what is written around it depends on it".into()),
        }
    }
}

/// A text without the characters around what is trained, and where that is.
fn marked(written: &str) -> std::result::Result<Rendered, String> {
    let (mut out, mut open) = (Rendered::default(), None);
    for c in written.chars() {
        match (c, open) {
            (BEGINS, None) => open = Some(out.text.len()),
            (ENDS, Some(start)) => {
                out.answers.push(start..out.text.len());
                open = None;
            }
            (BEGINS | ENDS, _) => return Err("one {% generation %} stands in another: end each before the next begins".into()),
            (c, _) => out.text.push(c),
        }
    }
    out.answers.retain(|a| !a.is_empty());
    Ok(out)
}

/// Whether an answer ends with a token that stops who writes it: refused where that is not trained.
fn ends(text: &str, answer: &Range<usize>, specials: &[String]) -> std::result::Result<(), String> {
    let trained = text[answer.clone()].trim_end();
    if specials.iter().any(|s| trained.ends_with(s.as_str())) {
        return Ok(());
    }
    let behind = text[answer.end..].trim_start();
    let why = match specials.iter().find(|s| behind.starts_with(s.as_str())) {
        Some(stop) => format!("{stop} stands behind it and is not trained: move {{% endgeneration %}} behind {stop}"),
        None => "no special token of the tokenizer's ends it: write eos_token behind answers, or take a template whose tokens the tokenizer has, \
                 as alpaca"
            .into(),
    };
    Err(format!(
        "a model that is trained so would not stop: it learns {:?}, and {why}",
        trained.chars().rev().take(24).collect::<Vec<_>>().into_iter().rev().collect::<String>()
    ))
}
