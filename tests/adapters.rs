//! Adapters: what stands beside a layer against arithmetic, which layers there are, and how many parameters.

use crate::common::{Random, bound, difference, environment, gpt, llama};
use codegen::{Cpu, Program, Target};
use ir::{Env, Type, Value, eval};
use llm::adapter::{Adapter, Linear, Part};
use llm::{AdapterConfig, AdapterKind, Config, Mode, Objective, TrainConfig, parameters, step_program};
use models::{Adaptation, Bert, Deepseek, Gemma, Gpt, Mixtral, Model, T5, Transformer};
use passes::Options;
use std::collections::BTreeSet;
use std::sync::Arc;

pub fn lora(rank: usize, alpha: f64, targets: &[&str]) -> AdapterConfig {
    let targets = targets.iter().map(|t| t.to_string()).collect();
    AdapterConfig { kind: AdapterKind::Lora, rank, alpha, targets, ..AdapterConfig::default() }
}

pub fn adapted(model: &Model, settings: &AdapterConfig) -> (Model, Arc<Adapter>) {
    let adapter = Arc::new(Adapter::of(model, settings).unwrap());
    (model.adapted(Some(adapter.clone())), adapter)
}

/// One with experts, and one with experts and a latent for keys and values.
pub fn with_experts() -> [Model; 2] {
    let mixtral = Mixtral {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        hidden_size: 8,
        intermediate_size: 12,
        ..Mixtral::default()
    };
    let deepseek = Deepseek {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        hidden_size: 8,
        intermediate_size: 10,
        moe_intermediate_size: 12,
        kv_lora_rank: 6,
        qk_nope_head_dim: 4,
        qk_rope_head_dim: 2,
        v_head_dim: 3,
        ..Deepseek::default()
    };
    [mixtral.into(), deepseek.into()]
}

/// A model of every kind, with layers of every layout.
pub fn every() -> Vec<Model> {
    let [mixtral, deepseek] = with_experts();
    let gemma = Gemma {
        vocab_size: 13,
        max_position_embeddings: 16,
        num_hidden_layers: 5,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 6,
        hidden_size: 8,
        intermediate_size: 10,
        sliding_window: 3,
        sliding_window_pattern: 2,
        ..Gemma::default()
    };
    let bert = Bert {
        vocab_size: 11,
        max_position_embeddings: 9,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        hidden_size: 6,
        intermediate_size: 10,
        ..Bert::default()
    };
    let t5 = T5 { vocab_size: 11, d_model: 6, d_kv: 3, num_heads: 2, d_ff: 10, num_layers: 2, num_decoder_layers: 2, ..T5::default() };
    let transformer = Transformer {
        vocab_size: 11,
        max_position_embeddings: 9,
        encoder_layers: 2,
        decoder_layers: 2,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        d_model: 6,
        encoder_ffn_dim: 10,
        decoder_ffn_dim: 10,
        ..Transformer::default()
    };
    let own = [gpt(), llama(true), llama(false)];
    own.into_iter().chain([gemma.into(), mixtral, deepseek, bert.into(), t5.into(), transformer.into()]).collect()
}

/// W + s B A for every layer, and its columns of their own lengths where they have such, by plain loops, in the place of W.
pub fn merged(env: &Env, adapter: &Adapter, scale: &dyn Fn(&str) -> f64) -> Env {
    let mut out = env.clone();
    for Linear { module, path, inputs, outputs, ty, .. } in adapter.layers() {
        let (a, b) = (&env[&format!("{module}.lora_A.weight")], &env[&format!("{module}.lora_B.weight")]);
        let r = a.data.len() * 2 / (2 * inputs * layers(ty));
        let w = out.get_mut(path).unwrap();
        for layer in 0..layers(ty) {
            for o in 0..*outputs {
                let at = |i: usize| layer * inputs * outputs + if is_turned(path) { i * outputs + o } else { o * inputs + i };
                for i in 0..*inputs {
                    let sum: f64 = (0..r).map(|k| b.data[(layer * outputs + o) * r + k] * a.data[(layer * r + k) * inputs + i]).sum();
                    w.data[at(i)] += scale(module) * sum;
                }
                if let Some(wanted) = env.get(&format!("{module}.lora_magnitude_vector")) {
                    let have = (0..*inputs).map(|i| w.data[at(i)].powi(2)).sum::<f64>().sqrt();
                    (0..*inputs).for_each(|i| w.data[at(i)] *= wanted.data[layer * outputs + o] / have);
                }
            }
        }
    }
    out
}

fn layers(ty: &Type) -> usize {
    ty.sizes()[..ty.rank() - 2].iter().product()
}

/// GPT-2's matrices are [in, out], all others [out, in].
fn is_turned(path: &str) -> bool {
    path.starts_with("transformer.h.")
}

/// x W + s (x A) B is x (W + s A B), in every model, whatever the layout, in loops and beside them.
#[test]
fn beside_is_within() {
    for (n, model) in every().into_iter().chain(every()).enumerate() {
        let settings = AdapterConfig { rslora: n % 2 == 1, dora: n >= every().len(), ..lora(2, 3.0, &["all-linear"]) };
        let (own, adapter) = adapted(&model, &settings);
        let graph = bound(&own, 2, 5);
        let env = environment(&graph, n as u32, 11);
        let have = eval(&graph, &env).unwrap();
        let plain = bound(&model, 2, 5);
        let scale = if n % 2 == 1 { 3.0 / 2f64.sqrt() } else { 1.5 };
        let want = eval(&plain, &merged(&env, &adapter, &|_| scale)).unwrap();
        let worst = difference(&have["logits"], &want["logits"]);
        assert!(worst < 1e-9, "{}: {worst}", model.name());
        assert_ne!(have["logits"].data, eval(&plain, &env).unwrap()["logits"].data, "{}: something is beside", model.name());
    }
}

/// Layers may have ranks and alphas of their own, by the longest of the names that mean them.
#[test]
fn layers_have_ranks_of_their_own() {
    let model = llama(false);
    let table = |all: &[(&str, usize)]| all.iter().map(|(name, n)| (name.to_string(), *n)).collect();
    let alphas = [("v_proj".to_string(), 5.0), ("up_proj".to_string(), 0.5)].into();
    let ranks = table(&[("q_proj", 1), ("self_attn.v_proj", 5), ("v_proj", 7), ("*.mlp.*", 3)]);
    let settings = AdapterConfig { ranks, alphas, ..lora(2, 3.0, &["all-linear"]) };
    let (own, adapter) = adapted(&model, &settings);
    let wanted = |module: &str| match module.rsplit('.').next().unwrap() {
        "q_proj" => (1, 3.0),
        "v_proj" => (5, 5.0),
        "up_proj" => (3, 0.5),
        "gate_proj" | "down_proj" => (3, 3.0),
        _ => (2, 3.0),
    };
    let count: usize = adapter.layers().map(|l| 2 * wanted(&l.module).0 * (l.inputs + l.outputs)).sum();
    assert_eq!(parameters(&own).unwrap().iter().filter(|p| adapter.adds(&p.0)).map(|p| p.1.count()).sum::<usize>(), count);
    let graph = bound(&own, 2, 5);
    let env = environment(&graph, 4, 11);
    let scale = |module: &str| wanted(module).1 / wanted(module).0 as f64;
    let want = eval(&bound(&model, 2, 5), &merged(&env, &adapter, &scale)).unwrap();
    assert!(difference(&eval(&graph, &env).unwrap()["logits"], &want["logits"]) < 1e-9);
}

/// A module of the model may be trained whole beside others, and nothing is beside it then.
#[test]
fn modules_are_trained_whole() {
    let settings =
        AdapterConfig { whole: vec!["lm_head".into(), "input_layernorm".into(), "up_proj".into()], ..lora(2, 3.0, &["up_proj", "q_proj"]) };
    let config = Config { adapter: settings, ..Config::of(llama(false)) }.adapted().unwrap();
    let (update, adapter) = (config.update().unwrap(), config.model.adaptation().unwrap());
    let trained: Vec<String> =
        parameters(&config.model).unwrap().into_iter().filter(|(path, ty)| update.group(path, ty).is_some()).map(|p| p.0).collect();
    let layer = |name: &str| format!("model.layers.{{}}.{name}.weight");
    let q = ["self_attn.q_proj.lora_A", "self_attn.q_proj.lora_B", "input_layernorm", "mlp.up_proj"].map(layer);
    let want: BTreeSet<String> = q.into_iter().chain(["lm_head.weight".into()]).collect();
    assert_eq!(trained.iter().cloned().collect::<BTreeSet<_>>(), want);
    assert!(trained.iter().all(|path| adapter.adds(path)) && adapter.init("lm_head.weight").is_none());
}

/// As the second factor starts at 0, a model with adapters is the model.
#[test]
fn nothing_is_changed_at_first() {
    for model in every() {
        let (own, adapter) = adapted(&model, &lora(2, 16.0, &["all-linear"]));
        let graph = bound(&own, 1, 4);
        let mut env = environment(&graph, 3, 11);
        for (path, ty) in graph.params().into_iter().filter(|p| adapter.adds(&p.0)) {
            let mut values = vec![0.0f32; ty.count()];
            adapter.init(&ir::names::iteration(&path, 0)).unwrap().fill(1, &path, &mut values);
            if path.ends_with("lora_A.weight") {
                let bound = 1.0 / (ty.sizes()[ty.rank() - 1] as f32).sqrt();
                assert!(values.iter().all(|x| x.abs() <= bound) && values.iter().any(|x| x.abs() > 0.5 * bound), "{path}: {values:?}");
            } else {
                assert!(values.iter().all(|x| *x == 0.0), "{path}");
            }
            env.insert(path.to_string(), Value::new(ty.sizes(), values.into_iter().map(f64::from).collect()));
        }
        let (have, want) = (eval(&graph, &env).unwrap(), eval(&bound(&model, 1, 4), &env).unwrap());
        assert_eq!(have["loss.sum"].data, want["loss.sum"].data, "{}", model.name());
    }
}

/// Parameters that are trained: r (in + out) of each layer.
#[test]
fn parameters_are_counted() {
    let count = |model: &Model, settings: &AdapterConfig| -> usize {
        let (own, adapter) = adapted(model, settings);
        parameters(&own).unwrap().iter().filter(|p| adapter.adds(&p.0)).map(|p| p.1.count()).sum()
    };
    let gpt2 = Model::from(Gpt::default());
    // of a layer c_attn, c_proj, c_fc and c_proj
    let layer = 16 * ((768 + 2304) + (768 + 768) + (768 + 3072) + (3072 + 768));
    assert_eq!(count(&gpt2, &lora(16, 16.0, &["all-linear"])), 12 * layer);
    assert_eq!(12 * layer, 2_359_296);
    assert_eq!(count(&gpt2, &lora(16, 16.0, &["all-linear", "lm_head"])), 12 * layer + 16 * (768 + 50257));
    assert_eq!(count(&gpt2, &lora(8, 16.0, &["c_attn"])), 294_912);
    assert_eq!(count(&gpt2, &lora(8, 16.0, &["*.mlp.*"])), 12 * 8 * 2 * (768 + 3072));
    // the book's GPT-2 has three projections for c_attn, and a head of two classes: 16 times the sums of their widths
    let book = 12 * 16 * (4 * (768 + 768) + 2 * (768 + 3072)) + 16 * (768 + 2);
    assert_eq!(book, 2_666_528);
}

/// Only what is beside the model is in the program of a step as something that is trained.
#[test]
fn the_model_stays_as_it_is() {
    let config = Config { adapter: lora(2, 4.0, &["all-linear"]), ..Config::of(llama(false)) }.adapted().unwrap();
    let update = config.update().unwrap();
    let adapter = config.model.adaptation().unwrap();
    for (path, ty) in parameters(&config.model).unwrap() {
        assert_eq!(update.group(&path, &ty).is_some(), adapter.adds(&path), "{path}");
    }
}

/// What a step beside a model takes of memory, by its plan: no gradient of what stays, nothing kept for it, and less than half of all.
#[test]
fn what_stays_takes_no_memory_but_its_own() {
    let train = TrainConfig { batch: 1, context: 64, ..TrainConfig::default() };
    let step = |adapter: AdapterConfig| {
        let config = Config { train: train.clone(), adapter, ..Config::of(Gpt { dropout: 0.0, ..Gpt::default() }.into()) };
        Program::new(
            step_program(&config, &Options::default()).unwrap().last(),
            &Target::Cpu(Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs: false }),
        )
    };
    let (all, beside) = (step(AdapterConfig::default()), step(lora(16, 16.0, &["all-linear"])));
    let (own, low) = (4 * 124_439_808, 4 * 2_359_296);
    assert_eq!(all.param_bytes(), 3 * own, "values, and two means of gradients");
    assert_eq!(beside.param_bytes(), own + 3 * low);
    assert!(beside.arena_bytes() < own / 3, "{} bytes: no gradient of the embedding has a place there", beside.arena_bytes());
    let share = beside.bytes() as f64 / all.bytes() as f64;
    assert!(share < 0.45, "{share}");
}

/// What is dropped of what goes in is another at every layer and place, is nothing where a model is looked at, and is scaled.
#[test]
fn dropout_is_beside_alone() {
    let model = gpt();
    let settings = AdapterConfig { dropout: 0.5, ..lora(3, 3.0, &["c_attn", "c_fc"]) };
    let (own, _) = adapted(&model, &settings);
    let (plain, _) = adapted(&model, &lora(3, 3.0, &["c_attn", "c_fc"]));
    let of = |model: &Model, mode| Objective::NextToken.bound(model, mode, 2, 5).unwrap();
    assert_eq!(of(&own, Mode::Evaluate).to_string(), of(&plain, Mode::Evaluate).to_string());
    let graph = of(&own, Mode::Train);
    assert!(graph.inputs.contains(&"key".to_string()), "{:?}", graph.inputs);
    let mut env = environment(&graph, 5, 11);
    let logits = |key: f64, env: &mut Env| {
        env.insert("key".into(), Value::scalar(key));
        eval(&graph, env).unwrap()["logits"].data.clone()
    };
    let first = logits(1.0, &mut env);
    assert_ne!(first, logits(2.0, &mut env));
    assert_eq!(first, logits(1.0, &mut env));
    // keys of all places of all layers
    let text = graph.to_string();
    assert_eq!(text.matches("random_bits").count(), 2, "{text}");
    // without what is beside, nothing is dropped
    let none = |env: &mut Env| env.iter_mut().filter(|(n, _)| n.contains("lora_B")).for_each(|(_, v)| v.data.fill(0.0));
    none(&mut env);
    let want = eval(&of(&model, Mode::Evaluate), &env).unwrap()["logits"].data.clone();
    assert_eq!(logits(1.0, &mut env), want);
}

/// The mean over many keys of what is dropped is what nothing is dropped of.
#[test]
fn dropout_keeps_the_mean() {
    let model = Model::from(Gpt { vocab_size: 5, n_positions: 4, n_layer: 1, n_head: 1, n_embd: 2, ..Gpt::default() });
    let settings = AdapterConfig { dropout: 0.25, ..lora(2, 2.0, &["lm_head"]) };
    let (own, _) = adapted(&model, &settings);
    let graph = Objective::NextToken.bound(&own, Mode::Train, 1, 2).unwrap();
    let mut env = environment(&graph, 1, 5);
    let mut random = Random(9);
    let n = 4000;
    let mut mean = vec![0.0; 10];
    for _ in 0..n {
        env.insert("key".into(), Value::scalar(f64::from(random.bits())));
        eval(&graph, &env).unwrap()["logits"].data.iter().zip(&mut mean).for_each(|(x, m)| *m += x / f64::from(n));
    }
    let want = &eval(&Objective::NextToken.bound(&own, Mode::Evaluate, 1, 2).unwrap(), &env).unwrap()["logits"].data;
    assert!(mean.iter().zip(want).all(|(m, w)| (m - w).abs() < 0.05), "{mean:?} {want:?}");
}

#[test]
fn what_is_no_adapter_says_why() {
    let model = llama(false);
    let refused = |settings: AdapterConfig, says: &str| {
        let error = Adapter::of(&model, &settings).unwrap_err();
        assert!(error.contains(says), "{error}\nshould have: {says}");
    };
    refused(lora(0, 1.0, &["all-linear"]), "adapter.rank is 0, expected at least 1");
    refused(lora(9, 1.0, &["k_proj"]), "adapter.rank is 9, and the matrix of model.layers.{}.self_attn.k_proj is 16 by 8");
    refused(lora(2, 1.0, &["q_prj"]), "is called q_prj; did you mean q_proj?");
    refused(lora(2, 1.0, &["wte"]), "it has down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj");
    refused(lora(2, 1.0, &[]), "adapter.targets is empty");
    refused(lora(2, 0.0, &["q_proj"]), "adapter.alpha is 0, expected above 0");
    refused(AdapterConfig { dropout: 1.0, ..lora(2, 1.0, &["q_proj"]) }, "adapter.dropout is 1");
    assert!(Adapter::of(&model, &lora(8, 1.0, &["k_proj"])).is_ok());
    let ranks = |name: &str, rank| AdapterConfig { ranks: [(name.to_string(), rank)].into(), ..lora(2, 1.0, &["k_proj"]) };
    refused(ranks("k_proj", 0), "adapter.ranks.k_proj is 0, expected at least 1");
    refused(ranks("k_proj", 9), "adapter.rank is 9, and the matrix");
    refused(ranks("k_prj", 1), "adapter.ranks: no linear layer of the model llama is called k_prj; did you mean k_proj?");
    refused(
        AdapterConfig { alphas: [("k_proj".to_string(), 0.0)].into(), ..lora(2, 1.0, &["k_proj"]) },
        "adapter.alphas.k_proj is 0, expected above 0",
    );
    let whole = |names: &[&str]| AdapterConfig { whole: names.iter().map(|n| n.to_string()).collect(), ..lora(2, 1.0, &["k_proj"]) };
    refused(whole(&["score"]), "adapter.whole: no module of the model llama is called score; it has down_proj, embed_tokens,");
    let tied = Adapter::of(&crate::common::llama(true), &whole(&["embed_tokens"])).unwrap_err();
    assert!(tied.contains("embed_tokens is model.embed_tokens.weight, which is the embedding and the head at once"), "{tied}");
    let part = || Part { name: None, settings: whole(&["lm_head"]), weight: 1.0 };
    let twice = Adapter::of_parts(&model, vec![part(), part()], &|_| true).unwrap_err();
    assert!(twice.contains("several adapters have modules of the model whole"), "{twice}");
}
