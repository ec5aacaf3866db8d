//! `eggcorn finetune classify`: a head on a model says which class a text is of.

use crate::cli::train;
use eggcorn::llm::{Models, Result};

/// Learn which of some classes a text is of: a head on what the model makes of it, whose parameters have Hugging Face's names.
#[derive(clap::Args)]
#[command(
    after_help = "A file .tsv has a class, a tab and its text a line (a header with text, a tab and label turns that round), a .csv a header with the columns\nlabel and text, a .jsonl objects with these fields; classify.label and classify.text name others. Texts are split by classify.seed into\nthose to learn from, data.held_out, which are looked at on the way, and classify.test, which are looked at once, at the end.\nA text is cut to train.context tokens.\n\nExamples:\n  eggcorn finetune classify bert-tiny --data sms.tsv\n  eggcorn finetune classify gpt2 --data reviews.csv --set classify.label=sentiment --set data.tokenizer=bpe"
)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

/// What the recipe need not say.
const PRESET: [&str; 2] = ["objective.kind=classify", "data.documents=classes"];

pub fn run(args: &Args, models: &Models) -> Result<()> {
    train::run_as(&args.train, models, "finetune classify", &PRESET)
}
