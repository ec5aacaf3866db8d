//! What a model is trained to do, as people write it: the section `[objective]`.

use crate::objective::Objective;
use models::check::within;
use models::losses::Terms;
use models::{Head, Kind, Model};
use serde::{Deserialize, Serialize};
use std::ops::Bound::{Excluded, Included};

/// What is asked of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Aim {
    /// Each token's successor.
    NextToken,
    /// Tokens that are hidden, by all the others (Devlin et al. 2019).
    Masked,
    /// An answer to a text, token after token.
    Answer,
    /// The rest of a text whose beginning is read in both directions (Raffel et al. 2020, §3.2).
    Prefix,
    /// The middle of a text, after its beginning and its end (Bavarian et al. 2022).
    Fim,
    /// Spans that are hidden, in their order, as an answer (Raffel et al. 2020).
    Spans,
    /// Which of some classes a text is of.
    Classes,
    /// Which of two answers people preferred.
    Preferences,
    /// What an answer is worth, by pairs of which people preferred one.
    Rewards,
    /// Answers that are worth more.
    Policy,
    /// What another model says.
    Imitation,
}

ir::spell!(
    Aim,
    "objective",
    [NextToken "next-token", Masked "masked" | "mlm", Answer "answer" | "seq2seq", Prefix "prefix" | "prefix-lm", Fim "fim", Spans "spans" | "span-corruption", Classes "classify" | "classes", Preferences "preference", Rewards "reward", Policy "policy", Imitation "distill"]
);

impl Aim {
    /// What a model of a kind is trained to do unless said.
    pub fn of(kind: Kind) -> Aim {
        match kind {
            Kind::Decoder => Aim::NextToken,
            Kind::Encoder => Aim::Masked,
            Kind::EncoderDecoder => Aim::Answer,
        }
    }

    /// The kinds of model that it is for.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Aim::NextToken | Aim::Prefix | Aim::Fim | Aim::Preferences | Aim::Rewards | Aim::Policy | Aim::Imitation => &[Kind::Decoder],
            Aim::Masked => &[Kind::Encoder],
            Aim::Answer | Aim::Spans => &[Kind::EncoderDecoder],
            Aim::Classes => &[Kind::Decoder, Kind::Encoder],
        }
    }
}

/// What a model is trained to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveConfig {
    /// What is asked: next-token, prefix or fim of a decoder, masked of an encoder, answer or spans of an encoder-decoder; the first of
    /// them where it is not set. Or classify, of a decoder or an encoder,
    /// and preference, reward, policy or distill, of a decoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Aim>,
    /// The share of tokens that a masked model is asked for.
    pub mask_rate: f64,
    /// Of these the share that is hidden behind the mask.
    pub mask_hidden: f64,
    /// And the share that is another token, drawn of all; the rest is left as it is.
    pub mask_random: f64,
    /// Whether words are hidden whole.
    pub whole_word: bool,
    /// Whether a masked model is also asked if the second of two segments follows the first; of lines, with an empty one between texts.
    pub next_sentence: bool,
    /// The share of tokens in spans that are hidden.
    pub noise_density: f64,
    /// Tokens a span that is hidden, on average.
    pub mean_span: f64,
    /// Tokens an answer may have at most; 0 for what the objective needs.
    pub target: usize,
    /// The share of texts whose middle is asked last.
    pub fim_rate: f64,
    /// Of these the share whose end is read before their beginning (SPM); the others' beginning is read first (PSM).
    pub spm_rate: f64,
    /// The share of the target that is spread over all tokens alike.
    pub label_smoothing: f64,
    /// The weight of log² of the softmax's sum in the loss, which keeps logits small (Chowdhery et al. 2022).
    pub z_loss: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> ObjectiveConfig {
        ObjectiveConfig {
            kind: None,
            mask_rate: 0.15,
            mask_hidden: 0.8,
            mask_random: 0.1,
            whole_word: false,
            next_sentence: false,
            noise_density: 0.15,
            mean_span: 3.0,
            target: 0,
            fim_rate: 0.5,
            spm_rate: 0.5,
            label_smoothing: 0.0,
            z_loss: 0.0,
        }
    }
}

impl ObjectiveConfig {
    /// What is asked of a model.
    pub fn aim(&self, model: &Model) -> Aim {
        self.kind.unwrap_or(Aim::of(model.kind()))
    }

    /// What is added to the loss.
    pub fn terms(&self) -> Terms {
        Terms { label_smoothing: self.label_smoothing, z_loss: self.z_loss }
    }

    /// Why a model cannot be trained so, if it cannot: the first setting that is out of its range, or does not fit the model.
    pub fn check(&self, model: &Model) -> Result<(), String> {
        let usual = ObjectiveConfig::default();
        let share = |name: &str, value: f64, usual: f64| within(&format!("objective.{name}"), value, 0.0..=1.0, usual);
        within("objective.mask_rate", self.mask_rate, (Excluded(0.0), Included(1.0)), usual.mask_rate)?;
        share("mask_hidden", self.mask_hidden, usual.mask_hidden)?;
        within("objective.mask_random", self.mask_random, 0.0..=1.0 - self.mask_hidden, (1.0 - self.mask_hidden) / 2.0)?;
        within("objective.noise_density", self.noise_density, (Excluded(0.0), Excluded(1.0)), usual.noise_density)?;
        within("objective.mean_span", self.mean_span, 1.0..=1e6, usual.mean_span)?;
        within("objective.target", self.target, ..=models::check::LARGEST, usual.target)?;
        share("fim_rate", self.fim_rate, usual.fim_rate)?;
        share("spm_rate", self.spm_rate, usual.spm_rate)?;
        within("objective.label_smoothing", self.label_smoothing, (Included(0.0), Excluded(1.0)), "0.1")?;
        within("objective.z_loss", self.z_loss, 0.0..=1e6, "1e-4")?;
        self.check_sentences(model)?;
        self.check_kind(model)
    }

    /// Sentences are asked of a masked model that has segments.
    fn check_sentences(&self, model: &Model) -> Result<(), String> {
        let aim = self.aim(model);
        if self.next_sentence && aim != Aim::Masked {
            return Err(format!("objective.next_sentence is true, and the objective is {aim}; try false, or objective.kind = \"masked\""));
        }
        let segments = model.settings().get("type_vocab_size").and_then(toml::Value::as_integer).unwrap_or(2);
        if self.next_sentence && segments < 2 {
            return Err(format!("objective.next_sentence is true, and type_vocab_size is {segments}, expected one for each segment; try 2"));
        }
        Ok(())
    }

    /// Each objective is for a kind of model.
    fn check_kind(&self, model: &Model) -> Result<(), String> {
        let aim = self.aim(model);
        if aim.kinds().contains(&model.kind()) {
            return Ok(());
        }
        let needs = match aim.kinds() {
            [Kind::Decoder] => "a decoder",
            [Kind::Encoder] => "an encoder",
            [Kind::EncoderDecoder] => "an encoder and a decoder",
            _ => "a decoder or an encoder alone",
        };
        let is = match model.kind() {
            Kind::Decoder => "a decoder",
            Kind::Encoder => "an encoder",
            Kind::EncoderDecoder => "both",
        };
        Err(format!(
            "objective.kind is {aim}, which is for {needs}, and {} is {is}; try objective.kind = \"{}\", or another of eggcorn models",
            model.name(),
            Aim::of(model.kind())
        ))
    }

    /// The program that this is.
    pub(super) fn objective(&self, model: &Model, packed: bool, head: Head) -> Objective {
        match self.aim(model) {
            Aim::Classes => Objective::Classes(head),
            Aim::Preferences => Objective::Preferences,
            Aim::Rewards => Objective::Rewards,
            Aim::Policy => Objective::Policy,
            Aim::Imitation => Objective::Imitation,
            Aim::NextToken | Aim::Fim if packed => Objective::NextInDocument,
            Aim::NextToken | Aim::Fim | Aim::Prefix => Objective::NextToken,
            Aim::Masked => Objective::Masked,
            Aim::Answer | Aim::Spans => Objective::Answer,
        }
    }
}
