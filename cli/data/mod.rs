//! `eggcorn data`: the stages of a corpus, each a command.

mod read;
mod report;
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
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        DataCommand::Read(a) => read::run(a),
    }
}
