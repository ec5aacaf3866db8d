//! A vocabulary from text.

use super::added::{Added, AddedToken};
use super::alphabet;
use super::bpe::{Alphabet, Bpe, Merges, Ties, learn};
use super::count::{Counted, Splitter};
use super::hf::{of_bpe, of_parts};
use super::split::Split;
use super::subword::Subword;
use super::unigram;
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;

/// A kind of vocabulary of parts of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Algorithm {
    /// Byte-pair encoding over bytes (Sennrich et al., 2016; GPT-2).
    #[default]
    Bpe,
    /// WordPiece over characters (Schuster and Nakajima, 2012; BERT): learned as byte-pair encoding is, used by the longest match.
    WordPiece,
    /// A unigram language model over pieces (Kudo, 2018; SentencePiece).
    Unigram,
}

ir::spell!(Algorithm, "algorithm", [Bpe "bpe", WordPiece "wordpiece", Unigram "unigram"]);

/// What a vocabulary shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learning {
    /// Its kind.
    pub algorithm: Algorithm,
    /// Tokens at most, special ones among them.
    pub vocabulary: usize,
    /// How text becomes words, for byte-pair encoding.
    pub split: Split,
    /// A pair must stand this often to become a token.
    pub least: u64,
    /// Whether WordPiece drops case and accents.
    pub lowercase: bool,
    /// Special tokens besides those of the kind.
    pub specials: Vec<String>,
}

/// The end of a document, in the vocabularies made here.
pub const END_OF_TEXT: &str = "<|endoftext|>";

impl Default for Learning {
    fn default() -> Learning {
        let (algorithm, split) = (Algorithm::Bpe, Split::Gpt2);
        Learning { algorithm, vocabulary: 8192, split, least: 2, lowercase: true, specials: vec![] }
    }
}

impl Learning {
    /// How text becomes the words that are counted for it.
    pub fn splitter(&self) -> Splitter {
        match self.algorithm {
            Algorithm::Bpe => Splitter::Bytes(self.split),
            Algorithm::WordPiece => Splitter::Bert { lowercase: self.lowercase },
            Algorithm::Unigram => Splitter::Metaspace,
        }
    }

    /// All special tokens, those of the kind first.
    fn special(&self) -> Vec<String> {
        let own: &[&str] = match self.algorithm {
            Algorithm::Bpe => &[END_OF_TEXT],
            Algorithm::WordPiece => &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            Algorithm::Unigram => &["<unk>", "<s>", "</s>"],
        };
        let mut all: Vec<String> = own.iter().map(|s| s.to_string()).collect();
        for more in &self.specials {
            if !all.contains(more) {
                all.push(more.clone());
            }
        }
        all
    }

    /// Learns from counted words. `each` is told the number of tokens so far, and ends the work with `false`.
    pub fn learn(&self, counted: &Counted, each: &mut dyn FnMut(usize) -> bool) -> Result<Subword> {
        if counted.words.is_empty() {
            return Err(Error("the text has no word: there is nothing to learn a vocabulary from".into()));
        }
        if let Some(empty) = self.specials.iter().find(|s| s.trim().is_empty()) {
            return Err(Error(format!("the special token {empty:?} is blank: expected some text, as in <|user|>")));
        }
        let json = match self.algorithm {
            Algorithm::Bpe => of_bpe(&self.bpe(counted, each)?),
            Algorithm::WordPiece => self.word_piece(counted, each)?,
            Algorithm::Unigram => self.unigram(counted, each)?,
        };
        Subword::parse(&json).map_err(|e| Error(format!("the vocabulary cannot be used: {e}")))
    }

    fn room(&self, taken: usize, what: &str) -> Result<usize> {
        let most = super::hf::IDS as usize;
        let room = self.vocabulary.checked_sub(taken).filter(|_| self.vocabulary <= most);
        room.ok_or_else(|| Error(format!("a vocabulary of {} tokens: expected {taken} ({what}) to {most}", self.vocabulary)))
    }

    /// Bytes in GPT-2's order, then what is learned, then special tokens.
    fn bpe(&self, counted: &Counted, each: &mut dyn FnMut(usize) -> bool) -> Result<Bpe> {
        let special = self.special();
        let room = self.room(256 + special.len(), "one a byte, and special ones")?;
        let order = alphabet::bytes();
        let mut bytes = vec![0; 256];
        order.iter().enumerate().for_each(|(id, byte)| bytes[usize::from(*byte)] = id as u32);
        let words = counted.words.iter().map(|(word, n)| (word.iter().map(|b| bytes[usize::from(*b)]).collect(), *n));
        let alphabet = Alphabet { tokens: order.iter().map(|b| vec![*b]).collect(), join: &|a, b| [a, b].concat(), ties: Ties::LowerIds };
        let learned = learn(words, alphabet, 256 + room, self.least, each);
        let mut tokens = learned.tokens;
        // a pair that came back keeps its first rank
        let mut pairs = FxHashMap::default();
        for (rank, (pair, id)) in learned.pairs.into_iter().enumerate() {
            pairs.entry(pair).or_insert((rank as u32, id));
        }
        let added: Vec<AddedToken> = special.into_iter().enumerate().map(|(i, s)| AddedToken::special((tokens.len() + i) as u32, s)).collect();
        tokens.extend(added.iter().map(|t| t.content.clone().into_bytes()));
        let merges = Merges { bytes, pairs, ..Merges::default() };
        Ok(Bpe { split: self.split, tokens, merges, added: Added::new(added).map_err(Error)? })
    }

    /// Characters, those within a word marked by `##`, and the pairs of them that are most frequent.
    fn word_piece(&self, counted: &Counted, each: &mut dyn FnMut(usize) -> bool) -> Result<String> {
        let special = self.special();
        let words: Vec<(&str, u64)> = counted.words.iter().map(|(w, n)| (std::str::from_utf8(w).expect("words are text"), *n)).collect();
        let pieces =
            |word: &str| -> Vec<String> { word.chars().enumerate().map(|(i, c)| if i == 0 { c.to_string() } else { format!("##{c}") }).collect() };
        // every character by itself, too, or a word that begins with it would be unknown
        let alone: BTreeSet<String> = words.iter().flat_map(|w| w.0.chars()).map(String::from).collect();
        let within: BTreeSet<String> = words.iter().flat_map(|w| pieces(w.0).into_iter().skip(1)).collect();
        let tokens: Vec<String> = special.iter().cloned().chain(alone).chain(within).collect();
        self.room(tokens.len(), "special ones and characters")?;
        let ids: FxHashMap<&str, u32> = tokens.iter().enumerate().map(|(id, t)| (t.as_str(), id as u32)).collect();
        let words = words.iter().map(|(w, n)| (pieces(w).iter().map(|p| ids[p.as_str()]).collect(), *n));
        let join = |a: &[u8], b: &[u8]| [a, b.strip_prefix(b"##").unwrap_or(b)].concat();
        let alphabet = Alphabet { tokens: tokens.iter().map(|t| t.clone().into_bytes()).collect(), join: &join, ties: Ties::LowerIds };
        let learned = learn(words, alphabet, self.vocabulary, self.least, each);
        let added: Vec<AddedToken> = special.iter().enumerate().map(|(i, s)| AddedToken::special(i as u32, s)).collect();
        let vocab: serde_json::Map<String, serde_json::Value> =
            learned.tokens.into_iter().enumerate().map(|(id, t)| (String::from_utf8(t).expect("joined texts are text"), json!(id))).collect();
        let normalizer =
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": self.lowercase});
        let model =
            json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab});
        let decoder = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
        Ok(of_parts(&added, normalizer, json!({"type": "BertPreTokenizer"}), decoder, model))
    }

    /// Special tokens, then pieces, whose ids are their places.
    fn unigram(&self, counted: &Counted, each: &mut dyn FnMut(usize) -> bool) -> Result<String> {
        let special = self.special();
        let words: Vec<(&str, u64)> = counted.words.iter().map(|(w, n)| (std::str::from_utf8(w).expect("words are text"), *n)).collect();
        let characters: BTreeSet<char> = words.iter().flat_map(|w| w.0.chars()).collect();
        self.room(special.len() + characters.len(), "special ones and characters")?;
        let threads = runtime::cores();
        let pieces = unigram::learn(&words, self.vocabulary - special.len(), threads, each);
        // a text that has a special token's name for a word has it as a piece no more
        let pieces = pieces.into_iter().filter(|p| !special.contains(&p.0));
        let vocab: Vec<(String, f64)> = special.iter().map(|s| (s.clone(), 0.0)).chain(pieces).collect();
        let added: Vec<AddedToken> = special.iter().enumerate().map(|(i, s)| AddedToken::special(i as u32, s)).collect();
        let marks = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
        let model = json!({"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false});
        Ok(of_parts(&added, serde_json::Value::Null, marks.clone(), marks, model))
    }
}
