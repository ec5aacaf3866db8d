//! `eggcorn dpo`: a model learns which of two answers people prefer.

use super::train;
use eggcorn::llm::{Models, Result};

/// Learn from answers that people preferred to others: DPO, and with preference.kind IPO, KTO, ORPO or SimPO.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "A file .json is a list of records, a .jsonl has one a line: {\"prompt\": …, \"chosen\": …, \"rejected\": …}, where answers may be lists of\nmessages; or Alpaca's instruction, input, chosen and rejected; or, for kto, {\"prompt\": …, \"completion\": …, \"label\": true}.\nWhat the model says before the first step is the reference, kept in the run directory in reference.json; the first loss of dpo is ln 2.\n\nExamples:\n  eggcorn dpo dpo --init-from runs/instruct --data pairs.json\n  eggcorn dpo --init-from SmolLM2-135M-Instruct/ --data pairs.jsonl --set preference.beta=0.2 --set train.lr=5e-6\n  eggcorn dpo dpo --init-from runs/instruct --data pairs.json --set preference.kind=simpo\n  eggcorn dpo dpo --init-from runs/instruct --data judged.jsonl --set preference.kind=kto"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

/// What the recipe need not say.
const PRESET: [&str; 2] = ["objective.kind=preference", "data.documents=preferences"];

pub fn run(args: &Args, models: &Models) -> Result<()> {
    train::run_with(&args.train, models, &PRESET)
}
