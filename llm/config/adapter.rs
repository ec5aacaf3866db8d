//! `[adapter]`: what is trained beside a model's parameters, which stay as they are.

use crate::weights::packed::Held;
use models::check::within;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included};

/// What stands beside a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AdapterKind {
    /// Nothing: the model itself is trained.
    #[default]
    None,
    /// A product of two thin matrices beside each linear layer (Hu et al. 2021).
    Lora,
    /// Tokens before every text, of which what the embedding would be is learned (Lester et al. 2021).
    Prompt,
    /// Tokens before every text, of which the keys and values of every layer are learned (Li & Liang 2021).
    Prefix,
}

ir::spell!(AdapterKind, "adapter", [None "none", Lora "lora", Prompt "prompt", Prefix "prefix"]);

/// What is trained beside a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterConfig {
    /// What: none, lora, prompt or prefix.
    pub kind: AdapterKind,
    /// Tokens before every text, of a prompt or a prefix.
    pub tokens: usize,
    /// The rank: how many columns the first of the thin matrices has, and rows the second.
    pub rank: usize,
    /// Their product is multiplied by alpha / rank.
    pub alpha: f64,
    /// The linear layers, by the end of their names, as q_proj, by a pattern with `*`, or all-linear, which is all but the head.
    pub targets: Vec<String>,
    /// The probability of dropping an element of what goes into the first.
    pub dropout: f64,
    /// Multiply by alpha / √rank instead, which is right whatever the rank (Kalajdzievski 2023).
    pub rslora: bool,
    /// Train the lengths of the sum's columns apart from their directions (Liu et al. 2024, DoRA).
    pub dora: bool,
    /// How the model's own matrices are held, but those of heads and embeddings: whole, int8 or nf4 (Dettmers et al. 2023, QLoRA).
    pub base: Held,
    /// Modules of the model that are trained whole, too, by their names as in targets.
    pub whole: Vec<String>,
    /// Ranks of layers that have another, by their names as in targets; of several names the longest counts.
    pub ranks: BTreeMap<String, usize>,
    /// Alphas likewise.
    pub alphas: BTreeMap<String, f64>,
}

impl Default for AdapterConfig {
    fn default() -> AdapterConfig {
        let targets = vec![crate::adapter::ALL.into()];
        AdapterConfig {
            kind: AdapterKind::None,
            tokens: 20,
            rank: 8,
            alpha: 16.0,
            targets,
            dropout: 0.0,
            rslora: false,
            dora: false,
            base: Held::Whole,
            whole: vec![],
            ranks: BTreeMap::new(),
            alphas: BTreeMap::new(),
        }
    }
}

impl AdapterKind {
    /// Whether it stands before texts, and not beside layers.
    pub fn is_before(self) -> bool {
        matches!(self, AdapterKind::Prompt | AdapterKind::Prefix)
    }
}

impl AdapterConfig {
    /// Whether there is any.
    pub fn is_on(&self) -> bool {
        self.kind != AdapterKind::None
    }

    /// What the product of thin matrices of a rank is multiplied by.
    pub fn scale(&self, rank: usize, alpha: f64) -> f64 {
        let rank = rank as f64;
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Which setting is outside of its range, if one is.
    pub fn check(&self) -> Result<(), String> {
        let usual = AdapterConfig::default();
        within("adapter.tokens", self.tokens, 1..=models::check::LARGEST, usual.tokens)?;
        within("adapter.rank", self.rank, 1..=models::check::LARGEST, usual.rank)?;
        within("adapter.alpha", self.alpha, (Excluded(0.0), Included(1e6)), usual.alpha)?;
        let rank = |(name, rank): (&String, &usize)| within(&format!("adapter.ranks.{name}"), *rank, 1..=models::check::LARGEST, usual.rank);
        self.ranks.iter().try_for_each(rank)?;
        let alpha = |(name, alpha): (&String, &f64)| within(&format!("adapter.alphas.{name}"), *alpha, (Excluded(0.0), Included(1e6)), usual.alpha);
        self.alphas.iter().try_for_each(alpha)?;
        within("adapter.dropout", self.dropout, 0.0..1.0, 0.05)?;
        if !self.is_on() && self.base != Held::Whole {
            return Err(format!("adapter.base is {}, and nothing stands beside the model: try adapter.kind = \"lora\"", self.base));
        }
        if self.targets.is_empty() {
            return Err(
                "adapter.targets is empty: name a layer, as in adapter.targets = [\"q_proj\", \"v_proj\"], or all of them, [\"all-linear\"]".into()
            );
        }
        Ok(())
    }
}
