//! Errors a person can act on.

use std::fmt;

/// What went wrong, with the file, tensor or key it is about, and one thing to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(message: String) -> Error {
        Error(message)
    }
}

/// Results of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error about a file.
pub(crate) fn file_error(path: &std::path::Path, what: &str, why: impl fmt::Display) -> Error {
    Error(format!("{}: {what}: {why}", path.display()))
}

/// The known name nearest to a mistyped one, if it is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |(d, k): &(usize, &str)| *d < name.len() && *d <= 1 + k.len().min(name.len()) / 3;
    known.into_iter().map(|k| (distance(name, k), k)).filter(near).min().map(|d| d.1)
}

/// The end of an error about an unknown name.
pub fn hint(name: &str, known: &[&str]) -> String {
    nearest(name, known.iter().copied()).map_or(String::new(), |n| format!("; did you mean {n}?"))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
