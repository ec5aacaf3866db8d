//! The command line. One file a command; each parses, calls and prints.
#![allow(missing_docs)]

mod bench;
mod bench_ops;
mod doctor;
mod dump;
mod explain;
mod generate;
mod options;
mod plot;
mod run;
mod train;

use clap::{Parser, Subcommand};

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
    /// Write text with a trained model.
    Generate(generate::Args),
    /// Print a model at any stage of the compiler.
    Dump(dump::Args),
    /// Prove why a model's arithmetic became a fused op, rule by rule.
    Explain(explain::Args),
    /// Run a model on tensors from files and write its results, for checking against other systems.
    Run(run::Args),
    /// Measure speed and memory.
    Bench(bench::Args),
    /// Show what this machine offers and what is missing.
    Doctor(doctor::Args),
}

/// The whole command line: parses the process's arguments, runs the command and prints its error, if it has one.
pub fn main() -> std::process::ExitCode {
    let result = match Cli::parse().command {
        Command::Train(a) => train::run(&a),
        Command::Generate(a) => generate::run(&a),
        Command::Dump(a) => dump::run(&a),
        Command::Explain(a) => explain::run(&a),
        Command::Run(a) => run::run(&a),
        Command::Bench(a) => bench::run(&a),
        Command::Doctor(a) => doctor::run(&a),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Prints, and ends quietly where the reader has gone, as `head` does.
macro_rules! say {
    ($($t:tt)*) => {{
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        if writeln!(out, $($t)*).and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    }};
}
use say;
