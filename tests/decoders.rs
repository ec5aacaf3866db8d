//! Decoders by settings: what the compiler finds in each, forward and backward, and tokens read one after another against the whole text.

use crate::common::{difference, environment, gpt, llama};
use ir::names::{LOSS, LOSS_SUM, new_value_of};
use ir::{DType, Dim, Env, Graph, Value, eval};
use llm::{Mode, Models, Objective};
use models::{Activation, Biases, Gemma, Gpt, Llama, Model, Positions, RopeScaling};
use passes::{Opt, optimize};
use serde_json::{Map, Value as Json, json};

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
pub fn decoders() -> Vec<(&'static str, Model)> {
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

/// The keys of a model's `config.json`.
fn config(model: &Model) -> Map<String, Json> {
    model.to_hub().unwrap().into_fields()
}

fn of_hub(keys: Json) -> Result<Model, String> {
    Models::default().from_hub(keys.as_object().unwrap(), None).map_err(|e| e.to_string())
}

/// The program of a model, as text.
fn program(model: &Model) -> String {
    Objective::NextToken.graph(model, Mode::Evaluate).unwrap().to_string()
}

/// What is written for others is read again as the same program, under the plainest name that has it.
#[test]
fn settings_go_there_and_back() {
    let (l, g) = (small(), small_gemma());
    let l = || Llama { hidden_size: 16, ..l.clone() };
    let g = || g.clone();
    let one = || Gemma { sandwich_norms: false, qk_norm: false, sliding_window: 0, ..g() };
    let two = || Gemma { qk_norm: false, rope_local_base_freq: 0.0, ..g() };
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_max_position_embeddings: 8,
        beta_fast: 20.0,
        beta_slow: 0.5,
        attention_factor: Some(0.75),
        truncate: false,
    };
    let llama3 = RopeScaling::Llama3 { factor: 8.0, original_max_position_embeddings: 8, low_freq_factor: 1.5, high_freq_factor: 3.0 };
    let qkv = Biases::Qkv;
    let models = [
        ("LlamaForCausalLM", Model::from(l())),
        ("LlamaForCausalLM", Model::from(Llama { head_dim: 0, max_window_layers: 1, tie_word_embeddings: true, ..l() })),
        ("LlamaForCausalLM", Model::from(Llama { attention_bias: Biases::All, mlp_bias: true, dropout: 0.25, rms_norm_eps: 1e-4, ..l() })),
        ("LlamaForCausalLM", Model::from(Llama { rope_scaling: RopeScaling::Linear { factor: 2.5 }, rope_theta: 77.0, ..l() })),
        ("LlamaForCausalLM", Model::from(Llama { rope_scaling: RopeScaling::Ntk { factor: 2.5 }, ..l() })),
        ("LlamaForCausalLM", Model::from(Llama { rope_scaling: RopeScaling::Dynamic { factor: 2.5 }, ..l() })),
        ("LlamaForCausalLM", Model::from(Llama { rope_scaling: yarn, ..l() })),
        ("LlamaForCausalLM", Model::from(Llama { rope_scaling: llama3, ..l() })),
        ("MistralForCausalLM", Model::from(Llama { sliding_window: 3, ..l() })),
        ("MistralForCausalLM", Model::from(Llama { hidden_size: 15, ..l() })),
        ("Qwen2ForCausalLM", Model::from(Llama { attention_bias: qkv, ..l() })),
        ("Qwen2ForCausalLM", Model::from(Llama { attention_bias: qkv, sliding_window: 3, ..l() })),
        ("Qwen2ForCausalLM", Model::from(Llama { attention_bias: qkv, sliding_window: 3, max_window_layers: 2, ..l() })),
        ("Qwen3ForCausalLM", Model::from(Llama { qk_norm: true, attention_bias: Biases::All, ..l() })),
        ("Qwen3ForCausalLM", Model::from(Llama { qk_norm: true, sliding_window: 3, max_window_layers: 1, ..l() })),
        ("GemmaForCausalLM", Model::from(Gemma { hidden_size: 15, attention_bias: true, tie_word_embeddings: false, ..one() })),
        ("GemmaForCausalLM", Model::from(Gemma { rope_scaling: RopeScaling::Linear { factor: 2.0 }, rope_local_base_freq: 9.0, ..one() })),
        ("Gemma2ForCausalLM", Model::from(Gemma { attn_logit_softcapping: 5.0, final_logit_softcapping: 3.5, query_pre_attn_scalar: 9, ..two() })),
        ("Gemma2ForCausalLM", Model::from(Gemma { sliding_window_pattern: 2, dropout: 0.25, rope_theta: 99.0, ..two() })),
        ("Gemma2ForCausalLM", Model::from(Gemma { sliding_window_pattern: 6, ..two() })),
        ("Gemma2ForCausalLM", Model::from(Gemma { sliding_window: 0, ..two() })),
        ("Gemma3ForCausalLM", Model::from(Gemma { rope_scaling: RopeScaling::Linear { factor: 8.0 }, final_logit_softcapping: 2.0, ..g() })),
        ("Gemma3ForCausalLM", Model::from(Gemma { rope_local_base_freq: 0.0, rope_scaling: RopeScaling::Linear { factor: 8.0 }, ..g() })),
        ("Gemma3ForCausalLM", Model::from(Gemma { sliding_window_pattern: 1, ..g() })),
    ];
    for (name, model) in models {
        let fields = config(&model);
        assert_eq!(fields["architectures"], json!([name]), "{fields:?}");
        let back = of_hub(Json::Object(fields.clone())).unwrap_or_else(|e| panic!("{fields:?}: {e}"));
        assert_eq!((program(&back), back.dropout()), (program(&model), model.dropout()), "{fields:?}");
        assert_eq!(of_hub(Json::Object(config(&back))).unwrap(), back);
    }
    for (model, words) in [
        (Model::from(Llama { positions: Positions::Alibi, ..l() }), "positions is alibi"),
        (Model::from(Llama { qk_norm: true, attention_bias: qkv, ..l() }), "qk_norm is true and attention_bias is qkv"),
        (Model::from(Llama { qk_norm: true, mlp_bias: true, ..l() }), "mlp_bias is true"),
        (Model::from(Llama { attention_bias: qkv, mlp_bias: true, ..l() }), "mlp_bias is true"),
        (Model::from(Llama { sliding_window: 3, max_window_layers: 1, ..l() }), "max_window_layers is above 0"),
        (Model::from(Llama { sliding_window: 3, attention_bias: Biases::All, ..l() }), "there are biases beside sliding_window"),
        (Model::from(Llama { hidden_size: 15, mlp_bias: true, ..l() }), "num_attention_heads does not divide hidden_size"),
        (Model::from(Gpt { bias: false, ..Gpt::default() }), "bias is false"),
        (Model::from(Gemma { sandwich_norms: false, ..g() }), "qk_norm is true"),
        (Model::from(Gemma { sliding_window: 2, ..one() }), "beside a window"),
        (Model::from(Gemma { query_pre_attn_scalar: 2, ..one() }), "query_pre_attn_scalar"),
        (Model::from(Gemma { final_logit_softcapping: 2.0, ..one() }), "final_logit_softcapping"),
        (Model::from(Gemma { attn_logit_softcapping: 2.0, ..one() }), "attn_logit_softcapping"),
        (Model::from(Gemma { attn_logit_softcapping: 2.0, ..g() }), "attn_logit_softcapping"),
        (Model::from(Gemma { rope_local_base_freq: 9.0, ..two() }), "rope_local_base_freq"),
        (Model::from(Gemma { hidden_size: 15, ..g() }), "num_attention_heads does not divide hidden_size"),
    ] {
        model.check().unwrap();
        let error = model.to_hub().unwrap_err();
        assert!(error.contains(words), "{error}: expected {words}");
    }
}

/// What a file means that says nothing, as the library that wrote it has it: the published sizes of 7 billion parameters and such.
#[test]
fn files_that_leave_things_out() {
    let named = |name: &str| of_hub(json!({"architectures": [name]})).unwrap();
    let seven = Llama {
        max_position_embeddings: 2048,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 32,
        hidden_size: 4096,
        intermediate_size: 11008,
        rms_norm_eps: 1e-6,
        ..Llama::default()
    };
    assert_eq!(named("LlamaForCausalLM"), Model::from(seven.clone()));
    let mistral = Llama { max_position_embeddings: 131_072, num_key_value_heads: 8, intermediate_size: 14336, sliding_window: 4096, ..seven.clone() };
    assert_eq!(named("MistralForCausalLM"), Model::from(mistral.clone()));
    let qwen = Llama { vocab_size: 151_936, max_position_embeddings: 32768, intermediate_size: 22016, ..seven };
    assert_eq!(named("Qwen2ForCausalLM"), Model::from(Llama { attention_bias: Biases::Qkv, ..qwen.clone() }));
    assert_eq!(named("Qwen3ForCausalLM"), Model::from(Llama { qk_norm: true, ..qwen }));
    let null = of_hub(json!({"architectures": ["MistralForCausalLM"], "sliding_window": null, "num_key_value_heads": null})).unwrap();
    assert_eq!(null, Model::from(Llama { sliding_window: 0, num_key_value_heads: 32, ..mistral }));
    let settings = |name: &str| named(name).settings().clone();
    let (one, two, three) = (settings("GemmaForCausalLM"), settings("Gemma2ForCausalLM"), settings("Gemma3ForCausalLM"));
    let number = |t: &toml::Table, key: &str| t[key].as_integer().map(|n| n as f64).or(t[key].as_float()).unwrap();
    for (key, values) in [
        ("vocab_size", [256_000.0, 256_000.0, 262_208.0]),
        ("max_position_embeddings", [8192.0, 8192.0, 131_072.0]),
        ("num_hidden_layers", [28.0, 26.0, 26.0]),
        ("num_key_value_heads", [16.0, 4.0, 4.0]),
        ("hidden_size", [3072.0, 2304.0, 2304.0]),
        ("intermediate_size", [24576.0, 9216.0, 9216.0]),
        ("attn_logit_softcapping", [0.0, 50.0, 0.0]),
        ("final_logit_softcapping", [0.0, 30.0, 0.0]),
        ("sliding_window", [0.0, 4096.0, 4096.0]),
        ("sliding_window_pattern", [1.0, 2.0, 6.0]),
        ("rope_theta", [1e4, 1e4, 1e6]),
        ("rope_local_base_freq", [0.0, 0.0, 1e4]),
    ] {
        assert_eq!([&one, &two, &three].map(|t| number(t, key)), values, "{key}");
    }
    let with = |name: &str, key: &str, value: Json| of_hub(json!({"architectures": [name], key: value})).unwrap().settings().clone();
    assert_eq!(number(&with("Gemma2ForCausalLM", "final_logit_softcapping", Json::Null), "final_logit_softcapping"), 0.0);
    assert_eq!(number(&with("Gemma3ForCausalLM", "sliding_window_pattern", json!(4)), "sliding_window_pattern"), 4.0);
    // the first files of Gemma say this and mean the other
    with("GemmaForCausalLM", "hidden_act", json!("gelu"));
    let old = json!({
        "architectures": ["Gemma3ForCausalLM"], "rope_theta": 5e5, "rope_local_base_freq": 300, "rope_scaling": {"rope_type": "linear", "factor": 8},
    });
    let old = of_hub(old).unwrap().settings().clone();
    assert_eq!(["rope_theta", "rope_local_base_freq"].map(|key| number(&old, key)), [5e5, 300.0]);
    assert_eq!(old["rope_scaling"]["factor"].as_float(), Some(8.0));
}

/// What is other arithmetic than ours is refused by its name.
#[test]
fn files_of_other_arithmetic() {
    let types = |words: &[&str]| json!({"num_hidden_layers": words.len(), "use_sliding_window": true, "layer_types": words});
    let (full, sliding) = ("full_attention", "sliding_attention");
    let rope = |keys: Json| json!({ "rope_parameters": keys });
    for (name, keys, words) in [
        ("LlamaForCausalLM", json!({"hidden_act": "gelu"}), &["hidden_act", "\"silu\""][..]),
        ("LlamaForCausalLM", json!({"layer_types": [sliding]}), &["layer_types"]),
        ("LlamaForCausalLM", json!({"sliding_window": 4}), &["sliding_window"]),
        ("LlamaForCausalLM", json!({"partial_rotary_factor": 0.5}), &["partial_rotary_factor"]),
        ("LlamaForCausalLM", rope(json!({"rope_type": "longrope", "factor": 2.0})), &["rope_parameters.rope_type", "longrope"]),
        ("LlamaForCausalLM", rope(json!({"rope_type": "linear"})), &["rope_parameters.factor is missing"]),
        ("LlamaForCausalLM", rope(json!({"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5})), &["partial_rotary_factor"]),
        ("LlamaForCausalLM", rope(json!({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0})), &["high_freq_factor is missing"]),
        ("LlamaForCausalLM", rope(json!({"rope_type": "yarn", "factor": 2.0, "attn_factor": 3.0})), &["attn_factor"]),
        ("LlamaForCausalLM", rope(json!({"rope_type": "yarn", "factor": 2.0, "beta_fast": 1.0})), &["beta_fast is 1", "above"]),
        ("MistralForCausalLM", json!({"attention_bias": true}), &["attention_bias"]),
        ("MistralForCausalLM", json!({"mlp_bias": true}), &["mlp_bias"]),
        ("Qwen2ForCausalLM", json!({"attention_bias": false}), &["attention_bias"]),
        ("Qwen2ForCausalLM", types(&[sliding, full]), &["layer_types[1] is \"full_attention\""]),
        ("Qwen2ForCausalLM", json!({"num_hidden_layers": 2, "layer_types": [full, sliding]}), &["layer_types[1]", "use_sliding_window is false"]),
        ("Qwen3ForCausalLM", json!({"num_hidden_layers": 3, "layer_types": [full]}), &["layer_types has 1 words, expected 3"]),
        ("Qwen3ForCausalLM", json!({"head_dim": 7}), &["head_dim is 7"]),
        ("GemmaForCausalLM", json!({"use_bidirectional_attention": true}), &["use_bidirectional_attention"]),
        ("GemmaForCausalLM", json!({"hidden_act": "relu"}), &["hidden_act"]),
        ("Gemma2ForCausalLM", json!({"hidden_activation": "gelu"}), &["hidden_activation"]),
        ("Gemma2ForCausalLM", json!({"sliding_window": null}), &["sliding_window is null"]),
        ("Gemma2ForCausalLM", json!({"num_hidden_layers": 3, "layer_types": [full, sliding, sliding]}), &["layer_types is no pattern"]),
        ("Gemma2ForCausalLM", json!({"layer_types": [full]}), &["layer_types has 1 words, expected 26"]),
        // transformers reads over it there
        ("Gemma3ForCausalLM", json!({"attn_logit_softcapping": 50.0}), &["attn_logit_softcapping"]),
        ("Gemma3ForCausalLM", rope(json!({"sliding_attention": {"rope_type": "linear", "factor": 2.0}})), &["rope_parameters.sliding_attention"]),
        ("Gemma3ForCausalLM", rope(json!({"rope_type": "linear", "factor": 2.0})), &["rope_parameters"]),
    ] {
        let mut all = keys.as_object().unwrap().clone();
        all.insert("architectures".into(), json!([name]));
        let error = of_hub(Json::Object(all)).and_then(|m| m.check()).expect_err(&format!("{name} {keys}"));
        assert!(words.iter().all(|w| error.contains(w)), "{name} {keys}: {error}");
    }
}
