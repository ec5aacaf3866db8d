//! `eggcorn eval`: how good a model is.

mod chart;
mod table;
mod tasks;
mod text;
mod translation;

use super::corpus::DataArg;
use super::options::{AdapterArgs, CompileArgs, DeviceArgs};
use super::{note, say};
use eggcorn::llm::evaluate::{Fill, Scorer, Task, TaskFiles};
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Error, Models, Precision, Result, initialise, load_weights};
use eggcorn::passes::State;
use std::path::PathBuf;

/// Say how good a model is, beside what chance and counting would do.
#[derive(clap::Args)]
#[command(
    after_help = "A text is read in windows of the model's context. Each token is asked once: the first window asks all it has, each further one its last\n--stride tokens, by all before them. Bits a byte are comparable whatever the tokens. n-grams are counted in the part of the text that is\nnot held out, or in --train, with 0.1 added to every count.\n\nQuestions are answered by log-probability, as lm-evaluation-harness has it. A task of one's own is a file, as in --task my.toml=file.jsonl;\ndocs/evaluation.md says what stands in it.\n\nExamples:\n  eggcorn eval runs/shakespeare --data input.txt\n  eggcorn eval runs/shakespeare --data input.txt --stride 16 --baselines\n  eggcorn eval SmolLM2-135M/ --data book.txt --train other.txt --json\n  eggcorn eval SmolLM2-135M/ --task hellaswag=hellaswag_val.jsonl --task arc=arc_easy.jsonl --limit 500 --out results\n  eggcorn eval SmolLM2-135M/ --task mmlu=mmlu/test --num-fewshot 5\n  eggcorn eval --from results/hellaswag.jsonl\n  eggcorn eval --hypotheses answers.txt --references one.txt --references two.txt"
)]
pub struct Args {
    /// The directory of the model: a run's, or Hugging Face's.
    #[arg(value_name = "DIR", required_unless_present_any = ["from", "hypotheses"])]
    directory: Option<PathBuf>,
    /// A text, a folder that was prepared, or a .bin of tokens, as train takes them; each is evaluated by itself.
    #[arg(long, value_name = "PATH", requires = "directory")]
    data: Vec<DataArg>,
    /// The share of each text, at its end, that is evaluated: as the run held out unless said, and all of it by a model that is no run's.
    /// What is prepared is split already.
    #[arg(long, value_name = "SHARE", requires = "data")]
    held_out: Option<f64>,
    /// Texts that n-grams are counted in, instead of what is not held out.
    #[arg(long, value_name = "PATH", requires = "data")]
    train: Vec<DataArg>,
    /// How many tokens each window asks; as many as the model reads unless said.
    #[arg(long, value_name = "TOKENS", requires = "data")]
    stride: Option<usize>,
    /// Questions with answers, by the name of a task or its file, and the file or folder they are in.
    #[arg(long, value_name = "TASK=PATH", requires = "directory", long_help = tasks_help())]
    task: Vec<TaskFiles>,
    /// Ask the first so many questions of each file.
    #[arg(long, value_name = "N", requires = "task")]
    limit: Option<usize>,
    /// How many examples stand before a question.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "task")]
    num_fewshot: usize,
    /// The file that examples are of, instead of the task's.
    #[arg(long, value_name = "FILE", requires = "task")]
    examples: Option<PathBuf>,
    /// Draw examples for each question by this seed, instead of the first.
    #[arg(long, value_name = "SEED", requires = "task")]
    examples_seed: Option<u64>,
    /// Also ask the same model with random weights.
    #[arg(long)]
    baselines: bool,
    /// Which random weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep what was asked and said in this folder, a line a question, with a picture.
    #[arg(long, value_name = "FOLDER", requires = "task")]
    out: Option<PathBuf>,
    /// Figures of what was kept, by this program or by lm-evaluation-harness with --log_samples.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["directory", "hypotheses"])]
    from: Option<PathBuf>,
    /// Translations, a line each, to be judged by BLEU and chrF.
    #[arg(long, value_name = "FILE", requires = "references", conflicts_with = "directory")]
    hypotheses: Option<PathBuf>,
    /// What they should be, a line each; several files for several references.
    #[arg(long, value_name = "FILE", requires = "hypotheses")]
    references: Vec<PathBuf>,
    /// Tokens that are read at once.
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    batch: usize,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// A tokenizer where the directory has none: tokenizer.json, or another that train takes.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Take the averages of the weights, of a run with train.ema.
    #[arg(long, requires = "directory")]
    ema: bool,
    /// Print the figures as JSON, a line a result.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

/// The help of --task.
pub fn tasks_help() -> String {
    let tasks: String = Task::all().iter().map(|(name, about)| format!("\n  {name:12}{about}")).collect();
    format!("Questions with answers, by the name of a task or its file, and the file or folder they are in{tasks}")
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    if let Some(path) = &args.hypotheses {
        return translation::run(args, path);
    }
    if let Some(path) = &args.from {
        return tasks::stored(args, path);
    }
    let Some(path) = args.directory.as_ref().filter(|_| !(args.data.is_empty() && args.task.is_empty())) else {
        return Err(Error("there is nothing to evaluate: name a text with --data, or questions with --task, as in --task arc=arc_easy.jsonl".into()));
    };
    let directory = args.adapters.beside(Directory::open(path, models)?.averaged(args.ema), models)?;
    if !args.data.is_empty() {
        text::run(args, &directory, models)?;
    }
    if args.task.is_empty() { Ok(()) } else { tasks::run(args, &directory) }
}

/// A directory's model, with its weights or with random ones.
fn scorer<'a>(args: &'a Args, directory: &'a Directory, random: bool) -> Result<Scorer<'a>> {
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, Precision::F32)?;
    let fill: Fill = if random {
        Box::new(|session| initialise(session, directory.model(), args.seed))
    } else {
        // what is missing is said before anything is compiled
        let tensors = directory.tensors()?;
        Box::new(move |session| {
            let unread = load_weights(&mut [session], &tensors, &|name| State::parse(name).is_parameter())?;
            if !directory.is_run() {
                unread.iter().for_each(|notice| note!("notice: {notice}"));
            }
            Ok(())
        })
    };
    if args.batch == 0 {
        return Err(Error("--batch 0: at least one token is read at once".into()));
    }
    Scorer::new(directory.model(), device, &options, args.batch, fill)
}
