//! What this process may use, read from trees of files that stand for systems.

use runtime::limits::{memory_under, quota_under};
use std::path::PathBuf;

const MIB: usize = 1 << 20;

/// A tree of files.
struct Tree(PathBuf);

impl Tree {
    /// A machine of 1000 MiB with 800 available, and a process in these control groups.
    fn new(name: &str, groups: &str) -> Tree {
        let root = std::env::temp_dir().join(format!("eggcorn-limits-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let tree = Tree(root);
        tree.file("proc/meminfo", "MemTotal:        1024000 kB\nMemFree:  1 kB\nMemAvailable:     819200 kB\n").file("proc/self/cgroup", groups)
    }
    fn file(self, path: &str, text: impl ToString) -> Tree {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.to_string()).unwrap();
        self
    }
    /// Total and available MiB, and what bounds them.
    #[track_caller]
    fn memory(&self, total: usize, available: usize, bound: &str) {
        let m = memory_under(&self.0).unwrap();
        assert_eq!((m.total / MIB, m.available / MIB), (total, available), "{m:?}");
        assert!(m.bound.contains(bound), "{m:?}");
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn memory_without_limits_is_the_machines() {
    Tree::new("none", "").memory(1000, 800, "the machine");
    // groups that set none, or whose folders are not there
    Tree::new("max", "0::/a\n").file("sys/fs/cgroup/a/memory.max", "max\n").file("sys/fs/cgroup/a/memory.current", 5).memory(
        1000,
        800,
        "the machine",
    );
    Tree::new("gone", "0::/a\n4:memory:/b\n").memory(1000, 800, "the machine");
    Tree::new("v1max", "4:memory:/\n").file("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n").memory(1000, 800, "the machine");
    Tree::new("odd", "nonsense\n0:\n:::\n0::/a\n").file("sys/fs/cgroup/a/memory.max", "many").memory(1000, 800, "the machine");
    let empty = Tree::new("empty", "").file("proc/meminfo", "");
    assert_eq!(memory_under(&empty.0), None);
}

#[test]
fn control_groups_bound_memory() {
    let group = |name: &str, max: usize, high: &str| {
        Tree::new(name, "0::/a/b\n")
            .file("sys/fs/cgroup/a/b/memory.max", max * MIB)
            .file("sys/fs/cgroup/a/b/memory.high", high)
            .file("sys/fs/cgroup/a/b/memory.current", 100 * MIB)
            .file("sys/fs/cgroup/a/b/memory.stat", format!("anon 7\ninactive_file {}\nactive_file 9\n", 30 * MIB))
    };
    // what is used but for pages of files that nobody looks at is gone
    group("max2", 300, "max").memory(300, 230, "memory.max");
    group("high", 300, &(200 * MIB).to_string()).memory(200, 130, "memory.high");
    // full
    group("full", 50, "max").memory(50, 0, "memory.max");
    // more than there is bounds nothing
    group("wide", 2000, "max").memory(1000, 800, "the machine");
    // the group around it is narrower, and has others in it
    let outer = group("outer", 300, "max").file("sys/fs/cgroup/a/memory.max", 400 * MIB).file("sys/fs/cgroup/a/memory.current", 390 * MIB);
    outer.memory(300, 10, "memory.max");
    // in a container its own group is the root of what is mounted
    Tree::new("container", "0::/../../docker/0123\n")
        .file("sys/fs/cgroup/memory.max", 64 * MIB)
        .file("sys/fs/cgroup/memory.current", 4 * MIB)
        .memory(64, 60, "memory.max");
    // beside the first version
    Tree::new("hybrid", "4:memory:/\n0::/s\n").file("sys/fs/cgroup/unified/s/memory.max", 64 * MIB).memory(64, 64, "memory.max");
    // the first version
    Tree::new("v1", "7:cpu,cpuacct:/\n4:memory:/docker/0123\n")
        .file("sys/fs/cgroup/memory/memory.limit_in_bytes", 500 * MIB)
        .file("sys/fs/cgroup/memory/memory.usage_in_bytes", 100 * MIB)
        .file("sys/fs/cgroup/memory/memory.stat", format!("inactive_file 1\ntotal_inactive_file {}\n", 50 * MIB))
        .memory(500, 450, "limit_in_bytes");
    Tree::new("v1nested", "4:memory:/a\n")
        .file("sys/fs/cgroup/memory/memory.limit_in_bytes", 500 * MIB)
        .file("sys/fs/cgroup/memory/a/memory.limit_in_bytes", 300 * MIB)
        .memory(300, 300, "limit_in_bytes");
}

#[test]
fn the_process_own_limits_bound_memory() {
    let limits = |name: &str, space: &str, data: &str| {
        Tree::new(name, "")
            .file(
                "proc/self/limits",
                format!(
                    "Limit  Soft Limit  Hard Limit  Units\nMax address space  {space}  unlimited  bytes\nMax data size  {data}  unlimited bytes\n"
                ),
            )
            .file("proc/self/status", "Name:\tx\nVmSize:\t  102400 kB\nVmData:\t  51200 kB\n")
    };
    limits("unlimited", "unlimited", "unlimited").memory(1000, 800, "the machine");
    limits("space", &(300 * MIB).to_string(), "unlimited").memory(300, 200, "ulimit -v");
    limits("data", "unlimited", &(300 * MIB).to_string()).memory(300, 250, "ulimit -d");
    limits("both", &(300 * MIB).to_string(), &(200 * MIB).to_string()).memory(200, 150, "ulimit -d");
}

#[test]
fn quotas_bound_cores() {
    let quota = |name: &str, groups: &str, files: &[(&str, &str)]| {
        let tree = files.iter().fold(Tree::new(name, groups), |t, (path, text)| t.file(&format!("sys/fs/cgroup/{path}"), text));
        quota_under(&tree.0)
    };
    assert_eq!(quota("q-none", "", &[]), None);
    assert_eq!(quota("q-max", "0::/a\n", &[("a/cpu.max", "max 100000\n")]), None);
    assert_eq!(quota("q-two", "0::/a\n", &[("a/cpu.max", "250000 100000\n")]), Some(2));
    assert_eq!(quota("q-half", "0::/a\n", &[("a/cpu.max", "50000 100000\n")]), Some(1));
    assert_eq!(quota("q-zero", "0::/a\n", &[("a/cpu.max", "50000 0\n")]), None);
    assert_eq!(quota("q-outer", "0::/a/b\n", &[("a/cpu.max", "300000 100000\n"), ("a/b/cpu.max", "500000 100000\n")]), Some(3));
    let v1 = |name: &str, quota_us: &str| {
        quota(name, "1:cpu,cpuacct:/\n", &[("cpu,cpuacct/cpu.cfs_quota_us", quota_us), ("cpu,cpuacct/cpu.cfs_period_us", "100000")])
    };
    assert_eq!(v1("q-v1", "400000"), Some(4));
    assert_eq!(v1("q-v1none", "-1"), None);
}

/// A device's threads are no more than there are cores; a program too large is refused with the numbers.
#[test]
fn what_is_asked_beyond_the_limits() {
    let cores = runtime::cores();
    assert!(cores >= 1 && cores <= std::thread::available_parallelism().map_or(1, usize::from));
    for asked in [1, cores, cores + 1, 1000] {
        let device = runtime::Device::open("cpu", asked).unwrap();
        assert_eq!(device.describe(), format!("cpu, {} threads", asked.min(cores)));
    }
    // 4 TiB in and 4 TiB out
    let huge = "main(%0 x: f32[1099511627776]) {\n  %1 = neg %0 : f32[1099511627776]\n  return y=%1\n}\n";
    let graph: ir::Graph = huge.parse().unwrap();
    let have = runtime::machine_memory().unwrap();
    let error = runtime::Session::new(&graph, runtime::Device::open("cpu", 1).unwrap()).err().unwrap();
    assert!(error.contains("8388608 MiB") && error.contains(&have.bound) && error.contains("smaller batch"), "{error}");
}
