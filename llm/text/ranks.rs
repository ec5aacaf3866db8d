//! Vocabularies in the files of other projects: tiktoken's ranks, GPT-2's `encoder.json` and `vocab.bpe`, llama2.c's `.bin`.

use super::added::{Added, AddedToken};
use super::alphabet;
use super::bpe::{Bpe, Merges};
use super::hf::{IDS, of_parts};
use super::split::Split;
use base64::Engine;
use rustc_hash::FxHashMap;
use serde_json::json;

/// The encodings of tiktoken whose files are told by their number of ranks: how they split, and their special tokens.
const KNOWN: [(usize, Split, &[(&str, u32)]); 4] = [
    (50256, Split::Gpt2, &[("<|endoftext|>", 50256)]),
    (50280, Split::Gpt2, &[("<|endoftext|>", 50256)]),
    (
        100_256,
        Split::Gpt4,
        &[
            ("<|endoftext|>", 100_257),
            ("<|fim_prefix|>", 100_258),
            ("<|fim_middle|>", 100_259),
            ("<|fim_suffix|>", 100_260),
            ("<|endofprompt|>", 100_276),
        ],
    ),
    (199_998, Split::Gpt4o, &[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)]),
];

/// Reads a file of ranks: a token in base64 and its rank a line. `split` is how it splits, where that is not one of the known encodings.
pub fn tiktoken(text: &str, split: Option<Split>) -> Result<Bpe, String> {
    let mut tokens: Vec<Vec<u8>> = vec![];
    let mut count = 0;
    for (line, row) in text.lines().enumerate().filter(|l| !l.1.trim().is_empty()) {
        let fail = |what: &str| format!("line {}: {what}, expected a token in base64 and its rank, as in SGVsbG8= 9906", line + 1);
        let (token, rank) = row.trim().split_once(' ').ok_or_else(|| fail("this is no rank"))?;
        let token = base64::prelude::BASE64_STANDARD.decode(token).map_err(|_| fail("the token is not in base64"))?;
        let rank = rank.trim().parse::<u64>().ok().filter(|r| *r < IDS).ok_or_else(|| fail("the rank is out of range"))? as usize;
        if token.is_empty() || tokens.get(rank).is_some_and(|t| !t.is_empty()) {
            return Err(fail("the token is empty, or its rank is another's"));
        }
        tokens.resize(tokens.len().max(rank + 1), vec![]);
        tokens[rank] = token;
        count += 1;
    }
    let known = KNOWN.iter().find(|k| k.0 == count);
    let unknown = || format!("{count} ranks are of no known encoding: say how it splits text, as in --split gpt4");
    let split = split.or(known.map(|k| k.1)).ok_or_else(unknown)?;
    let specials = known.map_or(&[][..], |k| k.2).iter().map(|(content, id)| AddedToken::special(*id, *content)).collect();
    of_tokens(tokens, split, specials)
}

/// A vocabulary whose ids are its ranks: any two tokens that are a token together become it.
fn of_tokens(mut tokens: Vec<Vec<u8>>, split: Split, specials: Vec<AddedToken>) -> Result<Bpe, String> {
    let mut ids: FxHashMap<Vec<u8>, u32> = FxHashMap::default();
    for (id, token) in tokens.iter().enumerate().filter(|t| !t.1.is_empty()) {
        if ids.insert(token.clone(), id as u32).is_some() {
            return Err(format!("the token {:?} is there twice", String::from_utf8_lossy(token)));
        }
    }
    let mut merges = Merges { bytes: vec![0; 256], ..Merges::default() };
    for byte in 0..=255u8 {
        merges.bytes[usize::from(byte)] = *ids.get(&[byte][..]).ok_or_else(|| format!("there is no token for the byte {byte:#04x}"))?;
    }
    for (id, token) in tokens.iter().enumerate() {
        for at in 1..token.len() {
            if let (Some(a), Some(b)) = (ids.get(&token[..at]), ids.get(&token[at..])) {
                merges.pairs.insert((*a, *b), (id as u32, id as u32));
            }
        }
    }
    merges.whole = ids;
    for special in &specials {
        let id = special.id as usize;
        tokens.resize(tokens.len().max(id + 1), vec![]);
        tokens[id] = special.content.clone().into_bytes();
    }
    Ok(Bpe { split, tokens, merges, added: Added::new(specials)? })
}

/// Reads GPT-2's two files: ids by written token, and merges in order.
pub fn gpt2(encoder: &str, merges: &str) -> Result<Bpe, String> {
    let ids: std::collections::BTreeMap<String, u64> = serde_json::from_str(encoder).map_err(|e| format!("encoder.json: {e}"))?;
    let mut tokens: Vec<Vec<u8>> = vec![];
    let mut specials = vec![];
    for (token, id) in &ids {
        if *id >= IDS || tokens.get(*id as usize).is_some_and(|t| !t.is_empty()) || token.is_empty() {
            return Err(format!("encoder.json: {token:?} has id {id}: expected ids of their own, less than {IDS}"));
        }
        tokens.resize(tokens.len().max(*id as usize + 1), vec![]);
        tokens[*id as usize] = alphabet::read(token).unwrap_or_else(|| token.clone().into_bytes());
        if token == super::learn::END_OF_TEXT {
            specials.push(AddedToken::special(*id as u32, token));
        }
    }
    let id =
        |token: &str, line: usize| ids.get(token).map(|i| *i as u32).ok_or_else(|| format!("vocab.bpe:{line}: {token:?} is not in encoder.json"));
    let mut all = Merges { bytes: vec![0; 256], ..Merges::default() };
    for byte in 0..=255u8 {
        let written = alphabet::character(byte).to_string();
        all.bytes[usize::from(byte)] = *ids.get(&written).ok_or_else(|| format!("encoder.json: there is no token for the byte {byte:#04x}"))? as u32;
    }
    let rows = merges.lines().enumerate().filter(|(i, row)| !(row.is_empty() || *i == 0 && row.starts_with("#version")));
    for (rank, (line, row)) in rows.enumerate() {
        let (a, b) = row.split_once(' ').ok_or_else(|| format!("vocab.bpe:{}: expected two tokens, and not {row:?}", line + 1))?;
        all.pairs.insert((id(a, line + 1)?, id(b, line + 1)?), (rank as u32, id(&format!("{a}{b}"), line + 1)?));
    }
    Ok(Bpe { split: Split::Gpt2, tokens, merges: all, added: Added::new(specials)? })
}

/// Reads llama2.c's `tokenizer.bin` as the `tokenizer.json` of the same tokens: the length of the longest, then each token's score, length
/// and bytes. It is SentencePiece's BPE: a space is a mark, unknown characters are bytes.
pub fn llama2c(bytes: &[u8]) -> Result<String, String> {
    let (_longest, mut rest) = four(bytes)?;
    let mut pieces: Vec<(String, f32)> = vec![];
    while !rest.is_empty() {
        let (score, more) = four(rest)?;
        let (length, more) = four(more)?;
        let length = u32::from_le_bytes(length) as usize;
        let piece = more.get(..length).ok_or_else(|| format!("token {} has {length} bytes, and {} are left", pieces.len(), more.len()))?;
        rest = &more[length..];
        let text = std::str::from_utf8(piece).map_err(|_| format!("token {} is no text", pieces.len()))?;
        pieces.push((text.replace(' ', "▁"), f32::from_le_bytes(score)));
    }
    sentence_piece(pieces)
}

fn four(bytes: &[u8]) -> Result<([u8; 4], &[u8]), String> {
    bytes.split_first_chunk::<4>().map(|(word, rest)| (*word, rest)).ok_or_else(|| "it ends within a token".into())
}

fn sentence_piece(mut pieces: Vec<(String, f32)>) -> Result<String, String> {
    if pieces.len() < 259 {
        return Err(format!("it has {} tokens, expected three special ones, 256 bytes and more", pieces.len()));
    }
    // the export writes these as text that stands for them
    for (id, name) in [(0, "<unk>"), (1, "<s>"), (2, "</s>")] {
        pieces[id].0 = name.into();
    }
    let ids: FxHashMap<&str, usize> = pieces.iter().enumerate().rev().map(|(id, p)| (p.0.as_str(), id)).collect();
    let mut merges: Vec<(f32, usize, &str, &str)> = vec![];
    for (id, (piece, score)) in pieces.iter().enumerate().skip(259) {
        for at in piece.char_indices().skip(1).map(|c| c.0) {
            let (a, b) = piece.split_at(at);
            if ids.contains_key(a) && ids.contains_key(b) {
                merges.push((*score, id, a, b));
            }
        }
    }
    merges.sort_by(|x, y| y.0.total_cmp(&x.0).then(x.1.cmp(&y.1)));
    let merges: Vec<(&str, &str)> = merges.iter().map(|m| (m.2, m.3)).collect();
    let vocab: serde_json::Map<String, serde_json::Value> = ids.iter().map(|(t, id)| (t.to_string(), json!(id))).collect();
    let added: Vec<AddedToken> = (0..3).map(|id| AddedToken::special(id, pieces[id as usize].0.clone())).collect();
    let model = json!({"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
        "fuse_unk": true, "byte_fallback": true, "ignore_merges": false, "vocab": vocab, "merges": merges});
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    Ok(of_parts(&added, normalizer, serde_json::Value::Null, decoder, model))
}
