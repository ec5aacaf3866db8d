//! `eggcorn bench ops`: kernels that memory bounds, against a copy of the same bytes on the same device in the same call.

use super::say;
use eggcorn::ir::names::{self, LOSS_COUNT, LOSS_SUM};
use eggcorn::ir::{Builder, DType, Graph, Op, Row, Scope, Tensor};
use eggcorn::llm::{Error, Result};
use eggcorn::passes::{AdamW, Group, Optimizer, Update, Which, train_step};
use eggcorn::runtime::{Device, Session};
use std::time::Instant;

/// Rows and columns: large enough that a launch costs nothing beside it.
const ROWS: usize = 1 << 15;
const COLUMNS: usize = 1 << 10;

/// A kernel over state: what it computes, and how many times it reads and writes as much as one tensor.
struct Case {
    name: &'static str,
    passes: usize,
    build: for<'g> fn(&Scope<'g>) -> Vec<(&'static str, Tensor<'g>)>,
}

fn x<'g>(s: &Scope<'g>) -> Tensor<'g> {
    s.param("x", [ROWS, COLUMNS])
}

fn row<'g>(s: &Scope<'g>, op: Row) -> Vec<(&'static str, Tensor<'g>)> {
    let eps = s.num(1e-5);
    let rest: &[Tensor] = if matches!(op, Row::LayerNorm | Row::RmsNorm) { &[eps] } else { &[] };
    vec![("@x", x(s).apply(Op::Row(op), rest))]
}

const CASES: [Case; 6] = [
    Case { name: "copy", passes: 2, build: |s| vec![("@x", x(s) * 1.000_1)] },
    Case { name: "softmax", passes: 2, build: |s| row(s, Row::Softmax) },
    Case { name: "layer_norm", passes: 2, build: |s| row(s, Row::LayerNorm) },
    Case { name: "rms_norm", passes: 2, build: |s| row(s, Row::RmsNorm) },
    Case {
        name: "cross_entropy_bwd",
        passes: 2,
        build: |s| {
            let labels = s.input("labels", DType::I32, [ROWS, 1]);
            let g = s.num(1.0).broadcast([ROWS, 1]);
            vec![("@x", x(s).apply(Op::Row(Row::CrossEntropyBwd), &[labels, g]))]
        },
    },
    Case {
        name: "adamw",
        passes: 7,
        build: |s| {
            let g = s.param("g", [ROWS, COLUMNS]);
            vec![("x", x(s)), (LOSS_SUM, s.num(0.0)), (LOSS_COUNT, s.num(1.0)), (GRADIENT, g)]
        },
    },
];

/// The result that is the gradient by `x`: the update it asks for is the kernel. A program as written has no gradients, so it gets its
/// name afterwards.
const GRADIENT: &str = "gradient";

fn graph(case: &Case) -> Result<Graph> {
    let b = Builder::default();
    let results = (case.build)(&b.scope());
    let update = results.iter().any(|r| r.0 == GRADIENT);
    for (name, value) in results {
        b.output(name, value);
    }
    let mut graph = b.finish().map_err(|e| Error(e.to_string()))?;
    graph.outputs.iter_mut().filter(|o| *o == GRADIENT).for_each(|o| *o = names::gradient("x"));
    if !update {
        return Ok(graph);
    }
    let all = Optimizer::AdamW(AdamW::default());
    let update = Update { groups: vec![Group::new(Which::path("x"), all)], grad_clip: 0.0, ..Update::default() };
    // the norm would read the gradient once more
    let step = train_step(&graph, &update)?;
    let state: Vec<&str> = step.outputs.iter().map(String::as_str).filter(|o| names::new_value_of(o).is_some()).collect();
    Ok(step.keep_outputs(&state))
}

/// Bytes a second of each case, and its share of the copy's.
pub fn run(device: &Device, steps: usize, json: bool) -> Result<()> {
    let mut copy = f64::NAN;
    for case in &CASES {
        let graph = graph(case)?;
        let mut session = Session::new(&graph, device.clone())?;
        if session.inputs().any(|i| i == "labels") {
            session.set_i32("labels", &vec![1; ROWS])?;
        }
        let mut seconds = vec![];
        // the first run compiles, the second is recorded
        for step in 0..steps + 2 {
            let start = Instant::now();
            session.run_unread().map_err(|e| Error(e.to_string()))?;
            if step > 1 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
        seconds.sort_by(f64::total_cmp);
        let rate = (case.passes * 4 * ROWS * COLUMNS) as f64 / seconds[seconds.len() / 2];
        if copy.is_nan() {
            copy = rate;
        }
        if json {
            say!("{}", serde_json::json!({"op": case.name, "bytes_per_second": rate, "share_of_copy": rate / copy, "device": device.describe()}));
        } else {
            say!("  {:18} {:8.1} GB/s, {:3.0} % of a copy", case.name, rate / 1e9, 100.0 * rate / copy);
        }
    }
    Ok(())
}
