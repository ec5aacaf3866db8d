//! What a training step does to parameters, against plain arithmetic in `f64` written here.

use crate::common::Random;
use ir::{Env, Graph, Type, Value, eval};
use passes::{AdamW, Group, Optimizer, Sgd, Update, Which, train_step};
use std::collections::BTreeMap;

/// Parameters of every rank, single and stacked, one with no elements and one whose gradient is always 0.
const PARAMS: [(&str, &[usize]); 8] = [
    ("scale", &[]),
    ("bias", &[3]),
    ("weight", &[2, 3]),
    ("cube", &[2, 1, 3]),
    ("h.{}.gain", &[2, 3]),
    ("h.{}.weight", &[2, 3, 2]),
    ("none", &[0]),
    ("still", &[2, 2]),
];

/// What weight decay is for: tensors of two or more axes, not counting the one that stacks layers.
const DECAYED: [&str; 4] = ["weight", "cube", "h.{}.weight", "still"];

/// A program whose gradients, loss and count are inputs, so that a test says what they are.
fn program(params: &[(&str, &[usize])]) -> Graph {
    let mut inputs: Vec<String> = params.iter().map(|(n, d)| format!("g.{n}: {}", Type::f32(d.to_vec()))).collect();
    inputs.extend(["sum: f32[]".into(), "count: f32[]".into()]);
    let inputs: Vec<String> = inputs.iter().enumerate().map(|(i, t)| format!("%{i} {t}")).collect();
    let state: String = params.iter().map(|(n, d)| format!("  @{n} : {}\n", Type::f32(d.to_vec()))).collect();
    let grads: String = params.iter().enumerate().map(|(i, (n, _))| format!(", grad.{n}=%{i}, now.{n}=@{n}")).collect();
    let n = params.len();
    format!("main({}) {{\n{state}  return loss.sum=%{n}, loss.count=%{}{grads}\n}}\n", inputs.join(", "), n + 1).parse().unwrap()
}

/// Tensors by name, flat.
type Tensors = BTreeMap<String, Vec<f64>>;

/// What a step is given: gradients of the loss's sum, the sum, the count.
struct Given {
    grads: Tensors,
    sum: f64,
    count: f64,
}

fn given(r: &mut Random, count: f64, size: f64) -> Given {
    let tensor = |r: &mut Random, n: &str, d: &[usize]| {
        let zero = if n == "still" { 0.0 } else { size };
        (0..d.iter().product()).map(|_| f64::from((r.unit() * zero) as f32)).collect()
    };
    let grads = PARAMS.iter().map(|(n, d)| (n.to_string(), tensor(r, n, d))).collect();
    Given { grads, sum: f64::from((r.unit() + 2.0) as f32), count }
}

fn start(r: &mut Random) -> Tensors {
    PARAMS.iter().map(|(n, d)| (n.to_string(), (0..d.iter().product()).map(|_| r.unit()).collect())).collect()
}

/// What plain code makes of a step: the loss, the norm and the new state.
struct Plain {
    params: Tensors,
    first: Tensors,
    second: Tensors,
}

impl Plain {
    fn new(params: Tensors) -> Plain {
        let zeros: Tensors = params.iter().map(|(n, x)| (n.clone(), vec![0.0; x.len()])).collect();
        Plain { params, first: zeros.clone(), second: zeros }
    }

    /// The averaged, clipped gradient; the loss and the norm before the clip.
    fn clipped(given: &Given, limit: f64) -> (Tensors, f64, f64) {
        let share = if given.count > 0.0 { 1.0 / given.count } else { 0.0 };
        let mean: Tensors = given.grads.iter().map(|(n, g)| (n.clone(), g.iter().map(|x| x * share).collect())).collect();
        let norm = mean.values().flatten().map(|x| x * x).sum::<f64>().sqrt();
        let factor = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) } else { 1.0 };
        (mean.into_iter().map(|(n, g)| (n, g.iter().map(|x| x * factor).collect())).collect(), given.sum * share, norm)
    }

    /// PyTorch's `AdamW`, line by line.
    fn adamw(&mut self, grads: &Tensors, o: AdamW, lr: f64, step: i32) {
        for (name, p) in &mut self.params {
            let decay = if DECAYED.contains(&name.as_str()) { o.weight_decay } else { 0.0 };
            let (m, v) = (self.first.get_mut(name).unwrap(), self.second.get_mut(name).unwrap());
            for i in 0..p.len() {
                let g = grads[name][i];
                p[i] *= 1.0 - lr * decay;
                m[i] = o.beta1 * m[i] + (1.0 - o.beta1) * g;
                v[i] = o.beta2 * v[i] + (1.0 - o.beta2) * g * g;
                let (c1, c2) = (1.0 - o.beta1.powi(step), 1.0 - o.beta2.powi(step));
                p[i] -= lr / c1 * m[i] / (v[i].sqrt() / c2.sqrt() + o.eps);
            }
        }
    }

    /// PyTorch's `SGD`.
    fn sgd(&mut self, grads: &Tensors, o: Sgd, lr: f64) {
        for (name, p) in &mut self.params {
            let m = self.first.get_mut(name).unwrap();
            for i in 0..p.len() {
                m[i] = o.momentum * m[i] + grads[name][i] + o.weight_decay * p[i];
                p[i] -= lr * m[i];
            }
        }
    }
}

/// The step of a program as it is meant, by evaluation; the state goes round.
struct Meant {
    graph: Graph,
    state: Tensors,
}

impl Meant {
    fn new(update: &Update, params: &Tensors) -> Meant {
        let graph = train_step(&program(&PARAMS), update).unwrap();
        ir::verify(&graph).unwrap();
        let state = graph.params().iter().map(|(n, ty)| (n.to_string(), params.get(n.as_ref()).cloned().unwrap_or(vec![0.0; ty.count()]))).collect();
        Meant { graph, state }
    }

    /// The loss and the norm.
    fn step(&mut self, given: &Given, lr: f64, step: f64) -> (f64, f64) {
        let mut env: Env = Env::new();
        let scalar = |x: f64| Value::new(vec![], vec![x]);
        env.extend([("sum", given.sum), ("count", given.count), ("lr", lr), ("step", step)].map(|(n, x)| (n.to_string(), scalar(x))));
        for (name, dims) in PARAMS {
            env.insert(format!("g.{name}"), Value::new(dims.to_vec(), given.grads[name].clone()));
        }
        for (name, ty) in self.graph.params() {
            env.insert(name.to_string(), Value::new(ty.sizes(), self.state[name.as_ref()].clone()));
        }
        let results = eval(&self.graph, &env).unwrap();
        for (name, value) in &results {
            if let Some(state) = name.strip_prefix('@') {
                self.state.insert(state.into(), value.data.clone());
            }
        }
        (results["loss"].data[0], results["grad_norm"].data[0])
    }
}

#[track_caller]
fn near(what: &str, have: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(have.len(), want.len(), "{what}");
    for (h, w) in have.iter().zip(want) {
        assert!((h - w).abs() <= tolerance * w.abs().max(1e-3), "{what}: {h}, expected {w}");
    }
}

const RATES: [f64; 5] = [1e-2, 0.3, 0.0, 1e-4, 1.0];

#[test]
fn adamw_is_pytorchs() {
    let settings = [
        AdamW::default(),
        AdamW { beta1: 0.0, beta2: 0.0, eps: 1e-3, weight_decay: 0.0 },
        AdamW { beta1: 0.5, beta2: 0.95, eps: 0.1, weight_decay: 0.7 },
    ];
    // no limit, one that is reached and one that is not; counts of tokens
    for (i, (limit, count, size)) in [(0.0, 1.0, 1.0), (1.0, 4.0, 10.0), (1.0, 64.0, 0.5), (0.01, 3.0, 1.0)].into_iter().enumerate() {
        for o in settings {
            let mut r = Random(100 * i as u32);
            let params = start(&mut r);
            let update = Update { grad_clip: limit, ..Update::adamw(o) };
            let (mut plain, mut meant) = (Plain::new(params.clone()), Meant::new(&update, &params));
            for (step, lr) in RATES.into_iter().enumerate() {
                let given = given(&mut r, count, size);
                let (grads, loss, norm) = Plain::clipped(&given, limit);
                plain.adamw(&grads, o, lr, step as i32 + 1);
                let (l, n) = meant.step(&given, lr, step as f64 + 1.0);
                near("loss and norm", &[l, n], &[loss, norm], 1e-12);
                for (name, _) in PARAMS {
                    let state = |prefix: &str| &meant.state[&format!("{prefix}{name}")];
                    near(name, state(""), &plain.params[name], 1e-10);
                    near(&format!("m of {name}"), state("adamw.m."), &plain.first[name], 1e-10);
                    near(&format!("v of {name}"), state("adamw.v."), &plain.second[name], 1e-10);
                }
            }
        }
    }
}

/// The correction of means that started as 0, at steps that are far from the first.
#[test]
fn bias_is_corrected_at_every_step() {
    for o in [AdamW::default(), AdamW { beta2: 0.99, ..AdamW::default() }] {
        for step in [1, 2, 3, 100, 100_000] {
            let mut r = Random(step);
            let params = start(&mut r);
            let (mut plain, mut meant) = (Plain::new(params.clone()), Meant::new(&Update { grad_clip: 0.0, ..Update::adamw(o) }, &params));
            let given = given(&mut r, 1.0, 1.0);
            plain.adamw(&given.grads, o, 0.1, step as i32);
            meant.step(&given, 0.1, f64::from(step));
            PARAMS.iter().for_each(|(name, _)| near(name, &meant.state[*name], &plain.params[*name], 1e-10));
        }
    }
}

#[test]
fn sgd_is_pytorchs() {
    for (o, limit) in [
        (Sgd::default(), 1.0),
        (Sgd { momentum: 0.0, weight_decay: 0.0 }, 0.0),
        (Sgd { momentum: 0.0, weight_decay: 0.2 }, 0.5),
        (Sgd { momentum: 0.7, weight_decay: 0.1 }, 0.0),
    ] {
        let mut r = Random(7);
        let params = start(&mut r);
        let update = Update { groups: vec![Group::new(Which::all(), Optimizer::Sgd(o))], grad_clip: limit, accumulate: 1 };
        let (mut plain, mut meant) = (Plain::new(params.clone()), Meant::new(&update, &params));
        for (step, lr) in RATES.into_iter().enumerate() {
            let given = given(&mut r, 3.0, 2.0);
            let (grads, ..) = Plain::clipped(&given, limit);
            plain.sgd(&grads, o, lr);
            meant.step(&given, lr, step as f64 + 1.0);
            for (name, _) in PARAMS {
                near(name, &meant.state[name], &plain.params[name], 1e-12);
                match meant.state.get(&format!("sgd.m.{name}")) {
                    Some(m) => near(&format!("momentum of {name}"), m, &plain.first[name], 1e-12),
                    None => assert_eq!(o.momentum, 0.0, "without momentum nothing is kept"),
                }
            }
        }
    }
}

/// Nothing was asked: the loss is 0, parameters only decay, nothing is NaN.
#[test]
fn a_step_that_asks_nothing_learns_nothing() {
    let mut r = Random(3);
    let params = start(&mut r);
    let mut meant = Meant::new(&Update::default(), &params);
    let nothing = Given { grads: params.iter().map(|(n, x)| (n.clone(), vec![0.0; x.len()])).collect(), sum: 0.0, count: 0.0 };
    assert_eq!(meant.step(&nothing, 0.5, 1.0), (0.0, 0.0));
    for (name, p) in &params {
        let kept = if DECAYED.contains(&name.as_str()) { 1.0 - 0.5 * 0.1 } else { 1.0 };
        near(name, &meant.state[name], &p.iter().map(|x| x * kept).collect::<Vec<_>>(), 1e-15);
    }
}

/// The first group that holds a parameter updates it, at its share of the rate; what no group holds is not updated and nothing is kept for it.
#[test]
fn groups_are_asked_in_order() {
    let sgd = |momentum| Optimizer::Sgd(Sgd { momentum, weight_decay: 0.0 });
    let groups = vec![
        Group { lr: 0.25, ..Group::new(Which::path("h.*.gain"), sgd(0.0)) },
        Group::new(Which::path("h.*"), sgd(0.5)),
        Group { lr: 0.0, ..Group::new(Which { path: "*".into(), rank: 1..=2 }, sgd(0.0)) },
    ];
    let update = Update { groups, grad_clip: 0.0, accumulate: 1 };
    let mut r = Random(9);
    let params = start(&mut r);
    let mut meant = Meant::new(&update, &params);
    let updated: Vec<&str> = meant.graph.outputs.iter().filter_map(|o| o.strip_prefix('@')).collect();
    assert_eq!(updated, ["bias", "weight", "h.{}.gain", "h.{}.weight", "sgd.m.h.{}.weight", "none", "still"]);
    assert!(meant.graph.params().iter().all(|p| !["scale", "cube"].contains(&p.0.as_ref())), "what is frozen is not even read");
    let given = given(&mut r, 2.0, 1.0);
    let (_, norm) = meant.step(&given, 0.1, 1.0);
    let moved = |name: &str, rate: f64| -> Vec<f64> { params[name].iter().zip(&given.grads[name]).map(|(p, g)| p - rate * g / 2.0).collect() };
    for (name, rate) in [("h.{}.gain", 0.025), ("h.{}.weight", 0.1), ("bias", 0.0), ("weight", 0.0)] {
        near(name, &meant.state[name], &moved(name, rate), 1e-14);
    }
    // the norm is of what is trained alone
    let trained = ["bias", "weight", "h.{}.gain", "h.{}.weight"];
    near("norm", &[norm], &[trained.iter().flat_map(|n| &given.grads[*n]).map(|g| g * g / 4.0).sum::<f64>().sqrt()], 1e-14);
}

#[test]
fn patterns_of_paths() {
    let ty = Type::f32([2usize, 3]);
    let holds = |pattern: &str, path: &str| Which::path(pattern).holds(path, &ty);
    for (pattern, path) in [
        ("*", ""),
        ("*", "a"),
        ("a", "a"),
        ("a*", "a"),
        ("a*", "abc"),
        ("*c", "abc"),
        ("a*c", "ac"),
        ("a*c", "abcbc"),
        ("a*b*c", "axbyc"),
        ("h.*.w", "h.{}.w"),
        ("*é", "né"),
    ] {
        assert!(holds(pattern, path), "{pattern} {path}");
    }
    for (pattern, path) in [("", "a"), ("a", "ab"), ("a", "ba"), ("a*c", "abcd"), ("a*a", "a"), ("*b", "abc"), ("a*b*c", "acb")] {
        assert!(!holds(pattern, path), "{pattern} {path}");
    }
    // the axis that stacks layers does not count
    for (path, dims, matrix) in [
        ("w", &[][..] as &[usize], false),
        ("w", &[3], false),
        ("w", &[3, 1], true),
        ("h.{}.w", &[3, 1], false),
        ("h.{}.w", &[3, 1, 1], true),
        ("h.{}.{}.w", &[2, 3, 1], false),
    ] {
        let ty = Type::f32(dims.to_vec());
        assert_eq!((Which::matrices().holds(path, &ty), Which::vectors().holds(path, &ty)), (matrix, !matrix), "{path} {dims:?}");
    }
    // only floats of 32 bits are trained
    for dtype in [ir::DType::I32, ir::DType::U32, ir::DType::Bool, ir::DType::BF16] {
        assert!(!Which::all().holds("w", &Type::of(dtype, [2usize])));
    }
}

#[test]
fn settings_have_ranges() {
    let adamw = AdamW::default();
    let good = [
        Update::default(),
        Update { accumulate: 4096, ..Update::default() },
        Update { grad_clip: 0.0, ..Update::default() },
        Update::adamw(AdamW { beta1: 0.0, beta2: 0.9999, eps: 1.0, weight_decay: 0.0 }),
    ];
    good.iter().for_each(|u| u.check().unwrap());
    let bad = [
        (Update { accumulate: 0, ..Update::default() }, "accumulate is 0"),
        (Update { accumulate: 4097, ..Update::default() }, "accumulate is 4097"),
        (Update { grad_clip: -1.0, ..Update::default() }, "grad_clip is -1"),
        (Update { grad_clip: f64::NAN, ..Update::default() }, "grad_clip is NaN"),
        (Update { grad_clip: 1e300, ..Update::default() }, "grad_clip is 1"),
        (Update::adamw(AdamW { beta1: 1.0, ..adamw }), "beta1 is 1"),
        (Update::adamw(AdamW { beta1: -0.1, ..adamw }), "beta1 is -0.1"),
        (Update::adamw(AdamW { beta2: f64::NAN, ..adamw }), "beta2 is NaN"),
        (Update::adamw(AdamW { beta2: 1.0 - 1e-12, ..adamw }), "beta2 is 0.99"),
        (Update::adamw(AdamW { eps: 0.0, ..adamw }), "eps is 0"),
        (Update::adamw(AdamW { eps: 1e-60, ..adamw }), "eps is 0.0000"),
        (Update::adamw(AdamW { eps: 2.0, ..adamw }), "eps is 2"),
        (Update::adamw(AdamW { eps: f64::NAN, ..adamw }), "eps is NaN"),
        (Update::adamw(AdamW { weight_decay: -1.0, ..adamw }), "weight_decay is -1"),
        (Update::adamw(AdamW { weight_decay: f64::INFINITY, ..adamw }), "weight_decay is inf"),
    ];
    for (update, words) in bad {
        let error = train_step(&program(&PARAMS), &update).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let sgd = |momentum, weight_decay, lr| Update {
        groups: vec![Group { lr, ..Group::new(Which::all(), Optimizer::Sgd(Sgd { momentum, weight_decay })) }],
        ..Update::default()
    };
    for (update, words) in [
        (sgd(1.0, 0.0, 1.0), "momentum is 1"),
        (sgd(0.9, -0.5, 1.0), "weight_decay is -0.5"),
        (sgd(0.9, 0.0, -1.0), "share of the learning rate is -1"),
    ] {
        let error = train_step(&program(&PARAMS), &update).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let nobody = Update { groups: vec![Group::new(Which::path("nobody"), Optimizer::AdamW(adamw))], ..Update::default() };
    assert!(train_step(&program(&PARAMS), &nobody).unwrap_err().contains("nothing to train"));
}
