//! `eggcorn doctor`: what this machine offers.

use crate::options::mebibytes;
use crate::say;
use eggcorn::codegen::llvm;
use eggcorn::llm::Result;
use eggcorn::runtime::{fma_peak, machine_memory};

/// Show what this machine offers and what is missing.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let host = llvm::host();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (total, free) = machine_memory().unwrap_or((0, 0));
    let peak = fma_peak(cores);
    let cache = llvm::cache_dir();
    let cache_state = match &cache {
        None => "none: set HOME or EGGCORN_CACHE to keep compiled kernels".to_string(),
        Some(dir) => match std::fs::create_dir_all(dir).and_then(|()| tempfile(dir)) {
            Ok(()) => format!("{} (writable)", dir.display()),
            Err(e) => format!("{} is not writable ({e}): every start compiles anew; set EGGCORN_CACHE", dir.display()),
        },
    };
    if args.json {
        let line = serde_json::json!({
            "cpu": host.cpu, "vector_lanes": host.target.lanes, "vector_registers": host.target.registers, "cache_bytes": host.target.cache,
            "llvm": llvm::version(), "threads": cores, "memory_bytes": total, "memory_available_bytes": free,
            "fma_peak_gflops": peak / 1e9, "kernel_cache": cache_state, "gpu": null,
        });
        say!("{line}");
        return Ok(());
    }
    let vectors = match (host.target.lanes, host.target.registers) {
        (16, _) => "AVX-512",
        (8, _) => "AVX2 with FMA",
        (4, 32) => "NEON",
        _ => "none wider than 128 bits: kernels run, slowly",
    };
    say!("cpu          {}, {} threads", host.cpu, cores);
    say!("vectors      {vectors}: {} f32 lanes, {} registers", host.target.lanes, host.target.registers);
    say!("cache        {} a core (second level)", mebibytes(host.target.cache));
    say!("memory       {}, {} available", mebibytes(total), mebibytes(free));
    say!("llvm         {}", llvm::version());
    say!("fma peak     {:.0} GFLOP/s on {cores} threads, measured now", peak / 1e9);
    say!("kernel cache {cache_state}");
    say!("gpu          not used by this version: it compiles for CPUs");
    Ok(())
}

/// Whether a file can be made in a directory.
fn tempfile(dir: &std::path::Path) -> std::io::Result<()> {
    let path = dir.join(format!("probe-{}", std::process::id()));
    std::fs::write(&path, b"")?;
    std::fs::remove_file(path)
}
