//! `eggcorn doctor`: what this machine offers.

use super::options::{cores, mebibytes};
use super::say;
use eggcorn::llm::Result;
use eggcorn::runtime::{Device, machine_memory};
use serde_json::{Map, Value, json};

/// Show what this machine offers and what is missing.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What is shown of one thing: keys for machines, a line for people.
struct Finding {
    name: &'static str,
    line: String,
    json: Vec<(&'static str, Value)>,
}

pub fn run(args: &Args) -> Result<()> {
    let mut found = vec![memory()];
    found.extend(processor());
    found.push(device("wgpu", cfg!(feature = "wgpu")));
    found.push(device("cuda", cfg!(feature = "cuda")));
    if args.json {
        let all: Map<String, Value> = found.into_iter().flat_map(|f| f.json).map(|(k, v)| (k.to_string(), v)).collect();
        say!("{}", Value::Object(all));
        return Ok(());
    }
    for f in found {
        say!("{:12} {}", f.name, f.line);
    }
    Ok(())
}

fn memory() -> Finding {
    let (total, free) = machine_memory().unwrap_or((0, 0));
    let json = vec![("memory_bytes", json!(total)), ("memory_available_bytes", json!(free)), ("threads", json!(cores()))];
    Finding { name: "memory", line: format!("{}, {} available", mebibytes(total), mebibytes(free)), json }
}

#[cfg(not(feature = "llvm"))]
fn processor() -> Vec<Finding> {
    vec![Finding { name: "cpu", line: "not in this build: build with --features llvm".into(), json: vec![("cpu", Value::Null)] }]
}

#[cfg(feature = "llvm")]
fn processor() -> Vec<Finding> {
    use eggcorn::codegen::llvm;
    let (host, cores) = (llvm::host(), cores());
    let vectors = match (host.target.lanes, host.target.registers) {
        (16, _) => "AVX-512",
        (8, _) => "AVX2 with FMA",
        (4, 32) => "NEON",
        _ => "none wider than 128 bits: kernels run, slowly",
    };
    let peak = eggcorn::runtime::fma_peak(cores);
    let cache = match llvm::cache_dir() {
        None => "none: set HOME or EGGCORN_CACHE to keep compiled kernels".to_string(),
        Some(dir) => match std::fs::create_dir_all(&dir).and_then(|()| tempfile(&dir)) {
            Ok(()) => format!("{} (writable)", dir.display()),
            Err(e) => format!("{} is not writable ({e}): every start compiles anew; set EGGCORN_CACHE", dir.display()),
        },
    };
    let one = |name, line: String, json| Finding { name, line, json };
    let t = host.target;
    vec![
        one("cpu", format!("{}, {cores} threads", host.cpu), vec![("cpu", json!(host.cpu))]),
        one(
            "vectors",
            format!("{vectors}: {} f32 lanes, {} registers", t.lanes, t.registers),
            vec![("vector_lanes", json!(t.lanes)), ("vector_registers", json!(t.registers))],
        ),
        one("cache", format!("{} a core (second level)", mebibytes(t.cache)), vec![("cache_bytes", json!(t.cache))]),
        one("llvm", llvm::version(), vec![("llvm", json!(llvm::version()))]),
        one("fma peak", format!("{:.0} GFLOP/s on {cores} threads, measured now", peak / 1e9), vec![("fma_peak_gflops", json!(peak / 1e9))]),
        one("kernel cache", cache.clone(), vec![("kernel_cache", json!(cache))]),
    ]
}

/// A graphics processor, or why there is none.
fn device(name: &'static str, built: bool) -> Finding {
    let missing = |why: String| Finding { name, line: why.clone(), json: vec![(name, json!({ "missing": why }))] };
    if !built {
        return missing(format!("not in this build: build with --features {name}"));
    }
    match Device::open(name, 1) {
        Ok(d) => Finding { name, line: d.describe(), json: vec![(name, json!({ "name": d.describe() }))] },
        Err(e) => missing(e),
    }
}

#[cfg(feature = "llvm")]
/// Whether a file can be made in a directory.
fn tempfile(dir: &std::path::Path) -> std::io::Result<()> {
    let path = dir.join(format!("probe-{}", std::process::id()));
    std::fs::File::create_new(&path)?;
    std::fs::remove_file(path)
}
