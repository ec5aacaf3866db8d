//! The questions of a task as what a model is asked, and what it said of them.

use super::question::{Examples, Question, questions};
use super::rows::Request;
use super::samples::Sample;
use super::score::{Score, Scorer};
use super::seam::Seam;
use super::task::Task;
use crate::error::{Error, Result};
use crate::files::write_file;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A task and the file or folder that its questions are in.
#[derive(Clone, Debug)]
pub struct TaskFiles {
    /// The task's name, or its file.
    pub task: String,
    /// Its questions.
    pub path: PathBuf,
}

impl FromStr for TaskFiles {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<TaskFiles, String> {
        match text.split_once('=') {
            Some((task, path)) if !task.is_empty() && !path.is_empty() => Ok(TaskFiles { task: task.into(), path: path.into() }),
            _ => Err("expected a task and its file or folder, as in hellaswag=hellaswag_val.jsonl".into()),
        }
    }
}

impl TaskFiles {
    /// The file, or those of the folder that have the task's format, in order of name.
    fn files(&self, task: &Task) -> Result<Vec<PathBuf>> {
        let path = &self.path;
        if !path.is_dir() {
            return Ok(vec![path.clone()]);
        }
        let extension = task.format.to_string();
        let entries = std::fs::read_dir(path).map_err(|e| Error(format!("{}: the folder cannot be read: {e}", path.display())))?;
        let mut all: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| *e == *extension)).collect();
        all.sort();
        if all.is_empty() { Err(Error(format!("{}: there is no .{extension} file in this folder", path.display()))) } else { Ok(all) }
    }
}

/// The questions of a task, with their requests.
#[derive(Debug)]
pub struct Asked {
    /// The task.
    pub task: Task,
    /// Its questions.
    pub questions: Vec<Question>,
    /// A request an answer, question after question.
    pub requests: Vec<Request>,
    /// Questions whose beginning is not read.
    pub cut: usize,
}

impl Asked {
    /// Reads a task's questions, of each file the first so many where there is a limit.
    pub fn read(from: &TaskFiles, examples: &Examples, limit: Option<usize>, seam: &Seam) -> Result<Asked> {
        let task = Task::open(&from.task)?;
        let mut all = vec![];
        for path in from.files(&task)? {
            all.extend(questions(&task, &path, examples, limit)?);
        }
        let (mut requests, mut cut) = (vec![], 0);
        for question in &all {
            let mut short = false;
            for (context, continuation) in &question.arguments {
                let (request, tokens) = seam.request(context, continuation).map_err(|why| question.document.error("the answers", why))?;
                short |= tokens > 0;
                requests.push(request);
            }
            cut += usize::from(short);
        }
        Ok(Asked { task, questions: all, requests, cut })
    }

    /// What there is to know of questions that are too long, if some are.
    pub fn notice(&self) -> Option<String> {
        let (name, cut, all) = (&self.task.name, self.cut, self.questions.len());
        (cut > 0).then(|| format!("{name}: {cut} of {all} questions are longer than the model reads: their beginning is not read"))
    }

    /// What was said of the requests, question by question.
    pub fn samples(&self, scores: &[Score]) -> Vec<Sample> {
        let mut rest = scores;
        let one = |question: &Question| {
            let (own, later) = rest.split_at(question.arguments.len());
            rest = later;
            Sample::of(&self.task.name, question, own)
        };
        self.questions.iter().map(one).collect()
    }

    /// Writes what was asked and said, a line a question.
    pub fn write(&self, path: &Path, samples: &[Sample]) -> Result<()> {
        let mut rest = &self.requests[..];
        let mut text = String::new();
        for (i, (question, sample)) in self.questions.iter().zip(samples).enumerate() {
            let (own, later) = rest.split_at(question.arguments.len());
            rest = later;
            text += &sample.line(i, question, &own.iter().map(|r| r.asked).collect::<Vec<_>>());
            text.push('\n');
        }
        write_file(path, text.as_bytes())
    }
}

/// What a model says of every task's requests, which are read together. `each` is told how many tokens are read, and how many there are.
pub fn scores(all: &[Asked], scorer: &mut Scorer, each: &mut dyn FnMut(usize, usize)) -> Result<Vec<Vec<Score>>> {
    let requests: Vec<Request> = all.iter().flat_map(|a| a.requests.iter().cloned()).collect();
    let mut scores = scorer.score(&requests, each)?;
    let mut out: Vec<Vec<Score>> = vec![];
    for asked in all {
        let rest = scores.split_off(asked.requests.len());
        out.push(std::mem::replace(&mut scores, rest));
    }
    Ok(out)
}
