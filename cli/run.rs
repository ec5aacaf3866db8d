//! `eggcorn run`: a model, or a program from a file of IR text, on tensors from files.

use super::options::{CompileArgs, DeviceArgs, ModelArgs};
use super::source::{DimArgs, Source, Text};
use super::{note, say};
use eggcorn::ir::names::{LOSS_COUNT, LOSS_MEAN, LOSS_SUM, new_value_of};
use eggcorn::ir::{Env, Graph, Type, eval};
use eggcorn::llm::hub::{Directory, Labels};
use eggcorn::llm::named::{self, Tensors};
use eggcorn::llm::{Error, Models, Objective, Precision, Result, write_file};
use eggcorn::models::Model;
use eggcorn::passes::{Goal, Opt, compile, mean_loss};
use eggcorn::runtime::Session;
use std::path::{Path, PathBuf};

/// Run a model, or a program from a file of IR text, on tensors from files and write its results.
#[derive(clap::Args)]
#[command(
    after_help = "The input file holds the program's inputs by name: of a model input_ids and, for the loss, labels, I64 of shape [B,T], of those that\nguess what follows already shifted, -100 where a position is not asked; of some also attention_mask, which is 1 where there is a token,\ntoken_type_ids, or decoder_input_ids. Parameters are read from --weights and the input file.\nThe file of results holds them by name: of a model logits, what else it says, loss and, with --grad, grad.<parameter>; new values of state have the\nstate's names. A program with loss.sum and loss.count is run as a model is: its loss and gradients are those of the mean.\n\nExamples:\n  eggcorn run gpt2 --weights w.safetensors --input in.safetensors --out out.safetensors --grad --set n_layer=3\n  eggcorn run SmolLM2-135M/ --input in.safetensors --out out.safetensors\n  eggcorn run program.ir --input in.safetensors --out out.safetensors --eval"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    dims: DimArgs,
    /// The parameters, under Hugging Face's names; of a directory its own unless said.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// The inputs, and parameters that are not in --weights.
    #[arg(long)]
    input: PathBuf,
    /// Where results go.
    #[arg(long)]
    out: PathBuf,
    /// Also the gradient of the loss by every parameter.
    #[arg(long)]
    grad: bool,
    /// Evaluate the program in 64 bits by its reference meaning, as it is written, instead of compiling it.
    #[arg(long)]
    eval: bool,
    #[command(flatten)]
    compile: CompileArgs,
    /// What products are computed in: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    device: DeviceArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let (source, directory) = (args.model.source(models)?, args.model.directory(models)?);
    let input = Tensors::open(&args.input)?;
    let head = directory.as_ref().and_then(Directory::labels).map(Labels::head);
    let graph = match &source {
        Source::Model(model) => {
            args.dims.none_for_a_model()?;
            let objective = head.map_or_else(|| Objective::of(model), Objective::Classes);
            model_program(model, objective, &input, &args.input)?
        }
        Source::Text(text) => text_program(text, &args.dims, &input)?,
    };
    let inputs = graph.inputs.iter().zip(graph.main().inputs()).map(|(name, ty)| Ok((name.clone(), ty.clone(), input.expect(name, &ty)?)));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    if let Source::Model(model) = &source {
        let labels = head.map_or(model.vocab_size(), |head| head.classes);
        check_ids(model.vocab_size(), labels, &inputs, &args.input)?;
    }
    let weights = match (&args.weights, directory) {
        (Some(path), _) => Some(Tensors::open(path)?),
        (None, directory) => directory.map(|d| d.tensors()).transpose()?,
    };
    let params = graph.params().into_iter().map(|(name, ty)| {
        let bytes = parameter(weights.as_ref(), &input, &name, &ty)?;
        Ok((name.to_string(), ty, bytes))
    });
    let params = params.collect::<Result<Vec<_>>>()?;
    for file in weights.iter().chain([&input]) {
        file.check_all_read()?.iter().for_each(|notice| note!("notice: {notice}"));
    }
    let results = if args.eval { evaluated(args, &graph, inputs, params)? } else { compiled(args, &graph, inputs, params)? };
    let (content, n) = named::results(&results)?;
    write_file(&args.out, &content)?;
    let loss =
        results.iter().find(|r| r.0 == LOSS_MEAN && r.1.is_scalar()).map(|(_, ty, bytes)| format!("loss {}; ", named::value(bytes, ty).data[0]));
    say!("{}{n} tensors in {}", loss.unwrap_or_default(), args.out.display());
    Ok(())
}

/// A parameter: of the weights, or else of the input file.
fn parameter(weights: Option<&Tensors>, input: &Tensors, name: &str, ty: &Type) -> Result<Vec<u8>> {
    let found = weights.map(|w| w.get(name, ty)).transpose()?.flatten();
    let found = if found.is_some() { found } else { input.get(name, ty)? };
    found.map_or_else(|| weights.unwrap_or(input).expect(name, ty), Ok)
}

/// The program of a model for tokens of the shapes that the input file has, and for those of the columns it may read that are there. Without
/// labels there is no loss.
fn model_program(model: &Model, objective: Objective, input: &Tensors, path: &Path) -> Result<Graph> {
    let there = |name: &&&str| input.shape(name).is_some();
    let asked = objective.columns().iter().filter(|name| **name != "labels" || there(name));
    let columns: Vec<&str> = asked.chain(objective.optional().iter().filter(there)).copied().collect();
    let missing = |name: &str| Error(format!("{}: a tensor is missing: {name}, of type I64", path.display()));
    let shapes: Vec<Vec<usize>> = columns.iter().map(|name| input.shape(name).ok_or_else(|| missing(name))).collect::<Result<_>>()?;
    let shape_of = |source: bool| columns.iter().position(|c| objective.is_source(c) == source).map(|i| shapes[i].clone());
    let (tokens, source) = (shape_of(false).expect("tokens are always read"), shape_of(true));
    let alike = |(name, shape): (&&str, &Vec<usize>)| match () {
        () if objective.is_of_row(name) => *shape == [tokens[0], 1],
        () if objective.is_source(name) => source.as_ref() == Some(shape),
        () => *shape == tokens,
    };
    let fits = |shape: &Vec<usize>| shape.len() == 2 && shape[0] == tokens[0] && (1..=model.context()).contains(&shape[1]);
    if !columns.iter().zip(&shapes).all(alike) || ![Some(&tokens), source.as_ref()].into_iter().flatten().all(fits) || tokens[0] == 0 {
        let each: Vec<String> = columns.iter().zip(&shapes).map(|(name, shape)| format!("{name} {shape:?}")).collect();
        let (each, context) = (each.join(" and "), model.context());
        return Err(Error(format!("{}: {each} must be alike, of shape [B,T], not empty, and at most {context} long", path.display())));
    }
    Ok(objective.results(model, &columns)?.bind(&|s| match s {
        'B' => Some(tokens[0] as u64),
        'T' => Some(tokens[1] as u64),
        'S' => source.as_ref().map(|s| s[1] as u64),
        _ => None,
    })?)
}

/// The program of a text, its dims bound as `--dim` says or as its inputs are in the file.
fn text_program(text: &Text, dims: &DimArgs, input: &Tensors) -> Result<Graph> {
    let inputs = text.graph.inputs.iter().cloned().zip(text.graph.main().inputs());
    let params = text.graph.params().into_iter().map(|(name, ty)| (name.to_string(), ty));
    let tensors: Vec<(Type, Vec<usize>)> = inputs.chain(params).filter_map(|(name, ty)| Some((ty, input.shape(&name)?))).collect();
    let known = |name: char| {
        let named = eggcorn::ir::Dim::sym(name);
        tensors.iter().find_map(|(ty, shape)| ty.dims.iter().zip(shape).find(|(d, _)| **d == named).map(|(_, n)| *n as u64))
    };
    text.bound(dims, &known)
}

/// The label of a position that is not asked, as PyTorch has it.
const IGNORED: f64 = -100.0;

/// Ids are of the vocabulary, and a label, of which there are so many, may also say that its position is not asked.
fn check_ids(vocabulary: usize, labels: usize, inputs: &[(String, Type, Vec<u8>)], path: &Path) -> Result<()> {
    let others = ["attention_mask", "token_type_ids", "label_weights"];
    for (name, ty, bytes) in inputs.iter().filter(|i| !others.contains(&i.0.as_str())) {
        let asked = name == "labels";
        let range = 0.0..if asked { labels } else { vocabulary } as f64;
        let wrong = named::value(bytes, ty).data.into_iter().find(|x| !(range.contains(x) || asked && *x == IGNORED));
        if let Some(x) = wrong {
            let or = if asked { ", or -100 for a position that is not asked" } else { "" };
            let what = if asked && labels != vocabulary { "there are the classes" } else { "the vocabulary is" };
            return Err(Error(format!("{}: {name} holds {x}, and {what} 0..{}{or}", path.display(), range.end)));
        }
    }
    Ok(())
}

/// What is wanted of a program: of one that has a sum and a count for its loss, the mean instead.
pub fn goal(graph: &Graph, grad: bool) -> Result<Goal<'static>> {
    let has = |name: &str| graph.outputs.iter().any(|o| o == name);
    match (has(LOSS_SUM) && has(LOSS_COUNT), grad) {
        (true, true) => Ok(Goal::MeanGradient),
        (true, false) => Ok(Goal::Mean),
        (false, false) => Ok(Goal::Results),
        (false, true) => match [LOSS_SUM, LOSS_MEAN].into_iter().find(|name| has(name)) {
            Some(loss) => Ok(Goal::Gradient(loss)),
            None => Err(Error(format!("--grad: the program has no result {LOSS_SUM} or {LOSS_MEAN}; it has {}", graph.outputs.join(", ")))),
        },
    }
}

type Named = Vec<(String, Type, Vec<u8>)>;

/// The results by the reference meaning, in 64 bits.
fn evaluated(args: &Args, graph: &Graph, inputs: Named, params: Named) -> Result<Named> {
    let goal = goal(graph, args.grad)?;
    let stages = compile(graph, goal, &Opt::Off.into())?;
    let written = stages.grad.unwrap_or_else(|| graph.clone());
    let written = if matches!(goal, Goal::Mean | Goal::MeanGradient) { mean_loss(&written)? } else { written };
    let env: Env = inputs.iter().chain(&params).map(|(name, ty, bytes)| (name.clone(), named::value(bytes, ty))).collect();
    let mut values = eval(&written, &env)?;
    let one = |(name, ty): (&String, Type)| {
        let value = values.remove(name).ok_or_else(|| Error(format!("result {name} was not evaluated")))?;
        Ok((name.clone(), ty.clone(), named::bytes(&value, ty.dtype)))
    };
    written.outputs.iter().zip(written.main().outputs()).map(one).collect()
}

/// The results of compiled code.
fn compiled(args: &Args, graph: &Graph, inputs: Named, params: Named) -> Result<Named> {
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, args.precision)?;
    let stages = compile(graph, goal(graph, args.grad)?, &options)?;
    let mut session = Session::within(stages.last(), device, options.budget)?;
    for (name, _, bytes) in &inputs {
        session.set_input(name, bytes)?;
    }
    let read: Vec<String> = session.params().map(|p| p.0.to_string()).collect();
    for (name, _, bytes) in params.iter().filter(|p| read.contains(&p.0)) {
        session.set_param(name, bytes)?;
    }
    session.run().map_err(|e| Error(e.to_string()))?;
    let one = |(name, ty): &(String, Type)| {
        let bytes = match (session.output(name), new_value_of(name)) {
            (Some(block), _) => block.bytes()[..ty.bytes()].to_vec(),
            (None, Some(path)) => session.param(path)?[..ty.bytes()].to_vec(),
            (None, None) => return Err(Error(format!("result {name} was not computed"))),
        };
        Ok((name.clone(), ty.clone(), bytes))
    };
    session.program().outputs.iter().map(one).collect()
}
