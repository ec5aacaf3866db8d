//! Grouped products: rows that each meet the matrix of their group, and sums of each group's rows, on every kind of machine.

use crate::common::{Random, environment};
use crate::gpu::{TARGETS, error, read};
use crate::running::interpreted;
use codegen::{Cpu, Target};
use ir::{Env, Graph, Value, eval};

/// A cache so small that sums are blocked, and one that everything fits in; vectors, and none.
const CPUS: [Target; 3] = [
    Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 12, pairs: false }),
    Target::Cpu(Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs: true }),
    Target::Cpu(Cpu { lanes: 1, registers: 16, cache: 1 << 20, pairs: false }),
];

/// The sizes of a grouped product.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub rows: usize,
    pub groups: usize,
    pub inner: usize,
    pub columns: usize,
}

/// The product and what follows it, the product back, and the gradient of the matrices, which lie one way or the other.
pub fn program(Sizes { rows: n, groups: e, inner: c, columns: f }: Sizes, turned: bool, half: &str) -> String {
    let w = if turned { format!("[{e},{f},{c}]") } else { format!("[{e},{c},{f}]") };
    let (lie, back) = if turned { ("efc", "ecf") } else { ("ecf", "efc") };
    let sum = if turned { "%7, %5" } else { "%5, %7" };
    [
        format!("main(%0 a: f32[{n},{c}], %1 w: f32{w}, %2 group: i32[{n}], %3 d: f32[{n},{f}], %4 bias: f32[{f}]) {{"),
        format!("  %5 = cast[{half}] %0 : {half}[{n},{c}]"),
        format!("  %6 = cast[{half}] %1 : {half}{w}"),
        format!("  %7 = cast[{half}] %3 : {half}[{n},{f}]"),
        format!("  %8 = grouped[{lie}] %5, %6, %2 : f32[{n},{f}]"),
        format!("  %9 = add %8, %4 : f32[{n},{f}]"),
        format!("  %10 = tanh %9 : f32[{n},{f}]"),
        format!("  %11 = grouped[{back}] %7, %6, %2 : f32[{n},{c}]"),
        format!("  %12 = grouped_sum[{e}] {sum}, %2 : f32{w}"),
        "  return y=%10, da=%11, dw=%12\n}\n".into(),
    ]
    .join("\n")
}

/// Which group each row has.
#[derive(Clone, Copy, Debug)]
pub enum Groups {
    Sorted,
    /// In any order, some rows of no group.
    Mixed,
    /// All of one.
    One,
    /// Of none.
    Nobody,
}

pub const GROUPS: [Groups; 4] = [Groups::Sorted, Groups::Mixed, Groups::One, Groups::Nobody];

pub fn values(graph: &Graph, s: Sizes, groups: Groups, seed: u32) -> Env {
    let mut env = environment(graph, seed, 3);
    let mut r = Random(seed);
    let mut group: Vec<f64> = (0..s.rows)
        .map(|_| match groups {
            Groups::Sorted => r.below(s.groups.max(1)) as f64,
            Groups::Mixed => r.below(s.groups + 3) as f64 - 1.0,
            Groups::One => s.groups as f64 - 1.0,
            Groups::Nobody => -1.0 - r.below(2) as f64,
        })
        .collect();
    if let Groups::Sorted = groups {
        group.sort_by(f64::total_cmp);
    }
    env.insert("group".into(), Value::new(vec![s.rows], group));
    env
}

const fn sizes(rows: usize, groups: usize, inner: usize, columns: usize) -> Sizes {
    Sizes { rows, groups, inner, columns }
}

/// Of one and of none, odd, of few rows and of many.
pub const SIZES: [Sizes; 14] = [
    sizes(1, 3, 4, 5),
    sizes(2, 8, 40, 70),
    sizes(3, 4, 33, 17),
    sizes(7, 1, 8, 16),
    sizes(13, 3, 5, 1),
    sizes(13, 3, 1, 9),
    sizes(13, 3, 1, 1),
    sizes(33, 4, 20, 37),
    sizes(40, 5, 37, 20),
    sizes(70, 3, 66, 130),
    sizes(130, 6, 24, 36),
    sizes(0, 3, 4, 5),
    sizes(5, 2, 0, 4),
    sizes(6, 0, 4, 8),
];

fn check(target: Target, s: Sizes, turned: bool, groups: Groups, half: &str) {
    let text = program(s, turned, half);
    let graph = read(&text);
    let env = values(&graph, s, groups, (s.rows * 7 + s.inner) as u32);
    let want = eval(&graph, &env).unwrap();
    for (output, have) in graph.outputs.iter().zip(interpreted(&graph, &env, &target, &mut |_| {})) {
        let d = error(&have, &want[output]);
        assert!(d < 4e-6, "{groups:?} {s:?} for {target:?}: {output} differs by {d}\n{text}");
    }
}

#[test]
fn grouped_products_interpreted_are_as_evaluated() {
    for s in SIZES {
        for (turned, groups) in [false, true].into_iter().flat_map(|t| GROUPS.map(|g| (t, g))) {
            CPUS.into_iter().chain(TARGETS).for_each(|target| check(target, s, turned, groups, "f32"));
        }
    }
    for target in CPUS.into_iter().chain(TARGETS) {
        check(target, sizes(40, 5, 37, 20), true, Groups::Mixed, "bf16");
        check(target, sizes(40, 5, 24, 16), false, Groups::Sorted, "f16");
    }
}

/// What other groups' rows and matrices hold never meets a row: not even ∞.
#[test]
fn other_groups_may_hold_anything() {
    let s = sizes(40, 3, 24, 20);
    for (turned, target) in [false, true].into_iter().flat_map(|t| CPUS.into_iter().chain(TARGETS).map(move |c| (t, c))) {
        let graph = read(&program(s, turned, "f32"));
        let mut env = values(&graph, s, Groups::Mixed, 5);
        let group = env["group"].data.clone();
        let of_one = |v: &mut Value, width: usize, is: &dyn Fn(usize) -> bool| {
            v.data.chunks_mut(width).enumerate().filter(|(i, _)| is(*i)).for_each(|(_, row)| row.fill(f64::INFINITY));
        };
        of_one(env.get_mut("w").unwrap(), s.inner * s.columns, &|e| e == 1);
        of_one(env.get_mut("a").unwrap(), s.inner, &|n| group[n] == 1.0);
        of_one(env.get_mut("d").unwrap(), s.columns, &|n| group[n] == 1.0);
        let have = interpreted(&graph, &env, &target, &mut |_| {});
        let dw = have[2].data.chunks(s.inner * s.columns).map(|m| m.iter().all(|x| x.is_finite()));
        assert_eq!(dw.collect::<Vec<_>>(), [true, false, true], "for {target:?}");
        for (n, row) in have[1].data.chunks(s.inner).enumerate() {
            assert_eq!(row.iter().all(|x| x.is_finite()), group[n] != 1.0, "row {n} of group {} for {target:?}", group[n]);
        }
    }
}
