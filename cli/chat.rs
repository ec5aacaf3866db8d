//! `eggcorn chat`: a conversation with a model, in turns.

use super::options::{CompileArgs, DeviceArgs, tokenizer};
use super::output::print;
use super::sampling::SamplingArgs;
use super::{note, say};
use eggcorn::llm::chat::{Chat, Message, Role, SHIPPED, Template};
use eggcorn::llm::hub::{Directory, Generation};
use eggcorn::llm::{ChatConfig, Decoder, Error, Generator, Models, Precision, Result, Sampling, Tokenizer, load_weights};
use eggcorn::models::{Kind, Model};
use eggcorn::passes::State;
use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Talk to a model.
#[derive(clap::Args)]
#[command(
    after_help = "Each line is a question; /new forgets the past, and the end of the input ends the conversation. The past is read again with each question,\nas the model's template writes it; of one that is too long the oldest questions are left away.\n\nExamples:\n  eggcorn chat runs/instruct\n  eggcorn chat SmolLM2-135M-Instruct/ --system \"You answer in one sentence.\" --temperature 0.2\n  eggcorn chat runs/instruct --ask \"What is the capital of France?\" --max-tokens 40"
)]
pub struct Args {
    /// The directory of the model: a run's, or Hugging Face's.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What the system says before the first question.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// A question instead of those that are typed. May be given several times; then the conversation ends.
    #[arg(long, value_name = "TEXT")]
    ask: Vec<String>,
    /// A template instead of the model's own: chatml, llama-3, mistral, gemma, alpaca, or a file in Jinja.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// What a template takes for today, where it asks.
    #[arg(long, value_name = "YYYY-MM-DD", default_value_t = ChatConfig::default().date)]
    date: String,
    /// The most tokens of an answer.
    #[arg(long, default_value_t = 256)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Take the averages of the weights, of a run with train.ema.
    #[arg(long)]
    ema: bool,
    /// A tokenizer where the directory has none: tokenizer.json, or another that train takes.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compile: CompileArgs,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let directory = Directory::open(&args.directory, models)?.averaged(args.ema);
    let tokenizer = tokenizer(&directory, args.tokenizer.as_deref())?;
    let generation = directory.generation()?;
    let template = template(args.template.as_deref(), &args.date, directory.path(), &tokenizer, &generation)?;
    let sampling = args.sampling.sampling(&tokenizer, generation.sampling())?;
    let mut generator = generator(args, &directory)?;
    let mut talk = Talk::new(args, &template, &tokenizer, &generation, sampling)?;
    if !args.ask.is_empty() {
        return args.ask.iter().try_for_each(|question| talk.answer(question, &mut generator));
    }
    let shown = std::io::stdin().is_terminal();
    loop {
        if shown {
            print(format_args!("> "));
        }
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line).map_err(|e| Error(format!("standard input cannot be read: {e}")))?;
        match line.trim() {
            _ if read == 0 => return Ok(()),
            "" => {}
            "/new" => talk.past.truncate(talk.first),
            question => talk.answer(question, &mut generator)?,
        }
    }
}

/// The template that is named, or the model's own; without either ChatML.
pub fn template(name: Option<&str>, date: &str, dir: &Path, tokenizer: &Tokenizer, generation: &Generation) -> Result<Template> {
    let template = match name {
        Some(name) => Template::named(name, date)?,
        None => match Template::of(dir, date)? {
            Some(own) => own,
            None => {
                note!("notice: {} has no chat template, and is talked to as chatml has it; --template names another", dir.display());
                Template::named(SHIPPED[0].name, date)?
            }
        },
    };
    Ok(template.within(tokenizer, generation))
}

fn generator(args: &Args, directory: &Directory) -> Result<Generator> {
    let model: &Model = directory.model();
    if model.kind() != Kind::Decoder {
        return Err(Error(format!("the model {} goes on with no text, so there is no talking to it; try eggcorn generate", model.name())));
    }
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, Precision::F32)?;
    let mut generator = Generator::compiled(model, device, &options)?;
    let unread = load_weights(&mut generator.sessions_mut(), &directory.tensors()?, &|name| State::parse(name).is_parameter())?;
    unread.iter().filter(|_| !directory.is_run()).for_each(|notice| note!("notice: {notice}"));
    Ok(generator)
}

/// A conversation so far.
struct Talk<'a> {
    chat: Chat<'a>,
    tokenizer: &'a Tokenizer,
    past: Vec<Message>,
    /// Messages before the first question.
    first: usize,
    end: Vec<i32>,
    sampling: Sampling,
    args: &'a Args,
}

impl<'a> Talk<'a> {
    fn new(args: &'a Args, template: &'a Template, tokenizer: &'a Tokenizer, generation: &Generation, sampling: Sampling) -> Result<Talk<'a>> {
        let chat = Chat::new(template, tokenizer);
        // what ends an answer in the template ends it here, whatever else the model's files say
        let stop = chat.stop().map(Some).unwrap_or_else(|e| {
            note!("notice: {e}");
            None
        });
        let end: Vec<i32> = generation.end.iter().copied().chain(stop).collect();
        let past: Vec<Message> = args.system.iter().map(|s| Message::new(Role::System, s)).collect();
        Ok(Talk { chat, tokenizer, first: past.len(), past, end, sampling, args })
    }

    /// Answers a question as it is written, and remembers both.
    fn answer(&mut self, question: &str, generator: &mut Generator) -> Result<()> {
        self.past.push(Message::new(Role::User, question));
        let prompt = self.prompt(generator.context())?;
        let (mut decoder, mut stop, mut answer) = (Decoder::new(self.tokenizer), self.args.sampling.stop()?, String::new());
        generator.generate(&prompt, self.args.max_tokens, &self.sampling, &mut |choice| {
            if self.end.contains(&choice.token) {
                return Ok(ControlFlow::Break(()));
            }
            let piece = stop.push(&decoder.push(choice.token));
            print(format_args!("{piece}"));
            answer.push_str(&piece);
            Ok(if stop.stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let rest = stop.push(&decoder.finish()) + &stop.finish();
        say!("{rest}");
        answer.push_str(&rest);
        self.past.push(Message::new(Role::Assistant, answer.trim()));
        self.sampling.seed = self.sampling.seed.wrapping_add(1);
        Ok(())
    }

    /// What is read before the answer: of a past that leaves no room for one, the oldest questions with their answers are forgotten.
    fn prompt(&mut self, context: usize) -> Result<Vec<i32>> {
        loop {
            let ids = self.chat.prompt(&self.past)?;
            if ids.len() < context || self.past.len() < self.first + 3 {
                return Ok(ids);
            }
            note!("notice: the conversation has {} tokens, and the model sees {context} at once: its oldest question is forgotten", ids.len());
            self.past.drain(self.first..self.first + 2);
        }
    }
}
