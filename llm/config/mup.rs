//! Maximal update parametrisation: rates that are right for a narrow model are right for a wide one (Yang et al. 2022, "Tensor Programs V",
//! table 3, of Adam).
//!
//! With n times the base's width, matrices inside of layers learn at 1/n of the rate and start at 1/√n of the deviation; those of the head at 1/n
//! of both. Embeddings, biases and gains stay. A model's heads of attention must be as wide at every width, or their scale would have to
//! change, too; `n_head` grows with the width.

use super::{Config, width};
use crate::error::{Error, Result};
use crate::objective::parameters;
use ir::Type;
use passes::Which;

/// What a parameter is to a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// From width to width.
    Hidden,
    /// From width to tokens.
    Head,
    /// From what has no width, or along it.
    Other,
}

fn role(path: &str, ty: &Type) -> Role {
    match () {
        () if Which::layers().holds(path, ty) && !path.contains("bias") => Role::Hidden,
        () if path.contains("lm_head") && Which::matrices().holds(path, ty) => Role::Head,
        () => Role::Other,
    }
}

/// How much wider a model is than the base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wider(f64);

impl Wider {
    /// What of the step's rate a parameter has.
    pub(super) fn rate(self, path: &str, ty: &Type) -> f64 {
        match role(path, ty) {
            Role::Hidden | Role::Head => 1.0 / self.0,
            Role::Other => 1.0,
        }
    }

    /// What of its deviation a parameter starts with.
    fn start(self, path: &str, ty: &Type) -> f64 {
        match role(path, ty) {
            Role::Hidden => 1.0 / self.0.sqrt(),
            Role::Head => 1.0 / self.0,
            Role::Other => 1.0,
        }
    }
}

impl Config {
    /// How much wider than the base the model is; nothing where the parametrisation is the usual one.
    pub(super) fn wider(&self) -> Result<Option<Wider>> {
        let o = &self.optimizer;
        if !o.mup {
            return Ok(None);
        }
        if !parameters(&self.model)?.iter().any(|(path, ty)| role(path, ty) == Role::Head) {
            return Err(Error(
                "optimizer.mup: the model's head is its embedding, and they need different rates; try --set tie_word_embeddings=false".into(),
            ));
        }
        Ok(Some(Wider(width(&self.model)? as f64 / o.base_width as f64)))
    }

    /// What a parameter's start is multiplied by, by path and type.
    pub fn start(&self) -> Result<impl Fn(&str, &Type) -> f32> {
        let wider = self.wider()?;
        Ok(move |path: &str, ty: &Type| wider.map_or(1.0, |w| w.start(path, ty) as f32))
    }
}
