//! `eggcorn bench kernels`: a training step kernel by kernel, each beside the least that it could take.

use super::bench::Args;
use super::say;
use eggcorn::codegen::{Program, Work};
use eggcorn::ir::DType;
use eggcorn::llm::{Error, Result};
use eggcorn::runtime::{Device, Session};

/// Bytes that are read to see what memory gives: more than caches hold.
const FAR: usize = 512 << 20;

/// What the machine does at best.
struct Ceilings {
    /// Operations a second.
    flops: f64,
    /// Bytes a second.
    bytes: f64,
}

impl Ceilings {
    /// The least seconds that work takes.
    fn floor(&self, work: &Work) -> f64 {
        (work.flops / self.flops).max(work.bytes / self.bytes)
    }
}

/// All calls of one kernel.
struct Row {
    kernel: usize,
    calls: usize,
    /// Of all of them in a step: the median of the steps.
    seconds: f64,
    /// A parameter that one of its calls is near to.
    near: Option<String>,
}

/// Times a prepared step's kernels over so many runs and prints them, the one that loses most time first.
pub fn run(args: &Args, device: &Device, session: &mut Session, title: &str) -> Result<()> {
    let precision: DType = args.precision.dtype();
    let (Some(flops), Some(bytes)) = (device.ceiling(precision), device.read_ceiling(FAR)) else {
        return Err(Error(format!("--device {}: kernels are timed one by one on a processor; try --device cpu", device.describe())));
    };
    let ceilings = Ceilings { flops, bytes };
    session.run_timed()?;
    let runs = (0..args.steps.max(1)).map(|_| session.run_timed()).collect::<std::result::Result<Vec<_>, String>>()?;
    let (works, program) = (session.program().works(), session.program());
    let mut rows = rows(session, &runs);
    let lost = |row: &Row| row.seconds - row.calls as f64 * ceilings.floor(&works[row.kernel]);
    rows.sort_by(|a, b| lost(b).total_cmp(&lost(a)));
    let whole: f64 = rows.iter().map(|r| r.seconds).sum();
    if args.json {
        rows.iter().for_each(|row| say!("{}", json(program, row, &works[row.kernel], &ceilings, whole)));
        return Ok(());
    }
    say!("{title}, {}, products in {precision}", device.describe());
    say!("ceilings measured now: {:.0} GFLOP/s, {:.1} GB/s read", ceilings.flops / 1e9, ceilings.bytes / 1e9);
    say!(
        "{:26} {:>5} {:>9} {:>6} {:>9} {:>7} {:>9}  {}",
        "kernel",
        "calls",
        "ms",
        "share",
        "GFLOP/s",
        "GB/s",
        "of floor",
        "dims, near which parameter"
    );
    for row in &rows {
        let (name, work) = (&program.kernels[row.kernel].name, &works[row.kernel]);
        let rate = |x: f64| if x > 0.0 { format!("{:.1}", row.calls as f64 * x / row.seconds / 1e9) } else { "-".into() };
        say!(
            "{name:26} {:5} {:9.3} {:5.1}% {:>9} {:>7} {:8.0}%  {}{}",
            row.calls,
            1e3 * row.seconds,
            100.0 * row.seconds / whole,
            rate(work.flops),
            rate(work.bytes),
            100.0 * row.calls as f64 * ceilings.floor(work) / row.seconds,
            dims(program, row.kernel),
            row.near.iter().map(|n| format!(", {n}")).collect::<String>(),
        );
    }
    let floor: f64 = rows.iter().map(|r| r.calls as f64 * ceilings.floor(&works[r.kernel])).sum();
    say!("{:26} {:5} {:9.3} 100.0% {:>28.0}%", "all", rows.iter().map(|r| r.calls).sum::<usize>(), 1e3 * whole, 100.0 * floor / whole);
    Ok(())
}

/// What each kernel took in a step.
fn rows(session: &Session, runs: &[Vec<f64>]) -> Vec<Row> {
    let (program, calls) = (session.program(), session.program().calls());
    let near = session.nearest_parameters();
    let of = |kernel: usize| {
        let mine: Vec<usize> = (0..calls.len()).filter(|i| calls[*i].kernel == kernel).collect();
        let mut seconds: Vec<f64> = runs.iter().map(|run| mine.iter().map(|i| run[*i]).sum()).collect();
        seconds.sort_by(f64::total_cmp);
        let near = mine.iter().find_map(|i| near[*i].clone());
        Row { kernel, calls: mine.len(), seconds: seconds[seconds.len() / 2], near }
    };
    (0..program.kernels.len()).map(of).filter(|row| row.calls > 0).collect()
}

fn dims(program: &Program, kernel: usize) -> String {
    program.specs[kernel].dims.iter().map(usize::to_string).collect::<Vec<_>>().join(" × ")
}

fn json(program: &Program, row: &Row, work: &Work, ceilings: &Ceilings, whole: f64) -> serde_json::Value {
    let times = row.calls as f64;
    let mut line = serde_json::json!({
        "kernel": program.kernels[row.kernel].name, "calls": row.calls, "seconds": row.seconds, "share": row.seconds / whole,
        "dims": program.specs[row.kernel].dims, "near": row.near,
    });
    let more = [
        ("flops", times * work.flops),
        ("bytes", times * work.bytes),
        ("floor_seconds", times * ceilings.floor(work)),
        ("ceiling_flops", ceilings.flops),
        ("ceiling_bytes", ceilings.bytes),
    ];
    let fields = line.as_object_mut().expect("it was made an object");
    for (name, x) in more {
        fields.insert(name.into(), x.into());
    }
    line
}
