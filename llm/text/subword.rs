//! A tokenizer of parts of words: its file, and what encodes by it.

use super::added::{AddedToken, Specials};
use super::bpe::Bpe;
use super::hf::{self, Engine, of_bpe};
use crate::error::{Error, Result};
use std::fmt;

/// A tokenizer as `tokenizer.json` says it. Two are equal where their files are.
#[derive(Clone)]
pub struct Subword {
    json: String,
    engine: Engine,
}

impl PartialEq for Subword {
    fn eq(&self, other: &Subword) -> bool {
        self.json == other.json
    }
}

impl Eq for Subword {}

impl fmt::Debug for Subword {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Subword({} tokens)", self.size())
    }
}

impl Subword {
    /// Reads the content of a `tokenizer.json`; what is wrong with it where it is none.
    pub fn parse(json: &str) -> std::result::Result<Subword, String> {
        Ok(Subword { engine: hf::parse(json)?, json: json.into() })
    }

    /// A byte-level BPE made from other files.
    pub fn of_bpe(bpe: Bpe) -> Subword {
        Subword { json: of_bpe(&bpe), engine: Engine::Bpe(bpe) }
    }

    /// The same with further special tokens, whose ids follow the highest. One that is there already is not added again; one that is a token
    /// of words becomes special.
    pub fn with_specials(&self, specials: &[String]) -> Result<Subword> {
        let mut json: serde_json::Value = serde_json::from_str(&self.json).map_err(|e| Error(e.to_string()))?;
        let mut next = self.size() as u32;
        let mut added = vec![];
        for special in specials {
            if special.trim().is_empty() {
                return Err(Error(format!("the special token {special:?} is blank: expected some text, as in <|user|>")));
            }
            let known = |t: &serde_json::Value| t["content"] == *special;
            if json["added_tokens"].as_array().is_some_and(|all| all.iter().any(known)) || added.iter().any(|t: &AddedToken| t.content == *special) {
                continue;
            }
            let known = self.id(special);
            added.push(AddedToken::special(known.unwrap_or(next), special));
            next += u32::from(known.is_none());
        }
        match json.get_mut("added_tokens").and_then(serde_json::Value::as_array_mut) {
            Some(all) => all.extend(added.iter().map(|t| serde_json::json!(t))),
            None => json["added_tokens"] = serde_json::json!(added),
        }
        Subword::parse(&(serde_json::to_string_pretty(&json).expect("it was JSON") + "\n")).map_err(Error)
    }

    /// The content of its `tokenizer.json`.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What encodes.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Number of ids: one more than the highest.
    pub fn size(&self) -> usize {
        match &self.engine {
            Engine::Bpe(bpe) => bpe.size(),
            Engine::Wrapped(wrapped) => wrapped.size(),
        }
    }

    /// The id of a token as it is written, special or not.
    pub fn id(&self, token: &str) -> Option<u32> {
        match &self.engine {
            Engine::Bpe(bpe) => bpe.added.id(token).or_else(|| (0..bpe.size() as u32).find(|id| bpe.bytes(*id) == Some(token.as_bytes()))),
            Engine::Wrapped(wrapped) => wrapped.id(token),
        }
    }

    /// The ids of a text.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>> {
        match &self.engine {
            Engine::Bpe(bpe) => {
                let mut ids = Vec::with_capacity(text.len() / 3);
                bpe.encoder().encode(text, specials, &mut ids);
                Ok(ids)
            }
            Engine::Wrapped(wrapped) => Ok(wrapped.encode(text, specials)?),
        }
    }
}
