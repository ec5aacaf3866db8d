//! What is kept and shown of a run: checkpoints beside the last one, the report, runs compared, nanoGPT's flags.

use crate::cli::{Directory, SMALL, eggcorn, fails, text, works};
use crate::files::names;
use llm::record::History;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn train(data: &str, run: &str, more: &[&str]) -> String {
    works(&["train", "shakespeare-char", "--data", data, "--out", run].into_iter().chain(SMALL).chain(more.iter().copied()).collect::<Vec<_>>())
}

fn manifest(dir: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(dir.join("checkpoint.json")).unwrap()).unwrap()
}

fn weights(dir: &Path) -> Vec<u8> {
    fs::read(dir.join(manifest(dir)["tensors"].as_str().unwrap())).unwrap()
}

/// Directories in a run's that hold checkpoints.
fn kept(run: &str) -> Vec<String> {
    names(Path::new(run)).into_iter().filter(|n| Path::new(run).join(n).is_dir() && n != "tb").collect()
}

#[test]
fn checkpoints_beside_the_last_one() {
    let d = Directory::new("kept");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    let sets = ["--set", "train.steps=40", "--set", "train.save_every=5", "--set", "train.eval_every=4", "--set", "train.eval_batches=1"];
    let keep = ["--set", "train.keep_last=2", "--set", "train.milestone_every=16", "--set", "train.lr=0.03"];
    train(&data, &run, &[&sets[..], &keep].concat());
    assert_eq!(kept(&run), ["best", "step-16", "step-32", "step-35", "step-40"]);
    // the best is the one that the metrics say, judged by the batches of the evaluations on the way
    let history = History::read(Path::new(&run)).unwrap();
    let partial: Vec<(u64, f64)> = history.rows.iter().filter(|r| r.step < 40).filter_map(|r| Some((r.step, r.held_out?))).collect();
    let least = partial.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let best = manifest(&Path::new(&run).join("best"));
    let (step, loss) = (best["step"].as_u64().unwrap(), best["loss"].as_f64().unwrap());
    assert!((step, loss) == least || step == 40 && loss < least.1, "{best} and {partial:?}");
    // each is what the run had at its step: one that stops there has the same bytes
    for (name, steps) in [("step-16", "16"), ("step-35", "35")] {
        let short = d.path(name);
        let stop = format!("train.steps={steps}");
        // the rates of a run of 40 steps, and its end
        let all = [&sets[..], &keep, &["--set", &stop, "--set", "train.schedule=constant", "--set", "train.warmup=0"]].concat();
        let long = d.path(&format!("long-{name}"));
        train(&data, &short, &all);
        train(&data, &long, &[&sets[..], &keep, &["--set", "train.schedule=constant", "--set", "train.warmup=0"]].concat());
        assert!(weights(Path::new(&short)) == weights(&Path::new(&long).join(name)), "{name}");
    }
    // each takes the place of a run
    for name in ["best", "step-16", "step-40"] {
        let dir = Path::new(&run).join(name).display().to_string();
        assert!(works(&["generate", &dir, "--prompt", "the ", "--max-tokens", "5"]).starts_with("the "));
        works(&["export", &dir, &d.path(&format!("export-{name}"))]);
    }
    let resumed = Path::new(&run).join("step-16").display().to_string();
    let on = works(&["train", "--resume", "--out", &resumed, "--data", &data, "--json"]);
    assert!(on.contains("\"from_step\":16"), "{on}");
    assert!(weights(Path::new(&resumed)) == weights(Path::new(&run)), "the same end");
    // a training that went on in one has it for itself
    works(&["train", "--resume", "--out", &run, "--data", &data, "--set", "train.steps=60", "--set", "train.milestone_every=0"]);
    assert_eq!(kept(&run), ["best", "step-16", "step-55", "step-60"]);
    fails(&["train", "--data", &data, "--out", &d.path("x"), "--set", "train.keep_last=0"], &["train.keep_last is 0", "at least 1"]);
    fails(&["train", "--data", &data, "--out", &d.path("x"), "--set", "train.save_minutes=-1"], &["train.save_minutes is -1", "at least 0"]);
}

/// A checkpoint that is kept has the run's own file for its tensors where the system has links.
#[test]
#[cfg(unix)]
fn a_kept_checkpoint_costs_no_second_copy() {
    use std::os::unix::fs::MetadataExt;
    let d = Directory::new("linked");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    train(&data, &run, &["--set", "train.milestone_every=6"]);
    let inode = |dir: &Path| fs::metadata(dir.join("checkpoint-6.safetensors")).unwrap().ino();
    assert_eq!(inode(Path::new(&run)), inode(&Path::new(&run).join("step-6")));
    assert_eq!(inode(Path::new(&run)), inode(&Path::new(&run).join("best")));
}

#[test]
fn texts_on_the_way() {
    let d = Directory::new("samples");
    let data = d.write("text.txt", text());
    let sets = ["--set", "train.sample_every=2", "--set", "train.sample_prompt=the fox", "--set", "train.sample_tokens=9"];
    let run = d.path("run");
    train(&data, &run, &sets);
    let history = History::read(Path::new(&run)).unwrap();
    assert_eq!(history.samples.iter().map(|s| s.0).collect::<Vec<_>>(), [2, 4, 6]);
    assert!(history.samples.iter().all(|s| s.1.starts_with("the fox") && s.1.chars().count() == 16), "{:?}", history.samples);
    let shown = fs::read_to_string(Path::new(&run).join("samples.txt")).unwrap();
    assert!(shown.starts_with("--- step 2\nthe fox"), "{shown}");
    // what is written changes nothing of what is learned
    let without = d.path("without");
    train(&data, &without, &[]);
    assert!(weights(Path::new(&run)) == weights(Path::new(&without)));
    fails(
        &["train", "--data", &data, "--out", &d.path("x"), "--set", "train.sample_every=1", "--set", "train.sample_prompt=Ω"],
        &["train.sample_prompt", "Ω"],
    );
}

/// The page: whole, and of nothing else than itself.
fn page(path: &Path) -> String {
    let html = fs::read_to_string(path).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
    for outside in ["http://", "https://", "<script", "<link", "url(h", "@import", "<img", "<iframe"] {
        assert!(!html.contains(outside), "{outside}");
    }
    for tag in ["svg", "section", "figure", "table", "dl", "main", "pre"] {
        let (open, close) = (html.matches(&format!("<{tag}")).count(), html.matches(&format!("</{tag}>")).count());
        assert_eq!(open, close, "{tag}");
    }
    assert!(!html.contains("NaN") && !html.contains("inf\""), "figures are numbers");
    html
}

#[test]
fn a_report_at_any_time() {
    let d = Directory::new("report");
    let (data, run) = (d.write("text.txt", text()), d.path("<run & co>"));
    let sets = ["--set", "train.eval_every=2", "--set", "train.sample_every=3", "--set", "train.eval_batches=1"];
    train(&data, &run, &sets);
    let file = Path::new(&run).join("report.html");
    let html = page(&file);
    let sections = ["Loss", "Course", "What it writes", "The fused block", "Settings", "loss against tokens", "layer_norm", "attention", "finished"];
    sections.iter().for_each(|s| assert!(html.contains(s), "{s}"));
    assert!(html.contains("&lt;run &amp; co&gt;") && !html.contains("<run"), "names are escaped");
    assert!(html.contains("attn.c_attn.weight") && html.contains("</tspan> residual"), "the block's parts have their names");
    // by hand it is the same, but for the batch that the block's sizes are of
    fs::remove_file(&file).unwrap();
    assert_eq!(works(&["report", &run]).trim(), file.display().to_string());
    assert_eq!(page(&file), html);
    // of a run that is being written, cut anywhere; and of one that has not begun
    let metrics = Path::new(&run).join("metrics.jsonl");
    let text = fs::read(&metrics).unwrap();
    for part in 0..=12 {
        fs::write(&metrics, &text[..text.len() * part / 12]).unwrap();
        let out = d.path(&format!("part-{part}.html"));
        works(&["report", &run, "--out", &out]);
        let html = page(Path::new(&out));
        let begun = !History::read(Path::new(&run)).unwrap().rows.is_empty();
        let state = if !begun {
            "nothing is trained yet"
        } else if part < 12 {
            "under way"
        } else {
            "finished"
        };
        assert!(html.contains(state), "{part}: {state}");
    }
    // damaged in the middle, and a text that would be a page of its own
    let hostile = String::from_utf8(text).unwrap().replacen('\n', "\n{\"event\":\"step\",\"st\n", 1)
        + "{\"event\":\"sampled\",\"step\":6,\"text\":\"</pre><script>alert(1)</script>\"}\n{\"event\":\"notice\",\"text\":\"<b>\\u0000\"}\n";
    fs::write(&metrics, hostile).unwrap();
    works(&["report", &run]);
    let html = page(&file);
    assert!(html.contains("&lt;script&gt;") && html.contains("1 lines of the metrics are damaged"), "{html}");
    fails(&["report", &d.path("nowhere")], &["nowhere", "metrics"]);
    fs::remove_file(Path::new(&run).join("config.toml")).unwrap();
    fails(&["report", &run], &["config.toml"]);
}

#[test]
fn runs_beside_each_other() {
    let d = Directory::new("runs");
    let data = d.write("text.txt", text());
    let all = d.path("all");
    for (name, lr) in [("slow", "1e-4"), ("fast", "1e-2")] {
        train(&data, &Path::new(&all).join(name).display().to_string(), &["--set", "train.eval_every=2", "--set", &format!("train.lr={lr}")]);
    }
    let table = works(&["runs", &all]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("run ") && lines[0].contains("held-out") && lines[0].contains("tok/s"), "{table}");
    assert!(lines[1].starts_with("fast") && lines[2].starts_with("slow") && lines.len() == 3 && lines[1].contains("gpt2"), "{table}");
    let json: Vec<Value> = works(&["runs", &all, "--json"]).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(json[0]["best_held_out"].as_f64() < json[1]["best_held_out"].as_f64(), "{json:?}");
    for run in &json {
        assert_eq!((run["steps"].as_u64(), run["tokens"].as_u64(), run["finished"].as_bool()), (Some(6), Some(96), Some(true)));
    }
    let picture = d.path("losses.svg");
    works(&["runs", &all, "--plot", &picture]);
    let svg = fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("xmlns=") && svg.contains(">■ fast<") && svg.matches("class=\"line").count() == 2, "{svg}");
    // one that is being written, and one whose model nobody knows
    let slow = Path::new(&all).join("slow");
    let metrics = fs::read_to_string(slow.join("metrics.jsonl")).unwrap();
    fs::write(slow.join("metrics.jsonl"), &metrics[..metrics.len() / 2]).unwrap();
    fs::write(slow.join("config.toml"), "[model]\narch = \"mine\"\n").unwrap();
    let table = works(&["runs", &all]);
    assert!(table.lines().nth(2).is_some_and(|l| l.contains('?') && l.contains('…')), "{table}");
    fails(&["runs", &d.path("none")], &["none", "no runs"]);
    fs::create_dir(d.path("empty")).unwrap();
    fails(&["runs", &d.path("empty")], &["no runs in this folder", "metrics.jsonl"]);
}

#[test]
fn flags_of_nanogpt() {
    let d = Directory::new("nanogpt");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    let flags = [
        "--batch_size=2",
        "--block_size=8",
        "--max_iters",
        "6",
        "--learning_rate=5e-4",
        "--n_layer=1",
        "--n_head=2",
        "--n_embd=16",
        "--dropout=0.1",
        "--weight_decay=0.2",
        "--beta1=0.8",
        "--beta2=0.95",
        "--grad_clip=0.5",
        "--warmup_iters=3",
        "--min_lr=1e-5",
        "--decay_lr=True",
        "--eval_interval=4",
        "--eval_iters=2",
        "--gradient_accumulation_steps=2",
        "--seed=7",
        "--init_from=scratch",
        "--dtype=float32",
        "--bias=False",
        "--device=cpu",
        "--eval_only=False",
    ];
    let out = format!("--out_dir={run}");
    works(&[&["train", "shakespeare-char", "--data", &data, &out], &flags[..]].concat());
    let config = fs::read_to_string(Path::new(&run).join("config.toml")).unwrap();
    let want = [
        "n_positions = 8",
        "n_layer = 1",
        "n_head = 2",
        "n_embd = 16",
        "dropout = 0.1",
        "bias = false",
        "steps = 6",
        "batch = 2",
        "context = 8",
        "accumulate = 2",
        "lr = 0.0005",
        "min_lr = 0.00001",
        "warmup = 3.0",
        "grad_clip = 0.5",
        "seed = 7",
        "eval_every = 4",
        "eval_batches = 2",
        "beta1 = 0.8",
        "beta2 = 0.95",
        "weight_decay = 0.2",
        "schedule = \"cosine\"",
        "precision = \"f32\"",
    ];
    want.iter().for_each(|line| assert!(config.lines().any(|l| l == *line), "{line} is not in\n{config}"));
    let on = works(&["train", "--init_from=resume", &out, "--data", &data, "--max_iters=8", "--json"]);
    assert!(on.contains("\"from_step\":6") && on.contains("\"step\":8"), "{on}");
    // what means nothing here says so, and the training goes on
    let said = eggcorn(&["train", "--init_from=resume", &out, "--data", &data, "--max_iters=8", "--wandb_log=True", "--log_interval=10"]);
    let error = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && error.contains("--wandb_log has no meaning here") && error.contains("--log_interval has no meaning"), "{error}");
    // a llama's settings have other names
    let other = d.path("llama");
    let small = ["--n_layer=1", "--n_embd=16", "--n_head=2", "--block_size=8", "--max_iters=2", "--batch_size=2", "--set", "num_key_value_heads=2"];
    works(&[&["train", "llama", "--data", &data, "--out", &other], &small[..], &["--set", "intermediate_size=16"]].concat());
    for (flag, words) in [
        ("--init_from=gpt2-xl", &["--init_from=gpt2-xl", "downloaded"][..]),
        ("--dataset=shakespeare", &["--dataset=shakespeare", "--data"]),
        ("--eval_only=True", &["eggcorn eval"]),
        ("--dtype=float16", &["float32 or bfloat16"]),
        ("--batch_size=many", &["--batch_size=many", "train.batch", "whole number"]),
        ("--decay_lr=maybe", &["True or False"]),
        ("config/train_gpt2.py", &["Python", "--config"]),
        ("--max_iters", &["--max_iters has no value"]),
    ] {
        fails(&["train", "--data", &data, "--out", &d.path("x"), flag], words);
    }
    // and to other commands they are what they were
    assert_eq!(eggcorn(&["generate", &run, "--batch_size=2"]).status.code(), Some(2));
}
