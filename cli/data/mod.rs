//! `eggcorn data`: the stages of a corpus, each a command.

mod card;
mod clean;
mod decontaminate;
mod dedup;
mod inspect;
mod prepare;
mod read;
mod report;
mod shard;
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
    /// Every stage in one: from files to a corpus to train on, with a card.
    Prepare(prepare::Args),
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
    /// Encode documents and write the files that trainers read.
    Shard(shard::Args),
    /// Show what a stage has made.
    Inspect(inspect::Args),
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        DataCommand::Prepare(a) => prepare::run(a),
        DataCommand::Read(a) => read::run(a),
        DataCommand::Clean(a) => clean::run(a),
        DataCommand::Dedup(a) => dedup::run(a),
        DataCommand::Decontaminate(a) => decontaminate::run(a),
        DataCommand::Split(a) => split::run(a),
        DataCommand::Shard(a) => shard::run(a),
        DataCommand::Inspect(a) => inspect::run(a),
    }
}
