//! `examples/own_model.rs`: a model that this project does not know has every command.

use crate::cli::Directory;
use std::process::Command;

fn example(args: &[&str]) -> (bool, String, String) {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_eggcorn")).parent().unwrap().join("examples/own_model");
    let out = Command::new(&program).args(args).output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

#[track_caller]
fn works(args: &[&str]) -> String {
    let (success, out, error) = example(args);
    assert!(success, "{args:?}: {out}{error}");
    out
}

#[track_caller]
fn fails(args: &[&str], words: &[&str]) {
    let (success, _, error) = example(args);
    assert!(!success && !error.contains("panicked") && words.iter().all(|w| error.contains(w)), "{args:?}: {error}");
}

#[test]
fn every_command() {
    let d = Directory::new("own-model");
    let (data, run) = (d.path("text.txt"), d.path("run"));
    std::fs::write(&data, "the quick brown fox jumps over the lazy dog.\n".repeat(40)).unwrap();
    let small = ["--set", "layers=1", "--set", "width=8", "--set", "context=16"];
    // train from the model's name, then generate
    let steps = ["--set", "train.steps=4", "--set", "train.batch=2", "--set", "train.context=8"];
    let trained = works(&[&["train", "tiny", "--data", &data, "--out", &run, "--json"][..], &small, &steps].concat());
    assert!(trained.contains("\"whole\":true"), "{trained}");
    assert!(works(&["generate", &run, "--prompt", "the ", "--max-tokens", "5"]).starts_with("the "));
    let saved = std::fs::read_to_string(d.path("run/config.toml")).unwrap();
    assert!(saved.contains("arch = \"tiny\"") && saved.contains("width = 8"), "{saved}");
    // the same from a file, with its settings under [model]
    let config = d.path("my.toml");
    std::fs::write(&config, "[model]\narch = \"tiny\"\nlayers = 1\nwidth = 8\ncontext = 16\n[train]\nsteps = 4\nbatch = 2\ncontext = 8\n").unwrap();
    let again = works(&["train", "--config", &config, "--data", &data, "--out", &d.path("again"), "--json"]);
    let losses = |text: &str| -> Vec<String> { text.split("\"loss\":").skip(1).map(|l| l.split([',', '}']).next().unwrap().into()).collect() };
    assert!(losses(&trained).len() >= 5 && losses(&trained) == losses(&again));
    // every stage, and the proof of what was found
    for stage in ["built", "fused", "grad", "joint", "step"] {
        works(&[&["dump", "tiny", "--stage", stage][..], &small].concat()).parse::<ir::Graph>().unwrap_or_else(|e| panic!("{stage}: {e}"));
    }
    assert!(works(&["dump", "tiny", "--stage", "fused"]).contains("attention"));
    assert!(works(&[&["dump", "tiny", "--stage", "plan"][..], &small].concat()).contains("routine main"));
    assert!(works(&[&["dump", "tiny", "--stage", "kernels"][..], &small].concat()).contains("kernel "));
    assert!(works(&["explain", "tiny", "attention"]).contains("accepted"));
    // speed
    let quick = ["--steps", "1", "--seq", "8"];
    assert!(works(&[&["bench", "train"][..], &small, &quick].concat()).starts_with("tiny 1 × 8"), "the first model is its own");
    assert!(works(&[&["bench", "generate", "tiny", "--steps", "1"][..], &small].concat()).contains("tokens/s"));
    // on tensors from files: the weights are the run's
    let (input, out) = (d.path("in.safetensors"), d.path("out.safetensors"));
    let ids: Vec<u8> = [1i64, 2, 3, 4].iter().flat_map(|i| i.to_le_bytes()).collect();
    let header = r#"{"input_ids":{"dtype":"I64","shape":[1,4],"data_offsets":[0,32]},"labels":{"dtype":"I64","shape":[1,4],"data_offsets":[32,64]}}"#;
    std::fs::write(&input, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &ids, &ids].concat()).unwrap();
    let weights = weights(&d.0);
    let tokens = saved.lines().find(|l| l.starts_with("vocab_size")).unwrap().replace(' ', "");
    let ran = works(&[&["run", "tiny", "--weights", &weights, "--input", &input, "--out", &out, "--grad", "--set", &tokens][..], &small].concat());
    assert!(ran.starts_with("loss "), "{ran}");
    let content = std::fs::read(&out).unwrap();
    assert!(String::from_utf8_lossy(&content).contains("grad.blocks.0.q.weight"));
}

/// The tensors of a run's checkpoint that are the model's.
fn weights(dir: &std::path::Path) -> String {
    let content = std::fs::read(dir.join("run/checkpoint-4.safetensors")).unwrap();
    let length = u64::from_le_bytes(content[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&content[8..8 + length]).unwrap();
    let (mut new, mut data) = (serde_json::Map::new(), vec![]);
    for (name, tensor) in header.iter().filter(|t| !t.0.starts_with("adamw.") && !t.0.starts_with("__")) {
        let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
        let start = data.len();
        data.extend(&content[8 + length + at(0)..8 + length + at(1)]);
        new.insert(name.clone(), serde_json::json!({"dtype": "F32", "shape": tensor["shape"], "data_offsets": [start, data.len()]}));
    }
    let header = serde_json::to_string(&new).unwrap();
    let path = dir.join("weights.safetensors");
    std::fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
    path.display().to_string()
}

/// Bad input gets the errors of a model of this project.
#[test]
fn its_errors() {
    fails(&["dump", "tinny"], &["there is no model tinny; there are tiny, gpt2, llama", "; did you mean tiny?"]);
    fails(&["dump", "tiny", "--set", "widht=8"], &["there is no setting widht; did you mean model.width?"]);
    fails(&["dump", "tiny", "--set", "width=many"], &["model.width is \"many\", expected a whole number"]);
    fails(&["dump", "tiny", "--set", "width=0"], &["width is 0, expected at least 1"]);
    fails(&["dump", "tiny", "--seq", "65"], &["64 positions"]);
    assert!(works(&["dump", "--help"]).contains("tiny, gpt2, llama"));
}
