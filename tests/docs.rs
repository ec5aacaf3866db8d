//! What the documents say is so: their commands run, and their dumps are what is printed.

use std::process::Command;

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn output(args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_eggcorn")).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The lines of fenced blocks of a language.
fn fenced(text: &str, language: &str) -> Vec<Vec<String>> {
    let mut blocks: Vec<Vec<String>> = vec![];
    let mut open = false;
    for line in text.lines() {
        if open && line == "```" {
            open = false;
        } else if open {
            blocks.last_mut().unwrap().push(line.into());
        } else if line == format!("```{language}") {
            open = true;
            blocks.push(vec![]);
        }
    }
    blocks
}

/// A command, and the file that the shell writes what it prints into.
fn redirected(command: &str) -> (&str, Option<&str>) {
    command.split_once(" > ").map_or((command, None), |(c, file)| (c.trim(), Some(file.trim())))
}

#[test]
fn commands_of_the_readme_run() {
    let mut ran = 0;
    let d = crate::cli::Directory::new("readme");
    for line in fenced(&read("README.md"), "sh").concat() {
        let (command, into) = redirected(line.split('#').next().unwrap().trim());
        let Some(rest) = command.strip_prefix("eggcorn ") else {
            assert!(["./x demo", "./x test"].contains(&command), "{command} is not known to this test");
            continue;
        };
        let args: Vec<&str> = rest.split_whitespace().collect();
        // a build without a printer has none of its texts
        if (args.contains(&"wgsl") && !cfg!(feature = "wgpu")) || (args.contains(&"cuda") && !cfg!(feature = "cuda")) {
            continue;
        }
        match args[0] {
            // long, or in need of files: `tests/cli.rs` runs them small; here their flags are checked
            // files and folders of text: run together with the documents about them
            "tokenizer" | "data" => {}
            "train" | "finetune" | "predict" | "merge" | "sft" | "dpo" | "grpo" | "distill" | "chat" | "generate" | "run" | "bench" => {
                let names = if args[0] == "finetune" { 2 } else { 1 };
                let help = output(&[&args[..names], &["--help"]].concat());
                args.iter().filter(|a| a.starts_with("--")).for_each(|a| assert!(help.contains(a), "{command}: {a}"));
            }
            _ => {
                // what an earlier command wrote, a later one may read
                let args: Vec<String> = args.iter().map(|a| if a.ends_with(".ir") { d.path(a) } else { a.to_string() }).collect();
                let printed = output(&args.iter().map(String::as_str).collect::<Vec<_>>());
                if let Some(into) = into {
                    std::fs::write(d.path(into), printed).unwrap();
                }
            }
        }
        ran += 1;
    }
    assert!(ran >= 8, "the README shows what one can do");
}

/// The commands about text, in a folder that has a text and books, one after another.
#[test]
fn commands_about_text_run() {
    let d = crate::common::Directory::new("documents");
    d.write("input.txt", llm::OWN_TEXT);
    std::fs::create_dir(d.0.join("books")).unwrap();
    for (n, book) in llm::OWN_TEXT.as_bytes().chunks(1500).enumerate() {
        d.write(&format!("books/{n}.txt"), String::from_utf8_lossy(book).as_bytes());
    }
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_eggcorn")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut ran = 0;
    for document in ["docs/tokenizers.md", "docs/corpus.md", "README.md"] {
        for line in fenced(&read(document), "sh").concat() {
            let about_text = line.starts_with("eggcorn tokenizer ") || line.starts_with("eggcorn data ");
            if !about_text {
                continue;
            }
            let run = Command::new("sh").args(["-c", &line]).current_dir(&d.0).env("PATH", &path).output().unwrap();
            assert!(run.status.success(), "{document}: {line}\n{}", String::from_utf8_lossy(&run.stderr));
            ran += 1;
        }
    }
    assert!(ran >= 10, "{ran} commands were run");
}

#[test]
fn dumps_of_the_readme_are_real() {
    let dumps = fenced(&read("README.md"), "text");
    let commands = [vec!["dump", "gpt2", "--stage", "built"], vec!["dump", "gpt2", "--stage", "fused", "--seq", "1024"]];
    assert_eq!(dumps.len(), commands.len());
    for (dump, command) in dumps.iter().zip(&commands) {
        assert!(output(command).contains(&dump.join("\n")), "{command:?} prints something else now");
    }
}

#[test]
fn files_the_architecture_names_exist() {
    let text = read("ARCHITECTURE.md");
    let table = text.lines().filter(|l| l.starts_with("| `"));
    for line in table {
        let mut folder = String::new();
        for name in line.split('|').nth(1).unwrap().split('`').skip(1).step_by(2) {
            // a later name of a row stands in the folder of the first
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            let path = if root.join(name).exists() { name.to_string() } else { format!("{folder}/{name}") };
            assert!(root.join(&path).exists(), "{path}");
            if folder.is_empty() {
                folder = path.rsplit_once('/').map_or(String::new(), |p| p.0.to_string());
            }
        }
    }
}

/// Crates depend in one direction.
#[test]
fn arrows_point_one_way() {
    let allowed: [(&str, &[&str]); 6] = [
        ("ir", &[]),
        ("models", &["ir"]),
        ("passes", &["ir"]),
        ("codegen", &["ir", "passes"]),
        ("runtime", &["ir", "passes", "codegen"]),
        ("llm", &["ir", "models", "passes", "codegen", "runtime"]),
    ];
    for (name, allowed) in allowed {
        let manifest = read(&format!("{name}/Cargo.toml"));
        for other in ["ir", "models", "passes", "codegen", "runtime", "llm"] {
            let depends = manifest.lines().any(|l| l.starts_with(&format!("{other}.workspace")));
            assert!(!depends || allowed.contains(&other), "{name} depends on {other}");
        }
    }
    for entry in std::fs::read_dir(format!("{}/models", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(!text.contains("Op::Row") && !text.contains("Op::Attention"), "{} names a fused op", path.display());
        }
    }
}

/// CubeCL is named in one folder alone, so that its next release touches one.
#[test]
fn cubecl_is_named_in_one_folder() {
    let mut seen = 0;
    let mut folders: Vec<std::path::PathBuf> = ["ir", "models", "passes", "codegen", "runtime", "llm", "cli"].map(Into::into).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
            let ours = entry.ends_with("codegen/gpu") || entry.ends_with("codegen/cubecl-llvm");
            if entry.is_dir() && !ours {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&entry).unwrap();
                assert!(!text.contains("cubecl::") && !text.contains("cubecl_"), "{} names CubeCL", entry.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "{seen} files were looked at");
}

#[test]
fn the_example_runs() {
    let target = std::path::Path::new(env!("CARGO_BIN_EXE_eggcorn")).parent().unwrap().join("examples/own_loop");
    let out = Command::new(&target).output().unwrap_or_else(|e| panic!("{}: {e}", target.display()));
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let losses: Vec<f64> = text.lines().filter_map(|l| l.split("loss ").nth(1)?.parse().ok()).collect();
    assert!(losses.len() == 5 && losses[4] < losses[0], "the loss falls: {losses:?}");
    assert!(text.contains("contract[") && text.contains("fn main("), "{text}");
}
