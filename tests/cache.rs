//! The cache of objects on disk: what a key covers, what is believed, what goes, who may use it at once.

use codegen::kernel::{Elem, Kernel, Param, Writer, load};
use codegen::llvm::{Cache, Host, SOURCES, Usage, host, key};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

/// A folder of one test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let dir = std::env::temp_dir().join(format!("eggcorn-cache-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }
    /// A cache in a folder that is not there yet.
    fn cache(&self, limit: u64) -> Cache {
        Cache { dir: self.0.join("kernels"), limit }
    }
    /// The names of what the cache's folder holds.
    fn names(&self) -> BTreeSet<String> {
        std::fs::read_dir(self.0.join("kernels")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Keys as kernels have them.
fn name(n: u32) -> String {
    format!("k{n:032x}")
}

fn file(cache: &Cache, key: &str) -> PathBuf {
    cache.dir.join(format!("{key}.o"))
}

/// Sets when a file was last used, so many seconds ago.
fn age(path: &Path, seconds: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn tests_have_a_cache_of_their_own() {
    let dir = std::env::var("EGGCORN_CACHE").expect("cargo sets it, see .cargo/config.toml; or set it to a folder of your own");
    assert_eq!(Cache::of_environment().unwrap().unwrap().dir, Path::new(&dir));
}

/// A kernel that adds 1 to what is there.
fn kernel(name: &str, units: usize) -> Kernel {
    let mut w = Writer::new(name, vec![Param { elem: Elem::F32, written: true }], units);
    let out = codegen::kernel::Buf::Arg(0);
    w.store(out, 0.into(), load(out, 0.into(), 1, None).plus(codegen::kernel::Expr::f32(1.0)), None);
    w.finish()
}

#[test]
fn a_key_covers_the_kernel_the_machine_and_the_printer() {
    let (here, one) = (host(), kernel("one", 1));
    let of = |k: &Kernel| key(k, &here);
    assert!(of(&one) == of(&kernel("another", 1)), "what it is called is not what it does");
    let mut changed = vec![of(&one), of(&kernel("one", 2))];
    let mut edit = |f: &dyn Fn(&mut Kernel)| {
        let mut k = one.clone();
        f(&mut k);
        changed.push(of(&k));
    };
    edit(&|k| k.params[0].written = false);
    edit(&|k| k.params[0].elem = Elem::I32);
    edit(&|k| k.scratch.push((Elem::F32, 4)));
    edit(&|k| drop(k.body.pop()));
    let mut other = |f: &dyn Fn(&mut Host)| {
        let mut h = here.clone();
        f(&mut h);
        changed.push(key(&one, &h));
    };
    other(&|h| h.cpu.push('x'));
    other(&|h| h.features.push_str(",+x"));
    other(&|h| h.target.lanes += 1);
    other(&|h| h.target.registers += 1);
    other(&|h| h.target.cache += 1);
    let distinct: BTreeSet<&String> = changed.iter().collect();
    assert_eq!(distinct.len(), changed.len(), "{changed:?}");
    assert!(changed.iter().all(|k| k.len() == 33 && k.starts_with('k')));
}

/// Every source of the printer and of the kernel language is in the key, as it was built.
#[test]
fn a_key_covers_every_source_of_the_printer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("codegen");
    for folder in ["llvm", "kernel"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            let path = format!("{folder}/{entry}");
            let text = std::fs::read_to_string(root.join(&path)).unwrap();
            assert!(SOURCES.contains(&(path.as_str(), text.as_str())), "{path} is not among the sources that a key covers");
        }
    }
    let named: BTreeSet<&str> = SOURCES.iter().map(|s| s.0).collect();
    assert_eq!(named.len(), SOURCES.len());
}

#[test]
fn what_was_kept_is_given_back_and_nothing_else() {
    let f = Folder::new("kept");
    let cache = f.cache(1 << 20);
    assert_eq!((cache.get(&name(1)), cache.usage()), (None, Usage::default()));
    for object in [&b""[..], b"x", &[7; 5000]] {
        cache.put(&name(1), object);
        assert_eq!(cache.get(&name(1)).as_deref(), Some(object));
    }
    assert_eq!(cache.usage(), Usage { objects: 1, bytes: 5016 });
    assert_eq!(f.names(), BTreeSet::from([format!("{}.o", name(1))]), "nothing else is left there");
    let good = std::fs::read(file(&cache, &name(1))).unwrap();
    // under another's name, cut anywhere, longer, with any bit changed
    std::fs::write(file(&cache, &name(2)), &good).unwrap();
    assert_eq!(cache.get(&name(2)), None);
    for bad in [&good[..0], &good[..15], &good[..16], &good[..good.len() - 1], &good[1..], &[&good[..], &[0]].concat()] {
        std::fs::write(file(&cache, &name(1)), bad).unwrap();
        assert_eq!(cache.get(&name(1)), None, "{} bytes", bad.len());
    }
    for at in [0, 4999, 5000, 5015] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(file(&cache, &name(1)), &bad).unwrap();
        assert_eq!(cache.get(&name(1)), None, "byte {at}");
    }
    // and made good again
    cache.put(&name(1), b"again");
    assert_eq!(cache.get(&name(1)).as_deref(), Some(&b"again"[..]));
}

/// The oldest go, by their last use, until the rest fits; what is not ours stays, and of others' half-written files only old ones go.
#[test]
fn the_oldest_go_beyond_the_limit() {
    let f = Folder::new("limit");
    let cache = f.cache(3 * 116);
    for n in 0..5 {
        cache.put(&name(n), &[n as u8; 100]);
        age(&file(&cache, &name(n)), 1000 - 100 * u64::from(n));
    }
    // the oldest is used once more
    assert!(cache.get(&name(0)).is_some());
    let theirs = [
        "notes.txt".into(),
        "k1.o".into(),
        "x.tmp".into(),
        format!("{}.bak", name(7)),
        format!("{}.o", "g".repeat(33)),
        format!("{}.mine.tmp", name(7)),
        format!("{}-.tmp", name(7)),
        format!("{}.1-.tmp", name(7)),
    ];
    for name in &theirs {
        std::fs::write(cache.dir.join(name), [0; 4000]).unwrap();
        age(&cache.dir.join(name), 1_000_000);
    }
    let half = |pid: u32, seconds: u64| {
        let path = cache.dir.join(format!("{}.{pid}-3.tmp", name(8)));
        std::fs::write(&path, [0; 4000]).unwrap();
        age(&path, seconds);
        path
    };
    let (gone, writing) = (half(1, 7200), half(2, 60));
    assert_eq!(cache.usage(), Usage { objects: 5, bytes: 5 * 116 });
    cache.sweep();
    let left: Vec<u32> = (0..5).filter(|n| file(&cache, &name(*n)).exists()).collect();
    assert_eq!(left, [0, 3, 4], "exactly the limit is left");
    assert!(theirs.iter().all(|n| cache.dir.join(n).exists()) && !gone.exists() && writing.exists());
    // one byte less than they take
    Cache { limit: 3 * 116 - 1, ..cache.clone() }.sweep();
    assert_eq!(cache.usage().objects, 2);
    cache.sweep();
    assert_eq!(cache.usage().objects, 2);
}

#[cfg(unix)]
#[test]
fn links_and_open_folders_are_not_trusted() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let f = Folder::new("links");
    let cache = f.cache(1 << 20);
    cache.put(&name(1), b"object");
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache.dir), 0o700);
    // a link to a good object is not followed, and what it leads to is not written
    let aside = f.0.join("aside");
    std::fs::rename(file(&cache, &name(1)), &aside).unwrap();
    symlink(&aside, file(&cache, &name(1))).unwrap();
    assert_eq!((cache.get(&name(1)), cache.usage().objects), (None, 0));
    let before = std::fs::read(&aside).unwrap();
    cache.put(&name(1), b"other");
    assert!(std::fs::read(&aside).unwrap() == before && cache.get(&name(1)).as_deref() == Some(b"other"));
    // a folder or a pipe in an object's place is no object, and waits for nobody
    std::fs::create_dir(file(&cache, &name(2))).unwrap();
    cache.put(&name(2), b"object");
    assert!(Command::new("mkfifo").arg(file(&cache, &name(3))).status().is_ok_and(|s| s.success()));
    assert_eq!((cache.get(&name(2)), cache.get(&name(3))), (None, None));
    cache.sweep();
    assert!(file(&cache, &name(3)).exists());
    assert!(f.names().iter().all(|n| !n.ends_with(".tmp")), "{:?}", f.names());
    assert!(cache.check().is_ok());
    // others could have put code there
    std::fs::set_permissions(&cache.dir, PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(cache.get(&name(1)), None);
    cache.put(&name(9), b"object");
    assert!(!file(&cache, &name(9)).exists() && cache.check().unwrap_err().to_string().contains("everyone"));
    // a file where the folder should be
    let blocked = Cache { dir: aside.join("kernels"), limit: 1 << 20 };
    blocked.put(&name(1), b"object");
    blocked.sweep();
    assert!(blocked.get(&name(1)).is_none() && blocked.check().is_err());
}

/// Writers, readers and sweepers at once: whatever is read is whole.
#[test]
fn many_may_use_it_at_once() {
    let f = Folder::new("many");
    let cache = f.cache(20_000);
    let object = |n: u32| vec![n as u8; 1000 + n as usize];
    std::thread::scope(|s| {
        for t in 0..4u32 {
            let cache = &cache;
            s.spawn(move || {
                for round in 0..60 {
                    let n = (t * 7 + round) % 30;
                    cache.put(&name(n), &object(n));
                    if let Some(read) = cache.get(&name((n + 5) % 30)) {
                        assert_eq!(read, object((n + 5) % 30));
                    }
                    if round % 10 == 9 {
                        cache.sweep();
                    }
                }
            });
        }
    });
    cache.sweep();
    let used = cache.usage();
    assert!(used.bytes <= 20_000, "{used:?}");
    cache.put(&name(40), &object(40));
    assert_eq!(cache.get(&name(40)), Some(object(40)));
    assert!(f.names().iter().all(|n| n.ends_with(".o")));
}

/// The program with a cache of its own.
fn eggcorn(dir: &Path, mib: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_eggcorn")).args(args).env("EGGCORN_CACHE", dir).env("EGGCORN_CACHE_MIB", mib).output().unwrap()
}

/// The second process reads what the first has made; damaged objects are made again; the limit is the environment's.
#[test]
fn another_process_reads_it() {
    let f = Folder::new("process");
    let cache = f.cache(64 << 20);
    let bench = |mib: &str| {
        let small = ["n_layer=1", "n_embd=8", "n_head=2", "vocab_size=20", "n_positions=8"].into_iter().flat_map(|s| ["--set", s]);
        let args: Vec<&str> = ["bench", "train", "gpt2", "--seq", "8", "--steps", "1", "--json"].into_iter().chain(small).collect();
        let out = eggcorn(&cache.dir, mib, &args);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        (json["kernels"].as_u64().unwrap(), json["kernels_cached"].as_u64().unwrap())
    };
    let (kernels, cached) = bench("64");
    assert!(kernels > 5 && cached == 0);
    // kernels that are alike but for their names are one object; the measure of the machine's peak is a kernel, too
    let whole = cache.usage().objects as u64 - 1;
    assert!(whole > 5 && whole <= kernels);
    assert_eq!(bench("64"), (kernels, whole));
    for name in f.names().iter().take(3) {
        let mut bytes = std::fs::read(cache.dir.join(name)).unwrap();
        bytes[100] ^= 1;
        std::fs::write(cache.dir.join(name), &bytes).unwrap();
    }
    let again = bench("64").1;
    assert!((whole - 3..whole - 1).contains(&again), "{again} of {whole}");
    assert_eq!(bench("64").1, whole);
    // 0 keeps and reads nothing
    assert_eq!(bench("0"), (kernels, 0));
    let doctor = |mib: &str| String::from_utf8(eggcorn(&cache.dir, mib, &["doctor"]).stdout).unwrap();
    let shown = doctor("7");
    assert!(shown.contains(&format!("{} kernels in", cache.usage().objects)) && shown.contains("of at most 7 MiB"), "{shown}");
    assert!(doctor("many").contains("EGGCORN_CACHE_MIB is \"many\""));
    let refused = eggcorn(&cache.dir, "-1", &["bench", "generate", "gpt2", "--set", "n_layer=1"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && error.contains("EGGCORN_CACHE_MIB is \"-1\""), "{error}");
}
