//! What stands in the folder of what was read, beside parts: the list of inputs, and a record of each that is read.

use super::super::part::{Part, expected, parts};
use super::super::report::Report;
use super::super::work::Share;
use super::input::{Input, Stamp};
use crate::error::{Error, Result, file_error};
use crate::files::{read_short, write_file};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The file of all inputs' names.
const LIST: &str = "inputs.json";
/// What the file of a record ends with.
const RECORD: &str = ".read.json";
/// More bytes than a list or a record has.
const LONGEST: u64 = 1 << 30;

/// The name of an input's part.
pub fn part_name(input: usize, part: usize) -> String {
    format!("{input:05}-{part:04}")
}

/// All inputs, whatever share reads them.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    settings: String,
    inputs: Vec<String>,
}

impl List {
    /// The list of some inputs, read with some settings.
    pub fn of(settings: &str, inputs: &[Input]) -> List {
        List { settings: settings.into(), inputs: inputs.iter().map(|i| i.name.clone()).collect() }
    }

    /// Puts the list in its place, where it is not there already.
    pub fn write(&self, folder: &Path) -> Result<()> {
        match List::read(folder) {
            Ok(Some(list)) if list == *self => Ok(()),
            Ok(_) | Err(_) => write_json(&folder.join(LIST), self),
        }
    }

    fn read(folder: &Path) -> Result<Option<List>> {
        let path = folder.join(LIST);
        if !path.exists() {
            return Ok(None);
        }
        let fail = |why: String| file_error(&path, "the list of inputs cannot be read", format!("{why}; run eggcorn data read again"));
        let text = read_short(&path, LONGEST).map_err(|e| fail(e.to_string()))?;
        serde_json::from_str(&text).map(Some).map_err(|e| fail(e.to_string()))
    }
}

/// What an input was, and what it became.
#[derive(Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub input: String,
    /// What tells whether it changed.
    pub stamp: Option<Stamp>,
    /// Checksum of the settings.
    pub settings: String,
    /// The names of its parts.
    pub parts: Vec<String>,
    /// What became of it.
    pub report: Report,
}

impl Record {
    fn path(folder: &Path, number: usize) -> PathBuf {
        folder.join(format!("{number:05}{RECORD}"))
    }

    /// An input's record, where there is one that can be read.
    pub fn read(folder: &Path, number: usize) -> Option<Record> {
        serde_json::from_str(&read_short(&Record::path(folder, number), LONGEST).ok()?).ok()
    }

    /// Whether it is of an input that did not change since. What has no stamp may have changed.
    pub fn is_of(&self, input: &str, stamp: Option<Stamp>, settings: &str) -> bool {
        self.input == input && self.settings == settings && stamp.is_some() && self.stamp == stamp
    }

    /// Whether its parts are all there.
    pub fn is_whole(&self, folder: &Path) -> bool {
        self.parts.iter().all(|name| Part::new(folder, name).report().is_some())
    }

    /// Puts it in its place.
    pub fn write(&self, folder: &Path, number: usize) -> Result<()> {
        write_json(&Record::path(folder, number), self)
    }

    /// Removes an input's record, before its parts change.
    pub fn remove(folder: &Path, number: usize) -> Result<()> {
        remove(&Record::path(folder, number))
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value).expect("lists and records have a JSON form") + "\n";
    write_file(path, json.as_bytes())
}

/// Removes a file, which need not be there.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(file_error(path, "what an older reading left cannot be removed", e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes an input's parts from a number on, the last first: what an interruption leaves has no gaps.
pub fn remove_parts(folder: &Path, input: usize, from: usize) -> Result<()> {
    let part = |n: usize| Part::new(folder, &part_name(input, n));
    let is_there = |n: &usize| part(*n).documents().exists() || part(*n).report_file().exists();
    let old: Vec<usize> = (from..).take_while(is_there).collect();
    old.into_iter().rev().try_for_each(|n| remove(&part(n).report_file()).and_then(|()| remove(&part(n).documents())))
}

/// Removes what an older reading of more inputs left, of this share.
pub fn remove_beyond(folder: &Path, inputs: usize, share: Share) -> Result<()> {
    let fail = |e: std::io::Error| file_error(folder, "the folder cannot be read", e);
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if let Some(number) = name.to_str().and_then(number).filter(|n| *n >= inputs && share.has(*n)) {
            Record::remove(folder, number)?;
            remove(&folder.join(&name))?;
        }
    }
    Ok(())
}

/// The input that a file of this stage is of.
fn number(name: &str) -> Option<usize> {
    let stem = name.strip_suffix(".jsonl.zst").or_else(|| name.strip_suffix(RECORD)).or_else(|| name.strip_suffix(".json"))?;
    let (input, part) = stem.split_once('-').unwrap_or((stem, "0000"));
    let digits = |s: &str, n: usize| s.len() >= n && s.bytes().all(|b| b.is_ascii_digit());
    (digits(input, 5) && digits(part, 4)).then(|| input.parse().ok())?
}

/// The parts of a stage's folder, once all are there: until then, an error that names what is missing. Of a folder that does not say what
/// should be there, all that is.
pub fn complete(folder: &Path) -> Result<Vec<Part>> {
    let Some(list) = List::read(folder)? else { return expected(folder)?.map_or_else(|| parts(folder), Ok) };
    let mut found = vec![];
    for (number, input) in list.inputs.iter().enumerate() {
        let record = Record::read(folder, number).filter(|r| r.input == *input && r.settings == list.settings && r.is_whole(folder));
        let missing = || {
            let of = list.inputs.len();
            let what = format!("the input {} of {of}, {input}, is not read", number + 1);
            file_error(folder, &what, "run eggcorn data read to its end, with every --share if it has shares")
        };
        found.extend(record.ok_or_else(missing)?.parts.iter().map(|name| Part::new(folder, name)));
    }
    if found.is_empty() { Err(Error(format!("{}: there is no document in what was read", folder.display()))) } else { Ok(found) }
}
