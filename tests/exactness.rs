//! What a rule's class promises: `exact` is the same bits in `f32`; nothing folded or moved over- or underflows because of it.

use crate::common::{Random, environment};
use crate::f32::{differ, eval_f32, special};
use crate::rules::{CORPUS, corpus};
use ir::{DType, Dims, Func, Graph, Op, Type, Value};
use passes::{Legality, Opt, Options, Rewriter, Rule, Terms, optimize, rules};
use std::collections::BTreeMap;

/// What every rule claims at every term of the corpus, at what comes of it by one rule after another, and at its normal form.
fn claims() -> BTreeMap<&'static str, Vec<Func>> {
    let rules = rules::all();
    let one_way = rules::both();
    let one_way: Vec<&Rule> = one_way.iter().collect();
    let mut out: BTreeMap<&'static str, Vec<Func>> = BTreeMap::new();
    for (round, which) in (0..3).flat_map(|round| (0..CORPUS).map(move |which| (round, which))) {
        let func = corpus(&mut Random(round * 100 + which as u32), which);
        let mut terms = Terms::new(&[]);
        let ids = terms.add_func(&func);
        let mut rewriter = Rewriter::new(&one_way);
        for r in &func.results {
            rewriter.rewrite(&mut terms, ids[r.index()]);
        }
        let mut at = 0;
        while at < terms.len().min(1000) {
            for rule in &rules {
                out.entry(rule.name).or_default().extend(rule.claim(&terms, egg::Id::from(at)));
                rule.rewrite(&mut terms, egg::Id::from(at));
            }
            at += 1;
        }
    }
    out
}

/// The first difference in bits between the two sides, for operands at the edges of `f32`.
fn difference(claim: &Func, seeds: u32) -> Option<String> {
    (0..seeds).find_map(|seed| {
        let mut r = Random(seed * 1000);
        let inputs: Vec<Value> = claim.inputs().iter().map(|ty| special(&mut r, ty)).collect();
        let sides = eval_f32(claim, &inputs);
        differ(&sides[0], &sides[1]).map(|(a, b)| format!("{a:e} and {b:e}"))
    })
}

#[test]
fn exact_rules_keep_every_bit() {
    let claims = claims();
    for rule in rules::all().iter().filter(|r| r.legality == Legality::Exact) {
        let own = claims.get(rule.name).map_or(&[][..], |c| &c[..]);
        assert!(!own.is_empty(), "{} is never used", rule.name);
        for claim in own.iter().take(100) {
            if let Some(why) = difference(claim, 20) {
                panic!("{} is not exact: {why} in {}", rule.name, graph(claim));
            }
        }
    }
}

/// The other side of the test above: rules that round, or that treat −0, ∞ or NaN otherwise, are seen to.
#[test]
fn rules_that_are_not_exact_are_seen_not_to_be() {
    let claims = claims();
    let differs = |name: &str| claims[name].iter().take(40).any(|c| difference(c, 20).is_some());
    let looser: Vec<&str> = rules::all().iter().filter(|r| r.legality > Legality::Exact).map(|r| r.name).collect();
    let never: Vec<&str> = looser.into_iter().filter(|n| !differs(n)).collect();
    // these read the same sums in another layout or under another name; the evaluator keeps their order, a kernel need not
    let same_order = [
        "contract-transpose",
        "transpose-contract",
        "attention-transpose",
        "attention-q-transpose",
        "attention-k-transpose",
        "attention-v-transpose",
        "rms_norm",
        "layer_norm",
        "rope",
        "rope-halves",
        "attention-grouped",
    ];
    assert_eq!(never, same_order);
}

fn graph(func: &Func) -> Graph {
    let inputs = (0..func.inputs().len()).map(|i| format!("x{i}")).collect();
    Graph { funcs: vec![func.clone()], inputs, outputs: (0..func.results.len()).map(|i| format!("y{i}")).collect() }
}

/// A program of one operand of three numbers.
fn program(lines: &str) -> Graph {
    let text = format!("main(%0 x: f32[1,3]) {{\n{lines}}}\n");
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Programs whose numbers would leave the range of `f32`, or enter it, if a constant were folded or a scale moved: what each gives for an
/// operand is what it gives as written.
#[test]
fn no_constant_leaves_the_range_and_no_scale_moves_out_of_it() {
    let cases: &[(&str, [f32; 3])] = &[
        // 1e50 is no f32
        ("  %1 = mul %0, 1e25 : f32[1,3]\n  %2 = mul %1, 1e25 : f32[1,3]\n  return y=%2\n", [1e-30, -1e-30, 0.0]),
        // 1e-50 neither
        ("  %1 = mul %0, 1e-25 : f32[1,3]\n  %2 = mul %1, 1e-25 : f32[1,3]\n  return y=%2\n", [1e30, 3e38, 0.0]),
        // 1e-40 has few bits
        ("  %1 = mul %0, 1e-20 : f32[1,3]\n  %2 = mul %1, 1e-20 : f32[1,3]\n  return y=%2\n", [1.2345e35, 3e38, 0.0]),
        ("  %1 = mul 1e25, 1e25 : f32[]\n  %2 = mul %0, 0.0 : f32[1,3]\n  %3 = add %2, %1 : f32[1,3]\n  return y=%3\n", [1.0, 2.0, 3.0]),
        // one over a large number is denormal, one over a denormal is infinite
        ("  %1 = div %0, 3e38 : f32[1,3]\n  return y=%1\n", [3e38, 1.2345e38, 1.0]),
        ("  %1 = div %0, 1e-40 : f32[1,3]\n  return y=%1\n", [1e-40, 1e-44, 0.0]),
        // a mean whose terms are scaled first; a mean square too
        ("  %1 = mul %0, 0.25 : f32[1,3]\n  %2 = sum[-1] %1 : f32[1,1]\n  return y=%2\n", [3e38, 3e38, 3e38]),
        (
            "  %1 = mul %0, %0 : f32[1,3]\n  %2 = mul %1, 0.3333333333333333 : f32[1,3]\n  %3 = sum[-1] %2 : f32[1,1]\n  %4 = add %3, 1e-05 : f32[1,1]\n  %5 = rsqrt %4 : f32[1,1]\n  %6 = mul %0, %5 : f32[1,3]\n  return y=%6\n",
            [1.4e19, 1.4e19, 1.4e19],
        ),
        // a scale inside a product whose other factor is large, small; inside quotients
        ("  %1 = mul %0, 1e-20 : f32[1,3]\n  %2 = mul %0, %0 : f32[1,3]\n  %3 = mul %1, %2 : f32[1,3]\n  return y=%3\n", [1e18, -1e18, 1e19]),
        ("  %1 = mul %0, 1e-20 : f32[1,3]\n  %2 = contract[ab,cb->ac] %1, %0 : f32[1,1]\n  return y=%2\n", [3e19, 3e19, 1e20]),
        ("  %1 = mul %0, 1e20 : f32[1,3]\n  %2 = contract[ab,cb->ac] %1, %0 : f32[1,1]\n  return y=%2\n", [3e-25, 3e-25, 1e-25]),
        (
            "  %1 = mul %0, 1e-20 : f32[1,3]\n  %2 = tanh %0 : f32[1,3]\n  %3 = mul %2, 1e-20 : f32[1,3]\n  %4 = div %1, %3 : f32[1,3]\n  return y=%4\n",
            [1e30, 1e-20, 1.0],
        ),
        ("  %1 = mul %0, 1e-30 : f32[1,3]\n  %2 = div %0, %1 : f32[1,3]\n  return y=%2\n", [1e25, 1.0, 1e-5]),
        // scores whose scale stands on the queries
        (
            "  %1 = mul %0, 2e-38 : f32[1,3]\n  %2 = contract[ab,cb->ac] %1, %0 : f32[1,1]\n  %3 = exp %2 : f32[1,1]\n  %4 = sum[-1] %3 : f32[1,1]\n  %5 = div %3, %4 : f32[1,1]\n  %6 = contract[ac,cb->ab] %5, %0 : f32[1,3]\n  return y=%6\n",
            [3e19, 1e19, 1e19],
        ),
        // GELU of the largest numbers, the half before and behind
        (
            "  %1 = mul %0, 0.5 : f32[1,3]\n  %2 = tanh %0 : f32[1,3]\n  %3 = add %2, 1.0 : f32[1,3]\n  %4 = mul %1, %3 : f32[1,3]\n  return y=%4\n",
            [3e38, 1.0, -1.0],
        ),
        // what a mask hides stays hidden when a scale that f32 rounds to 0 would meet it
        ("  %1 = lt %0, 1.0 : bool[1,3]\n  %2 = select %1, %0, -inf : f32[1,3]\n  %3 = mul %2, 1e-46 : f32[1,3]\n  return y=%3\n", [0.5, 2.0, 3.0]),
    ];
    for (text, x) in cases {
        let written = program(text);
        let x = Value::new(vec![1, 3], x.iter().map(|x| f64::from(*x)).collect());
        let want = eval_f32(written.main(), std::slice::from_ref(&x)).swap_remove(0);
        for opt in [Opt::Greedy, Opt::Egg] {
            let stage = optimize(&written, None, opt).unwrap().fused;
            let have = eval_f32(stage.main(), std::slice::from_ref(&x)).swap_remove(0);
            for (h, w) in have.data.iter().zip(&want.data) {
                let near = h == w || (h.is_nan() && w.is_nan()) || (h - w).abs() <= 1e-5 * w.abs();
                assert!(near, "{opt}: {h:e} for {w:e} of\n{written}became\n{stage}");
            }
        }
    }
}

/// With exact rules alone, a program keeps its bits whatever it is made of, at every level.
#[test]
fn exact_rules_alone_keep_programs() {
    for which in 0..CORPUS {
        let func = corpus(&mut Random(which as u32 + 77), which);
        let written = graph(&func);
        for opt in [Opt::Greedy, Opt::Egg] {
            let stages = optimize(&written, None, Options { rules: Legality::Exact, ..opt.into() }).unwrap();
            for seed in 0..4 {
                let mut r = Random(seed * 1000 + 1);
                let inputs: Vec<Value> = func.inputs().iter().map(|ty| special(&mut r, ty)).collect();
                let params = environment(&written, seed, 3);
                let close = |f: &Func| eval_f32(&with_params(f, &params), &inputs);
                for (have, want) in close(stages.fused.main()).iter().zip(&close(&func)) {
                    assert_eq!(differ(have, want), None, "corpus {which}, {opt}:\n{written}became\n{}", stages.fused);
                }
            }
        }
    }
}

/// Parameters become sums of constants with the values they have: an evaluator without an environment can run the program.
fn with_params(func: &Func, params: &ir::Env) -> Func {
    let mut out = Func::new(&func.name);
    let mut new = vec![];
    for node in &func.nodes {
        let args: Vec<ir::NodeId> = node.args.iter().map(|a| new[a.index()]).collect();
        let at = match &node.op {
            Op::Param(name, ty) => literal(&mut out, ty, &params[name.as_ref()]),
            op => out.add(op.clone(), &args),
        };
        new.push(at);
    }
    out.results = func.results.iter().map(|r| new[r.index()]).collect();
    out
}

fn literal(out: &mut Func, ty: &Type, value: &Value) -> ir::NodeId {
    let one: Dims = [ir::Dim::ONE].into_iter().collect();
    let parts: Vec<ir::NodeId> = value
        .data
        .iter()
        .map(|x| {
            let x = out.add(Op::Const(x.to_bits(), DType::F32), &[]);
            out.add(Op::Reshape(one.clone()), &[x])
        })
        .collect();
    let flat = out.add(Op::Concat(-1), &parts);
    out.add(Op::Reshape(ty.dims.clone()), &[flat])
}

/// Both models compiled with exact rules alone: their results have the bits of the program as written. That is promised of what is
/// computed an element at a time, and of sums as far as they are taken in kernels alike, as here; those of gradients may be grouped
/// otherwise, and then round otherwise.
#[cfg(feature = "llvm")]
#[test]
fn models_with_exact_rules_have_the_bits_of_models_as_written() {
    use crate::common::{bound, difference, gpt, llama};
    for (model, time) in [(gpt(), 5), (llama(true), 6), (llama(false), 7)] {
        let built = bound(&model, 2, time);
        let env = environment(&built, 4, 9);
        let run = |loss: Option<&str>, options: Options| {
            let stages = optimize(&built, loss, options).unwrap();
            crate::compiled::run(stages.last(), &env, 2)
        };
        let (written, gradients) = (run(None, Opt::Off.into()), run(Some("loss.sum"), Opt::Off.into()));
        for opt in [Opt::Greedy, Opt::Egg] {
            let exact = Options { rules: Legality::Exact, ..opt.into() };
            for (name, have) in run(None, exact.clone()) {
                assert_eq!(differ(&have, &written[&name]), None, "{name}, {opt}");
            }
            for (name, have) in run(Some("loss.sum"), exact.clone()) {
                assert!(difference(&have, &gradients[&name]) < 2e-6, "{name}, {opt}");
            }
        }
    }
}

/// `--rules` reaches the rules of every command, and a class that is none is told what there is.
#[cfg(feature = "llvm")]
#[test]
fn rules_can_be_held_to_a_class() {
    use crate::cli::{fails, works};
    let fused = |rules: &str| works(&["dump", "gpt2", "--set", "n_layer=1", "--stage", "fused", "--rules", rules]);
    assert!(fused("all").contains("attention[") && fused("approximate") == fused("all"));
    assert!(!fused("exact").contains("attention[") && fused("exact").contains("exp "));
    // GELU's tanh form is the one composite of the model whose rule approximates
    assert!(fused("reassociates").contains("attention[") && !fused("reassociates").contains("gelu"));
    fails(&["explain", "gpt2", "attention", "--set", "n_layer=1", "--rules", "exact"], &["nothing in gpt2 became attention"]);
    let out = crate::cli::eggcorn(&["run", "gpt2", "--rules", "sound"]);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && error.contains("'sound' is no class of rules: expected exact, reassociates or approximate"), "{error}");
}
