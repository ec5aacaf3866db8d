//! Where a program comes from: a model by name, or a file of IR text, as `dump` prints it.

use super::options::{ModelArgs, apply};
use eggcorn::ir::Graph;
use eggcorn::llm::hub::Directory;
use eggcorn::llm::{Config, Error, Models, Result};
use eggcorn::models::Model;
use std::io::Read;
use std::path::Path;

/// What a command's MODEL names.
pub enum Source {
    /// A model with its settings.
    Model(Model),
    /// A program of its own.
    Text(Text),
}

/// A program that was read.
pub struct Text {
    /// The program.
    pub graph: Graph,
    /// The comments in front of it, as they stand.
    pub comments: String,
    /// Where it was read, for errors.
    pub path: String,
}

/// Sizes of named dims.
#[derive(clap::Args)]
pub struct DimArgs {
    /// The size of a named dim of a program that is read from a file, as in --dim S=128. B is --batch, and T --seq, where there are such.
    #[arg(long, value_name = "NAME=SIZE")]
    dim: Vec<String>,
}

impl ModelArgs {
    /// The model of a name or of a directory, or the program of a file: `-`, what has a folder or ends in `.ir`, or a file that is there.
    pub fn source(&self, models: &Models) -> Result<Source> {
        if let Some(directory) = self.directory(models)? {
            return self.changed(directory.model().clone()).map(Source::Model);
        }
        let file = self.model == "-" || self.model.contains(std::path::is_separator) || self.model.ends_with(".ir");
        if self.named(models) || !(file || Path::new(&self.model).is_file()) {
            return self.changed(models.by_name(&self.model)?).map(Source::Model);
        }
        if let Some(set) = self.set.first() {
            return Err(Error(format!("--set {set}: {} is a program, and settings are a model's; its dims have sizes by --dim", self.model)));
        }
        read(&self.model).map(Source::Text)
    }

    fn named(&self, models: &Models) -> bool {
        models.names().contains(&self.model.as_str())
    }

    /// The directory that is named, where it is none of the models' names.
    pub fn directory(&self, models: &Models) -> Result<Option<Directory>> {
        let path = Path::new(&self.model);
        if self.named(models) || !path.is_dir() { Ok(None) } else { self.adapters.beside(Directory::open(path, models)?, models).map(Some) }
    }

    /// A model with the changed settings, checked.
    fn changed(&self, model: Model) -> Result<Model> {
        let config = apply(Config::of(model), &self.set)?;
        config.check_model()?;
        Ok(config.adapted()?.model)
    }
}

/// Reads a program.
fn read(path: &str) -> Result<Text> {
    let mut bytes = vec![];
    let content = if path == "-" { std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes) } else { std::fs::read(path) };
    let content = content.map_err(|e| Error(format!("{path}: the program cannot be read: {e}")))?;
    let text = String::from_utf8(content).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error(format!("{path}: this is no text in UTF-8: byte {at} is 0x{:02x}", e.as_bytes()[at]))
    })?;
    let graph: Graph = text.parse().map_err(|e: eggcorn::ir::ParseError| Error(format!("{path}:{}:{}: {}", e.line, e.column, e.message)))?;
    let comments = text.lines().take_while(|l| l.starts_with(';')).flat_map(|l| [l, "\n"]).collect();
    Ok(Text { graph, comments, path: path.into() })
}

impl Text {
    /// The program with sizes for its named dims: as `--dim` says, else as `known` does.
    pub fn bound(&self, dims: &DimArgs, known: &dyn Fn(char) -> Option<u64>) -> Result<Graph> {
        let said = dims.sizes()?;
        let used: Vec<char> = self.graph.symbols();
        if let Some((name, size)) = said.iter().find(|d| !used.contains(&d.0)) {
            return Err(Error(format!("--dim {name}={size}: {} has no dim of that name", self.path)));
        }
        let size_of = |name: char| said.iter().rev().find(|d| d.0 == name).map(|d| d.1).or_else(|| known(name));
        self.graph.bind(&size_of).map_err(|why| Error(format!("{}: {why}", self.path)))
    }
}

impl DimArgs {
    fn sizes(&self) -> Result<Vec<(char, u64)>> {
        let one = |text: &String| {
            let (name, size) = text.split_once('=')?;
            let (name, rest) = (name.chars().next()?, name.chars().nth(1));
            (name.is_ascii_uppercase() && rest.is_none()).then_some((name, size.parse().ok()?))
        };
        self.dim.iter().map(|d| one(d).ok_or_else(|| Error(format!("--dim {d}: expected a capital letter and a size, as in --dim S=128")))).collect()
    }

    /// Refuses sizes where they mean nothing.
    pub fn none_for_a_model(&self) -> Result<()> {
        match self.dim.first() {
            Some(d) => Err(Error(format!("--dim {d}: a model's dims are --batch and --seq"))),
            None => Ok(()),
        }
    }
}
