//! `eggcorn data dedup`: documents without duplicates.

use super::report::show;
use super::work::WorkArgs;
use eggcorn::ir::either;
use eggcorn::llm::corpus::{DedupConfig, DedupKind, DedupStep, Keep, dedup, dedup_step};
use eggcorn::llm::{Error, Result};
use std::path::PathBuf;

/// Remove duplicates of documents and of pieces of them.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn data dedup corpus/clean --out corpus/dedup --memory 512MiB\n  eggcorn data dedup corpus/clean --out corpus/dedup --kinds documents,near,lines,substrings --bands 20\n  eggcorn data inspect corpus/dedup --clusters\n\nIn shares, kind after kind, each step when all shares of the one before are done:\n  eggcorn data dedup corpus/clean --out corpus/dedup --kind near --step keys --share 3/16\n  eggcorn data dedup corpus/clean --out corpus/dedup --kind near --step merge\n  eggcorn data dedup corpus/clean --out corpus/dedup --kind near --step apply --share 3/16"
)]
pub struct Args {
    /// The folder of a stage.
    folder: PathBuf,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
    /// What is compared with what, each on what the one before it left.
    #[arg(long, value_delimiter = ',', default_value = "documents,near", help = format!("What is compared with what, each kind on what the one before it left: some of {}", names()))]
    kinds: Vec<DedupKind>,
    #[command(flatten)]
    near: NearArgs,
    /// Words that a paragraph has at least to be removed.
    #[arg(long, default_value_t = DedupConfig::default().min_paragraph_words)]
    min_paragraph_words: usize,
    /// Words that a line has at least to be removed.
    #[arg(long, default_value_t = DedupConfig::default().min_line_words)]
    min_line_words: usize,
    /// Words of the shortest passage that is removed.
    #[arg(long, default_value_t = DedupConfig::default().substring_words)]
    substring_words: usize,
    /// Do one step alone: keys, merge or apply.
    #[arg(long)]
    step: Option<DedupStep>,
    /// The kind whose step it is; needed where there are several.
    #[arg(long, requires = "step")]
    kind: Option<DedupKind>,
    #[command(flatten)]
    work: WorkArgs,
}

/// How near duplicates are found.
#[derive(clap::Args)]
struct NearArgs {
    /// Of documents that are nearly the same, which one stays: first or longest.
    #[arg(long, default_value_t = DedupConfig::default().keep)]
    keep: Keep,
    /// Words of an n-gram.
    #[arg(long, default_value_t = DedupConfig::default().ngram)]
    ngram: usize,
    /// Bands: documents are compared where all rows of one are equal, at similarity s with a probability of 1 - (1 - s^rows)^bands.
    #[arg(long, default_value_t = DedupConfig::default().bands)]
    bands: usize,
    /// Rows of a band.
    #[arg(long, default_value_t = DedupConfig::default().rows)]
    rows: usize,
    /// The least estimated similarity of documents that are merged; 0 does not ask.
    #[arg(long, default_value_t = DedupConfig::default().min_similarity)]
    min_similarity: f64,
    /// What permutations are drawn with.
    #[arg(long, default_value_t = DedupConfig::default().seed)]
    seed: u64,
}

fn names() -> String {
    either(&DedupKind::ALL.iter().map(|k| k.name()).collect::<Vec<_>>())
}

impl Args {
    fn config(&self) -> DedupConfig {
        let near = &self.near;
        let config = DedupConfig {
            keep: near.keep,
            ngram: near.ngram,
            bands: near.bands,
            rows: near.rows,
            min_similarity: near.min_similarity,
            seed: near.seed,
            min_paragraph_words: self.min_paragraph_words,
            min_line_words: self.min_line_words,
            substring_words: self.substring_words,
            ..DedupConfig::default()
        };
        config.only(&self.kinds)
    }

    /// The kind whose step is to be done.
    fn kind(&self) -> Result<DedupKind> {
        match (self.kind, &self.kinds[..]) {
            (Some(kind), _) | (None, &[kind]) => Ok(kind),
            (None, kinds) => {
                let names = either(&kinds.iter().map(|k| k.name()).collect::<Vec<_>>());
                Err(Error(format!("--step: which kind's? add --kind {names}")))
            }
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let config = args.config();
    let report = match args.step {
        None => args.work.with(|work| dedup(work, &args.folder, &args.out, &config))?,
        Some(step) => {
            let kind = args.kind()?;
            args.work.with(|work| dedup_step(work, &args.folder, &args.out, &config, kind, step))?
        }
    };
    show(&report, &args.work);
    Ok(())
}
