//! Checkpoints: weights, moments and counters, whole or not at all.
//!
//! The tensors go to a file named by the step; then a small manifest that names it, with its length and checksum, replaces the last
//! one. A run that dies between the two still has its last checkpoint.

use super::checksum::Checksum;
use super::load::{load, write};
use super::named::Tensors;
use crate::error::{Error, Result, file_error};
use crate::files::{read_short, write_file};
use runtime::Session;
use serde::{Deserialize, Serialize};
use std::fs::File;
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

/// The name of the file of a step's tensors.
pub(crate) fn tensors_of(step: u64) -> String {
    format!("checkpoint-{step}.safetensors")
}

impl Manifest {
    /// Whether it was imported: nothing was trained yet, and on no text.
    pub fn is_imported(&self) -> bool {
        self.step == 0 && self.text.is_empty()
    }

    /// Puts it in the place of the last one.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("a manifest has a JSON form") + "\n";
        write_file(&dir.join(MANIFEST), text.as_bytes())
    }
}

/// Saves a session's parameters and state.
pub fn save(dir: &Path, session: &Session, step: u64, text: &str) -> Result<()> {
    let tensors = tensors_of(step);
    let before = read(dir).ok().flatten();
    let (bytes, checksum) = write(session, &dir.join(&tensors))?;
    let manifest = Manifest { format: 1, step, tensors, bytes, checksum, text: text.into() };
    manifest.write(dir)?;
    if let Some(old) = before.filter(|m| m.tensors != manifest.tensors) {
        // an old file left behind costs space, nothing else
        let _ = std::fs::remove_file(dir.join(old.tensors));
    }
    Ok(())
}

/// A checkpoint that is open: what its manifest says, and the tensors' file, whose checksum is right.
pub struct Checkpoint {
    /// The manifest.
    pub manifest: Manifest,
    /// The tensors.
    pub tensors: Tensors,
}

impl Checkpoint {
    /// Fills a session. `wanted` says which parameters.
    pub fn restore(&self, session: &mut Session, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
        load(&mut [session], &self.tensors, wanted).map(|_| ())
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
    let mut file = File::open(&path).map_err(fail)?;
    let (mut checksum, mut have) = (Checksum::new(manifest.bytes), 0);
    // what is longer than it should be is not read to its end
    let mut left = (&mut file).take(manifest.bytes.saturating_add(1));
    let mut piece = vec![0; 1 << 20];
    loop {
        match left.read(&mut piece).map_err(fail)? {
            0 => break,
            n => {
                checksum.push(&piece[..n]);
                have += n as u64;
            }
        }
    }
    if have != manifest.bytes {
        return Err(damaged(format!("it has not the {} bytes it was saved with", manifest.bytes)));
    }
    if checksum.finish() != manifest.checksum {
        return Err(damaged("it has another checksum than when it was saved".into()));
    }
    Ok(Checkpoint { manifest: manifest.clone(), tensors: Tensors::of_file(file, &path)? })
}
