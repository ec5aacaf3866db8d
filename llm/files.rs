//! Files written whole or not at all.

use crate::error::{Result, file_error};
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Writes a file whole or not at all: to a fresh name beside it, synced, then renamed over it.
///
/// A symbolic link stays, and what it points to is replaced. A file that exists keeps its mode and, where the system allows it, its owner;
/// hard links of it keep the old content. What exists and is no regular file is refused: a directory, a device such as `/dev/null`, a
/// pipe, `/dev/stdout`. A file that may not be written is refused, too. No other name is touched.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes).map_err(|e| file_error(path, "the file cannot be written", e))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// A file being written, under a fresh name beside where it will be. It takes its place with [`NewFile::commit`], whole; dropped before,
/// nothing of it stays.
pub struct NewFile {
    temporary: PathBuf,
    target: PathBuf,
    old: Option<Metadata>,
    file: File,
    done: bool,
}

impl NewFile {
    /// Begins a file that will stand at `path`, under the conditions of [`write_file`].
    pub fn create(path: &Path) -> io::Result<NewFile> {
        let old = existing(path)?;
        let target = end_of_links(path)?;
        let (temporary, file) = fresh(directory(&target), old.as_ref())?;
        Ok(NewFile { temporary, target, old, file, done: false })
    }

    /// Overwrites the beginning of what was written.
    pub fn write_at_start(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.rewind()?;
        self.file.write_all(bytes)?;
        self.file.seek(io::SeekFrom::End(0)).map(|_| ())
    }

    /// Syncs what was written and puts it in its place.
    pub fn commit(mut self) -> io::Result<()> {
        self.old.as_ref().map_or(Ok(()), |m| keep_rights(&self.file, m))?;
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        self.done = true;
        sync_directory(directory(&self.target))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.done {
            // what was there before stays
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A directory being filled, under a fresh name beside where it will be. It takes its place with [`NewDirectory::commit`], whole; dropped
/// before, nothing of it stays.
pub(crate) struct NewDirectory {
    temporary: PathBuf,
    target: PathBuf,
    placed: bool,
}

impl NewDirectory {
    /// Begins a directory that will stand at `path`, where nothing is yet, or an empty one.
    pub(crate) fn create(path: &Path) -> Result<NewDirectory> {
        let fail = |e: io::Error| file_error(path, "the folder cannot be written", e);
        match fs::read_dir(path) {
            Ok(mut entries) => {
                if entries.next().is_some() {
                    return Err(file_error(path, "the folder cannot be written", "there is something in it already; name another"));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(fail(e)),
        }
        let target = end_of_links(path).map_err(fail)?;
        let beside = directory(&target);
        fs::create_dir_all(beside).map_err(fail)?;
        loop {
            let temporary = beside.join(unknown_name());
            match fs::create_dir(&temporary) {
                Ok(()) => return Ok(NewDirectory { temporary, target, placed: false }),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// Where it is filled.
    pub(crate) fn path(&self) -> &Path {
        &self.temporary
    }

    /// Puts it in its place.
    pub(crate) fn commit(mut self) -> Result<()> {
        let moved = sync_directory(&self.temporary).and_then(|()| fs::rename(&self.temporary, &self.target));
        moved.map_err(|e| file_error(&self.target, "the folder cannot be written", e))?;
        self.placed = true;
        sync_directory(directory(&self.target)).map_err(|e| file_error(&self.target, "the folder cannot be written", e))
    }
}

impl Drop for NewDirectory {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// What is at a path already, if anything is; an error where it must not be replaced.
fn existing(path: &Path) -> io::Result<Option<Metadata>> {
    let old = match fs::metadata(path) {
        Ok(old) => old,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    if let Some(what) = irregular(&old) {
        return Err(io::Error::other(format!("it is {what}; name a regular file")));
    }
    // whoever may not write a file may not replace it
    OpenOptions::new().write(true).open(path)?;
    Ok(Some(old))
}

/// Reads a text that is short: one longer than `limit` bytes is an error, and not read to its end.
pub fn read_short(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit { Err(io::Error::other(format!("it is longer than {limit} bytes"))) } else { Ok(text) }
}

/// Fills `to` with a file's bytes at a position; its own position does not matter.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, to: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, at)
}

#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut to: &mut [u8], mut at: u64) -> io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (to, at) = (&mut to[n..], at + n as u64),
        }
    }
    Ok(())
}

/// What is no regular file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Irregular {
    /// A directory.
    Directory,
    /// A device: it has no end, or it is a terminal.
    Device,
    /// A pipe or a socket.
    Pipe,
}

impl fmt::Display for Irregular {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Irregular::Directory => "a directory",
            Irregular::Device => "a device",
            Irregular::Pipe => "a pipe",
        })
    }
}

/// What something is that is no regular file.
pub fn irregular(what: &Metadata) -> Option<Irregular> {
    let kind = what.file_type();
    if kind.is_file() {
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() || kind.is_socket() {
            return Some(Irregular::Pipe);
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some(Irregular::Device);
        }
    }
    Some(Irregular::Directory)
}

/// The directory a path stands in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What a path means after all symbolic links, whether or not it exists.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    // as many links as Linux follows
    for _ in 0..40 {
        if path.starts_with("/proc") {
            return Err(io::Error::other("it is a file that a process has open; name the file itself"));
        }
        match fs::read_link(&path) {
            Ok(to) => path = directory(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

const TEMPORARY: [&str; 2] = [".eggcorn-", ".tmp"];

/// A new file under a name that nobody can know before, locked as long as it is open; readable by no more than the file it will replace.
fn fresh(dir: &Path, old: Option<&Metadata>) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if let Some(old) = old {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        options.mode(old.permissions().mode() & 0o777);
    }
    loop {
        let path = dir.join(unknown_name());
        match options.open(&path) {
            Ok(file) => {
                // not every file system has locks; without one `sweep` is not possible either
                let _ = file.lock();
                // a sweep may have come between the two
                if path.exists() {
                    return Ok((path, file));
                }
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// A name that nobody can know before.
fn unknown_name() -> String {
    let [start, end] = TEMPORARY;
    format!("{start}{:016x}{end}", RandomState::new().build_hasher().finish())
}

/// Removes what writers that died have left in a directory: temporary files that nobody holds.
pub(crate) fn sweep(dir: &Path) {
    let [start, end] = TEMPORARY;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|n| n.starts_with(start) && n.ends_with(end) && n.len() == start.len() + 16 + end.len());
        if ours && entry.file_type().is_ok_and(|t| t.is_file()) && File::open(entry.path()).is_ok_and(|f| f.try_lock().is_ok()) {
            // one that stays costs space, nothing else
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(unix)]
fn keep_rights(file: &File, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, fchown};
    // only the superuser can give a file away; whoever cannot keeps what is new
    let _ = fchown(file, Some(old.uid()), Some(old.gid()));
    file.set_permissions(old.permissions())
}

#[cfg(not(unix))]
fn keep_rights(file: &File, old: &Metadata) -> io::Result<()> {
    file.set_permissions(old.permissions())
}

#[cfg(unix)]
fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}
