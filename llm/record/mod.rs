//! What a run directory says of how a training went: written while it goes on, cut back where it is resumed, read by whoever looks.

mod board;
mod history;
mod metrics;
mod progress;
mod table;
mod tested;

pub use board::{BOARD, BoardEvent, events};
pub use history::{History, Ready, Row};
pub use metrics::{From, line};
pub use progress::{Progress, duration, milliseconds, thousands};
pub use table::{COLUMNS, TABLE};
pub use tested::{TESTED, Tested};

use crate::error::{Error, Result};
use crate::files::write_file;
use crate::run::Event;
use board::Board;
use metrics::{as_json, kept, now};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The name of the metrics in a run directory.
pub const METRICS: &str = "metrics.jsonl";

/// The name of the texts that were written on the way.
pub const SAMPLES: &str = "samples.txt";

/// The record of a run, open for more: `metrics.jsonl`, and what follows from it, `metrics.csv`, `samples.txt` and TensorBoard's events.
pub struct Recorder {
    metrics: Growing,
    table: Growing,
    samples: Growing,
    board: Board,
    /// The last step, whose line of the table waits for what is evaluated after it.
    last: Option<Row>,
    fault: Option<Error>,
}

/// A file that grows.
struct Growing {
    path: PathBuf,
    file: File,
}

impl Growing {
    /// A file with a new beginning, whole or not at all.
    fn begin(path: PathBuf, beginning: &str) -> Result<Growing> {
        // what is no file is refused here
        write_file(&path, beginning.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| cannot(&path, &e))?;
        Ok(Growing { path, file })
    }

    /// Writes in one piece, so that a process that dies leaves whole lines.
    fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(|e| cannot(&self.path, &e))
    }
}

fn cannot(path: &Path, e: &io::Error) -> Error {
    Error(format!("{}: metrics cannot be written: {e}", path.display()))
}

impl Recorder {
    /// Cuts the record back to where the run goes on from, whole or not at all, and opens it for what follows.
    pub fn open(dir: &Path, from: From) -> Result<Recorder> {
        let path = dir.join(METRICS);
        let before = if path.is_file() { std::fs::read(&path).map_err(|e| cannot(&path, &e))? } else { vec![] };
        let kept = kept(&String::from_utf8_lossy(&before), from);
        let metrics = Growing::begin(path, &kept)?;
        let mut history = History::of(kept.as_bytes()).map_err(|e| cannot(&metrics.path, &e))?;
        let last = history.rows.pop();
        let rows: String = history.rows.iter().map(table::row).collect();
        let table = Growing::begin(dir.join(TABLE), &format!("{COLUMNS}{rows}"))?;
        let samples = Growing::begin(dir.join(SAMPLES), &history.samples.iter().map(|(step, text)| sample(*step, text)).collect::<String>())?;
        let board = Board::create(dir, from.step + 1, now()).map_err(|e| cannot(&dir.join(BOARD), &e))?;
        Ok(Recorder { metrics, table, samples, board, last, fault: None })
    }

    /// Writes an event. After the first that cannot be written no more are; that one is an error.
    pub fn write(&mut self, event: &Event) -> Result<()> {
        if self.fault.is_some() {
            return Ok(());
        }
        let now = now();
        self.put(event, &as_json(event, now), now).map_err(|e| {
            self.fault = Some(e.clone());
            Error(format!("{e}; the training goes on and ends with an error"))
        })
    }

    fn put(&mut self, event: &Event, json: &Value, now: f64) -> Result<()> {
        self.metrics.write(&format!("{json}\n"))?;
        match event {
            Event::Step { step, loss, grad_norm, lr, tokens_per_second, cost } => {
                self.flush()?;
                self.last = Row::of(json);
                let values = [
                    ("loss/train", *loss),
                    ("grad_norm", *grad_norm),
                    ("lr", *lr),
                    ("tokens_per_second", *tokens_per_second),
                    ("ms", 1e3 * cost.seconds),
                ];
                let values: Vec<(&str, Option<f64>)> = values.map(|(tag, x)| (tag, Some(x))).into_iter().chain([("mfu", cost.mfu)]).collect();
                self.board.scalars(now, *step, &values).map_err(|e| cannot(&self.board.path, &e))
            }
            Event::Evaluated { step, loss, .. } => {
                self.last.iter_mut().filter(|r| r.step == *step).for_each(|r| r.held_out = Some(*loss));
                self.board.scalars(now, *step, &[("loss/held_out", Some(*loss))]).map_err(|e| cannot(&self.board.path, &e))
            }
            Event::Sampled { step, text } => {
                self.samples.write(&sample(*step, text))?;
                self.board.text(now, *step, "sample", text).map_err(|e| cannot(&self.board.path, &e))
            }
            Event::Saved { .. } => self.metrics.file.sync_data().map_err(|e| cannot(&self.metrics.path, &e)),
            Event::Measured { step, what, value } => {
                self.board.scalars(now, *step, &[(what, Some(*value))]).map_err(|e| cannot(&self.board.path, &e))
            }
            Event::Ready { .. } | Event::Notice(_) => Ok(()),
        }
    }

    /// Writes the line that waits.
    fn flush(&mut self) -> Result<()> {
        self.last.take().map_or(Ok(()), |row| self.table.write(&table::row(&row)))
    }

    /// Ends the record. An error where an event could not be written.
    pub fn finish(mut self) -> Result<()> {
        match self.fault.take() {
            None => self.flush(),
            Some(e) => Err(Error(format!("{e}; what follows is missing"))),
        }
    }
}

/// A text as `samples.txt` has it.
fn sample(step: u64, text: &str) -> String {
    format!("--- step {step}\n{text}\n\n")
}
