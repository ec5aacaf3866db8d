//! What stands in the file, as it stands there.

use crate::text::added::AddedToken;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::fmt;

/// The file.
#[derive(Debug, Deserialize)]
pub struct File {
    /// Tokens that stand outside of words.
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    /// What is done to the text first.
    #[serde(default)]
    pub normalizer: Value,
    /// How it becomes words.
    #[serde(default)]
    pub pre_tokenizer: Value,
    /// How tokens become text.
    #[serde(default)]
    pub decoder: Value,
    /// What becomes of a word.
    pub model: RawModel,
}

/// The model: fields of all kinds, those that matter here.
#[derive(Debug, Deserialize)]
pub struct RawModel {
    /// Its kind. Old files do not say it.
    #[serde(rename = "type", default)]
    pub kind: Option<String>,
    /// The tokens.
    #[serde(default)]
    pub vocab: Option<Entries>,
    /// BPE's merges, in order.
    #[serde(default)]
    pub merges: Option<Vec<Merge>>,
    /// Whether a word that is a token is it, whatever the merges say.
    #[serde(default)]
    pub ignore_merges: bool,
    /// The share of merges left out at random.
    #[serde(default)]
    pub dropout: Option<f64>,
    /// Before a token that is not a word's first.
    #[serde(default)]
    pub continuing_subword_prefix: Option<String>,
    /// After a token that is a word's last.
    #[serde(default)]
    pub end_of_word_suffix: Option<String>,
    /// Whether unknown characters are written in bytes.
    #[serde(default)]
    pub byte_fallback: bool,
    /// Unigram's unknown token.
    #[serde(default)]
    pub unk_id: Option<u64>,
    /// The longest word that WordPiece looks at.
    #[serde(default)]
    pub max_input_chars_per_word: Option<u64>,
}

impl RawModel {
    /// Whether it is of a kind, said or seen.
    pub fn is(&self, kind: &str) -> bool {
        self.name() == kind
    }

    /// Its kind; of an old file, as its fields say.
    pub fn name(&self) -> &str {
        match (&self.kind, &self.vocab) {
            (Some(kind), _) => kind,
            (None, _) if self.merges.is_some() => "BPE",
            (None, Some(Entries::Scores(_))) => "Unigram",
            (None, _) if self.max_input_chars_per_word.is_some() => "WordPiece",
            (None, _) => "WordLevel",
        }
    }

    /// Whether BPE is nothing but its merges.
    pub fn plain_bpe(&self) -> bool {
        let empty = |s: &Option<String>| s.as_ref().is_none_or(String::is_empty);
        self.dropout.is_none_or(|d| d == 0.0) && empty(&self.continuing_subword_prefix) && empty(&self.end_of_word_suffix) && !self.byte_fallback
    }
}

/// The tokens, in the order of the file; none is lost, not even one that is there twice.
#[derive(Debug)]
pub enum Entries {
    /// With their ids.
    Ids(Vec<(String, u64)>),
    /// With their log-probabilities; the id is the place.
    Scores(Vec<(String, f64)>),
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Entries, D::Error> {
        from.deserialize_any(ReadEntries)
    }
}

struct ReadEntries;

impl<'de> Visitor<'de> for ReadEntries {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("tokens with ids, or a list of tokens with scores")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut all = vec![];
        while let Some(entry) = map.next_entry()? {
            all.push(entry);
        }
        Ok(Entries::Ids(all))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
        let mut all = vec![];
        while let Some(entry) = list.next_element()? {
            all.push(entry);
        }
        Ok(Entries::Scores(all))
    }
}

/// Two tokens that become one: `"a b"` in older files, `["a", "b"]` in newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge(pub String, pub String);

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Merge, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Pair(String, String),
            Text(String),
        }
        match Form::deserialize(from).map_err(|_| D::Error::custom("expected a merge, as in [\"a\", \"b\"] or \"a b\""))? {
            Form::Pair(a, b) => Ok(Merge(a, b)),
            Form::Text(text) => match text.split_once(' ') {
                Some((a, b)) if !b.contains(' ') => Ok(Merge(a.into(), b.into())),
                _ => Err(D::Error::custom(format!("the merge {text:?} is not two tokens"))),
            },
        }
    }
}
