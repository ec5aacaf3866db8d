//! How parameters start.

use super::load::pieces;
use crate::error::Result;
use ir::Graph;
use models::Model;
use passes::State;
use runtime::Session;

/// A program on the averages of the parameters that it reads, where a session in training keeps such.
pub(crate) fn averaged(program: &Graph, of: &Session) -> Graph {
    program.on_other_params(|path| {
        let average = State::Average(path).to_string();
        of.params().any(|p| p.0 == average).then_some(average)
    })
}

/// Fills parameters as the model says, piece by piece, so that a layer's start does not depend on how many there are.
pub fn initialise(session: &mut Session, model: &Model, seed: u64) -> Result<()> {
    initialise_scaled(session, model, seed, |_, _| 1.0)
}

/// The same, each multiplied by a number that its path and type say.
pub(crate) fn initialise_scaled(session: &mut Session, model: &Model, seed: u64, scale: impl Fn(&str, &ir::Type) -> f32) -> Result<()> {
    let all: Vec<(String, ir::Type)> =
        session.params().filter(|p| State::parse(p.0).is_parameter()).map(|(name, ty)| (name.to_string(), ty.clone())).collect();
    for (name, ty) in all {
        let (pieces, scale) = (pieces(&name, &ty), scale(&name, &ty));
        session.fill_param(&name, |values| {
            for ((name, _), piece) in pieces.iter().zip(values.chunks_mut((ty.count() / pieces.len().max(1)).max(1))) {
                model.init(name).fill(seed, name, piece);
                piece.iter_mut().for_each(|x| *x *= scale);
            }
        })?;
    }
    Ok(())
}
