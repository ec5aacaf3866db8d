//! `eggcorn grpo`: a model writes answers, is rewarded, and learns from which were better than others.

use super::train;
use eggcorn::llm::{Models, Result};

/// Learn from rewards of what the model writes, each answer beside others to its prompt: GRPO, DAPO or Dr. GRPO.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Prompts and right answers are pairs, as of eggcorn train, or made by data.task. Rewards are a rule (policy.reward = exact, match, length), a\nmodel of eggcorn reward (model), or a command (command), which reads a line {\"prompt\": …, \"completion\": …, \"answer\": …} an answer and\nwrites a number, or {\"reward\": …}, a line each. policy.kind is grpo, dapo or dr-grpo. All that was written is in rollouts.jsonl, and shown by\neggcorn runs --rollouts.\n\nExamples:\n  eggcorn grpo grpo-sort --init-from runs/sort\n  eggcorn grpo grpo-sort --init-from runs/sort --set policy.kind=dr-grpo --set policy.kl=0.02\n  eggcorn grpo --init-from runs/sums --data sums.tsv --set data.documents=pairs --set policy.reward=match --set 'policy.reward_pattern=(\\d+)$'\n  eggcorn grpo --init-from runs/poet --data prompts.tsv --set policy.reward=command --set 'policy.reward_command=python3 judge.py'"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
}

/// What the recipe need not say.
const PRESET: [&str; 1] = ["objective.kind=policy"];

pub fn run(args: &Args, models: &Models) -> Result<()> {
    train::run_with(&args.train, models, &PRESET)
}
