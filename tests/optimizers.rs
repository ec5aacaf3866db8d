//! What a training step does to parameters, against plain arithmetic in `f64` written here.

use crate::common::Random;
use ir::{Env, Graph, Type, Value, eval};
use passes::{Adafactor, Adam, AdamW, Group, Lion, Muon, Optimizer, Outliers, Scale, Sgd, Update, Which, train_step};
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
                let g = grads[name][i] + o.weight_decay * p[i];
                m[i] = o.momentum * m[i] + g;
                p[i] -= lr * if o.nesterov { g + o.momentum * m[i] } else { m[i] };
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
        (Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 }, 0.0),
        (Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.2 }, 0.5),
        (Sgd { momentum: 0.7, nesterov: false, weight_decay: 0.1 }, 0.0),
        (Sgd { momentum: 0.8, nesterov: true, weight_decay: 0.1 }, 1.0),
    ] {
        let mut r = Random(7);
        let params = start(&mut r);
        let update = Update { groups: vec![Group::new(Which::all(), Optimizer::Sgd(o))], grad_clip: limit, ..Update::default() };
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
    let sgd = |momentum| Optimizer::Sgd(Sgd { momentum, ..Sgd::default() });
    let groups = vec![
        Group { lr: 0.25, ..Group::new(Which::path("h.*.gain"), sgd(0.0)) },
        Group::new(Which::path("h.*"), sgd(0.5)),
        Group { lr: 0.0, ..Group::new(Which { path: "*".into(), rank: 1..=2 }, sgd(0.0)) },
    ];
    let update = Update { groups, grad_clip: 0.0, ..Update::default() };
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
        ("h.#.w", "h.{}.w"),
        ("h.#.w", "h.{2i+1}.w"),
        ("h.#.w", "h.12.w"),
        ("*.#.*", "model.layers.24.self_attn.weight"),
        ("#", "7"),
    ] {
        assert!(holds(pattern, path), "{pattern} {path}");
    }
    for (pattern, path) in [
        ("", "a"),
        ("a", "ab"),
        ("a", "ba"),
        ("a*c", "abcd"),
        ("a*a", "a"),
        ("*b", "abc"),
        ("a*b*c", "acb"),
        ("h.#.w", "h.w"),
        ("h.#.w", "h..w"),
        ("h.#.w", "h.x.w"),
        ("h.#.w", "h.1x.w"),
        ("*.#.*", "wte.weight"),
    ] {
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
        groups: vec![Group { lr, ..Group::new(Which::all(), Optimizer::Sgd(Sgd { momentum, weight_decay, ..Sgd::default() })) }],
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
    let by = |optimizer| Update { groups: vec![Group::new(Which::matrices(), optimizer)], ..Update::default() };
    for (optimizer, words) in [
        (Optimizer::Adam(Adam { beta2: 1.0, ..Adam::default() }), "beta2 is 1"),
        (Optimizer::Adam(Adam { weight_decay: -1.0, ..Adam::default() }), "weight_decay is -1"),
        (Optimizer::Lion(Lion { beta1: 1.5, ..Lion::default() }), "beta1 is 1.5"),
        (Optimizer::Lion(Lion { weight_decay: -1.0, ..Lion::default() }), "weight_decay is -1"),
        (Optimizer::Muon(Muon { momentum: 1.0, ..Muon::default() }), "momentum is 1"),
        (Optimizer::Muon(Muon { weight_decay: f64::NAN, ..Muon::default() }), "weight_decay is NaN"),
        (Optimizer::Sgd(Sgd { momentum: 0.0, nesterov: true, weight_decay: 0.0 }), "nesterov"),
        (Optimizer::Adafactor(Adafactor { beta2_decay: 0.1, ..Adafactor::default() }), "beta2_decay is 0.1"),
        (Optimizer::Adafactor(Adafactor { eps1: 1e-20, ..Adafactor::default() }), "square of eps1"),
        (Optimizer::Adafactor(Adafactor { eps1: 0.0, ..Adafactor::default() }), "eps1 is 0"),
        (Optimizer::Adafactor(Adafactor { eps2: -1.0, ..Adafactor::default() }), "eps2 is -1"),
        (Optimizer::Adafactor(Adafactor { d: 0.5, ..Adafactor::default() }), "d is 0.5"),
    ] {
        let error = train_step(&program(&PARAMS), &by(optimizer)).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    for (update, words) in [
        (Update { average: 1.0, ..Update::default() }, "average's decay is 1"),
        (Update { outliers: Outliers { loss: -1.0, norm: 0.0 }, ..Update::default() }, "loss is -1"),
        (Update { outliers: Outliers { loss: 3.0, norm: 12.0 }, ..Update::default() }, "norm is 12 deviations, expected 0 for none, or below 11.2"),
        (Update { groups: vec![Group::new(Which::all(), Optimizer::Muon(Muon::default()))], ..Update::default() }, "muon is for matrices, and"),
    ] {
        let error = train_step(&program(&PARAMS), &update).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let nobody = Update { groups: vec![Group::new(Which::path("nobody"), Optimizer::AdamW(adamw))], ..Update::default() };
    assert!(train_step(&program(&PARAMS), &nobody).unwrap_err().contains("nothing to train"));
}

/// One layer's part of a parameter as plain code sees it: sizes, values, and what is kept.
struct Part {
    dims: Vec<usize>,
    p: Vec<f64>,
    kept: BTreeMap<&'static str, Vec<f64>>,
}

/// Rows of matrices.
type Matrix = Vec<Vec<f64>>;

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    a.iter().map(|row| (0..b[0].len()).map(|j| row.iter().zip(b).map(|(x, r)| x * r[j]).sum()).collect()).collect()
}

fn turned(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|j| a.iter().map(|r| r[j]).collect()).collect()
}

/// Jordan's iteration, on the shorter side.
fn orthogonal(x: Matrix) -> Matrix {
    if x.len() > x[0].len() {
        return turned(&orthogonal(turned(&x)));
    }
    let norm = x.iter().flatten().map(|v| v * v).sum::<f64>().sqrt().max(1e-7);
    let mut x: Matrix = x.iter().map(|r| r.iter().map(|v| v / norm).collect()).collect();
    for _ in 0..5 {
        let gram = product(&x, &turned(&x));
        let square = product(&gram, &gram);
        let of = |i: usize, j: usize| -4.7750 * gram[i][j] + 2.0315 * square[i][j];
        let power: Matrix = (0..x.len()).map(|i| (0..x.len()).map(|j| of(i, j)).collect()).collect();
        let y = product(&power, &x);
        x = x.iter().zip(&y).map(|(a, b)| a.iter().zip(b).map(|(a, b)| 3.4445 * a + b).collect()).collect();
    }
    x
}

fn mean(x: impl Iterator<Item = f64>) -> f64 {
    let all: Vec<f64> = x.collect();
    if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / all.len() as f64 }
}

impl Part {
    fn keep(&mut self, name: &'static str, n: usize) -> &mut Vec<f64> {
        self.kept.entry(name).or_insert_with(|| vec![0.0; n])
    }

    /// The papers, line by line.
    fn step(&mut self, g: &[f64], o: Optimizer, lr: f64, step: f64) {
        let n = self.p.len();
        match o {
            Optimizer::Adam(o) => {
                let g: Vec<f64> = g.iter().zip(&self.p).map(|(g, p)| g + o.weight_decay * p).collect();
                let m = self.keep("adam.m", n);
                m.iter_mut().zip(&g).for_each(|(m, g)| *m = o.beta1 * *m + (1.0 - o.beta1) * g);
                let m = m.clone();
                let v = self.keep("adam.v", n);
                v.iter_mut().zip(&g).for_each(|(v, g)| *v = o.beta2 * *v + (1.0 - o.beta2) * g * g);
                let v = v.clone();
                let (c1, c2) = (1.0 - o.beta1.powf(step), 1.0 - o.beta2.powf(step));
                (0..n).for_each(|i| self.p[i] -= lr * (m[i] / c1) / ((v[i] / c2).sqrt() + o.eps));
            }
            Optimizer::Lion(o) => {
                let m = self.keep("lion.m", n);
                let c: Vec<f64> = m.iter().zip(g).map(|(m, g)| o.beta1 * m + (1.0 - o.beta1) * g).collect();
                m.iter_mut().zip(g).for_each(|(m, g)| *m = o.beta2 * *m + (1.0 - o.beta2) * g);
                let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
                (0..n).for_each(|i| self.p[i] -= lr * (sign(c[i]) + o.weight_decay * self.p[i]));
            }
            Optimizer::Muon(o) => {
                let m = self.keep("muon.m", n);
                m.iter_mut().zip(g).for_each(|(m, g)| *m = o.momentum * *m + (1.0 - o.momentum) * g);
                let u: Vec<f64> = m.iter().zip(g).map(|(m, g)| if o.nesterov { o.momentum * m + (1.0 - o.momentum) * g } else { *m }).collect();
                let [rows, columns] = self.dims[self.dims.len() - 2..] else { unreachable!() };
                let (a, b) = (rows as f64, columns as f64);
                let scale = match o.scale {
                    Scale::MatchAdamW => 0.2 * a.max(b).sqrt(),
                    Scale::Original => f64::max(1.0, a / b).sqrt(),
                    Scale::Spectral => (a / b).sqrt(),
                };
                let each = u.chunks(rows * columns).flat_map(|u| orthogonal(u.chunks(columns).map(<[f64]>::to_vec).collect()).concat());
                let each: Vec<f64> = each.collect();
                (0..n).for_each(|i| self.p[i] = self.p[i] * (1.0 - lr * o.weight_decay) - lr * scale * each[i]);
            }
            Optimizer::Adafactor(o) => {
                let fresh = step.powf(o.beta2_decay);
                let estimate: Vec<f64> = if let [.., rows, columns] = self.dims[..] {
                    let matrices = n / (rows * columns);
                    let at = |s: usize, i: usize, j: usize| g[(s * rows + i) * columns + j].powi(2);
                    let r = self.keep("adafactor.r", matrices * rows);
                    for (k, x) in r.iter_mut().enumerate() {
                        *x += fresh * (mean((0..columns).map(|j| at(k / rows, k % rows, j))) - *x);
                    }
                    let r = r.clone();
                    let c = self.keep("adafactor.c", matrices * columns);
                    for (k, x) in c.iter_mut().enumerate() {
                        *x += fresh * (mean((0..rows).map(|i| at(k / columns, i, k % columns))) - *x);
                    }
                    let c = c.clone();
                    let all = |s: usize| mean(r[s * rows..(s + 1) * rows].iter().copied()).max(o.eps1);
                    let one = |k: usize| (k / (rows * columns), k / columns % rows, k % columns);
                    (0..n).map(one).map(|(s, i, j)| r[s * rows + i] * c[s * columns + j] / all(s)).collect()
                } else {
                    let v = self.keep("adafactor.v", n);
                    v.iter_mut().zip(g).for_each(|(v, g)| *v += fresh * (g * g - *v));
                    v.clone()
                };
                let u: Vec<f64> = estimate.iter().zip(g).map(|(v, g)| g / v.max(o.eps1 * o.eps1).sqrt()).collect();
                let size = |x: &[f64]| mean(x.iter().map(|x| x * x)).sqrt();
                let alpha = size(&self.p).max(o.eps2) * lr.min(1.0 / step.sqrt());
                let most = f64::max(1.0, size(&u) / o.d);
                (0..n).for_each(|i| self.p[i] = self.p[i] * (1.0 - lr * o.weight_decay) - alpha / most * u[i]);
            }
            Optimizer::AdamW(_) | Optimizer::Sgd(_) => unreachable!("these have tests of their own"),
        }
    }
}

/// Twenty steps by an optimizer, clipped, beside the papers; each layer's part alone.
fn as_in_the_papers(o: Optimizer, which: &Which) {
    let mut r = Random(11);
    let all = start(&mut r);
    let update = Update { groups: vec![Group { lr: 0.5, ..Group::new(which.clone(), o) }], ..Update::default() };
    let mut meant = Meant::new(&update, &all);
    let held: Vec<(&str, &[usize])> = PARAMS.into_iter().filter(|(n, d)| which.holds(n, &Type::f32(d.to_vec()))).collect();
    let split = |name: &str, dims: &[usize]| if name.contains("{}") { (dims[0], dims[1..].to_vec()) } else { (1, dims.to_vec()) };
    let mut parts: Vec<(String, Vec<Part>)> = vec![];
    for (name, dims) in &held {
        let (layers, own) = split(name, dims);
        let n = all[*name].len() / layers;
        let part = |i: usize| Part { dims: own.clone(), p: all[*name][i * n..(i + 1) * n].to_vec(), kept: BTreeMap::new() };
        parts.push((name.to_string(), (0..layers).map(part).collect()));
    }
    for step in 1..=20 {
        let lr = RATES[step % RATES.len()].min(0.3);
        let mut given = given(&mut r, 3.0, 2.0);
        let plain: Tensors = given.grads.clone().into_iter().filter(|(n, _)| held.iter().any(|h| h.0 == n)).collect();
        let (grads, ..) = Plain::clipped(&Given { grads: plain, sum: given.sum, count: given.count }, 1.0);
        for (name, parts) in &mut parts {
            let n = grads[name.as_str()].len() / parts.len();
            parts.iter_mut().enumerate().for_each(|(i, part)| part.step(&grads[name.as_str()][i * n..(i + 1) * n], o, lr / 2.0, step as f64));
        }
        given.sum += 1.0;
        meant.step(&given, lr, step as f64);
        for (name, parts) in &parts {
            near(&format!("{o:?}: {name} after step {step}"), &meant.state[name], &parts.iter().flat_map(|p| p.p.clone()).collect::<Vec<_>>(), 1e-9);
            for slot in parts[0].kept.keys() {
                let want: Vec<f64> = parts.iter().flat_map(|p| p.kept[slot].clone()).collect();
                near(&format!("{slot} of {name}"), &meant.state[&format!("{slot}.{name}")], &want, 1e-9);
            }
        }
    }
    let states = meant.graph.params().iter().filter(|p| !passes::State::parse(&p.0).is_parameter()).count();
    assert_eq!(states, parts.iter().map(|p| p.1[0].kept.len()).sum::<usize>(), "nothing else is kept");
}

#[test]
fn adam_lion_and_adafactor_are_the_papers() {
    for o in [
        Optimizer::Adam(Adam::default()),
        Optimizer::Adam(Adam { beta1: 0.5, beta2: 0.8, eps: 1e-3, weight_decay: 0.3 }),
        Optimizer::Lion(Lion::default()),
        Optimizer::Lion(Lion { beta1: 0.5, beta2: 0.7, weight_decay: 0.0 }),
        Optimizer::Adafactor(Adafactor::default()),
        Optimizer::Adafactor(Adafactor { beta2_decay: -0.5, eps1: 1e-3, eps2: 0.1, d: 2.0, weight_decay: 0.1 }),
    ] {
        as_in_the_papers(o, &Which::all());
    }
}

#[test]
fn muon_is_the_papers() {
    for (momentum, nesterov, weight_decay, scale) in
        [(0.95, true, 0.1, Scale::MatchAdamW), (0.5, false, 0.0, Scale::Original), (0.9, true, 0.3, Scale::Spectral)]
    {
        as_in_the_papers(Optimizer::Muon(Muon { momentum, nesterov, weight_decay, scale }), &Which::matrices());
    }
}

/// Five steps of the iteration make all of a matrix's singular values about 1.
#[test]
fn muons_steps_are_nearly_orthogonal() {
    let mut r = Random(5);
    for (rows, columns) in [(4, 9), (9, 4), (5, 5), (1, 3), (3, 1)] {
        let params = [("w", &[rows, columns][..])];
        let muon = Muon { momentum: 0.0, weight_decay: 0.0, scale: Scale::Original, ..Muon::default() };
        let update = Update { groups: vec![Group::new(Which::all(), Optimizer::Muon(muon))], grad_clip: 0.0, ..Update::default() };
        let graph = train_step(&program(&params), &update).unwrap();
        let g: Vec<f64> = (0..rows * columns).map(|_| r.unit()).collect();
        let value = |x: &[f64], d: &[usize]| Value::new(d.to_vec(), x.to_vec());
        let mut env: Env = [("sum", 1.0), ("count", 1.0), ("lr", 1.0), ("step", 1.0)].map(|(n, x)| (n.to_string(), value(&[x], &[]))).into();
        let zeros = vec![0.0; rows * columns];
        env.extend([("g.w", &g), ("w", &zeros), ("muon.m.w", &zeros)].map(|(n, x)| (n.to_string(), value(x, &[rows, columns]))));
        let new = eval(&graph, &env).unwrap()["@w"].data.clone();
        let x: Matrix = new.chunks(columns).map(<[f64]>::to_vec).collect();
        let gram = if rows > columns { product(&turned(&x), &x) } else { product(&x, &turned(&x)) };
        let scale = f64::max(1.0, rows as f64 / columns as f64);
        // the trace is the sum of squares of singular values, each from 0.7 to 1.2
        let trace = gram.iter().enumerate().map(|(i, r)| r[i] / scale).sum::<f64>() / gram.len() as f64;
        assert!((0.4..1.5).contains(&trace), "{rows} × {columns}: {trace}");
        // downhill
        assert!(new.iter().zip(&g).map(|(n, g)| n * g).sum::<f64>() < 0.0);
    }
}

/// The average starts as what the first step made, and follows from then on; what is frozen has none.
#[test]
fn an_average_follows_the_parameters() {
    let mut r = Random(21);
    let params = start(&mut r);
    let groups = vec![Group::new(Which::matrices(), Optimizer::Sgd(Sgd::default()))];
    let update = Update { average: 0.75, groups, ..Update::default() };
    let mut meant = Meant::new(&update, &params);
    let mut average = Tensors::new();
    for step in 1..6 {
        meant.step(&given(&mut r, 2.0, 1.0), 0.1, f64::from(step));
        for name in DECAYED {
            let now = meant.state[name].clone();
            let old = average.entry(name.to_string()).or_insert_with(|| now.clone());
            old.iter_mut().zip(&now).for_each(|(a, p)| *a = 0.75 * *a + 0.25 * p);
            near(name, &meant.state[&format!("ema.{name}")], old, 1e-12);
        }
    }
    assert!(meant.graph.params().iter().all(|p| p.0.as_ref() != "ema.bias"));
}

/// llm.c's detector: a window of 128 with the new one in it; before it is full nothing stands out. What is skipped leaves every bit as it was.
#[test]
fn outliers_change_nothing() {
    let mut r = Random(31);
    let params = start(&mut r);
    let sgd = vec![Group::new(Which::all(), Optimizer::Sgd(Sgd::default()))];
    for (loss, norm) in [(3.0, 0.0), (0.0, 3.0), (2.5, 2.5)] {
        let update = Update { groups: sgd.clone(), average: 0.9, outliers: Outliers { loss, norm }, grad_clip: 0.0, ..Update::default() };
        let mut meant = Meant::new(&update, &params);
        let mut windows = [vec![], vec![]];
        let mut skipped = 0;
        for step in 1..=150 {
            // a spike now and then, of either kind
            let mut given = given(&mut r, 1.0, if [20, 135, 141].contains(&step) { 30.0 } else { 1.0 });
            given.sum = f64::from((r.unit() + if [25, 137, 141].contains(&step) { 50.0 } else { 2.0 }) as f32);
            let before = meant.state.clone();
            let (l, n) = meant.step(&given, 1e-3, f64::from(step));
            let mut far = false;
            for (window, (x, limit)) in windows.iter_mut().zip([(l, loss), (n, norm)]) {
                window.push(x);
                if window.len() > 128 {
                    window.remove(0);
                    let m = mean(window.iter().copied());
                    let deviation = mean(window.iter().map(|x| (x - m).powi(2))).sqrt();
                    far |= limit > 0.0 && (x - m) / deviation > limit;
                }
            }
            far &= step > 128;
            skipped += usize::from(far);
            for (name, old) in before
                .iter()
                .filter(|(name, _)| !name.starts_with("outlier.") && !["none", "still", "sgd.m.still", "ema.still"].contains(&name.as_str()))
            {
                let (same, empty) = (meant.state[name] == *old, old.is_empty());
                assert!(
                    empty || same == far,
                    "step {step}: {name} {} though the step is {}",
                    if same { "stays" } else { "moves" },
                    if far { "far" } else { "near" }
                );
            }
        }
        assert!((1..10).contains(&skipped), "{skipped} skipped by {loss}, {norm}");
    }
}
