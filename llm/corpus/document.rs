//! A document, and how it stands in a line.

use serde::{Deserialize, Serialize};

/// A text, where it is from, and what was found out about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Where it is from, as a person would say it: `FILE` for a whole file, `FILE:LINE` for a record of one. No two documents have one id.
    pub id: String,
    /// The text.
    pub text: String,
    /// Its language as an ISO 639-3 code, once that was looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

impl Document {
    /// A document whose language is not known.
    pub fn new(id: impl Into<String>, text: impl Into<String>) -> Document {
        Document { id: id.into(), text: text.into(), language: None }
    }
}
