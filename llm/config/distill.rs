//! How a model imitates another: the section `[distill]`.

use super::DataConfig;
use models::check::within;
use models::losses::Imitation;
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// Whose distribution the distance is taken of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Divergence {
    /// All that the teacher may say (Hinton et al. 2015).
    #[default]
    Forward,
    /// Nothing that the teacher would not say (Gu et al. 2024).
    Reverse,
    /// Both, of a mixture (Agarwal et al. 2024).
    Mixed,
}

ir::spell!(Divergence, "divergence", [Forward "forward", Reverse "reverse", Mixed "mixed" | "jsd"]);

/// How a model imitates another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// The directory of the model that is imitated; its tokens are the same.
    pub teacher: String,
    /// The distance: forward, reverse or mixed.
    pub divergence: Divergence,
    /// The share of the teacher in the mixture of mixed.
    pub share: f64,
    /// What the logits of both are divided by.
    pub temperature: f64,
    /// Whether the model imitates what the teacher says of answers that the model itself writes, to prompts of pairs, as `[policy]` says.
    pub on_policy: bool,
    /// The weight of the text's own loss beside the distance, from 0, the distance alone, to 1, the text alone.
    pub text: f64,
}

impl Default for DistillConfig {
    fn default() -> DistillConfig {
        DistillConfig { teacher: String::new(), divergence: Divergence::Forward, share: 0.5, temperature: 1.0, on_policy: false, text: 0.0 }
    }
}

impl DistillConfig {
    /// The distance.
    pub fn imitation(&self) -> Imitation {
        match self.divergence {
            Divergence::Forward => Imitation::Forward,
            Divergence::Reverse => Imitation::Reverse,
            Divergence::Mixed => Imitation::Mixed(self.share),
        }
    }

    /// Why these settings are none.
    pub(super) fn check(&self, data: &DataConfig) -> Result<(), String> {
        if self.on_policy && !data.pairs() {
            return Err("distill.on_policy: answers are to prompts, and data.documents is not pairs; try data.documents = \"pairs\"".into());
        }
        if self.teacher.is_empty() {
            return Err("distill.teacher is empty, and a model imitates another; try --set distill.teacher=runs/large".into());
        }
        within("distill.share", self.share, (Excluded(0.0), Excluded(1.0)), 0.5)?;
        within("distill.temperature", self.temperature, (Excluded(0.0), Included(100.0)), 1.0)?;
        within("distill.text", self.text, (Included(0.0), Excluded(1.0)), 0.0)
    }
}
