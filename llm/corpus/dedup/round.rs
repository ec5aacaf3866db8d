//! One kind of duplicates in its three steps. *Keys*, of each part by itself: what each piece is known by, sorted. *Merge*, by one process:
//! which pieces share a key, and which of them go. *Apply*, of each part by itself: the part without what goes.
//!
//! What a step makes is named by what it was made of, back to the parts' checksums, so that each is made once, whoever was stopped where.

use super::config::{DedupConfig, DedupKind};
use super::table::PARTS;
use crate::corpus::make_ready;
use crate::corpus::part::{Part, hash};
use crate::corpus::read::complete;
use crate::corpus::work::{Share, Work};
use crate::error::{Result, file_error};
use crate::files::sweep;
use std::path::{Path, PathBuf};

/// A step of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupStep {
    /// Of each part, what its pieces are known by. Takes a share.
    Keys,
    /// What goes. Done by one process.
    Merge,
    /// Of each part, what stays. Takes a share.
    Apply,
}

ir::spell!(DedupStep, "step", [Keys "keys", Merge "merge", Apply "apply"]);

/// Ranges of keys that are merged each by itself: a constant, so that files do not depend on the number of threads.
pub const RANGES: usize = 16;

/// A kind's work on a folder's parts.
pub struct Round<'a> {
    pub work: Work<'a>,
    pub config: &'a DedupConfig,
    pub kind: DedupKind,
    /// Whether no kind was before this one.
    pub is_first: bool,
    /// The parts that are read, in order.
    pub from: Vec<Part>,
    /// Of each part its name, and what its keys are made of.
    pub made_of: Vec<(String, String)>,
    /// Where keys and what is merged of them stand.
    pub folder: PathBuf,
    /// Where the parts that are made stand.
    pub to: PathBuf,
    /// Where clusters are listed.
    pub clusters: PathBuf,
}

impl<'a> Round<'a> {
    /// A kind's work on the parts that another stage has left in a folder, or the kind before, which must be finished.
    pub fn new(work: &Work<'a>, config: &'a DedupConfig, kind: DedupKind, stage: &Path, out: &Path) -> Result<Round<'a>> {
        let kinds = config.kinds();
        let at = kinds.iter().position(|k| *k == kind).expect("it was asked for");
        let folder = |kind: DedupKind| out.join("rounds").join(kind.name());
        // the stage says which parts there are, also where not all of the kind before are there yet
        let first = complete(stage)?;
        if first.is_empty() || first.len() > PARTS {
            let what = format!("there are {} parts in it, expected 1 to {PARTS}", first.len());
            return Err(file_error(stage, &what, "give the folder that a stage has written"));
        }
        make_ready(&first, out)?;
        let from: Vec<Part> = if at == 0 { first } else { first.iter().map(|p| p.within(&folder(kinds[at - 1]))).collect() };
        let to = if at + 1 == kinds.len() { out.to_path_buf() } else { folder(kind) };
        make_ready(&from, &to)?;
        sweep(&out.join("clusters"));
        let settings = config.settings(kind);
        let of = |(number, part): (usize, &Part)| {
            let made_of = hash(format!("keys {number}\n{settings}\n{}", part.finished()?.checksum).as_bytes());
            Ok((part.name.clone(), made_of))
        };
        let made_of = from.iter().enumerate().map(of).collect::<Result<Vec<_>>>()?;
        let clusters = out.join("clusters").join(format!("{kind}.jsonl"));
        Ok(Round { work: *work, config, kind, is_first: at == 0, from, made_of, folder: folder(kind), to, clusters })
    }

    /// Where keys stand.
    pub fn keys_folder(&self) -> PathBuf {
        self.folder.join("keys")
    }

    /// The sorted keys of a part: rows of a key's two words and a place.
    pub fn keys(&self, part: usize) -> PathBuf {
        self.keys_folder().join(format!("{}.keys", self.made_of[part].0))
    }

    /// What the merge is made of.
    pub fn merged_of(&self) -> String {
        let all: String = self.made_of.iter().map(|m| m.1.as_str()).collect();
        hash(format!("merge\n{all}").as_bytes())
    }

    /// Where what is merged stands.
    pub fn merged_folder(&self) -> PathBuf {
        self.folder.join("merged")
    }

    /// Of a range of keys, what shares one: rows of the place of the later and of the first.
    pub fn pairs(&self, range: usize) -> PathBuf {
        self.merged_folder().join(format!("{range:02}.pairs"))
    }

    /// What goes, where that is not all that has a pair: such rows, in one file.
    pub fn removed(&self) -> PathBuf {
        self.merged_folder().join("removed.pairs")
    }

    /// Whether whole documents go, whose clusters are listed.
    pub fn whole_documents(&self) -> bool {
        match self.kind {
            DedupKind::Documents | DedupKind::Near => true,
            DedupKind::Paragraphs | DedupKind::Lines | DedupKind::Substrings => false,
        }
    }

    /// Minima that are kept of a document.
    pub fn minima(&self) -> usize {
        if self.kind == DedupKind::Near { self.config.bands * self.config.rows } else { 0 }
    }

    /// The same for all parts.
    pub fn by_one(&self) -> Work<'a> {
        Work { share: Share::ALL, ..self.work }
    }

    /// What a step is called while it runs.
    pub fn stage(&self, step: DedupStep) -> &'static str {
        match (self.kind, step) {
            (DedupKind::Documents, DedupStep::Keys) => "documents: keys",
            (DedupKind::Documents, DedupStep::Merge) => "documents: merge",
            (DedupKind::Documents, DedupStep::Apply) => "documents: apply",
            (DedupKind::Near, DedupStep::Keys) => "near: keys",
            (DedupKind::Near, DedupStep::Merge) => "near: merge",
            (DedupKind::Near, DedupStep::Apply) => "near: apply",
            (DedupKind::Paragraphs, DedupStep::Keys) => "paragraphs: keys",
            (DedupKind::Paragraphs, DedupStep::Merge) => "paragraphs: merge",
            (DedupKind::Paragraphs, DedupStep::Apply) => "paragraphs: apply",
            (DedupKind::Lines, DedupStep::Keys) => "lines: keys",
            (DedupKind::Lines, DedupStep::Merge) => "lines: merge",
            (DedupKind::Lines, DedupStep::Apply) => "lines: apply",
            (DedupKind::Substrings, DedupStep::Keys) => "substrings: keys",
            (DedupKind::Substrings, DedupStep::Merge) => "substrings: merge",
            (DedupKind::Substrings, DedupStep::Apply) => "substrings: apply",
        }
    }
}
