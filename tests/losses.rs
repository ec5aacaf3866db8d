//! Losses of preferences, policies and imitation: against plain arithmetic, their gradients against differences, as written and fused. The
//! programs are kept as text, which `tests/parity/preferences.py` runs beside trl and PyTorch.

use crate::common::Random;
use ir::names::{LOSS_COUNT, LOSS_SUM};
use ir::{Builder, DType, Dim, Env, Graph, Scope, Tensor, Value, eval};
use models::losses::{self, Answers, Average, Clip, Imitation, Kl, Kto, Loss, Pairwise};
use passes::{Opt, optimize};

type Make = for<'g> fn(&Scope<'g>) -> Loss<'g>;

fn dims() -> [Dim; 3] {
    ['B', 'T', 'V'].map(Dim::sym)
}

fn two(d: Dim) -> Dim {
    d.times(Dim::num(2)).unwrap()
}

/// Answers in pairs, and what is said of them beside.
fn answers<'g>(s: &Scope<'g>) -> Answers<'g> {
    let [b, t, v] = dims();
    Answers::of(s, s.param("logits", (two(b), t, v)), s.input("labels", DType::I32, (b, Dim::num(2), t)))
}

fn reference<'g>(s: &Scope<'g>) -> Tensor<'g> {
    s.input("reference", DType::F32, (dims()[0], Dim::num(2)))
}

const PLAIN: Pairwise = Pairwise { beta: 0.3, margin: 0.0, label_smoothing: 0.0 };
const SMOOTH: Pairwise = Pairwise { beta: 0.2, margin: 0.0, label_smoothing: 0.1 };
const MARGIN: Pairwise = Pairwise { beta: 2.0, margin: 0.5, label_smoothing: 0.0 };
const UNPAIRED: Kto = Kto { beta: 0.4, desirable: 1.5, undesirable: 0.5 };
const CLIP: Clip = Clip { low: 0.2, high: 0.28 };
const KL: f64 = 0.05;
const LENGTH: f64 = 7.0;

fn rewards<'g>(s: &Scope<'g>) -> Loss<'g> {
    let [b, ..] = dims();
    let rewards = s.param("rewards", (b, Dim::num(2)));
    losses::bradley_terry(s, rewards, s.num(0.0).le(s.input("asked", DType::F32, (b, Dim::ONE))), &Pairwise { beta: 1.0, ..MARGIN })
}

fn policy<'g>(s: &Scope<'g>, average: Average, weight: f64) -> Loss<'g> {
    let [b, t, v] = dims();
    let labels = s.input("labels", DType::I32, (b, t));
    let log_prob = losses::log_probabilities(s, s.param("logits", (b, t, v)), labels);
    let old = s.input("old", DType::F32, (b, t));
    let kl = (weight > 0.0).then(|| Kl { reference: s.input("reference", DType::F32, (b, t)), weight });
    losses::policy(s, [log_prob, old, s.input("advantages", DType::F32, (b, Dim::ONE))], labels, (CLIP, kl, average)).0
}

fn value<'g>(s: &Scope<'g>) -> Loss<'g> {
    let [b, t, _] = dims();
    let [old, returns] = ["old", "returns"].map(|name| s.input(name, DType::F32, (b, t)));
    losses::values(s, [s.param("values", (b, t)), old, returns], s.input("labels", DType::I32, (b, t)), 0.2)
}

fn imitation<'g>(s: &Scope<'g>, how: Imitation, temperature: f64) -> Loss<'g> {
    let [b, t, v] = dims();
    let both = [s.param("logits", (b, t, v)), s.input("teacher", DType::F32, (b, t, v))];
    losses::imitation(s, both, s.input("labels", DType::I32, (b, t)), how, temperature)
}

const PROGRAMS: [(&str, Make); 17] = [
    ("dpo", |s| losses::dpo(s, answers(s), reference(s), &PLAIN)),
    ("cdpo", |s| losses::dpo(s, answers(s), reference(s), &SMOOTH)),
    ("odpo", |s| losses::dpo(s, answers(s), reference(s), &Pairwise { beta: 0.3, ..MARGIN })),
    ("ipo", |s| losses::ipo(s, answers(s), reference(s), &PLAIN)),
    ("kto", |s| {
        let label = s.input("label", DType::I32, (dims()[0], Dim::ONE));
        losses::kto(s, answers(s), reference(s), label, &UNPAIRED)
    }),
    ("orpo", |s| losses::orpo(s, answers(s), &PLAIN)),
    ("simpo", |s| losses::simpo(s, answers(s), &MARGIN)),
    ("bradley_terry", rewards),
    ("grpo", |s| policy(s, Average::Answers, 0.0)),
    ("grpo_kl", |s| policy(s, Average::Answers, KL)),
    ("dapo", |s| policy(s, Average::Tokens, 0.0)),
    ("dr_grpo", |s| policy(s, Average::Length(LENGTH), 0.0)),
    ("values", value),
    ("forward_kl", |s| imitation(s, Imitation::Forward, 1.0)),
    ("reverse_kl", |s| imitation(s, Imitation::Reverse, 1.0)),
    ("warm_reverse_kl", |s| imitation(s, Imitation::Reverse, 2.0)),
    ("mixed_kl", |s| imitation(s, Imitation::Mixed(0.3), 1.0)),
];

fn program(make: Make) -> Graph {
    let b = Builder::default();
    make(&b.scope()).output(&b);
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn programs_are_as_they_are_kept() {
    for (name, make) in PROGRAMS {
        insta::assert_snapshot!(name, program(make));
    }
}

/// A case's tensors by name, of so many rows, tokens and classes; the first row or pair asks nothing, and the second answers in full.
fn tensors(graph: &Graph, r: &mut Random, [b, t, v]: [usize; 3]) -> (Graph, Env) {
    let size = |s: char| Some([b, t, v][['B', 'T', 'V'].iter().position(|d| *d == s).unwrap()] as u64);
    let graph = graph.bind(&size).unwrap();
    let inputs = graph.inputs.iter().cloned().zip(graph.main().inputs());
    let all: Vec<_> = inputs.chain(graph.params().into_iter().map(|(n, t)| (n.to_string(), t))).collect();
    let one = |(name, ty): (String, ir::Type)| {
        let n = ty.count();
        let row = n / b;
        let data: Vec<f64> = (0..n)
            .map(|i| match name.as_str() {
                "labels" if i < row || i >= 2 * row && r.below(3) == 0 => -100.0,
                "labels" => r.below(v) as f64,
                "label" => r.below(2) as f64,
                "asked" => {
                    if i == 0 {
                        -1.0
                    } else {
                        1.0
                    }
                }
                "reference" if row == 2 => 4.0 * r.unit() - 6.0,
                "old" | "reference" if n == b * t => r.unit() - 2.0,
                _ => 2.0 * r.unit(),
            })
            .collect();
        (name, Value::new(ty.sizes(), data))
    };
    let env = all.into_iter().map(one).collect();
    (graph, env)
}

/// Σ log p and the number of tokens of each row.
fn of_rows(env: &Env, t: usize, v: usize) -> Vec<(f64, f64)> {
    let tokens = of_tokens(env, v);
    tokens.chunks(t).map(|row| row.iter().flatten().fold((0.0, 0.0), |(sum, n), x| (sum + x, n + 1.0))).collect()
}

/// log p of each token that is asked.
fn of_tokens(env: &Env, v: usize) -> Vec<Option<f64>> {
    let one = |(x, label): (&[f64], &f64)| (*label >= 0.0).then(|| x[*label as usize] - x.iter().map(|x| x.exp()).sum::<f64>().ln());
    env["logits"].data.chunks(v).zip(&env["labels"].data).map(one).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The terms of a loss of pairs, by plain arithmetic.
fn pairs(name: &str, env: &Env, t: usize, v: usize) -> Vec<f64> {
    let rows = of_rows(env, t, v);
    let reference = |i: usize| env.get("reference").map_or(0.0, |r| r.data[i]);
    let ratio = |i: usize| rows[i].0 - reference(i);
    let mean = |i: usize| rows[i].0 / rows[i].1;
    let log_odds = |i: usize| (mean(i).exp() / (1.0 - mean(i).exp())).ln();
    let baseline: Vec<f64> = (0..rows.len()).filter(|i| i % 2 == 1 && rows[*i].1 > 0.0).map(ratio).collect();
    let z = f64::max(baseline.iter().sum::<f64>() / baseline.len().max(1) as f64, 0.0);
    let one = |i: usize| {
        let delta = ratio(i) - ratio(i + 1);
        match name {
            "dpo" => -sigmoid(0.3 * delta).ln(),
            "cdpo" => -0.9 * sigmoid(0.2 * delta).ln() - 0.1 * sigmoid(-0.2 * delta).ln(),
            "odpo" => -sigmoid(0.3 * delta - 0.5).ln(),
            "ipo" => (ratio(i) / rows[i].1 - ratio(i + 1) / rows[i + 1].1 - 1.0 / 0.6).powi(2),
            "orpo" => -mean(i) - 0.3 * sigmoid(log_odds(i) - log_odds(i + 1)).ln(),
            "simpo" => -sigmoid(2.0 * (mean(i) - mean(i + 1)) - 0.5).ln(),
            _ if env["label"].data[i / 2] > 0.0 => 1.5 * (1.0 - sigmoid(0.4 * (ratio(i) - z))),
            _ => 0.5 * (1.0 - sigmoid(0.4 * (z - ratio(i)))),
        }
    };
    let asked = |i: &usize| rows[*i].1 > 0.0 && (name == "kto" || rows[i + 1].1 > 0.0);
    (0..rows.len()).step_by(2).filter(asked).map(one).collect()
}

/// The mean loss of a policy.
fn of_policy(name: &str, env: &Env, t: usize, v: usize) -> f64 {
    let tokens = of_tokens(env, v);
    let one = |i: usize| {
        let (log_prob, advantage) = (tokens[i]?, env["advantages"].data[i / t]);
        let ratio = (log_prob - env["old"].data[i]).exp();
        let gained = f64::min(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage);
        let kl = env.get("reference").map_or(0.0, |r| (r.data[i] - log_prob).exp() - (r.data[i] - log_prob) - 1.0);
        Some(-gained + KL * kl)
    };
    let rows: Vec<Vec<f64>> = (0..tokens.len() / t).map(|row| (row * t..(row + 1) * t).filter_map(one).collect()).collect();
    let rows: Vec<&Vec<f64>> = rows.iter().filter(|row| !row.is_empty()).collect();
    let (sum, all) = (rows.iter().copied().flatten().sum::<f64>(), rows.iter().map(|r| r.len()).sum::<usize>());
    match name {
        "dapo" => sum / all as f64,
        "dr_grpo" => sum / (LENGTH * rows.len() as f64),
        _ => rows.iter().map(|row| row.iter().sum::<f64>() / row.len() as f64).sum::<f64>() / rows.len() as f64,
    }
}

fn log_softmax(x: &[f64], temperature: f64) -> Vec<f64> {
    let all = x.iter().map(|x| (x / temperature).exp()).sum::<f64>().ln();
    x.iter().map(|x| x / temperature - all).collect()
}

/// The mean of a loss of tokens that asks no log-probability.
fn of_others(name: &str, env: &Env, v: usize) -> f64 {
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    let one = |i: usize| {
        if name == "values" {
            let [x, old, r] = ["values", "old", "returns"].map(|n| env[n].data[i]);
            return 0.5 * f64::max((x - r).powi(2), (old + (x - old).clamp(-0.2, 0.2) - r).powi(2));
        }
        let temperature = if name == "warm_reverse_kl" { 2.0 } else { 1.0 };
        let [q, p] = ["logits", "teacher"].map(|n| log_softmax(&env[n].data[i * v..][..v], temperature));
        match name {
            "forward_kl" => kl(&p, &q),
            "mixed_kl" => {
                let m: Vec<f64> = p.iter().zip(&q).map(|(p, q)| (0.3 * p.exp() + 0.7 * q.exp()).ln()).collect();
                0.3 * kl(&p, &m) + 0.7 * kl(&q, &m)
            }
            _ => kl(&q, &p),
        }
    };
    let all: Vec<f64> = (0..env["labels"].data.len()).filter(|i| env["labels"].data[*i] >= 0.0).map(one).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

fn plain(name: &str, env: &Env, [b, t, v]: [usize; 3]) -> f64 {
    let mean = |x: Vec<f64>| x.iter().sum::<f64>() / x.len() as f64;
    match name {
        "dpo" | "cdpo" | "odpo" | "ipo" | "kto" | "orpo" | "simpo" => mean(pairs(name, env, t, v)),
        "bradley_terry" => {
            let r = &env["rewards"].data;
            mean((1..b).map(|i| -sigmoid(r[2 * i] - r[2 * i + 1] - 0.5).ln()).collect())
        }
        "grpo" | "grpo_kl" | "dapo" | "dr_grpo" => of_policy(name, env, t, v),
        _ => of_others(name, env, v),
    }
}

fn mean(graph: &Graph, env: &Env) -> f64 {
    let out = eval(graph, env).unwrap();
    out[LOSS_SUM].data[0] / out[LOSS_COUNT].data[0]
}

#[test]
fn losses_are_their_papers_formulas() {
    let mut r = Random(3);
    for (name, make) in PROGRAMS {
        for sizes in [[3, 5, 4], [2, 1, 2], [5, 3, 7]] {
            let (graph, env) = tensors(&program(make), &mut r, sizes);
            let (have, want) = (mean(&graph, &env), plain(name, &env, sizes));
            assert!((have - want).abs() < 1e-9 * (1.0 + want.abs()), "{name} of {sizes:?}: {have} and {want}");
        }
    }
}

/// As written and fused, in the direction of random numbers.
#[test]
fn gradients_are_differences() {
    let mut r = Random(5);
    for (name, make) in PROGRAMS {
        let (graph, env) = tensors(&program(make), &mut r, [4, 5, 6]);
        let path = graph.params()[0].0.to_string();
        let way: Vec<f64> = env[&path].data.iter().map(|_| r.unit()).collect();
        let moved = |h: f64| {
            let mut env = env.clone();
            env.get_mut(&path).unwrap().data.iter_mut().zip(&way).for_each(|(x, w)| *x += h * w);
            eval(&graph, &env).unwrap()[LOSS_SUM].data[0]
        };
        let want = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        for opt in [Opt::Off, Opt::Egg] {
            let stages = optimize(&graph, Some(LOSS_SUM), opt).unwrap();
            let out = eval(stages.last(), &env).unwrap();
            let have: f64 = out[&ir::names::gradient(&path)].data.iter().zip(&way).map(|(g, w)| g * w).sum();
            assert!((have - want).abs() < 1e-6 * (1.0 + want.abs()), "{name}, {opt:?}: {have} and {want}");
        }
    }
}

/// Rows that are filled up may hold anything, and whoever is certain has a finite loss and gradient.
#[test]
fn edges_are_finite() {
    let mut r = Random(7);
    for (name, make) in PROGRAMS {
        let (graph, mut env) = tensors(&program(make), &mut r, [2, 3, 4]);
        let stages = optimize(&graph, Some(LOSS_SUM), Opt::Egg).unwrap();
        let path = graph.params()[0].0.to_string();
        let row = env[&path].data.len() / 2;
        let fine = eval(stages.last(), &env).unwrap();
        if env.contains_key("labels") && path == "logits" {
            env.get_mut(&path).unwrap().data[..row].fill(f64::NAN);
            let out = eval(stages.last(), &env).unwrap();
            for (key, value) in &fine {
                assert_eq!(out[key].data, value.data, "{name}: {key}");
            }
        }
        for large in [30.0, -300.0] {
            env.get_mut(&path).unwrap().data.iter_mut().step_by(3).for_each(|x| *x = large);
            let out = eval(stages.last(), &env).unwrap();
            assert!(out.values().all(|v| v.data.iter().all(|x| x.is_finite())), "{name} of logits of {large}");
        }
    }
}

/// Where the policy is the reference, the loss is ln 2 and the gradient that of half the difference.
#[test]
fn it_starts_at_ln_2() {
    let (graph, mut env) = tensors(&program(PROGRAMS[0].1), &mut Random(2), [3, 4, 5]);
    let rows = of_rows(&env, 4, 5);
    env.insert("reference".into(), Value::new(vec![3, 2], rows.iter().map(|r| r.0).collect()));
    assert!((mean(&graph, &env) - 2f64.ln()).abs() < 1e-12);
}
