//! How answers that people preferred are learned: the section `[preference]`.

use super::{Aim, Config};
use crate::data::{Task, Unit};
use models::check::within;
use models::losses::{Kto, Pairwise};
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// Which loss of preferences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Preference {
    /// Direct preference optimization (Rafailov et al. 2023).
    #[default]
    Dpo,
    /// Its difference drawn to a number (Azar et al. 2023).
    Ipo,
    /// Single answers, good or bad (Ethayarajh et al. 2024).
    Kto,
    /// Odds, beside the chosen answer's own loss (Hong et al. 2024).
    Orpo,
    /// Mean log-probabilities, with no reference (Meng et al. 2024).
    SimPo,
}

ir::spell!(Preference, "kind of preference", [Dpo "dpo" | "sigmoid", Ipo "ipo", Kto "kto", Orpo "orpo", SimPo "simpo"]);

impl Preference {
    /// Whether it asks how likely answers were before.
    pub fn refers(self) -> bool {
        match self {
            Preference::Dpo | Preference::Ipo | Preference::Kto => true,
            Preference::Orpo | Preference::SimPo => false,
        }
    }

    /// How much a difference counts unless said.
    fn beta(self) -> f64 {
        match self {
            Preference::Dpo | Preference::Ipo | Preference::Kto | Preference::Orpo => 0.1,
            Preference::SimPo => 2.0,
        }
    }

    /// By how much the chosen answer is to be better unless said.
    fn margin(self) -> f64 {
        match self {
            Preference::Dpo | Preference::Ipo | Preference::Kto | Preference::Orpo => 0.0,
            Preference::SimPo => 1.0,
        }
    }
}

/// How preferences are learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PreferenceConfig {
    /// The loss: dpo, ipo, kto, orpo or simpo.
    pub kind: Preference,
    /// How much a difference of log-probabilities counts: 0.1 where it is not set, of simpo 2. Of orpo it is the weight of what is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// By how much the chosen answer is to be better, of dpo, simpo and rewards: 0 where it is not set, of simpo 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// The share of pairs that are thought to be the wrong way round; of dpo with some it is conservative DPO.
    pub label_smoothing: f64,
    /// How much good answers count, of kto.
    pub desirable: f64,
    /// How much bad answers count, of kto.
    pub undesirable: f64,
}

impl Default for PreferenceConfig {
    fn default() -> PreferenceConfig {
        PreferenceConfig { kind: Preference::Dpo, beta: None, margin: None, label_smoothing: 0.0, desirable: 1.0, undesirable: 1.0 }
    }
}

impl PreferenceConfig {
    /// How much a difference counts.
    pub fn beta(&self) -> f64 {
        self.beta.unwrap_or(self.kind.beta())
    }

    /// By how much the chosen answer is to be better.
    pub fn margin(&self) -> f64 {
        self.margin.unwrap_or(self.kind.margin())
    }

    /// How pairs are compared.
    pub fn pairwise(&self) -> Pairwise {
        Pairwise { beta: self.beta(), margin: self.margin(), label_smoothing: self.label_smoothing }
    }

    /// How rewards are: a difference counts as it is.
    pub fn rewards(&self) -> Pairwise {
        Pairwise { beta: 1.0, margin: self.margin.unwrap_or(0.0), label_smoothing: self.label_smoothing }
    }

    /// How single answers are weighed.
    pub fn unpaired(&self) -> Kto {
        Kto { beta: self.beta(), desirable: self.desirable, undesirable: self.undesirable }
    }

    /// Why such texts have no preferences, or these settings are none.
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let (data, train) = (&config.data, &config.train);
        if data.documents != Unit::Preferences || data.task != Task::None {
            return Err(
                "preferences are learned of records with a prompt, a chosen answer and a rejected one; try data.documents = \"preferences\", and \
                 no data.task"
                    .into(),
            );
        }
        let parts = train.ramp.iter().filter_map(|r| r.accumulate).chain([train.accumulate]).max().unwrap_or(1);
        if config.aim() == Aim::Preferences && self.kind == Preference::Kto && parts > 1 {
            return Err(format!(
                "preference.kind is kto, which holds each answer beside the mean of all of a step, and train.accumulate is {parts}, whose \
                 micro-batches know their own alone; try train.accumulate = 1 and train.batch = {}",
                train.batch * parts as usize
            ));
        }
        within("preference.beta", self.beta(), (Excluded(0.0), Included(1e6)), self.kind.beta())?;
        within("preference.margin", self.margin(), -1e6..=1e6, self.kind.margin())?;
        within("preference.label_smoothing", self.label_smoothing, (Included(0.0), Excluded(0.5)), 0.1)?;
        within("preference.desirable", self.desirable, 0.0..=1e6, 1.0)?;
        within("preference.undesirable", self.undesirable, 0.0..=1e6, 1.0)
    }
}
