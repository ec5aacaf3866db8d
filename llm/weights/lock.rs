//! A run directory has one writer.

use crate::error::{Error, Result, file_error};
use crate::files::sweep;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const NAME: &str = ".eggcorn.lock";
/// What the file begins with, so that no other program's file is taken for one.
const MARK: &str = "eggcorn ";

/// The right to write into a run directory. The system takes it back when the process ends, however it ends.
pub struct RunLock {
    path: PathBuf,
    dir: PathBuf,
    made: bool,
    // held open; closing gives it up
    _file: File,
}

impl RunLock {
    /// Makes the directory where it is missing and takes its lock. Fails where another process holds it, and says which.
    pub fn take(dir: &Path) -> Result<RunLock> {
        let made = !dir.exists();
        fs::create_dir_all(dir).map_err(|e| file_error(dir, "the run directory cannot be made", e))?;
        let path = dir.join(NAME);
        loop {
            let mut file = open(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(held(dir, &mut file)),
                // a file system without locks: one writer is then the user's care
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(e)) => return Err(file_error(&path, "the run directory cannot be locked", e)),
                Ok(()) if !same(&file, &path) => continue,
                Ok(()) => {}
            }
            sign(&mut file).map_err(|e| file_error(&path, "the run directory cannot be locked", e))?;
            sweep(dir);
            return Ok(RunLock { path, dir: dir.to_path_buf(), made, _file: file });
        }
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // a file that stays is locked by nobody
        let _ = fs::remove_file(&self.path);
        if self.made {
            // a directory that was made for nothing goes; one that holds anything stays
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// The lock's file, never through a link, and never another program's.
fn open(path: &Path) -> Result<File> {
    let fail = |why: String| file_error(path, "the run directory cannot be locked", why);
    if fs::symlink_metadata(path).is_ok_and(|m| !m.is_file()) {
        return Err(fail("there is something of this name that is no lock; remove it".into()));
    }
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(|e| fail(e.to_string()))?;
    let text = content(&mut file);
    if text.is_empty() || text.starts_with(MARK) { Ok(file) } else { Err(fail("there is another file of this name; remove it".into())) }
}

fn content(file: &mut File) -> String {
    let mut bytes = vec![];
    let _ = file.rewind().and_then(|()| (&*file).take(256).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a file is still the one of its name: its holder may have removed it before it was locked here.
#[cfg(unix)]
fn same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    matches!((file.metadata().map(id), fs::symlink_metadata(path).map(id)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(not(unix))]
fn same(_: &File, _: &Path) -> bool {
    true
}

/// Writes who holds the lock.
fn sign(file: &mut File) -> std::io::Result<()> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{MARK}process {} on {} since {}", std::process::id(), host(), utc(since)).as_bytes())
}

fn held(dir: &Path, file: &mut File) -> Error {
    let text = content(file);
    let who = text.strip_prefix(MARK).unwrap_or("another process");
    Error(format!("{}: another training writes here: {who}; wait for its end, or name another --out", dir.display()))
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).unwrap_or_else(|| "this machine".into())
}

/// Seconds since 1970 as a date and a time (Hinnant, "chrono-compatible low-level date algorithms").
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // months count from March, so that a leap day is a year's last
    let month = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", rest / 3_600, rest / 60 % 60, rest % 60)
}
