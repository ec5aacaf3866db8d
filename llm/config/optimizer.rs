//! `[optimizer]`: how parameters are updated, and which of them otherwise.

use super::layers::Share;
use super::mup::Wider;
use super::settings::word;
use ir::Type;
use models::check::within;
use passes::{Adafactor, Adam, AdamW, Group, Lion, Muon, Optimizer, Scale, Sgd, Which};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included};
use toml::{Table, Value};

/// An optimizer by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay.
    #[default]
    AdamW,
    /// Adam, whose weight decay is part of the gradient.
    Adam,
    /// Gradient descent with momentum.
    Sgd,
    /// The sign of a mean of gradients.
    Lion,
    /// Second means of rows and columns alone.
    Adafactor,
    /// Orthogonal momentum for the matrices inside of layers, and AdamW for all else.
    Muon,
}

ir::spell!(OptimizerName, "optimizer", [AdamW "adamw", Adam "adam", Sgd "sgd", Lion "lion", Adafactor "adafactor", Muon "muon"]);

/// How parameters are updated. The learning rate is the schedule's, `train.lr` and what stands beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Which: adamw, adam, sgd, lion, adafactor or muon.
    pub name: OptimizerName,
    /// Decay of the mean of gradients, of adamw, adam and lion.
    pub beta1: f64,
    /// Decay of the mean of their squares, of adamw and adam; of the mean of gradients that lion keeps.
    pub beta2: f64,
    /// What adamw and adam add to a root.
    pub eps: f64,
    /// Weight decay of matrices; biases and gains do not decay. 0.1 unless set, and 0 of adam, sgd and adafactor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// What sgd and muon keep of a step for the next: 0.9 and 0.95 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// Nesterov's momentum: muon's unless set, and not sgd's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// What muon multiplies orthogonal steps by: match-adamw, so that `train.lr` is right for both, original or spectral.
    #[serde(with = "word")]
    pub scale: Scale,
    /// Adafactor's exponent of the step for what is new in its means.
    pub beta2_decay: f64,
    /// Adafactor's least root of a mean of squares.
    pub eps1: f64,
    /// Adafactor's least size of a parameter, by which its step is measured.
    pub eps2: f64,
    /// Adafactor's largest root mean square of a step.
    pub d: f64,
    /// Rates and starts that are right whatever the width, where they are at the base's: of adamw, adam and lion.
    pub mup: bool,
    /// The width at which rates and starts are as they are written.
    pub base_width: usize,
    /// How many of the last layers are trained, and what stands behind them; those before, and embeddings, stay what they are. All, where it is
    /// not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_layers: Option<usize>,
    /// What the rate of a layer is multiplied by for each layer behind it; that of embeddings once more.
    pub layer_decay: f64,
    /// Parameters that are updated otherwise; the first group that holds one decides.
    pub groups: Vec<GroupConfig>,
}

impl Default for OptimizerConfig {
    fn default() -> OptimizerConfig {
        let Adafactor { beta2_decay, eps1, eps2, d, .. } = Adafactor::default();
        OptimizerConfig {
            name: OptimizerName::AdamW,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: None,
            momentum: None,
            nesterov: None,
            scale: Scale::default(),
            beta2_decay,
            eps1,
            eps2,
            d,
            mup: false,
            base_width: 128,
            last_layers: None,
            layer_decay: 1.0,
            groups: vec![],
        }
    }
}

/// Parameters that are updated otherwise than the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// Their path; `*` stands for any text, and `#` between dots for the number of a layer.
    pub path: String,
    /// How many axes they have, not counting the one that stacks layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// The optimizer, where it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<OptimizerName>,
    /// Their learning rate, as a share of the step's.
    #[serde(default = "one")]
    pub lr: f64,
    /// Their weight decay, whatever they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Whether they stay what they are.
    #[serde(default)]
    pub frozen: bool,
}

fn one() -> f64 {
    1.0
}

impl GroupConfig {
    fn which(&self) -> Which {
        Which { rank: self.rank.map_or(0..=usize::MAX, |r| r..=r), ..Which::path(&self.path) }
    }

    /// What it is called in errors.
    fn title(&self) -> String {
        let rank = self.rank.map_or(String::new(), |r| format!(" and rank {r}"));
        format!("the group of optimizer.groups with path \"{}\"{rank}", self.path)
    }
}

/// Settings that an optimizer has, besides its groups.
fn settings(name: OptimizerName) -> &'static [&'static str] {
    match name {
        OptimizerName::AdamW | OptimizerName::Adam => &["beta1", "beta2", "eps", "weight_decay"],
        OptimizerName::Sgd => &["momentum", "nesterov", "weight_decay"],
        OptimizerName::Lion => &["beta1", "beta2", "weight_decay"],
        OptimizerName::Adafactor => &["beta2_decay", "eps1", "eps2", "d", "weight_decay"],
        OptimizerName::Muon => &["momentum", "nesterov", "scale", "weight_decay", "beta1", "beta2", "eps"],
    }
}

impl OptimizerConfig {
    /// What is not set and follows from the optimizer, by key.
    pub(super) fn usual(&self) -> Table {
        let decay = self.decay(self.name);
        Table::from_iter([
            ("weight_decay".to_string(), Value::Float(decay)),
            ("momentum".into(), Value::Float(self.momentum(self.name))),
            ("nesterov".into(), Value::Boolean(self.nesterov(self.name))),
            // what nobody can write stands for all
            ("last_layers".into(), Value::Integer(-1)),
        ])
    }

    fn decay(&self, name: OptimizerName) -> f64 {
        self.weight_decay.unwrap_or(match name {
            OptimizerName::AdamW | OptimizerName::Lion | OptimizerName::Muon => 0.1,
            OptimizerName::Adam | OptimizerName::Sgd | OptimizerName::Adafactor => 0.0,
        })
    }

    fn momentum(&self, name: OptimizerName) -> f64 {
        self.momentum.unwrap_or(if name == OptimizerName::Muon { Muon::default().momentum } else { Sgd::default().momentum })
    }

    fn nesterov(&self, name: OptimizerName) -> bool {
        self.nesterov.unwrap_or(name == OptimizerName::Muon)
    }

    /// An optimizer with the settings written here.
    fn optimizer(&self, name: OptimizerName, weight_decay: f64) -> Optimizer {
        let OptimizerConfig { beta1, beta2, eps, scale, beta2_decay, eps1, eps2, d, .. } = *self;
        let (momentum, nesterov) = (self.momentum(name), self.nesterov(name));
        match name {
            OptimizerName::AdamW => Optimizer::AdamW(AdamW { beta1, beta2, eps, weight_decay }),
            OptimizerName::Adam => Optimizer::Adam(Adam { beta1, beta2, eps, weight_decay }),
            OptimizerName::Sgd => Optimizer::Sgd(Sgd { momentum, nesterov, weight_decay }),
            OptimizerName::Lion => Optimizer::Lion(Lion { beta1, beta2, weight_decay }),
            OptimizerName::Adafactor => Optimizer::Adafactor(Adafactor { beta2_decay, eps1, eps2, d, weight_decay }),
            OptimizerName::Muon => Optimizer::Muon(Muon { momentum, nesterov, weight_decay, scale }),
        }
    }

    /// A group for each of some parameters that is trained; an error names a group that holds none of them, or none that no group before it
    /// holds.
    pub(super) fn groups(
        &self,
        parameters: &[(String, Type)],
        wider: Option<Wider>,
        share: &dyn Fn(&str, &Type) -> Option<Share>,
    ) -> Result<Vec<Group>, String> {
        let whiches: Vec<Which> = self.groups.iter().map(GroupConfig::which).collect();
        let (mut held, mut decided) = (BTreeSet::<usize>::new(), BTreeSet::<usize>::new());
        let mut out = vec![];
        for (path, ty) in parameters.iter().filter(|(path, ty)| Which::all().holds(path, ty)) {
            let own: Vec<usize> = (0..whiches.len()).filter(|i| whiches[*i].holds(path, ty)).collect();
            held.extend(own.iter().copied());
            decided.extend(own.first());
            let group = self.group(path, ty, own.first().map(|i| &self.groups[*i]), wider).zip(share(path, ty));
            out.extend(group.map(|(group, share)| Group { lr: group.lr * share.lr, growth: share.growth, ..group }));
        }
        if let Some(i) = (0..self.groups.len()).find(|i| !decided.contains(i)) {
            let title = self.groups[i].title();
            if held.contains(&i) {
                return Err(format!("{title} decides nothing: groups above it hold all of its parameters; put it above them, or leave it away"));
            }
            let some: Vec<&str> = parameters.iter().take(4).map(|p| p.0.as_str()).collect();
            return Err(format!(
                "{title} holds no parameter; there are {}, …; a layer's number is {{}} or #, for layers are one parameter",
                some.join(", ")
            ));
        }
        Ok(out)
    }

    /// How a parameter is updated, where it is.
    fn group(&self, path: &str, ty: &Type, special: Option<&GroupConfig>, wider: Option<Wider>) -> Option<Group> {
        if special.is_some_and(|g| g.frozen) {
            return None;
        }
        let matrix = Which::matrices().holds(path, ty);
        // tables of a layer's biases are no products' matrices
        let of_layer = Which::layers().holds(path, ty) && !path.contains("bias");
        let name = special.and_then(|g| g.name);
        let name = match name.unwrap_or(self.name) {
            OptimizerName::Muon if !(matrix && (of_layer || name.is_some())) => OptimizerName::AdamW,
            name => name,
        };
        let decay = special.and_then(|g| g.weight_decay).unwrap_or(if matrix { self.decay(name) } else { 0.0 });
        let share = wider.map_or(1.0, |w| w.rate(path, ty));
        let lr = special.map_or(1.0, |g| g.lr) * share;
        // what decays in a step is the rate's part of it, and is to be the same at every width
        let decay = if name == OptimizerName::Adam { decay } else { decay / share };
        Some(Group { lr, ..Group::new(Which::path(path), self.optimizer(name, decay)) })
    }

    /// Settings that are not as they are by default and that no optimizer in use has.
    pub fn ignored(&self) -> Vec<String> {
        let names: Vec<OptimizerName> = self.groups.iter().filter_map(|g| g.name).chain([self.name]).collect();
        let has = |key: &str| {
            ["name", "groups", "mup", "base_width", "last_layers", "layer_decay"].contains(&key) || names.iter().any(|n| settings(*n).contains(&key))
        };
        let (own, usual) = (super::table(self), super::table(&OptimizerConfig::default()));
        own.into_iter().filter(|(key, value)| !has(key) && usual.get(key) != Some(value)).map(|(key, _)| key).collect()
    }

    /// Which setting is outside of its range, if one is.
    pub fn check(&self) -> Result<(), String> {
        // what is larger has no place in 32 bits beside a gradient
        let large = 1e30;
        for (key, x) in [("beta1", self.beta1), ("beta2", self.beta2), ("momentum", self.momentum(self.name))] {
            within(&format!("optimizer.{key}"), x, 0.0..1.0, 0.9)?;
        }
        within("optimizer.weight_decay", self.decay(self.name), 0.0..=large, 0.1)?;
        let at = |e| format!("optimizer.{e}");
        for name in OptimizerName::ALL.iter().filter(|n| **n != OptimizerName::Sgd || **n == self.name) {
            self.optimizer(*name, self.decay(*name)).check().map_err(at)?;
        }
        within("optimizer.layer_decay", self.layer_decay, (Excluded(0.0), Included(1.0)), 0.9)?;
        within("optimizer.base_width", self.base_width, 1..=models::check::LARGEST, 128)?;
        let known = [OptimizerName::AdamW, OptimizerName::Adam, OptimizerName::Lion].contains(&self.name);
        if self.mup && !known {
            return Err(format!("optimizer.mup is for adamw, adam and lion, and optimizer.name is {}; leave one of them away", self.name));
        }
        for group in &self.groups {
            within("lr", group.lr, 0.0..=large, 1.0).map_err(|e| format!("{}: {e}", group.title()))?;
            within("weight_decay", group.weight_decay.unwrap_or(0.0), 0.0..=large, 0.1).map_err(|e| format!("{}: {e}", group.title()))?;
        }
        Ok(())
    }
}
