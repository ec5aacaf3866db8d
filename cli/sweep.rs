//! `eggcorn sweep`: a small grid of settings, one run after another.

use super::say;
use eggcorn::llm::record::METRICS;
use eggcorn::llm::{Error, Result, read_manifest, write_file};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Train with every choice of some settings, one run after another, and show which is best. What was begun goes on, what is done stays.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn sweep --grid train.lr=3e-4,1e-3,3e-3 -- shakespeare-char --data input.txt\n  eggcorn sweep --grid optimizer.name=adamw,muon --grid train.seed=1,2,3 --out runs/muon -- shakespeare-bpe --data input.txt --set train.steps=500"
)]
pub struct Args {
    /// A setting and its values, as in train.lr=1e-3,3e-3; of several all combinations are run.
    #[arg(long, value_name = "KEY=V1,V2", required = true)]
    grid: Vec<String>,
    /// Where the runs are, each in a folder of its own.
    #[arg(long, default_value = "runs/sweep")]
    out: PathBuf,
    /// What train is given besides.
    #[arg(last = true, value_name = "TRAIN ARGUMENTS")]
    train: Vec<String>,
}

/// A run of a sweep.
struct Run {
    settings: Vec<String>,
    dir: PathBuf,
}

/// More runs than anyone waits for.
const MOST: usize = 1000;

pub fn run(args: &Args) -> Result<()> {
    if let Some(flag) = args.train.iter().find(|a| ["--out", "--resume"].iter().any(|f| a.split('=').next() == Some(f))) {
        return Err(Error(format!("{flag} is the sweep's: name a folder for all runs with eggcorn sweep --out, before the --")));
    }
    let runs = runs(&args.grid, &args.out)?;
    let mut done: Vec<(f64, &Run)> = vec![];
    for (i, run) in runs.iter().enumerate() {
        let words = run.settings.join(" ");
        if finished(&run.dir).is_none() {
            say!("run {} of {}: {words}", i + 1, runs.len());
            train(args, run)?;
        }
        match finished(&run.dir) {
            Some(loss) => done.push((loss, run)),
            None => say!("{words}: it has no loss, see above"),
        }
    }
    done.sort_by(|a, b| a.0.total_cmp(&b.0));
    let csv: String = done.iter().map(|(loss, run)| format!("{loss},{},{}\n", run.settings.join(" "), run.dir.display())).collect();
    write_file(&args.out.join("sweep.csv"), format!("held_out_loss,settings,run\n{csv}").as_bytes())?;
    say!("\nheld-out loss");
    done.iter().for_each(|(loss, run)| say!("{loss:13.4}  {}", run.settings.join(" ")));
    let (_, best) = done.first().ok_or_else(|| Error("no run of the sweep came to its end".into()))?;
    say!("\nthe best is {}, in {}", best.settings.join(" "), best.dir.display());
    if done.len() == runs.len() { Ok(()) } else { Err(Error(format!("{} of {} runs came to their end", done.len(), runs.len()))) }
}

/// Every combination of the grid's values; the last setting changes fastest.
fn runs(grid: &[String], out: &Path) -> Result<Vec<Run>> {
    let mut all: Vec<Vec<String>> = vec![vec![]];
    for line in grid {
        let bad = || Error(format!("--grid {line}: expected a setting and values, as in train.lr=1e-3,3e-3"));
        let (key, values) = line.split_once('=').ok_or_else(bad)?;
        let values: Vec<&str> = values.split(',').map(str::trim).collect();
        if key.is_empty() || values.iter().any(|v| v.is_empty()) {
            return Err(bad());
        }
        let with = |settings: &Vec<String>| values.iter().map(|v| [&settings[..], &[format!("{key}={v}")]].concat()).collect::<Vec<_>>();
        all = all.iter().flat_map(with).collect();
        if all.len() > MOST {
            return Err(Error(format!("--grid: these are more than {MOST} runs")));
        }
    }
    Ok(all.into_iter().map(|settings| Run { dir: out.join(folder(&settings)), settings }).collect())
}

/// A folder's name for settings: letters, digits, dots, signs.
fn folder(settings: &[String]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".=-+".contains(c) { c } else { '_' };
    settings.join(",").chars().map(|c| if c == ',' { '_' } else { plain(c) }).collect()
}

/// Trains in a process of its own, so that one that fails ends no other.
fn train(args: &Args, run: &Run) -> Result<()> {
    let fail = |e: std::io::Error| Error(format!("a run of the sweep cannot be started: {e}"));
    let mut command = Command::new(std::env::current_exe().map_err(fail)?);
    command.arg("train").args(&args.train).arg("--out").arg(&run.dir);
    for setting in &run.settings {
        command.args(["--set", setting]);
    }
    if read_manifest(&run.dir)?.is_some() {
        command.arg("--resume");
    }
    let status = command.status().map_err(fail)?;
    // 2 is a mistake in what was written, which all runs would make
    if status.code() == Some(2) || status.code() == Some(130) { Err(Error(format!("the sweep ends: train ended with {status}"))) } else { Ok(()) }
}

/// The loss over all held-out text, of a run that came to its end.
fn finished(dir: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(dir.join(METRICS)).ok()?;
    let events = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let whole = |e: serde_json::Value| (e["event"] == "evaluated" && e["whole"] == true).then(|| e["loss"].as_f64());
    events.filter_map(whole).next_back()?
}
