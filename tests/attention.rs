//! Attention of every kind, compiled: it is what was written, forward and backward, whatever the number of threads, and no kernel keeps a
//! number for each pair of a query and a key.

use crate::attention_kinds::{Kind, Sizes, Spelling, all_seen, program, stated, values};
use crate::compiled::run;
use crate::running::interpreted;
use codegen::spec::Template;
use codegen::{Cpu, Program, Target};
use ir::{Builder, DType, Env, Graph, Tensor, Value, eval};
use passes::{Opt, optimize};
use std::collections::HashMap;

const CPU: Target = Target::Cpu(Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs: false });

/// Sizes that divide no tile, grouped heads, values of another depth, one of each, a query that decodes.
const SIZES: [Sizes; 4] = [
    Sizes { b: 2, h: 4, kv: 2, t: 21, s: 37, d: 5, e: 9 },
    Sizes { b: 1, h: 2, kv: 2, t: 65, s: 70, d: 8, e: 8 },
    Sizes { b: 1, h: 1, kv: 1, t: 1, s: 1, d: 1, e: 1 },
    Sizes { b: 2, h: 2, kv: 1, t: 1, s: 50, d: 3, e: 2 },
];

/// The first result that is not what it should be, to so many parts of the largest element, or of a hundredth where all are near 0.
fn wrong(have: &HashMap<String, Value>, want: &HashMap<String, Value>, tolerance: f64) -> Option<String> {
    let mut names: Vec<&String> = want.keys().collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let worst = crate::gpu::error(&have[name], &want[name]);
        (worst.is_nan() || worst > tolerance).then(|| format!("{name} differs by {worst}"))
    })
}

/// Sums of a few thousand products of numbers of size 1, or by a slope of the distance of keys: gradients cancel the most.
const TOLERANCE: f64 = 3e-4;

#[test]
fn every_kind_compiled_is_as_written() {
    for kind in Kind::ALL {
        for (i, n) in SIZES.into_iter().enumerate() {
            let graph = program(kind, n, Spelling::nth(i * 13 + 1));
            let (found, written) = (optimize(&graph, Some("loss"), Opt::Egg).unwrap(), optimize(&graph, Some("loss"), Opt::Off).unwrap());
            let env = all_seen(values(&graph, i as u32));
            let (have, want) = (run(found.last(), &env, 1 + i), eval(written.last(), &env).unwrap());
            let wrong = wrong(&have, &want, TOLERANCE);
            assert!(wrong.is_none(), "{kind:?} {n:?}: {}\n{}", wrong.unwrap_or_default(), found.last());
        }
    }
}

/// Rows that see no key are 0 and have no gradient: no NaN of theirs reaches another.
#[test]
fn rows_that_see_nothing_are_zero() {
    let mut hidden = 0;
    for kind in Kind::ALL {
        for (i, n) in SIZES.into_iter().enumerate() {
            let graph = program(kind, n, Spelling::nth(i * 11 + 2));
            let found = optimize(&graph, Some("loss"), Opt::Egg).unwrap();
            let mut env = values(&graph, 7 + i as u32);
            if let Some(lengths) = env.get_mut("lengths") {
                lengths.data[0] = 0.0;
            }
            let (have, want) = (run(found.last(), &env, 2), eval(found.last(), &env).unwrap());
            let wrong = wrong(&have, &want, TOLERANCE);
            assert!(wrong.is_none(), "{kind:?} {n:?}: {}\n{}", wrong.unwrap_or_default(), found.last());
            let y = &eval(&graph, &env).unwrap()["y"];
            hidden += y.data.iter().filter(|x| x.is_nan()).count();
            let worst = crate::gpu::error(&have["y"], &stated(y));
            assert!(worst < TOLERANCE, "{kind:?} {n:?}: {worst}");
        }
    }
    assert!(hidden > 100, "only {hidden} numbers are of rows that see nothing");
}

/// Every result, bit by bit.
fn bits(values: &HashMap<String, Value>) -> Vec<(&String, Vec<u64>)> {
    let mut out: Vec<_> = values.iter().map(|(name, v)| (name, v.data.iter().map(|x| x.to_bits()).collect())).collect();
    out.sort();
    out
}

#[test]
fn bits_do_not_depend_on_threads() {
    for kind in Kind::ALL {
        for n in [Sizes { b: 2, h: 4, kv: 2, t: 53, s: 37, d: 5, e: 9 }, Sizes { b: 1, h: 2, kv: 1, t: 2, s: 300, d: 4, e: 4 }] {
            let graph = program(kind, n, Spelling::nth(3));
            let found = optimize(&graph, Some("loss"), Opt::Egg).unwrap();
            let env = values(&graph, 1);
            let one = run(found.last(), &env, 1);
            for threads in [2, 3, 5] {
                assert_eq!(bits(&one), bits(&run(found.last(), &env, threads)), "{kind:?} {n:?} with {threads} threads");
            }
        }
    }
}

/// The forward and the backward of each kind are kernels of attention, and but for operands that are one themselves no buffer has room for
/// a number a pair, nor has a thread's scratch.
#[test]
fn no_kind_keeps_a_number_for_each_pair() {
    for kind in Kind::ALL {
        for kv in [1, 2] {
            let n = Sizes { b: 1, h: 2, kv, t: 1300, s: 1201, d: 4, e: 3 };
            let graph = program(kind, n, Spelling::nth(21));
            let found = optimize(&graph, Some("loss"), Opt::Egg).unwrap();
            let program = Program::new(found.last(), &CPU);
            let count = |is: fn(&Template) -> bool| program.specs.iter().filter(|s| is(&s.template)).count();
            let (forward, backward) = (count(|t| matches!(t, Template::Attention(_))), count(|t| matches!(t, Template::AttentionBwd(_))));
            assert!(forward > 0 && backward > 0, "{kind:?} by its definition\n{}", found.last());
            let pairs = n.t * n.s * 4;
            for b in program.routines.iter().flat_map(|r| &r.buffers).filter(|_| !kind.has_pairs()) {
                assert!(b.bytes < pairs, "{kind:?}: {} bytes are a pair's\n{}", b.bytes, found.last());
            }
            assert!(program.kernels.iter().all(|k| k.scratch_floats() * 4 < pairs / 2), "{kind:?}: scratch holds rows of scores, not all");
        }
    }
}

/// Masks that bounds on the key say are bounds, and nothing else becomes of the score.
#[test]
fn masks_that_are_bounds_leave_no_score() {
    for (kind, from, to) in [
        (Kind::Causal, 0, 1),
        (Kind::Window, 1, 1),
        (Kind::WindowBefore, 1, 1),
        (Kind::Prefix, 0, 1),
        (Kind::Offset, 0, 1),
        (Kind::OffsetKnown, 0, 1),
        (Kind::Lengths, 0, 1),
    ] {
        let found = trained(&program(kind, SIZES[0], Spelling::nth(0)));
        let specs = Program::new(&found, &CPU).specs;
        let heads: Vec<_> =
            specs.iter().filter_map(|s| if let Template::Attention(h) | Template::AttentionBwd(h) = &s.template { Some(h) } else { None }).collect();
        assert_eq!(heads.len(), 2, "{kind:?}: forward and backward");
        for h in heads {
            let bounds = (h.visible.from.len(), h.visible.to.len());
            assert_eq!((bounds, h.score, h.dscore), ((from, to), None, None), "{kind:?}\n{found}");
        }
    }
}

/// One head of a long sequence with odd ends.
#[test]
fn long_sequences_compiled_are_as_evaluated() {
    for kind in [Kind::Window, Kind::Everything, Kind::Prefix] {
        let graph = program(kind, Sizes { b: 1, h: 1, kv: 1, t: 1025, s: 1025, d: 4, e: 4 }, Spelling::nth(0));
        let found = optimize(&graph, Some("loss"), Opt::Egg).unwrap();
        let env = values(&graph, 5);
        let (have, want) = (run(found.last(), &env, 2), eval(found.last(), &env).unwrap());
        let wrong = wrong(&have, &want, 4.0 * TOLERANCE);
        assert!(wrong.is_none(), "{kind:?}: {}", wrong.unwrap_or_default());
    }
}

/// Attention of one head where key j is seen from query i by i − `window` < j ≤ i, with its loss.
fn windowed(t: usize, d: usize, window: Option<usize>) -> Graph {
    let b = Builder::default();
    let s = b.scope();
    let [q, k, v] = ["q", "k", "v"].map(|name| s.param(name, [t, d]));
    let (i, j, lowest) = (s.iota(-2, t), s.iota(-1, t), s.num(f64::NEG_INFINITY));
    let x = j.le(i).select(q.contract("td,sd->ts", k) * 0.25, lowest);
    let x = window.map_or(x, |w| (i - j).lt(s.int(w as i32)).select(x, lowest));
    let e = (x - x.max()).exp();
    let y = (e / e.sum()).contract("ts,sd->td", v);
    b.output("loss", (y * y).sum_axes(&[-1, -2]).reshape(ir::Dims::new()));
    b.finish().unwrap()
}

fn trained(graph: &Graph) -> Graph {
    optimize(graph, Some("loss"), Opt::Egg).unwrap().last().clone()
}

/// A window of a sixteenth costs a quarter of a causal mask at most: as it is counted, and as operations that are carried out.
#[test]
fn work_follows_what_is_seen() {
    let flops = |window| Program::new(&trained(&windowed(4096, 64, window)), &CPU).work().flops;
    assert!(flops(Some(256)) * 4.0 <= flops(None), "{} beside {}", flops(Some(256)), flops(None));
    // keys that no query sees within its window are not read: what they hold reaches nothing
    let (t, window) = (400, 16);
    let graph = trained(&windowed(t, 4, Some(window)));
    let mut env = crate::common::environment(&graph, 3, 3);
    let clean = run(&graph, &env, 1);
    for name in ["k", "v"] {
        let data = &mut env.get_mut(name).expect("it has keys and values").data;
        data[..4].fill(f64::NAN);
    }
    let have = run(&graph, &env, 1);
    let (dq, was) = (&have["grad.q"], &clean["grad.q"]);
    let far = 4 * t / 2;
    assert!(dq.data[..4].iter().all(|x| x.is_nan()), "a query that sees a key of NaN has it");
    assert_eq!(dq.data[far..], was.data[far..], "one that does not is as it was");
}

/// A score that is not a number, or infinite, reaches its own row's result and no other's.
#[test]
fn a_score_that_is_no_number_reaches_its_row() {
    let n = Sizes { b: 1, h: 2, kv: 2, t: 20, s: 33, d: 4, e: 5 };
    for kind in [Kind::Bias, Kind::BiasAndCausal] {
        for bad in [f64::NAN, f64::INFINITY] {
            let graph = program(kind, n, Spelling::nth(0)).keep_outputs(&["y"]);
            let found = optimize(&graph, None, Opt::Egg).unwrap();
            let mut env = values(&graph, 3);
            // the third key of the fifth query of the second head
            let at = (n.t + 4) * n.s + 2;
            env.get_mut("bias").expect("it has a bias").data[at] = bad;
            let (have, want) = (&run(found.last(), &env, 2)["y"], &eval(&graph, &env).unwrap()["y"]);
            let spoilt = |v: &Value| v.data.iter().map(|x| x.is_nan()).collect::<Vec<bool>>();
            assert_eq!(spoilt(have), spoilt(want), "{kind:?} with {bad}");
            assert_eq!(spoilt(have).iter().filter(|x| **x).count(), n.e, "{kind:?} with {bad}: one row of one head");
        }
    }
}

/// A mask of truths that a program is given, one a sequence and key.
#[test]
fn a_mask_of_truths() {
    let (b, h, t, s, d) = (2, 2, 9, 18, 3);
    let builder = Builder::default();
    let scope = builder.scope();
    let [q, k, v] = [("q", t), ("k", s), ("v", s)].map(|(name, len)| scope.param(name, [b, h, len, d]));
    let mask = scope.input("mask", DType::Bool, [b, 1, 1, s]);
    let x = mask.select(q.contract("bhtd,bhsd->bhts", k), scope.num(f64::NEG_INFINITY));
    let e: Tensor = (x - x.max()).exp();
    let y = (e / e.sum()).contract("bhts,bhsd->bhtd", v);
    builder.output("y", y);
    builder.output("loss", (y * y).sum_axes(&[-1, -2, -3, -4]).reshape(ir::Dims::new()));
    let graph = builder.finish().unwrap();
    let found = trained(&graph);
    let mut env = crate::common::environment(&graph, 3, 2);
    // nobody sees a key of the second sequence
    env.get_mut("mask").expect("it has a mask").data[s..].fill(0.0);
    let (have, want) = (run(&found, &env, 3), eval(&found, &env).unwrap());
    assert_eq!(wrong(&have, &want, TOLERANCE), None, "{found}");
    assert!(have["y"].data[h * t * d..].iter().all(|x| *x == 0.0));
    assert!(have["grad.q"].data[h * t * d..].iter().all(|x| *x == 0.0));
}

/// Kernels for graphics processors, by the interpreter, which watches that no thread touches what another does.
#[test]
fn every_kind_interpreted_for_a_gpu_is_as_evaluated() {
    for kind in Kind::ALL {
        for (i, n) in
            [Sizes { b: 1, h: 2, kv: 1, t: 6, s: 19, d: 4, e: 4 }, Sizes { b: 2, h: 1, kv: 1, t: 66, s: 3, d: 2, e: 3 }].into_iter().enumerate()
        {
            let graph = program(kind, n, Spelling::nth(i * 3));
            let found = trained(&graph);
            let env = values(&graph, i as u32);
            let want = eval(&found, &env).unwrap();
            let have = interpreted(&found, &env, &crate::gpu::TARGETS[i], &mut |_| {});
            let have: HashMap<String, Value> = found.outputs.iter().cloned().zip(have).collect();
            let wrong = wrong(&have, &want, TOLERANCE);
            assert!(wrong.is_none(), "{kind:?} {n:?}: {}\n{found}", wrong.unwrap_or_default());
        }
    }
}

/// Dropout's bits are those of the written program: by the number of the pair among all of the scores, whatever the order of heads.
#[test]
fn dropped_probabilities_are_those_that_were_written() {
    let n = Sizes { b: 2, h: 4, kv: 2, t: 5, s: 7, d: 3, e: 3 };
    let graph = program(Kind::Dropout, n, Spelling::nth(0)).keep_outputs(&["y"]);
    let found = optimize(&graph, None, Opt::Egg).unwrap();
    let mut results: Vec<Value> = vec![];
    for key in [1.0, 2.0] {
        let env: Env =
            values(&graph, 1).into_iter().map(|(name, v)| if name == "key" { (name, Value::new(vec![], vec![key])) } else { (name, v) }).collect();
        let (have, want) = (run(found.last(), &env, 1)["y"].clone(), &eval(&graph, &env).unwrap()["y"]);
        assert!(crate::gpu::error(&have, want) < TOLERANCE);
        results.push(have);
    }
    assert!(results[0] != results[1], "the key decides");
}
