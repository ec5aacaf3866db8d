//! What extraction chooses and why: against every plan there is, against costs computed by hand.

use crate::common::Random;
use ir::{Builder, DType, Dim, Graph, Op, Type, infer};
use passes::{Choice, Choices, Fuser, Machine, Method, Opt, Plan, Saveable, cheapest_cut, fuse, rules};

/// Every plan of a small problem: a choice, or none, for each class.
fn plans(p: &Choices) -> Vec<Plan> {
    p.classes.iter().fold(vec![vec![]], |plans, choices| {
        let options = || (0..choices.len()).chain([usize::MAX]);
        plans.iter().flat_map(|plan: &Plan| options().map(|i| plan.iter().copied().chain([i]).collect())).collect()
    })
}

/// What a plan costs, by following it from what is wanted; `None` where it is not one.
fn cost(p: &Choices, plan: &Plan) -> Option<f64> {
    fn visit(p: &Choices, plan: &Plan, c: usize, open: &mut Vec<usize>, done: &mut Vec<usize>) -> Option<f64> {
        if open.contains(&c) {
            return None;
        }
        if done.contains(&c) {
            return Some(0.0);
        }
        open.push(c);
        let choice = p.classes[c].get(plan[c])?;
        let mut sum = choice.cost;
        for n in &choice.needs {
            sum += visit(p, plan, *n, open, done)?;
        }
        open.pop();
        done.push(c);
        Some(sum)
    }
    let mut done = vec![];
    p.wanted.iter().try_fold(0.0, |sum, w| Some(sum + visit(p, plan, *w, &mut vec![], &mut done)?))
}

/// A problem of a few classes whose choices need others anywhere, so that there are cycles, at costs that are whole numbers, so that there
/// are ties.
fn random(r: &mut Random) -> Choices {
    let n = 2 + r.below(5);
    let choice = |r: &mut Random| {
        let mut needs: Vec<usize> = (0..r.below(3)).map(|_| r.below(n)).collect();
        needs.sort_unstable();
        needs.dedup();
        Choice { cost: r.below(4) as f64, needs }
    };
    let classes = (0..n).map(|_| (0..r.below(3) + 1).map(|_| choice(r)).collect()).collect();
    let wanted = if r.below(3) == 0 { vec![0, 1] } else { vec![0] };
    Choices { classes, wanted }
}

#[test]
fn no_plan_is_cheaper() {
    let (mut solved, mut cyclic) = (0, 0);
    for seed in 0..3000 {
        let p = random(&mut Random(seed * 100));
        let all: Vec<(Plan, f64)> = plans(&p).into_iter().filter_map(|plan| cost(&p, &plan).map(|c| (plan, c))).collect();
        let Some(best) = all.iter().map(|a| a.1).min_by(f64::total_cmp) else { continue };
        let (plan, method) = p.solve();
        assert_eq!(cost(&p, &plan), Some(best), "seed {seed}: {p:?} by {plan:?}");
        assert_eq!((p.cost(&plan), method), (best, Method::Exact), "seed {seed}");
        solved += 1;
        cyclic += usize::from(plans(&p).iter().any(|plan| cost(&p, plan).is_none() && !plan.contains(&usize::MAX)));
    }
    assert!(solved > 1500 && cyclic > 500, "{solved} problems have a plan, {cyclic} of them a cycle");
}

/// A plan that costs the same is not taken where one class alone could change to an earlier choice, of those that cost no more.
#[test]
fn ties_are_broken_in_order() {
    let tie = |needs: [usize; 2]| vec![Choice { cost: 1.0, needs: vec![needs[0]] }, Choice { cost: 1.0, needs: vec![needs[1]] }];
    let leaf = |cost: f64| vec![Choice { cost, needs: vec![] }];
    for (a, b, first) in [(2.0, 2.0, 0), (3.0, 2.0, 1), (2.0, 3.0, 0)] {
        let p = Choices { classes: vec![tie([1, 2]), leaf(a), leaf(b)], wanted: vec![0] };
        assert_eq!(p.solve().0[0], first, "{a} and {b}");
    }
    // of choices alike in all, the first; a dearer one that needs less costs what it costs
    let p = Choices { classes: vec![tie([1, 1]), leaf(1.0)], wanted: vec![0] };
    assert_eq!(p.solve().0, [0, 0]);
    let p = Choices { classes: vec![vec![Choice { cost: 1.0, needs: vec![1] }, Choice { cost: 1.5, needs: vec![] }], leaf(1.0)], wanted: vec![0] };
    assert_eq!(p.solve().0, [1, usize::MAX]);
    for seed in 0..500 {
        let p = random(&mut Random(seed * 77));
        assert_eq!(p.solve().0, p.solve().0, "the same again");
    }
}

/// Many problems side by side are solved as each alone. One value that all could share does not make them one, where nobody takes it;
/// where it pays, all take it.
#[test]
fn copies_are_decided_apart() {
    let leaf = |cost: f64| vec![Choice { cost, needs: vec![] }];
    let copies = 400;
    // a copy costs 3; or `with_hub` and a hub; or ¾ and ½ of its own
    for (with_hub, hub, each, method) in
        [(2.0, 0.5, 1.25, Method::Exact), (1.25, 0.5, 1.25, Method::Exact), (0.25, 5.0, 0.25 + 5.0 / 400.0, Method::Climb)]
    {
        let mut classes = vec![vec![Choice { cost: 0.0, needs: (1..=copies).collect() }]];
        let (at_hub, own) = (1 + copies, 2 + copies);
        classes.extend((0..copies).map(|i| {
            let ways = [(3.0, vec![]), (with_hub, vec![at_hub]), (0.75, vec![own + i])];
            ways.map(|(cost, needs)| Choice { cost, needs }).to_vec()
        }));
        classes.push(leaf(hub));
        classes.extend((0..copies).map(|_| leaf(0.5)));
        let p = Choices { classes, wanted: vec![0] };
        let (plan, how) = p.solve();
        assert!((p.cost(&plan) - each * 400.0).abs() < 1e-9 && how == method, "{} by {how:?}, not {each} a copy by {method:?}", p.cost(&plan));
    }
}

/// What each of several users alone would not pay for, all together take: one value that costs 5 instead of 3 for each.
#[test]
fn climbing_shares_what_pays_together() {
    for (users, shared, want) in [(300, 5.0, 5.0), (300, 1e4, 900.0), (250, 749.0, 749.0), (250, 751.0, 750.0)] {
        let mut classes = vec![vec![Choice { cost: 0.0, needs: (1..=users).collect() }]];
        let own = |_| vec![Choice { cost: 0.0, needs: vec![users + 1] }, Choice { cost: 3.0, needs: vec![] }];
        classes.extend((0..users).map(own));
        classes.push(vec![Choice { cost: shared, needs: vec![] }]);
        let p = Choices { classes, wanted: vec![0] };
        let (plan, _) = p.solve();
        assert_eq!(cost(&p, &plan), Some(want), "{users} users of {shared}");
    }
}

/// What one step gained, the next keeps: each of many pairs can share a value that one of the two has anyway.
#[test]
fn climbing_keeps_what_it_gained() {
    let pairs = 150;
    let (hub, first) = (1, 2);
    let mut classes = vec![vec![Choice { cost: 0.0, needs: (0..pairs).flat_map(|i| [first + 3 * i, first + 3 * i + 1]).collect() }]];
    // what all pairs share, so that they are one problem
    classes.push(vec![Choice { cost: 0.1, needs: vec![] }]);
    for i in 0..pairs {
        let (user, value) = (first + 3 * i, first + 3 * i + 2);
        assert_eq!(classes.len(), user);
        classes.push(vec![Choice { cost: 0.0, needs: vec![value] }, Choice { cost: 100.0, needs: vec![] }]);
        classes.push(vec![Choice { cost: 1.0, needs: vec![hub, value] }, Choice { cost: 2.0, needs: vec![] }]);
        classes.push(vec![Choice { cost: 5.0, needs: vec![] }]);
    }
    let p = Choices { classes, wanted: vec![0] };
    let (plan, method) = p.solve();
    assert!((p.cost(&plan) - (150.0 * 6.0 + 0.1)).abs() < 1e-6 && method == Method::Climb, "{} by {method:?}", p.cost(&plan));
}

/// Whether what is read can be had from what is saved.
fn suffices(values: &[Saveable], saved: &[bool]) -> bool {
    let mut there = vec![false; values.len()];
    for (i, v) in values.iter().enumerate() {
        there[i] = saved[i] || (!v.once && v.needs.iter().all(|n| there[*n]));
    }
    values.iter().zip(&there).all(|(v, there)| !v.read || *there)
}

/// The values that are computed again.
fn again(values: &[Saveable], saved: &[usize]) -> usize {
    let mut stack: Vec<usize> = (0..values.len()).filter(|i| values[*i].read).collect();
    let mut seen = vec![false; values.len()];
    while let Some(v) = stack.pop() {
        if !saved.contains(&v) && !std::mem::replace(&mut seen[v], true) {
            stack.extend(&values[v].needs);
        }
    }
    seen.iter().filter(|s| **s).count()
}

#[test]
fn no_cut_saves_fewer_bytes() {
    let mut cut_something = 0;
    for seed in 0..2000 {
        let mut r = Random(seed * 100);
        let n = 1 + r.below(9);
        let values: Vec<Saveable> = (0..n)
            .map(|i| {
                let mut needs: Vec<usize> = if i == 0 { vec![] } else { (0..r.below(3)).map(|_| r.below(i)).collect() };
                needs.sort_unstable();
                needs.dedup();
                Saveable { bytes: (r.below(8) > 0).then(|| 1 + r.below(6) as u64), once: r.below(4) == 0, read: r.below(3) == 0, needs }
            })
            .collect();
        let bytes = |saved: &[usize]| saved.iter().map(|i| values[*i].bytes.unwrap_or(1000)).sum::<u64>();
        let sets = (0..1usize << n).map(|bits| (0..n).filter(|i| bits >> i & 1 == 1).collect::<Vec<usize>>());
        let enough = sets.filter(|s| suffices(&values, &(0..n).map(|i| s.contains(&i)).collect::<Vec<_>>()));
        let best: Vec<Vec<usize>> = {
            let all: Vec<Vec<usize>> = enough.collect();
            let least = all.iter().map(|s| bytes(s)).min().unwrap();
            all.into_iter().filter(|s| bytes(s) == least).collect()
        };
        if bytes(&best[0]) >= 1000 {
            continue;
        }
        let have = cheapest_cut(&values);
        assert!(best.contains(&have), "seed {seed}: saves {have:?}, best are {best:?} of {values:?}");
        let least = best.iter().map(|s| again(&values, s)).min().unwrap();
        assert_eq!(again(&values, &have), least, "seed {seed}: {have:?} of {best:?} computes most again");
        cut_something += usize::from(!have.is_empty());
    }
    assert!(cut_something > 500, "only {cut_something} cuts save anything");
}

/// Each formula with numbers that can be followed: 100 and 10 operations a second, 2 bytes a second, 7 seconds a launch.
#[test]
fn costs_are_as_computed_by_hand() {
    let slow = Machine { products: 100.0, pointwise: 10.0, bytes: 2.0, launch: 7.0 };
    let fast = Machine { bytes: 1e12, ..slow };
    let f = |dims: &[usize]| Type::f32(dims.iter().copied());
    let labels = Type::of(DType::I32, [3usize, 1]);
    let scalar = Type::scalar(DType::F32);
    let (q, k, v, o) = (f(&[3, 2]), f(&[4, 2]), f(&[4, 5]), f(&[3, 5]));
    let cases: &[(&str, &[&Type], f64, f64)] = &[
        // op, operands, seconds where bytes are dear, and where they are free
        ("1.0", &[], 0.0, 0.0),
        ("reshape[6]", &[&f(&[2, 3])], 1e-12, 1e-12),
        ("exp", &[&f(&[2, 3])], 8.0 * 6.0 / 10.0 + 1e-8, 8.0 * 6.0 / 10.0 + 1e-8),
        ("add", &[&f(&[2, 3]), &f(&[3])], 6.0 / 10.0 + 1e-8, 6.0 / 10.0 + 1e-8),
        ("sigmoid", &[&f(&[2, 3])], 10.0 * 6.0 / 10.0 + 0.9e-8, 10.0 * 6.0 / 10.0 + 0.9e-8),
        ("swiglu", &[&f(&[2, 3]), &f(&[2, 3])], 10.5 * 6.0 / 10.0 + 0.9e-8, 10.5 * 6.0 / 10.0 + 0.9e-8),
        ("gelu", &[&f(&[2, 3])], 13.0 * 6.0 / 10.0 + 0.9e-8, 13.0 * 6.0 / 10.0 + 0.9e-8),
        // 2 · 2 · 4 · 3 operations; 6 + 12 + 8 numbers
        ("contract[ac,cb->ab]", &[&f(&[2, 3]), &f(&[3, 4])], 26.0 * 4.0 / 2.0 + 7.0, 48.0 / 100.0 + 7.0),
        // one operation an element that is read; 6 + 2 numbers
        ("sum[-1]", &[&f(&[2, 3])], 8.0 * 4.0 / 2.0 + 7.0, 6.0 / 10.0 + 7.0),
        // 4 operations an element of the result; only the rows are read
        ("softmax", &[&f(&[2, 3])], 6.0 * 4.0 / 2.0 + 7.0, 24.0 / 10.0 + 7.0),
        ("rms_norm", &[&f(&[2, 3]), &scalar], 6.0 * 4.0 / 2.0 + 7.0, 24.0 / 10.0 + 7.0),
        ("rope", &[&f(&[2, 4]), &f(&[2, 2]), &f(&[2, 2])], 2.0 * 8.0 * 4.0 / 2.0 + 7.0, 32.0 / 10.0 + 7.0),
        ("cross_entropy", &[&f(&[3, 5]), &labels], 15.0 * 4.0 / 2.0 + 7.0, 12.0 / 10.0 + 7.0),
        // a table of 8 numbers, 3 indices, 6 results
        ("gather", &[&f(&[4, 2]), &Type::of(DType::I32, [3usize])], 17.0 * 4.0 / 2.0 + 7.0, 7.0),
        // two products of 3 · 4 scores over 2; 6 + 8 + 20 + 1 numbers in, 15 + 3 out
        ("attention[ac,bc,bd->ad|2]", &[&q, &k, &v, &scalar], 53.0 * 4.0 / 2.0 + 7.0, 2.0 * 2.0 * 24.0 / 100.0 + 7.0),
        ("attention[ac,bc,bd->ad|2|causal]", &[&q, &k, &v, &scalar], 53.0 * 4.0 / 2.0 + 7.0, 2.0 * 24.0 / 100.0 + 7.0),
        // five products; also o, the log-sum-exp and do, and three gradients
        (
            "attention_bwd[ac,bc,bd->ad|2]",
            &[&q, &k, &v, &o, &f(&[3]), &o, &scalar],
            (35.0 + 33.0 + 34.0) * 4.0 / 2.0 + 7.0,
            5.0 * 2.0 * 24.0 / 100.0 + 7.0,
        ),
    ];
    for (text, types, dear, free) in cases {
        let op: Op = text.parse().unwrap();
        let ty = infer(&op, types).unwrap();
        for (machine, want) in [(slow, dear), (fast, free)] {
            let have = machine.seconds(&op, types, &ty);
            assert!((have - want).abs() <= 1e-9 * want.abs(), "{text}: {have}, by hand {want}");
        }
    }
}

/// x W + (x A) B as it is, or x (W + A B): whichever is cheaper by hand, on a processor of 200 GFLOP/s in products, 40 elsewhere, 30 GB/s
/// and 3 µs a kernel.
#[test]
fn an_adapter_is_folded_where_that_is_cheaper() {
    let kernel = |flops: f64, rate: f64, numbers: f64| (flops / rate).max(numbers * 4.0 / 30e9) + 3e-6;
    let product = |m: f64, k: f64, n: f64| kernel(2.0 * m * k * n, 200e9, m * k + k * n + m * n);
    let add = |n: f64| n / 40e9 + 1e-8;
    let (c, r) = (256.0, 16.0);
    let mut folded = vec![];
    for t in [1, 16, 64, 128, 256, 512, 1024, 4096] {
        let rows = f64::from(t);
        let apart = product(rows, c, c) + product(rows, c, r) + product(rows, r, c) + add(rows * c);
        let together = product(c, r, c) + add(c * c) + product(rows, c, c);
        let b = Builder::default();
        let s = b.scope();
        let x = s.input("x", DType::F32, [t as usize, 256]);
        let down = x.contract("tc,cr->tr", s.param("a", [256usize, 16]));
        b.output("y", x.contract("tc,cd->td", s.param("w", [256usize, 256])) + down.contract("tr,rd->td", s.param("b", [16usize, 256])));
        let func = fuse(&b.finish().unwrap(), &mut Fuser::new(Opt::Egg, rules::forward())).funcs.pop().unwrap();
        let reads =
            func.nodes.iter().filter(|n| n.op.name() == "contract" && n.args.iter().any(|a| matches!(func.node(*a).op, Op::Input(..)))).count();
        assert_eq!(reads == 1, together < apart, "{t} rows: {together} together, {apart} apart");
        folded.push(reads == 1);
    }
    assert!(folded.contains(&true) && folded.contains(&false), "both forms are chosen somewhere");
}

/// The forward of a loop saves the narrow value from which its backward computes the wide ones again, by hand 4 · 4 bytes an iteration.
#[test]
fn a_loop_saves_what_is_narrow() {
    let text = "\
f0 body(%0: f32[4,1], %1: f32[8]) {
  %2 = mul %0, %1  : f32[4,8]
  %3 = tanh %2     : f32[4,8]
  %4 = sin %3      : f32[4,8]
  %5 = sum[-1] %4  : f32[4,1]
  return %5
}

main(%0 x: f32[4,1]) {
  @w : f32[3,8]
  %1 = repeat[f0,3,1,1] %0, @w : (f32[4,1])
  %2 = get[0] %1 : f32[4,1]
  %3 = sum[-1,-2] %2 : f32[1,1]
  %4 = reshape[] %3 : f32[]
  return loss=%4
}
";
    let graph: Graph = text.parse().unwrap();
    for opt in [Opt::Off, Opt::Egg] {
        let joint = passes::optimize(&graph, Some("loss"), opt).unwrap().joint.unwrap();
        let forward = joint.main().nodes.iter().find(|n| n.op.name() == "repeat").unwrap();
        let kept: Vec<&Type> = forward.ty.parts[1..].iter().collect();
        assert_eq!(kept, [&Type::f32([Dim::from(3usize), Dim::from(4usize), Dim::ONE])], "{opt}:\n{joint}");
    }
}
