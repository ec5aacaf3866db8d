//! `eggcorn data decontaminate`: documents without those of evaluation sets.

use super::report::show;
use super::work::WorkArgs;
use eggcorn::llm::Result;
use eggcorn::llm::corpus::{DecontaminateConfig, decontaminate};
use std::path::PathBuf;

/// Take documents out that evaluation sets are in.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn data decontaminate corpus/dedup --out corpus/clear --against gsm8k.jsonl --against mmlu.jsonl --examples\n  eggcorn data decontaminate corpus/dedup --out corpus/clear --against test.txt --max-overlap 0.1"
)]
pub struct Args {
    /// The folder of a stage.
    folder: PathBuf,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
    /// A file of an evaluation set: text, or JSON lines (.jsonl), of whose records every string counts. Several may be given.
    #[arg(long, required = true, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// Words of an n-gram: a document that has one in common with a set is taken out.
    #[arg(long, default_value_t = DecontaminateConfig::default().ngram)]
    ngram: usize,
    /// The share of a document's n-grams that may be in common.
    #[arg(long, default_value_t = DecontaminateConfig::default().max_overlap)]
    max_overlap: f64,
    #[command(flatten)]
    work: WorkArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let config = DecontaminateConfig { against: args.against.clone(), ngram: args.ngram, max_overlap: args.max_overlap };
    let report = args.work.with(|work| decontaminate(work, &args.folder, &args.out, &config))?;
    show(&report, &args.work);
    Ok(())
}
