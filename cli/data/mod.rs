//! `eggcorn data`: the stages of a corpus, each a command.

mod clean;
mod decontaminate;
mod dedup;
mod inspect;
mod read;
mod report;
mod split;
mod work;

use eggcorn::llm::Result;

/// From files of text to a corpus, stage by stage.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(clap::Subcommand)]
enum DataCommand {
    /// Read files of text into documents.
    Read(read::Args),
    /// Clean documents: how they are written, which stay, what is masked.
    Clean(clean::Args),
    /// Remove duplicates of documents and of pieces of them.
    Dedup(dedup::Args),
    /// Take documents out that evaluation sets are in.
    Decontaminate(decontaminate::Args),
    /// Hold documents out.
    Split(split::Args),
    /// Show what a stage has made.
    Inspect(inspect::Args),
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        DataCommand::Read(a) => read::run(a),
        DataCommand::Clean(a) => clean::run(a),
        DataCommand::Dedup(a) => dedup::run(a),
        DataCommand::Decontaminate(a) => decontaminate::run(a),
        DataCommand::Split(a) => split::run(a),
        DataCommand::Inspect(a) => inspect::run(a),
    }
}
