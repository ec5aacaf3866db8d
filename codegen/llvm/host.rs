//! What this machine offers, and LLVM's code generator for it.

use crate::lower::Cpu;
use inkwell::OptimizationLevel;
use inkwell::targets::{CodeModel, InitializationConfig, RelocMode, Target as LlvmTarget, TargetMachine};
use std::sync::OnceLock;

/// What this machine offers.
#[derive(Clone, Debug)]
pub struct Host {
    /// LLVM's name of the processor.
    pub cpu: String,
    /// LLVM's list of its features.
    pub features: String,
    /// What kernels need to know.
    pub target: Cpu,
}

impl Host {
    /// Whether it has an instruction for products of pairs of `bfloat16`.
    pub fn has_pairs(&self) -> bool {
        has_pairs(&self.features)
    }
}

/// Whether a list of features has the instruction for products of pairs, for vectors of every length.
pub(super) fn has_pairs(features: &str) -> bool {
    ["+avx512bf16", "+avx512vl"].iter().all(|f| features.split(',').any(|x| x == *f))
}

/// What kernels of a graph need to know of this machine. Where there is something of `bfloat16` it is asked how it multiplies that fastest.
pub fn target_for(graph: &ir::Graph) -> Cpu {
    let halves = graph.funcs.iter().flat_map(|f| &f.nodes).any(|n| n.ty.dtype == ir::DType::BF16);
    Cpu { pairs: halves && super::probe::rates().is_some_and(|r| r.pays()), ..host().target }
}

/// Probes this machine.
pub fn host() -> Host {
    let cpu = TargetMachine::get_host_cpu_name().to_string();
    let features = TargetMachine::get_host_cpu_features().to_string();
    let has = |f: &str| features.split(',').any(|x| x.strip_prefix('+') == Some(f));
    let (lanes, registers) = match (has("avx512f") && has("avx512vl"), has("avx2") && has("fma"), has("neon")) {
        (true, ..) => (16, 32),
        (_, true, _) => (8, 16),
        (.., true) => (4, 32),
        _ => (4, 16),
    };
    Host { cpu, features, target: Cpu { lanes, registers, cache: cache_bytes(), pairs: false } }
}

/// The second-level cache of one core; 1 MiB where the system does not tell.
fn cache_bytes() -> usize {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let size = read("/sys/devices/system/cpu/cpu0/cache/index2/size").and_then(|t| t.trim().strip_suffix('K')?.parse::<usize>().ok());
    size.filter(|k| *k > 0).and_then(|k| k.checked_mul(1024)).unwrap_or(1 << 20)
}

/// The kind of machine and system that code is for.
pub(super) fn triple() -> String {
    TargetMachine::get_default_triple().as_str().to_string_lossy().into_owned()
}

/// The version of LLVM.
pub fn version() -> String {
    let (major, minor, patch) = inkwell::support::get_llvm_version();
    format!("{major}.{minor}.{patch}")
}

pub(super) fn machine() -> Result<TargetMachine, String> {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    READY.get_or_init(|| LlvmTarget::initialize_native(&InitializationConfig::default())).clone()?;
    let triple = TargetMachine::get_default_triple();
    let target = LlvmTarget::from_triple(&triple).map_err(|e| e.to_string())?;
    let (cpu, features) = (TargetMachine::get_host_cpu_name(), TargetMachine::get_host_cpu_features());
    target
        .create_target_machine(&triple, &cpu.to_string(), &features.to_string(), OptimizationLevel::Default, RelocMode::PIC, CodeModel::Default)
        .ok_or_else(|| format!("LLVM has no code generator for {triple}"))
}
