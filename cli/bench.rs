//! `eggcorn bench`: speed and memory, with the ceiling measured beside.

use super::options::{AdapterArgs, CompileArgs, DeviceArgs, ModelArgs, Sizes, mebibytes};
use super::source::{DimArgs, Source};
use super::{bench_data, bench_dedup, bench_generate, bench_kernels, bench_logging, bench_run, note, say};
use eggcorn::ir::Graph;
use eggcorn::llm::{
    Batch, Config, Error, Evaluation, Mode, Models, Objective, Precision, Result, TrainConfig, Values, initialise, random, step_flops, step_program,
};
use eggcorn::models::Model;
use eggcorn::runtime::limits::{resident, resident_peak};
use eggcorn::runtime::{Device, Fault, Session};
use std::path::PathBuf;
use std::time::Instant;

/// Measure speed and memory.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn bench train gpt2 --batch 1 --seq 1024 --threads 2 --json\n  eggcorn bench train llama --batch 4 --seq 256 --opt off\n  eggcorn bench kernels gpt2 --precision bf16\n  eggcorn bench train gpt2 --steps 1 --evaluate\n  eggcorn bench train gpt2 --data corpus/ --steps 20\n  eggcorn bench generate gpt2 --steps 50\n  eggcorn bench generate gpt2 --depth 512 --batch 8\n  eggcorn bench run program.ir --dim S=128 --steps 20\n  eggcorn bench train gpt2 --device cuda --precision bf16 --batch 16 --seq 1024\n  eggcorn bench ops --device cuda --steps 20\n  eggcorn bench logging --steps 200\n  eggcorn bench dedup --corpus 1GiB --memory 512MiB"
)]
pub struct Args {
    /// What to measure.
    #[arg(value_enum)]
    what: What,
    /// The model, or for run a file of a program; the first model there is, unless said.
    model: Option<String>,
    /// Change a setting of the model, as in --set n_layer=2.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    pub sizes: Sizes,
    #[command(flatten)]
    dims: DimArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Steps, tokens or runs measured, after those that are not.
    #[arg(long, default_value_t = 5)]
    pub steps: usize,
    /// Generate after a prompt of so many tokens, which is read in chunks.
    #[arg(long, default_value_t = 0)]
    pub depth: usize,
    /// Train on tokens of this prepared folder, too, in turn with steps on tokens that are there already.
    #[arg(long, value_name = "DIR", conflicts_with = "evaluate")]
    data: Option<PathBuf>,
    /// After the training steps also evaluate a batch with the same weights, and count its memory.
    #[arg(long)]
    evaluate: bool,
    /// Of a program that is run also the gradient of its loss by every parameter.
    #[arg(long)]
    pub grad: bool,
    #[command(flatten)]
    pub compile: CompileArgs,
    /// What a training step's products are computed in: f32 or bf16.
    #[arg(long, default_value = "f32")]
    pub precision: Precision,
    #[command(flatten)]
    dedup: bench_dedup::DedupArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// The training step: forward, backward, clip, AdamW.
    Train,
    /// The same kernel by kernel, each beside the least that it could take.
    Kernels,
    /// One token after another of each row, keys and values kept.
    Generate,
    /// A program from a file of IR text, or a model's loss, on random numbers.
    Run,
    /// Kernels that memory bounds, against a copy; of no model.
    Ops,
    /// Planted duplicates of documents: how many are found, how fast; of no model.
    Dedup,
    /// What it costs a step that it is recorded and shown; of shakespeare-char, unless a model is named.
    Logging,
}

impl Args {
    fn source(&self, models: &Models) -> Result<Source> {
        let model = self.model.clone().unwrap_or_else(|| models.names()[0].into());
        ModelArgs { model, set: self.set.clone(), adapters: AdapterArgs::default() }.source(models)
    }

    /// The model that is to be trained or to write.
    fn model(&self, models: &Models) -> Result<Model> {
        self.only_run()?;
        match self.source(models)? {
            Source::Model(model) => Ok(model),
            Source::Text(text) => Err(Error(format!("{0} is a program, and no model; try eggcorn bench run {0}", text.path))),
        }
    }

    /// Refuses what only `run` knows.
    fn only_run(&self) -> Result<()> {
        self.dims.none_for_a_model()?;
        if self.grad { Err(Error("--grad: it is bench run that takes it; a step of training has its gradients".into())) } else { Ok(()) }
    }

    /// What `run` measures: the program with its dims bound, and its name.
    pub fn program(&self, models: &Models) -> Result<(Graph, String)> {
        match self.source(models)? {
            Source::Model(model) => {
                self.dims.none_for_a_model()?;
                let (batch, seq) = self.sizes.of(&model)?;
                let graph = Objective::of(&model).bound(&model, Mode::Evaluate, batch, seq)?;
                Ok((graph, format!("{} {batch} × {seq}", model.name())))
            }
            Source::Text(text) => Ok((text.bound(&self.dims, &|name| self.sizes.named(name))?, text.path)),
        }
    }
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    match args.what {
        What::Kernels => train(args, args.model(models)?),
        What::Train => match &args.data {
            Some(dir) => bench_data::run(args, dir, args.model(models)?),
            None => train(args, args.model(models)?),
        },
        What::Generate => bench_generate::run(args, args.model(models)?),
        What::Run => bench_run::run(args, models),
        What::Logging => {
            let model = args.model.as_ref().map(|_| args.model(models)).transpose()?;
            bench_logging::run(args, model, models)
        }
        What::Ops => {
            args.only_run()?;
            super::bench_ops::run(&args.device.open()?, args.steps, args.json)
        }
        What::Dedup => {
            args.only_run()?;
            bench_dedup::run(&args.dedup, args.device.threads()?, args.json)
        }
    }
}

fn train(args: &Args, model: Model) -> Result<()> {
    let (batch, seq) = args.sizes.of(&model)?;
    let train = TrainConfig { batch, context: seq, precision: args.precision, ..TrainConfig::default() };
    let before = resident();
    let start = Instant::now();
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, args.precision)?;
    let config = Config { train, ..Config::of(model.clone()) };
    let stages = step_program(&config, &options)?;
    stages.notices().iter().for_each(|n| note!("notice: {n}"));
    let optimised = start.elapsed();
    let mut session = Session::within(stages.last(), device.clone(), options.budget)?;
    let compiled = start.elapsed();
    let mut planned = session.bytes();
    initialise(&mut session, &model, 1)?;
    let rows = tokens(&model, batch, seq);
    rows.columns.iter().try_for_each(|column| session.set_i32(column.name, rows.i32s(column.name)))?;
    if let What::Kernels = args.what {
        session.set_f32("lr", &[1e-4])?;
        session.set_f32("step", &[1.0])?;
        return bench_kernels::run(args, &device, &mut session, &format!("{} {batch} × {seq}", model.name()));
    }
    let (mut seconds, mut peaks) = timed(args, &device, &mut session)?;
    if args.evaluate {
        let mut evaluation = Evaluation::new(&config, device.clone(), &options, &session)?;
        planned += evaluation.bytes();
        evaluation.mean_loss([Ok(rows)])?;
    }
    let added = resident_peak().saturating_sub(before);
    let took = Took { seconds: spread(&mut seconds), peak: (!peaks.is_empty()).then(|| spread(&mut peaks).0) };
    let flops = step_flops(&model, batch, seq)?;
    let (median, tokens) = (took.seconds.0, (batch * seq) as f64);
    if args.json {
        let (_, fastest, slowest) = took.seconds;
        let line = serde_json::json!({
            "model": model.name(), "batch": batch, "seq": seq, "device": device.describe(), "opt": args.compile.opt.to_string(),
            "tokens_per_second": tokens / median, "seconds": {"median": median, "min": fastest, "max": slowest, "steps": args.steps},
            "gflops": flops / median / 1e9, "fma_peak_gflops": took.peak.map(|p| p / 1e9), "share_of_peak": took.peak.map(|p| flops / median / p),
            "planned_bytes": planned, "added_bytes": added, "param_bytes": session.program().param_bytes(), "optimise_seconds": optimised.as_secs_f64(),
            "compile_seconds": (compiled - optimised).as_secs_f64(), "kernels": session.program().kernels.len(), "kernels_cached": session.cached,
        });
        say!("{line}");
        return Ok(());
    }
    say!("{} {batch} × {seq}, {}, --opt {}", model.name(), device.describe(), args.compile.opt);
    say!("  optimise   {:.3} s", optimised.as_secs_f64());
    let (kernels, cached) = (session.program().kernels.len(), session.cached);
    say!("  compile    {:.3} s, {kernels} kernels, {cached} of them cached", (compiled - optimised).as_secs_f64());
    took.say(args.steps, tokens, flops);
    say!("  memory     {} planned, {} added to the process", mebibytes(planned), mebibytes(added));
    Ok(())
}

/// What steps took: the median, the least and the greatest; and what the device could do at best, where that was measured.
struct Took {
    seconds: (f64, f64, f64),
    peak: Option<f64>,
}

impl Took {
    fn say(&self, steps: usize, tokens: f64, flops: f64) {
        let (median, fastest, slowest) = self.seconds;
        say!("  step       {median:.3} s median of {steps}, {fastest:.3} to {slowest:.3}");
        let of_peak = |p: f64| format!(", {:.0} % of {:.0} GFLOP/s measured between the steps", 100.0 * flops / median / p, p / 1e9);
        say!("  speed      {:.0} tokens/s, {:.0} GFLOP/s{}", tokens / median, flops / median / 1e9, self.peak.map_or(String::new(), of_peak));
    }
}

/// A batch of any tokens.
fn tokens(model: &Model, batch: usize, seq: usize) -> Batch {
    let token = |i: usize| (random(7, i as u64) % model.vocab_size() as u64) as i32;
    let ids = |first: usize| Values::I32((first..first + batch * seq).map(token).collect());
    let with = |all: Batch, (first, name): (usize, &&'static str)| all.with(name, &[batch, seq], ids(first));
    Objective::of(model).columns().iter().enumerate().fold(Batch::default(), with)
}

/// The seconds of each step behind a first one, and what the device could do between them.
fn timed(args: &Args, device: &Device, session: &mut Session) -> Result<(Vec<f64>, Vec<f64>)> {
    session.set_f32("lr", &[1e-4])?;
    session.set_f32("step", &[1.0])?;
    let fault = |e: Fault| Error(e.to_string());
    session.run().map_err(fault)?;
    let (mut seconds, mut peaks) = (vec![], vec![device.ceiling(args.precision.dtype())]);
    for step in 0..args.steps.max(1) {
        session.set_f32("step", &[(step + 2) as f32])?;
        let start = Instant::now();
        session.run().map_err(fault)?;
        seconds.push(start.elapsed().as_secs_f64());
        peaks.push(device.ceiling(args.precision.dtype()));
    }
    Ok((seconds, peaks.into_iter().flatten().collect()))
}

/// Median, least and greatest.
pub fn spread(x: &mut [f64]) -> (f64, f64, f64) {
    x.sort_by(f64::total_cmp);
    (x[x.len() / 2], x[0], x[x.len() - 1])
}
