//! The loss of language models at its edges: exact whatever is common to a row's logits; rows that are ignored are 0, in loss and gradient,
//! whatever they hold. Asked of the composite, of the model's layer and of other spellings, as written and fused, on every kind of target.

use crate::compiled::run;
use crate::running::interpreted;
use codegen::{Cpu, Gpu, Target};
use ir::{Builder, DType, Dim, Env, Graph, Op, Row, Scope, Tensor, Value, eval};
use passes::{Opt, optimize};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

const ROWS: usize = 4;
const CLASSES: usize = 3;

type Spelling = for<'g> fn(&Scope<'g>, Tensor<'g>, Tensor<'g>) -> Tensor<'g>;

fn composite<'g>(_: &Scope<'g>, x: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
    x.apply(Op::Row(Row::CrossEntropy), &[labels])
}

/// Σ over the rows' losses as log Σ exp(x − m) − (x at the label − m), selected.
fn selected<'g>(s: &Scope<'g>, x: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
    let (counted, zero) = (s.int(0).le(labels), s.num(0.0));
    let x = counted.select(x, zero);
    let m = x.max();
    let picked = s.iota(-1, CLASSES).equals(labels).select(x, zero).sum();
    counted.select((x - m).exp().sum().log() - (picked - m), zero)
}

/// The label's part of x − m − log Σ exp(x − m).
fn likelihood<'g>(s: &Scope<'g>, x: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
    let (counted, zero) = (s.int(0).le(labels), s.num(0.0));
    let x = counted.select(x, zero);
    let shifted = x - x.max();
    let log_p = shifted - shifted.exp().sum().log();
    -s.iota(-1, CLASSES).equals(labels).select(log_p, zero).sum()
}

/// log Σ exp x − x at the label, times 1 or 0.
fn multiplied<'g>(s: &Scope<'g>, x: Tensor<'g>, labels: Tensor<'g>) -> Tensor<'g> {
    let m = x.max();
    let picked = s.iota(-1, CLASSES).equals(labels).select(x, s.num(0.0)).sum();
    ((x - m).exp().sum().log() + m - picked) * s.int(0).le(labels).cast(DType::F32)
}

const SPELLINGS: [(&str, Spelling); 3] = [("composite", composite), ("selected", selected), ("likelihood", likelihood)];

/// The rows' losses and Σ w · loss, w = 1, 2, 3, …, of a parameter `x` and labels.
fn program(spelling: Spelling) -> Graph {
    let b = Builder::default();
    let s = b.scope();
    let x = s.param("x", [ROWS, CLASSES]);
    let rows = spelling(&s, x, s.input("labels", DType::I32, [ROWS, 1]));
    b.output("rows", rows);
    let weights = s.iota(-2, ROWS).cast(DType::F32) + 1.0;
    b.output("loss", (rows * weights).sum_axes(&[-1, -2]).reshape([] as [Dim; 0]));
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// The mean that models train on.
fn layer() -> Graph {
    let b = Builder::default();
    let s = b.scope();
    let x = s.param("x", [1, ROWS, CLASSES]);
    let labels = s.input("labels", DType::I32, [1, ROWS]);
    let loss = models::losses::cross_entropy(&s, x, labels);
    b.output("loss", loss.sum / loss.count.maximum(s.num(1.0)));
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

fn environment(dims: [&[usize]; 2], x: &[f64], labels: &[f64]) -> Env {
    let single: Vec<f64> = x.iter().map(|v| f64::from(*v as f32)).collect();
    [("x".to_string(), Value::new(dims[0].to_vec(), single)), ("labels".to_string(), Value::new(dims[1].to_vec(), labels.to_vec()))].into()
}

/// The results of a program and its gradient everywhere: of evaluation, of machine code, of the interpreter for both kinds of kernels.
fn everywhere(graph: &Graph, env: &Env) -> Vec<(String, std::collections::HashMap<String, Value>)> {
    let targets = [
        Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 14, pairs: false }),
        Target::Gpu(Gpu { processors: 1, shared: 16 << 10, tensor: false, hopper: false }),
    ];
    let mut out = vec![];
    for opt in [Opt::Off, Opt::Greedy, Opt::Egg] {
        let joint = optimize(graph, Some("loss"), opt).unwrap().joint.unwrap();
        out.push((format!("evaluated, {opt}"), eval(&joint, env).unwrap()));
        out.push((format!("compiled, {opt}"), run(&joint, env, 1)));
        for target in &targets {
            let results = interpreted(&joint, env, target, &mut |_| {});
            out.push((format!("interpreted for {target:?}, {opt}"), joint.outputs.iter().cloned().zip(results).collect()));
        }
    }
    out
}

fn assert_close(have: &[f64], want: &[f64], tolerance: f64, what: &str) {
    let same = |(h, w): (&f64, &f64)| h == w || (h.is_nan() && w.is_nan()) || (h - w).abs() <= tolerance * w.abs().max(1.0);
    assert!(have.len() == want.len() && have.iter().zip(want).all(same), "{what}: {have:?}, not {want:?}");
}

/// The textbook's formula in `f64`, a row at a time.
fn reference(row: &[f64], label: usize) -> (f64, Vec<f64>) {
    let m = row.iter().fold(-INF, |m, x| m.max(*x));
    let total: f64 = row.iter().map(|x| (x - m).exp()).sum();
    let gradient = row.iter().enumerate().map(|(i, x)| (x - m).exp() / total - f64::from(u8::from(i == label))).collect();
    (total.ln() - (row[label] - m), gradient)
}

#[test]
fn what_is_common_to_a_row_changes_nothing() {
    for (name, spelling) in SPELLINGS {
        let graph = program(spelling);
        for offset in [0.0, 1e6, -1e6, 1e7, -3e4] {
            let rows = [[0.0, 1.0, 2.0], [2.0, 0.0, -1.0], [1.0, 1.0, 1.0], [0.0, 0.0, -9.0]];
            let (x, labels) = (rows.concat().iter().map(|v| v + offset).collect::<Vec<_>>(), [1.0, 0.0, 2.0, 1.0]);
            let of: Vec<(f64, Vec<f64>)> = rows.iter().zip(labels).map(|(r, l)| reference(r, l as usize)).collect();
            let loss: Vec<f64> = of.iter().map(|r| r.0).collect();
            let gradient: Vec<f64> = of.iter().enumerate().flat_map(|(i, r)| r.1.iter().map(move |g| g * (i + 1) as f64)).collect();
            let env = environment([&[ROWS, CLASSES], &[ROWS, 1]], &x, &labels);
            for (how, have) in everywhere(&graph, &env) {
                assert_close(&have["rows"].data, &loss, 1e-6, &format!("{name} at {offset}, {how}"));
                assert_close(&have["grad.x"].data, &gradient, 2e-6, &format!("the gradient of {name} at {offset}, {how}"));
            }
        }
    }
    // as PyTorch has it
    let literal = reference(&[0.0, 1.0, 2.0], 1);
    assert_close(&[literal.0], &[1.4076059], 1e-7, "the reference");
    assert_close(&literal.1, &[0.09003057, -0.7552715, 0.66524094], 1e-7, "the reference's gradient");
}

/// Ignored rows hold what has no loss at all: they are 0, their gradient is 0, and the others are as they are alone.
#[test]
fn ignored_rows_are_0_whatever_they_hold() {
    let rows = [[NAN, 1.0, INF], [0.5, 1.0, -2.0], [-INF, -INF, -INF], [INF, 3e38, -3e38]];
    let labels = [-100.0, 2.0, -1.0, -100.0];
    let (loss, gradient) = reference(&rows[1], 2);
    let zeros = vec![0.0; CLASSES];
    for (name, spelling) in SPELLINGS {
        let env = environment([&[ROWS, CLASSES], &[ROWS, 1]], &rows.concat(), &labels);
        let twice: Vec<f64> = gradient.iter().map(|g| g * 2.0).collect();
        for (how, have) in everywhere(&program(spelling), &env) {
            assert_close(&have["rows"].data, &[0.0, loss, 0.0, 0.0], 1e-6, &format!("{name}, {how}"));
            assert_close(&have["grad.x"].data, &[&zeros[..], &twice, &zeros, &zeros].concat(), 1e-6, &format!("the gradient of {name}, {how}"));
        }
    }
    // the layer divides by the one row that counts
    let env = environment([&[1, ROWS, CLASSES], &[1, ROWS]], &rows.concat(), &labels);
    for (how, have) in everywhere(&layer(), &env) {
        assert_close(&have["loss"].data, &[loss], 1e-6, &format!("the layer, {how}"));
        assert_close(&have["grad.x"].data, &[&zeros[..], &gradient, &zeros, &zeros].concat(), 1e-6, &format!("the layer's gradient, {how}"));
    }
    // where no row counts there is nothing to divide by
    let env = environment([&[1, ROWS, CLASSES], &[1, ROWS]], &rows.concat(), &[-100.0; ROWS]);
    for (how, have) in everywhere(&layer(), &env) {
        assert_close(&have["loss"].data, &[0.0], 0.0, &format!("no row counts, {how}"));
        assert_close(&have["grad.x"].data, &[0.0; ROWS * CLASSES], 0.0, &format!("no row counts, {how}"));
    }
}

/// What a label's own row holds counts: ∞ against it is an infinite loss, NaN is NaN. As PyTorch has it.
#[test]
fn rows_that_count_keep_what_they_hold() {
    let x = [[1.0, -INF, 2.0], [NAN, 1.0, 2.0], [-INF, -INF, -INF], [1e30, -1e30, 1e30]].concat();
    let env = environment([&[ROWS, CLASSES], &[ROWS, 1]], &x, &[1.0; ROWS]);
    let want = [0.26894143, -1.0, 0.7310586, NAN, NAN, NAN, NAN, NAN, NAN, 2.0, -4.0, 2.0];
    for (how, have) in everywhere(&program(composite), &env) {
        assert_close(&have["rows"].data, &[INF, NAN, NAN, 2e30], 1e-6, &how);
        assert_close(&have["grad.x"].data, &want, 1e-6, &format!("the gradient, {how}"));
    }
}

/// The gradient's own cotangent may be anything in a row that is ignored.
#[test]
fn a_cotangent_of_an_ignored_row_goes_nowhere() {
    let text = "main(%0 x: f32[2,3], %1 labels: i32[2,1], %2 g: f32[2,1]) {\n  %3 = cross_entropy_bwd %0, %1, %2 : f32[2,3]\n  return y=%3\n}\n";
    let graph: Graph = text.parse().unwrap();
    let mut env = environment([&[2, 3], &[2, 1]], &[NAN, 1.0, 2.0, 0.0, 0.0, 0.0], &[-100.0, 1.0]);
    env.insert("g".into(), Value::new(vec![2, 1], vec![INF, 3.0]));
    let want = [0.0, 0.0, 0.0, 1.0, -2.0, 1.0];
    assert_close(&eval(&graph, &env).unwrap()["y"].data, &want, 1e-12, "evaluated");
    assert_close(&run(&graph, &env, 1)["y"].data, &want, 1e-6, "compiled");
}

/// Every spelling becomes the one composite, and nothing of the written sum stays.
#[test]
fn every_spelling_is_found() {
    let found: [(&str, Spelling); 3] = [("composite", composite), ("selected", selected), ("multiplied", multiplied)];
    for (name, graph) in found.map(|(n, s)| (n, program(s))).into_iter().chain([("the layer", layer())]) {
        let fused = optimize(&graph, Some("loss"), Opt::Egg).unwrap().fused;
        let count = |op: &str| fused.main().nodes.iter().filter(|n| n.op.name() == op).count();
        assert_eq!((count("cross_entropy"), count("exp"), count("max"), count("log")), (1, 0, 0, 0), "{name}:\n{fused}");
    }
}
