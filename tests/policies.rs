//! Models that write, are rewarded and learn from it: rewards, rollouts, the loop.

use crate::common::Directory;
use llm::reward::{Answer, Command, Reward};
use llm::{Config, Event, Models, Policy, Source, Tokenizer, recipe, rollouts, symbols};
use passes::Options;
use runtime::{Device, Pool};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn answer(text: &str, right: &str) -> Answer {
    Answer { ids: vec![], prompt: "1+1=".into(), text: text.into(), right: right.into() }
}

#[test]
fn rules_reward() {
    let answers = [answer("= 2 ", "2"), answer("2\n", "2"), answer("it is = 12", "2"), answer("", "2")];
    let of = |mut reward: Reward| reward.of(&answers).unwrap();
    assert_eq!(of(Reward::Exact), [0.0, 1.0, 0.0, 0.0]);
    assert_eq!(of(matching(r"= (\d+)")), [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(of(matching("=")), [1.0, 0.0, 1.0, 0.0]);
    assert_eq!(of(Reward::Length(4)), [1.0, 0.5, 0.0, 0.0]);
}

fn matching(pattern: &str) -> Reward {
    Reward::matching(pattern).unwrap()
}

/// A command is asked a line an answer; one that dies, hangs or writes nonsense is an error with what it said.
#[test]
fn commands_reward() {
    let answers: Vec<Answer> = (0..3).map(|i| answer(&"x".repeat(i), "2")).collect();
    let start = |text: &str| Command::start(text, Duration::from_secs(20)).unwrap();
    let mut counts = start("while read line; do echo \"{\\\"reward\\\": ${#line}}\"; done");
    let first = counts.of(&answers).unwrap();
    assert!(first[1] == first[0] + 1.0 && first[2] == first[0] + 2.0, "{first:?}");
    assert_eq!(counts.of(&answers).unwrap(), first);
    for (text, why) in [
        ("read x; echo 1; echo too hard >&2; exit 3", "it ended after 1 of 3 rewards (exit status: 3)\nwhat it says:\ntoo hard"),
        ("echo 1; echo good; sleep 30", "it wrote \"good\" for the reward of answer 2: expected a number"),
        ("echo NaN; sleep 30", "expected a number"),
        ("exit 0", "it "),
    ] {
        let error = start(text).of(&answers).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let (mut hangs, begin) = (Command::start("echo 1; sleep 30", Duration::from_millis(300)).unwrap(), Instant::now());
    let error = hangs.of(&answers).unwrap_err().to_string();
    assert!(error.contains("it wrote 1 of 3 rewards in 300ms; a larger policy.reward_seconds"), "{error}");
    drop(hangs);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

const SMALL: [&str; 15] = [
    "n_layer=1",
    "n_head=2",
    "n_embd=24",
    "n_positions=12",
    "dropout=0.0",
    "data.task_length=3",
    "data.task_symbols=5",
    "train.context=5",
    "train.batch=32",
    "train.steps=6",
    "train.eval_every=3",
    "train.eval_batches=2",
    "train.save_every=100",
    "train.lr=3e-3",
    "train.keep_best=false",
];

fn config(sets: &[&str]) -> Config {
    let all = [&SMALL[..], sets].concat();
    all.iter().fold(recipe("grpo-sort", &Models::default()).unwrap(), |c, s| c.set(s).unwrap())
}

fn policy(sets: &[&str], reward: Reward) -> Policy {
    let config = config(sets);
    let tokenizer = Tokenizer::learned(config.data.tokenizer, &config.data.learning(), symbols(&config)).unwrap();
    let source = Source::of("a task", "", &config, &tokenizer).unwrap();
    let config = Config { model: config.model.with_vocabulary(tokenizer.size()).unwrap(), ..config };
    let device = Device::from(Arc::new(Pool::new(2)));
    Policy::compiled(config, vec![source], tokenizer, reward, device, &Options::default()).unwrap()
}

fn run(policy: &mut Policy, dir: Option<&Path>) -> llm::Result<Vec<Event>> {
    let mut events = vec![];
    let keep = &mut |e: Event| {
        events.push(e);
        Ok(())
    };
    policy.run(dir, &AtomicBool::new(false), keep)?;
    Ok(events)
}

fn measured(events: &[Event], name: &str) -> Vec<f64> {
    events.iter().filter_map(|e| if let Event::Measured { what, value, .. } = e { (what == name).then_some(*value) } else { None }).collect()
}

/// From nothing at all, rewards teach to begin answers with a zero, in a loop of either kind.
#[test]
fn what_is_rewarded_is_written() {
    let steps = ["train.steps=40", "train.eval_every=20", "train.lr=1e-2"];
    for sets in
        [&["policy.kind=grpo"][..], &["policy.kind=dr-grpo"], &["policy.kind=dapo", "policy.updates=2"], &["policy.kind=ppo", "policy.group=1"]]
    {
        let mut own = policy(&[&steps[..], sets].concat(), matching("^0"));
        let events = run(&mut own, None).unwrap();
        let rewards = measured(&events, "reward");
        assert!(rewards[0] < 0.6 && *rewards.last().unwrap() > 0.9, "{sets:?}: {rewards:?}");
    }
}

/// All that was written is kept with what it was worth, and a run that goes on is to the bit what it would have been.
#[test]
fn policies_resume_to_the_bit() {
    for sets in [
        &["policy.kind=grpo"][..],
        &["policy.kind=grpo", "policy.updates=2", "policy.kl=0.1"],
        &["policy.kind=ppo", "policy.group=1", "policy.kl=0.1", "policy.kl_target=0.001", "policy.updates=2"],
        &["policy.kind=ppo", "policy.group=1", "policy.kl=0.1", "policy.kl_target=0.001", "policy.updates=2", "adapter.kind=lora"],
    ] {
        let (whole, parts) = (Directory::new("grpo-whole"), Directory::new("grpo-parts"));
        let reward = || matching("0");
        run(&mut policy(sets, reward()), Some(&whole.0)).unwrap();
        let stop = AtomicBool::new(false);
        let until = &mut |e: Event| {
            if matches!(e, Event::Step { step: 3.., .. }) {
                stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        policy(sets, reward()).run(Some(&parts.0), &stop, until).unwrap();
        let mut second = policy(sets, reward());
        assert!(second.resume(&parts.0).unwrap() < 6, "{sets:?}");
        run(&mut second, Some(&parts.0)).unwrap();
        let read = |dir: &Directory, name: &str| std::fs::read(dir.0.join(name)).unwrap();
        for name in ["checkpoint-6.safetensors", "rollouts.jsonl"] {
            assert!(read(&whole, name) == read(&parts, name), "{sets:?}: {name}");
        }
        let kept = rollouts(&whole.0).unwrap();
        let rounds = if sets.contains(&"policy.updates=2") { 3 } else { 6 };
        assert_eq!(kept.len(), 32 * rounds, "{sets:?}");
        assert!(kept.iter().all(|r| r.tokens == 3 && r.text.len() == 3 && r.reward == f64::from(u8::from(r.text.contains('0')))));
        let mut sorted: Vec<char> = kept[0].prompt.chars().collect();
        sorted.sort_unstable();
        assert_eq!(kept[0].right, sorted.into_iter().collect::<String>());
    }
}

/// What an adapter learns is compared with the model without it, however far it goes; with all weights in training with a copy of the start.
#[test]
fn the_distance_is_from_the_start() {
    for beside in [&[][..], &["adapter.kind=lora"]] {
        let sets = [&["policy.kind=ppo", "policy.group=1", "policy.kl=0.01", "train.lr=2e-2", "train.eval_every=1"], beside].concat();
        let events = run(&mut policy(&sets, matching("^0")), None).unwrap();
        let distances = measured(&events, "kl of an answer");
        assert!(distances.len() == 6 && distances[0].abs() < 1e-5 && distances[5].abs() > 1e-3, "{beside:?}: {distances:?}");
    }
}

/// Where all rewards are equal it is said; where the reward fails what was learned is saved.
#[test]
fn nothing_to_learn_is_said_and_a_failing_reward_saves() {
    let events = run(&mut policy(&["train.steps=2"], matching("never")), None).unwrap();
    let said = events.iter().filter(|e| matches!(e, Event::Notice(what) if what.contains("there is nothing to learn")));
    assert_eq!(said.count(), 1);
    let dir = Directory::new("grpo-fails");
    let command = Command::start("for i in $(seq 64); do read line; echo 0.$i; done; echo enough >&2", Duration::from_secs(20)).unwrap();
    let error = run(&mut policy(&[], Reward::Command(command)), Some(&dir.0)).unwrap_err().to_string();
    assert!(error.contains("enough") && error.contains("it is saved after step 2"), "{error}");
    assert!(dir.0.join("checkpoint-2.safetensors").is_file());
}

/// Settings that are no policy say why.
#[test]
fn settings_of_policies_are_held_to_their_rows() {
    for (set, why) in [
        ("policy.group=7", "expected a multiple of the group"),
        ("policy.group=1", "no better than others"),
        ("policy.reward=match", "policy.reward_pattern is empty"),
        ("policy.reward=command", "policy.reward_command is empty"),
        ("policy.clip_low=1", "policy.clip_low"),
    ] {
        let error = config(&[set]).check().unwrap_err().to_string();
        assert!(error.contains(why), "{set}: {error}");
    }
    let error = config(&["data.task=none"]).check().unwrap_err().to_string();
    assert!(error.contains("a policy answers prompts"), "{error}");
}

/// Sums are made right, in documents of two lengths.
#[test]
fn sums_are_made() {
    let config = config(&["data.task=add", "data.task_length=2", "train.context=8"]);
    config.check().unwrap();
    let tokenizer = Tokenizer::learned(config.data.tokenizer, &config.data.learning(), symbols(&config)).unwrap();
    let source = Source::of("sums", "", &config, &tokenizer).unwrap();
    for (part, seen) in [(&source.train, 50), (&source.held_out, 50)] {
        for pair in 0..seen {
            let ranges = part.ranges(2 * pair..2 * pair + 2).unwrap();
            assert_eq!(ranges[0].end, ranges[1].start);
            let [asked, sum] = [0, 1].map(|i| tokenizer.decode(&part.read(ranges[i].clone()).unwrap()));
            let (a, b) = asked.strip_suffix('=').unwrap().split_once('+').unwrap();
            assert_eq!(sum, format!("{:03}", a.parse::<u32>().unwrap() + b.parse::<u32>().unwrap()), "{asked}");
            // whatever is read of it at once
            let whole = part.read(ranges[0].start..ranges[1].end).unwrap();
            assert_eq!(tokenizer.decode(&whole), format!("{asked}{sum}"));
            assert_eq!(tokenizer.decode(&part.read(ranges[0].start + 4..ranges[1].end - 1).unwrap()), format!("{}{}", &asked[4..], &sum[..2]));
        }
    }
}
