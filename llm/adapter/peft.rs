//! Adapters in the files of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`, read and written.

use super::merge::heads;
use super::{Adapter, Linear, Prompt, lora, prompt};
use crate::config::{AdapterConfig, AdapterKind};
use crate::error::{Error, Result, file_error};
use crate::files::{NewDirectory, read_short, write_file};
use crate::hub::Directory;
use crate::weights::named::Tensors;
use crate::weights::pieces;
use crate::weights::write::{Described, TensorWriter};
use ir::Type;
use models::hub::{Config, Fields};
use models::{Kind, Learned};
use regex::Regex;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::path::Path;

/// The file of settings.
pub const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";
/// What stands before a module's name in the file of tensors.
const PREFIX: &str = "base_model.model.";
/// The kinds of what stands before every text.
const PROMPT: &str = "PROMPT_TUNING";
const PREFIXES: &str = "PREFIX_TUNING";
/// What settings say, or why that is not read.
type Said<T> = std::result::Result<T, String>;
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
    if let Some(settings) = before(&fields).map_err(fail)? {
        if !tensors.contains(prompt::EMBEDDINGS) {
            let want = format!("expected a tensor {}", prompt::EMBEDDINGS);
            return Err(file_error(&dir.join(TENSORS), "there is no adapter in this file", want));
        }
        return Ok((settings, tensors));
    }
    let targets = targets(&tensors);
    if targets.is_empty() {
        return Err(file_error(&dir.join(TENSORS), "there is no adapter in this file", "expected tensors whose names end in lora_A.weight"));
    }
    let settings = settings(&fields, &tensors).map_err(fail)?;
    Ok((AdapterConfig { targets, ..settings }, tensors))
}

/// The settings of what stands before every text, of a file that has such. Whether a prefix was projected in training says nothing of what it is.
fn before(fields: &Fields) -> Said<Option<AdapterConfig>> {
    let mut c = Config::of(fields);
    let kind = match c.one_of("peft_type", &["LORA", PROMPT, PREFIXES])? {
        PROMPT => AdapterKind::Prompt,
        PREFIXES => AdapterKind::Prefix,
        _ => return Ok(None),
    };
    if let Some(two) = c.maybe_size("num_transformer_submodules")?.filter(|n| *n != 1) {
        return Err(format!("num_transformer_submodules is {two}: expected 1, a decoder alone"));
    }
    none(&mut c, &["modules_to_save"])?;
    Ok(Some(AdapterConfig { kind, tokens: c.size("num_virtual_tokens")?, ..AdapterConfig::default() }))
}

/// Refuses settings that say something.
fn none(c: &mut Config, names: &[&str]) -> Said<()> {
    for name in names {
        let said = c.get(name).filter(|v| !matches!(v, Value::Object(o) if o.is_empty()));
        if let Some(value) = said {
            return Err(format!("{name} is {value}, which is not read here: expected none"));
        }
    }
    Ok(())
}

/// The modules that have tensors.
fn modules(tensors: &Tensors) -> BTreeSet<String> {
    tensors.places().filter_map(|(name, _)| name.rsplit_once(".lora_A.").map(|(module, _)| module.to_string())).collect()
}

/// What a module is called, whatever the layer. A file of a model without its head lacks what stands before all of its names.
fn target(module: &str) -> String {
    let number = |part: &str| if part.parse::<u32>().is_ok() { "#".to_string() } else { part.to_string() };
    let alike = module.split('.').map(number).collect::<Vec<_>>().join(".");
    if alike.contains('#') { format!("*{alike}") } else { alike }
}

/// The modules that have tensors, whatever the layer.
fn targets(tensors: &Tensors) -> Vec<String> {
    modules(tensors).iter().map(|m| target(m)).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is said of modules that is not as usual, whatever the layer. Layers that have one name here must have one value.
fn unusual<T: Copy + PartialEq + Display>(key: &str, all: impl Iterator<Item = (String, T)>, usual: T) -> Said<BTreeMap<String, T>> {
    let mut out = BTreeMap::new();
    for (module, value) in all {
        let before = out.insert(target(&module), value);
        if let Some(other) = before.filter(|other| *other != value) {
            return Err(format!("{key}: {module} has {value}, and another layer {other}; here all layers of a model have one"));
        }
    }
    out.retain(|_, value| *value != usual);
    Ok(out)
}

/// The ranks that modules have by their tensors, in a file that says some have others.
fn ranks(c: &mut Config, tensors: &Tensors, usual: usize) -> Said<BTreeMap<String, usize>> {
    let says = c.get("rank_pattern").is_some_and(|table| table.as_object().is_none_or(|o| !o.is_empty()));
    let rank = |module: String| tensors.shape(&format!("{module}.{}.weight", lora::A)).and_then(|s| s.first().copied()).map(|rank| (module, rank));
    if says { unusual("rank_pattern", modules(tensors).into_iter().filter_map(rank), usual) } else { Ok(BTreeMap::new()) }
}

/// The alphas of modules, by patterns of which each is a module's name, or the end of it behind a dot.
fn alphas(c: &mut Config, tensors: &Tensors, usual: f64) -> Said<BTreeMap<String, f64>> {
    let Some(table) = c.get("alpha_pattern") else { return Ok(BTreeMap::new()) };
    let wrong = || format!("alpha_pattern is {table}, expected names of modules, each with a number");
    let one = |(pattern, value): (&String, &Value)| {
        let regex = Regex::new(&format!("^(.*\\.)?({pattern})$")).map_err(|_| format!("alpha_pattern: {pattern} is no pattern that is read here"))?;
        Ok::<_, String>((regex, value.as_f64().ok_or_else(wrong)?))
    };
    let all = table.as_object().ok_or_else(wrong)?.iter().map(one).collect::<Said<Vec<_>>>()?;
    let alpha = |module: String| {
        let mut said = all.iter().filter(|(regex, _)| regex.is_match(&module)).map(|(_, value)| *value);
        let first = said.next().unwrap_or(usual);
        // PEFT takes the first as they stand in the file, which is not known here
        match said.find(|other| *other != first) {
            Some(other) => Err(format!("alpha_pattern: {module} has {first} by one pattern and {other} by another: say which, by longer names")),
            None => Ok((module, first)),
        }
    };
    unusual("alpha_pattern", modules(tensors).into_iter().map(alpha).collect::<Said<Vec<_>>>()?.into_iter(), usual)
}

/// The settings, but for the targets. One that changes the arithmetic and is not known here is refused by its name.
fn settings(fields: &Fields, tensors: &Tensors) -> Said<AdapterConfig> {
    let usual = AdapterConfig::default();
    let mut c = Config::of(fields);
    c.must("bias", "none")?;
    for off in ["use_qalora", "lora_bias", "megatron_config", "use_bdlora"] {
        c.must(off, false)?;
    }
    none(&mut c, &["layers_to_transform", "exclude_modules", "trainable_token_indices"])?;
    let (rank, alpha) = (c.size_or("r", usual.rank)?, c.number_or("lora_alpha", 8.0)?);
    Ok(AdapterConfig {
        kind: AdapterKind::Lora,
        rank,
        alpha,
        ranks: ranks(&mut c, tensors, rank)?,
        alphas: alphas(&mut c, tensors, alpha)?,
        whole: whole(&mut c, tensors)?,
        dropout: c.number_or("lora_dropout", 0.0)?,
        rslora: c.flag("use_rslora", false)?,
        dora: c.flag("use_dora", false)?,
        ..usual
    })
}

/// The modules that are there whole: those that have other tensors, where the file says that there are some. PEFT takes a name for all that end
/// in it, and also names heads that a model may have.
fn whole(c: &mut Config, tensors: &Tensors) -> Said<Vec<String>> {
    if c.words("modules_to_save")?.is_none_or(|names| names.is_empty()) {
        return Ok(vec![]);
    }
    let own = tensors.places().filter(|(name, _)| !name.contains(".lora_")).filter_map(|(name, _)| name.rsplit_once('.'));
    Ok(own.map(|(module, _)| target(module)).collect::<BTreeSet<_>>().into_iter().collect())
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
    let heads = heads(from, &tensors)?;
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
        let called = |name: &str| if name == prompt::EMBEDDINGS { name.to_string() } else { format!("{PREFIX}{name}") };
        let own = pieces(path, ty).into_iter().map(|(name, shape)| (name.clone(), Described { name: called(&name), dtype: Dtype::F32, shape }));
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
    if let Some(prompt) = &adapter.prompt {
        return config_before(prompt, task, base);
    }
    let saved: BTreeSet<String> = saved(heads).into_iter().chain(modules_of(&adapter.whole)).collect();
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
        "bias": "none",
        "fan_in_fan_out": adapter.layers().any(|l| l.turned),
        "init_lora_weights": true,
        "rank_pattern": differing(adapter, &settings.ranks, settings.rank),
        "alpha_pattern": differing(adapter, &settings.alphas, settings.alpha),
        "modules_to_save": (!saved.is_empty()).then_some(saved),
    })
}

/// The modules that have these parameters, each by all of its name.
fn modules_of(parameters: &[(String, Type)]) -> BTreeSet<String> {
    let names = parameters.iter().flat_map(|(path, ty)| pieces(path, ty)).map(|(name, _)| name);
    names.filter_map(|name| name.rsplit_once('.').map(|(module, _)| module.to_string())).collect()
}

/// What a table says of layers that is not as usual, by a pattern for the names of each.
fn differing<T: Copy + PartialEq + Into<Value>>(adapter: &Adapter, table: &BTreeMap<String, T>, usual: T) -> Value {
    let own = adapter.layers().map(|linear| (pattern(linear), super::said(table, &linear.module).unwrap_or(usual)));
    Value::Object(own.filter(|(_, value)| *value != usual).map(|(name, value)| (name, value.into())).collect())
}

/// A pattern that is the name of a layer of each number, and no other's.
fn pattern(linear: &Linear) -> String {
    let loops = &linear.ty.dims[..linear.ty.rank() - 2];
    let Some(n) = loops.first().map(|n| n.size()) else { return regex::escape(&linear.module) };
    let names: Vec<String> = (0..n).map(|i| regex::escape(&ir::names::iteration(&linear.module, i))).collect();
    names.join("|")
}

/// The settings of what stands before every text, as PEFT has them.
fn config_before(prompt: &Prompt, task: &str, base: &Path) -> Value {
    let (tokens, alike) = (prompt.before.tokens, prompt.alike);
    let mut all = json!({
        "task_type": task,
        "base_model_name_or_path": base.display().to_string(),
        "inference_mode": true,
        "num_virtual_tokens": tokens,
        "num_transformer_submodules": 1,
        "num_layers": alike.map(|a| a.layers),
        "num_attention_heads": alike.map(|a| a.heads),
    });
    let own = match prompt.before.learned {
        Learned::Embedding(width) => json!({ "peft_type": PROMPT, "token_dim": width, "prompt_tuning_init": "RANDOM" }),
        Learned::Kept => {
            let width = alike.map(|a| a.heads * a.depth);
            json!({ "peft_type": PREFIXES, "token_dim": width, "encoder_hidden_size": width, "prefix_projection": false })
        }
    };
    if let (Value::Object(all), Value::Object(own)) = (&mut all, own) {
        all.extend(own);
    }
    all
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
