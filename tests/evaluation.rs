//! What training evaluates, draws and saves, against plain evaluation of the model.

use crate::cli::Directory;
use crate::common::bound;
use ir::{Env, Op, Value, eval, eval_func};
use llm::{Config, Data, OptimizerConfig, TrainConfig, Trainer};
use models::{Gpt, Model};
use runtime::Pool;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const VOCAB: usize = 13;

fn shape(dropout: f64) -> Gpt {
    Gpt { vocab_size: VOCAB, n_positions: 6, n_layer: 2, n_head: 2, n_embd: 8, dropout, ..Gpt::default() }
}

fn config(dropout: f64, change: &dyn Fn(&mut TrainConfig)) -> Config {
    let mut train = TrainConfig {
        steps: 40,
        batch: 2,
        context: 6,
        warmup: 0.0,
        lr: 3e-2,
        min_lr: Some(3e-2),
        eval_every: 1000,
        save_every: 1000,
        ..TrainConfig::default()
    };
    change(&mut train);
    let optimizer = OptimizerConfig { weight_decay: Some(0.0), ..OptimizerConfig::default() };
    Config { train, optimizer, ..Config::of(Model::from(shape(dropout))) }
}

/// A text that can be learned: every token tells the next, but for some noise.
fn tokens() -> Vec<i32> {
    let mut token = 1;
    let next = |i: u64| {
        token = if llm::random(5, i).is_multiple_of(8) { (llm::random(6, i) % VOCAB as u64) as i32 } else { (token * 2 + 1) % VOCAB as i32 };
        token
    };
    (0..433).map(next).collect()
}

fn trainer(config: &Config, tokens: Vec<i32>) -> Trainer {
    Trainer::new(config.clone(), tokens, Arc::new(Pool::new(1))).unwrap()
}

/// Every parameter and state tensor, as bytes.
fn state(t: &Trainer) -> HashMap<String, Vec<u8>> {
    t.session().params().map(|(n, _)| (n.to_string(), t.session().param(n).unwrap().to_vec())).collect()
}

fn environment(t: &Trainer) -> Env {
    let value = |b: &[u8]| b.chunks(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().unwrap()))).collect();
    t.session().params().map(|(n, ty)| (n.to_string(), Value::new(ty.sizes(), value(&t.session().param(n).unwrap())))).collect()
}

/// The sum of −log p over the tokens of a window but the first, by evaluation of the model without dropout.
fn surprise(env: &Env, window: &[i32]) -> f64 {
    let n = window.len() - 1;
    let graph = bound(&Model::from(shape(0.0)), 1, n as u64).keep_outputs(&["logits"]);
    let mut env = env.clone();
    let ids = |w: &[i32]| Value::new(vec![1, n], w.iter().map(|t| f64::from(*t)).collect());
    env.insert("input_ids".into(), ids(&window[..n]));
    env.insert("labels".into(), ids(&window[1..]));
    let logits = eval(&graph, &env).unwrap().remove("logits").unwrap().data;
    let one = |i: usize| {
        let row = &logits[i * VOCAB..(i + 1) * VOCAB];
        row.iter().map(|x| x.exp()).sum::<f64>().ln() - row[window[i + 1] as usize]
    };
    (0..n).map(one).sum()
}

/// The mean loss over held-out text: windows of the context, the last one shorter.
fn held_out_loss(env: &Env, held_out: &[i32], context: usize) -> f64 {
    let windows = (0..held_out.len() - 1).step_by(context).map(|at| &held_out[at..(at + context + 1).min(held_out.len())]);
    windows.map(|w| surprise(env, w)).sum::<f64>() / (held_out.len() - 1) as f64
}

/// The weights as they are now, without dropout, over all of the held-out text, whose last window and last batch are cut short.
#[test]
fn the_held_out_loss_is_that_of_the_trained_weights_without_dropout() {
    for dropout in [0.0, 0.4] {
        let c = config(dropout, &|_| {});
        let mut t = trainer(&c, tokens());
        let held_out = &Data::split(tokens(), c.data.held_out, 6).unwrap().sources()[0].held_out.read(0..44).unwrap();
        assert!(held_out.len() % 6 != 1 && (held_out.len() - 1).div_ceil(6).is_multiple_of(2), "the last window is short: {}", held_out.len());
        let start = environment(&t);
        let mut last = f64::INFINITY;
        for round in 0..3 {
            let want = held_out_loss(&environment(&t), held_out, 6);
            let have = t.evaluate(None).unwrap();
            assert!((have - want).abs() < 1e-5, "dropout {dropout}, round {round}: {have} and {want}");
            assert!(have < last, "it learns: {have} after {last}");
            last = have - 0.02;
            (0..8).for_each(|_| assert!(t.one_step().is_ok()));
        }
        assert!(environment(&t) != start);
        // in part: batches spread evenly from the first on
        let env = environment(&t);
        let batch = |i: usize| {
            let part = &held_out[2 * i * 6..(2 * i * 6 + 13).min(held_out.len())];
            held_out_loss(&env, part, 6)
        };
        let (one, two) = (t.evaluate(Some(1)).unwrap(), t.evaluate(Some(2)).unwrap());
        assert!((one - batch(0)).abs() < 1e-5, "{one} and {}", batch(0));
        assert!((two - (batch(0) + batch(2)) / 2.0).abs() < 1e-5, "{two}");
        assert_eq!(t.evaluate(Some(1000)).unwrap(), t.evaluate(None).unwrap());
    }
}

/// One window alone, and steps that change nothing: only the masks differ.
fn still(dropout: f64, accumulate: u32, seed: u64, n: usize) -> Vec<f64> {
    let c = config(dropout, &|t| (t.lr, t.min_lr, t.accumulate, t.seed) = (1e-30, None, accumulate, seed));
    let mut tokens = tokens();
    tokens.truncate(14);
    let c = Config { data: llm::DataConfig { held_out: 0.5, ..c.data.clone() }, ..c };
    let mut t = trainer(&c, tokens);
    (0..n).map(|_| t.one_step().unwrap().0).collect()
}

#[test]
fn masks_differ_between_steps_and_micro_batches_and_seeds() {
    let distinct = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&still(0.0, 1, 1, 4)), 1, "without dropout every step is the same");
    let one = still(0.3, 1, 1, 6);
    assert_eq!(distinct(&one), 6, "{one:?}");
    // a step of three micro-batches draws the masks of three steps
    let three = still(0.3, 3, 1, 2);
    for (i, loss) in three.iter().enumerate() {
        let mean = one[3 * i..3 * i + 3].iter().sum::<f64>() / 3.0;
        assert!((loss - mean).abs() < 1e-6, "{three:?} {one:?}");
    }
    assert_eq!(one, still(0.3, 1, 1, 6), "the same seed, the same masks");
}

/// The keys of every place where a model drops out, for a key of the step: main's and each layer's.
fn keys(graph: &ir::Graph, layers: usize, key: f64) -> Vec<u64> {
    let of = |f: &ir::Func, inputs: &[Value]| {
        let sites = f.nodes.iter().filter(|n| matches!(n.op, Op::RandomBits(_))).map(|n| n.args[0]).collect();
        let env = graph.params().into_iter().map(|(n, t)| (n.to_string(), Value::new(t.sizes(), vec![0.0; t.count()]))).collect();
        let f = ir::Func { results: sites, ..f.clone() };
        eval_func(&graph.funcs, &f, inputs, &env).unwrap().iter().map(|v| v.data[0] as u64).collect::<Vec<_>>()
    };
    let zeros = |f: &ir::Func, scalars: &[f64]| {
        let mut scalars = scalars.iter();
        let value =
            |t: ir::Type| if t.dims.is_empty() { Value::scalar(*scalars.next().unwrap()) } else { Value::new(t.sizes(), vec![0.0; t.count()]) };
        f.inputs().into_iter().map(value).collect::<Vec<_>>()
    };
    let (body, main) = (&graph.funcs[0], graph.main());
    let mut all = of(main, &zeros(main, &[key]));
    (0..layers).for_each(|layer| all.extend(of(body, &zeros(body, &[layer as f64, key]))));
    all
}

/// Embedding, and per layer attention's weights, its projection and the feed-forward part: no two places share a mask.
#[test]
fn masks_differ_between_layers_and_places() {
    let layers = 3;
    let graph = bound(&Model::from(Gpt { n_layer: layers, ..shape(0.1) }), 1, 6);
    for key in [0.0, 12345.0, 4294967295.0] {
        let all = keys(&graph, layers, key);
        assert_eq!(all.len(), 1 + 3 * layers);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    }
}

/// A checkpoint holds every tensor, moments too, and the step; a fresh start differs in each.
#[test]
fn a_checkpoint_restores_every_tensor_and_the_step() {
    let d = Directory::new("every-tensor");
    let c = config(0.2, &|t| t.accumulate = 2).set("optimizer.weight_decay=0.1").unwrap();
    let mut a = trainer(&c, tokens());
    (0..5).for_each(|_| assert!(a.one_step().is_ok()));
    // asked to stop at once, which saves
    a.run(Some(&d.0), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
    let mut b = trainer(&c, tokens());
    let (saved, fresh) = (state(&a), state(&b));
    for (name, bytes) in &saved {
        assert!(fresh[name] != *bytes, "{name} changes in training");
    }
    let tensors = saved.len();
    assert!(tensors >= 3 * 16, "weights and two moments each: {tensors}");
    assert_eq!(b.resume(&d.0).unwrap(), 5);
    assert!(state(&b) == saved);
    for _ in 0..3 {
        assert_eq!(a.one_step().unwrap(), b.one_step().unwrap(), "the same batch, masks, rate and bias correction");
    }
    assert!(state(&a) == state(&b));
    // the file itself has a tensor of each layer under its own name
    let manifest = llm::read_manifest(&d.0).unwrap().unwrap();
    let file = std::fs::read(d.0.join(&manifest.tensors)).unwrap();
    assert_eq!((manifest.step, manifest.bytes, manifest.tensors.as_str()), (5, file.len() as u64, "checkpoint-5.safetensors"));
    let text = String::from_utf8_lossy(&file);
    for name in ["transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_proj.bias", "transformer.wte.weight"] {
        assert!(text.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// Equal vocabularies do not make a text the same.
#[test]
fn resuming_on_another_text_of_equal_vocabulary_is_refused() {
    let d = Directory::new("other-text");
    let c = config(0.0, &|_| {});
    trainer(&c, tokens()).run(Some(&d.0), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
    let mut swapped = tokens();
    swapped.swap(100, 101);
    assert!(swapped != tokens());
    let mut longer = tokens();
    longer.push(0);
    let mut last = tokens();
    *last.last_mut().unwrap() ^= 1;
    for other in [swapped, longer, last, tokens()[1..].to_vec()] {
        let error = trainer(&c, other).resume(&d.0).unwrap_err().to_string();
        assert!(error.contains("another text") && error.contains("--data"), "{error}");
    }
    assert_eq!(trainer(&c, tokens()).resume(&d.0).unwrap(), 0);
}
