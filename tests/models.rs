//! The models against plain arithmetic written a second time, loop by loop, and their sizes, starts and ranges against numbers.

use crate::common::{environment, gpt, llama};
use ir::{Env, Graph, eval};
use llm::{Mode, Objective};
use models::{Architecture, Entry, Gpt, Init, Kept, Llama, MODELS, Model, check};

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

fn layer_norm(x: &[f64], gain: &[f64], bias: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (0..x.len()).map(|i| (x[i] - mean) / (variance + 1e-5).sqrt() * gain[i] + bias[i]).collect()
}

fn rms_norm(x: &[f64], gain: &[f64], eps: f64) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    x.iter().zip(gain).map(|(x, g)| x / (mean + eps).sqrt() * g).collect()
}

/// Weights of the tokens up to `t`.
fn weights(q: &Rows, k: &Rows, t: usize) -> Vec<f64> {
    let scores: Vec<f64> = (0..=t).map(|s| dot(&q[t], &k[s]) / (q[t].len() as f64).sqrt()).collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total: f64 = scores.iter().map(|x| (x - most).exp()).sum();
    scores.iter().map(|x| (x - most).exp() / total).collect()
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
            let norm = |x: &Vec<f64>, n: &str| layer_norm(x, &vector(&format!("{n}.weight")), &vector(&format!("{n}.bias")));
            let layer = |x: &[f64], n: &str| affine(x, &matrix(&format!("{n}.weight")), &vector(&format!("{n}.bias")));
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
                let gelu = |x: &f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
                let out = layer(&u.iter().map(gelu).collect::<Vec<_>>(), "mlp.c_proj");
                x[t] = add(&x[t], &out.iter().enumerate().map(|(i, y)| dropped(*y, key(2), b, t, i)).collect::<Vec<_>>());
            }
        }
        let (gain, bias) = (w.vector("transformer.ln_f.weight", None), w.vector("transformer.ln_f.bias", None));
        out.push(x.iter().map(|x| linear(&layer_norm(x, &gain, &bias), &words)).collect());
    }
    out
}

/// Llama as Hugging Face's checkpoints mean it.
fn plain_llama(m: &Llama, w: &Weights, ids: &[Vec<usize>]) -> Vec<Rows> {
    let (n, kv) = (m.num_attention_heads, m.num_key_value_heads);
    let d = m.hidden_size / n;
    let words = w.matrix("model.embed_tokens.weight", None);
    // each pair (i, i + d/2) turns by its own angle
    let turn = |x: Vec<f64>, t: usize| -> Vec<f64> {
        let half = d / 2;
        let angle = |i: usize| t as f64 * m.rope_theta.powf(-2.0 * (i % half) as f64 / d as f64);
        (0..d).map(|i| x[i] * angle(i).cos() + if i < half { -x[i + half] } else { x[i - half] } * angle(i).sin()).collect()
    };
    let mut out = vec![];
    for ids in ids {
        let mut x: Rows = ids.iter().map(|id| words[*id].clone()).collect();
        for l in 0..m.num_hidden_layers {
            let matrix = |n: &str| w.matrix(&format!("model.layers.{{}}.{n}.weight"), Some(l));
            let norm = |x: &Vec<f64>, n: &str| rms_norm(x, &matrix(n).concat(), m.rms_norm_eps);
            let inside: Rows = x.iter().map(|x| norm(x, "input_layernorm")).collect();
            let project = |n: &str| inside.iter().map(|x| linear(x, &matrix(n))).collect::<Rows>();
            let (q, k, v) = (project("self_attn.q_proj"), project("self_attn.k_proj"), project("self_attn.v_proj"));
            let part = |x: &Rows, h: usize| x.iter().map(|x| head(x, d, h)).collect::<Rows>();
            let turned = |x: Rows| x.into_iter().enumerate().map(|(t, x)| turn(x, t)).collect::<Rows>();
            let mut y: Rows = vec![vec![]; ids.len()];
            for h in 0..n {
                let shared = h / (n / kv);
                let (q, k, v) = (turned(part(&q, h)), turned(part(&k, shared)), part(&v, shared));
                (0..ids.len()).for_each(|t| y[t].extend(mix(&weights(&q, &k, t), &v)));
            }
            for t in 0..ids.len() {
                x[t] = add(&x[t], &linear(&y[t], &matrix("self_attn.o_proj")));
                let z = norm(&x[t], "post_attention_layernorm");
                let (gate, up) = (linear(&z, &matrix("mlp.gate_proj")), linear(&z, &matrix("mlp.up_proj")));
                let inner: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                x[t] = add(&x[t], &linear(&inner, &matrix("mlp.down_proj")));
            }
        }
        let last = if m.tie_word_embeddings { words.clone() } else { w.matrix("lm_head.weight", None) };
        let gain = w.vector("model.norm.weight", None);
        out.push(x.iter().map(|x| linear(&rms_norm(x, &gain, m.rms_norm_eps), &last)).collect());
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
fn gpt_is_gpt2() {
    let settings = |dropout| Gpt { vocab_size: 11, n_positions: 9, n_layer: 3, n_head: 2, n_embd: 6, dropout, ..Gpt::default() };
    for (dropout, mode) in [(0.0, Mode::Train), (0.25, Mode::Train), (0.25, Mode::Evaluate)] {
        let m = settings(dropout);
        let (graph, env, ids) = valued(&Model::from(m.clone()), mode, 2, 5);
        // what is dropped is asked for by a key, which there is in training alone
        assert_eq!(graph.inputs.contains(&"key".to_string()), dropout > 0.0 && mode == Mode::Train);
        let key = env.get("key").map(|k| k.data[0] as u32);
        agree(&graph, &env, plain_gpt(&m, &Weights(&env), &ids, key));
    }
}

#[test]
fn llama_is_llama() {
    for (tied, kv, theta, eps) in [(false, 2, 10000.0, 1e-5), (true, 1, 100.0, 1e-2), (false, 4, 500.0, 1e-5)] {
        let m = Llama {
            vocab_size: 13,
            max_position_embeddings: 16,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: kv,
            hidden_size: 24,
            intermediate_size: 10,
            rope_theta: theta,
            rms_norm_eps: eps,
            tie_word_embeddings: tied,
            ..Llama::default()
        };
        let (graph, env, ids) = valued(&Model::from(m.clone()), Mode::Train, 2, 6);
        assert_eq!(env.contains_key("lm_head.weight"), !tied);
        agree(&graph, &env, plain_llama(&m, &Weights(&env), &ids));
    }
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
    assert_eq!(gpt2.shape().flops_a_token(1024), 797_815_296.0);
    let llama = models::by_name("llama").unwrap();
    // two of four projections are a third as wide: 6 (12 (768² (2 + 2/3) + 3 · 768 · 2048) + 32000 · 768) + 12 · 12 · 768 · 1024 / 2
    assert!((llama.shape().flops_a_token(1024) - 657_063_936.0).abs() < 1.0);
    assert!(gpt2.shape().flops_a_token(2) > gpt2.shape().flops_a_token(0));
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
    let llama = Model::from(Llama::default());
    for (name, want) in [
        ("model.embed_tokens.weight", Init::Normal(0.02)),
        ("lm_head.weight", Init::Normal(0.02)),
        ("model.norm.weight", Init::Ones),
        ("model.layers.0.input_layernorm.weight", Init::Ones),
        ("model.layers.0.post_attention_layernorm.weight", Init::Ones),
        ("model.layers.0.self_attn.q_proj.weight", Init::Normal(0.02)),
        ("model.layers.0.self_attn.o_proj.weight", residual),
        ("model.layers.0.mlp.gate_proj.weight", Init::Normal(0.02)),
        ("model.layers.0.mlp.down_proj.weight", residual),
    ] {
        assert_eq!(llama.init(name), want, "{name}");
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
    for (have, words) in [
        (Gpt { vocab_size: 0, ..g() }, ["vocab_size is 0", "at least 1"]),
        (Gpt { vocab_size: largest + 1, ..g() }, ["vocab_size is 16777217", "at most 16777216"]),
        (Gpt { n_positions: 0, ..g() }, ["n_positions is 0", "at least 1"]),
        (Gpt { n_layer: 0, ..g() }, ["n_layer is 0", "at least 1"]),
        (Gpt { n_layer: 4097, ..g() }, ["n_layer is 4097", "at most 4096"]),
        (Gpt { n_head: 0, ..g() }, ["n_head is 0", "at least 1"]),
        (Gpt { n_head: 5, ..g() }, ["n_head is 5 and does not divide n_embd, which is 768", "n_head = 4"]),
        (Gpt { n_embd: 0, ..g() }, ["n_embd is 0", "at least 1"]),
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
    Gpt { vocab_size: largest, n_layer: 4096, n_head: 768, n_positions: 1, dropout: 0.999, ..g() }.check().unwrap();
    Gpt { vocab_size: 1, n_layer: 1, n_head: 1, n_embd: 1, ..g() }.check().unwrap();
    Llama { num_key_value_heads: 12, rope_theta: 1.0, rms_norm_eps: 1.0, ..l() }.check().unwrap();
    Llama { num_key_value_heads: 1, num_attention_heads: 384, rms_norm_eps: 1e-12, ..l() }.check().unwrap();
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
