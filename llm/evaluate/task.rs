//! A task: how a line of a file becomes a question with answers.

use crate::error::{Error, Result, file_error, hint};
use crate::files::read_short;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How a file holds documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Form {
    /// An object of JSON a line.
    #[default]
    Jsonl,
    /// Rows of cells without a head.
    Csv,
}

ir::spell!(Form, "format of documents", [Jsonl "jsonl", Csv "csv"]);

/// A task as its file says it. Templates and expressions are Jinja's, over the fields of a document and `file`, the name of its file without
/// extension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What people call it; the file's name without extension.
    #[serde(skip)]
    pub name: String,
    /// How its files hold documents.
    #[serde(default)]
    pub format: Form,
    /// Of rows, the fields.
    #[serde(default)]
    pub columns: Vec<String>,
    /// A template: the file beside a document's in which each line is the field `label` of the document of the same line. Where it is not
    /// there, documents have that field themselves.
    #[serde(default)]
    pub labels: Option<String>,
    /// A template: what stands before everything, of the question's document.
    #[serde(default)]
    pub description: String,
    /// A template: the question.
    #[serde(default)]
    pub text: Option<String>,
    /// An expression: the answers.
    #[serde(default)]
    pub choices: Option<String>,
    /// An expression: instead of one question with several answers, several texts that end alike.
    #[serde(default)]
    pub contexts: Option<String>,
    /// A template: how those end.
    #[serde(default)]
    pub continuation: Option<String>,
    /// An expression: the number of the right answer, from 0, or the answer.
    pub target: String,
    /// What stands between question and answer.
    #[serde(default = "space")]
    pub delimiter: String,
    /// What stands between examples.
    #[serde(default = "blank_line")]
    pub separator: String,
    /// An expression: what results are told apart by.
    #[serde(default)]
    pub group: Option<String>,
    /// A template: the file that examples are of, from the folder of a document's; its own file unless said.
    #[serde(default)]
    pub examples: Option<String>,
}

fn space() -> String {
    " ".into()
}

fn blank_line() -> String {
    "\n\n".into()
}

/// The tasks there are.
const TASKS: [(&str, &str); 6] = [
    ("arc", include_str!("tasks/arc.toml")),
    ("blimp", include_str!("tasks/blimp.toml")),
    ("hellaswag", include_str!("tasks/hellaswag.toml")),
    ("mmlu", include_str!("tasks/mmlu.toml")),
    ("piqa", include_str!("tasks/piqa.toml")),
    ("winogrande", include_str!("tasks/winogrande.toml")),
];

/// More bytes than any task's file has.
const LONGEST: u64 = 1 << 20;

impl Task {
    /// The tasks there are, and the first words of each about itself.
    pub fn all() -> Vec<(&'static str, &'static str)> {
        TASKS.iter().map(|(name, text)| (*name, text.lines().next().unwrap_or_default().trim_start_matches("# "))).collect()
    }

    /// A task by name, or by the path of its file.
    pub fn open(name: &str) -> Result<Task> {
        if let Some((name, text)) = TASKS.iter().find(|t| t.0 == name) {
            return Task::read(name, text).map_err(Error);
        }
        let path = Path::new(name);
        if path.extension().is_none_or(|e| e != "toml") {
            let names: Vec<&str> = TASKS.iter().map(|t| t.0).collect();
            let near = hint(name, &names);
            return Err(Error(format!("there is no task {name}; there are {}, or name a file of one's own, as in my.toml{near}", names.join(", "))));
        }
        let text = read_short(path, LONGEST).map_err(|e| file_error(path, "the task cannot be read", e))?;
        let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        Task::read(&stem, &text).map_err(|why| file_error(path, "the task cannot be read", why))
    }

    fn read(name: &str, text: &str) -> std::result::Result<Task, String> {
        let task: Task = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())?;
        match (task.text.is_some(), task.choices.is_some(), task.contexts.is_some(), task.continuation.is_some()) {
            (true, true, false, false) | (false, false, true, true) => {}
            _ => return Err("expected text and choices, or contexts and continuation".into()),
        }
        if (task.format == Form::Csv) == task.columns.is_empty() {
            return Err("columns are the fields of rows: give them with format = \"csv\", and with no other".into());
        }
        Ok(Task { name: name.into(), ..task })
    }
}
