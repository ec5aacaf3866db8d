//! A directory that has a model.

use super::{CONFIG, GENERATION, Generation, INDEX, LONGEST, TENSORS};
use crate::config::{Config, Models};
use crate::error::{Error, Result, file_error, hint};
use crate::files::read_short;
use crate::text::Tokenizer;
use crate::weights::named::Tensors;
use crate::weights::open_checkpoint;
use models::Model;
use models::hub::Fields;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A model with its weights and its tokenizer: a run's directory, or one as Hugging Face's libraries write it. What it has is read when it
/// is asked for.
pub struct Directory {
    path: PathBuf,
    model: Model,
    /// The settings as they are written, of a directory that is no run's.
    fields: Option<Fields>,
    /// Whether averages of weights count in their place.
    averaged: bool,
}

impl Directory {
    /// Whether a path is such a directory.
    pub fn at(path: &Path) -> bool {
        [Config::FILE, CONFIG].iter().any(|name| path.join(name).is_file())
    }

    /// Reads what the model is, one of those there are.
    pub fn open(path: &Path, models: &Models) -> Result<Directory> {
        if path.join(Config::FILE).is_file() {
            return Ok(Directory { path: path.into(), model: Config::of_run(path, models)?.model, fields: None, averaged: false });
        }
        let config = path.join(CONFIG);
        let text = read_short(&config, LONGEST).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                let files = format!("expected {CONFIG}, as Hugging Face's libraries write it, or {}, as a run has it", Config::FILE);
                Error(format!("{}: there is no model in this folder: {files}", path.display()))
            }
            _ => file_error(&config, "the model's settings cannot be read", e),
        })?;
        let fail = |why: String| file_error(&config, "the model's settings cannot be read", why);
        let fields: Fields = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
        // without tensors, or with damaged ones, a directory still says what its model is
        let tensors = of_folder(path).ok();
        let there = tensors.as_ref().map(|tensors| |name: &str| tensors.contains(name));
        let model = models.from_hub(&fields, there.as_ref().map(|f| f as &dyn Fn(&str) -> bool)).map_err(|e| fail(e.to_string()))?;
        Ok(Directory { path: path.into(), model, fields: Some(fields), averaged: false })
    }

    /// The same with the averages of its weights, which a run keeps that was asked to, in their place.
    pub fn averaged(self, averaged: bool) -> Directory {
        Directory { averaged, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Whether it is a run's.
    pub fn is_run(&self) -> bool {
        self.fields.is_none()
    }

    /// The tensors, of which the headers alone are read: of a run those of its last checkpoint.
    pub fn tensors(&self) -> Result<Tensors> {
        let tensors = if self.is_run() { open_checkpoint(&self.path)?.tensors } else { of_folder(&self.path)? };
        if self.averaged { tensors.averaged() } else { Ok(tensors) }
    }

    /// The tokenizer, if there is one; its tokens must be the model's.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        if ![Tokenizer::OWN, Tokenizer::FILE].iter().any(|name| self.path.join(name).exists()) {
            return Ok(None);
        }
        let tokenizer = Tokenizer::read(&self.path)?;
        self.fits(&tokenizer)?;
        Ok(Some(tokenizer))
    }

    /// Refuses a tokenizer with tokens that the model does not have. One may have fewer: vocabularies are filled up to round numbers.
    pub fn fits(&self, tokenizer: &Tokenizer) -> Result<()> {
        Directory::fits_model(&self.path, &self.model, tokenizer)
    }

    /// The same of a model that is at a path.
    pub(super) fn fits_model(path: &Path, model: &Model, tokenizer: &Tokenizer) -> Result<()> {
        let (have, most) = (tokenizer.size(), model.vocab_size());
        if have <= most {
            return Ok(());
        }
        Err(Error(format!("{}: the tokenizer has {have} tokens, and the model {most}", path.display())))
    }

    /// How it is to write.
    pub fn generation(&self) -> Result<Generation> {
        let path = self.path.join(GENERATION);
        let own = match read_short(&path, LONGEST) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| file_error(&path, "how to write cannot be read", e))?,
            Err(e) if e.kind() == ErrorKind::NotFound => Fields::new(),
            Err(e) => return Err(file_error(&path, "how to write cannot be read", e)),
        };
        Generation::read(&own, self.fields.as_ref()).map_err(|why| file_error(&path, "how to write cannot be read", why))
    }
}

/// The tensors of a folder as Hugging Face's libraries write it.
fn of_folder(path: &Path) -> Result<Tensors> {
    let (whole, index) = (path.join(TENSORS), path.join(INDEX));
    if whole.exists() {
        return Tensors::open(&whole);
    }
    if index.exists() {
        return sharded(path, &index);
    }
    let others = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"];
    let other = others.iter().find(|name| path.join(name).exists());
    let instead = other.map_or(String::new(), |name| format!("; {name} is not read: load it with transformers and save_pretrained it again"));
    Err(Error(format!("{}: there are no weights in this folder: expected {TENSORS} or {INDEX}{instead}", path.display())))
}

/// The tensors of the files that an index names. An index names each tensor's file, and every file of tensors stands beside it.
fn sharded(dir: &Path, path: &Path) -> Result<Tensors> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let fail = |why: String| file_error(path, "the index of the tensors cannot be read", why);
    let text = read_short(path, LONGEST).map_err(|e| fail(e.to_string()))?;
    let index: Index = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    if let Some(name) = names.iter().find(|n| n.contains(['/', '\\', '\0']) || !n.ends_with(".safetensors")) {
        return Err(fail(format!("it names the file {name:?}, expected one beside it, as in \"model-00001-of-00002.safetensors\"")));
    }
    let files: Vec<PathBuf> = names.iter().map(|n| dir.join(n)).collect();
    if let Some(missing) = files.iter().find(|f| !f.exists()) {
        return Err(file_error(missing, "a file of tensors is missing", format!("{INDEX} names it; download it, too")));
    }
    let tensors = Tensors::of_files(path, &files)?;
    let places: BTreeMap<&str, &Path> = tensors.places().collect();
    for (tensor, file) in &index.weight_map {
        if places.get(tensor.as_str()) != Some(&dir.join(file).as_path()) {
            let near = hint(tensor, &places.keys().copied().collect::<Vec<_>>());
            return Err(fail(format!("it says that tensor {tensor} is in {file}, and it is not{near}")));
        }
    }
    Ok(tensors)
}
