//! Documents that are trained on, and documents that are held out.
//!
//! Which a document is follows from its text alone, by a keyed hash: it stays where it is when others come or go, and two that are equal
//! are never on both sides.

use super::part::{Part, expect};
use super::read::complete;
use super::report::Report;
use super::work::{Work, made_of};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The folder of the documents that are trained on, within a split.
pub const TRAIN: &str = "train";
/// The folder of those that are held out.
pub const HELD_OUT: &str = "held_out";

/// How documents are split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// The share of documents that is held out.
    pub held_out: f64,
    /// The key of the hash: another seed holds others out.
    pub seed: u64,
}

impl Default for SplitConfig {
    fn default() -> SplitConfig {
        SplitConfig { held_out: 0.005, seed: 1 }
    }
}

impl SplitConfig {
    /// An error where a setting is out of its range.
    pub fn check(&self) -> Result<()> {
        match (0.0..1.0).contains(&self.held_out) {
            true => Ok(()),
            false => Err(Error(format!("split.held_out is {}: expected 0 or more, and less than 1", self.held_out))),
        }
    }

    /// Whether a text is held out.
    pub fn holds_out(&self, text: &str) -> bool {
        // both are below 2⁵³, where every whole number is a double
        ((xxh3_64_with_seed(text.as_bytes(), self.seed) >> 11) as f64) < self.held_out * (1u64 << 53) as f64
    }
}

/// Splits the parts of a folder into the folders [`TRAIN`] and [`HELD_OUT`] of another. The report is that of the documents that are
/// trained on, and counts the others.
pub fn split(work: &Work, from: &Path, to: &Path, config: &SplitConfig) -> Result<Report> {
    config.check()?;
    let (parts, settings) = (complete(from)?, format!("{} {}", config.held_out, config.seed));
    let list = parts.iter().map(|p| Ok((p.name.clone(), made_of("split", &settings, &p.finished()?)))).collect::<Result<_>>()?;
    for side in [TRAIN, HELD_OUT] {
        super::make_ready(&parts, &to.join(side))?;
        expect(&to.join(side), &list)?;
    }
    let reports = work.each("split", parts.len(), &|number| {
        let before = parts[number].finished()?;
        let made_of = made_of("split", &settings, &before);
        let empty = Report { made_of, documents_in: before.documents, bytes_in: before.bytes, ..Report::default() };
        Ok((of_part(work, &parts[number], to, config, empty)?, before.bytes))
    })?;
    let all = super::sum(&reports);
    if work.share.is_all() { none_is_empty(&all, config).map(|()| all) } else { Ok(all) }
}

/// The counts of what is held out.
const DOCUMENTS: &str = "documents held out";
const BYTES: &str = "bytes held out";

/// Splits a part, where that was not done.
fn of_part(work: &Work, old: &Part, to: &Path, config: &SplitConfig, empty: Report) -> Result<Report> {
    let (train, held_out) = (old.within(&to.join(TRAIN)), old.within(&to.join(HELD_OUT)));
    let report = train.report().filter(|r| r.made_of == empty.made_of && held_out.is_made_of(&empty.made_of));
    if let Some(report) = report {
        return Ok(report);
    }
    let (mut trained, mut held) = (train.write()?, held_out.write()?);
    for document in old.read()? {
        work.go_on()?;
        let document = document?;
        if config.holds_out(&document.text) { held.push(&document)? } else { trained.push(&document)? }
    }
    let held = held.finish(empty.clone())?;
    let mut report = empty;
    report.count(DOCUMENTS, held.documents);
    report.count(BYTES, held.bytes);
    trained.finish(report)
}

fn none_is_empty(all: &Report, config: &SplitConfig) -> Result<()> {
    let held = all.counts.get(DOCUMENTS).copied().unwrap_or(0);
    let of = format!("split.held_out is {}, and there are {} documents", config.held_out, all.documents_in);
    if all.documents_in == 0 {
        return Err(Error("there is no document to split; look at what the stages before removed: eggcorn data inspect".into()));
    }
    if held == 0 && config.held_out > 0.0 {
        let more = (4.0 / all.documents_in as f64).min(0.5);
        return Err(Error(format!("no document is held out: {of}; try --held-out {more:.2}, or 0 to hold none out")));
    }
    if all.documents == 0 {
        return Err(Error(format!("all documents are held out: {of}; try a smaller --held-out, or another --seed")));
    }
    Ok(())
}
