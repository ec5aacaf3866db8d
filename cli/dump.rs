//! `eggcorn dump`: a model at any stage.

use crate::options::{ModelArgs, Sizes};
use crate::say;
use clap::ValueEnum;
use eggcorn::codegen::{Program, llvm};
use eggcorn::ir::Graph;
use eggcorn::llm::{Error, Result, bound};
use eggcorn::passes::{Opt, Optimizer, optimize, train_step};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// As written, sizes symbolic.
    Built,
    /// Composites found.
    Fused,
    /// With gradients.
    Grad,
    /// Forward and backward optimised together.
    Joint,
    /// With the optimizer: the whole training step.
    Step,
    /// Every distinct kernel of the training step: what it computes and how.
    Kernels,
    /// The training step's kernels in order, and where each buffer lives.
    Plan,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Dot,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Printed {
    /// The kernel language.
    Kernel,
    /// LLVM's text of each kernel.
    Llvm,
}

/// Print a model at any stage of the compiler.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn dump gpt2 --stage fused\n  eggcorn dump llama --stage joint --set num_hidden_layers=2\n  eggcorn dump gpt2 --stage kernels --target llvm\n  eggcorn dump gpt2 --stage fused --format dot | dot -Tsvg > gpt2.svg"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sizes: Sizes,
    /// The stage.
    #[arg(long, value_enum, default_value = "fused")]
    stage: Stage,
    /// The format of graphs.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// What kernels are printed as.
    #[arg(long, value_enum, default_value = "kernel")]
    target: Printed,
    /// How much to rewrite: off, greedy or egg.
    #[arg(long, default_value = "egg")]
    opt: Opt,
}

pub fn run(args: &Args) -> Result<()> {
    let model = args.model.model()?;
    if args.stage == Stage::Built {
        let graph = model.graph().map_err(|e| Error(e.to_string()))?;
        return show(&graph, args.format);
    }
    let (batch, seq) = args.sizes.of(&model)?;
    let graph = bound(&model, batch, seq)?;
    if args.stage == Stage::Fused {
        let stages = optimize(&graph, None, args.opt)?;
        header(&stages.reports, args.format);
        return show(&stages.fused, args.format);
    }
    let training = graph.keep_outputs(&["loss"]);
    let stages = optimize(&training, Some("loss"), args.opt)?;
    header(&stages.reports, if matches!(args.stage, Stage::Kernels | Stage::Plan) { Format::Json } else { args.format });
    let whole = train_step(stages.last(), &Optimizer::default())?;
    match args.stage {
        Stage::Built | Stage::Fused => unreachable!("shown above"),
        Stage::Grad => show(stages.grad.as_ref().expect("a loss was named"), args.format),
        Stage::Joint => show(stages.last(), args.format),
        Stage::Step => show(&whole, args.format),
        Stage::Kernels | Stage::Plan => {
            let target = llvm::host().target;
            let program = Program::new(&whole, &codegen::Target::Cpu(target));
            match (args.stage, args.target) {
                (Stage::Plan, _) => say!("{}", program.plan_text()),
                (_, Printed::Kernel) => say!("{program}"),
                (_, Printed::Llvm) => {
                    for (spec, kernel) in program.specs.iter().zip(&program.kernels) {
                        let spec = spec.to_string().lines().map(|l| format!("; {l}\n")).collect::<String>();
                        say!("{spec}{}", llvm::text(kernel, &target)?);
                    }
                }
            }
            Ok(())
        }
    }
}

fn header(reports: &[eggcorn::passes::FuncReport], format: Format) {
    if format == Format::Text {
        for r in reports {
            say!("; {r}");
        }
    }
}

fn show(graph: &Graph, format: Format) -> Result<()> {
    match format {
        Format::Text => say!("{}", graph.to_string().trim_end()),
        Format::Dot => say!("{}", graph.to_dot().trim_end()),
        Format::Json => say!("{}", graph.to_json().trim_end()),
    }
    Ok(())
}
