//! `metrics.jsonl`: what happened in a run, an event a line.

use super::note;
use eggcorn::llm::{Error, Event, Reads, Result, write_file};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file's name in a run directory.
pub const FILE: &str = "metrics.jsonl";

/// The file of a run, open for more.
pub struct Metrics {
    file: File,
    path: PathBuf,
    fault: Option<String>,
}

/// Where a run goes on from.
#[derive(Clone, Copy)]
pub struct From {
    /// The step of the checkpoint; 0 for a new run.
    pub step: u64,
    /// The step it goes to.
    pub to: u64,
}

impl Metrics {
    /// Cuts the file back to where the run goes on from, whole or not at all, and opens it for what follows.
    pub fn open(dir: &Path, from: From) -> Result<Metrics> {
        let path = dir.join(FILE);
        let fail = |e: std::io::Error| Error(format!("{}: metrics cannot be written: {e}", path.display()));
        // what is no file is refused when it is written
        let before = if path.is_file() { std::fs::read(&path).map_err(fail)? } else { vec![] };
        write_file(&path, kept(&String::from_utf8_lossy(&before), from).as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(fail)?;
        Ok(Metrics { file, path, fault: None })
    }

    /// Writes an event. After the first that cannot be written no more are.
    pub fn write(&mut self, event: &Event) {
        if self.fault.is_some() {
            return;
        }
        // in one piece, so that a process that dies leaves whole lines
        let written = self.file.write_all(format!("{}\n", line(event)).as_bytes());
        let synced = if matches!(event, Event::Saved { .. }) { self.file.sync_data() } else { Ok(()) };
        if let Err(e) = written.and(synced) {
            note!("error: {}: metrics cannot be written: {e}; the training goes on and ends with an error", self.path.display());
            self.fault = Some(e.to_string());
        }
    }

    /// An error where an event could not be written.
    pub fn finish(&self) -> Result<()> {
        let error = |e: &String| Err(Error(format!("{}: metrics could not be written: {e}; those that follow are missing", self.path.display())));
        self.fault.as_ref().map_or(Ok(()), error)
    }
}

/// The lines of a run up to the checkpoint it goes on from. Lines that are no events are dropped: the last may be torn. So is what follows
/// a run's last step, which comes again.
fn kept(text: &str, from: From) -> String {
    let mut kept = String::new();
    if from.step == 0 {
        return kept;
    }
    for line in text.lines() {
        let Ok(Value::Object(event)) = serde_json::from_str(line) else { continue };
        let step = event.get("step").and_then(Value::as_u64).unwrap_or(0);
        if step > from.step {
            break;
        }
        if step < from.to || event.get("event").is_some_and(|e| e == "step") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// An event as a line of JSON.
pub fn line(event: &Event) -> String {
    match event {
        Event::Ready { parameters, bytes, compile_seconds, kernels, from_step, sources } => {
            let read = |r: &Reads| json!({"source": r.source, "tokens": r.tokens, "epochs": r.epochs});
            let sources: Vec<Value> = sources.iter().map(read).collect();
            json!({
                "event": "ready", "parameters": parameters, "bytes": bytes, "compile_seconds": compile_seconds, "kernels": kernels,
                "from_step": from_step, "sources": sources,
            })
        }
        Event::Step { step, loss, grad_norm, lr, tokens_per_second } => {
            json!({"event": "step", "step": step, "loss": loss, "grad_norm": grad_norm, "lr": lr, "tokens_per_second": tokens_per_second})
        }
        Event::Evaluated { step, loss, whole } => json!({"event": "evaluated", "step": step, "loss": loss, "whole": whole}),
        Event::Notice(text) => json!({"event": "notice", "text": text}),
        Event::Saved { step } => json!({"event": "saved", "step": step}),
    }
    .to_string()
}
