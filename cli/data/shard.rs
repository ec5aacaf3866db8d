//! `eggcorn data shard`: documents to files of tokens.

use super::report::show;
use super::work::WorkArgs;
use crate::cli::say;
use eggcorn::llm::corpus::{ShardConfig, encode_parts, join_shards};
use eggcorn::llm::text::Split;
use eggcorn::llm::{Error, Header, Result, Tokenizer};
use std::path::PathBuf;

/// Encode documents and write the files that trainers read: nanoGPT's, with an index.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn data shard corpus/split --tokenizer tokenizer.json --out corpus\n  eggcorn data shard corpus/split --tokenizer gpt2/encoder.json --shard-tokens 100000000 --llm-c --out corpus\n\nIn shares, and then joined by one:\n  eggcorn data shard corpus/split --tokenizer tokenizer.json --out corpus --share 3/16\n  eggcorn data shard corpus/split --tokenizer tokenizer.json --out corpus --join"
)]
pub struct Args {
    /// The folder of a split, with train and held_out.
    folder: PathBuf,
    /// The folder of the corpus; parts that are encoded stand in tokens there.
    #[arg(long)]
    out: PathBuf,
    /// The tokenizer.
    #[arg(long)]
    tokenizer: PathBuf,
    /// How a file of ranks splits text, where its number of ranks does not tell.
    #[arg(long)]
    words: Option<Split>,
    /// Tokens of a file; all in one unless said.
    #[arg(long, default_value_t = 0)]
    shard_tokens: u64,
    /// Put llm.c's header before the tokens of a file.
    #[arg(long)]
    llm_c: bool,
    /// Write no token for the end of a document.
    #[arg(long)]
    no_end_of_text: bool,
    /// Only join what shares have encoded.
    #[arg(long)]
    join: bool,
    #[command(flatten)]
    work: WorkArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let header = if args.llm_c { Header::LlmC } else { Header::Absent };
    let config = ShardConfig { header, shard_tokens: args.shard_tokens, end_of_text: !args.no_end_of_text };
    let tokenizer = Tokenizer::open(&args.tokenizer, args.words)?;
    let tokens = args.out.join("tokens");
    args.work.with(|work| {
        if args.join && !work.share.is_all() {
            return Err(Error("one process joins what all shares have encoded; leave out --share".into()));
        }
        if !args.join {
            show(&encode_parts(work, &args.folder, &tokens, &tokenizer, &config)?, &args.work);
        }
        if args.join || work.share.is_all() {
            let index = join_shards(work, &args.folder, &tokens, &args.out, &tokenizer, &config)?;
            let count = |files: &[eggcorn::llm::IndexFile]| files.iter().map(|f| f.tokens).sum::<u64>();
            let (train, held_out) = (count(&index.parts.train), count(&index.parts.held_out));
            if !args.work.json {
                say!("{train} tokens to train on, {held_out} held out: {}", args.out.display());
            }
        }
        Ok(())
    })
}
