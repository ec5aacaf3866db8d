//! `eggcorn embed`: a vector for each line of a text.

use super::options::{AdapterArgs, CompileArgs, DeviceArgs, read_input, tokenizer};
use super::output::print;
use super::say;
use eggcorn::llm::embed::{Embedder, Embedding, Pooling, ids_of};
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Error, Models, Precision, Result, write_file};
use std::path::{Path, PathBuf};

/// Make a vector of each line of a text with an encoder, such as a sentence encoder.
#[derive(clap::Args)]
#[command(
    after_help = "Pooling, length and norm are what the directory says, as sentence-transformers writes it (modules.json, 1_Pooling/config.json,\nsentence_bert_config.json); the mean of all tokens where it says nothing.\n\nExamples:\n  eggcorn embed all-MiniLM-L6-v2/ --input lines.txt --out embeddings.npy\n  eggcorn embed all-MiniLM-L6-v2/ --input - --pooling cls --normalize < lines.txt"
)]
pub struct Args {
    /// The directory of the model: a run's, or Hugging Face's.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// The text, of which each line is one of its own; - for standard input.
    #[arg(long)]
    input: PathBuf,
    /// Where vectors go: a file whose name ends in .safetensors, .npy or .jsonl; standard output, a line a vector, unless said.
    #[arg(long)]
    out: Option<PathBuf>,
    /// What becomes of a text's tokens: mean, cls or last.
    #[arg(long)]
    pooling: Option<Pooling>,
    /// Give each vector length 1.
    #[arg(long)]
    normalize: bool,
    /// Read at most so many tokens of a line, those around it among them.
    #[arg(long, value_name = "TOKENS")]
    max_length: Option<usize>,
    /// Lines at a time.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// A tokenizer where the directory has none: tokenizer.json, or another that train takes.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

/// How a file holds vectors.
#[derive(Clone, Copy)]
enum Form {
    Safetensors,
    Npy,
    Lines,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let form = args.out.as_deref().map(form).transpose()?;
    let directory = args.adapters.beside(Directory::open(&args.directory, models)?, models)?;
    let tokenizer = tokenizer(&directory, args.tokenizer.as_deref())?;
    let said = Embedding::of(&directory)?;
    let context = directory.model().context();
    if args.max_length.is_some_and(|n| !(1..=context).contains(&n)) || args.batch == 0 {
        return Err(Error(format!("--max-length is 1 to {context}, the model's positions, and --batch at least 1")));
    }
    let embedding = Embedding {
        pooling: args.pooling.unwrap_or(said.pooling),
        normalize: args.normalize || said.normalize,
        longest: args.max_length.unwrap_or(said.longest),
    };
    let text = read_input(&args.input)?;
    let lines = text.lines().enumerate().map(|(i, line)| {
        let ids = ids_of(&tokenizer, line, embedding.longest).map_err(|e| Error(format!("{}:{}: {e}", args.input.display(), i + 1)))?;
        if ids.is_empty() { Err(Error(format!("{}:{}: the line has no token: remove it", args.input.display(), i + 1))) } else { Ok(ids) }
    });
    let lines: Vec<Vec<i32>> = lines.collect::<Result<_>>()?;
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, Precision::F32)?;
    let rows = args.batch.min(lines.len().max(1));
    let vectors = Embedder::open(&directory, embedding, device, &options, rows)?.embed(&lines)?;
    let (Some(out), Some(form)) = (&args.out, form) else {
        print(format_args!("{}", as_lines(&vectors)));
        return Ok(());
    };
    write_file(out, &content(&vectors, form)?)?;
    say!("{} vectors of {} numbers in {}", vectors.len(), vectors.first().map_or(0, Vec::len), out.display());
    Ok(())
}

/// The form that a file's name asks for.
fn form(path: &Path) -> Result<Form> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("safetensors") => Ok(Form::Safetensors),
        Some("npy") => Ok(Form::Npy),
        Some("jsonl") => Ok(Form::Lines),
        _ => Err(Error(format!("--out {}: expected a name that ends in .safetensors, .npy or .jsonl", path.display()))),
    }
}

/// A file's content.
fn content(vectors: &[Vec<f32>], form: Form) -> Result<Vec<u8>> {
    let shape = [vectors.len(), vectors.first().map_or(0, Vec::len)];
    let bytes: Vec<u8> = vectors.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    match form {
        Form::Lines => Ok(as_lines(vectors).into_bytes()),
        Form::Npy => Ok([npy_header(shape), bytes].concat()),
        Form::Safetensors => {
            let ty = eggcorn::ir::Type::f32(shape);
            Ok(eggcorn::llm::named::results(&[("embeddings".into(), ty, bytes)])?.0)
        }
    }
}

/// A vector a line.
fn as_lines(vectors: &[Vec<f32>]) -> String {
    vectors.iter().map(|v| serde_json::to_string(v).expect("numbers have a JSON form") + "\n").collect()
}

/// What stands before the numbers in NumPy's file, version 1.0: it is filled up to a multiple of 64 bytes.
fn npy_header([rows, width]: [usize; 2]) -> Vec<u8> {
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}");
    let length = (10 + text.len() + 1).next_multiple_of(64) - 10;
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((length as u16).to_le_bytes());
    out.extend(format!("{text:<width$}\n", width = length - 1).into_bytes());
    out
}
