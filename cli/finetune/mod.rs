//! `eggcorn finetune`: a model learns a task.

mod classify;
mod lora;

use clap::Subcommand;
use eggcorn::llm::{Models, Result};

/// Let a model learn a task, with parameters of its own.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Learn which of some classes a text is of.
    Classify(classify::Args),
    /// Train thin matrices beside a model, which stays as it is.
    Lora(lora::Args),
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    match &args.command {
        Command::Classify(a) => classify::run(a, models),
        Command::Lora(a) => lora::run(a, models),
    }
}
