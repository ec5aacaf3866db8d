//! What adding something touches, counted in what is there: the files that name one thing of its kind.

use std::path::{Path, PathBuf};

/// Every source file below some folders.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut open, mut files): (Vec<PathBuf>, Vec<PathBuf>) = (folders.iter().map(|f| root.join(f)).collect(), vec![]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                files.push(entry);
            }
        }
    }
    files.sort();
    files
}

const CRATES: [&str; 7] = ["ir", "models", "passes", "codegen", "runtime", "llm", "cli"];

/// Whether a text's code has a word: comments and examples of commands do not count.
fn names(text: &str, word: &str) -> bool {
    let code = |l: &&str| !l.trim_start().starts_with("//") && !l.contains("eggcorn ");
    let whole = |l: &str| l.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '"').any(|w| w == word);
    text.lines().filter(code).any(whole)
}

/// The files that name any of some words.
fn named(words: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let has = |f: &PathBuf| std::fs::read_to_string(f).is_ok_and(|text| words.iter().any(|w| names(&text, w)));
    sources(&CRATES).into_iter().filter(has).map(|f| f.strip_prefix(root).unwrap().display().to_string()).collect()
}

#[test]
fn a_model_touches_two_files() {
    // tokenizers split words as GPT-2's did and conversations are written as some models do, whatever the model; files of llm.c and of llama2.c, and nanoGPT's flags, are of one model each
    let others = ["llm/hub/flat.rs", "cli/nanogpt.rs"];
    let elsewhere =
        |f: &String| f.starts_with("llm/text/") || f.starts_with("llm/chat/") || f.starts_with("cli/tokenizer/") || others.contains(&f.as_str());
    let files = |words: &[&str]| named(words).into_iter().filter(|f| !elsewhere(f)).collect::<Vec<_>>();
    assert_eq!(files(&["Gpt", "\"gpt\"", "\"gpt2\""]), ["models/gpt.rs", "models/lib.rs"]);
    assert_eq!(files(&["Llama", "\"llama\""]), ["models/lib.rs", "models/llama.rs"]);
    assert_eq!(files(&["Gemma", "\"gemma\""]), ["models/gemma.rs", "models/lib.rs"]);
    assert_eq!(files(&["Bert", "\"bert\""]), ["models/bert.rs", "models/lib.rs"]);
    assert_eq!(files(&["T5", "\"t5\""]), ["models/lib.rs", "models/t5.rs"]);
}

/// The number that ARCHITECTURE.md states.
#[test]
fn an_elementwise_op_touches_six_files() {
    let arms = ["codegen/gpu/print.rs", "codegen/llvm/math.rs", "ir/builder.rs", "ir/eval.rs", "ir/op.rs", "passes/grad.rs"];
    assert_eq!(named(&["Cos"]), arms);
}

#[test]
fn an_optimizer_touches_three_files() {
    assert_eq!(named(&["Sgd"]), ["llm/config/optimizer.rs", "passes/optimizer/mod.rs", "passes/optimizer/sgd.rs"]);
}

/// A recipe is one file: the list is made of the folder.
#[test]
fn a_recipe_is_one_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::fs::read_dir(root.join("llm/config/recipes")).unwrap();
    let mut files: Vec<String> = folder.map(|f| f.unwrap().path().file_stem().unwrap().to_str().unwrap().into()).collect();
    files.sort();
    assert_eq!(files, llm::RECIPES.iter().map(|r| r.name).collect::<Vec<_>>());
    // one is what `train` takes unless told otherwise, for it needs no text; others are called by their task, or by their kind of preference
    for name in files.iter().filter(|n| !["self", "sort", "dpo"].contains(&n.as_str())) {
        assert_eq!(named(&[&format!("\"{name}\"")]), [""; 0], "{name} is named in its file alone");
    }
}
