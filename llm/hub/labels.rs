//! Models that say which class a text is of, as Hugging Face's libraries have them: another head on a model, and names of classes.

use crate::config::{Aim, ClassifyConfig, Config, DataConfig, ObjectiveConfig, TrainConfig};
use crate::data::Unit;
use models::hub::Fields;
use models::{Head, Kind, Model, Pooling};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The classes that a model's head says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Their names, in the order of their numbers.
    pub classes: Vec<String>,
    /// Which tokens speak for a text.
    pub pooling: Pooling,
    /// The most tokens of a text that are read, those around it among them.
    pub longest: usize,
}

/// What stands behind a family's name there.
const HEAD: &str = "ForSequenceClassification";
/// What stands there instead of a model without that head; the last that there is here counts.
const WITHOUT: [&str; 5] = ["LMHeadModel", "ForCausalLM", "ForPreTraining", "ForMaskedLM", "Model"];

impl Labels {
    /// The classes of a run that learns them.
    pub fn of_run(config: &Config) -> Option<Labels> {
        let pooling = config.head().pooling;
        let classes = || config.classify.classes.clone();
        (config.aim() == Aim::Classes).then(|| Labels { classes: classes(), pooling, longest: config.train.context })
    }

    /// The configuration of a run that has learned them.
    pub(crate) fn config(&self, model: &Model) -> Config {
        let usual = Config::of(model.clone());
        Config {
            data: DataConfig { documents: Unit::Classes, ..usual.data },
            objective: ObjectiveConfig { kind: Some(Aim::Classes), ..usual.objective },
            classify: ClassifyConfig { classes: self.classes.clone(), pooling: Some(self.pooling), ..usual.classify },
            train: TrainConfig { context: self.longest, ..usual.train },
            ..usual
        }
    }

    /// The head.
    pub fn head(&self) -> Head {
        Head { classes: self.classes.len(), pooling: self.pooling }
    }

    /// The settings of a `config.json` as those of the model without its head, and the names of the classes; none where it has no such head.
    pub(super) fn split(fields: &Fields, known: &dyn Fn(&str) -> bool) -> Result<Option<(Fields, Vec<String>)>, String> {
        let name = fields.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
        let Some(family) = name.and_then(|name| name.strip_suffix(HEAD)) else { return Ok(None) };
        let Some(without) = WITHOUT.iter().rev().map(|end| format!("{family}{end}")).find(|name| known(name)) else { return Ok(None) };
        let mut fields = fields.clone();
        let classes = classes(&fields)?;
        fields.insert("architectures".into(), json!([without]));
        Ok(Some((fields, classes)))
    }

    /// The same of settings that are read.
    pub(super) fn read(classes: Vec<String>, model: &Model) -> Labels {
        Labels { classes, pooling: usual(model), longest: model.context() }
    }

    /// Makes settings of a model those of one with this head; why there is no such model there, if there is none. `pad` is what fills rows up:
    /// decoders there look for it to find a text's last token.
    pub(super) fn write(&self, model: &Model, fields: &mut Fields, pad: i32) -> Result<(), String> {
        model.classes_to_hub(self.pooling)?;
        let name = fields["architectures"][0].as_str().unwrap_or_default();
        let family = WITHOUT.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let (numbers, names): (Fields, Fields) =
            self.classes.iter().enumerate().map(|(i, c)| ((c.clone(), i.into()), (i.to_string(), c.as_str().into()))).unzip();
        let name = format!("{family}{HEAD}");
        fields.extend([("architectures".to_string(), json!([name])), ("pad_token_id".into(), pad.into())]);
        fields.extend([("id2label".to_string(), Value::Object(names)), ("label2id".into(), Value::Object(numbers))]);
        Ok(())
    }
}

/// Which tokens speak for a text of a model there.
fn usual(model: &Model) -> Pooling {
    if model.kind() == Kind::Decoder { Pooling::Last } else { Pooling::First }
}

/// The names of classes in the order of their numbers: two where nothing is said, as there.
fn classes(fields: &Fields) -> Result<Vec<String>, String> {
    let Some(Value::Object(names)) = fields.get("id2label") else { return Ok(vec!["LABEL_0".into(), "LABEL_1".into()]) };
    let one = |(number, name): (&String, &Value)| Some((number.parse::<usize>().ok()?, name.as_str()?.to_string()));
    let all: Option<BTreeMap<usize, String>> = names.iter().map(one).collect();
    match all {
        Some(all) if !all.is_empty() && all.keys().copied().eq(0..names.len()) => Ok(all.into_values().collect()),
        _ => Err("id2label names no classes: expected an object of names for 0, 1 and so on, as in {\"0\": \"ham\", \"1\": \"spam\"}".into()),
    }
}
