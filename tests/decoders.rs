//! Decoders by settings: what the compiler finds in each, forward and backward, and tokens read one after another against the whole text.

use crate::common::{difference, environment, gpt, llama};
use ir::names::{LOSS, LOSS_SUM, new_value_of};
use ir::{DType, Dim, Env, Graph, Value, eval};
use llm::{Mode, Objective};
use models::{Activation, Biases, Gemma, Gpt, Llama, Model, Positions, RopeScaling};
use passes::{Opt, optimize};

fn small() -> Llama {
    Llama {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 1,
        hidden_size: 15,
        head_dim: 6,
        intermediate_size: 10,
        ..Llama::default()
    }
}

fn small_gemma() -> Gemma {
    Gemma {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 5,
        num_attention_heads: 4,
        num_key_value_heads: 1,
        head_dim: 6,
        hidden_size: 16,
        intermediate_size: 10,
        sliding_window: 3,
        sliding_window_pattern: 3,
        ..Gemma::default()
    }
}

/// A decoder of every kind, by what it is called.
fn decoders() -> Vec<(&'static str, Model)> {
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 8,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: None,
        truncate: true,
    };
    vec![
        ("GPT-2", gpt()),
        ("nanoGPT", Model::from(Gpt { vocab_size: 11, n_positions: 16, n_layer: 2, n_head: 3, n_embd: 9, bias: false, ..Gpt::default() })),
        (
            "GPT-2 with a head of its own",
            Model::from(Gpt {
                vocab_size: 11,
                n_positions: 16,
                n_layer: 2,
                n_head: 1,
                n_embd: 5,
                n_inner: 7,
                activation: Activation::Gelu,
                tie_word_embeddings: false,
                ..Gpt::default()
            }),
        ),
        ("Llama", llama(false)),
        ("Llama with YaRN", Model::from(Llama { rope_scaling: yarn, ..small() })),
        ("Llama with ALiBi", Model::from(Llama { positions: Positions::Alibi, head_dim: 5, ..small() })),
        ("Mistral", Model::from(Llama { sliding_window: 3, ..small() })),
        ("Qwen2", Model::from(Llama { attention_bias: Biases::Qkv, tie_word_embeddings: true, ..small() })),
        (
            "Qwen2 with windows in its last layer",
            Model::from(Llama { attention_bias: Biases::Qkv, sliding_window: 3, max_window_layers: 2, ..small() }),
        ),
        ("Qwen3", Model::from(Llama { qk_norm: true, num_key_value_heads: 2, ..small() })),
        ("Gemma", Model::from(Gemma { sandwich_norms: false, qk_norm: false, sliding_window: 0, num_hidden_layers: 2, ..small_gemma() })),
        (
            "Gemma 2",
            Model::from(Gemma {
                qk_norm: false,
                attn_logit_softcapping: 5.0,
                final_logit_softcapping: 2.0,
                query_pre_attn_scalar: 9,
                sliding_window_pattern: 2,
                rope_local_base_freq: 0.0,
                ..small_gemma()
            }),
        ),
        ("Gemma 3", Model::from(Gemma { rope_scaling: RopeScaling::Linear { factor: 8.0 }, num_key_value_heads: 2, ..small_gemma() })),
    ]
}

/// How often an op of a name stands in a program's functions.
fn count(graph: &Graph, name: &str) -> usize {
    graph.funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.op.name() == name).count()
}

/// Whether a value has a number for each pair of a query and a key.
fn pairs(graph: &Graph, time: usize) -> bool {
    let time = Dim::from(time);
    graph.funcs.iter().flat_map(|f| &f.nodes).any(|n| n.ty.dims.iter().filter(|d| **d == time).count() > 1)
}

#[test]
fn attention_and_norms_are_found_in_each_forward_and_backward() {
    for (name, model) in decoders() {
        // a length that no other axis has
        let time = 14;
        let graph = Objective::NextToken.bound(&model, Mode::Train, 2, time).unwrap().keep_outputs(&LOSS);
        let stages = optimize(&graph, Some(LOSS_SUM), Opt::Egg).unwrap();
        let (forward, both) = (&stages.fused, stages.joint.as_ref().unwrap());
        let norm = if count(forward, "layer_norm") > 0 { "layer_norm" } else { "rms_norm" };
        assert!(count(forward, "attention") > 0 && count(forward, norm) > 0, "{name}:\n{forward}");
        for graph in [forward, both] {
            let written: Vec<_> = ["softmax", "rsqrt", "sqrt"].into_iter().filter(|op| count(graph, op) > 0).collect();
            assert!(written.is_empty() && !pairs(graph, time), "{name}: {written:?} in\n{graph}");
        }
        let found = ["attention_bwd".to_string(), format!("{norm}_bwd")].map(|op| count(both, &op));
        assert!(found.iter().all(|n| *n > 0), "{name}: {found:?}\n{both}");
    }
}

/// What a program's state holds before any token is read, and a value for each parameter.
fn start(graph: &Graph, model: &Model, params: &Env) -> Env {
    let mut env = environment(graph, 1, model.vocab_size());
    for (name, value) in &mut env {
        match params.get(name) {
            Some(known) => *value = known.clone(),
            None => value.data.fill(0.0),
        }
    }
    env
}

#[test]
fn tokens_in_chunks_are_as_the_whole() {
    let (batch, time) = (2, 9);
    for (name, model) in decoders() {
        let whole = Objective::NextToken.bound(&model, Mode::Evaluate, batch, time).unwrap();
        let params = environment(&whole, 5, model.vocab_size());
        let ids = params["input_ids"].data.clone();
        let want = eval(&whole, &params).unwrap()["logits"].clone();
        let step = model.step_graph().unwrap();
        let mut kept: Option<Env> = None;
        // the second chunk is filled up: what stands behind its last token is seen by nothing
        for (first, last, read) in [(0, 3, 3), (3, 4, 3), (4, 5, 1), (5, 9, 4)] {
            let graph = step.bind(&|s| Some(if s == 'B' { batch as u64 } else { read as u64 })).unwrap();
            let mut env = start(&graph, &model, &params);
            env.extend(kept.take().into_iter().flatten());
            let tokens =
                (0..batch).flat_map(|b| (first..first + read).map(move |t| (b, t))).map(|(b, t)| if t < last { ids[b * time + t] } else { 7.0 });
            env.insert("input_ids".into(), Value::new(vec![batch, read], tokens.collect()));
            env.insert("position".into(), Value::new(vec![batch], vec![first as f64; batch]));
            env.insert("last".into(), Value::new(vec![batch], vec![(last - first - 1) as f64; batch]));
            let out = eval(&graph, &env).unwrap();
            let v = model.vocab_size();
            let row = |b: usize| want.data[(b * time + last - 1) * v..][..v].to_vec();
            let want = Value::new(vec![batch, 1, v], (0..batch).flat_map(row).collect());
            assert!(difference(&out["logits"], &want) < 1e-11, "{name}: tokens {first} to {last}");
            kept = Some(out.into_iter().filter_map(|(name, value)| Some((new_value_of(&name)?.to_string(), value))).collect());
        }
    }
}

/// Packed documents are read as if each stood alone, whatever tells where tokens stand.
#[test]
fn documents_are_read_as_if_alone() {
    for (name, model) in decoders() {
        let lengths = [4, 1, 5];
        let time: usize = lengths.iter().sum();
        let graph = Objective::NextInDocument.bound(&model, Mode::Evaluate, 1, time).unwrap();
        let mut env = environment(&graph, 3, model.vocab_size());
        let each = |f: &dyn Fn(usize, usize) -> f64| {
            lengths.iter().enumerate().flat_map(|(d, n)| (0..*n).map(move |t| (d, t))).map(|(d, t)| f(d, t)).collect()
        };
        env.insert("document_ids".into(), Value::new(vec![1, time], each(&|d, _| d as f64)));
        env.insert("position_ids".into(), Value::new(vec![1, time], each(&|_, t| t as f64)));
        let have = eval(&graph, &env).unwrap()["logits"].clone();
        let mut first = 0;
        for n in lengths {
            let alone = Objective::NextToken.bound(&model, Mode::Evaluate, 1, n).unwrap();
            let mut own = env.clone();
            for name in ["input_ids", "labels"] {
                own.insert(name.into(), Value::new(vec![1, n], env[name].data[first..first + n].to_vec()));
            }
            let v = model.vocab_size();
            let part = Value::new(vec![1, n, v], have.data[first * v..(first + n) * v].to_vec());
            assert!(difference(&part, &eval(&alone, &own).unwrap()["logits"]) < 1e-11, "{name}");
            first += n;
        }
    }
}

/// Dropout is asked for at every usual place: of the embedding, of attention's weights, and of what each part adds to the stream.
#[test]
fn dropout_stands_at_every_usual_place() {
    for (name, model) in decoders() {
        let mut settings = model.settings().clone();
        settings.insert("dropout".into(), toml::Value::Float(0.25));
        let model = model.with(settings).unwrap();
        let graph = Objective::NextToken.graph(&model, Mode::Train).unwrap();
        // three in every block that is written, and layers that are alike are one
        let blocks = graph.funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.op.name() == "max" && n.ty.rank() == 4).count();
        assert_eq!(count(&graph, "random_bits"), 1 + 3 * blocks, "{name}");
        let stages =
            optimize(&Objective::NextToken.bound(&model, Mode::Train, 2, 14).unwrap().keep_outputs(&LOSS), Some(LOSS_SUM), Opt::Egg).unwrap();
        assert!(!pairs(stages.joint.as_ref().unwrap(), 14), "{name}: dropout of weights is within attention");
        assert_eq!(graph.main().inputs().iter().filter(|ty| ty.dtype == DType::U32).count(), 1);
    }
}
