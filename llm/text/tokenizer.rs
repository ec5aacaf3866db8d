//! Text to ids and back.

use super::added::Specials;
use super::bpe::Encoder;
use super::count::{WordCounts, pieces};
use super::hf::Engine;
use super::learn::{Algorithm, Learning};
use super::subword::Subword;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Which tokenizer a text gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// One token a distinct character of the text.
    #[default]
    Char,
    /// One token a byte.
    Byte,
    /// Byte-pair encoding learned from the text.
    Bpe,
    /// WordPiece learned from the text.
    WordPiece,
    /// A unigram model learned from the text.
    Unigram,
    /// One that is there already.
    File,
}

ir::spell!(Kind, "tokenizer", [Char "char", Byte "byte", Bpe "bpe", WordPiece "wordpiece", Unigram "unigram", File "file"]);

impl Kind {
    /// How it is learned; none of a kind that is not.
    pub fn algorithm(self) -> Option<Algorithm> {
        match self {
            Kind::Bpe => Some(Algorithm::Bpe),
            Kind::WordPiece => Some(Algorithm::WordPiece),
            Kind::Unigram => Some(Algorithm::Unigram),
            Kind::Char | Kind::Byte | Kind::File => None,
        }
    }
}

/// Encodes text after text, remembering words where that helps.
pub struct TextEncoder<'t> {
    tokenizer: &'t Tokenizer,
    words: Option<Encoder<'t>>,
}

impl TextEncoder<'_> {
    /// The ids of a text, as [`Tokenizer::encode_with`] gives them.
    pub fn encode(&mut self, text: &str, specials: Specials) -> Result<Vec<i32>> {
        let Some(encoder) = &mut self.words else { return self.tokenizer.encode_with(text, specials) };
        let mut ids = Vec::with_capacity(text.len() / 3);
        encoder.encode(text, specials, &mut ids);
        Ok(ids.into_iter().map(|id| id as i32).collect())
    }
}

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
    /// Parts of words.
    Subword(Arc<Subword>),
}

impl Tokenizer {
    /// The tokenizer of a text: of a kind that is learned, with the usual settings.
    pub fn of(kind: Kind, text: &str) -> Result<Tokenizer> {
        Tokenizer::learned(kind, &Learning::default(), text)
    }

    /// The tokenizer of a text: of a kind that is learned, as `learning` says, but for its algorithm, which is the kind's.
    pub fn learned(kind: Kind, learning: &Learning, text: &str) -> Result<Tokenizer> {
        if let Some(algorithm) = kind.algorithm() {
            let learning = Learning { algorithm, ..learning.clone() };
            let threads = runtime::cores();
            // of a text that is in memory the words are, too
            let mut counts = WordCounts::new(learning.splitter(), threads, usize::MAX);
            counts.add(text)?;
            return Ok(Tokenizer::Subword(Arc::new(learning.learn(&counts.finish()?, &mut |_| true)?)));
        }
        match kind {
            Kind::Char => {
                let characters: std::collections::BTreeSet<char> = text.chars().collect();
                Ok(Tokenizer::Char { characters: characters.into_iter().collect() })
            }
            Kind::Byte => Ok(Tokenizer::Byte),
            Kind::File | Kind::Bpe | Kind::WordPiece | Kind::Unigram => {
                Err(Error("data.tokenizer is \"file\", and no file was named: give it with --tokenizer".into()))
            }
        }
    }

    /// The same with further special tokens, where it has them not. One of characters or bytes becomes one that has a file of Hugging Face's.
    pub fn with_specials(&self, specials: &[String]) -> Result<Tokenizer> {
        let subword = match self {
            _ if specials.iter().all(|s| self.id(s).is_some()) => return Ok(self.clone()),
            Tokenizer::Subword(subword) => subword.with_specials(specials),
            Tokenizer::Char { .. } | Tokenizer::Byte => Subword::parse(&self.to_hub()).map_err(Error)?.with_specials(specials),
        };
        Ok(Tokenizer::Subword(Arc::new(subword?)))
    }

    /// Number of tokens.
    pub fn size(&self) -> usize {
        match self {
            Tokenizer::Char { characters } => characters.len(),
            Tokenizer::Byte => 256,
            Tokenizer::Subword(subword) => subword.size(),
        }
    }

    /// The ids of a text that others wrote: special tokens in it are text. Fails on a character the tokenizer does not have.
    pub fn encode(&self, text: &str) -> Result<Vec<i32>> {
        self.encode_with(text, Specials::Text)
    }

    /// The ids of a text; `specials` says what becomes of special tokens in it.
    pub fn encode_with(&self, text: &str, specials: Specials) -> Result<Vec<i32>> {
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
            Tokenizer::Subword(subword) => Ok(subword.encode(text, specials)?.into_iter().map(|id| id as i32).collect()),
        }
    }

    /// The ids of a text, and where in it each stands, in bytes. Fails where tokens are no part of the text, as of a tokenizer that changes it.
    pub fn encode_places(&self, text: &str, specials: Specials) -> Result<(Vec<i32>, Vec<Range<usize>>)> {
        if let Some(wrapped) = self.wrapped() {
            let (ids, places) = wrapped.encode_places(text, specials)?;
            return Ok((ids.into_iter().map(|id| id as i32).collect(), places));
        }
        let ids = self.encode_with(text, specials)?;
        let (mut places, mut at, mut bytes) = (Vec::with_capacity(ids.len()), 0, vec![]);
        for id in &ids {
            bytes.clear();
            self.bytes(*id, &mut bytes);
            // a token that was added may take spaces around it
            let rest = &text.as_bytes()[at..];
            let start = at + rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let at_once = rest.starts_with(&bytes);
            if !at_once && !text.as_bytes()[start..].starts_with(&bytes) {
                return Err(Error(format!("token {id} is {:?}, which does not stand at byte {at} of the text", self.decode(&[*id]))));
            }
            at = if at_once { at } else { start };
            places.push(at..at + bytes.len());
            at += bytes.len();
        }
        Ok((ids, places))
    }

    /// The special tokens as they are written: those that steer a model and are no text.
    pub fn specials(&self) -> Vec<String> {
        match self {
            Tokenizer::Subword(subword) => match subword.engine() {
                Engine::Bpe(bpe) => bpe.added.tokens().iter().filter(|t| t.special).map(|t| t.content.clone()).collect(),
                Engine::Wrapped(wrapped) => wrapped.specials(),
            },
            Tokenizer::Char { .. } | Tokenizer::Byte => vec![],
        }
    }

    /// An encoder of many texts, for a thread.
    pub fn encoder(&self) -> TextEncoder<'_> {
        let words = match self {
            Tokenizer::Subword(subword) => match subword.engine() {
                Engine::Bpe(bpe) => Some(bpe.encoder()),
                Engine::Wrapped(_) => None,
            },
            Tokenizer::Char { .. } | Tokenizer::Byte => None,
        };
        TextEncoder { tokenizer: self, words }
    }

    /// The same in several threads, for a long text; equal whatever their number.
    pub fn encode_in(&self, text: &str, specials: Specials, threads: usize) -> Result<Vec<i32>> {
        let Tokenizer::Subword(subword) = self else { return self.encode_with(text, specials) };
        let Engine::Bpe(bpe) = subword.engine() else { return self.encode_with(text, specials) };
        if threads < 2 || !bpe.added.within_words() {
            return self.encode_with(text, specials);
        }
        let pieces = pieces(super::count::Splitter::Bytes(bpe.split), text, (text.len() / threads / 4).max(1 << 16));
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let (mut encoder, mut done) = (bpe.encoder(), vec![]);
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(piece) = pieces.get(at) else { return done };
                let mut ids = Vec::with_capacity(piece.len() / 3);
                encoder.encode(piece, specials, &mut ids);
                done.push((at, ids));
            }
        };
        let mut all: Vec<(usize, Vec<u32>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.min(pieces.len())).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        all.sort_unstable_by_key(|p| p.0);
        Ok(all.into_iter().flat_map(|p| p.1).map(|id| id as i32).collect())
    }

    /// The text of ids. Bytes that are no UTF-8 and ids that are none of this tokenizer's become U+FFFD; where the `tokenizers` crate decodes,
    /// ids that are none are left out.
    pub fn decode(&self, ids: &[i32]) -> String {
        if let Some(wrapped) = self.wrapped() {
            let ids: Vec<u32> = ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect();
            return wrapped.decode(&ids).unwrap_or_default();
        }
        let mut bytes = vec![];
        ids.iter().for_each(|id| self.bytes(*id, &mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What runs it, where that is the `tokenizers` crate: its tokens are no bytes that one could write one after another.
    pub(super) fn wrapped(&self) -> Option<&super::hf::Wrapped> {
        match self {
            Tokenizer::Subword(subword) => match subword.engine() {
                Engine::Wrapped(wrapped) => Some(wrapped),
                Engine::Bpe(_) => None,
            },
            Tokenizer::Char { .. } | Tokenizer::Byte => None,
        }
    }

    /// Appends the bytes of an id, as it is written; those of U+FFFD where there is no such id.
    pub fn bytes(&self, id: i32, to: &mut Vec<u8>) {
        match self {
            Tokenizer::Byte if (0..256).contains(&id) => return to.push(id as u8),
            Tokenizer::Char { characters } if (0..characters.len() as i64).contains(&i64::from(id)) => {
                return to.extend(characters[id as usize].encode_utf8(&mut [0; 4]).bytes());
            }
            Tokenizer::Subword(subword) if id >= 0 => match subword.engine() {
                Engine::Bpe(bpe) => {
                    if let Some(bytes) = bpe.bytes(id as u32) {
                        return to.extend_from_slice(bytes);
                    }
                }
                Engine::Wrapped(wrapped) => {
                    if let Some(written) = wrapped.written(id as u32) {
                        return to.extend(written.bytes());
                    }
                }
            },
            Tokenizer::Byte | Tokenizer::Char { .. } | Tokenizer::Subword(_) => {}
        }
        to.extend("\u{FFFD}".bytes());
    }

    /// The id of a special or other token as it is written; none where it has no such.
    pub fn id(&self, token: &str) -> Option<i32> {
        match self {
            Tokenizer::Subword(subword) => subword.id(token).map(|id| id as i32),
            Tokenizer::Char { .. } | Tokenizer::Byte => None,
        }
    }

    /// The token that ends a document, under the names that are in use.
    pub fn end_of_text(&self) -> Option<i32> {
        ["<|endoftext|>", "</s>", "<|end_of_text|>", "[SEP]"].iter().find_map(|t| self.id(t))
    }

    /// What a text begins with where nothing is said: a newline, or a space, or the first token there is.
    pub fn start(&self) -> String {
        ["\n", " "].iter().find(|c| self.encode(c).is_ok_and(|ids| !ids.is_empty())).map_or_else(|| self.decode(&[0]), |s| s.to_string())
    }
}
