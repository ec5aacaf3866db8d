//! What stands before every text: a prompt against a text that begins with it, a prefix against a past that has it, in every decoder and
//! every way of reading.

use crate::adapters::with_experts;
use crate::common::{Random, bound, difference, environment, gpt, llama};
use crate::decoders::decoders;
use crate::scoring::{alone, scored};
use ir::names::new_value_of;
use ir::{Env, Graph, Scope, Tensor, Value, eval};
use llm::adapter::{Adapter, Part};
use llm::evaluate::Request;
use llm::{AdapterConfig, AdapterKind, Config, Mode, Objective, parameters};
use models::{Adaptation, Alike, Architecture, Bert, Gpt, Head, Hidden, Init, Kept, Llama, Model, Pooling, Reading, Shape, T5};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const TOKENS: usize = 3;
const KINDS: [AdapterKind; 2] = [AdapterKind::Prompt, AdapterKind::Prefix];

fn settings(kind: AdapterKind, tokens: usize) -> AdapterConfig {
    AdapterConfig { kind, tokens, ..AdapterConfig::default() }
}

fn behind(model: &Model, kind: AdapterKind, tokens: usize) -> Model {
    model.adapted(Some(Arc::new(Adapter::of(model, &settings(kind, tokens)).unwrap())))
}

/// Decoders of every kind, with experts and with a latent for keys and values, too.
fn every() -> Vec<(&'static str, Model)> {
    let [mixtral, deepseek] = with_experts();
    decoders().into_iter().chain([("Mixtral", mixtral), ("DeepSeek", deepseek)]).collect()
}

fn next(model: &Model, batch: usize, time: usize) -> Graph {
    Objective::NextToken.bound(model, Mode::Evaluate, batch, time).unwrap()
}

fn ids(rows: &[&[f64]]) -> Value {
    Value::new(vec![rows.len(), rows[0].len()], rows.concat())
}

/// A model's vocabulary and parameters with further tokens, whose embedding is a prompt's, in the scale that the model gives it.
fn extended(model: &Model, env: &Env, tokens: usize) -> (Model, Env) {
    let (own, mut all) = (model.with_vocabulary(model.vocab_size() + tokens).unwrap(), env.clone());
    for (path, ty) in parameters(&own).unwrap().into_iter().filter(|p| ["wte", "embed_tokens", "lm_head"].iter().any(|name| p.0.contains(name))) {
        let value = all.get_mut(&path).unwrap();
        let (width, embeds) = (ty.sizes()[1], path.contains("embed") || path.contains("wte"));
        let scale = if model.name() == "gemma" { (width as f64).sqrt().recip() } else { 1.0 };
        let more = env["prompt_embeddings"].data.iter().map(|x| if embeds { x * scale } else { 0.0 });
        value.data.extend(more);
        value.dims[0] += tokens;
    }
    (own, all)
}

/// The model reads a text behind a prompt as one that begins with tokens of this embedding, whatever it does with positions.
#[test]
fn a_prompt_is_a_beginning() {
    for (seed, (name, model)) in (1..).zip(every()) {
        let (own, time, v) = (behind(&model, AdapterKind::Prompt, TOKENS), 6, model.vocab_size());
        let graph = next(&own, 2, time);
        let env = environment(&graph, seed, v);
        let have = &eval(&graph, &env).unwrap()["logits"];
        let (plain, mut all) = extended(&model, &env, TOKENS);
        let first: Vec<f64> = (0..TOKENS).map(|i| (v + i) as f64).collect();
        let text = &env["input_ids"].data;
        let rows: Vec<Vec<f64>> = text.chunks(time).map(|row| [&first, row].concat()).collect();
        all.insert("input_ids".into(), ids(&[&rows[0], &rows[1]]));
        all.insert("labels".into(), ids(&[&rows[0], &rows[1]]));
        let want = &eval(&next(&plain, 2, TOKENS + time), &all).unwrap()["logits"];
        let asked = |(i, _): &(usize, &[f64])| i % (TOKENS + time) >= TOKENS;
        let want = want.data.chunks(v + TOKENS).enumerate().filter(asked).flat_map(|(_, row)| row[..v].to_vec()).collect();
        let worst = difference(have, &Value::new(vec![2, time, v], want));
        assert!(worst < 1e-11, "{name}: {worst}");
    }
}

/// What each layer keeps of tokens that were never read, from a parameter as PEFT's files have it, by plain loops.
fn past(model: &Model, learned: &Value, rows: usize) -> Env {
    let cache = model.cache();
    let Alike { each, heads, depth, .. } = Alike::of(&cache).unwrap();
    let mut out = Env::new();
    for (i, kept) in cache.iter().enumerate() {
        let number = cache[..i].iter().filter(|k| k.place == kept.place).count();
        let mut value = Value::new(vec![kept.layers, rows, heads, kept.length, depth], vec![0.0; kept.layers * rows * heads * kept.length * depth]);
        for at in 0..kept.layers * rows * heads * TOKENS * depth {
            let (d, t) = (at % depth, at / depth % TOKENS);
            let (h, row, l) = (at / depth / TOKENS % heads, at / depth / TOKENS / heads % rows, at / depth / TOKENS / heads / rows);
            let layer = kept.place.first + l * kept.place.step;
            let from = learned.data[((t * model_layers(&cache, each) + layer) * each + number) * heads * depth + h * depth + d];
            value.data[(((l * rows + row) * heads + h) * kept.length + t) * depth + d] = from;
        }
        out.insert(format!("past.{}", kept.path()), value);
    }
    out
}

fn model_layers(cache: &[Kept], each: usize) -> usize {
    cache.iter().map(|k| k.layers).sum::<usize>() / each
}

/// The model reads a text behind a prefix as behind a past that has its keys and values.
#[test]
fn a_prefix_is_a_past() {
    for (seed, (name, model)) in (1..).zip(every()) {
        let (own, time, v) = (behind(&model, AdapterKind::Prefix, TOKENS), 5, model.vocab_size());
        let graph = next(&own, 2, time);
        let env = environment(&graph, seed, v);
        let have = &eval(&graph, &env).unwrap()["logits"];
        let step = model.step_graph().unwrap().bind(&|s| Some(if s == 'B' { 2 } else { time as u64 })).unwrap();
        let mut all: Env = env.clone();
        all.extend(past(&model, &env["prompt_embeddings"], 2));
        all.insert("position".into(), Value::new(vec![2], vec![TOKENS as f64; 2]));
        for last in 0..time {
            all.insert("last".into(), Value::new(vec![2], vec![last as f64; 2]));
            let want = &eval(&step, &all).unwrap()["logits"];
            let part = (0..2).flat_map(|row| have.data[(row * time + last) * v..][..v].to_vec()).collect();
            let worst = difference(&Value::new(vec![2, 1, v], part), want);
            assert!(worst < 1e-11, "{name}, token {last}: {worst}");
        }
    }
}

/// Generation begins with what stands before every text, and goes on a token or several at a time.
#[test]
fn tokens_in_chunks_are_as_the_whole() {
    for kind in KINDS {
        for (seed, (name, model)) in (1..).zip(every()) {
            let (own, time, v) = (behind(&model, kind, TOKENS), 6, model.vocab_size());
            let whole = next(&own, 2, time);
            let env = environment(&whole, seed, v);
            let want = &eval(&whole, &env).unwrap()["logits"];
            let size = |t: usize| move |s| Some(if s == 'B' { 2 } else { t as u64 });
            let begin = own.begin_graph().unwrap().bind(&size(0)).unwrap();
            let mut state = environment(&begin, 9, v);
            state.extend(env.clone());
            let kept = |out: std::collections::HashMap<String, Value>| -> Vec<(String, Value)> {
                out.into_iter().filter_map(|(name, value)| Some((new_value_of(&name)?.to_string(), value))).collect()
            };
            state.extend(kept(eval(&begin, &state).unwrap()));
            for (first, last) in [(0, 3), (3, 4), (4, 6)] {
                let graph = own.step_graph().unwrap().bind(&size(last - first)).unwrap();
                let tokens = (0..2).flat_map(|row| env["input_ids"].data[row * time + first..row * time + last].to_vec()).collect();
                state.insert("input_ids".into(), Value::new(vec![2, last - first], tokens));
                state.insert("position".into(), Value::new(vec![2], vec![first as f64; 2]));
                state.insert("last".into(), Value::new(vec![2], vec![(last - first - 1) as f64; 2]));
                let out = eval(&graph, &state).unwrap();
                let part = (0..2).flat_map(|row| want.data[(row * time + last - 1) * v..][..v].to_vec()).collect();
                let worst = difference(&out["logits"], &Value::new(vec![2, 1, v], part));
                assert!(worst < 1e-11, "{name} behind a {kind}, tokens {first} to {last}: {worst}");
                state.extend(kept(out));
            }
        }
    }
}

/// Compiled, of rows of different lengths over parameters that others change: what is written is as the whole program says.
#[cfg(feature = "llvm")]
#[test]
fn rows_that_are_written_stand_behind_the_same() {
    use llm::{Generator, named};
    use runtime::{Pool, Session};
    for kind in KINDS {
        for (seed, (name, model)) in (1..).zip(every()) {
            let (own, v, pool) = (behind(&model, kind, TOKENS), model.vocab_size(), Arc::new(Pool::new(1)));
            let graph = next(&own, 1, 6).keep_outputs(&["logits"]);
            let mut env = environment(&graph, seed, v);
            let mut weights =
                Session::new(passes::compile(&graph, passes::Goal::Results, &Default::default()).unwrap().last(), pool.clone()).unwrap();
            let set = |weights: &mut Session, env: &Env| {
                for (path, ty) in graph.params() {
                    weights.set_param(&path, &named::bytes(&env[&*path], ty.dtype)).unwrap();
                }
            };
            set(&mut weights, &env);
            let mut g = Generator::sharing_rows(&own, pool, &Default::default(), 3, &weights).unwrap();
            g.set_chunks(&[1, 4]).unwrap();
            let texts: [&[i32]; 3] = [&[1, 2, 3, 4, 5, 6], &[7], &[3, 8, 1]];
            for change in [0.0, 1.0] {
                env.get_mut("prompt_embeddings").unwrap().data.iter_mut().for_each(|x| *x += change);
                set(&mut weights, &env);
                g.forget();
                g.read_rows(&texts).unwrap();
                for (row, text) in texts.iter().enumerate() {
                    let mut all = env.clone();
                    all.insert("input_ids".into(), ids(&[&text.iter().map(|t| f64::from(*t)).collect::<Vec<_>>()]));
                    let want = &eval(&next(&own, 1, text.len()).keep_outputs(&["logits"]), &all).unwrap()["logits"].data[(text.len() - 1) * v..];
                    let have = g.logits(row).iter().map(|x| f64::from(*x)).collect();
                    let worst = difference(&Value::new(vec![v], have), &Value::new(vec![v], want.to_vec()));
                    assert!(worst < 1e-4, "{name} behind a {kind}, row {row}: {worst}");
                }
            }
        }
    }
}

/// Documents that share a row stand each behind the same.
#[test]
fn documents_are_read_as_if_alone() {
    for kind in KINDS {
        for (name, model) in every() {
            let (own, lengths) = (behind(&model, kind, TOKENS), [4, 1, 5]);
            let (time, v): (usize, _) = (lengths.iter().sum(), model.vocab_size());
            let graph = Objective::NextInDocument.bound(&own, Mode::Evaluate, 1, time).unwrap();
            let mut env = environment(&graph, 3, v);
            let each = |f: &dyn Fn(usize, usize) -> usize| {
                lengths.iter().enumerate().flat_map(|(d, n)| (0..*n).map(move |t| (d, t))).map(|(d, t)| f(d, t) as f64).collect()
            };
            env.insert("document_ids".into(), Value::new(vec![1, time], each(&|d, _| d)));
            env.insert("position_ids".into(), Value::new(vec![1, time], each(&|_, t| t)));
            let have = eval(&graph, &env).unwrap()["logits"].clone();
            let mut first = 0;
            for n in lengths {
                let mut alone = env.clone();
                for name in ["input_ids", "labels"] {
                    alone.insert(name.into(), Value::new(vec![1, n], env[name].data[first..first + n].to_vec()));
                }
                let part = Value::new(vec![1, n, v], have.data[first * v..(first + n) * v].to_vec());
                assert!(difference(&part, &eval(&next(&own, 1, n), &alone).unwrap()["logits"]) < 1e-11, "{name} behind a {kind}");
                first += n;
            }
        }
    }
}

/// Texts that begin alike are asked together as each alone.
#[test]
fn trees_of_texts_are_read_as_each_alone() {
    for kind in KINDS {
        for (seed, (name, model)) in (1..).zip(every()) {
            let own = behind(&model, kind, TOKENS);
            let weights = environment(&bound(&own, 1, 2), seed, model.vocab_size());
            let mut random = Random(seed);
            let mut tokens = |n: usize| (0..n).map(|_| random.below(model.vocab_size()) as i32).collect::<Vec<_>>();
            let start = tokens(3);
            let requests: Vec<Request> = [2, 1, 3].map(|n| Request { tokens: [start.clone(), tokens(n)].concat(), asked: n }).into();
            for (i, (have, request)) in scored(&own, &weights, &requests, 1000, true).iter().zip(&requests).enumerate() {
                let want = alone(&own, &weights, request);
                assert!((have.0 - want.0).abs() < 1e-9 && have.1 == want.1, "{name} behind a {kind}, text {i}: {have:?} and {want:?}");
            }
        }
    }
}

/// Of rows that are filled up nothing is seen but the text and what stands before it.
#[test]
fn rows_that_are_filled_up_are_as_alone() {
    for kind in KINDS {
        for model in [gpt(), llama(true)] {
            let own = behind(&model, kind, TOKENS);
            let graph =
                Objective::Classes(Head { classes: 3, pooling: Pooling::Last }).graph(&own, Mode::Evaluate).unwrap().keep_outputs(&["logits"]);
            let size = |b: u64, t: u64| graph.bind(&|s| Some(if s == 'B' { b } else { t })).unwrap();
            let (whole, lengths) = (size(3, 5), [5, 2, 1]);
            let mut env = environment(&whole, 3, 9);
            let mask = lengths.iter().flat_map(|n| (0..5).map(|t| f64::from(t < *n))).collect();
            env.insert("attention_mask".into(), Value::new(vec![3, 5], mask));
            let all = eval(&whole, &env).unwrap()["logits"].clone();
            for (row, n) in lengths.into_iter().enumerate() {
                let mut alone = env.clone();
                alone.insert("input_ids".into(), Value::new(vec![1, n], env["input_ids"].data[row * 5..row * 5 + n].to_vec()));
                alone.insert("attention_mask".into(), Value::new(vec![1, n], vec![1.0; n]));
                let one = &eval(&size(1, n as u64), &alone).unwrap()["logits"];
                assert!(difference(&Value::new(vec![1, 3], all.data[row * 3..row * 3 + 3].to_vec()), one) < 1e-12, "{} {kind} {row}", model.name());
            }
        }
    }
}

/// What is trained: N embeddings, or N keys and values of every layer; and nothing else is.
#[test]
fn parameters_are_counted() {
    let count = |model: Model, kind| -> usize {
        let own = Config { adapter: settings(kind, 20), ..Config::of(model) }.adapted().unwrap();
        let (update, adapter) = (own.update().unwrap(), own.model.adaptation().unwrap().clone());
        let all = parameters(&own.model).unwrap();
        assert!(all.iter().all(
            |(path, ty)| update.group(path, ty).is_some() == (path == "prompt_embeddings") && adapter.adds(path) == (path == "prompt_embeddings")
        ));
        all.iter().filter(|p| adapter.adds(&p.0)).map(|p| p.1.count()).sum()
    };
    assert_eq!(count(Gpt::default().into(), AdapterKind::Prompt), 20 * 768);
    assert_eq!(count(Gpt::default().into(), AdapterKind::Prefix), 20 * 12 * 2 * 768);
    let llama = Llama { num_hidden_layers: 3, num_attention_heads: 4, num_key_value_heads: 2, hidden_size: 24, ..Llama::default() };
    assert_eq!(count(llama.into(), AdapterKind::Prefix), 20 * 3 * 2 * 2 * 6);
}

/// What stands before texts takes their places: of 9 positions 6 are left, and generation has room for both.
#[test]
fn places_are_taken() {
    for kind in KINDS {
        let own = behind(&gpt(), kind, TOKENS);
        assert_eq!(own.context(), 6);
        assert_eq!(own.cache().iter().map(|k| k.length).collect::<Vec<_>>(), [9, 9]);
        let long = behind(&Model::from(Gpt { n_positions: 1000, ..Gpt::default() }), kind, 20).with_room(100);
        assert_eq!((long.context(), long.cache()[0].length), (256, 276));
    }
}

/// A prompt starts as embeddings of tokens, a prefix near nothing.
#[test]
fn how_it_starts() {
    let (model, v, width) = (gpt(), 11, 6);
    let table: Vec<f32> = (0..v * width).map(|i| i as f32).collect();
    let adapter = Adapter::of(&model, &settings(AdapterKind::Prompt, 4)).unwrap();
    let read = |path: &str| {
        if path == "transformer.wte.weight" { Ok(table.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()) } else { Err(path.to_string()) }
    };
    let [(path, values)] = &adapter.follow(&read).unwrap()[..] else { panic!("one parameter follows from the model's") };
    assert_eq!((path.as_str(), values.len()), ("prompt_embeddings", 4 * width));
    let rows: Vec<usize> = values.chunks(width).map(|row| row[0] as usize / width).collect();
    assert!(values.chunks(width).zip(&rows).all(|(row, r)| row == &table[r * width..][..width]));
    assert!(rows.iter().any(|r| *r != rows[0]), "{rows:?}");
    let adapter = Adapter::of(&model, &settings(AdapterKind::Prefix, 4)).unwrap();
    assert!(adapter.follow(&read).unwrap().is_empty());
    assert_eq!(adapter.init("prompt_embeddings"), Some(Init::Normal(0.02)));
}

/// A model that reads texts as if nothing stood before them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Deaf(Gpt);

impl Architecture for Deaf {
    fn name() -> &'static str {
        "deaf"
    }

    fn hidden<'g>(&self, s: &Scope<'g>, read: &Reading<'g>) -> Hidden<'g> {
        let at = read.embedded.map(|_| s.iota(-1, 1usize).reshape([1usize, 1]));
        self.0.hidden(s, &Reading { before: None, embedded: None, tokens: at.unwrap_or(read.tokens), ..read.clone() })
    }

    fn head<'g>(&self, s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.0.head(s, x)
    }

    fn cache(&self) -> Vec<Kept> {
        self.0.cache()
    }

    fn init(&self, path: &str) -> Init {
        self.0.init(path)
    }

    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}

#[test]
fn what_cannot_stand_before_a_text_says_why() {
    let refused = |model: Model, parts: Vec<Part>, says: &str| {
        let error = Adapter::of_parts(&model, parts, &|_| true).unwrap_err();
        assert!(error.contains(says), "{error}\nshould have: {says}");
    };
    for kind in KINDS {
        let part = |tokens| Part::from(settings(kind, tokens));
        refused(Bert::default().into(), vec![part(3)], &format!("adapter.kind is {kind}, and bert is a model whose tokens see what follows them"));
        refused(T5::default().into(), vec![part(3)], "a decoder has a beginning; try adapter.kind = \"lora\"");
        refused(gpt(), vec![part(0)], "adapter.tokens is 0, expected at least 1");
        refused(gpt(), vec![part(9)], "adapter.tokens is 9, and the model has 9 positions for them and the text");
        refused(gpt(), vec![Part { weight: 0.5, ..part(3) }], &format!("an adapter of kind {kind} counts as it is, and has no weight: 0.5"));
        refused(gpt(), vec![part(3), Part { name: Some("other".into()), ..part(3) }], "2 adapters stand before every text, and one can");
        refused(Deaf(Gpt { n_layer: 1, ..Gpt::default() }).into(), vec![part(3)], "the model deaf takes no notice of what stands before a text");
        assert!(Adapter::of(&gpt(), &settings(kind, 8)).is_ok());
    }
}
