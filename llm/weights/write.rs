//! A safetensors file as it is written: the header, then one tensor after the other, so that no more than one need be in memory.

use super::checksum::Checksum;
use crate::error::{Error, Result, file_error};
use crate::files::NewFile;
use ir::{DType, Dim, Type};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What a tensor of a new file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl Described {
    /// What it is in memory.
    pub(crate) fn ty(&self) -> Type {
        Type::of(DType::F32, self.shape.iter().map(|n| Dim::from(*n)))
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// A file being written, which takes its place when it is whole.
pub(crate) struct TensorWriter {
    path: PathBuf,
    file: BufWriter<NewFile>,
    checksum: Checksum,
    bytes: u64,
    left: u64,
}

impl TensorWriter {
    /// Begins a file of these tensors, whose bytes are to follow in their order.
    pub(crate) fn create(path: &Path, tensors: &[Described], metadata: Option<HashMap<String, String>>) -> Result<TensorWriter> {
        let header = header(tensors, metadata)?;
        let left: u64 = tensors.iter().map(|t| t.bytes() as u64).sum();
        let file = NewFile::create(path).map_err(|e| failed(path, &e))?;
        let bytes = header.len() as u64 + left;
        let file = BufWriter::with_capacity(1 << 20, file);
        let mut writer = TensorWriter { path: path.into(), file, checksum: Checksum::new(bytes), bytes, left: bytes };
        writer.push(&header)?;
        Ok(writer)
    }

    /// Further bytes: a tensor's, or a part of them.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).expect("no more is written than was described");
        self.checksum.push(bytes);
        self.file.write_all(bytes).map_err(|e| failed(&self.path, &e))
    }

    /// Puts the file in its place. Its length and checksum.
    pub(crate) fn commit(self) -> Result<(u64, String)> {
        assert_eq!(self.left, 0, "all that was described is written");
        let file = self.file.into_inner().map_err(|e| failed(&self.path, e.error()))?;
        file.commit().map_err(|e| failed(&self.path, &e))?;
        Ok((self.bytes, self.checksum.finish()))
    }
}

fn failed(path: &Path, e: &std::io::Error) -> Error {
    file_error(path, "the file cannot be written", e)
}

/// The header's length and the header, which ends at a whole word.
fn header(tensors: &[Described], metadata: Option<HashMap<String, String>>) -> Result<Vec<u8>> {
    let mut at = 0;
    let place = |t: &Described| {
        let data_offsets = (at, at + t.bytes());
        at = data_offsets.1;
        (t.name.clone(), TensorInfo { dtype: t.dtype, shape: t.shape.clone(), data_offsets })
    };
    let fail = |e: String| Error(format!("tensors cannot be written: {e}"));
    let header = Metadata::new(metadata, tensors.iter().map(place).collect()).map_err(|e| fail(e.to_string()))?;
    let mut text = serde_json::to_vec(&header).map_err(|e| fail(e.to_string()))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes()[..], &text].concat())
}
