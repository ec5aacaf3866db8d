//! The main text of a page.
//!
//! `dom_smoothie` finds the article as the reader views of browsers do (Mozilla's Readability): menus, advertisements and footers go.
//! `html2text`, the other library that is kept, builds faster but lays out the whole page, links and menus included, which is what corpora
//! are cleaned of. Both are under the MIT licence.

use super::config::ReadConfig;
use super::sink::{Fault, Reason, Sink, TRY_SKIPPING};
use super::source::{Piece, Source};
use crate::error::Result;
use dom_smoothie::{Config, Readability, TextMode};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Elements may stand in each other so deep: as browsers have it, and beyond it reading takes time by the square.
const DEEPEST: usize = 512;

/// Hands a page's text to the sink.
pub fn read(source: &mut Source, config: &ReadConfig, sink: &mut Sink) -> Result<()> {
    let mut all = vec![];
    if source.rest(config.max_document, &mut all)? == Piece::TooLong {
        return sink.bad(sink.too_long(sink.whole()));
    }
    let page = match std::str::from_utf8(&all) {
        Ok(page) => page,
        Err(e) => return sink.bad(sink.bad_encoding(sink.whole(), 1, &all, &e)),
    };
    let bad =
        |what: String| Fault { reason: Reason::BadRecord, place: sink.whole(), what: format!("{what}, or {TRY_SKIPPING}"), text: String::new() };
    if depth(page) > DEEPEST {
        return sink.bad(bad(format!("elements stand {} deep in each other, expected at most {DEEPEST}; try --format text", depth(page))));
    }
    // a library of this size may have faults of its own; what it does with one page must not end a corpus
    match catch_unwind(AssertUnwindSafe(|| main_text(page))) {
        Ok(text) => sink.document(sink.whole(), &text),
        Err(_) => sink.bad(bad("the page cannot be read; try --format text".into())),
    }
}

/// The article of a page, or where none is found all its text.
fn main_text(page: &str) -> String {
    let config = Config { text_mode: TextMode::Formatted, ..Config::default() };
    let article = Readability::new(page, None, Some(config)).and_then(|mut r| r.parse());
    article.map(|a| a.text_content.trim().to_string()).ok().filter(|t| !t.is_empty()).unwrap_or_else(|| all_text(page))
}

fn all_text(page: &str) -> String {
    let Ok(reader) = Readability::new(page, None, None) else { return String::new() };
    reader.doc.select("script, style, noscript, template").remove();
    reader.doc.body().map_or(String::new(), |b| b.formatted_text().trim().to_string())
}

/// Elements whose end need not be written, or that have none.
const OPEN: [&str; 30] = [
    "area", "base", "body", "br", "col", "colgroup", "dd", "dt", "embed", "head", "hr", "html", "img", "input", "li", "link", "meta", "optgroup",
    "option", "p", "param", "rp", "rt", "source", "tbody", "td", "tfoot", "th", "thead", "tr",
];

/// How deep elements stand in each other at most, by their tags alone.
fn depth(page: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    for tag in page.split('<').skip(1) {
        let closes = tag.starts_with('/');
        let name = tag.trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_ascii_lowercase();
        if name.is_empty() || OPEN.contains(&name.as_str()) {
            continue;
        }
        depth = if closes { depth.saturating_sub(1) } else { depth + 1 };
        deepest = deepest.max(depth);
    }
    deepest
}
