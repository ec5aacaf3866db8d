//! Texts to classes, with a model that was trained for them.

use crate::batched::Batched;
use crate::data::{Marks, TextReader};
use crate::error::{Error, Result};
use crate::hub::{Directory, Labels};
use crate::objective::{Mode, Objective, parameters};
use crate::text::Tokenizer;
use passes::Options;
use runtime::Device;

/// A model with its weights and a head that says which class a text is of.
pub struct Classifier {
    labels: Labels,
    model: Batched,
    kind: models::Kind,
}

impl Classifier {
    /// Compiles a directory's model for so many texts at a time, and reads its weights. Fails where it has no such head.
    pub fn open(directory: &Directory, device: Device, options: &Options, rows: usize) -> Result<Classifier> {
        let model = directory.model();
        let none = || {
            let path = directory.path().display();
            Error(format!(
                "{path}: the model has no head that says classes; train one with: eggcorn finetune classify --init-from {path} --data FILE"
            ))
        };
        let labels = directory.labels().ok_or_else(none)?.clone();
        let objective = Objective::Classes(labels.head());
        let graph = objective.graph(model, Mode::Evaluate)?.keep_outputs(&["logits"]);
        // files may have other heads, too
        let tensors = directory.tensors()?;
        let others: Vec<_> = parameters(model)?.into_iter().filter(|(name, ty)| tensors.has(name, ty)).collect();
        let model = Batched::open(directory, graph, "logits", &others, device, options, rows)?;
        Ok(Classifier { labels, model, kind: directory.model().kind() })
    }

    /// The classes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// How likely each class is of each text. The tokenizer is the model's.
    pub fn probabilities(&mut self, tokenizer: &Tokenizer, texts: &[&str]) -> Result<Vec<Vec<f64>>> {
        let mut reader = TextReader::new(tokenizer, self.kind, self.labels.longest);
        let pad = Marks::of(tokenizer).pad;
        let ids = texts.iter().map(|text| {
            let ids = reader.ids(text)?;
            Ok(if ids.is_empty() { vec![pad] } else { ids })
        });
        let logits = self.model.read(&ids.collect::<Result<Vec<_>>>()?)?;
        Ok(logits.iter().map(|logits| softmax(logits)).collect())
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|x| f64::from(x - most).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|x| x / sum).collect()
}
