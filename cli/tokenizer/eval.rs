//! `eggcorn tokenizer eval`: what tokenizers make of a text, side by side.

use super::encode::splitter;
use super::input::each_block;
use super::open;
use crate::cli::options::threads;
use crate::cli::say;
use eggcorn::llm::text::{Specials, Split};
use eggcorn::llm::{Error, Result, Tokenizer, write_file};
use plotters::prelude::*;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How well tokenizers do on a text: bytes a token, use of the vocabulary, speed.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn tokenizer eval tokenizer.json --text input.txt\n  eggcorn tokenizer eval tokenizer.json gpt2/encoder.json cl100k_base.tiktoken --text prose.txt --text code.rs --plot tokens.svg"
)]
pub struct Args {
    /// The tokenizers: files as for encode, or "byte".
    #[arg(required = true)]
    tokenizers: Vec<PathBuf>,
    /// A text of one kind: a file, or a folder of parts; several to compare kinds.
    #[arg(long, required = true)]
    text: Vec<PathBuf>,
    /// How files of ranks split text, where their number of ranks does not tell.
    #[arg(long)]
    split: Option<Split>,
    /// Draw bytes a token as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Threads; one a core unless said.
    #[arg(long)]
    threads: Option<usize>,
}

/// What a tokenizer made of a text.
#[derive(Clone, Debug, Default)]
struct Row {
    tokenizer: String,
    text: String,
    vocabulary: usize,
    bytes: u64,
    characters: u64,
    words: u64,
    tokens: u64,
    used: usize,
    seconds: f64,
}

impl Row {
    /// Counts a text. `used` says which ids were met.
    fn add(&mut self, tokenizer: &Tokenizer, text: &str, used: &mut [bool], threads: usize) -> Result<()> {
        let start = Instant::now();
        let ids = tokenizer.encode_in(text, Specials::Text, threads)?;
        self.seconds += start.elapsed().as_secs_f64();
        self.bytes += text.len() as u64;
        self.characters += text.chars().count() as u64;
        self.words += text.split_whitespace().count() as u64;
        self.tokens += ids.len() as u64;
        ids.iter().for_each(|id| used[*id as usize] = true);
        Ok(())
    }

    fn bytes_per_token(&self) -> f64 {
        self.bytes as f64 / self.tokens.max(1) as f64
    }
}

pub fn run(args: &Args) -> Result<()> {
    let threads = threads(args.threads)?;
    let mut rows = vec![];
    for path in &args.tokenizers {
        let tokenizer = open(path, args.split)?;
        for text in &args.text {
            rows.push(measured(&tokenizer, &path.display().to_string(), text, threads)?);
        }
    }
    if let Some(path) = &args.plot {
        let svg = draw(&rows).map_err(|e| Error(format!("the figures cannot be drawn: {e}")))?;
        write_file(path, svg.as_bytes())?;
    }
    if args.json {
        rows.iter().for_each(|r| say!("{}", line(r)));
    } else {
        table(&rows);
    }
    Ok(())
}

fn measured(tokenizer: &Tokenizer, name: &str, text: &Path, threads: usize) -> Result<Row> {
    let mut row = Row { tokenizer: name.into(), text: text.display().to_string(), vocabulary: tokenizer.size(), ..Row::default() };
    let mut used = vec![false; tokenizer.size()];
    each_block(text, splitter(tokenizer), &mut |texts| texts.iter().try_for_each(|t| row.add(tokenizer, t, &mut used, threads)))?;
    if row.bytes == 0 {
        return Err(Error(format!("{}: the text is empty", row.text)));
    }
    row.used = used.iter().filter(|u| **u).count();
    Ok(row)
}

fn table(rows: &[Row]) {
    let width = |of: &dyn Fn(&Row) -> usize, least: usize| rows.iter().map(of).max().unwrap_or(0).max(least);
    let (names, texts) = (width(&|r| r.tokenizer.chars().count(), 9), width(&|r| r.text.chars().count(), 4));
    say!(
        "{:names$}  {:texts$}  {:>10}  {:>12}  {:>11}  {:>11}  {:>11}  {:>9}  {:>8}",
        "tokenizer",
        "text",
        "vocabulary",
        "tokens",
        "bytes/token",
        "chars/token",
        "tokens/word",
        "used",
        "MB/s"
    );
    for r in rows {
        let tokens = r.tokens.max(1) as f64;
        say!(
            "{:names$}  {:texts$}  {:>10}  {:>12}  {:>11.3}  {:>11.3}  {:>11.3}  {:>8.1}%  {:>8.1}",
            r.tokenizer,
            r.text,
            r.vocabulary,
            r.tokens,
            r.bytes_per_token(),
            r.characters as f64 / tokens,
            r.tokens as f64 / r.words.max(1) as f64,
            100.0 * r.used as f64 / r.vocabulary.max(1) as f64,
            r.bytes as f64 / 1e6 / r.seconds.max(1e-9)
        );
    }
}

fn line(r: &Row) -> serde_json::Value {
    json!({"tokenizer": r.tokenizer, "text": r.text, "vocabulary": r.vocabulary, "bytes": r.bytes, "characters": r.characters, "words": r.words,
        "tokens": r.tokens, "used": r.used, "bytes_per_token": r.bytes_per_token(), "seconds": r.seconds})
}

/// A bar for each tokenizer and text, longest for the fewest tokens.
fn draw(rows: &[Row]) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let most = rows.iter().map(Row::bytes_per_token).fold(1.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (800, 60 + 34 * rows.len() as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        area.draw(&Text::new("bytes a token", (20, 16), ("sans-serif", 16)))?;
        for (i, r) in rows.iter().enumerate() {
            let (top, length) = (44 + 34 * i as i32, (380.0 * r.bytes_per_token() / most) as i32);
            let color = Palette99::pick(i % 9).mix(0.7).filled();
            area.draw(&Text::new(format!("{}, {}", short(&r.tokenizer), short(&r.text)), (20, top + 5), ("sans-serif", 13)))?;
            area.draw(&Rectangle::new([(330, top), (330 + length, top + 22)], color))?;
            area.draw(&Text::new(format!("{:.2}", r.bytes_per_token()), (336 + length, top + 5), ("sans-serif", 13)))?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// The end of a long name.
fn short(name: &str) -> String {
    let n = name.chars().count();
    if n <= 24 { name.into() } else { format!("…{}", name.chars().skip(n - 23).collect::<String>()) }
}
