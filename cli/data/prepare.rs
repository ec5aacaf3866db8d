//! `eggcorn data prepare`: every stage, from files to what a trainer reads.

use super::card::{PAGE, page};
use super::work::WorkArgs;
use crate::cli::say;
use eggcorn::llm::corpus::{Card, CorpusConfig, DedupKind, Filter, Format, Mask, prepare};
use eggcorn::llm::text::{Algorithm, Split};
use eggcorn::llm::{Error, Result, read_short, write_file};
use std::path::PathBuf;

/// Make a corpus of files: read, clean, deduplicate, decontaminate, split, encode; with a card that tells of it.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn data prepare books/ --out corpus --vocabulary 8192 --held-out 0.1\n  eggcorn data prepare 'crawl/*.jsonl.gz' --field content --filter gopher,fineweb --mask email,ip --language eng --out corpus\n  eggcorn data prepare stories.txt --split-on '<|endoftext|>' --tokenizer gpt2/encoder.json --against hellaswag.jsonl --out corpus\n  eggcorn train gpt2 --data corpus --set train.batch=4\n\nStopped or killed, the same command goes on. Many machines: docs/corpus.md."
)]
pub struct Args {
    /// Files, folders and patterns; - is standard input. What gzip or zstd packed is unpacked.
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<String>,
    /// The folder of the corpus.
    #[arg(long)]
    out: PathBuf,
    /// Settings of all stages, as corpus.toml in the folder of a corpus has them; other flags change them.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Change a setting of a stage, as in --set clean.min_words=50.
    #[arg(long, value_name = "STAGE.KEY=VALUE")]
    set: Vec<String>,
    /// The format of all files, in place of what their names tell.
    #[arg(long)]
    format: Option<Format>,
    /// The field of a record that holds its text.
    #[arg(long)]
    field: Option<String>,
    /// Where text files are cut into documents: file, line, blank-line, or a separator such as <|endoftext|>.
    #[arg(long)]
    split_on: Option<String>,
    /// Leave out and count what cannot be read.
    #[arg(long)]
    skip_bad: bool,
    /// Filters of published corpora: gopher, gopher-quality, gopher-repetition, c4, fineweb.
    #[arg(long, value_delimiter = ',')]
    filter: Vec<Filter>,
    /// Keep documents in these languages, as in eng,deu.
    #[arg(long, value_delimiter = ',')]
    language: Vec<String>,
    /// Hide addresses and numbers: email, phone, ip.
    #[arg(long, value_delimiter = ',')]
    mask: Vec<Mask>,
    /// Which duplicates are removed: documents,near unless said; paragraphs, lines, substrings besides; none for no kind.
    #[arg(long, value_delimiter = ',')]
    dedup: Vec<String>,
    /// Evaluation sets that must not be in the corpus.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
    /// The share of documents that is held out.
    #[arg(long)]
    held_out: Option<f64>,
    /// A tokenizer that is there already; one is learned from the corpus unless it is given.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The kind of tokenizer that is learned: bpe, wordpiece or unigram.
    #[arg(long, conflicts_with = "tokenizer")]
    algorithm: Option<Algorithm>,
    /// Its tokens.
    #[arg(long, conflicts_with = "tokenizer")]
    vocabulary: Option<usize>,
    /// How its words are split, as for tokenizer train.
    #[arg(long)]
    words: Option<Split>,
    /// Tokens of a file of the corpus; all in one unless said.
    #[arg(long)]
    shard_tokens: Option<u64>,
    /// Put llm.c's header before the tokens of a file.
    #[arg(long)]
    llm_c: bool,
    #[command(flatten)]
    work: WorkArgs,
}

impl Args {
    fn config(&self) -> Result<CorpusConfig> {
        let mut config = match &self.config {
            Some(path) => {
                let fail = |e: std::io::Error| Error(format!("{}: the settings cannot be read: {e}", path.display()));
                CorpusConfig::parse(&read_short(path, 1 << 20).map_err(fail)?, &path.display().to_string())?
            }
            None => CorpusConfig::default(),
        };
        self.reading(&mut config)?;
        if !self.filter.is_empty() {
            config.clean.filters = self.filter.clone();
        }
        if !self.language.is_empty() {
            config.clean.languages = self.language.clone();
            config.clean.identify = true;
        }
        if !self.mask.is_empty() {
            config.clean.masks = self.mask.clone();
        }
        if !self.dedup.is_empty() {
            let kinds = self.dedup.iter().filter(|k| *k != "none").map(|k| k.parse::<DedupKind>());
            config.dedup =
                config.dedup.only(&kinds.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| Error(format!("--dedup: {e}, or none")))?);
        }
        if !self.against.is_empty() {
            config.decontaminate.against = self.against.clone();
        }
        config.split.held_out = self.held_out.unwrap_or(config.split.held_out);
        self.tokens(&mut config);
        self.set.iter().try_fold(config, |c, s| c.set(s))
    }

    fn reading(&self, config: &mut CorpusConfig) -> Result<()> {
        let read = &mut config.read;
        read.format = self.format.or(read.format);
        read.skip_bad |= self.skip_bad;
        if let Some(field) = &self.field {
            read.field = field.clone();
        }
        if let Some(split) = &self.split_on {
            read.split_on = split.parse().map_err(|e| Error(format!("--split-on: {e}")))?;
        }
        Ok(())
    }

    fn tokens(&self, config: &mut CorpusConfig) {
        let t = &mut config.tokenizer;
        t.file = self.tokenizer.clone().or(t.file.take());
        t.algorithm = self.algorithm.unwrap_or(t.algorithm);
        t.vocabulary = self.vocabulary.unwrap_or(t.vocabulary);
        t.split = self.words.unwrap_or(t.split);
        config.shard.shard_tokens = self.shard_tokens.unwrap_or(config.shard.shard_tokens);
        if self.llm_c {
            config.shard.header = eggcorn::llm::Header::LlmC;
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    let config = args.config()?;
    let prepared = args.work.with(|work| prepare(work, &args.inputs, &args.out, &config))?;
    let html = page(&prepared.card).map_err(|e| Error(format!("the card cannot be drawn: {e}")))?;
    write_file(&args.out.join(PAGE), html.as_bytes())?;
    if args.work.json {
        say!("{}", serde_json::to_string(&prepared.card).expect("a card has a JSON form"));
        return Ok(());
    }
    table(&prepared.card);
    let out = args.out.display();
    say!("\nthe corpus is in {out}, and all about it in {out}/{PAGE}; train on it with: eggcorn train --data {out}");
    Ok(())
}

/// What each stage left, a line each.
fn table(card: &Card) {
    say!("{:14} {:>12} {:>15}  removed or changed", "", "documents", "bytes of text");
    for stage in &card.stages {
        let most: Vec<String> = stage.tallies.iter().map(|(reason, t)| format!("{reason} {}", t.times)).collect();
        say!("{:14} {:>12} {:>15}  {}", stage.name, stage.documents[1], stage.bytes[1], most.join(", "));
    }
    let [train, held_out] = card.tokens;
    let each = card.bytes as f64 / (train + held_out).max(1) as f64;
    say!("{train} tokens to train on, {held_out} held out, of {} kinds; {each:.2} bytes a token", card.vocabulary);
}
