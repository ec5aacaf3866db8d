//! Which files are read.

use crate::error::{Error, Result, file_error};
use crate::files::{Irregular, irregular};
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// A file to read, or standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The path as given, or as found below what was given; `-` is standard input.
    pub name: String,
}

/// What tells whether a file changed. Standard input and pipes have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified: u64,
}

impl Input {
    /// Its path, where it has one.
    pub fn path(&self) -> Option<&Path> {
        (self.name != "-").then(|| Path::new(&self.name))
    }

    /// What tells whether it changed.
    pub(super) fn stamp(&self) -> Result<Option<Stamp>> {
        let Some(path) = self.path() else { return Ok(None) };
        let what = readable(path)?;
        let since = what.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        Ok(since.filter(|_| what.is_file()).map(|t| Stamp { size: what.len(), modified: t.as_nanos() as u64 }))
    }
}

/// The files that paths, folders and patterns mean, in order and each once: of folders all files below, but for hidden ones.
pub fn inputs(given: &[String]) -> Result<Vec<Input>> {
    let mut found: Vec<String> = vec![];
    for name in given {
        find(name, &mut found)?;
    }
    // by component, so that a folder's files stand together
    found.sort_by(|a, b| Path::new(a).cmp(Path::new(b)).then_with(|| a.cmp(b)));
    found.dedup();
    if found.is_empty() {
        return Err(Error(format!("{}: there is no file to read; hidden files are left out", given.join(", "))));
    }
    Ok(found.into_iter().map(|name| Input { name }).collect())
}

/// What one word of the command line means.
fn find(name: &str, found: &mut Vec<String>) -> Result<()> {
    if name == "-" {
        found.push("-".into());
        return Ok(());
    }
    // a file may be named like a pattern
    if !Path::new(name).exists() && name.contains(['*', '?', '[']) {
        return find_pattern(name, found);
    }
    if std::fs::metadata(name).is_ok_and(|m| m.is_dir()) {
        return walk(Path::new(name), 0, found);
    }
    readable(Path::new(name))?;
    found.push(name.into());
    Ok(())
}

fn find_pattern(pattern: &str, found: &mut Vec<String>) -> Result<()> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, require_literal_separator: true, ..Default::default() };
    let paths = glob::glob_with(pattern, options).map_err(|e| Error(format!("{pattern}: this is no pattern: {e}; quote it as in 'data/*.txt'")))?;
    let before = found.len();
    for path in paths {
        let path = path.map_err(|e| Error(format!("{}: this cannot be read: {}", e.path().display(), e.error())))?;
        if path.is_dir() { walk(&path, 0, found)? } else { found.push(text(path)?) }
    }
    if found.len() == before { Err(Error(format!("{pattern}: no file matches; try '**/*.txt' for folders below, too"))) } else { Ok(()) }
}

/// Folders may stand in each other so deep; a loop of links is deeper.
const DEEPEST: usize = 64;

/// All files below a folder.
fn walk(folder: &Path, depth: usize, found: &mut Vec<String>) -> Result<()> {
    let fail = |e: std::io::Error| file_error(folder, "the folder cannot be read", e);
    if depth == DEEPEST {
        return Err(file_error(folder, "the folder cannot be read", format!("it is {DEEPEST} folders deep; is there a link to a folder above?")));
    }
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // links are followed
        let what = std::fs::metadata(&path).map_err(|e| file_error(&path, "the file cannot be read", e))?;
        if what.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if what.is_file() {
            found.push(text(path)?);
        }
    }
    Ok(())
}

/// A path as an id can hold it.
fn text(path: PathBuf) -> Result<String> {
    path.into_os_string().into_string().map_err(|p| file_error(Path::new(&p), "the file's name is not UTF-8", "rename it"))
}

/// What a path leads to, where that has an end.
fn readable(path: &Path) -> Result<Metadata> {
    let fail = |why: String| file_error(path, "the file cannot be read", why);
    let what = std::fs::metadata(path).map_err(|e| fail(format!("{e}; name a file, a folder, or a pattern such as 'data/*.txt'")))?;
    match irregular(&what) {
        Some(Irregular::Device) => Err(fail("it is a device; name a file, or - for standard input".into())),
        Some(Irregular::Directory) => Err(fail("it is a directory now, and was a file before; run the command again".into())),
        Some(Irregular::Pipe) | None => Ok(what),
    }
}
