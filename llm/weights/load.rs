//! Parameters in and out of files of tensors, under the names Hugging Face's checkpoints use.

use super::named::{Tensors, file_type};
use super::write::{Described, TensorWriter};
use crate::error::Result;
use ir::Type;
use ir::names::{iteration, loops};
use runtime::Session;
use std::path::Path;

/// The tensors a parameter is in files: itself, or one an iteration for each `{}` in its name.
pub(crate) fn pieces(name: &str, ty: &Type) -> Vec<(String, Vec<usize>)> {
    let mut out = vec![(name.to_string(), ty.sizes())];
    for _ in 0..loops(name) {
        let each = |(name, sizes): &(String, Vec<usize>)| {
            let (name, sizes) = (name.clone(), sizes.clone());
            (0..sizes[0]).map(move |i| (iteration(&name, i), sizes[1..].to_vec()))
        };
        out = out.iter().flat_map(each).collect();
    }
    out
}

/// Writes the parameters and state tensors of a session that are wanted to a file, by name; its length and checksum.
pub(super) fn write(session: &Session, path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<(u64, String)> {
    session.show_params(|all| {
        let mut tensors = state(session, all, wanted);
        tensors.sort_unstable_by(|a, b| a.0.name.cmp(&b.0.name));
        let (described, bytes): (Vec<Described>, Vec<&[u8]>) = tensors.into_iter().unzip();
        let mut file = TensorWriter::create(path, &described, None)?;
        bytes.into_iter().try_for_each(|bytes| file.push(bytes))?;
        file.commit()
    })?
}

/// The parameters and state tensors of a session that are wanted, as a file has them, of the bytes of all in order.
fn state<'a>(session: &Session, all: &[&'a [u8]], wanted: &dyn Fn(&str) -> bool) -> Vec<(Described, &'a [u8])> {
    let each = |((name, ty), bytes): ((&str, &Type), &&'a [u8])| {
        let (pieces, bytes, dtype) = (pieces(name, ty), *bytes, file_type(ty.dtype));
        let n = bytes.len() / pieces.len().max(1);
        let one = move |(i, (name, shape))| (Described { name, dtype, shape }, &bytes[i * n..(i + 1) * n]);
        pieces.into_iter().enumerate().map(one).collect::<Vec<_>>()
    };
    session.params().zip(all).filter(|p| wanted(p.0.0)).flat_map(each).collect()
}

/// Fills parameters of sessions, which may share some, a tensor at a time. `wanted` says which; each must be there with its shape, and every tensor must be one of them, or
/// known to be of no use: those are what comes back. Names may lack the leading `transformer.` or `model.`, as some published files do.
pub fn load(sessions: &mut [&mut Session], tensors: &Tensors, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let params =
        |session: &Session| -> Vec<(String, Type)> { session.params().map(|p| (p.0.to_string(), p.1.clone())).filter(|p| wanted(&p.0)).collect() };
    // everything is checked before anything is changed
    for (name, ty) in sessions.iter().flat_map(|session| params(session)) {
        tensors.check(&name, &ty)?;
    }
    let unread = tensors.check_all_read()?;
    for session in sessions {
        for (name, ty) in params(session) {
            tensors.each(&name, &ty, &mut |at, bytes| Ok(session.set_param_part(&name, at, bytes)?))?;
        }
    }
    Ok(unread)
}
