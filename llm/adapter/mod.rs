//! Adapters: further parameters beside a model's, which stay as they are.
//!
//! How one is applied is mathematics on the program that a model became, for any model: `weave.rs` finds the linear layers, and `lora.rs`
//! says what stands beside them.

mod lora;
mod merge;
pub mod peft;
mod weave;

pub use lora::Low;
pub use merge::merge;
pub use weave::{Linear, linears, weave};

use crate::config::{AdapterConfig, Config, Models};
use crate::error::Result as Outcome;
use crate::error::{Error, hint};
use crate::objective::whole;
use crate::weights::named::Tensors;
use crate::weights::open_checkpoint;
use ir::{Graph, Type};
use models::{Adaptation, Init, Model};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

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

/// What is beside a model's layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    parts: Vec<Part>,
    /// The layers that something is beside, by module.
    layers: BTreeMap<String, (Linear, Vec<Low>)>,
    /// What the other layers are called.
    others: Vec<String>,
}

impl Adapter {
    /// Low-rank adapters beside the layers of a model that the settings name.
    pub fn of(model: &Model, settings: &AdapterConfig) -> Result<Adapter, String> {
        Adapter::of_parts(model, vec![settings.clone().into()], &|_| true)
    }

    /// The same of several at once, beside layers whose matrices a program has.
    pub fn of_parts(model: &Model, parts: Vec<Part>, has: &dyn Fn(&str) -> bool) -> Result<Adapter, String> {
        let mut all = linears(&whole(&model.adapted(None)).map_err(|e| e.0)?);
        all.retain(|linear| has(&linear.path));
        let mut layers: BTreeMap<String, (Linear, Vec<Low>)> = BTreeMap::new();
        for Part { name, settings, weight } in &parts {
            settings.check()?;
            settings.targets.iter().try_for_each(|target| check_target(model, &all, target))?;
            let scale = settings.scale() * weight;
            let low = Low { name: name.clone(), rank: settings.rank, scale, dropout: settings.dropout, dora: settings.dora };
            for linear in all.iter().filter(|l| settings.targets.iter().any(|t| is_target(&l.module, t))) {
                fits(linear, &low)?;
                layers.entry(linear.module.clone()).or_insert_with(|| (linear.clone(), vec![])).1.push(low.clone());
            }
        }
        let others = all.into_iter().map(|l| l.module).filter(|m| !layers.contains_key(m)).collect();
        Ok(Adapter { parts, layers, others })
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
            let own = |end: &String| !self.others.iter().any(|other| is_target(other, end));
            ends.clone().find(own).or_else(|| ends.last())
        };
        self.layers.keys().filter_map(end).collect()
    }

    /// What is beside the matrix of a path, in which layers have their numbers.
    fn beside(&self, path: &str) -> Option<(&Linear, &[Low])> {
        self.layers.values().find(|(linear, _)| is_alike(path, &linear.path)).map(|(linear, lows)| (linear, lows.as_slice()))
    }

    /// The parameters of all that is beside the model: paths and types, stacked where layers are.
    pub fn parameters(&self) -> impl Iterator<Item = (String, Type)> {
        let of =
            |(linear, lows): &(Linear, Vec<Low>)| lows.iter().flat_map(|l| l.parameters(linear)).map(|(_, path, ty)| (path, ty)).collect::<Vec<_>>();
        self.layers.values().flat_map(of)
    }
}

impl Adaptation for Adapter {
    fn apply(&self, graph: &Graph, learning: bool) -> Result<Graph, String> {
        let beside = |linear: &Linear| {
            let own = self.layers.get(&linear.module).map_or(vec![], |l| l.1.clone());
            own.into_iter().map(|low| Low { dropout: if learning { low.dropout } else { 0.0 }, ..low }).collect()
        };
        Ok(weave(graph, &beside))
    }

    /// As PEFT does: A as PyTorch's linear layers start, evenly between −1/√in and 1/√in, and B at 0, so that nothing is changed at first.
    fn init(&self, path: &str) -> Option<Init> {
        let of = |(linear, lows): &(Linear, Vec<Low>)| {
            let which = lows.iter().flat_map(|low| low.parameters(linear)).find(|p| is_alike(path, &p.1))?.0;
            Some((which, linear.inputs))
        };
        self.layers.values().find_map(of).map(|(which, inputs)| match which {
            lora::A => Init::Uniform(1.0 / (inputs as f64).sqrt()),
            lora::B => Init::Zeros,
            _ => Init::Ones,
        })
    }

    /// Lengths of columns are those of the model's matrices.
    fn follow(&self, read: &dyn Fn(&str) -> Result<Vec<f32>, String>) -> Result<Vec<(String, Vec<f32>)>, String> {
        let mut out = vec![];
        for (linear, lows) in self.layers.values() {
            for (_, path, _) in lows.iter().flat_map(|low| low.parameters(linear)).filter(|p| p.0 == lora::MAGNITUDE) {
                out.push((path, merge::lengths(linear, &read(&linear.path)?)));
            }
        }
        Ok(out)
    }
}

/// Every linear layer but the head.
pub const ALL: &str = "all-linear";
/// What heads are called.
const HEADS: [&str; 5] = ["lm_head", "cls", "score", "classifier", "v_head"];

/// Refuses a name that no layer has.
fn check_target(model: &Model, all: &[Linear], target: &str) -> Result<(), String> {
    if target == ALL || all.iter().any(|l| is_target(&l.module, target)) {
        return Ok(());
    }
    let mut ends: Vec<&str> = all.iter().filter_map(|l| l.module.rsplit('.').next()).collect();
    ends.sort_unstable();
    ends.dedup();
    let near = hint(target, &ends);
    Err(format!("adapter.targets: no linear layer of the model {} is called {target}{near}; it has {}", model.name(), ends.join(", ")))
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
