//! Documents to questions: what stands before, and the answers.

use super::documents::{Document, documents};
use super::task::Task;
use super::template::Templates;
use crate::data::random;
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A question with its answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Its document.
    pub document: Document,
    /// What results are told apart by.
    pub group: Option<String>,
    /// Of each answer, what stands before what is asked, and that.
    pub arguments: Vec<(String, String)>,
    /// The answers as the task has them, whose lengths count.
    pub choices: Vec<String>,
    /// The number of the right one.
    pub target: usize,
}

/// Which examples stand before a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples {
    /// How many.
    pub count: usize,
    /// The file they are of, whatever the task says.
    pub file: Option<PathBuf>,
    /// Draws them for each question by a seed, instead of the first.
    pub seed: Option<u64>,
}

/// A document as the task reads it.
struct Read {
    /// What stands before each answer; one for all where answers differ in what follows.
    contexts: Vec<String>,
    /// What follows each, or one for all.
    continuations: Vec<String>,
    target: usize,
}

impl Read {
    fn choices(&self) -> &[String] {
        if self.contexts.len() > 1 { &self.contexts } else { &self.continuations }
    }

    /// Question and answer of a number.
    fn pair(&self, i: usize) -> (&str, &str) {
        let of = |all: &'_ [String]| all.get(i).map_or(0, |_| i);
        (&self.contexts[of(&self.contexts)], &self.continuations[of(&self.continuations)])
    }
}

/// The questions of a file, the first so many unless all.
pub fn questions(task: &Task, path: &Path, examples: &Examples, most: Option<usize>) -> Result<Vec<Question>> {
    let templates = Templates::default();
    let all = documents(task, &templates, path, most)?;
    let mut pools: HashMap<PathBuf, Vec<Document>> = HashMap::new();
    let mut out = vec![];
    for (number, document) in all.into_iter().enumerate() {
        let read = read(task, &templates, &document)?;
        let text = |what: &str, template: &str| templates.text(template, &document.fields).map_err(|why| document.error(what, why));
        let mut before = text("description", &task.description)?;
        if examples.count > 0 {
            let from = examples_of(task, &templates, &document, examples)?;
            if !pools.contains_key(&from) {
                pools.insert(from.clone(), documents(task, &templates, &from, None)?);
            }
            for example in drawn(&pools[&from], &document, examples, number as u64)? {
                let shown = self::read(task, &templates, example)?;
                let (question, answer) = shown.pair(shown.target);
                before = before + question + &task.delimiter + answer + &task.separator;
            }
        }
        let group = task.group.as_ref().map(|expression| -> Result<String> {
            let value = templates.value(expression, &document.fields).map_err(|why| document.error("group", why))?;
            Ok(value.as_str().map_or_else(|| value.to_string(), str::to_string))
        });
        let argument = |i: usize| {
            let (context, continuation) = read.pair(i);
            (format!("{before}{context}"), format!("{}{continuation}", task.delimiter))
        };
        let arguments = (0..read.choices().len()).map(argument).collect();
        let (choices, target) = (read.choices().to_vec(), read.target);
        out.push(Question { group: group.transpose()?, arguments, choices, target, document });
    }
    Ok(out)
}

/// The file that examples of a document are of.
fn examples_of(task: &Task, templates: &Templates, document: &Document, examples: &Examples) -> Result<PathBuf> {
    match (&examples.file, &task.examples) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(template)) => {
            let name = templates.text(template, &document.fields).map_err(|why| document.error("examples", why))?;
            Ok(document.path.parent().unwrap_or(Path::new("")).join(name))
        }
        (None, None) => Ok(document.path.clone()),
    }
}

/// The examples for a question, itself not among them.
fn drawn<'d>(pool: &'d [Document], question: &Document, examples: &Examples, number: u64) -> Result<Vec<&'d Document>> {
    let mut others: Vec<&Document> = pool.iter().filter(|d| d.fields != question.fields).collect();
    let (n, have) = (examples.count, others.len());
    if n > have {
        let path = pool.first().map_or(&question.path, |d| &d.path);
        return Err(Error(format!("{}: there are {have} documents for {n} examples; try --num-fewshot {have}", path.display())));
    }
    if let Some(seed) = examples.seed {
        // the first steps of a shuffle
        for i in 0..n {
            let j = i + (random(seed, (number << 16) + i as u64) % (have - i) as u64) as usize;
            others.swap(i, j);
        }
    }
    others.truncate(n);
    Ok(others)
}

fn read(task: &Task, templates: &Templates, document: &Document) -> Result<Read> {
    let text = |what: &str, template: &Option<String>| -> Result<Vec<String>> {
        let Some(template) = template else { return Ok(vec![]) };
        templates.text(template, &document.fields).map(|t| vec![t]).map_err(|why| document.error(what, why))
    };
    let list = |what: &str, expression: &Option<String>| -> Result<Vec<String>> {
        let Some(expression) = expression else { return Ok(vec![]) };
        let value = templates.value(expression, &document.fields).map_err(|why| document.error(what, why))?;
        strings(&value).ok_or_else(|| document.error(what, format!("expected two texts at least, and there is {value}")))
    };
    let contexts = [text("text", &task.text)?, list("contexts", &task.contexts)?].concat();
    let continuations = [list("choices", &task.choices)?, text("continuation", &task.continuation)?].concat();
    let mut read = Read { contexts, continuations, target: 0 };
    if let Some(i) = read.choices().iter().chain(&read.continuations).position(String::is_empty) {
        return Err(document.error("an answer is empty", format!("number {i}; every answer has a character at least")));
    }
    let target = templates.value(&task.target, &document.fields).map_err(|why| document.error("target", why))?;
    let found = match &target {
        Value::String(answer) => read.choices().iter().position(|c| c == answer),
        other => other.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n < read.choices().len()),
    };
    let choices = || read.choices().iter().map(|c| format!("{c:?}")).collect::<Vec<_>>().join(", ");
    read.target = found.ok_or_else(|| document.error("the target", format!("{target} is no number or text of the answers {}", choices())))?;
    Ok(read)
}

/// Two texts at least; numbers count as such.
fn strings(value: &Value) -> Option<Vec<String>> {
    let one = |v: &Value| match v {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    value.as_array()?.iter().map(one).collect::<Option<Vec<_>>>().filter(|all| all.len() > 1)
}
