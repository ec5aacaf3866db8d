//! nanoGPT's flags, as people have them in their fingers: `train --batch_size=32 --n_layer=4`. One table says what each means here.

use super::note;
use eggcorn::llm::{Config, Error, Result};
use std::ffi::OsString;

/// What a flag of nanoGPT's `train.py` means here.
enum Means {
    /// Settings, the first that the configuration has of each list.
    Settings(&'static [&'static [&'static str]]),
    /// A flag of ours with the same value.
    Flag(&'static str),
    /// What follows from its value.
    Value(fn(&str) -> std::result::Result<Vec<String>, &'static str>),
    /// Nothing, and why.
    Nothing(&'static str),
}

use Means::{Flag, Nothing, Settings, Value};

/// The table. Names are `train.py`'s; `--device` is a flag of ours, too.
#[rustfmt::skip]
const TABLE: [(&str, Means); 34] = [
    ("out_dir",                     Flag("--out")),
    ("init_from",                   Value(init_from)),
    ("batch_size",                  Settings(&[&["train.batch"]])),
    ("block_size",                  Settings(&[&["train.context"], &["n_positions", "max_position_embeddings"]])),
    ("gradient_accumulation_steps", Settings(&[&["train.accumulate"]])),
    ("max_iters",                   Settings(&[&["train.steps"]])),
    ("learning_rate",               Settings(&[&["train.lr"]])),
    ("min_lr",                      Settings(&[&["train.min_lr"]])),
    ("warmup_iters",                Settings(&[&["train.warmup"]])),
    ("decay_lr",                    Value(decay_lr)),
    ("weight_decay",                Settings(&[&["optimizer.weight_decay"]])),
    ("beta1",                       Settings(&[&["optimizer.beta1"]])),
    ("beta2",                       Settings(&[&["optimizer.beta2"]])),
    ("grad_clip",                   Settings(&[&["train.grad_clip"]])),
    ("eval_interval",               Settings(&[&["train.eval_every"]])),
    ("eval_iters",                  Settings(&[&["train.eval_batches"]])),
    ("n_layer",                     Settings(&[&["n_layer", "num_hidden_layers"]])),
    ("n_head",                      Settings(&[&["n_head", "num_attention_heads"]])),
    ("n_embd",                      Settings(&[&["n_embd", "hidden_size"]])),
    ("dropout",                     Settings(&[&["dropout"]])),
    ("bias",                        Settings(&[&["bias", "mlp_bias"]])),
    ("seed",                        Settings(&[&["train.seed"]])),
    ("dtype",                       Value(dtype)),
    ("dataset",                     Value(dataset)),
    ("eval_only",                   Value(eval_only)),
    ("always_save_checkpoint",      Nothing("the last checkpoint and the best are both kept")),
    ("lr_decay_iters",              Nothing("the rate falls until the last step, train.steps")),
    ("log_interval",                Nothing("every step is in metrics.jsonl, and a line is shown every few seconds")),
    ("compile",                     Nothing("every program is compiled; --opt says how much it is rewritten")),
    ("backend",                     Nothing("a training runs on one device")),
    ("master_process",              Nothing("a training runs on one device")),
    ("wandb_log",                   Nothing("a run is recorded in its directory: report.html, and tb/ for TensorBoard")),
    ("wandb_project",               Nothing("a run is recorded in its directory: report.html, and tb/ for TensorBoard")),
    ("wandb_run_name",              Nothing("a run is recorded in its directory: report.html, and tb/ for TensorBoard")),
];

fn init_from(value: &str) -> std::result::Result<Vec<String>, &'static str> {
    match value {
        "scratch" => Ok(vec![]),
        "resume" => Ok(vec!["--resume".into()]),
        v if v.starts_with("gpt2") && !std::path::Path::new(v).is_dir() => {
            Err("that model is downloaded first: --init-from takes the folder of a model as Hugging Face has it")
        }
        v => Ok(vec!["--init-from".into(), v.into()]),
    }
}

fn decay_lr(value: &str) -> std::result::Result<Vec<String>, &'static str> {
    let curve = if truth(value)? { "cosine" } else { "constant" };
    Ok(vec!["--set".into(), format!("train.schedule={curve}")])
}

fn dtype(value: &str) -> std::result::Result<Vec<String>, &'static str> {
    match value {
        "float32" | "f32" => Ok(vec!["--set".into(), "train.precision=f32".into()]),
        "bfloat16" | "bf16" => Ok(vec!["--set".into(), "train.precision=bf16".into()]),
        _ => Err("expected float32 or bfloat16, whose range is large enough for gradients"),
    }
}

fn dataset(_: &str) -> std::result::Result<Vec<String>, &'static str> {
    Err(
        "a text is named by its path, and becomes tokens by itself: --data input.txt; so are folders that eggcorn data prepared, and a .bin of nanoGPT's",
    )
}

fn eval_only(value: &str) -> std::result::Result<Vec<String>, &'static str> {
    if truth(value)? { Err("a run is evaluated by: eggcorn eval DIR") } else { Ok(vec![]) }
}

fn truth(value: &str) -> std::result::Result<bool, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("expected True or False"),
    }
}

/// The hidden flag that carries those settings whose names depend on the model.
const CARRIER: &str = "--nanogpt";

/// A command line in our words. Flags of ours, and all of other commands, stay what they are.
pub fn translated(args: impl Iterator<Item = OsString>) -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = args.collect();
    if args.get(1).is_none_or(|a| a != "train") {
        return Ok(args);
    }
    let mut rest = args.split_off(2).into_iter();
    while let Some(arg) = rest.next() {
        let flag = arg.to_str().and_then(|a| a.strip_prefix("--"));
        let Some((name, value)) = flag.map(|f| f.split_once('=').map_or((f, None), |(name, value)| (name, Some(value)))) else {
            args.push(python(arg)?);
            continue;
        };
        let Some((_, means)) = TABLE.iter().find(|row| row.0 == name) else {
            args.push(arg);
            continue;
        };
        let value = match value {
            Some(value) => value.to_string(),
            None => {
                let next = rest.next().and_then(|v| v.into_string().ok());
                next.ok_or_else(|| Error(format!("--{name} has no value: expected one, as in --{name}=VALUE")))?
            }
        };
        args.extend(words(name, &value, means)?.into_iter().map(OsString::from));
    }
    Ok(args)
}

/// What an argument becomes that is no flag: a configuration of nanoGPT's is Python, and none of ours.
fn python(arg: OsString) -> Result<OsString> {
    match arg.to_str() {
        Some(path) if path.ends_with(".py") => Err(Error(format!(
            "{path}: a configuration in Python is not read; name a recipe, as eggcorn train shakespeare-char, or a --config in TOML"
        ))),
        _ => Ok(arg),
    }
}

fn words(name: &str, value: &str, means: &Means) -> Result<Vec<String>> {
    match means {
        Settings(_) => Ok(vec![CARRIER.into(), format!("{name}={value}")]),
        Flag(ours) => Ok(vec![ours.to_string(), value.into()]),
        Value(f) => f(value).map_err(|why| Error(format!("--{name}={value}: {why}"))),
        Nothing(why) => {
            note!("notice: --{name} has no meaning here: {why}");
            Ok(vec![])
        }
    }
}

/// A configuration with what such flags change, in their order.
pub fn apply(config: Config, flags: &[String]) -> Result<Config> {
    flags.iter().try_fold(config, |config, flag| {
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let keys = match TABLE.iter().find(|row| row.0 == name) {
            Some((_, Settings(keys))) => *keys,
            _ => return Err(Error(format!("{CARRIER} {flag}: there is no such flag"))),
        };
        keys.iter().try_fold(config, |config, among| {
            let has = |key: &&&str| key.contains('.') || config.model.settings().contains_key(**key);
            let key =
                among.iter().find(has).ok_or_else(|| Error(format!("--{name}={value}: the model {} has no such setting", config.model.name())))?;
            config.set(&format!("{key}={value}")).map_err(|e| Error(format!("--{name}={value}: {e}")))
        })
    })
}
