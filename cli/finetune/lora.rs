//! `eggcorn finetune lora`: thin matrices beside a model.

use crate::cli::train;
use eggcorn::llm::{Models, Result};

/// Train thin matrices beside a model, which stays as it is.
#[derive(clap::Args)]
#[command(
    after_help = "It is train with --set adapter.kind=lora, and takes all that train takes; [adapter] in a recipe says the rest. The model stays where\nit is: checkpoints hold what was trained beside it, and its place.\n\nExamples:\n  eggcorn finetune lora --init-from SmolLM2-135M/ --data input.txt --out runs/adapted\n  eggcorn finetune lora --init-from SmolLM2-135M/ --data input.txt --set adapter.rank=16 --set adapter.targets='[\"q_proj\", \"v_proj\"]'\n  eggcorn finetune lora --init-from runs/shakespeare --data sonnets.txt --set adapter.dropout=0.05 --set train.lr=2e-4\n  eggcorn generate runs/adapted --prompt \"Once\""
)]
#[group(skip)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    train::run_as(&args.train, models, "finetune lora", &["adapter.kind=lora"])
}
