//! Character and byte tokenizers.

use crate::error::{Error, Result, file_error};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which tokenizer a text gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// One token a distinct character of the text.
    #[default]
    Char,
    /// One token a byte.
    Byte,
}

ir::spell!(Kind, "tokenizer", [Char "char", Byte "byte"]);

/// Text to ids and back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Tokenizer {
    /// The characters, in order of code point; a character's id is its place.
    Char {
        /// The characters.
        characters: Vec<char>,
    },
    /// Ids are bytes.
    Byte,
}

impl Tokenizer {
    /// The tokenizer of a text.
    pub fn of(kind: Kind, text: &str) -> Tokenizer {
        match kind {
            Kind::Byte => Tokenizer::Byte,
            Kind::Char => {
                let characters: std::collections::BTreeSet<char> = text.chars().collect();
                Tokenizer::Char { characters: characters.into_iter().collect() }
            }
        }
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        match self {
            Tokenizer::Char { characters } => characters.len(),
            Tokenizer::Byte => 256,
        }
    }

    /// The ids of a text. Fails on a character the tokenizer does not have.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>> {
        match self {
            Tokenizer::Byte => Ok(text.bytes().map(i32::from).collect()),
            Tokenizer::Char { characters } => {
                let id = |c: char| {
                    characters.binary_search(&c).map(|i| i as i32).map_err(|_| {
                        Error(format!(
                            "the character {c:?} does not occur in the text this model was trained on; use others, or train with tokenizer = \"byte\""
                        ))
                    })
                };
                text.chars().map(id).collect()
            }
        }
    }

    /// The text of ids; ids that are none of this tokenizer's become U+FFFD.
    pub fn decode(&self, ids: &[i32]) -> String {
        match self {
            Tokenizer::Byte => String::from_utf8_lossy(&ids.iter().map(|i| u8::try_from(*i).unwrap_or(b'?')).collect::<Vec<_>>()).into_owned(),
            Tokenizer::Char { characters } => {
                ids.iter().map(|i| usize::try_from(*i).ok().and_then(|i| characters.get(i)).copied().unwrap_or('\u{FFFD}')).collect()
            }
        }
    }

    /// Reads a tokenizer's file.
    pub fn read(path: &Path) -> Result<Tokenizer> {
        let text = std::fs::read_to_string(path).map_err(|e| file_error(path, "the tokenizer cannot be read", e))?;
        let t: Tokenizer = serde_json::from_str(&text).map_err(|e| file_error(path, "this is not a tokenizer", e))?;
        match &t {
            Tokenizer::Char { characters } if characters.is_empty() || !characters.is_sorted() => {
                Err(file_error(path, "this is not a tokenizer", "its characters are not in order"))
            }
            _ => Ok(t),
        }
    }

    /// The tokenizer as a file's content.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a tokenizer has a JSON form") + "\n"
    }
}
