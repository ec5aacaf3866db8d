//! Which classes texts are of, and how they are learned: the section `[classify]`.

use super::DataConfig;
use crate::data::{Task, Unit};
use models::check::within;
use models::{Head, Kind, Model, Pooling};
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// Classes of texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClassifyConfig {
    /// The classes by name, in the order of their numbers: those that the data has, in the order of the alphabet, where none are given.
    pub classes: Vec<String>,
    /// Which tokens speak for a text: mean, cls or last; of a decoder the last, of an encoder the first, where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// How much a text of each class counts in training; empty where all count alike.
    pub weights: Vec<f64>,
    /// Whether each class is cut to as many texts as the smallest has, before anything is held out.
    pub balance: bool,
    /// The share of the texts that is looked at once, at the end; `data.held_out` are those that are looked at on the way.
    pub test: f64,
    /// Whether the parts have each class in the same share.
    pub stratified: bool,
    /// Seed of which text is of which part.
    pub seed: u64,
    /// The field or column with the text, of tables and objects.
    pub text: String,
    /// The one with the class.
    pub label: String,
}

impl Default for ClassifyConfig {
    fn default() -> ClassifyConfig {
        ClassifyConfig {
            classes: vec![],
            pooling: None,
            weights: vec![],
            balance: false,
            test: 0.2,
            stratified: true,
            seed: 123,
            text: "text".into(),
            label: "label".into(),
        }
    }
}

/// More classes than anyone names.
const CLASSES: usize = 1 << 16;

impl ClassifyConfig {
    /// The head of a model.
    pub(super) fn head(&self, model: &Model) -> Head {
        let usual = if model.kind() == Kind::Decoder { Pooling::Last } else { Pooling::First };
        Head { classes: self.classes.len(), pooling: self.pooling.unwrap_or(usual) }
    }

    /// Why classes of such texts are none, if they are none.
    pub(super) fn check(&self, data: &DataConfig) -> crate::error::Result<()> {
        Ok(self.check_settings(data)?)
    }

    fn check_settings(&self, data: &DataConfig) -> Result<(), String> {
        if data.documents != Unit::Classes || data.task != Task::None {
            return Err("the objective classify needs texts with their classes; try data.documents = \"classes\", and no data.task".into());
        }
        within("classify.test", self.test, (Included(0.0), Excluded(1.0 - data.held_out)), 0.2)?;
        within("classify.seed", self.seed, 0..=i64::MAX as u64, 123)?;
        let n = self.classes.len();
        if n == 1 || n > CLASSES {
            return Err(format!("classify.classes has {n}, expected 2 to {CLASSES}, or none for those of the data"));
        }
        if let Some(again) = (0..n).find(|i| self.classes[..*i].contains(&self.classes[*i])) {
            return Err(format!("classify.classes has {:?} twice; name each class once", self.classes[again]));
        }
        if !self.weights.is_empty() && n > 0 && self.weights.len() != n {
            return Err(format!("classify.weights has {} numbers, expected one for each of {n} classes", self.weights.len()));
        }
        self.weights.iter().try_for_each(|w| within("classify.weights", *w, (Included(0.0), Included(1e6)), 1.0))
    }
}
