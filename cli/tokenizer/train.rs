//! `eggcorn tokenizer train`: a vocabulary from text.

use super::input::{each_block, size};
use crate::cli::interrupt::stop_on_interrupt;
use crate::cli::options::{bytes, threads};
use crate::cli::{note, say};
use eggcorn::llm::text::{Algorithm, Learning, Split, WordCounts};
use eggcorn::llm::{Error, Result, write_file};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Learn a vocabulary from text.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn tokenizer train input.txt --vocabulary 1024 --out tokenizer.json\n  eggcorn tokenizer train *.txt --vocabulary 32000 --split gpt4 --special '<|user|>' --special '<|assistant|>'\n  eggcorn tokenizer train corpus/stages/5-split/train --algorithm wordpiece"
)]
pub struct Args {
    /// Files of UTF-8 text, folders of parts as data read makes them, or - for standard input.
    #[arg(required = true)]
    text: Vec<PathBuf>,
    /// Where the tokenizer goes, as Hugging Face's tokenizer.json.
    #[arg(long, default_value = "tokenizer.json")]
    out: PathBuf,
    /// bpe, wordpiece or unigram.
    #[arg(long, default_value = "bpe")]
    algorithm: Algorithm,
    /// Tokens, special ones among them.
    #[arg(long, default_value_t = 32_000)]
    vocabulary: usize,
    /// How text becomes words, for bpe: none, gpt2, gpt2-digits, gpt4, llama3, qwen2 or gpt4o.
    #[arg(long, default_value = "gpt2")]
    split: Split,
    /// A special token, besides the usual ones of the algorithm.
    #[arg(long, value_name = "TOKEN")]
    special: Vec<String>,
    /// How often a pair must stand in the text to become a token.
    #[arg(long, default_value_t = 2)]
    min_frequency: u64,
    /// Keep case and accents, for wordpiece.
    #[arg(long)]
    cased: bool,
    /// Threads; one a core unless said. The result does not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    /// Bytes of memory for words. Where more are met they are counted on disk, and the rarest may be left out, which is said.
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = bytes)]
    memory: usize,
}

pub fn run(args: &Args) -> Result<()> {
    let learning = Learning {
        algorithm: args.algorithm,
        vocabulary: args.vocabulary,
        split: args.split,
        least: args.min_frequency,
        lowercase: !args.cased,
        specials: args.special.clone(),
    };
    let stop = stop_on_interrupt("stopping; once more to stop at once")?;
    let go_on = || if stop.load(Ordering::Relaxed) { Err(Error("stopped; nothing was written".into())) } else { Ok(()) };
    let (start, bar) = (Instant::now(), bar(size(&args.text), "{bar:30} {bytes}/{total_bytes} read {eta} left"));
    let mut counts = WordCounts::new(learning.splitter(), threads(args.threads)?, args.memory);
    let mut read = 0;
    for path in &args.text {
        each_block(path, learning.splitter(), &mut |texts| {
            let bytes = texts.iter().map(|t| t.len() as u64).sum::<u64>();
            read += bytes;
            bar.inc(bytes);
            go_on().and_then(|()| counts.add_all(texts))
        })?;
    }
    bar.finish_and_clear();
    let (counted, reading) = (counts.finish()?, start.elapsed().as_secs_f64());
    if counted.least > 1 {
        note!("words met less than {} times were left out to stay within --memory", counted.least);
    }
    let bar = self::bar(args.vocabulary as u64, "{bar:30} {pos}/{len} tokens {eta} left");
    let subword = learning.learn(&counted, &mut |n| {
        bar.set_position(n as u64);
        go_on().is_ok()
    })?;
    bar.finish_and_clear();
    go_on()?;
    write_file(&args.out, subword.json().as_bytes())?;
    if subword.size() < args.vocabulary {
        note!("the text gives {} tokens, not {}: no pair more stands in it {} times", subword.size(), args.vocabulary, args.min_frequency);
    }
    let (words, seconds, out) = (counted.words.len(), start.elapsed().as_secs_f64(), args.out.display());
    say!("{} tokens of {words} words in {read} bytes, {reading:.1} s to read and {:.1} s to learn: {out}", subword.size(), seconds - reading);
    Ok(())
}

/// A bar on a terminal; one that nobody sees elsewhere.
fn bar(length: u64, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(length).with_style(ProgressStyle::with_template(template).expect("the template reads"))
}
