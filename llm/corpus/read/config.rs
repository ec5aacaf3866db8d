//! How files are read.

use super::super::part::hash;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Format {
    /// Text, cut by [`SplitOn`].
    Text,
    /// A JSON object a line.
    Jsonl,
    /// JSON objects in a list, or one after another.
    Json,
    /// A table of values between commas, with a header.
    Csv,
    /// A table of values between tabs, with a header.
    Tsv,
    /// A page of HTML, of which the main text is taken.
    Html,
    /// A Parquet file, with the feature `parquet`.
    Parquet,
}

ir::spell!(Format, "format", [Text "text" | "txt", Jsonl "jsonl" | "ndjson", Json "json", Csv "csv", Tsv "tsv", Html "html" | "htm", Parquet "parquet"]);

impl Format {
    /// The format that a file's name tells, whether or not it is compressed. What is not known is text.
    pub fn of(name: &str) -> Format {
        let name = name.to_ascii_lowercase();
        let name = [".gz", ".zst", ".zstd"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(&name);
        name.rsplit_once('.').and_then(|(_, extension)| extension.parse().ok()).unwrap_or(Format::Text)
    }
}

/// Where a text file is cut into documents.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SplitOn {
    /// Nowhere: a file is a document.
    #[default]
    File,
    /// At line ends.
    Line,
    /// At lines that are empty or hold nothing but spaces.
    BlankLine,
    /// At a string. Line ends next to it belong to no document.
    Separator(String),
}

impl FromStr for SplitOn {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<SplitOn, String> {
        match text {
            "" => Err("a separator has at least one character: expected file, line, blank-line or a separator such as <|endoftext|>".into()),
            "file" => Ok(SplitOn::File),
            "line" => Ok(SplitOn::Line),
            "blank-line" => Ok(SplitOn::BlankLine),
            separator => Ok(SplitOn::Separator(separator.into())),
        }
    }
}

impl TryFrom<String> for SplitOn {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<SplitOn, String> {
        text.parse()
    }
}

impl fmt::Display for SplitOn {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            SplitOn::File => "file",
            SplitOn::Line => "line",
            SplitOn::BlankLine => "blank-line",
            SplitOn::Separator(separator) => separator,
        })
    }
}

impl From<SplitOn> for String {
    fn from(split: SplitOn) -> String {
        split.to_string()
    }
}

/// How files are read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadConfig {
    /// The format of every file; what each file's name tells, where none is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The field of a record that holds its text: `a.b` is the field `b` of the field `a`.
    pub field: String,
    /// Where text files are cut.
    pub split_on: SplitOn,
    /// Bytes that a document may have, or the record that it stands in.
    pub max_document: u64,
    /// Leave out and count what cannot be read.
    pub skip_bad: bool,
}

impl Default for ReadConfig {
    fn default() -> ReadConfig {
        ReadConfig { format: None, field: "text".into(), split_on: SplitOn::File, max_document: 64 << 20, skip_bad: false }
    }
}

impl ReadConfig {
    /// Whether this can be, in so many bytes of memory.
    pub fn check(&self, memory: u64) -> Result<()> {
        if self.field.split('.').any(str::is_empty) {
            return Err(Error(format!("--field is '{}': expected a name, or names with dots between, as in meta.text", self.field)));
        }
        if self.max_document == 0 || self.max_document >= memory {
            return Err(Error(format!(
                "--max-document is {} bytes: expected at least 1, and less than the {memory} bytes of --memory; try --max-document 64MiB",
                self.max_document
            )));
        }
        Ok(())
    }

    /// A checksum of all that determines what is read.
    pub(super) fn fingerprint(&self) -> String {
        hash(serde_json::to_string(self).expect("settings have a JSON form").as_bytes())
    }
}
