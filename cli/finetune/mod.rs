//! `eggcorn finetune`: a model learns a task.

mod classify;

use clap::Subcommand;
use eggcorn::llm::{Models, Result};

/// Let a model learn a task, with a head of its own.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Learn which of some classes a text is of.
    Classify(classify::Args),
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    match &args.command {
        Command::Classify(a) => classify::run(a, models),
    }
}
