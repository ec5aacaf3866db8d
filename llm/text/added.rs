//! Tokens that stand outside of words: special ones, and others that were added to a vocabulary.

use aho_corasick::{AhoCorasick, MatchKind};
use serde::{Deserialize, Serialize};

/// A token that is found in the text before it is split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedToken {
    /// Its id.
    pub id: u32,
    /// How it is written.
    pub content: String,
    /// Whether it is a word by itself alone.
    #[serde(default)]
    pub single_word: bool,
    /// Whether it takes the spaces before it.
    #[serde(default)]
    pub lstrip: bool,
    /// Whether it takes the spaces after it.
    #[serde(default)]
    pub rstrip: bool,
    /// Whether it is looked for after normalisation.
    #[serde(default)]
    pub normalized: bool,
    /// Whether it steers a model, as the end of a text does, and is no text.
    pub special: bool,
}

impl AddedToken {
    /// A special token.
    pub fn special(id: u32, content: impl Into<String>) -> AddedToken {
        AddedToken { id, content: content.into(), single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
    }
}

/// What becomes of a special token that is written out in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Specials {
    /// It is text like any other: for texts that others wrote.
    #[default]
    Text,
    /// It is the token: for prompts, and what else a program composed.
    Token,
}

/// The added tokens of a vocabulary, ready to be found.
#[derive(Clone, Debug, Default)]
pub struct Added {
    tokens: Vec<AddedToken>,
    /// All of them, and those that are text; none where there is none.
    all: Option<AhoCorasick>,
    text: Option<AhoCorasick>,
    /// The ids of the latter.
    text_ids: Vec<u32>,
}

/// Where an added token stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// The token.
    pub id: u32,
}

impl Added {
    /// These tokens; none is empty. Fails where they are too many to be looked for.
    pub fn new(tokens: Vec<AddedToken>) -> Result<Added, String> {
        let text: Vec<&AddedToken> = tokens.iter().filter(|t| !t.special).collect();
        let text_ids = text.iter().map(|t| t.id).collect();
        let (all, text) = (automaton(tokens.iter())?, automaton(text.into_iter())?);
        Ok(Added { tokens, all, text, text_ids })
    }

    /// The tokens.
    pub fn tokens(&self) -> &[AddedToken] {
        &self.tokens
    }

    /// The id of a token as it is written.
    pub fn id(&self, content: &str) -> Option<u32> {
        self.tokens.iter().find(|t| t.content == content).map(|t| t.id)
    }

    /// Whether a text may be cut between two words: not where a token has words within.
    pub fn within_words(&self) -> bool {
        self.tokens.iter().all(|t| !t.content.contains([' ', '\n']))
    }

    /// Where they stand in a text, the first of those that overlap, the longest of those that begin together.
    pub fn find<'t>(&'t self, text: &'t str, specials: Specials) -> impl Iterator<Item = Found> + 't {
        let automaton = match specials {
            Specials::Text => &self.text,
            Specials::Token => &self.all,
        };
        let id = move |pattern: usize| match specials {
            Specials::Text => self.text_ids[pattern],
            Specials::Token => self.tokens[pattern].id,
        };
        let matches = automaton.iter().flat_map(move |a| a.find_iter(text));
        matches.map(move |m| Found { start: m.start(), end: m.end(), id: id(m.pattern().as_usize()) })
    }
}

fn automaton<'t>(tokens: impl Iterator<Item = &'t AddedToken>) -> Result<Option<AhoCorasick>, String> {
    let contents: Vec<&str> = tokens.map(|t| t.content.as_str()).collect();
    if contents.is_empty() {
        return Ok(None);
    }
    let built = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(contents);
    built.map(Some).map_err(|e| format!("its added tokens cannot be looked for: {e}"))
}
