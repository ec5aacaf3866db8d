//! A safetensors file, read where it is asked: what is held of it is its header.
//!
//! Reads are positional, as those of tokens are: a file that is cut short under a reader is an error, and no memory is mapped.

use crate::error::{Error, Result, file_error};
use crate::files::{irregular, read_exact_at};
use safetensors::tensor::{Metadata, TensorInfo};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of the number that a file begins with: the length of its header.
const LENGTH: u64 = 8;
/// The longest header there is, as the format says.
const LONGEST: u64 = 100_000_000;

/// An open file whose header was checked: its tensors lie one after the other, none over another, from the header's end to the file's.
#[derive(Debug)]
pub(super) struct TensorFile {
    pub(super) path: PathBuf,
    file: File,
    /// Where the tensors begin.
    data: u64,
    header: Metadata,
}

impl TensorFile {
    /// Opens a file and reads its header.
    pub(super) fn open(path: &Path) -> Result<TensorFile> {
        let fail = |e: io::Error| file_error(path, "the file cannot be read", e);
        let what = std::fs::metadata(path).map_err(fail)?;
        if let Some(what) = irregular(&what) {
            return Err(file_error(path, "the file cannot be read", format!("it is {what}; name a regular file")));
        }
        TensorFile::of(File::open(path).map_err(fail)?, path)
    }

    /// The same of a file that is open.
    pub(super) fn of(file: File, path: &Path) -> Result<TensorFile> {
        let length = file.metadata().map_err(|e| file_error(path, "the file cannot be read", e))?.len();
        let (header, data) = header(&file, length).map_err(|why| file_error(path, "this is not a safetensors file, or it is damaged", why))?;
        Ok(TensorFile { path: path.into(), file, data, header })
    }

    /// Every tensor's name and place.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (String, TensorInfo)> {
        self.header.tensors().into_iter().map(|(name, info)| (name, info.clone()))
    }

    /// Bytes of a tensor, from its byte `at` on.
    pub(super) fn read(&self, info: &TensorInfo, at: usize, bytes: usize) -> Result<Vec<u8>> {
        let mut to = vec![0; bytes];
        read_exact_at(&self.file, &mut to, self.data + (info.data_offsets.0 + at) as u64).map_err(|e| self.failed(&e))?;
        Ok(to)
    }

    fn failed(&self, e: &io::Error) -> Error {
        let short = "it was cut short since it was opened; write it again".to_string();
        let why = if e.kind() == io::ErrorKind::UnexpectedEof { short } else { e.to_string() };
        file_error(&self.path, "the file cannot be read", why)
    }
}

/// Bytes that a tensor takes in a file.
pub(super) fn size(info: &TensorInfo) -> usize {
    info.data_offsets.1 - info.data_offsets.0
}

/// A file's header, no more of which is read than the file has, and where the tensors begin.
fn header(file: &File, length: u64) -> std::result::Result<(Metadata, u64), String> {
    let read = |to: &mut [u8], at: u64| read_exact_at(file, to, at).map_err(|e| e.to_string());
    let mut size = [0; LENGTH as usize];
    if length < LENGTH {
        return Err(format!("it has {length} bytes, and its header's length alone takes {LENGTH}"));
    }
    read(&mut size, 0)?;
    let size = u64::from_le_bytes(size);
    let rest = length - LENGTH;
    if size > rest.min(LONGEST) {
        return Err(format!("its header would have {size} bytes, and the file has {rest} after that number; the longest header has {LONGEST}"));
    }
    let mut text = vec![0; size as usize];
    read(&mut text, LENGTH)?;
    // offsets that overlap, leave something out or are not of the tensor's shape are found here
    let header: Metadata = serde_json::from_slice(&text).map_err(|e| format!("its header cannot be read: {e}"))?;
    let (have, want) = (rest - size, header.data_len() as u64);
    if have == want { Ok((header, LENGTH + size)) } else { Err(format!("its tensors take {want} bytes, and there are {have}")) }
}
