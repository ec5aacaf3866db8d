//! Attention of every kind, as people write it: found, whatever its spelling, and it means what was written, forward and backward.

use crate::common::{Random, difference};
use ir::{Builder, DType, Dim, Env, Func, Graph, Op, Scope, Tensor, Type, Value, eval};
use passes::{Opt, fuse, optimize, rules};

/// What stands between the product of queries and keys and the product with values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Plain,
    Causal,
    CausalAdded,
    CausalLowest,
    CausalMinusBillion,
    Padding,
    PaddingAdded,
    PaddingNumbers,
    PaddingAndCausal,
    MaskedTwice,
    Lengths,
    Offset,
    OffsetKnown,
    Window,
    WindowBefore,
    Chunks,
    Prefix,
    Documents,
    Slopes,
    Bias,
    ProjectedBias,
    Bucketed,
    Clamped,
    ClampedColumn,
    Cap,
    CapAndCausal,
    BiasAndCausal,
    Temperature,
    LearnedScale,
    Dropout,
    DropoutMultiplied,
    Sink,
    Everything,
    Difference,
}

use Kind::*;

impl Kind {
    pub const ALL: [Kind; 34] = [
        Plain,
        Causal,
        CausalAdded,
        CausalLowest,
        CausalMinusBillion,
        Padding,
        PaddingAdded,
        PaddingNumbers,
        PaddingAndCausal,
        MaskedTwice,
        Lengths,
        Offset,
        OffsetKnown,
        Window,
        WindowBefore,
        Chunks,
        Prefix,
        Documents,
        Slopes,
        Bias,
        ProjectedBias,
        Bucketed,
        Clamped,
        ClampedColumn,
        Cap,
        CapAndCausal,
        BiasAndCausal,
        Temperature,
        LearnedScale,
        Dropout,
        DropoutMultiplied,
        Sink,
        Everything,
        Difference,
    ];

    /// Whether an operand has a number for each pair of a query and a key as it is written.
    pub fn has_pairs(self) -> bool {
        matches!(self, Bias | BiasAndCausal | ProjectedBias | Bucketed | Clamped | ClampedColumn)
    }
}

/// Sizes: sequences, heads, heads of keys, queries, keys, depth, depth of values.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub b: usize,
    pub h: usize,
    pub kv: usize,
    pub t: usize,
    pub s: usize,
    pub d: usize,
    pub e: usize,
}

/// How it is written.
#[derive(Clone, Copy, Debug)]
pub struct Spelling {
    /// How scores are scaled.
    pub scale: usize,
    /// Whether the largest score is taken off.
    pub shift: bool,
    /// Whether there is a quotient, or a product with a reciprocal.
    pub quotient: bool,
    /// In which order the axes stand.
    pub layout: usize,
}

impl Spelling {
    pub const COUNT: usize = 5 * 2 * 2 * 3;
    pub fn nth(i: usize) -> Spelling {
        Spelling { scale: i % 5, shift: i / 5 % 2 == 1, quotient: i / 10 % 2 == 1, layout: i / 20 % 3 }
    }
}

/// A program of one attention; its result is `y`, its learned operands are parameters.
pub fn program(kind: Kind, n: Sizes, how: Spelling) -> Graph {
    let b = Builder::default();
    let y = written(&b.scope(), kind, n, how);
    b.output("y", y);
    let weights = b.scope().input("weights", DType::F32, y.ty().dims);
    let all: Vec<i8> = (1..=y.ty().rank() as i8).map(|a| -a).collect();
    b.output("loss", (y * weights).sum_axes(&all).reshape(ir::Dims::new()));
    b.finish().unwrap_or_else(|e| panic!("{kind:?} {n:?} {how:?}: {e}"))
}

/// Attention of a kind.
pub fn written<'g>(s: &Scope<'g>, kind: Kind, n: Sizes, how: Spelling) -> Tensor<'g> {
    let (q, k, v) = (s.param("q", [n.b, n.t, n.h, n.d]), s.param("k", [n.b, n.s, n.kv, n.d]), s.param("v", [n.b, n.s, n.kv, n.e]));
    let root = (n.d as f64).sqrt();
    let (q, k) = match how.scale {
        2 => (q * (1.0 / root), k),
        3 => (q * root.sqrt().recip(), k / root.sqrt()),
        _ => (q, k),
    };
    let shared = |x: Tensor<'g>, d: usize| match n.h == n.kv {
        true => x,
        false => x.reshape([n.b, n.s, n.kv, 1, d]).broadcast([n.b, n.s, n.kv, n.h / n.kv, d]).reshape([n.b, n.s, n.h, d]),
    };
    let (k, v) = (shared(k, n.d), shared(v, n.e));
    let turn = |x: Tensor<'g>| x.transpose(&[0, 2, 1, 3]);
    let product = |q: Tensor<'g>| match how.layout {
        0 => turn(q).contract("bhtd,bhds->bhts", turn(k).transpose(&[0, 1, 3, 2])),
        1 => turn(q).contract("bhtd,bhsd->bhts", turn(k)),
        _ => q.contract("bthd,bshd->bhts", k),
    };
    let scaled = |x: Tensor<'g>| match how.scale {
        0 => x * (1.0 / root),
        1 => x / root,
        _ => x,
    };
    let softmax = |x: Tensor<'g>| {
        let e = if how.shift { (x - x.max()).exp() } else { x.exp() };
        if how.quotient { e / e.sum() } else { e * e.sum().recip() }
    };
    let scores = scaled(product(q));
    let p = match kind {
        Sink => {
            let sink = s.param("sink", [n.h, 1, 1]).broadcast([n.b, n.h, n.t, 1]);
            softmax(scores.concat(-1, sink)).slice(-1, 0, n.s)
        }
        Difference => softmax(scores) - softmax(scaled(product(s.param("q2", [n.b, n.t, n.h, n.d])))) * s.param("lambda", [n.h, 1, 1]),
        Dropout | DropoutMultiplied | Everything => dropped(s, softmax(scored(s, kind, n, scores)), kind),
        _ => softmax(scored(s, kind, n, scores)),
    };
    match how.layout {
        2 => p.contract("bhts,bshe->bthe", v),
        _ => turn(p.contract("bhts,bhse->bhte", turn(v))),
    }
}

/// Probabilities of which a third is dropped.
fn dropped<'g>(s: &Scope<'g>, p: Tensor<'g>, kind: Kind) -> Tensor<'g> {
    let bits = s.input("key", DType::U32, ir::Dims::new()).apply(Op::RandomBits(p.ty().dims), &[]);
    let keep = s.uint(u32::MAX / 3).le(bits);
    if kind == DropoutMultiplied { p * (keep.cast(DType::F32) * 1.5) } else { keep.select(p * 1.5, s.num(0.0)) }
}

/// The scores that a softmax sees.
fn scored<'g>(s: &Scope<'g>, kind: Kind, n: Sizes, x: Tensor<'g>) -> Tensor<'g> {
    let (i, j, lowest, no) = (s.iota(-2, n.t), s.iota(-1, n.s), s.num(f64::NEG_INFINITY), s.num(0.0));
    let flags = |name: &str| s.int(0).lt(s.input(name, DType::I32, [n.b, n.s])).reshape([n.b, 1, 1, n.s]);
    let yes = |x: bool| s.int(0).le(s.int(i32::from(x) - 1));
    let and = |a: Tensor<'g>, b: Tensor<'g>| a.select(b, yes(false));
    let distance = || (j - i).cast(DType::F32);
    let far = |limit: f64| distance().maximum(s.num(-limit)).minimum(s.num(limit)).cast(DType::I32) + s.int(limit as i32);
    match kind {
        Plain | Dropout | DropoutMultiplied | Sink | Difference => x,
        Causal => j.le(i).select(x, lowest),
        CausalAdded => x + j.le(i).select(no, lowest),
        CausalLowest => j.le(i).select(x, s.num(f64::from(f32::MIN))),
        CausalMinusBillion => x + i.lt(j).select(s.num(-1e9), no),
        Padding => flags("flags").select(x, lowest),
        PaddingAdded => x + flags("flags").select(no, lowest),
        PaddingNumbers => x + (-s.input("mask", DType::F32, [n.b, 1, 1, n.s]) + 1.0) * f64::from(f32::MIN),
        PaddingAndCausal => and(flags("flags"), j.le(i)).select(x, lowest),
        MaskedTwice => flags("flags").select(i.lt(j).select(lowest, x), lowest),
        Lengths => j.lt(s.input("lengths", DType::I32, [n.b, 1, 1, 1])).select(x, lowest),
        Offset => j.le(i + s.input("position", DType::I32, ir::Dims::new())).select(x, lowest),
        OffsetKnown => (j - i).le(s.int(2)).select(x, lowest),
        Window => and(j.le(i), i.lt(j + s.int(3))).select(x, lowest),
        WindowBefore => j.le(i).select((i - j).lt(s.int(4)).select(x, lowest), lowest),
        Chunks => s.input("chunk", DType::I32, [n.t, 1]).equals(s.input("chunks", DType::I32, [n.s])).select(x, lowest),
        Prefix => j.le(i).select(yes(true), j.lt(s.int(3))).select(x, lowest),
        Documents => {
            let of = |name: &str, len: usize| s.input(name, DType::I32, [n.b, len]);
            let same = of("document", n.t).reshape([n.b, 1, n.t, 1]).equals(of("documents", n.s).reshape([n.b, 1, 1, n.s]));
            and(same, j.le(i)).select(x, lowest)
        }
        Slopes => x + s.param("slopes", [n.h, 1, 1]) * distance(),
        Bias => x + s.param("bias", [n.h, n.t, n.s]),
        ProjectedBias => x + s.param("left", [n.t, n.h, 3]).contract("thc,shc->hts", s.param("right", [n.s, n.h, 3])),
        Bucketed => x + s.param("table", [7, n.h]).gather(far(3.0)).transpose(&[2, 0, 1]),
        Clamped => x + s.param("table", [7usize]).gather(far(3.0)),
        ClampedColumn => x + s.param("table", [7usize, 1]).gather(far(3.0)).reshape([n.t, n.s]),
        Cap => (x / 5.0).tanh() * 5.0,
        CapAndCausal => j.le(i).select((x * 0.2).tanh() * 5.0, lowest),
        BiasAndCausal => i.lt(j).select(lowest, x + s.param("bias", [n.b, n.h, n.t, n.s])),
        Temperature => x * s.param("temperature", [n.h, 1, 1]),
        LearnedScale => x * s.param("factor", [1usize]),
        Everything => {
            let x = (x / 3.0).tanh() * 3.0 * s.param("temperature", [n.h, 1, 1]) + s.param("slopes", [n.h, 1, 1]) * distance();
            and(flags("flags"), j.le(i + s.input("position", DType::I32, ir::Dims::new()))).select(x, lowest)
        }
    }
}

/// Values for a program: whole numbers that make sense for what they are called.
pub fn values(graph: &Graph, seed: u32) -> Env {
    let mut r = Random(seed.wrapping_mul(1000));
    let inputs = graph.inputs.iter().cloned().zip(graph.main().inputs());
    let all: Vec<(String, Type)> = inputs.chain(graph.params().into_iter().map(|(n, t)| (n.to_string(), t))).collect();
    let value = |r: &mut Random, name: &str, ty: &Type| {
        let one = |r: &mut Random| match name {
            "flags" => f64::from(r.below(3) > 0),
            "mask" => f64::from(r.below(3) > 0),
            "lengths" => r.below(ty.count() + 7) as f64,
            "position" => r.below(4) as f64 - 1.0,
            "key" => f64::from(r.bits()),
            _ if ty.dtype == DType::I32 => r.below(3) as f64,
            _ => 2.0 * r.unit(),
        };
        Value::new(ty.sizes(), (0..ty.count()).map(|_| one(r)).collect())
    };
    all.into_iter()
        .map(|(name, ty)| {
            let v = value(&mut r, &name, &ty);
            (name, v)
        })
        .collect()
}

/// The same values, but that every row sees a key: what was written has no gradient where one does not.
pub fn all_seen(mut env: Env) -> Env {
    for (name, value) in &mut env {
        match name.as_str() {
            "lengths" => value.data.fill(4.0),
            "flags" | "mask" | "document" | "documents" | "chunk" | "chunks" => value.data.fill(1.0),
            "position" => value.data.fill(0.0),
            _ => {}
        }
    }
    env
}

fn count(func: &Func, name: &str) -> usize {
    func.nodes.iter().filter(|n| n.op.name() == name).count()
}

/// Values of a function that have a number for each pair of a query and a key.
fn pairs(func: &Func, n: Sizes) -> usize {
    let (t, s) = (Dim::from(n.t), Dim::from(n.s));
    func.nodes.iter().filter(|node| node.ty.rank() >= 2 && node.ty.dims.contains(&t) && node.ty.dims.contains(&s) && node.ty.count() > 1).count()
}

const ODD: Sizes = Sizes { b: 2, h: 4, kv: 4, t: 5, s: 7, d: 3, e: 3 };

#[test]
fn every_kind_is_found_in_every_spelling() {
    let (mut missed, mut tried) = (vec![], 0);
    for kind in Kind::ALL {
        for grouped in [false, true] {
            for i in 0..Spelling::COUNT {
                let (n, how) = (Sizes { kv: if grouped { 2 } else { 4 }, ..ODD }, Spelling::nth(i));
                let graph = program(kind, n, how).keep_outputs(&["y"]);
                let mut fuser = passes::Fuser::new(Opt::Egg, rules::forward());
                let out = fuse(&graph, &mut fuser);
                let func = out.main();
                let wanted = if kind == Difference { 2 } else { 1 };
                let whole = count(func, "attention") == wanted && count(func, "softmax") + count(func, "exp") == 0;
                let free = kind.has_pairs() || pairs(func, n) == 0;
                tried += 1;
                if !whole || !free {
                    missed.push((kind, n.kv, how));
                }
            }
        }
    }
    assert!(tried >= 2000, "{tried} ways to write attention");
    let kinds: std::collections::BTreeSet<String> = missed.iter().map(|m| format!("{:?}", m.0)).collect();
    assert!(missed.is_empty(), "{} of {tried} spellings missed, of {kinds:?}, first {:?}", missed.len(), missed[0]);
}

/// A written row that sees no key is 0/0; attention gives 0 there, and no gradient.
pub fn stated(written: &Value) -> Value {
    Value { data: written.data.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect(), ..written.clone() }
}

#[test]
fn every_kind_means_what_was_written() {
    for kind in Kind::ALL {
        for (i, n) in [ODD, Sizes { kv: 2, e: 6, ..ODD }, Sizes { b: 1, h: 1, kv: 1, t: 1, s: 1, d: 1, e: 1 }, Sizes { t: 8, s: 8, ..ODD }]
            .into_iter()
            .enumerate()
        {
            let graph = program(kind, n, Spelling::nth(i * 7)).keep_outputs(&["y"]);
            let found = optimize(&graph, None, Opt::Egg).unwrap();
            let env = values(&graph, i as u32);
            let (have, want) = (&eval(found.last(), &env).unwrap()["y"], &eval(&graph, &env).unwrap()["y"]);
            let worst = difference(have, &stated(want));
            assert!(worst < 1e-9, "{kind:?} {n:?}: {worst}\n{}", found.last());
        }
    }
}

/// The largest difference of two values; NaN beside one.
fn largest(a: &Value, b: &Value) -> f64 {
    a.data.iter().zip(&b.data).map(|(x, y)| (x - y).abs()).fold(0.0, |m, d| if d > m || d.is_nan() { d } else { m })
}

#[test]
fn every_kind_has_its_gradients() {
    for kind in Kind::ALL {
        for (i, n) in [ODD, Sizes { kv: 2, e: 6, ..ODD }, Sizes { b: 1, h: 1, kv: 1, t: 1, s: 1, d: 1, e: 1 }].into_iter().enumerate() {
            let graph = program(kind, n, Spelling::nth(i * 5 + 1));
            let found = optimize(&graph, Some("loss"), Opt::Egg).unwrap();
            let written = optimize(&graph, Some("loss"), Opt::Off).unwrap();
            let env = all_seen(values(&graph, i as u32));
            let (have, want) = (eval(found.last(), &env).unwrap(), eval(written.last(), &env).unwrap());
            let mut names: Vec<&String> = want.keys().collect();
            names.sort();
            for name in names {
                // of one key alone the gradients of scores are 0, but for rounding
                let worst = difference(&have[name], &want[name]);
                assert!(worst < 1e-9 || largest(&have[name], &want[name]) < 1e-9, "{kind:?} {n:?} {name}: {worst}\n{}", found.last());
            }
            let func = found.last().main();
            assert!(count(func, "attention_bwd") >= 1, "{kind:?}: the backward is attention's\n{}", found.last());
            assert!(kind.has_pairs() || n.t == 1 || pairs(func, n) == 0, "{kind:?}: no value of pairs\n{}", found.last());
        }
    }
}
