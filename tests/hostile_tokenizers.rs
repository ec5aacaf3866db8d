//! Tokenizer files that somebody crafted: an error or a tokenizer, and never a panic.

use crate::common::{Directory, Random};
use llm::text::{Learning, Specials, Split, Subword, WordCounts};
use llm::{Decoder, Tokenizer};
use serde_json::{Value, json};

fn small() -> Value {
    let mut counts = WordCounts::new(Learning::default().splitter(), 1, usize::MAX);
    counts.add("low lower lowest newer newest wide wider widest").unwrap();
    let subword = Learning { vocabulary: 270, least: 1, ..Learning::default() }.learn(&counts.finish().unwrap(), &mut |_| true).unwrap();
    serde_json::from_str(subword.json()).unwrap()
}

#[track_caller]
fn refused(json: &Value, words: &[&str]) {
    let error = Subword::parse(&json.to_string()).err().unwrap_or_else(|| panic!("it is taken; should be refused with {words:?}"));
    words.iter().for_each(|w| assert!(error.contains(w), "{error}\nshould have {w}"));
}

fn with(path: &str, value: Value) -> Value {
    let mut json = small();
    *json.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
    json
}

#[test]
fn ids_and_tokens_are_checked() {
    let mut json = small();
    json["model"]["vocab"]["a"] = json!(0);
    refused(&json, &["two tokens have id 0"]);
    refused(&with("/model/vocab/a", json!(1u64 << 40)), &["id 1099511627776", "less than 4194304"]);
    refused(&with("/model/vocab/a", json!(-1)), &["invalid"]);
    refused(&with("/model/vocab", json!({})), &["0 tokens"]);
    refused(&with("/model/vocab", json!([["a", -1.0]])), &["another form"]);
    refused(&with("/model/type", json!("Neural")), &["Neural", "BPE"]);
    refused(&with("/model/merges/0", json!(["l", "zzz"])), &["merge 0", "zzz"]);
    refused(&with("/model/merges/0", json!("l o w")), &["not two tokens"]);
    refused(&with("/model/merges/0", json!(7)), &["merge"]);
    refused(&with("/added_tokens/0/content", json!("")), &["some text"]);
    refused(&with("/added_tokens/0/id", json!(3)), &["with id 3"]);
    refused(&with("/added_tokens/0/id", json!(4_000_000_000u32)), &["4000000000"]);
    let mut twice = small();
    let first = twice["added_tokens"][0].clone();
    twice["added_tokens"].as_array_mut().unwrap().push(first);
    refused(&twice, &["twice"]);
    // a key that is there twice is not silently the last
    let text = small().to_string().replacen("\"vocab\":{", "\"vocab\":{\"a\":9999,", 1);
    assert!(Subword::parse(&text).unwrap_err().contains("twice"));
    refused(&with("/model/vocab/a", json!("x".repeat(10))), &["invalid type"]);
    let long = "x".repeat(70_000);
    let mut json = small();
    json["model"]["vocab"][long.as_str()] = json!(9999);
    refused(&json, &["70000 bytes"]);
}

/// Files of the kinds that have made the crate panic (its issue 2094), and others like them.
#[test]
fn what_makes_the_crate_panic_is_an_error_or_works() {
    let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -2.0]]});
    let file = |changes: &[(&str, Value)]| {
        let mut json = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": null, "model": unigram});
        changes.iter().for_each(|(key, value)| json[*key] = value.clone());
        json.to_string()
    };
    let crafted = [
        file(&[("truncation", json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 5}))]),
        file(&[(
            "padding",
            json!({"strategy": {"Fixed": 0}, "direction": "Right", "pad_to_multiple_of": 0, "pad_id": 0, "pad_type_id": 0, "pad_token": "p"}),
        )]),
        file(&[(
            "padding",
            json!({"strategy": {"Fixed": 1u64 << 50}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "p"}),
        )]),
        file(&[("decoder", json!({"type": "Strip", "content": "a", "start": 1u64 << 60, "stop": 1u64 << 60}))]),
        file(&[("decoder", json!({"type": "CTC", "pad_token": "", "word_delimiter_token": "", "cleanup": true}))]),
        file(&[("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}))]),
        file(&[("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "/////////////w=="}))]),
        file(&[("normalizer", json!({"type": "Replace", "pattern": {"Regex": "(a*)*b"}, "content": "x"}))]),
        file(&[("normalizer", json!({"type": "Replace", "pattern": {"Regex": "((((a{1000}){1000}){1000}"}, "content": "x"}))]),
        file(&[("pre_tokenizer", json!({"type": "FixedLength", "length": 0}))]),
        file(&[("pre_tokenizer", json!({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false}))]),
        file(&[(
            "post_processor",
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "X", "type_id": 0}}], "pair": [], "special_tokens": {}}),
        )]),
        file(&[(
            "model",
            json!({"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [], "unk_token": "z", "continuing_subword_prefix": "##########"}),
        )]),
        file(&[("model", json!({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "continuing_subword_prefix": "é"}))]),
        file(&[(
            "model",
            json!({"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}),
        )]),
        file(&[("model", json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "none"}))]),
        file(&[("model", json!({"type": "Unigram", "unk_id": null, "vocab": [["a", -1.0]]}))]),
        file(&[("model", json!({"type": "Unigram", "unk_id": 7, "vocab": [["a", -1.0]]}))]),
        file(&[("model", json!({"type": "Unigram", "unk_id": 0, "vocab": [["", 0.0], ["a", -1.0]]}))]),
    ];
    let (mut refused, mut ran) = (0, 0);
    for text in &crafted {
        match exercise(text) {
            Some(()) => ran += 1,
            None => refused += 1,
        }
    }
    assert!(refused >= 3 && ran >= 5, "{refused} refused, {ran} ran");
}

/// Loads, encodes and decodes, as far as there are no errors.
fn exercise(text: &str) -> Option<()> {
    let tokenizer = Tokenizer::parse(text).ok()?;
    for sample in ["", "a", "ab ba\n", "aaaa aab é🥚\0 ##", "<unk>[UNK]"] {
        let Ok(ids) = tokenizer.encode_with(sample, Specials::Token) else { continue };
        let _ = tokenizer.decode(&ids);
        let mut decoder = Decoder::new(&tokenizer);
        ids.iter().chain(&[-1, 0, 1, i32::MAX]).for_each(|id| drop(decoder.push(*id)));
        decoder.finish();
        let _ = (tokenizer.encode_in(sample, Specials::Text, 2), tokenizer.start(), tokenizer.end_of_text());
    }
    Some(())
}

/// A file of any kind, with some of its values replaced by others.
fn mutated(json: &Value, random: &mut Random) -> Value {
    let odd = |r: &mut Random| match r.below(9) {
        0 => Value::Null,
        1 => json!(""),
        2 => json!(-1),
        3 => json!(1u64 << 62),
        4 => json!([]),
        5 => json!({}),
        6 => json!("\u{0}é"),
        7 => json!(true),
        _ => json!(1e300),
    };
    match json {
        _ if random.below(60) == 0 => odd(random),
        Value::Array(list) => {
            let stay: Vec<&Value> = list.iter().filter(|_| random.below(97) > 0).collect();
            Value::Array(stay.into_iter().map(|v| mutated(v, random)).collect())
        }
        Value::Object(map) => {
            Value::Object(map.iter().map(|(k, v)| (k.clone(), if random.below(2) == 0 { mutated(v, random) } else { v.clone() })).collect())
        }
        other => other.clone(),
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut random = Random(21);
    let mut word_piece = WordCounts::new(llm::text::Splitter::Bert { lowercase: true }, 1, usize::MAX);
    word_piece.add("low lower lowest").unwrap();
    let word_piece = Learning { algorithm: llm::text::Algorithm::WordPiece, vocabulary: 60, ..Learning::default() }
        .learn(&word_piece.finish().unwrap(), &mut |_| true);
    let seeds = [small(), serde_json::from_str(word_piece.unwrap().json()).unwrap()];
    let rounds = if std::env::var("EGGCORN_FUZZ").is_ok_and(|f| f == "heavy") { 20_000 } else { 400 };
    let (mut refused, mut ran) = (0, 0);
    for round in 0..rounds {
        let json = mutated(&seeds[round % 2], &mut random).to_string();
        let cut = if random.below(10) == 0 { random.below(json.len()) } else { json.len() };
        match exercise(&json[..json.floor_char_boundary(cut)]) {
            Some(()) => ran += 1,
            None => refused += 1,
        }
    }
    assert!(refused > rounds / 10 && ran > rounds / 50, "{refused} refused, {ran} ran");
}

#[test]
fn other_projects_files_are_checked() {
    let d = Directory::new("ranks");
    let open = |name: &str, content: &[u8]| Tokenizer::open(d.write(name, content).as_ref(), Some(Split::Gpt2)).map(|t| t.size()).map_err(|e| e.0);
    let refused = |name: &str, content: &[u8], words: &[&str]| {
        let error = open(name, content).unwrap_err();
        words.iter().chain(&[name]).for_each(|w| assert!(error.contains(w), "{error}\nshould have {w}"));
    };
    let ranks: String = (0..=255u8).map(|b| format!("{} {b}\n", base64(&[b]))).collect();
    assert_eq!(open("good.tiktoken", ranks.as_bytes()), Ok(256));
    refused("a.tiktoken", b"", &["byte 0x00"]);
    refused("a.tiktoken", b"YQ==\n", &["line 1", "no rank"]);
    refused("a.tiktoken", b"!!! 3\n", &["line 1", "base64"]);
    refused("a.tiktoken", b"YQ== 99999999999\n", &["out of range"]);
    refused("a.tiktoken", b"YQ== 1\nYg== 1\n", &["line 2", "another's"]);
    refused("a.tiktoken", format!("{ranks}YQ== 256\n").as_bytes(), &["twice"]);
    // whose number of ranks does not tell, and nothing else does
    let error = Tokenizer::open(d.write("b.tiktoken", &ranks).as_ref(), None).unwrap_err().0;
    assert!(error.contains("--split"), "{error}");
    refused("t.bin", b"\x01\0", &["ends within"]);
    refused("t.bin", &[&1u32.to_le_bytes()[..], &0f32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat(), &["4294967295 bytes"]);
    refused("t.bin", &1u32.to_le_bytes(), &["0 tokens"]);
    d.write("vocab.bpe", "#version: 0.2\na b\n");
    refused("encoder.json", b"{\"a\": 0, \"b\": 0}", &["id 0"]);
    refused("encoder.json", b"{\"a\": 0}", &["byte 0x"]);
    assert!(Tokenizer::open(d.0.join("none.json").as_ref(), None).unwrap_err().0.contains("no such file"));
    std::fs::create_dir(d.0.join("empty")).unwrap();
    assert!(Tokenizer::open(&d.0.join("empty"), None).unwrap_err().0.contains("tokenizer.json"));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    let [b] = bytes else { unreachable!("one byte is enough here") };
    format!("{}{}==", digit(b >> 2), digit((b & 3) << 4))
}

/// llama2.c's vocabulary, and what it makes of a text: a space before, pieces by score, bytes of what is unknown.
#[test]
fn llama2c_pieces() {
    let mut bytes = 4u32.to_le_bytes().to_vec();
    let mut push = |piece: &[u8], score: f32| {
        bytes.extend(score.to_le_bytes());
        bytes.extend((piece.len() as u32).to_le_bytes());
        bytes.extend(piece);
    };
    ["<unk>", "\n<s>\n", "\n</s>\n"].iter().for_each(|t| push(t.as_bytes(), 0.0));
    (0..=255u8).for_each(|b| push(format!("<0x{b:02X}>").as_bytes(), 0.0));
    for (i, piece) in ["he", "ll", "hell", "hello", " hello", " ", "h", "e", "l", "o", "el"].iter().enumerate() {
        push(piece.as_bytes(), -(i as f32));
    }
    let d = Directory::new("llama2c");
    let tokenizer = Tokenizer::open(d.write("tokenizer.bin", &bytes).as_ref(), None).unwrap();
    assert_eq!(tokenizer.size(), 270);
    // of two pieces that share a letter the one of higher score
    assert_eq!(tokenizer.encode("hel").unwrap(), [264, 259, 267]);
    assert_eq!(tokenizer.encode("hello").unwrap(), [263]);
    assert_eq!(tokenizer.encode("hell!").unwrap(), [264, 261, 3 + 33]);
    assert_eq!(tokenizer.decode(&tokenizer.encode("hello hello é").unwrap()), "hello hello é");
}
