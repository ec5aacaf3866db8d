//! A run directory made of a model that is there already.

use super::{Directory, Generation};
use crate::chat::{self, Template};
use crate::config::{ChatConfig, Config, DataConfig};
use crate::error::Result;
use crate::files::{NewDirectory, write_file};
use crate::text::{Kind, Tokenizer};
use crate::weights::checkpoint::{Manifest, tensors_of};
use crate::weights::pieces;
use crate::weights::write::{Described, TensorWriter};
use ir::Type;
use safetensors::tensor::Dtype;
use std::path::Path;

/// What an import made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Number of parameters.
    pub parameters: usize,
    /// What is to be known of tensors that were not taken over.
    pub notices: Vec<String>,
}

/// Makes a run directory `to` of a model in another, with a tokenizer where that has none. There is one tensor in memory at a time, and
/// nothing under the name `to` before all is written.
pub fn import(from: &Directory, tokenizer: Option<&Tokenizer>, to: &Path) -> Result<Imported> {
    from.is_whole()?;
    let own = from.tokenizer()?;
    let tokenizer = tokenizer.or(own.as_ref());
    tokenizer.map_or(Ok(()), |t| from.fits(t))?;
    let (tensors, generation) = (from.tensors()?, from.generation()?);
    let all = from.parameters()?;
    for (name, ty) in &all {
        tensors.check(name, ty)?;
    }
    let notices = tensors.check_all_read()?;
    let config = from.labels().map_or_else(|| Config::of(from.model().clone()), |labels| labels.config(from.model()));
    let template = Template::of(from.path(), &ChatConfig::default().date)?;
    let template = template.as_ref().map(Template::source);
    write_run(config, &all, (tokenizer, template), &generation, to, &|name, ty| tensors.expect(name, ty))?;
    Ok(Imported { parameters: all.iter().map(|p| p.1.count()).sum(), notices })
}

/// Writes the run directory; `read` gives a tensor by its name and type.
pub(crate) fn write_run(
    config: Config,
    all: &[(String, Type)],
    (tokenizer, template): (Option<&Tokenizer>, Option<&str>),
    generation: &Generation,
    to: &Path,
    read: &dyn Fn(&str, &Type) -> Result<Vec<u8>>,
) -> Result<()> {
    let new = NewDirectory::create(to)?;
    Config { data: DataConfig { tokenizer: Kind::File, ..config.data.clone() }, ..config }.write(new.path())?;
    tokenizer.map_or(Ok(()), |t| t.write(new.path()))?;
    template.map_or(Ok(()), |t| write_file(&new.path().join(chat::FILE), t.as_bytes()))?;
    if *generation != Generation::default() {
        generation.write(new.path())?;
    }
    let tensors = tensors_of(0);
    let (bytes, checksum) = write_tensors(&new.path().join(&tensors), all, read)?;
    Manifest { format: 1, step: 0, tensors, bytes, checksum, text: String::new(), loss: None, base: None, kl: None }.write(new.path())?;
    new.commit()
}

/// Writes parameters to a file, in the order of their names.
fn write_tensors(path: &Path, all: &[(String, Type)], read: &dyn Fn(&str, &Type) -> Result<Vec<u8>>) -> Result<(u64, String)> {
    let tensors = described(all, Dtype::F32);
    let mut file = TensorWriter::create(path, &tensors, None)?;
    for t in &tensors {
        file.push(&read(&t.name, &t.ty())?)?;
    }
    file.commit()
}

/// The tensors that parameters are in files of an element type, in the order of their names.
pub(super) fn described(all: &[(String, Type)], dtype: Dtype) -> Vec<Described> {
    let each = |(name, ty): &(String, Type)| pieces(name, ty).into_iter().map(|(name, shape)| Described { name, dtype, shape });
    let mut tensors: Vec<Described> = all.iter().flat_map(each).collect();
    tensors.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    tensors
}
