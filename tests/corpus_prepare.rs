//! A whole corpus: the same bytes whatever the threads, the shares and the interruptions; what trainers read of it; what its card tells.

use crate::common::{Directory, Random};
use crate::corpus_dedup::work;
use llm::corpus::{
    Card, CorpusConfig, DedupKind, DedupStep, ShardConfig, Share, Work, clean, dedup_step, encode_parts, inputs, join_shards, parts, prepare, read,
    split,
};
use llm::text::Specials;
use llm::{Header, Index, Shards, Tokenizer};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Files of every usual kind, with documents that are alike.
fn write_inputs(d: &Directory) -> String {
    std::fs::create_dir_all(d.0.join("in/more")).unwrap();
    let mut r = Random(11);
    let words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "fifty", "blue", "birds", "in", "trees", "of", "stone"];
    let mut text = |n: usize| (0..n).map(|_| words[r.below(words.len())]).collect::<Vec<_>>().join(" ") + ".\n";
    let mut all: Vec<String> = (0..120).map(|i| text(20 + i % 40)).collect();
    all[7] = all[3].clone();
    all[50] = all[3].clone() + "once more\n";
    // which is no end of a document
    all[20] += "<|endoftext|> is a token\n";
    let lines: String = all[..60].iter().map(|t| serde_json::json!({ "text": t }).to_string() + "\n").collect();
    d.write("in/a.jsonl", lines);
    d.write("in/b.txt", all[60..100].join("\n\n"));
    let table: String = all[100..].iter().map(|t| format!("{}\n", t.trim().replace(',', ""))).collect();
    d.write("in/more/c.csv", format!("text\n{table}"));
    d.path("in")
}

fn config() -> CorpusConfig {
    let sets = ["read.split_on=blank-line", "tokenizer.vocabulary=400", "split.held_out=0.1", "dedup.min_similarity=0.6"];
    sets.iter().fold(CorpusConfig::default(), |c, s| c.set(s).unwrap())
}

/// Every file of a corpus but those of its stages.
fn files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(out).unwrap().map(|e| e.unwrap()).filter(|e| e.path().is_file());
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

#[test]
fn a_corpus_is_the_same_whatever_the_threads_and_goes_on() {
    let d = Directory::new("prepare");
    let given = [write_inputs(&d)];
    let (one, two) = (d.0.join("one"), d.0.join("two"));
    let prepared = prepare(&work(1, 128 << 20), &given, &one, &config()).unwrap();
    prepare(&work(3, 140 << 20), &given, &two, &config()).unwrap();
    let want = files(&one);
    assert_eq!(
        want.keys().map(String::as_str).collect::<Vec<_>>(),
        ["card.json", "corpus.toml", "index.json", "tokenizer.json", "train.bin", "train.docs", "val.bin", "val.docs"]
    );
    assert_eq!(files(&two), want);
    // again: nothing changes; with a part gone it comes back
    std::fs::remove_file(parts(&one.join("stages/2-clean")).unwrap()[0].documents()).unwrap();
    std::fs::remove_file(one.join("train.bin")).unwrap();
    prepare(&work(2, 128 << 20), &given, &one, &config()).unwrap();
    assert_eq!(files(&one), want);
    // a file that goes takes its documents along
    std::fs::rename(d.0.join("in/b.txt"), d.0.join("b.txt")).unwrap();
    prepare(&work(2, 128 << 20), &given, &one, &config()).unwrap();
    prepare(&work(2, 128 << 20), &given, &d.0.join("three"), &config()).unwrap();
    assert_eq!(files(&one), files(&d.0.join("three")));
    assert_ne!(files(&one), want);
    std::fs::rename(d.0.join("b.txt"), d.0.join("in/b.txt")).unwrap();
    prepare(&work(2, 128 << 20), &given, &one, &config()).unwrap();
    assert_eq!(files(&one), want);
    // with another setting it is another corpus
    let other = config().set("clean.unicode=none").unwrap().set("split.held_out=0.3").unwrap();
    let again = prepare(&work(2, 128 << 20), &given, &one, &other).unwrap();
    assert!(again.index.parts.held_out[0].documents > prepared.index.parts.held_out[0].documents);
    prepare(&work(2, 128 << 20), &given, &d.0.join("four"), &other).unwrap();
    assert_eq!(files(&one), files(&d.0.join("four")));
    // and with one tokenizer, too
    let mut given_tokenizer = config();
    given_tokenizer.tokenizer.file = Some(d.0.join("two/tokenizer.json"));
    prepare(&work(1, 128 << 20), &given, &d.0.join("five"), &given_tokenizer).unwrap();
    let moved = given_tokenizer.set("split.held_out=0.3").unwrap();
    prepare(&work(1, 128 << 20), &given, &d.0.join("five"), &moved).unwrap();
    prepare(&work(1, 128 << 20), &given, &d.0.join("six"), &moved).unwrap();
    assert_eq!(files(&d.0.join("five")), files(&d.0.join("six")));
}

#[test]
fn a_corpus_is_what_its_documents_are() {
    let d = Directory::new("prepare-tokens");
    let out = d.0.join("out");
    let prepared = prepare(&work(2, 128 << 20), &[write_inputs(&d)], &out, &config()).unwrap();
    let tokenizer = Tokenizer::read(&out).unwrap();
    assert_eq!(tokenizer.size(), prepared.index.tokenizer.vocabulary);
    Shards::verify(&out).unwrap();
    let (mut total, mut lengths) = (0, BTreeMap::new());
    for (side, name) in [("train", "train"), ("held_out", "val")] {
        let documents = parts(&out.join("stages/5-split").join(side))
            .unwrap()
            .into_iter()
            .flat_map(|p| p.read().unwrap().map(|d| d.unwrap().text).collect::<Vec<_>>());
        let mut ids: Vec<u16> = vec![];
        let mut starts = vec![0u64];
        for text in documents {
            let class = (0..).take_while(|n| 2usize << n <= text.len()).count() as u32;
            *lengths.entry(class).or_insert(0) += 1;
            ids.extend(tokenizer.encode_with(&text, Specials::Text).unwrap().iter().map(|id| *id as u16));
            ids.push(tokenizer.end_of_text().unwrap() as u16);
            starts.push(ids.len() as u64);
        }
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        assert_eq!(std::fs::read(out.join(format!("{name}.bin"))).unwrap(), bytes);
        assert_eq!(std::fs::read(out.join(format!("{name}.docs"))).unwrap(), starts.iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>());
        total += starts.len() as u64 - 1;
    }
    let card: Card = serde_json::from_str(&std::fs::read_to_string(out.join("card.json")).unwrap()).unwrap();
    assert_eq!(card, prepared.card);
    assert_eq!(card.documents, total);
    assert_eq!(card.lengths, lengths);
    assert_eq!(card.stages.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["read", "clean", "dedup", "split", "tokens"]);
    let dedup = &card.stages[2];
    assert_eq!((dedup.documents[0], dedup.documents[1]), (120, 118), "the same document, and nearly the same: {dedup:?}");
    assert!(card.ngrams[0][0].1 >= card.ngrams[0][1].1 && card.ngrams[2][0].0.split(' ').count() == 3);
    assert!(card.samples.len() == 5 && card.sampled == card.bytes);
}

/// The stages one by one, each by three processes' shares, in another order each time.
#[test]
fn shares_make_the_same_corpus() {
    let d = Directory::new("prepare-shares");
    let given = [write_inputs(&d)];
    let whole = d.0.join("whole");
    prepare(&work(2, 128 << 20), &given, &whole, &config()).unwrap();
    let config = config();
    for count in [3, 8] {
        let at = |name: &str| d.0.join(format!("{count}")).join(name);
        let each = |stage: &dyn Fn(&Work)| {
            for index in (1..=count).rev() {
                let share: Share = format!("{index}/{count}").parse().unwrap();
                stage(&Work { share, ..work(1, 128 << 20) });
            }
        };
        let files = inputs(&given).unwrap();
        each(&|w| drop(read(w, &files, &at("1"), &config.read).unwrap()));
        each(&|w| drop(clean(w, &at("1"), &at("2"), &config.clean).unwrap()));
        for kind in [DedupKind::Documents, DedupKind::Near] {
            each(&|w| drop(dedup_step(w, &at("2"), &at("3"), &config.dedup, kind, DedupStep::Keys).unwrap()));
            dedup_step(&work(1, 128 << 20), &at("2"), &at("3"), &config.dedup, kind, DedupStep::Merge).unwrap();
            each(&|w| drop(dedup_step(w, &at("2"), &at("3"), &config.dedup, kind, DedupStep::Apply).unwrap()));
        }
        let tokenizer = Tokenizer::read(&whole).unwrap();
        // a split of which a share is missing is not encoded
        split(&Work { share: format!("1/{count}").parse().unwrap(), ..work(1, 128 << 20) }, &at("3"), &at("5"), &config.split).unwrap();
        let early = encode_parts(&work(1, 128 << 20), &at("5"), &at("6"), &tokenizer, &config.shard).unwrap_err().0;
        assert!(early.contains("is not made") && early.contains("every --share"), "{early}");
        each(&|w| drop(split(w, &at("3"), &at("5"), &config.split).unwrap()));
        each(&|w| drop(encode_parts(w, &at("5"), &at("6"), &tokenizer, &config.shard).unwrap()));
        join_shards(&work(1, 128 << 20), &at("5"), &at("6"), &at("out"), &tokenizer, &config.shard).unwrap();
        let have = self::files(&at("out"));
        assert_eq!(have.len(), 6);
        for (name, bytes) in have {
            assert_eq!(bytes, std::fs::read(whole.join(&name)).unwrap(), "{name} of {count} shares");
        }
    }
}

fn eggcorn(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eggcorn"));
    command.args(args);
    command
}

/// Killed at some instant, again and again, and then left alone.
#[test]
fn a_killed_preparation_goes_on() {
    let d = Directory::new("prepare-killed");
    let given = write_inputs(&d);
    let (whole, out) = (d.path("whole"), d.path("out"));
    let args = |out: &str| {
        ["data", "prepare", &given, "--split-on", "blank-line", "--vocabulary", "400", "--held-out", "0.1", "--out", out].map(String::from)
    };
    let run = |out: &str| eggcorn(&args(out).iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    let start = std::time::Instant::now();
    let done = run(&whole);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let took = start.elapsed();
    let mut r = Random(5);
    for _ in 0..10 {
        let mut child = eggcorn(&args(&out).iter().map(String::as_str).collect::<Vec<_>>()).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(took.mul_f64(r.below(100) as f64 / 100.0));
        let _ = child.kill();
        child.wait().unwrap();
    }
    let done = run(&out);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (have, want) = (files(Path::new(&out)), files(Path::new(&whole)));
    assert_eq!(have.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, bytes) in want {
        assert!(have[&name] == bytes, "{name} differs");
    }
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.contains("near") && said.contains("tokens to train on") && said.contains("card.html"), "{said}");
    let page = std::fs::read_to_string(Path::new(&out).join("card.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("Said most often") && !page.contains("http-equiv") && !page.contains("src="), "{page}");
}

#[test]
fn files_of_tokens_of_every_form() {
    let d = Directory::new("prepare-forms");
    let out = d.0.join("out");
    prepare(&work(1, 128 << 20), &[write_inputs(&d)], &out, &config()).unwrap();
    let (tokenizer, apart) = (Tokenizer::read(&out).unwrap(), out.join("stages/5-split"));
    let plain = std::fs::read(out.join("train.bin")).unwrap();
    let shard = |name: &str, tokenizer: &Tokenizer, config: &ShardConfig| -> (Index, std::path::PathBuf) {
        let to = d.0.join(name);
        encode_parts(&work(2, 128 << 20), &apart, &to.join("tokens"), tokenizer, config).unwrap();
        (join_shards(&work(1, 128 << 20), &apart, &to.join("tokens"), &to, tokenizer, config).unwrap(), to)
    };
    // llm.c's header stands before the same tokens
    let (index, to) = shard("llmc", &tokenizer, &ShardConfig { header: Header::LlmC, ..ShardConfig::default() });
    let bytes = std::fs::read(to.join("train.bin")).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[4 * at..][..4].try_into().unwrap());
    assert_eq!((number(0), number(1), u64::from(number(2))), (20_240_520, 1, index.parts.train[0].tokens));
    assert!(bytes[1024..] == plain && (3..256).all(|i| number(i) == 0));
    // what was encoded otherwise is not joined
    let (to, bare) = (d.0.join("llmc"), ShardConfig { end_of_text: false, ..ShardConfig::default() });
    let error = join_shards(&work(1, 128 << 20), &apart, &to.join("tokens"), &to, &tokenizer, &bare).unwrap_err().0;
    assert!(error.contains("another tokenizer") && error.contains("encode all shares"), "{error}");
    // in several files, each with whole documents
    let (index, to) = shard("many", &tokenizer, &ShardConfig { shard_tokens: 500, ..ShardConfig::default() });
    let files = &index.parts.train;
    assert!(files.len() > 2 && files[0].file == "train-00000.bin" && files[..files.len() - 1].iter().all(|f| (500..700).contains(&f.tokens)));
    let joined: Vec<u8> = files.iter().flat_map(|f| std::fs::read(to.join(&f.file)).unwrap()).collect();
    assert_eq!(joined, plain);
    Shards::verify(&to).unwrap();
    // 32 bits where the vocabulary needs them
    let mut json: serde_json::Value = serde_json::from_str(&tokenizer.to_json()).unwrap();
    json["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({"id": 70_000, "content": "<|last|>", "special": true}));
    let wide = Tokenizer::parse(&json.to_string()).unwrap();
    let (index, to) = shard("wide", &wide, &ShardConfig { end_of_text: false, ..ShardConfig::default() });
    assert_eq!((index.dtype.to_string().as_str(), index.tokenizer.end_of_text), ("u32", None));
    let bytes = std::fs::read(to.join("train.bin")).unwrap();
    assert_eq!(bytes.len() as u64, 4 * index.parts.train[0].tokens);
    assert!(index.parts.train[0].tokens < plain.len() as u64 / 2, "no end of text");
}

#[test]
fn what_cannot_be_a_corpus_is_said() {
    let d = Directory::new("prepare-bad");
    let given = [write_inputs(&d)];
    let refused = |given: &[String], config: &CorpusConfig, words: &[&str]| {
        let error = prepare(&work(1, 128 << 20), given, &d.0.join("out"), config).err().expect("it is refused").0;
        words.iter().for_each(|w| assert!(error.contains(w), "{error}\nshould have {w}"));
    };
    refused(&given, &config().set("clean.languages=[\"jpn\"]").unwrap().set("clean.identify=true").unwrap(), &["language"]);
    refused(
        &given,
        &config().set("clean.filters=[\"gopher\"]").unwrap().set("clean.min_words=100000").unwrap(),
        &["all 120 documents", "gopher-short"],
    );
    refused(&given, &config().set("tokenizer.vocabulary=100").unwrap(), &["100 tokens", "257"]);
    d.write("empty.txt", "");
    refused(&[d.path("empty.txt")], &config(), &["no document"]);
    refused(&[d.path("none.txt")], &config(), &["none.txt"]);
    let error = |set: &str| config().set(set).unwrap_err().0;
    assert!(error("clen.min_words=3").contains("did you mean clean?"), "{}", error("clen.min_words=3"));
    assert!(error("clean.min_wrds=3").contains("min_words"), "{}", error("clean.min_wrds=3"));
    assert!(error("clean.min_words=few").contains("a whole number"), "{}", error("clean.min_words=few"));
    let text = config().to_toml();
    assert_eq!(CorpusConfig::parse(&text, "corpus.toml").unwrap(), config());
    let error = CorpusConfig::parse("[clean]\nmin_wrds = 3\n", "my.toml").unwrap_err().0;
    assert!(error.starts_with("my.toml:2:"), "{error}");
    // a share of all is no share of a stage
    let share = Work { share: "1/2".parse().unwrap(), ..work(1, 128 << 20) };
    assert!(prepare(&share, &given, &d.0.join("s"), &config()).is_err_and(|e| e.0.contains("each with --share")));
}
