//! Kernels for graphics processors, by the interpreter: every template, each way a tile is read, sizes that divide nothing.

use crate::common::{difference, environment};
use crate::running::interpreted;
use codegen::kernel::{Kernel, Stmt};
use codegen::{Gpu, Target};
use ir::{Graph, Value, eval};

const fn gpu(processors: usize, kibibytes: usize, tensor: bool) -> Target {
    Target::Gpu(Gpu { processors, shared: kibibytes << 10, tensor, hopper: false })
}

/// Groups of planes multiply, where operands let them.
pub const HOPPER: Target = Target::Gpu(Gpu { processors: 1, shared: 227 << 10, tensor: true, hopper: true });

/// One processor gets the largest tiles, a hundred the smallest.
pub const TARGETS: [Target; 2] = [gpu(1, 16, false), gpu(100, 16, false)];
/// The same with tensor cores.
pub const TENSOR: [Target; 3] = [gpu(1, 99, true), gpu(100, 48, true), gpu(100, 16, true)];

/// `half` is a type of 16 bits for the operands, or f32.
pub fn product(a: &str, b: &str, out: &str, [m, n, k]: [usize; 3], half: &str) -> String {
    let size = |c: char| match c {
        'm' => m,
        'n' => n,
        'k' => k,
        _ => 3,
    };
    let dims = |labels: &str| labels.chars().map(|c| size(c).to_string()).collect::<Vec<_>>().join(",");
    let last = size(out.chars().last().unwrap());
    let ty = format!("[{}]", dims(out));
    let (a_dims, b_dims) = (dims(a), dims(b));
    format!(
        "main(%0 a: f32[{a_dims}], %1 b: f32[{b_dims}], %2 c: f32[{last}]) {{\n  %3 = cast[{half}] %0 : {half}[{a_dims}]\n  %4 = cast[{half}] %1 : {half}[{b_dims}]\n  %5 = contract[{a},{b}->{out}] %3, %4 : f32{ty}\n  %6 = add %5, %2 : f32{ty}\n  %7 = tanh %6 : f32{ty}\n  %8 = lt 0.0, %6 : bool{ty}\n  return y=%7, z=%8\n}}\n"
    )
}

pub fn attention(batch: usize, t: usize, heads: usize, group: usize, d: usize, causal: bool, half: &str) -> String {
    let shared = heads / group;
    let labels =
        format!("acbe,adbe,adbf->acbf|4{}{}", if causal { "|causal" } else { "" }, if group > 1 { format!("|bx{group}") } else { String::new() });
    let (q, k, l) = (format!("f32[{batch},{t},{heads},{d}]"), format!("f32[{batch},{t},{shared},{d}]"), format!("f32[{batch},{heads},{t}]"));
    let short = |ty: &str| ty.replace("f32", half);
    let (hq, hk) = (short(&q), short(&k));
    format!(
        "main(%0 q: {q}, %1 k: {k}, %2 v: {k}, %3 g: {q}) {{\n  %4 = cast[{half}] %0 : {hq}\n  %5 = cast[{half}] %1 : {hk}\n  %6 = cast[{half}] %2 : {hk}\n  %7 = cast[{half}] %3 : {hq}\n  %8 = attention[{labels}] %4, %5, %6, 0.5 : ({hq},{l})\n  %9 = get[0] %8 : {hq}\n  %10 = get[1] %8 : {l}\n  %11 = attention_bwd[{labels}] %4, %5, %6, %9, %10, %7, 0.5 : ({q},{k},{k})\n  %12 = get[0] %11 : {q}\n  %13 = get[1] %11 : {k}\n  %14 = get[2] %11 : {k}\n  %15 = cast[f32] %9 : {q}\n  return o=%15, l=%10, dq=%12, dk=%13, dv=%14\n}}\n"
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
        // the largest of numbers below zero
        if r > 0 {
            add(
                "rows",
                format!(
                    "main(%0 x: f32[{r},{c}]) {{\n  %1 = sub %0, 2.0 : f32[{r},{c}]\n  %2 = max[-1] %1 : f32[{r},1]\n  %3 = max[-2] %1 : f32[1,{c}]\n  return y=%2, s=%3\n}}\n"
                ),
            );
        }
    }
    // whole vectors of rows that begin anywhere
    for (lo, width) in [(1, 12), (0, 10), (4, 13)] {
        add(
            "map",
            format!("main(%0 x: f32[5,{width}]) {{\n  %1 = slice[-1,{lo},{}] %0 : f32[5,8]\n  %2 = exp %1 : f32[5,8]\n  return y=%2\n}}\n", lo + 8),
        );
    }
    add(
        "contract",
        "main(%0 a: f32[40,16], %1 b: f32[16,3,9]) {\n  %2 = slice[-1,0,8] %1 : f32[16,3,8]\n  %3 = contract[mk,kcd->mcd] %0, %2 : f32[40,3,8]\n  return y=%3\n}\n".into(),
    );
    // one processor takes the largest tile for it
    for (a, b, o) in [("mk", "kn", "mn"), ("km", "nk", "nm")] {
        add("contract", product(a, b, o, [250, 252, 9], "f32"));
    }
    add("middle", "main(%0 x: f32[3,37,9,20]) {\n  %1 = sum[-3] %0 : f32[3,1,9,20]\n  return y=%1\n}\n".into());
    add(
        "nothing",
        "main(%0 x: f32[3,0,5,2]) {\n  %1 = sum[-1,-2,-3] %0 : f32[3,1,1,1]\n  %2 = max[-2] %0 : f32[3,0,1,2]\n  return y=%1, m=%2\n}\n".into(),
    );
    add("flip", "main(%0 x: f32[70,36]) {\n  %1 = transpose[1,0] %0 : f32[36,70]\n  %2 = exp %1 : f32[36,70]\n  return y=%2\n}\n".into());
    for [m, n, k] in [[13, 33, 70], [64, 64, 16], [130, 132, 20], [3, 40, 64], [1, 1030, 24], [70, 9, 31], [5, 6, 1], [300, 260, 9]] {
        for (a, b, o) in [("mk", "kn", "mn"), ("mk", "nk", "mn"), ("km", "kn", "mn"), ("km", "nk", "nm"), ("bmk", "bkn", "bmn"), ("mkb", "kbn", "mn")]
        {
            for half in ["f32", "bf16", "f16"].iter().take(if m == 13 || n == 40 { 3 } else { 1 }) {
                add("contract", product(a, b, o, [m, n, k], half));
            }
        }
    }
    for (t, heads, group, d, causal) in
        [(5, 2, 2, 4, true), (70, 2, 1, 8, true), (70, 4, 2, 8, false), (3, 1, 1, 3, true), (64, 1, 1, 16, true), (1, 2, 1, 4, false)]
    {
        for half in ["f32", "bf16", "f16"].iter().take(if group == 2 { 3 } else { 1 }) {
            add("attention", attention(2, t, heads, group, d, causal, half));
        }
    }
    // each group has a row, whichever they are
    for (rows, groups, turned) in [(130, 3, false), (70, 3, true), (3, 1, true)] {
        add("grouped", crate::grouped::program(crate::grouped::Sizes { rows, groups, inner: 36, columns: 24 }, turned, "f32"));
    }
    for (tokens, rows, width) in [(4, 9, 6), (40, 5, 300), (7, 600, 4), (1, 1, 1)] {
        add(
            "scatter",
            format!(
                "main(%0 table: f32[{rows},{width}], %1 index: i32[{tokens}]) {{\n  %2 = gather %0, %1 : f32[{tokens},{width}]\n  %3 = mul %2, 2.0 : f32[{tokens},{width}]\n  %4 = scatter_add %0, %1, %3 : f32[{rows},{width}]\n  return y=%2, z=%4\n}}\n"
            ),
        );
    }
    // rows of vectors and of single elements, at a start for all or for each, along the last axis, too
    for (state, values, start, axis) in [
        ("f32[2,9,8]", "f32[2,3,8]", "i32[]", -2),
        ("f32[2,9,7]", "f32[2,4,7]", "i32[2,1,1]", -2),
        ("f32[300,12]", "f32[70,12]", "i32[1]", -2),
        ("f32[6,40]", "f32[6,3]", "i32[6,1]", -1),
        ("f32[5,4]", "f32[1,4]", "i32[4]", -2),
        ("i32[9]", "i32[12]", "i32[]", -1),
        ("bool[3,8]", "bool[2,8]", "i32[]", -2),
    ] {
        add(
            "update",
            format!("main(%0 s: {state}, %1 v: {values}, %2 p: {start}) {{\n  %3 = update[{axis}] %0, %1, %2 : {state}\n  return y=%3\n}}\n"),
        );
    }
    // a row's value and one of the whole row's beside the row: each is written once
    for c in [3, 8] {
        add(
            "map",
            format!(
                "main(%0 x: f32[4,{c}], %1 r: f32[4,1], %2 k: f32[1,{c}]) {{\n  %3 = add %1, 1.5 : f32[4,1]\n  %4 = exp %2 : f32[1,{c}]\n  %5 = mul %0, %3 : f32[4,{c}]\n  %6 = mul %5, %4 : f32[4,{c}]\n  return y=%6, r=%3, k=%4\n}}\n"
            ),
        );
    }
    out
}

/// Updates of every row there is, among them the last, and of rows that there are not: the number before the first and the one behind the last.
#[test]
fn updates_outside_are_ignored() {
    for (rows, width) in [(5, 8), (5, 3), (600, 4)] {
        let tokens = rows + 2;
        let text = format!(
            "main(%0 x: f32[{rows},{width}], %1 i: i32[{tokens}], %2 u: f32[{tokens},{width}]) {{\n  %3 = scatter_add %0, %1, %2 : f32[{rows},{width}]\n  return y=%3\n}}\n"
        );
        let graph = read(&text);
        let mut env = environment(&graph, 1, 3);
        env.insert("i".into(), Value::new(vec![tokens], (0..tokens).map(|i| i as f64 - 1.0).rev().collect()));
        let want = &eval(&graph, &env).unwrap()["y"];
        for target in TARGETS {
            let d = error(&interpreted(&graph, &env, &target, &mut |_| {})[0], want);
            assert!(d < TOLERANCE, "{rows} rows of {width} for {target:?}: {d}");
        }
    }
}

/// Products in 16 bits whose operands can be copied in chunks, in every layout, with tiles that they fill and that they do not.
pub fn tensor_programs() -> Vec<String> {
    let mut out = vec![];
    for (size, half) in [([72, 80, 96], "bf16"), ([16, 24, 40], "bf16"), ([200, 136, 64], "bf16"), ([128, 128, 128], "bf16"), ([40, 64, 72], "f16")] {
        for (a, b, o) in [("mk", "kn", "mn"), ("mk", "nk", "mn"), ("km", "kn", "mn"), ("km", "nk", "nm"), ("bmk", "bkn", "bmn"), ("mbk", "nk", "bmn")]
        {
            out.push(product(a, b, o, size, half));
        }
    }
    // rows that are no whole chunks are padded where they are rounded
    out.push(product("mk", "kn", "mn", [40, 48, 77], "bf16"));
    out.push(product("km", "kn", "mn", [75, 67, 50], "bf16"));
    // a number of columns that is odd, and rows that are few
    out.push(product("mk", "nk", "mn", [50, 33, 32], "bf16"));
    out.push(product("mk", "nk", "mn", [17, 51, 8], "bf16"));
    out
}

/// Attention in 16 bits, forward and backward, whose operands can be copied in chunks.
pub fn tensor_attention() -> Vec<String> {
    [
        (70, 2, 1, 16, true, "bf16"),
        (33, 4, 2, 32, true, "bf16"),
        (64, 2, 2, 64, false, "f16"),
        (130, 1, 1, 16, true, "bf16"),
        (96, 1, 1, 128, true, "bf16"),
        (1, 2, 1, 16, false, "bf16"),
        (100, 2, 1, 16, false, "bf16"),
    ]
    .into_iter()
    .map(|(t, heads, group, d, causal, half)| attention(2, t, heads, group, d, causal, half))
    .collect()
}

/// The graph of a text, and bound on its error: sums of a few hundred products of numbers below 1.
pub fn read(text: &str) -> Graph {
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The largest difference by the largest element, or by a hundredth where all are near 0, as sums that cancel are.
pub fn error(have: &Value, want: &Value) -> f64 {
    let scale = want.data.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    difference(have, want) * scale / scale.max(0.01)
}

const TOLERANCE: f64 = 4e-6;

/// Where attention's result is rounded to 16 bits, a number between two of them may go either way: one step of that type.
pub fn tolerance(text: &str) -> f64 {
    match (text.contains("attention"), text.contains("bf16"), text.contains("f16")) {
        (true, true, _) => 1.0 / 128.0,
        (true, _, true) => 1.0 / 1024.0,
        _ => TOLERANCE,
    }
}

#[test]
fn every_template_interpreted_is_as_evaluated() {
    for (i, (name, text)) in programs().into_iter().enumerate() {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let want = eval(&graph, &env).unwrap();
        for target in TARGETS {
            for (output, have) in graph.outputs.iter().zip(interpreted(&graph, &env, &target, &mut |_| {})) {
                let d = if output == "z" && name == "contract" { 0.0 } else { error(&have, &want[output]) };
                assert!(d < tolerance(&text), "{name} for {target:?}: {output} differs by {d}\n{text}");
            }
        }
    }
}

#[test]
fn products_on_tensor_cores_interpreted_are_as_evaluated() {
    for (i, text) in tensor_programs().into_iter().enumerate() {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let want = &eval(&graph, &env).unwrap()["y"];
        for target in TENSOR {
            let mut products = 0;
            let have = interpreted(&graph, &env, &target, &mut |k| products += usize::from(k.to_string().contains("+=")));
            assert_eq!(products, 1, "the product is one of tensor cores\n{text}");
            let d = error(&have[0], want);
            assert!(d < tolerance(&text), "for {target:?}: {d}\n{text}");
        }
    }
}

/// Products whose operands both lie along their sums.
pub fn grouped_programs() -> Vec<String> {
    let sizes = [[128, 128, 64], [130, 200, 136], [200, 136, 72], [256, 131, 8]];
    let mut out: Vec<String> = sizes.into_iter().map(|s| product("mk", "nk", "mn", s, "bf16")).collect();
    out.push(product("bmk", "bnk", "bmn", [72, 130, 64], "f16"));
    out
}

#[test]
fn products_of_groups_interpreted_are_as_evaluated() {
    for (i, text) in grouped_programs().into_iter().enumerate() {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let mut products = 0;
        let have = interpreted(&graph, &env, &HOPPER, &mut |k| products += usize::from(k.name.contains("_hopper")));
        assert_eq!(products, 1, "the product is a group's\n{text}");
        let d = error(&have[0], &eval(&graph, &env).unwrap()["y"]);
        assert!(d < tolerance(&text), "{d}\n{text}");
    }
}

#[test]
fn attention_on_tensor_cores_interpreted_is_as_evaluated() {
    for (i, text) in tensor_attention().into_iter().enumerate() {
        let graph = read(&text);
        let env = environment(&graph, i as u32, 3);
        let want = eval(&graph, &env).unwrap();
        let mut kernels = 0;
        let have = interpreted(&graph, &env, &TENSOR[0], &mut |k| kernels += usize::from(k.to_string().contains("+=")));
        assert_eq!(kernels, 2, "forward and backward are on tensor cores\n{text}");
        for (output, have) in graph.outputs.iter().zip(have) {
            let d = error(&have, &want[output]);
            assert!(d < tolerance(&text), "{output} differs by {d}\n{text}");
        }
    }
}

/// Removes the n-th statement that orders threads or copies.
fn without_order(body: &mut Vec<Stmt>, n: &mut usize) -> bool {
    let orders = |s: &Stmt| matches!(s, Stmt::Barrier | Stmt::Wait(_));
    let at = body.iter_mut().position(|s| match s {
        s if orders(s) => {
            *n = n.wrapping_sub(1);
            *n == usize::MAX
        }
        Stmt::For { body, .. } => without_order(body, n),
        Stmt::If { then, otherwise, .. } => without_order(then, n) || without_order(otherwise, n),
        _ => false,
    });
    if let Some(i) = at.filter(|i| orders(&body[*i])) {
        body.remove(i);
    }
    at.is_some()
}

/// Every barrier and every wait of every kernel is needed, and the interpreter sees it go.
#[test]
fn a_removed_barrier_or_wait_is_caught() {
    let mut tried = 0;
    for (text, target) in [
        (product("mk", "kn", "mn", [70, 70, 70], "f32"), TARGETS[1]),
        (product("mk", "kn", "mn", [40, 48, 200], "bf16"), TENSOR[2]),
        (attention(1, 70, 2, 2, 8, true, "f32"), TARGETS[1]),
        (attention(1, 130, 2, 2, 16, true, "bf16"), TENSOR[0]),
        ("main(%0 x: f32[3,300]) {\n  %1 = softmax %0 : f32[3,300]\n  return y=%1\n}\n".into(), TARGETS[1]),
        ("main(%0 x: f32[300,9]) {\n  %1 = sum[-2] %0 : f32[1,9]\n  return y=%1\n}\n".into(), TARGETS[1]),
    ] {
        let graph = read(&text);
        let env = environment(&graph, 1, 3);
        for n in 0.. {
            let mut removed = false;
            let run = std::panic::AssertUnwindSafe(|| {
                interpreted(&graph, &env, &target, &mut |k: &mut Kernel| {
                    let mut left = n;
                    removed |= without_order(&mut k.body, &mut left);
                })
            });
            let caught = std::panic::catch_unwind(run).is_err();
            if !removed {
                break;
            }
            assert!(caught, "order {n} can go\n{text}");
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} were tried");
}

/// Indices have 32 bits: what they cannot count is refused with the number, by whoever runs it, before anything is allocated.
#[test]
fn what_32_bits_cannot_count_is_refused() {
    let program = |text: &str| codegen::Program::new(&read(text), &TARGETS[1]);
    let map = |rows: usize| format!("main(%0 x: f32[{rows},65536]) {{\n  %1 = exp %0 : f32[{rows},65536]\n  return y=%1\n}}\n");
    for rows in [65534, 65535, 65536, 65537, 1 << 20] {
        let (count, result) = (rows * 65536, program(&map(rows)).check_reach());
        assert_eq!(result.is_err(), count > codegen::COUNT_MAX, "{rows} rows");
        if let Err(e) = result {
            assert!(e.contains(&count.to_string()) && e.contains("map_0") && e.contains("--device cpu"), "{e}");
        }
    }
    // a product whose operands are small, but not what it writes
    let e = program("main(%0 x: f32[70000,1], %1 y: f32[70000,1]) {\n  %2 = contract[ab,cb->ac] %0, %1 : f32[70000,70000]\n  return y=%2\n}\n")
        .check_reach();
    assert!(e.unwrap_err().contains("4900000000"));
    // and one of many operations, of which no operand is large
    let sizes = "main(%0 x: f32[4096,4096], %1 y: f32[4096,4096]) {\n  %2 = contract[ab,cb->ac] %0, %1 : f32[4096,4096]\n  return y=%2\n}\n";
    assert_eq!(program(sizes).check_reach(), Ok(()));
}
