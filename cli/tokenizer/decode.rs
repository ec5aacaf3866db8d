//! `eggcorn tokenizer decode`: ids to text.

use super::TokenizerArgs;
use crate::cli::output::print;
use eggcorn::llm::{Decoder, Error, Result, Tokenizer, Width};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Ids to text, as they come: a character that is not whole yet is held back.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn tokenizer decode tokenizer.json 31373 995\n  eggcorn tokenizer decode tokenizer.json --file ids.bin\n  eggcorn tokenizer encode tokenizer.json \"hello world\" | eggcorn tokenizer decode tokenizer.json"
)]
pub struct Args {
    #[command(flatten)]
    tokenizer: TokenizerArgs,
    /// The ids; standard input, in lines of ids with spaces between, where there are none and no --file.
    ids: Vec<String>,
    /// A file of ids as encode --out writes it.
    #[arg(long, conflicts_with = "ids")]
    file: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    let tokenizer = args.tokenizer.open()?;
    let mut decoder = Decoder::new(&tokenizer);
    let mut push = |id: i32| print(format_args!("{}", decoder.push(id)));
    match &args.file {
        Some(path) => binary(path, &tokenizer, &mut push)?,
        None if args.ids.is_empty() => {
            for line in std::io::stdin().lock().lines() {
                let line = line.map_err(|e| Error(format!("the ids cannot be read from standard input: {e}")))?;
                words(&line, &tokenizer, &mut push)?;
            }
        }
        None => words(&args.ids.join(" "), &tokenizer, &mut push)?,
    }
    print(format_args!("{}\n", decoder.finish()));
    Ok(())
}

/// Ids as people and programs write them: with spaces, or commas and brackets.
fn words(text: &str, tokenizer: &Tokenizer, push: &mut dyn FnMut(i32)) -> Result<()> {
    for word in text.split([' ', ',', '[', ']', '\t', '\n']).filter(|w| !w.is_empty()) {
        let id = word.parse::<i32>().map_err(|_| Error(format!("{word:?} is no id: expected whole numbers, as in 31373 995")))?;
        push(known(id, tokenizer)?);
    }
    Ok(())
}

fn known(id: i32, tokenizer: &Tokenizer) -> Result<i32> {
    let size = tokenizer.size();
    if (0..size as i64).contains(&i64::from(id)) { Ok(id) } else { Err(Error(format!("there is no id {id}: the tokenizer has {size} tokens"))) }
}

fn binary(path: &Path, tokenizer: &Tokenizer, push: &mut dyn FnMut(i32)) -> Result<()> {
    let fail = |e: &dyn std::fmt::Display| Error(format!("{}: the ids cannot be read: {e}", path.display()));
    let mut file = BufReader::new(std::fs::File::open(path).map_err(|e| fail(&e))?);
    let width = Width::of(tokenizer.size()).bytes();
    loop {
        let mut bytes = vec![];
        (&mut file).take(width).read_to_end(&mut bytes).map_err(|e| fail(&e))?;
        let id = match bytes[..] {
            [] => return Ok(()),
            [a, b] if width == 2 => i32::from(u16::from_le_bytes([a, b])),
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]),
            _ => return Err(fail(&format!("it ends within an id of {width} bytes"))),
        };
        push(known(id, tokenizer).map_err(|e| fail(&e))?);
    }
}
