//! How parameters start.

use crate::error::Result;
use models::Model;
use runtime::Session;

/// Fills parameters as the model says, piece by piece, so that a layer's start does not depend on how many there are.
pub fn initialise(session: &mut Session, model: &Model, seed: u64) -> Result<()> {
    let all: Vec<(String, usize, usize)> = session
        .params()
        .filter(|p| !p.0.starts_with("adamw.") && !p.0.starts_with("past."))
        .map(|p| (p.0.to_string(), p.1.sizes().first().copied().unwrap_or(1), p.1.count()))
        .collect();
    for (name, trip, count) in all {
        let pieces = if name.contains("{}") { trip } else { 1 };
        session.fill_param(&name, |values| {
            for (i, piece) in values.chunks_mut(count / pieces).enumerate() {
                let name = name.replacen("{}", &i.to_string(), 1);
                model.init(&name).fill(seed, &name, piece);
            }
        })?;
    }
    Ok(())
}
