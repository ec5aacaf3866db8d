//! The configuration of a run: one TOML file, recipes, and `--set a.b=c`.

use crate::error::{Error, Result, nearest};
use crate::text::Kind;
use models::{Gpt, Model};
use serde::{Deserialize, Serialize};

/// Everything that determines a run, but for the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The model. Its vocabulary is the tokenizer's, whatever is written here.
    pub model: Model,
    /// The text.
    #[serde(default)]
    pub data: DataConfig,
    /// The training.
    #[serde(default)]
    pub train: TrainConfig,
}

/// How text becomes tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// The tokenizer.
    pub tokenizer: Kind,
    /// The share of the text, at its end, that is held out.
    pub held_out: f64,
}

impl Default for DataConfig {
    fn default() -> DataConfig {
        DataConfig { tokenizer: Kind::Char, held_out: 0.1 }
    }
}

/// What products are computed in; all else is `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// Operands rounded to bfloat16, sums in 32 bits.
    Bf16,
    /// The same with 16-bit floats of less range: not for training, whose gradients are too small for it.
    F16,
}

impl Precision {
    /// The type of products' operands.
    pub fn dtype(self) -> ir::DType {
        match self {
            Precision::F32 => ir::DType::F32,
            Precision::Bf16 => ir::DType::BF16,
            Precision::F16 => ir::DType::F16,
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Precision, String> {
        match text {
            "f32" => Ok(Precision::F32),
            "bf16" => Ok(Precision::Bf16),
            "f16" => Ok(Precision::F16),
            _ => Err(format!("'{text}' is no precision: expected f32, bf16 or f16")),
        }
    }
}

/// How a model is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Number of steps.
    pub steps: u64,
    /// Windows a micro-batch.
    pub batch: usize,
    /// Tokens a window.
    pub context: usize,
    /// Micro-batches a step.
    pub accumulate: u32,
    /// What products are computed in: f32 or bf16.
    pub precision: Precision,
    /// Highest learning rate.
    pub lr: f64,
    /// Learning rate at the end.
    pub min_lr: f64,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// AdamW's decay of the first moment.
    pub beta1: f64,
    /// AdamW's decay of the second moment.
    pub beta2: f64,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for no limit.
    pub grad_clip: f64,
    /// Seed of initialisation, batches and dropout.
    pub seed: u64,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// Held-out batches an evaluation on the way uses; the last uses all.
    pub eval_batches: usize,
    /// Steps between checkpoints.
    pub save_every: u64,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            steps: 2000,
            batch: 12,
            context: 64,
            accumulate: 1,
            precision: Precision::F32,
            lr: 1e-3,
            min_lr: 1e-4,
            warmup: 100,
            beta1: 0.9,
            beta2: 0.99,
            weight_decay: 0.1,
            grad_clip: 1.0,
            seed: 1337,
            eval_every: 250,
            eval_batches: 20,
            save_every: 500,
        }
    }
}

impl TrainConfig {
    /// The learning rate of a step, counted from 0: linear warm-up, then a cosine to the end.
    pub fn lr_at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.lr * (step + 1) as f64 / (self.warmup + 1) as f64;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1);
        let done = (step - self.warmup) as f64 / span as f64;
        self.min_lr + 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos()) * (self.lr - self.min_lr)
    }
}

/// Names of the recipes.
pub const RECIPES: [&str; 2] = ["self", "shakespeare-char"];

/// A recipe: a configuration with a name.
pub fn recipe(name: &str) -> Result<Config> {
    let gpt = |n_embd, n_layer, n_positions| Model::Gpt(Gpt { vocab_size: 256, n_positions, n_layer, n_head: 4, n_embd, dropout: 0.0 });
    match name {
        // nanoGPT's recipe for a CPU
        "shakespeare-char" => Ok(Config { model: gpt(128, 4, 64), data: DataConfig::default(), train: TrainConfig::default() }),
        "self" => {
            let train = TrainConfig {
                steps: 2000,
                batch: 16,
                context: 96,
                lr: 2e-3,
                min_lr: 2e-4,
                warmup: 50,
                eval_every: 250,
                save_every: 1000,
                ..TrainConfig::default()
            };
            Ok(Config { model: gpt(128, 4, 96), data: DataConfig::default(), train })
        }
        _ => {
            let hint = nearest(name, RECIPES).map_or(String::new(), |n| format!("; did you mean {n}?"));
            Err(Error(format!("there is no recipe {name}; there are {}{hint}", RECIPES.join(", "))))
        }
    }
}

impl Config {
    /// Reads TOML.
    pub fn parse(text: &str, file: &str) -> Result<Config> {
        let value: toml::Table = text.parse().map_err(|e: toml::de::Error| Error(format!("{file}: {e}")))?;
        from_table(value, file)
    }

    /// The configuration as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration has a TOML form")
    }

    /// Changes one value: `train.lr=3e-4`, or `n_layer=2` for a key of the model.
    pub fn set(&self, assignment: &str) -> Result<Config> {
        let (key, value) = assignment.split_once('=').ok_or_else(|| Error(format!("--set {assignment}: expected key=value, as in train.lr=3e-4")))?;
        let mut table: toml::Table = self.to_toml().parse().expect("its own TOML reads back");
        let parsed = format!("x = {value}").parse::<toml::Table>().ok().and_then(|t| t.get("x").cloned());
        let value = parsed.unwrap_or_else(|| toml::Value::String(value.into()));
        set_path(&mut table, key.trim(), value)?;
        from_table(table, &format!("--set {assignment}"))
    }

    /// Why this cannot be trained, if it cannot.
    pub fn check(&self) -> Result<()> {
        self.model.check().map_err(|e| Error(format!("model: {e}")))?;
        let t = &self.train;
        let fail = |what: String| Err(Error(what));
        if t.precision == Precision::F16 {
            return fail("train.precision is f16, whose range is too small for gradients: expected f32 or bf16".into());
        }
        if t.batch == 0 || t.context == 0 || t.accumulate == 0 || t.steps == 0 || t.eval_every == 0 || t.save_every == 0 || t.eval_batches == 0 {
            return fail("train: steps, batch, context, accumulate, eval_every, eval_batches and save_every must be at least 1".into());
        }
        if t.context > self.model.context() {
            return fail(format!("train.context is {}, and the model has only {} positions", t.context, self.model.context()));
        }
        if !(self.data.held_out > 0.0 && self.data.held_out < 1.0) {
            return fail(format!("data.held_out is {}, expected above 0 and below 1", self.data.held_out));
        }
        let numbers = [t.lr, t.min_lr, t.beta1, t.beta2, t.weight_decay, t.grad_clip];
        if numbers.iter().any(|x| !x.is_finite() || *x < 0.0) || t.beta1 >= 1.0 || t.beta2 >= 1.0 {
            return fail("train: lr, min_lr, weight_decay and grad_clip must be at least 0, and beta1 and beta2 below 1".into());
        }
        Ok(())
    }

    /// What differs from another configuration, a line a key.
    pub fn differences(&self, other: &Config) -> Vec<String> {
        let lines = |c: &Config| c.to_toml().lines().map(str::to_string).collect::<Vec<_>>();
        let (a, b) = (lines(self), lines(other));
        a.iter()
            .filter(|l| !b.contains(l))
            .map(|l| format!("  saved: {l}"))
            .chain(b.iter().filter(|l| !a.contains(l)).map(|l| format!("  now:   {l}")))
            .collect()
    }
}

/// Sets `a.b`, or a key of `model` by its bare name. The key must exist.
pub fn set_path(table: &mut toml::Table, key: &str, value: toml::Value) -> Result<()> {
    let known: Vec<String> = table.iter().flat_map(|(s, t)| t.as_table().into_iter().flatten().map(move |(k, _)| format!("{s}.{k}"))).collect();
    let path = if key.contains('.') { key.to_string() } else { format!("model.{key}") };
    if !known.contains(&path) {
        let hint = nearest(&path, known.iter().map(String::as_str)).map_or(String::new(), |n| format!("; did you mean {n}?"));
        return Err(Error(format!("there is no setting {key}{hint}")));
    }
    let (section, name) = path.split_once('.').expect("every known key has a section");
    let old = &mut table[section][name];
    // a whole number where the setting is a fraction
    *old = match (&*old, value) {
        (toml::Value::Float(_), toml::Value::Integer(n)) => toml::Value::Float(n as f64),
        (_, v) => v,
    };
    Ok(())
}

fn from_table(table: toml::Table, file: &str) -> Result<Config> {
    check_keys(&table, file)?;
    table.try_into().map_err(|e: toml::de::Error| Error(format!("{file}: {}", e.message())))
}

/// A key that no recipe has is unknown: the nearest is named.
fn check_keys(table: &toml::Table, file: &str) -> Result<()> {
    let arch = table.get("model").and_then(|m| m.get("arch")).and_then(toml::Value::as_str).unwrap_or("gpt");
    let model = models::by_name(if arch == "llama" { "llama" } else { "gpt2" }).expect("both are known");
    let known = Config { model, data: DataConfig::default(), train: TrainConfig::default() };
    let known: toml::Table = known.to_toml().parse().expect("its own TOML reads back");
    let unknown = |key: &str, names: &toml::Table, at: &str| {
        let hint = nearest(key, names.keys().map(String::as_str)).map_or(String::new(), |n| format!("; did you mean {at}{n}?"));
        Err(Error(format!("{file}: unknown key {at}{key}{hint}")))
    };
    for (section, value) in table {
        let Some(names) = known.get(section).and_then(toml::Value::as_table) else { return unknown(section, &known, "") };
        for key in value.as_table().into_iter().flat_map(toml::Table::keys) {
            if !names.contains_key(key) {
                return unknown(key, names, &format!("{section}."));
            }
        }
    }
    Ok(())
}
