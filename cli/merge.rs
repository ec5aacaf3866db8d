//! `eggcorn merge`: a model and what stands beside it become one.

use super::options::AdapterArgs;
use super::{note, say};
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Models, Result, adapter};
use std::path::PathBuf;

/// Make one model of a model and the adapters that stand beside it.
#[derive(clap::Args)]
#[command(
    after_help = "The new run directory has a whole model, in which nothing is left of the adapters but other weights; export writes it as Hugging Face's\nlibraries load it.\n\nExamples:\n  eggcorn merge runs/adapted --out runs/merged\n  eggcorn merge SmolLM2-135M/ --adapter my-lora/ --out runs/merged\n  eggcorn export runs/merged merged-hf/"
)]
pub struct Args {
    /// The directory of a run beside a model, or of a model that adapters are named for.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// The run directory, which is not there yet.
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let directory = args.adapters.beside(Directory::open(&args.directory, models)?, models)?;
    let made = adapter::merge(&directory, &args.out)?;
    made.notices.iter().filter(|_| !directory.is_run()).for_each(|notice| note!("notice: {notice}"));
    say!("{} with {} parameters in {}", directory.model().name(), made.parameters, args.out.display());
    Ok(())
}
