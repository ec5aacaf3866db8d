//! Files of documents, each of which becomes a question.

use super::task::{Form, Task};
use super::template::Templates;
use crate::error::{Error, Result, file_error};
use crate::files::irregular;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// A document, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its fields, `file` among them.
    pub fields: Value,
    /// Its file.
    pub path: PathBuf,
    /// Its line there, from 1.
    pub line: u64,
}

impl Document {
    /// An error about it.
    pub fn error(&self, what: &str, why: impl std::fmt::Display) -> Error {
        Error(format!("{}:{}: {what}: {why}", self.path.display(), self.line))
    }
}

/// More bytes than any document has.
const LONGEST: u64 = 1 << 24;

/// The first so many documents of a file, all unless said; none is an error.
pub fn documents(task: &Task, templates: &Templates, path: &Path, most: Option<usize>) -> Result<Vec<Document>> {
    let most = most.unwrap_or(usize::MAX);
    let mut all = match task.format {
        Form::Jsonl => lines(path, most)?,
        Form::Csv => cells(path, &task.columns, most)?,
    };
    if all.is_empty() {
        return Err(file_error(path, "there is no document in it", "a task needs one at least"));
    }
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    for document in &mut all {
        if let Value::Object(fields) = &mut document.fields {
            fields.insert("file".into(), stem.clone().into());
        }
    }
    if let Some(labels) = &task.labels {
        let name = templates.text(labels, &all[0].fields).map_err(|why| Error(format!("task {}: labels: {why}", task.name)))?;
        let labels = path.with_file_name(name);
        if labels.exists() {
            label(&mut all, &labels)?;
        }
    }
    Ok(all)
}

/// Gives each document the line of its number.
fn label(all: &mut [Document], path: &Path) -> Result<()> {
    let mut file = open(path)?;
    for (i, document) in all.iter_mut().enumerate() {
        let line = line(&mut file, path, i as u64 + 1)?;
        let line = line.ok_or_else(|| document.error("it has no label", format!("{} has {i} lines", path.display())))?;
        if let Value::Object(fields) = &mut document.fields {
            fields.insert("label".into(), line.trim().into());
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let fail = |e: std::io::Error| file_error(path, "the documents cannot be read", e);
    if let Some(what) = irregular(&std::fs::metadata(path).map_err(fail)?) {
        return Err(file_error(path, "the documents cannot be read", format!("it is {what}; name a regular file")));
    }
    Ok(BufReader::new(File::open(path).map_err(fail)?))
}

/// The next line of a file, which is the one of a number.
fn line(file: &mut BufReader<File>, path: &Path, number: u64) -> Result<Option<String>> {
    let fail = |why: String| Error(format!("{}:{number}: the documents cannot be read: {why}", path.display()));
    let mut bytes = vec![];
    file.by_ref().take(LONGEST + 1).read_until(b'\n', &mut bytes).map_err(|e| fail(e.to_string()))?;
    if bytes.len() as u64 > LONGEST {
        return Err(fail(format!("the line is longer than {LONGEST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| fail("this is not UTF-8".into()))?;
    Ok((!text.is_empty()).then_some(text))
}

fn lines(path: &Path, most: usize) -> Result<Vec<Document>> {
    let (mut file, mut all, mut number) = (open(path)?, vec![], 0);
    while all.len() < most {
        number += 1;
        let Some(text) = line(&mut file, path, number)? else { break };
        if text.trim().is_empty() {
            continue;
        }
        let fail = |why: String| Error(format!("{}:{number}: this is no object of JSON: {why}", path.display()));
        let fields: Map<String, Value> = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
        all.push(Document { fields: fields.into(), path: path.into(), line: number });
    }
    Ok(all)
}

fn cells(path: &Path, columns: &[String], most: usize) -> Result<Vec<Document>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(open(path)?.take(LONGEST * 16));
    let mut all = vec![];
    for record in reader.records().take(most) {
        let record = record.map_err(|e| file_error(path, "the rows cannot be read", e))?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.len() {
            let why = format!("the row has {} cells, expected {}: {}", record.len(), columns.len(), columns.join(", "));
            return Err(Error(format!("{}:{line}: {why}", path.display())));
        }
        let fields: Map<String, Value> = columns.iter().cloned().zip(record.iter().map(Value::from)).collect();
        all.push(Document { fields: fields.into(), path: path.into(), line });
    }
    Ok(all)
}
