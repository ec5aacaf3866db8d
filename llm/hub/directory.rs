//! A directory that has a model.

use super::{CONFIG, GENERATION, Generation, INDEX, LONGEST, Labels, TENSORS};
use crate::adapter::{self, Adapter, Part};
use crate::config::{Config, Models};
use crate::error::{Error, Result, file_error, hint};
use crate::files::read_short;
use crate::objective::{Objective, parameters};
use crate::text::Tokenizer;
use crate::weights::named::Tensors;
use crate::weights::{Base, open_checkpoint, read_manifest};
use ir::Type;
use models::Model;
use models::hub::Fields;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model with its weights and its tokenizer: a run's directory, or one as Hugging Face's libraries write it. What it has is read when it
/// is asked for.
pub struct Directory {
    path: PathBuf,
    model: Model,
    /// The settings as they are written, of a directory that is no run's.
    fields: Option<Fields>,
    /// The classes that its head says, where it has one that does.
    labels: Option<Labels>,
    /// Whether averages of weights count in their place.
    averaged: bool,
    /// The model that a run's parameters stand beside.
    base: Option<Box<Directory>>,
    /// What they are.
    adapter: Option<Arc<Adapter>>,
    /// Where else adapters are that stand beside the model.
    beside: Vec<(Option<String>, PathBuf)>,
    models: Models,
}

impl Directory {
    /// Whether a path is such a directory.
    pub fn at(path: &Path) -> bool {
        [Config::FILE, CONFIG].iter().any(|name| path.join(name).is_file())
    }

    /// Reads what the model is, one of those there are.
    pub fn open(path: &Path, models: &Models) -> Result<Directory> {
        if path.join(Config::FILE).is_file() {
            let config = Config::of_run(path, models)?;
            let base = read_manifest(path)?.and_then(|m| m.base).map(|base| Directory::beside(path, &base, models)).transpose()?;
            let adapter = if config.adapter.is_on() { Some(config.beside()) } else { None };
            let own = Directory { base: base.map(Box::new), labels: Labels::of_run(&config), ..Directory::plain(path, config.model, None) };
            return match adapter {
                Some(adapter) => Ok(own.adapted(adapter.map_err(|why| Error(format!("{}: {why}", path.display())))?)),
                None => Ok(own),
            };
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
        let with_head = Labels::split(&fields, &|name| models.has_hub(name)).map_err(fail)?;
        let without = with_head.as_ref().map_or(&fields, |(fields, _)| fields);
        let model = models.from_hub(without, there.as_ref().map(|f| f as &dyn Fn(&str) -> bool)).map_err(|e| fail(e.to_string()))?;
        let labels = with_head.map(|(_, classes)| Labels::read(classes, &model));
        Ok(Directory { labels, ..Directory::plain(path, model, Some(fields)) })
    }

    fn plain(path: &Path, model: Model, fields: Option<Fields>) -> Directory {
        Directory {
            path: path.into(),
            model,
            fields,
            labels: None,
            averaged: false,
            base: None,
            adapter: None,
            beside: vec![],
            models: Models::default(),
        }
    }

    /// The same with this beside the model.
    fn adapted(self, adapter: Adapter) -> Directory {
        let adapter = Arc::new(adapter);
        Directory { model: self.model.adapted(Some(adapter.clone())), adapter: Some(adapter), ..self }
    }

    /// The same with adapters of other directories beside it, as PEFT writes them or of runs, each with how much of it counts.
    pub fn with_adapters(self, from: &[(PathBuf, f64)], models: &Models) -> Result<Directory> {
        if from.is_empty() {
            return Ok(self);
        }
        if let Some(base) = &self.base {
            let (own, base) = (self.path.display(), base.path.display());
            return Err(Error(format!("{own} stands beside the model in {base}: name that one, and this with --adapter beside the others")));
        }
        let (mut parts, mut beside) = (vec![], vec![]);
        for (i, (path, weight)) in from.iter().enumerate() {
            let name = (from.len() > 1).then(|| format!("adapter{i}"));
            parts.push(Part { name: name.clone(), settings: adapter::open(path, models)?.0, weight: *weight });
            beside.push((name, path.clone()));
        }
        let adapter = Adapter::of_parts(&self.model, parts, &|_| true).map_err(|why| Error(format!("{}: {why}", self.path.display())))?;
        for (name, path) in &beside {
            adapter.fits(path, &called(adapter::open(path, models)?.1, name.as_deref(), &adapter), name.as_deref())?;
        }
        Ok(Directory { beside, models: models.clone(), ..self }.adapted(adapter))
    }

    /// Refuses a model that others' parameters stand beside, where it is to be written whole.
    pub(super) fn is_whole(&self) -> Result<()> {
        match &self.adapter {
            Some(_) => Err(Error(format!(
                "{}: an adapter stands beside this model; try eggcorn merge, which makes one of both, or export with --adapter",
                self.path.display()
            ))),
            None => Ok(()),
        }
    }

    /// What stands beside the model.
    pub fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_deref()
    }

    /// The model that a run stands beside, as it was.
    fn beside(run: &Path, base: &Base, models: &Models) -> Result<Directory> {
        let own = |what: String| Error(format!("{}: {what}", run.display()));
        let place = base.path.display();
        let missing = "this run stands beside the model in";
        if !Directory::at(&base.path) {
            return Err(own(format!("{missing} {place}, and there is none; put it there, or its place into checkpoint.json, as base.path")));
        }
        let directory = Directory::open(&base.path, models)?;
        if directory.checksum()? != base.checksum {
            return Err(own(format!("{missing} {place}, whose tensors have another checksum than when it was trained: it is another model now")));
        }
        Ok(directory)
    }

    /// The model that it stands beside, if it does.
    pub fn base(&self) -> Option<&Directory> {
        self.base.as_deref()
    }

    /// What is said of this model where others stand beside it.
    pub fn as_base(&self) -> Result<Base> {
        let path = self.path.canonicalize().map_err(|e| file_error(&self.path, "the folder cannot be found", e))?;
        Ok(Base { path, checksum: self.checksum()? })
    }

    fn checksum(&self) -> Result<String> {
        if self.is_run() { Ok(open_checkpoint(&self.path)?.manifest.checksum) } else { of_folder(&self.path)?.checksum() }
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

    /// The classes that its head says, where it has one that does.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// The model's parameters by name, those of every head.
    pub fn parameters(&self) -> Result<Vec<(String, Type)>> {
        self.parameters_of(&self.model)
    }

    /// Those without what stands beside the model, as the model's files have them.
    pub(crate) fn plain_parameters(&self) -> Result<Vec<(String, Type)>> {
        self.parameters_of(&self.model.adapted(None))
    }

    fn parameters_of(&self, model: &Model) -> Result<Vec<(String, Type)>> {
        match &self.labels {
            Some(labels) => Objective::Classes(labels.head()).parameters(model),
            None => parameters(model),
        }
    }

    /// Whether it is a run's.
    pub fn is_run(&self) -> bool {
        self.fields.is_none()
    }

    /// The tensors, of which the headers alone are read: of a run those of its last checkpoint.
    pub fn tensors(&self) -> Result<Tensors> {
        let tensors = if self.is_run() { open_checkpoint(&self.path)?.tensors } else { of_folder(&self.path)? };
        let tensors = if self.averaged { tensors.averaged()? } else { tensors };
        // of what is trained whole what was trained counts
        let trained = |name: &str| self.adapter.as_ref().is_some_and(|a| a.is_whole(name));
        let tensors = match &self.base {
            Some(base) => tensors.with(base.tensors()?.without(&trained))?,
            None => tensors,
        };
        match self.tensors_beside()? {
            Some(own) => tensors.without(&trained).with(own),
            None => Ok(tensors),
        }
    }

    /// The tensors of the adapters that were named beside the model, and no others; none where none was.
    pub fn tensors_beside(&self) -> Result<Option<Tensors>> {
        let Some(adapter) = &self.adapter else { return Ok(None) };
        let own =
            |(name, path): &(Option<String>, PathBuf)| Ok::<Tensors, Error>(called(adapter::open(path, &self.models)?.1, name.as_deref(), adapter));
        let mut all = self.beside.iter().map(own);
        all.next().map(|first| all.try_fold(first?, |some, next| some.with(next?))).transpose()
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

/// The tensors of an adapter, by the names that they have where it is called so, but for the model's own among them.
fn called(tensors: Tensors, name: Option<&str>, adapter: &Adapter) -> Tensors {
    tensors.renamed(&|tensor| match (name, tensor.strip_suffix(".weight")) {
        (Some(_), _) if adapter.is_whole(tensor) => tensor.to_string(),
        (Some(name), Some(factor)) => format!("{factor}.{name}.weight"),
        (Some(name), None) => format!("{tensor}.{name}"),
        (None, _) => tensor.to_string(),
    })
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
