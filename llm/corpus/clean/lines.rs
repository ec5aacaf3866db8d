//! C4's filters of lines, and of documents by their lines.

use super::super::report::Report;
use super::config::CleanConfig;
use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

const POLICY: [&str; 6] = ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];
static CITATION: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[[0-9]*\]|\[edit\]|\[citation needed\]").expect("the pattern reads"));

/// What becomes of a line.
enum Line<'a> {
    Kept(Cow<'a, str>),
    Removed(&'static str),
    /// The whole document goes.
    Document(&'static str),
}

/// The lines that C4 keeps, or why it keeps nothing of the document.
pub fn keep(text: &str, id: &str, config: &CleanConfig, report: &mut Report) -> Result<String, &'static str> {
    let (mut kept, mut sentences) = (String::with_capacity(text.len()), 0);
    for line in text.lines() {
        match judge(line.trim(), config) {
            Line::Document(reason) => return Err(reason),
            // a blank line is no loss
            Line::Removed(_) if line.trim().is_empty() => {}
            Line::Removed(reason) => report.tally(reason, line.len() + 1, id, line),
            Line::Kept(line) => {
                sentences += count_sentences(&line);
                kept.push_str(&line);
                kept.push('\n');
            }
        }
    }
    kept.truncate(kept.trim_end().len());
    if sentences < config.min_sentences { Err("c4-few-sentences") } else { Ok(kept) }
}

fn judge<'a>(line: &'a str, c: &CleanConfig) -> Line<'a> {
    let words = line.split_whitespace().count();
    if c.max_word_length > 0 && line.split_whitespace().any(|w| super::words::length(w) > c.max_word_length) {
        return Line::Removed("c4-line-long-word");
    }
    let line = if c.citations && line.contains('[') { CITATION.replace_all(line, "") } else { Cow::Borrowed(line) };
    if c.terminal_punctuation && (!line.ends_with(['.', '?', '!', '"', '\'', '”', '’']) || line.ends_with("...")) {
        return Line::Removed("c4-line-no-punctuation");
    }
    if words < c.min_line_words {
        return Line::Removed("c4-line-few-words");
    }
    let lower = line.to_lowercase();
    if c.lorem_ipsum && lower.contains("lorem ipsum") {
        return Line::Document("c4-lorem-ipsum");
    }
    if c.javascript && lower.contains("javascript") {
        return Line::Removed("c4-line-javascript");
    }
    if c.curly_bracket && line.contains('{') {
        return Line::Document("c4-curly-bracket");
    }
    if c.policy && POLICY.iter().any(|p| lower.contains(p)) {
        return Line::Removed("c4-line-policy");
    }
    Line::Kept(line)
}

/// Sentences of a line: ends of them before white space, and what stands behind the last. Abbreviations count, too.
fn count_sentences(line: &str) -> usize {
    let ends_one = |w: &str| w.trim_end_matches(['"', '\'', '”', '’', ')']).ends_with(['.', '?', '!']);
    let ends = line.split_whitespace().filter(|w| ends_one(w)).count();
    let open = line.split_whitespace().last().is_some_and(|w| !ends_one(w));
    ends + usize::from(open)
}
