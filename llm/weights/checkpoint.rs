//! Checkpoints: weights, moments and counters, whole or not at all.
//!
//! The tensors go to a file named by the step; then a small manifest that names it, with its length and checksum, replaces the last
//! one. A run that dies between the two still has its last checkpoint.

use super::safetensors::{load, serialize, state};
use crate::error::{Error, Result, file_error};
use crate::files::{read_short, write_file};
use runtime::Session;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;

/// What belongs to a checkpoint besides tensors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Steps done; batches and random bits are functions of the seed and the step, so this is the position in the data, too.
    pub step: u64,
    /// The file of the tensors, beside this one.
    pub tensors: String,
    /// Its length.
    pub bytes: u64,
    /// Its checksum (FNV-1a, 64 bits).
    pub checksum: String,
    /// The tokens of the text, as a checksum: resuming on another text is refused.
    pub text: String,
}

const MANIFEST: &str = "checkpoint.json";

/// FNV-1a over 8-byte words, in hexadecimal.
pub fn checksum(bytes: &[u8]) -> String {
    let word = |c: &[u8]| {
        let mut w = [0; 8];
        w[..c.len()].copy_from_slice(c);
        u64::from_le_bytes(w)
    };
    let hash = bytes.chunks(8).fold(0xCBF2_9CE4_8422_2325 ^ bytes.len() as u64, |h, c| (h ^ word(c)).wrapping_mul(0x100_0000_01B3).rotate_left(23));
    format!("{hash:016x}")
}

/// Saves a session's parameters and state.
pub fn save(dir: &Path, session: &Session, step: u64, text: &str) -> Result<()> {
    let content = session.show_params(|all| serialize(&state(session, all), None))??;
    let tensors = format!("checkpoint-{step}.safetensors");
    let before = read(dir).ok().flatten();
    let manifest = Manifest { format: 1, step, tensors, bytes: content.len() as u64, checksum: checksum(&content), text: text.into() };
    write_file(&dir.join(&manifest.tensors), &content)?;
    write_file(&dir.join(MANIFEST), (serde_json::to_string_pretty(&manifest).expect("a manifest has a JSON form") + "\n").as_bytes())?;
    if let Some(old) = before.filter(|m| m.tensors != manifest.tensors) {
        // an old file left behind costs space, nothing else
        let _ = std::fs::remove_file(dir.join(old.tensors));
    }
    Ok(())
}

/// A checkpoint read whole: what its manifest says, and the tensors' file, whose checksum is right.
pub struct Checkpoint {
    /// The manifest.
    pub manifest: Manifest,
    content: Vec<u8>,
    path: std::path::PathBuf,
}

impl Checkpoint {
    /// Fills a session. `wanted` says which parameters.
    pub fn restore(&self, session: &mut Session, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
        load(session, &self.content, &self.path, wanted).map(|_| ())
    }
}

/// More bytes than any manifest has.
const LONGEST: u64 = 1 << 16;

/// The manifest of a run directory, if it has one.
pub fn read(dir: &Path) -> Result<Option<Manifest>> {
    let path = dir.join(MANIFEST);
    let text = match read_short(&path, LONGEST) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(file_error(&path, "the checkpoint cannot be read", e)),
    };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|e| file_error(&path, "the checkpoint's manifest is damaged", e))?;
    let plain = !manifest.tensors.contains(['/', '\\']) && manifest.tensors.ends_with(".safetensors");
    if manifest.format != 1 || !plain {
        return Err(file_error(&path, "the checkpoint's manifest is damaged", format!("format {} and file {:?}", manifest.format, manifest.tensors)));
    }
    Ok(Some(manifest))
}

/// The last checkpoint of a run directory, read beside a training that may save meanwhile: the file that a manifest names may be gone
/// before it is read, and then there is a newer manifest.
pub fn open(dir: &Path) -> Result<Checkpoint> {
    let none = || Error(format!("{}: there is no checkpoint yet; train first", dir.display()));
    let mut manifest = read(dir)?.ok_or_else(none)?;
    loop {
        let fault = match read_tensors(dir, &manifest) {
            Ok(checkpoint) => return Ok(checkpoint),
            Err(fault) => fault,
        };
        let newer = read(dir)?.ok_or_else(none)?;
        // each turn takes a whole saving, so a reader does not wait for long
        if newer == manifest {
            return Err(fault);
        }
        manifest = newer;
    }
}

fn read_tensors(dir: &Path, manifest: &Manifest) -> Result<Checkpoint> {
    let path = dir.join(&manifest.tensors);
    let damaged = |what: String| file_error(&path, "the checkpoint is damaged", what);
    let fail = |e| file_error(&path, "the checkpoint cannot be read", e);
    let mut content = vec![];
    // what is longer than it should be is not read to its end
    std::fs::File::open(&path).map_err(fail)?.take(manifest.bytes.saturating_add(1)).read_to_end(&mut content).map_err(fail)?;
    if content.len() as u64 != manifest.bytes {
        return Err(damaged(format!("it has not the {} bytes it was saved with", manifest.bytes)));
    }
    if checksum(&content) != manifest.checksum {
        return Err(damaged("it has another checksum than when it was saved".into()));
    }
    Ok(Checkpoint { manifest: manifest.clone(), content, path })
}
