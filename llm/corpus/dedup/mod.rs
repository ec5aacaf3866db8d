//! Duplicates, exact and near, of documents and of pieces of them.
//!
//! Every kind is a [`Round`] of three steps, and what a kind leaves is what the next one reads: in `OUT/rounds/KIND` stand the keys, what
//! was merged of them, and the parts it leaves; the last kind's parts stand in `OUT`. `OUT/clusters/KIND.jsonl` says which documents were
//! merged with which. Sorting and merging go through files, so that memory does not depend on the corpus; but for near duplicates, where
//! 40 bytes are held of each document that has one.
//!
//! Passages that stand in several places are usually found in a suffix array of the whole corpus, which takes its size several times in the
//! memory of one machine. Here every window of the shortest length has a key, and keys are sorted on disk: a longer passage is the union of
//! its windows, so that what is found is the same, and parts can be keyed anywhere. It costs 24 bytes of disk a word while it runs.

mod apply;
mod clusters;
mod config;
mod keys;
mod merge;
mod minhash;
mod pieces;
mod round;
mod table;

pub use clusters::{Cluster, Member};
pub use config::{DedupConfig, DedupKind, Keep};
pub use minhash::{Permutations, Signature, similarity};
pub use round::DedupStep;

use super::report::Report;
use super::work::Work;
use crate::error::{Error, Result};
use round::Round;
use std::path::Path;

/// Removes duplicates: all kinds that the settings ask for, one after another, from the parts of a folder to those of another. The report
/// is of all kinds and parts.
pub fn dedup(work: &Work, from: &Path, to: &Path, config: &DedupConfig) -> Result<Report> {
    config.check()?;
    if !work.share.is_all() {
        return Err(Error(format!("a share of a step can be done, not of all; try {}", commands(config))));
    }
    let mut reports = vec![];
    for kind in config.kinds() {
        let round = Round::new(work, config, kind, from, to)?;
        reports = apply::made(&round).map_or_else(|| all_steps(&round), Ok)?;
    }
    for kind in DedupKind::ALL.iter().filter(|k| !config.kinds().contains(k)) {
        // what an earlier run with other settings left
        let _ = std::fs::remove_file(to.join("clusters").join(format!("{kind}.jsonl")));
    }
    Ok(super::sum(&reports))
}

fn all_steps(round: &Round) -> Result<Vec<Report>> {
    keys::make(round)?;
    merge::make(round)?;
    let reports = apply::make(round)?;
    // keys are large, and are made again of what is there if ever they are wanted
    [round.keys_folder(), round.merged_folder()].iter().for_each(|f| drop(std::fs::remove_dir_all(f)));
    Ok(reports)
}

/// Does one step of one kind, of this share's parts where the step takes a share. The steps before must have been done for all parts. Keys
/// stay, since other shares may still need them: the folder `rounds` can go when all is done.
pub fn dedup_step(work: &Work, from: &Path, to: &Path, config: &DedupConfig, kind: DedupKind, step: DedupStep) -> Result<Report> {
    config.check()?;
    if !config.kinds().contains(&kind) {
        return Err(Error(format!("a step of {kind} is to be done, which is none of the kinds that are asked for; try --kinds {kind}")));
    }
    let round = Round::new(work, config, kind, from, to)?;
    match step {
        DedupStep::Keys => {
            let mut report = Report::default();
            report.count("keys", keys::make(&round)?);
            Ok(report)
        }
        DedupStep::Merge if !work.share.is_all() => Err(Error("the keys of all parts are merged by one process; leave out --share".into())),
        DedupStep::Merge => merge::make(&round).map(|()| Report::default()),
        DedupStep::Apply => Ok(super::sum(&apply::make(&round)?)),
    }
}

/// The commands that do it in shares.
fn commands(config: &DedupConfig) -> String {
    let of = |k: DedupKind| format!("--kind {k} with --step keys --share I/N, --step merge, --step apply --share I/N");
    config.kinds().into_iter().map(of).collect::<Vec<_>>().join(", then ")
}
