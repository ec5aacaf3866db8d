//! Which layers are trained, and at what rates: what stays costs no gradient, and what is trained is as in the whole model.

use crate::common::{Random, gpt};
use ir::{Env, Graph, Op, Type, Value, eval, names};
use llm::{Config, Depth, Depths, Objective, Packing, step_program};
use models::{Bert, Gemma, Gpt, Head, Llama, Model, Pooling};
use passes::Options;
use std::collections::BTreeMap;

fn deep(layers: usize) -> Model {
    Model::from(Gpt { vocab_size: 11, n_positions: 9, n_layer: layers, n_head: 2, n_embd: 6, ..Gpt::default() })
}

/// Two layers of a kind, then one of another.
fn gemma() -> Model {
    Model::from(Gemma {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 7,
        num_attention_heads: 4,
        num_key_value_heads: 1,
        head_dim: 6,
        hidden_size: 16,
        intermediate_size: 10,
        sliding_window: 3,
        sliding_window_pattern: 3,
        ..Gemma::default()
    })
}

/// A training of two rows of five tokens by plain descent, with changed settings.
fn config(model: Model, sets: &[&str]) -> Config {
    let usual = ["train.batch=2", "train.context=5", "train.grad_clip=0", "optimizer.name=sgd", "optimizer.momentum=0.0"];
    usual.iter().chain(sets).fold(Config::of(model), |c, s| c.set(s).unwrap())
}

/// Each layer's tensors of a stacked one, by the names they have in files.
fn pieces(name: &str, ty: &Type) -> Vec<(String, Type)> {
    match names::loops(name) {
        0 => vec![(name.into(), ty.clone())],
        _ => (0..ty.sizes()[0]).map(|i| (names::iteration(name, i), Type { dims: ty.dims[1..].iter().copied().collect(), ..ty.clone() })).collect(),
    }
}

/// Numbers that are a function of a name.
fn drawn(name: &str, ty: &Type) -> Vec<f64> {
    let seed = name.bytes().fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    Random(seed).value(ty, 9).data.into_iter().map(|x| if ty.dtype == ir::DType::F32 { x * 0.3 } else { x }).collect()
}

/// What a step makes of each layer's tensors, less what they were; none of those that stay.
fn moved(config: &Config) -> BTreeMap<String, Vec<f64>> {
    let stages = step_program(config, &Options::default()).unwrap();
    let graph = stages.last();
    let mut env = Env::default();
    for (name, ty) in graph.inputs.iter().zip(graph.main().inputs()) {
        let values = match name.as_str() {
            "lr" | "step" => vec![1.0],
            _ => drawn(name, &ty),
        };
        env.insert(name.clone(), Value::new(ty.sizes(), values));
    }
    let params: Vec<(String, Type)> = graph.params().into_iter().map(|(n, t)| (n.to_string(), t)).collect();
    for (name, ty) in &params {
        let values = pieces(name, ty).iter().flat_map(|(name, ty)| drawn(name, ty)).collect();
        env.insert(name.clone(), Value::new(ty.sizes(), values));
    }
    let out = eval(graph, &env).unwrap();
    let mut found = BTreeMap::new();
    for (name, ty) in &params {
        let Some(new) = out.get(&names::new_value(name)) else { continue };
        let all = pieces(name, ty);
        let size = new.data.len() / all.len();
        for ((name, ty), new) in all.into_iter().zip(new.data.chunks(size)) {
            found.insert(name.clone(), new.iter().zip(drawn(&name, &ty)).map(|(a, b)| a - b).collect());
        }
    }
    found
}

fn loops(graph: &Graph) -> Vec<(u32, bool)> {
    graph.main().nodes.iter().filter_map(|n| if let Op::Repeat(l) = &n.op { Some((l.trip, l.reverse)) } else { None }).collect()
}

/// The last layers learn what they learn in the whole model; the others are not even given back.
#[test]
fn the_last_layers_are_trained_as_in_the_whole() {
    for (model, last, layers) in [(deep(4), 1, 4), (deep(3), 2, 3), (gemma(), 1, 7), (gemma(), 4, 7)] {
        let whole = moved(&config(model.clone(), &[]));
        let part = moved(&config(model.clone(), &[&format!("optimizer.last_layers={last}")]));
        let number = |name: &str| name.split('.').find_map(|p| p.parse::<usize>().ok());
        for (name, change) in &whole {
            let stays = number(name).map_or(name.contains("wte") || name.contains("wpe") || name.contains("embed"), |n| n < layers - last);
            match part.get(name) {
                None => assert!(stays, "{name} of the last {last} is not trained"),
                Some(own) => {
                    assert!(!stays, "{name} is trained");
                    let most = change.iter().fold(1e-12, |m: f64, x| m.max(x.abs()));
                    assert!(own.iter().zip(change).all(|(a, b)| (a - b).abs() < 1e-9 * most), "{name}");
                }
            }
        }
    }
}

/// What stays is a loop of its own, with no loop backward and nothing kept of it.
#[test]
fn what_stays_has_no_backward() {
    let sets = ["optimizer.last_layers=1", "optimizer.name=adamw"];
    let stages = step_program(&config(deep(6), &sets), &Options::default()).unwrap();
    assert_eq!(loops(stages.last()), [(5, false), (1, false), (1, true)]);
    // the loop of what stays gives its last result and no stack
    let joint = stages.joint.as_ref().unwrap();
    let first = joint.main().nodes.iter().find(|n| matches!(&n.op, Op::Repeat(l) if l.trip == 5)).unwrap();
    assert_eq!(first.ty.parts.len(), 1, "{}", first.ty);
    let kept: Vec<String> = stages.last().params().iter().map(|p| p.0.to_string()).filter(|n| n.starts_with("adamw")).collect();
    assert!(!kept.is_empty() && kept.iter().all(|n| n.contains("{i+5}") || n.contains("ln_f")), "{kept:?}");
    // and with every layer: a loop forward and one backward
    let all = step_program(&config(deep(6), &["optimizer.name=adamw"]), &Options::default()).unwrap();
    assert_eq!(loops(all.last()), [(6, false), (6, true)]);
}

/// Each layer's rate is the one's behind it times the decay; embeddings stand before the first, norms and heads behind the last.
#[test]
fn rates_fall_from_layer_to_layer() {
    for (model, layers) in [(deep(4), 4), (gemma(), 7)] {
        let (whole, part) = (moved(&config(model.clone(), &[])), moved(&config(model, &["optimizer.layer_decay=0.5"])));
        assert_eq!(whole.len(), part.len());
        for (name, change) in &whole {
            let number = name.split('.').find_map(|p| p.parse::<i32>().ok());
            let before = name.contains("wte") || name.contains("wpe") || name.contains("embed");
            let share = 0.5_f64.powi(number.map_or(if before { layers } else { 0 }, |n| layers - 1 - n));
            let most = change.iter().fold(1e-12, |m: f64, x| m.max(x.abs()));
            assert!(part[name].iter().zip(change).all(|(a, b)| (a - b * share).abs() < 1e-6 * most), "{name} {share}");
        }
    }
}

#[test]
fn depths() {
    let head = Objective::Classes(Head { classes: 2, pooling: Pooling::First });
    let bert = Model::from(Bert { vocab_size: 17, num_hidden_layers: 3, hidden_size: 12, pooler: true, ..Bert::default() });
    let depths = Depths::of(head, &bert).unwrap();
    let ty = Type::f32([12usize]);
    assert_eq!(depths.layers, 3);
    assert_eq!(depths.at("bert.embeddings.LayerNorm.weight", &ty), Depth::Before);
    assert_eq!(depths.at("bert.pooler.dense.bias", &ty), Depth::Behind);
    assert_eq!(depths.at("classifier.bias", &ty), Depth::Behind);
    let stacked = Type::f32([3usize, 12]);
    let place = names::Place { step: 1, first: 0 };
    assert_eq!(depths.at("bert.encoder.layer.{}.output.dense.bias", &stacked), Depth::Layers(place, 2));
    let error = config(gpt(), &["optimizer.last_layers=3"]).divided().unwrap_err().to_string();
    assert!(error.contains("optimizer.last_layers is 3") && error.contains("2 layers"), "{error}");
    let error = config(gpt(), &["optimizer.layer_decay=0.0"]).check().unwrap_err().to_string();
    assert!(error.contains("optimizer.layer_decay"), "{error}");
    // a head alone
    let none = config(gpt(), &["optimizer.last_layers=0", "objective.kind=classify", "data.documents=classes", "classify.classes=[\"a\", \"b\"]"]);
    let trained: Vec<String> = moved(&none).into_keys().collect();
    assert_eq!(trained, ["score.weight", "transformer.ln_f.bias", "transformer.ln_f.weight"]);
    assert_eq!(none.data.packing, Packing::Windows);
}

/// A model in two loops writes as the whole does: what is kept has the same numbers.
#[test]
fn models_in_two_loops_write_as_one() {
    let llama = Model::from(Llama {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        hidden_size: 16,
        intermediate_size: 10,
        ..Llama::default()
    });
    for (model, at) in [(deep(4), 1), (deep(4), 0), (deep(4), 4), (gemma(), 4), (gemma(), 2), (llama, 2)] {
        let size = |s: char| Some(if s == 'B' { 2 } else { 3 });
        let [whole, parts] = [model.clone(), model.divided(Some(at))].map(|m| m.step_graph().unwrap().bind(&size).unwrap());
        let run = |graph: &Graph| -> BTreeMap<String, Vec<f64>> {
            let mut env = Env::default();
            for (name, ty) in graph.inputs.iter().zip(graph.main().inputs()) {
                let values = match name.as_str() {
                    "position" => vec![1.0, 2.0],
                    "last" => vec![2.0, 1.0],
                    _ => drawn(name, &ty),
                };
                env.insert(name.clone(), Value::new(ty.sizes(), values));
            }
            for (name, ty) in graph.params() {
                let values = pieces_of(&name, &ty).iter().flat_map(|(name, ty)| drawn(name, ty)).collect();
                env.insert(name.to_string(), Value::new(ty.sizes(), values));
            }
            let out = eval(graph, &env).unwrap();
            let mut all: BTreeMap<String, Vec<f64>> = [("logits".to_string(), out["logits"].data.clone())].into();
            for (name, ty) in graph.params() {
                let Some(new) = out.get(&names::new_value(&name)) else { continue };
                let own = pieces_of(&name, &ty);
                let size = new.data.len() / own.len();
                all.extend(own.into_iter().zip(new.data.chunks(size)).map(|((name, _), x)| (name, x.to_vec())));
            }
            all
        };
        let (one, two) = (run(&whole), run(&parts));
        assert_eq!(one.keys().collect::<Vec<_>>(), two.keys().collect::<Vec<_>>(), "{} at {at}", model.name());
        for (name, x) in &one {
            assert!(x.iter().zip(&two[name]).all(|(a, b)| (a - b).abs() < 1e-12), "{} at {at}: {name}", model.name());
        }
    }
}

/// The same of what is kept, `past.k` or `past.k.{2i+1}`, by the number of its layer.
fn pieces_of(name: &str, ty: &Type) -> Vec<(String, Type)> {
    let Some(rest) = name.strip_prefix("past.") else { return pieces(name, ty) };
    let path = if rest.contains('{') { name.to_string() } else { format!("{name}.{}", names::LOOP) };
    let own = Type { dims: ty.dims[1..].iter().copied().collect(), ..ty.clone() };
    (0..ty.sizes()[0]).map(|i| (names::iteration(&path, i), own.clone())).collect()
}
