//! `eggcorn explain`: the proof of a fusion.

use super::options::{ModelArgs, RuleArgs, Sizes};
use super::say;
use super::source::{DimArgs, Source};
use eggcorn::ir::Op;
use eggcorn::llm::{Error, Models, Result, bound, nearest};
use eggcorn::passes::{Rule, explain, replay, rules};

/// Prove why a model's arithmetic became a fused op, rule by rule.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn explain gpt2 attention\n  eggcorn explain llama rms_norm\n  eggcorn explain gpt2 contract --seq 1024 --set adapter.kind=lora\n  eggcorn explain program.ir attention"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    dims: DimArgs,
    #[command(flatten)]
    rules: RuleArgs,
    /// The fused op: attention, layer_norm, rms_norm, gelu, swiglu, rope, cross_entropy, …; or contract, for sums of products that became one.
    op: String,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let known: Vec<&str> = Op::plain().iter().filter(|o| matches!(o, Op::Row(_))).map(|o| o.name()).chain(["attention", "contract"]).collect();
    if !known.contains(&args.op.as_str()) {
        let hint = nearest(&args.op, known.iter().copied()).map_or(String::new(), |n| format!("; did you mean {n}?"));
        return Err(Error(format!("{} is no fused op; there are {}{hint}", args.op, known.join(", "))));
    }
    let graph = match args.model.source(models)? {
        Source::Model(model) => {
            args.dims.none_for_a_model()?;
            let (batch, seq) = args.sizes.of(&model)?;
            bound(&model, batch, seq)?
        }
        Source::Text(text) => text.bound(&args.dims, &|name| args.sizes.named(name))?,
    };
    // which of a layer's products are made at all is a choice, that is for the machine's prices
    let rules: Vec<Rule> = rules::forward().into_iter().chain(rules::choices()).filter(|r| r.legality <= args.rules.rules).collect();
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
