//! Checkpoints: weights, moments and counters, whole or not at all.
//!
//! The tensors go to a file named by the step; then a small manifest that names it, with its length and checksum, replaces the last
//! one. A run that dies between the two still has its last checkpoint. A checkpoint that is kept beside the last one is a directory in the
//! run's, with all that a run's directory needs, so whatever takes a run takes it: `best/`, `step-500/`.

use super::checksum::Checksum;
use super::load::{load, write};
use super::named::Tensors;
use crate::config::Config;
use crate::error::{Error, Result, file_error};
use crate::files::{NewFile, read_short, write_file};
use crate::text::Tokenizer;
use runtime::Session;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What belongs to a checkpoint besides tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The held-out loss it was kept for, of the best one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// What these parameters stand beside, where they are no whole model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// The weight of the distance from the start, where it follows a target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
}

/// A model that others' parameters stand beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its directory.
    pub path: PathBuf,
    /// The checksum of its tensors.
    pub checksum: String,
}

/// What is saved of a session whose model stays as it is.
pub(crate) struct Beside<'a> {
    /// That model.
    pub(crate) base: &'a Base,
    /// Which parameters and state are none of its.
    pub(crate) own: Box<dyn Fn(&str) -> bool + 'a>,
}

/// What a checkpoint says besides its tensors.
pub(crate) struct Note<'a> {
    /// Steps done.
    pub(crate) step: u64,
    /// The name of what it was trained on.
    pub(crate) text: &'a str,
    /// What it stands beside.
    pub(crate) beside: Option<&'a Beside<'a>>,
    /// See [`Manifest::kl`].
    pub(crate) kl: Option<f64>,
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
    save_with(dir, session, &Note { step, text, beside: None, kl: None })
}

/// The same with all that is to be said.
pub(crate) fn save_with(dir: &Path, session: &Session, note: &Note) -> Result<()> {
    write_as(dir, session, note, None)
}

fn write_as(dir: &Path, session: &Session, note: &Note, loss: Option<f64>) -> Result<()> {
    let Note { step, text, beside, kl } = *note;
    let tensors = tensors_of(step);
    let (bytes, checksum) = write(session, &dir.join(&tensors), &|name| beside.is_none_or(|b| (b.own)(name)))?;
    replace(dir, &Manifest { format: 1, step, tensors, bytes, checksum, text: text.into(), loss, base: beside.map(|b| b.base.clone()), kl })
}

/// Puts a manifest in the place of a directory's last one, whose tensors go once the new ones are there.
fn replace(dir: &Path, manifest: &Manifest) -> Result<()> {
    let before = read(dir).ok().flatten();
    manifest.write(dir)?;
    if let Some(old) = before.filter(|m| m.tensors != manifest.tensors) {
        // an old file left behind costs space, nothing else
        let _ = fs::remove_file(dir.join(old.tensors));
    }
    Ok(())
}

/// The directory in a run's that holds the checkpoint of the lowest held-out loss.
pub const BEST: &str = "best";

/// The directory in a run's that holds the checkpoint of a step.
pub fn at_step(run: &Path, step: u64) -> PathBuf {
    run.join(format!("step-{step}"))
}

/// What a directory needs to be a run's, besides a checkpoint.
const BESIDE: [&str; 3] = [Config::FILE, Tokenizer::OWN, Tokenizer::FILE];

/// Saves a session's state as [`save`] does, as the best of a run: beside its last checkpoint, which stays what it is.
pub(crate) fn save_best(run: &Path, session: &Session, note: &Note, loss: f64) -> Result<()> {
    let best = run.join(BEST);
    furnish(run, &best)?;
    write_as(&best, session, note, Some(loss))
}

/// Keeps a run's last checkpoint in another directory, too, where it stays when the run saves the next. The tensors are one file under two
/// names where the file system has links, and else copied.
pub(crate) fn keep(run: &Path, to: &Path, loss: Option<f64>) -> Result<()> {
    let manifest = read(run)?.ok_or_else(|| Error(format!("{}: there is no checkpoint yet", run.display())))?;
    furnish(run, to)?;
    let (from, at) = (run.join(&manifest.tensors), to.join(&manifest.tensors));
    link(&from, &at).map_err(|e| file_error(&at, "the checkpoint cannot be kept", e))?;
    replace(to, &Manifest { loss, ..manifest })
}

/// Puts what a run's directory needs besides a checkpoint into another.
fn furnish(run: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(|e| file_error(to, "the checkpoint cannot be kept", e))?;
    for name in BESIDE.iter().filter(|name| run.join(name).is_file()) {
        let content = fs::read(run.join(name)).map_err(|e| file_error(&run.join(name), "the file cannot be read", e))?;
        write_file(&to.join(name), &content)?;
    }
    Ok(())
}

/// Another name for a file, or a copy of it, in the place of what has the name.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    let beside = to.with_extension("link");
    let _ = fs::remove_file(&beside);
    if fs::hard_link(from, &beside).is_ok() {
        fs::rename(&beside, to)?;
        // two names of one file already: then renaming does nothing
        let _ = fs::remove_file(&beside);
        return Ok(());
    }
    let mut file = NewFile::create(to)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.commit()
}

/// The steps whose checkpoints a run keeps in directories of their own, in order.
pub fn kept(run: &Path) -> Vec<u64> {
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    let step = |name: &str| name.strip_prefix("step-")?.parse::<u64>().ok();
    let steps = entries.filter_map(|e| step(e.file_name().to_str()?));
    // one that a training went on in is that training's
    let own = |step: &u64| read(&at_step(run, *step)).is_ok_and(|m| m.is_some_and(|m| m.step == *step));
    let mut steps: Vec<u64> = steps.filter(own).collect();
    steps.sort_unstable();
    steps
}

/// Removes a checkpoint that was kept, and nothing else that may stand there.
pub(crate) fn remove(dir: &Path) {
    let Ok(Some(manifest)) = read(dir) else { return };
    // without its manifest it is none any more; what is left behind costs space, nothing else
    for name in [MANIFEST, &manifest.tensors].into_iter().chain(BESIDE) {
        let _ = fs::remove_file(dir.join(name));
    }
    let _ = fs::remove_dir(dir);
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

    /// Refuses a checkpoint that stands beside another model, or beside none.
    pub(crate) fn is_beside(&self, dir: &Path, base: Option<&Base>) -> Result<()> {
        let told = |b: Option<&Base>| b.map_or("no other model".to_string(), |b| format!("{}, checksum {}", b.path.display(), b.checksum));
        if self.manifest.base.as_ref().map(|b| &b.checksum) == base.map(|b| &b.checksum) {
            return Ok(());
        }
        let (have, want) = (told(base), told(self.manifest.base.as_ref()));
        Err(Error(format!("{}: this run stands beside {want}, and here is {have}: give it the model that it was trained beside", dir.display())))
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
