//! `eggcorn reward`: a model learns to say what an answer is worth.

use super::train;
use eggcorn::llm::{Models, Result};

/// Learn what an answer is worth, from pairs of which people preferred one (Bradley and Terry): a head of one number on the last token.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Records are those of eggcorn dpo. On the way it says how often the chosen answer of held-out pairs is worth more. The run directory is a\nreward for eggcorn grpo and eggcorn ppo: policy.reward = \"model\", policy.reward_model = \"runs/reward\".\n\nExamples:\n  eggcorn reward dpo --init-from runs/instruct --data pairs.json --out runs/reward\n  eggcorn reward gpt2 --data pairs.jsonl --set data.tokenizer=bpe --set preference.margin=0.5"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

/// What the recipe need not say.
const PRESET: [&str; 2] = ["objective.kind=reward", "data.documents=preferences"];

pub fn run(args: &Args, models: &Models) -> Result<()> {
    train::run_with(&args.train, models, &PRESET)
}
