//! `eggcorn train`: a run from text to checkpoint.

use super::options::{DeviceArgs, apply, mebibytes};
use super::plot::plot;
use super::say;
use eggcorn::llm::{
    Config, Error, Event, Models, OWN_TEXT, Outcome, RESUMABLE, Result, Sampling, Tokenizer, Trainer, read_manifest, read_text, recipe, write_file,
};
use eggcorn::runtime::Device;
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Train a model on text, save it, and show how it goes.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eggcorn train                                   # a small GPT on this project's own source\n  eggcorn train shakespeare-char --data input.txt --out runs/shakespeare\n  eggcorn train --config my.toml --data input.txt --set train.lr=3e-4\n  eggcorn train --resume --out runs/shakespeare --data input.txt"
)]
pub struct Args {
    /// The recipe, or a model with the usual training.
    recipe: Option<String>,
    /// A configuration instead of a recipe.
    #[arg(long, conflicts_with = "recipe")]
    config: Option<PathBuf>,
    /// The text, UTF-8.
    #[arg(long)]
    data: Option<PathBuf>,
    /// The run directory.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the run directory's checkpoint; with --set train.steps=N, to another number of steps than was planned.
    #[arg(long)]
    resume: bool,
    /// Change a setting, as in --set train.lr=3e-4, whatever the recipe or --config says; of two changes of one setting the later counts.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Look at every kernel's result and name the first that is not finite.
    #[arg(long)]
    check_finite: bool,
    /// Print events as JSON, a line each.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let name = args.recipe.as_deref().unwrap_or("self");
    let dir = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(name));
    let saved = saved_config(&dir, models)?;
    let config = match (&args.config, &saved, args.resume) {
        (Some(path), ..) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error(format!("{}: the configuration cannot be read: {e}", path.display())))?;
            Config::parse(&text, &path.display().to_string(), models)?
        }
        (None, Some(saved), true) if args.recipe.is_none() => saved.clone(),
        _ => recipe(name, models)?,
    };
    let config = apply(config, &args.set)?;
    let text = match &args.data {
        Some(path) => read_text(path)?,
        None if name == "self" => OWN_TEXT.to_string(),
        None => return Err(Error(format!("the recipe {name} needs a text: add --data FILE"))),
    };
    let tokenizer = Tokenizer::of(config.data.tokenizer, &text);
    let config = Config { model: config.model.with_vocabulary(tokenizer.size())?, ..config };
    check_directory(&dir, &config, saved.as_ref(), args.resume)?;
    let tokens = tokenizer.encode(&text)?;
    let device = args.device.open()?;
    let mut trainer = Trainer::new(config.clone(), tokens, device.clone())?;
    trainer.step.check_finite = args.check_finite;
    if args.resume {
        trainer.resume(&dir)?;
    }
    std::fs::create_dir_all(&dir).map_err(|e| Error(format!("{}: the run directory cannot be made: {e}", dir.display())))?;
    write_file(&dir.join("config.toml"), config.to_toml().as_bytes())?;
    write_file(&dir.join("tokenizer.json"), tokenizer.to_json().as_bytes())?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once, unsaved");
    })
    .map_err(|e| Error(format!("Ctrl-C cannot be handled: {e}")))?;
    let mut view = View::new(&dir, config.train.steps, args.json)?;
    let outcome = trainer.run(Some(&dir), &stop, &mut |e| view.show(&e));
    view.finish();
    match outcome? {
        Outcome::Stopped(step) => {
            let data = args.data.as_ref().map_or(String::new(), |d| format!(" --data {}", d.display()));
            Err(Error(format!("stopped after step {step}, which is saved; go on with: eggcorn train --resume --out {}{data}", dir.display())))
        }
        Outcome::Finished(loss) => {
            let sample = sample(&dir, &tokenizer, device, models)?;
            plot(&dir)?;
            if !args.json {
                say!("loss over all held-out text: {loss:.4}\n\n{sample}\n");
                say!("the run is in {}, its loss as a picture in loss.svg; write more with: eggcorn generate {}", dir.display(), dir.display());
            }
            Ok(())
        }
    }
}

fn saved_config(dir: &Path, models: &Models) -> Result<Option<Config>> {
    let path = dir.join("config.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => Config::parse(&text, &path.display().to_string(), models).map(Some),
        Err(_) => Ok(None),
    }
}

/// A run is not overwritten unasked, and not resumed under another configuration.
fn check_directory(dir: &Path, config: &Config, saved: Option<&Config>, resume: bool) -> Result<()> {
    match (resume, saved, read_manifest(dir)?) {
        (true, Some(saved), Some(_)) if !saved.differences(config).is_empty() => Err(Error(format!(
            "{}: the run was made with another configuration:\n{}\nonly {} may change when a run goes on; resume without changing others, or start anew in another --out",
            dir.display(),
            saved.differences(config).join("\n"),
            RESUMABLE.map(|k| format!("train.{k}")).join(", ")
        ))),
        (true, _, None) => Err(Error(format!("{}: there is no checkpoint to resume from", dir.display()))),
        (false, _, Some(m)) => {
            Err(Error(format!("{}: there is a run already, saved after step {}; go on with --resume, or name another --out", dir.display(), m.step)))
        }
        _ => Ok(()),
    }
}

/// A short text, kept in the run directory.
fn sample(dir: &Path, tokenizer: &Tokenizer, device: Device, models: &Models) -> Result<String> {
    let (mut generator, _) = super::generate::open(dir, device, models)?;
    let prompt = tokenizer.encode("\n").or_else(|_| tokenizer.encode(" ")).unwrap_or_else(|_| vec![0]);
    let sampling = Sampling { temperature: 0.8, top_k: 40, seed: 1 };
    let text = tokenizer.decode(&generator.generate(&prompt, 300, &sampling, &mut |_| {})?);
    write_file(&dir.join("sample.txt"), text.as_bytes())?;
    Ok(text)
}

/// What a person or a machine sees of a run.
struct View {
    bar: Option<ProgressBar>,
    json: bool,
    metrics: std::fs::File,
    path: PathBuf,
    last: Instant,
    steps: u64,
}

impl View {
    fn new(dir: &Path, steps: u64, json: bool) -> Result<View> {
        let path = dir.join("metrics.jsonl");
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| Error(format!("{}: metrics cannot be written: {e}", path.display())))?;
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left").expect("the template reads");
            ProgressBar::new(steps).with_style(style)
        });
        Ok(View { bar, json, metrics, path, last: Instant::now(), steps })
    }

    fn show(&mut self, event: &Event) -> Result<()> {
        let line = json_line(event);
        writeln!(self.metrics, "{line}").map_err(|e| Error(format!("{}: metrics cannot be written: {e}", self.path.display())))?;
        if self.json {
            say!("{line}");
            return Ok(());
        }
        match event {
            Event::Ready { parameters, bytes, compile_seconds, kernels, from_step } => {
                let from = if *from_step > 0 { format!(", from step {from_step}") } else { String::new() };
                self.line(format!(
                    "{parameters} parameters, {kernels} kernels compiled in {compile_seconds:.2} s, {} planned{from}",
                    mebibytes(*bytes)
                ));
                self.last = Instant::now();
            }
            Event::Step { step, loss, lr, tokens_per_second, .. } => {
                let message = format!("loss {loss:.4} lr {lr:.1e} {tokens_per_second:.0} tokens/s");
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(*step);
                        bar.set_message(message);
                    }
                    None if *step == 1 || self.last.elapsed().as_secs() >= 5 => {
                        self.last = Instant::now();
                        say!("step {step}/{} {message}", self.steps);
                    }
                    None => {}
                }
            }
            Event::Evaluated { step, loss, whole } => {
                self.line(format!("step {step}: held-out loss {loss:.4}{}", if *whole { " (all of it)" } else { "" }))
            }
            Event::Notice(text) => self.line(format!("notice: {text}")),
            Event::Saved { .. } => {}
        }
        Ok(())
    }

    fn line(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => say!("{text}"),
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn json_line(event: &Event) -> String {
    use serde_json::json;
    match event {
        Event::Ready { parameters, bytes, compile_seconds, kernels, from_step } => {
            json!({"event": "ready", "parameters": parameters, "bytes": bytes, "compile_seconds": compile_seconds, "kernels": kernels, "from_step": from_step})
        }
        Event::Step { step, loss, grad_norm, lr, tokens_per_second } => {
            json!({"event": "step", "step": step, "loss": loss, "grad_norm": grad_norm, "lr": lr, "tokens_per_second": tokens_per_second})
        }
        Event::Evaluated { step, loss, whole } => json!({"event": "evaluated", "step": step, "loss": loss, "whole": whole}),
        Event::Notice(text) => json!({"event": "notice", "text": text}),
        Event::Saved { step } => json!({"event": "saved", "step": step}),
    }
    .to_string()
}
