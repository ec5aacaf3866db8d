//! `eggcorn runs`: runs beside each other.

use super::report::{Chart, Line, Unit, title};
use super::{rollouts, say};
use eggcorn::llm::record::{History, METRICS, duration, thousands};
use eggcorn::llm::{Config, Error, Models, Result, write_file};
use std::path::{Path, PathBuf};

/// Compare runs: losses, speed and time in a table, and in one picture.
#[derive(clap::Args)]
#[command(
    after_help = "A directory that holds runs stands for all of them.\n\nExamples:\n  eggcorn runs\n  eggcorn runs runs/adamw runs/muon --plot losses.svg\n  eggcorn runs sweeps/lr --json\n  eggcorn runs --rollouts runs/grpo-sort --step 40"
)]
pub struct Args {
    /// Run directories, or directories of them; runs unless said.
    #[arg(value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Draw the losses of all into a file, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Show what a policy wrote in one run instead, each with its reward: the last ones, or of --step.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["directories", "plot"])]
    rollouts: Option<PathBuf>,
    /// Of the rollouts those of a step.
    #[arg(long, requires = "rollouts")]
    step: Option<u64>,
    /// Print JSON, a line a run.
    #[arg(long)]
    json: bool,
}

/// A run as it is compared.
struct Entry {
    name: String,
    path: PathBuf,
    model: String,
    history: History,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    if let Some(dir) = &args.rollouts {
        return rollouts::show(dir, args.step, args.json);
    }
    let asked = if args.directories.is_empty() { vec![PathBuf::from("runs")] } else { args.directories.clone() };
    let found: Vec<PathBuf> = asked.iter().map(|d| runs_in(d)).collect::<Result<Vec<_>>>()?.concat();
    let entries: Vec<Entry> = found.iter().map(|d| Entry::read(d, models)).collect::<Result<_>>()?;
    if args.json {
        entries.iter().for_each(|e| say!("{}", e.json()));
    } else {
        table(&entries);
    }
    match &args.plot {
        Some(path) => write_file(path, plot(&entries).as_bytes()),
        None => Ok(()),
    }
}

/// A run, or the runs in a directory, by name.
fn runs_in(dir: &Path) -> Result<Vec<PathBuf>> {
    if dir.join(METRICS).is_file() {
        return Ok(vec![dir.into()]);
    }
    let entries = std::fs::read_dir(dir).map_err(|e| Error(format!("{}: there are no runs: {e}; name a run directory", dir.display())))?;
    let mut runs: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.join(METRICS).is_file()).collect();
    runs.sort();
    match runs[..] {
        [] => Err(Error(format!("{}: there are no runs in this folder: a run's has {METRICS}; train one with eggcorn train --out", dir.display()))),
        _ => Ok(runs),
    }
}

impl Entry {
    fn read(dir: &Path, models: &Models) -> Result<Entry> {
        // settings of a model that this program does not know are no reason not to compare
        let model = Config::of_run(dir, models).map_or_else(|_| "?".into(), |c| c.model.name().to_string());
        Ok(Entry { name: title(dir), path: dir.into(), model, history: History::read(dir)? })
    }

    fn json(&self) -> serde_json::Value {
        let (h, last) = (&self.history, self.history.rows.last());
        let best = h.best();
        serde_json::json!({
            "run": self.path.display().to_string(), "name": self.name, "model": self.model,
            "parameters": h.ready.as_ref().map(|r| r.parameters), "steps": last.map(|r| r.step), "to_step": h.ready.as_ref().and_then(|r| r.to_step),
            "tokens": last.and_then(|r| r.tokens), "best_held_out": best.map(|b| b.1), "best_step": best.map(|b| b.0), "loss": h.last_loss(),
            "tokens_per_second": h.median(|r| r.tokens_per_second), "mfu": h.median(|r| r.mfu), "seconds": h.seconds(),
            "finished": h.is_finished(), "damaged_lines": h.damaged,
        })
    }

    /// The cells of its row.
    fn cells(&self) -> [String; 9] {
        let (h, last) = (&self.history, self.history.rows.last());
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        let unfinished = if h.is_finished() { "" } else { "…" };
        [
            self.name.clone(),
            self.model.clone(),
            or_none(h.ready.as_ref().map(|r| thousands(r.parameters))),
            or_none(last.map(|r| format!("{}{unfinished}", thousands(r.step)))),
            or_none(last.and_then(|r| r.tokens).map(thousands)),
            or_none(h.best().map(|b| format!("{:.4}", b.1))),
            or_none(h.last_loss().map(|l| format!("{l:.4}"))),
            or_none(h.median(|r| r.tokens_per_second).map(|t| thousands(t.round() as u64))),
            duration(h.seconds()),
        ]
    }
}

fn table(entries: &[Entry]) {
    let head = ["run", "model", "parameters", "steps", "tokens", "held-out", "loss", "tok/s", "time"].map(String::from);
    let rows: Vec<[String; 9]> = std::iter::once(head).chain(entries.iter().map(Entry::cells)).collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 9] = std::array::from_fn(width);
    for row in &rows {
        let cell = |(i, text): (usize, &String)| if i < 2 { format!("{text:<0$}", widths[i]) } else { format!("{text:>0$}", widths[i]) };
        say!("{}", row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// Held-out losses against steps, and training losses where there are none.
fn plot(entries: &[Entry]) -> String {
    let points = |h: &History| -> (Vec<(f64, f64)>, bool) {
        let held_out: Vec<(f64, f64)> = h.rows.iter().filter_map(|r| Some((r.step as f64, r.held_out?))).collect();
        if held_out.len() > 1 { (held_out, true) } else { (h.rows.iter().map(|r| (r.step as f64, r.loss)).collect(), false) }
    };
    let line = |(i, e): (usize, &Entry)| {
        let (points, dots) = points(&e.history);
        Line { name: e.name.clone(), class: format!("r{}", i % Chart::COLOURS.len()), points, dots }
    };
    let lines = entries.iter().enumerate().map(line).collect();
    Chart { title: "held-out loss".into(), x: "step", lines, mark: None, from_zero: false, unit: Unit::Plain }.alone()
}
