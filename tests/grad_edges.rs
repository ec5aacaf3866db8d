//! Gradients at the edge of a domain: zeros of both signs, infinities, NaN, extremes, ties, rows of −∞, empty axes. What is wanted was
//! computed once with PyTorch 2.15 and stands here as numbers; each is asked for as written and fused, of evaluation and of machine code.

use crate::compiled::run;
use ir::{Builder, DType, Env, Func, Graph, NodeId, Op, Row, Scope, Tensor, Type, Value, definition, eval};
use passes::{Opt, optimize};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

const X: [f64; 15] = [0.0, -0.0, INF, -INF, 90.0, -90.0, 1e4, -1e4, 1e30, -1e30, 1e-40, -1e-40, NAN, 1.0, -2.0];

fn flat(x: Tensor) -> Tensor {
    let n = x.ty().count();
    x.reshape([n])
}

/// Σ wᵢ yᵢ of all results, w = 1, 2, 3, … where `weighed`, else 1.
fn loss<'g>(s: &Scope<'g>, y: Tensor<'g>, weighed: bool) -> Tensor<'g> {
    let y = flat(y);
    let y = if weighed { y * (s.iota(-1, y.dim(-1)).cast(DType::F32) + 1.0) } else { y };
    y.sum().reshape([] as [ir::Dim; 0])
}

/// A program of parameters `p0`, `p1`, … of these shapes, its loss the sum over a function of them.
fn program(shapes: &[&[usize]], weighed: bool, f: &dyn for<'g> Fn(&Scope<'g>, &[Tensor<'g>]) -> Tensor<'g>) -> Graph {
    let b = Builder::default();
    let s = b.scope();
    let params: Vec<Tensor> =
        shapes.iter().enumerate().map(|(i, d)| s.param(&format!("p{i}"), d.iter().map(|n| ir::Dim::from(*n)).collect::<ir::Dims>())).collect();
    b.output("loss", loss(&s, f(&s, &params), weighed));
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

fn environment(graph: &Graph, values: &[&[f64]]) -> Env {
    let value = |i: usize| Value::new(graph.params().iter().find(|p| *p.0 == *format!("p{i}")).expect("it is used").1.sizes(), values[i].to_vec());
    (0..values.len()).map(|i| (format!("p{i}"), value(i))).collect()
}

/// The gradient of each parameter, evaluated and compiled, without rules and with them.
fn gradients(graph: &Graph, values: &[&[f64]], opts: &[Opt]) -> Vec<(String, Vec<Vec<f64>>)> {
    let env = environment(graph, values);
    let mut out = vec![];
    for opt in opts {
        let joint = optimize(graph, Some("loss"), *opt).unwrap().joint.unwrap();
        let of = |results: std::collections::HashMap<String, Value>| (0..values.len()).map(|i| results[&format!("grad.p{i}")].data.clone()).collect();
        out.push((format!("evaluated, {opt}"), of(eval(&joint, &env).unwrap())));
        out.push((format!("compiled, {opt}"), of(run(&joint, &env, 1))));
    }
    out
}

/// Equal but for rounding, and for what is too small for 32 bits.
fn close(have: f64, want: f64, tolerance: f64) -> bool {
    let have = f64::from(have as f32);
    have == want || (have.is_nan() && want.is_nan()) || (have - want).abs() <= 1e-5 * want.abs() + tolerance
}

fn expect(name: &str, graph: &Graph, values: &[&[f64]], want: &[&[f64]], opts: &[Opt], tolerance: f64) {
    for (how, have) in gradients(graph, values, opts) {
        for (p, (have, want)) in have.iter().zip(want).enumerate() {
            for i in 0..want.len() {
                assert!(
                    close(have[i], want[i], tolerance),
                    "{name}, {how}: the gradient of p{p} = {:?} is {have:?}, not {want:?}: element {i}",
                    values[p]
                );
            }
        }
    }
}

const BOTH: [Opt; 2] = [Opt::Off, Opt::Egg];

/// Functions of one number: their derivatives at `X`. Beyond ±1e19 PyTorch's GELU has NaN, where its square is ∞; here it is what it tends to.
fn functions() -> Vec<(&'static str, [f64; 15])> {
    #[rustfmt::skip]
    let out = vec![
        ("exp", [1.0, 1.0, INF, 0.0, INF, 8.194009e-40, INF, 0.0, INF, 0.0, 1.0, 1.0, NAN, 2.718282, 0.1353353]),
        ("log", [INF, -INF, 0.0, -0.0, 0.01111111, -0.01111111, 0.0001, -0.0001, 1e-30, -1e-30, INF, -INF, NAN, 1.0, -0.5]),
        ("sqrt", [INF, -INF, 0.0, NAN, 0.05270463, NAN, 0.005, NAN, 5e-16, NAN, 5.000013e+19, NAN, NAN, 0.5, NAN]),
        ("rsqrt", [-INF, INF, -0.0, NAN, -0.000585607, NAN, -5e-07, NAN, -0.0, NAN, -INF, NAN, NAN, -0.5, NAN]),
        ("recip", [-INF, -INF, -0.0, -0.0, -0.0001234568, -0.0001234568, -1e-08, -1e-08, -0.0, -0.0, -INF, -INF, NAN, -1.0, -0.25]),
        ("tanh", [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, NAN, 0.4199743, 0.07065082]),
        ("abs", [0.0, 0.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 0.0, 1.0, -1.0]),
        ("neg", [-1.0; 15]),
        ("sigmoid", [0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.25, NAN, 0.1966119, 0.1049936]),
        ("silu", [0.5, 0.5, NAN, NAN, 1.0, -0.0, 1.0, -0.0, 1.0, -0.0, 0.5, 0.5, NAN, 0.9276705, -0.09078425]),
        ("gelu", [0.5, 0.5, NAN, NAN, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.5, 0.5, NAN, 1.082964, -0.08609922]),
    ];
    out
}

#[test]
fn derivatives_of_functions() {
    for (name, want) in functions() {
        let op: Op = name.parse().unwrap();
        let graph = program(&[&[15]], false, &|_, p| p[0].apply(op.clone(), &[]));
        expect(name, &graph, &[&X], &[&want], &BOTH, 1e-36);
    }
    // where a sine means something
    for (name, want) in [("sin", [1.0, 1.0, NAN, NAN, -0.4480736, NAN, 0.5403023]), ("cos", [0.0, 0.0, NAN, NAN, -0.8939967, NAN, -0.841471])] {
        let op: Op = name.parse().unwrap();
        let graph = program(&[&[7]], false, &|_, p| p[0].apply(op.clone(), &[]));
        expect(name, &graph, &[&[0.0, -0.0, INF, -INF, 90.0, NAN, 1.0]], &[&want], &BOTH, 1e-36);
    }
}

/// The model's own spellings, as written and found.
#[test]
fn derivatives_of_the_models_layers() {
    let silu = program(&[&[15]], false, &|_, p| models::layers::silu(p[0]));
    let sigmoid = program(&[&[15]], false, &|_, p| models::layers::sigmoid(p[0]));
    let gelu = program(&[&[15]], false, &|_, p| models::layers::gelu(p[0]));
    let of = |name: &str| functions().into_iter().find(|f| f.0 == name).expect("it is there").1;
    expect("silu", &silu, &[&X], &[&of("silu")], &BOTH, 1e-36);
    expect("sigmoid", &sigmoid, &[&X], &[&of("sigmoid")], &BOTH, 1e-36);
    let mut tame = X;
    tame[8..10].copy_from_slice(&[3.0, -3.0]);
    let mut want = of("gelu");
    want[8..10].copy_from_slice(&[1.0115842, -0.01158418]);
    expect("gelu", &gelu, &[&tame], &[&want], &BOTH, 1e-6);
}

/// xᵃ: the derivatives by x and by a, of exponents that are operands and of constants.
#[test]
fn derivatives_of_powers() {
    #[rustfmt::skip]
    let table: [(f64, [f64; 15], [f64; 15]); 6] = [
        (0.0, [0.0; 15], [0.0, 0.0, INF, NAN, 4.49981, NAN, 9.21034, NAN, 69.07755, NAN, -92.10341, NAN, NAN, 0.0, NAN]),
        (1.0, [1.0; 15], [0.0, 0.0, INF, NAN, 404.9829, NAN, 92103.41, NAN, 6.907755e+31, NAN, -9.210291e-39, NAN, NAN, 0.0, NAN]),
        (2.0, [0.0, -0.0, INF, -INF, 180.0, -180.0, 20000.0, -20000.0, 2e+30, -2e+30, 1.999989e-40, -1.999989e-40, NAN, 2.0, -4.0], [0.0, 0.0, INF, NAN, 36448.46, NAN, 921034000.0, NAN, INF, NAN, -0.0, NAN, NAN, 0.0, NAN]),
        (3.0, [0.0, 0.0, INF, INF, 24300.0, 24300.0, 300000000.0, 300000000.0, INF, INF, 0.0, 0.0, NAN, 3.0, 12.0], [0.0, 0.0, INF, NAN, 3280361.0, NAN, 9210340000000.0, NAN, INF, NAN, -0.0, NAN, NAN, 0.0, NAN]),
        (0.5, [INF, INF, 0.0, 0.0, 0.05270463, NAN, 0.005, NAN, 5e-16, NAN, 5.000013e+19, NAN, NAN, 0.5, NAN], [0.0, 0.0, INF, NAN, 42.68894, NAN, 921.0341, NAN, 6.907755e+16, NAN, -9.210316e-19, NAN, NAN, 0.0, NAN]),
        (-1.0, [-INF, -INF, -0.0, -0.0, -0.0001234568, -0.0001234568, -1e-08, -1e-08, -0.0, -0.0, -INF, -INF, NAN, -1.0, -0.25], [-INF, INF, NAN, NAN, 0.04999789, NAN, 0.000921034, NAN, 6.907755e-29, NAN, -INF, NAN, NAN, 0.0, NAN]),
    ];
    for (a, by_x, by_a) in table {
        let graph = program(&[&[15], &[15]], false, &|_, p| p[0].apply(Op::Bin(ir::Bin::Pow), &[p[1]]));
        expect(&format!("x^{a}"), &graph, &[&X, &[a; 15]], &[&by_x, &by_a], &BOTH, 1e-37);
        let constant = program(&[&[15]], false, &|_, p| p[0].pow(a));
        // the rules' square root is another function of −0 and −∞
        let opts = if a == 0.5 { &BOTH[..1] } else { &BOTH };
        expect(&format!("x^{a}, a constant"), &constant, &[&X], &[&by_x], opts, 1e-37);
    }
}

/// Of two operands that are equal each gets half; beside NaN both get all.
#[test]
fn ties_and_quotients() {
    let (a, b) = ([1.0, 1.0, 2.0, NAN, 1.0, INF, 0.0, -0.0], [1.0, 2.0, 1.0, 1.0, NAN, INF, -0.0, 0.0]);
    for (name, by_a, by_b) in [
        ("maximum", [0.5, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5], [0.5, 1.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.5]),
        ("minimum", [0.5, 1.0, 0.0, 1.0, 1.0, 0.5, 0.5, 0.5], [0.5, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]),
    ] {
        let op: Op = name.parse().unwrap();
        let graph = program(&[&[8], &[8]], false, &|_, p| p[0].apply(op.clone(), &[p[1]]));
        expect(name, &graph, &[&a, &b], &[&by_a, &by_b], &BOTH, 0.0);
    }
    let relu = program(&[&[5]], true, &|s, p| p[0].maximum(s.num(0.0)));
    expect("relu", &relu, &[&[0.0, -0.0, -1.0, 2.0, NAN]], &[&[0.5, 1.0, 0.0, 4.0, 5.0]], &BOTH, 0.0);
    let quotient = program(&[&[6], &[6]], false, &|_, p| p[0] / p[1]);
    let (a, b) = ([1.0, 0.0, INF, 1e30, 1.0, 0.0], [0.0, 0.0, INF, 1e-30, 1e30, 5.0]);
    let want = ([INF, INF, 0.0, 1e30, 1e-30, 0.2], [-INF, NAN, NAN, -INF, 0.0, 0.0]);
    expect("div", &quotient, &[&a, &b], &[&want.0, &want.1], &BOTH[..1], 1e-37);
}

/// Equal elements share a maximum's gradient, in equal parts, over one axis or several.
#[test]
fn ties_of_rows() {
    let x = [1.0, 1.0, 0.0, -INF, -INF, -INF, INF, 1.0, INF, NAN, 1.0, 2.0];
    let third = 1.0 / 3.0;
    let want = [0.5, 0.5, 0.0, 2.0 * third, 2.0 * third, 2.0 * third, 1.5, 0.0, 1.5, NAN, NAN, NAN];
    let rows = program(&[&[4, 3]], true, &|_, p| p[0].max());
    expect("max", &rows, &[&x], &[&want], &BOTH, 1e-7);
    let turned: Vec<f64> = (0..12).map(|i| x[i % 4 * 3 + i / 4]).collect();
    let turned_want: Vec<f64> = (0..12).map(|i| want[i % 4 * 3 + i / 4]).collect();
    let columns = program(&[&[3, 4]], true, &|_, p| p[0].apply("max[-2]".parse().unwrap(), &[]));
    expect("max of columns", &columns, &[&turned], &[&turned_want], &BOTH, 1e-7);
    let all = program(&[&[2, 3]], false, &|_, p| p[0].apply("max[-1,-2]".parse().unwrap(), &[]));
    expect("max of all", &all, &[&[2.0, 1.0, 2.0, 0.0, 2.0, 2.0]], &[&[0.25, 0.0, 0.25, 0.0, 0.25, 0.25]], &BOTH, 0.0);
}

/// A function of core ops alone: every composite replaced by its definition.
fn core(func: &Func) -> Func {
    let mut out = Func::new(&func.name);
    let mut new: Vec<NodeId> = vec![];
    for node in &func.nodes {
        let args: Vec<NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        let types: Vec<Type> = args.iter().map(|a| out.ty(*a).clone()).collect();
        let Some(body) = definition(&node.op, &types.iter().collect::<Vec<_>>()) else {
            new.push(out.add(node.op.clone(), &args));
            continue;
        };
        let mut inner: Vec<NodeId> = vec![];
        for n in &core(&body).nodes {
            let id = match &n.op {
                Op::Input(i, _) => args[*i as usize],
                op => out.add(op.clone(), &n.args.iter().map(|a| inner[a.index()]).collect::<Vec<_>>()),
            };
            inner.push(id);
        }
        new.push(inner[core(&body).results[0].index()]);
    }
    out.results = func.results.iter().map(|r| new[r.index()]).collect();
    out
}

fn in_core_ops(graph: &Graph) -> Graph {
    let out = graph.with_main(core(graph.main()), graph.outputs.clone());
    assert!(out.main().nodes.iter().all(|n| !matches!(n.op, Op::Row(_))), "no composite is left");
    out
}

/// Rows: what is written with a composite, and the same with its definition in its place, which is differentiated op by op.
#[test]
fn gradients_of_rows() {
    let rows = [1.0, 1.0, 0.0, -INF, -INF, -INF, 1.0, -INF, 2.0, NAN, 1.0, 2.0, 0.0, 0.0, 0.0, 3e38, -3e38, 0.0];
    let nan = [NAN; 3];
    let softmax = [[-0.3095781, 0.1127407, 0.1968374], nan, [-0.3932239, 0.0, 0.3932239], nan, [-1.0 / 3.0, 0.0, 1.0 / 3.0], [0.0; 3]];
    // weights go on from row to row, and what is common to a row's weights changes nothing
    let graph = program(&[&[6, 3]], true, &|_, p| p[0].apply(Op::Row(Row::Softmax), &[]));
    expect("softmax", &graph, &[&rows], &[&softmax.concat()], &BOTH, 3e-6);
    expect("softmax in core ops", &in_core_ops(&graph), &[&rows], &[&softmax.concat()], &BOTH[..1], 3e-6);
    let (k, half) = (1.0 / 3.0, [0.4223188, 0.4223188, 0.1553624]);
    let log_sum = [half, nan, [0.26894143, 0.0, 0.7310586], nan, [k; 3], [1.0, 0.0, 0.0]];
    let graph = program(&[&[6, 3]], false, &|_, p| p[0].apply(Op::Row(Row::LogSumExp), &[]));
    expect("logsumexp", &graph, &[&rows], &[&log_sum.concat()], &BOTH, 1e-6);
    expect("logsumexp in core ops", &in_core_ops(&graph), &[&rows], &[&log_sum.concat()], &BOTH[..1], 1e-6);
    // beside ∞ a number has no share
    let graph = program(&[&[1, 3]], false, &|_, p| p[0].apply(Op::Row(Row::LogSumExp), &[]));
    expect("logsumexp beside ∞", &graph, &[&[INF, 1.0, 2.0]], &[&[NAN, 0.0, 0.0]], &BOTH[..1], 0.0);
    // whatever is common to a row
    let far = [0.09003058, 0.24472848, 0.66524094];
    expect("logsumexp far out", &graph, &[&[1e6, 1e6 + 1.0, 1e6 + 2.0]], &[&far], &BOTH, 1e-6);
    expect("logsumexp far out in core ops", &in_core_ops(&graph), &[&[1e6, 1e6 + 1.0, 1e6 + 2.0]], &[&far], &BOTH[..1], 1e-6);
}

/// Rows that are constant or 0: a norm's gradient is large and finite.
#[test]
fn gradients_of_norms() {
    let norm = |row: Row| program(&[&[2, 3]], true, &move |s, p| p[0].apply(Op::Row(row), &[s.num(1e-5)]));
    // of weights 1, 2, 3 and 4, 5, 6 on rows of one number each, less their mean, over √ε
    let x = [0.0, 0.0, 0.0, 7.0, 7.0, 7.0];
    let root = 316.22777;
    let graph = norm(Row::LayerNorm);
    expect("layer_norm", &graph, &[&x], &[&[-root, 0.0, root, -root, 0.0, root]], &BOTH, 0.01);
    expect("layer_norm in core ops", &in_core_ops(&graph), &[&x], &[&[-root, 0.0, root, -root, 0.0, root]], &BOTH[..1], 0.01);
    let graph = norm(Row::RmsNorm);
    let x = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0];
    let want = [root, 2.0 * root, 3.0 * root, -0.6122852, 0.6124505, 7.3484142];
    expect("rms_norm", &graph, &[&x], &[&want], &BOTH, 1e-4);
    expect("rms_norm in core ops", &in_core_ops(&graph), &[&x], &[&want], &BOTH[..1], 1e-4);
}

/// The pointwise composites, their definitions differentiated op by op.
#[test]
fn derivatives_of_definitions() {
    let points: Vec<usize> = (0..15).filter(|i| !matches!(i, 8 | 9)).collect();
    let at = |xs: &[f64; 15]| points.iter().map(|i| xs[*i]).collect::<Vec<_>>();
    for (name, want) in functions().into_iter().filter(|f| ["sigmoid", "silu", "gelu"].contains(&f.0)) {
        let op: Op = name.parse().unwrap();
        let graph = in_core_ops(&program(&[&[13]], false, &|_, p| p[0].apply(op.clone(), &[])));
        expect(&format!("{name} in core ops"), &graph, &[&at(&X)], &[&at(&want)], &BOTH[..1], 1e-36);
    }
    // silu(a) b, by both
    let graph = program(&[&[4], &[4]], false, &|_, p| p[0].apply(Op::Row(Row::Swiglu), &[p[1]]));
    let (a, b) = ([-90.0, 90.0, 1e30, -1e30], [2.0; 4]);
    let want: [&[f64]; 2] = [&[0.0, 2.0, 2.0, 0.0], &[0.0, 90.0, 1e30, 0.0]];
    expect("swiglu", &graph, &[&a, &b], &want, &BOTH, 1e-36);
    expect("swiglu in core ops", &in_core_ops(&graph), &[&a, &b], &want, &BOTH[..1], 1e-36);
}

/// Attention whose mask leaves one key, and whose scores are far apart and far below 0: no NaN, and no gradient where nothing is seen.
#[test]
fn gradients_of_masked_attention() {
    let x = [1.0, 0.5, -0.25, 2.0, 0.125, -1.0];
    let keys = x.map(|x: f64| -x);
    for scale in [1.0, 1e4] {
        let graph = program(&[&[1, 1, 3, 2], &[1, 1, 3, 2], &[1, 1, 3, 2]], true, &move |s, p| {
            let scores = p[0].contract("bhtd,bhsd->bhts", p[1]) * scale;
            let seen = s.iota(-1, 3usize).le(s.iota(-2, 3usize));
            models::layers::softmax(seen.select(scores, s.num(f64::NEG_INFINITY))).contract("bhts,bhsd->bhtd", p[2])
        });
        let want = by_hand(&x, &keys, &x, scale);
        for (how, have) in gradients(&graph, &[&x, &keys, &x], &BOTH) {
            for (p, have) in have.iter().enumerate() {
                let largest = want[p].iter().fold(1.0f64, |m, x| m.max(x.abs()));
                let near = have.iter().zip(&want[p]).all(|(h, w)| (h - w).abs() < 1e-5 * largest * scale);
                assert!(near, "{how}, scale {scale}, p{p}: {have:?}, not {:?}", want[p]);
            }
        }
    }
}

/// The gradients of Σ w o by q, k and v for three positions of two numbers, causal, as the textbook has them.
fn by_hand(q: &[f64; 6], k: &[f64; 6], v: &[f64; 6], scale: f64) -> [Vec<f64>; 3] {
    let mut out = [vec![0.0; 6], vec![0.0; 6], vec![0.0; 6]];
    for i in 0..3 {
        let g = [(2 * i + 1) as f64, (2 * i + 2) as f64];
        let dot = |a: &[f64], i: usize, b: &[f64], j: usize| a[2 * i] * b[2 * j] + a[2 * i + 1] * b[2 * j + 1];
        let s: Vec<f64> = (0..=i).map(|j| scale * dot(q, i, k, j)).collect();
        let m = s.iter().fold(-INF, |m, x| m.max(*x));
        let total: f64 = s.iter().map(|x| (x - m).exp()).sum();
        let p: Vec<f64> = s.iter().map(|x| (x - m).exp() / total).collect();
        let dp: Vec<f64> = (0..=i).map(|j| dot(&g, 0, v, j)).collect();
        let mean: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
        for j in 0..=i {
            let ds = p[j] * (dp[j] - mean) * scale;
            for c in 0..2 {
                out[0][2 * i + c] += ds * k[2 * j + c];
                out[1][2 * j + c] += ds * q[2 * i + c];
                out[2][2 * j + c] += p[j] * g[c];
            }
        }
    }
    out
}

/// Axes of size 0 have gradients of their shape, and stop no other.
#[test]
fn gradients_of_empty_axes() {
    for f in ["max[-1]", "sum[-1]", "softmax", "logsumexp"] {
        let op: Op = f.parse().unwrap();
        let graph = program(&[&[3, 0], &[3, 1]], true, &|_, p| {
            p[0].apply(op.clone(), &[]).sum() * 0.0 + p[1] + p[1].apply("concat[-1]".parse().unwrap(), &[p[0]]).sum()
        });
        for (how, have) in gradients(&graph, &[&[], &[1.0, 2.0, 3.0]], &BOTH) {
            assert_eq!(have[0].len(), 0, "{f}, {how}");
            assert_eq!(have[1], [2.0, 4.0, 6.0], "{f}, {how}");
        }
    }
}
