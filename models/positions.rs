//! Where tokens stand, in primitive operations: turned pairs of queries and keys, slopes over distances, windows.

use crate::architecture::Place;
use crate::check;
use crate::hub;
use ir::{DType, Scope, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::Bound::{Excluded, Included};

/// How attention knows where tokens stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Positions {
    /// Pairs of queries and keys are turned (Su et al. 2021).
    Rotary,
    /// Scores fall with the distance (Press et al. 2021).
    Alibi,
}

ir::spell!(Positions, "kind of positions", [Rotary "rotary", Alibi "alibi"]);

/// How the rates at which pairs turn are slowed, for contexts longer than those of the training. The names and the arithmetic are those of
/// `transformers`, but for `ntk`, which has no name there. What depends on the length of the sequence at hand has none here: `longrope`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// Not at all.
    Default {},
    /// Each by the factor (Chen et al. 2023).
    Linear {
        /// How much longer the context is.
        factor: f64,
    },
    /// θ grows by factor^(D / (D − 2)), so that the slowest pair is slowed by the factor and the fastest not at all.
    Ntk {
        /// How much longer the context is.
        factor: f64,
    },
    /// The same for what a sequence is longer than the longest context. None is, so this is as not at all, and stands for a file's setting.
    Dynamic {
        /// How fast θ would grow.
        factor: f64,
    },
    /// By the factor what turns less than `beta_slow` times in the context, not at all what turns more than `beta_fast` times, and in between
    /// by a line over the pairs; queries and keys are longer by `attention_factor` (Peng et al. 2023).
    Yarn {
        /// How much longer the context is.
        factor: f64,
        /// The context of the training.
        original_max_position_embeddings: usize,
        /// How often the last pair turns that is not slowed.
        #[serde(default = "beta_fast")]
        beta_fast: f64,
        /// How often the first pair turns that is slowed by the factor.
        #[serde(default = "beta_slow")]
        beta_slow: f64,
        /// How much longer queries and keys become; 1 + log(factor) / 10 where it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attention_factor: Option<f64>,
        /// Whether the line begins and ends at whole pairs.
        #[serde(default = "truncate")]
        truncate: bool,
    },
    /// By the factor what turns less than `low_freq_factor` times in the context, not at all what turns more than `high_freq_factor` times,
    /// and in between by a line over how often (Grattafiori et al. 2024).
    Llama3 {
        /// How much longer the context is.
        factor: f64,
        /// The context of the training.
        original_max_position_embeddings: usize,
        /// How often a pair turns that is slowed by the factor.
        low_freq_factor: f64,
        /// How often a pair turns that is not slowed.
        high_freq_factor: f64,
    },
}

impl Default for RopeScaling {
    fn default() -> RopeScaling {
        RopeScaling::Default {}
    }
}

fn beta_fast() -> f64 {
    32.0
}

fn beta_slow() -> f64 {
    1.0
}

fn truncate() -> bool {
    true
}

impl RopeScaling {
    /// Why these are no settings beside a θ, if they are none.
    pub fn check(&self, theta: f64) -> Result<(), String> {
        check::within("rope_theta", theta, 1.0..=1e12, 10000)?;
        let positive = |name: &str, x: f64, attempt: &str| check::within(&format!("rope_scaling.{name}"), x, (Excluded(0.0), Included(1e6)), attempt);
        let context = |n: usize| check::sizes(&[("rope_scaling.original_max_position_embeddings", n, 8192)]);
        let ordered = |low: (&str, f64), high: (&str, f64)| {
            let (low_name, name) = (format!("rope_scaling.{}", low.0), format!("rope_scaling.{}", high.0));
            if low.1 < high.1 {
                return Ok(());
            }
            Err(format!("{name} is {}, expected above {low_name}, which is {}; try {name} = {}", high.1, low.1, 4.0 * low.1))
        };
        match self {
            RopeScaling::Default {} => Ok(()),
            RopeScaling::Linear { factor } | RopeScaling::Ntk { factor } | RopeScaling::Dynamic { factor } => positive("factor", *factor, "2"),
            RopeScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, attention_factor, .. } => {
                // the logarithm by which pairs are found
                check::within("rope_theta", theta, (Excluded(1.0), Included(1e12)), 10000)?;
                positive("factor", *factor, "4")?;
                context(*original_max_position_embeddings)?;
                positive("beta_fast", *beta_fast, "32")?;
                positive("beta_slow", *beta_slow, "1")?;
                ordered(("beta_slow", *beta_slow), ("beta_fast", *beta_fast))?;
                attention_factor.map_or(Ok(()), |a| positive("attention_factor", a, "1"))
            }
            RopeScaling::Llama3 { factor, original_max_position_embeddings, low_freq_factor, high_freq_factor } => {
                positive("factor", *factor, "8")?;
                context(*original_max_position_embeddings)?;
                positive("low_freq_factor", *low_freq_factor, "1")?;
                positive("high_freq_factor", *high_freq_factor, "4")?;
                ordered(("low_freq_factor", *low_freq_factor), ("high_freq_factor", *high_freq_factor))
            }
        }
    }

    /// How fast each pair of D turns, [D/2], radians a token: θ^(−2i/D), slowed.
    fn rates<'g>(&self, s: &Scope<'g>, theta: f64, depth: usize) -> Tensor<'g> {
        let half = depth / 2;
        let rates = |theta: f64| (s.iota(-1, half).cast(DType::F32) * (-theta.ln() / half as f64)).exp();
        let rate = rates(theta);
        // from 1 where x is 0 or less to 1 / factor where it is 1 or more
        let slowed = |x: Tensor<'g>, factor: f64| {
            let x = x.maximum(s.num(0.0)).minimum(s.num(1.0));
            rate / factor * x + rate * (-x + 1.0)
        };
        match self {
            RopeScaling::Default {} | RopeScaling::Dynamic { .. } => rate,
            RopeScaling::Linear { factor } => rate / *factor,
            RopeScaling::Ntk { factor } => rates(ntk_theta(theta, *factor, depth)),
            RopeScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, truncate, .. } => {
                let turns = [*beta_fast, *beta_slow];
                let [low, high] = yarn_range(turns, theta, depth, *original_max_position_embeddings as f64, *truncate);
                slowed((s.iota(-1, half).cast(DType::F32) - low) / (high - low), *factor)
            }
            RopeScaling::Llama3 { factor, original_max_position_embeddings, low_freq_factor, high_freq_factor } => {
                let turns = rate * (*original_max_position_embeddings as f64 / std::f64::consts::TAU);
                slowed((-turns + *high_freq_factor) / (high_freq_factor - low_freq_factor), *factor)
            }
        }
    }

    /// θ and what slows the rates, as `transformers` 5 writes both into `rope_parameters`, and 4 writes θ beside `rope_scaling`, which counts
    /// where there are both. `theta` is what θ is where the file says nothing, `context` the longest.
    pub fn from_hub(c: &mut hub::Config, theta: f64, context: usize) -> Result<(f64, RopeScaling), String> {
        let beside = c.number_or("rope_theta", theta)?;
        let parameters = c.within("rope_parameters", |c| RopeScaling::within_hub(c, beside, context))?;
        let scaling = c.within("rope_scaling", |c| RopeScaling::within_hub(c, beside, context))?;
        Ok(scaling.or(parameters).unwrap_or((beside, RopeScaling::default())))
    }

    /// The same of such an object; `theta` where θ is not in it.
    pub fn within_hub(c: &mut hub::Config, theta: f64, context: usize) -> Result<(f64, RopeScaling), String> {
        const KINDS: &[&str] = &["default", "linear", "dynamic", "yarn", "llama3"];
        // the older name
        let formerly = c.one_of("type", KINDS)?;
        let kind = match c.one_of("rope_type", KINDS)? {
            "default" => formerly,
            kind => kind,
        };
        c.must("partial_rotary_factor", 1.0)?;
        let theta = c.number_or("rope_theta", theta)?;
        let scaling = match kind {
            "linear" => RopeScaling::Linear { factor: c.number("factor")? },
            "dynamic" => RopeScaling::Dynamic { factor: c.number("factor")? },
            "yarn" => RopeScaling::yarn_of_hub(c, context)?,
            "llama3" => RopeScaling::Llama3 {
                factor: c.number("factor")?,
                original_max_position_embeddings: c.size_or("original_max_position_embeddings", context)?,
                low_freq_factor: c.number("low_freq_factor")?,
                high_freq_factor: c.number("high_freq_factor")?,
            },
            _ => RopeScaling::default(),
        };
        Ok((theta, scaling))
    }

    fn yarn_of_hub(c: &mut hub::Config, context: usize) -> Result<RopeScaling, String> {
        let original = c.size_or("original_max_position_embeddings", context)?;
        let factor = c.number_or("factor", context as f64 / original.max(1) as f64)?;
        let longer = |share: f64| 1.0 + 0.1 * share * factor.max(1.0).ln();
        let [part, all] = [c.number_or("mscale", 0.0)?, c.number_or("mscale_all_dim", 0.0)?];
        let quotient = (part != 0.0 && all != 0.0).then(|| longer(part) / longer(all));
        Ok(RopeScaling::Yarn {
            factor,
            original_max_position_embeddings: original,
            beta_fast: c.number_or("beta_fast", beta_fast())?,
            beta_slow: c.number_or("beta_slow", beta_slow())?,
            attention_factor: c.maybe_number("attention_factor")?.or(quotient),
            truncate: c.flag("truncate", true)?,
        })
    }

    /// The same settings as an object of `transformers`, with θ.
    pub fn to_hub(&self, theta: f64, depth: usize) -> serde_json::Value {
        let theta = if let RopeScaling::Ntk { factor } = self { ntk_theta(theta, *factor, depth) } else { theta };
        let mut object = match self {
            RopeScaling::Ntk { .. } => json!(RopeScaling::default()),
            other => json!(other),
        };
        object["rope_theta"] = json!(theta);
        object
    }

    /// A file's settings of rotary positions, both as `transformers` 5 reads them and as 4 does.
    pub fn written(&self, to: hub::Written, theta: f64, depth: usize) -> hub::Written {
        let parameters = self.to_hub(theta, depth);
        let to = to.with("rope_theta", parameters["rope_theta"].clone());
        let to = if parameters["rope_type"] == "default" { to } else { to.with("rope_scaling", parameters.clone()) };
        to.with("rope_parameters", parameters)
    }

    /// How much longer queries and keys become.
    fn length(&self) -> f64 {
        match self {
            RopeScaling::Yarn { factor, attention_factor, .. } => attention_factor.unwrap_or(1.0 + 0.1 * factor.max(1.0).ln()),
            _ => 1.0,
        }
    }
}

/// θ by which the slowest of D/2 pairs is slowed by the factor.
fn ntk_theta(theta: f64, factor: f64, depth: usize) -> f64 {
    // one pair alone turns at a rate of 1, whatever θ is
    theta * factor.powf(depth as f64 / (depth as f64 - 2.0).max(1.0))
}

/// The pairs, as numbers with fractions, between which YaRN's line runs: those that turn so often, more often first, in a context.
fn yarn_range(turns: [f64; 2], theta: f64, depth: usize, context: f64, truncate: bool) -> [f64; 2] {
    let depth = depth as f64;
    let [low, high] = turns.map(|n| depth * (context / (n * std::f64::consts::TAU)).ln() / (2.0 * theta.ln()));
    let [low, high] = if truncate { [low.floor(), high.ceil()] } else { [low, high] };
    let (low, high) = (low.max(0.0), high.min(depth - 1.0));
    [low, if low == high { high + 0.001 } else { high }]
}

/// The cosine and the sine of how far each pair of D is turned at positions [.., T, 1]: [.., T, D/2]
#[track_caller]
pub fn rotation<'g>(s: &Scope<'g>, positions: Tensor<'g>, theta: f64, scaling: &RopeScaling, depth: usize) -> [Tensor<'g>; 2] {
    let angles = positions.cast(DType::F32) * scaling.rates(s, theta, depth);
    let length = scaling.length();
    [angles.cos(), angles.sin()].map(|x| if length == 1.0 { x } else { x * length })
}

/// x ∘ cos + rotate(x) ∘ sin, where rotate takes (left, right) to (−right, left)
#[track_caller]
pub fn rope<'g>(x: Tensor<'g>, [cos, sin]: [Tensor<'g>; 2]) -> Tensor<'g> {
    let [left, right] = x.chunks();
    x * cos.concat(-1, cos) + (-right).concat(-1, left) * sin.concat(-1, sin)
}

/// ALiBi's slope of each of n heads, [n, 1, 1]: 2^(−8h/m) for h = 1, 2, … m, the largest power of two in n; then for h = ½, 1½, …
#[track_caller]
pub fn slopes<'g>(s: &Scope<'g>, n: usize) -> Tensor<'g> {
    let m = 1usize << n.max(1).ilog2();
    let head = s.iota(-3, n).cast(DType::F32);
    let head = if n == m { head + 1.0 } else { head.lt(s.num(m as f64)).select(head + 1.0, head - (m as f64 - 0.5)) };
    (head * (-8.0 * std::f64::consts::LN_2 / m as f64)).exp()
}

/// Scores [B, H, T, S] less each head's slope, [H, 1, 1], times how far behind its query a key stands.
#[track_caller]
pub fn alibi<'g>(s: &Scope<'g>, scores: Tensor<'g>, place: &Place<'g>, slopes: Tensor<'g>) -> Tensor<'g> {
    let (query, key) = place.stands(s, scores);
    let distance = query - key;
    scores - slopes * distance.cast(DType::F32)
}

/// Scores [B, H, T, S] of what a token does not see become −∞: it sees those before it, or of them the last `window`, itself among them,
/// where that is not 0.
#[track_caller]
pub fn seen<'g>(s: &Scope<'g>, scores: Tensor<'g>, place: &Place<'g>, window: usize) -> Tensor<'g> {
    if window > 0 { place.within(s, scores, window) } else { place.visible(s, scores) }
}

/// What `transformers` calls a layer without a window.
pub(crate) const FULL: &str = "full_attention";
/// And one with a window.
pub(crate) const SLIDING: &str = "sliding_attention";

/// Which of so many layers have a window, as `layer_types` says if it is there.
pub(crate) fn windowed(c: &mut hub::Config, layers: usize) -> Result<Option<Vec<bool>>, String> {
    let Some(words) = c.words("layer_types")? else { return Ok(None) };
    if words.len() != layers {
        return Err(format!("layer_types has {} words, expected {layers}, the number of layers", words.len()));
    }
    let one = |(i, word): (usize, &&str)| match *word {
        FULL => Ok(false),
        SLIDING => Ok(true),
        other => Err(format!("layer_types[{i}] is {other:?}, expected {FULL:?} or {SLIDING:?}")),
    };
    words.iter().enumerate().map(one).collect::<Result<_, _>>().map(Some)
}

/// The same as it is written.
pub(crate) fn layer_types(windowed: impl Iterator<Item = bool>) -> Vec<&'static str> {
    windowed.map(|w| if w { SLIDING } else { FULL }).collect()
}
