//! `eggcorn eval`: how good a model is.

mod table;
mod text;

use super::corpus::DataArg;
use super::options::{CompileArgs, DeviceArgs};
use super::{note, say};
use eggcorn::llm::evaluate::{Fill, Scorer};
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Error, Models, Precision, Result, initialise, load_weights};
use eggcorn::passes::State;
use std::path::PathBuf;

/// Say how good a model is, beside what chance and counting would do.
#[derive(clap::Args)]
#[command(
    after_help = "A text is read in windows of the model's context. Each token is asked once: the first window asks all it has, each further one its last\n--stride tokens, by all before them. Bits a byte are comparable whatever the tokens. n-grams are counted in the part of the text that is\nnot held out, or in --train, with 0.1 added to every count.\n\nExamples:\n  eggcorn eval runs/shakespeare --data input.txt\n  eggcorn eval runs/shakespeare --data input.txt --stride 16 --baselines\n  eggcorn eval SmolLM2-135M/ --data book.txt --train other.txt --json"
)]
pub struct Args {
    /// The directory of the model: a run's, or Hugging Face's.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A text, a folder that was prepared, or a .bin of tokens, as train takes them; each is evaluated by itself.
    #[arg(long, value_name = "PATH", required = true)]
    data: Vec<DataArg>,
    /// The share of each text, at its end, that is evaluated: as the run held out unless said, and all of it by a model that is no run's.
    /// What is prepared is split already.
    #[arg(long, value_name = "SHARE")]
    held_out: Option<f64>,
    /// Texts that n-grams are counted in, instead of what is not held out.
    #[arg(long, value_name = "PATH")]
    train: Vec<DataArg>,
    /// How many tokens each window asks; as many as the model reads unless said.
    #[arg(long, value_name = "TOKENS")]
    stride: Option<usize>,
    /// Also ask the same model with random weights.
    #[arg(long)]
    baselines: bool,
    /// Which random weights.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tokens that are read at once.
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    batch: usize,
    /// A tokenizer where the directory has none: tokenizer.json, or another that train takes.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Print the figures as JSON, a line a text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let directory = Directory::open(&args.directory, models)?;
    text::run(args, &directory, models)
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
