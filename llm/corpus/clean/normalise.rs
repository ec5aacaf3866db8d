//! How a text is written: line ends, characters nobody sees, normal forms, spaces.

use super::super::report::Report;
use super::config::{CleanConfig, Form};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

/// A text as it should be written. Doing it again changes nothing.
pub fn normalise(text: String, id: &str, config: &CleanConfig, report: &mut Report) -> String {
    let mut text = text;
    let mut step = |on: bool, reason: &str, change: &dyn Fn(&str) -> Option<Change>| {
        let Some(change) = on.then(|| change(&text)).flatten() else { return };
        let removed = text.len().saturating_sub(change.text.len());
        report.tally_times(reason, change.times, removed, id, &around(&text, change.first));
        text = change.text;
    };
    step(config.line_ends, "line-ends", &line_ends);
    step(config.invisible, "invisible", &invisible);
    step(config.unicode != Form::None, "unicode", &|t| unicode(t, config.unicode));
    step(config.trailing_spaces, "trailing-spaces", &trailing_spaces);
    step(config.max_blank_lines > 0, "blank-lines", &|t| blank_lines(t, config.max_blank_lines));
    text
}

/// A text that is another now.
struct Change {
    text: String,
    /// How often it was changed.
    times: u64,
    /// Where it was first changed, in bytes of the old one.
    first: usize,
}

/// What stands around a place, from the beginning of its line.
fn around(text: &str, at: usize) -> String {
    let line = text[..at].rfind('\n').map_or(0, |n| n + 1);
    // a long line from near the place
    let from = (line.max(at.saturating_sub(100))..=at).find(|n| text.is_char_boundary(*n)).unwrap_or(at);
    text[from..].chars().take(200).collect()
}

/// Line ends of other systems (`\r\n`, `\r`, NEL), and breaks of pages and columns, as `\n`.
fn line_ends(text: &str) -> Option<Change> {
    let others = |c: char| matches!(c, '\r' | '\x0B' | '\x0C' | '\u{85}');
    let is_there = text.bytes().any(|b| matches!(b, 0x0B..=0x0D)) || (!text.is_ascii() && text.contains('\u{85}'));
    let first = is_there.then(|| text.find(others)).flatten()?;
    let (mut new, mut times) = (String::with_capacity(text.len()), 0);
    let mut rest = text;
    while let Some(at) = rest.find(others) {
        new.push_str(&rest[..at]);
        new.push('\n');
        times += 1;
        let from = if rest[at..].starts_with("\r\n") { at + 2 } else { at + rest[at..].chars().next().map_or(1, char::len_utf8) };
        rest = &rest[from..];
    }
    new.push_str(rest);
    Some(Change { text: new, times, first })
}

/// Characters that nobody sees and nothing needs.
fn is_invisible(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{AD}' | '\u{200B}' | '\u{2060}' | '\u{FEFF}')
}

fn invisible(text: &str) -> Option<Change> {
    // most texts have none: bytes are looked at many at a time, characters only of what is not ASCII
    let in_ascii = text.bytes().any(|b| (b < 0x20 && b != b'\n' && b != b'\t') || b == 0x7F);
    let first = (in_ascii || !text.is_ascii()).then(|| text.find(is_invisible)).flatten()?;
    let mut times = 0;
    let keep = |c: &char| {
        times += u64::from(is_invisible(*c));
        !is_invisible(*c)
    };
    let new = text.chars().filter(keep).collect();
    Some(Change { text: new, times, first })
}

/// The normal form, line by line: nothing composes over the end of one.
fn unicode(text: &str, form: Form) -> Option<Change> {
    if text.is_ascii() {
        return None;
    }
    let (mut new, mut times, mut first, mut at) = (String::new(), 0, 0, 0);
    for line in text.split_inclusive('\n') {
        match normal(line, form).filter(|n| n != line) {
            None if times > 0 => new.push_str(line),
            None => {}
            Some(other) => {
                if times == 0 {
                    new.push_str(&text[..at]);
                    first = at;
                }
                times += 1;
                new.push_str(&other);
            }
        }
        at += line.len();
    }
    (times > 0).then_some(Change { text: new, times, first })
}

/// A line's normal form, where it may differ.
fn normal(line: &str, form: Form) -> Option<String> {
    let is_normal = line.is_ascii()
        || match form {
            Form::Nfc => is_nfc_quick(line.chars()) == IsNormalized::Yes,
            Form::Nfkc => is_nfkc_quick(line.chars()) == IsNormalized::Yes,
            Form::None => true,
        };
    (!is_normal).then(|| if form == Form::Nfkc { line.nfkc().collect() } else { line.nfc().collect() })
}

fn trailing_spaces(text: &str) -> Option<Change> {
    let (mut new, mut times, mut first, mut at, mut kept) = (String::new(), 0, 0, 0, 0);
    for line in text.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').unwrap_or(line);
        let end = at + bare.trim_end().len();
        if end < at + bare.len() {
            first = if times == 0 { end } else { first };
            times += 1;
            new.push_str(&text[kept..end]);
            kept = at + bare.len();
        }
        at += line.len();
    }
    new.push_str(&text[kept..]);
    (times > 0).then_some(Change { text: new, times, first })
}

/// Of blank lines that follow each other so many stay.
fn blank_lines(text: &str, most: usize) -> Option<Change> {
    let (mut new, mut times, mut first, mut at, mut kept, mut run) = (String::new(), 0, 0, 0, 0, 0);
    for line in text.split_inclusive('\n') {
        run = if line == "\n" { run + 1 } else { 0 };
        if run > most {
            first = if times == 0 { at } else { first };
            times += 1;
            new.push_str(&text[kept..at]);
            kept = at + 1;
        }
        at += line.len();
    }
    new.push_str(&text[kept..]);
    (times > 0).then_some(Change { text: new, times, first })
}
