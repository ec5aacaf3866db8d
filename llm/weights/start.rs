//! How parameters start.

use crate::error::Result;
use ir::names;
use models::Model;
use passes::State;
use runtime::Session;

/// Fills parameters as the model says, piece by piece, so that a layer's start does not depend on how many there are.
pub fn initialise(session: &mut Session, model: &Model, seed: u64) -> Result<()> {
    let all: Vec<(String, usize, usize)> = session
        .params()
        .filter(|p| State::parse(p.0).is_parameter())
        .map(|p| (p.0.to_string(), if names::loops(p.0) > 0 { p.1.sizes()[0] } else { 1 }, p.1.count()))
        .collect();
    for (name, pieces, count) in all {
        session.fill_param(&name, |values| {
            for (i, piece) in values.chunks_mut((count / pieces).max(1)).enumerate() {
                let name = names::iteration(&name, i);
                model.init(&name).fill(seed, &name, piece);
            }
        })?;
    }
    Ok(())
}
