//! `eggcorn tokenizer extend`: more special tokens.

use super::TokenizerArgs;
use crate::cli::say;
use eggcorn::llm::{Error, Result, Tokenizer, write_file};
use std::path::PathBuf;

/// Add special tokens to a vocabulary; all ids that are there stay what they are.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  eggcorn tokenizer extend tokenizer.json --special '<|user|>' --special '<|assistant|>' --out chat.json")]
pub struct Args {
    #[command(flatten)]
    tokenizer: TokenizerArgs,
    /// A token to add; its id is the next that is free.
    #[arg(long, value_name = "TOKEN", required = true)]
    special: Vec<String>,
    /// Where the tokenizer goes, as Hugging Face's tokenizer.json.
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: &Args) -> Result<()> {
    let tokenizer = match args.tokenizer.open()? {
        Tokenizer::Subword(subword) => subword.with_specials(&args.special)?,
        Tokenizer::Char { .. } | Tokenizer::Byte => {
            return Err(Error("a tokenizer of characters or bytes has no special tokens; train one of another kind with --special".into()));
        }
    };
    write_file(&args.out, tokenizer.json().as_bytes())?;
    say!("{} tokens: {}", tokenizer.size(), args.out.display());
    Ok(())
}
