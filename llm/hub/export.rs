//! A model as Hugging Face's libraries load it.

use super::import::described;
use super::{CONFIG, Directory, GENERATION, INDEX, TENSORS, TOKENIZER};
use crate::chat::{self, Template};
use crate::config::ChatConfig;
use crate::data::Marks;
use crate::error::{Error, Result};
use crate::files::{NewDirectory, write_file};
use crate::text::Tokenizer;
use crate::weights::named::{Tensors, narrowed};
use crate::weights::write::{Described, TensorWriter};
use models::hub::Fields;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The elements of an exported model's tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FileType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 8 of them an exponent.
    Bf16,
    /// 16 bits, 5 of them an exponent.
    F16,
}

ir::spell!(FileType, "type of tensors", [F32 "f32", Bf16 "bf16", F16 "f16"]);

impl FileType {
    fn dtype(self) -> Dtype {
        match self {
            FileType::F32 => Dtype::F32,
            FileType::Bf16 => Dtype::BF16,
            FileType::F16 => Dtype::F16,
        }
    }

    /// What PyTorch calls it.
    fn torch(self) -> &'static str {
        match self {
            FileType::F32 => "float32",
            FileType::Bf16 => "bfloat16",
            FileType::F16 => "float16",
        }
    }
}

/// How a model is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Export {
    /// What its tensors are rounded to.
    pub dtype: FileType,
    /// The most bytes of tensors in a file, unless one alone has more.
    pub shard: u64,
}

impl Default for Export {
    fn default() -> Export {
        Export { dtype: FileType::F32, shard: 5_000_000_000 }
    }
}

/// Writes a model to a new directory; the number of its files of tensors. There is one tensor in memory at a time, and nothing under the
/// name `to` before all is written.
pub fn export(from: &Directory, to: &Path, how: &Export) -> Result<usize> {
    from.is_whole()?;
    let model = from.model();
    let written = model.to_hub().map_err(|why| Error(format!("{}: {} cannot be exported: {why}", from.path().display(), model.name())))?;
    let template = Template::of(from.path(), &ChatConfig::default().date)?;
    let (tokenizer, mut generation) = (from.tokenizer()?, from.generation()?);
    if generation.end.is_empty() {
        generation.end.extend(tokenizer.as_ref().and_then(Tokenizer::end_of_text));
    }
    let all = from.parameters()?;
    let tensors = from.tensors()?;
    for (name, ty) in &all {
        tensors.check(name, ty)?;
    }
    tensors.check_all_read()?;
    let new = NewDirectory::create(to)?;
    let put = |name: &str, value: &Value| {
        let text = serde_json::to_string_pretty(value).expect("it is JSON") + "\n";
        write_file(&new.path().join(name), text.as_bytes())
    };
    let said = generation.written();
    let mut fields = written.into_fields();
    if let Some(labels) = from.labels() {
        let pad = tokenizer.as_ref().map_or(0, |t| Marks::of(t).filling(t.end_of_text()));
        let none = |why| Error(format!("{}: {} with its head cannot be exported: {why}", from.path().display(), model.name()));
        labels.write(model, &mut fields, pad).map_err(none)?;
    }
    fields.insert("torch_dtype".into(), how.dtype.torch().into());
    fields.extend(said.clone().into_iter().filter(|(key, _)| key.ends_with("_token_id")));
    put(CONFIG, &Value::Object(fields))?;
    put(GENERATION, &Value::Object(said))?;
    if let Some(template) = &template {
        write_file(&new.path().join(chat::FILE), template.source().as_bytes())?;
    }
    if let Some(tokenizer) = &tokenizer {
        write_file(&new.path().join(Tokenizer::FILE), tokenizer.to_hub().as_bytes())?;
        put(TOKENIZER, &Value::Object(tokenizer_config(tokenizer, model.context(), generation.end.first().copied(), generation.begin)))?;
    }
    let shards = shards(described(&all, how.dtype.dtype()), how.shard);
    write_shards(new.path(), &shards, &tensors, how.dtype.dtype())?;
    new.commit()?;
    Ok(shards.len())
}

/// What transformers wants to know of a tokenizer beside its file.
fn tokenizer_config(tokenizer: &Tokenizer, context: usize, end: Option<i32>, begin: Option<i32>) -> Fields {
    let token = |id: Option<i32>| id.filter(|id| usize::try_from(*id).is_ok_and(|id| id < tokenizer.size())).map(|id| tokenizer.decode(&[id]));
    let fields = [
        ("tokenizer_class", Some(Value::from("PreTrainedTokenizerFast"))),
        ("clean_up_tokenization_spaces", Some(Value::from(false))),
        ("model_max_length", Some(Value::from(context))),
        ("bos_token", token(begin).map(Value::from)),
        ("eos_token", token(end).map(Value::from)),
    ];
    fields.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?))).collect()
}

/// Tensors in files of so many bytes, in order; one that is larger has its own.
fn shards(tensors: Vec<Described>, most: u64) -> Vec<Vec<Described>> {
    let mut shards: Vec<Vec<Described>> = vec![];
    let mut bytes = 0;
    for tensor in tensors {
        let size = tensor.bytes() as u64;
        match shards.last_mut() {
            Some(last) if bytes + size <= most => {
                last.push(tensor);
                bytes += size;
            }
            _ => {
                shards.push(vec![tensor]);
                bytes = size;
            }
        }
    }
    shards
}

/// Writes the files of tensors and, where there are several, their index.
fn write_shards(dir: &Path, shards: &[Vec<Described>], from: &Tensors, dtype: Dtype) -> Result<()> {
    let name = |i: usize| match shards.len() {
        1 => TENSORS.to_string(),
        n => format!("model-{:05}-of-{n:05}.safetensors", i + 1),
    };
    for (i, shard) in shards.iter().enumerate() {
        // the mark by which transformers knows whose layouts these are
        let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
        let mut file = TensorWriter::create(&dir.join(name(i)), shard, Some(metadata))?;
        for tensor in shard {
            file.push(&narrowed(&from.expect(&tensor.name, &tensor.ty())?, dtype))?;
        }
        file.commit()?;
    }
    if shards.len() == 1 {
        return Ok(());
    }
    let places: BTreeMap<&str, String> = shards.iter().enumerate().flat_map(|(i, s)| s.iter().map(move |t| (t.name.as_str(), name(i)))).collect();
    let total: usize = shards.iter().flatten().map(Described::bytes).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": places});
    write_file(&dir.join(INDEX), (serde_json::to_string_pretty(&index).expect("it is JSON") + "\n").as_bytes())
}
