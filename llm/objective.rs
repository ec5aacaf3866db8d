//! What a model is trained to do: a model becomes a program with a loss.

use crate::error::{Error, Result};
use ir::{Builder, DType, Dim, Graph, NodeId, Op, Type};
use models::{Documents, Model, Reading, losses};

/// What a model is trained to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Objective {
    /// To guess each token's successor.
    #[default]
    NextToken,
    /// The same in rows that whole documents are packed into: each is read as if it stood alone.
    NextInDocument,
}

/// What a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Learning: with dropout, where the model has any.
    Train,
    /// Looking: nothing is dropped.
    Evaluate,
}

impl Objective {
    /// The columns of a batch that the program reads, each `i32[B,T]`: tokens first.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Objective::NextToken => &["input_ids", "labels"],
            Objective::NextInDocument => &["input_ids", "labels", "document_ids", "position_ids"],
        }
    }

    /// The program: inputs are the columns and, where something is dropped, `key`, a `u32`; results are `logits` `f32[B,T,V]`,
    /// `loss.sum` and `loss.count`. Documents are refused where the model takes no notice of them, for then they would see each other.
    pub fn graph(self, model: &Model, mode: Mode) -> Result<Graph> {
        let b = Builder::default();
        let s = b.scope();
        let shape = (Dim::sym('B'), Dim::sym('T'));
        let columns: Vec<_> = self.columns().iter().map(|name| s.input(name, DType::I32, shape)).collect();
        let key = (mode == Mode::Train && model.dropout() > 0.0).then(|| s.input("key", DType::U32, [] as [Dim; 0]));
        let documents = match self {
            Objective::NextToken => None,
            Objective::NextInDocument => Some(Documents { ids: columns[2], positions: columns[3] }),
        };
        let logits = model.head(&s, model.hidden(&s, &Reading { key, documents, ..Reading::of(columns[0]) }).0);
        b.output("logits", logits);
        match self {
            Objective::NextToken | Objective::NextInDocument => losses::cross_entropy(&s, logits, columns[1]).output(&b),
        }
        let graph = b.finish().map_err(|e| Error(e.to_string()))?;
        match self {
            Objective::NextInDocument if !reads(&graph, "document_ids") => Err(Error(format!(
                "the model {} takes no notice of documents: its attention must ask Place::visible, or try data.packing = \"windows\"",
                model.name()
            ))),
            Objective::NextToken | Objective::NextInDocument => Ok(graph),
        }
    }

    /// The program for `batch` windows of `context` tokens.
    pub fn bound(self, model: &Model, mode: Mode, batch: usize, context: usize) -> Result<Graph> {
        Ok(self.graph(model, mode)?.bind(&|s| match s {
            'B' => Some(batch as u64),
            'T' => Some(context as u64),
            _ => None,
        })?)
    }
}

/// A model's parameters by name.
pub fn parameters(model: &Model) -> Result<Vec<(String, Type)>> {
    let graph = Objective::NextToken.graph(model, Mode::Evaluate)?;
    Ok(graph.params().into_iter().map(|(name, ty)| (name.to_string(), ty)).collect())
}

/// Whether a program makes use of an input.
fn reads(graph: &Graph, name: &str) -> bool {
    let (index, main) = (graph.inputs.iter().position(|i| i == name), graph.main());
    let own = |id: &NodeId| matches!(main.node(*id).op, Op::Input(i, _) if Some(i as usize) == index);
    main.nodes.iter().flat_map(|n| &n.args).any(own)
}

/// The program of a step on `batch` windows of `context` tokens, before the compiler has seen it.
pub fn bound(model: &Model, batch: usize, context: usize) -> Result<Graph> {
    Objective::NextToken.bound(model, Mode::Train, batch, context)
}
