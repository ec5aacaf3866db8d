//! `eggcorn predict`: which class each text of a file is of.

use super::options::{CompileArgs, DeviceArgs, read_input, tokenizer};
use super::say;
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Classifier, Error, Models, Precision, Result};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Say which class each text of a file is of, with a model that finetune classify has trained, or one of Hugging Face's with such a head.
#[derive(clap::Args)]
#[command(
    after_help = "What comes out is a class, a tab and its probability a line; with --json an object with the probability of every class.\n\nExamples:\n  eggcorn predict runs/spam messages.txt\n  echo 'You have won a prize!' | eggcorn predict runs/spam - --json\n  eggcorn predict runs/spam reviews.jsonl --field body"
)]
pub struct Args {
    /// The directory of the model: a run's, or Hugging Face's.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The texts, a line each, or of a name that ends in .jsonl an object each; - for standard input.
    input: PathBuf,
    /// The field of an object with the text; lines of standard input are objects, too, where this is said.
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
    /// Print an object a line, with the probability of every class.
    #[arg(long)]
    json: bool,
    /// Texts at a time.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// A tokenizer where the directory has none: tokenizer.json, or another that train takes.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

/// Texts that are read before anything is printed.
const BLOCK: usize = 1024;

pub fn run(args: &Args, models: &Models) -> Result<()> {
    if args.batch == 0 {
        return Err(Error("--batch must be at least 1".into()));
    }
    let directory = Directory::open(&args.directory, models)?;
    let tokenizer = tokenizer(&directory, args.tokenizer.as_deref())?;
    let texts = texts(args)?;
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, Precision::F32)?;
    let mut classifier = Classifier::open(&directory, device, &options, args.batch.min(texts.len().max(1)))?;
    for block in texts.chunks(BLOCK) {
        let block: Vec<&str> = block.iter().map(String::as_str).collect();
        for probabilities in classifier.probabilities(&tokenizer, &block)? {
            show(&classifier.labels().classes, &probabilities, args.json);
        }
    }
    Ok(())
}

fn show(classes: &[String], probabilities: &[f64], json: bool) {
    let best = (1..probabilities.len()).fold(0, |best, i| if probabilities[i] > probabilities[best] { i } else { best });
    let (label, probability) = (&classes[best], probabilities[best]);
    if json {
        let all: Map<String, Value> = classes.iter().cloned().zip(probabilities.iter().map(|p| Value::from(*p))).collect();
        say!("{}", json!({"label": label, "probability": probability, "probabilities": all}));
    } else {
        say!("{label}\t{probability:.4}");
    }
}

/// The texts of the input.
fn texts(args: &Args) -> Result<Vec<String>> {
    let (path, text) = (&args.input, read_input(&args.input)?);
    let objects = args.field.is_some() || path.extension().is_some_and(|e| e == "jsonl" || e == "ndjson");
    let field = args.field.as_deref().unwrap_or("text");
    let one = |(i, line): (usize, &str)| {
        if !objects {
            return Ok(line.to_string());
        }
        let fail = |why: String| Error(format!("{}:{}: {why}", path.display(), i + 1));
        let value: Value = serde_json::from_str(line).map_err(|e| fail(format!("this is no JSON: {e}")))?;
        let none = || fail(format!("the object has no text {field:?}; try --field with the name of another"));
        value[field].as_str().map(String::from).ok_or_else(none)
    };
    text.lines().enumerate().filter(|(_, line)| !objects || !line.trim().is_empty()).map(one).collect()
}
