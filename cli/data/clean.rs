//! `eggcorn data clean`: documents as they should be, and those that should be.

use super::report::show;
use super::work::WorkArgs;
use eggcorn::llm::Result;
use eggcorn::llm::corpus::{CleanConfig, Filter, Form, Mask, clean, set};
use std::path::PathBuf;

/// Clean documents: how they are written, which stay, what is masked.
#[derive(clap::Args)]
#[command(
    after_help = "By default line ends, characters that nobody sees, normal forms, spaces and blank lines are put in order, and nothing is filtered:\nthe filters were made for pages of the web, and remove most of a book's dialogue or verse.\n\nExamples:\n  eggcorn data clean corpus/read --out corpus/clean --examples\n  eggcorn data clean corpus/read --out corpus/clean --filter gopher,c4,fineweb --set min_words=20\n  eggcorn data clean corpus/read --out corpus/clean --language eng,deu --language-confidence 0.8\n  eggcorn data clean corpus/read --out corpus/clean --mask email,phone,ip"
)]
pub struct Args {
    /// The folder of what was read.
    from: PathBuf,
    /// The folder to write.
    #[arg(long)]
    out: PathBuf,
    /// The normal form of Unicode: nfc, nfkc or none.
    #[arg(long, default_value = "nfc")]
    unicode: Form,
    /// Filters to use: gopher (or gopher-quality, gopher-repetition), c4, fineweb.
    #[arg(long, value_name = "FILTERS", value_delimiter = ',')]
    filter: Vec<Filter>,
    /// Find out the language of each document. Of those with --language alone, this is done in any case.
    #[arg(long)]
    identify: bool,
    /// Keep documents in these languages alone, as in eng,deu.
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    language: Vec<String>,
    /// How sure the language must be, from 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    language_confidence: f64,
    /// Hide addresses and numbers of people: email, phone, ip become <EMAIL>, <PHONE>, <IP>.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    mask: Vec<Mask>,
    /// Change a threshold or switch, as in --set min_words=20; a threshold of 0 is switched off.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    work: WorkArgs,
}

pub fn run(args: &Args) -> Result<()> {
    let config = CleanConfig {
        unicode: args.unicode,
        filters: args.filter.clone(),
        identify: args.identify,
        languages: args.language.clone(),
        language_confidence: args.language_confidence,
        masks: args.mask.clone(),
        ..CleanConfig::default()
    };
    let config = args.set.iter().try_fold(config, |c, s| set("clean", &c, s))?;
    let report = args.work.with(|work| clean(work, &args.from, &args.out, &config))?;
    show(&report, &args.work);
    Ok(())
}
