//! Objects kept on disk under a hash of all that went into them, so that the second compilation of a program is a read.

use super::PASSES;
use super::host::{Host, version};
use crate::kernel::Kernel;
use std::path::{Path, PathBuf};

/// What a kernel's object is a function of.
pub(super) fn key(kernel: &Kernel, host: &Host) -> String {
    let mut kernel = kernel.clone();
    kernel.name = "k".into();
    let all = format!("{kernel}\n{}\n{}\n{:?}\n{}\n{PASSES}\n{}", host.cpu, host.features, host.target, version(), env!("CARGO_PKG_VERSION"));
    format!("k{:032x}", crate::hash128(&all))
}

/// Where objects are kept, unless the environment has no home.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("EGGCORN_CACHE").or_else(|| set("XDG_CACHE_HOME").map(|d| d.join("eggcorn"))).or_else(|| set("HOME").map(|h| h.join(".cache/eggcorn")))
}

/// An object from the cache; one that is not an ELF or Mach-O file is ignored.
pub(super) fn cached(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    (checksum(body).to_le_bytes() == *sum).then(|| body.to_vec())
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01B3))
}

/// Keeps an object. A cache that cannot be written costs time, not correctness, so failures are not errors.
pub(super) fn keep(path: &Path, object: &[u8]) {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let bytes = [object, &checksum(object).to_le_bytes()].concat();
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(path.parent().expect("the cache is a directory"))?;
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(&temporary, path)
    };
    if write().is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
}
