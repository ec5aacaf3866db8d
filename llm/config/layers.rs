//! Which layers are trained, and at what rates: by how deep a parameter stands.

use super::Config;
use crate::error::{Error, Result};
use crate::objective::Objective;
use ir::{Graph, NodeId, Op, Type, names};
use models::Model;
use std::collections::BTreeSet;

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Before the first layer, which reads what is made of it: of embeddings.
    Before,
    /// In layers: the number of the first that the tensor stacks, how far it is to the next, and the number of the last.
    Layers(names::Place, usize),
    /// Behind the last: of norms there, and heads.
    Behind,
}

/// The depths of a model's parameters.
#[derive(Clone, Debug, Default)]
pub struct Depths {
    before: BTreeSet<String>,
    /// How many layers there are.
    pub layers: usize,
}

impl Depths {
    /// Those of what an objective's program reads.
    pub fn of(objective: Objective, model: &Model) -> Result<Depths> {
        let graph = objective.forward(model)?;
        let layers = graph.params().iter().filter_map(|(path, ty)| Some(stacked(path, ty)?.1 + 1)).max();
        Ok(Depths { before: before(&graph), layers: layers.unwrap_or(0) })
    }

    /// Where one stands.
    pub fn at(&self, path: &str, ty: &Type) -> Depth {
        match stacked(path, ty) {
            Some((place, last)) => Depth::Layers(place, last),
            None if self.before.contains(path) => Depth::Before,
            None => Depth::Behind,
        }
    }
}

/// The layers that a tensor stacks: their place, and the number of the last.
fn stacked(path: &str, ty: &Type) -> Option<(names::Place, usize)> {
    let (_, place) = names::places(path).next()?;
    let count = ty.sizes().first().copied().unwrap_or(1).max(1);
    Some((place, place.number(count - 1)))
}

/// The parameters that what loops read is made of, and that are in none.
fn before(graph: &Graph) -> BTreeSet<String> {
    let main = graph.main();
    let mut open: Vec<NodeId> = main.ids().filter(|id| matches!(main.node(*id).op, Op::Repeat(_))).collect();
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = main.node(id);
        open.extend(&node.args);
        if let Op::Param(path, _) = &node.op {
            found.insert(path.to_string());
        }
    }
    found
}

/// What of the step's rate a parameter has: a share, of stacked layers the last one's, and how many times as large each layer's is as that of
/// the one before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    pub lr: f64,
    pub growth: f64,
}

impl Share {
    /// All of it.
    pub(super) const WHOLE: Share = Share { lr: 1.0, growth: 1.0 };
}

impl Config {
    /// The depths of what is trained; none where they do not matter.
    pub(super) fn depths(&self) -> Result<Option<Depths>> {
        let o = &self.optimizer;
        if o.last_layers.is_none() && o.layer_decay == 1.0 {
            return Ok(None);
        }
        let depths = Depths::of(self.objective(), &self.model)?;
        match o.last_layers {
            Some(n) if n > depths.layers => {
                let layers = depths.layers;
                Err(Error(format!("optimizer.last_layers is {n}, and the model has {layers} layers; try optimizer.last_layers = {layers}")))
            }
            Some(_) | None => Ok(Some(depths)),
        }
    }

    /// The same configuration with a model whose layers that stay are a loop of their own, so that no gradient goes through them.
    pub fn divided(self) -> Result<Config> {
        let plain = Config { model: self.model.divided(None), ..self };
        let Some(n) = plain.optimizer.last_layers else { return Ok(plain) };
        let layers = plain.depths()?.map_or(0, |d| d.layers);
        let model = plain.model.divided(Some(layers - n));
        Ok(Config { model, ..plain })
    }

    /// What of the step's rate a parameter has by its depth; none where it stays what it is.
    pub(super) fn share(&self, depths: &Depths, path: &str, ty: &Type) -> Option<Share> {
        let (decay, top) = (self.optimizer.layer_decay, depths.layers as i32 - 1);
        let first = self.optimizer.last_layers.map(|n| depths.layers - n);
        match depths.at(path, ty) {
            Depth::Before => first.is_none().then(|| Share { lr: decay.powi(top + 1), growth: 1.0 }),
            Depth::Layers(_, last) if first.is_some_and(|first| last < first) => None,
            Depth::Layers(place, last) => Some(Share { lr: decay.powi(top - last as i32), growth: decay.powi(-(place.step as i32)) }),
            Depth::Behind => Some(Share::WHOLE),
        }
    }
}
