//! Programs of thousands of ops in one function: time that grows with them, and no recursion as deep as they are.

use crate::common::{difference, environment};
use codegen::{Cpu, Program, Target};
use ir::{Builder, DType, Graph, Scope, Tensor, eval};
use models::layers::{affine, gelu, layer_norm, softmax};
use passes::{Method, Opt, optimize};

const CPU: Cpu = Cpu { lanes: 8, registers: 16, cache: 1 << 16, pairs: false };

/// A GPT without a loop: every layer written out, in one function of about 45 ops a layer.
pub fn unrolled(layers: usize) -> Graph {
    let b = Builder::default();
    let s = b.scope();
    let mut x = s.input("x", DType::F32, [1usize, 4, 8]);
    for i in 0..layers {
        x = block(&s.at(&format!("h.{i}")), x);
    }
    b.output("loss", (x * x).sum_axes(&[-1, -2, -3]).reshape([] as [usize; 0]));
    b.finish().unwrap()
}

fn block<'g>(s: &Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
    let heads = |x: Tensor<'g>| x.reshape([1usize, 4, 2, 4]).transpose(&[0, 2, 1, 3]);
    let [q, k, v] = affine(&s.at("attn"), layer_norm(&s.at("ln_1"), x, 1e-5), 24).chunks().map(heads);
    let scores = q.contract("bhtd,bhsd->bhts", k) / 2.0;
    let seen = s.iota(-1, scores.dim(-1)).le(s.iota(-2, scores.dim(-2)));
    let weights = softmax(seen.select(scores, s.num(f64::NEG_INFINITY)));
    let y = weights.contract("bhts,bhsd->bhtd", v).transpose(&[0, 2, 1, 3]).reshape([1usize, 4, 8]);
    let x = x + affine(&s.at("proj"), y, 8);
    x + affine(&s.at("out"), gelu(affine(&s.at("fc"), layer_norm(&s.at("ln_2"), x, 1e-5), 16)), 8)
}

/// Runs something on a small stack: a recursion as deep as the program would not fit.
fn on_a_stack_of(bytes: usize, what: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(bytes).spawn(what).unwrap().join().unwrap();
}

const DEPTH: usize = 400;

/// One op after another, each of a kind that some pass walks through.
fn chains() -> Vec<(&'static str, Graph)> {
    let chain = |name, step: &dyn for<'g> Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>| {
        let b = Builder::default();
        let s = b.scope();
        let w = s.param("w", [2usize, 2]).tanh() * 0.5;
        let first = s.input("x", DType::F32, [2usize, 2]);
        let last = (0..DEPTH).fold(first, |x, _| step(x, w));
        b.output("loss", last.sum_axes(&[-1, -2]).reshape([] as [usize; 0]));
        (name, b.finish().unwrap())
    };
    vec![
        chain("pointwise", &|x, w| (x * w).tanh()),
        chain("views", &|x, _| x.transpose(&[1, 0]).reshape([4usize]).reshape([2usize, 2])),
        chain("slices", &|x, _| x.slice(-1, 0, 1).concat(-1, x.slice(-1, 1, 2))),
        chain("residual", &|x, w| x + (x.sum() * w).tanh()),
        chain("columns", &|x, w| x + (x.sum_axes(&[-2]) * w).tanh()),
        chain("products", &|x, w| x + x.contract("ab,bc->ac", w).tanh()),
        chain("scales", &|x, _| x * 1.001),
        chain("signs", &|x, w| -(x - w)),
    ]
}

/// Every stage, its text, its meaning and its kernels, of programs as deep as a recursion never is.
#[test]
fn deep_programs_need_no_deep_stack() {
    for (name, graph) in chains() {
        on_a_stack_of(96 << 10, move || {
            for opt in [Opt::Off, Opt::Greedy, Opt::Egg] {
                let stages = optimize(&graph, Some("loss"), opt).unwrap_or_else(|e| panic!("{name}: {e}"));
                let text = stages.last().to_string();
                let again: Graph = text.parse().unwrap();
                assert!(again.to_string() == text, "{name}: the text reads back");
                let env = environment(&graph, 1, 3);
                let (want, have) = (eval(&graph, &env).unwrap(), eval(stages.last(), &env).unwrap());
                assert!(difference(&have["loss"], &want["loss"]) < 1e-6, "{name}, {opt}");
            }
        });
    }
}

/// Their kernels, too; those nest as deep as the largest kernel.
#[test]
fn kernels_of_deep_programs_need_no_deep_stack() {
    for (_, graph) in chains() {
        on_a_stack_of(512 << 10, move || {
            let stages = optimize(&graph, None, Opt::Off).unwrap();
            Program::new(&stages.fused, &Target::Cpu(CPU));
        });
    }
}

/// A program with more forms than can be held: the cap is said, and what was found by then means the same.
#[test]
fn too_many_forms_are_capped() {
    let b = Builder::default();
    let s = b.scope();
    let w = s.param("w", [2usize, 2]).tanh() * 0.5;
    let last = (0..40).fold(s.input("x", DType::F32, [2usize, 2]), |x, _| x.contract("ab,bc->ac", w) + w);
    b.output("y", last);
    let graph = b.finish().unwrap();
    let stages = optimize(&graph, None, Opt::Egg).unwrap();
    let notices = stages.notices();
    assert!(notices.len() == 1 && notices[0].contains("CAP HIT"), "{notices:?}");
    assert!(stages.reports[0].saturation.nodes < passes::NODES_MAX + 1000, "{notices:?}");
    let env = environment(&graph, 1, 3);
    let (want, have) = (eval(&graph, &env).unwrap(), eval(&stages.fused, &env).unwrap());
    assert!(difference(&have["y"], &want["y"]) < 1e-9);
}

/// Work grows with the program: twice the layers, twice the matches and e-nodes, and every part is small enough for the exact plan.
#[test]
fn work_is_proportional_to_the_program() {
    let [small, large] = [20, 40].map(|layers| optimize(&unrolled(layers), Some("loss"), Opt::Egg).unwrap().reports);
    for (s, l) in small.iter().zip(&large) {
        let linear = |s: usize, l: usize| l as f64 <= 2.1 * s as f64;
        assert!(linear(s.saturation.matches, l.saturation.matches), "matches: {} and {}", s.saturation.matches, l.saturation.matches);
        assert!(linear(s.saturation.nodes, l.saturation.nodes), "e-nodes: {} and {}", s.saturation.nodes, l.saturation.nodes);
        assert!(s.saturation.rounds == l.saturation.rounds && l.saturation.saturated && l.method == Method::Exact, "{l}");
    }
}

/// Prints where the time of a large program goes: `cargo test --release --test it deep::figures -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn figures() {
    for layers in [25, 50, 100, 210] {
        let graph = unrolled(layers);
        for (what, loss) in [("forward", None), ("with gradients", Some("loss"))] {
            let start = std::time::Instant::now();
            let stages = optimize(&graph, loss, Opt::Egg).unwrap();
            let (time, ops) = (start.elapsed().as_secs_f64(), stages.last().main().nodes.len());
            eprintln!("{:6} ops, {what}: {time:.2} s to {ops} ops", graph.main().nodes.len());
            for r in &stages.reports {
                eprintln!("    {r}");
            }
            let start = std::time::Instant::now();
            let program = Program::new(stages.last(), &Target::Cpu(CPU));
            eprintln!("    {} kernels after {:.2} s more", program.kernels.len(), start.elapsed().as_secs_f64());
        }
    }
}
