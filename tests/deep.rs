//! Programs of thousands of ops in one function: time that grows with them, and no recursion as deep as they are.

use codegen::{Cpu, Program, Target};
use ir::{Builder, DType, Graph, Scope, Tensor};
use models::layers::{affine, causal, gelu, layer_norm, softmax};
use passes::{Opt, optimize};

const CPU: Cpu = Cpu { lanes: 8, registers: 16, cache: 1 << 16 };

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
    let weights = softmax(causal(s, q.contract("bhtd,bhsd->bhts", k) / 2.0));
    let y = weights.contract("bhts,bhsd->bhtd", v).transpose(&[0, 2, 1, 3]).reshape([1usize, 4, 8]);
    let x = x + affine(&s.at("proj"), y, 8);
    x + affine(&s.at("out"), gelu(affine(&s.at("fc"), layer_norm(&s.at("ln_2"), x, 1e-5), 16)), 8)
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
