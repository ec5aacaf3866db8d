//! `eggcorn explain`: the proof of a fusion.

use super::options::{ModelArgs, Sizes};
use super::say;
use eggcorn::ir::Op;
use eggcorn::llm::{Error, Models, Result, bound, nearest};
use eggcorn::passes::{explain, replay, rules};

/// Prove why a model's arithmetic became a fused op, rule by rule.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  eggcorn explain gpt2 attention\n  eggcorn explain llama rms_norm")]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sizes: Sizes,
    /// The fused op: attention, layer_norm, rms_norm, gelu, swiglu, rope, cross_entropy, …
    op: String,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let known: Vec<&str> = Op::plain().iter().filter(|o| matches!(o, Op::Row(_))).map(|o| o.name()).chain(["attention"]).collect();
    if !known.contains(&args.op.as_str()) {
        let hint = nearest(&args.op, known.iter().copied()).map_or(String::new(), |n| format!("; did you mean {n}?"));
        return Err(Error(format!("{} is no fused op; there are {}{hint}", args.op, known.join(", "))));
    }
    let model = args.model.model(models)?;
    let (batch, seq) = args.sizes.of(&model)?;
    let graph = bound(&model, batch, seq)?;
    let rules = rules::forward();
    let mut found = false;
    for (i, func) in graph.funcs.iter().enumerate() {
        for proof in explain(func, &graph.funcs[..i], &rules, &args.op)? {
            found = true;
            say!("; in {}: why {} stands where arithmetic was written", func.name, args.op);
            say!("{}", proof.to_string().trim_end());
            replay(&proof, &rules).map_err(Error)?;
            say!("; replayed by a checker that has rules and terms, and no e-graph: accepted\n");
        }
    }
    if found { Ok(()) } else { Err(Error(format!("nothing in {} became {}", args.model.model, args.op))) }
}
