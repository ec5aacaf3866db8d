//! How parameters start.

use super::load::pieces;
use super::packed::Part;
use crate::error::{Error, Result};
use crate::objective::parameters;
use ir::Graph;
use models::Model;
use passes::State;
use runtime::Session;

/// Numbers that are made at once.
const AT_ONCE: usize = 1 << 18;

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
        if let Some((matrix, part)) = Part::of(&name) {
            start_packed(session, model, seed, (&name, &ty), (matrix, part))?;
            continue;
        }
        let scale = scale(&name, &ty);
        let mut at = 0;
        for (piece, sizes) in pieces(&name, &ty) {
            let (mut numbers, count) = (model.init(&piece).numbers(seed, &piece), sizes.iter().product::<usize>());
            // the largest tensors are not to be in memory twice
            for from in (0..count).step_by(AT_ONCE) {
                let mut values = vec![0.0; AT_ONCE.min(count - from)];
                numbers(&mut values);
                let bytes: Vec<u8> = values.iter().flat_map(|x| (x * scale).to_le_bytes()).collect();
                session.set_param_part(&name, at, &bytes)?;
                at += bytes.len();
            }
        }
    }
    Ok(())
}

/// Fills one tensor of a matrix in few bits with what the matrix would start as, a layer at a time.
fn start_packed(session: &mut Session, model: &Model, seed: u64, (name, ty): (&str, &ir::Type), (matrix, part): (&str, Part)) -> Result<()> {
    let own = parameters(&model.adapted(None))?;
    let whole = own.iter().find(|p| p.0 == matrix).map(|p| p.1.sizes()).unwrap_or_default();
    let [.., rows, columns] = whole[..] else { return Err(Error(format!("{name}: the model has no matrix of this name"))) };
    let mut at = 0;
    for (piece, _) in pieces(matrix, &ir::Type::f32(whole.iter().copied())) {
        let mut values = vec![0.0; rows * columns];
        model.init(&piece).fill(seed, &piece, &mut values);
        let bytes = part.bytes([rows, columns], &values);
        session.set_param_part(name, at, &bytes)?;
        at += bytes.len();
    }
    assert_eq!(at, ty.bytes(), "{name} is as many matrices as its type says");
    Ok(())
}
