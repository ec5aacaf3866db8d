//! `eggcorn generate`: text from a run.

use super::options::DeviceArgs;
use super::say;
use eggcorn::llm::{Config, Error, Generator, Models, Result, Sampling, Tokenizer, read_manifest, restore};
use eggcorn::runtime::Device;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Write text with a trained model.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 300 --temperature 0.8 --top-k 40 --seed 1")]
pub struct Args {
    /// The run directory.
    run: PathBuf,
    /// What the text begins with.
    #[arg(long, default_value = "\n")]
    prompt: String,
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
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    if !args.temperature.is_finite() || args.temperature < 0.0 {
        return Err(Error(format!("--temperature is {}, expected at least 0", args.temperature)));
    }
    let (mut generator, tokenizer) = open(&args.run, args.device.open()?, models)?;
    let prompt = tokenizer.encode(&args.prompt)?;
    let sampling = Sampling { temperature: args.temperature, top_k: args.top_k, seed: args.seed };
    print_flush(&args.prompt);
    // bytes of one character may come one by one, so the text so far is decoded anew
    let (mut ids, mut shown) = (vec![], 0);
    generator.generate(&prompt, args.max_tokens, &sampling, &mut |id| {
        ids.push(id);
        let text = tokenizer.decode(&ids);
        let whole = text.trim_end_matches('\u{FFFD}');
        if whole.len() > shown {
            print_flush(&whole[shown..]);
            shown = whole.len();
        }
    })?;
    say!("");
    Ok(())
}

fn print_flush(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// The model of a run directory, its weights loaded, and its tokenizer.
pub fn open(dir: &Path, device: Device, models: &Models) -> Result<(Generator, Tokenizer)> {
    let path = dir.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| Error(format!("{}: this is not a run directory: {e}", path.display())))?;
    let config = Config::parse(&text, &path.display().to_string(), models)?;
    config.check_model()?;
    let tokenizer = Tokenizer::read(&dir.join("tokenizer.json"))?;
    if tokenizer.size() != config.model.vocab_size() {
        return Err(Error(format!("{}: the tokenizer has {} tokens, and the model {}", dir.display(), tokenizer.size(), config.model.vocab_size())));
    }
    let manifest = read_manifest(dir)?.ok_or_else(|| Error(format!("{}: there is no checkpoint yet; train first", dir.display())))?;
    let mut generator = Generator::new(&config.model, device)?;
    restore(dir, &manifest, generator.session_mut(), &|name| !name.starts_with("past."))?;
    Ok((generator, tokenizer))
}
