//! `eggcorn train`: a run from text to checkpoint.

use super::corpus::{self, DataArg};
use super::interrupt::stop_on_interrupt;
use super::options::{CompileArgs, DeviceArgs, apply};
use super::plot::plot;
use super::sft::{self, Answers, Talk};
use super::view::{Count, View};
use super::ways::Own;
use super::{classes, nanogpt, note, policy, report};
use eggcorn::llm::adapter;
use eggcorn::llm::chat::{self, Chat, Template};
use eggcorn::llm::evaluate::{Scorer, Seam, TaskFiles, Tracked};
use eggcorn::llm::hub::{Directory, Generation};
use eggcorn::llm::record::{From, METRICS, Recorder, SAMPLES, TABLE, TESTED};
use eggcorn::llm::text::Learning;
use eggcorn::llm::{
    Aim, Config, Error, Event, Generator, Kind, Manifest, Marks, Models, Outcome, Packing, REFERENCE, RESUMABLE, ROLLOUTS, Result, RunLock, Sampling,
    Source, Step, Teacher, Tokenizer, Trainer, Unit, read_manifest, read_short, recipe, write_file,
};
use eggcorn::models::{self, Model};
use eggcorn::passes::Options;
use eggcorn::runtime::Device;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Train a model on text, save it, and show how it goes.
#[derive(clap::Args)]
#[command(
    after_help = "nanoGPT's flags are understood as well, before every --set: --batch_size=32 --block_size=64 --n_layer=4 --max_iters=2000 and so on;\none that means nothing here says so.\n\nA run directory has config.toml, checkpoints (train.save_every, train.save_minutes, train.keep_last, train.milestone_every), the best one\nin best/ (train.keep_best), metrics.jsonl, metrics.csv, tb/ for TensorBoard, texts on the way (train.sample_every) and report.html. Every\ncheckpoint is a directory that takes the place of a run: RUN, RUN/best, RUN/step-500.\n\nExamples:\n  eggcorn train                                   # a small GPT on this project's own source\n  eggcorn train shakespeare-char --data input.txt --out runs/shakespeare\n  eggcorn train shakespeare-bpe --data input.txt\n  eggcorn train sort                              # a task that makes its own data\n  eggcorn train names --data names.txt            # each line a document\n  eggcorn train bert-tiny --data input.txt        # words that are hidden\n  eggcorn train t5-tiny --data input.txt          # spans that are missing\n  eggcorn train transformer --data pairs.tsv --set data.documents=pairs\n  eggcorn train gpt2 --data input.txt --set objective.kind=fim --set data.tokenizer=bpe\n  eggcorn train --config my.toml --data input.txt --set train.lr=3e-4\n  eggcorn train gpt2 --data input.txt --tokenizer gpt2/encoder.json --set train.batch=2\n  eggcorn train gpt2 --depth 4 --data input.txt         # one dial for the whole run\n  eggcorn train llama-15m --data stories/ --task arc=arc_easy.jsonl --set train.eval_questions=200\n  eggcorn train --resume --out runs/shakespeare --data input.txt\n  eggcorn train --init-from SmolLM2-135M/ --data input.txt --set train.lr=1e-4\n  eggcorn train shakespeare-char --data input.txt --max_iters=5000 --learning_rate=5e-4 --eval_interval=500"
)]
pub struct Args {
    /// The recipe, or a model with the usual training.
    pub recipe: Option<String>,
    /// A configuration instead of a recipe.
    #[arg(long, conflicts_with = "recipe")]
    config: Option<PathBuf>,
    /// The text, UTF-8. A byte order mark at its start is dropped; line ends stay as they are, so \r\n is two characters. Or a folder that
    /// was prepared, or a .bin of tokens as nanoGPT and llm.c have them. Several are mixed, by weights where they are given.
    #[arg(long, value_name = "PATH[:WEIGHT]")]
    data: Vec<DataArg>,
    /// A tokenizer that is there already instead of one of the text: tokenizer.json, GPT-2's encoder.json, ranks of tiktoken, or a folder.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Begin with the model, weights and tokenizer of a directory, a run's or Hugging Face's; of a recipe or --config all else counts.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    init_from: Option<PathBuf>,
    /// Begin with an adapter that stands beside that model: a directory as PEFT writes it, or of a run beside a model. Its settings count.
    #[arg(long, value_name = "DIR", requires = "init_from")]
    adapter: Option<PathBuf>,
    /// The run directory.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the run directory's checkpoint; with --set train.steps=N, to another number of steps than was planned.
    #[arg(long)]
    pub resume: bool,
    /// How many layers: width, heads, learning rate, steps and what they read follow; what --set says counts.
    #[arg(long, value_name = "LAYERS", conflicts_with = "init_from")]
    depth: Option<usize>,
    /// Read one batch again and again, which a model and a training that are right learn by heart.
    #[arg(long)]
    overfit_one_batch: bool,
    /// Change a setting, as in --set train.lr=3e-4, whatever the recipe or --config says; of two changes of one setting the later counts.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// What nanoGPT's flags change.
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    nanogpt: Vec<String>,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub compile: CompileArgs,
    /// Ask questions whenever held-out text is evaluated, by the name of a task or its file, and the file or folder they are in; those of
    /// eggcorn eval. On the way train.eval_questions of them, at the end all.
    #[arg(long, value_name = "TASK=PATH")]
    task: Vec<TaskFiles>,
    /// Look at every kernel's result and name the first that is not finite.
    #[arg(long)]
    check_finite: bool,
    /// Print events as JSON, a line each.
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// What was said of the data, to say it again.
    pub fn data(&self) -> String {
        self.data.iter().map(|d| format!(" --data {d}")).collect()
    }

    /// The conversations that are read, of each file.
    pub fn conversations(&self, config: &Config) -> Result<Vec<chat::Parts>> {
        self.data.iter().map(|data| data.conversations(config)).collect()
    }
}

/// What a run directory holds besides checkpoints.
const FILES: [&str; 16] = [
    Config::FILE,
    Generation::FILE,
    chat::FILE,
    sft::FILE,
    Tokenizer::OWN,
    Tokenizer::FILE,
    METRICS,
    TABLE,
    SAMPLES,
    SAMPLE,
    super::plot::FILE,
    report::FILE,
    REFERENCE,
    ROLLOUTS,
    TESTED,
    classes::PICTURE,
];
const SAMPLE: &str = "sample.txt";
/// Tokens of questions that are read at once.
const QUESTION_TOKENS: usize = 1024;

pub fn run(args: &Args, models: &Models) -> Result<()> {
    run_way(args, models, &Way::default())
}

/// The same of a command that is called so, with settings of its own, which come after the recipe's and before what `--set` says.
pub fn run_as(args: &Args, models: &Models, command: &str, preset: &[&str]) -> Result<()> {
    run_way(args, models, &Way { command, preset, talk: None })
}

/// The same of one of the table.
pub fn run_own(args: &Args, models: &Models, own: &Own) -> Result<()> {
    run_way(args, models, &Way { command: own.command, preset: own.settings, talk: None })
}

/// What a command makes of a training.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// As a person writes it.
    pub command: &'a str,
    /// Settings of its own, which come after the recipe's and before what `--set` says.
    pub preset: &'a [&'a str],
    /// What is asked of conversations, where it reads some.
    pub talk: Option<&'a Talk>,
}

impl Default for Way<'_> {
    fn default() -> Self {
        Way { command: "train", preset: &[], talk: None }
    }
}

/// The same of a command with a way of its own.
pub fn run_way(args: &Args, models: &Models, way: &Way) -> Result<()> {
    let dir = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name(args)));
    // one writer, from before the first look to after the last word
    let _lock = RunLock::take(&dir)?;
    let saved = Saved::read(&dir, models)?;
    let mut opened = open_with(args, models, saved.as_ref(), way)?;
    check_directory(&dir, &opened.config, &opened.tokenizer, saved.as_ref(), args.resume)?;
    if opened.config.aim() == Aim::Policy || opened.config.aim() == Aim::Imitation && opened.config.distill.on_policy {
        return policy::run(args, opened, &dir, models, way);
    }
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, opened.config.train.precision)?;
    let mut trainer = trainer(args, models, &mut opened, &dir, (&device, &options))?;
    let Opened { config, tokenizer, start, mut labelled, template, .. } = opened;
    keep(&dir, &config, &tokenizer, template.as_ref(), start.as_ref())?;
    let mut writer = Writer::new(&config, &tokenizer, &trainer, device.clone(), &options)?;
    let mut tracked = tracked(args, &config, &tokenizer, start.as_ref(), &trainer, &device, &options)?;
    let talk = way.talk.zip(template.as_ref());
    let answers = talk.map(|(talk, template)| {
        let held_out = args.conversations(&config)?.into_iter().flat_map(|parts| parts.held_out).collect();
        Answers::before(talk, held_out, &config, (template, &tokenizer), &trainer, (&device, &args.compile))
    });
    let answers = answers.transpose()?;
    let mut record = Recorder::open(&dir, From { step: trainer.step.done(), to: config.train.steps })?;
    let stop = stop_on_interrupt("stopping after this step; once more to stop at once, unsaved")?;
    let mut view = View::new(args.json);
    let mut tell = |e: &Event| {
        record.write(e).unwrap_or_else(|e| note!("error: {e}"));
        view.show(e);
    };
    let outcome = trainer.run(Some(&dir), &stop, &mut |e| {
        tell(&e);
        let sampled = if let Event::Step { step, .. } = e { writer.after(step)? } else { None };
        let asked = tracked.as_mut().map_or(Ok(vec![]), |t| t.after(&e))?;
        sampled.iter().chain(&asked).for_each(&mut tell);
        Ok(())
    });
    view.clear();
    let ended = labelled.as_mut().filter(|_| matches!(outcome, Ok(Outcome::Finished(_))));
    let tested = ended.map(|texts| classes::test(&mut trainer, texts, &dir)).transpose()?;
    for event in tested.iter().flat_map(|tested| classes::events(config.train.steps, tested)) {
        record.write(&event).unwrap_or_else(|e| note!("error: {e}"));
        if args.json {
            view.show(&event);
        }
    }
    let recorded = record.finish();
    // also of a training that failed, for whoever looks for why
    let shown = report::write(&dir, &config, trainer.step.fused());
    let loss = match outcome? {
        Outcome::Stopped(step) => return recorded.and(shown).and(Err(stopped(way, step, &dir, args))),
        Outcome::Finished(loss) => loss,
    };
    plot(&dir)?;
    let sample = if answers.is_none() && writes(&config) {
        sample(&dir, &tokenizer, Generator::sharing(&config.model, device, &options, trainer.step.session())?)?
    } else {
        String::new()
    };
    tested.iter().for_each(|tested| view.last_words(&classes::words(tested)));
    answers.map_or(Ok(()), |answers| answers.after(&dir))?;
    last_words(&mut view, &dir, &config, loss, &sample);
    let done = recorded.and(shown).and(view.finish());
    done.map_err(|e| Error(format!("{e}; all else of the run is saved in {}", dir.display())))
}

/// What trains, with the weights it begins with and what those say that it is compared with.
fn trainer(args: &Args, models: &Models, opened: &mut Opened, dir: &Path, (device, options): (&Device, &Options)) -> Result<Trainer> {
    let config = &opened.config;
    let mut trainer = Trainer::compiled(config.clone(), std::mem::take(&mut opened.sources), device.clone(), options)?;
    trainer.step.check_finite = args.check_finite;
    if let Some(start) = &opened.start {
        begin(args, models, &mut trainer.step, start, config)?;
    }
    if args.resume {
        trainer.resume(dir)?;
    }
    let mut count = Count::new("pairs: what the model says of them before it learns");
    trainer.refer(Some(dir), &mut |done, all| count.show(done, all))?;
    count.clear();
    if config.aim() == Aim::Imitation {
        trainer.imitating(Teacher::open(config, models, &opened.tokenizer, device, options)?);
    }
    Ok(trainer)
}

/// How a run goes on that was stopped.
pub fn stopped(way: &Way, step: u64, dir: &Path, args: &Args) -> Error {
    let (command, at, data) = (way.command, dir.display(), args.data());
    Error(format!("stopped after step {step}, which is saved; go on with: eggcorn {command} --resume --out {at}{data}"))
}

/// Writes what a run directory has besides checkpoints, before the first step.
pub fn keep(dir: &Path, config: &Config, tokenizer: &Tokenizer, template: Option<&Template>, start: Option<&Directory>) -> Result<()> {
    config.write(dir)?;
    tokenizer.write(dir)?;
    let generation = start.map(Directory::generation).transpose()?.unwrap_or_default();
    // a model that talks does so after another training, too
    let own = start.filter(|_| template.is_none()).map(|s| Template::of(s.path(), &config.chat.date)).transpose()?.flatten();
    if let Some(own) = own.filter(|_| writes(config)) {
        write_file(&dir.join(chat::FILE), own.source().as_bytes())?;
        generation.write(dir)?;
    }
    if let Some(template) = template {
        write_file(&dir.join(chat::FILE), template.source().as_bytes())?;
        let begin = generation.begin.or(template.begin().and_then(|begin| tokenizer.id(begin)));
        Generation { begin, ..generation.ending(Chat::new(template, tokenizer).stop()?) }.write(dir)?;
    }
    if config.model.kind() == models::Kind::EncoderDecoder {
        Generation::of_answers(&Marks::of(tokenizer)).write(dir)?;
    }
    Ok(())
}

/// What asks the tasks that are named.
fn tracked(
    args: &Args,
    config: &Config,
    tokenizer: &Tokenizer,
    start: Option<&Directory>,
    trainer: &Trainer,
    device: &Device,
    options: &Options,
) -> Result<Option<Tracked<'static>>> {
    if args.task.is_empty() {
        return Ok(None);
    }
    let generation = start.map(Directory::generation).transpose()?.unwrap_or_default();
    let seam = Seam::of(tokenizer, &generation, config.model.context())?;
    let scorer = Scorer::sharing(&config.model, device.clone(), options, QUESTION_TOKENS, trainer.step.session())?;
    Ok(Some(Tracked::new(scorer, &args.task, config.train.eval_questions, &seam)?))
}

/// Begins with a directory's weights, or beside them.
pub fn begin(args: &Args, models: &Models, step: &mut Step, start: &Directory, config: &Config) -> Result<()> {
    let notices = start.begin(step, config)?;
    if let Some(dir) = &args.adapter {
        let tensors = adapter::open(dir, models)?.1;
        config.beside()?.fits(dir, &tensors, None)?;
        step.start_beside(&tensors)?;
    }
    notices.iter().for_each(|notice| note!("notice: {notice}"));
    Ok(())
}

/// Whether the model goes on with a text: of the others one reads and writes nothing, one answers what somebody asks, and one has a head of
/// another kind.
fn writes(config: &Config) -> bool {
    config.model.kind() == models::Kind::Decoder && !matches!(config.aim(), Aim::Classes | Aim::Rewards)
}

/// What is said at the end.
fn last_words(view: &mut View, dir: &Path, config: &Config, loss: f64, sample: &str) {
    let shown = dir.display();
    // what was evaluated, and what writes, are the averages where there are any
    let ema = if config.train.ema > 0.0 { " --ema" } else { "" };
    let next = match config.model.kind() {
        _ if config.aim() == Aim::Classes => format!("say classes of texts with: eggcorn predict {shown} FILE"),
        _ if config.aim() == Aim::Rewards => {
            format!("let it reward with: eggcorn grpo … --set policy.reward=model --set policy.reward_model={shown}")
        }
        models::Kind::Decoder if dir.join(chat::FILE).exists() => format!("talk to it with: eggcorn chat {shown}"),
        models::Kind::Decoder => format!("write more with: eggcorn generate {shown}{ema}"),
        models::Kind::Encoder => format!("make vectors of texts with: eggcorn embed {shown}"),
        models::Kind::EncoderDecoder => format!("let it answer with: eggcorn generate {shown}{ema} --source TEXT"),
    };
    view.last_words(&format!("loss over all held-out text: {loss:.4}\n"));
    if !sample.is_empty() {
        view.last_words(&format!("{sample}\n"));
    }
    view.last_words(&format!("the run is in {shown}: look at {shown}/{}; {next}", report::FILE));
}

/// What a run is made of, before anything is compiled.
pub struct Opened {
    /// Its settings; the vocabulary is the tokenizer's.
    pub config: Config,
    /// What it reads.
    pub sources: Vec<Source>,
    /// How that became tokens.
    pub tokenizer: Tokenizer,
    /// Whose weights it begins with.
    pub start: Option<Directory>,
    /// Texts with their classes, where those are asked.
    pub labelled: Option<corpus::Classes>,
    /// How conversations become texts, where it reads some.
    pub template: Option<Template>,
}

/// Reads settings and texts. `saved` is the run that goes on.
pub fn open(args: &Args, models: &Models, saved: Option<&Saved>) -> Result<Opened> {
    open_with(args, models, saved, &Way::default())
}

/// The same of a command with a way of its own.
pub fn open_with(args: &Args, models: &Models, saved: Option<&Saved>, way: &Way) -> Result<Opened> {
    let start = start(args, models, saved)?;
    let name = name(args);
    let mut config = config(args, &name, saved, start.as_ref(), models, way.preset)?;
    if way.talk.is_some() {
        config = talking(config);
    }
    let mut labelled = corpus::labelled(&args.data, &name, &config)?;
    if let Some(labelled) = &labelled {
        config.classify.classes = labelled.classes().to_vec();
    }
    let texts = if labelled.is_some() { vec![] } else { corpus::texts(&args.data, &name, &config)? };
    let talks = texts.iter().flatten().any(|text| chat::talk(text, &config));
    let template = talks.then(|| template(&config, saved.filter(|_| args.resume), start.as_ref(), models)).transpose()?;
    let named = match (&args.tokenizer, &start) {
        (Some(path), _) => Some(Tokenizer::open(path, Some(config.data.split))?),
        (None, start) => start.as_ref().map(Directory::tokenizer).transpose()?.flatten(),
    };
    let learn = |text: &str| tokenizer(args, &config, template.as_ref(), text, saved);
    let (sources, tokenizer) = match &mut labelled {
        Some(labelled) => labelled.open(&config, named, &learn)?,
        None => corpus::open(&args.data, texts, &config, named, template.as_ref(), &learn)?,
    };
    start.as_ref().map_or(Ok(()), |s| s.fits_or_extends(&tokenizer))?;
    // vocabularies that others made may have room for more tokens than there are
    let made = start.as_ref().map(Directory::model).or_else(|| saved.map(|s| &s.config.model).filter(|_| args.resume));
    let vocabulary = made.map_or(0, Model::vocab_size).max(tokenizer.size());
    let mut config = Config { model: config.model.with_vocabulary(vocabulary)?, ..config };
    if let Some(depth) = args.depth {
        let (dialled, chosen) = config.at_depth(depth)?;
        note!("{chosen}");
        config = apply(nanogpt::apply(dialled, &args.nanogpt)?, &args.set)?;
    }
    if config.adapter.is_on() && start.is_none() {
        return Err(Error("an adapter stands beside a model that is trained already: give its directory with --init-from".into()));
    }
    // what stays is a loop of its own in every program of the run
    let config = config.adapted()?.divided()?;
    Ok(Opened { config, sources, tokenizer, start, labelled, template })
}

/// The directory whose weights a run begins with: that which is named, or of one that goes on the model that it stands beside.
fn start(args: &Args, models: &Models, saved: Option<&Saved>) -> Result<Option<Directory>> {
    let beside = saved.filter(|_| args.resume).and_then(|s| s.manifest.base.as_ref());
    let start = args.init_from.as_ref().or(beside.map(|base| &base.path)).map(|path| Directory::open(path, models)).transpose()?;
    match start.as_ref().and_then(Directory::base) {
        Some(base) => {
            let (own, base) = (start.as_ref().map_or(String::new(), |s| s.path().display().to_string()), base.path().display());
            Err(Error(format!("{own}: this run stands beside the model in {base} and is none by itself: eggcorn merge makes one of both")))
        }
        None => Ok(start),
    }
}

/// The configuration of a run that reads conversations, whatever it was made for.
fn talking(mut config: Config) -> Config {
    config.data.documents = Unit::Chat;
    if config.data.packing == Packing::Windows {
        config.data.packing = Packing::BestFit;
    }
    config
}

/// The template of a run that reads conversations: the run's that goes on, the one that is named, the model's own, or else ChatML.
fn template(config: &Config, saved: Option<&Saved>, start: Option<&Directory>, models: &Models) -> Result<Template> {
    let (name, date) = (config.chat.template.as_str(), config.chat.date.as_str());
    let saved = saved.map(|s| Directory::open(&s.dir, models)).transpose()?;
    let directory = saved.as_ref().or(start);
    let own = directory.filter(|_| saved.is_some() || name.is_empty()).map(|d| Template::of(d.path(), date)).transpose()?.flatten();
    let template = match own {
        Some(own) => own,
        None if name.is_empty() => Template::named(chat::SHIPPED[0].name, date)?,
        None => Template::named(name, date)?,
    };
    let (tokenizer, generation) = (directory.map(Directory::tokenizer).transpose()?.flatten(), directory.map(Directory::generation).transpose()?);
    Ok(match tokenizer {
        Some(tokenizer) => template.within(&tokenizer, &generation.unwrap_or_default()),
        None => template,
    })
}

/// What the run is called by, unless it has a place of its own.
fn name(args: &Args) -> String {
    let directory = args.init_from.as_ref().and_then(|path| path.file_name()).map(|name| name.to_string_lossy().into_owned());
    args.recipe.clone().or(directory).unwrap_or_else(|| "self".into())
}

/// What a run directory with a checkpoint was made with.
pub struct Saved {
    dir: PathBuf,
    manifest: Manifest,
    config: Config,
    tokenizer: Tokenizer,
}

impl Saved {
    /// Nothing where there is no checkpoint.
    fn read(dir: &Path, models: &Models) -> Result<Option<Saved>> {
        let Some(manifest) = read_manifest(dir)? else { return Ok(None) };
        Ok(Some(Saved { dir: dir.into(), manifest, config: Config::of_run(dir, models)?, tokenizer: Tokenizer::read(dir)? }))
    }
}

fn config(args: &Args, name: &str, saved: Option<&Saved>, start: Option<&Directory>, models: &Models, preset: &[&str]) -> Result<Config> {
    let config = match (&args.config, saved, start) {
        (Some(path), ..) => Config::read(path, models)?,
        (None, Some(saved), _) if args.resume && args.recipe.is_none() => saved.config.clone(),
        (None, _, Some(start)) if args.recipe.is_none() => Config::of(start.model().clone()),
        (None, ..) => recipe(name, models)?,
    };
    let config = Config { model: start.map_or(config.model, |s| s.model().clone()), ..config };
    let config = match &args.adapter {
        Some(dir) => Config { adapter: adapter::open(dir, models)?.0, ..config },
        None => config,
    };
    let config = preset.iter().try_fold(config, |config, setting| config.set(setting))?;
    let config = nanogpt::apply(corpus::weigh(&args.data, config)?, &args.nanogpt)?;
    let mut config = apply(config, &args.set)?;
    config.train.one_batch |= args.overfit_one_batch;
    if args.tokenizer.is_some() || start.is_some() || args.data.iter().any(DataArg::is_tokens) {
        config.data.tokenizer = Kind::File;
    }
    Ok(config)
}

/// The tokenizer of texts: as it was where the run goes on, or else learned.
fn tokenizer(args: &Args, config: &Config, template: Option<&Template>, text: &str, saved: Option<&Saved>) -> Result<Tokenizer> {
    let mut specials = config.specials();
    specials.extend(template.iter().flat_map(|t| t.specials()).filter(|s| !config.specials().contains(s)).cloned());
    let data = &config.data;
    let learned = data.tokenizer.algorithm().is_some() || data.tokenizer == Kind::File;
    match saved {
        Some(saved) if args.resume && learned && saved.config.data == *data => Ok(saved.tokenizer.clone()),
        _ => {
            let learning = Learning { specials: specials.clone(), ..data.learning() };
            Tokenizer::learned(data.tokenizer, &learning, text)?.with_specials(&specials)
        }
    }
}

/// A run is not overwritten unasked, and not resumed under another configuration or on another text.
fn check_directory(dir: &Path, config: &Config, tokenizer: &Tokenizer, saved: Option<&Saved>, resume: bool) -> Result<()> {
    let fail = |what: String| Err(Error(format!("{}: {what}", dir.display())));
    match (resume, saved) {
        // equal ids of other characters are another text, and the vocabulary's size is no setting
        (true, Some(saved)) if saved.tokenizer != *tokenizer && saved.config.data == config.data => {
            fail("this run was trained on another text; give the same --data".into())
        }
        // what was imported has no training behind it that could be another
        (true, Some(saved)) if saved.manifest.is_imported() && saved.config.model == config.model => Ok(()),
        (true, Some(saved)) if !saved.config.differences(config).is_empty() => fail(format!(
            "the run was made with another configuration:\n{}\nonly {} may change when a run goes on; resume without changing others, or start anew in another --out",
            saved.config.differences(config).join("\n"),
            RESUMABLE.map(|k| format!("train.{k}")).join(", ")
        )),
        (true, Some(_)) => Ok(()),
        (true, None) => fail("there is no checkpoint to resume from".into()),
        (false, Some(saved)) => {
            fail(format!("there is a run already, saved after step {}; go on with --resume, or name another --out", saved.manifest.step))
        }
        (false, None) => only_ours(dir),
    }
}

/// A new run overwrites what one left that died before its first checkpoint, and nobody else's files.
fn only_ours(dir: &Path) -> Result<()> {
    let died = read_short(&dir.join(Config::FILE), Config::LONGEST).is_ok_and(|c| c.starts_with(Config::MARK));
    match FILES.iter().map(|f| dir.join(f)).find(|f| f.exists()) {
        Some(file) if !died => Err(Error(format!("{}: this file is there already and of no run; move it, or name another --out", file.display()))),
        _ => Ok(()),
    }
}

/// A short text, kept in the run directory.
fn sample(dir: &Path, tokenizer: &Tokenizer, mut generator: Generator) -> Result<String> {
    let text = written(tokenizer, &mut generator, &tokenizer.encode(&tokenizer.start())?, 300, 1)?;
    write_file(&dir.join(SAMPLE), text.as_bytes())?;
    Ok(text)
}

/// A text that goes on from some tokens.
fn written(tokenizer: &Tokenizer, generator: &mut Generator, prompt: &[i32], tokens: usize, seed: u64) -> Result<String> {
    let sampling = Sampling { temperature: 0.8, top_k: 40, seed, ..Sampling::default() };
    let ids = generator.generate(prompt, tokens, &sampling, &mut |_| Ok(ControlFlow::Continue(())))?;
    Ok(tokenizer.decode(&ids))
}

/// Writes texts on the way, with the weights as they are.
struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    every: u64,
    tokens: usize,
    prompt: Vec<i32>,
    /// None where no texts are asked for: they cost nothing then.
    generator: Option<Generator>,
}

impl<'a> Writer<'a> {
    fn new(config: &Config, tokenizer: &'a Tokenizer, trainer: &Trainer, device: Device, options: &Options) -> Result<Writer<'a>> {
        let t = &config.train;
        let none = Writer { tokenizer, every: t.sample_every, tokens: t.sample_tokens, prompt: vec![], generator: None };
        if t.sample_every == 0 {
            return Ok(none);
        }
        if config.model.kind() != models::Kind::Decoder {
            return Err(Error(format!("train.sample_every: the model {} goes on with no text; try train.sample_every = 0", config.model.name())));
        }
        let start = if t.sample_prompt.is_empty() { tokenizer.start() } else { t.sample_prompt.clone() };
        let prompt = tokenizer.encode(&start).map_err(|e| Error(format!("train.sample_prompt: {e}")))?;
        let generator = Some(Generator::sharing(&config.model, device, options, trainer.step.session())?);
        Ok(Writer { prompt, generator, ..none })
    }

    /// The text that is due after a step; the same step writes the same.
    fn after(&mut self, step: u64) -> Result<Option<Event>> {
        let due = |_: &&mut Generator| step.is_multiple_of(self.every);
        let Some(generator) = self.generator.as_mut().filter(due) else { return Ok(None) };
        let rest = written(self.tokenizer, generator, &self.prompt, self.tokens, step)?;
        Ok(Some(Event::Sampled { step, text: self.tokenizer.decode(&self.prompt) + &rest }))
    }
}
