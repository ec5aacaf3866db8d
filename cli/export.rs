//! `eggcorn export`: a run as Hugging Face's libraries load it.

use super::options::bytes;
use super::say;
use eggcorn::llm::adapter::peft;
use eggcorn::llm::hub::{self, Directory, Export, FileType};
use eggcorn::llm::{Models, Result};
use std::path::PathBuf;

/// Write a model as Hugging Face's libraries load it.
#[derive(clap::Args)]
#[command(
    after_help = "The new directory has config.json, model.safetensors or its shards, tokenizer.json and generation_config.json. It is there whole or not\nat all.\n\nExamples:\n  eggcorn export runs/shakespeare shakespeare-hf/\n  python -c 'from transformers import AutoModelForCausalLM as A; print(A.from_pretrained(\"shakespeare-hf\"))'\n  eggcorn export runs/smol smol-hf/ --dtype bf16 --shard-size 2GiB\n  eggcorn export runs/adapted my-lora/ --adapter"
)]
pub struct Args {
    /// The directory of the model: a run's, or one that was exported before.
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// The new directory, which is not there yet.
    out: PathBuf,
    /// What the tensors are rounded to: f32, bf16 or f16.
    #[arg(long, default_value = "f32")]
    dtype: FileType,
    /// Take the averages of the weights, of a run with train.ema.
    #[arg(long)]
    ema: bool,
    /// Write what stands beside the model alone, as PEFT has adapters: adapter_config.json and adapter_model.safetensors.
    #[arg(long, conflicts_with_all = ["dtype", "shard_size"])]
    adapter: bool,
    /// The most bytes of tensors in a file, as in 2GiB; 5 GB unless said.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    shard_size: Option<usize>,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let how = Export { dtype: args.dtype, shard: args.shard_size.map_or(Export::default().shard, |n| n as u64) };
    let directory = Directory::open(&args.from, models)?.averaged(args.ema);
    if args.adapter {
        let tensors = peft::export(&directory, &args.out)?;
        say!("an adapter of {} in {tensors} tensors in {}", directory.model().name(), args.out.display());
        return Ok(());
    }
    let files = hub::export(&directory, &args.out, &how)?;
    say!("{} in {} files of tensors in {}", directory.model().name(), files, args.out.display());
    Ok(())
}
