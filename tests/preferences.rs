//! What people preferred, learned: records, rows, the reference, and the training itself.

use crate::common::Directory;
use llm::chat::{Chat, Template};
use llm::{Config, Event, Models, REFERENCE, Source, Tokenizer, Trainer, preferences, recipe, words};
use passes::Options;
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
    trainer.refer(dir, &mut |_, _| {}).unwrap();
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
        trainer.refer(None, &mut |_, _| {}).unwrap();
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
    first.refer(Some(&parts.0), &mut |_, _| {}).unwrap();
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
    assert!(again.refer(Some(&parts.0), &mut |_, _| {}).unwrap_err().to_string().contains("another length"));
    for (damaged, why) in [(text.replacen("-", "", 3), "those that were written"), (text[..40].to_string(), "start anew")] {
        std::fs::write(&path, damaged).unwrap();
        let mut again = trainer(&["train.keep_best=false"], &all);
        again.resume(&parts.0).unwrap();
        let error = again.refer(Some(&parts.0), &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
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
    assert!(read("a.jsonl", messages).unwrap().starts_with("{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"chosen\":\"a\""));
    // what is asked may stand before the answers, and answers may be texts
    let before = "{\"chosen\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"a\"}], \
                  \"rejected\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}";
    let half = "{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \"chosen\": \"a\", \"rejected\": \"b\"}";
    for same in [before, half] {
        assert_eq!(read("a.jsonl", same).unwrap(), read("a.jsonl", messages).unwrap());
    }
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
        ("{\"prompt\": [{\"role\": \"assistant\", \"content\": \"x\"}], \"chosen\": \"a\", \"rejected\": \"b\"}", "message 1 is the assistant's"),
        ("{\"prompt\": [], \"chosen\": \"a\", \"rejected\": \"b\"}", "message 1 is the assistant's"),
        ("{\"prompt\": [{\"role\": \"user\"}], \"chosen\": \"a\", \"rejected\": \"b\"}", "message 1: it has no content"),
        (
            "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}\n{\"prompt\": [{\"role\": \"user\", \"content\": \"q\"}], \
          \"chosen\": \"a\", \"rejected\": \"b\"}",
            "a.jsonl:2: the record is messages, and those before it are texts",
        ),
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

/// Messages are what a template makes of them: a prompt up to where an answer begins, and an answer to the token that ends it, of which the
/// answer alone is asked. Of single answers, too.
#[test]
fn messages_are_written_by_a_template() {
    let one = |i: usize| {
        let letter = char::from(b'a' + (i % 20) as u8);
        format!(
            "{{\"prompt\": [{{\"role\": \"user\", \"content\": \"hi\"}}, {{\"role\": \"assistant\", \"content\": \"yes?\"}}, {{\"role\": \"user\", \
             \"content\": \"say {letter}\"}}], \"chosen\": \"please {letter}\", \"rejected\": [{{\"role\": \"assistant\", \"content\": \"no {letter}\"}}]}}\n"
        )
    };
    let lines = preferences(Path::new("chats.jsonl"), &(0..20).map(one).collect::<String>()).unwrap();
    for shipped in ["chatml", "llama-3", "mistral", "gemma", "alpaca"] {
        let template = Template::named(shipped, "2024-07-26").unwrap();
        let specials = template.specials().to_vec();
        for kind in ["dpo", "kto"] {
            let kind = format!("preference.kind={kind}");
            let sets = [&SMALL[..], &["train.context=400", "n_positions=400", "chat.system=Be kind.", &kind]].concat();
            let config = set(recipe("dpo", &Models::default()).unwrap(), &sets);
            let text = llm::chat::contents(&lines, &config, &template).unwrap();
            assert!(text.contains("please a") && text.contains("no a") && text.contains("Be kind."), "{shipped}: {text}");
            let learning = llm::text::Learning { specials: specials.clone(), ..config.data.learning() };
            let tokenizer = Tokenizer::learned(llm::Kind::Bpe, &learning, &text).unwrap().with_specials(&specials).unwrap();
            assert!(Source::of("chats", &lines, &config, &tokenizer).unwrap_err().to_string().contains("with a template"));
            let source = Source::by("chats", &lines, &config, &tokenizer, Some(&template)).unwrap();
            let stop = Chat::new(&template, &tokenizer).stop().unwrap();
            let collator =
                llm::Collator::new(config.aim(), &config.objective, &config.data, &source.marks).unwrap().preferring(config.preference.kind);
            let data = llm::Data::asking(vec![source], &config.data, collator, 400, 100).unwrap();
            let batch = data.batch(1, 0, 4, 400).unwrap();
            for (ids, labels) in batch.i32s("input_ids").chunks(400).zip(batch.i32s("labels").chunks(400)) {
                let asked: Vec<i32> = labels.iter().copied().filter(|l| *l >= 0).collect();
                let answer = tokenizer.decode(asked.strip_suffix(&[stop]).expect("an answer ends with what ends it"));
                assert!(["please ", "no "].iter().any(|w| answer.trim_start().starts_with(w)), "{shipped}: {answer:?}");
                let first = labels.iter().position(|l| *l >= 0).unwrap();
                let prompt = tokenizer.decode(&ids[..=first]);
                assert!(prompt.contains("Be kind.") && prompt.contains("yes?") && prompt.contains("say "), "{shipped}: {prompt:?}");
            }
        }
    }
}

/// Messages from the command line: a model that was taught to answer prefers answers, is rewarded and talks, by one template.
#[test]
fn messages_from_the_command_line() {
    use crate::cli::{fails, works};
    let d = Directory::new("messages");
    let letter = |i: usize| char::from(b'a' + (i % 20) as u8);
    let user = |i: usize| format!("[{{\"role\": \"user\", \"content\": \"say {}\"}}]", letter(i));
    let write = |name: &str, one: &dyn Fn(usize) -> String| d.write(name, (0..40).map(one).collect::<String>());
    let talks = write("talks.jsonl", &|i| format!("{{\"prompt\": \"say {0}\", \"completion\": \"please {0} no\"}}\n", letter(i)));
    let pairs = write("pairs.jsonl", &|i| format!("{{\"prompt\": {}, \"chosen\": \"please {1}\", \"rejected\": \"no {1}\"}}\n", user(i), letter(i)));
    let asked = write("asked.jsonl", &|i| format!("{{\"prompt\": {}, \"answer\": \"{}\"}}\n", user(i), letter(i)));
    let small = "n_layer=1 n_embd=16 n_head=2 n_positions=96 dropout=0.0 data.tokenizer=char data.held_out=0.2 chat.template=llama-3";
    let few = "train.steps=2 train.batch=4 train.context=90 train.eval_every=1 train.eval_batches=1";
    let sets = |all: &[&'static str]| all.iter().flat_map(|s| s.split(' ')).flat_map(|s| ["--set", s]).collect::<Vec<_>>();
    let [sft, dpo, reward, grpo, ppo, distill] = ["sft", "dpo", "reward", "grpo", "ppo", "distill"].map(|n| d.path(n));
    works(&[&["sft", "gpt2", "--data", &talks, "--out", &sft, "--answers", "0"][..], &sets(&[small, few])].concat());
    let template = |run: &str| std::fs::read_to_string(Path::new(run).join(llm::chat::FILE)).unwrap();
    let model = format!("policy.reward_model={reward}");
    let teacher = format!("distill.teacher={sft}");
    for (command, data, out, more) in [
        ("dpo", &pairs, &dpo, vec![]),
        ("reward", &pairs, &reward, vec![]),
        ("grpo", &asked, &grpo, vec!["--set", "policy.group=4", "--set", "policy.reward=model", "--set", &model]),
        ("ppo", &asked, &ppo, vec![]),
        ("distill", &asked, &distill, vec!["--set", "distill.on_policy=true", "--set", &teacher]),
    ] {
        let pairs = if command == "dpo" || command == "reward" { vec![] } else { sets(&["data.documents=pairs", "policy.tokens=6"]) };
        works(&[&[command, "--init-from", &sft, "--data", data, "--out", out][..], &sets(&[few]), &pairs, &more].concat());
        if command != "reward" {
            assert_eq!(template(out), template(&sft), "{command}");
        }
    }
    let talk = works(&["chat", &dpo, "--ask", "say a", "--max-tokens", "3"]);
    assert!(!talk.is_empty());
    // what is asked is what the template makes of it, and what was written ends before what ends it
    let first: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(Path::new(&grpo).join("rollouts.jsonl")).unwrap().lines().next().unwrap()).unwrap();
    let (prompt, right) = (first["prompt"].as_str().unwrap(), first["right"].as_str().unwrap());
    assert!(prompt.starts_with("<|begin_of_text|><|start_header_id|>user") && prompt.ends_with("assistant<|end_header_id|>\n\n"), "{prompt:?}");
    assert!(right.len() == 1 && prompt.contains(&format!("say {right}")), "{prompt:?} {right:?}");
    // a run that goes on has its template; from nothing it is learned with the template's tokens
    works(&["dpo", "--resume", "--out", &dpo, "--data", &pairs, "--set", "train.steps=3"]);
    works(&[&["dpo", "gpt2", "--data", &pairs, "--out", &d.path("own")][..], &sets(&[small, few])].concat());
    let mixed = d.write("mixed.jsonl", format!("{{\"prompt\": \"q\", \"answer\": \"a\"}}\n{{\"prompt\": {}, \"answer\": \"a\"}}\n", user(0)));
    let none = d.write("none.jsonl", format!("{{\"prompt\": {}}}\n", user(0)));
    for (file, why) in [(&mixed, "mixed.jsonl:2: some prompts are messages"), (&none, "none.jsonl:1: a prompt of messages has no answer")] {
        let sets = sets(&["data.documents=pairs policy.group=4"]);
        fails(&[&["grpo", "--init-from", &sft, "--data", file, "--out", &d.path("bad")][..], &sets].concat(), &[why]);
    }
}
