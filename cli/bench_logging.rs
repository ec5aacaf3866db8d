//! `eggcorn bench logging`: what it costs a step that it is recorded and shown.

use super::bench::{Args, spread};
use super::say;
use eggcorn::llm::record::{From, Progress, Recorder};
use eggcorn::llm::{Batch, Config, Cost, Error, Event, Models, Objective, Report, Result, Step, TrainConfig, Values, random, recipe};
use eggcorn::models::Model;
use eggcorn::runtime::limits::resident_peak;
use std::path::PathBuf;
use std::time::Instant;

/// Steps that are not measured.
const WARM: usize = 4;
/// Kinds of tokens of the recipe's text.
const VOCABULARY: usize = 65;

/// A directory for the record, which goes with the measurement.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Steps in turn bare and recorded, on the same random tokens: of shakespeare-char, unless a model is named.
pub fn run(args: &Args, model: Option<Model>, models: &Models) -> Result<()> {
    let config = config(args, model, models)?;
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, config.train.precision)?;
    let mut step = Step::new(&config, device.clone(), &options)?;
    let batch = batch(&config);
    let place = Place(std::env::temp_dir().join(format!("eggcorn-bench-logging-{}", std::process::id())));
    std::fs::create_dir_all(&place.0).map_err(|e| Error(format!("{}: {e}", place.0.display())))?;
    let to = 2 * (WARM + args.steps.max(1)) as u64;
    let mut record = Recorder::open(&place.0, From { step: 0, to })?;
    let mut progress = Progress::new(0, to);
    let (mut bare, mut logged, mut own) = (vec![], vec![], vec![]);
    for i in 0..to {
        let start = Instant::now();
        let report = step.take(&batch)?;
        let took = start.elapsed().as_secs_f64();
        if i % 2 == 0 {
            bare.push(took);
            continue;
        }
        let begin = Instant::now();
        let event = event(&report, step.done(), &config, took);
        record.write(&event)?;
        progress.push(&event);
        std::hint::black_box(progress.line());
        own.push(begin.elapsed().as_secs_f64());
        logged.push(start.elapsed().as_secs_f64());
    }
    record.finish()?;
    [&mut bare, &mut logged, &mut own].into_iter().for_each(|x| drop(x.drain(..WARM)));
    let [bare, logged, own] = [bare, logged, own].map(|mut x| spread(&mut x).0);
    let share = own / bare;
    if args.json {
        say!(
            "{}",
            serde_json::json!({"model": config.model.name(), "step_seconds": bare, "logged_seconds": logged, "logging_seconds": own, "share": share})
        );
    } else {
        say!("{} {} × {}, {}", config.model.name(), config.train.batch, config.train.context, device.describe());
        say!("  step       {:.3} ms bare, {:.3} ms with its record, medians of {} each in turn", 1e3 * bare, 1e3 * logged, args.steps.max(1));
        say!("  logging    {:.1} µs, {:.2} % of the bare step: metrics.jsonl, metrics.csv, TensorBoard's events, the line", 1e6 * own, 100.0 * share);
    }
    Ok(())
}

fn config(args: &Args, model: Option<Model>, models: &Models) -> Result<Config> {
    match model {
        None => {
            let config = recipe("shakespeare-char", models)?;
            Ok(Config { model: config.model.with_vocabulary(VOCABULARY)?, ..config })
        }
        Some(model) => {
            let (batch, context) = args.sizes.of(&model)?;
            Ok(Config { train: TrainConfig { batch, context, precision: args.precision, ..TrainConfig::default() }, ..Config::of(model) })
        }
    }
}

fn batch(config: &Config) -> Batch {
    let (rows, context) = (config.train.step_rows(), config.train.context);
    let token = |i: usize| (random(7, i as u64) % config.model.vocab_size() as u64) as i32;
    let ids = |first: usize| Values::I32((first..first + rows * context).map(token).collect());
    let with = |all: Batch, (first, name): (usize, &&'static str)| all.with(name, &[rows, context], ids(first));
    Objective::of(&config.model).columns().iter().enumerate().fold(Batch::default(), with)
}

/// What a step is recorded by.
fn event(report: &Report, step: u64, config: &Config, seconds: f64) -> Event {
    let tokens = (config.train.step_rows() * config.train.context) as u64;
    let cost = Cost { tokens: step * tokens, seconds, waited: 0.0, mfu: Some(0.3), memory: resident_peak() };
    let Report { loss, grad_norm, lr, .. } = *report;
    Event::Step { step, loss, grad_norm, lr, tokens_per_second: tokens as f64 / seconds, cost }
}
