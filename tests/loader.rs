//! Corpora prepared as shards: the same as in memory, mixed by weights, resumed in the middle of an epoch, refused where they are damaged.

use crate::cli::{Directory, SMALL, fails, text, works};
use ir::names::{LOSS, LOSS_SUM};
use llm::{
    Batch, Config, Data, DataConfig, Header, Index, IndexFile, IndexParts, IndexTokenizer, Mode, Objective, Outcome, Packing, Shards, Source, Stage,
    TrainConfig, Trainer, Values, Width,
};
use models::{Gpt, Model};
use passes::{Goal, Opt, Options, compile, optimize};
use runtime::{Pool, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use xxhash_rust::xxh3::xxh3_128;

const VOCABULARY: usize = 1000;

/// A token file's bytes.
fn bytes(tokens: &[i32], width: Width, header: Header) -> Vec<u8> {
    let mut bytes = vec![];
    if header == Header::LlmC {
        let [magic, version] = width.magic();
        bytes.extend([magic, version, tokens.len() as u32].iter().flat_map(|w| w.to_le_bytes()));
        bytes.resize(1024, 0);
    }
    match width {
        Width::U16 => bytes.extend(tokens.iter().flat_map(|t| (*t as u16).to_le_bytes())),
        Width::U32 => bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes())),
    }
    bytes
}

fn fingerprint() -> String {
    "0123456789abcdef".repeat(2)
}

/// Writes a file of documents and what its index says of it.
fn write_file(dir: &Path, name: &str, documents: &[Vec<i32>], width: Width, header: Header) -> IndexFile {
    let content = bytes(&documents.concat(), width, header);
    std::fs::write(dir.join(name), &content).unwrap();
    let mut starts = vec![0u64];
    documents.iter().for_each(|d| starts.push(starts[starts.len() - 1] + d.len() as u64));
    std::fs::write(dir.join(name).with_extension("docs"), starts.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let checksum = format!("{:032x}", xxh3_128(&content));
    IndexFile { file: name.into(), tokens: starts[starts.len() - 1], documents: documents.len() as u64, checksum }
}

/// Writes a folder: the documents of each part, in so many files each.
fn folder(dir: &Path, train: &[Vec<i32>], held_out: &[Vec<i32>], width: Width, header: Header, files: usize) -> Index {
    let part = |name: &str, documents: &[Vec<i32>]| {
        let each = documents.len().div_ceil(files).max(1);
        let one = |(i, d): (usize, &[Vec<i32>])| write_file(dir, &format!("{name}-{i}.bin"), d, width, header);
        documents.chunks(each).enumerate().map(one).collect::<Vec<_>>()
    };
    let tokenizer = IndexTokenizer { file: "eggcorn-tokenizer.json".into(), fingerprint: fingerprint(), vocabulary: VOCABULARY, end_of_text: None };
    let parts = IndexParts { train: part("train", train), held_out: part("val", held_out) };
    let index = Index { format: 1, tokenizer, dtype: width, header, parts };
    std::fs::write(dir.join("index.json"), serde_json::to_string_pretty(&index).unwrap()).unwrap();
    index
}

/// Documents of differing lengths, some of them empty.
fn documents(seed: u64, count: u64) -> Vec<Vec<i32>> {
    let length = |i: u64| llm::random(seed, i) % 23;
    let token = |i: u64, j: u64| (llm::random(seed ^ i, j) % VOCABULARY as u64) as i32;
    (0..count).map(|i| (0..length(i)).map(|j| token(i, j)).collect()).collect()
}

fn data(sources: Vec<Source>, config: &DataConfig, context: usize, rows: u64) -> Data {
    Data::new(sources, config, context, rows).unwrap()
}

fn open(dir: &Directory) -> Source {
    Source::shards("shards", Shards::open(&dir.0, Some(&fingerprint())).unwrap())
}

/// Every held-out batch.
fn held_out(d: &Data, rows: usize, context: usize) -> Vec<Batch> {
    let batches = d.held_out(rows, context).unwrap();
    (0..batches.count()).map(|i| batches.batch(i).unwrap()).collect()
}

/// In two bytes or four, behind a header or not, in one file or many: batches are those of the same tokens in memory.
#[test]
fn shards_are_as_tokens_in_memory() {
    let (train, rest) = (documents(1, 60), documents(2, 14));
    let (all, tail) = (train.concat(), rest.concat());
    let share = tail.len() as f64 / (all.len() + tail.len()) as f64;
    let context = 7;
    let memory = Data::split([all.clone(), tail.clone()].concat(), share - 1e-9, context).unwrap();
    assert_eq!(memory.sources()[0].train.count(), all.len() as u64);
    for width in [Width::U16, Width::U32] {
        for header in [Header::Absent, Header::LlmC] {
            for files in [1, 3, 60] {
                let dir = Directory::new("loader-equal");
                folder(&dir.0, &train, &rest, width, header, files);
                Shards::verify(&dir.0).unwrap();
                let shards = data(vec![open(&dir)], &DataConfig::default(), context, 100);
                for step in 0..60 {
                    assert_eq!(shards.batch(5, step, 4, context).unwrap(), memory.batch(5, step, 4, context).unwrap());
                }
                assert_eq!(held_out(&shards, 3, context), held_out(&memory, 3, context));
            }
        }
    }
}

/// The files that nanoGPT and llm.c write have no index; what is held out stands beside, or at the end.
#[test]
fn plain_files_are_read() {
    let dir = Directory::new("loader-plain");
    let tokens: Vec<i32> = (0..900).collect();
    for (width, header) in [(Width::U16, Header::Absent), (Width::U16, Header::LlmC), (Width::U32, Header::LlmC)] {
        let path = dir.write("tiny_train.bin", bytes(&tokens[..800], width, header));
        let path = Path::new(&path);
        let _ = std::fs::remove_file(dir.path("tiny_val.bin"));
        let cut = Shards::plain(path, VOCABULARY, 0.25).unwrap();
        assert_eq!((cut.train.read(0..600).unwrap(), cut.held_out.read(0..200).unwrap()), (tokens[..600].to_vec(), tokens[600..800].to_vec()));
        assert_eq!((cut.train.count(), cut.held_out.count()), (600, 200));
        dir.write("tiny_val.bin", bytes(&tokens[800..], width, header));
        let beside = Shards::plain(path, VOCABULARY, 0.25).unwrap();
        assert_eq!((beside.train.count(), beside.held_out.read(0..100).unwrap()), (800, tokens[800..].to_vec()));
        assert_ne!(beside.fingerprint, cut.fingerprint);
        // another token is another text
        let mut other = tokens.clone();
        other[500] += 1;
        dir.write("tiny_train.bin", bytes(&other[..800], width, header));
        assert_ne!(Shards::plain(path, VOCABULARY, 0.25).unwrap().fingerprint, beside.fingerprint);
    }
    let path = dir.write("odd.bin", b"abc");
    let error = Shards::plain(Path::new(&path), VOCABULARY, 0.1).unwrap_err().to_string();
    assert!(error.contains("odd.bin") && error.contains("3 bytes") && error.contains("is it a text?"), "{error}");
    let short = &bytes(&tokens, Width::U16, Header::LlmC)[..2000];
    let path = dir.write("short.bin", short);
    let error = Shards::plain(Path::new(&path), VOCABULARY, 0.1).unwrap_err().to_string();
    assert!(error.contains("cut short") && error.contains("900 tokens") && error.contains("2824") && error.contains("2000"), "{error}");
}

/// A corpus of no token, of one, of one window and of one more.
#[test]
fn the_smallest_corpora() {
    let context = 5;
    for tokens in [0usize, 1, 5, 6, 7, 10, 11] {
        let dir = Directory::new("loader-small");
        let document = vec![(0..tokens as i32).collect::<Vec<_>>()];
        folder(&dir.0, &document, &[(0..6).collect()], Width::U16, Header::Absent, 1);
        Shards::verify(&dir.0).unwrap();
        let made = Data::new(vec![open(&dir)], &DataConfig::default(), context, 10);
        if tokens <= context {
            let error = made.unwrap_err().to_string();
            assert!(error.contains(&format!("training part of shards has {tokens} tokens")) && error.contains("needs 6"), "{error}");
            continue;
        }
        let made = made.unwrap();
        let batch = made.batch(1, 0, 20, context).unwrap();
        for (ids, labels) in batch.i32s("input_ids").chunks(context).zip(batch.i32s("labels").chunks(context)) {
            assert!((0..context).all(|i| ids[i] == ids[0] + i as i32 && labels[i] == ids[i] + 1 && labels[i] < tokens as i32));
        }
        assert_eq!(held_out(&made, 2, context).len(), 1);
    }
    // no file at all
    let dir = Directory::new("loader-none");
    folder(&dir.0, &[], &[], Width::U32, Header::Absent, 1);
    let error = Data::new(vec![open(&dir)], &DataConfig::default(), context, 10).unwrap_err().to_string();
    assert!(error.contains("has 0 tokens"), "{error}");
}

#[track_caller]
fn refused(dir: &Directory, words: &[&str]) {
    let error = Shards::open(&dir.0, Some(&fingerprint())).unwrap_err().to_string();
    assert!(words.iter().all(|w| error.contains(w)), "{error}\nshould have {words:?}");
}

/// Whatever is wrong with a folder is said with the file, what was expected and what to try.
#[test]
fn damaged_folders_are_refused() {
    let dir = Directory::new("loader-damaged");
    refused(&dir, &["index.json", "no such file", "prepared"]);
    let (train, rest) = (documents(1, 20), documents(2, 5));
    let index = folder(&dir.0, &train, &rest, Width::U16, Header::LlmC, 2);
    let good = std::fs::read_to_string(dir.0.join("index.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        std::fs::write(dir.0.join("index.json"), good.replacen(from, to, 1)).unwrap();
    };
    let tokens = index.parts.train[0].tokens;
    for (from, to, words) in [
        ("\"format\": 1", "\"format\": 2", &["format is 2", "format 1", "again"][..]),
        ("\"u16\"", "\"u8\"", &["'u8' is no type of tokens", "u16 or u32"]),
        ("\"llm.c\"", "\"gguf\"", &["'gguf' is no header", "none or llm.c"]),
        ("\"format\"", "\"size\": 1, \"format\"", &["size"]),
        ("train-0.bin", "../train-0.bin", &["\"../train-0.bin\"", "no plain name"]),
        ("train-0.bin", "a\\\\b", &["no plain name"]),
        ("train-0.bin", "", &["no plain name"]),
        ("train-0.bin", "..", &["no plain name"]),
        ("eggcorn-tokenizer.json", "/etc/passwd", &["no plain name"]),
        ("train-1.bin", "train-0.bin", &["train-0.bin", "named twice"]),
        ("train-0.bin", "train-7.bin", &["train-7.bin", "cannot be read"]),
        (&index.parts.train[0].checksum, "abc", &["checksum of train-0.bin", "\"abc\"", "32 hexadecimal digits"]),
        (&fingerprint(), &fingerprint().to_uppercase(), &["fingerprint", "32 hexadecimal digits"]),
        (&fingerprint(), &"f".repeat(32), &["another tokenizer", &fingerprint(), &"f".repeat(32), "prepare the corpus again"]),
        ("\"vocabulary\": 1000", "\"vocabulary\": 0", &["vocabulary is 0", "expected 1 to 2147483647"]),
        ("\"vocabulary\": 1000", "\"vocabulary\": 2147483648", &["vocabulary is 2147483648"]),
        ("\"end_of_text\": null", "\"end_of_text\": 1000", &["end of text is 1000", "0..1000"]),
        (&format!("\"tokens\": {tokens}"), "\"tokens\": 9", &["train-0.bin", "too long", "9 tokens are 1042 bytes"]),
        (&format!("\"tokens\": {tokens}"), "\"tokens\": 18446744073709551615", &["18446744073709551615 tokens", "at most"]),
        ("\"documents\": 10", "\"documents\": 11", &["train-0.docs", "cut short", "11 documents are 96 bytes"]),
        ("\"documents\": 10", "\"documents\": 9", &["train-0.docs", "too long"]),
        ("{", "[", &["no index of shards"]),
    ] {
        with(from, to);
        refused(&dir, words);
    }
    std::fs::write(dir.0.join("index.json"), &good).unwrap();
    Shards::verify(&dir.0).unwrap();
    // files that are not what the index says
    let damage = |name: &str, change: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let path = dir.0.join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut other = whole.clone();
        change(&mut other);
        std::fs::write(&path, other).unwrap();
        refused(&dir, words);
        std::fs::write(&path, whole).unwrap();
    };
    damage("train-1.bin", &|b| b.truncate(b.len() - 1), &["train-1.bin", "cut short", "write the shards again"]);
    damage("train-1.bin", &|b| b.push(0), &["train-1.bin", "too long"]);
    damage("val-0.bin", &|b| b.clear(), &["val-0.bin", "cut short", "it has 0"]);
    damage("val-0.bin", &|b| b[0] ^= 1, &["val-0.bin", "llm.c's header"]);
    damage("val-0.bin", &|b| b[8] ^= 1, &["val-0.bin", "llm.c's header", "u16"]);
    damage("train-0.docs", &|b| b[0] = 1, &["train-0.docs", "damaged", "from token 1"]);
    damage("train-0.docs", &|b| b[80] ^= 1, &["train-0.docs", "damaged"]);
    damage("train-0.docs", &|b| b.truncate(b.len() - 1), &["train-0.docs", "cut short"]);
    // a folder, a pipe
    std::fs::rename(dir.0.join("val-0.bin"), dir.0.join("kept")).unwrap();
    std::fs::create_dir(dir.0.join("val-0.bin")).unwrap();
    refused(&dir, &["val-0.bin", "a directory"]);
}

/// What lengths do not show is found where it is read: ids beyond the vocabulary, starts of documents, checksums, and a file that was cut
/// while it was open.
#[test]
fn damaged_tokens_are_found() {
    let dir = Directory::new("loader-ids");
    let train: Vec<Vec<i32>> = vec![(0..40).collect(), (40..100).collect()];
    folder(&dir.0, &train, &[(0..20).collect()], Width::U16, Header::Absent, 1);
    let path = dir.0.join("train-0.bin");
    let whole = std::fs::read(&path).unwrap();
    let change = |at: usize, to: u8| {
        let mut other = whole.clone();
        other[at] = to;
        std::fs::write(&path, other).unwrap();
    };
    // token 37 is 37 + 0x0400
    change(75, 4);
    let d = data(vec![open(&dir)], &DataConfig::default(), 8, 100);
    let errors: Vec<String> = (0..40).filter_map(|step| d.batch(1, step, 1, 8).err().map(|e| e.to_string())).collect();
    assert!(!errors.is_empty() && errors.len() < 40, "{errors:?}");
    for e in errors {
        assert!(e.contains("train-0.bin: token 37 is 1061") && e.contains("0..1000") && e.contains("another tokenizer"), "{e}");
    }
    assert!(Shards::verify(&dir.0).unwrap_err().to_string().contains("token 37 is 1061"));
    // an id that is one, but another
    change(74, 99);
    let error = Shards::verify(&dir.0).unwrap_err().to_string();
    assert!(error.contains("train-0.bin") && error.contains("checksum"), "{error}");
    std::fs::write(&path, &whole).unwrap();
    Shards::verify(&dir.0).unwrap();
    // an id that is no i32
    let wide = Directory::new("loader-wide");
    folder(&wide.0, &[(0..6).map(|i| if i == 3 { -1 } else { i }).collect()], &[(0..9).collect()], Width::U32, Header::Absent, 1);
    let error = data(vec![open(&wide)], &DataConfig::default(), 5, 1).batch(1, 0, 1, 5).unwrap_err().to_string();
    assert!(error.contains("token 3 is 4294967295"), "{error}");
    // starts of documents that go back
    let docs = dir.0.join("train-0.docs");
    std::fs::write(&docs, [0u64, 101, 100].iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let error = Shards::verify(&dir.0).unwrap_err().to_string();
    assert!(error.contains("train-0.docs") && error.contains("document 0 is tokens 0 to 101 of 100"), "{error}");
    let three = Directory::new("loader-starts");
    folder(&three.0, &[(0..40).collect(), (40..70).collect(), (70..100).collect()], &[(0..20).collect()], Width::U16, Header::Absent, 1);
    std::fs::write(three.0.join("train-0.docs"), [0u64, 70, 30, 100].iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<_>>()).unwrap();
    let error = Shards::verify(&three.0).unwrap_err().to_string();
    assert!(error.contains("document 1 is tokens 70 to 30 of 100"), "{error}");
    // a file that is cut while it is open is an error, and no signal
    let d = data(vec![open(&dir)], &DataConfig::default(), 8, 100);
    std::fs::write(&path, b"").unwrap();
    let error = d.batch(1, 0, 1, 8).unwrap_err().to_string();
    assert!(error.contains("train-0.bin") && error.contains("cut short since it was opened"), "{error}");
}

/// A source whose tokens are all one id, so that a row says where it is from.
fn constant(id: i32, tokens: usize) -> Source {
    Source::text(&format!("source {id}"), vec![id; tokens], 0.2)
}

fn mixed(weights: &[f64], curriculum: &[Stage], rows: u64) -> Data {
    let sources = (0..weights.len() as i32).map(|i| constant(i, 500 * (i as usize + 1))).collect();
    data(sources, &DataConfig { weights: weights.to_vec(), curriculum: curriculum.to_vec(), ..DataConfig::default() }, 4, rows)
}

/// The sources of rows.
fn dealt(d: &Data, seed: u64, step: u64, rows: usize) -> Vec<i32> {
    d.batch(seed, step, rows, 4).unwrap().i32s("input_ids").chunks(4).map(|row| row[0]).collect()
}

fn count(dealt: &[i32], source: i32) -> usize {
    dealt.iter().filter(|s| **s == source).count()
}

/// Of each block of 1,024 rows a source has its share to a row, wherever batches begin, and in another order under another seed.
#[test]
fn shares_are_exact_in_each_block() {
    let d = mixed(&[0.7, 0.2, 0.1], &[], 4096);
    let all = dealt(&d, 3, 0, 4096);
    for block in all.chunks(1024) {
        // 716.8, 204.8, 102.4
        assert_eq!([0, 1, 2].map(|s| count(block, s)), [717, 205, 102]);
    }
    assert_ne!(all[..1024], all[1024..2048], "no two blocks are alike");
    assert_ne!(all, dealt(&d, 4, 0, 4096));
    // rows side by side are of different sources: of runs of one source none is long
    let runs: Vec<usize> = all.chunk_by(|a, b| a == b).map(<[i32]>::len).collect();
    assert!(runs.iter().max().unwrap() < &40 && runs.len() > 1500, "{} runs", runs.len());
    let pieces: Vec<i32> = (0..128).flat_map(|step| dealt(&d, 3, step, 32)).collect();
    assert_eq!(pieces, all, "batches of another size are the same rows");
    // weights are relative, and equal where there are none
    assert_eq!(dealt(&mixed(&[7.0, 2.0, 1.0], &[], 4096), 3, 0, 4096), all);
    let equal = data(vec![constant(0, 100), constant(1, 100)], &DataConfig::default(), 4, 10);
    assert_eq!(count(&dealt(&equal, 1, 0, 1024), 0), 512);
    let none = dealt(&mixed(&[1.0, 0.0], &[], 100), 1, 0, 2000);
    assert_eq!(count(&none, 0), 2000);
}

/// Each source's rows are its own in order, as if it were alone: each of its windows once an epoch.
#[test]
fn mixed_sources_have_their_own_epochs() {
    let texts = [0..1000, 1000..1500, 1500..1700].map(|r: std::ops::Range<i32>| r.collect::<Vec<i32>>());
    let config = DataConfig { weights: vec![0.5, 0.3, 0.2], ..DataConfig::default() };
    let sources = || texts.iter().map(|t| Source::text("part", t.clone(), 0.2)).collect::<Vec<_>>();
    let (context, seed) = (4, 8);
    let d = data(sources(), &config, context, 3000);
    let rows = d.batch(seed, 0, 3000, context).unwrap();
    let starts: Vec<i32> = rows.i32s("input_ids").chunks(context).map(|r| r[0]).collect();
    for (i, (range, text)) in [0..1000, 1000..1500, 1500..1700].into_iter().zip(&texts).enumerate() {
        let own: Vec<i32> = starts.iter().copied().filter(|s| range.contains(s)).collect();
        let windows = (text.len() * 8 / 10 - context) / context;
        for epoch in own.chunks_exact(windows) {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert!(sorted.windows(2).all(|w| w[1] == w[0] + context as i32), "source {i}: {sorted:?}");
        }
        let epochs = d.epochs(seed, 3000, context).unwrap();
        assert_eq!(epochs[i], own.len() as f64 / windows as f64);
    }
    // held-out tokens of all, one source after another, each asked once
    let asked: Vec<i32> = held_out(&d, 3, context).iter().flat_map(|b| b.i32s("labels").to_vec()).filter(|l| *l >= 0).collect();
    let want: Vec<i32> = texts.iter().flat_map(|t| t[t.len() * 8 / 10 + 1..].to_vec()).collect();
    assert_eq!(asked, want);
}

/// Other weights from a share of the run on, exact from the first row of the stage, and no row of a source is lost or there twice.
#[test]
fn a_curriculum_changes_weights_on_the_way() {
    let stage = |from, a, b| Stage { from, weights: vec![a, b] };
    let d = mixed(&[1.0, 0.0], &[stage(0.25, 0.5, 0.5), stage(0.75, 0.0, 1.0)], 8000);
    let all = dealt(&d, 1, 0, 9000);
    assert_eq!([count(&all[..2000], 0), count(&all[2000..3024], 0), count(&all[3024..4048], 1), count(&all[6000..], 1)], [2000, 512, 512, 3000]);
    let first = mixed(&[0.5, 0.5], &[stage(0.0, 1.0, 0.0)], 100);
    assert_eq!(count(&dealt(&first, 1, 0, 100), 0), 100);
    // numbers go on across stages: the windows of a source are those it has alone
    let text = || Source::text("a", (0..900).collect(), 0.2);
    let other = || Source::text("b", vec![999; 900], 0.2);
    let config = DataConfig { curriculum: vec![stage(0.05, 0.2, 0.8), stage(0.06, 0.9, 0.1), stage(0.8, 0.4, 0.6)], ..DataConfig::default() };
    let d = data(vec![text(), other()], &config, 4, 5000);
    let starts = |d: &Data, rows: usize| d.batch(7, 0, rows, 4).unwrap().i32s("input_ids").chunks(4).map(|r| r[0]).collect::<Vec<_>>();
    let own: Vec<i32> = starts(&d, 5000).into_iter().filter(|s| *s != 999).collect();
    assert_eq!(own, starts(&data(vec![text()], &DataConfig::default(), 4, 5000), own.len()));
    // from anywhere, as if from the beginning
    for (step, rows) in [(3, 500), (150, 10), (155, 10), (1, 2500)] {
        let from = step as usize * rows * 4;
        assert_eq!(d.batch(7, step, rows, 4).unwrap().i32s("labels"), &d.batch(7, 0, 5000, 4).unwrap().i32s("labels")[from..from + rows * 4]);
    }
}

#[test]
fn weights_that_are_none_are_refused() {
    let made = |weights: Vec<f64>, curriculum: Vec<Stage>| {
        let config = DataConfig { weights, curriculum, ..DataConfig::default() };
        Data::new(vec![constant(0, 100), constant(1, 100)], &config, 4, 10).unwrap_err().to_string()
    };
    let stage = |from: f64, weights: &[f64]| Stage { from, weights: weights.to_vec() };
    for (weights, curriculum, words) in [
        (vec![1.0], vec![], &["data.weights has 1 numbers", "2 sources"][..]),
        (vec![1.0, -1.0], vec![], &["a weight is -1.0", "0.0 to 1e30"]),
        (vec![1.0, f64::NAN], vec![], &["a weight is NaN"]),
        (vec![1.0, f64::INFINITY], vec![], &["a weight is inf"]),
        (vec![0.0, 0.0], vec![], &["no weight is above 0.0"]),
        (vec![1.0, 1e-4], vec![], &["one part in 1024"]),
        (vec![], vec![stage(1.0, &[1.0, 1.0])], &["from 1.0", "share of the run"]),
        (vec![], vec![stage(-0.1, &[1.0, 1.0])], &["from -0.1"]),
        (vec![], vec![stage(0.5, &[1.0, 1.0]), stage(0.5, &[1.0, 2.0])], &["grows from stage to stage"]),
        (vec![], vec![stage(0.5, &[1.0, 1.0, 1.0])], &["a stage of data.curriculum has 3"]),
        (vec![], vec![stage(0.5, &[])], &["no weight is above"]),
    ] {
        let error = made(weights, curriculum);
        assert!(words.iter().all(|w| error.contains(w)), "{error}\nshould have {words:?}");
    }
}

/// Documents that say which they are: document i is the tokens of i, and none is shorter than it says.
fn numbered(lengths: &[usize]) -> Vec<Vec<i32>> {
    lengths.iter().enumerate().map(|(i, n)| vec![i as i32; *n]).collect()
}

fn packed() -> DataConfig {
    DataConfig { packing: Packing::BestFit, ..DataConfig::default() }
}

/// Of a packed row each piece: the document's token and how many places it takes. Checks what stands beside.
fn pieces(batch: &Batch, context: usize) -> Vec<Vec<(i32, usize)>> {
    let column = |name: &str| batch.i32s(name).chunks(context).map(<[i32]>::to_vec).collect::<Vec<_>>();
    let (ids, labels, documents, positions) = (column("input_ids"), column("labels"), column("document_ids"), column("position_ids"));
    let row = |r: usize| {
        let filled = documents[r].iter().position(|d| *d == 0).unwrap_or(context);
        let empty = |x: &[i32], with: i32| x[filled..].iter().all(|v| *v == with);
        assert!(empty(&ids[r], 0) && empty(&labels[r], -100) && empty(&documents[r], 0) && empty(&positions[r], 0));
        let mut at = 0;
        let piece = |(number, same): (usize, &[i32])| {
            let own = at..at + same.len();
            at = own.end;
            assert_eq!((same[0], &positions[r][own.clone()]), (number as i32 + 1, &(0..same.len() as i32).collect::<Vec<_>>()[..]));
            assert!(ids[r][own.clone()].iter().chain(&labels[r][own.clone()]).all(|t| *t == ids[r][own.start]), "no label is another document's");
            (ids[r][own.start], same.len())
        };
        documents[r][..filled].chunk_by(|a, b| a == b).enumerate().map(piece).collect()
    };
    (0..ids.len()).map(row).collect()
}

/// A document goes into the fullest row that has room: into the emptiest, these six would take three rows.
#[test]
fn documents_fit_best() {
    let dir = Directory::new("loader-best");
    folder(&dir.0, &numbered(&[8, 5, 4, 3, 3, 3]), &numbered(&[3]), Width::U16, Header::Absent, 1);
    let d = data(vec![open(&dir)], &packed(), 10, 1);
    assert_eq!(d.epochs(1, 1, 10).unwrap(), [0.5]);
}

/// Each epoch has each document once, whole or cut where it is longer than a row, and rows are as few as they can nearly be.
#[test]
fn packed_rows_have_each_document_once() {
    let lengths: Vec<usize> = (0..900).map(|i| (llm::random(4, i) % 40) as usize).collect();
    let dir = Directory::new("loader-packed");
    folder(&dir.0, &numbered(&lengths), &numbered(&[3, 9, 1, 0, 30]), Width::U16, Header::Absent, 4);
    let (context, seed) = (16, 5);
    let d = data(vec![open(&dir)], &packed(), context, 1000);
    let places: usize = lengths.iter().map(|n| n.saturating_sub(1)).sum();
    let rows = (1.0 / d.epochs(seed, 1, context).unwrap()[0]).round() as usize;
    assert!(rows * context >= places && rows * context <= places * 101 / 100, "{places} places in {rows} rows of {context}");
    let mut want: Vec<(i32, usize)> = vec![];
    for (i, n) in lengths.iter().enumerate() {
        let mut left = n.saturating_sub(1);
        while left > 0 {
            want.push((i as i32, left.min(context)));
            left -= left.min(context);
        }
    }
    want.sort();
    let epoch = |from: usize, seed: u64| -> Vec<Vec<(i32, usize)>> {
        // row by row, so that any row is made from nothing
        (from..from + rows).flat_map(|r| pieces(&d.batch(seed, r as u64, 1, context).unwrap(), context)).collect()
    };
    let first = epoch(0, seed);
    let mut have = first.concat();
    have.sort();
    assert_eq!(have, want);
    assert_ne!(first, epoch(0, 6), "another seed, another order");
    assert_eq!(first, epoch(0, seed), "the same again");
    // the second epoch packs others together
    let all: usize = want.iter().map(|w| w.1).sum();
    let mut later = d.batch(seed, 1, rows, context).map(|b| pieces(&b, context)).unwrap().concat();
    let count: usize = later.iter().map(|w| w.1).sum();
    later.sort();
    assert!(later != want || count == all);
    assert_ne!(d.batch(seed, 1, rows, context).unwrap(), d.batch(seed, 0, rows, context).unwrap());
    // held out: all documents of two tokens or more, in whole rows
    let held: Vec<(i32, usize)> = held_out(&d, 2, context).iter().flat_map(|b| pieces(b, context)).flatten().collect();
    let mut held = held;
    held.sort();
    assert_eq!(held, [(0, 2), (1, 8), (4, 13), (4, 16)]);
}

/// Documents of more than one block: each block is packed alone, and blocks are of other documents in each epoch.
#[test]
fn documents_are_packed_in_blocks() {
    let lengths: Vec<usize> = (0..9000).map(|i| 2 + (llm::random(4, i) % 5) as usize).collect();
    let dir = Directory::new("loader-blocks");
    let train: Vec<Vec<i32>> = lengths.iter().enumerate().map(|(i, n)| vec![i as i32; *n]).collect();
    let mut index = folder(&dir.0, &train, &numbered(&[9]), Width::U16, Header::Absent, 3);
    index.tokenizer.vocabulary = 9000;
    std::fs::write(dir.0.join("index.json"), serde_json::to_string(&index).unwrap()).unwrap();
    let (context, seed) = (8, 2);
    let d = data(vec![open(&dir)], &packed(), context, 100);
    let rows = (1.0 / d.epochs(seed, 1, context).unwrap()[0]).round() as u64;
    let read = |from: u64, n: u64| (from..from + n).flat_map(|r| pieces(&d.batch(seed, r, 1, context).unwrap(), context)).collect::<Vec<_>>();
    let first = read(0, rows);
    let seen: BTreeMap<i32, usize> = first.concat().into_iter().collect();
    assert_eq!((seen.len(), first.concat().len()), (9000, 9000), "each once");
    assert!(seen.iter().all(|(i, n)| lengths[*i as usize] == n + 1));
    let half: BTreeSet<i32> = first[..rows as usize / 2].concat().iter().map(|p| p.0).collect();
    let again: BTreeSet<i32> = read(rows, rows / 2).concat().iter().map(|p| p.0).collect();
    let both = half.intersection(&again).count() as f64;
    assert!((both / half.len() as f64 - 0.5).abs() < 0.05, "halves of two epochs share half: {both} of {}", half.len());
    // no document has anything to ask
    let none = Directory::new("loader-unasked");
    folder(&none.0, &numbered(&[1, 0, 1]), &numbered(&[9]), Width::U16, Header::Absent, 1);
    let error = data(vec![open(&none)], &packed(), context, 1).batch(1, 0, 1, context).unwrap_err().to_string();
    assert!(error.contains("no document has two tokens"), "{error}");
}

fn config(model: Model, packing: Packing) -> Config {
    let train =
        TrainConfig { steps: 12, batch: 3, context: 8, warmup: 2.0, eval_every: 5, save_every: 100, eval_batches: 2, ..TrainConfig::default() };
    Config { data: DataConfig { packing, ..DataConfig::default() }, train, ..Config::of(model) }
}

fn gpt() -> Model {
    Model::from(Gpt { vocab_size: VOCABULARY, n_positions: 8, n_layer: 1, n_head: 2, n_embd: 8, ..Gpt::default() })
}

fn trainer(config: &Config, sources: Vec<Source>) -> Trainer {
    Trainer::compiled(config.clone(), sources, Arc::new(Pool::new(1)), &Options::default()).unwrap()
}

fn state(t: &Trainer) -> Vec<(String, Vec<u8>)> {
    t.session().params().map(|(n, _)| (n.to_string(), t.session().param(n).unwrap().to_vec())).collect()
}

/// Stopped in the middle of an epoch, of a block of a mixture and of a block of documents, a run goes on as if nothing had happened; and
/// on shards that are others it does not.
#[test]
fn resuming_on_shards_is_bit_identical() {
    for packing in [Packing::Windows, Packing::BestFit] {
        let (a, b, run) = (Directory::new("loader-a"), Directory::new("loader-b"), Directory::new("loader-run"));
        folder(&a.0, &documents(1, 30), &documents(2, 9), Width::U16, Header::Absent, 2);
        folder(&b.0, &documents(3, 40), &documents(4, 9), Width::U32, Header::LlmC, 1);
        let mut c = config(gpt(), packing);
        c.data.weights = vec![0.6, 0.4];
        c.data.curriculum = vec![Stage { from: 0.5, weights: vec![0.1, 0.9] }];
        let sources = || vec![open(&a), open(&b)];
        let mut whole = trainer(&c, sources());
        let want = whole.run(None, &AtomicBool::new(false), &mut |_| Ok(())).unwrap();
        let stop = AtomicBool::new(false);
        let mut first = trainer(&c, sources());
        let stopped = first.run(Some(&run.0), &stop, &mut |e| {
            stop.store(matches!(e, llm::Event::Step { step: 7, .. }), Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(stopped.unwrap(), Outcome::Stopped(7));
        let mut second = trainer(&c, sources());
        assert_eq!(second.resume(&run.0).unwrap(), 7);
        assert_eq!(second.run(Some(&run.0), &AtomicBool::new(false), &mut |_| Ok(())).unwrap(), want);
        assert!(state(&second) == state(&whole), "{packing}");
        let error = trainer(&c, vec![open(&b), open(&a)]).resume(&run.0).unwrap_err().to_string();
        assert!(error.contains("another text"), "{error}");
        folder(&b.0, &documents(5, 40), &documents(4, 9), Width::U32, Header::LlmC, 1);
        let error = trainer(&c, sources()).resume(&run.0).unwrap_err().to_string();
        assert!(error.contains("another text"), "{error}");
    }
}

/// A model's losses and gradients of rows that documents are packed into are those of the documents one by one.
#[test]
fn a_packed_row_is_its_documents_one_by_one() {
    let (context, batch) = (9, 2);
    let documents: [&[i32]; 6] = [&[1, 5, 2, 7], &[3, 3, 9], &[8, 1, 4, 6, 10, 2, 5, 0, 3], &[2, 9, 9, 1, 0], &[7], &[]];
    let dir = Directory::new("loader-one-by-one");
    let owned: Vec<Vec<i32>> = documents.iter().map(|d| d.to_vec()).collect();
    folder(&dir.0, &owned, &owned, Width::U16, Header::Absent, 1);
    let d = data(vec![open(&dir)], &packed(), context, 2);
    let asked: usize = documents.iter().map(|d| d.len().saturating_sub(1)).sum();
    let rows = d.batch(3, 0, batch, context).unwrap();
    assert_eq!(rows.i32s("labels").iter().filter(|l| **l >= 0).count(), asked, "two rows are an epoch");
    for model in [crate::common::gpt(), crate::common::llama(false), crate::common::llama(true)] {
        let (whole, sum) = gradients(&model, Objective::NextInDocument, &rows, batch, context);
        let mut one_by_one: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let mut losses = 0.0;
        for document in documents.iter().filter(|d| d.len() > 1) {
            let n = document.len() - 1;
            let ids = |x: &[i32]| Values::I32(x.to_vec());
            let alone = Batch::default().with("input_ids", &[1, n], ids(&document[..n])).with("labels", &[1, n], ids(&document[1..]));
            let (own, loss) = gradients(&model, Objective::NextToken, &alone, 1, n);
            losses += loss;
            for (name, values) in own {
                let total = one_by_one.entry(name).or_insert_with(|| vec![0.0; values.len()]);
                total.iter_mut().zip(values).for_each(|(t, v)| *t += v);
            }
        }
        assert!((sum - losses).abs() < 1e-4, "{}: {sum} and {losses}", model.name());
        assert_eq!(whole.keys().collect::<Vec<_>>(), one_by_one.keys().collect::<Vec<_>>());
        for (name, values) in &whole {
            let largest = values.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
            let worst = values.iter().zip(&one_by_one[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-5 * largest, "{} {name}: {worst} of {largest}", model.name());
        }
    }
}

/// The gradient of the loss's sum by every parameter, and the sum, compiled and computed in 32 bits.
fn gradients(model: &Model, objective: Objective, batch: &Batch, rows: usize, context: usize) -> (BTreeMap<String, Vec<f64>>, f64) {
    let graph = objective.bound(model, Mode::Train, rows, context).unwrap().keep_outputs(&LOSS);
    let stages = compile(&graph, Goal::Gradient(LOSS_SUM), &Options::default()).unwrap();
    let mut session = Session::new(stages.last(), Arc::new(Pool::new(1))).unwrap();
    llm::initialise(&mut session, model, 5).unwrap();
    batch.fill(&mut session, &[]).unwrap();
    session.run().unwrap();
    let value = |name: &str| session.output(name).unwrap().f32s().iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let count = |ty: &ir::Type| ty.count();
    let outputs = session.program().outputs.clone();
    let gradients = outputs.iter().filter(|o| o.0.starts_with("grad.")).map(|(n, ty)| (n.clone(), value(n)[..count(ty)].to_vec())).collect();
    (gradients, value(LOSS_SUM)[0])
}

/// The mask of documents is found as part of attention: no value of pairs is kept in memory, forward or backward.
#[test]
fn the_mask_of_documents_is_inside_attention() {
    for model in [crate::common::gpt(), crate::common::llama(false)] {
        let graph = Objective::NextInDocument.bound(&model, Mode::Train, 2, 8).unwrap().keep_outputs(&LOSS);
        let joint = optimize(&graph, Some(LOSS_SUM), Opt::Egg).unwrap().joint.unwrap();
        let count = |name: &str| joint.funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.op.name() == name).count();
        assert_eq!((count("attention"), count("attention_bwd"), count("softmax"), count("equals")), (1, 1, 0, 0), "{joint}");
    }
}

/// The command line on a prepared folder: the tokenizer is the folder's and is copied to the run, which resumes on these tokens alone.
#[test]
fn trained_from_the_command_line() {
    let (dir, other) = (Directory::new("loader-cli"), Directory::new("loader-cli-other"));
    let tokenizer = llm::Tokenizer::of(llm::Kind::Char, &text()).unwrap();
    let prepare = |dir: &Directory, repeat: usize| {
        let document = tokenizer.encode(&text().repeat(repeat)).unwrap();
        let mut index = folder(&dir.0, &[document.clone(), document.clone()], &[document], Width::U16, Header::Absent, 1);
        index.tokenizer.vocabulary = tokenizer.size();
        index.tokenizer.fingerprint = tokenizer.fingerprint();
        dir.write("index.json", serde_json::to_string(&index).unwrap());
        dir.write(llm::Tokenizer::OWN, tokenizer.to_json());
    };
    prepare(&dir, 1);
    prepare(&other, 2);
    let (data, more, run) = (dir.0.display().to_string(), other.0.display().to_string(), dir.path("run"));
    let args = |data: &[&str], run: &str, more: &[&str]| -> Vec<String> {
        let data = data.iter().flat_map(|d| ["--data", d]);
        let all = ["train", "shakespeare-char", "--out", run].into_iter().chain(data).chain(SMALL).chain(more.iter().copied());
        all.map(String::from).collect()
    };
    let works = |args: Vec<String>| works(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let fails = |args: Vec<String>, words: &[&str]| fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    let printed = works(args(&[&data], &run, &[]));
    assert!(printed.contains(&format!("{data}: 3600 tokens, 0.03 times over")), "{printed}");
    assert_eq!(std::fs::read_to_string(Path::new(&run).join(llm::Tokenizer::OWN)).unwrap(), tokenizer.to_json());
    assert!(works(["generate", &run, "--prompt", "the ", "--max-tokens", "5"].map(String::from).to_vec()).starts_with("the "));
    works(args(&[&data], &run, &["--resume", "--set", "train.steps=8"]));
    fails(args(&[&more], &run, &["--resume", "--set", "train.steps=9"]), &["another text", "--data"]);
    // two, mixed; the resolved configuration has the weights, and resuming checks them
    let (a, b, both) = (format!("{data}:0.7"), format!("{more}:0.3"), dir.path("both"));
    let printed = works(args(&[&a, &b], &both, &["--set", "data.packing=best-fit", "--json"]));
    assert!(printed.contains("\"epochs\":") && printed.contains(&format!("\"source\":\"{more}\"")), "{printed}");
    let saved = std::fs::read_to_string(Path::new(&both).join("config.toml")).unwrap();
    assert!(saved.contains("weights = [0.7, 0.3]") && saved.contains("packing = \"best-fit\""), "{saved}");
    let packed = ["--resume", "--set", "train.steps=7", "--set", "data.packing=best-fit"];
    let even = format!("{more}:0.7");
    fails(args(&[&a, &even], &both, &packed), &["another configuration", "data.weights: saved [0.7, 0.3], now [0.7, 0.7]"]);
    works(args(&[&a, &b], &both, &packed));
    // stages, as one writes them
    let staged = dir.path("staged");
    let curriculum = "data.curriculum=[{from=0.5, weights=[0, 1]}]";
    works(args(&[&data, &more], &staged, &["--set", curriculum]));
    let saved = std::fs::read_to_string(Path::new(&staged).join("config.toml")).unwrap();
    assert!(saved.contains("from = 0.5"), "{saved}");
    works(args(&[&data, &more], &staged, &["--set", curriculum, "--resume"]));
    // beside a text, and a file without an index
    let (plain, words) = (dir.path("train-0.bin"), dir.write("text.txt", text()));
    works(args(&[&words, &plain], &dir.path("three"), &[]));
    // what cannot be
    fails(args(&[&a, &more], &dir.path("no"), &[]), &["some have a weight and some have none"]);
    fails(args(&[&a, &b], &dir.path("no"), &["--set", "data.weights=[1]"]), &["data.weights has 1 numbers", "2 sources"]);
    other.write(llm::Tokenizer::OWN, llm::Tokenizer::Byte.to_json());
    fails(args(&[&more], &dir.path("no"), &[]), &[&more, "another tokenizer", "fingerprint"]);
    fails(args(&[&data, &more], &dir.path("no"), &[]), &["one tokenizer", "number 2"]);
    std::fs::remove_file(other.path(llm::Tokenizer::OWN)).unwrap();
    fails(args(&[&more], &dir.path("no"), &[]), &["tokenizer"]);
}

/// A model that takes no notice of documents would let them see each other.
#[test]
fn models_without_a_mask_get_no_documents() {
    let model = Model::from(crate::stepping::Scalar::default());
    let error = Objective::NextInDocument.graph(&model, Mode::Train).unwrap_err().to_string();
    assert!(error.contains("scalar takes no notice of documents") && error.contains("Place::visible") && error.contains("windows"), "{error}");
    assert!(Objective::NextInDocument.graph(&gpt(), Mode::Train).is_ok());
}

/// A run says what it reads of each source, and a step beside shards is timed.
#[test]
fn a_step_is_timed_beside_shards() {
    let dir = Directory::new("loader-bench");
    folder(&dir.0, &documents(1, 40), &documents(2, 9), Width::U16, Header::Absent, 2);
    let data = dir.0.display().to_string();
    let small = ["--set", "n_layer=1", "--set", "n_embd=8", "--set", "n_head=2", "--seq", "8", "--steps", "3", "--data", &data];
    let line = works(&[&["bench", "train", "gpt2", "--json", "--set", "vocab_size=1000"][..], &small].concat());
    let figures: serde_json::Value = serde_json::from_str(&line).unwrap();
    let seconds = |name: &str| figures[name].as_f64().unwrap();
    assert!(seconds("batch_seconds") > 0.0 && seconds("batch_seconds") < seconds("shards_seconds"), "{line}");
    assert!((seconds("ratio") - seconds("shards_seconds") / seconds("synthetic_seconds")).abs() < 1e-9);
    assert!(works(&[&["bench", "train", "gpt2"][..], &small].concat()).contains("% of a step"));
    fails(
        &[&["bench", "train", "gpt2", "--set", "vocab_size=999"][..], &small].concat(),
        &["its vocabulary is 1000", "the model's 999", "vocab_size=1000"],
    );
}
