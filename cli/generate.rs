//! `eggcorn generate`: text from a run.

use super::options::{CompileArgs, DeviceArgs};
use super::output::print;
use super::{note, say};
use eggcorn::llm::{Config, Decoder, Error, Generator, Models, Precision, Result, Sampling, Tokenizer, open_checkpoint, read_short};
use eggcorn::passes::{Options, State};
use eggcorn::runtime::Device;
use std::path::{Path, PathBuf};

/// Write text with a trained model.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 300 --temperature 0.8 --top-k 40 --seed 1")]
pub struct Args {
    /// The run directory.
    run: PathBuf,
    /// What the text begins with; a newline unless said, or what else the model's text has.
    #[arg(long)]
    prompt: Option<String>,
    /// How many tokens to write.
    #[arg(long, default_value_t = 200)]
    max_tokens: usize,
    /// Below 1 the likely becomes likelier; 0 takes the likeliest.
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Consider only this many; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// The same seed writes the same text.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, seed: args.seed };
    sampling.check()?;
    let (config, tokenizer) = (config(&args.run, models)?, Tokenizer::read(&args.run)?);
    let prompt = args.prompt.clone().unwrap_or_else(|| tokenizer.start());
    let ids = tokenizer.encode(&prompt).map_err(|e| Error(format!("--prompt: {e}")))?;
    let context = config.model.context();
    match ids.len() {
        0 => return Err(Error("--prompt is empty: give at least one character, or leave it away".into())),
        n if n > context => note!("notice: the prompt has {n} tokens, and the model sees {context} at once: it reads the last {context}"),
        _ => {}
    }
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, Precision::F32)?;
    let mut generator = open(&args.run, device, &options, models)?;
    print(format_args!("{prompt}"));
    let mut decoder = Decoder::new(&tokenizer);
    generator.generate(&ids, args.max_tokens, &sampling, &mut |id| {
        print(format_args!("{}", decoder.push(id)));
        Ok(())
    })?;
    say!("{}", decoder.finish());
    Ok(())
}

/// More bytes than any configuration has.
pub const LONGEST: u64 = 1 << 20;

/// The configuration of a run directory.
pub fn config(dir: &Path, models: &Models) -> Result<Config> {
    let path = dir.join("config.toml");
    let text = read_short(&path, LONGEST).map_err(|e| Error(format!("{}: this is not a run directory: {e}", path.display())))?;
    let config = Config::parse(&text, &path.display().to_string(), models)?;
    config.check_model().map_err(|e| Error(format!("{}: {e}", path.display())))?;
    Ok(config)
}

/// The model of a run directory, its last weights loaded.
pub fn open(dir: &Path, device: Device, options: &Options, models: &Models) -> Result<Generator> {
    let (config, tokenizer) = (config(dir, models)?, Tokenizer::read(dir)?);
    if tokenizer.size() != config.model.vocab_size() {
        return Err(Error(format!("{}: the tokenizer has {} tokens, and the model {}", dir.display(), tokenizer.size(), config.model.vocab_size())));
    }
    let checkpoint = open_checkpoint(dir)?;
    let mut generator = Generator::compiled(&config.model, device, options)?;
    checkpoint.restore(generator.session_mut(), &|name| State::parse(name).is_parameter())?;
    Ok(generator)
}
