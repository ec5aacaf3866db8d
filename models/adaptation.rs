//! What may stand between a model's mathematics and its program.

use crate::before::Before;
use crate::init::Init;
use ir::Graph;
use std::fmt;
use std::sync::Arc;

/// A change of every program that a model's mathematics becomes, and further parameters that it reads: an adapter beside weights that stay as
/// they are. No model knows of it.
pub trait Adaptation: fmt::Debug + Send + Sync {
    /// The program with what is added to it. Where it is to learn, things may be dropped, by a key that is the input `key`, a `u32`.
    fn apply(&self, graph: &Graph, learning: bool) -> Result<Graph, String>;

    /// How a parameter starts that is added, `{}` in its path being the layer's number already; none of the model's own.
    fn init(&self, path: &str) -> Option<Init>;

    /// Parameters that are added whose start follows from the program's others, of which the bytes of one are read by its path: the path and
    /// the values of each.
    fn follow(&self, _read: &dyn Fn(&str) -> Result<Vec<u8>, String>) -> Result<Vec<(String, Vec<f32>)>, String> {
        Ok(vec![])
    }

    /// Tokens that stand before every text, of which more is learned.
    fn before(&self) -> Option<Before> {
        None
    }

    /// What is left of it where nothing learned counts: a change of how the model's own parameters are held, if there is one.
    fn switched_off(&self) -> Option<Arc<dyn Adaptation>> {
        None
    }

    /// Whether a parameter of this path, which may have places, is one of those that are added.
    fn adds(&self, path: &str) -> bool {
        self.init(path).is_some()
    }
}
