//! What a run with classes found of the texts that it looked at once.

use crate::error::{Result, file_error};
use crate::files::{read_short, write_file};
use crate::run::Confusion;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;

/// What was found of texts that nothing was learned from, beside what counting does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tested {
    /// What the texts are: test, or held-out where there are none of that.
    pub part: String,
    /// The classes by name, in the order of their numbers.
    pub classes: Vec<String>,
    /// What the model took each class for: a row for each that is right, with a count for each that was said.
    pub model: Vec<Vec<u64>>,
    /// The same of naive Bayes over the words of the texts to learn from.
    pub naive_bayes: Vec<Vec<u64>>,
    /// The same of always saying the class that most of those have.
    pub majority: Vec<Vec<u64>>,
}

/// The file's name in a run directory.
pub const TESTED: &str = "classes.json";

/// More bytes than any has.
const LONGEST: u64 = 1 << 30;

impl Tested {
    /// Reads what a run directory has, if it has any.
    pub fn read(dir: &Path) -> Result<Option<Tested>> {
        let path = dir.join(TESTED);
        let fail = |why: String| file_error(&path, "what was found of classes cannot be read", why);
        let text = match read_short(&path, LONGEST) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e.to_string())),
        };
        let tested: Tested = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
        let n = tested.classes.len();
        let square = |counts: &Vec<Vec<u64>>| counts.len() == n && counts.iter().all(|row| row.len() == n);
        if [&tested.model, &tested.naive_bayes, &tested.majority].into_iter().all(square) {
            return Ok(Some(tested));
        }
        Err(fail(format!("a table of counts is not {n} by {n}, as there are classes")))
    }

    /// Writes it into a run directory.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("it has a JSON form") + "\n";
        write_file(&dir.join(TESTED), text.as_bytes())
    }

    /// Who was asked, and what they took each class for.
    pub fn all(&self) -> [(&'static str, Confusion); 3] {
        let of = |rows: &Vec<Vec<u64>>| Confusion::of_rows(rows.clone());
        [("this model", of(&self.model)), ("naive Bayes", of(&self.naive_bayes)), ("majority class", of(&self.majority))]
    }
}
