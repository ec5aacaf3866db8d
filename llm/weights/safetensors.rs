//! Parameters in and out of safetensors files, under the names Hugging Face's checkpoints use.

use super::named::Tensors;
use crate::error::{Error, Result};
use ir::Type;
use ir::names::{iteration, loops};
use runtime::Session;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::Path;

/// The tensors a parameter is in files: itself, or one an iteration for each `{}` in its name.
pub(super) fn pieces(name: &str, ty: &Type) -> Vec<(String, Vec<usize>)> {
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

/// Tensors by name, as a safetensors file's content.
pub fn serialize(tensors: &[(String, Vec<usize>, &[u8])], metadata: Option<HashMap<String, String>>) -> Result<Vec<u8>> {
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(Dtype::F32, shape.clone(), bytes).map(|v| (name.clone(), v)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| Error(format!("a tensor cannot be written: {e}")))?;
    safetensors::serialize(views, metadata).map_err(|e| Error(format!("tensors cannot be written: {e}")))
}

/// Every parameter and state tensor of a session by name and shape, of their bytes in order.
pub fn state<'a>(session: &Session, all: &[&'a [u8]]) -> Vec<(String, Vec<usize>, &'a [u8])> {
    let each = |((name, ty), bytes): ((&str, &Type), &&'a [u8])| {
        let (pieces, bytes) = (pieces(name, ty), *bytes);
        let n = bytes.len() / pieces.len().max(1);
        pieces.into_iter().enumerate().map(move |(i, (name, shape))| (name, shape, &bytes[i * n..(i + 1) * n])).collect::<Vec<_>>()
    };
    session.params().zip(all).flat_map(each).collect()
}

/// Fills parameters from a safetensors file's content. `wanted` says which; each must be there with its shape, and every tensor of the file
/// must be one of them, or known to be of no use: those are what comes back.
/// Names may lack the leading `transformer.` or `model.`, as some published files do.
pub fn load(session: &mut Session, content: &[u8], path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let file = Tensors::of(content, path)?;
    let all: Vec<(String, Type)> = session.params().map(|p| (p.0.to_string(), p.1.clone())).filter(|p| wanted(&p.0)).collect();
    // everything is checked before anything is changed
    for (name, ty) in &all {
        file.expect(name, ty)?;
    }
    let unread = file.check_all_read()?;
    for (name, ty) in &all {
        session.set_param(name, &file.expect(name, ty)?)?;
    }
    Ok(unread)
}
