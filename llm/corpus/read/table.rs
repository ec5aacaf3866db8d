//! Tables of values between commas or tabs, of which one column is the text.

use super::config::ReadConfig;
use super::sink::{Fault, Reason, Sink, TRY_SKIPPING};
use super::source::Source;
use crate::error::{Error, Result};
use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

const BUFFER: usize = 1 << 16;

/// Hands the documents of a table with a header to the sink. Values may stand in quotes, which double inside. A record that is too long is
/// an error in any case: where its quotes end, and so where the next begins, is not known.
pub fn read(source: &mut Source, delimiter: u8, config: &ReadConfig, sink: &mut Sink) -> Result<()> {
    let room = Rc::new(Cell::new(0));
    let bounded = Bounded { source, room: room.clone() };
    let mut reader = ReaderBuilder::new().delimiter(delimiter).buffer_capacity(BUFFER).from_reader(bounded);
    let renew = || room.set(config.max_document + BUFFER as u64);
    renew();
    let Some(column) = column(&mut reader, config, sink)? else { return Ok(()) };
    let mut record = ByteRecord::new();
    loop {
        let line = reader.position().line();
        renew();
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                take(line, &record[column], config, sink)?;
            }
            Err(e) => sink.bad(fault(line, &e, config, sink)?)?,
        }
    }
}

fn take(line: u64, text: &[u8], config: &ReadConfig, sink: &mut Sink) -> Result<()> {
    if text.len() as u64 > config.max_document { sink.bad(sink.too_long(sink.place(line))) } else { sink.bytes(sink.place(line), line, text) }
}

/// The text's column; none where there is nothing, not even a header.
fn column(reader: &mut Reader<Bounded>, config: &ReadConfig, sink: &mut Sink) -> Result<Option<usize>> {
    let header = match reader.byte_headers() {
        Ok(header) => header.clone(),
        Err(e) => return Err(Error(fault(1, &e, config, sink).map(|f| format!("{}: {}", f.place, f.what))?)),
    };
    if header.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = header.iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let missing = || {
        let known = ir::either(&known);
        Error(format!("{}: the header has no column '{}', expected {known}; try --field with one of them", sink.place(1), config.field))
    };
    names.iter().position(|n| *n == config.field).map(Some).ok_or_else(missing)
}

/// A record that is none; an error where reading cannot go on behind it.
fn fault(line: u64, e: &csv::Error, config: &ReadConfig, sink: &Sink) -> Result<Fault> {
    match e.kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let place = sink.place(pos.as_ref().map_or(line, csv::Position::line));
            let values = |n: u64| if n == 1 { "1 value".to_string() } else { format!("{n} values") };
            let what = format!("this record has {}, expected {expected_len} as the header; try quotes, or {TRY_SKIPPING}", values(*len));
            Ok(Fault { reason: Reason::BadRecord, place, what, text: String::new() })
        }
        ErrorKind::Io(io) if io.get_ref().is_some_and(|e| e.is::<NoRoom>()) => Err(Error(format!(
            "{}: the record that begins here is longer than {} bytes, expected a shorter one; does a quote not end? Try --max-document {}",
            sink.place(line),
            config.max_document,
            config.max_document.saturating_mul(4)
        ))),
        _ => Err(Error(format!("{}: the table cannot be read: {e}", sink.place(line)))),
    }
}

/// The bytes of a source, so many at most.
struct Bounded<'a> {
    source: &'a mut Source,
    room: Rc<Cell<u64>>,
}

/// More bytes were asked for than there may be.
#[derive(Debug)]
struct NoRoom;

impl std::fmt::Display for NoRoom {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the record is too long")
    }
}

impl std::error::Error for NoRoom {}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.room.get() == 0 {
            return Err(io::Error::other(NoRoom));
        }
        let n = self.source.read(buffer)?;
        self.room.set(self.room.get().saturating_sub(n as u64));
        Ok(n)
    }
}
