//! `eggcorn import`: a model of others becomes a run directory.

use super::{note, say};
use eggcorn::llm::hub::{self, Directory};
use eggcorn::llm::{Models, Result, Tokenizer};
use std::path::PathBuf;

/// Make a run directory of a model that others trained.
#[derive(clap::Args)]
#[command(
    after_help = "A directory that Hugging Face's libraries have written is read: config.json, model.safetensors or its shards, tokenizer.json and\ngeneration_config.json. A setting that this project does not have is refused by its name.\n\nExamples:\n  eggcorn import SmolLM2-135M/ --out runs/smol\n  eggcorn generate runs/smol --prompt \"Once upon a time\"\n  eggcorn train --resume --out runs/smol --data input.txt --set train.lr=1e-4"
)]
pub struct Args {
    /// The directory.
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// The run directory, which is not there yet.
    #[arg(long)]
    out: PathBuf,
    /// A tokenizer where there is none beside the model: tokenizer.json, or another that train takes.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let tokenizer = args.tokenizer.as_ref().map(|path| Tokenizer::open(path, None)).transpose()?;
    let directory = Directory::open(&args.from, models)?;
    let imported = hub::import(&directory, tokenizer.as_ref(), &args.out)?;
    imported.notices.iter().for_each(|notice| note!("notice: {notice}"));
    if tokenizer.is_none() && directory.tokenizer()?.is_none() {
        note!("notice: there is no tokenizer in {}: generate and train ask for one", args.from.display());
    }
    say!("{} with {} parameters in {}", directory.model().name(), imported.parameters, args.out.display());
    Ok(())
}
