//! A part: documents in a compressed file, a line each, and the report beside it.

use super::document::Document;
use super::report::Report;
use crate::error::{Error, Result, file_error};
use crate::files::{NewFile, read_short, write_file};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// What the file of a part's documents ends with.
const DOCUMENTS: &str = ".jsonl.zst";
/// What the file of its report ends with.
const REPORT: &str = ".json";
/// A report is short, whatever stands in it.
const LONGEST_REPORT: u64 = 16 << 20;
/// The longest line a part may have: a document in JSON.
pub const LONGEST_LINE: u64 = 1 << 32;

/// 128 bits of a text, in hexadecimal (XXH3).
pub fn hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// The place of a part: a stage's folder and a name in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The stage's folder.
    pub folder: PathBuf,
    /// The part's name, the same in every stage.
    pub name: String,
}

impl Part {
    /// A part of a folder.
    pub fn new(folder: &Path, name: &str) -> Part {
        Part { folder: folder.into(), name: name.into() }
    }

    /// The same part in another folder.
    pub fn within(&self, folder: &Path) -> Part {
        Part::new(folder, &self.name)
    }

    /// The file of its documents.
    pub fn documents(&self) -> PathBuf {
        self.folder.join(format!("{}{DOCUMENTS}", self.name))
    }

    /// The file of its report.
    pub fn report_file(&self) -> PathBuf {
        self.folder.join(format!("{}{REPORT}", self.name))
    }

    /// Its report, where it is there whole. A report that cannot be read is as none: the part is made again.
    pub fn report(&self) -> Option<Report> {
        let text = read_short(&self.report_file(), LONGEST_REPORT).ok()?;
        serde_json::from_str(&text).ok().filter(|_| self.documents().is_file())
    }

    /// The report of a part that must be there.
    pub fn finished(&self) -> Result<Report> {
        self.report().ok_or_else(|| file_error(&self.report_file(), "this part is not finished", "run the stage before again"))
    }

    /// Whether it is there, made of what is said.
    pub fn is_made_of(&self, what: &str) -> bool {
        self.report().is_some_and(|r| r.made_of == what)
    }

    /// Its documents, in order.
    pub fn read(&self) -> Result<PartReader> {
        let path = self.documents();
        let fail = |e: std::io::Error| file_error(&path, "the part cannot be read", e);
        let file = File::open(&path).map_err(fail)?;
        let lines = BufReader::with_capacity(1 << 18, zstd::Decoder::new(file).map_err(fail)?);
        Ok(PartReader { lines, path, line: 0, buffer: vec![] })
    }

    /// Begins the part anew. What stood there is not touched before [`PartWriter::finish`].
    pub fn write(&self) -> Result<PartWriter> {
        let path = self.documents();
        let fail = |e: std::io::Error| file_error(&path, "the part cannot be written", e);
        std::fs::create_dir_all(&self.folder).map_err(fail)?;
        let file = BufWriter::with_capacity(1 << 16, NewFile::create(&path).map_err(fail)?);
        // the fastest level: parts are read a few times and then gone
        let encoder = zstd::Encoder::new(file, 1).map_err(fail)?;
        Ok(PartWriter { part: self.clone(), encoder, checksum: Xxh3::new(), documents: 0, bytes: 0, line: vec![] })
    }
}

/// The file of what parts a stage makes of those before it.
const LIST: &str = "parts.json";

/// Says which parts a folder will have, by name, and what each is made of. Every share says the same.
pub(super) fn expect(folder: &Path, made_of: &BTreeMap<String, String>) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| file_error(folder, "the folder cannot be made", e))?;
    let json = serde_json::to_string_pretty(made_of).expect("a list has a JSON form") + "\n";
    let path = folder.join(LIST);
    if read_short(&path, LONGEST_LINE).is_ok_and(|old| old == json) { Ok(()) } else { write_file(&path, json.as_bytes()) }
}

/// The parts that a folder should have, once all are there: until then, an error that names one that is not.
pub(super) fn expected(folder: &Path) -> Result<Option<Vec<Part>>> {
    let path = folder.join(LIST);
    if !path.exists() {
        return Ok(None);
    }
    let fail = |why: String| file_error(&path, "the list of parts cannot be read", format!("{why}; run the stage that wrote it again"));
    let text = read_short(&path, LONGEST_LINE).map_err(|e| fail(e.to_string()))?;
    let list: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
    let found: Vec<Part> = list.keys().map(|name| Part::new(folder, name)).collect();
    match found.iter().find(|p| !p.is_made_of(&list[&p.name])) {
        None => Ok(Some(found)),
        Some(part) => {
            let what = format!("part {} of {} is not made", part.name, found.len());
            Err(file_error(folder, &what, "run the stage before to its end, with every --share if it has shares"))
        }
    }
}

/// The finished and unfinished parts of a folder, by name.
pub fn parts(folder: &Path) -> Result<Vec<Part>> {
    let fail = |e: std::io::Error| file_error(folder, "the stage's folder cannot be read", e);
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        // names that are no text are none of ours
        if let Some(name) = name.to_str().and_then(|n| n.strip_suffix(DOCUMENTS)) {
            found.push(Part::new(folder, name));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads a part's documents, one after another.
pub struct PartReader {
    lines: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    path: PathBuf,
    line: usize,
    buffer: Vec<u8>,
}

impl Iterator for PartReader {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        self.buffer.clear();
        self.line += 1;
        match (&mut self.lines).take(LONGEST_LINE).read_until(b'\n', &mut self.buffer) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&self.buffer).map_err(|e| self.fault(&e))),
            Err(e) => Some(Err(self.fault(&e))),
        }
    }
}

impl PartReader {
    fn fault(&self, why: &dyn std::fmt::Display) -> Error {
        file_error(&self.path, "the part is damaged", format!("line {}: {why}; remove it, and the stage makes it again", self.line))
    }
}

/// Writes a part's documents.
pub struct PartWriter {
    part: Part,
    encoder: zstd::Encoder<'static, BufWriter<NewFile>>,
    checksum: Xxh3,
    documents: u64,
    bytes: u64,
    line: Vec<u8>,
}

impl PartWriter {
    /// Appends a document.
    pub fn push(&mut self, document: &Document) -> Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, document).expect("a document has a JSON form");
        self.line.push(b'\n');
        self.checksum.update(&self.line);
        self.documents += 1;
        self.bytes += document.text.len() as u64;
        self.encoder.write_all(&self.line).map_err(|e| file_error(&self.part.documents(), "the part cannot be written", e))
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Bytes of text so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the part in its place, and then its report, whose counts of what was written and whose checksum are filled in.
    pub fn finish(self, mut report: Report) -> Result<Report> {
        let path = self.part.documents();
        let fail = |e: std::io::Error| file_error(&path, "the part cannot be written", e);
        let file = self.encoder.finish().map_err(fail)?;
        file.into_inner().map_err(|e| fail(e.into_error()))?.commit().map_err(fail)?;
        report.checksum = format!("{:032x}", self.checksum.digest128());
        (report.documents, report.bytes) = (self.documents, self.bytes);
        let json = serde_json::to_string_pretty(&report).expect("a report has a JSON form") + "\n";
        write_file(&self.part.report_file(), json.as_bytes())?;
        Ok(report)
    }
}
