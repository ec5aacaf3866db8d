use crate::common::{bound, difference, environment, gpt, llama};
use crate::running::run_on;
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
            Cpu { lanes: 16, registers: 32, cache: 1 << 16 },
            Cpu { lanes: 8, registers: 16, cache: 1 << 20 },
            Cpu { lanes: 4, registers: 16, cache: 1 << 14 },
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
