//! `eggcorn report`: a run as one page that needs nothing else.

mod block;
mod chart;
pub mod matrix;
mod page;

pub use block::alone;
pub use chart::{Chart, Line, Unit};

use super::say;
use eggcorn::ir::Graph;
use eggcorn::llm::record::{History, Tested};
use eggcorn::llm::{Config, Error, Mode, Models, Result, write_file};
use eggcorn::passes::{Goal, Options, compile};
use std::path::{Path, PathBuf};

/// Write a run as one page: losses, rates, speed, memory, texts on the way, settings, and the fused block as a picture.
#[derive(clap::Args)]
#[command(
    after_help = "The page is one file that loads nothing, light or dark as the browser is. A run writes it when it ends or is stopped; this\nwrites it at any time, also while the run goes on.\n\nExamples:\n  eggcorn report runs/shakespeare\n  eggcorn report runs/shakespeare --out report.html"
)]
pub struct Args {
    /// The run directory.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Where to write it; report.html in the run directory, unless said.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// The page's name in a run directory.
pub const FILE: &str = "report.html";

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let dir = &args.directory;
    let (history, config) = (History::read(dir)?, Config::of_run(dir, models)?);
    let html = page::page(&title(dir), &history, &config, Tested::read(dir)?.as_ref(), fused(&config).as_ref());
    let path = args.out.clone().unwrap_or_else(|| dir.join(FILE));
    write_file(&path, html.as_bytes())?;
    say!("{}", path.display());
    Ok(())
}

/// Writes the page of a run whose program is known.
pub fn write(dir: &Path, config: &Config, fused: &Graph) -> Result<()> {
    let html = page::page(&title(dir), &History::read(dir)?, config, Tested::read(dir)?.as_ref(), Some(fused));
    write_file(&dir.join(FILE), html.as_bytes()).map_err(|e| Error(format!("the report: {e}")))
}

/// The model's program with what is found in it. One that cannot be compiled any more has no picture.
fn fused(config: &Config) -> Option<Graph> {
    let t = &config.train;
    let graph = config.objective().bound(&config.model, Mode::Evaluate, t.batch, t.context).ok()?;
    Some(compile(&graph, Goal::Results, &Options::default()).ok()?.fused)
}

/// What a run is called: the last name of its directory.
pub fn title(dir: &Path) -> String {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
    absolute.file_name().map_or_else(|| dir.display().to_string(), |n| n.to_string_lossy().into_owned())
}
