//! Text files: a document a file, a line, a paragraph, or between separators.

use super::config::{ReadConfig, SplitOn};
use super::sink::Sink;
use super::source::{Piece, Source};
use crate::error::Result;

/// Hands a text's documents to the sink.
pub fn read(source: &mut Source, config: &ReadConfig, sink: &mut Sink) -> Result<()> {
    match &config.split_on {
        SplitOn::File => read_whole(source, config, sink),
        SplitOn::Line => read_between(source, config, b"\n", sink),
        SplitOn::BlankLine => read_paragraphs(source, config, sink),
        SplitOn::Separator(separator) => read_between(source, config, separator.as_bytes(), sink),
    }
}

fn read_whole(source: &mut Source, config: &ReadConfig, sink: &mut Sink) -> Result<()> {
    let mut all = vec![];
    match source.rest(config.max_document, &mut all)? {
        Piece::Whole => sink.bytes(sink.whole(), 1, &all),
        Piece::TooLong => sink.bad(sink.too_long(sink.whole())),
    }
}

fn read_between(source: &mut Source, config: &ReadConfig, separator: &[u8], sink: &mut Sink) -> Result<()> {
    let mut piece = vec![];
    loop {
        let line = source.line();
        match source.until(separator, config.max_document, &mut piece)? {
            None => return Ok(()),
            Some(Piece::TooLong) => sink.bad(sink.too_long(sink.place(line)))?,
            Some(Piece::Whole) => {
                let (before, text) = trim(&piece);
                let line = line + before;
                sink.bytes(sink.place(line), line, text)?;
            }
        }
    }
}

/// Without line ends at both ends; how many lines those at the beginning were.
fn trim(mut text: &[u8]) -> (u64, &[u8]) {
    let mut lines = 0;
    while let [first @ (b'\n' | b'\r'), rest @ ..] = text {
        lines += u64::from(*first == b'\n');
        text = rest;
    }
    while let [rest @ .., b'\n' | b'\r'] = text {
        text = rest;
    }
    (lines, text)
}

fn read_paragraphs(source: &mut Source, config: &ReadConfig, sink: &mut Sink) -> Result<()> {
    let (mut paragraph, mut line, mut from, mut long) = (vec![], vec![], 0, false);
    loop {
        let number = source.line();
        let found = source.until(b"\n", config.max_document, &mut line)?;
        long |= found == Some(Piece::TooLong);
        if found.is_none() || (found == Some(Piece::Whole) && line.trim_ascii().is_empty()) {
            if long {
                sink.bad(sink.too_long(sink.place(from)))?;
            } else if !paragraph.is_empty() {
                sink.bytes(sink.place(from), from, trim(&paragraph).1)?;
            }
            (paragraph, from, long) = (vec![], 0, false);
            if found.is_none() {
                return Ok(());
            }
            continue;
        }
        from = if from == 0 { number } else { from };
        long |= (paragraph.len() + line.len()) as u64 > config.max_document;
        // what is too long is not kept
        if long {
            paragraph.clear();
        } else {
            paragraph.extend_from_slice(&line);
            paragraph.push(b'\n');
        }
    }
}
