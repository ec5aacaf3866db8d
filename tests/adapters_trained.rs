//! Training beside a model: it starts where the model is, the model stays, checkpoints hold what is beside it, and resuming is as if nothing
//! had happened.

use crate::common::{Directory, difference};
use ir::{Env, Value, eval};
use llm::named::value;
use llm::{AdapterConfig, AdapterKind, Config, Event, Models, Objective, Outcome, TrainConfig, Trainer, hub, read_manifest};
use models::{Gpt, Model};
use passes::State;
use runtime::Pool;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn config(adapter: AdapterConfig, dropout: f64, accumulate: u32) -> Config {
    let model = Model::from(Gpt { vocab_size: 20, n_positions: 8, n_layer: 2, n_head: 2, n_embd: 12, dropout, ..Gpt::default() });
    let train = TrainConfig { steps: 6, batch: 3, context: 8, accumulate, warmup: 1.0, eval_every: 2, save_every: 100, ..TrainConfig::default() };
    Config { train, adapter, ..Config::of(model) }
}

fn lora(dropout: f64) -> AdapterConfig {
    AdapterConfig { kind: AdapterKind::Lora, rank: 3, alpha: 6.0, dropout, ..AdapterConfig::default() }
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
    for (of_model, dropout, accumulate) in [(0.0, 0.0, 1), (0.1, 0.2, 2)] {
        let folder = Directory::new("beside");
        let [base_dir, run] = ["base", "run"].map(|n| folder.0.join(n));
        [&base_dir, &run].into_iter().for_each(|d| std::fs::create_dir_all(d).unwrap());
        let loss = base(&base_dir, of_model);
        let config = config(lora(dropout), of_model, accumulate);
        let mut whole = beside(&config, &base_dir);
        assert_eq!(whole.evaluate(None).unwrap(), loss, "what is beside starts at nothing");
        let before = state(&whole);
        // nothing is kept for what stays
        let own = |name: &str| name.contains("lora_");
        assert!(before.iter().all(|p| State::parse(&p.0).is_parameter() || own(&p.0)), "{:?}", before.iter().map(|p| &p.0).collect::<Vec<_>>());
        let never = AtomicBool::new(false);
        assert!(matches!(whole.run(None, &never, &mut |_| Ok(())).unwrap(), Outcome::Finished(after) if after < loss));
        for (old, new) in before.iter().zip(state(&whole)) {
            assert_eq!(old.1 != new.1, own(&old.0), "{}", old.0);
        }
        // stopped and gone on with
        let stop = AtomicBool::new(false);
        let mut first = beside(&config, &base_dir);
        let outcome = first.run(Some(&run), &stop, &mut |e| {
            stop.store(matches!(e, Event::Step { step: 3.., .. }), Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(outcome.unwrap(), Outcome::Stopped(3));
        let mut second = beside(&config, &base_dir);
        assert_eq!(second.resume(&run).unwrap(), 3);
        second.run(Some(&run), &never, &mut |_| Ok(())).unwrap();
        assert!(state(&second) == state(&whole));
        config.clone().adapted().unwrap().write(&run).unwrap();
        read_again(&folder, &base_dir, &run, &second);
    }
}

/// A run's directory is the model with what is beside it; its file has that alone.
fn read_again(folder: &Directory, base_dir: &Path, run: &Path, trainer: &Trainer) {
    let manifest = read_manifest(run).unwrap().unwrap();
    let file = llm::named::Tensors::open(&run.join(&manifest.tensors)).unwrap();
    assert!(!file.contains("transformer.h.0.attn.c_attn.weight") && file.contains("transformer.h.1.attn.c_attn.lora_B.weight"));
    let models = Models::default();
    let directory = hub::Directory::open(run, &models).unwrap();
    let tensors = directory.tensors().unwrap();
    let graph = Objective::NextToken.bound(directory.model(), llm::Mode::Evaluate, 1, 8).unwrap();
    let ids = Value::new(vec![1, 8], (0..8).map(f64::from).collect());
    let mut env: Env = [("input_ids".to_string(), ids.clone()), ("labels".into(), ids)].into();
    for (name, ty) in graph.params() {
        let bytes = tensors.expect(&name, &ty).unwrap();
        assert!(bytes == trainer.session().param(&name).unwrap(), "{name}");
        env.insert(name.to_string(), value(&bytes, &ty));
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
