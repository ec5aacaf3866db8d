//! Objects kept on disk under a hash of all that went into them, so that the second compilation of a program is a read.
//!
//! Many processes may use one folder at once. A file appears there by a rename, whole; one that was cut, changed or put under another
//! key's name does not pass its checksum and is made again. What was not used for longest goes when the folder grows beyond its limit.
//! Nothing but files of our own names is read or removed, and no link is followed.

use super::PASSES;
use super::host::{Host, triple, version};
use crate::hash128;
use crate::kernel::Kernel;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Source text by file name, under this crate's folder.
macro_rules! sources {
    ($($file:literal)*) => { &[$(($file, include_str!(concat!("../", $file)))),*] };
}

/// The sources that decide what machine code a kernel becomes: the printer's and the kernel language's. A key covers their text, so that
/// no object outlives a change of them.
pub const SOURCES: &[(&str, &str)] = sources! {
    "kernel/interpret.rs" "kernel/language.rs" "kernel/mod.rs" "kernel/text.rs" "kernel/writer.rs"
    "llvm/cache.rs" "llvm/host.rs" "llvm/jit.rs" "llvm/math.rs" "llvm/mod.rs" "llvm/print.rs" "llvm/probe.rs"
};

static PRINTER: LazyLock<u128> = LazyLock::new(|| hash128(SOURCES.iter().flat_map(|s| s.1.bytes())));

/// What a kernel's object is a function of, as a name: the kernel whole but for what it is called, the printer, LLVM and the machine.
pub fn key(kernel: &Kernel, host: &Host) -> String {
    let kernel = Kernel { name: "k".into(), ..kernel.clone() };
    let (cpu, features, target, llvm) = (&host.cpu, &host.features, host.target, version());
    let all = format!("{kernel:?}\n{:x}\n{llvm}\n{}\n{cpu}\n{features}\n{target:?}\n{PASSES}", *PRINTER, triple());
    format!("k{:032x}", hash128(all.bytes()))
}

/// The limit on a cache's size where the environment does not set one.
const LIMIT_MIB: u64 = 512;
/// The age at which a file that is not whole is of a writer that is gone.
const STALE: Duration = Duration::from_secs(3600);
/// Bytes of the checksum that ends a file.
const SUM: usize = 16;

/// A folder of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Where they are.
    pub dir: PathBuf,
    /// The bytes they may take in all.
    pub limit: u64,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Objects.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// A file of a cache.
struct Entry {
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
    whole: bool,
}

impl Cache {
    /// The cache that the environment names: the folder `EGGCORN_CACHE`, or `eggcorn` in `XDG_CACHE_HOME` or `~/.cache`, of at most
    /// `EGGCORN_CACHE_MIB` MiB. `None` where that is 0 or there is no home.
    pub fn of_environment() -> Result<Option<Cache>, String> {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let folder = |name: &str| set(name).map(PathBuf::from);
        let dir = folder("EGGCORN_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|d| d.join("eggcorn")))
            .or_else(|| folder("HOME").map(|h| h.join(".cache/eggcorn")));
        let mib = set("EGGCORN_CACHE_MIB").map(|v| v.to_string_lossy().into_owned());
        let limit = match &mib {
            None => LIMIT_MIB,
            Some(text) => text.trim().parse().map_err(|_| format!("EGGCORN_CACHE_MIB is {text:?}, expected a whole number of MiB, such as 512"))?,
        };
        Ok(dir.filter(|_| limit > 0).map(|dir| Cache { dir, limit: limit.saturating_mul(1 << 20) }))
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.o"))
    }

    /// Why nothing can be kept, if so. Makes the folder, for this user alone, where there is none.
    pub fn check(&self) -> io::Result<()> {
        self.open_folder()?;
        let (path, _) = self.fresh(&format!("k{:032x}", 0))?;
        std::fs::remove_file(path)
    }

    fn open_folder(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.recursive(true).create(&self.dir)?;
        if self.trusted() { Ok(()) } else { Err(io::Error::new(ErrorKind::PermissionDenied, "everyone may write there")) }
    }

    /// Whether nobody else can put code there.
    fn trusted(&self) -> bool {
        #[cfg(unix)]
        return std::fs::metadata(&self.dir).is_ok_and(|m| std::os::unix::fs::MetadataExt::mode(&m) & 0o002 == 0);
        #[cfg(not(unix))]
        true
    }

    /// The object kept under a key. One that is not whole, not what was kept, or not a plain file is ignored.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        if !self.trusted() {
            return None;
        }
        let mut file = open_plain(&self.path(key))?;
        let mut bytes = vec![];
        Read::by_ref(&mut file).take(self.limit).read_to_end(&mut bytes).ok()?;
        let (object, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
        if checksum(key, object) != *sum {
            return None;
        }
        // the time of the last use decides what goes; where it cannot be set, that of writing does
        let _ = file.set_modified(SystemTime::now());
        bytes.truncate(bytes.len() - SUM);
        Some(bytes)
    }

    /// Keeps an object. A cache that cannot be written costs time, not correctness, so failures are not errors.
    pub fn put(&self, key: &str, object: &[u8]) {
        let write = || -> io::Result<()> {
            self.open_folder()?;
            let (temporary, mut file) = self.fresh(key)?;
            let written = file.write_all(object).and_then(|()| file.write_all(&checksum(key, object)));
            written.and_then(|()| std::fs::rename(&temporary, self.path(key))).inspect_err(|_| {
                let _ = std::fs::remove_file(&temporary);
            })
        };
        let _ = write();
    }

    /// A new file to write, that nobody else has.
    fn fresh(&self, key: &str) -> io::Result<(PathBuf, File)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = self.dir.join(format!("{key}.{}-{n}.tmp", std::process::id()));
            match options.open(&path) {
                // of a process that is gone and had this one's number
                Err(e) if e.kind() == ErrorKind::AlreadyExists => continue,
                file => return file.map(|f| (path, f)),
            }
        }
    }

    /// Removes what was not used for longest, down to the limit, and what writers that are gone have left.
    pub fn sweep(&self) {
        let mut entries = self.entries();
        entries.sort_by_key(|e| e.used);
        let mut total: u64 = entries.iter().filter(|e| e.whole).map(|e| e.bytes).sum();
        for e in entries {
            let gone = if e.whole { total > self.limit } else { e.used.elapsed().is_ok_and(|age| age > STALE) };
            // another process may have removed it, which is as well
            let removed = |r: io::Result<()>| r.map_or_else(|e| e.kind() == ErrorKind::NotFound, |()| true);
            if gone && removed(std::fs::remove_file(&e.path)) && e.whole {
                total -= e.bytes;
            }
        }
    }

    /// What is there.
    pub fn usage(&self) -> Usage {
        let add = |u: Usage, e: Entry| Usage { objects: u.objects + 1, bytes: u.bytes + e.bytes };
        self.entries().into_iter().filter(|e| e.whole).fold(Usage::default(), add)
    }

    /// The files of our names.
    fn entries(&self) -> Vec<Entry> {
        let Ok(dir) = std::fs::read_dir(&self.dir) else { return vec![] };
        let entry = |e: std::fs::DirEntry| {
            let whole = kind(e.file_name().to_str()?)?;
            // of the entry itself, not of what a link leads to
            let data = e.metadata().ok().filter(|m| m.is_file())?;
            Some(Entry { path: e.path(), used: data.modified().ok()?, bytes: data.len(), whole })
        };
        dir.flatten().filter_map(entry).collect()
    }
}

/// Whether a file's name is that of a whole object, or of one that is being written; `None` for names that are not ours.
fn kind(name: &str) -> Option<bool> {
    let (stem, extension) = name.rsplit_once('.')?;
    let (key, writer) = stem.split_once('.').map_or((stem, None), |(k, w)| (k, Some(w)));
    let is_key = key.strip_prefix('k').is_some_and(|h| h.len() == 32 && h.bytes().all(|b| b.is_ascii_hexdigit()));
    let is_writer = |w: &str| w.split_once('-').is_some_and(|(p, n)| [p, n].iter().all(|x| !x.is_empty() && x.bytes().all(|b| b.is_ascii_digit())));
    match (extension, writer) {
        ("o", None) if is_key => Some(true),
        ("tmp", Some(w)) if is_key && is_writer(w) => Some(false),
        _ => None,
    }
}

/// A plain file, not what a link of that name leads to.
fn open_plain(path: &Path) -> Option<File> {
    let named = std::fs::symlink_metadata(path).ok().filter(|m| m.is_file())?;
    let file = File::open(path).ok()?;
    let opened = file.metadata().ok()?;
    #[cfg(unix)]
    let same = {
        use std::os::unix::fs::MetadataExt;
        (named.dev(), named.ino()) == (opened.dev(), opened.ino())
    };
    #[cfg(not(unix))]
    let same = named.len() == opened.len();
    same.then_some(file)
}

/// Covers the key, so that an object under another's name is not taken for it.
fn checksum(key: &str, object: &[u8]) -> [u8; SUM] {
    hash128(key.bytes().chain(object.iter().copied())).to_le_bytes()
}
