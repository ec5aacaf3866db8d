//! The guide: its commands run, one chapter after another in one folder; what they print is what it says; its lines of source are there.
//!
//! `…` in a line that a chapter shows stands for any text, and alone in a line for any lines. With `GUIDE=write` in the environment what a
//! chapter shows otherwise is written into it.

use crate::common::Directory;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fenced block: what stands behind the fence, and its lines.
struct Block {
    info: String,
    lines: Vec<String>,
    /// The line of the chapter where it begins, counted from 0, and where it ends.
    place: (usize, usize),
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = vec![];
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if open => {
                found.last_mut().unwrap().place.1 = i;
                open = false;
            }
            Some(info) => {
                found.push(Block { info: info.into(), lines: vec![], place: (i + 1, i + 1) });
                open = true;
            }
            None if open => found.last_mut().unwrap().lines.push(line.into()),
            None => {}
        }
    }
    found
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn chapters() -> Vec<PathBuf> {
    let all = std::fs::read_dir(root().join("docs/guide")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<PathBuf> = all.filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    // by number: the tenth comes after the ninth
    let number = |p: &PathBuf| p.file_name().and_then(|n| n.to_string_lossy().split('-').next().and_then(|n| n.parse().ok())).unwrap_or(u32::MAX);
    all.sort_by_key(|p| (number(p), p.clone()));
    all
}

/// Whether a text is as it is shown.
fn is_like(line: &str, shown: &str) -> bool {
    match shown.split_once('…') {
        None => line.trim_end() == shown.trim_end(),
        Some((start, rest)) => {
            line.strip_prefix(start).is_some_and(|l| l.char_indices().map(|(i, _)| i).chain([l.len()]).any(|i| is_like(&l[i..], rest)))
        }
    }
}

fn are_like(lines: &[&str], shown: &[String]) -> bool {
    match shown.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "…" => (0..=lines.len()).any(|i| are_like(&lines[i..], rest)),
        Some((first, rest)) => lines.split_first().is_some_and(|(l, others)| is_like(l, first) && are_like(others, rest)),
    }
}

fn run(command: &str, folder: &Path) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_eggcorn")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let out = Command::new("sh").args(["-c", command]).current_dir(folder).env("PATH", path).env("COLUMNS", "160").output().unwrap();
    assert!(out.status.success(), "{command}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
#[cfg_attr(not(feature = "llvm"), ignore = "chapters train models")]
fn every_command_prints_what_the_guide_says() {
    let write = std::env::var("GUIDE").is_ok_and(|v| v == "write");
    let d = Directory::new("guide");
    d.write("LICENSE-APACHE", std::fs::read(root().join("LICENSE-APACHE")).unwrap());
    for file in ["colours.jsonl", "messages.tsv", "pairs.jsonl"] {
        d.write(file, std::fs::read(root().join("docs/guide").join(file)).unwrap());
    }
    let mut ran = 0;
    for chapter in chapters() {
        let name = chapter.file_name().unwrap().to_string_lossy().into_owned();
        let mut text = std::fs::read_to_string(&chapter).unwrap();
        // from the last to the first when it is written, so that places stay; run in order all the same
        let mut new = vec![];
        let mut printed = String::new();
        for block in blocks(&text) {
            if block.info == "sh" {
                for line in block.lines.iter().map(|l| l.split(" # ").next().unwrap().trim()).filter(|l| !l.is_empty()) {
                    assert!(["eggcorn ", "grep "].iter().any(|own| line.starts_with(own)), "{name}: {line}");
                    printed = run(line, &d.0);
                    ran += 1;
                }
            } else if block.info == "text sample" {
                // what a model writes depends on the last bits of a processor's arithmetic
                assert!(!printed.trim().is_empty() && !block.lines.is_empty(), "{name}:{}", block.place.0);
            } else if block.info == "text" {
                let lines: Vec<&str> = printed.trim_end().lines().collect();
                if !are_like(&lines, &block.lines) {
                    assert!(write, "{name}:{}: the program prints\n{printed}", block.place.0);
                    new.push((block.place, lines.join("\n")));
                }
            }
        }
        if write {
            let mut lines: Vec<String> = text.lines().map(String::from).collect();
            for ((from, to), printed) in new.into_iter().rev() {
                lines.splice(from..to, printed.lines().map(|l| l.trim_end().to_string()));
            }
            text = lines.join("\n") + "\n";
            std::fs::write(&chapter, text).unwrap();
        }
    }
    assert!(ran >= 20, "{ran} commands were run");
    let pictures = std::fs::read_dir(root().join("docs/guide")).unwrap().map(|e| e.unwrap().path());
    for picture in pictures.filter(|p| p.extension().is_some_and(|e| e == "svg")) {
        let made = std::fs::read(d.0.join(picture.file_name().unwrap())).unwrap_or_else(|e| panic!("{}: {e}", picture.display()));
        if write {
            std::fs::write(&picture, &made).unwrap();
        }
        assert!(std::fs::read(&picture).unwrap() == made, "{} is another picture now", picture.display());
    }
}

/// Every line of source stands in its file, in this order.
#[test]
fn source_is_what_the_guide_shows() {
    let mut shown = 0;
    for chapter in chapters() {
        for block in blocks(&std::fs::read_to_string(&chapter).unwrap()) {
            let Some(file) = block.info.strip_prefix("rust ") else { continue };
            let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert!(source.contains(&block.lines.join("\n")), "{}: {file} has no\n{}", chapter.display(), block.lines.join("\n"));
            assert!(!block.lines.is_empty(), "{}: {file}", chapter.display());
            shown += 1;
        }
    }
    assert!(shown >= 8, "{shown} pieces of source are shown");
}

/// What chapters and other documents point at is there.
#[test]
fn links_lead_somewhere() {
    for chapter in chapters() {
        let text = std::fs::read_to_string(&chapter).unwrap();
        for link in text.split("](").skip(1).filter_map(|l| l.split(')').next()).filter(|l| !l.contains("://")) {
            let path = chapter.parent().unwrap().join(link.split('#').next().unwrap());
            assert!(path.exists(), "{}: {link} is not there", chapter.display());
        }
    }
}
