//! Where documents go: parts of bounded size, and a count of what was left out.

use super::super::document::Document;
use super::super::part::{Part, PartWriter, hash};
use super::super::report::Report;
use super::super::work::Work;
use super::config::ReadConfig;
use super::folder::part_name;
use crate::error::{Error, Result};
use std::path::Path;

/// Bytes of text a part has, unless one document has more.
const PIECE: u64 = 32 << 20;
/// What may be tried with anything that cannot be read.
pub const TRY_SKIPPING: &str = "--skip-bad to leave it out";

/// Why something is no document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// It is not UTF-8.
    BadEncoding,
    /// It is no record of the format, or its text is none.
    BadRecord,
    /// The record has no such field.
    MissingField,
    /// It is longer than a document may be.
    TooLong,
}

ir::spell!(Reason, "reason", [BadEncoding "bad-encoding", BadRecord "bad-record", MissingField "missing-field", TooLong "too-long"]);

/// Something that is no document.
pub struct Fault {
    /// Why.
    pub reason: Reason,
    /// `FILE` or `FILE:LINE`.
    pub place: String,
    /// The words for it.
    pub what: String,
    /// Its beginning.
    pub text: String,
}

/// Takes the documents of one input.
pub struct Sink<'a> {
    work: &'a Work<'a>,
    folder: &'a Path,
    number: usize,
    input: &'a str,
    config: &'a ReadConfig,
    settings: &'a str,
    writer: Option<PartWriter>,
    parts: Vec<String>,
    report: Report,
}

impl<'a> Sink<'a> {
    /// For the input of a number.
    pub fn new(work: &'a Work<'a>, folder: &'a Path, number: usize, input: &'a str, config: &'a ReadConfig, settings: &'a str) -> Sink<'a> {
        Sink { work, folder, number, input, config, settings, writer: None, parts: vec![], report: Report::default() }
    }

    /// The place of a line, or of a record where lines are none.
    pub fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.input)
    }

    /// The place that is the whole input.
    pub fn whole(&self) -> String {
        self.input.to_string()
    }

    /// Takes a document. One of nothing but white space is counted, and is none.
    pub fn document(&mut self, id: String, text: &str) -> Result<()> {
        self.work.go_on()?;
        if text.trim().is_empty() {
            self.report.count("empty", 1);
            return Ok(());
        }
        self.report.documents_in += 1;
        if self.writer.as_ref().is_some_and(|w| w.bytes() + text.len() as u64 > PIECE) {
            self.close()?;
        }
        if self.writer.is_none() {
            self.writer = Some(Part::new(self.folder, &part_name(self.number, self.parts.len())).write()?);
        }
        self.writer.as_mut().expect("it was just made").push(&Document::new(id, text))
    }

    /// Takes bytes that should be a document.
    pub fn bytes(&mut self, id: String, line: u64, bytes: &[u8]) -> Result<()> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.document(id, text),
            Err(e) => self.bad(self.bad_encoding(id, line, bytes, &e)),
        }
    }

    /// Counts something that is no document; an error unless those are to be left out.
    pub fn bad(&mut self, fault: Fault) -> Result<()> {
        self.work.go_on()?;
        if !self.config.skip_bad {
            return Err(Error(format!("{}: {}", fault.place, fault.what)));
        }
        self.report.documents_in += 1;
        self.report.tally(fault.reason.name(), 0, &fault.place, &fault.text);
        Ok(())
    }

    /// Bytes that begin in some line and are not UTF-8.
    pub fn bad_encoding(&self, id: String, line: u64, bytes: &[u8], e: &std::str::Utf8Error) -> Fault {
        let at = e.valid_up_to();
        let line = line + super::source::lines(&bytes[..at]);
        let column = at - bytes[..at].iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1) + 1;
        Fault {
            reason: Reason::BadEncoding,
            place: if self.config.skip_bad { id } else { self.place(line) },
            what: format!("byte {column} of this line is {:#04x}, expected UTF-8; try iconv -f LATIN1 -t UTF-8, or {TRY_SKIPPING}", bytes[at]),
            text: String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]).into_owned(),
        }
    }

    /// A document, or the record of one, that is too long.
    pub fn too_long(&self, place: String) -> Fault {
        let limit = self.config.max_document;
        let what = format!(
            "this is longer than {limit} bytes, expected a shorter document; try --max-document {}, or {TRY_SKIPPING}",
            limit.saturating_mul(4)
        );
        Fault { reason: Reason::TooLong, place, what, text: String::new() }
    }

    /// Ends the part that is being written.
    fn close(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let (documents, bytes) = (writer.documents(), writer.bytes());
        let made_of = hash(format!("read\n{}\n{}\n{}", self.settings, self.input, self.parts.len()).as_bytes());
        let done = writer.finish(Report { made_of, documents_in: documents, bytes_in: bytes, ..Report::default() })?;
        self.parts.push(part_name(self.number, self.parts.len()));
        self.report.add(&Report { documents_in: 0, bytes_in: 0, ..done });
        Ok(())
    }

    /// The parts' names and what became of the input, which had so many bytes.
    pub fn finish(mut self, bytes: u64) -> Result<(Vec<String>, Report)> {
        self.close()?;
        self.report.bytes_in = bytes;
        Ok((self.parts, self.report))
    }
}
