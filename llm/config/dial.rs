//! One dial for a whole run: how deep the model is. Width, heads, rate, batch and steps follow, as in nanochat.

use super::Config;
use crate::error::{Error, Result};
use crate::objective::parameters;
use models::Model;
use toml::Value;

/// What the dial says of models by the keys of their settings: depth, width, heads, heads of keys and values, and the feed-forward part's width.
const KEYS: [[&str; 5]; 2] = [
    ["n_layer", "n_embd", "n_head", "", ""],
    ["num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "intermediate_size"],
];

/// Width a layer, which is a head's, too.
const WIDTH: usize = 64;
/// Tokens a parameter that train a model best for its cost (Hoffmann et al. 2022).
const TOKENS: u64 = 20;
/// The learning rate of a model so wide; that of others goes with one by the root of their width.
const RATE: (f64, usize) = (6e-4, 768);

/// The keys of a model that the dial turns.
fn keys(model: &Model) -> Option<&'static [&'static str; 5]> {
    KEYS.iter().find(|keys| keys[..3].iter().all(|key| model.settings().contains_key(*key)))
}

/// How wide a model's residual stream is, by its settings.
pub fn width(model: &Model) -> Result<usize> {
    let width = keys(model).and_then(|keys| model.settings()[keys[1]].as_integer());
    let none = || Error(format!("the model {} has no width that is known: expected n_embd or hidden_size; try gpt2 or llama", model.name()));
    width.and_then(|n| usize::try_from(n).ok()).ok_or_else(none)
}

/// A model of another width, with heads as wide as before.
pub fn of_width(model: &Model, wide: usize) -> Result<Model> {
    let old = width(model)?;
    let keys = keys(model).expect("it has a width");
    let mut settings = model.settings().clone();
    for key in keys[1..].iter().filter(|key| !key.is_empty()) {
        let Some(n) = settings.get(*key).and_then(Value::as_integer) else { continue };
        let n = n as usize * wide;
        if !n.is_multiple_of(old) {
            return Err(Error(format!("{key} has no share at a width of {wide}: expected a multiple of a head's width")));
        }
        settings.insert((*key).into(), Value::Integer((n / old) as i64));
    }
    Ok(model.with(settings)?)
}

impl Config {
    /// The configuration of a model so deep, and what was chosen, for people: 64 wide a layer, heads of 64, a rate that falls with the root of the
    /// width, 20 tokens a parameter, and steps of so many tokens as are best for all of them (after Bergsma et al. 2025). The vocabulary must be
    /// known. A batch on the device, and how long its rows are, stay.
    pub fn at_depth(&self, depth: usize) -> Result<(Config, String)> {
        if !(1..=256).contains(&depth) {
            return Err(Error(format!("--depth {depth}: expected 1 to 256 layers; try --depth 4")));
        }
        let none = || Error(format!("--depth: the model {} has no such dial; try gpt2 or llama", self.model.name()));
        let [layers, wide, heads, pairs, inner] = *keys(&self.model).ok_or_else(none)?;
        let width = WIDTH * depth;
        let mut settings = self.model.settings().clone();
        let mut set = |key: &str, n: usize| {
            if settings.contains_key(key) {
                settings.insert(key.into(), Value::Integer(n as i64));
            }
        };
        set(layers, depth);
        set(wide, width);
        set(heads, depth);
        set(pairs, depth);
        // eight thirds, so that three matrices are as large as two of four times the width
        set(inner, (8 * width / 3).next_multiple_of(WIDTH));
        let model = self.model.with(settings)?;
        let count: u64 = parameters(&model)?.iter().map(|p| p.1.count() as u64).sum();
        let tokens = TOKENS * count;
        let mut train = self.train.clone();
        train.lr = rounded(RATE.0 * (RATE.1 as f64 / width as f64).sqrt());
        train.min_lr = None;
        let row = (train.batch * train.context) as f64;
        let step = 0.0306 * 2048.0 * (tokens as f64).powf(0.383);
        train.accumulate = (step / row).round().clamp(1.0, f64::from(passes::ACCUMULATE_MAX)) as u32;
        train.steps = tokens.div_ceil((train.batch * train.context) as u64 * u64::from(train.accumulate)).max(1);
        if train.warmup >= 1.0 {
            train.warmup = train.warmup.min(train.steps as f64);
        }
        let chosen = format!(
            "depth {depth}: {width} wide, {depth} heads, {count} parameters, {tokens} tokens in {} steps of {}, rate {:e}",
            train.steps,
            row as u64 * u64::from(train.accumulate),
            train.lr
        );
        Ok((Config { model, train, ..self.clone() }, chosen))
    }
}

/// A number with three digits, as people write it.
fn rounded(x: f64) -> f64 {
    format!("{x:.2e}").parse().unwrap_or(x)
}
