//! `[adapter]`: what is trained beside a model's parameters, which stay as they are.

use crate::weights::packed::Held;
use models::check::within;
use serde::{Deserialize, Serialize};
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
}

ir::spell!(AdapterKind, "adapter", [None "none", Lora "lora"]);

/// What is trained beside a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterConfig {
    /// What: none or lora.
    pub kind: AdapterKind,
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
}

impl Default for AdapterConfig {
    fn default() -> AdapterConfig {
        let targets = vec![crate::adapter::ALL.into()];
        AdapterConfig { kind: AdapterKind::None, rank: 8, alpha: 16.0, targets, dropout: 0.0, rslora: false, dora: false, base: Held::Whole }
    }
}

impl AdapterConfig {
    /// Whether there is any.
    pub fn is_on(&self) -> bool {
        self.kind != AdapterKind::None
    }

    /// What the product of the thin matrices is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Which setting is outside of its range, if one is.
    pub fn check(&self) -> Result<(), String> {
        let usual = AdapterConfig::default();
        within("adapter.rank", self.rank, 1..=models::check::LARGEST, usual.rank)?;
        within("adapter.alpha", self.alpha, (Excluded(0.0), Included(1e6)), usual.alpha)?;
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
