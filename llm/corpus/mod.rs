//! From files of text to documents, cleaned and without duplicates, in parts that stages hand to each other.
//!
//! A stage is a folder. It holds *parts*, `NAME.jsonl.zst`, each a document a line, and beside each part its [`Report`], `NAME.json`,
//! which is written last: a part without one is not there yet. A stage makes each of its parts from the part of the same name before it,
//! so that any number of processes can each take a [`Share`] of them, and what is there already is not made again.

mod card;
mod clean;
mod config;
mod decontaminate;
mod dedup;
mod document;
mod inspect;
mod part;
mod prepare;
mod read;
mod report;
mod rows;
mod settings;
mod shard;
mod sort;
mod split;
mod tokens;
mod words;
mod work;

pub use card::{Card, StageCard};
pub use clean::{CleanConfig, Filter, Form, Mask, clean, clean_document};
pub use config::{CorpusConfig, CorpusTokenizer};
pub use decontaminate::{DecontaminateConfig, decontaminate};
pub use dedup::{Cluster, DedupConfig, DedupKind, DedupStep, Keep, Member, Permutations, Signature, dedup, dedup_step, similarity};
pub use document::Document;
pub use inspect::{Inspection, clusters, inspect, sample};
pub use part::{Part, PartReader, PartWriter, parts};
pub use prepare::{Prepared, prepare};
pub use read::{Format, Input, ReadConfig, SplitOn, complete, inputs, read};
pub use report::{Example, Report, Tally};
pub use rows::{RowWriter, Rows};
pub use settings::set;
pub use shard::join as join_shards;
pub use sort::{Budget, Merge, Section, Sorted, Sorter};
pub use split::{HELD_OUT, SplitConfig, TRAIN, split};
pub use tokens::{ShardConfig, encode as encode_parts};
pub use words::each_word;
pub use work::{Progress, Share, Work, map_parts};

use crate::error::{Result, file_error};
use crate::files::sweep;
use std::path::Path;

/// The report of several parts together.
fn sum(reports: &[Report]) -> Report {
    let mut all = Report::default();
    reports.iter().for_each(|r| all.add(r));
    all
}

/// Makes a folder ready for the parts that a stage makes of those of another: what killed writers left is removed. An error where the
/// parts that are read would be overwritten, or where parts stand that are made of none of them and would be taken for the stage's.
fn make_ready(from: &[Part], to: &Path) -> Result<()> {
    let of = |part: &Part| from.iter().find(|p| p.name == part.name);
    for there in if to.exists() { parts(to)? } else { vec![] } {
        match of(&there).map(|p| (p.documents().canonicalize(), there.documents().canonicalize())) {
            Some((Ok(read), Ok(written))) if read == written => {
                return Err(file_error(to, "it is read and cannot be written to at once", "name another folder"));
            }
            Some(_) => {}
            None => {
                let what = format!("there is a part {} in it that is made of none of those that are read", there.name);
                return Err(file_error(to, &what, "remove it, or name another folder"));
            }
        }
    }
    sweep(to);
    Ok(())
}
