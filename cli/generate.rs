//! `eggcorn generate`: text from a model in a directory.

use super::options::{AdapterArgs, CompileArgs, DeviceArgs, tokenizer};
use super::output::print;
use super::sampling::SamplingArgs;
use super::{note, prompts, say};
use eggcorn::llm::hub::{Directory, Generation};
use eggcorn::llm::{
    Choice, Decoder, Error, Generator, Models, Precision, Result, Sampling, Search, Specials, Stop, Stopping, Tokenizer, likeliest, load_weights,
    log_probabilities,
};
use eggcorn::models::{Kind, Model};
use eggcorn::passes::{Options, State};
use eggcorn::runtime::Device;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Write text with a trained model.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 300 --temperature 0.8 --top-k 40 --seed 1\n  eggcorn generate runs/shakespeare --prompt \"To be\" --top-p 0.9 --repetition-penalty 1.1 --stop \". \"\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --num-samples 4 --min-p 0.05 --logit-bias z=-inf\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 5 --logprobs 3\n  eggcorn generate runs/shakespeare --prompt \"ROMEO:\" --max-tokens 20 --beams 4\n  eggcorn generate SmolLM2-135M-Instruct/ --prompt \"The capital of France is\" --max-tokens 64\n  eggcorn generate SmolLM2-135M/ --adapter my-lora/ --prompt \"Once\"\n  eggcorn generate SmolLM2-135M/ --adapter one/:0.7 --adapter runs/two:0.3\n  eggcorn generate SmolLM2-135M/ --adapter poems=one/ --adapter letters=runs/two --prompts lines.tsv\n  eggcorn generate t5-small/ --source \"translate English to German: The house is small.\" --beams 4"
)]
pub struct Args {
    /// The directory of the model: a run's, or Hugging Face's.
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// The text that is answered, by a model that answers some, such as T5.
    #[arg(long, value_name = "TEXT")]
    source: Option<String>,
    /// What the text begins with; a newline unless said, or what else the model's text has.
    #[arg(long)]
    prompt: Option<String>,
    /// Write a text behind each line of a file, or of standard input where it is -: a prompt, or the name of an adapter, a tab and a prompt.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "source", "num_samples", "beams"])]
    prompts: Option<PathBuf>,
    /// How many tokens to write.
    #[arg(long, default_value_t = 200)]
    pub(super) max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Write so many texts at once, each with the next seed.
    #[arg(long, default_value_t = 1)]
    num_samples: usize,
    /// Instead of drawing tokens look for the likeliest text, going on with so many beginnings at each token.
    #[arg(long, value_name = "N", conflicts_with_all = ["num_samples", "logprobs"])]
    beams: Option<usize>,
    /// Of beams: compare texts by their log-probability divided by this power of their length; above 0 long ones gain.
    #[arg(long, value_name = "POWER", default_value_t = 1.0, requires = "beams", allow_negative_numbers = true)]
    length_penalty: f64,
    /// Of beams: end, once as many texts have ended as there are beams, when the likeliest of the others is no better (guess), at once (full),
    /// or when none can become better (never).
    #[arg(long, default_value = "guess", requires = "beams")]
    stopping: Stopping,
    /// After the text, the log-probability of each token by the model itself, and so many of the likeliest beside it.
    #[arg(long, value_name = "N")]
    logprobs: Option<usize>,
    /// Take the averages of the weights, of a run with train.ema.
    #[arg(long)]
    pub(super) ema: bool,
    /// A tokenizer where the directory has none: tokenizer.json, or another that train takes.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub(super) adapters: AdapterArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    if let Some(path) = &args.prompts {
        return behind_each(args, path, models);
    }
    let directory = args.adapters.beside(Directory::open(&args.directory, models)?.averaged(args.ema), models)?;
    let tokenizer = tokenizer(&directory, args.tokenizer.as_deref())?;
    let generation = directory.generation()?;
    let (sampling, stop) = (args.sampling.sampling(&tokenizer, generation.sampling())?, args.sampling.stop()?);
    let source = source(args, directory.model(), &tokenizer)?;
    let (prompt, ids) = if source.is_some() { answer(args, &tokenizer, &generation)? } else { prompt(args, &tokenizer, &generation)? };
    notice_length(ids.len(), directory.model().context());
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, Precision::F32)?;
    let rows = match (args.beams, args.num_samples) {
        (Some(0), _) | (None, 0) => return Err(Error("--beams and --num-samples are at least 1: one text is written".into())),
        (beams, samples) => beams.unwrap_or(samples),
    };
    let model = directory.model().with_room(ids.len().saturating_add(args.max_tokens));
    let mut generator = open(&directory, &model, device, &options, rows)?;
    source.map_or(Ok(()), |ids| generator.answer(&vec![ids.as_slice(); rows]))?;
    let text = Text::new(&tokenizer, stop, generation.end, args.logprobs);
    if args.beams.is_some() { search(args, generator, &prompt, &ids, text) } else { samples(args, generator, &prompt, &ids, &sampling, &text) }
}

/// A text behind each prompt of a file.
fn behind_each(args: &Args, path: &Path, models: &Models) -> Result<()> {
    let directory = Directory::open(&args.directory, models)?;
    let (tokenizer, generation) = (tokenizer(&directory, args.tokenizer.as_deref())?, directory.generation()?);
    let (sampling, stop) = (args.sampling.sampling(&tokenizer, generation.sampling())?, args.sampling.stop()?);
    let (text, device) = (Text::new(&tokenizer, stop, generation.end, args.logprobs), args.device.open()?);
    let options = args.compile.options_on(&device, Precision::F32)?;
    prompts::run(args, path, models, &prompts::Writing { tokenizer: &tokenizer, sampling, text, device, options })
}

/// The likeliest text that is found.
fn search(args: &Args, mut generator: Generator, prompt: &str, ids: &[i32], text: Text) -> Result<()> {
    if !args.length_penalty.is_finite() {
        return Err(Error(format!("--length-penalty {}: expected a number, as in 1.0", args.length_penalty)));
    }
    let Text { tokenizer, mut stop, end, .. } = text;
    let how = Search { end, length_penalty: args.length_penalty, stopping: args.stopping };
    let best = generator.beams(ids, args.max_tokens, &how)?.swap_remove(0);
    let end = how.end;
    let written = best.tokens.split(|token| end.contains(token)).next().unwrap_or_default();
    say!("{prompt}{}{}", stop.push(&tokenizer.decode(written)), stop.finish());
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

/// The prompt and its ids, with what the tokenizer puts before a text. Where none is given, a text begins with the token that begins every
/// text, or with what the tokenizer has for a start.
fn prompt(args: &Args, tokenizer: &Tokenizer, generation: &Generation) -> Result<(String, Vec<i32>)> {
    if let (None, Some(begin)) = (&args.prompt, generation.begin) {
        return Ok((String::new(), vec![begin]));
    }
    let prompt = args.prompt.clone().unwrap_or_else(|| tokenizer.start());
    let ids = tokenizer.encode_with(&prompt, Specials::Token).map_err(|e| Error(format!("--prompt: {e}")))?;
    let ids = [tokenizer.template().before, ids].concat();
    match ids[..] {
        [] => Err(Error("--prompt is empty: give at least one character, or leave it away".into())),
        _ => Ok((prompt, ids)),
    }
}

/// The ids of the text that is answered, with those that the tokenizer puts around a text; none of a model that answers none.
fn source(args: &Args, model: &Model, tokenizer: &Tokenizer) -> Result<Option<Vec<i32>>> {
    match (&args.source, model.kind()) {
        (Some(text), Kind::EncoderDecoder) => {
            let around = tokenizer.template();
            let ids = tokenizer.encode_with(text, Specials::Token).map_err(|e| Error(format!("--source: {e}")))?;
            Ok(Some([around.before, ids, around.after].concat()))
        }
        (None, Kind::EncoderDecoder) => Err(Error(format!("the model {} answers a text: give it one with --source", model.name()))),
        (_, Kind::Encoder) => Err(Error(format!("the model {} reads texts and writes none; try eggcorn embed", model.name()))),
        (Some(_), Kind::Decoder) => Err(Error(format!("--source: the model {} answers no text; it goes on with --prompt", model.name()))),
        (None, Kind::Decoder) => Ok(None),
    }
}

/// What an answer begins with: the token for that, and the prompt where there is one.
fn answer(args: &Args, tokenizer: &Tokenizer, generation: &Generation) -> Result<(String, Vec<i32>)> {
    let prompt = args.prompt.clone().unwrap_or_default();
    let ids = tokenizer.encode_with(&prompt, Specials::Token).map_err(|e| Error(format!("--prompt: {e}")))?;
    let first = generation.answer.or(generation.begin).or(generation.pad);
    let none =
        || Error("there is no token that an answer begins with: write its number as decoder_start_token_id into generation_config.json".into());
    Ok((prompt, [vec![first.ok_or_else(none)?], ids].concat()))
}

/// A notice where the model cannot see all of a prompt.
fn notice_length(tokens: usize, context: usize) {
    if tokens > context {
        note!("notice: the prompt has {tokens} tokens, and the model sees {context} at once: it reads the last {context}");
    }
}

/// A text as it is written.
#[derive(Clone)]
pub(super) struct Text<'t> {
    tokenizer: &'t Tokenizer,
    decoder: Decoder<'t>,
    stop: Stop,
    /// Tokens that end the text and are no part of it.
    end: Vec<i32>,
    shown: String,
    /// How many rivals of a token are named, and a line a token.
    logprobs: Option<usize>,
    lines: Vec<String>,
}

impl<'t> Text<'t> {
    fn new(tokenizer: &'t Tokenizer, stop: Stop, end: Vec<i32>, logprobs: Option<usize>) -> Text<'t> {
        Text { tokenizer, decoder: Decoder::new(tokenizer), stop, end, shown: String::new(), logprobs, lines: vec![] }
    }

    /// What a token adds to what is shown, and whether the text goes on.
    pub(super) fn push(&mut self, choice: &Choice) -> Result<(String, ControlFlow<()>)> {
        if let Some(n) = self.logprobs {
            let all = log_probabilities(choice.logits)?;
            let name = |id: i32| format!("{:?} {:.4}", self.tokenizer.decode(&[id]), all[id as usize]);
            let rivals: Vec<String> = likeliest(&all, n).into_iter().map(name).collect();
            let others = if rivals.is_empty() { String::new() } else { format!("  of {}", rivals.join(", ")) };
            self.lines.push(format!("{}{others}", name(choice.token)));
        }
        if self.end.contains(&choice.token) {
            return Ok((String::new(), ControlFlow::Break(())));
        }
        let piece = self.stop.push(&self.decoder.push(choice.token));
        self.shown.push_str(&piece);
        Ok((piece, if self.stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }))
    }

    /// What was shown, what remains, and the lines of log-probabilities.
    pub(super) fn finish(mut self) -> (String, String, Vec<String>) {
        let end = self.stop.push(&self.decoder.finish());
        let rest = self.stop.finish();
        (self.shown, end + &rest, self.lines)
    }
}

/// A directory's model with its weights, for so many texts at once.
fn open(directory: &Directory, model: &Model, device: Device, options: &Options, rows: usize) -> Result<Generator> {
    let tensors = directory.tensors()?;
    let mut generator = Generator::batched(model, device, options, rows)?;
    let unread = load_weights(&mut generator.sessions_mut(), &tensors, &|name| State::parse(name).is_parameter())?;
    if !directory.is_run() {
        unread.iter().for_each(|notice| note!("notice: {notice}"));
    }
    Ok(generator)
}
