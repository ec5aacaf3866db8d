//! `eggcorn distill`: a model learns to say what a larger one says.

use super::train;
use eggcorn::llm::{Models, Result};

/// Learn to say what another model says of each token of a text: distill.teacher, a directory with the same tokens.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "The text, or pairs of prompts and answers, are those of eggcorn train. distill.divergence is forward (all that the teacher may say), reverse\n(nothing that it would not) or mixed; distill.text is the share of the text's own loss. On the way the loss of held-out text is shown.\n\nExamples:\n  eggcorn distill gpt2 --data input.txt --tokenizer runs/large/tokenizer.json --set distill.teacher=runs/large --set n_layer=2\n  eggcorn distill --init-from runs/small --data input.txt --set distill.teacher=runs/large --set distill.divergence=reverse\n  eggcorn distill --init-from runs/small --data prompts.tsv --set data.documents=pairs --set distill.teacher=runs/large --set distill.on_policy=true"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

/// What the recipe need not say.
const PRESET: [&str; 2] = ["objective.kind=distill", "policy.group=1"];

pub fn run(args: &Args, models: &Models) -> Result<()> {
    train::run_with(&args.train, models, &PRESET)
}
