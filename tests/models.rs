//! The models against plain arithmetic written a second time, loop by loop, and their sizes, starts and ranges against numbers.

use crate::common::{environment, gpt, llama};
use ir::{Env, Graph, eval};
use llm::{Mode, Objective};
use models::{Activation, Architecture, Biases, Entry, Gemma, Gpt, Init, Kept, Llama, MODELS, Model, Positions, RopeScaling, Transformer, check};

/// One sequence: a row of numbers a token.
type Rows = Vec<Vec<f64>>;

/// Parameters by name, and the pieces of stacked ones.
struct Weights<'a>(&'a Env);

impl Weights<'_> {
    /// A matrix, row by row, of layer `layer` where the parameter is stacked.
    fn matrix(&self, name: &str, layer: Option<usize>) -> Rows {
        let v = &self.0[name];
        let dims = &v.dims[usize::from(layer.is_some())..];
        let width = *dims.last().unwrap();
        let count: usize = dims.iter().product();
        v.data[layer.unwrap_or(0) * count..][..count].chunks(width).map(<[f64]>::to_vec).collect()
    }
    /// The tensor that a file has for one layer, wherever it is stacked.
    fn of_layer(&self, file: &str) -> Rows {
        let stacks = self.0.iter().filter(|(name, _)| ir::names::loops(name) == 1);
        let find = |(name, value): (_, &ir::Value)| Some((name, (0..value.dims[0]).find(|i| ir::names::iteration(name, *i) == file)?));
        let stacked = stacks.map(|(name, value)| (name.as_str(), value)).find_map(find);
        let (name, i) = stacked.unwrap_or_else(|| panic!("no parameter is {file}"));
        self.matrix(name, Some(i))
    }
    fn vector(&self, name: &str, layer: Option<usize>) -> Vec<f64> {
        self.matrix(name, layer).concat()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// x W + b, W by rows of inputs.
fn affine(x: &[f64], w: &Rows, b: &[f64]) -> Vec<f64> {
    (0..b.len()).map(|j| b[j] + x.iter().zip(w).map(|(x, row)| x * row[j]).sum::<f64>()).collect()
}

/// W x, W by rows of outputs.
fn linear(x: &[f64], w: &Rows) -> Vec<f64> {
    w.iter().map(|row| dot(row, x)).collect()
}

/// The error function by its series, which is enough for numbers as small as here.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn layer_norm(x: &[f64], gain: &[f64], bias: &[f64], eps: f64) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (0..x.len()).map(|i| (x[i] - mean) / (variance + eps).sqrt() * gain[i] + bias[i]).collect()
}

fn rms_norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(gain).map(|(x, g)| x / (mean + eps).sqrt() * g).collect()
}

/// Weights of the tokens up to `t`.
fn weights(q: &Rows, k: &Rows, t: usize) -> Vec<f64> {
    biased_weights(q, k, t, |_| 0.0)
}

/// The same with something added to the score of a token so far behind.
fn biased_weights(q: &Rows, k: &Rows, t: usize, bias: impl Fn(usize) -> f64) -> Vec<f64> {
    let scores: Vec<f64> = (0..=t).map(|s| dot(&q[t], &k[s]) / (q[t].len() as f64).sqrt() + bias(t - s)).collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().map(|x| (x - most).exp()).sum();
    scores.iter().map(|x| (x - most).exp() / total).collect()
}

/// ALiBi's slopes as its authors write them: of heads that are no power of two, those of the next smaller, and every other one of twice as many.
fn slopes(n: usize) -> Vec<f64> {
    if n.is_power_of_two() {
        return (1..=n).map(|h| 2f64.powf(-8.0 * h as f64 / n as f64)).collect();
    }
    let below = n.next_power_of_two() / 2;
    let others = slopes(2 * below).into_iter().step_by(2).take(n - below);
    slopes(below).into_iter().chain(others).collect()
}

/// How fast each pair turns, and how much longer queries and keys become.
fn rates(theta: f64, scaling: &RopeScaling, d: usize) -> (Vec<f64>, f64) {
    let rate = |theta: f64, i: usize| theta.powf(-2.0 * i as f64 / d as f64);
    let each = |f: &dyn Fn(usize) -> f64| (0..d / 2).map(f).collect::<Vec<_>>();
    match scaling {
        RopeScaling::Default {} | RopeScaling::Dynamic { .. } => (each(&|i| rate(theta, i)), 1.0),
        RopeScaling::Linear { factor } => (each(&|i| rate(theta, i) / factor), 1.0),
        RopeScaling::Ntk { factor } => (each(&|i| rate(theta * factor.powf(d as f64 / (d as f64 - 2.0)), i)), 1.0),
        RopeScaling::Llama3 { factor, original_max_position_embeddings, low_freq_factor, high_freq_factor } => {
            let slowed = |i: usize| {
                let (rate, context) = (rate(theta, i), *original_max_position_embeddings as f64);
                let wave = std::f64::consts::TAU / rate;
                if wave < context / high_freq_factor {
                    return rate;
                }
                if wave > context / low_freq_factor {
                    return rate / factor;
                }
                let smooth = (context / wave - low_freq_factor) / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * rate / factor + smooth * rate
            };
            (each(&slowed), 1.0)
        }
        RopeScaling::Yarn { factor, original_max_position_embeddings, beta_fast, beta_slow, attention_factor, truncate } => {
            let pair = |turns: f64| {
                let waves = *original_max_position_embeddings as f64 / (turns * std::f64::consts::TAU);
                d as f64 * waves.ln() / (2.0 * theta.ln())
            };
            let (mut low, mut high) = (pair(*beta_fast), pair(*beta_slow));
            if *truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(d as f64 - 1.0));
            let slowed = |i: usize| {
                let ramp = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                rate(theta, i) / factor * ramp + rate(theta, i) * (1.0 - ramp)
            };
            (each(&slowed), attention_factor.unwrap_or(0.1 * factor.ln() + 1.0))
        }
    }
}

fn mix(weights: &[f64], v: &Rows) -> Vec<f64> {
    (0..v[0].len()).map(|i| weights.iter().zip(v).map(|(w, v)| w * v[i]).sum()).collect()
}

fn head(x: &[f64], size: usize, h: usize) -> Vec<f64> {
    x[h * size..][..size].to_vec()
}

/// Whether element `i` of what a key drops stays, and how it is scaled.
fn kept(p: f64, key: Option<u32>, i: usize) -> f64 {
    let Some(key) = key.filter(|_| p > 0.0) else { return 1.0 };
    if f64::from(ir::random_bits(key, i as u32)) >= (p * 4_294_967_296.0).floor() { 1.0 / (1.0 - p) } else { 0.0 }
}

/// GPT-2 as the paper has it, for sequences of ids; `key` seeds dropout.
fn plain_gpt(m: &Gpt, w: &Weights, ids: &[Vec<usize>], key: Option<u32>) -> Vec<Rows> {
    let (c, d, p) = (m.n_embd, m.n_embd / m.n_head, m.dropout);
    let (words, places) = (w.matrix("transformer.wte.weight", None), w.matrix("transformer.wpe.weight", None));
    let time = ids[0].len();
    let dropped = |x: f64, key: Option<u32>, b: usize, t: usize, i: usize| x * kept(p, key, (b * time + t) * c + i);
    let mut out = vec![];
    for (b, ids) in ids.iter().enumerate() {
        let embed = |(t, id): (usize, &usize)| (0..c).map(|i| dropped(words[*id][i] + places[t][i], key, b, t, i)).collect();
        let mut x: Rows = ids.iter().enumerate().map(embed).collect();
        for l in 0..m.n_layer {
            let key = |place: u32| key.map(|k| k.wrapping_add((l as u32 + 1) * 8 + place));
            let name = |n: &str| format!("transformer.h.{{}}.{n}");
            let (matrix, vector) = (|n: &str| w.matrix(&name(n), Some(l)), |n: &str| w.vector(&name(n), Some(l)));
            let bias = |n: &str, width: usize| if m.bias { vector(&format!("{n}.bias")) } else { vec![0.0; width] };
            let norm = |x: &Vec<f64>, n: &str| layer_norm(x, &vector(&format!("{n}.weight")), &bias(n, c), m.layer_norm_epsilon);
            let layer = |x: &[f64], n: &str| {
                let w = matrix(&format!("{n}.weight"));
                affine(x, &w, &bias(n, w[0].len()))
            };
            let qkv: Rows = x.iter().map(|x| layer(&norm(x, "ln_1"), "attn.c_attn")).collect();
            let mut y: Rows = vec![vec![]; time];
            for h in 0..m.n_head {
                let part = |at: usize| qkv.iter().map(|r| head(&r[at * c..(at + 1) * c], d, h)).collect::<Rows>();
                let (q, k, v) = (part(0), part(1), part(2));
                for t in 0..time {
                    let place = |s: usize| ((b * m.n_head + h) * time + t) * time + s;
                    let a: Vec<f64> = weights(&q, &k, t).iter().enumerate().map(|(s, a)| a * kept(p, key(0), place(s))).collect();
                    y[t].extend(mix(&a, &v));
                }
            }
            for t in 0..time {
                let out: Vec<f64> = layer(&y[t], "attn.c_proj").iter().enumerate().map(|(i, y)| dropped(*y, key(1), b, t, i)).collect();
                x[t] = add(&x[t], &out);
                let u: Vec<f64> = layer(&norm(&x[t], "ln_2"), "mlp.c_fc");
                let gelu = |x: &f64| match m.activation {
                    Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
                    Activation::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
                    Activation::Relu => x.max(0.0),
                    Activation::Silu => x / (1.0 + (-x).exp()),
                };
                let out = layer(&u.iter().map(gelu).collect::<Vec<_>>(), "mlp.c_proj");
                x[t] = add(&x[t], &out.iter().enumerate().map(|(i, y)| dropped(*y, key(2), b, t, i)).collect::<Vec<_>>());
            }
        }
        let gain = w.vector("transformer.ln_f.weight", None);
        let bias = if m.bias { w.vector("transformer.ln_f.bias", None) } else { vec![0.0; c] };
        let last = if m.tie_word_embeddings { words.clone() } else { w.matrix("lm_head.weight", None) };
        out.push(x.iter().map(|x| linear(&layer_norm(x, &gain, &bias, m.layer_norm_epsilon), &last)).collect());
    }
    out
}

/// Llama as Hugging Face's checkpoints mean it, and what others made of it; `key` seeds dropout.
fn plain_llama(m: &Llama, w: &Weights, ids: &[Vec<usize>], key: Option<u32>) -> Vec<Rows> {
    let (n, kv, c, time) = (m.num_attention_heads, m.num_key_value_heads, m.hidden_size, ids[0].len());
    let d = if m.head_dim > 0 { m.head_dim } else { c / n };
    let words = w.matrix("model.embed_tokens.weight", None);
    let ((rates, length), slopes) = (rates(m.rope_theta, &m.rope_scaling, d), slopes(n));
    // each pair (i, i + d/2) turns by its own angle
    let turn = |x: Vec<f64>, t: usize| -> Vec<f64> {
        let (half, angle) = (d / 2, |i: usize| t as f64 * rates[i % (d / 2)]);
        (0..d).map(|i| length * (x[i] * angle(i).cos() + if i < half { -x[i + half] } else { x[i - half] } * angle(i).sin())).collect()
    };
    let dropped = |x: &[f64], key: Option<u32>, b: usize, t: usize| -> Vec<f64> {
        x.iter().enumerate().map(|(i, x)| x * kept(m.dropout, key, (b * time + t) * c + i)).collect()
    };
    let mut out = vec![];
    for (b, ids) in ids.iter().enumerate() {
        let mut x: Rows = ids.iter().enumerate().map(|(t, id)| dropped(&words[*id], key, b, t)).collect();
        for l in 0..m.num_hidden_layers {
            let key = |place: u32| key.map(|k| k.wrapping_add((l as u32 + 1) * 8 + place));
            let matrix = |n: &str| w.matrix(&format!("model.layers.{{}}.{n}.weight"), Some(l));
            let layer = |x: &[f64], n: &str, biased: bool| {
                let y = linear(x, &matrix(n));
                if biased { add(&y, &w.vector(&format!("model.layers.{{}}.{n}.bias"), Some(l))) } else { y }
            };
            let norm = |x: &[f64], n: &str| rms_norm(x, &matrix(n).concat(), m.rms_norm_eps);
            let inside: Rows = x.iter().map(|x| norm(x, "input_layernorm")).collect();
            let project = |n: &str| inside.iter().map(|x| layer(x, n, m.attention_bias != Biases::None)).collect::<Rows>();
            let (q, k, v) = (project("self_attn.q_proj"), project("self_attn.k_proj"), project("self_attn.v_proj"));
            let part = |x: &Rows, h: usize| x.iter().map(|x| head(x, d, h)).collect::<Rows>();
            let placed = |x: Rows, name: &str| -> Rows {
                let normed = x.into_iter().map(|x| if m.qk_norm { norm(&x, name) } else { x });
                normed.enumerate().map(|(t, x)| if m.positions == Positions::Rotary { turn(x, t) } else { x }).collect()
            };
            let mut y: Rows = vec![vec![]; time];
            for h in 0..n {
                let shared = h / (n / kv);
                let (q, k, v) = (placed(part(&q, h), "self_attn.q_norm"), placed(part(&k, shared), "self_attn.k_norm"), part(&v, shared));
                let bias = |behind: usize| {
                    let slope = if m.positions == Positions::Alibi { slopes[h] } else { 0.0 };
                    if m.sliding_window > 0 && behind >= m.sliding_window { f64::NEG_INFINITY } else { -slope * behind as f64 }
                };
                for t in 0..time {
                    let place = |s: usize| ((b * n + h) * time + t) * time + s;
                    let a = biased_weights(&q, &k, t, bias);
                    let a: Vec<f64> = a.iter().enumerate().map(|(s, a)| a * kept(m.dropout, key(0), place(s))).collect();
                    y[t].extend(mix(&a, &v));
                }
            }
            for t in 0..time {
                x[t] = add(&x[t], &dropped(&layer(&y[t], "self_attn.o_proj", m.attention_bias == Biases::All), key(1), b, t));
                let z = norm(&x[t], "post_attention_layernorm");
                let (gate, up) = (layer(&z, "mlp.gate_proj", m.mlp_bias), layer(&z, "mlp.up_proj", m.mlp_bias));
                let inner: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                x[t] = add(&x[t], &dropped(&layer(&inner, "mlp.down_proj", m.mlp_bias), key(2), b, t));
            }
        }
        let last = if m.tie_word_embeddings { words.clone() } else { w.matrix("lm_head.weight", None) };
        let gain = w.vector("model.norm.weight", None);
        out.push(x.iter().map(|x| linear(&rms_norm(x, &gain, m.rms_norm_eps), &last)).collect());
    }
    out
}

/// Gemma as Hugging Face's checkpoints mean it, of whatever generation; `key` seeds dropout. A layer's parameters stand in one of the
/// tensors stacked for every so-many-th layer.
fn plain_gemma(m: &Gemma, w: &Weights, ids: &[Vec<usize>], key: Option<u32>) -> Vec<Rows> {
    let (n, kv, d, c, time) = (m.num_attention_heads, m.num_key_value_heads, m.head_dim, m.hidden_size, ids[0].len());
    let words = w.matrix("model.embed_tokens.weight", None);
    let normed = |x: &[f64], gain: Vec<f64>| rms_norm(x, &gain.iter().map(|g| 1.0 + g).collect::<Vec<_>>(), m.rms_norm_eps);
    let cap = |x: f64, cap: f64| if cap > 0.0 { (x / cap).tanh() * cap } else { x };
    let dropped = |x: &[f64], key: Option<u32>, b: usize, t: usize| -> Vec<f64> {
        x.iter().enumerate().map(|(i, x)| x * kept(m.dropout, key, (b * time + t) * c + i)).collect()
    };
    let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    let mut out = vec![];
    for (b, ids) in ids.iter().enumerate() {
        let scaled = |id: &usize| words[*id].iter().map(|x| x * (c as f64).sqrt()).collect::<Vec<_>>();
        let mut x: Rows = ids.iter().enumerate().map(|(t, id)| dropped(&scaled(id), key, b, t)).collect();
        for l in 0..m.num_hidden_layers {
            let global = m.sliding_window == 0 || (l + 1) % m.sliding_window_pattern == 0;
            let (theta, scaling) = match m.rope_local_base_freq {
                theta if !global && theta > 0.0 => (theta, RopeScaling::default()),
                _ => (m.rope_theta, m.rope_scaling.clone()),
            };
            let (rates, _) = rates(theta, &scaling, d);
            let turn = |x: Vec<f64>, t: usize| -> Vec<f64> {
                let (half, angle) = (d / 2, |i: usize| t as f64 * rates[i % (d / 2)]);
                (0..d).map(|i| x[i] * angle(i).cos() + if i < half { -x[i + half] } else { x[i - half] } * angle(i).sin()).collect()
            };
            let key = |place: u32| key.map(|k| k.wrapping_add((l as u32 + 1) * 8 + place));
            let matrix = |name: &str| w.of_layer(&format!("model.layers.{l}.{name}"));
            let layer = |x: &[f64], name: &str| {
                let y = linear(x, &matrix(&format!("{name}.weight")));
                let biased = m.attention_bias && name.starts_with("self_attn");
                if biased { add(&y, &matrix(&format!("{name}.bias")).concat()) } else { y }
            };
            let norm = |x: &[f64], name: &str| normed(x, matrix(&format!("{name}.weight")).concat());
            let inside: Rows = x.iter().map(|x| norm(x, "input_layernorm")).collect();
            let head_of = |name: &str, h: usize| inside.iter().map(|x| head(&layer(x, name), d, h)).collect::<Rows>();
            let placed = |x: Rows, name: &str| -> Rows {
                x.into_iter().enumerate().map(|(t, x)| turn(if m.qk_norm { norm(&x, name) } else { x }, t)).collect()
            };
            let mut y: Rows = vec![vec![]; time];
            for h in 0..n {
                let shared = h / (n / kv);
                let (q, k) =
                    (placed(head_of("self_attn.q_proj", h), "self_attn.q_norm"), placed(head_of("self_attn.k_proj", shared), "self_attn.k_norm"));
                let v = head_of("self_attn.v_proj", shared);
                let divisor = (if m.query_pre_attn_scalar > 0 { m.query_pre_attn_scalar } else { d } as f64).sqrt();
                for t in 0..time {
                    let first = if global { 0 } else { (t + 1).saturating_sub(m.sliding_window) };
                    let scores: Vec<f64> = (first..=t).map(|s| cap(dot(&q[t], &k[s]) / divisor, m.attn_logit_softcapping)).collect();
                    let total: f64 = scores.iter().map(|x| x.exp()).sum();
                    let place = |s: usize| ((b * n + h) * time + t) * time + s;
                    let a: Vec<f64> = (first..=t).map(|s| scores[s - first].exp() / total * kept(m.dropout, key(0), place(s))).collect();
                    y[t].extend(mix(&a, &v[first..=t].to_vec()));
                }
            }
            let behind = |y: Vec<f64>, name: &str| if m.sandwich_norms { norm(&y, name) } else { y };
            for t in 0..time {
                let out = behind(layer(&y[t], "self_attn.o_proj"), "post_attention_layernorm");
                x[t] = add(&x[t], &dropped(&out, key(1), b, t));
                let z = norm(&x[t], if m.sandwich_norms { "pre_feedforward_layernorm" } else { "post_attention_layernorm" });
                let (gate, up) = (layer(&z, "mlp.gate_proj"), layer(&z, "mlp.up_proj"));
                let inner: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| gelu(*g) * u).collect();
                let out = behind(layer(&inner, "mlp.down_proj"), "post_feedforward_layernorm");
                x[t] = add(&x[t], &dropped(&out, key(2), b, t));
            }
        }
        let last = if m.tie_word_embeddings { words.clone() } else { w.matrix("lm_head.weight", None) };
        let gain = w.vector("model.norm.weight", None);
        let logits = |x: &Vec<f64>| linear(&normed(x, gain.clone()), &last).into_iter().map(|x| cap(x, m.final_logit_softcapping)).collect();
        out.push(x.iter().map(logits).collect());
    }
    out
}

/// Vaswani's Transformer: what is written of a text up to each token, for texts whose first tokens are there.
fn plain_transformer(m: &Transformer, w: &Weights, source: &[Vec<usize>], lengths: &[usize], answer: &[Vec<usize>], key: Option<u32>) -> Vec<Rows> {
    let (c, p) = (m.d_model, m.dropout);
    let words = w.matrix("model.shared.weight", None);
    let scale = if m.scale_embedding { (c as f64).sqrt() } else { 1.0 };
    let half = c.div_ceil(2);
    let wave = |t: usize, i: usize| {
        let angle = t as f64 / 10000f64.powf(2.0 * (i % half) as f64 / c as f64);
        if i < half { angle.sin() } else { angle.cos() }
    };
    let at = |key: Option<u32>, l: usize, place: u32| key.map(|k| k.wrapping_add((l as u32 + 1) * 8 + place));
    let embedded = |b: usize, ids: &[usize], key: Option<u32>| -> Rows {
        let one = |t: usize, i: usize| (words[ids[t]][i] * scale + wave(t, i)) * kept(p, key, (b * ids.len() + t) * c + i);
        (0..ids.len()).map(|t| (0..c).map(|i| one(t, i)).collect()).collect()
    };
    // the parameters of layer l of a side, by name
    let full = |side: &str, l: usize, name: &str, x: &[f64]| {
        let name = format!("model.{side}.layers.{{}}.{name}");
        let (matrix, bias) = (w.matrix(&format!("{name}.weight"), Some(l)), w.vector(&format!("{name}.bias"), Some(l)));
        add(&linear(x, &matrix), &bias)
    };
    // LayerNorm(x + y), where y is dropped
    let added = |side: &str, l: usize, norm: &str, b: usize, x: &Rows, y: &Rows, key: Option<u32>| -> Rows {
        let name = format!("model.{side}.layers.{{}}.{norm}");
        let (gain, bias) = (w.vector(&format!("{name}.weight"), Some(l)), w.vector(&format!("{name}.bias"), Some(l)));
        let dropped = |t: usize| (0..c).map(|i| x[t][i] + y[t][i] * kept(p, key, (b * x.len() + t) * c + i)).collect::<Vec<_>>();
        (0..x.len()).map(|t| layer_norm(&dropped(t), &gain, &bias, 1e-5)).collect()
    };
    // those who ask among `x` see those of `y` that `sees` says
    type Sees<'a> = &'a dyn Fn(usize, usize) -> bool;
    let attention = |side: &str, l: usize, name: &str, n: usize, b: usize, (x, y): (&Rows, &Rows), sees: Sees, key: Option<u32>| -> Rows {
        let project = |part: &str, x: &Rows| x.iter().map(|x| full(side, l, &format!("{name}.{part}"), x)).collect::<Rows>();
        let (q, k, v) = (project("q_proj", x), project("k_proj", y), project("v_proj", y));
        let mut out: Rows = vec![vec![]; x.len()];
        for h in 0..n {
            let part = |x: &Rows| x.iter().map(|x| head(x, c / n, h)).collect::<Rows>();
            let (q, k, v) = (part(&q), part(&k), part(&v));
            for t in 0..x.len() {
                let score = |s: usize| if sees(t, s) { (dot(&q[t], &k[s]) / ((c / n) as f64).sqrt()).exp() } else { 0.0 };
                let scores: Vec<f64> = (0..y.len()).map(score).collect();
                let total: f64 = scores.iter().sum();
                let place = |s: usize| ((b * n + h) * x.len() + t) * y.len() + s;
                let a: Vec<f64> = scores.iter().enumerate().map(|(s, a)| a / total * kept(p, key, place(s))).collect();
                out[t].extend(mix(&a, &v));
            }
        }
        out.iter().map(|x| full(side, l, &format!("{name}.out_proj"), x)).collect()
    };
    let feed_forward = |side: &str, l: usize, x: &Rows| -> Rows {
        let inner = |x: &Vec<f64>| full(side, l, "fc1", x).into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
        x.iter().map(|x| full(side, l, "fc2", &inner(x))).collect()
    };
    let mut out = vec![];
    for (b, (source, answer)) in source.iter().zip(answer).enumerate() {
        let there = |_: usize, s: usize| s < lengths[b];
        let encoder_key = key.map(|k| k.wrapping_add(1 << 16));
        let mut y = embedded(b, source, encoder_key);
        for l in 0..m.encoder_layers {
            let key = |place: u32| at(encoder_key, l, place);
            let a = attention("encoder", l, "self_attn", m.encoder_attention_heads, b, (&y, &y), &there, key(0));
            y = added("encoder", l, "self_attn_layer_norm", b, &y, &a, key(1));
            y = added("encoder", l, "final_layer_norm", b, &y, &feed_forward("encoder", l, &y), key(4));
        }
        let mut x = embedded(b, answer, key);
        for l in 0..m.decoder_layers {
            let (key, n) = (|place: u32| at(key, l, place), m.decoder_attention_heads);
            let a = attention("decoder", l, "self_attn", n, b, (&x, &x), &|t, s| s <= t, key(0));
            x = added("decoder", l, "self_attn_layer_norm", b, &x, &a, key(1));
            let a = attention("decoder", l, "encoder_attn", n, b, (&x, &y), &there, key(2));
            x = added("decoder", l, "encoder_attn_layer_norm", b, &x, &a, key(3));
            x = added("decoder", l, "final_layer_norm", b, &x, &feed_forward("decoder", l, &x), key(4));
        }
        let bias = if m.logits_bias { w.vector("final_logits_bias", None) } else { vec![0.0; m.vocab_size] };
        out.push(x.iter().map(|x| add(&linear(x, &words), &bias)).collect());
    }
    out
}

/// A program, values for it with a key where it reads one, and the ids among them.
fn valued(model: &Model, mode: Mode, batch: usize, time: usize) -> (Graph, Env, Vec<Vec<usize>>) {
    let graph = Objective::NextToken.bound(model, mode, batch, time).unwrap();
    let mut env = environment(&graph, 3, model.vocab_size());
    if let Some(key) = env.get_mut("key") {
        key.data[0] = 12345.0;
    }
    let ids = env["input_ids"].data.chunks(time).map(|row| row.iter().map(|x| *x as usize).collect()).collect();
    (graph, env, ids)
}

fn agree(graph: &Graph, env: &Env, want: Vec<Rows>) {
    let want = want.concat().concat();
    let have = eval(graph, env).unwrap()["logits"].data.clone();
    assert_eq!(have.len(), want.len());
    for (i, (h, w)) in have.iter().zip(&want).enumerate() {
        assert!((h - w).abs() < 1e-9 * w.abs().max(1.0), "logit {i} is {h}, expected {w}");
    }
}

#[test]
fn transformer_is_the_transformer() {
    for (dropout, mode) in [(0.0, Mode::Train), (0.25, Mode::Train), (0.25, Mode::Evaluate)] {
        for (d_model, logits_bias) in [(9, false), (12, true)] {
            let m = Transformer {
                vocab_size: 11,
                max_position_embeddings: 9,
                encoder_layers: 2,
                decoder_layers: 3,
                encoder_attention_heads: 3,
                decoder_attention_heads: if d_model == 9 { 1 } else { 4 },
                d_model,
                encoder_ffn_dim: 7,
                decoder_ffn_dim: 10,
                scale_embedding: !logits_bias,
                logits_bias,
                dropout,
                ..Transformer::default()
            };
            let graph = Objective::Answer.graph_of(&Model::from(m.clone()), mode, &["attention_mask"]).unwrap();
            let graph = graph
                .bind(&|name| {
                    Some(match name {
                        'B' => 2,
                        'T' => 4,
                        _ => 5,
                    })
                })
                .unwrap();
            let mut env = environment(&graph, 3, m.vocab_size);
            env.get_mut("attention_mask").unwrap().data = vec![1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0];
            if let Some(key) = env.get_mut("key") {
                key.data[0] = 12345.0;
            }
            let ids =
                |name: &str, n: usize| -> Vec<Vec<usize>> { env[name].data.chunks(n).map(|row| row.iter().map(|x| *x as usize).collect()).collect() };
            let key = env.get("key").map(|k| k.data[0] as u32);
            let want = plain_transformer(&m, &Weights(&env), &ids("input_ids", 5), &[3, 5], &ids("decoder_input_ids", 4), key);
            agree(&graph, &env, want);
        }
    }
}

#[test]
fn gpt_is_gpt2() {
    let settings = |dropout| Gpt { vocab_size: 11, n_positions: 9, n_layer: 3, n_head: 2, n_embd: 6, dropout, ..Gpt::default() };
    let nano = Gpt { bias: false, activation: Activation::Gelu, ..settings(0.25) };
    let other = Gpt { tie_word_embeddings: false, n_inner: 7, layer_norm_epsilon: 0.2, ..settings(0.0) };
    for (m, mode) in
        [(settings(0.0), Mode::Train), (settings(0.25), Mode::Train), (settings(0.25), Mode::Evaluate), (nano, Mode::Train), (other, Mode::Evaluate)]
    {
        let dropout = m.dropout;
        assert_eq!(m.check(), Ok(()));
        let (graph, env, ids) = valued(&Model::from(m.clone()), mode, 2, 5);
        // what is dropped is asked for by a key, which there is in training alone
        assert_eq!(graph.inputs.contains(&"key".to_string()), dropout > 0.0 && mode == Mode::Train);
        let key = env.get("key").map(|k| k.data[0] as u32);
        assert_eq!((env.contains_key("lm_head.weight"), env.keys().any(|name| name.ends_with(".bias"))), (!m.tie_word_embeddings, m.bias));
        agree(&graph, &env, plain_gpt(&m, &Weights(&env), &ids, key));
    }
}

/// A Llama of awkward sizes.
fn small_llama() -> Llama {
    Llama {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 24,
        intermediate_size: 10,
        ..Llama::default()
    }
}

fn is_llama(m: Llama, mode: Mode) {
    m.check().unwrap();
    let (graph, env, ids) = valued(&Model::from(m.clone()), mode, 2, 6);
    assert_eq!(env.contains_key("lm_head.weight"), !m.tie_word_embeddings);
    let key = env.get("key").map(|k| k.data[0] as u32);
    assert_eq!(key.is_some(), m.dropout > 0.0 && mode == Mode::Train);
    agree(&graph, &env, plain_llama(&m, &Weights(&env), &ids, key));
}

#[test]
fn llama_is_llama() {
    for (tied, kv, theta, eps) in [(false, 2, 10000.0, 1e-5), (true, 1, 100.0, 1e-2), (false, 4, 500.0, 1e-5)] {
        let m = Llama { num_key_value_heads: kv, rope_theta: theta, rms_norm_eps: eps, tie_word_embeddings: tied, ..small_llama() };
        is_llama(m, Mode::Train);
    }
}

#[test]
fn what_others_made_of_llama() {
    let l = small_llama;
    for m in [
        // Mistral: windows of one token, of less than the sequence and of more
        Llama { sliding_window: 1, ..l() },
        Llama { sliding_window: 4, num_key_value_heads: 1, ..l() },
        Llama { sliding_window: 9, ..l() },
        // Qwen2, Llama with biases, Qwen3
        Llama { attention_bias: Biases::Qkv, ..l() },
        Llama { attention_bias: Biases::All, mlp_bias: true, ..l() },
        Llama { qk_norm: true, head_dim: 10, hidden_size: 7, rms_norm_eps: 0.1, ..l() },
        // a number of heads that is a power of two, and others
        Llama { positions: Positions::Alibi, head_dim: 3, ..l() },
        Llama { positions: Positions::Alibi, num_attention_heads: 6, sliding_window: 3, ..l() },
        Llama { positions: Positions::Alibi, num_attention_heads: 1, num_key_value_heads: 1, ..l() },
    ] {
        is_llama(m, Mode::Train);
    }
    for mode in [Mode::Train, Mode::Evaluate] {
        is_llama(Llama { dropout: 0.3, sliding_window: 4, ..l() }, mode);
    }
}

#[test]
fn rotary_positions_of_every_kind() {
    let yarn = |context, beta_fast, attention_factor, truncate| RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: context,
        beta_fast,
        beta_slow: 1.0,
        attention_factor,
        truncate,
    };
    let llama3 =
        |context| RopeScaling::Llama3 { factor: 8.0, original_max_position_embeddings: context, low_freq_factor: 1.0, high_freq_factor: 4.0 };
    for rope_scaling in [
        RopeScaling::Linear { factor: 2.5 },
        RopeScaling::Ntk { factor: 3.0 },
        RopeScaling::Dynamic { factor: 2.0 },
        yarn(64, 32.0, None, true),
        yarn(64, 3.0, Some(0.7), false),
        yarn(1000, 16.0, None, true),
        llama3(16),
        llama3(200),
    ] {
        is_llama(Llama { head_dim: 12, rope_theta: 50.0, rope_scaling, ..small_llama() }, Mode::Evaluate);
    }
}

#[test]
fn gemma_is_gemma() {
    let three = Gemma {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 5,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        hidden_size: 7,
        intermediate_size: 10,
        sliding_window: 3,
        sliding_window_pattern: 3,
        rope_theta: 500.0,
        rope_local_base_freq: 20.0,
        rope_scaling: RopeScaling::Linear { factor: 8.0 },
        ..Gemma::default()
    };
    let one = Gemma { sandwich_norms: false, qk_norm: false, sliding_window: 0, num_hidden_layers: 2, ..three.clone() };
    let two = Gemma {
        qk_norm: false,
        attn_logit_softcapping: 3.0,
        final_logit_softcapping: 0.5,
        query_pre_attn_scalar: 19,
        rope_local_base_freq: 0.0,
        sliding_window_pattern: 2,
        ..three.clone()
    };
    for (m, mode) in [
        (one.clone(), Mode::Train),
        (Gemma { attention_bias: true, tie_word_embeddings: false, num_key_value_heads: 1, rms_norm_eps: 0.1, ..one }, Mode::Train),
        (two.clone(), Mode::Train),
        // every layer without a window, every layer with one, and a pattern that fits
        (Gemma { sliding_window_pattern: 1, ..two.clone() }, Mode::Train),
        (Gemma { sliding_window_pattern: 6, ..two.clone() }, Mode::Train),
        (Gemma { num_hidden_layers: 4, sliding_window: 1, dropout: 0.2, ..two }, Mode::Train),
        (three.clone(), Mode::Train),
        (Gemma { num_hidden_layers: 3, tie_word_embeddings: false, ..three }, Mode::Evaluate),
    ] {
        assert_eq!(m.check(), Ok(()));
        let (graph, env, ids) = valued(&Model::from(m.clone()), mode, 2, 6);
        let key = env.get("key").map(|k| k.data[0] as u32);
        agree(&graph, &env, plain_gemma(&m, &Weights(&env), &ids, key));
    }
}

/// Sections of a configuration, and what is said of one that is none.
#[test]
fn rope_scaling_reads_as_people_write_it() {
    let read = |text: &str| MODELS[1].model(text.parse().unwrap());
    let scaling = |text: &str| {
        read(&format!("rope_scaling = {text}"))
            .and_then(|m| m.settings()["rope_scaling"].clone().try_into().map_err(|e: toml::de::Error| e.to_string()))
    };
    assert_eq!(scaling("{ rope_type = \"linear\", factor = 2 }"), Ok(RopeScaling::Linear { factor: 2.0 }));
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 512,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        truncate: true,
    };
    assert_eq!(scaling("{ rope_type = \"yarn\", factor = 4.0, original_max_position_embeddings = 512 }"), Ok(yarn));
    for (text, words) in [
        ("{ rope_type = \"longrope\", factor = 2.0 }", "longrope"),
        ("{ rope_type = \"default\", factor = 2.0 }", "factor"),
        ("{ rope_type = \"linear\", factor = 2.0, beta_fast = 3.0 }", "beta_fast"),
        ("{ rope_type = \"linear\" }", "factor"),
        ("{ factor = 2.0 }", "rope_type"),
    ] {
        let error = scaling(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
    // what is not said is as it was before there were such settings
    assert_eq!(read("num_hidden_layers = 3").unwrap(), Model::from(Llama { num_hidden_layers: 3, ..Llama::default() }));
}

/// The sizes of the published models, by their parameters, and what a step of them costs.
#[test]
fn sizes_of_the_published_models() {
    let parameters = |m: &Model| -> usize { llm::bound(m, 1, 8).unwrap().params().iter().map(|p| p.1.count()).sum() };
    let gpt2 = models::by_name("gpt2").unwrap();
    assert_eq!(parameters(&gpt2), 124_439_808);
    // GPT-2 medium
    let medium = Model::from(Gpt { n_layer: 24, n_head: 16, n_embd: 1024, ..Gpt::default() });
    assert_eq!(parameters(&medium), 354_823_168);
    // 6 (12 · 12 · 768² + 50257 · 768) + 12 · 12 · 768 · 1024 / 2
    assert_eq!(llm::step_flops(&gpt2, 1, 1024).unwrap(), 797_815_296.0 * 1024.0);
    let llama = models::by_name("llama").unwrap();
    // two of four projections are a third as wide: 6 (12 (768² (2 + 2/3) + 3 · 768 · 2048) + 32000 · 768) + 12 · 12 · 768 · 1024 / 2
    assert_eq!(llm::step_flops(&llama, 1, 1024).unwrap(), 657_063_936.0 * 1024.0);
    // twelve blocks of 24 T C² + 4 T² C, and the head
    let counts = llm::Counts::of(&gpt2).unwrap();
    assert_eq!((counts.parameters, counts.forward, counts.context), (124_439_808, 291_648_307_200.0, 1024));
    assert_eq!((counts.cache, counts.tied), (12 * 2 * 768 * 4, vec!["transformer.wte.weight".to_string()]));
    assert_eq!(counts.seen, 797_815_296.0 * 1024.0 / 3.0);
    assert_eq!(llm::Counts::of(&llama).unwrap().tied, [""; 0]);
    // Qwen3's heads are wider than its stream's share: 151936 · 1024 + 28 (1024 · 2 (2048 + 1024) + 3 · 1024 · 3072 + 2 · 1024 + 2 · 128) + 1024
    let qwen = Llama {
        vocab_size: 151_936,
        num_hidden_layers: 28,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        head_dim: 128,
        hidden_size: 1024,
        intermediate_size: 3072,
        qk_norm: true,
        tie_word_embeddings: true,
        ..Llama::default()
    };
    assert_eq!(parameters(&Model::from(qwen.clone())), 596_049_920);
    // products of 595,984,384 parameters, and attention over the heads' own width
    assert_eq!(llm::step_flops(&Model::from(qwen), 1, 8).unwrap(), (6.0 * 595_984_384.0 + 6.0 * 28.0 * 2048.0 * 8.0) * 8.0);
    // Gemma 2 of 2 billion parameters, and Gemma 3 of one: 26 layers are 13 times two, and four times six and two more
    let gemma = Gemma {
        vocab_size: 256_000,
        num_hidden_layers: 26,
        num_attention_heads: 8,
        num_key_value_heads: 4,
        hidden_size: 2304,
        intermediate_size: 9216,
        qk_norm: false,
        sliding_window_pattern: 2,
        ..Gemma::default()
    };
    assert_eq!(parameters(&Model::from(gemma.clone())), 2_614_341_888);
    let gemma = Gemma {
        vocab_size: 262_144,
        num_attention_heads: 4,
        num_key_value_heads: 1,
        hidden_size: 1152,
        intermediate_size: 6912,
        qk_norm: true,
        sliding_window_pattern: 6,
        ..gemma
    };
    assert_eq!(parameters(&Model::from(gemma)), 999_885_952);
    let shape = |m: &Model| (m.vocab_size(), m.context(), m.dropout());
    assert_eq!(shape(&gpt2), (50257, 1024, 0.0));
    assert_eq!(shape(&llama), (32000, 1024, 0.0));
    assert_eq!(shape(&Model::from(Gpt { dropout: 0.3, n_positions: 7, ..Gpt::default() })), (50257, 7, 0.3));
}

/// What generation keeps: a program's state has these sizes.
#[test]
fn what_is_kept() {
    let sizes = |k: &Kept| (k.name, k.layers, k.heads, k.length, k.depth);
    let gpt = Gpt { n_layer: 3, n_head: 4, n_positions: 10, n_embd: 20, ..Gpt::default() };
    assert_eq!(gpt.cache().iter().map(sizes).collect::<Vec<_>>(), [("k", 3, 4, 10, 5), ("v", 3, 4, 10, 5)]);
    let llama = Llama { num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, hidden_size: 24, ..Llama::default() };
    assert_eq!(llama.cache().iter().map(sizes).collect::<Vec<_>>(), [("k", 2, 2, 1024, 6), ("v", 2, 2, 1024, 6)]);
    for model in [crate::common::gpt(), crate::common::llama(false)] {
        let graph = model.step_graph().unwrap();
        assert_eq!(graph.outputs, ["logits", "@past.k", "@past.v"]);
        assert_eq!(graph.inputs, ["input_ids", "position", "last"]);
    }
}

/// GPT-2's initialisation, by the formula, and Llama's.
#[test]
fn how_parameters_start() {
    let residual = Init::Normal(0.02 / 24f64.sqrt());
    let gpt = Model::from(Gpt::default());
    for (name, want) in [
        ("transformer.wte.weight", Init::Normal(0.02)),
        ("transformer.wpe.weight", Init::Normal(0.02)),
        ("transformer.h.0.ln_1.weight", Init::Ones),
        ("transformer.h.11.ln_2.weight", Init::Ones),
        ("transformer.ln_f.weight", Init::Ones),
        ("transformer.ln_f.bias", Init::Zeros),
        ("transformer.h.3.ln_1.bias", Init::Zeros),
        ("transformer.h.3.attn.c_attn.weight", Init::Normal(0.02)),
        ("transformer.h.3.attn.c_attn.bias", Init::Zeros),
        ("transformer.h.3.attn.c_proj.weight", residual),
        ("transformer.h.3.attn.c_proj.bias", Init::Zeros),
        ("transformer.h.3.mlp.c_fc.weight", Init::Normal(0.02)),
        ("transformer.h.3.mlp.c_proj.weight", residual),
    ] {
        assert_eq!(gpt.init(name), want, "{name}");
    }
    let wide = Model::from(Gpt { embedding_range: 1.0, initializer_range: 0.5, tie_word_embeddings: false, ..Gpt::default() });
    let names = ["transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight", "transformer.h.3.attn.c_proj.weight"];
    assert_eq!(names.map(|name| wide.init(name)), [1.0, 1.0, 0.5, 0.5 / 24f64.sqrt()].map(Init::Normal));
    let llama = Model::from(Llama::default());
    for (name, want) in [
        ("model.embed_tokens.weight", Init::Normal(0.02)),
        ("lm_head.weight", Init::Normal(0.02)),
        ("model.norm.weight", Init::Ones),
        ("model.layers.0.input_layernorm.weight", Init::Ones),
        ("model.layers.0.post_attention_layernorm.weight", Init::Ones),
        ("model.layers.0.self_attn.q_proj.weight", Init::Normal(0.02)),
        ("model.layers.0.self_attn.o_proj.weight", residual),
        ("model.layers.0.self_attn.q_norm.weight", Init::Ones),
        ("model.layers.0.self_attn.k_norm.weight", Init::Ones),
        ("model.layers.0.self_attn.o_proj.bias", Init::Zeros),
        ("model.layers.0.mlp.gate_proj.weight", Init::Normal(0.02)),
        ("model.layers.0.mlp.down_proj.weight", residual),
    ] {
        assert_eq!(llama.init(name), want, "{name}");
    }
}

/// A gain of 1 is a weight of 0 where the norm adds 1.
#[test]
fn how_gemma_starts() {
    let gemma = Model::from(Gemma { num_hidden_layers: 8, ..Gemma::default() });
    for (name, want) in [
        ("model.embed_tokens.weight", Init::Normal(0.02)),
        ("lm_head.weight", Init::Normal(0.02)),
        ("model.norm.weight", Init::Zeros),
        ("model.layers.0.input_layernorm.weight", Init::Zeros),
        ("model.layers.0.post_feedforward_layernorm.weight", Init::Zeros),
        ("model.layers.0.self_attn.q_norm.weight", Init::Zeros),
        ("model.layers.0.self_attn.q_proj.weight", Init::Normal(0.02)),
        ("model.layers.0.self_attn.q_proj.bias", Init::Zeros),
        ("model.layers.0.self_attn.o_proj.weight", Init::Normal(0.005)),
        ("model.layers.0.mlp.down_proj.weight", Init::Normal(0.005)),
    ] {
        assert_eq!(gemma.init(name), want, "{name}");
    }
}

/// Normals have their mean and deviation, differ by name and seed, and do not depend on how many are asked for.
#[test]
fn normals_are_normal() {
    let fill = |seed, name, n| {
        let mut out = vec![0.0f32; n];
        Init::Normal(0.5).fill(seed, name, &mut out);
        out
    };
    let n = 20_001;
    let x = fill(1, "a", n);
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
    let moment = |p: i32| x.iter().map(|x| (f64::from(*x) - mean).powi(p)).sum::<f64>() / n as f64;
    assert!(mean.abs() < 0.015, "{mean}");
    assert!((moment(2) - 0.25).abs() < 0.01, "{}", moment(2));
    // a normal's fourth moment is 3 σ⁴, its third 0
    assert!((moment(4) - 3.0 * 0.0625).abs() < 0.02 && moment(3).abs() < 0.02, "{} {}", moment(4), moment(3));
    // neighbours are independent
    let product = x.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n as f64;
    assert!(product.abs() < 0.01, "{product}");
    assert_eq!(fill(1, "a", 7), x[..7]);
    assert_ne!(fill(1, "b", 7), x[..7]);
    assert_ne!(fill(2, "a", 7), x[..7]);
    let mut out = [9.0; 3];
    Init::Ones.fill(1, "a", &mut out);
    assert_eq!(out, [1.0; 3]);
    Init::Zeros.fill(1, "a", &mut out);
    assert_eq!(out, [0.0; 3]);
}

fn refused(settings: impl Architecture, words: &[&str]) {
    let error = settings.check().unwrap_err();
    assert!(words.iter().all(|w| error.contains(w)) && error.contains("; try "), "{error} should have {words:?}");
}

/// Every setting has a range, and the edges of the range are in it.
#[test]
fn ranges_of_settings() {
    let (g, l) = (Gpt::default, Llama::default);
    let largest = 1 << 24;
    let yarn = |beta_fast, beta_slow| RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 64,
        beta_fast,
        beta_slow,
        attention_factor: None,
        truncate: true,
    };
    let llama3 = |context, high_freq_factor| RopeScaling::Llama3 {
        factor: 8.0,
        original_max_position_embeddings: context,
        low_freq_factor: 1.0,
        high_freq_factor,
    };
    for (have, words) in [
        (Gpt { vocab_size: 0, ..g() }, ["vocab_size is 0", "at least 1"]),
        (Gpt { vocab_size: largest + 1, ..g() }, ["vocab_size is 16777217", "at most 16777216"]),
        (Gpt { n_positions: 0, ..g() }, ["n_positions is 0", "at least 1"]),
        (Gpt { n_layer: 0, ..g() }, ["n_layer is 0", "at least 1"]),
        (Gpt { n_layer: 4097, ..g() }, ["n_layer is 4097", "at most 4096"]),
        (Gpt { n_head: 0, ..g() }, ["n_head is 0", "at least 1"]),
        (Gpt { n_head: 5, ..g() }, ["n_head is 5 and does not divide n_embd, which is 768", "n_head = 4"]),
        (Gpt { n_embd: 0, ..g() }, ["n_embd is 0", "at least 1"]),
        (Gpt { n_inner: largest + 1, ..g() }, ["n_inner is 16777217", "at most 16777216"]),
        (Gpt { layer_norm_epsilon: 0.0, ..g() }, ["layer_norm_epsilon is 0", "1e-12"]),
        (Gpt { dropout: -0.1, ..g() }, ["dropout is -0.1", "at least 0"]),
        (Gpt { dropout: 1.0, ..g() }, ["dropout is 1", "below 1"]),
        (Gpt { dropout: f64::NAN, ..g() }, ["dropout is NaN", "below 1"]),
    ] {
        refused(have, &words);
    }
    for (have, words) in [
        (Llama { vocab_size: 0, ..l() }, ["vocab_size is 0", "at least 1"]),
        (Llama { max_position_embeddings: 0, ..l() }, ["max_position_embeddings is 0", "at least 1"]),
        (Llama { num_hidden_layers: 0, ..l() }, ["num_hidden_layers is 0", "at least 1"]),
        (Llama { num_attention_heads: 0, ..l() }, ["num_attention_heads is 0", "at least 1"]),
        (Llama { num_attention_heads: 5, ..l() }, ["num_attention_heads is 5", "does not divide hidden_size"]),
        (Llama { num_key_value_heads: 0, ..l() }, ["num_key_value_heads is 0", "at least 1"]),
        (Llama { num_key_value_heads: 5, ..l() }, ["num_key_value_heads is 5", "does not divide num_attention_heads"]),
        (Llama { num_key_value_heads: 24, ..l() }, ["num_key_value_heads is 24", "does not divide num_attention_heads"]),
        (Llama { hidden_size: 0, ..l() }, ["hidden_size is 0", "at least 1"]),
        (Llama { hidden_size: 36, ..l() }, ["hidden_size is 36", "hidden_size = 48"]),
        (Llama { intermediate_size: 0, ..l() }, ["intermediate_size is 0", "at least 1"]),
        (Llama { head_dim: 9, ..l() }, ["head_dim is 9", "head_dim = 10"]),
        (Llama { head_dim: largest, ..l() }, ["head_dim is 16777216", "at most 1398101"]),
        (Llama { sliding_window: largest + 1, ..l() }, ["sliding_window is 16777217", "at most 16777216"]),
        (Llama { dropout: 1.0, ..l() }, ["dropout is 1", "below 1"]),
        (Llama { rope_scaling: RopeScaling::Linear { factor: 0.0 }, ..l() }, ["rope_scaling.factor is 0", "above 0"]),
        (Llama { rope_scaling: RopeScaling::Ntk { factor: f64::NAN }, ..l() }, ["rope_scaling.factor is NaN", "above 0"]),
        (Llama { positions: Positions::Alibi, rope_scaling: RopeScaling::Dynamic { factor: 2.0 }, ..l() }, ["rope_scaling", "positions is alibi"]),
        (Llama { rope_scaling: yarn(1.0, 1.0), ..l() }, ["rope_scaling.beta_fast is 1", "above rope_scaling.beta_slow, which is 1"]),
        (Llama { rope_scaling: yarn(32.0, -1.0), ..l() }, ["rope_scaling.beta_slow is -1", "above 0"]),
        (Llama { rope_scaling: yarn(32.0, 1.0), rope_theta: 1.0, ..l() }, ["rope_theta is 1", "above 1"]),
        (Llama { rope_scaling: llama3(0, 4.0), ..l() }, ["rope_scaling.original_max_position_embeddings is 0", "at least 1"]),
        (Llama { rope_scaling: llama3(8, 1.0), ..l() }, ["rope_scaling.high_freq_factor is 1", "which is 1"]),
        (Llama { rope_theta: -1.0, ..l() }, ["rope_theta is -1", "at least 1"]),
        (Llama { rope_theta: 0.0, ..l() }, ["rope_theta is 0", "at least 1"]),
        (Llama { rope_theta: f64::INFINITY, ..l() }, ["rope_theta is inf", "at most"]),
        (Llama { rope_theta: f64::NAN, ..l() }, ["rope_theta is NaN", "at least 1"]),
        (Llama { rms_norm_eps: 0.0, ..l() }, ["rms_norm_eps is 0", "1e-12"]),
        (Llama { rms_norm_eps: -1e-5, ..l() }, ["rms_norm_eps is -1e-5", "1e-12"]),
        (Llama { rms_norm_eps: f64::NAN, ..l() }, ["rms_norm_eps is NaN", "at most 1"]),
    ] {
        refused(have, &words);
    }
    let m = Gemma::default;
    for (have, words) in [
        (Gemma { head_dim: 0, ..m() }, ["head_dim is 0", "at least 1"]),
        (Gemma { head_dim: 9, ..m() }, ["head_dim is 9", "head_dim = 10"]),
        (Gemma { head_dim: largest, ..m() }, ["head_dim is 16777216", "at most 4194304"]),
        (Gemma { num_key_value_heads: 3, ..m() }, ["num_key_value_heads is 3", "does not divide num_attention_heads"]),
        (Gemma { num_hidden_layers: 0, ..m() }, ["num_hidden_layers is 0", "at least 1"]),
        (Gemma { sliding_window_pattern: 0, ..m() }, ["sliding_window_pattern is 0", "at least 1"]),
        (Gemma { sliding_window: largest + 1, ..m() }, ["sliding_window is 16777217", "at most"]),
        (Gemma { query_pre_attn_scalar: largest + 1, ..m() }, ["query_pre_attn_scalar is 16777217", "at most"]),
        (Gemma { attn_logit_softcapping: -1.0, ..m() }, ["attn_logit_softcapping is -1", "at least 0"]),
        (Gemma { final_logit_softcapping: f64::NAN, ..m() }, ["final_logit_softcapping is NaN", "at least 0"]),
        (Gemma { rope_theta: 0.0, ..m() }, ["rope_theta is 0", "at least 1"]),
        (Gemma { rope_local_base_freq: 0.5, ..m() }, ["rope_local_base_freq is 0.5", "at least 1"]),
        (Gemma { rope_scaling: RopeScaling::Linear { factor: -2.0 }, ..m() }, ["rope_scaling.factor is -2", "above 0"]),
        (Gemma { dropout: 1.0, ..m() }, ["dropout is 1", "below 1"]),
        (Gemma { rms_norm_eps: 0.0, ..m() }, ["rms_norm_eps is 0", "above 0"]),
    ] {
        refused(have, &words);
    }
    m().check().unwrap();
    Gpt { vocab_size: largest, n_layer: 4096, n_head: 768, n_positions: 1, dropout: 0.999, ..g() }.check().unwrap();
    Gpt { vocab_size: 1, n_layer: 1, n_head: 1, n_embd: 1, ..g() }.check().unwrap();
    Llama { num_key_value_heads: 12, rope_theta: 1.0, rms_norm_eps: 1.0, ..l() }.check().unwrap();
    Llama { num_key_value_heads: 1, num_attention_heads: 384, rms_norm_eps: 1e-12, ..l() }.check().unwrap();
    Llama { head_dim: 2, num_attention_heads: 5, num_key_value_heads: 5, hidden_size: 7, sliding_window: largest, ..l() }.check().unwrap();
    Llama { positions: Positions::Alibi, hidden_size: 36, ..l() }.check().unwrap();
    refused(Llama { num_key_value_heads: 1, num_attention_heads: 768, ..l() }, &["width of 1", "hidden_size = 1536"]);
    Llama { num_key_value_heads: 1, hidden_size: 24, rms_norm_eps: 1e-12, ..l() }.check().unwrap();
}

/// What is said of a range is what the range is.
#[test]
fn words_of_ranges() {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let said = |range, value: f64| check::within("x", value, range, 3).unwrap_err();
    assert_eq!(said((Included(1.0), Included(2.0)), 2.5), "x is 2.5, expected at least 1 and at most 2; try x = 3");
    assert_eq!(said((Excluded(0.0), Excluded(1.0)), 0.0), "x is 0, expected above 0 and below 1; try x = 3");
    assert_eq!(said((Excluded(0.0), Unbounded), -1e-9), "x is -1e-9, expected above 0; try x = 3");
    assert_eq!(said((Unbounded, Included(0.5)), 1.0), "x is 1, expected at most 0.5; try x = 3");
    for (value, inside) in [(1.0, true), (2.0, true), (0.999, false), (2.001, false)] {
        assert_eq!(check::within("x", value, 1.0..=2.0, 1).is_ok(), inside, "{value}");
    }
}

/// A model is its name and its settings: it is read from them, prints them, and is equal where they are.
#[test]
fn a_handle_is_a_name_and_settings() {
    let settings = |text: &str| text.parse::<toml::Table>().unwrap();
    let entry = |name: &str| *MODELS.iter().find(|m| m.answers(name)).unwrap();
    for (name, key) in [("gpt2", "n_layer"), ("llama", "num_hidden_layers")] {
        let usual = entry(name).default().unwrap();
        assert_eq!((usual.name(), models::by_name(name).as_ref()), (name, Some(&usual)));
        let deeper = entry(name).model(settings(&format!("{key} = 7"))).unwrap();
        assert_eq!(deeper.settings()[key].as_integer(), Some(7));
        assert_ne!(deeper, usual);
        assert_eq!(deeper.with(usual.settings().clone()).unwrap(), usual);
        let other = usual.with_vocabulary(99).unwrap();
        assert_eq!((other.vocab_size(), other.context()), (99, usual.context()));
        let error = entry(name).model(settings("depth = 7")).unwrap_err();
        assert!(error.contains("depth"), "{error}");
    }
    // files of earlier versions say gpt
    assert_eq!(entry("gpt").name(), "gpt2");
    assert!(models::by_name("gpt").is_none() && MODELS.iter().all(|m| !m.answers("mamba")));
    assert_ne!(gpt(), llama(false));
    assert_eq!(Entry::of::<Gpt>().default().unwrap(), Model::from(Gpt::default()));
    assert_eq!(format!("{:?}", gpt()).split(' ').next(), Some("Gpt"));
}
