//! Parameters in and out of safetensors files, under the names Hugging Face's checkpoints use.

use crate::error::{Error, Result, file_error};
use ir::Type;
use runtime::Session;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// The tensors a parameter is in files: itself, or one an iteration where its name has `{}`.
fn pieces(name: &str, ty: &Type) -> Vec<(String, Vec<usize>)> {
    let sizes = ty.sizes();
    if !name.contains("{}") {
        return vec![(name.to_string(), sizes)];
    }
    (0..sizes[0]).map(|i| (name.replacen("{}", &i.to_string(), 1), sizes[1..].to_vec())).collect()
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

/// A parameter's or state tensor's pieces, and the bytes of all of them.
pub struct Held<'a> {
    pieces: Vec<(String, Vec<usize>)>,
    bytes: Cow<'a, [u8]>,
}

/// Every parameter and state tensor of a session.
pub fn state(session: &Session) -> Result<Vec<Held<'_>>> {
    session.params().map(|(name, ty)| Ok(Held { pieces: pieces(name, ty), bytes: session.param(name)? })).collect()
}

/// Tensors by name and shape.
pub fn tensors<'a>(held: &'a [Held<'a>]) -> Vec<(String, Vec<usize>, &'a [u8])> {
    let each = |h: &'a Held<'a>| {
        let n = h.bytes.len() / h.pieces.len();
        h.pieces.iter().enumerate().map(move |(i, (name, shape))| (name.clone(), shape.clone(), &h.bytes[i * n..(i + 1) * n]))
    };
    held.iter().flat_map(each).collect()
}

/// Fills parameters from a safetensors file's content. `wanted` says which; each must be there with its shape.
/// Names may lack the leading `transformer.` or `model.`, as some published files do.
pub fn load(session: &mut Session, content: &[u8], path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    let file = SafeTensors::deserialize(content).map_err(|e| file_error(path, "this is not a safetensors file, or it is damaged", e))?;
    let all: Vec<(String, Type)> = session.params().map(|p| (p.0.to_string(), p.1.clone())).filter(|p| wanted(&p.0)).collect();
    // everything is checked before anything is changed
    for (name, ty) in &all {
        for (piece, shape) in pieces(name, ty) {
            find(&file, &piece, &shape, path)?;
        }
    }
    for (name, ty) in &all {
        let pieces = pieces(name, ty).into_iter().map(|(piece, shape)| find(&file, &piece, &shape, path)).collect::<Result<Vec<_>>>()?;
        session.set_param(name, &pieces.concat())?;
    }
    Ok(())
}

fn find<'a>(file: &SafeTensors<'a>, name: &str, shape: &[usize], path: &Path) -> Result<&'a [u8]> {
    let short = name.strip_prefix("transformer.").or_else(|| name.strip_prefix("model."));
    let tensor = file.tensor(name).or_else(|e| short.map_or(Err(e), |s| file.tensor(s))).map_err(|_| {
        let names = file.names();
        let hint = crate::error::nearest(name, names.iter().copied()).map_or(String::new(), |n| format!("; it has {n}"));
        file_error(path, "a tensor is missing", format!("{name}{hint}"))
    })?;
    if tensor.dtype() != Dtype::F32 {
        return Err(file_error(path, &format!("tensor {name} is {:?}", tensor.dtype()), "expected F32; convert it first"));
    }
    if tensor.shape() != shape {
        return Err(file_error(
            path,
            &format!("tensor {name} has shape {:?}", tensor.shape()),
            format!("expected {shape:?}: is this the same model?"),
        ));
    }
    Ok(tensor.data())
}

/// `i64` or `i32` ids of a tensor, with its shape.
pub fn read_ids(content: &[u8], path: &Path, name: &str) -> Result<(Vec<usize>, Vec<i32>)> {
    let file = SafeTensors::deserialize(content).map_err(|e| file_error(path, "this is not a safetensors file, or it is damaged", e))?;
    let tensor = file.tensor(name).map_err(|_| file_error(path, "a tensor is missing", format!("{name}, of type I64")))?;
    let small = |x: i64| i32::try_from(x).map_err(|_| file_error(path, &format!("tensor {name} holds {x}"), "expected ids, numbers of 32 bits"));
    let ids = match tensor.dtype() {
        Dtype::I64 => {
            tensor.data().chunks_exact(8).map(|c| small(i64::from_le_bytes(c.try_into().expect("eight bytes")))).collect::<Result<Vec<i32>>>()?
        }
        Dtype::I32 => tensor.data().chunks_exact(4).map(|c| i32::from_le_bytes(c.try_into().expect("four bytes"))).collect(),
        other => return Err(file_error(path, &format!("tensor {name} is {other:?}"), "expected I64")),
    };
    Ok((tensor.shape().to_vec(), ids))
}
