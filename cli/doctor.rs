//! `eggcorn doctor`: what this machine offers.

use super::options::mebibytes;
use super::say;
use eggcorn::llm::Result;
use eggcorn::runtime::{Device, cores, machine_memory};
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
    let Some(m) = machine_memory() else {
        return Finding { name: "memory", line: "the system does not say".into(), json: vec![("memory_bytes", Value::Null)] };
    };
    let json = vec![
        ("memory_bytes", json!(m.total)),
        ("memory_available_bytes", json!(m.available)),
        ("memory_bound", json!(m.bound)),
        ("threads", json!(cores())),
    ];
    Finding { name: "memory", line: format!("{}, {} available (bounded by {})", mebibytes(m.total), mebibytes(m.available), m.bound), json }
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
        pairs(),
        kernel_cache(),
    ]
}

/// How products of 16 bits are made, and why.
#[cfg(feature = "llvm")]
fn pairs() -> Finding {
    let finding = |line, ratio: Option<f64>, pays: bool| Finding {
        name: "bf16 products",
        line,
        json: vec![("bf16_pairs", json!(pays)), ("bf16_pairs_over_f32", json!(ratio))],
    };
    match eggcorn::codegen::llvm::rates() {
        None => finding("widened to f32: no instruction for pairs".into(), None, false),
        Some(r) => {
            let how = if r.pays() { "in pairs" } else { "widened to f32" };
            finding(
                format!("{how}: the instruction for pairs does {:.2} times f32's products a second, measured now", r.ratio()),
                Some(r.ratio()),
                r.pays(),
            )
        }
    }
}

/// Where compiled kernels are kept, and how much of what they may take.
#[cfg(feature = "llvm")]
fn kernel_cache() -> Finding {
    use eggcorn::codegen::llvm::Cache;
    let finding = |line: String, mut more: Vec<(&'static str, Value)>| {
        more.insert(0, ("kernel_cache", json!(line)));
        Finding { name: "kernel cache", line, json: more }
    };
    let cache = match Cache::of_environment() {
        Err(e) => return finding(e, vec![]),
        Ok(None) => return finding("none: set HOME or EGGCORN_CACHE, and EGGCORN_CACHE_MIB above 0, to keep compiled kernels".into(), vec![]),
        Ok(Some(cache)) => cache,
    };
    let (dir, used) = (cache.dir.display(), cache.usage());
    if let Err(e) = cache.check() {
        return finding(format!("{dir} cannot be used ({e}): every start compiles anew; set EGGCORN_CACHE"), vec![]);
    }
    let limit = mebibytes(cache.limit as usize);
    let line = format!("{dir} (writable), {} kernels in {} of at most {limit} (EGGCORN_CACHE_MIB)", used.objects, mebibytes(used.bytes as usize));
    finding(line, vec![("kernel_cache_bytes", json!(used.bytes)), ("kernel_cache_limit_bytes", json!(cache.limit))])
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
