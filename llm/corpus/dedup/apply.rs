//! Parts without what goes.

use super::config::DedupKind;
use super::merge;
use super::pieces::{Piece, lines, paragraphs, words};
use super::round::{DedupStep, Round};
use super::table::{Place, first_place};
use crate::corpus::document::Document;
use crate::corpus::part::Part;
use crate::corpus::report::Report;
use crate::corpus::sort::Merge;
use crate::corpus::work::{made_of, map_parts};
use crate::error::Result;
use std::iter::Peekable;
use std::ops::Range;

/// Makes this share's parts, and gives their reports.
pub fn make(round: &Round) -> Result<Vec<Report>> {
    map_parts(&round.work, round.stage(DedupStep::Apply), &round.from, &round.to, &settings(round), &|old, new, report| {
        let part = round.from.binary_search(old).expect("it is one of these, which are sorted");
        // a report goes on with what the kinds before have counted
        let before = if round.is_first { report.clone() } else { old.finished()? };
        of_part(round, part, new, Report { made_of: report.made_of, ..before })
    })
}

fn settings(round: &Round) -> String {
    format!("{} {}", round.config.settings(round.kind), round.merged_of())
}

/// The reports of all parts, where they were made.
pub fn made(round: &Round) -> Option<Vec<Report>> {
    let stage = round.stage(DedupStep::Apply);
    let of = |part: &Part| {
        let made_of = made_of(stage, &settings(round), &part.report()?);
        part.within(&round.to).report().filter(|r| r.made_of == made_of)
    };
    round.from.iter().map(of).collect()
}

/// What goes of a part, in order.
struct Removed {
    pairs: Peekable<Merge<2>>,
    /// The place of the next document's first piece.
    at: Place,
}

impl Removed {
    /// Whether the piece at a place goes; asked with ascending places.
    fn has(&mut self, place: Place) -> Result<bool> {
        let is = |pair: &Result<[u64; 2]>| pair.as_ref().map_or(true, |p| p[0] <= place);
        let mut found = false;
        while let Some(pair) = self.pairs.next_if(is) {
            found |= pair?[0] == place;
        }
        Ok(found)
    }
}

fn of_part(round: &Round, part: usize, new: &Part, mut report: Report) -> Result<Report> {
    let (start, end) = (first_place(part), (part + 1 < round.from.len()).then(|| first_place(part + 1)));
    let runs = round.to.join(format!("{}.runs", new.name));
    let mut removed = Removed { pairs: merge::pairs(round, &merge::files(round), start, end, runs)?.peekable(), at: start };
    let mut writer = new.write()?;
    for document in round.from[part].read()? {
        round.work.go_on()?;
        if let Some(kept) = of_document(round, &mut removed, document?, &mut report)? {
            writer.push(&kept)?;
        }
    }
    writer.finish(report)
}

/// What stays of a document, if anything does.
fn of_document(round: &Round, removed: &mut Removed, document: Document, report: &mut Report) -> Result<Option<Document>> {
    let text = &document.text;
    let Some(gone) = gone(round, removed, text)? else {
        report.tally(reason(round.kind), text.len(), &document.id, text);
        return Ok(None);
    };
    if gone.is_empty() {
        return Ok(Some(document));
    }
    for range in &gone {
        report.tally(reason(round.kind), range.len(), &document.id, &text[range.clone()]);
    }
    let rest = without(text, &gone);
    if rest.trim().is_empty() {
        report.tally("nothing left", rest.len(), &document.id, text);
        return Ok(None);
    }
    Ok(Some(Document { text: rest, ..document }))
}

fn reason(kind: DedupKind) -> &'static str {
    match kind {
        DedupKind::Documents => "duplicate document",
        DedupKind::Near => "near duplicate",
        DedupKind::Paragraphs => "repeated paragraph",
        DedupKind::Lines => "repeated line",
        DedupKind::Substrings => "repeated passage",
    }
}

/// The ranges of a text that go; none where it goes whole.
fn gone(round: &Round, removed: &mut Removed, text: &str) -> Result<Option<Vec<Range<usize>>>> {
    let first = removed.at;
    removed.at += round.kind.pieces(text);
    match round.kind {
        DedupKind::Documents | DedupKind::Near => Ok((!removed.has(first)?).then(Vec::new)),
        DedupKind::Paragraphs => covered(removed, first, paragraphs(text), 1).map(Some),
        DedupKind::Lines => covered(removed, first, lines(text), 1).map(Some),
        DedupKind::Substrings => covered(removed, first, words(text), round.config.substring_words).map(Some),
    }
}

/// What goes where of each place so many pieces go, from it on. Lines and paragraphs are told apart, words are one passage.
fn covered<'a>(removed: &mut Removed, first: Place, pieces: impl IntoIterator<Item = Piece<'a>>, length: usize) -> Result<Vec<Range<usize>>> {
    let mut gone: Vec<Range<usize>> = vec![];
    let mut until = 0;
    for (i, piece) in pieces.into_iter().enumerate() {
        let goes_on = i < until;
        if removed.has(first + i as u64)? {
            until = i + length;
        }
        match gone.last_mut() {
            Some(last) if goes_on => last.end = piece.range.end,
            _ if i < until => gone.push(piece.range),
            _ => {}
        }
    }
    Ok(gone)
}

/// A text without ascending ranges of it.
fn without(text: &str, gone: &[Range<usize>]) -> String {
    let starts = std::iter::once(0).chain(gone.iter().map(|g| g.end));
    let ends = gone.iter().map(|g| g.start).chain(std::iter::once(text.len()));
    starts.zip(ends).map(|(start, end)| &text[start..end]).collect()
}
