//! `eggcorn bench train --data`: a training step on tokens from shards, beside one on tokens that are there already.

use super::bench::{Args, spread};
use super::say;
use eggcorn::llm::{Batch, Config, Data, Error, Index, Result, Shards, Source, Step, TrainConfig, Values, random};
use eggcorn::models::Model;
use std::path::Path;
use std::time::Instant;

/// Seconds of each step.
#[derive(Default)]
struct Seconds {
    /// On a batch that is there already.
    synthetic: Vec<f64>,
    /// On a batch from shards, with the making of it.
    shards: Vec<f64>,
    /// The making alone.
    making: Vec<f64>,
}

pub fn run(args: &Args, dir: &Path, model: Model) -> Result<()> {
    let (batch, context) = args.sizes.of(&model)?;
    let train = TrainConfig { batch, context, precision: args.precision, ..TrainConfig::default() };
    let config = Config { train, ..Config::of(model) };
    let data = Data::new(vec![source(dir, &config.model)?], &config.data, context, 0)?;
    let device = args.device.open()?;
    let mut step = Step::new(&config, device.clone(), &args.compile.options_on(&device, args.precision)?)?;
    let mut seconds = measure(&mut step, &synthetic(&config), args.steps, &|number| data.batch(1, number, batch, context))?;
    let [synthetic, shards, making] = [&mut seconds.synthetic, &mut seconds.shards, &mut seconds.making].map(|s| spread(s));
    if args.json {
        let line = serde_json::json!({
            "model": config.model.name(), "batch": batch, "seq": context, "device": device.describe(), "steps": args.steps,
            "synthetic_seconds": synthetic.0, "shards_seconds": shards.0, "batch_seconds": making.0, "ratio": shards.0 / synthetic.0,
        });
        say!("{line}");
        return Ok(());
    }
    say!("{} {batch} × {context}, {}, medians of {} steps in turn", config.model.name(), device.describe(), args.steps);
    say!("  synthetic  {:.4} s, {:.4} to {:.4}", synthetic.0, synthetic.1, synthetic.2);
    say!("  shards     {:.4} s, {:.4} to {:.4}, {:.4} times as long", shards.0, shards.1, shards.2, shards.0 / synthetic.0);
    say!("  batch      {:.1} µs to make, {:.3} % of a step", making.0 * 1e6, 100.0 * making.0 / synthetic.0);
    Ok(())
}

/// The tokens of a folder, all of which the model must have.
fn source(dir: &Path, model: &Model) -> Result<Source> {
    let (have, most) = (Index::read(dir)?.tokenizer.vocabulary, model.vocab_size());
    if have > most {
        return Err(Error(format!("{}: its vocabulary is {have}, and the model's {most}; try --set vocab_size={have}", dir.display())));
    }
    Ok(Source::shards(&dir.display().to_string(), Shards::open(dir, None)?))
}

/// A batch of random tokens.
fn synthetic(config: &Config) -> Batch {
    let (shape, vocabulary) = ([config.train.batch, config.train.context], config.model.vocab_size() as u64);
    let ids = |from: u64| Values::I32((from..from + (shape[0] * shape[1]) as u64).map(|i| (random(7, i) % vocabulary) as i32).collect());
    Batch::default().with("input_ids", &shape, ids(0)).with("labels", &shape, ids(1))
}

/// Steps of both kinds in turn, after one that is not measured.
fn measure(step: &mut Step, synthetic: &Batch, steps: usize, make: &dyn Fn(u64) -> Result<Batch>) -> Result<Seconds> {
    step.take(synthetic)?;
    let mut seconds = Seconds::default();
    for number in 0..steps.max(1) as u64 {
        let start = Instant::now();
        step.take(synthetic)?;
        seconds.synthetic.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let batch = make(number)?;
        seconds.making.push(start.elapsed().as_secs_f64());
        step.take(&batch)?;
        seconds.shards.push(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}
