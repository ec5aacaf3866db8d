//! What stands in a stage's folder.

use super::dedup::{Cluster, DedupKind};
use super::document::Document;
use super::part::{LONGEST_LINE, parts};
use super::report::Report;
use super::words::mix;
use crate::error::{Result, file_error};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// What a stage has made so far.
pub struct Inspection {
    /// Parts that are there.
    pub parts: usize,
    /// Parts that are not finished.
    pub unfinished: usize,
    /// The report of those that are.
    pub report: Report,
}

/// Sums a folder's reports.
pub fn inspect(folder: &Path) -> Result<Inspection> {
    let parts = parts(folder)?;
    let reports: Vec<Report> = parts.iter().filter_map(|p| p.report()).collect();
    Ok(Inspection { parts: parts.len(), unfinished: parts.len() - reports.len(), report: super::sum(&reports) })
}

/// Some documents of a folder's finished parts, in order: with one seed always the same, each as likely as any other.
pub fn sample(folder: &Path, count: usize, seed: u64) -> Result<Vec<Document>> {
    let parts: Vec<_> = parts(folder)?.into_iter().filter_map(|p| Some((p.report()?.documents, p))).collect();
    let all: u64 = parts.iter().map(|p| p.0).sum();
    let mut numbers = BTreeSet::new();
    let mut draw = 0;
    while (numbers.len() as u64) < all.min(count as u64) {
        draw += 1;
        numbers.insert(mix(mix(seed).wrapping_add(draw)) % all);
    }
    let (mut found, mut before) = (vec![], 0);
    for (documents, part) in parts {
        let mut wanted: BTreeSet<u64> = numbers.range(before..before + documents).map(|n| n - before).collect();
        for (number, document) in (0..).zip(part.read()?) {
            if wanted.is_empty() {
                break;
            }
            let document = document?;
            if wanted.remove(&number) {
                found.push(document);
            }
        }
        before += documents;
    }
    Ok(found)
}

/// The first clusters that a deduplication has listed in its folder, of a kind, and how many there are. None where the kind was not asked
/// for.
pub fn clusters(folder: &Path, kind: DedupKind, count: usize) -> Result<Option<(Vec<Cluster>, u64)>> {
    let path = folder.join("clusters").join(format!("{kind}.jsonl"));
    if !path.exists() {
        return Ok(None);
    }
    let fail = |e: &dyn std::fmt::Display| file_error(&path, "the clusters cannot be read", e);
    let mut lines = BufReader::new(File::open(&path).map_err(|e| fail(&e))?);
    let (mut found, mut all, mut line) = (vec![], 0, vec![]);
    loop {
        line.clear();
        if (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(|e| fail(&e))? == 0 {
            return Ok(Some((found, all)));
        }
        all += 1;
        if found.len() < count {
            found.push(serde_json::from_slice(&line).map_err(|e| fail(&e))?);
        }
    }
}
