//! Hugging Face's `tokenizer.json`: read, checked and written.
//!
//! A file is from anywhere, so all is checked before anything is made of it. Byte-level BPE under a known splitting is encoded here; every
//! other kind by the `tokenizers` crate, under a guard.

mod check;
mod file;
mod wrapped;
mod write;

pub use check::IDS;
pub use wrapped::{Stream, Wrapped};
pub use write::{of_bpe, of_bytes, of_characters, of_parts};

use super::added::Added;
use super::alphabet;
use super::bpe::{Bpe, Merges};
use super::split::Split;
use file::{Entries, File, Merge};
use serde_json::Value;

/// What encodes.
#[derive(Clone, Debug)]
pub enum Engine {
    /// Byte-level BPE.
    Bpe(Bpe),
    /// Anything else that the `tokenizers` crate knows.
    Wrapped(Wrapped),
}

/// Reads a file's content; what is wrong with it where it is no tokenizer.
pub fn parse(text: &str) -> Result<Engine, String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    check::check(&file)?;
    match byte_level(&file) {
        Some(split) => bpe(&file, split).map(Engine::Bpe),
        None => Wrapped::parse(text, &file).map(Engine::Wrapped),
    }
}

/// The splitting of a byte-level BPE that means here what it means there; none where anything about it is unusual.
fn byte_level(file: &File) -> Option<Split> {
    let model = &file.model;
    let usual = model.is("BPE") && model.plain_bpe() && file.normalizer.is_null() && type_of(&file.decoder) == Some("ByteLevel");
    let added = file.added_tokens.iter().all(|t| !t.single_word && !t.lstrip && !t.rstrip);
    let Some(Entries::Ids(vocabulary)) = &model.vocab else { return None };
    let bytes = vocabulary.iter().filter(|(t, _)| t.chars().count() == 1 && alphabet::read(t).is_some()).count();
    if usual && added && bytes == 256 { splitting(&file.pre_tokenizer) } else { None }
}

fn type_of(node: &Value) -> Option<&str> {
    node.get("type")?.as_str()
}

/// The splitting that a pre-tokenizer does before bytes become characters.
fn splitting(node: &Value) -> Option<Split> {
    let flag = |node: &Value, name: &str, otherwise: bool| node.get(name).map_or(Some(otherwise), Value::as_bool);
    // whether a node makes characters of bytes, and splits as GPT-2 before
    let bytes = |node: &Value| {
        let plain = type_of(node) == Some("ByteLevel") && flag(node, "add_prefix_space", true) == Some(false);
        flag(node, "use_regex", true).filter(|_| plain)
    };
    if let Some(regex) = bytes(node) {
        return Some(if regex { Split::Gpt2 } else { Split::None });
    }
    let steps = node.get("pretokenizers").filter(|_| type_of(node) == Some("Sequence"))?.as_array()?;
    let [first, last] = &steps[..] else { return None };
    match (type_of(first)?, bytes(last)?) {
        ("Digits", true) if flag(first, "individual_digits", false) == Some(true) => Some(Split::Gpt2Digits),
        ("Split", false) => {
            let behavior = first.get("behavior")?.as_str()?;
            let invert = flag(first, "invert", false)?;
            // the expressions leave nothing between their matches: to drop that is to keep them
            let keeps = (behavior == "Isolated" && !invert) || (behavior == "Removed" && invert);
            Split::of_pattern(first.get("pattern")?.get("Regex")?.as_str()?).filter(|_| keeps)
        }
        _ => None,
    }
}

fn bpe(file: &File, split: Split) -> Result<Bpe, String> {
    let Some(Entries::Ids(vocabulary)) = &file.model.vocab else { return Err("its model has no vocabulary".into()) };
    let added = file.added_tokens.iter().map(|t| u64::from(t.id));
    let size = vocabulary.iter().map(|v| v.1).chain(added).max().map_or(0, |m| m as usize + 1);
    let mut tokens: Vec<Vec<u8>> = vec![vec![]; size];
    for (token, id) in vocabulary {
        // what is not written in bytes' characters is no part of a word, and means itself
        tokens[*id as usize] = alphabet::read(token).unwrap_or_else(|| token.clone().into_bytes());
    }
    for token in &file.added_tokens {
        tokens[token.id as usize] = token.content.clone().into_bytes();
    }
    let merges = merges(file, vocabulary)?;
    Ok(Bpe { split, tokens, merges, added: Added::new(file.added_tokens.clone())? })
}

fn merges(file: &File, vocabulary: &[(String, u64)]) -> Result<Merges, String> {
    let ids: std::collections::HashMap<&str, u32> = vocabulary.iter().map(|(t, id)| (t.as_str(), *id as u32)).collect();
    let mut merges = Merges { bytes: vec![0; 256], ..Merges::default() };
    for byte in 0..=255u8 {
        let written = alphabet::character(byte).to_string();
        merges.bytes[usize::from(byte)] =
            *ids.get(written.as_str()).ok_or_else(|| format!("its vocabulary has no token for the byte {byte:#04x}"))?;
    }
    for (rank, Merge(a, b)) in file.model.merges.iter().flatten().enumerate() {
        let id = |token: &str| ids.get(token).copied().ok_or_else(|| format!("merge {rank}, {a:?} {b:?}: {token:?} is not in the vocabulary"));
        merges.pairs.insert((id(a)?, id(b)?), (rank as u32, id(&format!("{a}{b}"))?));
    }
    if file.model.ignore_merges {
        merges.whole = vocabulary.iter().filter_map(|(t, id)| Some((alphabet::read(t)?, *id as u32))).collect();
    }
    Ok(merges)
}
