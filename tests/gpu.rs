//! Kernels for graphics processors, by the interpreter: every template, each way a tile is read, sizes that divide nothing.

use crate::common::{difference, environment};
use crate::running::interpreted;
use codegen::kernel::{Kernel, Stmt};
use codegen::{Gpu, Target};
use ir::{Graph, eval};

/// One processor gets the largest tiles, a hundred the smallest.
pub const TARGETS: [Target; 2] = [Target::Gpu(Gpu { processors: 1, shared: 16 << 10 }), Target::Gpu(Gpu { processors: 100, shared: 16 << 10 })];

fn product(a: &str, b: &str, out: &str, [m, n, k]: [usize; 3]) -> String {
    let size = |c: char| match c {
        'm' => m,
        'n' => n,
        'k' => k,
        _ => 3,
    };
    let dims = |labels: &str| labels.chars().map(|c| size(c).to_string()).collect::<Vec<_>>().join(",");
    let last = size(out.chars().last().unwrap());
    let ty = format!("[{}]", dims(out));
    format!(
        "main(%0 a: f32[{}], %1 b: f32[{}], %2 c: f32[{last}]) {{\n  %3 = contract[{a},{b}->{out}] %0, %1 : f32{ty}\n  %4 = add %3, %2 : f32{ty}\n  %5 = tanh %4 : f32{ty}\n  %6 = lt 0.0, %4 : bool{ty}\n  return y=%5, z=%6\n}}\n",
        dims(a),
        dims(b)
    )
}

fn attention(batch: usize, t: usize, heads: usize, group: usize, d: usize, causal: bool) -> String {
    let shared = heads / group;
    let labels =
        format!("acbe,adbe,adbf->acbf|4{}{}", if causal { "|causal" } else { "" }, if group > 1 { format!("|bx{group}") } else { String::new() });
    let (q, k, l) = (format!("f32[{batch},{t},{heads},{d}]"), format!("f32[{batch},{t},{shared},{d}]"), format!("f32[{batch},{heads},{t}]"));
    format!(
        "main(%0 q: {q}, %1 k: {k}, %2 v: {k}, %3 g: {q}) {{\n  %4 = attention[{labels}] %0, %1, %2, 0.5 : ({q},{l})\n  %5 = get[0] %4 : {q}\n  %6 = get[1] %4 : {l}\n  %7 = attention_bwd[{labels}] %0, %1, %2, %5, %6, %3, 0.5 : ({q},{k},{k})\n  %8 = get[0] %7 : {q}\n  %9 = get[1] %7 : {k}\n  %10 = get[2] %7 : {k}\n  return o=%5, l=%6, dq=%8, dk=%9, dv=%10\n}}\n"
    )
}

/// Programs with a name, each of one template or two.
pub fn programs() -> Vec<(String, String)> {
    let mut out = vec![];
    let mut add = |name: &str, text: String| out.push((name.to_string(), text));
    for (r, c) in [(6, 10), (5, 64), (1, 300), (300, 1), (129, 8), (2, 2052), (0, 4)] {
        add(
            "map",
            format!(
                "main(%0 x: f32[{r},{c}], %1 b: f32[{c}]) {{\n  %2 = add %0, %1 : f32[{r},{c}]\n  %3 = gelu %2 : f32[{r},{c}]\n  return y=%3\n}}\n"
            ),
        );
        add(
            "rows",
            format!("main(%0 x: f32[{r},{c}]) {{\n  %1 = softmax %0 : f32[{r},{c}]\n  %2 = sum[-1] %0 : f32[{r},1]\n  return y=%1, s=%2\n}}\n"),
        );
        add("cols", format!("main(%0 x: f32[{r},{c}]) {{\n  %1 = sum[-2] %0 : f32[1,{c}]\n  return y=%1\n}}\n"));
    }
    add("middle", "main(%0 x: f32[3,37,9,20]) {\n  %1 = sum[-3] %0 : f32[3,1,9,20]\n  return y=%1\n}\n".into());
    add("flip", "main(%0 x: f32[70,36]) {\n  %1 = transpose[1,0] %0 : f32[36,70]\n  %2 = exp %1 : f32[36,70]\n  return y=%2\n}\n".into());
    for [m, n, k] in [[13, 33, 70], [64, 64, 16], [130, 132, 20], [3, 40, 64], [1, 1030, 24], [70, 9, 31], [5, 6, 1], [300, 260, 9]] {
        for (a, b, o) in [("mk", "kn", "mn"), ("mk", "nk", "mn"), ("km", "kn", "mn"), ("km", "nk", "nm"), ("bmk", "bkn", "bmn"), ("mkb", "kbn", "mn")]
        {
            add("contract", product(a, b, o, [m, n, k]));
        }
    }
    for (t, heads, group, d, causal) in
        [(5, 2, 2, 4, true), (70, 2, 1, 8, true), (70, 4, 2, 8, false), (3, 1, 1, 3, true), (64, 1, 1, 16, true), (1, 2, 1, 4, false)]
    {
        add("attention", attention(2, t, heads, group, d, causal));
    }
    for (tokens, rows, width) in [(4, 9, 6), (40, 5, 300), (7, 600, 4), (1, 1, 1)] {
        add(
            "scatter",
            format!(
                "main(%0 table: f32[{rows},{width}], %1 index: i32[{tokens}]) {{\n  %2 = gather %0, %1 : f32[{tokens},{width}]\n  %3 = mul %2, 2.0 : f32[{tokens},{width}]\n  %4 = scatter_add %0, %1, %3 : f32[{rows},{width}]\n  return y=%2, z=%4\n}}\n"
            ),
        );
    }
    out
}

/// The graph of a text, and bound on its error: sums of a few hundred products of numbers below 1.
pub fn read(text: &str) -> Graph {
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub const TOLERANCE: f64 = 4e-6;

#[test]
fn every_template_interpreted_is_as_evaluated() {
    for (i, (name, text)) in programs().into_iter().enumerate() {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let want = eval(&graph, &env).unwrap();
        for target in TARGETS {
            for (output, have) in graph.outputs.iter().zip(interpreted(&graph, &env, &target, &mut |_| {})) {
                let d = if output == "z" && name == "contract" { 0.0 } else { difference(&have, &want[output]) };
                assert!(d < TOLERANCE, "{name} for {target:?}: {output} differs by {d}\n{text}");
            }
        }
    }
}

/// Removes the n-th barrier.
fn without_barrier(body: &mut Vec<Stmt>, n: &mut usize) -> bool {
    let at = body.iter_mut().position(|s| match s {
        Stmt::Barrier => {
            *n = n.wrapping_sub(1);
            *n == usize::MAX
        }
        Stmt::For { body, .. } => without_barrier(body, n),
        Stmt::If { then, otherwise, .. } => without_barrier(then, n) || without_barrier(otherwise, n),
        _ => false,
    });
    if let Some(i) = at.filter(|i| body[*i] == Stmt::Barrier) {
        body.remove(i);
    }
    at.is_some()
}

/// Every barrier of every kernel is needed, and the interpreter sees it go.
#[test]
fn a_removed_barrier_is_caught() {
    let mut tried = 0;
    for text in [
        product("mk", "kn", "mn", [70, 70, 70]),
        attention(1, 70, 2, 2, 8, true),
        "main(%0 x: f32[3,300]) {\n  %1 = softmax %0 : f32[3,300]\n  return y=%1\n}\n".into(),
        "main(%0 x: f32[300,9]) {\n  %1 = sum[-2] %0 : f32[1,9]\n  return y=%1\n}\n".into(),
    ] {
        let graph = read(&text);
        let env = environment(&graph, 1, 3);
        for n in 0.. {
            let mut removed = false;
            let run = std::panic::AssertUnwindSafe(|| {
                interpreted(&graph, &env, &TARGETS[1], &mut |k: &mut Kernel| {
                    let mut left = n;
                    removed |= without_barrier(&mut k.body, &mut left);
                })
            });
            let caught = std::panic::catch_unwind(run).is_err();
            if !removed {
                break;
            }
            assert!(caught, "barrier {n} can go\n{text}");
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} barriers were tried");
}
