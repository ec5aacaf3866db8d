//! A whole corpus: every stage in order, each in a folder of its own, and at the end the files a trainer reads.

use super::card::{Card, StageCard};
use super::part::{Part, hash, parts};
use super::split::{HELD_OUT, TRAIN};
use super::{CorpusConfig, Input, Report, Work, clean, decontaminate, dedup, encode_parts, inputs, join_shards, read, split};
use crate::data::Index;
use crate::error::{Error, Result};
use crate::files::write_file;
use crate::text::{Tokenizer, WordCounts};
use crate::weights::RunLock;
use std::path::Path;
use std::sync::Arc;

/// The settings that made a corpus, in its folder.
pub const CONFIG: &str = "corpus.toml";
/// Folders of stages stand in this one.
pub const STAGES: &str = "stages";
/// What is told of the corpus, for programs.
pub const CARD: &str = "card.json";

/// What a preparation gave.
pub struct Prepared {
    /// The token files.
    pub index: Index,
    /// What is told of it.
    pub card: Card,
}

/// Reads, cleans, deduplicates, decontaminates, splits and encodes files, and writes the corpus and its card. What is there already of
/// the same files and settings is not made again, so that a preparation goes on where it was stopped.
pub fn prepare(work: &Work, given: &[String], out: &Path, config: &CorpusConfig) -> Result<Prepared> {
    if !work.share.is_all() {
        return Err(Error("shares are taken of each stage: eggcorn data read, clean, dedup, decontaminate, split, shard, each with --share".into()));
    }
    config.check(work.memory)?;
    // one writer; what killed ones left is removed
    let _lock = RunLock::take(out)?;
    let inputs: Vec<Input> = inputs(given)?;
    write_file(&out.join(CONFIG), config.to_toml().as_bytes())?;
    let stage = |name: &str| out.join(STAGES).join(name);
    // what was made of files that are given no more
    let forget = |from: &Path, to: &Path| forget(&parts(from)?, to);
    let mut cards: Vec<StageCard> = vec![];
    let mut told = |name: &str, report: Report| cards.push(StageCard::of(name, report));
    let mut at = stage("1-read");
    told("read", read(work, &inputs, &at, &config.read)?);
    let next = stage("2-clean");
    forget(&at, &next)?;
    told("clean", clean(work, &at, &next, &config.clean)?);
    at = next;
    if !config.dedup.kinds().is_empty() {
        let next = stage("3-dedup");
        forget(&at, &next)?;
        told("dedup", dedup(work, &at, &next, &config.dedup)?);
        at = next;
    }
    if !config.decontaminate.against.is_empty() {
        let next = stage("4-decontaminate");
        forget(&at, &next)?;
        told("decontaminate", decontaminate(work, &at, &next, &config.decontaminate)?);
        at = next;
    }
    let apart = stage("5-split");
    forget(&at, &apart.join(TRAIN))?;
    forget(&at, &apart.join(HELD_OUT))?;
    told("split", split(work, &at, &apart, &config.split)?);
    let tokenizer = tokenizer(work, &apart.join(TRAIN), &out.join(STAGES), config)?;
    let encoded = stage("6-tokens");
    told("tokens", encode_parts(work, &apart, &encoded, &tokenizer, &config.shard)?);
    let index = join_shards(work, &apart, &encoded, out, &tokenizer, &config.shard)?;
    let sides = [apart.join(TRAIN), apart.join(HELD_OUT)];
    let card = Card::of(work, cards, &index, &sides)?;
    write_file(&out.join(CARD), (serde_json::to_string_pretty(&card).expect("a card has a JSON form") + "\n").as_bytes())?;
    Ok(Prepared { index, card })
}

/// The tokenizer of a corpus: the one that is named, or one learned from what is trained on, where that was not done.
fn tokenizer(work: &Work, train: &Path, stages: &Path, config: &CorpusConfig) -> Result<Tokenizer> {
    let settings = &config.tokenizer;
    if let Some(path) = &settings.file {
        return Tokenizer::open(path, Some(settings.split));
    }
    let (learning, parts) = (settings.learning(), parts(train)?);
    let made_of = hash(format!("{learning:?} {}", checksums(&parts)?).as_bytes());
    let folder = stages.join(format!("tokenizer-{}", &made_of[..16]));
    if folder.join(Tokenizer::FILE).is_file() {
        return Tokenizer::read(&folder);
    }
    let mut counts = WordCounts::new(learning.splitter(), work.threads, (work.memory / 2) as usize);
    for part in &parts {
        count(work, part, &mut counts)?;
    }
    let subword = learning.learn(&counts.finish()?, &mut |_| work.go_on().is_ok())?;
    work.go_on()?;
    let tokenizer = Tokenizer::Subword(Arc::new(subword));
    std::fs::create_dir_all(&folder).map_err(|e| crate::error::file_error(&folder, "the folder cannot be made", e))?;
    tokenizer.write(&folder)?;
    Ok(tokenizer)
}

fn checksums(parts: &[Part]) -> Result<String> {
    parts.iter().map(|p| p.finished().map(|r| r.checksum)).collect::<Result<Vec<_>>>().map(|all| all.join(" "))
}

/// Bytes of documents that are counted at a time.
const BATCH: usize = 8 << 20;

fn count(work: &Work, part: &Part, counts: &mut WordCounts) -> Result<()> {
    let mut documents = part.read()?.peekable();
    while documents.peek().is_some() {
        work.go_on()?;
        let (mut texts, mut bytes) = (vec![], 0);
        while bytes < BATCH
            && let Some(document) = documents.next()
        {
            let text = document?.text;
            bytes += text.len();
            texts.push(text);
        }
        counts.add_all(&texts.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Removes the parts of a stage's folder that none of those before it are, and what stands of them in folders of steps.
fn forget(from: &[Part], to: &Path) -> Result<()> {
    if !to.is_dir() {
        return Ok(());
    }
    let gone: Vec<Part> = parts(to)?.into_iter().filter(|p| !from.iter().any(|f| f.name == p.name)).collect();
    for part in &gone {
        for file in [part.report_file(), part.documents()] {
            std::fs::remove_file(&file).map_err(|e| crate::error::file_error(&file, "a part of a file that is gone cannot be removed", e))?;
        }
    }
    if gone.is_empty() { Ok(()) } else { remove_steps(to) }
}

/// What steps have kept is of parts that are gone, too.
fn remove_steps(folder: &Path) -> Result<()> {
    let steps = folder.join("rounds");
    match std::fs::remove_dir_all(&steps) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(crate::error::file_error(&steps, "old steps cannot be removed", e)),
        _ => Ok(()),
    }
}
