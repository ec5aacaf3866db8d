use crate::common::{bound, difference, environment, gpt, llama};
use crate::running::{interpreted, run_on};
use codegen::{Cpu, Target};
use ir::{Env, Graph, Value, eval};
use passes::{Opt, optimize};
use runtime::Pool;
use std::collections::HashMap;
use std::sync::Arc;

/// Runs a graph compiled, for values from an environment.
pub fn run(graph: &Graph, env: &Env, threads: usize) -> HashMap<String, Value> {
    run_for(graph, env, threads, &codegen::llvm::host().target)
}

/// The same with kernels shaped for a target.
pub fn run_for(graph: &Graph, env: &Env, threads: usize, target: &Cpu) -> HashMap<String, Value> {
    run_on(graph, env, Arc::new(Pool::new(threads)), &Target::Cpu(*target))
}

fn check(graph: &Graph, env: &Env, tolerance: f64, what: &str) {
    let (want, have) = (eval(graph, env).unwrap(), run(graph, env, 2));
    for (name, w) in &want {
        let d = difference(&have[name], w);
        assert!(d < tolerance, "{what}: {name} differs by {d}");
    }
}

#[test]
fn models_compiled_are_as_evaluated() {
    for (model, t) in [(gpt(), 5), (llama(true), 5), (llama(false), 7)] {
        let built = bound(&model, 2, t);
        let env = environment(&built, 3, 9);
        for opt in [Opt::Egg, Opt::Greedy, Opt::Off] {
            let stages = optimize(&built, Some(ir::names::LOSS_SUM), opt).unwrap();
            check(&stages.fused, &env, 3e-5, &format!("{opt} fused"));
            check(stages.joint.as_ref().unwrap(), &env, 3e-5, &format!("{opt} joint"));
        }
    }
}

/// Products with several blocks of k and of columns, in every layout, with epilogues; vectors of several widths.
#[test]
fn large_products_are_as_evaluated() {
    let (m, k, n) = (13, 2100, 331);
    for (a, b, out, da, db) in [
        ("mk", "kn", "mn", [m, k], [k, n]),
        ("mk", "nk", "mn", [m, k], [n, k]),
        ("km", "kn", "mn", [k, m], [k, n]),
        ("km", "nk", "nm", [k, m], [n, k]),
        // few rows: B is read in place, or along k
        ("mk", "kn", "mn", [3, k], [k, n]),
        ("mk", "nk", "mn", [1, k], [n, k]),
        ("mk", "kn", "mn", [14, k], [k, n]),
        ("mk", "kn", "mn", [32, k], [k, n]),
        ("mk", "kn", "mn", [20, k], [k, 9]),
        ("km", "kn", "mn", [k, 7], [k, n]),
        ("mk", "nk", "mn", [5, k], [n, k]),
        ("mk", "nk", "mn", [32, k], [n, k]),
        ("mk", "kn", "nm", [70, 1030], [1030, 9]),
    ] {
        let (rows, cols) = (if a.starts_with('m') { da[0] } else { da[1] }, if b.ends_with('n') { db[1] } else { db[0] });
        let dims = if out == "mn" { [rows, cols] } else { [cols, rows] };
        let ty = format!("[{},{}]", dims[0], dims[1]);
        let text = format!(
            "main(%0 a: f32[{},{}], %1 b: f32[{},{}], %2 c: f32[{}]) {{\n  %3 = contract[{a},{b}->{out}] %0, %1 : f32{ty}\n  %4 = add %3, %2 : f32{ty}\n  %5 = tanh %4 : f32{ty}\n  %6 = lt 0.0, %4 : bool{ty}\n  return y=%5, z=%6\n}}\n",
            da[0], da[1], db[0], db[1], dims[1]
        );
        let graph: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
        let env = environment(&graph, 1, 3);
        let want = eval(&graph, &env).unwrap();
        for target in [
            Cpu { lanes: 16, registers: 32, cache: 1 << 16, pairs: true },
            Cpu { lanes: 8, registers: 16, cache: 1 << 20, pairs: false },
            Cpu { lanes: 4, registers: 16, cache: 1 << 14, pairs: true },
        ] {
            if target.lanes > codegen::llvm::host().target.lanes {
                continue;
            }
            let have = run_for(&graph, &env, 2, &target);
            // the sum of k products of numbers below 1: its error grows with the root of k
            let d = difference(&have["y"], &want["y"]);
            assert!(d < 1e-7 * (k as f64).sqrt() * 8.0, "{a},{b}->{out} for {target:?}: {d}");
            let differ = have["z"].data.iter().zip(&want["z"].data).filter(|(h, w)| h != w).count();
            assert!(differ * 1000 <= dims[0] * dims[1], "{differ} signs differ");
            let one = run_for(&graph.keep_outputs(&["z"]), &env, 1, &target);
            assert_eq!(one["z"], have["z"], "the truth alone, and on one thread");
        }
    }
}

/// Every template, in 32 and 16 bits.
#[test]
fn every_template_compiled_is_as_evaluated() {
    for (i, (name, text)) in crate::gpu::programs().into_iter().enumerate() {
        let graph = crate::gpu::read(&text);
        let env = environment(&graph, i as u32, 3);
        let (want, have) = (eval(&graph, &env).unwrap(), run(&graph, &env, 2));
        for output in &graph.outputs {
            let d = if output == "z" && name == "contract" { 0.0 } else { crate::gpu::error(&have[output], &want[output]) };
            assert!(d < crate::gpu::tolerance(&text), "{name}: {output} differs by {d}\n{text}");
        }
    }
}

/// Attention whose every score is far below zero, or far above, where an exponential alone would be 0 or ∞: q · k is ± 1024 and a little,
/// exactly. A row's maximum must begin below all of them.
#[test]
fn scores_far_from_zero() {
    for (half, causal, sign) in [("f32", true, -1.0), ("f32", false, 1.0), ("bf16", true, -1.0), ("bf16", false, -1.0), ("bf16", true, 1.0)] {
        let text = crate::gpu::attention(1, 37, 4, 2, 16, causal, half);
        let graph = crate::gpu::read(&text);
        let mut env = environment(&graph, 1, 3);
        for (name, to) in [("q", 8.0), ("k", 8.0 * sign)] {
            let rows = env.get_mut(name).unwrap();
            // one element in sixteen differs from row to row
            rows.data.iter_mut().enumerate().for_each(|(i, x)| *x = to + if i % 16 == 0 { (*x * 8.0).round() / 16.0 } else { 0.0 });
        }
        let (want, have) = (eval(&graph, &env).unwrap(), run(&graph, &env, 2));
        let lowest = want["l"].data.iter().copied().fold(f64::INFINITY, |a, b| a.min(b.abs()));
        assert!(lowest > 400.0, "an exponential of {lowest} is beyond every float");
        let mut targets = crate::gpu::TARGETS.to_vec();
        targets.extend((half == "bf16").then_some(crate::gpu::TENSOR[0]));
        let there = |t: &Target| graph.outputs.iter().cloned().zip(interpreted(&graph, &env, t, &mut |_| {})).collect::<HashMap<_, _>>();
        for (where_, have) in std::iter::once(("compiled".into(), have)).chain(targets.iter().map(|t| (format!("{t:?}"), there(t)))) {
            for (name, w) in &want {
                let d = crate::gpu::error(&have[name], w);
                assert!(d < FAR * crate::gpu::tolerance(&text), "{where_}, causal {causal}, {half}: {name} differs by {d}");
            }
        }
    }
}

/// Scores of 512 have as many ulps of error as sums of that size, and weights are exponentials of their differences.
const FAR: f64 = 64.0;

/// What is read as if it were dense, and is a view: copied first.
#[test]
fn what_must_be_dense_is_copied() {
    let body = "f0 step(%0: f32[3], %1: f32[3,2], %2: f32[2,3]) {\n  %3 = sum[-1] %1 : f32[3,1]\n  %4 = reshape[3] %3 : f32[3]\n  %5 = sum[-2] %2 : f32[1,3]\n  %6 = reshape[3] %5 : f32[3]\n  %7 = mul %4, %6 : f32[3]\n  %8 = add %0, %7 : f32[3]\n  return %8\n}\n\n";
    for text in [
        // updates and numbers of rows
        "main(%0 x: f32[5,3], %1 u: f32[3,4], %2 i: i32[4]) {\n  %3 = transpose[1,0] %1 : f32[4,3]\n  %4 = scatter_add %0, %2, %3 : f32[5,3]\n  return y=%4\n}\n".to_string(),
        "main(%0 x: f32[5,3], %1 u: f32[2,4,3], %2 i: i32[4,2]) {\n  %3 = transpose[1,0] %2 : i32[2,4]\n  %4 = scatter_add %0, %3, %1 : f32[5,3]\n  return y=%4\n}\n".to_string(),
        "main(%0 x: f32[5,3], %1 u: f32[4,5], %2 i: i32[4]) {\n  %3 = slice[-1,1,4] %1 : f32[4,3]\n  %4 = scatter_add %0, %2, %3 : f32[5,3]\n  return y=%4\n}\n".to_string(),
        // of a loop, what each iteration has of its own and what all have
        format!("{body}main(%0 x: f32[3], %1 s: f32[3,4,2], %2 w: f32[3,2]) {{\n  %3 = transpose[1,0,2] %1 : f32[4,3,2]\n  %4 = transpose[1,0] %2 : f32[2,3]\n  %5 = repeat[f0,4,1,1] %0, %3, %4 : (f32[3])\n  %6 = get[0] %5 : f32[3]\n  return y=%6\n}}\n"),
        format!("{body}main(%0 x: f32[3], %1 s: f32[4,3,2], %2 w: f32[2,5]) {{\n  %3 = slice[-1,1,4] %2 : f32[2,3]\n  %4 = repeat[f0,4,1,1] %0, %1, %3 : (f32[3])\n  %5 = get[0] %4 : f32[3]\n  return y=%5\n}}\n"),
    ] {
        let graph = crate::gpu::read(&text);
        check(&graph, &environment(&graph, 1, 5), 1e-6, &text);
    }
}

/// Products in bfloat16: the compiled program is the evaluated one but for numbers that lie between two of 16 bits, and near the one in
/// 32 bits, whose products it rounds by a part in 256.
#[test]
fn models_in_bfloat16() {
    for model in [gpt(), llama(true)] {
        let built = bound(&model, 2, 5);
        let env = environment(&built, 3, 9);
        let whole = optimize(&built, Some(ir::names::LOSS_SUM), Opt::Egg).unwrap().joint.unwrap();
        let short = passes::lower_precision(&whole, ir::DType::BF16);
        ir::verify(&short).unwrap();
        let again: Graph = short.to_string().parse().unwrap();
        assert!(again.to_string() == short.to_string(), "the text reads back");
        let (exact, want, have) = (eval(&whole, &env).unwrap(), eval(&short, &env).unwrap(), run(&short, &env, 2));
        for (name, w) in &want {
            let (rounding, d) = (difference(w, &exact[name]), difference(&have[name], w));
            assert!(d < 0.01 && rounding < 0.05, "{name}: {d} from evaluation, {rounding} from 32 bits");
        }
        assert!(difference(&want["loss.sum"], &exact["loss.sum"]) > 0.0, "something was rounded");
    }
}

/// Tables of every type are read by index, and an index that is outside gives 0, in a table of no rows too.
#[test]
fn tables_of_every_type_are_read_by_index() {
    for ty in ["f32", "i32", "u32", "bool", "bf16", "f16"] {
        for rows in [3, 1, 0] {
            let text = format!(
                "main() {{\n  @t : {ty}[{rows},2]\n  %0 = iota[-1,5] : i32[5]\n  %1 = sub %0, 1 : i32[5]\n  %2 = gather @t, %1 : {ty}[5,2]\n  %3 = cast[f32] %2 : f32[5,2]\n  return y=%3\n}}\n"
            );
            let graph: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
            let env = environment(&graph, 1, 9);
            assert_eq!(run(&graph, &env, 1), eval(&graph, &env).unwrap(), "{text}");
        }
    }
}
