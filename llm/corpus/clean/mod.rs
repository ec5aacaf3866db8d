//! Documents cleaned: how they are written, which lines and documents stay, what is masked.

mod config;
mod fineweb;
mod gopher;
mod language;
mod lines;
mod mask;
mod normalise;
mod words;

pub use config::{CleanConfig, Filter, Form, Mask};

use super::document::Document;
use super::part::Part;
use super::read::complete;
use super::report::Report;
use super::work::{Work, map_parts};
use super::{make_ready, sum};
use crate::error::{Error, Result};
use std::path::Path;

/// Cleans the parts of a folder, this process's share of them, and gives what became of those. That nothing is left is an error.
pub fn clean(work: &Work, from: &Path, to: &Path, config: &CleanConfig) -> Result<Report> {
    config.check()?;
    let settings = serde_json::to_string(config).expect("settings have a JSON form");
    let parts = complete(from)?;
    make_ready(&parts, to)?;
    let all = sum(&map_parts(work, "clean", &parts, to, &settings, &|old, new, report| clean_part(work, old, new, report, config))?);
    if all.documents == 0 && work.share.is_all() { Err(nothing_left(&all)) } else { Ok(all) }
}

fn clean_part(work: &Work, old: &Part, new: &Part, mut report: Report, config: &CleanConfig) -> Result<Report> {
    let mut writer = new.write()?;
    for document in old.read()? {
        work.go_on()?;
        if let Some(document) = clean_document(document?, config, &mut report) {
            writer.push(&document)?;
        }
    }
    writer.finish(report)
}

/// A document cleaned, if it stays. What is done and why it goes is counted.
pub fn clean_document(document: Document, config: &CleanConfig, report: &mut Report) -> Option<Document> {
    let Document { id, text, language } = document;
    let text = normalise::normalise(text, &id, config, report);
    let before = text.len();
    let remove = |reason: &str, text: &str, report: &mut Report| report.tally(reason, before, &id, text);
    let text = match filter_lines(&text, &id, config, report) {
        Ok(Some(kept)) => kept,
        Ok(None) => text,
        Err(reason) => {
            remove(reason, &text, report);
            return None;
        }
    };
    let found = if config.identify || !config.languages.is_empty() { language::identify(&text) } else { None };
    if let Some(reason) = reason_to_remove(&text, found, config) {
        remove(reason, &text, report);
        return None;
    }
    if let Some((code, _)) = found {
        report.count(&format!("language-{code}"), 1);
    }
    let text = mask::mask(text, &config.masks, &id, report);
    Some(Document { id, text, language: found.map(|f| f.0.to_string()).or(language) })
}

/// The lines that stay, where lines are filtered.
fn filter_lines(text: &str, id: &str, config: &CleanConfig, report: &mut Report) -> std::result::Result<Option<String>, &'static str> {
    if config.has(Filter::C4) { lines::keep(text, id, config, report).map(Some) } else { Ok(None) }
}

/// Why a whole document goes.
fn reason_to_remove(text: &str, language: Option<(&str, f64)>, config: &CleanConfig) -> Option<&'static str> {
    if text.trim().is_empty() {
        return Some("empty");
    }
    let on = |filter| config.has(filter);
    let words = if config.filters.is_empty() { vec![] } else { words::words(text) };
    let quality = on(Filter::GopherQuality).then(|| gopher::quality(text, &words, config)).flatten();
    let repetition = || on(Filter::GopherRepetition).then(|| gopher::repetition(text, &words, config)).flatten();
    let fineweb = || on(Filter::FineWeb).then(|| fineweb::quality(text, &words, config)).flatten();
    quality.or_else(repetition).or_else(fineweb).or_else(|| wrong_language(language, config))
}

fn wrong_language(found: Option<(&str, f64)>, config: &CleanConfig) -> Option<&'static str> {
    let wanted = |code: &str| config.languages.iter().any(|l| l == code);
    match found {
        _ if config.languages.is_empty() => None,
        None => Some("language-unknown"),
        Some((code, _)) if !wanted(code) => Some("language-other"),
        Some((_, confidence)) if confidence < config.language_confidence => Some("language-unsure"),
        Some(_) => None,
    }
}

/// Reasons that remove no document, but change it.
fn is_change(reason: &str) -> bool {
    ["line-ends", "invisible", "unicode", "trailing-spaces", "blank-lines"].contains(&reason)
        || reason.starts_with("mask-")
        || reason.starts_with("c4-line-")
}

fn nothing_left(report: &Report) -> Error {
    let most = report.tallies.iter().filter(|(reason, _)| !is_change(reason)).max_by_key(|(_, t)| t.times);
    let why = most.map_or(String::new(), |(reason, t)| format!(", {} of them by {reason}", t.times));
    Error(format!("cleaning removed all {} documents{why}; try without that filter or with another threshold", report.documents_in))
}
