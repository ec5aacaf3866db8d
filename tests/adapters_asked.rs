//! Adapters with every objective: what the model alone says is the reference, a head that is new is trained and kept with what is beside
//! the model, and both become one.

use crate::cli::{fails, works};
use crate::common::Directory;
use llm::hub;
use llm::named::Tensors;
use llm::{Models, read_manifest};
use passes::State;
use std::path::Path;

const FEW: [&str; 8] = [
    "train.steps=3",
    "train.batch=4",
    "train.context=24",
    "train.eval_every=2",
    "train.eval_batches=1",
    "train.lr=1e-2",
    "adapter.kind=lora",
    "adapter.rank=2",
];
const GPT: &str = "n_layer=2 n_embd=16 n_head=2 n_positions=32 dropout=0.0 data.tokenizer=char";
const BERT: &str = "num_hidden_layers=1 hidden_size=16 num_attention_heads=2 data.tokenizer=bpe data.vocabulary=300";
const LLAMA: &str = "num_hidden_layers=1 hidden_size=16 num_attention_heads=2 num_key_value_heads=1 intermediate_size=24 tie_word_embeddings=false \
                     data.tokenizer=char";

/// What is asked, in files.
struct Data {
    d: Directory,
}

impl Data {
    fn new(name: &str) -> Data {
        let d = Directory::new(name);
        let letter = |i: usize| char::from(b'a' + (i % 20) as u8);
        let pair = |i| format!("{{\"prompt\": \"say {0}:\", \"chosen\": \"please {0}{0}\", \"rejected\": \"no {0}\"}}\n", letter(i));
        let pairs: String = (0..40).map(pair).collect();
        let sums: String = (0..40).map(|i| format!("say {0}\t{0}\n", letter(i))).collect();
        let class = |i: usize| if i.is_multiple_of(3) { ("spam", "win") } else { ("ham", "home") };
        let classes: String = (0..60).map(|i| format!("{}\tsee {} now {}\n", class(i).0, class(i).1, letter(i))).collect();
        let text = "the quick brown fox jumps over the lazy dog. ".repeat(40);
        d.write("all.txt", [&pairs, &sums, &classes, &text].map(String::as_str).concat());
        for (name, content) in [("pairs.jsonl", &pairs), ("sums.tsv", &sums), ("classes.tsv", &classes), ("text.txt", &text)] {
            d.write(name, content);
        }
        Data { d }
    }

    fn path(&self, name: &str) -> String {
        self.d.path(name)
    }

    /// A model that was trained a little.
    fn base(&self, model: &str, small: &str, name: &str) -> String {
        let (run, data) = (self.path(name), self.path("all.txt"));
        let sets = small.split_whitespace().chain(FEW[..6].iter().copied()).flat_map(|s| ["--set", s]);
        let args: Vec<&str> = ["train", model, "--data", &data, "--out", &run].into_iter().chain(sets).collect();
        works(&args);
        run
    }
}

/// A run's losses, by its steps.
fn losses(run: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(Path::new(run).join("metrics.jsonl")).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events.filter(|e| e["event"] == "step").map(|e| e["loss"].as_f64().unwrap()).collect()
}

/// The names of what a run's checkpoint has, but for the optimizer's state.
fn kept(run: &str) -> Vec<String> {
    let manifest = read_manifest(Path::new(run)).unwrap().unwrap();
    let file = std::fs::read(Path::new(run).join(manifest.tensors)).unwrap();
    let header = &file[8..8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize];
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).unwrap();
    header.into_iter().map(|(name, _)| name).filter(|name| name != "__metadata__" && State::parse(name).is_parameter()).collect()
}

fn command<'a>(way: &'a str, base: &'a str, data: &'a str, out: &'a str, sets: &[&'a str]) -> Vec<&'a str> {
    let way = way.split(' ').chain(["--init-from", base, "--data", data, "--out", out]);
    way.chain(FEW.iter().chain(sets).flat_map(|s| ["--set", s])).collect()
}

/// Every objective of a decoder: what it starts at, what is kept, that it goes on, and that the model stays as it is.
#[test]
fn every_objective_learns_beside_a_model() {
    let data = Data::new("asked-beside");
    let base = data.base("gpt2", GPT, "base");
    let weights = || std::fs::read(Path::new(&base).join("checkpoint-3.safetensors")).unwrap();
    let before = weights();
    let teacher = format!("distill.teacher={base}");
    let answers = ["data.documents=pairs", "policy.tokens=4", "policy.group=4", "policy.kl=0.1"];
    let ln_2 = 2f64.ln();
    for (what, file, sets, first, head) in [
        ("dpo", "pairs.jsonl", vec![], Some(ln_2), ""),
        ("dpo", "pairs.jsonl", vec!["adapter.dora=true", "preference.label_smoothing=0.1"], Some(ln_2), ""),
        ("dpo", "pairs.jsonl", vec!["adapter.base=nf4"], Some(ln_2), ""),
        ("dpo", "pairs.jsonl", vec!["preference.kind=ipo"], Some(25.0), ""),
        ("dpo", "pairs.jsonl", vec!["preference.kind=kto"], Some(0.5), ""),
        ("dpo", "pairs.jsonl", vec!["preference.kind=orpo"], None, ""),
        ("dpo", "pairs.jsonl", vec!["preference.kind=simpo"], None, ""),
        ("reward", "pairs.jsonl", vec![], None, "score.weight"),
        ("grpo", "sums.tsv", answers.to_vec(), None, ""),
        ("grpo", "sums.tsv", [&answers[..], &["policy.kind=dapo", "policy.updates=2"]].concat(), None, ""),
        ("grpo", "sums.tsv", [&answers[..], &["policy.kind=dr-grpo"]].concat(), None, ""),
        ("grpo", "sums.tsv", [&answers[..], &["adapter.base=int8"]].concat(), None, ""),
        ("ppo", "sums.tsv", [&answers[..2], &["policy.kl=0.1", "policy.kl_target=1"]].concat(), None, "v_head.summary"),
        ("distill", "text.txt", vec![teacher.as_str()], Some(0.0), ""),
        ("distill", "sums.tsv", vec![teacher.as_str(), answers[0], answers[1], "distill.on_policy=true"], None, ""),
        ("finetune classify", "classes.tsv", vec![], None, "score.weight"),
        ("finetune classify", "classes.tsv", vec!["adapter.base=nf4"], None, "score.weight"),
    ] {
        let (out, file) = (data.path("run"), data.path(file));
        works(&command(what, &base, &file, &out, &sets));
        let have = losses(&out);
        assert!(have.len() == 3 && have.iter().all(|l| l.is_finite()), "{what} {sets:?}: {have:?}");
        assert!(first.is_none_or(|first| (have[0] - first).abs() < 1e-5 * (1.0 + first)), "{what} {sets:?}: {have:?}");
        let (own, heads): (Vec<String>, Vec<String>) = kept(&out).into_iter().partition(|name| name.contains(".lora_"));
        assert_eq!(own.len(), if sets.contains(&"adapter.dora=true") { 24 } else { 16 }, "{what}: {own:?}");
        assert!(heads.iter().all(|name| !head.is_empty() && name.starts_with(head)) && heads.is_empty() == head.is_empty(), "{what}: {heads:?}");
        assert!(!Path::new(&out).join("start").exists(), "{what}: the start is the model without what is beside it");
        let again: Vec<&str> = what.split(' ').chain(["--resume", "--out", &out, "--data", &file, "--set", "train.steps=4"]).collect();
        works(&again);
        assert_eq!(losses(&out).len(), 4, "{what} {sets:?}");
        assert!(weights() == before, "{what}: the model stays");
        std::fs::remove_dir_all(&out).unwrap();
    }
}

/// What says classes is trained whole with any model, whatever heads that had; it is merged, exported, and begins another training.
#[test]
fn heads_are_kept_with_what_is_beside() {
    let data = Data::new("asked-heads");
    let texts = data.d.write("texts.txt", "see home now a\nsee win now b\n");
    let parts = "adapter.targets=[\"query\", \"dense\"]";
    for (i, (model, small, head, more)) in [
        ("gpt2", GPT, "score", vec![]),
        ("llama", LLAMA, "score", vec![]),
        ("bert", BERT, "classifier", vec![]),
        // of which the model's head that guesses tokens has one, too
        ("bert", BERT, "classifier", vec![parts]),
    ]
    .into_iter()
    .enumerate()
    {
        let (base, run) = (data.base(model, small, &format!("base{i}")), data.path(&format!("run{i}")));
        let classes = data.path("classes.tsv");
        let out = works(&command("finetune classify", &base, &classes, &run, &[&["train.steps=60"], &more[..]].concat()));
        assert!(out.contains("this model"), "{out}");
        let own = |name: &String| name.contains(".lora_") && !name.contains("embeddings") && !name.starts_with("cls.");
        assert!(kept(&run).iter().all(|name| own(name) || name.starts_with(head)), "{:?}", kept(&run));
        let said = works(&["predict", &run, &texts]);
        let labels: Vec<&str> = said.lines().map(|l| l.split('\t').next().unwrap()).collect();
        // so few steps are enough for what reads a word after the other
        assert!(labels.len() == 2 && (model == "bert" || labels == ["ham", "spam"]), "{model}: {said}");
        let [merged, exported, adapter, on] = ["merged", "hf", "peft", "on"].map(|n| data.path(&format!("{n}{i}")));
        works(&["merge", &run, "--out", &merged]);
        assert_eq!(works(&["predict", &merged, &texts]), said, "{model}");
        // transformers' classifiers of BERT have a pooler
        if model != "bert" {
            works(&["export", &merged, &exported]);
            assert_eq!(works(&["predict", &exported, &texts]), said, "{model}");
        }
        works(&["export", &run, &adapter, "--adapter"]);
        let config = std::fs::read_to_string(Path::new(&adapter).join("adapter_config.json")).unwrap();
        assert!(config.contains(&format!("\"modules_to_save\": [\n    \"{head}\"\n  ]")) && config.contains("SEQ_CLS"), "{config}");
        let file = Tensors::open(&Path::new(&adapter).join("adapter_model.safetensors")).unwrap();
        assert!(file.contains(&format!("base_model.model.{head}.weight")));
        let again = command("finetune classify", &base, &classes, &on, &["train.steps=1", "train.lr=1e-9"]);
        works(&[&again[..], &["--adapter", &run]].concat());
        assert_eq!(works(&["predict", &on, &texts]), said, "{model}");
    }
}

/// What a checkpoint has not is begun from the seed where it is trained, and refused where it would stay.
#[test]
fn what_is_missing_does_not_stay() {
    let data = Data::new("asked-missing");
    let (base, classes) = (data.base("bert", &format!("{BERT} pooler=true"), "base"), data.path("classes.tsv"));
    let [run, none] = ["run", "none"].map(|n| data.path(n));
    let args = command("finetune classify", &base, &classes, &none, &[]);
    fails(&args, &["there is no bert.pooler.dense.bias", "--set pooler=false"]);
    works(&[&args[..], &["--set", "pooler=false"]].concat());
    let args = command("finetune classify", &base, &classes, &run, &["adapter.kind=none"]);
    works(&args);
    assert!(kept(&run).contains(&"bert.pooler.dense.weight".to_string()));
}

/// A reward that was learned beside a model rewards, as it is and merged; a vocabulary that grows is refused.
#[test]
fn rewards_beside_a_model_reward() {
    let data = Data::new("asked-reward");
    let (pairs, sums) = (data.path("pairs.jsonl"), data.path("sums.tsv"));
    for (model, small) in [("gpt2", GPT), ("llama", LLAMA)] {
        let (base, reward, merged) = (data.base(model, small, model), data.path(&format!("{model}-reward")), data.path(&format!("{model}-whole")));
        let out = works(&command("reward", &base, &pairs, &reward, &[]));
        assert!(out.contains("policy.reward_model="), "{out}");
        works(&["merge", &reward, "--out", &merged]);
        let directory = hub::Directory::open(Path::new(&merged), &Models::default()).unwrap();
        assert!(directory.tensors().unwrap().contains("score.weight"));
        let rewards: Vec<String> = [&reward, &merged]
            .into_iter()
            .map(|judge| {
                let (out, judge) = (data.path("judged"), format!("policy.reward_model={judge}"));
                let sets = ["data.documents=pairs", "policy.tokens=4", "policy.group=4", "policy.reward=model", &judge, "train.steps=1"];
                works(&command("grpo", &base, &sums, &out, &sets));
                let kept = std::fs::read_to_string(Path::new(&out).join("rollouts.jsonl")).unwrap();
                std::fs::remove_dir_all(&out).unwrap();
                let first: serde_json::Value = serde_json::from_str(kept.lines().next().unwrap()).unwrap();
                format!("{:.4}", first["reward"].as_f64().unwrap())
            })
            .collect();
        assert_eq!(rewards[0], rewards[1], "{model}");
    }
    // of more tokens than the model has there are no rows to stand beside
    let bpe = GPT.replace("char", "bpe data.vocabulary=300");
    let (base, more) = (data.base("gpt2", &bpe, "bpe"), data.path("more.json"));
    works(&["tokenizer", "extend", &base, "--special", "<|im_end|>", "--out", &more]);
    let none = data.path("none");
    let args = command("finetune lora", &base, &pairs, &none, &[]);
    fails(&[&args[..], &["--tokenizer", &more]].concat(), &["an adapter stands beside the rows there are", "--tokenizer"]);
}
