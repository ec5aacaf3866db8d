//! `eggcorn tokenizer encode`: text to ids.

use super::TokenizerArgs;
use super::input::each_block;
use crate::cli::options::threads;
use crate::cli::output::print;
use eggcorn::llm::text::{Engine, Specials, Splitter};
use eggcorn::llm::{Error, NewFile, Result, Tokenizer, Width};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Text to ids.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn tokenizer encode tokenizer.json \"hello world\"\n  eggcorn tokenizer encode tokenizer.json --file input.txt --out ids.bin\n  cat input.txt | eggcorn tokenizer encode gpt2/encoder.json"
)]
pub struct Args {
    #[command(flatten)]
    tokenizer: TokenizerArgs,
    /// The text; standard input where there is none and no --file.
    text: Option<String>,
    /// A file of text.
    #[arg(long, conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Write the ids to a file as nanoGPT reads it: 16 bits an id, 32 where the vocabulary needs them.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Take special tokens that are written in the text for text.
    #[arg(long)]
    ordinary: bool,
    /// Threads; one a core unless said.
    #[arg(long)]
    threads: Option<usize>,
}

pub fn run(args: &Args) -> Result<()> {
    let (tokenizer, threads) = (args.tokenizer.open()?, threads(args.threads)?);
    let specials = if args.ordinary { Specials::Text } else { Specials::Token };
    let mut sink = Sink::open(args.out.as_deref(), tokenizer.size())?;
    let mut block = |text: &str| sink.push(&tokenizer.encode_in(text, specials, threads)?);
    match &args.text {
        Some(text) => block(text)?,
        None => {
            let path = args.file.clone().unwrap_or_else(|| "-".into());
            each_block(&path, splitter(&tokenizer), &mut |texts| texts.iter().try_for_each(|t| block(t)))?;
        }
    }
    sink.finish()
}

/// Where a text may be cut for a tokenizer: nowhere, for one whose words are not known here.
pub fn splitter(tokenizer: &Tokenizer) -> Splitter {
    let whole = Splitter::Bytes(eggcorn::llm::text::Split::None);
    match tokenizer {
        Tokenizer::Char { .. } | Tokenizer::Byte => Splitter::Bytes(eggcorn::llm::text::Split::Gpt2),
        Tokenizer::Subword(s) => match s.engine() {
            Engine::Bpe(bpe) if bpe.added.within_words() => Splitter::Bytes(bpe.split),
            Engine::Bpe(_) | Engine::Wrapped(_) => whole,
        },
    }
}

/// Where ids go.
enum Sink {
    /// To standard output, with spaces between.
    Text { first: bool },
    /// To a file.
    File { path: PathBuf, file: Box<NewFile>, width: Width },
}

impl Sink {
    fn open(path: Option<&Path>, vocabulary: usize) -> Result<Sink> {
        let Some(path) = path else { return Ok(Sink::Text { first: true }) };
        let file = Box::new(NewFile::create(path).map_err(|e| fail(path, &e))?);
        Ok(Sink::File { path: path.into(), file, width: Width::of(vocabulary) })
    }

    fn push(&mut self, ids: &[i32]) -> Result<()> {
        match self {
            Sink::Text { first } => {
                let words: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let space = if std::mem::take(first) || words.is_empty() { "" } else { " " };
                print(format_args!("{space}{}", words.join(" ")));
                Ok(())
            }
            Sink::File { path, file, width } => file.write_all(&width.written(ids)).map_err(|e| fail(path, &e)),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Sink::Text { .. } => print(format_args!("\n")),
            Sink::File { path, file, .. } => file.commit().map_err(|e| fail(&path, &e))?,
        }
        Ok(())
    }
}

fn fail(path: &Path, e: &std::io::Error) -> Error {
    Error(format!("{}: the ids cannot be written: {e}", path.display()))
}
