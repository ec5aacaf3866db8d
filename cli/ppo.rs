//! `eggcorn ppo`: a model writes answers, is rewarded, and learns from what was better than it expected.

use super::train;
use eggcorn::llm::{Models, Result};

/// Learn from rewards of what the model writes, each token beside what was expected there, which is learned, too: PPO.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Prompts, right answers and rewards are those of eggcorn grpo. Values are a head on the model, v_head.summary. policy.kl is taken from the rewards,\na token at a time; with policy.kl_target its weight follows the distance.\n\nExamples:\n  eggcorn ppo grpo-sort --init-from runs/sort\n  eggcorn ppo grpo-sort --init-from runs/sort --set policy.kl=0.05 --set policy.kl_target=4 --set policy.updates=4"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

/// What the recipe need not say; what it says of groups is for another kind.
const PRESET: [&str; 3] = ["objective.kind=policy", "policy.kind=ppo", "policy.group=1"];

pub fn run(args: &Args, models: &Models) -> Result<()> {
    train::run_with(&args.train, models, &PRESET)
}
