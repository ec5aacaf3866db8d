//! Documents cleaned: every step with cases computed by hand.

use crate::common::Directory;
use crate::corpus_read::{documents, files, work};
use llm::corpus::{CleanConfig, Document, Filter, Form, Mask, ReadConfig, Report, Work, clean, clean_document, complete, inputs, read, set};
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;

/// A document's text after cleaning, and what was counted.
fn cleaned(text: &str, config: &CleanConfig) -> (Option<String>, Report) {
    let mut report = Report::default();
    let document = clean_document(Document::new("d", text), config, &mut report);
    (document.map(|d| d.text), report)
}

/// Times and bytes by reason.
fn tallies(report: &Report) -> Vec<(&str, u64, u64)> {
    report.tallies.iter().map(|(r, t)| (r.as_str(), t.times, t.bytes)).collect()
}

#[track_caller]
fn becomes(text: &str, config: &CleanConfig, expected: &str, counts: &[(&str, u64, u64)]) {
    let (found, report) = cleaned(text, config);
    assert_eq!((found.as_deref(), tallies(&report)), (Some(expected), counts.to_vec()), "{text:?}");
}

#[test]
fn texts_are_written_one_way() {
    let c = CleanConfig::default();
    becomes("as it is\n\n\nwith\ttabs é 日本 👩\u{200D}👩", &c, "as it is\n\n\nwith\ttabs é 日本 👩\u{200D}👩", &[]);
    becomes("a\r\nb\rc\x0Cd\x0Be\u{85}f\r\n\r\ng", &c, "a\nb\nc\nd\ne\nf\n\ng", &[("line-ends", 7, 4)]);
    becomes("a\0b\x1Bc\x7Fd\u{9B}e\u{200B}f\u{FEFF}g\u{AD}h\u{2060}i", &c, "abcdefghi", &[("invisible", 8, 16)]);
    becomes("e\u{301}a\n\u{212B}\nü", &c, "éa\nÅ\nü", &[("unicode", 2, 2)]);
    becomes("e\u{200B}\u{301}", &c, "é", &[("invisible", 1, 3), ("unicode", 1, 1)]);
    becomes("a  \nb \t\n  c\u{3000}\n d", &c, "a\nb\n  c\n d", &[("trailing-spaces", 3, 7)]);
    becomes("a\n\n\n\n\nb\n\n\n\nc\n\n\n", &c, "a\n\n\nb\n\n\nc\n\n\n", &[("blank-lines", 3, 3)]);
    becomes("\n\n\n\na", &c, "\n\na", &[("blank-lines", 2, 2)]);
    // blank lines of spaces are blank lines
    becomes("a\n \n \n \nb", &c, "a\n\n\nb", &[("blank-lines", 1, 1), ("trailing-spaces", 3, 3)]);
    let nfkc = CleanConfig { unicode: Form::Nfkc, ..c.clone() };
    becomes("ﬁ² Ａ\u{A0}", &nfkc, "fi2 A", &[("trailing-spaces", 1, 1), ("unicode", 1, 5)]);
    becomes("ﬁ² Ａ", &c, "ﬁ² Ａ", &[]);
    let (_, report) = cleaned(&format!("first\n{}\nthe line \0 here", "x".repeat(300)), &c);
    assert_eq!(report.tallies["invisible"].examples[0].text, "the line \0 here");
}

#[test]
fn each_step_is_a_switch() {
    let text = "a\r\0e\u{301} \n\n\n\n\nb";
    let c =
        CleanConfig { line_ends: false, invisible: false, unicode: Form::None, trailing_spaces: false, max_blank_lines: 0, ..CleanConfig::default() };
    becomes(text, &c, text, &[]);
    let on: [(&str, CleanConfig); 5] = [
        ("line-ends", CleanConfig { line_ends: true, ..c.clone() }),
        ("invisible", CleanConfig { invisible: true, ..c.clone() }),
        ("unicode", CleanConfig { unicode: Form::Nfc, ..c.clone() }),
        ("trailing-spaces", CleanConfig { trailing_spaces: true, ..c.clone() }),
        ("blank-lines", CleanConfig { max_blank_lines: 1, ..c }),
    ];
    for (reason, config) in on {
        let report = cleaned(text, &config).1;
        assert_eq!(report.tallies.keys().collect::<Vec<_>>(), [reason]);
    }
}

#[test]
fn documents_of_nothing_go() {
    for text in ["", " \n\t", "\0\u{200B}"] {
        assert!(cleaned(text, &CleanConfig::default()).1.tallies.contains_key("empty"), "{text:?}");
    }
}

/// A filter with every rule switched off.
fn off(filter: Filter) -> CleanConfig {
    CleanConfig {
        filters: vec![filter],
        terminal_punctuation: false,
        min_line_words: 0,
        max_word_length: 0,
        citations: false,
        javascript: false,
        policy: false,
        lorem_ipsum: false,
        curly_bracket: false,
        min_sentences: 0,
        min_words: 0,
        max_words: 0,
        min_mean_word: 0.0,
        max_mean_word: 0.0,
        max_symbols: 0.0,
        max_bullet_lines: 0.0,
        max_ellipsis_lines: 0.0,
        min_alphabetic: 0.0,
        min_stop_words: 0,
        max_duplicate_paragraphs: 0.0,
        max_duplicate_paragraph_characters: 0.0,
        max_duplicate_lines: 0.0,
        max_duplicate_line_characters: 0.0,
        max_top_ngram: [0.0; 3],
        max_duplicate_ngram: [0.0; 6],
        min_punctuated_lines: 0.0,
        max_short_lines: 0.0,
        short_line: 3,
        max_repeated_line_characters: 0.0,
        max_line_ends: 0.0,
        ..CleanConfig::default()
    }
}

/// With one rule a text stays, and another goes for a reason. With no rule both stay.
#[track_caller]
fn rule(filter: Filter, setting: &str, stays: &str, goes: &str, reason: &str) {
    let config = set("clean", &off(filter), setting).unwrap();
    assert_eq!(tallies(&cleaned(stays, &config).1), [], "{setting}: {stays:?} stays");
    let (text, report) = cleaned(goes, &config);
    assert_eq!((text, tallies(&report)), (None, vec![(reason, 1, goes.len() as u64)]), "{setting}: {goes:?} goes");
    assert_eq!(cleaned(goes, &off(filter)).0.as_deref(), Some(goes), "{reason} is switched off");
}

#[test]
fn gopher_quality() {
    let q = |setting: &str, stays: &str, goes: &str, reason: &str| {
        rule(Filter::GopherQuality, setting, stays, goes, reason);
        rule(Filter::Gopher, setting, stays, goes, reason);
    };
    // marks are no words
    q("min_words=3", "a b c", "a, b ! ...", "gopher-short");
    q("max_words=2", "a, b .", "a b c", "gopher-long");
    q("min_mean_word=3", "abc, dé\u{301}fgh", "abc, ab", "gopher-short-words");
    q("max_mean_word=3", "abc abc.", "abc abcd", "gopher-long-words");
    q("max_symbols=.5", "# a", "# a #", "gopher-hashes");
    q("max_symbols=.5", "a ...", "a ... …", "gopher-ellipses");
    q("max_bullet_lines=.5", "- a\nb", "- a\n • b\nc", "gopher-bullet-lines");
    q("max_ellipsis_lines=.5", "a...\nb", "a...\nb…\nc", "gopher-ellipsis-lines");
    q("min_alphabetic=.5", "a 1", "a 1 2", "gopher-not-alphabetic");
    q("min_stop_words=2", "x the y of", "x the The y", "gopher-stop-words");
}

#[test]
fn gopher_repetition() {
    let r = |key: &str, text: &str, below: f64, above: f64, reason: &str| {
        for filter in [Filter::GopherRepetition, Filter::Gopher] {
            let config = |threshold: f64| set("clean", &off(filter), &format!("{key}={threshold}")).unwrap();
            assert_eq!(cleaned(text, &config(above)).0.as_deref(), Some(text), "{key} {above}");
            assert_eq!(tallies(&cleaned(text, &config(below)).1), [(reason, 1, text.len() as u64)], "{key} {below}");
        }
    };
    // one of three paragraphs; 4 of 14 characters
    r("max_duplicate_paragraphs", "a\n\na\n\nb", 0.33, 0.34, "gopher-duplicate-paragraphs");
    r("max_duplicate_paragraph_characters", "aaaa\n\naaaa\n\nbb", 0.28, 0.29, "gopher-duplicate-paragraph-characters");
    // a line that is a paragraph by itself is a line; blank lines are none; 3 of 10 characters, not of 12 bytes
    r("max_duplicate_lines", "a\na\n\nb", 0.33, 0.34, "gopher-duplicate-lines");
    r("max_duplicate_line_characters", "äaa\näaa\nbb", 0.29, 0.31, "gopher-duplicate-line-characters");
    let grams = |at: usize, n: usize, threshold: f64| {
        let mut all = vec![0.0; n];
        all[at] = threshold;
        all
    };
    let g = |key: &str, at: usize, n: usize, text: &str, share: f64, reason: &str| {
        for filter in [Filter::GopherRepetition, Filter::Gopher] {
            let config = |threshold: f64| set("clean", &off(filter), &format!("{key}={:?}", grams(at, n, threshold))).unwrap();
            assert_eq!(cleaned(text, &config(share + 0.001)).0.as_deref(), Some(text), "{reason}");
            assert_eq!(tallies(&cleaned(text, &config(share - 0.001)).1), [(reason, 1, text.len() as u64)]);
        }
    };
    // the most frequent words, with the space between, as often as they occur
    g("max_top_ngram", 0, 3, "a b a b c", 6.0 / 9.0, "gopher-top-2-gram");
    g("max_top_ngram", 1, 3, "a b c a b c", 10.0 / 11.0, "gopher-top-3-gram");
    g("max_top_ngram", 2, 3, "a b c d a b c d", 14.0 / 15.0, "gopher-top-4-gram");
    // of several that are as frequent the first
    g("max_top_ngram", 0, 3, "a b ccc", 3.0 / 7.0, "gopher-top-2-gram");
    g("max_top_ngram", 0, 3, "ccc b a", 5.0 / 7.0, "gopher-top-2-gram");
    // what is found is passed over: once in seven times x, not twice
    g("max_duplicate_ngram", 0, 6, "x x x x x x x", 5.0 / 13.0, "gopher-repeated-5-grams");
    for n in 5..=10usize {
        let words: Vec<String> = ('a'..).take(n).map(String::from).collect();
        let twice = [words.clone(), words].concat().join(" ");
        let reason = format!("gopher-repeated-{n}-grams");
        g("max_duplicate_ngram", n - 5, 6, &twice, n as f64 / (4 * n - 1) as f64, &reason);
    }
}

#[test]
fn c4_lines() {
    let lines = |setting: &str, text: &str, kept: &str, counts: &[(&str, u64, u64)]| {
        let config = set("clean", &off(Filter::C4), setting).unwrap();
        becomes(text, &config, kept, counts);
        becomes(text, &off(Filter::C4), text.trim(), &[]);
    };
    let text = "It is.\nIs it?\nIt is!\n\"It is\"\nno end\nwait...\nIt's 'so'";
    lines("terminal_punctuation=true", text, "It is.\nIs it?\nIt is!\n\"It is\"\nIt's 'so'", &[("c4-line-no-punctuation", 2, 15)]);
    lines("min_line_words=3", "one two three\none two", "one two three", &[("c4-line-few-words", 1, 8)]);
    lines("max_word_length=5", "short lines\nlonger x\nfünfé", "short lines\nfünfé", &[("c4-line-long-word", 1, 9)]);
    lines("javascript=true", "one\nwithout JavaScript\ntwo", "one\ntwo", &[("c4-line-javascript", 1, 19)]);
    lines("policy=true", "one\nour Cookie Policy is\nuse of cookies\ncookies are good", "one\ncookies are good", &[("c4-line-policy", 2, 36)]);
    becomes("a [12] b [edit] c[citation needed][] [x1]", &CleanConfig { citations: true, ..off(Filter::C4) }, "a  b  c [x1]", &[]);
    // indentation and blank lines are of no use to sentences
    becomes("  a\n\n b", &CleanConfig { min_line_words: 1, ..off(Filter::C4) }, "a\nb", &[]);
}

#[test]
fn c4_documents() {
    let d = |setting: &str, stays: &str, goes: &str, reason: &str| rule(Filter::C4, setting, stays, goes, reason);
    d("lorem_ipsum=true", "lorem", "a\nLorem Ipsum dolor", "c4-lorem-ipsum");
    d("curly_bracket=true", "a (b)", "a\n{b}", "c4-curly-bracket");
    d("min_sentences=3", "One. Two? (Three!)", "One. Two 3.5 in all", "c4-few-sentences");
    assert!(!CleanConfig::default().curly_bracket);
    // lines that go have no sentences
    let config = CleanConfig { min_line_words: 2, min_sentences: 2, ..off(Filter::C4) };
    assert_eq!(cleaned("One here.\nTwo.", &config).0, None);
}

#[test]
fn fineweb() {
    let f = |setting: &str, stays: &str, goes: &str, reason: &str| rule(Filter::FineWeb, setting, stays, goes, reason);
    f("min_punctuated_lines=.5", "a.\nb!\nc", "a.\nb", "fineweb-punctuation");
    f("max_short_lines=.5", "äbc\nabcd\nabcd", "äbc\nabcd", "fineweb-short-lines");
    // 1 of 10 characters without line ends
    f("max_repeated_line_characters=.1", "a\na\nbbbbbbbbb", "a\na\nbbbbbbbb", "fineweb-repeated-lines");
    f("max_line_ends=.5", "a b\nc\nd", "a\nb\nc", "fineweb-lists");
    // blank lines repeat nothing
    let config = set("clean", &off(Filter::FineWeb), "max_repeated_line_characters=.01").unwrap();
    assert!(cleaned("a\n\n\nb", &config).0.is_some());
}

/// What was published, and that prose passes it.
#[test]
fn thresholds_are_the_published_ones() {
    let c = CleanConfig::default();
    assert!(c.filters.is_empty() && c.masks.is_empty() && c.languages.is_empty() && !c.identify);
    assert_eq!((c.min_words, c.max_words, c.min_mean_word, c.max_mean_word, c.max_symbols), (50, 100_000, 3.0, 10.0, 0.1));
    assert_eq!((c.max_bullet_lines, c.max_ellipsis_lines, c.min_alphabetic, c.min_stop_words), (0.9, 0.3, 0.8, 2));
    assert_eq!((c.max_duplicate_paragraphs, c.max_duplicate_paragraph_characters), (0.3, 0.2));
    assert_eq!((c.max_duplicate_lines, c.max_duplicate_line_characters), (0.3, 0.2));
    assert_eq!((c.max_top_ngram, c.max_duplicate_ngram), ([0.2, 0.18, 0.16], [0.15, 0.14, 0.13, 0.12, 0.11, 0.1]));
    assert_eq!((c.min_sentences, c.min_line_words, c.max_word_length), (3, 3, 1000));
    assert_eq!(
        (c.min_punctuated_lines, c.max_short_lines, c.short_line, c.max_repeated_line_characters, c.max_line_ends),
        (0.12, 0.67, 30, 0.01, 0.3)
    );
    let prose = "The fox that lives behind the old mill has never been seen by anyone who was looking for it.\n\
        People have come with dogs and with lanterns to find it, and they have gone home with nothing but wet shoes.\n\
        It is said to be as large as a calf, and to speak in the voice of a child when the moon is low.\n\
        My grandmother, who does not believe in such things, leaves a bowl of milk at the gate every evening all the same.";
    let all = CleanConfig { filters: Filter::ALL.to_vec(), languages: vec!["eng".into()], masks: Mask::ALL.to_vec(), ..c };
    becomes(prose, &all, prose, &[]);
    let half = prose.lines().next().unwrap();
    assert_eq!(cleaned(half, &all).0, None);
}

#[test]
fn languages() {
    let english = "The quick brown fox jumps over the lazy dog, and then the dog goes to sleep again in the warm sun.";
    let german = "Der schnelle braune Fuchs springt über den faulen Hund, und dann schläft der Hund in der warmen Sonne wieder ein.";
    let of = |codes: &[&str]| CleanConfig { languages: codes.iter().map(|c| c.to_string()).collect(), ..CleanConfig::default() };
    let reason = |text: &str, c: &CleanConfig| cleaned(text, c).1.tallies.keys().next().cloned();
    assert_eq!(reason(english, &of(&["eng"])), None);
    assert_eq!(reason(german, &of(&["deu", "eng"])), None);
    assert_eq!(reason(german, &of(&["eng"])).as_deref(), Some("language-other"));
    assert_eq!(reason("12345 67890", &of(&["eng"])).as_deref(), Some("language-unknown"));
    let sure = |c: f64| CleanConfig { language_confidence: c, ..of(&["eng"]) };
    assert_eq!((reason(english, &sure(0.9)), reason("the hat", &sure(1.0)).as_deref()), (None, Some("language-unsure")));
    let mut report = Report::default();
    let identify = CleanConfig { identify: true, ..CleanConfig::default() };
    let found = clean_document(Document::new("d", german), &identify, &mut report).unwrap();
    assert_eq!((found.language.as_deref(), report.counts.get("language-deu")), (Some("deu"), Some(&1)));
    let known = Document { language: Some("fra".into()), ..Document::new("d", english) };
    assert_eq!(clean_document(known, &CleanConfig::default(), &mut report).unwrap().language.as_deref(), Some("fra"), "what was known stays");
    let words = of(&["enk"]).check().unwrap_err().0;
    assert!(
        words.starts_with("'enk' is no language that is known; did you mean e") && words.contains("expected codes as eng or deu, of "),
        "{words}"
    );
}

#[test]
fn masks() {
    let with = |masks: &[Mask], text: &str| cleaned(text, &CleanConfig { masks: masks.to_vec(), ..CleanConfig::default() }).0.unwrap();
    let cases: [(Mask, &str, &[(&str, &str)]); 3] = [
        (
            Mask::Email,
            "<EMAIL>",
            &[
                ("a@b.org-8 and a@b.org-8.8.8.8c@d.org", "<EMAIL>-8 and <EMAIL>-<EMAIL>"),
                ("write to jo.doe+x@mail.example.org.", "write to <EMAIL>."),
                ("(A@B.co, c_d@e-f.info)", "(<EMAIL>, <EMAIL>)"),
                ("me@home pkg@1.2.3 @name a@b.c x@.com @x.org", "me@home pkg@1.2.3 @name a@b.c x@.com @x.org"),
            ],
        ),
        (
            Mask::Phone,
            "<PHONE>",
            &[
                ("call +49 30 1234567 or +1 (555) 123-4567!", "call <PHONE> or <PHONE>!"),
                ("call (555) 223-4567, 555-223-4567 or 555.223.4567.", "call <PHONE>, <PHONE> or <PHONE>."),
                ("tel:+4930123456", "tel:<PHONE>"),
                ("on 2024-01-02 to 2024-01-03, 12/11/2023", "on 2024-01-02 to 2024-01-03, 12/11/2023"),
                (
                    "id 5552234567, 1-555-223-4567-89, a555-223-4567, v555.223.4567.8, 10/555-223-4567",
                    "id 5552234567, 1-555-223-4567-89, a555-223-4567, v555.223.4567.8, 10/555-223-4567",
                ),
                ("1 +2 +3, +1 234, +123456789012345678", "1 +2 +3, +1 234, +123456789012345678"),
                ("isbn 978-3-16-148410-0 at 12:30-13:45, 555-223-4567-89", "isbn 978-3-16-148410-0 at 12:30-13:45, 555-223-4567-89"),
            ],
        ),
        (
            Mask::Ip,
            "<IP>",
            &[
                ("from 8.8.8.8, 1.1.1.1:53 and http://9.9.9.9/x.", "from <IP>, <IP>:53 and http://<IP>/x."),
                ("to 2a00:1450:4001:82b::200e, 2606:4700::1111", "to <IP>, <IP>"),
                ("in [2620:fe::fe]:443 and 2001:4860:4860:0:0:0:0:8888", "in [<IP>]:443 and <IP>"),
                (
                    "version 1.2.3.4, v1.2.3.4, Release: 10.2.0.1 1.2.3.4.5 8.8.8 1.2.3.256 8.8.8.8-9",
                    "version 1.2.3.4, v1.2.3.4, Release: 10.2.0.1 1.2.3.4.5 8.8.8 1.2.3.256 8.8.8.8-9",
                ),
                (
                    "127.0.0.1 10.0.0.1 192.168.1.1 169.254.0.1 0.0.0.0 255.255.255.255 192.0.2.1 224.0.0.1",
                    "127.0.0.1 10.0.0.1 192.168.1.1 169.254.0.1 0.0.0.0 255.255.255.255 192.0.2.1 224.0.0.1",
                ),
                (
                    "::1 fe80::1 2001:db8::1 at 12:34:56, abc::def, 2000-01-02T03:04:05 aa:bb:cc:dd:ee:ff",
                    "::1 fe80::1 2001:db8::1 at 12:34:56, abc::def, 2000-01-02T03:04:05 aa:bb:cc:dd:ee:ff",
                ),
            ],
        ),
    ];
    for (mask, word, texts) in cases {
        for (text, expected) in texts {
            assert_eq!(with(&[mask], text), *expected, "{mask}");
            assert_eq!(with(&[mask], expected), *expected, "{mask}, again");
            assert_eq!(with(&[], text), *text, "{mask} is off");
            let report = cleaned(text, &CleanConfig { masks: vec![mask], ..CleanConfig::default() }).1;
            let times = report.tallies.get(&format!("mask-{mask}")).map_or(0, |t| t.times);
            assert_eq!(times as usize, expected.matches(word).count(), "{text}");
        }
    }
    assert_eq!(with(Mask::ALL, "a@b.org 8.8.8.8 +49 30 1234567"), "<EMAIL> <IP> <PHONE>");
}

#[test]
fn bad_settings() {
    let c = CleanConfig::default();
    let words = |assignment: &str| set("clean", &c, assignment).and_then(|c| c.check()).unwrap_err().0;
    assert_eq!(words("min_wrods=3"), "--set min_wrods=3: there is no setting clean.min_wrods; did you mean min_words?");
    assert_eq!(words("min_words"), "--set min_words: expected key=value, as in clean.key=1");
    assert_eq!(words("clean.min_words=few"), "--set clean.min_words=few: clean.min_words is \"few\", expected a whole number, as in min_words = 50");
    assert_eq!(words("max_symbols=2"), "clean.max_symbols is 2: expected a share from 0 to 1, where 0 is no threshold");
    assert_eq!(words("max_top_ngram=[0.1,0.2,3]"), "clean.max_top_ngram is 3: expected a share from 0 to 1, where 0 is no threshold");
    assert_eq!(words("min_mean_word=-1"), "clean.min_mean_word is -1: expected a number of characters, or 0 for no threshold");
    assert!(words("max_top_ngram=[0.1]").contains("clean.max_top_ngram"), "{}", words("max_top_ngram=[0.1]"));
    assert!(words("filters=[\"c5\"]").contains("'c5' is no filter: expected gopher, gopher-quality, gopher-repetition, c4 or fineweb"));
    assert_eq!(set("clean", &c, "clean.min_words=7").unwrap().min_words, 7);
}

/// Reads files of lines, a document each, into a folder of parts.
fn corpus(d: &Directory) -> std::path::PathBuf {
    std::fs::create_dir_all(d.path("in")).unwrap();
    for n in 0..5 {
        let lines: String = (0..=n).map(|i| format!("{{\"text\":\"file {n} \\u0000line {i} \\r\\n e\\u0301 {}\"}}\n", "word ".repeat(i))).collect();
        d.write(&format!("in/{n}.jsonl"), lines);
    }
    let out = d.0.join("read");
    read(&work(), &inputs(&[d.path("in")]).unwrap(), &out, &ReadConfig::default()).unwrap();
    out
}

#[test]
fn shares_threads_and_restarts_make_the_same() {
    let d = Directory::new("clean-shares");
    let from = corpus(&d);
    let c = CleanConfig::default();
    let out = |name: &str| d.0.join(name);
    let report = clean(&Work { threads: 1, ..work() }, &from, &out("one"), &c).unwrap();
    assert_eq!((report.documents_in, report.documents, report.tallies["invisible"].times), (15, 15, 15));
    assert_eq!(documents(&out("one"), &d)[2], ("in/1.jsonl:2".to_string(), "file 1 line 1\n é word".to_string()));
    let expected = files(&out("one"));
    clean(&Work { threads: 4, ..work() }, &from, &out("four"), &c).unwrap();
    assert_eq!(files(&out("four")), expected);
    for share in ["3/3", "1/3"] {
        clean(&Work { share: share.parse().unwrap(), ..work() }, &from, &out("shares"), &c).unwrap();
    }
    let words = complete(&out("shares")).unwrap_err().0.replace(&d.path(""), "");
    assert_eq!(words, "shares: part 00001-0000 of 5 is not made: run the stage before to its end, with every --share if it has shares");
    assert!(clean(&work(), &out("shares"), &out("next"), &c).is_err(), "what is not whole is not read");
    clean(&Work { share: "2/3".parse().unwrap(), ..work() }, &from, &out("shares"), &c).unwrap();
    assert_eq!(files(&out("shares")), expected);
    // what is there is not made again, and with other settings it is
    std::fs::write(out("one").join("00002-0000.jsonl.zst"), "mark").unwrap();
    assert_eq!(clean(&work(), &from, &out("one"), &c).unwrap(), report);
    assert_eq!(std::fs::read(out("one").join("00002-0000.jsonl.zst")).unwrap(), b"mark");
    let other = CleanConfig { max_blank_lines: 1, ..c };
    clean(&work(), &from, &out("one"), &other).unwrap();
    assert_eq!(complete(&out("one")).unwrap().len(), 5);
    assert_eq!(documents(&out("one"), &d).len(), 15);
}

#[test]
fn what_removes_everything_is_named() {
    let d = Directory::new("clean-all");
    let from = corpus(&d);
    let strict = CleanConfig { filters: vec![Filter::GopherQuality], ..CleanConfig::default() };
    let words = clean(&work(), &from, &d.0.join("out"), &strict).unwrap_err().0;
    assert_eq!(words, "cleaning removed all 15 documents, 15 of them by gopher-short; try without that filter or with another threshold");
    // a share may be left with nothing
    clean(&Work { share: "1/2".parse().unwrap(), ..work() }, &from, &d.0.join("share"), &strict).unwrap();
}

#[test]
fn the_command_cleans() {
    let d = Directory::new("clean-command");
    let from = corpus(&d);
    let run = |more: &[&str]| {
        let command =
            Command::new(env!("CARGO_BIN_EXE_eggcorn")).args(["data", "clean"]).arg(&from).arg("--out").arg(d.0.join("out")).args(more).output();
        let done = command.unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, table, errors) = run(&["--examples"]);
    let words: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(code, Some(0), "{errors}");
    assert!(words.contains(&vec!["invisible", "15", "15"]) && table.contains("in/0.jsonl:1: file 0 \\0line 0"), "{table}");
    // of n words there are "file", "line", two numbers, "é" and those that repeat
    let (_, json, errors) = run(&[
        "--json",
        "--filter",
        "gopher-quality,c4",
        "--set",
        "min_words=8",
        "--set",
        "min_stop_words=0",
        "--set",
        "min_mean_word=0",
        "--set",
        "min_alphabetic=0",
        "--set",
        "terminal_punctuation=false",
        "--set",
        "min_line_words=1",
        "--set",
        "min_sentences=1",
    ]);
    let report: Report = serde_json::from_str(&json).expect(&errors);
    assert_eq!((report.tallies["gopher-short"].times, report.documents), (12, 3), "{json}");
    let (code, _, errors) = run(&["--language", "xyz"]);
    assert!(code == Some(1) && errors.starts_with("error: 'xyz' is no language that is known"), "{errors}");
    let (code, _, errors) = run(&["--mask", "name"]);
    assert!(code == Some(2) && errors.contains("'name' is no mask: expected email, phone or ip"), "{errors}");
    let (code, _, errors) = run(&["--share", "4/3"]);
    assert!(code == Some(2) && errors.contains("4/3 is no share"), "{errors}");
    let gone = clean(&work(), Path::new(&d.path("none")), &d.0.join("out"), &CleanConfig::default()).unwrap_err().0;
    assert!(gone.contains("none: the stage's folder cannot be read"), "{gone}");
}

/// Text with what cleaning looks for: line ends, marks that combine, what has no width, addresses.
fn texts() -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        Just("\r"),
        Just("\n"),
        Just(" "),
        Just("\t"),
        Just("\u{301}"),
        Just("e"),
        Just("\u{200B}"),
        Just("\u{FEFF}"),
        Just("\u{85}"),
        Just("\u{A0}"),
        Just("\u{1100}"),
        Just("\u{1161}"),
        Just("\u{FB01}"),
        Just("\u{A8}"),
        Just("\u{3000}"),
        Just("..."),
        Just("#"),
        Just("a@b.org"),
        Just("8.8.8.8"),
        Just("+49 30 1234567"),
        Just("[1]"),
        Just("{")
    ];
    prop::collection::vec(prop_oneof![odd.prop_map(String::from), any::<char>().prop_map(String::from)], 0..60).prop_map(|v| v.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Cleaned twice is cleaned once, in each normal form and with masks.
    #[test]
    fn cleaning_again_changes_nothing(text in texts()) {
        for unicode in [Form::Nfc, Form::Nfkc, Form::None] {
            let config = CleanConfig { unicode, masks: vec![Mask::Email, Mask::Ip], ..CleanConfig::default() };
            if let (Some(once), _) = cleaned(&text, &config) {
                let (again, report) = cleaned(&once, &config);
                prop_assert_eq!(again.as_deref(), Some(once.as_str()));
                prop_assert_eq!(tallies(&report), []);
            }
        }
    }

    /// What comes out is in normal form, and has none of what was to go.
    #[test]
    fn what_is_cleaned_is_clean(text in texts()) {
        if let (Some(text), _) = cleaned(&text, &CleanConfig::default()) {
            prop_assert!(unicode_normalization::is_nfc(&text));
            let goes = |c: char| (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{200B}' | '\u{FEFF}');
            prop_assert!(!text.contains(goes));
            prop_assert!(text.split('\n').all(|l| l.trim_end() == l) && !text.contains("\n\n\n\n"));
        }
    }

    /// Nothing panics, whatever is asked for.
    #[test]
    fn any_text_is_cleaned(text in texts(), again in 1..4usize) {
        let rules = CleanConfig { filters: Filter::ALL.to_vec(), masks: Mask::ALL.to_vec(), identify: true, ..CleanConfig::default() };
        for filter in Filter::ALL {
            cleaned(&text.repeat(again), &CleanConfig { filters: vec![*filter], ..rules.clone() });
        }
        cleaned(&text, &rules);
        cleaned(&text, &off(Filter::Gopher));
    }
}
