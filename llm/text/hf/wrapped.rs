//! Tokenizers that the `tokenizers` crate runs.

use super::file::{Entries, File};
use crate::text::added::Specials;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokenizers::Tokenizer;

/// A tokenizer of the crate. Its panics, which crafted files can cause, are errors here.
#[derive(Clone, Debug)]
pub struct Wrapped {
    /// Special tokens written in a text are text for one, themselves for the other.
    text: Arc<Tokenizer>,
    token: Arc<Tokenizer>,
    size: usize,
}

impl Wrapped {
    /// Reads a file's content that was checked.
    pub fn parse(text: &str, file: &File) -> Result<Wrapped, String> {
        let vocabulary = match &file.model.vocab {
            Some(Entries::Ids(v)) => v.iter().map(|e| e.1 as usize + 1).max(),
            Some(Entries::Scores(v)) => Some(v.len()),
            None => None,
        };
        let added = file.added_tokens.iter().map(|t| t.id as usize + 1).max();
        let mut token: Tokenizer = guarded(|| Tokenizer::from_bytes(text).map_err(|e| e.to_string()))?;
        // a text is encoded whole, and not filled up
        token.with_truncation(None).map_err(|e| e.to_string())?.with_padding(None);
        let mut plain = token.clone();
        plain.set_encode_special_tokens(true);
        let size = vocabulary.max(added).unwrap_or(0);
        Ok(Wrapped { text: Arc::new(plain), token: Arc::new(token), size })
    }

    /// Number of ids.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The ids of a text, without those that a template would put around it.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, String> {
        let tokenizer = match specials {
            Specials::Text => &self.text,
            Specials::Token => &self.token,
        };
        guarded(|| tokenizer.encode_fast(text, false).map(|e| e.get_ids().to_vec()).map_err(|e| e.to_string()))
    }

    /// The same, with where in the text each stands, in bytes.
    pub fn encode_places(&self, text: &str, specials: Specials) -> Result<(Vec<u32>, Vec<Range<usize>>), String> {
        let tokenizer = match specials {
            Specials::Text => &self.text,
            Specials::Token => &self.token,
        };
        let all = guarded(|| tokenizer.encode(text, false).map_err(|e| e.to_string()))?;
        Ok((all.get_ids().to_vec(), all.get_offsets().iter().map(|(start, end)| *start..*end).collect()))
    }

    /// Its special tokens as they are written, in the order of their ids.
    pub fn specials(&self) -> Vec<String> {
        let all = self.token.get_added_tokens_decoder();
        let mut all: Vec<(u32, String)> = all.into_iter().filter(|(_, t)| t.special).map(|(id, t)| (id, t.content)).collect();
        all.sort_unstable();
        all.into_iter().map(|t| t.1).collect()
    }

    /// The text of ids; ids that are none are left out, as the crate does.
    pub fn decode(&self, ids: &[u32]) -> Result<String, String> {
        guarded(|| self.token.decode(ids, false).map_err(|e| e.to_string()))
    }

    /// How an id is written; none where there is no such id.
    pub fn written(&self, id: u32) -> Option<String> {
        guarded(|| Ok(self.token.id_to_token(id))).ok().flatten()
    }

    /// The id of what is written.
    pub fn id(&self, token: &str) -> Option<u32> {
        guarded(|| Ok(self.token.token_to_id(token))).ok().flatten()
    }
}

/// Ids to text, one at a time: a piece is given once what follows cannot change it.
#[derive(Clone, Default)]
pub struct Stream {
    ids: Vec<u32>,
    prefix: String,
    prefix_index: usize,
}

impl Stream {
    /// The text that is certain with one more id.
    pub fn push(&mut self, wrapped: &Wrapped, id: u32) -> String {
        let (ids, prefix, index) = (&mut self.ids, &mut self.prefix, &mut self.prefix_index);
        let step = || tokenizers::step_decode_stream(&wrapped.token, vec![id], false, ids, prefix, index).map_err(|e| e.to_string());
        guarded(AssertUnwindSafe(step)).ok().flatten().unwrap_or_default()
    }

    /// What was held back.
    pub fn finish(self, wrapped: &Wrapped) -> String {
        let all = wrapped.decode(&self.ids).unwrap_or_default();
        all.strip_prefix(&self.prefix).unwrap_or_default().to_string()
    }
}

/// A panic of the crate as an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("the tokenizers crate cannot run it: {}", said.unwrap_or("it gave up")))
    })
}
