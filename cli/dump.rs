//! `eggcorn dump`: a model at any stage.

use super::options::{CompileArgs, ModelArgs, Sizes};
use super::report;
use super::say;
use super::source::{DimArgs, Source};
use clap::ValueEnum;
use eggcorn::codegen::{Gpu, Kernel, Program, Target};
use eggcorn::ir::Graph;
use eggcorn::ir::names::{LOSS, LOSS_MEAN, LOSS_SUM};
use eggcorn::llm::{Config, Error, Mode, Models, Objective, Precision, Result, bound};
use eggcorn::passes::{Goal, Machine, Update, compile};

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
    /// With products in the precision.
    Rounded,
    /// With large values, as logits are, a tile of rows at a time.
    Tiled,
    /// With the optimizer: the whole training step.
    Step,
    /// Every distinct kernel of the training step: what it computes and how.
    Kernels,
    /// The training step's kernels in order, and where each buffer lives.
    Plan,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As text, which any command reads again
    Text,
    /// Every node and edge, for Graphviz
    Dot,
    /// For other programs
    Json,
    /// A picture of the block that layers repeat
    Svg,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Printed {
    /// The kernel language.
    Kernel,
    /// LLVM's text of each kernel.
    Llvm,
    /// The kernels of a graphics processor, in the kernel language.
    Gpu,
    /// WebGPU's text of each kernel.
    Wgsl,
    /// CUDA C++ of each kernel.
    Cuda,
}

/// Print a model, or a program from a file of IR text, at any stage of the compiler.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn dump gpt2 --stage fused\n  eggcorn dump llama --stage joint --set num_hidden_layers=2\n  eggcorn dump gpt2 --stage kernels --target llvm\n  eggcorn dump gpt2 --stage plan --set adapter.kind=lora --set adapter.rank=16\n  eggcorn dump block.ir --stage fused --dim S=128\n  eggcorn dump gpt2 --stage fused --format dot | dot -Tsvg > gpt2.svg\n  eggcorn dump gpt2 --stage fused --format svg > block.svg"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    dims: DimArgs,
    /// The stage.
    #[arg(long, value_enum, default_value = "fused")]
    stage: Stage,
    /// The format of graphs.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// What kernels are printed as.
    #[arg(long, value_enum, default_value = "kernel")]
    target: Printed,
    /// What a training step's products are computed in, from stage rounded on: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    compile: CompileArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    match args.model.source(models)? {
        Source::Model(model) => {
            args.dims.none_for_a_model()?;
            if args.stage == Stage::Built {
                return show(&Objective::of(&model).graph(&model, Mode::Train)?, args.format);
            }
            let (batch, seq) = args.sizes.of(&model)?;
            let update = if model.adaptation().is_some() { Config::of(model.clone()).update()? } else { Update::default() };
            stage(args, &bound(&model, batch, seq)?, &update)
        }
        Source::Text(text) if args.stage == Stage::Built => {
            if args.format == Format::Text {
                text.comments.lines().for_each(|l| say!("{l}"));
            }
            show(&text.graph, args.format)
        }
        Source::Text(text) => {
            let graph = text.bound(&args.dims, &|name| args.sizes.named(name))?;
            match args.stage {
                // as it is written: a dump of any stage is looked at as it stands
                Stage::Kernels | Stage::Plan => lowered(args, &graph),
                _ => stage(args, &graph, &Update::default()),
            }
        }
    }
}

/// A program at a stage.
fn stage(args: &Args, graph: &Graph, update: &Update) -> Result<()> {
    let machine = target(args.target, graph).as_ref().map_or(Machine::CPU, Target::machine);
    let options = args.compile.options(args.precision, machine);
    if args.stage == Stage::Fused {
        let stages = compile(graph, Goal::Results, &options)?;
        header(&stages.reports, args.format);
        return show(&stages.fused, args.format);
    }
    let has = |name: &str| graph.outputs.iter().any(|o| o == name);
    let (kept, goal): (&[&str], _) = match (has(LOSS_SUM), has(LOSS_MEAN), args.stage) {
        (true, ..) => (&LOSS, Goal::Step(update)),
        (_, true, Stage::Grad | Stage::Joint | Stage::Rounded | Stage::Tiled) => (&[LOSS_MEAN], Goal::Gradient(LOSS_MEAN)),
        _ => {
            let known = graph.outputs.join(", ");
            let (wanted, what) = match args.stage {
                Stage::Grad | Stage::Joint | Stage::Rounded | Stage::Tiled => (format!("{LOSS_SUM} or {LOSS_MEAN}"), "gradient"),
                _ => (LOSS_SUM.to_string(), "step of training"),
            };
            return Err(Error(format!("the program has no result {wanted}, so there is no {what}; it has {known}")));
        }
    };
    let stages = compile(&graph.keep_outputs(kept), goal, &options)?;
    header(&stages.reports, if matches!(args.stage, Stage::Kernels | Stage::Plan) { Format::Json } else { args.format });
    match args.stage {
        Stage::Built | Stage::Fused => unreachable!("shown above"),
        Stage::Grad => show(stages.grad.as_ref().expect("a loss has a gradient"), args.format),
        Stage::Joint => show(stages.joint.as_ref().expect("a loss has a gradient"), args.format),
        Stage::Rounded => show(&stages.rounded, args.format),
        Stage::Tiled => show(&stages.tiled, args.format),
        Stage::Step => show(stages.last(), args.format),
        Stage::Kernels | Stage::Plan => lowered(args, stages.last()),
    }
}

/// A program's kernels, or where its buffers live.
fn lowered(args: &Args, graph: &Graph) -> Result<()> {
    let target = target(args.target, graph)?;
    let program = Program::new(graph, &target);
    program.within(args.compile.options(args.precision, target.machine()).budget)?;
    if args.stage == Stage::Kernels {
        return kernels(&program, args.target);
    }
    say!("{}", program.plan_text());
    Ok(())
}

/// Graphics processors for dumps: kernels are the same on every machine.
const GPU: Gpu = Gpu { processors: 64, shared: 32 << 10, tensor: false, hopper: false };
const NVIDIA: Gpu = Gpu { processors: 132, shared: 227 << 10, tensor: true, hopper: true };

/// What a graph's kernels are lowered for, where this build can.
#[allow(unused_variables)]
fn target(printed: Printed, graph: &Graph) -> Result<Target> {
    match printed {
        Printed::Gpu | Printed::Wgsl => Ok(Target::Gpu(GPU)),
        Printed::Cuda => Ok(Target::Gpu(NVIDIA)),
        #[cfg(feature = "llvm")]
        Printed::Kernel | Printed::Llvm => Ok(Target::Cpu(eggcorn::codegen::llvm::target_for(graph))),
        #[cfg(not(feature = "llvm"))]
        Printed::Kernel | Printed::Llvm => Err(Error("this build knows no processor: build with --features llvm, or add --target gpu".into())),
    }
}

fn kernels(program: &Program, printed: Printed) -> Result<()> {
    if matches!(printed, Printed::Kernel | Printed::Gpu) {
        say!("{program}");
        return Ok(());
    }
    let offsets = program.aligned(256);
    for ((spec, kernel), aligned) in program.specs.iter().zip(&program.kernels).zip(&offsets) {
        let comment = if printed == Printed::Llvm { ";" } else { "//" };
        let spec = spec.to_string().lines().map(|l| format!("{comment} {l}\n")).collect::<String>();
        say!("{spec}{}", text(kernel, aligned, printed)?);
    }
    Ok(())
}

/// A kernel as its toolchain reads it.
#[allow(unused_variables)]
fn text(kernel: &Kernel, aligned: &[bool], printed: Printed) -> Result<String> {
    match printed {
        #[cfg(feature = "llvm")]
        Printed::Llvm => Ok(eggcorn::codegen::llvm::text(kernel, &eggcorn::codegen::llvm::host().target)?),
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        Printed::Wgsl | Printed::Cuda => {
            use eggcorn::codegen::gpu::{Dialect, Source};
            let dialect = if printed == Printed::Wgsl { Dialect::Wgsl } else { Dialect::Cuda };
            Ok(Source::new(kernel, &aligned.iter().map(|a| !a).collect::<Vec<_>>(), dialect).text()?)
        }
        #[allow(unreachable_patterns)]
        _ => Err(Error("this build does not print that text: build with --features llvm,wgpu,cuda".into())),
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
        Format::Svg => say!("{}", report::alone(graph).trim_end()),
    }
    Ok(())
}
