//! `eggcorn run`: a model on tensors from files.

use super::options::{DeviceArgs, ModelArgs};
use super::say;
use eggcorn::ir::names::{LOSS_MEAN, LOSS_SUM};
use eggcorn::llm::{Error, Mode, Models, Objective, Precision, Result, load_weights, read_ids, serialize, write_file};
use eggcorn::passes::{Opt, lower_precision, mean_loss, optimize};
use eggcorn::runtime::Session;
use std::path::PathBuf;

/// Run a model on tensors from files and write its results.
#[derive(clap::Args)]
#[command(
    after_help = "The input file holds input_ids and labels, I64 of shape [B,T], labels already shifted.\nThe result holds logits, loss and, with --grad, grad.<parameter>.\n\nExample:\n  eggcorn run gpt2 --weights w.safetensors --input in.safetensors --out out.safetensors --grad --set n_layer=3"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The weights, under Hugging Face's names.
    #[arg(long)]
    weights: PathBuf,
    /// input_ids and labels.
    #[arg(long)]
    input: PathBuf,
    /// Where results go.
    #[arg(long)]
    out: PathBuf,
    /// Also the gradient of the loss by every parameter.
    #[arg(long)]
    grad: bool,
    /// How much to rewrite: off, greedy or egg.
    #[arg(long, default_value = "egg")]
    opt: Opt,
    /// What products are computed in: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let model = args.model.model(models)?;
    let read = |path: &PathBuf| std::fs::read(path).map_err(|e| Error(format!("{}: the file cannot be read: {e}", path.display())));
    let input = read(&args.input)?;
    let (shape, ids) = read_ids(&input, &args.input, "input_ids")?;
    let (label_shape, labels) = read_ids(&input, &args.input, "labels")?;
    let [batch, seq] = shape[..] else { return Err(Error(format!("{}: input_ids has shape {shape:?}, expected [B,T]", args.input.display()))) };
    if label_shape != shape || batch == 0 || seq == 0 || seq > model.context() {
        return Err(Error(format!(
            "{}: input_ids {shape:?} and labels {label_shape:?} must be alike, not empty, and at most {} long",
            args.input.display(),
            model.context()
        )));
    }
    if let Some(bad) = ids.iter().find(|i| !(0..model.vocab_size() as i32).contains(i)) {
        return Err(Error(format!("{}: input_ids holds {bad}, and the vocabulary is 0..{}", args.input.display(), model.vocab_size())));
    }
    let graph = Objective::NextToken.bound(&model, Mode::Evaluate, batch, seq)?;
    let stages = optimize(&graph, args.grad.then_some(LOSS_SUM), args.opt)?;
    let program = mean_loss(&lower_precision(stages.last(), args.precision.dtype()))?;
    let mut session = Session::new(&program, args.device.open()?)?;
    load_weights(&mut session, &read(&args.weights)?, &args.weights, &|_| true)?;
    session.set_i32("input_ids", &ids)?;
    session.set_i32("labels", &labels)?;
    session.run().map_err(|e| Error(e.to_string()))?;
    let mut tensors = vec![];
    for (name, ty) in &session.program().outputs {
        let block = session.output(name).expect("it is listed");
        let sizes = ty.sizes();
        if !name.contains("{}") {
            tensors.push((name.clone(), sizes, &block.bytes()[..ty.bytes()]));
            continue;
        }
        let n = ty.bytes() / sizes[0];
        for i in 0..sizes[0] {
            tensors.push((name.replacen("{}", &i.to_string(), 1), sizes[1..].to_vec(), &block.bytes()[i * n..(i + 1) * n]));
        }
    }
    write_file(&args.out, &serialize(&tensors, None)?)?;
    say!("loss {}; {} tensors in {}", session.output(LOSS_MEAN).expect("the program has a loss").f32s()[0], tensors.len(), args.out.display());
    Ok(())
}
