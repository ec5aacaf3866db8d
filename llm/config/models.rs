//! The models a configuration may name.

use crate::error::{Error, Result, hint};
use models::hub::{self, Fields};
use models::{Entry, MODELS, Model};

/// The models there are: this project's, and those a person's own program adds.
#[derive(Clone, Debug)]
pub struct Models(Vec<Entry>);

impl Default for Models {
    fn default() -> Models {
        Models(MODELS.to_vec())
    }
}

impl Models {
    /// This project's models after others. Of two of one name the first counts.
    pub fn with(own: &[Entry]) -> Models {
        Models(own.iter().chain(&MODELS).copied().collect())
    }

    /// Every model's name.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(Entry::name).collect()
    }

    /// The model of a name, at its default size.
    pub fn by_name(&self, name: &str) -> Result<Model> {
        let Some(entry) = self.0.iter().find(|m| m.answers(name)) else {
            let names = self.names();
            return Err(Error(format!("there is no model {name}; there are {}{}", names.join(", "), hint(name, &names))));
        };
        entry.default().map_err(|e| Error(format!("the model {name} has no default: {e}")))
    }

    /// Whether there is a model of a name that Hugging Face's `architectures` have.
    pub fn has_hub(&self, architecture: &str) -> bool {
        self.0.iter().any(|m| m.hub().contains(&architecture))
    }

    /// The model of Hugging Face's settings, as `config.json` has them: of the first of its `architectures`. Some models follow from which
    /// tensors there are, too, where that is known.
    pub fn from_hub(&self, fields: &Fields, tensors: Option<&dyn Fn(&str) -> bool>) -> Result<Model> {
        let architecture = hub::Config::of(fields).architecture()?;
        let Some(entry) = self.0.iter().find(|m| m.hub().contains(&architecture)) else {
            let names: Vec<&str> = self.0.iter().flat_map(|m| m.hub()).copied().collect();
            return Err(Error(format!("there is no model {architecture}; there are {}{}", names.join(", "), hint(architecture, &names))));
        };
        let model = entry.from_hub(fields, tensors)?;
        model.check()?;
        Ok(model)
    }
}
