//! Conversations to tokens with a mark each.

use super::answers::Rendered;
use super::records::{Conversation, Message, Role};
use super::template::Template;
use crate::data::Piece;
use crate::error::{Error, Result};
use crate::text::{Specials, Tokenizer};
use std::ops::Range;

/// A template with the tokenizer that its texts are encoded by.
pub struct Chat<'t> {
    /// How conversations become texts.
    pub template: &'t Template,
    tokenizer: &'t Tokenizer,
    /// The tokenizer's special tokens as they are written.
    specials: Vec<String>,
}

/// A conversation as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Its text.
    pub text: String,
    /// Its tokens, of which those are asked that an answer has a part of.
    pub piece: Piece,
    /// Where each token stands in the text, in bytes.
    pub places: Vec<Range<usize>>,
    /// Tokens that are an answer's in part alone: they begin before it.
    pub straddling: usize,
}

impl<'t> Chat<'t> {
    /// Of a tokenizer.
    pub fn new(template: &'t Template, tokenizer: &'t Tokenizer) -> Chat<'t> {
        Chat { template, tokenizer, specials: tokenizer.specials() }
    }

    /// The text of a conversation, and its answers in it.
    pub fn render(&self, conversation: &Conversation) -> Result<Rendered> {
        let fail = |e: Error| Error(format!("{}: {e}", conversation.place));
        for (i, message) in conversation.messages.iter().enumerate() {
            if let Some(special) = self.specials.iter().find(|s| message.content.contains(s.as_str())) {
                return Err(Error(format!(
                    "{}: message {} has {special}, which steers the model and is no text: remove it",
                    conversation.place,
                    i + 1
                )));
            }
        }
        self.template.render(&conversation.messages, &self.specials).map_err(fail)
    }

    /// The tokens of a conversation. With `all` every token is asked, else answers and what ends each.
    pub fn encode(&self, conversation: &Conversation, all: bool) -> Result<Encoded> {
        let Rendered { text, answers } = self.render(conversation)?;
        let fail = |why: String| Error(format!("{}: {why}", conversation.place));
        let (ids, places) = self.tokenizer.encode_places(&text, Specials::Token).map_err(|e| fail(e.to_string()))?;
        let within = |place: &Range<usize>| answers.iter().find(|a| place.start < a.end && a.start < place.end);
        let asked: Vec<bool> = places.iter().map(|p| all || within(p).is_some()).collect();
        let straddling = places.iter().filter(|p| within(p).is_some_and(|a| p.start < a.start)).count();
        if !asked.contains(&true) {
            return Err(fail("no token of the conversation is trained: its answers have none".into()));
        }
        let piece = Piece::marked(ids, asked)?;
        Ok(Encoded { text, piece, places, straddling })
    }

    /// The tokens of a conversation up to what ends its last answer, of which those of that answer alone are asked: a prompt, and what answers
    /// it.
    pub fn answered(&self, conversation: &Conversation) -> Result<Piece> {
        let encoded = self.encode(conversation, false)?;
        let last = last_asked(&encoded).ok_or_else(|| Error(format!("{}: the answer has no token", conversation.place)))?;
        let first = (0..last).rev().find(|i| !encoded.piece.asks(*i)).map_or(0, |i| i + 1);
        let mut ids = encoded.piece.ids;
        ids.truncate(last + 1);
        let asked = (0..ids.len()).map(|i| i >= first).collect();
        Piece::marked(ids, asked)
    }

    /// The tokens of what is read before an answer is written.
    pub fn prompt(&self, messages: &[Message]) -> Result<Vec<i32>> {
        self.tokenizer.encode_with(&self.template.text(messages, true)?, Specials::Token)
    }

    /// The token that ends an answer, as the template writes it.
    pub fn stop(&self) -> Result<i32> {
        let messages = vec![Message::new(Role::User, "a"), Message::new(Role::Assistant, "b")];
        let encoded = self.encode(&Conversation { place: "an answer".into(), messages }, false)?;
        last_asked(&encoded).map(|i| encoded.piece.ids[i]).ok_or_else(|| Error("the template's answers have no token".into()))
    }
}

/// The last token that is asked and no space: what ends an answer.
fn last_asked(encoded: &Encoded) -> Option<usize> {
    let is_space = |i: usize| encoded.text.as_bytes()[encoded.places[i].clone()].trim_ascii().is_empty();
    (0..encoded.piece.ids.len()).rev().find(|i| encoded.piece.asks(*i) && !is_space(*i))
}
