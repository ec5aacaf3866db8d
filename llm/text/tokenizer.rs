//! Character and byte tokenizers.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

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
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tokenizer {
    /// The characters, in order of code point, none twice; a character's id is its place.
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

    /// The text of ids. Bytes that are no UTF-8 and ids that are none of this tokenizer's become U+FFFD.
    pub fn decode(&self, ids: &[i32]) -> String {
        let mut bytes = vec![];
        ids.iter().for_each(|id| self.bytes(*id, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Appends the bytes of an id; those of U+FFFD where there is no such id.
    pub fn bytes(&self, id: i32, to: &mut Vec<u8>) {
        match self {
            Tokenizer::Byte if (0..256).contains(&id) => to.push(id as u8),
            Tokenizer::Char { characters } if (0..characters.len() as i64).contains(&i64::from(id)) => {
                to.extend(characters[id as usize].encode_utf8(&mut [0; 4]).bytes());
            }
            Tokenizer::Byte | Tokenizer::Char { .. } => to.extend("\u{FFFD}".bytes()),
        }
    }

    /// What a text begins with where nothing is said: a newline, or a space, or the first character there is.
    pub fn start(&self) -> String {
        ["\n", " "].iter().find(|c| self.encode(c).is_ok()).map_or_else(|| self.decode(&[0]), |s| s.to_string())
    }
}
