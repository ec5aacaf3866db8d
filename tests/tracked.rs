//! Tasks that are asked while a model is trained: what `eggcorn eval` finds of the same weights.

use crate::cli::{Directory, SMALL, fails, text, works};
use serde_json::Value;

/// Minimal pairs of the text's words; the model reads 8 tokens.
fn pairs(n: usize) -> String {
    let words = ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog"];
    let pair = |i: usize| {
        let (good, bad) = (words[i % 8], words[i % 8].chars().rev().collect::<String>());
        format!("{{\"sentence_good\": \"{good}\", \"sentence_bad\": \"{bad}\", \"UID\": \"words\"}}\n")
    };
    (0..n).map(pair).collect()
}

/// What a run measured: the step, what, and the value.
fn measured(events: &str) -> Vec<(u64, String, f64)> {
    let all = events.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()).filter(|e| e["event"] == "measured");
    all.map(|e| (e["step"].as_u64().unwrap(), e["what"].as_str().unwrap().into(), e["value"].as_f64().unwrap())).collect()
}

#[test]
fn tasks_are_asked_on_the_way() {
    let d = Directory::new("tracked");
    let (data, task, run) = (d.write("text.txt", text()), format!("blimp={}", d.write("pairs.jsonl", pairs(7))), d.path("run"));
    let more = ["--set", "train.eval_every=2", "--set", "train.eval_questions=3", "--set", "train.ema=0.5", "--set", "train.lr=3e-2"];
    let train = |more: &[&str], task: &str, run: &str| {
        let args = [&["train", "shakespeare-char", "--data", &data, "--out", run, "--task", task, "--json"], &SMALL[..], more].concat();
        args.iter().map(|s| s.to_string()).collect::<Vec<_>>()
    };
    let args = train(&more, &task, &run);
    let events = works(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(events.contains("blimp: 7 questions, the first 3 on the way; chance gets 0.5000 right"), "{events}");
    let found = measured(&events);
    let steps: Vec<(u64, &str)> = found.iter().map(|(step, what, _)| (*step, what.as_str())).collect();
    let want = [2, 4, 6].map(|step| [(step, "blimp acc"), (step, "blimp acc_norm")]).concat();
    assert_eq!(steps, want);
    // a third of the questions is no seventh
    assert!(found[..4].iter().all(|(.., x)| (3.0 * x).fract() == 0.0), "{found:?}");
    let eval = |more: &[&str]| {
        let out = works(&[&["eval", &run, "--task", &task, "--json"], more].concat());
        serde_json::from_str::<Value>(out.lines().last().unwrap()).unwrap()["acc"]["mean"].as_f64().unwrap()
    };
    assert_eq!(found[4].2, eval(&["--ema"]), "at the end all are asked, of the averages that are evaluated");
    assert!(std::fs::read_to_string(d.0.join("run/report.html")).unwrap().contains("Measured on the way"));
    for (task, words) in [("blimp=none.jsonl", "none.jsonl"), ("blump=x.jsonl", "did you mean blimp"), ("t5-tiny=x", "there is no task t5-tiny")] {
        let args = train(&[], task, &d.path("other"));
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[words]);
    }
}
