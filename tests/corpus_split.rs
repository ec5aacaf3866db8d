//! Evaluation sets taken out, against comparing every n-gram; documents held out; what a stage's folder shows.

use crate::common::{Directory, Random};
use crate::corpus_dedup::{bytes, read, work, write};
use llm::corpus::{
    DecontaminateConfig, DedupConfig, DedupKind, HELD_OUT, SplitConfig, TRAIN, Work, clusters, decontaminate, dedup, each_word, inspect, sample,
    split,
};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// Texts of few words in odd case and with odd marks between them.
fn texts(seed: u32, parts: usize, documents: usize) -> Vec<Vec<String>> {
    let mut r = Random(seed * 1_000_000);
    let mut text = || {
        let word = |r: &mut Random| ["One", "two", "THREE", "fünf", "6"][r.below(5)].to_string() + [" ", ", ", "-", ".\n"][r.below(4)];
        (0..r.below(12)).map(|_| word(&mut r)).collect::<String>()
    };
    (0..parts).map(|_| (0..documents).map(|_| text()).collect()).collect()
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(String::from).collect()
}

#[test]
fn words_are_runs_of_letters_and_digits() {
    let of = |text: &str| {
        let mut found = vec![];
        each_word(text, |w| found.push(w.to_string()));
        found
    };
    assert_eq!(of(" It's 3.5, ÄRA—x_y\u{301}\n"), ["it", "s", "3", "5", "ära", "x", "y"]);
    assert_eq!(of("ab漢字cd ไทย かな"), ["ab", "漢", "字", "cd", "ไ", "ท", "ย", "か", "な"]);
    assert_eq!(of("İstanbul ΣΑΣ"), ["i\u{307}stanbul", "σασ"]);
    for text in texts(3, 1, 50).concat() {
        assert_eq!(of(&text), words(&text), "{text:?}");
    }
}

/// The documents that have few enough n-grams of a set.
fn clean(texts: &[Vec<String>], set: &[String], ngram: usize, most: f64) -> Vec<String> {
    let ngrams: HashSet<Vec<String>> = set.iter().flat_map(|t| words(t).windows(ngram).map(<[String]>::to_vec).collect::<Vec<_>>()).collect();
    let stays = |t: &&String| {
        let words = words(t);
        let of_set = words.windows(ngram).filter(|w| ngrams.contains(*w)).count();
        of_set == 0 || of_set as f64 <= most * words.windows(ngram).count() as f64
    };
    texts.iter().flatten().filter(stays).cloned().collect()
}

#[test]
fn decontamination_against_comparing_every_ngram() {
    let mut outcomes = BTreeSet::new();
    for (seed, ngram, max_overlap) in [(1, 3, 0.0), (2, 4, 0.0), (3, 3, 0.3), (4, 2, 0.5), (5, 1, 0.5), (6, 5, 0.0)] {
        let d = Directory::new("decontaminate");
        let (from, to) = (d.0.join("in"), d.0.join("out"));
        let all = texts(seed, 3, 30);
        write(&from, &all);
        let set = texts(100 + seed, 1, 4).concat();
        // half as records with strings at any depth, half as one text
        let record = serde_json::json!({"question": set[0], "n": 3, "choices": [set[1], {"deep": set[2]}, null]});
        let files = [d.write("set.jsonl", format!("{record}\n\n")), d.write("set.txt", &set[3])].map(PathBuf::from);
        let config = DecontaminateConfig { against: files.to_vec(), ngram, max_overlap };
        let report = decontaminate(&work(2, 1 << 20), &from, &to, &config).unwrap();
        let left: Vec<String> = read(&to).into_iter().map(|d| d.1).collect();
        assert_eq!(left, clean(&all, &set, ngram, max_overlap), "seed {seed}");
        outcomes.insert((left.len() as f64 / 90.0 * 4.0).round() as usize);
        let times: u64 = report.tallies.values().map(|t| t.times).sum();
        assert!(times >= report.documents_in - report.documents, "each that went is in some set's tally");
        for (reason, tally) in &report.tallies {
            assert!(files.iter().any(|f| *reason == format!("in {}", f.display())), "{reason}");
            let shown = &tally.examples[0].text;
            assert_eq!(shown.split(' ').count(), ngram, "{shown:?}");
            assert!(set.iter().any(|t| words(t).join(" ").contains(shown)), "{shown:?} is of the set");
        }
        let short = set.iter().filter(|t| (1..ngram).contains(&words(t).len())).count() as u64;
        assert_eq!(report.counts["texts of the sets that are too short"], short);
        // the same in shares
        let parted = d.0.join("parted");
        for i in 1..=2 {
            decontaminate(&Work { share: format!("{i}/2").parse().unwrap(), ..work(1, 1 << 20) }, &from, &parted, &config).unwrap();
        }
        assert!(bytes(&parted) == bytes(&to));
    }
    assert!(outcomes.len() > 2, "sometimes many go, sometimes few: {outcomes:?}");
}

#[test]
fn a_changed_set_is_taken_out_anew() {
    let d = Directory::new("sets");
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    write(&from, &[vec!["a b c".into(), "d e f".into()]]);
    let left = |set: &str| {
        let config = DecontaminateConfig { against: vec![d.write("set.txt", set).into()], ngram: 3, max_overlap: 0.0 };
        decontaminate(&work(1, 1 << 20), &from, &to, &config).unwrap();
        read(&to).into_iter().map(|d| d.1).collect::<Vec<_>>()
    };
    assert_eq!(left("x A, b: c!"), ["d e f"]);
    assert_eq!(left("d e f"), ["a b c"]);
}

#[test]
fn bad_sets_are_refused() {
    let d = Directory::new("bad-sets");
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    write(&from, &[vec!["a b c".into()]]);
    let fails = |against: &[&str], ngram: usize, max_overlap: f64, memory: u64, wanted: &[&str]| {
        let config = DecontaminateConfig { against: against.iter().map(PathBuf::from).collect(), ngram, max_overlap };
        let error = decontaminate(&work(1, memory), &from, &to, &config).err().unwrap().0;
        wanted.iter().for_each(|w| assert!(error.contains(w), "{w:?} is not in: {error}"));
    };
    let bad = d.write("bad.jsonl", "{\"q\":\"fine\"}\n{\"q\":\n");
    let latin = d.write("latin.txt", [b'a', 0xe9, b'b']);
    let many = d.write("many.jsonl", (0..1000).map(|i| format!("{{\"q\":\"word{i} next{i}\"}}\n")).collect::<String>());
    let long = d.write("long.txt", "word ".repeat(1000));
    fails(&[], 13, 0.0, 1 << 20, &["against is empty"]);
    fails(&["nowhere.txt"], 13, 0.0, 1 << 20, &["nowhere.txt", "cannot be read"]);
    fails(&[&bad], 13, 0.0, 1 << 20, &["bad.jsonl", "line 2"]);
    fails(&[&latin], 13, 0.0, 1 << 20, &["latin.txt", "UTF-8"]);
    fails(&[&many], 13, 0.0, 1 << 20, &["13 words", "smaller"]);
    fails(&[&many], 2, 0.0, 40_000, &["n-grams of the evaluation sets", "--memory"]);
    fails(&[&long], 2, 0.0, 1000, &["long.txt", "--memory"]);
    fails(&[&long], 0, 0.0, 1 << 20, &["ngram is 0"]);
    fails(&[&long], 2, 1.0, 1 << 20, &["max_overlap is 1"]);
}

fn texts_of(folder: &Path) -> Vec<String> {
    read(folder).into_iter().map(|d| d.1).collect()
}

#[test]
fn a_document_stays_on_its_side() {
    let d = Directory::new("split");
    let numbered = |range: std::ops::Range<usize>| range.map(|i| format!("text number {i}")).collect::<Vec<_>>();
    let config = SplitConfig { held_out: 0.1, seed: 7 };
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    write(&from, &[numbered(0..1000), numbered(1000..2000)]);
    let report = split(&work(2, 1 << 20), &from, &to, &config).unwrap();
    let (train, held) = (texts_of(&to.join(TRAIN)), texts_of(&to.join(HELD_OUT)));
    assert_eq!((report.documents, report.counts["documents held out"]), (train.len() as u64, held.len() as u64));
    assert_eq!(report.bytes + report.counts["bytes held out"], report.bytes_in);
    let mut both: Vec<&String> = train.iter().chain(&held).collect();
    both.sort();
    let mut all = numbered(0..2000);
    all.sort();
    assert!(both.into_iter().eq(&all), "each is on one side");
    // 200 are expected, and 13.4 is the standard deviation
    assert!((150..250).contains(&held.len()), "{}", held.len());
    assert!(held.iter().all(|t| config.holds_out(t)) && !train.iter().any(|t| config.holds_out(t)));
    // others come, in other parts and another order
    let (more, later) = (d.0.join("more"), d.0.join("later"));
    write(&more, &[numbered(2000..2500), numbered(500..2000), numbered(0..500)]);
    split(&work(2, 1 << 20), &more, &later, &config).unwrap();
    let now: HashSet<String> = texts_of(&later.join(HELD_OUT)).into_iter().collect();
    assert!(held.iter().all(|t| now.contains(t)) && now.len() > held.len());
    assert!(texts_of(&later.join(TRAIN)).iter().collect::<HashSet<_>>().is_superset(&train.iter().collect()));
    // another seed holds others out
    let other = SplitConfig { seed: 8, ..config };
    assert!(held.iter().filter(|t| other.holds_out(t)).count() < held.len() / 2);
}

#[test]
fn a_split_is_made_once_and_in_shares() {
    let d = Directory::new("split-shares");
    let (from, to, parted) = (d.0.join("in"), d.0.join("out"), d.0.join("parted"));
    write(&from, &texts(9, 5, 20));
    let config = SplitConfig { held_out: 0.3, seed: 1 };
    split(&work(2, 1 << 20), &from, &to, &config).unwrap();
    for i in 1..=3 {
        split(&Work { share: format!("{i}/3").parse().unwrap(), ..work(1, 1 << 20) }, &from, &parted, &config).unwrap();
    }
    let all = |folder: &Path| (bytes(&folder.join(TRAIN)), bytes(&folder.join(HELD_OUT)));
    assert!(all(&to) == all(&parted));
    for gone in [TRAIN, HELD_OUT] {
        std::fs::remove_file(parted.join(gone).join("part-002.json")).unwrap();
        split(&work(2, 1 << 20), &from, &parted, &config).unwrap();
        assert!(all(&to) == all(&parted), "{gone} is made again");
    }
    let time = |f: &Path| std::fs::metadata(f.join(TRAIN).join("part-001.jsonl.zst")).unwrap().modified().unwrap();
    let before = time(&to);
    split(&work(2, 1 << 20), &from, &to, &config).unwrap();
    assert_eq!(time(&to), before, "what is there is not made again");
}

#[test]
fn a_side_without_documents_is_an_error() {
    let d = Directory::new("split-empty");
    let (from, none) = (d.0.join("in"), d.0.join("none"));
    write(&from, &[vec!["a".into(), "b".into()]]);
    write(&none, &[vec![]]);
    let run = |from: &Path, held_out: f64| split(&work(1, 1 << 20), from, &d.0.join("out"), &SplitConfig { held_out, seed: 1 });
    let error = |from: &Path, held_out: f64| run(from, held_out).err().unwrap().0;
    assert!(error(&from, 0.005).contains("split.held_out is 0.005, and there are 2 documents; try --held-out 0.50"), "{}", error(&from, 0.005));
    assert!(error(&from, 0.9999).contains("all documents are held out"));
    assert!(error(&from, 1.0).contains("less than 1") && error(&from, -0.1).contains("0 or more"));
    assert!(error(&none, 0.0).contains("there is no document"));
    assert_eq!(run(&from, 0.0).unwrap().documents, 2);
}

#[test]
fn samples_and_sums() {
    let d = Directory::new("inspect");
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    let texts: Vec<Vec<String>> =
        (0..4).map(|p| (0..5 * p).map(|n| format!("{p} {n} {}", (0..40).map(|i| format!("w{i} ")).collect::<String>())).collect()).collect();
    write(&from, &texts);
    let all = inspect(&from).unwrap();
    assert_eq!((all.parts, all.unfinished, all.report.documents), (4, 0, 30));
    let ids = |count, seed| sample(&from, count, seed).unwrap().into_iter().map(|d| d.id).collect::<Vec<_>>();
    assert_eq!(ids(5, 1).len(), 5);
    assert_eq!(ids(5, 1), ids(5, 1));
    assert_ne!(ids(5, 1), ids(5, 2));
    assert_eq!(ids(100, 1), read(&from).into_iter().map(|d| d.0).collect::<Vec<_>>());
    let met: HashSet<String> = (0..60).flat_map(|seed| ids(3, seed)).collect();
    assert_eq!(met.len(), 30, "any may be shown");
    dedup(&work(1, 1 << 20), &from, &to, &DedupConfig::default().only(&[DedupKind::Near])).unwrap();
    let (shown, count) = clusters(&to, DedupKind::Near, 1).unwrap().unwrap();
    assert_eq!((shown.len(), count), (1, 1));
    assert_eq!((shown[0].kept.id.as_str(), shown[0].removed.len()), ("1:0", 29));
    assert!(clusters(&to, DedupKind::Documents, 1).unwrap().is_none());
    std::fs::remove_file(from.join("part-002.json")).unwrap();
    let rest = inspect(&from).unwrap();
    assert_eq!((rest.parts, rest.unfinished, rest.report.documents), (4, 1, 20));
}
