//! `eggcorn run`: where its results go.

use crate::cli::{Directory, fails, works};
use serde_json::Value;
use std::fs;

const MODEL: [&str; 10] = ["--set", "n_layer=1", "--set", "n_embd=4", "--set", "n_head=1", "--set", "vocab_size=7", "--set", "n_positions=4"];

/// Name, shape and bytes.
type Tensor = (String, Vec<usize>, Vec<u8>);

fn tensors(d: &Directory, name: &str, tensors: &[Tensor], dtype: &str) -> String {
    let (mut header, mut data) = (serde_json::Map::new(), vec![]);
    for (name, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string();
    d.write(name, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat())
}

/// The parameters of the model, by name, shape and bytes.
fn parameters() -> Vec<Tensor> {
    let shapes: [(&str, &[usize]); 16] = [
        ("wte.weight", &[7, 4]),
        ("wpe.weight", &[4, 4]),
        ("h.0.ln_1.weight", &[4]),
        ("h.0.ln_1.bias", &[4]),
        ("h.0.attn.c_attn.weight", &[4, 12]),
        ("h.0.attn.c_attn.bias", &[12]),
        ("h.0.attn.c_proj.weight", &[4, 4]),
        ("h.0.attn.c_proj.bias", &[4]),
        ("h.0.ln_2.weight", &[4]),
        ("h.0.ln_2.bias", &[4]),
        ("h.0.mlp.c_fc.weight", &[4, 16]),
        ("h.0.mlp.c_fc.bias", &[16]),
        ("h.0.mlp.c_proj.weight", &[16, 4]),
        ("h.0.mlp.c_proj.bias", &[4]),
        ("ln_f.weight", &[4]),
        ("ln_f.bias", &[4]),
    ];
    let each = |(name, shape): &(&str, &[usize])| {
        let bytes = (0..shape.iter().product::<usize>()).flat_map(|i| (i as f32 * 0.1).to_le_bytes()).collect();
        (format!("transformer.{name}"), shape.to_vec(), bytes)
    };
    shapes.iter().map(each).collect()
}

fn input(d: &Directory) -> String {
    let column = |name: &str| (name.to_string(), vec![1, 3], [1i64, 2, 3].iter().flat_map(|i| i.to_le_bytes()).collect());
    tensors(d, "in.safetensors", &["input_ids", "labels"].map(column), "I64")
}

/// Results of `run` go to what `--out` names, or nowhere.
#[test]
#[cfg(unix)]
fn results_of_run_go_to_what_is_named() {
    let d = Directory::new("out");
    let (weights, input) = (tensors(&d, "w.safetensors", &parameters(), "F32"), input(&d));
    let call = |out: &str, words: Option<&[&str]>| {
        let args: Vec<&str> = ["run", "gpt2", "--weights", &weights, "--input", &input, "--out", out].into_iter().chain(MODEL).collect();
        match words {
            None => drop(works(&args)),
            Some(words) => fails(&args, words),
        }
    };
    let plain = d.path("plain.safetensors");
    call(&plain, None);
    let content = fs::read(&plain).unwrap();
    d.write("target", "old");
    d.write("link.tmp", "mine");
    std::os::unix::fs::symlink("target", d.0.join("link.safetensors")).unwrap();
    call(&d.path("link.safetensors"), None);
    assert!(fs::read(d.0.join("target")).unwrap() == content && fs::read(d.0.join("link.tmp")).unwrap() == b"mine");
    call("/dev/null", Some(&["/dev/null", "it is a device"]));
    call("/dev/stdout", Some(&["/dev/stdout"]));
    call(&d.path(""), Some(&["it is a directory"]));
}
