//! Adapters: further parameters beside a model's, which stay as they are.
//!
//! How one is applied is mathematics on the program that a model became, for any model: `weave.rs` finds the linear layers, and `lora.rs`
//! says what stands beside them. What stands before texts, `prompt.rs`, a model is told of as it reads.

mod lora;
mod merge;
mod packed;
pub mod peft;
mod prompt;
mod weave;

pub use lora::Low;
use merge::floats;
pub use merge::merge;
pub use prompt::Prompt;
pub use weave::{Change, Linear, linears, weave};

use crate::config::{AdapterConfig, Config, Models};
use crate::error::Result as Outcome;
use crate::error::{Error, hint};
use crate::objective::{parameters, whole};
use crate::weights::named::Tensors;
use crate::weights::open_checkpoint;
use crate::weights::packed::{Held, Packed};
use ir::{Graph, Op, Type};
use models::{Adaptation, Before, Init, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// An adapter in a directory, as PEFT writes it or of a run beside a model: its settings, and its tensors by the names that they have here.
pub fn open(dir: &Path, models: &Models) -> Outcome<(AdapterConfig, Tensors)> {
    if !dir.join(Config::FILE).is_file() {
        return peft::open(dir);
    }
    let settings = Config::of_run(dir, models)?.adapter;
    if !settings.is_on() {
        return Err(Error(format!("{}: this run stands beside no model: it is one itself", dir.display())));
    }
    Ok((settings, open_checkpoint(dir)?.tensors))
}

/// One of the adapters that are beside a model at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is called, where there are several.
    pub name: Option<String>,
    /// Its settings.
    pub settings: AdapterConfig,
    /// How much of it counts.
    pub weight: f64,
}

impl From<AdapterConfig> for Part {
    /// All of it, and no other.
    fn from(settings: AdapterConfig) -> Part {
        Part { name: None, settings, weight: 1.0 }
    }
}

/// What is beside a model's layers, or before its texts.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    parts: Vec<Part>,
    /// The layers that something is beside, by module.
    layers: BTreeMap<String, (Linear, Vec<Low>)>,
    /// How matrices of all layers but heads are held.
    held: Held,
    /// The other layers.
    others: Vec<Linear>,
    /// What stands before every text.
    prompt: Option<Prompt>,
    /// The model's own parameters that are trained, too.
    whole: Vec<(String, Type)>,
}

impl Adapter {
    /// What the settings say, beside a model.
    pub fn of(model: &Model, settings: &AdapterConfig) -> Result<Adapter, String> {
        Adapter::of_parts(model, vec![settings.clone().into()], &|_| true)
    }

    /// The same of several at once, beside layers whose matrices a program has.
    pub fn of_parts(model: &Model, parts: Vec<Part>, has: &dyn Fn(&str) -> bool) -> Result<Adapter, String> {
        let (model, mut prompts) = (&model.adapted(None), vec![]);
        let program = whole(model).map_err(|e| e.0)?;
        let mut all = linears(&program);
        all.retain(|linear| has(&linear.path));
        let mut layers: BTreeMap<String, (Linear, Vec<Low>)> = BTreeMap::new();
        let held = parts.first().map_or(Held::Whole, |part| part.settings.base);
        for part @ Part { name, settings, weight } in &parts {
            settings.check()?;
            if settings.base != held {
                let all = [held, settings.base].map(|h| h.to_string()).join(" and ");
                return Err(format!("adapter.base is {all}: adapters that count at once stand beside matrices that are held one way"));
            }
            if settings.kind.is_before() {
                prompts.push(Prompt::of(model, &program, part)?);
                continue;
            }
            check_targets(model, &all, settings)?;
            let (targets, others) = (&settings.targets, &settings.whole);
            for linear in all.iter().filter(|l| targets.iter().any(|t| is_target(&l.module, t)) && !others.iter().any(|t| is_target(&l.module, t))) {
                let (rank, alpha) = (said(&settings.ranks, &linear.module).unwrap_or(settings.rank), said(&settings.alphas, &linear.module));
                let scale = settings.scale(rank, alpha.unwrap_or(settings.alpha)) * weight;
                let low = Low { name: name.clone(), rank, scale, dropout: settings.dropout, dora: settings.dora };
                fits(linear, &low)?;
                layers.entry(linear.module.clone()).or_insert_with(|| (linear.clone(), vec![])).1.push(low);
            }
        }
        if prompts.len() > 1 {
            return Err(format!("{} adapters stand before every text, and one can: leave all but one away", prompts.len()));
        }
        let others = all.into_iter().filter(|l| !layers.contains_key(&l.module)).collect();
        let whole_too = trained_whole(model, &parts, &program)?;
        let adapter = Adapter { parts, layers, held, others, prompt: prompts.pop(), whole: whole_too };
        if let Some(prompt) = &adapter.prompt {
            prompt.is_read(model, &whole(&model.adapted(Some(Arc::new(adapter.clone())))).map_err(|e| e.0)?)?;
        }
        Ok(adapter)
    }

    /// Refuses tensors that are beside another model's layers, or of other sizes; `called` is the name that an adapter of several has.
    pub fn fits(&self, from: &Path, tensors: &Tensors, called: Option<&str>) -> Outcome<()> {
        let lows = self.layers.values().flat_map(|(linear, lows)| lows.iter().map(move |low| (linear, low)));
        for (linear, low) in lows.filter(|(_, low)| low.name.as_deref() == called) {
            for (_, path, ty) in low.parameters(linear) {
                tensors.check(&path, &ty).map_err(|e| Error(format!("{}: this adapter is for another model: {e}", from.display())))?;
            }
        }
        Ok(())
    }

    /// What is beside the model at once.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The layers that something is beside.
    pub fn layers(&self) -> impl Iterator<Item = &Linear> {
        self.layers.values().map(|l| &l.0)
    }

    /// The ends of names that these layers have, whatever their numbers, and no others.
    fn ends(&self) -> BTreeSet<String> {
        let end = |module: &String| {
            let parts: Vec<&str> = module.split('.').collect();
            let ends = (0..parts.len()).rev().take_while(|from| !parts[*from].starts_with('{')).map(|from| parts[from..].join("."));
            let own = |end: &String| !self.others.iter().any(|other| is_target(&other.module, end));
            ends.clone().find(own).or_else(|| ends.last())
        };
        self.layers.keys().filter_map(end).collect()
    }

    /// What becomes of the matrix of a path, in which layers have their numbers: how it is held, and what is beside it.
    fn beside(&self, path: &str) -> Option<(&Linear, Option<Packed>, &[Low])> {
        let is_it = |l: &&Linear| is_alike(path, &l.path);
        let own = self.layers.values().find(|(linear, _)| is_it(&linear)).map(|(linear, lows)| (linear, lows.as_slice()));
        let (linear, lows) = own.or_else(|| self.others.iter().find(is_it).map(|linear| (linear, [].as_slice())))?;
        Some((linear, self.packed(linear), lows))
    }

    /// How a layer's matrix is held, if in few bits.
    fn packed(&self, linear: &Linear) -> Option<Packed> {
        self.held.packed().filter(|_| is_target(&linear.module, ALL) && !self.is_whole(&linear.path))
    }

    /// The matrices of all layers of one kind, one after the other, as a program has them whose parameters are read.
    fn matrices(&self, linear: &Linear, read: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Vec<f32>, String> {
        let Some(packed) = self.packed(linear) else { return Ok(floats(&read(&linear.path)?)) };
        let [own, scales] = packed.names(&linear.path);
        let sizes = packed::matrix(linear);
        let [per_words, per_scales] = [packed.words(sizes), packed.scales(sizes)].map(|s| s.iter().product());
        let own: Vec<u32> = read(&own)?.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        let scales = floats(&read(&scales)?);
        Ok(own.chunks(per_words).zip(scales.chunks(per_scales)).flat_map(|(w, s)| packed.unpack(sizes, w, s)).collect())
    }

    /// The parameters of all that is beside the model: paths and types, stacked where layers are.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Type)> {
        let of =
            |(linear, lows): &(Linear, Vec<Low>)| lows.iter().flat_map(|l| l.parameters(linear)).map(|(_, path, ty)| (path, ty)).collect::<Vec<_>>();
        self.layers.values().flat_map(of).chain(self.prompt.iter().map(|p| (p.before.path.clone(), p.ty()))).chain(self.whole.iter().cloned())
    }

    /// Whether a parameter of this path, which may have a layer's number, is the model's own and trained, too.
    pub fn is_whole(&self, path: &str) -> bool {
        self.whole.iter().any(|p| is_alike(path, &p.0))
    }
}

impl Adaptation for Adapter {
    fn apply(&self, graph: &Graph, learning: bool) -> Result<Graph, String> {
        let change = |linear: &Linear| {
            let own = self.layers.get(&linear.module).map_or(vec![], |l| l.1.clone());
            let beside = own.into_iter().map(|low| Low { dropout: if learning { low.dropout } else { 0.0 }, ..low }).collect();
            Change { packed: self.packed(linear), beside }
        };
        Ok(weave(graph, &change))
    }

    /// As PEFT does: A as PyTorch's linear layers start, evenly between −1/√in and 1/√in, and B at 0, so that nothing is changed at first.
    fn init(&self, path: &str) -> Option<Init> {
        let of = |(linear, lows): &(Linear, Vec<Low>)| {
            let which = lows.iter().flat_map(|low| low.parameters(linear)).find(|p| is_alike(path, &p.1))?.0;
            Some((which, linear.inputs))
        };
        let beside = self.layers.values().find_map(of).map(|(which, inputs)| match which {
            lora::A => Init::Uniform(1.0 / (inputs as f64).sqrt()),
            lora::B => Init::Zeros,
            _ => Init::Ones,
        });
        beside.or_else(|| self.prompt.as_ref().filter(|p| p.before.path == path).map(Prompt::init))
    }

    fn adds(&self, path: &str) -> bool {
        self.init(path).is_some() || self.is_whole(path)
    }

    fn switched_off(&self) -> Option<Arc<dyn Adaptation>> {
        self.held.packed()?;
        let others = self.layers.values().map(|l| &l.0).chain(&self.others).cloned().collect();
        Some(Arc::new(Adapter { layers: BTreeMap::new(), others, prompt: None, ..self.clone() }))
    }

    fn before(&self) -> Option<Before> {
        self.prompt.as_ref().map(|p| p.before.clone())
    }

    /// Lengths of columns are those of the model's matrices, and a prompt is rows of its embedding.
    fn follow(&self, read: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Vec<(String, Vec<f32>)>, String> {
        let mut out: Vec<(String, Vec<f32>)> =
            self.prompt.as_ref().map(|p| p.follow(&|path| read(path).map(|bytes| floats(&bytes)))).transpose()?.flatten().into_iter().collect();
        for (linear, lows) in self.layers.values() {
            for (_, path, _) in lows.iter().flat_map(|low| low.parameters(linear)).filter(|p| p.0 == lora::MAGNITUDE) {
                out.push((path, merge::lengths(linear, &self.matrices(linear, read)?)));
            }
        }
        Ok(out)
    }
}

/// Every linear layer but the head.
pub const ALL: &str = "all-linear";
/// What heads are called.
const HEADS: [&str; 5] = ["lm_head", "cls", "score", "classifier", "v_head"];

/// What a table says of a layer, by the longest name that means it.
fn said<T: Copy>(table: &BTreeMap<String, T>, module: &str) -> Option<T> {
    table.iter().filter(|(name, _)| is_target(module, name)).max_by_key(|(name, _)| name.len()).map(|(_, x)| *x)
}

/// The model's own parameters that an adapter has whole, of which one alone can have such.
fn trained_whole(model: &Model, parts: &[Part], program: &Graph) -> Result<Vec<(String, Type)>, String> {
    let mut having = parts.iter().map(|p| &p.settings.whole).filter(|whole| !whole.is_empty());
    let (first, second) = (having.next(), having.next());
    let (Some(names), None) = (first, second) else {
        return if first.is_none() {
            Ok(vec![])
        } else {
            Err("several adapters have modules of the model whole, and one can: leave all but one away".into())
        };
    };
    let all = parameters(model).map_err(|e| e.0)?;
    let module = |path: &str| path.rsplit_once('.').map_or(path.to_string(), |(module, _)| module.to_string());
    for name in names {
        if let Some((path, _)) = all.iter().find(|(path, _)| is_target(&module(path), name) && is_tied(program, path)) {
            return Err(format!("adapter.whole: {name} is {path}, which is the embedding and the head at once: leave it away"));
        }
        if !all.iter().any(|(path, _)| is_target(&module(path), name)) {
            let ends: BTreeSet<String> = all.iter().filter_map(|p| module(&p.0).rsplit('.').next().map(String::from)).collect();
            let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
            let near = hint(name, &ends);
            return Err(format!("adapter.whole: no module of the model {} is called {name}{near}; it has {}", model.name(), ends.join(", ")));
        }
    }
    Ok(all.into_iter().filter(|(path, _)| names.iter().any(|name| is_target(&module(path), name))).collect())
}

/// Whether rows are taken of a parameter that is multiplied with, too.
fn is_tied(program: &Graph, path: &str) -> bool {
    let main = program.main();
    let by = |used: fn(&Op) -> bool| {
        let own = |id: &ir::NodeId| matches!(&main.node(*id).op, Op::Param(name, _) if **name == *path);
        main.nodes.iter().any(|n| used(&n.op) && n.args.iter().any(own))
    };
    by(|op| matches!(op, Op::Gather)) && by(|op| matches!(op, Op::Contract(_)))
}

/// Refuses names that no layer has.
fn check_targets(model: &Model, all: &[Linear], settings: &AdapterConfig) -> Result<(), String> {
    let each = |setting: &str, names: Vec<&String>| names.into_iter().try_for_each(|name| check_target(model, all, setting, name));
    each("targets", settings.targets.iter().collect())?;
    each("ranks", settings.ranks.keys().collect())?;
    each("alphas", settings.alphas.keys().collect())
}

/// Refuses a name that no layer has.
fn check_target(model: &Model, all: &[Linear], setting: &str, target: &str) -> Result<(), String> {
    if target == ALL || all.iter().any(|l| is_target(&l.module, target)) {
        return Ok(());
    }
    let mut ends: Vec<&str> = all.iter().filter_map(|l| l.module.rsplit('.').next()).collect();
    ends.sort_unstable();
    ends.dedup();
    let near = hint(target, &ends);
    Err(format!("adapter.{setting}: no linear layer of the model {} is called {target}{near}; it has {}", model.name(), ends.join(", ")))
}

/// Refuses what a layer has no room for.
fn fits(linear: &Linear, low: &Low) -> Result<(), String> {
    let Linear { module, inputs, outputs, plain, .. } = linear;
    let least = *inputs.min(outputs);
    if low.rank > least {
        return Err(format!(
            "adapter.rank is {}, and the matrix of {module} is {inputs} by {outputs}, which has no rank above {least}; try adapter.rank = {least}",
            low.rank
        ));
    }
    if low.dropout > 0.0 && !plain {
        return Err(format!("adapter.dropout: the matrix of {module} is read in parts, beside which nothing goes in; try adapter.dropout = 0"));
    }
    Ok(())
}

/// Whether a layer is meant by a name: its own, the end of it behind a dot, or a pattern in which `*` stands for any text and `#` for a number.
fn is_target(module: &str, target: &str) -> bool {
    match target {
        ALL => !HEADS.iter().any(|head| module == *head || module.starts_with(&format!("{head}."))),
        _ => passes::is_like(module, target) || module.strip_suffix(target).is_some_and(|before| before.ends_with('.')),
    }
}

/// What a layer is called whose matrix has a path in which layers have their numbers.
fn module_at(linear: &Linear, path: &str) -> String {
    let own = linear.path.strip_suffix(".weight") == Some(&linear.module);
    if own { path.strip_suffix(".weight").unwrap_or(path).to_string() } else { linear.module.clone() }
}

/// Whether two paths are one, whatever numbers layers have.
fn is_alike(path: &str, with_places: &str) -> bool {
    path == with_places || {
        let pattern: String = with_places.split('.').map(|part| if part.starts_with('{') { "#" } else { part }).collect::<Vec<_>>().join(".");
        passes::is_like(path, &pattern)
    }
}
