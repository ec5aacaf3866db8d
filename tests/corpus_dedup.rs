//! Duplicates against plain comparison of everything with everything; sorting in little memory; stopped, shared and threaded work.

use crate::common::Directory;
use crate::common::Random;
use llm::corpus::{
    Budget, Cluster, DedupConfig, DedupKind, DedupStep, Document, Keep, Merge, Part, Permutations, Progress, Report, RowWriter, Rows, Section, Share,
    Sorter, Work, dedup, dedup_step, parts, similarity,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

pub static NEVER: AtomicBool = AtomicBool::new(false);

/// Work in so many threads and bytes, that nothing stops.
pub fn work(threads: usize, memory: u64) -> Work<'static> {
    Work { threads, memory, share: Share::ALL, stop: &NEVER, progress: &|_| {} }
}

/// Writes parts of texts, as a stage does. Ids say the part and the number.
pub fn write(folder: &Path, texts: &[Vec<String>]) {
    for (p, part) in texts.iter().enumerate() {
        let mut writer = Part::new(folder, &format!("part-{p:03}")).write().unwrap();
        for (n, text) in part.iter().enumerate() {
            writer.push(&Document::new(format!("{p}:{n}"), text.as_str())).unwrap();
        }
        writer.finish(Report::default()).unwrap();
    }
}

/// Ids and texts of a folder's documents.
pub fn read(folder: &Path) -> Vec<(String, String)> {
    let documents = |p: &Part| p.read().unwrap().map(|d| d.unwrap()).map(|d| (d.id, d.text)).collect::<Vec<_>>();
    parts(folder).unwrap().iter().flat_map(documents).collect()
}

/// The bytes of a folder's parts and reports, and of its lists of clusters.
pub fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = |f: &Path| std::fs::read_dir(f).into_iter().flatten().map(|e| e.unwrap().path()).filter(|p| p.is_file()).collect::<Vec<_>>();
    let all = [files(folder), files(&folder.join("clusters"))].concat();
    all.into_iter().map(|p| (p.strip_prefix(folder).unwrap().display().to_string(), std::fs::read(&p).unwrap())).collect()
}

pub fn clusters(folder: &Path, kind: &str) -> Vec<Cluster> {
    let text = std::fs::read_to_string(folder.join("clusters").join(format!("{kind}.jsonl"))).unwrap();
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn only(kind: DedupKind) -> DedupConfig {
    DedupConfig::default().only(&[kind])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Whatever the room and the number of open files, what goes in comes out in order.
    #[test]
    fn sorts(words in proptest::collection::vec((0u64..40, 0u64..3), 0..300), bytes in 0u64..2000, files in 0usize..5) {
        let d = Directory::new("sort");
        let folder = d.0.join("runs");
        let records: Vec<[u64; 2]> = words.iter().map(|w| [w.0 << 60 | w.0, w.1]).collect();
        let sorter = || {
            let mut sorter = Sorter::<2>::new(folder.clone(), Budget { bytes, files });
            records.iter().for_each(|r| sorter.push(*r).unwrap());
            sorter
        };
        let mut expected = records.clone();
        expected.sort();
        prop_assert_eq!(sorter().finish().unwrap().map(|r| r.unwrap()).collect::<Vec<_>>(), &expected[..]);
        prop_assert!(!folder.exists(), "runs are gone with the sort");
        expected.dedup();
        let file = d.0.join("sorted");
        let made_of = "0123456789abcdef0123456789abcdef";
        let count = sorter().write_distinct(RowWriter::create(&file, 16, made_of).unwrap()).unwrap();
        let rows = Rows::open(&file, 16, made_of).unwrap();
        prop_assert_eq!((rows.count(), count), (expected.len() as u64, expected.len() as u64));
        for bound in [0, 5, 1 << 60, 3 << 60 | 3, 3 << 60 | 4, u64::MAX] {
            prop_assert_eq!(rows.below(bound).unwrap(), expected.partition_point(|r| r[0] < bound) as u64);
        }
        // sections of a file, merged
        let cut = 2 << 60;
        let sections = [(cut, None), (0, Some(cut)), (cut, Some(cut))].map(|(from, to)| Section::between(&rows, from, to).unwrap());
        let merged = Merge::<2>::of(sections.to_vec(), folder.clone(), Budget { bytes, files }).unwrap();
        prop_assert_eq!(merged.map(|r| r.unwrap()).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn many_runs_are_merged_in_passes() {
    let d = Directory::new("passes");
    let mut sorter = Sorter::<3>::new(d.0.join("runs"), Budget { bytes: 24 * 10, files: 3 });
    let mut r = Random(1);
    let mut records: Vec<[u64; 3]> = (0..3001).map(|i| [r.bits() as u64 % 100, r.bits() as u64, i]).collect();
    records.iter().for_each(|x| sorter.push(*x).unwrap());
    records.sort();
    assert_eq!(sorter.finish().unwrap().map(|x| x.unwrap()).collect::<Vec<_>>(), records);
}

#[test]
fn a_file_of_rows_that_was_cut_is_an_error() {
    let d = Directory::new("rows");
    let (path, made_of, other) = (d.0.join("x"), "00000000000000000000000000000001", "00000000000000000000000000000002");
    let mut writer = RowWriter::create(&path, 16, made_of).unwrap();
    (0..50u64).for_each(|i| writer.push_words(&[i, i]).unwrap());
    assert_eq!(writer.finish().unwrap(), 50);
    assert!(Rows::are_there(&path, 16, made_of) && !Rows::are_there(&path, 16, other) && !Rows::are_there(&path, 8, made_of));
    let error = |made_of| Rows::open(&path, 16, made_of).err().unwrap().0;
    assert!(error(other).contains("other settings"), "{}", error(other));
    let rows = Rows::open(&path, 16, made_of).unwrap();
    assert!(rows.read(50, &mut [0; 16]).is_err() && rows.read(49, &mut [0; 16]).is_ok());
    let section = Section::between(&rows, 0, None).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 8, 39, 40, 41, 16 * 20, 16 * 50, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(error(made_of).contains("cut or is damaged"), "{length}: {}", error(made_of));
    }
    std::fs::write(&path, &whole[..100]).unwrap();
    let merge = Merge::<2>::of(vec![section], d.0.join("runs"), Budget { bytes: 64, files: 2 });
    let error = merge.and_then(|m| m.collect::<llm::Result<Vec<_>>>()).err().unwrap();
    assert!(error.0.contains("was cut"), "{error}");
}

/// Texts of few words, lines and paragraphs, so that much is repeated.
fn random_texts(seed: u32, parts: usize, documents: usize) -> Vec<Vec<String>> {
    let mut r = Random(seed * 1_000_000);
    let mut below = move |n: u32| r.bits() % n;
    let mut text = || {
        let lines = below(6);
        let line = |below: &mut dyn FnMut(u32) -> u32| (0..below(4)).map(|_| ["a", "b", "Cé"][below(3) as usize]).collect::<Vec<_>>().join(" ");
        let ends = ["\n", "\r\n", "\n\n", "\n \n\n"];
        (0..lines).map(|_| line(&mut below) + ends[below(4) as usize]).collect::<String>() + &line(&mut below)
    };
    (0..parts).map(|_| (0..documents).map(|_| text()).collect()).collect()
}

fn all(texts: &[Vec<String>]) -> Vec<(String, String)> {
    let of = |(p, part): (usize, &Vec<String>)| part.iter().enumerate().map(|(n, t)| (format!("{p}:{n}"), t.clone())).collect::<Vec<_>>();
    texts.iter().enumerate().flat_map(of).collect()
}

/// What dedup leaves of texts, in little memory.
fn deduplicated(name: &str, texts: &[Vec<String>], config: &DedupConfig, memory: u64) -> Vec<(String, String)> {
    let d = Directory::new(name);
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    write(&from, texts);
    let report = dedup(&work(2, memory), &from, &to, config).unwrap();
    let (before, after) = (all(texts), read(&to));
    assert_eq!((report.documents_in, report.documents), (before.len() as u64, after.len() as u64));
    after
}

#[test]
fn exact_documents_against_a_set() {
    for seed in 0..6 {
        let (pool, mut r) = (random_texts(seed, 1, 30).concat(), Random(seed * 1_000_000));
        let texts: Vec<Vec<String>> = (0..1 + seed % 4).map(|_| (0..40).map(|_| pool[r.below(30)].clone()).collect()).collect();
        let mut seen = HashSet::new();
        let mut expected = all(&texts);
        expected.retain(|d| seen.insert(d.1.clone()));
        assert!(expected.len() < all(&texts).len(), "there are duplicates");
        assert_eq!(deduplicated("exact", &texts, &only(DedupKind::Documents), 1000), expected, "seed {seed}");
    }
}

/// Paragraphs or lines, written down a second time: a paragraph is the lines from one that is not blank to the next that is.
fn without_repeated(text: &str, paragraphs: bool, least: usize, seen: &mut HashSet<String>) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let blank = |l: &str| l.trim().is_empty();
    let mut groups: Vec<Vec<&str>> = vec![];
    for (i, line) in lines.iter().enumerate() {
        let begins = !paragraphs || groups.is_empty() || (!blank(line) && blank(lines[i - 1]));
        if begins { groups.push(vec![line]) } else { groups.last_mut().unwrap().push(line) }
    }
    let mut out = String::new();
    for group in groups {
        // blank lines before the first paragraph are none of its
        let lead = if paragraphs { group.iter().take_while(|l| blank(l)).map(|l| l.len()).sum() } else { 0 };
        let whole = group.concat();
        let (lead, piece) = whole.split_at(lead);
        let end = |s: &str| s.trim_end_matches(['\n', '\r']).to_string();
        let said: String = if paragraphs { end(&piece.split_inclusive('\n').take_while(|l| !blank(l)).collect::<String>()) } else { end(piece) };
        let asked = said.split_whitespace().count() >= least && !(paragraphs && said.is_empty());
        out += lead;
        if !asked || seen.insert(said) {
            out += piece;
        }
    }
    out
}

#[test]
fn paragraphs_and_lines_against_a_set() {
    for (kind, paragraphs) in [(DedupKind::Paragraphs, true), (DedupKind::Lines, false)] {
        for (seed, least) in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 2), (6, 1)] {
            let texts = random_texts(seed, 3, 12);
            let mut seen = HashSet::new();
            let mut expected = vec![];
            for (id, text) in all(&texts) {
                let rest = without_repeated(&text, paragraphs, least, &mut seen);
                // a text of which something went and nothing stayed goes
                if rest.len() == text.len() || !rest.trim().is_empty() {
                    expected.push((id, rest));
                }
            }
            let config = DedupConfig { min_line_words: least, min_paragraph_words: least, ..only(kind) };
            let got = deduplicated("pieces", &texts, &config, 2000);
            assert_eq!(got, expected, "{kind}, seed {seed}, {least} words");
            assert_ne!(got, all(&texts), "{kind}: something is repeated");
        }
    }
}

/// Words and the spaces behind each.
fn words(text: &str) -> Vec<(&str, &str)> {
    let mut rest = text.trim_start();
    let mut found = vec![];
    while !rest.is_empty() {
        let word = rest.split(char::is_whitespace).next().unwrap();
        let after = rest[word.len()..].trim_start();
        found.push((word, &rest[word.len()..rest.len() - after.len()]));
        rest = after;
    }
    found
}

#[test]
fn substrings_against_comparing_every_window() {
    let mut removed = 0;
    for (seed, length) in [(1, 2), (2, 3), (3, 4), (4, 6), (5, 9), (6, 30), (7, 2), (8, 5)] {
        let texts = random_texts(seed, 3, 8);
        let documents = all(&texts);
        let split: Vec<Vec<(&str, &str)>> = documents.iter().map(|d| words(&d.1)).collect();
        let mut first: Vec<(Vec<&str>, (usize, usize))> = vec![];
        let mut expected = vec![];
        for (d, words) in split.iter().enumerate() {
            let mut goes = vec![false; words.len()];
            for at in 0..(words.len() + 1).saturating_sub(length) {
                let window: Vec<&str> = words[at..at + length].iter().map(|w| w.0).collect();
                match first.iter().find(|f| f.0 == window) {
                    None => first.push((window, (d, at))),
                    Some((_, (e, before))) if *e != d || at >= before + length => goes[at..at + length].fill(true),
                    Some(_) => {}
                }
            }
            let text = &documents[d].1;
            let lead = &text[..text.len() - text.trim_start().len()];
            let rest = lead.to_string() + &words.iter().zip(&goes).filter(|w| !w.1).map(|(w, _)| [w.0, w.1].concat()).collect::<String>();
            if rest.len() == text.len() || !rest.trim().is_empty() {
                expected.push((documents[d].0.clone(), rest));
            }
        }
        removed += usize::from(expected != documents);
        let config = DedupConfig { substring_words: length, ..only(DedupKind::Substrings) };
        assert_eq!(deduplicated("substrings", &texts, &config, 3000), expected, "seed {seed}, {length} words");
    }
    assert!(removed >= 6, "passages are repeated");
}

/// Documents of 60 words from a family: each shares most words with others of its family.
fn families(seed: u32, parts: usize, documents: usize) -> Vec<Vec<String>> {
    let mut r = Random(seed * 1_000_000);
    let mut document = || {
        let (family, changes) = (r.bits() % 12, r.bits() % 4);
        let mut words: Vec<String> = (0..40 + family).map(|i| format!("w{family}x{i}")).collect();
        for _ in 0..changes {
            let at = r.bits() as usize % words.len();
            words[at] = format!("Other{}", r.bits() % 1000);
        }
        words.join(" ")
    };
    (0..parts).map(|_| (0..documents).map(|_| document()).collect()).collect()
}

/// Which documents stay, by comparing all with all: where a band is equal with that of the first that has it, and enough minima are.
fn near_reference(documents: &[(String, String)], config: &DedupConfig) -> Vec<(String, String)> {
    let permutations = Permutations::new(config.seed, config.bands * config.rows);
    let signatures: Vec<_> = documents.iter().map(|d| permutations.signature(&d.1, config.ngram)).collect();
    let mut component: Vec<usize> = (0..documents.len()).collect();
    for later in 0..documents.len() {
        for band in 0..config.bands {
            let rows = |d: usize| signatures[d].as_ref().map(|s| &s[band * config.rows..(band + 1) * config.rows]);
            let Some(own) = rows(later) else { continue };
            let first = (0..=later).find(|d| rows(*d) == Some(own)).unwrap();
            let alike = similarity(signatures[first].as_ref().unwrap(), signatures[later].as_ref().unwrap());
            if alike >= config.min_similarity {
                let (a, b) = (component[first], component[later]);
                component.iter_mut().filter(|c| **c == a.max(b)).for_each(|c| *c = a.min(b));
            }
        }
    }
    let stays = |d: usize| {
        let members = (0..documents.len()).filter(|m| component[*m] == component[d]);
        match config.keep {
            Keep::First => members.min(),
            Keep::Longest => members.max_by_key(|m| (documents[*m].1.len(), std::cmp::Reverse(*m))),
        }
    };
    (0..documents.len()).filter(|d| stays(*d) == Some(*d)).map(|d| documents[d].clone()).collect()
}

#[test]
fn near_documents_against_comparing_all() {
    let mut fewest = usize::MAX;
    for (seed, keep, min_similarity, bands) in
        [(1, Keep::First, 0.7, 14), (2, Keep::Longest, 0.7, 14), (3, Keep::First, 0.0, 20), (4, Keep::Longest, 0.9, 30), (5, Keep::Longest, 0.0, 5)]
    {
        let texts = families(seed, 4, 20);
        let config = DedupConfig { keep, min_similarity, bands, seed: seed as u64, ..only(DedupKind::Near) };
        let expected = near_reference(&all(&texts), &config);
        assert_eq!(deduplicated("near", &texts, &config, 1 << 14), expected, "seed {seed}");
        fewest = fewest.min(expected.len());
    }
    assert!(fewest < 40, "most have a near duplicate");
}

/// A text with only a few words is known by all of them; a text without words is like no other.
#[test]
fn short_texts() {
    let p = Permutations::new(1, 64);
    let of = |text: &str| p.signature(text, 5);
    assert_eq!(of("one two"), of(" One, TWO! "));
    assert_ne!(of("one two"), of("two one"));
    assert_ne!(of("one two"), of("one two three"));
    assert_eq!((of(""), of(" .,;\n")), (None, None));
    assert_eq!(of("a b c d e"), of("A-b-c-d (e)"));
    // Han is written without spaces: a character is a word
    let alike = similarity(&of("我们今天去公园散步很高兴吗").unwrap(), &of("我们今天去公园散步很高兴呢").unwrap());
    assert!(alike > 0.6 && alike < 1.0, "{alike}");
    let texts = vec![vec!["".into(), "...".into(), "".into(), "one two".into(), "ONE two.".into()]];
    let left: Vec<String> = deduplicated("short", &texts, &only(DedupKind::Near), 1 << 14).into_iter().map(|d| d.0).collect();
    assert_eq!(left, ["0:0", "0:1", "0:2", "0:3"]);
}

/// Two texts of n-grams of one word, with so many in common.
fn pair(r: &mut Random, shared: usize, each: usize) -> (String, String) {
    let mut text = |n: usize| (0..n).map(|_| format!("{:x}", r.bits() as u64 * 7919 + r.bits() as u64)).collect::<Vec<_>>().join(" ");
    let (both, one, other) = (text(shared), text(each), text(each));
    (format!("{both} {one}"), format!("{other} {both}"))
}

/// The share of equal minima is binomial: its mean is the similarity, and its variance that of independent draws.
#[test]
fn estimates_err_as_independent_permutations_do() {
    let mut r = Random(3);
    for (shared, each) in [(80, 10), (60, 20), (30, 35)] {
        let truth = shared as f64 / (shared + 2 * each) as f64;
        let (pairs, k) = (1500, 112);
        let mut errors = vec![];
        for seed in 0..pairs {
            let p = Permutations::new(seed, k);
            let (a, b) = pair(&mut r, shared, each);
            errors.push(similarity(&p.signature(&a, 1).unwrap(), &p.signature(&b, 1).unwrap()) - truth);
        }
        let mean = errors.iter().sum::<f64>() / pairs as f64;
        let variance = errors.iter().map(|e| e * e).sum::<f64>() / pairs as f64;
        let expected = truth * (1.0 - truth) / k as f64;
        // four standard errors of each
        assert!(mean.abs() < 4.0 * (expected / pairs as f64).sqrt(), "similarity {truth}: off by {mean}");
        assert!(
            (variance / expected - 1.0).abs() < 4.0 * (2.0 / pairs as f64).sqrt(),
            "similarity {truth}: variance {variance}, expected {expected}"
        );
    }
}

/// Permutations lose no bit: of many n-grams no two come to one number, so that texts that share none have no minimum in common.
#[test]
fn long_texts_that_share_nothing_have_nothing_in_common() {
    let text = |name: &str| (0..20_000).map(|i| format!("{name}{i} ")).collect::<String>();
    let p = Permutations::new(1, 112);
    assert_eq!(similarity(&p.signature(&text("a"), 2).unwrap(), &p.signature(&text("b"), 2).unwrap()), 0.0);
}

/// The same seed draws the same permutations for all pairs, and the curve holds.
#[test]
fn bands_meet_as_often_as_they_should() {
    let (bands, rows, pairs) = (14, 8, 2000);
    let p = Permutations::new(1, bands * rows);
    let mut r = Random(9);
    for (shared, each) in [(120, 20), (90, 30), (60, 30)] {
        let s = shared as f64 / (shared + 2 * each) as f64;
        let theory = 1.0 - (1.0 - s.powi(rows as i32)).powi(bands as i32);
        let met = (0..pairs).filter(|_| {
            let (a, b) = pair(&mut r, shared, each);
            let (a, b) = (p.signature(&a, 1).unwrap(), p.signature(&b, 1).unwrap());
            a.chunks(rows).zip(b.chunks(rows)).any(|(a, b)| a == b)
        });
        let share = met.count() as f64 / pairs as f64;
        assert!((share - theory).abs() < 4.0 * (theory * (1.0 - theory) / pairs as f64).sqrt(), "similarity {s}: {share}, expected {theory}");
    }
}

#[test]
fn clusters_say_what_was_merged_with_what() {
    let d = Directory::new("clusters");
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    let long = |end: &str| (0..100).map(|i| format!("word{i} ")).collect::<String>() + end;
    let texts = vec![vec![long("a"), long("b"), "alone in the world".into()], vec![long("a"), long("b and some more"), long("a")]];
    write(&from, &texts);
    let config = DedupConfig { keep: Keep::Longest, ..DedupConfig::default() };
    let report = dedup(&work(2, 1 << 16), &from, &to, &config).unwrap();
    let ids = |c: &Cluster| (c.kept.id.clone(), c.removed.iter().map(|m| m.id.clone()).collect::<Vec<_>>().join(" "));
    let exact = clusters(&to, "documents");
    assert_eq!(exact.iter().map(ids).collect::<Vec<_>>(), [("0:0".to_string(), "1:0 1:2".to_string())]);
    assert!(exact[0].removed.iter().all(|m| m.similarity == 1.0 && m.bytes == texts[0][0].len() as u64));
    let near = clusters(&to, "near");
    assert_eq!(near.iter().map(ids).collect::<Vec<_>>(), [("1:1".to_string(), "0:0 0:1".to_string())]);
    assert!(near[0].removed.iter().all(|m| (0.85..1.0).contains(&m.similarity)), "{near:?}");
    assert_eq!(read(&to).iter().map(|d| d.0.as_str()).collect::<Vec<_>>(), ["0:2", "1:1"]);
    let times = |reason: &str| report.tallies[reason].times;
    assert_eq!((times("duplicate document"), times("near duplicate"), report.documents_in, report.documents), (2, 2, 6, 2));
    assert_eq!(report.tallies["near duplicate"].examples[0].id, "0:0");
}

/// All kinds at once, each on what the one before left.
fn everything() -> DedupConfig {
    DedupConfig {
        paragraphs: true,
        lines: true,
        substrings: true,
        substring_words: 12,
        min_paragraph_words: 2,
        min_line_words: 2,
        ..DedupConfig::default()
    }
}

/// Parts of which some have nothing to give, with all kinds of duplicates.
fn mixed(parts: usize) -> Vec<Vec<String>> {
    let (mut texts, more) = (random_texts(7, parts, 9), families(8, parts, 7));
    texts.iter_mut().zip(more).for_each(|(t, m)| t.extend(m));
    texts.insert(1, vec![]);
    texts
}

#[test]
fn neither_threads_nor_memory_nor_shares_change_a_byte() {
    let d = Directory::new("shares");
    let from = d.0.join("in");
    write(&from, &mixed(6));
    let config = everything();
    let one = d.0.join("one");
    let report = dedup(&work(1, 1 << 30), &from, &one, &config).unwrap();
    let expected = bytes(&one);
    for reason in ["duplicate document", "near duplicate", "repeated paragraph", "repeated line", "repeated passage", "nothing left"] {
        assert!(report.tallies.get(reason).is_some_and(|t| t.times > 0), "{reason} does not occur");
    }
    for (threads, memory) in [(2, 1 << 14), (5, 1 << 16)] {
        let to = d.0.join(format!("threads-{threads}"));
        assert_eq!(dedup(&work(threads, memory), &from, &to, &config).unwrap(), report);
        assert!(bytes(&to) == expected, "{threads} threads");
    }
    for count in [3, 8] {
        let to = d.0.join(format!("shares-{count}"));
        let share = |i: usize| Work { share: format!("{i}/{count}").parse().unwrap(), ..work(2, 1 << 16) };
        for kind in config.kinds() {
            (1..=count).for_each(|i| drop(dedup_step(&share(i), &from, &to, &config, kind, DedupStep::Keys).unwrap()));
            dedup_step(&work(2, 1 << 16), &from, &to, &config, kind, DedupStep::Merge).unwrap();
            (1..=count).rev().for_each(|i| drop(dedup_step(&share(i), &from, &to, &config, kind, DedupStep::Apply).unwrap()));
        }
        assert!(bytes(&to) == expected, "{count} shares");
    }
}

/// Stopped at every word of its progress, and gone on with: the same bytes, and what was done is not done again.
#[test]
fn stopped_anywhere_and_gone_on() {
    let d = Directory::new("stopped");
    let from = d.0.join("in");
    write(&from, &mixed(3));
    let whole = d.0.join("whole");
    dedup(&work(1, 1 << 20), &from, &whole, &everything()).unwrap();
    let (expected, to) = (bytes(&whole), d.0.join("out"));
    let mut last = 0;
    for after in 1.. {
        let (stop, told) = (AtomicBool::new(false), AtomicUsize::new(0));
        let progress = |_: Progress| stop.store(told.fetch_add(1, Ordering::SeqCst) + 1 >= after, Ordering::SeqCst);
        match dedup(&Work { stop: &stop, progress: &progress, ..work(1, 1 << 20) }, &from, &to, &everything()) {
            Ok(_) => {
                last = after;
                break;
            }
            Err(e) => assert!(e.0.contains("run the same command again"), "{e}"),
        }
    }
    assert!(bytes(&to) == expected);
    assert!(last > 20, "it went on where it had stopped {last} times");
    // a part that is missing, and one that was made of something else
    let part = &parts(&to).unwrap()[0];
    std::fs::remove_file(part.report_file()).unwrap();
    let other = &parts(&to).unwrap()[2];
    let changed = std::fs::read_to_string(other.report_file()).unwrap().replacen("\"made_of\": \"", "\"made_of\": \"0", 1);
    std::fs::write(other.report_file(), changed).unwrap();
    dedup(&work(2, 1 << 20), &from, &to, &everything()).unwrap();
    assert!(bytes(&to) == expected, "they are made again");
    // nothing is left to do
    let told = AtomicUsize::new(0);
    let progress = |_: Progress| {
        told.fetch_add(1, Ordering::SeqCst);
    };
    dedup(&Work { progress: &progress, ..work(2, 1 << 20) }, &from, &to, &everything()).unwrap();
    assert_eq!(told.into_inner(), 0);
    // other settings make other parts, in the same place
    let documents = only(DedupKind::Documents);
    dedup(&work(2, 1 << 20), &from, &to, &documents).unwrap();
    let fresh = d.0.join("fresh");
    dedup(&work(2, 1 << 20), &from, &fresh, &documents).unwrap();
    assert!(bytes(&to) == bytes(&fresh), "nothing of the settings before is left");
}

#[test]
fn a_changed_corpus_is_compared_anew() {
    let d = Directory::new("changed");
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    write(&from, &[vec!["a".into(), "b".into()], vec!["b".into(), "c".into()]]);
    dedup(&work(1, 1 << 20), &from, &to, &only(DedupKind::Documents)).unwrap();
    write(&from, &[vec!["a".into()], vec!["b".into(), "c".into()]]);
    dedup(&work(1, 1 << 20), &from, &to, &only(DedupKind::Documents)).unwrap();
    assert_eq!(read(&to).into_iter().map(|d| d.1).collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let d = Directory::new("dedup-errors");
    let (from, to) = (d.0.join("in"), d.0.join("out"));
    let config = DedupConfig::default();
    let fails = |work: Work, from: &Path, to: &Path, config: &DedupConfig, words: &[&str]| {
        let error = dedup(&work, from, to, config).err().unwrap().0;
        words.iter().for_each(|w| assert!(error.contains(w), "{w:?} is not in: {error}"));
    };
    fails(work(1, 1 << 20), &from, &to, &config, &["in: ", "cannot be read"]);
    std::fs::create_dir_all(&from).unwrap();
    fails(work(1, 1 << 20), &from, &to, &config, &["0 parts", "give the folder"]);
    write(&from, &families(1, 2, 50));
    fails(work(1, 1 << 20), &from, &from, &config, &["name another folder"]);
    write(&d.0.join("other"), &[vec![], vec![], vec!["a".into()]]);
    fails(work(1, 1 << 20), &from, &d.0.join("other"), &config, &["part-002", "remove it"]);
    fails(work(1, 1 << 20), &from, &to, &DedupConfig { bands: 0, ..config.clone() }, &["dedup.bands is 0", "1 to"]);
    fails(work(1, 1 << 20), &from, &to, &DedupConfig { min_similarity: 1.5, ..config.clone() }, &["min_similarity is 1.5"]);
    fails(work(1, 1 << 20), &from, &to, &config.clone().only(&[]), &["documents, near, paragraphs, lines, substrings"]);
    fails(work(1, 1000), &from, &to, &config, &["near duplicates", "try --memory"]);
    let third = Work { share: "1/3".parse().unwrap(), ..work(1, 1 << 20) };
    fails(third, &from, &to, &config, &["--kind documents", "--step keys", "then --kind near"]);
    let step = |work: Work, kind, step, words: &[&str]| {
        let error = dedup_step(&work, &from, &d.0.join("steps"), &config, kind, step).err().unwrap().0;
        words.iter().for_each(|w| assert!(error.contains(w), "{w:?} is not in: {error}"));
    };
    step(third, DedupKind::Documents, DedupStep::Merge, &["by one process"]);
    step(third, DedupKind::Lines, DedupStep::Keys, &["lines", "--kinds lines"]);
    step(work(1, 1 << 20), DedupKind::Documents, DedupStep::Merge, &["part-000.keys", "cannot be read"]);
    step(work(1, 1 << 20), DedupKind::Near, DedupStep::Keys, &["rounds/documents/part-000", "not finished"]);
    // a part that was cut
    let part = parts(&from).unwrap()[0].documents();
    let whole = std::fs::read(&part).unwrap();
    std::fs::write(&part, &whole[..whole.len() / 2]).unwrap();
    fails(work(1, 1 << 20), &from, &to, &only(DedupKind::Documents), &["part-000", "damaged"]);
}

/// No two reasons go by one name.
#[test]
fn kinds_and_steps_are_spelled() {
    let names: BTreeSet<&str> = DedupKind::ALL.iter().map(|k| k.name()).collect();
    assert_eq!(names.len(), 5);
    assert_eq!("merge".parse::<DedupStep>(), Ok(DedupStep::Merge));
    assert!("mergers".parse::<DedupStep>().unwrap_err().contains("keys, merge or apply"));
}

fn eggcorn(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eggcorn"));
    command.args(["data"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command printed, and whether it succeeded.
fn ran(args: &[&str]) -> (String, bool) {
    let out = eggcorn(args).output().unwrap();
    let all = [out.stdout, out.stderr].concat();
    (String::from_utf8(all).unwrap(), out.status.success())
}

/// Killed at instants that cover the whole of it, and run again: the same bytes.
#[test]
fn killed_at_any_instant_and_run_again() {
    let d = Directory::new("killed");
    let (from, whole, to) = (d.0.join("in"), d.path("whole"), d.path("out"));
    write(&from, &mixed(6));
    let input = d.path("in");
    let command = |to: &str| {
        let kinds = ["--kinds", "documents,near,paragraphs,lines,substrings", "--substring-words", "12"];
        eggcorn(&[&["dedup", &input, "--out", to], &kinds[..]].concat())
    };
    let start = Instant::now();
    assert!(command(&whole).status().unwrap().success());
    let (long, mut killed) = (start.elapsed(), 0);
    for i in 1..=10 {
        let mut child = command(&to).spawn().unwrap();
        std::thread::sleep(long * i / 40);
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed >= 3, "it was killed while it ran {killed} times");
    assert!(command(&to).status().unwrap().success());
    assert!(bytes(Path::new(&to)) == bytes(Path::new(&whole)), "and nothing else is left");
}

#[test]
fn the_command_line() {
    let d = Directory::new("data-dedup");
    let (from, to) = (d.path("in"), d.path("out"));
    write(Path::new(&from), &families(3, 3, 20));
    let (error, done) = ran(&["dedup", &from, "--out", &to, "--step", "keys", "--share", "1/2"]);
    assert!(!done && error.contains("--kind documents or near"), "{error}");
    let (error, done) = ran(&["dedup", &from, "--out", &to, "--kinds", "near,words"]);
    assert!(!done && error.contains("'words' is no kind of duplicates: expected documents, near"), "{error}");
    let (text, done) = ran(&["dedup", &from, "--out", &to, "--kinds", "near", "--json"]);
    let report: Report = serde_json::from_str(&text).unwrap();
    assert!(done && report.documents_in == 60 && report.documents < 60, "{text}");
    for (step, share) in [("keys", "1/2"), ("keys", "2/2"), ("merge", "1/1"), ("apply", "2/2"), ("apply", "1/2")] {
        assert!(ran(&["dedup", &from, "--out", &d.path("parted"), "--kinds", "near", "--step", step, "--share", share]).1, "{step} {share}");
    }
    assert!(bytes(Path::new(&d.path("parted"))) == bytes(Path::new(&to)));
    let (shown, done) = ran(&["inspect", &to, "--clusters", "2", "--documents", "1"]);
    assert!(done && shown.contains("3 parts") && shown.contains("near duplicate"), "{shown}");
    assert_eq!(shown.matches(" bytes, stays").count(), 2, "{shown}");
    let (json, _) = ran(&["inspect", &to, "--clusters", "--documents", "2", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["documents"].as_array().unwrap().len(), 2);
    assert!(json["clusters"]["near"]["first"][0]["removed"][0]["similarity"].as_f64().unwrap() > 0.5, "{json}");
    // an evaluation set that is one of the documents, and what is left split
    let text = read(Path::new(&to))[0].1.clone();
    let (shown, done) = ran(&["decontaminate", &to, "--out", &d.path("clear"), "--against", &d.write("set.txt", &text), "--examples"]);
    assert!(done && shown.contains("set.txt"), "{shown}");
    assert!(!read(Path::new(&d.path("clear"))).iter().any(|d| d.1 == text));
    let (shown, done) = ran(&["split", &d.path("clear"), "--out", &d.path("split"), "--held-out", "0.000001"]);
    assert!(!done && shown.contains("no document is held out") && shown.contains("--held-out 0."), "{shown}");
    assert!(ran(&["split", &d.path("clear"), "--out", &d.path("split"), "--held-out", "0.4"]).1);
    assert!(parts(&d.0.join("split").join("held_out")).unwrap().len() == 3);
}

/// The measure of planted duplicates finds what it planted.
#[test]
fn planted_duplicates_are_counted() {
    let out = Command::new(env!("CARGO_BIN_EXE_eggcorn"))
        .args(["bench", "dedup", "--corpus", "4MiB", "--memory", "16MiB", "--json", "--threads", "2"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    assert_eq!(json["precision"], 1.0, "{json}");
    let planted = json["planted"].as_array().unwrap();
    assert_eq!(planted.len(), 6);
    for row in planted {
        let [found, theory, pairs, alike] = ["recall", "theory_with_check", "pairs", "similarity"].map(|k| row[k].as_f64().unwrap());
        assert!(pairs >= 15.0, "{row}");
        // five standard deviations, or one pair
        assert!((found - theory).abs() <= 5.0 * (theory * (1.0 - theory) / pairs).sqrt() + 1.0 / pairs, "{row}");
        let wanted = row["planted"].as_str().unwrap().strip_prefix("near ").map_or(1.0, |s| s.parse::<f64>().unwrap());
        assert!((alike - wanted).abs() < 0.005, "{row}");
    }
}
