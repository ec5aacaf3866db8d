//! A model that imitates another: on a text, and on what it writes itself.

use crate::common::Directory;
use llm::{Config, Event, Models, Policy, Source, Teacher, Tokenizer, Trainer, recipe, symbols};
use passes::Options;
use runtime::{Device, Pool};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const SMALL: [&str; 12] = [
    "n_head=2",
    "n_positions=12",
    "dropout=0.0",
    "data.task_length=3",
    "data.task_symbols=5",
    "train.context=5",
    "train.batch=16",
    "train.steps=60",
    "train.eval_every=30",
    "train.eval_batches=2",
    "train.lr=1e-2",
    "train.keep_best=false",
];

fn config(sets: &[&str]) -> Config {
    [&SMALL[..], sets].concat().iter().fold(recipe("sort", &Models::default()).unwrap(), |c, s| c.set(s).unwrap())
}

fn opened(config: Config) -> (Config, Source, Tokenizer) {
    let tokenizer = Tokenizer::learned(config.data.tokenizer, &config.data.learning(), symbols(&config)).unwrap();
    let source = Source::of("a task", "", &config, &tokenizer).unwrap();
    (Config { model: config.model.with_vocabulary(tokenizer.size()).unwrap(), ..config }, source, tokenizer)
}

fn measured(events: &[Event], name: &str) -> Vec<f64> {
    events.iter().filter_map(|e| if let Event::Measured { what, value, .. } = e { (what == name).then_some(*value) } else { None }).collect()
}

fn device() -> Device {
    Device::from(Arc::new(Pool::new(2)))
}

/// The run directory of a model that learned to sort a little.
fn teacher(dir: &Directory) {
    let (config, source, tokenizer) = opened(config(&["n_layer=2", "n_embd=24"]));
    config.write(&dir.0).unwrap();
    tokenizer.write(&dir.0).unwrap();
    let mut trainer = Trainer::compiled(config, vec![source], device(), &Options::default()).unwrap();
    trainer.run(Some(&dir.0), &AtomicBool::new(false), &mut |_| Ok(())).unwrap();
}

/// Whatever the distance is taken of, it falls; and the one from itself is nothing.
#[test]
fn what_a_teacher_says_is_learned() {
    let dir = Directory::new("teacher");
    teacher(&dir);
    let named = format!("distill.teacher={}", dir.0.display());
    for kind in ["forward", "reverse", "mixed"] {
        let sets = ["n_layer=1", "n_embd=16", "objective.kind=distill", &named, &format!("distill.divergence={kind}")];
        let (config, source, tokenizer) = opened(config(&sets));
        let mut trainer = Trainer::compiled(config.clone(), vec![source], device(), &Options::default()).unwrap();
        trainer.imitating(Teacher::open(&config, &Models::default(), &tokenizer, &device(), &Options::default()).unwrap());
        let mut losses = vec![];
        let keep = &mut |e: Event| {
            if let Event::Step { loss, .. } = e {
                losses.push(loss);
            }
            Ok(())
        };
        trainer.run(None, &AtomicBool::new(false), keep).unwrap();
        assert!(losses.iter().all(|l| *l > -1e-6) && losses[59] < 0.5 * losses[0], "{kind}: {losses:?}");
    }
    let (config, source, tokenizer) = opened(config(&["n_layer=2", "n_embd=24", "objective.kind=distill", &named]));
    let mut same = Trainer::compiled(config.clone(), vec![source], device(), &Options::default()).unwrap();
    same.step.start_from(&llm::open_checkpoint(&dir.0).unwrap().tensors, &|_| true).unwrap();
    same.imitating(Teacher::open(&config, &Models::default(), &tokenizer, &device(), &Options::default()).unwrap());
    let (distance, norm) = same.one_step().unwrap();
    assert!(distance.abs() < 1e-5 && norm < 1e-4, "{distance} {norm}");
}

/// On answers of its own a model comes nearer to its teacher, too.
#[test]
fn answers_of_its_own_are_corrected() {
    let dir = Directory::new("teacher-on-policy");
    teacher(&dir);
    let named = format!("distill.teacher={}", dir.0.display());
    let sets = ["n_layer=1", "n_embd=16", "objective.kind=distill", "distill.divergence=reverse", "distill.on_policy=true", "policy.group=1", &named];
    let (config, source, tokenizer) = opened(config(&sets));
    let teacher = Teacher::open(&config, &Models::default(), &tokenizer, &device(), &Options::default()).unwrap();
    let mut policy = Policy::imitating(config, vec![source], tokenizer, teacher, device(), &Options::default()).unwrap();
    let mut events = vec![];
    let keep = &mut |e: Event| {
        events.push(e);
        Ok(())
    };
    policy.run(None, &AtomicBool::new(false), keep).unwrap();
    let distances = measured(&events, "training distance");
    assert!(distances.len() >= 3 && *distances.last().unwrap() < 0.6 * distances[0], "{distances:?}");
    assert!(!events.iter().any(|e| matches!(e, Event::Notice(what) if what.contains("nothing to learn"))));
}

/// A teacher with other tokens, or none, is refused.
#[test]
fn a_teacher_has_the_same_tokens() {
    let dir = Directory::new("teacher-other");
    teacher(&dir);
    let named = format!("distill.teacher={}", dir.0.display());
    let (config, _, tokenizer) = opened(config(&["n_layer=1", "n_embd=16", "data.task_symbols=6", "objective.kind=distill", &named]));
    let error = Teacher::open(&config, &Models::default(), &tokenizer, &device(), &Options::default()).err().unwrap().to_string();
    assert!(error.contains("its tokens are others"), "{error}");
    let error = config.set("distill.teacher=").unwrap().check().unwrap_err().to_string();
    assert!(error.contains("distill.teacher is empty"), "{error}");
}
