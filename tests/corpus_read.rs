//! Files to documents: every format, what is bad, shares, threads, restarts.

use crate::common::Directory;
use llm::corpus::{Format, Input, Progress, ReadConfig, Report, Share, SplitOn, Work, complete, inputs, read};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

static NEVER: AtomicBool = AtomicBool::new(false);

pub fn work() -> Work<'static> {
    Work { threads: 2, memory: 1 << 30, share: Share::ALL, stop: &NEVER, progress: &|_: Progress| {} }
}

/// The documents of a folder, whose ids are without the folder that they were read from.
pub fn documents(folder: &Path, below: &Directory) -> Vec<(String, String)> {
    let below = below.path("");
    let parts = complete(folder).unwrap();
    let all = parts.iter().flat_map(|p| p.read().unwrap().map(Result::unwrap).collect::<Vec<_>>());
    all.map(|d| (d.id.replace(&below, ""), d.text)).collect()
}

/// Every file of a folder by name.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

/// Reads one file of some bytes.
fn read_file(name: &str, bytes: impl AsRef<[u8]>, config: &ReadConfig) -> Result<(Vec<(String, String)>, Report), String> {
    let d = Directory::new(&format!("read-{name}-{:?}", std::thread::current().id()));
    let path = d.write(name, bytes);
    let out = d.0.join("out");
    let report = read(&work(), &inputs(&[path]).unwrap(), &out, config).map_err(|e| e.0.replace(&d.path(""), ""))?;
    Ok((documents(&out, &d), report))
}

#[track_caller]
fn holds(name: &str, bytes: impl AsRef<[u8]>, config: &ReadConfig, expected: &[(&str, &str)]) {
    let found = read_file(name, bytes, config).unwrap().0;
    let found: Vec<(&str, &str)> = found.iter().map(|d| (d.0.as_str(), d.1.as_str())).collect();
    assert_eq!(found, expected, "{name}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

const PAGE: &str = "<!DOCTYPE html><html><head><title>T</title><style>p{}</style></head><body><nav><ul><li><a href='/'>Home</a></li></ul></nav>
<div><h1>Foxes</h1><p>The quick brown fox jumps over the lazy dog, again and again, until the dog, which is lazy, stands up and goes.</p>
<p>Then the fox, which is quick &amp; brown, has nothing to jump over, and it looks for another dog, as foxes in such texts do.</p></div>
<footer><a href='/terms'>Terms</a></footer><script>var x = 1;</script></body></html>";

#[test]
fn every_format() {
    let c = ReadConfig::default();
    holds("a.txt", "hello\nworld\n", &c, &[("a.txt", "hello\nworld\n")]);
    holds("a.md", "# hello", &c, &[("a.md", "# hello")]);
    holds("a", "hello", &c, &[("a", "hello")]);
    let lines = "{\"text\":\"one\"}\n\n{\"id\":[1,{\"text\":2}],\"text\":\"tw\\u00f6\",\"z\":null}\r\n{\"text\":\"\"}\n{\"text\":\"last\"}";
    for name in ["a.jsonl", "a.ndjson", "A.JSONL"] {
        let ids = [1, 3, 5].map(|n| format!("{name}:{n}"));
        holds(name, lines, &c, &[(&ids[0], "one"), (&ids[1], "twö"), (&ids[2], "last")]);
    }
    let list = "[\n  {\"text\": \"a ] } \\\" \\\\\",\n   \"n\": [1, {}]},\n  {\"text\": \"b\"}\n]\n";
    holds("a.json", list, &c, &[("a.json:2", "a ] } \" \\"), ("a.json:4", "b")]);
    holds("b.json", "{\"text\":\"a\"}{\"text\":\n\"b\"} {\"text\":\"c\"}", &c, &[("b.json:1", "a"), ("b.json:1", "b"), ("b.json:2", "c")]);
    let table = "id,text\n1,\"one, \"\"two\"\"\nthree\"\n2,four\n";
    holds("a.csv", table, &c, &[("a.csv:2", "one, \"two\"\nthree"), ("a.csv:4", "four")]);
    holds("a.tsv", "text\tid\none, two\t1\n", &c, &[("a.tsv:2", "one, two")]);
    holds("a.txt", "{\"text\":\"x\"}", &ReadConfig { format: Some(Format::Jsonl), ..c.clone() }, &[("a.txt:1", "x")]);
    for name in ["a.html", "a.htm"] {
        let found = read_file(name, PAGE, &c).unwrap().0;
        assert_eq!((found.len(), found[0].0.as_str()), (1, name));
        let text = &found[0].1;
        assert!(text.contains("quick & brown, has nothing") && text.contains("stands up and goes.\n"), "{text}");
        assert!(!text.contains("Home") && !text.contains("Terms") && !text.contains("var x") && !text.contains('<'), "{text}");
    }
    // where there is no article, all of the page
    holds("b.html", "<p>short</p><script>no</script><style>no</style>", &c, &[("b.html", "short")]);
}

#[test]
fn what_is_packed_is_unpacked() {
    let c = ReadConfig::default();
    let plain = "{\"text\":\"one\"}\n";
    let twice = [gzip(plain.as_bytes()), gzip(b"{\"text\":\"two\"}\n")].concat();
    holds("a.jsonl.gz", &twice, &c, &[("a.jsonl.gz:1", "one"), ("a.jsonl.gz:2", "two")]);
    let packed = zstd::encode_all(plain.as_bytes(), 3).unwrap();
    holds("a.jsonl.zst", [packed.clone(), packed.clone()].concat(), &c, &[("a.jsonl.zst:1", "one"), ("a.jsonl.zst:2", "one")]);
    // the bytes tell, not the name
    holds("a.jsonl", gzip(plain.as_bytes()), &c, &[("a.jsonl:1", "one")]);
    holds("b.txt", packed, &c, &[("b.txt", plain)]);
    let cut = read_file("a.jsonl.gz", &twice[..twice.len() - 3], &c).unwrap_err();
    assert!(cut.starts_with("a.jsonl.gz: the file cannot be read: in line 3: ") && cut.ends_with("; is it whole?"), "{cut}");
    let skipping = ReadConfig { skip_bad: true, ..c };
    assert!(read_file("a.jsonl.gz", &twice[..twice.len() - 3], &skipping).is_err(), "what is cut is no bad record");
}

#[test]
fn a_mark_of_byte_order_is_no_text() {
    let c = ReadConfig::default();
    holds("a.txt", "\u{FEFF}x", &c, &[("a.txt", "x")]);
    holds("a.jsonl.gz", gzip("\u{FEFF}{\"text\":\"x\"}".as_bytes()), &c, &[("a.jsonl.gz:1", "x")]);
    holds("a.csv", "\u{FEFF}text\nx\n", &c, &[("a.csv:2", "x")]);
}

#[test]
fn texts_are_cut() {
    let c = |s: &str| ReadConfig { split_on: s.parse().unwrap(), ..ReadConfig::default() };
    holds("a.txt", "one\r\n\n  \n two \nthree", &c("line"), &[("a.txt:1", "one"), ("a.txt:4", " two "), ("a.txt:5", "three")]);
    let text = "\n\none\ntwo\n \t\n\nthree\n";
    holds("a.txt", text, &c("blank-line"), &[("a.txt:3", "one\ntwo"), ("a.txt:7", "three")]);
    let text = "one\n<|end|>\ntwo|>\n\n<|end|><|end|>three<|end|";
    holds("a.txt", text, &c("<|end|>"), &[("a.txt:1", "one"), ("a.txt:3", "two|>"), ("a.txt:5", "three<|end|")]);
    assert!("".parse::<SplitOn>().unwrap_err().contains("blank-line"));
    for word in ["file", "line", "blank-line", "<|end|>"] {
        assert_eq!(word.parse::<SplitOn>().unwrap().to_string(), word);
    }
}

#[test]
fn fields_by_name() {
    let c = |f: &str| ReadConfig { field: f.into(), ..ReadConfig::default() };
    let line = r#"{"a":{"c":1,"b":"nested","b.x":"dotted"},"a.d":"whole","b":"top","text":null}"#;
    for (name, text) in [("a.b", "nested"), ("a.d", "whole"), ("b", "top"), ("a.b.x", "dotted")] {
        holds("x.jsonl", line, &c(name), &[("x.jsonl:1", text)]);
    }
    for name in ["a.e", "text", "b.a", "aa", "ab", "a"] {
        assert!(read_file("x.jsonl", line, &c(name)).is_err(), "{name}");
    }
    for name in ["", "a.", ".a", "a..b"] {
        assert!(read_file("x.jsonl", line, &c(name)).unwrap_err().starts_with(&format!("--field is '{name}': expected a name")), "{name}");
    }
}

/// Every error in its words: where, what was expected, what to try.
#[test]
fn bad_input_in_words() {
    let c = ReadConfig::default();
    let short = ReadConfig { max_document: 10, ..c.clone() };
    let lines = ReadConfig { split_on: SplitOn::Line, ..c.clone() };
    let skip = ", or --skip-bad to leave it out";
    let utf8 =
        |place: &str, column: usize| format!("{place}: byte {column} of this line is 0xe9, expected UTF-8; try iconv -f LATIN1 -t UTF-8{skip}");
    let long = format!(": this is longer than 10 bytes, expected a shorter document; try --max-document 40{skip}");
    let no_field = format!("a.jsonl:2: this record has no field 'text', expected a string there; try --field{skip}");
    let kind = |k: &str| format!("a.jsonl:1: the field 'text' is {k}, expected a string; try --field{skip}");
    let no_record = |k: &str| format!("a.jsonl:1: this is {k}, expected an object with a field 'text'; try --format{skip}");
    let cases: Vec<(&str, &[u8], &ReadConfig, String)> = vec![
        ("a.txt", b"ab\ncaf\xe9", &c, utf8("a.txt:2", 4)),
        ("a.txt", b"ab\ncaf\xe9", &lines, utf8("a.txt:2", 4)),
        ("a.jsonl", b"\n{\"text\":\"\xe9\"}", &c, utf8("a.jsonl:2", 10)),
        ("a.csv", b"text\n\"x\n\xe9\"\n", &c, utf8("a.csv:3", 1)),
        ("a.html", b"<p>\xe9</p>", &c, utf8("a.html:1", 4)),
        ("a.txt", b"\xFF\xFEa\0", &c, format!("a.txt: this is UTF-16, expected UTF-8; try iconv -f UTF-16 -t UTF-8{skip}")),
        ("a.jsonl", b"{\"text\":\"x\"}\n{\"txt\":\"x\"}", &c, no_field.clone()),
        ("a.jsonl", b"{\"text\":\"x\"}\n{\"text\":null}", &c, no_field),
        ("a.jsonl", b"{\"text\":1}", &c, kind("a number")),
        ("a.jsonl", b"{\"text\":-1.5}", &c, kind("a number")),
        ("a.jsonl", b"{\"text\":true}", &c, kind("true or false")),
        ("a.jsonl", b"{\"text\":[]}", &c, kind("a list")),
        ("a.jsonl", b"{\"text\":{}}", &c, kind("an object")),
        ("a.jsonl", b"[1]", &c, no_record("a list")),
        ("a.jsonl", b"\"x\"", &c, no_record("a string")),
        ("a.jsonl", b"null", &c, no_record("null")),
        (
            "a.jsonl",
            b"{\"text\": \"x\"",
            &c,
            format!("a.jsonl:1: this is not JSON at its byte 12: EOF while parsing an object, expected an object; try --format text{skip}"),
        ),
        (
            "a.jsonl",
            b"{\"text\": \"x\"} y",
            &c,
            format!("a.jsonl:1: this is not JSON at its byte 15: trailing characters, expected an object; try --format text{skip}"),
        ),
        (
            "a.json",
            b"\n[{\"text\":\"x\"}",
            &c,
            "a.json:2: the list that begins here does not end, expected ]; is the file whole? Try --skip-bad to leave it out".into(),
        ),
        ("a.json", b"[{\"text\":\"x\"}, \n7]", &c, format!("a.json:2: this is a number, expected an object with a field 'text'; try --format{skip}")),
        ("a.csv", b"id,text\n1,x\n2\n", &c, format!("a.csv:3: this record has 1 value, expected 2 as the header; try quotes{skip}")),
        ("a.csv", b"id,body\n1,x\n", &c, "a.csv:1: the header has no column 'text', expected id or body; try --field with one of them".into()),
        ("a.txt", b"12345678901", &short, format!("a.txt{long}")),
        ("b.jsonl", b"\n{\"text\":\"x\"}", &short, format!("b.jsonl:2{long}")),
        ("a.json", b"[{\"text\":\"x\"}]", &short, format!("a.json:1{long}")),
        ("a.csv", b"text\n12345678901\n", &short, format!("a.csv:2{long}")),
        ("a.html", b"<p>12345678901</p>", &short, format!("a.html{long}")),
        ("a.txt", b" \n", &c, "no document in 1 file: all are empty; try other files, or another --field".into()),
        ("a.csv", b"", &c, "no document in 1 file: all are empty; try other files, or another --field".into()),
    ];
    for (name, bytes, config, words) in cases {
        assert_eq!(read_file(name, bytes, config).unwrap_err(), words, "{name} {}", String::from_utf8_lossy(bytes));
    }
    let deep = "<div>".repeat(600);
    let found = read_file("a.html", &deep, &c).unwrap_err();
    assert_eq!(found, format!("a.html: elements stand 600 deep in each other, expected at most 512; try --format text{skip}"));
    let open = read_file("a.html", "<p>x<br><li>y".repeat(600), &c).unwrap().0;
    assert_eq!(open[0].1.matches('y').count(), 600, "elements that need no end");
}

/// A quote that does not end makes a record of the rest of a file, which may be longer than memory.
#[test]
fn an_open_quote_is_bounded() {
    let c = ReadConfig { max_document: 1000, skip_bad: true, ..ReadConfig::default() };
    let table = format!("text\nfine\n\"open\n{}", "line\n".repeat(40_000));
    let words =
        "a.csv:3: the record that begins here is longer than 1000 bytes, expected a shorter one; does a quote not end? Try --max-document 4000";
    assert_eq!(read_file("a.csv", table, &c).unwrap_err(), words);
}

#[test]
fn bad_records_are_counted() {
    let c = ReadConfig { skip_bad: true, max_document: 20, ..ReadConfig::default() };
    let mut lines = b"{\"text\":\"a\"}\n{\"txt\":\"b\"}\n[]\n{\"text\":\"\xe9\"}\n{\"text\":\"a longer one, by far\"}\n".to_vec();
    lines.extend_from_slice(b"{\"text\":\"z\"}\n");
    let (found, report) = read_file("a.jsonl", lines, &c).unwrap();
    assert_eq!(found, [("a.jsonl:1".to_string(), "a".to_string()), ("a.jsonl:6".into(), "z".into())]);
    let counts: Vec<(&str, u64, &str)> = report.tallies.iter().map(|(r, t)| (r.as_str(), t.times, t.examples[0].text.as_str())).collect();
    assert_eq!(
        counts,
        [("bad-encoding", 1, "{\"text\":\"\u{FFFD}\"}"), ("bad-record", 1, "[]"), ("missing-field", 1, "{\"txt\":\"b\"}"), ("too-long", 1, "")]
    );
    assert!(report.tallies["too-long"].examples[0].id.ends_with("a.jsonl:5"));
    assert_eq!((report.documents_in, report.documents, report.bytes), (6, 2, 2));
    // what is too long is passed over, whatever cuts texts
    let long = "x".repeat(200_000);
    let c = |s: &str| ReadConfig { split_on: s.parse().unwrap(), max_document: 100, skip_bad: true, ..ReadConfig::default() };
    for (split, text) in [("line", format!("a\n{long}\nz")), ("blank-line", format!("a\n\n{long}\nb\n\nz")), ("<|>", format!("a<|>{long}<<|><|>z"))] {
        let (found, report) = read_file("a.txt", text, &c(split)).unwrap();
        assert_eq!(found.iter().map(|d| d.1.as_str()).collect::<Vec<_>>(), ["a", "z"], "{split}");
        assert_eq!(report.tallies["too-long"].times, 1, "{split}");
    }
    // a paragraph of short lines is as long as all of them
    let (found, report) = read_file("a.txt", format!("a\n\n{}\nz", "a line\n".repeat(20)), &c("blank-line")).unwrap();
    assert_eq!((found.len(), report.tallies["too-long"].times), (2, 1));
    // wherever its pieces end, no separator is lost
    let text: String = (300..410).map(|n| format!("{}<|>ok<|>", "x".repeat(n))).collect();
    let (found, report) = read_file("a.txt", text, &c("<|>")).unwrap();
    assert_eq!((found.len(), report.tallies["too-long"].times), (110, 110));
    let json = format!("[{{\"text\":\"a\"}},{{\"text\":\"{long}\"}},{{\"text\":\"z\"}}]");
    let (found, report) = read_file("a.json", json, &c("file")).unwrap();
    assert_eq!((found.len(), report.tallies["too-long"].times), (2, 1));
    // documents of exactly so many bytes are fine
    for n in [100, 101] {
        for (name, split) in [("a.txt", "file"), ("a.txt", "line"), ("a.txt", "|")] {
            assert_eq!(read_file(name, "y".repeat(n), &c(split)).is_ok(), n == 100, "{split} {n}");
        }
    }
    let all = read_file("a.jsonl", "7\n8\n", &ReadConfig { skip_bad: true, ..ReadConfig::default() }).unwrap_err();
    assert_eq!(all, "no document in 1 file: left out: 2 bad-record; try other files, or another --field");
}

#[test]
fn inputs_are_found() {
    let d = Directory::new("inputs");
    for folder in ["in/b/c", "in/.hidden", "in/a"] {
        std::fs::create_dir_all(d.path(folder)).unwrap();
    }
    for file in ["in/b.txt", "in/b/2.txt", "in/b/10.md", "in/b/c/x", "in/.no", "in/.hidden/no.txt", "in/a/[1].txt"] {
        d.write(file, file);
    }
    let names = |given: &[&str]| -> Vec<String> {
        let given: Vec<String> = given.iter().map(|g| if *g == "-" { "-".into() } else { d.path(g) }).collect();
        let found: Vec<Input> = inputs(&given).unwrap();
        found.into_iter().map(|i| i.name.replace(&d.path(""), "")).collect()
    };
    assert_eq!(names(&["in"]), ["in/a/[1].txt", "in/b/10.md", "in/b/2.txt", "in/b/c/x", "in/b.txt"]);
    assert_eq!(names(&["in/b/2.txt", "in/b", "in/b/c/x"]), ["in/b/10.md", "in/b/2.txt", "in/b/c/x"], "each once");
    assert_eq!(names(&["in/*.txt"]), ["in/b.txt"]);
    assert_eq!(names(&["in/*"]), ["in/a/[1].txt", "in/b/10.md", "in/b/2.txt", "in/b/c/x", "in/b.txt"], "folders that match, too");
    assert_eq!(names(&["in/**/*.txt"]), ["in/a/[1].txt", "in/b/2.txt", "in/b.txt"]);
    assert_eq!(names(&["in/a/[1].txt"]), ["in/a/[1].txt"], "a file may be named like a pattern");
    assert_eq!(names(&["-", "in/b.txt"]), ["in/b.txt", "-"]);
    let fails = |given: &str| inputs(&[d.path(given)]).unwrap_err().0.replace(&d.path(""), "");
    assert!(fails("none.txt").starts_with("none.txt: the file cannot be read: ") && fails("none.txt").contains("a pattern such as 'data/*.txt'"));
    assert_eq!(fails("in/*.pdf"), "in/*.pdf: no file matches; try '**/*.txt' for folders below, too");
    assert!(fails("in/***").contains("this is no pattern"));
    std::fs::create_dir_all(d.path("none")).unwrap();
    d.write("none/.hidden", "x");
    assert_eq!(fails("none"), "none: there is no file to read; hidden files are left out");
}

/// A corpus of several files, some of which are empty or have several parts.
fn corpus(d: &Directory) -> Vec<Input> {
    std::fs::create_dir_all(d.path("in")).unwrap();
    for n in 0..7 {
        let lines: String = (0..n * 3).map(|i| format!("{{\"text\":\"file {n} line {i}\"}}\n")).collect();
        d.write(&format!("in/{n}.jsonl"), lines);
    }
    d.write("in/text.txt", "a text");
    inputs(&[d.path("in")]).unwrap()
}

#[test]
fn shares_and_threads_make_the_same() {
    let d = Directory::new("shares");
    let all = corpus(&d);
    let c = ReadConfig::default();
    let out = |name: &str| d.0.join(name);
    read(&Work { threads: 1, ..work() }, &all, &out("one"), &c).unwrap();
    let expected = files(&out("one"));
    assert_eq!(expected.keys().filter(|k| k.ends_with(".zst")).count(), 7, "{:?}", expected.keys());
    read(&Work { threads: 5, ..work() }, &all, &out("threads"), &c).unwrap();
    assert_eq!(files(&out("threads")), expected);
    for count in [2, 3, 8] {
        let to = out(&format!("of-{count}"));
        for share in (1..=count).rev() {
            let words = complete(&to).map(|p| p.len()).map_err(|e| e.0);
            assert!(words.is_err(), "{words:?} before share {share} of {count}");
            read(&Work { share: format!("{share}/{count}").parse().unwrap(), ..work() }, &all, &to, &c).unwrap();
        }
        assert_eq!(files(&to), expected, "{count} shares");
        assert_eq!(complete(&to).unwrap().len(), 7);
    }
    read(&Work { share: "2/3".parse().unwrap(), ..work() }, &all, &out("part"), &c).unwrap();
    let words = complete(&out("part")).unwrap_err().0.replace(&d.path(""), "");
    let way = "run eggcorn data read to its end, with every --share if it has shares";
    assert_eq!(words, format!("part: the input 1 of 8, in/0.jsonl, is not read: {way}"));
}

#[test]
fn what_is_read_is_not_read_again() {
    let d = Directory::new("again");
    let all = corpus(&d);
    let (c, out) = (ReadConfig::default(), d.0.join("out"));
    let first = read(&work(), &all, &out, &c).unwrap();
    let expected = files(&out);
    // a mark that reading would remove
    let mark = out.join("00003-0000.jsonl.zst");
    std::fs::write(&mark, "mark").unwrap();
    assert_eq!(read(&work(), &all, &out, &c).unwrap(), first);
    assert_eq!(std::fs::read(&mark).unwrap(), b"mark");
    // a part that is gone, a record that is damaged, an input that changed, other settings
    std::fs::remove_file(&mark).unwrap();
    assert!(complete(&out).unwrap_err().0.contains("in/3.jsonl, is not read"));
    std::fs::write(out.join("00004.read.json"), "{").unwrap();
    read(&work(), &all, &out, &c).unwrap();
    assert_eq!(files(&out), expected);
    d.write("in/3.jsonl", "");
    d.write("in/4.jsonl", "{\"text\":\"changed\"}\n");
    read(&work(), &all, &out, &c).unwrap();
    assert!(!mark.exists(), "a part of an older reading stays");
    assert!(documents(&out, &d).contains(&("in/4.jsonl:1".into(), "changed".into())));
    let by_line = ReadConfig { format: Some(Format::Text), split_on: SplitOn::Line, ..c.clone() };
    read(&work(), &all, &out, &by_line).unwrap();
    assert_eq!(documents(&out, &d)[0].1, "{\"text\":\"file 1 line 0\"}");
    // fewer inputs than before
    let fewer = &all[..3];
    read(&work(), fewer, &out, &c).unwrap();
    let fresh = d.0.join("fresh");
    read(&work(), fewer, &fresh, &c).unwrap();
    assert_eq!(files(&out), files(&fresh));
}

#[test]
fn what_was_stopped_goes_on() {
    let d = Directory::new("stopped");
    let all = corpus(&d);
    let (c, out, whole) = (ReadConfig::default(), d.0.join("out"), d.0.join("whole"));
    read(&work(), &all, &whole, &c).unwrap();
    for after in 1..all.len() {
        let stop = AtomicBool::new(false);
        let progress = |p: Progress| stop.store(p.done >= after, Ordering::Relaxed);
        let stopped = read(&Work { threads: 1, stop: &stop, progress: &progress, ..work() }, &all, &out, &c);
        assert!(stopped.unwrap_err().0.starts_with("stopped; "), "{after}");
        assert!(complete(&out).is_err(), "{after}");
    }
    read(&work(), &all, &out, &c).unwrap();
    assert_eq!(files(&out), files(&whole));
}

/// Parts hold 32 MiB of text, and a document is in one of them.
#[test]
fn a_large_file_is_in_parts() {
    let d = Directory::new("large");
    let line = format!("{}\n", "x".repeat((1 << 20) - 1));
    let path = d.write("a.txt", line.repeat(70));
    let out = d.0.join("out");
    let c = ReadConfig { split_on: SplitOn::Line, ..ReadConfig::default() };
    read(&work(), &inputs(std::slice::from_ref(&path)).unwrap(), &out, &c).unwrap();
    let parts = complete(&out).unwrap();
    let found: Vec<(String, u64)> = parts.iter().map(|p| (p.name.clone(), p.report().unwrap().documents)).collect();
    assert_eq!(found, [("00000-0000".to_string(), 32), ("00000-0001".into(), 32), ("00000-0002".into(), 6)]);
    // a shorter file has fewer
    d.write("a.txt", line.repeat(2));
    read(&work(), &inputs(&[path]).unwrap(), &out, &c).unwrap();
    assert_eq!(files(&out).keys().collect::<Vec<_>>(), ["00000-0000.json", "00000-0000.jsonl.zst", "00000.read.json", "inputs.json"]);
}

#[test]
fn what_is_written_is_not_read() {
    let d = Directory::new("inside");
    std::fs::create_dir_all(d.path("in/out")).unwrap();
    d.write("in/out/a.txt", "x");
    let all = inputs(&[d.path("in")]).unwrap();
    let words = read(&work(), &all, &d.0.join("in/out"), &ReadConfig::default()).unwrap_err().0;
    assert!(words.contains("a.txt: this input is in the folder that is written") && words.ends_with("name another --out"), "{words}");
}

#[test]
fn memory_bounds_documents() {
    let c = ReadConfig::default();
    assert!(c.check(65 << 20).is_ok());
    let words = c.check(64 << 20).unwrap_err().0;
    assert_eq!(
        words,
        "--max-document is 67108864 bytes: expected at least 1, and less than the 67108864 bytes of --memory; try --max-document 64MiB"
    );
    assert!(ReadConfig { max_document: 0, ..c }.check(1 << 30).is_err());
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_is_a_feature() {
    let words = read_file("a.parquet", "PAR1", &ReadConfig::default()).unwrap_err();
    assert_eq!(words, "a.parquet: this is a Parquet file, and this program was built without them; build it with --features parquet");
}

/// Four records in two groups: `id`, `text` that may be null, `meta.body`, a list `l`. Written by the `parquet` crate.
#[cfg(feature = "parquet")]
const RECORDS: &[u8] = include_bytes!("data/records.parquet");

#[cfg(feature = "parquet")]
#[test]
fn parquet_is_read() {
    let c = |field: &str, skip_bad: bool| ReadConfig { field: field.into(), skip_bad, ..ReadConfig::default() };
    holds("a.parquet", RECORDS, &c("text", true), &[("a.parquet:1", "one"), ("a.parquet:3", "thrö"), ("a.parquet:4", "four")]);
    let ids = [1, 2, 3, 4].map(|n| format!("a.parquet:{n}"));
    holds("a.parquet", RECORDS, &c("meta.body", false), &ids.each_ref().map(|id| (id.as_str(), "body")));
    let fails = |bytes: &[u8], config: &ReadConfig| read_file("a.parquet", bytes, config).unwrap_err();
    let null = "a.parquet:2: the field 'text' is null here, expected a string; try another --field, or --skip-bad to leave it out";
    assert_eq!(fails(RECORDS, &c("text", false)), null);
    assert_eq!(fails(RECORDS, &c("id", true)), "a.parquet: the column 'id' holds no strings; try another --field");
    assert_eq!(
        fails(RECORDS, &c("l.list.element", true)),
        "a.parquet: the column 'l.list.element' holds lists, expected strings; try another --field"
    );
    let known = "id, text, meta.body or l.list.element; try --field with one of them";
    assert_eq!(fails(RECORDS, &c("body", true)), format!("a.parquet: there is no column 'body', expected {known}"));
    let long = fails(RECORDS, &ReadConfig { max_document: 3, ..c("meta.body", false) });
    assert!(long.starts_with("a.parquet:1: this is longer than 3 bytes"), "{long}");
    for n in (0..RECORDS.len()).step_by(7) {
        assert!(fails(&RECORDS[..n], &c("text", true)).starts_with("a.parquet: the Parquet file cannot be read: "), "cut at {n}");
    }
}

/// The command, from standard input.
#[test]
fn the_command_reads_standard_input() {
    let d = Directory::new("stdin");
    let out = d.path("out");
    let run = |text: &str, more: &[&str]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_eggcorn"))
            .args(["data", "read", "-", "--out", &out])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // one that refuses its arguments reads nothing
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let done = child.wait_with_output().unwrap();
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    };
    let (code, table, errors) = run("{\"text\":\"one\"}\n{}\n", &["--format", "jsonl", "--skip-bad", "--examples"]);
    assert_eq!(code, Some(0), "{errors}");
    let words: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert!(words.contains(&vec!["in", "2", "18"]) && words.contains(&vec!["out", "1", "3"]), "{table}");
    assert!(words.contains(&vec!["missing-field", "1", "0"]) && words.contains(&vec!["-:2:", "{}"]), "{table}");
    assert_eq!(documents(Path::new(&out), &d), [("-:1".into(), "one".into())]);
    // what comes from there may be another text each time
    let (_, json, _) = run("two", &["--json"]);
    let report: Report = serde_json::from_str(&json).unwrap();
    assert_eq!((report.documents, report.bytes), (1, 3));
    assert_eq!(documents(Path::new(&out), &d), [("-".into(), "two".into())]);
    run("three", &["--json"]);
    assert_eq!(documents(Path::new(&out), &d), [("-".into(), "three".into())]);
    let (code, _, errors) = run("{}", &["--format", "jsonl"]);
    assert_eq!(
        (code, errors.as_str()),
        (Some(1), "error: -:1: this record has no field 'text', expected a string there; try --field, or --skip-bad to leave it out\n")
    );
    let (code, _, errors) = run("x", &["--format", "pdf"]);
    assert!(code == Some(2) && errors.contains("'pdf' is no format: expected text, jsonl, json, csv, tsv, html or parquet"), "{errors}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A text between separators is what a plain search finds, however the separator overlaps itself.
    #[test]
    fn separators_are_found(pieces in prop::collection::vec("[ab\n]{0,6}", 1..8), separator in "[ab]{1,3}") {
        let text = pieces.join(&separator);
        let c = ReadConfig { split_on: SplitOn::Separator(separator.clone()), ..ReadConfig::default() };
        let trim = |t: &str| t.trim_matches('\n').to_string();
        let expected: Vec<String> = text.split(&separator).map(trim).filter(|t| !t.is_empty()).collect();
        match read_file("a.txt", &text, &c) {
            Ok((found, _)) => prop_assert_eq!(found.into_iter().map(|d| d.1).collect::<Vec<_>>(), expected),
            Err(_) => prop_assert!(expected.is_empty()),
        }
    }

    /// Records that were written as JSON are read back, a line each or in a list, whatever else they hold.
    #[test]
    fn json_comes_back(texts in prop::collection::vec("\\PC{1,20}x", 1..6), other in "\\PC{0,10}") {
        let records: Vec<serde_json::Value> = texts.iter().map(|t| serde_json::json!({"a": {"text": other, "b": [1, other]}, "text": t})).collect();
        let lines: String = records.iter().map(|r| format!("{r}\n")).collect();
        let list = serde_json::to_string_pretty(&records).unwrap();
        for (name, text) in [("a.jsonl", &lines), ("a.json", &list), ("b.json", &lines)] {
            let found: Vec<String> = read_file(name, text, &ReadConfig::default()).unwrap().0.into_iter().map(|d| d.1).collect();
            prop_assert_eq!(&found, &texts);
        }
    }

    /// Nothing panics, and with `--skip-bad` nothing but a table's quotes is an error that stops.
    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'{'), Just(b'}'), Just(b','), Just(b'\n'), Just(b'<'), any::<u8>()], 0..200)) {
        for format in Format::ALL {
            let c = ReadConfig { format: Some(*format), skip_bad: true, ..ReadConfig::default() };
            if let Err(e) = read_file("any", &bytes, &c) {
                let fine = e.starts_with("no document") || e.contains("the header has no column") || *format == Format::Parquet || bytes.starts_with(&[0x1F, 0x8B]);
                prop_assert!(fine, "{}: {}", format, e);
            }
        }
    }
}
