//! `eggcorn bench run`: a program's speed and memory, on random numbers.

use super::bench::{Args, spread};
use super::options::mebibytes;
use super::run::goal;
use super::{note, say};
use eggcorn::ir::{DType, Func, NodeId, Op, Row, Type, Value};
use eggcorn::llm::{Error, Models, Result, named, random};
use eggcorn::passes::compile;
use eggcorn::runtime::limits::{resident, resident_peak};
use eggcorn::runtime::{Device, Session};
use std::time::Instant;

/// Runs that are not measured: a device compiles in the first and records in the second.
const WARM: usize = 2;

/// Random numbers that repeat: large tensors are filled with them over and over.
const PERIOD: usize = 4093;

/// What was measured.
struct Figures {
    optimise: f64,
    compile: f64,
    /// Of a run: median, least and greatest.
    seconds: (f64, f64, f64),
    /// Operations a second that the processor has at best, where that can be measured.
    peak: Option<f64>,
    /// Bytes that the process has more.
    added: usize,
}

pub fn run(args: &Args, models: &Models) -> Result<()> {
    let (graph, name) = args.program(models)?;
    let before = resident();
    let start = Instant::now();
    let device = args.device.open()?;
    let options = args.compile.options_on(&device, args.precision)?;
    let stages = compile(&graph, goal(&graph, args.grad)?, &options)?;
    stages.notices().iter().for_each(|n| note!("notice: {n}"));
    let optimise = start.elapsed().as_secs_f64();
    let mut session = Session::within(stages.last(), device.clone(), options.budget)?;
    let compile = start.elapsed().as_secs_f64() - optimise;
    fill(&mut session, stages.last().main())?;
    let (seconds, peak) = measure(&mut session, (&device, args.precision.dtype()), args.steps.max(1))?;
    let figures = Figures { optimise, compile, seconds, peak, added: resident_peak().saturating_sub(before) };
    let title = (name.as_str(), device.describe(), args.compile.opt.to_string());
    if args.json {
        json(title, &session, &figures, args.steps.max(1))
    } else {
        text(title, &session, &figures, args.steps.max(1))
    }
    Ok(())
}

/// Seconds of a run: median, least and greatest; and what the processor could do between the runs.
fn measure(session: &mut Session, (device, precision): (&Device, DType), runs: usize) -> Result<((f64, f64, f64), Option<f64>)> {
    let (mut seconds, mut peaks) = (vec![], vec![]);
    for i in 0..WARM + runs {
        let start = Instant::now();
        session.run_unread().map_err(|e| Error(e.to_string()))?;
        let took = start.elapsed().as_secs_f64();
        if i >= WARM {
            seconds.push(took);
            peaks.extend(device.ceiling(precision));
        }
    }
    let peak = (!peaks.is_empty()).then(|| spread(&mut peaks).0);
    Ok((spread(&mut seconds), peak))
}

/// The program's name, the device and how much was rewritten.
type Title<'a> = (&'a str, String, String);

fn json((name, device, opt): Title, session: &Session, f: &Figures, runs: usize) {
    let (program, work, (median, fastest, slowest)) = (session.program(), session.program().work(), f.seconds);
    let line = serde_json::json!({
        "program": name, "device": device, "opt": opt,
        "seconds": {"median": median, "min": fastest, "max": slowest, "steps": runs},
        "flops": work.flops, "gflops": work.flops / median / 1e9, "fma_peak_gflops": f.peak.map(|p| p / 1e9),
        "share_of_peak": f.peak.map(|p| work.flops / median / p), "bytes": work.bytes, "bytes_per_second": work.bytes / median,
        "planned_bytes": session.bytes(), "added_bytes": f.added, "param_bytes": program.param_bytes(), "optimise_seconds": f.optimise,
        "compile_seconds": f.compile, "kernels": program.kernels.len(), "kernels_cached": session.cached, "calls": program.calls().len(),
    });
    say!("{line}");
}

fn text((name, device, opt): Title, session: &Session, f: &Figures, runs: usize) {
    let (program, work, (median, fastest, slowest)) = (session.program(), session.program().work(), f.seconds);
    let calls = program.calls().len();
    say!("{name}, {device}, --opt {opt}");
    say!("  optimise   {:.3} s", f.optimise);
    say!("  compile    {:.3} s, {} kernels, {} of them cached", f.compile, program.kernels.len(), session.cached);
    say!("  run        {:.3} ms median of {runs}, {:.3} to {:.3}; {calls} calls", 1e3 * median, 1e3 * fastest, 1e3 * slowest);
    let share = |p: f64| format!(", {:.0} % of {:.0} measured between the runs", 100.0 * work.flops / median / p, p / 1e9);
    say!("  products   {:.1} GFLOP/s{}", work.flops / median / 1e9, f.peak.map_or(String::new(), share));
    say!("  traffic    {:.1} GB/s, where each kernel reads and writes its operands once", work.bytes / median / 1e9);
    say!("  memory     {} planned, {} added to the process", mebibytes(session.bytes()), mebibytes(f.added));
}

/// Random numbers for all that a program reads.
fn fill(session: &mut Session, main: &Func) -> Result<()> {
    let rows = rows(main);
    for (i, (name, ty)) in session.program().inputs.clone().iter().enumerate() {
        session.set_input(name, &content(ty, rows[i], i as u64))?;
    }
    for (i, (name, ty)) in session.program().params.clone().iter().enumerate() {
        session.set_param(name, &content(ty, None, (rows.len() + i) as u64))?;
    }
    Ok(())
}

/// A tensor's bytes. Floats are small and positive, as a variance, a count of steps and a rate of learning have to be; whole numbers choose
/// among `rows`, where that is known.
fn content(ty: &Type, rows: Option<usize>, seed: u64) -> Vec<u8> {
    let number = |i: usize| {
        let bits = random(seed, i as u64) >> 40;
        match ty.dtype {
            DType::F32 | DType::BF16 | DType::F16 => (bits + 1) as f64 / f64::from(1 << 28),
            DType::I32 => (bits % rows.unwrap_or(2).max(1) as u64) as f64,
            DType::U32 => bits as f64,
            DType::Bool | DType::Tuple => (bits % 2) as f64,
        }
    };
    let few = Value::new(vec![PERIOD], (0..PERIOD).map(number).collect());
    named::bytes(&few, ty.dtype).into_iter().cycle().take(ty.bytes()).collect()
}

/// Of how many rows each input chooses by its numbers, as far as main says: of a table, or the classes of a loss.
fn rows(main: &Func) -> Vec<Option<usize>> {
    let mut out = vec![None; main.inputs().len()];
    for node in &main.nodes {
        let ty = |i: usize| main.ty(node.args[i]);
        let (chosen, by) = match &node.op {
            Op::Gather | Op::ScatterAdd => (ty(0).dims[0].size(), 1),
            Op::Row(Row::CrossEntropy | Row::CrossEntropyBwd) => (ty(0).dim(-1).size(), 1),
            Op::Grouped(_) => (ty(1).dims[0].size(), 2),
            Op::GroupedSum(groups) => (groups.size(), 2),
            _ => continue,
        };
        if let Some(i) = input(main, node.args[by]) {
            out[i] = Some(out[i].map_or(chosen, |n: usize| n.min(chosen)));
        }
    }
    out
}

/// The input whose elements a value has, perhaps in another shape or type.
fn input(main: &Func, id: NodeId) -> Option<usize> {
    let node = main.node(id);
    match &node.op {
        Op::Input(i, _) => Some(*i as usize),
        Op::Reshape(_) | Op::Transpose(_) | Op::Slice(..) | Op::Broadcast(_) | Op::Cast(_) => input(main, node.args[0]),
        _ => None,
    }
}
