//! A tokenizer's file: our own format under our own name, until Hugging Face's `tokenizer.json` is read.

use super::{Kind, Tokenizer};
use crate::error::{Result, file_error};
use crate::files::read_short;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file's content.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    /// Version of this format.
    format: u32,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    characters: Option<Vec<char>>,
}

/// A list of every character there is takes less.
const LONGEST: u64 = 32 << 20;

/// Where Hugging Face's tokenizers are; runs of eggcorn's first version had their own there.
const FOREIGN: &str = "tokenizer.json";

impl Tokenizer {
    /// The file's name in a run directory.
    pub const FILE: &'static str = "eggcorn-tokenizer.json";

    /// Reads the tokenizer of a run directory.
    pub fn read(dir: &Path) -> Result<Tokenizer> {
        let path = dir.join(Tokenizer::FILE);
        match read_short(&path, LONGEST) {
            Ok(text) => Tokenizer::parse(&text).map_err(|why| file_error(&path, "this is not a tokenizer", why)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(missing(dir, &path)),
            Err(e) => Err(file_error(&path, "the tokenizer cannot be read", e)),
        }
    }

    /// A tokenizer from its file's content; what is wrong with it where it is none.
    pub fn parse(text: &str) -> std::result::Result<Tokenizer, String> {
        if foreign(text) {
            return Err("it is Hugging Face's tokenizer.json, and that format is not read yet; train with tokenizer = \"char\" or \"byte\"".into());
        }
        let content: Content = serde_json::from_str(text).map_err(|e| e.to_string())?;
        match (content.format, content.kind, content.characters) {
            (1, Kind::Byte, None) => Ok(Tokenizer::Byte),
            (1, Kind::Byte, Some(_)) => Err("one of bytes has no list of characters".into()),
            (1, Kind::Char, None) => Err("it has no list of characters".into()),
            (1, Kind::Char, Some(c)) if c.is_empty() => Err("its list of characters is empty".into()),
            (1, Kind::Char, Some(c)) => match c.windows(2).find(|w| w[0] >= w[1]) {
                Some(w) => Err(format!("its characters must be in order, none twice, and {:?} comes before {:?}", w[0], w[1])),
                None => Ok(Tokenizer::Char { characters: c }),
            },
            (format, ..) => Err(format!("it has format {format}, and this version reads format 1; train again, or use the version that wrote it")),
        }
    }

    /// The tokenizer as a file's content.
    pub fn to_json(&self) -> String {
        let (kind, characters) = match self {
            Tokenizer::Byte => (Kind::Byte, None),
            Tokenizer::Char { characters } => (Kind::Char, Some(characters.clone())),
        };
        serde_json::to_string_pretty(&Content { format: 1, kind, characters }).expect("a tokenizer has a JSON form") + "\n"
    }
}

/// Whether this is Hugging Face's format: an object that has a `model`.
fn foreign(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok_and(|v| v.get("model").is_some())
}

/// Why there is no tokenizer, and what is there instead.
fn missing(dir: &Path, path: &Path) -> crate::error::Error {
    let other = dir.join(FOREIGN);
    let Ok(text) = read_short(&other, LONGEST) else {
        return file_error(path, "the tokenizer cannot be read", "there is no such file; is this a run directory?");
    };
    let why = if foreign(&text) {
        "it is Hugging Face's, and that format is not read yet; train with tokenizer = \"char\" or \"byte\"".to_string()
    } else {
        format!("it may be of a run of an earlier version: put \"format\": 1 into it and name it {}, or train again", Tokenizer::FILE)
    };
    file_error(&other, "this is not a tokenizer", why)
}
