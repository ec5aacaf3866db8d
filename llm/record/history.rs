//! The metrics of a run, read: also while it is written, or where the file was cut or damaged.

use super::METRICS;
use crate::error::{Error, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// What the metrics of a run say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What was said when the training began last.
    pub ready: Option<Ready>,
    /// The steps, in order, each once.
    pub rows: Vec<Row>,
    /// Texts written on the way: the step and the text.
    pub samples: Vec<(u64, String)>,
    /// The step and the loss over all held-out text, at the end of a run.
    pub whole: Option<(u64, f64)>,
    /// What else was measured: the step, what it is, and its value.
    pub measured: Vec<(u64, String, f64)>,
    /// Notices, each once.
    pub notices: Vec<String>,
    /// Lines that are no events.
    pub damaged: usize,
}

/// What is known of a run before its first step.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Numbers that are learned.
    pub parameters: u64,
    /// Bytes that are planned.
    pub bytes: u64,
    /// Kernels compiled.
    pub kernels: u64,
    /// The last step of the plan.
    pub to_step: Option<u64>,
    /// Operations of a step's products.
    pub flops: Option<f64>,
    /// Operations a second that the device does at best.
    pub ceiling: Option<f64>,
    /// Sources of text and their tokens; none of what is made as it is read.
    pub sources: Vec<(String, Option<u64>)>,
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Row {
    pub step: u64,
    /// Seconds since 1970.
    pub time: Option<f64>,
    /// Tokens of the run so far.
    pub tokens: Option<u64>,
    pub loss: f64,
    /// The held-out loss, where it was evaluated after this step.
    pub held_out: Option<f64>,
    pub lr: Option<f64>,
    pub grad_norm: Option<f64>,
    pub ms: Option<f64>,
    pub waited_ms: Option<f64>,
    pub tokens_per_second: Option<f64>,
    pub mfu: Option<f64>,
    /// The most bytes the process has had.
    pub memory: Option<u64>,
}

/// More bytes than a line of metrics has: a longer one is damaged, and is not held.
const LONGEST: u64 = 1 << 20;

impl History {
    /// Reads the metrics of a run directory.
    pub fn read(dir: &Path) -> Result<History> {
        let path = dir.join(METRICS);
        let fail = |e: io::Error| Error(format!("{}: the metrics cannot be read: {e}; is this the directory of a run?", path.display()));
        if path.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        History::of(BufReader::new(File::open(&path).map_err(fail)?)).map_err(fail)
    }

    /// The same of lines from anywhere.
    pub fn of(mut from: impl BufRead) -> io::Result<History> {
        let mut history = History::default();
        let mut line = vec![];
        loop {
            line.clear();
            if from.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                return Ok(history);
            }
            let whole = line.ends_with(b"\n");
            match serde_json::from_slice::<Value>(&line) {
                Ok(event) => history.push(&event),
                // the last line of a file that is being written is no damage
                Err(_) if whole || line.len() as u64 == LONGEST => history.damaged += 1,
                Err(_) => {}
            }
        }
    }

    /// Takes in an event. One that lacks what it must have is damaged.
    pub(super) fn push(&mut self, event: &Value) {
        if self.take(event).is_none() {
            self.damaged += 1;
        }
    }

    fn take(&mut self, event: &Value) -> Option<()> {
        let step = || event["step"].as_u64();
        match event["event"].as_str()? {
            "ready" => {
                let ready = Ready::of(event)?;
                let from = event["from_step"].as_u64().unwrap_or(0);
                // what a training that died had done beyond its checkpoint comes again
                self.rows.retain(|r| r.step <= from);
                self.samples.retain(|s| s.0 <= from);
                self.measured.retain(|m| m.0 <= from);
                self.ready = Some(ready);
            }
            "step" => {
                let row = Row::of(event)?;
                if self.rows.last().is_none_or(|last| last.step < row.step) {
                    self.rows.push(row);
                }
                self.whole = None;
            }
            "evaluated" => {
                let (step, loss) = (step()?, event["loss"].as_f64()?);
                if event["whole"].as_bool()? {
                    self.whole = Some((step, loss));
                }
                let row = self.rows.iter_mut().rev().find(|r| r.step == step);
                row.into_iter().for_each(|r| r.held_out = Some(loss));
            }
            "sampled" => self.samples.push((step()?, event["text"].as_str()?.into())),
            "measured" => self.measured.push((step()?, event["what"].as_str()?.into(), event["value"].as_f64()?)),
            "notice" => {
                let text = event["text"].as_str()?;
                if !self.notices.iter().any(|n| n == text) {
                    self.notices.push(text.into());
                }
            }
            // what later versions tell is no damage
            _ => {}
        }
        Some(())
    }

    /// The lowest held-out loss on the way or at the end, and its step.
    pub fn best(&self) -> Option<(u64, f64)> {
        let evaluated = self.rows.iter().filter_map(|r| Some((r.step, r.held_out?)));
        evaluated.min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The mean training loss of the last steps, fifty at most: one alone says little.
    pub fn last_loss(&self) -> Option<f64> {
        let end = &self.rows[self.rows.len().saturating_sub(50)..];
        (!end.is_empty()).then(|| end.iter().map(|r| r.loss).sum::<f64>() / end.len() as f64)
    }

    /// Seconds of all steps, with what they waited for data, and without evaluations and checkpoints.
    pub fn seconds(&self) -> f64 {
        self.rows.iter().map(|r| (r.ms.unwrap_or(0.0) + r.waited_ms.unwrap_or(0.0)) / 1e3).sum()
    }

    /// The median of what the steps say, where any does.
    pub fn median(&self, of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        let mut all: Vec<f64> = self.rows.iter().filter_map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// Whether the run came to its end.
    pub fn is_finished(&self) -> bool {
        self.whole.is_some()
    }
}

impl Ready {
    fn of(e: &Value) -> Option<Ready> {
        let source = |s: &Value| Some((s["source"].as_str()?.to_string(), s["tokens"].as_u64()));
        Some(Ready {
            parameters: e["parameters"].as_u64()?,
            bytes: e["bytes"].as_u64()?,
            kernels: e["kernels"].as_u64()?,
            to_step: e["to_step"].as_u64(),
            flops: e["flops"].as_f64(),
            ceiling: e["ceiling"].as_f64(),
            sources: e["sources"].as_array().into_iter().flatten().filter_map(source).collect(),
        })
    }
}

impl Row {
    pub(super) fn of(e: &Value) -> Option<Row> {
        let number = |key: &str| e[key].as_f64();
        Some(Row {
            step: e["step"].as_u64()?,
            time: number("time"),
            tokens: e["tokens"].as_u64(),
            loss: number("loss")?,
            held_out: None,
            lr: number("lr"),
            grad_norm: number("grad_norm"),
            ms: number("ms"),
            waited_ms: number("waited_ms"),
            tokens_per_second: number("tokens_per_second"),
            mfu: number("mfu"),
            memory: e["memory"].as_u64(),
        })
    }
}
