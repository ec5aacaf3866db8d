//! The command line. One file a command; each parses, calls and prints.
#![allow(missing_docs)]

mod bench;
mod bench_data;
mod bench_dedup;
mod bench_generate;
mod bench_kernels;
mod bench_logging;
mod bench_ops;
mod bench_run;
mod chat;
mod classes;
mod coord_check;
mod corpus;
mod data;
mod doctor;
mod dump;
mod embed;
mod eval;
mod explain;
mod export;
mod finetune;
mod generate;
mod import;
mod interrupt;
mod lr_find;
mod mask;
mod merge;
mod models;
mod nanogpt;
mod options;
mod output;
mod plot;
mod policy;
mod predict;
mod prompts;
mod report;
mod rollouts;
mod run;
mod runs;
mod sampling;
mod sft;
mod source;
mod sweep;
mod tokenizer;
mod train;
mod view;
mod ways;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use eggcorn::ir::either;
use eggcorn::llm::{Models, RECIPES, Result};
use eggcorn::models::Entry;
use output::{note, say};

#[derive(Parser)]
#[command(name = "eggcorn", version, about = "A compiler for building language models from scratch", propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model on text, save it, and show how it goes.
    Train(train::Args),
    /// Let a model learn a task: which class a text is of, or beside the model, which stays as it is.
    Finetune(finetune::Args),
    /// Learn from answers that people preferred to others: DPO, and with preference.kind IPO, KTO, ORPO or SimPO.
    #[command(after_help = ways::DPO.help)]
    Dpo(train::Args),
    /// Learn what an answer is worth, from pairs of which people preferred one (Bradley and Terry): a head of one number on the last token.
    #[command(after_help = ways::REWARD.help)]
    Reward(train::Args),
    /// Learn from rewards of what the model writes, each answer beside others to its prompt: GRPO, DAPO or Dr. GRPO.
    #[command(after_help = ways::GRPO.help)]
    Grpo(train::Args),
    /// Learn from rewards of what the model writes, each token beside what was expected there, which is learned, too: PPO.
    #[command(after_help = ways::PPO.help)]
    Ppo(train::Args),
    /// Teach a model to answer: the loss is of answers alone.
    Sft(sft::Args),
    /// Talk to a model.
    Chat(chat::Args),
    /// Learn to say what another model says of each token of a text: distill.teacher, a directory with the same tokens.
    #[command(after_help = ways::DISTILL.help)]
    Distill(train::Args),
    /// Try growing learning rates, and suggest one to train with.
    LrFind(lr_find::Args),
    /// Show whether one learning rate is right for every width, with and without muP.
    CoordCheck(coord_check::Args),
    /// Train with every choice of some settings, and show which is best.
    Sweep(sweep::Args),
    /// Write text with a trained model.
    Generate(generate::Args),
    /// Say which class each text of a file is of.
    Predict(predict::Args),
    /// Make vectors of texts with an encoder.
    Embed(embed::Args),
    /// Say how good a model is, beside what chance and counting would do: texts, questions, translations.
    Eval(eval::Args),
    /// Make a run directory of a model that others trained.
    Import(import::Args),
    /// Make one model of a model and the adapters that stand beside it.
    Merge(merge::Args),
    /// Write a model as Hugging Face's libraries load it.
    Export(export::Args),
    /// From files of text to a corpus: each stage of it.
    Data(data::Args),
    /// Learn vocabularies, encode, decode, compare and look at tokens.
    Tokenizer(tokenizer::Args),
    /// Write a run as one page: losses, speed, memory, texts on the way, the fused block.
    Report(report::Args),
    /// Compare runs in a table, and in one picture.
    Runs(runs::Args),
    /// Print a model at any stage of the compiler.
    Dump(dump::Args),
    /// Prove why a model's arithmetic became a fused op, rule by rule.
    Explain(explain::Args),
    /// Run a model on tensors from files and write its results, for checking against other systems.
    Run(run::Args),
    /// List the models there are, and what they cost.
    Models(models::Args),
    /// Measure speed and memory.
    Bench(bench::Args),
    /// Show what this machine offers and what is missing.
    Doctor(doctor::Args),
}

/// The whole command line, for this project's models and those of a person's own program: parses the process's arguments, runs the
/// command and prints its error, if it has one.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     eggcorn::cli::main_with(&[]) // here go models of one's own: see examples/own_model.rs
/// }
/// ```
pub fn main_with(own: &[Entry]) -> std::process::ExitCode {
    let models = Models::with(own);
    let parsed = |args| command(&models).try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m));
    let result = nanogpt::translated(std::env::args_os()).and_then(|args| parsed(args).unwrap_or_else(|e| output::usage(&e)).run(&models));
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            note!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

impl Cli {
    fn run(&self, models: &Models) -> Result<()> {
        match &self.command {
            Command::Train(a) => train::run(a, models),
            Command::Finetune(a) => finetune::run(a, models),
            Command::Dpo(a) => train::run_own(a, models, &ways::DPO),
            Command::Reward(a) => train::run_own(a, models, &ways::REWARD),
            Command::Grpo(a) => train::run_own(a, models, &ways::GRPO),
            Command::Ppo(a) => train::run_own(a, models, &ways::PPO),
            Command::Sft(a) => sft::run(a, models),
            Command::Chat(a) => chat::run(a, models),
            Command::Distill(a) => train::run_own(a, models, &ways::DISTILL),
            Command::LrFind(a) => lr_find::run(a, models),
            Command::CoordCheck(a) => coord_check::run(a, models),
            Command::Sweep(a) => sweep::run(a),
            Command::Generate(a) => generate::run(a, models),
            Command::Predict(a) => predict::run(a, models),
            Command::Embed(a) => embed::run(a, models),
            Command::Eval(a) => eval::run(a, models),
            Command::Import(a) => import::run(a, models),
            Command::Merge(a) => merge::run(a, models),
            Command::Export(a) => export::run(a, models),
            Command::Data(a) => data::run(a),
            Command::Tokenizer(a) => tokenizer::run(a),
            Command::Report(a) => report::run(a, models),
            Command::Runs(a) => runs::run(a, models),
            Command::Dump(a) => dump::run(a, models),
            Command::Explain(a) => explain::run(a, models),
            Command::Run(a) => run::run(a, models),
            Command::Models(a) => models::run(a, models),
            Command::Bench(a) => bench::run(a, models),
            Command::Doctor(a) => doctor::run(a),
        }
    }
}

/// The command line, where arguments that are names say which there are.
fn command(models: &Models) -> clap::Command {
    let names = format!(" [models: {}]", either(&models.names()));
    let recipes: String = RECIPES.iter().map(|r| format!("\n  {:18}{}", r.name, r.about())).collect();
    let recipe = format!("The recipe, or a model with the usual training [default: self]{recipes}");
    let with_names = |a: clap::Arg| match a.get_id().as_str() {
        "model" => {
            let help = a.get_help().map(ToString::to_string).unwrap_or_default();
            a.help(help + &names)
        }
        "recipe" => a.help(recipe.clone()),
        _ => a,
    };
    Cli::command().mut_subcommands(|c| c.mut_args(with_names).mut_subcommands(|c| c.mut_args(with_names)))
}
