//! What changes no step, for each objective: micro-batches for one batch, rows that are filled up further, documents packed into rows. And
//! where it would change one, that it is refused.

use crate::common::{Random, difference};
use ir::names::LOSS_MEAN;
use ir::{Env, Value, eval};
use llm::{Config, Mode, Models, Objective, recipe};
use passes::{Goal, Options, Update, compile};

const TOKENS: usize = 11;
const ROWS: usize = 4;
const CONTEXT: usize = 5;

/// A recipe made small, that asks for something else.
fn config(name: &str, sets: &[&str]) -> Config {
    let small: &[&str] = match name {
        "bert-tiny" => &["num_hidden_layers=1", "num_attention_heads=2", "hidden_size=8", "intermediate_size=10", "dropout=0.0"],
        "t5-tiny" => &["num_layers=1", "num_decoder_layers=1", "num_heads=2", "d_model=8", "d_kv=4", "d_ff=10", "objective.target=5"],
        _ => &["n_layer=1", "n_head=2", "n_embd=8", "n_positions=16", "train.context=16", "dropout=0.0"],
    };
    let config = small.iter().chain(sets).fold(recipe(name, &Models::default()).unwrap(), |c, s| c.set(s).unwrap());
    Config { model: config.model.with_vocabulary(TOKENS).unwrap(), ..config }.adapted().unwrap()
}

/// Every objective, by a name.
fn objectives() -> Vec<(&'static str, Config)> {
    const PAIRS: [&str; 2] = ["objective.kind=preference", "data.documents=preferences"];
    const POLICY: [&str; 7] = [
        "objective.kind=policy",
        "data.documents=pairs",
        "policy.group=2",
        "policy.updates=2",
        "policy.kl=0.1",
        "policy.tokens=4",
        "preference.kind=dpo",
    ];
    const CLASSES: [&str; 4] =
        ["objective.kind=classify", "data.documents=classes", "classify.classes=[\"a\", \"b\"]", "classify.weights=[1.0, 3.0]"];
    const LINES: [&str; 3] = ["objective.kind=next-token", "data.documents=lines", "data.packing=padded"];
    let with = |all: &[&'static str], more: &[&'static str]| [all, more].concat();
    let gpt = |all: &[&str]| config("dpo", all);
    vec![
        ("next token", gpt(&LINES)),
        ("smoothed", gpt(&with(&LINES, &["objective.label_smoothing=0.1", "objective.z_loss=0.01"]))),
        ("sft, packed", gpt(&with(&LINES, &["data.packing=best-fit"]))),
        ("masked", config("bert-tiny", &["data.documents=lines", "data.packing=padded"])),
        ("spans", config("t5-tiny", &["data.documents=lines", "data.packing=padded"])),
        ("classes of a decoder", gpt(&CLASSES)),
        ("classes of an encoder", config("bert-tiny", &with(&CLASSES, &["pooler=true"]))),
        ("dpo", gpt(&with(&PAIRS, &["preference.kind=dpo"]))),
        ("dpo beside a model", gpt(&with(&PAIRS, &["preference.kind=dpo", "adapter.kind=lora", "adapter.rank=2"]))),
        ("cdpo", gpt(&with(&PAIRS, &["preference.kind=dpo", "preference.label_smoothing=0.1"]))),
        ("ipo", gpt(&with(&PAIRS, &["preference.kind=ipo"]))),
        ("kto", gpt(&with(&PAIRS, &["preference.kind=kto"]))),
        ("orpo", gpt(&with(&PAIRS, &["preference.kind=orpo"]))),
        ("simpo", gpt(&with(&PAIRS, &["preference.kind=simpo"]))),
        ("reward", gpt(&with(&PAIRS, &["objective.kind=reward"]))),
        ("grpo", gpt(&POLICY)),
        ("grpo beside a model", gpt(&with(&POLICY, &["adapter.kind=lora", "adapter.rank=2"]))),
        ("dapo", gpt(&with(&POLICY, &["policy.kind=dapo"]))),
        ("dr-grpo", gpt(&with(&POLICY, &["policy.kind=dr-grpo"]))),
        ("ppo", gpt(&with(&POLICY, &["policy.kind=ppo"]))),
        ("distill", gpt(&with(&LINES, &["objective.kind=distill", "distill.text=0.3", "distill.teacher=a"]))),
        ("distill, reverse", gpt(&with(&LINES, &["objective.kind=distill", "distill.divergence=reverse", "distill.teacher=a"]))),
    ]
}

/// A step's loss and every new parameter, of rows in micro-batches.
fn stepped(config: &Config, env: &Env, batch: usize, accumulate: u32, context: usize) -> Env {
    let graph = Objective::configured(config, Mode::Train, batch, context).unwrap();
    let update = Update { accumulate, ..Update::default() };
    let stages = compile(&graph, Goal::Step(&update), &Options::default()).unwrap();
    let mut all = env.clone();
    for (name, ty) in stages.last().inputs.iter().zip(stages.last().main().inputs()) {
        let value = match name.as_str() {
            "lr" | "step" => vec![1.0],
            _ => env[name].data.clone(),
        };
        all.insert(name.clone(), Value::new(ty.sizes(), value));
    }
    for (name, ty) in stages.last().params() {
        all.entry(name.to_string()).or_insert_with(|| Value::new(ty.sizes(), vec![0.0; ty.count()]));
    }
    eval(stages.last(), &all).unwrap()
}

/// The value of an element of a column, in a row with so many.
fn element(r: &mut Random, name: &str, sizes: &[usize], i: usize) -> f64 {
    let last = *sizes.last().unwrap();
    let (row, at, pairs) = (i / last, i % last, sizes.len() == 3);
    match name {
        "input_ids" | "decoder_input_ids" => r.below(TOKENS) as f64,
        // the third of rows with a class is none
        "labels" if last == 1 => [r.below(2) as f64, -100.0][usize::from(row == 2)],
        // the second row has a short answer, another none at all
        "labels" if at < 2 || row == 1 && at > 2 || !pairs && row == 2 => -100.0,
        "labels" => r.below(TOKENS) as f64,
        "good" => r.below(2) as f64,
        "attention_mask" => f64::from(u8::from(row != 1 || at < 3)),
        "document_ids" => [1.0, 2.0][usize::from(at > 2)],
        "position_ids" => [0.0, 1.0, 2.0, 0.0, 1.0][at],
        "label_weights" => 0.5 + r.unit().abs(),
        _ => r.unit(),
    }
}

/// Rows with the axis filled up that is longer in `to`: with what nobody asks, whatever it is.
fn filled(r: &mut Random, name: &str, value: &Value, to: &[usize]) -> Value {
    let Some(axis) = (0..to.len()).find(|a| value.dims[*a] != to[*a]) else { return value.clone() };
    let inner: usize = to[axis + 1..].iter().product();
    let more = (to[axis] - value.dims[axis]) * inner;
    let mut data = vec![];
    for row in value.data.chunks(value.dims[axis] * inner) {
        data.extend(row);
        data.extend((0..more).map(|_| match name {
            "labels" => -100.0,
            "attention_mask" | "document_ids" | "position_ids" => 0.0,
            "input_ids" | "decoder_input_ids" => r.below(TOKENS) as f64,
            _ => r.unit(),
        }));
    }
    Value::new(to.to_vec(), data)
}

/// Inputs and parameters of a step of an objective, and the same rows in a longer program.
fn rows(config: &Config, wide: usize) -> [Env; 2] {
    let [graph, longer] = [CONTEXT, wide].map(|context| Objective::configured(config, Mode::Train, ROWS, context).unwrap());
    let (mut r, mut envs) = (Random(7), [Env::new(), Env::new()]);
    for ((name, ty), to) in graph.inputs.iter().zip(graph.main().inputs()).zip(longer.main().inputs()) {
        let sizes = ty.sizes();
        let data = (0..ty.count()).map(|i| element(&mut r, name, &sizes, i)).collect();
        let value = Value::new(sizes, data);
        envs[1].insert(name.clone(), filled(&mut r, name, &value, &to.sizes()));
        envs[0].insert(name.clone(), value);
    }
    for (name, ty) in graph.params() {
        let value = r.value(&ty, 3);
        envs.iter_mut().for_each(|env| drop(env.insert(name.to_string(), value.clone())));
    }
    envs
}

#[track_caller]
fn same(what: &str, have: &Env, want: &Env) {
    for (name, want) in want {
        assert!(want.data.iter().all(|x| x.is_finite()), "{what}: {name}");
        let near = if name.starts_with('@') { 1e-3 } else { 1e-6 };
        let largest = |value: &Value| value.data.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        // what no loss depends on, as what is added to all keys alike, moves by rounding
        let d = if largest(want) < 1e-9 { largest(&have[name]) } else { difference(&have[name], want) };
        assert!(d < near, "{what}: {name} differs by {d}");
    }
}

/// Micro-batches are one batch, and rows that are filled up further are the same rows: of each objective.
#[test]
fn parts_and_padding_change_nothing() {
    for (what, config) in objectives() {
        let wide = CONTEXT + 3;
        // where what is asked has a length of its own, the text beside it is longer
        let envs = rows(&config, wide);
        let whole = stepped(&config, &envs[0], ROWS, 1, CONTEXT);
        assert!(whole[LOSS_MEAN].data[0].abs() > 1e-6, "{what}");
        same(&format!("{what}, filled up"), &stepped(&config, &envs[1], ROWS, 1, wide), &whole);
        if what != "kto" {
            same(&format!("{what}, in two"), &stepped(&config, &envs[0], ROWS / 2, 2, CONTEXT), &whole);
            same(&format!("{what}, in four"), &stepped(&config, &envs[0], 1, 4, CONTEXT), &whole);
        }
    }
}

/// Two documents in a row are as each alone in one.
#[test]
fn documents_that_are_packed_are_as_alone() {
    let all = objectives();
    let find = |name: &str| &all.iter().find(|c| c.0 == name).unwrap().1;
    let (packed, alone) = (find("sft, packed"), find("next token"));
    let mut env = rows(packed, CONTEXT + 1)[0].clone();
    let both = stepped(packed, &env, ROWS, 1, CONTEXT);
    for name in ["input_ids", "labels"] {
        let fill = if name == "labels" { -100.0 } else { 0.0 };
        let rows = env[name].data.chunks(CONTEXT).flat_map(|row| [[row[0], row[1], row[2], fill, fill], [row[3], row[4], fill, fill, fill]]);
        let data = rows.flatten().collect();
        env.insert(name.into(), Value::new(vec![2 * ROWS, CONTEXT], data));
    }
    same("packed", &stepped(alone, &env, 2 * ROWS, 1, CONTEXT), &both);
}

/// What would change a step is refused, and names the setting.
#[test]
fn what_would_change_a_step_is_refused() {
    for (what, config) in objectives() {
        let why = |set: &str| config.set(set).unwrap().check().err().map_or(String::new(), |e| e.to_string());
        assert_eq!(why("train.seed=1"), "", "{what}");
        for packing in ["best-fit", "bucketed"] {
            let one_text = ["next token", "smoothed", "sft, packed"].contains(&what) || packing == "bucketed" && what.starts_with("classes");
            let error = why(&format!("data.packing={packing}"));
            assert!(if one_text { error.is_empty() } else { error.contains(&format!("data.packing is {packing}")) }, "{what}: {error}");
        }
        let error = why("train.accumulate=2");
        assert!(if what == "kto" { error.contains("train.accumulate is 2") } else { error.is_empty() }, "{what}: {error}");
    }
    let kto = objectives().into_iter().find(|c| c.0 == "kto").unwrap().1;
    let ramp = kto.set("train.ramp=[{until = 5, accumulate = 2}]").unwrap();
    assert!(ramp.check().unwrap_err().to_string().contains("train.accumulate is 2"));
}
