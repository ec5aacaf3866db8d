//! The file as it is written.

use crate::text::added::{Added, AddedToken};
use crate::text::alphabet;
use crate::text::bpe::{Bpe, Merges};
use crate::text::split::Split;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

#[derive(Serialize)]
struct File<'a, M> {
    version: &'static str,
    truncation: Option<()>,
    padding: Option<()>,
    added_tokens: &'a [AddedToken],
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    decoder: Value,
    model: M,
}

#[derive(Serialize)]
struct BpeModel {
    #[serde(rename = "type")]
    kind: &'static str,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    fuse_unk: bool,
    byte_fallback: bool,
    ignore_merges: bool,
    vocab: Vocabulary,
    merges: Vec<(String, String)>,
}

/// Tokens in the order of their ids.
struct Vocabulary(Vec<(String, u32)>);

impl Serialize for Vocabulary {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(t, id)| (t, id)))
    }
}

/// The file of a byte-level BPE.
pub fn of_bpe(bpe: &Bpe) -> String {
    let added = bpe.added.tokens();
    let ours = |id: u32| !added.iter().any(|t| t.id == id);
    let written = |id: u32| alphabet::written(&bpe.tokens[id as usize]);
    let vocab = (0..bpe.size() as u32).filter(|id| ours(*id) && !bpe.tokens[*id as usize].is_empty()).map(|id| (written(id), id)).collect();
    let mut pairs: Vec<_> = bpe.merges.pairs.iter().map(|(pair, (rank, _))| (*rank, *pair)).collect();
    pairs.sort_unstable();
    let model = BpeModel {
        kind: "BPE",
        dropout: None,
        unk_token: None,
        continuing_subword_prefix: None,
        end_of_word_suffix: None,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: !bpe.merges.whole.is_empty(),
        vocab: Vocabulary(vocab),
        merges: pairs.iter().map(|(_, (a, b))| (written(*a), written(*b))).collect(),
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let file = File {
        version: "1.0",
        truncation: None,
        padding: None,
        added_tokens: added,
        normalizer: Value::Null,
        pre_tokenizer: pre_tokenizer(bpe.split),
        post_processor: Value::Null,
        decoder: bytes,
        model,
    };
    text(&file)
}

/// The file of characters, each a token by its place: byte-pair encoding without a pair.
pub fn of_characters(characters: &[char]) -> String {
    let vocab: serde_json::Map<String, Value> = characters.iter().enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
    of_parts(&[], Value::Null, Value::Null, json!({"type": "Fuse"}), json!({"type": "BPE", "vocab": vocab, "merges": []}))
}

/// The file of bytes: the same of all of them.
pub fn of_bytes() -> String {
    let merges = Merges { bytes: (0..256).collect(), ..Merges::default() };
    of_bpe(&Bpe { split: Split::None, tokens: (0..=255).map(|b| vec![b]).collect(), merges, added: Added::default() })
}

/// A file of given parts, for kinds that the `tokenizers` crate runs.
pub fn of_parts(added: &[AddedToken], normalizer: Value, pre_tokenizer: Value, decoder: Value, model: Value) -> String {
    let post_processor = Value::Null;
    text(&File { version: "1.0", truncation: None, padding: None, added_tokens: added, normalizer, pre_tokenizer, post_processor, decoder, model })
}

fn text(file: &impl Serialize) -> String {
    serde_json::to_string_pretty(file).expect("a tokenizer has a JSON form") + "\n"
}

fn pre_tokenizer(split: Split) -> Value {
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
    let sequence = |first: Value, regex: bool| json!({"type": "Sequence", "pretokenizers": [first, bytes(regex)]});
    match split {
        Split::None => bytes(false),
        Split::Gpt2 => bytes(true),
        Split::Gpt2Digits => sequence(json!({"type": "Digits", "individual_digits": true}), true),
        Split::Gpt4 | Split::Llama3 | Split::Qwen2 | Split::Gpt4o => {
            let pattern = split.pattern().expect("these are one expression");
            sequence(json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}), false)
        }
    }
}
