//! `eggcorn data read`: files to documents.

use super::report::show;
use super::work::WorkArgs;
use crate::cli::options::bytes;
use eggcorn::llm::Result;
use eggcorn::llm::corpus::{Format, ReadConfig, SplitOn, inputs, read};
use std::path::PathBuf;

/// Read files of text into documents.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn data read books/ --out corpus/read                      # every file below, a document each\n  eggcorn data read 'crawl/*.jsonl.gz' --field content --out corpus/read\n  eggcorn data read stories.txt --split-on '<|endoftext|>' --out corpus/read\n  zcat dump.gz | eggcorn data read - --format jsonl --skip-bad --out corpus/read"
)]
pub struct Args {
    /// Files, folders and patterns; - is standard input. What gzip or zstd packed is unpacked.
    #[arg(required = true, value_name = "IN")]
    inputs: Vec<String>,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
    /// The format of all files, in place of what their names tell.
    #[arg(long, help = format!("The format of all files, in place of what their names tell: {}", formats()))]
    format: Option<Format>,
    /// The field of a record that holds its text; meta.text is the field text of the field meta.
    #[arg(long, default_value = "text")]
    field: String,
    /// Where text files are cut into documents: file, line, blank-line, or a separator such as <|endoftext|>.
    #[arg(long, default_value = "file")]
    split_on: SplitOn,
    /// Bytes that a document, or the record that it stands in, may have.
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    max_document: usize,
    /// Leave out and count what cannot be read: bad encoding, bad records, missing fields, documents that are too long.
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    work: WorkArgs,
}

/// The formats by name.
fn formats() -> String {
    eggcorn::ir::either(&Format::ALL.iter().map(|f| f.name()).collect::<Vec<_>>())
}

pub fn run(args: &Args) -> Result<()> {
    let config = ReadConfig {
        format: args.format,
        field: args.field.clone(),
        split_on: args.split_on.clone(),
        max_document: args.max_document as u64,
        skip_bad: args.skip_bad,
    };
    let inputs = inputs(&args.inputs)?;
    let report = args.work.with(|work| read(work, &inputs, &args.out, &config))?;
    show(&report, &args.work);
    Ok(())
}
