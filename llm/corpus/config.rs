//! The settings of a whole preparation: one TOML file, and `--set stage.key=value`.

use super::settings::set;
use super::{CleanConfig, DecontaminateConfig, DedupConfig, ReadConfig, ShardConfig, SplitConfig};
use crate::config::settings;
use crate::error::{Error, Result, hint};
use crate::text::{Algorithm, Learning, Split};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which tokenizer a corpus gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusTokenizer {
    /// One that is there already; learned from what is trained on, where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The kind of one that is learned.
    pub algorithm: Algorithm,
    /// Its tokens.
    pub vocabulary: usize,
    /// How text becomes words, for byte-pair encoding; and of a file of ranks that does not tell.
    pub split: Split,
    /// How often a pair must stand in the text to become a token.
    pub min_frequency: u64,
}

impl Default for CorpusTokenizer {
    fn default() -> CorpusTokenizer {
        let usual = Learning::default();
        CorpusTokenizer { file: None, algorithm: usual.algorithm, vocabulary: 32_000, split: usual.split, min_frequency: usual.least }
    }
}

impl CorpusTokenizer {
    /// How it is learned.
    pub fn learning(&self) -> Learning {
        Learning { algorithm: self.algorithm, vocabulary: self.vocabulary, split: self.split, least: self.min_frequency, ..Learning::default() }
    }
}

/// Everything that determines a corpus, but for the files it is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorpusConfig {
    /// How files become documents.
    pub read: ReadConfig,
    /// How documents are cleaned and filtered.
    pub clean: CleanConfig,
    /// Which duplicates are removed.
    pub dedup: DedupConfig,
    /// Which evaluation sets are taken out.
    pub decontaminate: DecontaminateConfig,
    /// What is held out.
    pub split: SplitConfig,
    /// Which tokenizer it gets.
    pub tokenizer: CorpusTokenizer,
    /// How tokens are written.
    pub shard: ShardConfig,
}

impl CorpusConfig {
    /// Reads TOML. What it does not say is as it is by default.
    pub fn parse(text: &str, file: &str) -> Result<CorpusConfig> {
        toml::from_str(text).map_err(|e| Error(settings::syntax_error(text, file, &e)))
    }

    /// The settings as TOML, with every one.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings have a TOML form")
    }

    /// Changes one setting: `clean.min_words=50`. Ranges are not checked yet.
    pub fn set(mut self, assignment: &str) -> Result<CorpusConfig> {
        match assignment.split('.').next().unwrap_or_default().trim() {
            "read" => self.read = set("read", &self.read, assignment)?,
            "clean" => self.clean = set("clean", &self.clean, assignment)?,
            "dedup" => self.dedup = set("dedup", &self.dedup, assignment)?,
            "decontaminate" => self.decontaminate = set("decontaminate", &self.decontaminate, assignment)?,
            "split" => self.split = set("split", &self.split, assignment)?,
            "tokenizer" => self.tokenizer = set("tokenizer", &self.tokenizer, assignment)?,
            "shard" => self.shard = set("shard", &self.shard, assignment)?,
            stage => {
                let near = hint(stage, &SECTIONS);
                return Err(Error(format!("--set {assignment}: expected stage.key=value, with a stage of {}{near}", ir::either(&SECTIONS))));
            }
        }
        Ok(self)
    }

    /// An error where a setting is out of its range.
    pub fn check(&self, memory: u64) -> Result<()> {
        self.read.check(memory)?;
        self.clean.check()?;
        if !self.dedup.kinds().is_empty() {
            self.dedup.check()?;
        }
        if !self.decontaminate.against.is_empty() {
            self.decontaminate.check()?;
        }
        self.split.check()
    }
}

/// The sections of the file.
const SECTIONS: [&str; 7] = ["read", "clean", "dedup", "decontaminate", "split", "tokenizer", "shard"];
