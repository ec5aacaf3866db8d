//! The settings of a whole preparation: one TOML file, and `--set stage.key=value`.

use super::{CleanConfig, DecontaminateConfig, DedupConfig, ReadConfig, ShardConfig, SplitConfig};
use crate::config::settings;
use crate::error::{Error, Result, hint};
use crate::text::{Algorithm, Learning, Split};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use toml::{Table, Value};

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

    /// Changes one setting: `clean.min_words=50`.
    pub fn set(&self, assignment: &str) -> Result<CorpusConfig> {
        let fail = |why: String| Error(format!("--set {assignment}: {why}"));
        let (path, value) = assignment.split_once('=').ok_or_else(|| fail("expected stage.key=value, as in clean.min_words=50".into()))?;
        let (stage, key) = path.trim().split_once('.').ok_or_else(|| fail("expected a stage before the key, as in clean.min_words=50".into()))?;
        let mut all = Table::try_from(self).expect("settings have a TOML form");
        let stages: Vec<String> = all.keys().cloned().collect();
        let stages: Vec<&str> = stages.iter().map(String::as_str).collect();
        let Some(Value::Table(keys)) = all.get_mut(stage) else {
            return Err(fail(format!("there is no stage {stage}; there are {}{}", stages.join(", "), hint(stage, &stages))));
        };
        let value = match keys.get(key) {
            Some(old) => settings::fit(old, settings::read(value)).map_err(|e| fail(format!("expected {e}, as in {key} = {old}")))?,
            None => settings::read(value),
        };
        let known: Vec<String> = keys.keys().cloned().collect();
        keys.insert(key.into(), value);
        let near = hint(key, &known.iter().map(String::as_str).collect::<Vec<_>>());
        all.try_into().map_err(|e: toml::de::Error| fail(format!("{}{near}", e.message().trim())))
    }
}
