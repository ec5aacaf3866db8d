//! Files to documents.
//!
//! An input file, by its number `f` in the sorted list of all, becomes parts `{f:05}-{p:04}` of at most 32 MiB of text, and then a record
//! `{f:05}.read.json`, which says what it was made of: a file that has one is not read again. Shares take files by that number, so what
//! comes out does not depend on who read which.

mod config;
mod folder;
mod html;
mod input;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod sink;
mod source;
mod table;
mod text;

pub use config::{Format, ReadConfig, SplitOn};
pub use folder::complete;
pub use input::{Input, inputs};

use super::report::Report;
use super::sum;
use super::work::Work;
use crate::error::{Error, Result, file_error};
use crate::files::sweep;
use folder::{List, Record};
use sink::{Fault, Reason, Sink, TRY_SKIPPING};
use source::Source;
use std::path::Path;

/// Reads inputs into parts of `to`, this process's share of them, and gives what became of those. A corpus without any document is an
/// error. Takes up to four times [`ReadConfig::max_document`] a thread: where memory does not suffice, it takes fewer threads.
pub fn read(work: &Work, inputs: &[Input], to: &Path, config: &ReadConfig) -> Result<Report> {
    config.check(work.memory)?;
    check_place(inputs, to)?;
    let settings = config.fingerprint();
    std::fs::create_dir_all(to).map_err(|e| file_error(to, "the folder cannot be made", e))?;
    sweep(to);
    List::of(&settings, inputs).write(to)?;
    folder::remove_beyond(to, inputs.len(), work.share)?;
    let threads = work.threads.min((work.memory / (4 * config.max_document)).max(1) as usize);
    let reports = Work { threads, ..*work }.each("read", inputs.len(), &|number| {
        let report = read_input(work, number, &inputs[number], to, config, &settings)?;
        let bytes = report.bytes_in;
        Ok((report, bytes))
    })?;
    let all = sum(&reports);
    if all.documents == 0 && work.share.is_all() { Err(empty(inputs.len(), &all)) } else { Ok(all) }
}

/// What is written must not be read again.
fn check_place(inputs: &[Input], to: &Path) -> Result<()> {
    let Ok(to) = to.canonicalize() else { return Ok(()) };
    let inside = inputs.iter().find(|i| i.path().is_some_and(|p| p.canonicalize().is_ok_and(|p| p.starts_with(&to))));
    inside.map_or(Ok(()), |i| Err(Error(format!("{}: this input is in the folder that is written, {}; name another --out", i.name, to.display()))))
}

fn empty(files: usize, report: &Report) -> Error {
    let bad: Vec<String> = report.tallies.iter().map(|(reason, t)| format!("{} {reason}", t.times)).collect();
    let why = if bad.is_empty() { "all are empty".into() } else { format!("left out: {}", bad.join(", ")) };
    Error(format!("no document in {files} {}: {why}; try other files, or another --field", if files == 1 { "file" } else { "files" }))
}

/// One input to its parts, where it was not read already.
fn read_input(work: &Work, number: usize, input: &Input, to: &Path, config: &ReadConfig, settings: &str) -> Result<Report> {
    let stamp = input.stamp()?;
    if let Some(record) = Record::read(to, number).filter(|r| r.is_of(&input.name, stamp, settings) && r.is_whole(to)) {
        return Ok(record.report);
    }
    Record::remove(to, number)?;
    let mut sink = Sink::new(work, to, number, &input.name, config, settings);
    let bytes = read_documents(input, config, &mut sink)?;
    let (parts, report) = sink.finish(bytes)?;
    folder::remove_parts(to, number, parts.len())?;
    let record = Record { input: input.name.clone(), stamp, settings: settings.into(), parts, report };
    record.write(to, number)?;
    Ok(record.report)
}

/// Hands an input's documents to the sink, and gives how many bytes it had, unpacked.
fn read_documents(input: &Input, config: &ReadConfig, sink: &mut Sink) -> Result<u64> {
    let unpacked = |read: &dyn Fn(&mut Source, &ReadConfig, &mut Sink) -> Result<()>, sink: &mut Sink| {
        let mut source = Source::open(input)?;
        if source.is_utf16() {
            sink.bad(utf16(input))?
        } else {
            read(&mut source, config, sink)?
        }
        Ok(source.bytes())
    };
    match config.format.unwrap_or_else(|| Format::of(&input.name)) {
        Format::Text => unpacked(&text::read, sink),
        Format::Jsonl => unpacked(&json::read_lines, sink),
        Format::Json => unpacked(&json::read, sink),
        Format::Csv => unpacked(&|s, c, k| table::read(s, b',', c, k), sink),
        Format::Tsv => unpacked(&|s, c, k| table::read(s, b'\t', c, k), sink),
        Format::Html => unpacked(&html::read, sink),
        Format::Parquet => read_parquet(input, config, sink),
    }
}

fn utf16(input: &Input) -> Fault {
    let what = format!("this is UTF-16, expected UTF-8; try iconv -f UTF-16 -t UTF-8, or {TRY_SKIPPING}");
    Fault { reason: Reason::BadEncoding, place: input.name.clone(), what, text: String::new() }
}

#[cfg(feature = "parquet")]
fn read_parquet(input: &Input, config: &ReadConfig, sink: &mut Sink) -> Result<u64> {
    parquet::read(input, config, sink)
}

#[cfg(not(feature = "parquet"))]
fn read_parquet(input: &Input, _: &ReadConfig, _: &mut Sink) -> Result<u64> {
    Err(Error(format!("{}: this is a Parquet file, and this program was built without them; build it with --features parquet", input.name)))
}
