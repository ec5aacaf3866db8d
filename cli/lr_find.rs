//! `eggcorn lr-find`: which learning rate to begin with.

use super::plot::curves;
use super::{say, train};
use eggcorn::llm::{Models, Result, Trainer, write_file};
use std::path::PathBuf;

/// Try growing learning rates, draw the losses, and suggest one to train with. Nothing is trained: flags are those of train.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "Examples:\n  eggcorn lr-find shakespeare-char --data input.txt\n  eggcorn lr-find shakespeare-char --data input.txt --set optimizer.name=lion --to 0.1"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
    /// The first rate.
    #[arg(long, default_value_t = 1e-6)]
    from: f64,
    /// The last, where the loss is not lost before.
    #[arg(long, default_value_t = 1.0)]
    to: f64,
    /// How many steps.
    #[arg(long, default_value_t = 120)]
    points: u64,
    /// The picture.
    #[arg(long, default_value = "lr-find.svg")]
    plot: PathBuf,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let opened = train::open(&args.train, models, None)?;
    let device = args.train.device.open()?;
    let options = args.train.compile.options_on(&device, opened.config.train.precision)?;
    let mut trainer = Trainer::compiled(opened.config.clone(), opened.sources, device, &options)?;
    if let Some(start) = &opened.start {
        start.begin(&mut trainer.step, &opened.config)?;
    }
    let rates = trainer.find_rate(args.from, args.to, args.points)?;
    for (rate, loss) in rates.points.iter().step_by(rates.points.len().div_ceil(20)) {
        say!("rate {rate:.1e}  loss {loss:.4}");
    }
    let points = rates.points.iter().map(|(rate, loss)| (rate.log10(), *loss)).collect();
    write_file(&args.plot, curves("loss by learning rate", "learning rate, power of 10", &[("smoothed loss".into(), points)])?.as_bytes())?;
    say!("the loss is lowest at {:.1e}; try --set train.lr={:e}. All losses are in {}", rates.lowest(), rates.suggestion(), args.plot.display());
    Ok(())
}
