//! Adapters in the files of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`, read and written.

use super::Adapter;
use super::merge::heads;
use crate::config::{AdapterConfig, AdapterKind};
use crate::error::{Error, Result, file_error};
use crate::files::{NewDirectory, read_short, write_file};
use crate::hub::Directory;
use crate::weights::named::Tensors;
use crate::weights::pieces;
use crate::weights::write::{Described, TensorWriter};
use ir::Type;
use models::Kind;
use models::hub::{Config, Fields};
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

/// The file of settings.
pub const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// What stands before a module's name in the file of tensors.
const PREFIX: &str = "base_model.model.";
/// More bytes than the settings of any adapter have.
const LONGEST: u64 = 1 << 22;

/// An adapter as it is in a directory: its settings, whose targets are the modules that have tensors, and these by the names they have here.
pub fn open(dir: &Path) -> Result<(AdapterConfig, Tensors)> {
    let path = dir.join(CONFIG);
    let fail = |why: String| file_error(&path, "the adapter's settings cannot be read", why);
    if !path.is_file() {
        let why = format!("expected {CONFIG}, as PEFT writes it, or config.toml, as a run has it");
        return Err(Error(format!("{}: there is no adapter in this folder: {why}", dir.display())));
    }
    let text = read_short(&path, LONGEST).map_err(|e| fail(e.to_string()))?;
    let fields: Fields = serde_json::from_str(&text).map_err(|e| fail(e.to_string()))?;
    // of a head PEFT also saves the model's own matrix
    let tensors = Tensors::open(&dir.join(TENSORS))?.without(&|name| name.contains(".base_layer."));
    let tensors = tensors.renamed(&|name| name.strip_prefix(PREFIX).unwrap_or(name).to_string());
    let targets = targets(&tensors);
    if targets.is_empty() {
        return Err(file_error(&dir.join(TENSORS), "there is no adapter in this file", "expected tensors whose names end in lora_A.weight"));
    }
    let settings = settings(&fields).map_err(fail)?;
    Ok((AdapterConfig { targets, ..settings }, tensors))
}

/// The modules that have tensors, whatever the layer.
fn targets(tensors: &Tensors) -> Vec<String> {
    let module = |name: &str| name.rsplit_once(".lora_A.").map(|(module, _)| module.to_string());
    let number = |part: &str| if part.parse::<u32>().is_ok() { "#".to_string() } else { part.to_string() };
    let all: BTreeSet<String> = tensors.places().filter_map(|(name, _)| module(name)).collect();
    let alike: BTreeSet<String> = all.iter().map(|m| m.split('.').map(number).collect::<Vec<_>>().join(".")).collect();
    // a file of a model without its head lacks what stands before all of its names
    alike.into_iter().map(|m| if m.contains('#') { format!("*{m}") } else { m }).collect()
}

/// The settings, but for the targets. One that changes the arithmetic and is not known here is refused by its name.
fn settings(fields: &Fields) -> std::result::Result<AdapterConfig, String> {
    let usual = AdapterConfig::default();
    let mut c = Config::of(fields);
    c.must("peft_type", "LORA")?;
    c.must("bias", "none")?;
    for off in ["use_qalora", "lora_bias", "megatron_config", "use_bdlora"] {
        c.must(off, false)?;
    }
    for none in ["rank_pattern", "alpha_pattern", "layers_to_transform", "modules_to_save", "exclude_modules", "trainable_token_indices"] {
        let said = c.get(none).filter(|v| !matches!(v, Value::Object(o) if o.is_empty()));
        if let Some(value) = said {
            return Err(format!("{none} is {value}, which is not read here: expected none"));
        }
    }
    Ok(AdapterConfig {
        kind: AdapterKind::Lora,
        rank: c.size_or("r", usual.rank)?,
        alpha: c.number_or("lora_alpha", 8.0)?,
        dropout: c.number_or("lora_dropout", 0.0)?,
        rslora: c.flag("use_rslora", false)?,
        dora: c.flag("use_dora", false)?,
        ..usual
    })
}

/// Writes what stands beside a model to a new directory; how many tensors it has.
pub fn export(from: &Directory, to: &Path) -> Result<usize> {
    let base = from.base().map_or(from.path(), Directory::path);
    let Some(adapter) = from.adapter() else {
        return Err(Error(format!("{}: nothing stands beside this model; train something with finetune lora first", from.path().display())));
    };
    if adapter.parts().len() != 1 {
        return Err(Error(format!("{}: several adapters stand beside this model, and a file has one", from.path().display())));
    }
    let tensors = from.tensors()?;
    let heads = heads(from, adapter, &tensors)?;
    write(adapter, &heads, from.model().kind(), base, to, &|name, ty| tensors.expect(name, ty))
}

/// Writes an adapter and heads that were trained with it to a new directory, of the model in another; `read` gives a parameter by its path
/// and type.
fn write(
    adapter: &Adapter,
    heads: &[(String, Type)],
    kind: Kind,
    base: &Path,
    to: &Path,
    read: &dyn Fn(&str, &Type) -> Result<Vec<u8>>,
) -> Result<usize> {
    let new = NewDirectory::create(to)?;
    let text = serde_json::to_string_pretty(&config(adapter, heads, kind, base)).expect("settings have a JSON form") + "\n";
    write_file(&new.path().join(CONFIG), text.as_bytes())?;
    let own: Vec<(String, Type)> = adapter.parameters().chain(heads.iter().cloned()).collect();
    let each = |(path, ty): &(String, Type)| {
        let own =
            pieces(path, ty).into_iter().map(|(name, shape)| (name.clone(), Described { name: format!("{PREFIX}{name}"), dtype: Dtype::F32, shape }));
        own.collect::<Vec<_>>()
    };
    let mut all: Vec<(String, Described)> = own.iter().flat_map(each).collect();
    all.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    let described: Vec<Described> = all.iter().map(|t| t.1.clone()).collect();
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let mut file = TensorWriter::create(&new.path().join(TENSORS), &described, Some(metadata))?;
    for (name, tensor) in &all {
        file.push(&read(name, &tensor.ty())?)?;
    }
    file.commit()?;
    new.commit()?;
    Ok(all.len())
}

/// The settings as PEFT has them.
fn config(adapter: &Adapter, heads: &[(String, Type)], kind: Kind, base: &Path) -> Value {
    let task = match kind {
        _ if !heads.is_empty() => "SEQ_CLS",
        Kind::Decoder => "CAUSAL_LM",
        Kind::Encoder => "FEATURE_EXTRACTION",
        Kind::EncoderDecoder => "SEQ_2_SEQ_LM",
    };
    let settings = &adapter.parts()[0].settings;
    json!({
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base.display().to_string(),
        "inference_mode": true,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "use_rslora": settings.rslora,
        "use_dora": settings.dora,
        "target_modules": adapter.ends(),
        "modules_to_save": (!heads.is_empty()).then(|| saved(heads)),
        "bias": "none",
        "fan_in_fan_out": adapter.layers().any(|l| l.turned),
        "init_lora_weights": true,
    })
}

/// The modules whose parameters are saved whole: a head by its name, and what else is trained by its own.
fn saved(heads: &[(String, Type)]) -> BTreeSet<String> {
    let module = |path: &str| {
        let first = path.split('.').next().unwrap_or(path);
        let whole = path.rsplit_once('.').map_or(path, |p| p.0);
        if super::HEADS.contains(&first) { first.to_string() } else { whole.to_string() }
    };
    heads.iter().map(|(path, _)| module(path)).collect()
}
