//! `eggcorn data split`: documents to train on, and documents that are held out.

use super::report::show;
use super::work::WorkArgs;
use eggcorn::llm::Result;
use eggcorn::llm::corpus::{SplitConfig, split};
use std::path::PathBuf;

/// Hold documents out, by a hash of their text: the folders train and held_out.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn data split corpus/clear --out corpus/split\n  eggcorn data split corpus/clear --out corpus/split --held-out 0.05 --seed 2"
)]
pub struct Args {
    /// The folder of a stage.
    folder: PathBuf,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
    /// The share of documents that is held out.
    #[arg(long, default_value_t = SplitConfig::default().held_out)]
    held_out: f64,
    /// Another seed holds others out.
    #[arg(long, default_value_t = SplitConfig::default().seed)]
    seed: u64,
    #[command(flatten)]
    work: WorkArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let config = SplitConfig { held_out: args.held_out, seed: args.seed };
    let report = args.work.with(|work| split(work, &args.folder, &args.out, &config))?;
    show(&report, &args.work);
    Ok(())
}
