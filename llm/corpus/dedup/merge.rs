//! Which pieces share a key, and which of them go.
//!
//! Keys are merged in ranges, each by itself. Of the pieces with one key the first in order stays, and each other makes a pair with it.
//! Of whole documents the pairs of all ranges then become clusters.

use super::clusters;
use super::config::DedupKind;
use super::round::{DedupStep, RANGES, Round};
use super::table::Place;
use crate::corpus::rows::{RowWriter, Rows};
use crate::corpus::sort::{Budget, Merge, Section, Sorter};
use crate::error::Result;
use std::path::PathBuf;

/// Merges the keys of all parts, where that was not done.
pub fn make(round: &Round) -> Result<()> {
    let work = round.by_one();
    work.each(round.stage(DedupStep::Merge), RANGES, &|range| {
        let there = Rows::are_there(&round.pairs(range), 16, &round.merged_of());
        if there { Ok(((), 0)) } else { of_range(round, range).map(|()| ((), 0)) }
    })?;
    match round.kind {
        _ if Rows::are_there(&round.removed(), 16, &round.merged_of()) => Ok(()),
        DedupKind::Documents => clusters::exact(round),
        DedupKind::Near => clusters::near(round),
        DedupKind::Paragraphs | DedupKind::Lines | DedupKind::Substrings => Ok(()),
    }
}

/// A range begins with the key whose first bits are its number.
fn start(range: usize) -> u64 {
    (range as u64) << (64 - RANGES.trailing_zeros())
}

fn of_range(round: &Round, range: usize) -> Result<()> {
    let path = round.pairs(range);
    let end = (range + 1 < RANGES).then(|| start(range + 1));
    let section = |part: usize| {
        let rows = Rows::open(&round.keys(part), 24, &round.made_of[part].1)?;
        Section::between(&rows, start(range), end)
    };
    let sections = (0..round.from.len()).map(section).collect::<Result<Vec<Section>>>()?;
    let budget = Budget::a_thread(&round.work).share(2);
    let mut pairs = Sorter::new(path.with_extension("runs"), budget);
    let (mut key, mut first, mut seen) = ([0; 2], 0, 0u64);
    for record in Merge::<3>::of(sections, path.with_extension("keys"), budget)? {
        let [high, low, place] = record?;
        if seen == 0 || key != [high, low] {
            (key, first) = ([high, low], place);
        } else if place >= first + apart(round) {
            pairs.push([place, first])?;
        }
        seen += 1;
        if seen.is_multiple_of(1 << 16) {
            round.work.go_on()?;
        }
    }
    pairs.write_distinct(RowWriter::create(&path, 16, &round.merged_of())?)?;
    Ok(())
}

/// How far a piece must be from the first of its kind to go: a passage that overlaps it is a part of it.
fn apart(round: &Round) -> Place {
    if round.kind == DedupKind::Substrings { round.config.substring_words as Place } else { 1 }
}

/// The files of what goes.
pub fn files(round: &Round) -> Vec<PathBuf> {
    if round.whole_documents() { vec![round.removed()] } else { (0..RANGES).map(|r| round.pairs(r)).collect() }
}

/// The pairs of some files whose later place is at least `from` and, where there is one, below `to`, in order.
pub fn pairs(round: &Round, files: &[PathBuf], from: Place, to: Option<Place>, runs: PathBuf) -> Result<Merge<2>> {
    let section = |path: &PathBuf| Section::between(&Rows::open(path, 16, &round.merged_of())?, from, to);
    let sections = files.iter().map(section).collect::<Result<Vec<Section>>>()?;
    Merge::of(sections, runs, Budget::a_thread(&round.work).share(4))
}
