//! `eggcorn models`: which there are, and what they cost.

use super::options::{AdapterArgs, ModelArgs};
use super::say;
use super::source::Source;
use eggcorn::llm::{Counts, Error, Models, Result};
use eggcorn::models::{Kind, Model};
use serde_json::json;

/// List the models there are: parameters, arithmetic, memory, counted in their programs.
#[derive(clap::Args)]
#[command(
    after_help = "Parameters, operations and bytes are counted in the model's program at its longest context, not taken from a formula.\nOperations are those of products in a forward pass, a token on average: over every pair of tokens, as is usual, and over those\npairs that masks leave. Training costs three times as many. Cache is what generation keeps of a token, in 32 bits.\n\nExamples:\n  eggcorn models\n  eggcorn models gpt2 --set n_layer=24 --set n_embd=1024 --set n_head=16\n  eggcorn models SmolLM2-135M/\n  eggcorn models --json"
)]
pub struct Args {
    /// One model alone, by name or directory.
    model: Option<String>,
    /// Change a setting of that model, as in --set n_layer=2.
    #[arg(long, value_name = "KEY=VALUE", requires = "model")]
    set: Vec<String>,
    /// Print JSON, a line a model.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let chosen: Vec<Model> = match &args.model {
        Some(name) => vec![one(&ModelArgs { model: name.clone(), set: args.set.clone(), adapters: AdapterArgs::default() }, models)?],
        None => models.names().into_iter().map(|name| models.by_name(name)).collect::<Result<_>>()?,
    };
    if !args.json {
        say!(
            "{:12} {:16} {:>13} {:>8} {:>14} {:>14} {:>12}  tied",
            "model",
            "kind",
            "parameters",
            "context",
            "MFLOPs/token",
            "unmasked",
            "cache/token"
        );
    }
    for model in &chosen {
        let counts = Counts::of(model)?;
        say!("{}", if args.json { object(model, &counts).to_string() } else { line(model, &counts) });
    }
    Ok(())
}

/// The model of a name or of a directory.
fn one(args: &ModelArgs, models: &Models) -> Result<Model> {
    match args.source(models)? {
        Source::Model(model) => Ok(model),
        Source::Text(text) => Err(Error(format!("{} is a program, and no model; name a model, or a directory that has one", text.path))),
    }
}

fn kind(model: &Model) -> &'static str {
    match model.kind() {
        Kind::Decoder => "decoder",
        Kind::Encoder => "encoder",
        Kind::EncoderDecoder => "encoder-decoder",
    }
}

fn line(model: &Model, c: &Counts) -> String {
    let each = |flops: f64| flops / c.context as f64 / 1e6;
    let tied = if c.tied.is_empty() { "-".into() } else { c.tied.join(", ") };
    let (name, kind, cache) = (model.name(), kind(model), format!("{} B", c.cache));
    format!("{name:12} {kind:16} {:>13} {:>8} {:>14.1} {:>14.1} {cache:>12}  {tied}", c.parameters, c.context, each(c.seen), each(c.forward))
}

fn object(model: &Model, c: &Counts) -> serde_json::Value {
    json!({"model": model.name(), "kind": kind(model), "parameters": c.parameters, "context": c.context, "forward_flops": c.forward,
        "forward_flops_seen": c.seen, "cache_bytes_per_token": c.cache, "tied": c.tied})
}
