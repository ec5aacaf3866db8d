//! What people preferred, learned: records, rows, the reference, and the training itself.

use crate::common::{Directory, Random, difference};
use ir::{Env, Value, eval};
use llm::{Config, Event, Mode, Models, Objective, REFERENCE, Source, Tokenizer, Trainer, preferences, recipe, words};
use passes::{Goal, Options, Update, compile};
use runtime::Pool;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Prompts that ask for a letter: polite answers are preferred.
fn records(count: usize) -> String {
    let one = |i: usize| {
        let letter = char::from(b'a' + (i % 20) as u8);
        format!("{{\"prompt\": \"say {letter}:\", \"chosen\": \"please {letter}{letter}\", \"rejected\": \"no {letter}\"}}\n")
    };
    (0..count).map(one).collect()
}

fn set(config: Config, sets: &[&str]) -> Config {
    sets.iter().fold(config, |c, s| c.set(s).unwrap())
}

const SMALL: [&str; 12] = [
    "n_layer=1",
    "n_head=2",
    "n_embd=16",
    "n_positions=32",
    "train.context=24",
    "train.batch=4",
    "train.steps=6",
    "train.eval_every=3",
    "train.eval_batches=1",
    "data.tokenizer=char",
    "data.held_out=0.2",
    "train.lr=1e-2",
];

fn opened(sets: &[&str], records: &str) -> (Config, Source) {
    let config = set(recipe("dpo", &Models::default()).unwrap(), &[&SMALL[..], sets].concat());
    let lines = preferences(Path::new("pairs.jsonl"), records).unwrap();
    let tokenizer = Tokenizer::learned(config.data.tokenizer, &config.data.learning(), &words(&lines)).unwrap();
    let source = Source::of("pairs", &lines, &config, &tokenizer).unwrap();
    (Config { model: config.model.with_vocabulary(tokenizer.size()).unwrap(), ..config }, source)
}

fn trainer(sets: &[&str], records: &str) -> Trainer {
    let (config, source) = opened(sets, records);
    Trainer::compiled(config, vec![source], Arc::new(Pool::new(2)), &Options::default()).unwrap()
}

fn run(trainer: &mut Trainer, dir: Option<&Path>) -> Vec<Event> {
    let mut events = vec![];
    trainer.refer(dir).unwrap();
    let keep = &mut |e: Event| {
        events.push(e);
        Ok(())
    };
    trainer.run(dir, &AtomicBool::new(false), keep).unwrap();
    events
}

fn losses(events: &[Event]) -> Vec<f64> {
    events.iter().filter_map(|e| if let Event::Step { loss, .. } = e { Some(*loss) } else { None }).collect()
}

fn measured(events: &[Event], name: &str) -> Vec<f64> {
    events.iter().filter_map(|e| if let Event::Measured { what, value, .. } = e { (what == name).then_some(*value) } else { None }).collect()
}

/// Where the policy is its own reference the loss is ln 2; then the margin grows.
#[test]
fn dpo_starts_at_ln_2_and_learns() {
    let mut trainer = trainer(&["train.steps=30", "train.eval_every=10"], &records(40));
    let before = {
        trainer.refer(None).unwrap();
        trainer.judge(None).unwrap()
    };
    assert!((before.loss - 2f64.ln()).abs() < 1e-6, "{}", before.loss);
    let events = run(&mut trainer, None);
    let losses = losses(&events);
    assert!((losses[0] - 2f64.ln()).abs() < 1e-6, "{losses:?}");
    assert!(losses[29] < 0.3, "{losses:?}");
    for name in ["reward margin", "training reward margin"] {
        let margins = measured(&events, name);
        assert!(margins.len() >= 2 && margins.windows(2).all(|w| w[0] < w[1]), "{name}: {margins:?}");
    }
    assert_eq!(measured(&events, "reward accuracy").last(), Some(&1.0));
    for name in ["chosen reward", "rejected reward", "chosen tokens", "rejected tokens", "kl"] {
        assert!(!measured(&events, name).is_empty(), "{name}");
    }
}

/// Every kind of preference, and rewards, learn which answers are better.
#[test]
fn every_kind_learns() {
    for sets in [
        ["preference.kind=ipo", "train.lr=1e-2"],
        ["preference.kind=orpo", "train.lr=1e-2"],
        ["preference.kind=simpo", "train.lr=1e-2"],
        ["preference.label_smoothing=0.1", "train.lr=1e-2"],
        ["objective.kind=reward", "train.lr=1e-2"],
    ] {
        let mut trainer = trainer(&[&["train.steps=40", "train.eval_every=20"][..], &sets].concat(), &records(40));
        let events = run(&mut trainer, None);
        assert!(losses(&events).iter().all(|l| l.is_finite()), "{sets:?}");
        assert_eq!(measured(&events, "reward accuracy").last(), Some(&1.0), "{sets:?}");
    }
    let mut trainer = trainer(&["preference.kind=kto", "train.steps=40", "train.eval_every=20"], &records(40));
    let events = run(&mut trainer, None);
    assert!((losses(&events)[0] - 0.5).abs() < 1e-6, "where nothing differs, half is missed: {:?}", losses(&events));
    assert!(measured(&events, "good reward").last() > measured(&events, "bad reward").last());
}

/// Stopped and resumed, a run is to the bit what it would have been: the reference is read as it was kept.
#[test]
fn dpo_resumes_to_the_bit() {
    let (whole, parts) = (Directory::new("dpo-whole"), Directory::new("dpo-parts"));
    let all = records(20);
    let kept = |dir: &Directory| {
        let tensors = std::fs::read_dir(&dir.0).unwrap().map(|f| f.unwrap().path()).find(|p| p.to_string_lossy().ends_with("-6.safetensors"));
        std::fs::read(tensors.unwrap()).unwrap()
    };
    run(&mut trainer(&["train.keep_best=false"], &all), Some(&whole.0));
    run(&mut trainer(&["train.keep_best=false", "train.steps=3", "train.schedule=constant"], &all), Some(&parts.0));
    // another schedule would be another run, so the first half is made again under the whole's
    std::fs::remove_dir_all(&parts.0).unwrap();
    std::fs::create_dir_all(&parts.0).unwrap();
    let mut first = trainer(&["train.keep_best=false"], &all);
    first.refer(Some(&parts.0)).unwrap();
    let stop = AtomicBool::new(false);
    let until = &mut |e: Event| {
        if matches!(e, Event::Step { step: 3, .. }) {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    };
    first.run(Some(&parts.0), &stop, until).unwrap();
    let mut second = trainer(&["train.keep_best=false"], &all);
    assert_eq!(second.resume(&parts.0).unwrap(), 3);
    run(&mut second, Some(&parts.0));
    assert_eq!(kept(&whole), kept(&parts));
    // what was kept is held to what it was made of
    let path = parts.0.join(REFERENCE);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut again = trainer(&["train.keep_best=false", "train.context=23"], &all);
    again.resume(&parts.0).unwrap();
    assert!(again.refer(Some(&parts.0)).unwrap_err().to_string().contains("another length"));
    for (damaged, why) in [(text.replacen("-", "", 3), "those that were written"), (text[..40].to_string(), "start anew")] {
        std::fs::write(&path, damaged).unwrap();
        let mut again = trainer(&["train.keep_best=false"], &all);
        again.resume(&parts.0).unwrap();
        let error = again.refer(Some(&parts.0)).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
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

/// Micro-batches are one batch, and rows that are filled up further are the same rows: for each objective of preferences and policies but
/// kto, whose baseline is of its micro-batch.
#[test]
fn parts_and_padding_change_nothing() {
    let policy = ["objective.kind=policy", "data.documents=text", "data.task=sort", "policy.group=2", "policy.updates=2", "policy.kl=0.1"];
    for (what, sets) in [
        ("dpo", vec!["preference.kind=dpo"]),
        ("ipo", vec!["preference.kind=ipo"]),
        ("orpo", vec!["preference.kind=orpo"]),
        ("simpo", vec!["preference.kind=simpo"]),
        ("kto", vec!["preference.kind=kto"]),
        ("reward", vec!["objective.kind=reward"]),
        ("grpo", policy.to_vec()),
        ("dapo", [&policy[..], &["policy.kind=dapo"]].concat()),
        ("dr-grpo", [&policy[..], &["policy.kind=dr-grpo", "policy.tokens=4"]].concat()),
        ("ppo", [&policy[..], &["policy.kind=ppo"]].concat()),
    ] {
        let (config, _) = opened(&[], &records(20));
        let config = set(config, &sets);
        let (rows, context, v) = (4, 5, config.model.vocab_size());
        let wide = context + 3;
        let graphs = [context, wide].map(|context| Objective::configured(&config, Mode::Train, rows, context).unwrap());
        let mut r = Random(7);
        let mut envs = [Env::new(), Env::new()];
        let pairs = !what.contains("po") || ["dpo", "ipo", "orpo", "simpo"].contains(&what);
        for (name, ty) in graphs[0].inputs.iter().zip(graphs[0].main().inputs()) {
            let sizes = ty.sizes();
            let last = *sizes.last().unwrap();
            let data: Vec<f64> = (0..ty.count())
                .map(|i| match name.as_str() {
                    "input_ids" => r.below(v) as f64,
                    // the second row has a short answer, another none at all
                    "labels" if i % last < 2 || i / last == 1 && i % last > 2 || !pairs && i / last == 2 => -100.0,
                    "labels" => r.below(v) as f64,
                    "good" => r.below(2) as f64,
                    _ => r.unit(),
                })
                .collect();
            let fill = if name == "labels" { -100.0 } else { 0.0 };
            let widened: Vec<f64> = if last == context {
                data.chunks(last).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(fill, wide - context))).collect()
            } else {
                data.clone()
            };
            let mut dims = sizes.clone();
            envs[0].insert(name.clone(), Value::new(sizes, data));
            *dims.last_mut().unwrap() = if last == context { wide } else { last };
            envs[1].insert(name.clone(), Value::new(dims, widened));
        }
        for (name, ty) in graphs[0].params() {
            let value = r.value(&ty, 3);
            envs.iter_mut().for_each(|env| drop(env.insert(name.to_string(), value.clone())));
        }
        let whole = stepped(&config, &envs[0], rows, 1, context);
        let others = [("padded", stepped(&config, &envs[1], rows, 1, wide)), ("accumulated", stepped(&config, &envs[0], rows / 2, 2, context))];
        for (how, other) in others.iter().filter(|(how, _)| (what, *how) != ("kto", "accumulated")) {
            for (name, want) in &whole {
                assert!(want.data.iter().all(|x| x.is_finite()), "{what}: {name}");
                let near = if name.starts_with('@') { 1e-3 } else { 1e-6 };
                let d = difference(&other[name], want);
                assert!(d < near, "{what}, {how}: {name} differs by {d}");
            }
        }
    }
}

/// Records are read in every form, and what is none of them is named with its line.
#[test]
fn records_are_read() {
    let read = |name: &str, text: &str| preferences(Path::new(name), text).map_err(|e| e.to_string());
    let one = "{\"prompt\":\"q\",\"chosen\":\"a\",\"rejected\":\"b\"}\n";
    assert_eq!(read("a.jsonl", "{\"chosen\": \"a\", \"prompt\": \"q\", \"rejected\": \"b\", \"more\": 1}\n\n").unwrap(), one);
    assert_eq!(read("a.json", "[{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}]").unwrap(), one);
    let messages = "{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": \"a\"}], \
                    \"rejected\": [{\"role\": \"assistant\", \"content\": \"b\"}]}";
    assert!(read("a.jsonl", messages).unwrap().contains("user: q"));
    let alpaca =
        read("a.json", "[{\"instruction\": \"do\", \"input\": \"this\", \"output\": \"x\", \"chosen\": \"a\", \"rejected\": \"b\"}]").unwrap();
    assert!(alpaca.contains("### Instruction:\\ndo\\n\\n### Input:\\nthis\\n\\n### Response:\\n"), "{alpaca}");
    assert!(read("a.jsonl", "{\"prompt\": \"q\", \"completion\": \"a\", \"label\": 1}").unwrap().contains("\"label\":true"));
    for (text, why) in [
        ("{\"prompt\": \"q\"}", "a.jsonl:1: a record has prompt: expected"),
        ("\n{\"chosen\": \"\", \"rejected\": \"b\"}", "a.jsonl:2: chosen is empty"),
        ("{\"chosen\": 3, \"rejected\": \"b\"}", "chosen is no text"),
        ("{\"chosen\": [], \"rejected\": \"b\"}", "empty list"),
        ("{\"chosen\": [{\"role\": \"user\", \"content\": \"x\"}], \"rejected\": \"b\"}", "no message of the assistant"),
        ("{\"prompt\": \"q\", \"completion\": \"a\", \"label\": 7}", "neither true nor false"),
        ("nothing", "this is no JSON"),
        ("3", "no object"),
        ("", "there is no record"),
        ("[]", "there is no record"),
    ] {
        let error = read("a.jsonl", text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

/// Both answers stand beside each other behind their prompt, with their ends; of what is too long the prompt's beginning goes first.
#[test]
fn rows_are_pairs() {
    let (config, source) = opened(&["train.context=8"], &records(20));
    let data = {
        let collator = llm::Collator::new(config.aim(), &config.objective, &config.data, &source.marks).unwrap();
        llm::Data::asking(vec![source], &config.data, collator, 8, 100).unwrap()
    };
    let batch = data.batch(1, 0, 3, 8).unwrap();
    let shape = |name: &str| batch.column(name).unwrap().shape.clone();
    assert_eq!((shape("input_ids"), shape("labels"), shape("reference")), (vec![3, 2, 8], vec![3, 2, 8], vec![3, 2]));
    for (ids, labels) in batch.i32s("input_ids").chunks(8).zip(batch.i32s("labels").chunks(8)) {
        // each token that is asked is the next that is read
        for i in 0..7 {
            assert!(labels[i] < 0 || labels[i + 1] < 0 || ids[i + 1] == labels[i], "{ids:?} {labels:?}");
        }
        assert!(labels.iter().any(|l| *l >= 0));
    }
    // "please aa" and its end are ten tokens, of which nine have a place: the prompt's last token is read, and the end is cut
    let chosen = &batch.i32s("labels")[..8];
    assert!(chosen.iter().all(|l| *l >= 0), "{chosen:?}");
}
