//! `eggcorn coord-check`: whether one learning rate is right for every width.

use super::plot::curves;
use super::{say, train};
use eggcorn::llm::{Config, Error, Models, Result, Trainer, of_width, write_file};
use std::path::PathBuf;

/// Train models of several widths for a few steps, with and without muP, and show how far their logits moved. Flags are those of train.
#[derive(clap::Args)]
#[group(skip)]
#[command(
    after_help = "With muP logits move as far at every width, so that a rate found for a narrow model is right for a wide one.\n\nExamples:\n  eggcorn coord-check shakespeare-char --data input.txt --set tie_word_embeddings=false --set optimizer.base_width=64 --widths 64,128,256,512"
)]
pub struct Args {
    #[command(flatten)]
    train: train::Args,
    /// Widths of the model; heads stay as wide as they are.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 128, 256, 512])]
    widths: Vec<usize>,
    /// How many steps.
    #[arg(long, default_value_t = 4)]
    steps: u64,
    /// The picture.
    #[arg(long, default_value = "coord-check.svg")]
    plot: PathBuf,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    if args.steps == 0 || args.widths.len() < 2 {
        return Err(Error("--steps and --widths: expected a step or more, and two widths or more, as in --widths 64,128,256".into()));
    }
    let mut lines = vec![];
    for mup in [false, true] {
        let name = if mup { "muP" } else { "standard" };
        let mut moved = vec![];
        for wide in &args.widths {
            let all = coordinates(args, models, *wide, mup)?;
            let shown: Vec<String> = all.iter().map(|x| format!("{x:.4}")).collect();
            say!("{name:8} width {wide:5}: logits moved by {} in steps 1 to {}", shown.join(", "), args.steps);
            moved.push((*wide as f64, all));
        }
        let last = args.steps as usize - 1;
        let mut steps = vec![0, last];
        steps.dedup();
        for step in steps {
            let points: Vec<(f64, f64)> = moved.iter().map(|(wide, all)| (wide.log2(), all[step].log2())).collect();
            let slope = (points[points.len() - 1].1 - points[0].1) / (points[points.len() - 1].0 - points[0].0);
            say!("{name:8} step {}: logits move as width to the power {slope:.2}", step + 1);
            lines.push((format!("{name}, step {}", step + 1), points));
        }
    }
    write_file(&args.plot, curves("how far logits move, power of 2", "width, power of 2", &lines)?.as_bytes())?;
    say!("the picture is {}", args.plot.display());
    Ok(())
}

fn coordinates(args: &Args, models: &Models, wide: usize, mup: bool) -> Result<Vec<f64>> {
    let opened = train::open(&args.train, models, None)?;
    let mut config = Config { model: of_width(&opened.config.model, wide)?, ..opened.config };
    config.optimizer.mup = mup;
    let device = args.train.device.open()?;
    let options = args.train.compile.options_on(&device, config.train.precision)?;
    let mut trainer = Trainer::compiled(config, opened.sources, device.clone(), &options)?;
    trainer.coordinates(args.steps, device, &options)
}
