//! `eggcorn import`: a model of others becomes a run directory.

use super::{note, say};
use eggcorn::llm::hub::{self, Directory, Flat};
use eggcorn::llm::{Models, Result, Tokenizer};
use std::path::PathBuf;

/// Make a run directory of a model that others trained.
#[derive(clap::Args)]
#[command(
    after_help = "A directory that Hugging Face's libraries have written is read: config.json, model.safetensors or its shards, tokenizer.json and\ngeneration_config.json. A setting that this project does not have is refused by its name. So are llm.c's\ngpt2_124M.bin and llama2.c's stories15M.bin read, whose tokenizers are beside them.\n\nExamples:\n  eggcorn import SmolLM2-135M/ --out runs/smol\n  eggcorn import stories15M.bin --tokenizer tokenizer.bin --out runs/stories\n  eggcorn generate runs/smol --prompt \"Once upon a time\"\n  eggcorn train --resume --out runs/smol --data input.txt --set train.lr=1e-4"
)]
pub struct Args {
    /// The directory, or llm.c's or llama2.c's file.
    #[arg(value_name = "DIR|FILE")]
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
    let (name, imported, own) = if args.from.is_file() {
        let flat = Flat::open(&args.from)?;
        (flat.model().name(), flat.import(tokenizer.as_ref(), &args.out)?, false)
    } else {
        let directory = Directory::open(&args.from, models)?;
        let imported = hub::import(&directory, tokenizer.as_ref(), &args.out)?;
        (directory.model().name(), imported, directory.tokenizer()?.is_some())
    };
    imported.notices.iter().for_each(|notice| note!("notice: {notice}"));
    if tokenizer.is_none() && !own {
        note!("notice: there is no tokenizer beside {}, and none was given with --tokenizer: generate and train ask for one", args.from.display());
    }
    say!("{name} with {} parameters in {}", imported.parameters, args.out.display());
    Ok(())
}
