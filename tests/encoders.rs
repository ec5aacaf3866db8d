//! Encoders, and decoders that see what one made: filled-up texts, what the compiler finds, what is kept of a text that is answered, beams that
//! end, vectors of texts.

use crate::common::{difference, environment};
use ir::names::{LOSS, LOSS_SUM, new_value_of};
use ir::{Env, Graph, Value, eval};
use llm::embed::{Embedding, Pooling, embedding_graph};
use llm::{Mode, Models, Objective, parameters};
use models::{Activation, Bert, Family, Model, T5, Transformer};
use passes::{Opt, optimize};
use serde_json::{Map, Value as Json, json};

fn bert() -> Bert {
    Bert {
        vocab_size: 17,
        max_position_embeddings: 16,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        hidden_size: 9,
        intermediate_size: 10,
        layer_norm_eps: 1e-5,
        ..Bert::default()
    }
}

fn roberta() -> Bert {
    Bert { family: Family::Roberta, pad_token_id: 1, max_position_embeddings: 18, type_vocab_size: 1, ..bert() }
}

fn t5() -> T5 {
    T5 {
        vocab_size: 17,
        n_positions: 16,
        num_layers: 2,
        num_decoder_layers: 3,
        num_heads: 3,
        d_model: 10,
        d_kv: 4,
        d_ff: 7,
        relative_attention_num_buckets: 8,
        relative_attention_max_distance: 10,
        ..T5::default()
    }
}

fn transformer() -> Transformer {
    Transformer {
        vocab_size: 17,
        max_position_embeddings: 16,
        encoder_layers: 3,
        decoder_layers: 2,
        encoder_attention_heads: 3,
        decoder_attention_heads: 1,
        d_model: 9,
        encoder_ffn_dim: 7,
        decoder_ffn_dim: 8,
        ..Transformer::default()
    }
}

fn encoders() -> [(&'static str, Model); 2] {
    [("BERT", Model::from(bert())), ("RoBERTa", Model::from(roberta()))]
}

fn answering() -> [(&'static str, Model); 3] {
    let gated = T5 { gated: true, activation: Activation::GeluTanh, tie_word_embeddings: false, scale_decoder_outputs: false, ..t5() };
    [("T5", Model::from(t5())), ("T5 1.1", Model::from(gated)), ("Transformer", Model::from(transformer()))]
}

/// A program with sizes: B rows of T tokens, and of S that are answered.
fn sized(graph: Graph, b: usize, t: usize, s: usize) -> Graph {
    let size = |name| {
        Some(match name {
            'B' => b,
            'T' => t,
            _ => s,
        } as u64)
    };
    graph.bind(&size).unwrap()
}

fn ids(values: &[i32], rows: usize) -> Value {
    Value::new(vec![rows, values.len() / rows], values.iter().map(|v| f64::from(*v)).collect())
}

/// A row of a value [B, T, C], from one token to another.
fn part(value: &Value, row: usize, from: usize, to: usize) -> Value {
    let (t, c) = (value.dims[1], value.dims[2]);
    Value::new(vec![1, to - from, c], value.data[(row * t + from) * c..(row * t + to) * c].to_vec())
}

/// What a model says of rows of ids, 1 in `mask` where there is one.
fn said(model: &Model, env: &Env, rows: usize, tokens: &[i32], mask: Option<&[i32]>) -> Value {
    let columns: &[&str] = if mask.is_some() { &["input_ids", "attention_mask"] } else { &["input_ids"] };
    let graph = sized(Objective::Masked.results(model, columns).unwrap(), rows, tokens.len() / rows, 0);
    let mut env = env.clone();
    env.insert("input_ids".into(), ids(tokens, rows));
    mask.map(|mask| env.insert("attention_mask".into(), ids(mask, rows)));
    eval(&graph, &env).unwrap()["logits"].clone()
}

/// A text that is filled up says what it says alone: BERT's where its positions stay, RoBERTa's on either side. One that has no token is
/// something, too.
#[test]
fn a_text_that_is_filled_up_is_as_alone() {
    for (name, model) in encoders() {
        let env = environment(&sized(Objective::Masked.results(&model, &["input_ids"]).unwrap(), 1, 1, 0), 3, 17);
        let alone = said(&model, &env, 1, &[5, 7, 2], None);
        let right = said(&model, &env, 2, &[5, 7, 2, 1, 1, 9, 9, 4, 3, 8], Some(&[1, 1, 1, 0, 0, 1, 1, 1, 1, 1]));
        assert!(difference(&part(&right, 0, 0, 3), &alone) < 1e-12, "{name}");
        assert!(difference(&part(&right, 1, 0, 5), &said(&model, &env, 1, &[9, 9, 4, 3, 8], None)) < 1e-12, "{name}");
        let left = said(&model, &env, 1, &[1, 1, 5, 7, 2], Some(&[0, 0, 1, 1, 1]));
        let same = difference(&part(&left, 0, 2, 5), &alone) < 1e-12;
        assert_eq!(same, name == "RoBERTa", "positions are those of tokens in RoBERTa alone");
        let none = said(&model, &env, 1, &[1, 1, 1], Some(&[0, 0, 0]));
        assert!(none.data.iter().all(|x| x.is_finite()), "{name}");
    }
}

/// RoBERTa counts the tokens that fill nothing up, from the number behind the one that does; who stands in for one is at that number.
#[test]
fn positions_that_count_tokens() {
    let model = Model::from(roberta());
    let graph = sized(Objective::Masked.results(&model, &["input_ids"]).unwrap(), 1, 4, 0);
    let env = environment(&graph, 3, 17);
    let before = said(&model, &env, 1, &[1, 6, 1, 6], None);
    // positions 2 and 3 are the two sixes', 1 that of what fills up, and no other is read
    for position in 0..18 {
        let mut other = env.clone();
        let places = other.get_mut("roberta.embeddings.position_embeddings.weight").unwrap();
        places.data[position * 9] += 1.0;
        let same = difference(&said(&model, &other, 1, &[1, 6, 1, 6], None), &before) == 0.0;
        assert_eq!(same, !(1..4).contains(&position), "position {position}");
    }
    assert!(difference(&part(&before, 0, 1, 2), &part(&before, 0, 3, 4)) > 1e-3, "they are told apart");
    assert_eq!(model.context(), 16);
}

/// How often an op of a name stands in a program's functions.
fn count(graph: &Graph, name: &str) -> usize {
    graph.funcs.iter().flat_map(|f| &f.nodes).filter(|n| n.op.name() == name).count()
}

#[test]
fn attention_and_norms_are_found_forward_and_backward() {
    let rest = answering();
    for (name, model) in encoders().iter().chain(&rest) {
        let objective = Objective::of(model);
        let attentions = if objective == Objective::Answer { 3 } else { 1 };
        let norm = if name.starts_with("T5") { "rms_norm" } else { "layer_norm" };
        for further in [&[][..], &["attention_mask"]] {
            let graph = sized(objective.graph_of(model, Mode::Train, further).unwrap(), 2, 14, 12).keep_outputs(&LOSS);
            let stages = optimize(&graph, Some(LOSS_SUM), Opt::Egg).unwrap();
            let (forward, both) = (&stages.fused, stages.joint.as_ref().unwrap());
            assert_eq!(count(forward, "attention"), attentions, "{name} {further:?}:\n{forward}");
            assert_eq!(count(both, "attention_bwd"), attentions, "{name} {further:?}:\n{both}");
            assert!(count(forward, norm) > 0 && count(both, &format!("{norm}_bwd")) > 0, "{name}:\n{both}");
            let written: Vec<_> = ["softmax", "rsqrt", "sqrt"].into_iter().filter(|op| count(both, op) > 0).collect();
            assert!(written.is_empty(), "{name}: {written:?} in\n{both}");
        }
    }
}

/// An answer read in chunks, over what is kept of the text it answers, is as the whole: rows with texts of their own lengths.
#[test]
fn an_answer_in_chunks_is_as_the_whole() {
    let (source, lengths) = ([3, 4, 5, 6, 7, 8, 9, 10, 0, 0], [5usize, 3]);
    for (name, model) in answering() {
        let columns = ["input_ids", "attention_mask", "decoder_input_ids"];
        let whole = sized(Objective::Answer.results(&model, &columns).unwrap(), 2, 7, 5);
        let mut env = environment(&whole, 5, 17);
        env.insert("input_ids".into(), ids(&source, 2));
        let mask: Vec<i32> = lengths.iter().flat_map(|n| (0..5).map(move |i| i32::from(i < *n))).collect();
        env.insert("attention_mask".into(), ids(&mask, 2));
        let answer = env["decoder_input_ids"].clone();
        let want = eval(&whole, &env).unwrap()["logits"].clone();
        // what was kept of another text is written over where it is seen
        let encode = sized(model.encode_graph().unwrap(), 2, 0, 5);
        let mut state = environment(&encode, 9, 17);
        state.extend(env.iter().map(|(n, v)| (n.clone(), v.clone())));
        let kept = eval(&encode, &state).unwrap();
        let mut state: Env = kept.into_iter().map(|(n, v)| (new_value_of(&n).unwrap().to_string(), v)).collect();
        assert_eq!(state.len(), 2, "{name}: keys and values");
        let room: Vec<i32> = lengths.iter().flat_map(|n| (0..16).map(move |i| i32::from(i < *n))).collect();
        for (first, last) in [(0, 3), (3, 4), (4, 7)] {
            let step = sized(model.step_graph().unwrap(), 2, last - first, 0);
            let mut all = environment(&step, 11, 17);
            all.extend(env.iter().filter(|(n, _)| all.contains_key(*n)).map(|(n, v)| (n.clone(), v.clone())).collect::<Vec<_>>());
            all.extend(state.clone());
            all.insert("attention_mask".into(), ids(&room, 2));
            let tokens = (0..2).flat_map(|b| answer.data[b * 7 + first..b * 7 + last].to_vec()).collect();
            all.insert("input_ids".into(), Value::new(vec![2, last - first], tokens));
            all.insert("position".into(), Value::new(vec![2], vec![first as f64; 2]));
            all.insert("last".into(), Value::new(vec![2], vec![(last - first - 1) as f64; 2]));
            let out = eval(&step, &all).unwrap();
            for row in 0..2 {
                let (have, want) = (part(&out["logits"], row, 0, 1), part(&want, row, last - 1, last));
                assert!(difference(&have, &want) < 1e-11, "{name}: row {row}, tokens {first} to {last}");
            }
            state.extend(out.into_iter().filter_map(|(n, v)| Some((new_value_of(&n)?.to_string(), v))));
        }
    }
}

/// What T5 adds to scores of distances, computed a second time: half of the kinds are distances, the others shares of their logarithm.
#[test]
fn kinds_of_distances() {
    // as transformers has them for 32 kinds and 128 at most: the first distance of each, of a decoder and of one side of an encoder
    let decoder = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113];
    let encoder = [8, 12, 16, 23, 32, 46, 64, 91];
    let model =
        Model::from(T5 { n_positions: 200, num_layers: 1, num_decoder_layers: 1, num_heads: 1, d_model: 1, d_kv: 1, d_ff: 1, ..T5::default() });
    let model = model.with_vocabulary(3).unwrap();
    let graph = sized(Objective::Answer.results(&model, &["input_ids", "decoder_input_ids"]).unwrap(), 1, 130, 130);
    let main = graph.main();
    let number = |first: &[usize], exact: usize, n: usize| if n < exact { n } else { exact - 1 + first.iter().filter(|at| **at <= n).count() };
    let mut seen = 0;
    for node in main.nodes.iter().filter(|n| n.op.name() == "gather" && n.ty.dims.len() == 3 && n.ty.dims[0] == n.ty.dims[1]) {
        let alone = Graph { outputs: vec!["kinds".into()], ..graph.clone() };
        let mut alone = alone;
        alone.funcs.last_mut().unwrap().results = vec![node.args[1]];
        let env = environment(&graph, 1, 3);
        let kinds = eval(&alone.sweep(), &env).unwrap()["kinds"].clone();
        let at = |query: usize, key: usize| kinds.data[query * 130 + key] as usize;
        let both_ways = at(0, 129) > 0;
        for n in 0..130 {
            let (before, behind) = (at(129, 129 - n), at(0, n));
            let want = if both_ways { number(&encoder, 8, n) } else { number(&decoder, 16, n) };
            assert_eq!(before, want, "{n} before");
            assert_eq!(behind, if n > 0 && both_ways { 16 + want } else { 0 }, "{n} behind");
        }
        seen += 1;
    }
    assert_eq!(seen, 2, "a table for each side");
}

/// The sizes of the published models, by their parameters.
#[test]
fn sizes() {
    let count = |m: Model| -> usize { parameters(&m).unwrap().iter().map(|p| p.1.count()).sum() };
    assert_eq!(count(Model::from(Bert::default())), 109_514_298);
    let pretraining = Bert { pooler: true, sentence_head: true, ..Bert::default() };
    assert_eq!(count(Model::from(pretraining)), 110_106_428);
    let roberta =
        Bert { family: Family::Roberta, vocab_size: 50265, max_position_embeddings: 514, type_vocab_size: 1, pad_token_id: 1, ..Bert::default() };
    assert_eq!(count(Model::from(roberta)), 124_697_433);
    assert_eq!(count(Model::from(T5::default())), 60_506_624);
    // 37000 · 512 and per layer 4 (512² + 512) of each attention, 2 · 512 · 2048 + 2048 + 512, and 2 · 512 a norm
    assert_eq!(count(Model::from(Transformer::default())), 63_082_496);
}

/// The model of a `config.json`, where these tensors are there.
fn model(fields: &Json, tensors: Option<&[&str]>) -> llm::Result<Model> {
    let fields: Map<String, Json> = fields.as_object().unwrap().clone();
    let there = |name: &str| tensors.unwrap_or_default().contains(&name);
    Models::default().from_hub(&fields, tensors.map(|_| &there as &dyn Fn(&str) -> bool))
}

fn refused(fields: Json, words: &[&str]) {
    let error = model(&fields, None).unwrap_err().to_string();
    assert!(words.iter().all(|w| error.contains(w)), "{error}: {words:?}");
}

/// Settings there and back; which parts a model has follows from its tensors; other arithmetic is refused by name.
#[test]
fn settings_of_hugging_face() {
    let pretraining = Bert { pooler: true, sentence_head: true, hidden_act: Activation::GeluTanh, ..bert() };
    let own = Transformer { logits_bias: true, ..transformer() };
    let rest = answering();
    let all = [Model::from(pretraining), Model::from(own), Model::from(Bert { token_head: false, pooler: true, ..roberta() })];
    for there in all.iter().chain(encoders().iter().map(|e| &e.1)).chain(rest[..2].iter().map(|e| &e.1)) {
        let fields = Json::Object(there.to_hub().unwrap().into_fields());
        assert_eq!(model(&fields, None).unwrap().settings(), there.settings());
    }
    assert!(rest[2].1.to_hub().unwrap_err().contains("logits_bias"));
    assert!(Model::from(Bert { type_vocab_size: 0, ..bert() }).to_hub().is_err());
    let flag = |m: &Model, key: &str| m.settings()[key].as_bool().unwrap();
    let alone = json!({"architectures": ["BertModel"], "hidden_size": 24});
    assert!(flag(&model(&alone, None).unwrap(), "pooler") && !flag(&model(&alone, Some(&[])).unwrap(), "pooler"));
    let masked = json!({"architectures": ["BertForMaskedLM"]});
    let full = model(&masked, Some(&["bert.pooler.dense.weight", "cls.seq_relationship.weight"])).unwrap();
    assert!(flag(&full, "pooler") && flag(&full, "sentence_head") && !flag(&model(&masked, None).unwrap(), "pooler"));
    let t5 = json!({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": true, "scale_decoder_outputs": false});
    let (tied, untied) = (model(&t5, Some(&[])).unwrap(), model(&t5, Some(&["lm_head.weight"])).unwrap());
    assert!(flag(&tied, "tie_word_embeddings") && !flag(&untied, "tie_word_embeddings") && !flag(&untied, "scale_decoder_outputs"));
    let old = json!({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": true, "tie_word_embeddings": false});
    let old = model(&old, None).unwrap();
    assert!(!flag(&old, "tie_word_embeddings") && !flag(&old, "scale_decoder_outputs"));
    for (architecture, key, value) in [
        ("BertModel", "position_embedding_type", json!("relative_key")),
        ("BertModel", "is_decoder", json!(true)),
        ("BertForMaskedLM", "add_cross_attention", json!(true)),
        ("BertForMaskedLM", "hidden_act", json!("quick_gelu")),
        ("RobertaForMaskedLM", "tie_word_embeddings", json!(false)),
        ("T5ForConditionalGeneration", "feed_forward_proj", json!("gated-quick_gelu")),
        ("T5ForConditionalGeneration", "is_encoder_decoder", json!(false)),
        ("MarianMTModel", "normalize_before", json!(true)),
        ("MarianMTModel", "decoder_vocab_size", json!(7)),
        ("MarianMTModel", "share_encoder_decoder_embeddings", json!(false)),
    ] {
        refused(json!({"architectures": [architecture], key: value}), &[key]);
    }
    refused(json!({"architectures": ["BertForSequenceClassification"]}), &["BertForSequenceClassification", "BertForMaskedLM"]);
    for (wrong, word) in [
        (Model::from(Bert { sentence_head: true, ..bert() }), "pooler"),
        (Model::from(Bert { pad_token_id: 17, ..bert() }), "pad_token_id"),
        (Model::from(Bert { max_position_embeddings: 2, ..roberta() }), "max_position_embeddings"),
        (Model::from(Bert { num_attention_heads: 2, ..bert() }), "num_attention_heads"),
        (Model::from(T5 { relative_attention_num_buckets: 3, ..self::t5() }), "relative_attention_num_buckets"),
        (Model::from(T5 { relative_attention_max_distance: 4, ..self::t5() }), "relative_attention_max_distance"),
        (Model::from(Transformer { decoder_attention_heads: 2, ..transformer() }), "decoder_attention_heads"),
    ] {
        assert!(wrong.check().unwrap_err().contains(word), "{word}");
    }
}

/// A model without the head that guesses has no loss, one whose texts have no segments reads none, and kinds are trained as what they are.
#[test]
fn what_a_model_cannot_do() {
    let alone = Model::from(Bert { token_head: false, pooler: true, ..bert() });
    let graph = Objective::Masked.results(&alone, &["input_ids"]).unwrap();
    assert_eq!(graph.outputs, ["last_hidden_state", "pooler_output"]);
    assert!(Objective::Masked.graph(&alone, Mode::Train).unwrap_err().to_string().contains("no head"));
    let plain = Model::from(Bert { type_vocab_size: 0, ..bert() });
    assert!(Objective::Masked.graph_of(&plain, Mode::Train, &["token_type_ids"]).unwrap_err().to_string().contains("token_type_ids"));
    assert!(Objective::NextToken.graph(&Model::from(bert()), Mode::Train).is_err());
    assert!(Objective::NextToken.graph(&Model::from(t5()), Mode::Train).is_err());
    assert!(embedding_graph(&Model::from(t5()), &Embedding { pooling: Pooling::Mean, normalize: false, longest: 4 }).is_err());
}

/// Vectors of texts are means of their tokens' or the first one's, and have length 1 where that is asked.
#[test]
fn vectors_of_texts() {
    let model = Model::from(bert());
    for (pooling, normalize) in [(Pooling::Mean, false), (Pooling::Mean, true), (Pooling::First, false), (Pooling::First, true)] {
        let graph = sized(embedding_graph(&model, &Embedding { pooling, normalize, longest: 5 }).unwrap(), 3, 5, 0);
        let mut env = environment(&graph, 7, 17);
        let (tokens, mask) = ([3, 4, 5, 6, 7, 8, 9, 10, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]);
        env.insert("input_ids".into(), ids(&tokens, 3));
        env.insert("attention_mask".into(), ids(&mask, 3));
        let have = eval(&graph, &env).unwrap()["embeddings"].clone();
        let states = Objective::Masked.results(&Model::from(Bert { token_head: false, ..bert() }), &["input_ids", "attention_mask"]).unwrap();
        let states = eval(&sized(states, 3, 5, 0), &env).unwrap()["last_hidden_state"].clone();
        for (row, n) in [(0, 5), (1, 3)] {
            let tokens: Vec<Vec<f64>> = (0..n).map(|t| part(&states, row, t, t + 1).data).collect();
            let mean = |i: usize| tokens.iter().map(|t| t[i]).sum::<f64>() / n as f64;
            let one: Vec<f64> = (0..9).map(|i| if pooling == Pooling::Mean { mean(i) } else { tokens[0][i] }).collect();
            let length = if normalize { one.iter().map(|x| x * x).sum::<f64>().sqrt() } else { 1.0 };
            for (i, x) in one.iter().enumerate() {
                assert!((have.data[row * 9 + i] - x / length).abs() < 1e-12, "{pooling} {normalize}");
            }
        }
        assert!(have.data[18..].iter().all(|x| *x == 0.0), "a row of no text is nothing");
    }
}
