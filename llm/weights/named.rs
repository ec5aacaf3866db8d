//! Tensors of any type by name, in and out of safetensors files: what a program reads and gives.

use super::safetensors::pieces;
use crate::error::{Error, Result, file_error, hint};
use ir::names::new_value_of;
use ir::{DType, Type, Value};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

/// A safetensors file's tensors, and which of them were read.
pub struct Tensors<'a> {
    file: SafeTensors<'a>,
    path: &'a Path,
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Tensors<'a> {
    /// The tensors of a file's content.
    pub fn of(content: &'a [u8], path: &'a Path) -> Result<Tensors<'a>> {
        let file = SafeTensors::deserialize(content).map_err(|e| file_error(path, "this is not a safetensors file, or it is damaged", e))?;
        Ok(Tensors { file, path, read: RefCell::default() })
    }

    /// The shape of a tensor, if the file has it.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.file.tensor(name).ok().map(|t| t.shape().to_vec())
    }

    /// The bytes of a tensor as a program's memory holds them, if the file has it: under its name or, where that has `{}`, one an iteration
    /// under theirs. It must have the type's sizes, and elements that are numbers of the type.
    pub fn get(&self, name: &str, ty: &Type) -> Result<Option<Vec<u8>>> {
        if let Some(found) = self.find(name) {
            return self.one(&found, &ty.sizes(), ty.dtype).map(Some);
        }
        let pieces = pieces(name, ty);
        if !pieces.iter().any(|p| self.find(&p.0).is_some()) {
            return Ok(None);
        }
        let each = pieces.iter().map(|(piece, sizes)| match self.find(piece) {
            Some(found) => self.one(&found, sizes, ty.dtype),
            None => Err(self.missing(piece)),
        });
        each.collect::<Result<Vec<_>>>().map(|parts| Some(parts.concat()))
    }

    /// As [`get`](Self::get), where the tensor must be there.
    pub fn expect(&self, name: &str, ty: &Type) -> Result<Vec<u8>> {
        let first = pieces(name, ty).into_iter().next().map_or(name.to_string(), |p| p.0);
        self.get(name, ty)?.ok_or_else(|| self.missing(&first))
    }

    fn missing(&self, name: &str) -> Error {
        let names = self.file.names();
        file_error(self.path, "a tensor is missing", format!("{name}{}", hint(name, &names)))
    }

    /// The name a tensor has here: its own, or that without the leading `transformer.` or `model.`, as in some published files.
    fn find(&self, name: &str) -> Option<String> {
        let short = name.strip_prefix("transformer.").or_else(|| name.strip_prefix("model."));
        [Some(name), short].into_iter().flatten().find(|n| self.file.tensor(n).is_ok()).map(String::from)
    }

    fn one(&self, name: &str, sizes: &[usize], dtype: DType) -> Result<Vec<u8>> {
        let tensor = self.file.tensor(name).map_err(|e| file_error(self.path, "a tensor is missing", e))?;
        self.read.borrow_mut().insert(name.to_string());
        if tensor.shape() != sizes {
            let why = format!("expected {sizes:?}: is this the same model?");
            return Err(file_error(self.path, &format!("tensor {name} has shape {:?}", tensor.shape()), why));
        }
        memory(&tensor, dtype).map_err(|(what, why)| file_error(self.path, &format!("tensor {name} {what}"), why))
    }

    /// Refuses the file if it has a tensor that nobody has read and that is not known to be of no use; says which are.
    pub fn check_all_read(&self) -> Result<Vec<String>> {
        let read = self.read.borrow();
        let mut unread: Vec<&str> = self.file.names().into_iter().filter(|n| !read.contains(*n)).collect();
        unread.sort_unstable();
        let known = |n: &&str| match self.use_of(n, &read) {
            Some(why) => Ok(format!("{}: tensor {n} is not read: {why}", self.path.display())),
            None => {
                let why = "the program reads no such tensor: is this the same model, with as many layers and the same head?";
                Err(file_error(self.path, &format!("tensor {n} is not used"), why))
            }
        };
        unread.iter().map(known).collect()
    }

    /// What a tensor is that no program need read.
    fn use_of(&self, name: &str, read: &BTreeSet<String>) -> Option<&'static str> {
        let content = |n: &str| self.file.tensor(n).ok().map(|t| (t.shape().to_vec(), t.dtype(), t.data()));
        // masks and frequencies that some published files carry along
        if [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"].iter().any(|buffer| name.ends_with(buffer)) {
            return Some("it is a constant of the model, not a weight");
        }
        if read.iter().any(|r| name.strip_suffix(r.as_str()).is_some_and(|prefix| prefix.ends_with('.'))) {
            return Some("it is the optimizer's state of a parameter");
        }
        // a layer too many may start as another does, and is one too many all the same
        let of_a_layer = name.split('.').any(|part| part.parse::<u64>().is_ok());
        (!of_a_layer && read.iter().any(|r| content(r) == content(name))).then_some("it is a copy of one that is, as tied weights are")
    }
}

/// A tensor's bytes as a program holds them, or what is wrong with it and what was expected.
fn memory(tensor: &TensorView, dtype: DType) -> std::result::Result<Vec<u8>, (String, String)> {
    match (tensor.dtype(), dtype) {
        (Dtype::F32, DType::F32) | (Dtype::BF16, DType::BF16) | (Dtype::F16, DType::F16) => Ok(tensor.data().to_vec()),
        (Dtype::I32, DType::I32) | (Dtype::U32, DType::U32) => Ok(tensor.data().to_vec()),
        (Dtype::I64, DType::I32 | DType::U32) => {
            let word = |(i, c): (usize, &[u8])| {
                let n = i64::from_le_bytes(c.try_into().expect("eight bytes"));
                let fits = if dtype == DType::I32 { i32::try_from(n).map(i32::to_le_bytes) } else { u32::try_from(n).map(u32::to_le_bytes) };
                fits.map_err(|_| (format!("holds {n}, as element {i}"), format!("expected numbers of type {dtype}")))
            };
            tensor.data().chunks_exact(8).enumerate().map(word).collect::<std::result::Result<Vec<_>, _>>().map(|w| w.concat())
        }
        (Dtype::BOOL, DType::Bool) => Ok(tensor.data().iter().flat_map(|b| u32::from(*b != 0).to_le_bytes()).collect()),
        (have, _) => {
            let wide = if matches!(dtype, DType::I32 | DType::U32) { "I64 or " } else { "" };
            Err((format!("is {have:?}"), format!("expected {wide}{}; convert it first", dtype.to_string().to_uppercase())))
        }
    }
}

/// A value from memory, for evaluation.
pub fn value(bytes: &[u8], ty: &Type) -> Value {
    let number = |c: &[u8]| match ty.dtype {
        DType::F32 => f32::from_le_bytes(c.try_into().expect("four bytes")).into(),
        DType::I32 => i32::from_le_bytes(c.try_into().expect("four bytes")).into(),
        DType::U32 | DType::Bool | DType::Tuple => u32::from_le_bytes(c.try_into().expect("four bytes")).into(),
        DType::BF16 | DType::F16 => ty.dtype.from_bits(u16::from_le_bytes(c.try_into().expect("two bytes"))),
    };
    Value::new(ty.sizes(), bytes.chunks_exact(ty.dtype.bytes()).map(number).collect())
}

/// What memory holds of an evaluated value.
pub fn bytes(value: &Value, dtype: DType) -> Vec<u8> {
    let word = |x: &f64| match dtype {
        DType::F32 => (*x as f32).to_le_bytes().to_vec(),
        DType::I32 => (*x as i32).to_le_bytes().to_vec(),
        DType::U32 | DType::Bool | DType::Tuple => (*x as u32).to_le_bytes().to_vec(),
        DType::BF16 | DType::F16 => dtype.to_bits(*x).to_le_bytes().to_vec(),
    };
    value.data.iter().flat_map(word).collect()
}

/// Results as a safetensors file's content, and how many tensors it has. A new value of state has the name of the state, and what is
/// stacked is one tensor an iteration, so that results can be read again.
pub fn results(results: &[(String, Type, Vec<u8>)]) -> Result<(Vec<u8>, usize)> {
    let mut tensors: Vec<(String, Vec<usize>, Dtype, Vec<u8>)> = vec![];
    for (name, ty, bytes) in results {
        let pieces = pieces(new_value_of(name).unwrap_or(name), ty);
        let n = bytes.len() / pieces.len().max(1);
        for (i, (piece, sizes)) in pieces.into_iter().enumerate() {
            if tensors.iter().any(|t| t.0 == piece) {
                return Err(Error(format!("two results would be tensor {piece} of the file: one of them needs another name")));
            }
            let (dtype, bytes) = written(ty.dtype, &bytes[i * n..(i + 1) * n]);
            tensors.push((piece, sizes, dtype, bytes));
        }
    }
    let views = tensors.iter().map(|(name, sizes, dtype, bytes)| TensorView::new(*dtype, sizes.clone(), bytes).map(|v| (name.as_str(), v)));
    let views = views.collect::<std::result::Result<Vec<_>, _>>().map_err(|e| Error(format!("a tensor cannot be written: {e}")))?;
    let content = safetensors::serialize(views, None).map_err(|e| Error(format!("tensors cannot be written: {e}")))?;
    Ok((content, tensors.len()))
}

/// A tensor's type and bytes in a file: truth takes a byte there.
fn written(dtype: DType, bytes: &[u8]) -> (Dtype, Vec<u8>) {
    let file = match dtype {
        DType::F32 => Dtype::F32,
        DType::BF16 => Dtype::BF16,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::U32 | DType::Tuple => Dtype::U32,
        DType::Bool => return (Dtype::BOOL, bytes.chunks_exact(4).map(|w| u8::from(w != [0; 4])).collect()),
    };
    (file, bytes.to_vec())
}
