//! What this process may use of the machine: memory and cores, as the system and the control groups around the process allow.

use std::path::{Path, PathBuf};

/// Memory for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineMemory {
    /// Bytes there are: the machine's, or the least limit set for this process.
    pub total: usize,
    /// Bytes that can still be had.
    pub available: usize,
    /// What sets the bound on what is available, for people: `the machine`, or a limit by its name.
    pub bound: String,
}

impl MachineMemory {
    /// Why a program that needs so many bytes is not started.
    #[cfg_attr(not(feature = "llvm"), allow(dead_code))]
    pub(crate) fn refuse(&self, need: usize) -> String {
        let mib = |n: usize| n >> 20;
        format!(
            "this program needs {} MiB, and {} MiB are available (bounded by {}): use a smaller batch, context or model",
            mib(need),
            mib(self.available),
            self.bound
        )
    }
}

/// Memory for this process; `None` where the system does not say.
pub fn machine_memory() -> Option<MachineMemory> {
    memory_under(Path::new("/"))
}

/// Bytes of memory that this process has now; 0 where the system does not say.
pub fn resident() -> usize {
    status("VmRSS:")
}

/// The most bytes of memory that this process has had; 0 where the system does not say.
pub fn resident_peak() -> usize {
    status("VmHWM:")
}

fn status(name: &str) -> usize {
    read(Path::new("/"), "proc/self/status").and_then(|text| field(&text, name)).unwrap_or(0)
}

/// Cores for this process: no more than it may be scheduled on, or than its control groups give it the time of.
pub fn cores() -> usize {
    let seen = std::thread::available_parallelism().map_or(1, usize::from);
    quota_under(Path::new("/")).map_or(seen, |q| seen.min(q))
}

/// As [`machine_memory`], read from a tree of files that stands for the system's: `proc` and `sys/fs/cgroup`.
pub fn memory_under(root: &Path) -> Option<MachineMemory> {
    let info = read(root, "proc/meminfo")?;
    let kilobytes = |name: &str| field(&info, name);
    let machine = MachineMemory { total: kilobytes("MemTotal:")?, available: kilobytes("MemAvailable:")?, bound: "the machine".into() };
    let limits = groups(root, "memory").into_iter().flat_map(|g| g.memory()).chain(address_space(root)).chain(data(root));
    Some(limits.fold(machine, |m, l| MachineMemory {
        total: m.total.min(l.total),
        available: m.available.min(l.available),
        bound: if l.available < m.available { l.bound } else { m.bound },
    }))
}

/// Whole cores that the control groups around this process give it the time of, at least one; `None` where they set no quota. Read from
/// a tree of files as [`memory_under`] does.
pub fn quota_under(root: &Path) -> Option<usize> {
    groups(root, "cpu").iter().filter_map(Group::quota).min()
}

/// A file's text.
fn read(root: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(root.join(path)).ok()
}

/// Bytes of a line `Name:   123 kB`.
fn field(text: &str, name: &str) -> Option<usize> {
    let kilobytes = text.lines().find_map(|l| l.strip_prefix(name))?.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?;
    kilobytes.checked_mul(1024)
}

/// A control group that this process is in, at any depth.
struct Group {
    folder: PathBuf,
    /// Of the second version, whose files have other names.
    unified: bool,
}

/// The groups around this process that a controller may limit, innermost first. Where the process is in a container, the path that the
/// system tells may not be there; then the nearest folder above it that is.
fn groups(root: &Path, controller: &str) -> Vec<Group> {
    let Some(text) = read(root, "proc/self/cgroup") else { return vec![] };
    let mounts = root.join("sys/fs/cgroup");
    let mut out = vec![];
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|c| c == controller) {
            continue;
        }
        // the second version is mounted alone, or beside the first
        let names = if unified { ["", "unified"] } else { [controllers, controller] };
        let mut seen: Vec<PathBuf> = vec![];
        for mount in names.map(|n| mounts.join(n)) {
            let inside = path.split('/').filter(|p| !p.is_empty() && *p != ".." && *p != ".");
            let folder = inside.fold(mount.clone(), |f, p| f.join(p));
            let above = folder.ancestors().take_while(|f| f.starts_with(&mount)).filter(|f| f.is_dir()).map(Path::to_path_buf);
            for f in above {
                if !seen.contains(&f) {
                    seen.push(f);
                }
            }
        }
        out.extend(seen.into_iter().map(|folder| Group { folder, unified }));
    }
    out
}

impl Group {
    /// A file that holds a number; `None` where it is not there or says `max`.
    fn number(&self, name: &str) -> Option<usize> {
        read(&self.folder, name)?.trim().parse().ok()
    }

    /// The limits on memory, and what is left under each. What the group holds of files' pages that nobody uses can be had, too.
    fn memory(&self) -> Vec<MachineMemory> {
        let (names, used, spare) = match self.unified {
            true => (&["memory.max", "memory.high"][..], "memory.current", "inactive_file "),
            false => (&["memory.limit_in_bytes"][..], "memory.usage_in_bytes", "total_inactive_file "),
        };
        let used = self.number(used).unwrap_or(0);
        let stat = read(&self.folder, "memory.stat").unwrap_or_default();
        let spare = stat.lines().find_map(|l| l.strip_prefix(spare)?.trim().parse::<usize>().ok()).unwrap_or(0);
        let left = |limit: usize| limit.saturating_sub(used.saturating_sub(spare));
        let limit = |name: &&'static str| Some((*name, self.number(name)?));
        let named = |(name, total)| MachineMemory { total, available: left(total), bound: format!("its control group's {name}") };
        names.iter().filter_map(limit).map(named).collect()
    }

    /// Whole cores of time, at least one, where there is a quota.
    fn quota(&self) -> Option<usize> {
        let (quota, period) = match self.unified {
            true => {
                let text = read(&self.folder, "cpu.max")?;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse::<usize>().ok()?, period.trim().parse::<usize>().ok()?)
            }
            // −1 for none
            false => (self.number("cpu.cfs_quota_us")?, self.number("cpu.cfs_period_us")?),
        };
        Some(quota.checked_div(period)?.max(1))
    }
}

/// What is left of the process's own limit on addresses.
fn address_space(root: &Path) -> Option<MachineMemory> {
    own_limit(root, "Max address space", "VmSize:", "the limit on address space (ulimit -v)")
}

/// And of that on data.
fn data(root: &Path) -> Option<MachineMemory> {
    own_limit(root, "Max data size", "VmData:", "the limit on data (ulimit -d)")
}

fn own_limit(root: &Path, name: &str, used: &str, bound: &str) -> Option<MachineMemory> {
    let text = read(root, "proc/self/limits")?;
    // the soft limit, in bytes or `unlimited`
    let total: usize = text.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()?;
    let used = field(&read(root, "proc/self/status")?, used).unwrap_or(0);
    Some(MachineMemory { total, available: total.saturating_sub(used), bound: bound.into() })
}
