//! `eggcorn generate`: text from a run.

use super::options::{CompileArgs, DeviceArgs};
use super::output::print;
use super::sampling::SamplingArgs;
use super::{note, say};
use eggcorn::llm::{
    Choice, Config, Decoder, Error, Generator, Models, Precision, Result, Sampling, Specials, Stop, Tokenizer, likeliest, log_probabilities,
    open_checkpoint, read_short,
};
use eggcorn::passes::{Options, State};
use eggcorn::runtime::Device;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Write text with a trained model.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 300 --temperature 0.8 --top-k 40 --seed 1\n  eggcorn generate runs/shakespeare --prompt \"To be\" --top-p 0.9 --repetition-penalty 1.1 --stop \". \"\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --num-samples 4 --min-p 0.05 --logit-bias z=-inf\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 5 --logprobs 3\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 20 --beams 4"
)]
pub struct Args {
    /// The run directory.
    run: PathBuf,
    /// What the text begins with; a newline unless said, or what else the model's text has.
    #[arg(long)]
    prompt: Option<String>,
    /// How many tokens to write.
    #[arg(long, default_value_t = 200)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Write so many texts at once, each with the next seed.
    #[arg(long, default_value_t = 1)]
    num_samples: usize,
    /// Instead of drawing tokens look for the likeliest text, going on with so many beginnings at each token.
    #[arg(long, value_name = "N", conflicts_with_all = ["num_samples", "logprobs"])]
    beams: Option<usize>,
    /// After the text, the log-probability of each token by the model itself, and so many of the likeliest beside it.
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let (config, tokenizer) = (config(&args.run, models)?, Tokenizer::read(&args.run)?);
    let (sampling, stop) = (args.sampling.sampling(&tokenizer)?, args.sampling.stop()?);
    let prompt = args.prompt.clone().unwrap_or_else(|| tokenizer.start());
    let ids = encoded(&prompt, &tokenizer, config.model.context())?;
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, Precision::F32)?;
    let rows = match (args.beams, args.num_samples) {
        (Some(0), _) | (None, 0) => return Err(Error("--beams and --num-samples are at least 1: one text is written".into())),
        (beams, samples) => beams.unwrap_or(samples),
    };
    let generator = open(&args.run, device, &options, models, rows)?;
    let text = Text::new(&tokenizer, stop, args.logprobs);
    if args.beams.is_some() { search(args, generator, &prompt, &ids, text) } else { samples(args, generator, &prompt, &ids, &sampling, &text) }
}

/// The likeliest text that is found.
fn search(args: &Args, mut generator: Generator, prompt: &str, ids: &[i32], text: Text) -> Result<()> {
    let best = generator.beams(ids, args.max_tokens)?.swap_remove(0);
    let Text { tokenizer, mut stop, .. } = text;
    say!("{prompt}{}{}", stop.push(&tokenizer.decode(&best.tokens)), stop.finish());
    Ok(())
}

/// Texts whose tokens are drawn: one is shown as it comes, several one after the other.
fn samples(args: &Args, mut generator: Generator, prompt: &str, ids: &[i32], sampling: &Sampling, text: &Text) -> Result<()> {
    let seed = |i: usize| Sampling { seed: sampling.seed.wrapping_add(i as u64), ..sampling.clone() };
    let rows: Vec<(&[i32], Sampling)> = (0..args.num_samples).map(|i| (ids, seed(i))).collect();
    let mut texts: Vec<Text> = rows.iter().map(|_| text.clone()).collect();
    let show = |piece: &str| {
        if args.num_samples == 1 {
            print(format_args!("{piece}"))
        }
    };
    show(prompt);
    generator.generate_rows(&rows, args.max_tokens, &mut |choice| {
        let (piece, flow) = texts[choice.row].push(&choice)?;
        show(&piece);
        Ok(flow)
    })?;
    for text in texts {
        let (shown, rest, logprobs) = text.finish();
        if args.num_samples == 1 {
            say!("{rest}");
        } else {
            say!("{prompt}{shown}{rest}\n---");
        }
        logprobs.iter().for_each(|line| say!("{line}"));
    }
    Ok(())
}

/// The ids of a prompt; a notice where the model cannot see all of them.
fn encoded(prompt: &str, tokenizer: &Tokenizer, context: usize) -> Result<Vec<i32>> {
    let ids = tokenizer.encode_with(prompt, Specials::Token).map_err(|e| Error(format!("--prompt: {e}")))?;
    match ids.len() {
        0 => return Err(Error("--prompt is empty: give at least one character, or leave it away".into())),
        n if n > context => note!("notice: the prompt has {n} tokens, and the model sees {context} at once: it reads the last {context}"),
        _ => {}
    }
    Ok(ids)
}

/// A text as it is written.
#[derive(Clone)]
struct Text<'t> {
    tokenizer: &'t Tokenizer,
    decoder: Decoder<'t>,
    stop: Stop,
    shown: String,
    /// How many rivals of a token are named, and a line a token.
    logprobs: Option<usize>,
    lines: Vec<String>,
}

impl<'t> Text<'t> {
    fn new(tokenizer: &'t Tokenizer, stop: Stop, logprobs: Option<usize>) -> Text<'t> {
        Text { tokenizer, decoder: Decoder::new(tokenizer), stop, shown: String::new(), logprobs, lines: vec![] }
    }

    /// What a token adds to what is shown, and whether the text goes on.
    fn push(&mut self, choice: &Choice) -> Result<(String, ControlFlow<()>)> {
        if let Some(n) = self.logprobs {
            let all = log_probabilities(choice.logits)?;
            let name = |id: i32| format!("{:?} {:.4}", self.tokenizer.decode(&[id]), all[id as usize]);
            let rivals: Vec<String> = likeliest(&all, n).into_iter().map(name).collect();
            let others = if rivals.is_empty() { String::new() } else { format!("  of {}", rivals.join(", ")) };
            self.lines.push(format!("{}{others}", name(choice.token)));
        }
        let piece = self.stop.push(&self.decoder.push(choice.token));
        self.shown.push_str(&piece);
        Ok((piece, if self.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }))
    }

    /// What was shown, what remains, and the lines of log-probabilities.
    fn finish(mut self) -> (String, String, Vec<String>) {
        let end = self.stop.push(&self.decoder.finish());
        let rest = self.stop.finish();
        (self.shown, end + &rest, self.lines)
    }
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

/// The model of a run directory, its last weights loaded, for so many texts at once.
pub fn open(dir: &Path, device: Device, options: &Options, models: &Models, rows: usize) -> Result<Generator> {
    let (config, tokenizer) = (config(dir, models)?, Tokenizer::read(dir)?);
    if tokenizer.size() != config.model.vocab_size() {
        return Err(Error(format!("{}: the tokenizer has {} tokens, and the model {}", dir.display(), tokenizer.size(), config.model.vocab_size())));
    }
    let checkpoint = open_checkpoint(dir)?;
    let mut generator = Generator::batched(&config.model, device, options, rows)?;
    checkpoint.restore(generator.session_mut(), &|name| State::parse(name).is_parameter())?;
    Ok(generator)
}
