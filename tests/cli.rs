//! The command line as a person uses it: what works, and what bad input gets.

use std::path::Path;
use std::process::{Command, Output};

pub fn eggcorn(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eggcorn")).args(args).output().expect("the program starts")
}

/// What a command printed; it must have succeeded.
#[track_caller]
pub fn works(args: &[&str]) -> String {
    let out = eggcorn(args);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

/// A command must fail with an error that has all these words, and without a panic.
#[track_caller]
pub fn fails(args: &[&str], words: &[&str]) {
    let out = eggcorn(args);
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {error}");
    assert!(error.starts_with("error: ") && !error.contains("panicked"), "{args:?}: {error}");
    for w in words {
        assert!(error.contains(w), "{args:?}: '{w}' is not in: {error}");
    }
}

pub use crate::common::Directory;

/// Settings of a model so small that a run takes a moment.
pub const SMALL: [&str; 12] =
    ["--set", "n_layer=1", "--set", "n_embd=16", "--set", "n_head=2", "--set", "train.steps=6", "--set", "train.batch=2", "--set", "train.context=8"];

pub fn text() -> String {
    "the quick brown fox jumps over the lazy dog. ".repeat(40)
}

#[test]
fn train_generate_resume() {
    let d = Directory::new("train");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    let train = |more: &[&str]| -> Vec<String> {
        ["train", "shakespeare-char", "--data", &data, "--out", &run].iter().chain(&SMALL).chain(more).map(|s| s.to_string()).collect()
    };
    let args = train(&["--json"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let events = works(&args);
    assert!(events.lines().all(|l| l.starts_with('{')) && events.contains("\"whole\":true"), "{events}");
    // a finished run is not overwritten, and not resumed as another
    fails(&args, &["there is a run already", "--resume"]);
    fails(&["train", "--resume", "--out", &run, "--data", &data, "--set", "train.lr=1.0"], &["another configuration", "lr"]);
    // but to more steps, and looked at more often
    let on = works(&["train", "--resume", "--out", &run, "--data", &data, "--json", "--set", "train.steps=8", "--set", "train.eval_every=1"]);
    assert!(on.contains("\"from_step\":6") && on.contains("\"step\":8") && !on.contains("\"step\":5"), "{on}");
    fails(&["train", "--resume", "--out", &run, "--data", &data, "--set", "train.steps=7"], &["train.steps is 7", "after step 8"]);
    let other = d.write("other.txt", text().replace("fox", "dog").repeat(2));
    fails(&["train", "--resume", "--out", &run, "--data", &other], &["another"]);
    let say = |seed: &str| works(&["generate", &run, "--prompt", "the ", "--max-tokens", "20", "--seed", seed]);
    assert!(say("1").starts_with("the ") && say("1") == say("1"), "the same seed writes the same text");
    fails(&["generate", &run, "--prompt", "Ω"], &["'Ω'", "does not occur"]);
    choices(&run, &say);
    for file in ["metrics.jsonl", "sample.txt", "config.toml", "eggcorn-tokenizer.json", "checkpoint.json", "loss.svg"] {
        assert!(Path::new(&run).join(file).exists(), "{file}");
    }
    // a foreign tokenizer, a cut checkpoint
    std::fs::write(Path::new(&run).join("eggcorn-tokenizer.json"), "{\"format\":1,\"kind\":\"byte\"}").unwrap();
    fails(&["generate", &run], &["256 tokens"]);
}

/// How tokens are chosen, in words of the command line.
fn choices(run: &str, say: &dyn Fn(&str) -> String) {
    let write = |more: &[&str]| works(&[&["generate", run, "--prompt", "the ", "--max-tokens", "20"], more].concat());
    let several = write(&["--num-samples", "3", "--seed", "1"]);
    assert_eq!(several, (1..=3).map(|seed| format!("{}---\n", say(&seed.to_string()))).collect::<String>(), "each as alone");
    let likeliest = write(&["--temperature", "0"]);
    for same in [&["--top-k", "1"][..], &["--top-p", "1e-9"], &["--min-p", "1"], &["--beams", "1"]] {
        assert_eq!(write(same), likeliest, "{same:?}");
    }
    assert_ne!(write(&["--temperature", "0", "--repetition-penalty", "1.5", "--presence-penalty", "3"]), likeliest);
    let first = likeliest["the ".len()..].chars().next().unwrap();
    assert!(!write(&["--temperature", "0", "--logit-bias", &format!("{first}=-inf")])["the ".len()..].contains(first));
    assert_eq!(write(&["--temperature", "0", "--stop", &likeliest["the ".len() + 3..likeliest.len() - 1]]), format!("{}\n", &likeliest[..7]));
    let end: String = likeliest.trim_end().chars().rev().take(1).collect();
    assert_eq!(write(&["--temperature", "0", "--stop", &format!("{end}##")]), likeliest, "what was held back is text");
    let lines = write(&["--temperature", "0", "--logprobs", "2"]);
    assert_eq!(lines.lines().filter(|l| l.contains("  of ")).count(), 20, "{lines}");
    for (more, words) in [
        (&["--top-p", "0"][..], &["--top-p is 0"][..]),
        (&["--min-p", "2"], &["--min-p is 2"]),
        (&["--logit-bias", "the=1"], &["'the' is 3 tokens"]),
        (&["--logit-bias", "e"], &["no '='"]),
        (&["--logit-bias", "e=much"], &["'much' is no number"]),
        (&["--logit-bias", "e=nan"], &["is NaN"]),
        (&["--stop", ""], &["--stop is empty"]),
        (&["--num-samples", "0"], &["at least 1"]),
        (&["--beams", "0"], &["at least 1"]),
    ] {
        fails(&[&["generate", run], more].concat(), words);
    }
}

/// Ctrl-C saves and says how to go on; going on finishes the run.
#[test]
#[cfg(unix)]
fn interrupting_saves() {
    use std::io::{BufRead, BufReader};
    let d = Directory::new("interrupt");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_eggcorn"))
        .args(["train", "shakespeare-char", "--data", &data, "--out", &run, "--json"])
        .args(SMALL)
        .args(["--set", "train.steps=100000"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first_step = lines.find(|l| l.as_ref().is_ok_and(|l| l.contains("\"step\"")));
    assert!(first_step.is_some(), "it trains");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    // what it still prints must go somewhere
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let out = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{error}");
    assert!(error.contains("is saved; go on with: eggcorn train --resume --out"), "{error}");
    assert!(rest.iter().any(|l| l.contains("\"saved\"")), "{rest:?}");
    let manifest: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(Path::new(&run).join("checkpoint.json")).unwrap()).unwrap();
    assert!(manifest["step"].as_u64().unwrap() > 0);
}

#[test]
fn bad_text() {
    let d = Directory::new("text");
    let out = d.path("run");
    let with = |data: &str, words: &[&str]| fails(&["train", "shakespeare-char", "--data", data, "--out", &out], words);
    with(&d.path("missing.txt"), &["missing.txt", "cannot be read"]);
    with(&d.write("empty.txt", ""), &["empty.txt", "empty"]);
    with(&d.write("latin.txt", b"caf\xe9 au lait"), &["latin.txt", "UTF-8", "byte 3", "0xe9"]);
    with(&d.write("short.txt", "too short"), &["context 64", "65", "train.context"]);
    with(&d.0.display().to_string(), &["cannot be read"]);
    fails(&["train", "shakespeare-char", "--out", &out], &["--data"]);
}

#[test]
fn bad_settings() {
    let d = Directory::new("settings");
    let (data, out) = (d.write("text.txt", text()), d.path("run"));
    let set = |s: &str, words: &[&str]| fails(&["train", "shakespeare-char", "--data", &data, "--out", &out, "--set", s], words);
    set("train.stpes=5", &["train.stpes", "did you mean train.steps?"]);
    set("n_layers=5", &["n_layers", "did you mean model.n_layer?"]);
    set("train.steps", &["key=value"]);
    set("train.steps=many", &["train.steps"]);
    set("train.precision=f16", &["train.precision", "bf16"]);
    set("train.precision=f8", &["precision"]);
    set("train.context=100", &["train.context", "64 positions"]);
    set("n_head=3", &["n_head", "does not divide", "128"]);
    set("n_embd=0", &["n_embd"]);
    set("n_embd=99999999999", &["n_embd"]);
    set("data.held_out=1.5", &["held_out"]);
    fails(&["train", "shakespere-char", "--data", &data, "--out", &out], &["did you mean shakespeare-char?"]);
    let config = d.write("my.toml", "[model]\narch = \"gpt\"\nn_layr = 2\n");
    fails(&["train", "--config", &config, "--data", &data, "--out", &out], &["my.toml", "n_layr", "n_layer"]);
    let broken = d.write("broken.toml", "[model\n");
    fails(&["train", "--config", &broken, "--data", &data, "--out", &out], &["broken.toml"]);
    fails(&["train", "--resume", "--out", &out, "--data", &data], &["no checkpoint"]);
    fails(&["dump", "gpt3"], &["gpt3", "did you mean gpt2?"]);
    fails(&["dump", "gpt2", "--seq", "2000"], &["1024 positions"]);
    fails(&["dump", "gpt2", "--seq", "1025"], &["--seq is 1025", "1024 positions"]);
    fails(&["dump", "gpt2", "--seq", "0"], &["--seq", "at least 1"]);
    fails(&["dump", "gpt2", "--batch", "0"], &["--batch", "at least 1"]);
    fails(&["dump", "gpt2", "--batch", "18446744073709551615"], &["--batch is 18446744073709551615", "at most 2147483647"]);
    fails(&["dump", "gpt2", "--batch", "2097153", "--seq", "1024"], &["2147484672 tokens"]);
    for threads in ["0", "1025"] {
        fails(&["bench", "train", "gpt2", "--set", "n_layer=1", "--threads", threads], &["--threads", threads, "1 to 1024"]);
    }
    // a model with fewer positions than are usual is dumped at what it has
    assert!(works(&["dump", "gpt2", "--set", "n_positions=16"]).contains("f32[1,16,768]"));
    assert!(works(&["dump", "gpt2"]).contains("f32[1,64,768]"));
    assert!(works(&["dump", "gpt2", "--batch", "3"]).contains("f32[3,64,768]"));
    let huge = ["bench", "train", "gpt2", "--batch", "4096", "--seq", "1024", "--set", "n_layer=2"];
    fails(&huge, &["MiB are available", "smaller batch"]);
    fails(&["explain", "gpt2", "atention"], &["did you mean attention?"]);
    fails(&["explain", "gpt2", "rope"], &["nothing in gpt2"]);
    fails(&["generate", &d.path("nowhere")], &["nowhere", "no model in this folder", "config.toml"]);
}

#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    // a directory where the file should go stands for a disk that refuses
    let d = Directory::new("full");
    let (data, run) = (d.write("text.txt", text()), d.path("run"));
    std::fs::create_dir_all(Path::new(&run).join("checkpoint-6.safetensors")).unwrap();
    let args: Vec<&str> = ["train", "shakespeare-char", "--data", &data, "--out", &run].into_iter().chain(SMALL).collect();
    fails(&args, &["checkpoint-6.safetensors", "cannot be written"]);
    assert!(!Path::new(&run).join("checkpoint.json").exists());
}

#[test]
fn bad_tensors() {
    let d = Directory::new("tensors");
    let (w, input, out) = (d.write("w.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7fgarbage"), d.path("in.safetensors"), d.path("out.safetensors"));
    let run = |words: &[&str]| fails(&["run", "gpt2", "--weights", &w, "--input", &input, "--out", &out, "--set", "n_layer=1"], words);
    run(&["in.safetensors", "cannot be read"]);
    std::fs::write(&input, b"").unwrap();
    run(&["in.safetensors", "not a safetensors file"]);
    let ids: Vec<u8> = [1i64, 2, 3, 99999].iter().flat_map(|i| i.to_le_bytes()).collect();
    let header = r#"{"input_ids":{"dtype":"I64","shape":[1,4],"data_offsets":[0,32]},"labels":{"dtype":"I64","shape":[1,4],"data_offsets":[32,64]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &ids, &ids].concat();
    std::fs::write(&input, file).unwrap();
    run(&["99999", "0..50257"]);
    fails(
        &["run", "gpt2", "--weights", &w, "--input", &input, "--out", &out, "--set", "n_layer=1", "--set", "vocab_size=100000"],
        &["w.safetensors", "not a safetensors file"],
    );
}

#[test]
fn dump_and_explain() {
    for stage in ["built", "fused", "grad", "joint", "step"] {
        for model in ["gpt2", "llama"] {
            let text = works(&["dump", model, "--stage", stage]);
            text.parse::<ir::Graph>().unwrap_or_else(|e| panic!("{model} {stage}: {e}"));
        }
    }
    let plan = works(&["dump", "gpt2", "--stage", "plan"]);
    assert!(plan.contains("routine main"));
    // another process, with other hash seeds and addresses
    assert_eq!(works(&["dump", "gpt2", "--stage", "plan"]), plan);
    assert_eq!(works(&["dump", "llama", "--stage", "kernels"]), works(&["dump", "llama", "--stage", "kernels"]));
    assert!(works(&["dump", "gpt2", "--stage", "kernels"]).contains("kernel attention_bwd"));
    assert!(works(&["dump", "gpt2", "--stage", "kernels", "--target", "llvm", "--set", "n_layer=2"]).contains("llvm.fma"));
    // what would run on a device, without one
    let texts = |target: &str| works(&["dump", "gpt2", "--stage", "kernels", "--target", target, "--precision", "bf16", "--set", "n_layer=2"]);
    assert!(texts("gpu").contains("tensor") || texts("gpu").contains("shared"));
    if cfg!(feature = "cuda") {
        let cuda = texts("cuda");
        assert!(cuda.contains("mma.sync") && cuda.contains("__global__") && cuda == texts("cuda"));
    }
    if cfg!(feature = "wgpu") {
        let wgsl = works(&["dump", "gpt2", "--stage", "kernels", "--target", "wgsl", "--set", "n_layer=2"]);
        assert!(wgsl.contains("@compute") && wgsl.contains("workgroupBarrier"));
        fails(&["dump", "gpt2", "--stage", "kernels", "--target", "wgsl", "--precision", "bf16"], &["no bf16", "--precision"]);
    }
    assert!(works(&["dump", "gpt2", "--format", "dot"]).starts_with("digraph"));
    serde_json::from_str::<serde_json::Value>(&works(&["dump", "gpt2", "--format", "json"])).unwrap();
    assert!(works(&["dump", "gpt2", "--opt", "off"]).contains("tanh"));
    assert!(works(&["dump", "gpt2", "--opt", "greedy"]).contains("attention"));
    for (model, op) in
        [("gpt2", "attention"), ("gpt2", "gelu"), ("llama", "rms_norm"), ("llama", "rope"), ("llama", "attention"), ("gpt2", "cross_entropy")]
    {
        let proof = works(&["explain", model, op]);
        assert!(proof.contains("accepted"), "{model} {op}: {proof}");
    }
}

#[test]
fn bench_and_doctor() {
    let line = works(&[
        "bench",
        "train",
        "gpt2",
        "--set",
        "n_layer=1",
        "--set",
        "n_embd=24",
        "--set",
        "vocab_size=100",
        "--seq",
        "16",
        "--steps",
        "2",
        "--json",
    ]);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(json["tokens_per_second"].as_f64().unwrap() > 0.0);
    let small = ["--set", "num_hidden_layers=1", "--set", "vocab_size=100"];
    let generate = |more: &[&str]| works(&[&["bench", "generate", "llama", "--steps", "2"], &small[..], more].concat());
    assert!(generate(&[]).contains("tokens/s"));
    let line: serde_json::Value = serde_json::from_str(&generate(&["--batch", "3", "--depth", "5", "--json"])).unwrap();
    // a layer's products and the head, and of keys and values as many as the third token sees; the embedding is looked up in
    let weights = 768 * (768 * 2 + 256 * 2 + 2048 * 3) + 3 * 768 + 100 * 768;
    assert_eq!(line["bytes"], 4 * (weights + 3 * 2 * 256 * (5 + 2 + 1)), "{line}");
    assert_eq!(line["batch"], 3);
    fails(&["bench", "generate", "gpt2", "--depth", "1020"], &["--depth is 1020", "1024 positions", "--depth 1017"]);
    assert!(works(&["bench", "ops", "--steps", "1"]).contains("adamw"));
    assert!(works(&["doctor"]).contains("llvm"));
    serde_json::from_str::<serde_json::Value>(&works(&["doctor", "--json"])).unwrap();
    for command in ["train", "generate", "dump", "explain", "run", "bench", "doctor"] {
        assert!(works(&[command, "--help"]).contains("Usage"), "{command}");
    }
    // what there is to choose from is listed
    for command in ["dump", "explain", "run", "bench"] {
        assert!(works(&[command, "--help"]).contains(&ir::either(&llm::Models::default().names())), "{command}");
    }
    let recipes = works(&["train", "--help"]);
    for r in llm::RECIPES {
        assert!(recipes.contains(r.name) && recipes.contains(r.about()), "{}", r.name);
    }
}

/// A program from a file is timed as it stands, and what it takes at least is counted: products by hand, each operand once.
#[test]
fn any_program_is_measured() {
    let d = Directory::new("measured");
    let product = "main(%0 x: f32[S,8], %1 i: i32[4]) {\n  @w : f32[8,4]\n  @c : f32[]\n  %2 = contract[ab,bc->ac] %0, @w : f32[S,4]\n  \
                   %3 = gather %0, %1 : f32[4,8]\n  %4 = add @c, 1.0 : f32[]\n  return y=%2, rows=%3, @c=%4\n}\n";
    let product = d.write("product.ir", product);
    let bench = |file: &str, more: &[&str]| -> serde_json::Value {
        let line = works(&[&["bench", "run", file, "--steps", "2", "--json"], more].concat());
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(json["seconds"]["min"].as_f64().unwrap() > 0.0 && json["seconds"]["steps"] == 2, "{line}");
        json
    };
    let json = bench(&product, &["--dim", "S=16"]);
    assert_eq!(json["flops"], f64::from(2 * 16 * 8 * 4));
    // the product; the rows that are gathered, and their numbers; the state read and written
    assert_eq!(json["bytes"], f64::from(4 * (16 * 8 + 8 * 4 + 16 * 4 + (4 * 8 + 4 + 4 * 8) + 2)));
    assert!(works(&["bench", "run", &product, "--dim", "S=16"]).contains("GFLOP/s"));
    fails(&["bench", "run", &product], &["product.ir", "S"]);
    fails(&["bench", "run", &product, "--dim", "S=16", "--grad"], &["--grad", "no result loss.sum"]);
    fails(&["bench", "train", &product], &["is a program", "bench run"]);
    for precision in ["f32", "bf16"] {
        let small = ["bench", "kernels", "gpt2", "--seq", "16", "--steps", "1", "--precision", precision, "--set", "n_layer=2", "--set", "n_embd=32"];
        let small = [&small[..], &["--set", "n_head=2", "--set", "vocab_size=65", "--set", "n_positions=16"]].concat();
        let table = works(&small);
        assert!(table.contains("of floor") && table.contains("near") && table.contains("transformer.h.0."), "{table}");
        let rows: Vec<serde_json::Value> = works(&[&small[..], &["--json"]].concat()).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let all = |key: &str| rows.iter().map(|r| r[key].as_f64().unwrap()).sum::<f64>();
        assert!((all("share") - 1.0).abs() < 1e-9 && all("flops") > 0.0 && all("floor_seconds") > 0.0 && all("seconds") > 0.0);
        // every layer's calls are there: two forward and two backward attentions
        let calls =
            |name: &str| rows.iter().filter(|r| r["kernel"].as_str().unwrap().starts_with(name)).map(|r| r["calls"].as_u64().unwrap()).sum::<u64>();
        assert_eq!(calls("attention"), 4);
    }
    fails(&["bench", "train", "gpt2", "--grad"], &["--grad", "bench run"]);
    fails(&["bench", "generate", "gpt2", "--dim", "S=3"], &["--dim S=3"]);
    // a model as it is written, with its gradients; a step of training as it was dumped; a model by name
    let small = ["--set", "n_layer=2", "--set", "n_embd=16", "--set", "n_head=2", "--set", "vocab_size=50"];
    let dump = |stage| d.write(&format!("{stage}.ir"), works(&[&["dump", "gpt2", "--stage", stage, "--seq", "16"], &small[..]].concat()));
    let forward = bench(&dump("built"), &["--seq", "16"]);
    let backward = bench(&dump("built"), &["--seq", "16", "--grad"]);
    let named = bench("gpt2", &[&["--seq", "16"], &small[..]].concat());
    let step = bench(&dump("step"), &[]);
    let flops = |json: &serde_json::Value| json["flops"].as_f64().unwrap();
    let (layers, attention, head) = (2 * 12 * 16 * 16 * 2 * 16, 2 * 2 * 16 * 16 * 16, 2 * 16 * 16 * 50);
    assert_eq!(flops(&forward), f64::from(layers + attention + head));
    assert_eq!(flops(&named), flops(&forward));
    // the scores once more than twice the forward's
    assert_eq!(flops(&backward), 3.0 * flops(&forward) + f64::from(attention / 2));
    assert_eq!(flops(&step), flops(&backward));
}

/// Every command that runs programs does so on a device, and a device that is not there is an error that says what to do.
#[cfg(feature = "wgpu")]
#[test]
fn commands_on_a_device() {
    if let Err(e) = runtime::Device::open("wgpu:software", 1) {
        return crate::common::required("vulkan", &e);
    }
    let dir = Directory::new("device");
    let run = dir.path("run");
    let small = ["n_layer=1", "n_embd=16", "n_head=2", "train.steps=3", "train.batch=2", "train.context=8"];
    let sets: Vec<&str> = small.iter().flat_map(|s| ["--set", s]).collect();
    let on = ["--device", "wgpu:software"];
    works(&[&["train", "self", "--out", &run][..], &on, &sets].concat());
    // saved on a device, read on the processor, and the other way round
    let there = works(&[&["generate", &run, "--max-tokens", "20", "--temperature", "0"][..], &on].concat());
    assert_eq!(there, works(&["generate", &run, "--max-tokens", "20", "--temperature", "0"]));
    let tiny: Vec<&str> = ["n_layer=1", "n_embd=16", "n_head=2", "vocab_size=50", "n_positions=16"].iter().flat_map(|s| ["--set", s]).collect();
    assert!(works(&[&["bench", "train", "gpt2", "--seq", "16", "--steps", "1"][..], &on, &tiny].concat()).contains("tokens/s"));
    assert!(works(&[&["bench", "generate", "gpt2", "--steps", "1"][..], &on, &tiny].concat()).contains("tokens/s"));
    let missing = if cfg!(feature = "cuda") { "--device cpu" } else { "--features cuda" };
    fails(&["bench", "train", "gpt2", "--device", "cuda:77"], &["cuda:77", missing]);
    fails(&["generate", &run, "--device", "tpu"], &["tpu", "wgpu:software"]);
}

/// A program that needs more memory than it may use is refused with both numbers, before anything is allocated.
#[test]
fn memory_has_a_limit() {
    let plan = |limit: &'static str| ["dump", "gpt2", "--stage", "plan", "--set", "n_layer=1", "--max-memory", limit];
    fails(&plan("1.5MiB"), &["the program needs ", "1572864", "--max-memory"]);
    works(&plan("2GiB"));
    for (limit, words) in [("2XB", "'XB' is no unit"), ("0", "at least one byte"), ("-1", "a value"), ("many", "no unit")] {
        let out = eggcorn(&plan(limit));
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && (error.contains(words) || limit == "-1") && !error.contains("panicked"), "{error}");
    }
}

/// Products are in the precision from where bodies are cut on: what they keep for the backward is; before that none is.
#[test]
fn rounding_is_a_stage() {
    let dump = |stage| works(&["dump", "gpt2", "--stage", stage, "--set", "n_layer=1", "--precision", "bf16"]);
    assert!(dump("joint").contains("cast[bf16]") && !dump("grad").contains("bf16"));
    assert!(dump("rounded").matches("cast[bf16]").count() > dump("joint").matches("cast[bf16]").count());
    let d = Directory::new("rounding");
    let text = d.write("l.ir", "main(%0 x: f32[2]) {\n  %1 = sum[-1] %0 : f32[1]\n  %2 = reshape[] %1 : f32[]\n  return loss=%2\n}\n");
    assert!(works(&["dump", &text, "--stage", "rounded"]).contains("loss="));
    fails(&["dump", &text, "--stage", "step"], &["no result loss.sum", "no step of training", "it has loss"]);
}
