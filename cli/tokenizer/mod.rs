//! `eggcorn tokenizer`: text to ids and back, and what a vocabulary is worth.

mod decode;
mod encode;
mod eval;
mod extend;
mod input;
mod page;
mod train;
mod view;

pub use page::escaped;

use eggcorn::llm::text::Split;
use eggcorn::llm::{Result, Tokenizer};
use std::path::PathBuf;

/// Learn vocabularies, encode, decode, compare and look at tokens.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: TokenizerCommand,
}

#[derive(clap::Subcommand)]
enum TokenizerCommand {
    /// Learn a vocabulary from text.
    Train(train::Args),
    /// Add special tokens to a vocabulary.
    Extend(extend::Args),
    /// Text to ids.
    Encode(encode::Args),
    /// Ids to text.
    Decode(decode::Args),
    /// How well tokenizers do on a text: bytes a token, use of the vocabulary, speed.
    Eval(eval::Args),
    /// Show the tokens of a text in colours, or the merges of a word as they happen.
    View(view::Args),
}

pub fn run(args: &Args) -> Result<()> {
    match &args.command {
        TokenizerCommand::Train(a) => train::run(a),
        TokenizerCommand::Extend(a) => extend::run(a),
        TokenizerCommand::Encode(a) => encode::run(a),
        TokenizerCommand::Decode(a) => decode::run(a),
        TokenizerCommand::Eval(a) => eval::run(a),
        TokenizerCommand::View(a) => view::run(a),
    }
}

/// A tokenizer by its file.
#[derive(clap::Args)]
pub struct TokenizerArgs {
    /// The tokenizer: tokenizer.json, a run directory, tiktoken's ranks, GPT-2's encoder.json, llama2.c's .bin, or "byte".
    tokenizer: PathBuf,
    /// How a file of ranks splits text, where its number of ranks does not tell.
    #[arg(long)]
    split: Option<Split>,
}

impl TokenizerArgs {
    pub fn open(&self) -> Result<Tokenizer> {
        open(&self.tokenizer, self.split)
    }
}

/// A tokenizer by its file's name; `byte` needs none.
fn open(path: &std::path::Path, split: Option<Split>) -> Result<Tokenizer> {
    if path == std::path::Path::new("byte") { Ok(Tokenizer::Byte) } else { Tokenizer::open(path, split) }
}
