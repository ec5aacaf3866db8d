//! Text that a command is given: as an argument, in files, or on standard input.

use eggcorn::llm::corpus::{Part, parts};
use eggcorn::llm::text::{Blocks, Splitter};
use eggcorn::llm::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const BLOCK: usize = 8 << 20;

/// Tells the text of a file in blocks that no word crosses; of a folder of parts, its documents, many at a time. `-` is standard input.
pub fn each_block(path: &Path, splitter: Splitter, each: &mut dyn FnMut(&[&str]) -> Result<()>) -> Result<()> {
    if path.is_dir() {
        return parts(path)?.iter().try_for_each(|part| documents(part, each));
    }
    for block in Blocks::new(open(path)?, path, splitter, BLOCK) {
        each(&[&block?])?;
    }
    Ok(())
}

fn documents(part: &Part, each: &mut dyn FnMut(&[&str]) -> Result<()>) -> Result<()> {
    let (mut texts, mut bytes) = (vec![], 0);
    let mut hand_on = |texts: &mut Vec<String>| {
        let done = each(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        texts.clear();
        done
    };
    for document in part.read()? {
        let text = document?.text;
        bytes += text.len();
        texts.push(text);
        if bytes >= BLOCK {
            bytes = 0;
            hand_on(&mut texts)?;
        }
    }
    hand_on(&mut texts)
}

/// A file, or standard input.
pub fn open(path: &Path) -> Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let fail = |e: std::io::Error| Error(format!("{}: the text cannot be read: {e}", path.display()));
    Ok(Box::new(File::open(path).map_err(fail)?))
}

/// Bytes of files, for a bar; 0 where one of them is no file.
pub fn size(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|p| std::fs::metadata(p).ok().filter(|m| m.is_file()).map(|m| m.len())).try_fold(0, |sum, n| Some(sum + n?)).unwrap_or(0)
}

/// A text that is given as it is, or by the name of a file, or on standard input where neither is.
pub fn whole(text: Option<&String>, file: Option<&PathBuf>) -> Result<String> {
    if let Some(text) = text {
        return Ok(text.clone());
    }
    let path = file.cloned().unwrap_or_else(|| "-".into());
    let mut all = String::new();
    // the splitting does not matter: the blocks are put together again
    each_block(&path, Splitter::Bytes(eggcorn::llm::text::Split::Gpt2), &mut |texts| {
        texts.iter().for_each(|t| all.push_str(t));
        Ok(())
    })?;
    Ok(all)
}
