//! Training beside a model: it starts where the model is, the model stays, checkpoints hold what is beside it, and resuming is as if nothing
//! had happened.

use crate::common::{Directory, difference};
use ir::{Env, Graph, Value, eval};
use llm::named::value;
use llm::packed::Held;
use llm::{AdapterConfig, AdapterKind, Config, Event, Models, Objective, Outcome, TrainConfig, Trainer, hub, read_manifest};
use models::{Gpt, Model};
use passes::State;
use runtime::Pool;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn config(adapter: AdapterConfig, dropout: f64, accumulate: u32) -> Config {
    let model = Model::from(Gpt { vocab_size: 20, n_positions: 12, n_layer: 2, n_head: 2, n_embd: 12, dropout, ..Gpt::default() });
    let train = TrainConfig { steps: 6, batch: 3, context: 8, accumulate, warmup: 1.0, eval_every: 2, save_every: 100, ..TrainConfig::default() };
    Config { train, adapter, ..Config::of(model) }
}

fn lora(dropout: f64) -> AdapterConfig {
    AdapterConfig { kind: AdapterKind::Lora, rank: 3, alpha: 6.0, dropout, ..AdapterConfig::default() }
}

fn before(kind: AdapterKind) -> AdapterConfig {
    AdapterConfig { kind, tokens: 4, ..AdapterConfig::default() }
}

fn tokens() -> Vec<i32> {
    (0..2000u64).map(|i| (llm::random(3, i / 3) % 20) as i32).collect()
}

fn trainer(config: &Config) -> Trainer {
    Trainer::new(config.clone(), tokens(), Arc::new(Pool::new(1))).unwrap()
}

fn state(t: &Trainer) -> Vec<(String, Vec<u8>)> {
    t.session().params().map(|(n, _)| (n.to_string(), t.session().param(n).unwrap())).collect()
}

/// A model in a directory, a little trained, and its loss.
fn base(dir: &Path, dropout: f64) -> f64 {
    let config = config(AdapterConfig::default(), dropout, 1);
    let mut trainer = trainer(&config);
    for _ in 0..3 {
        trainer.one_step().unwrap();
    }
    config.write(dir).unwrap();
    trainer.step.save(dir, "a text").unwrap();
    trainer.evaluate(None).unwrap()
}

/// A training beside the model in a directory.
fn beside(config: &Config, dir: &Path) -> Trainer {
    let mut trainer = trainer(config);
    let base = hub::Directory::open(dir, &Models::default()).unwrap();
    base.begin(&mut trainer.step, config).unwrap();
    trainer
}

#[test]
fn training_beside_a_model() {
    let with_head = AdapterConfig { whole: vec!["ln_f".into(), "mlp.c_fc".into()], ranks: [("c_attn".to_string(), 1)].into(), ..lora(0.0) };
    let [prompt, prefix] = [AdapterKind::Prompt, AdapterKind::Prefix].map(before);
    for (of_model, adapter, accumulate) in [(0.0, lora(0.0), 1), (0.1, lora(0.2), 2), (0.0, prompt, 1), (0.1, prefix, 2), (0.0, with_head, 1)] {
        let folder = Directory::new("beside");
        let [base_dir, run] = ["base", "run"].map(|n| folder.0.join(n));
        [&base_dir, &run].into_iter().for_each(|d| std::fs::create_dir_all(d).unwrap());
        let loss = base(&base_dir, of_model);
        let config = config(adapter, of_model, accumulate);
        let mut whole = beside(&config, &base_dir);
        let start = whole.evaluate(None).unwrap();
        assert_eq!(start == loss, config.adapter.kind == AdapterKind::Lora, "what is beside starts at nothing, what is before at something");
        let before = state(&whole);
        // nothing is kept for what stays
        let own = |name: &str| {
            name.contains("lora_")
                || name.contains("prompt_embeddings")
                || !config.adapter.whole.is_empty() && (name.contains("ln_f") || name.contains("mlp.c_fc"))
        };
        assert!(before.iter().all(|p| State::parse(&p.0).is_parameter() || own(&p.0)), "{:?}", before.iter().map(|p| &p.0).collect::<Vec<_>>());
        let never = AtomicBool::new(false);
        assert!(matches!(whole.run(None, &never, &mut |_| Ok(())).unwrap(), Outcome::Finished(after) if after < start));
        for (old, new) in before.iter().zip(state(&whole)) {
            assert_eq!(old.1 != new.1, own(&old.0), "{}", old.0);
        }
        let second = gone_on_with(&config, &base_dir, &run);
        assert!(state(&second) == state(&whole));
        config.clone().adapted().unwrap().write(&run).unwrap();
        read_again(&folder, &base_dir, &run, &second);
    }
}

/// A training beside a model that was stopped after three steps and gone on with to its end.
fn gone_on_with(config: &Config, base_dir: &Path, run: &Path) -> Trainer {
    let (stop, never) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut first = beside(config, base_dir);
    let outcome = first.run(Some(run), &stop, &mut |e| {
        stop.store(matches!(e, Event::Step { step: 3.., .. }), Ordering::Relaxed);
        Ok(())
    });
    assert_eq!(outcome.unwrap(), Outcome::Stopped(3));
    let mut second = beside(config, base_dir);
    assert_eq!(second.resume(run).unwrap(), 3);
    second.run(Some(run), &never, &mut |_| Ok(())).unwrap();
    second
}

/// The program of a directory's model, and what it reads: the directory's parameters, and eight tokens.
fn program_of(directory: &hub::Directory) -> (Graph, Env) {
    let (graph, tensors) = (Objective::NextToken.bound(directory.model(), llm::Mode::Evaluate, 1, 8).unwrap(), directory.tensors().unwrap());
    let ids = Value::new(vec![1, 8], (0..8).map(f64::from).collect());
    let mut env: Env = [("input_ids".to_string(), ids.clone()), ("labels".into(), ids)].into();
    for (name, ty) in graph.params() {
        env.insert(name.to_string(), value(&tensors.expect(&name, &ty).unwrap(), &ty));
    }
    (graph, env)
}

/// A run's directory is the model with what is beside it; its file has that alone.
fn read_again(folder: &Directory, base_dir: &Path, run: &Path, trainer: &Trainer) {
    let manifest = read_manifest(run).unwrap().unwrap();
    let file = llm::named::Tensors::open(&run.join(&manifest.tensors)).unwrap();
    assert!(
        !file.contains("transformer.h.0.attn.c_attn.weight")
            && ["transformer.h.1.attn.c_attn.lora_B.weight", "prompt_embeddings"].iter().any(|n| file.contains(n))
    );
    let models = Models::default();
    let directory = hub::Directory::open(run, &models).unwrap();
    let (graph, env) = program_of(&directory);
    let tensors = directory.tensors().unwrap();
    for (name, ty) in graph.params() {
        assert!(tensors.expect(&name, &ty).unwrap() == trainer.session().param(&name).unwrap(), "{name}");
    }
    let have = &eval(&graph, &env).unwrap()["logits"];
    let plain = Objective::NextToken.bound(&directory.model().adapted(None), llm::Mode::Evaluate, 1, 8).unwrap();
    assert!(difference(have, &eval(&plain, &env).unwrap()["logits"]) > 1e-4);
    // another model in its place, and none
    let error = |says: &str| {
        let e = hub::Directory::open(run, &models).err().unwrap().0;
        assert!(e.contains(says), "{e}\nshould have: {says}");
    };
    let other = config(AdapterConfig::default(), 0.0, 1);
    self::trainer(&other).step.save(base_dir, "a text").unwrap();
    error("another checksum than when it was trained");
    std::fs::rename(base_dir, folder.0.join("elsewhere")).unwrap();
    error("there is none; put it there");
}

/// A checkpoint beside one model is none beside another.
#[test]
fn a_run_stands_beside_its_model() {
    let folder = Directory::new("beside-another");
    let [one, other, run] = ["one", "other", "run"].map(|n| folder.0.join(n));
    [&one, &other, &run].into_iter().for_each(|d| std::fs::create_dir_all(d).unwrap());
    base(&one, 0.0);
    base(&other, 0.0);
    trainer(&config(AdapterConfig::default(), 0.0, 1)).step.save(&other, "a text").unwrap();
    let config = config(lora(0.0), 0.0, 1);
    let mut first = beside(&config, &one);
    first.run(Some(&run), &AtomicBool::new(true), &mut |_| Ok(())).unwrap();
    let error = beside(&config, &other).resume(&run).unwrap_err().0;
    assert!(error.contains("this run stands beside") && error.contains("give it the model that it was trained beside"), "{error}");
    assert!(trainer(&config).resume(&run).unwrap_err().0.contains("here is no other model"));
    assert_eq!(beside(&config, &one).resume(&run).unwrap(), 0);
}

/// Beside a model whose matrices are in few bits: it begins where the model of these levels is, goes on as if never stopped, holds what is
/// beside it alone, and is, merged, what it was.
#[test]
fn training_beside_a_model_in_few_bits() {
    for (dora, held) in [(false, Held::Nf4), (true, Held::Nf4), (false, Held::Int8)] {
        let folder = Directory::new("in-few-bits");
        let [base_dir, run, merged] = ["base", "run", "merged"].map(|n| folder.0.join(n));
        [&base_dir, &run].into_iter().for_each(|d| std::fs::create_dir_all(d).unwrap());
        let loss = base(&base_dir, 0.0);
        let config = config(AdapterConfig { base: held, dora, ..lora(0.0) }, 0.0, 1);
        let mut whole = beside(&config, &base_dir);
        let first = whole.evaluate(None).unwrap();
        assert!((first - loss).abs() < 0.02 && first != loss, "{first} {loss}");
        let own = |name: &str| name.contains("lora_");
        let before = state(&whole);
        assert!(before.iter().any(|p| p.0.ends_with("c_attn.weight.nf4") || p.0.ends_with("c_attn.weight.int8")));
        assert!(!before.iter().any(|p| p.0.ends_with("c_attn.weight")), "the matrix itself is nowhere");
        let never = AtomicBool::new(false);
        assert!(matches!(whole.run(None, &never, &mut |_| Ok(())).unwrap(), Outcome::Finished(after) if after < first));
        for (old, new) in before.iter().zip(state(&whole)) {
            assert_eq!(old.1 != new.1, own(&old.0), "{}", old.0);
        }
        let second = gone_on_with(&config, &base_dir, &run);
        assert!(state(&second) == state(&whole));
        config.clone().adapted().unwrap().write(&run).unwrap();
        let directory = hub::Directory::open(&run, &Models::default()).unwrap();
        llm::adapter::merge(&directory, &merged).unwrap();
        let one = hub::Directory::open(&merged, &Models::default()).unwrap();
        let logits = |directory: &hub::Directory| {
            let (graph, env) = program_of(directory);
            eval(&graph, &env).unwrap()["logits"].clone()
        };
        assert!(difference(&logits(&one), &logits(&directory)) < 1e-5, "{held}");
    }
}

/// Each line of a file is written behind as its adapter alone would, over one copy of the model; what is said before a text is no other's.
#[test]
fn prompts_name_adapters() {
    use crate::cli::{fails, works};
    let d = Directory::new("prompts");
    let text = |words: &str| words.repeat(60);
    let (data, base) = (d.write("text.txt", text("the quick brown fox jumps over the lazy dog.\n")), d.path("base"));
    let sizes =
        ["n_layer=1", "n_head=2", "n_embd=16", "n_positions=48", "train.context=24", "train.batch=4", "train.eval_every=100", "train.warmup=0"];
    let sets = |more: &[&str]| -> Vec<String> { sizes[4..].iter().chain(more).flat_map(|s| ["--set".to_string(), s.to_string()]).collect() };
    let run = |words: &[&str], sets: Vec<String>| works(&words.iter().copied().chain(sets.iter().map(String::as_str)).collect::<Vec<_>>());
    run(&["train", "gpt2", "--data", &data, "--out", &base], sets(&[&sizes[..4], &["train.steps=20", "train.lr=1e-2"]].concat()));
    let other = d.write("other.txt", text("dogs jump over a fox the brown way.\n"));
    for (name, of, more) in [("one", &data, "adapter.kind=lora"), ("two", &other, "adapter.kind=lora"), ("three", &other, "adapter.kind=prefix")] {
        let own = sets(&["train.steps=12", "train.lr=5e-2", "adapter.rank=2", "adapter.tokens=3", more]);
        run(&["train", "--init-from", &base, "--data", of, "--out", &d.path(name)], own);
    }
    let cold = ["--max-tokens", "9", "--temperature", "0"];
    let alone = |prompt: &str, dir: Option<&str>| {
        let path = dir.map(|dir| d.path(dir));
        let adapter: Vec<&str> = path.iter().flat_map(|path| ["--adapter", path]).collect();
        works(&[&["generate", &base, "--prompt", prompt][..], &adapter, &cold].concat())
    };
    let all =
        [("the ", Some("one")), ("fox", None), ("the ", Some("two")), ("brown ", Some("three")), ("the ", Some("three")), ("the dog", Some("two"))];
    let lines: String = all.iter().map(|(prompt, name)| format!("{}\t{prompt}\n", name.unwrap_or(""))).collect();
    let file = d.write("prompts.tsv", lines);
    let named: Vec<String> = ["one", "two", "three"].iter().flat_map(|n| ["--adapter".to_string(), format!("{n}={}", d.path(n))]).collect();
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    let have = works(&[&["generate", &base, "--prompts", &file][..], &named, &cold].concat());
    let want: String = all.iter().map(|(prompt, name)| format!("{}---\n", alone(prompt, *name))).collect();
    assert_eq!(have, want);
    let texts: Vec<String> = [None, Some("one"), Some("two"), Some("three")].map(|name| alone("the ", name)).into();
    assert!(texts.iter().collect::<std::collections::BTreeSet<_>>().len() > 2, "adapters make a difference: {texts:?}");
    let wrong = d.write("wrong.tsv", "the\ntw\tthe\n");
    fails(&[&["generate", &base, "--prompts", &wrong][..], &named].concat(), &["wrong.tsv:2", "no adapter is called tw", "did you mean two"]);
    fails(&[&["generate", &base, "--prompt", "the"][..], &named].concat(), &["--adapter one=…", "lines of generate --prompts name adapters"]);
    run(
        &["train", "--init-from", &base, "--data", &data, "--out", &d.path("four")],
        sets(&["train.steps=2", "adapter.kind=lora", "adapter.base=nf4"]),
    );
    let (packed, of_four) = (d.write("four.tsv", "four\tthe\n"), format!("four={}", d.path("four")));
    fails(&["generate", &base, "--prompts", &packed, "--adapter", &of_four], &["matrices in few bits (nf4)", "try merge first"]);
    fails(&["generate", &d.path("one"), "--prompts", &file], &["no adapter is called one"]);
    fails(&["generate", &d.path("one"), "--prompts", &d.write("plain.tsv", "the\n")], &["go on with a decoder alone"]);
}
