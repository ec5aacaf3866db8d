//! Every op's pullback against differences in `f64`, in the middle of a program, with an upstream cotangent that is not 1.

use crate::common::{Random, environment};
use ir::{Bin, Builder, DType, Graph, Op, Row, Tensor, Type, Un, eval, infer};
use passes::{Opt, optimize};

/// Operands that a smooth op takes at some shape: the types, and whether it wants positive numbers.
fn operands(op: &Op, r: &mut Random) -> Option<Vec<Type>> {
    let n = |r: &mut Random| 1 + r.below(4);
    let (a, b, c) = (n(r), n(r), 2 * n(r));
    let x = Type::f32([a, b, c]);
    let (scalar, row) = (Type::f32([0usize; 0]), Type::f32([a, b, 1]));
    let ids = |dims: &[usize]| Type::of(DType::I32, dims.to_vec());
    let types = match op {
        Op::Un(_) | Op::StopGradient => vec![x],
        // one operand broadcast
        Op::Bin(_) => vec![x, Type::f32([b, 1])],
        Op::Select => vec![Type::of(DType::Bool, [b, c]), x, Type::f32([c])],
        Op::Gather => vec![x, ids(&[3])],
        Op::ScatterAdd => vec![x, ids(&[3]), Type::f32([3, b, c])],
        Op::Row(row_op) => match row_op {
            Row::SoftmaxBwd | Row::Swiglu => vec![x.clone(), x],
            Row::LayerNorm | Row::RmsNorm => vec![x, scalar],
            Row::LayerNormBwd | Row::RmsNormBwd => vec![x.clone(), scalar, x],
            Row::Rope => vec![x, Type::f32([b, c / 2]), Type::f32([b, c / 2])],
            Row::CrossEntropy => vec![x, ids(&[a, b, 1])],
            Row::CrossEntropyBwd => vec![x, ids(&[a, b, 1]), row],
            Row::Softmax | Row::LogSumExp | Row::Sigmoid | Row::Gelu | Row::GeluGrad | Row::Silu => vec![x],
        },
        Op::Tuple => return None,
        other => panic!("{other} has attributes"),
    };
    Some(types)
}

/// Ops with attributes, with operands.
fn with_attributes() -> Vec<(Op, Vec<Type>)> {
    let x = || Type::f32([2usize, 3, 4]);
    let parse = |t: &str| t.parse::<Op>().unwrap();
    let f = |dims: &[usize]| Type::f32(dims.to_vec());
    vec![
        (parse("sum[-2]"), vec![x()]),
        (parse("max[-1,-3]"), vec![x()]),
        (parse("contract[abc,dcb->da]"), vec![x(), f(&[5, 4, 3])]),
        (parse("contract[abc,cbd->abd]"), vec![x(), f(&[4, 3, 2])]),
        (parse("reshape[6,4]"), vec![x()]),
        (parse("transpose[2,0,1]"), vec![x()]),
        (parse("broadcast[5,2,3,4]"), vec![x()]),
        (parse("slice[-2,1,3]"), vec![x()]),
        (parse("pad[-3,2,1]"), vec![x()]),
        (parse("concat[-1]"), vec![x(), f(&[2, 3, 1])]),
        // starts up to 2, so that some of what they begin is outside
        (parse("update[-2]"), vec![f(&[2, 5, 3]), f(&[2, 4, 3]), Type::of(DType::I32, [2usize, 1, 1])]),
        (parse("update[-1]"), vec![x(), f(&[2, 3, 3]), Type::of(DType::I32, [0usize; 0])]),
        (parse("update[-3]"), vec![x(), f(&[1, 3, 4]), Type::of(DType::I32, [3usize, 4])]),
        (parse("cast[f32]"), vec![x()]),
        (parse("attention[acbe,adbe,adbf->acbf|4|causal|bx2]"), vec![f(&[2, 3, 4, 2]), f(&[2, 3, 2, 2]), f(&[2, 3, 2, 3]), f(&[])]),
        (parse("grouped[ecf]"), vec![f(&[4, 3]), f(&[2, 3, 5]), Type::of(DType::I32, [4usize])]),
        (parse("grouped[efc]"), vec![f(&[4, 3]), f(&[2, 5, 3]), Type::of(DType::I32, [4usize])]),
        (parse("grouped_sum[3]"), vec![f(&[4, 3]), f(&[4, 2]), Type::of(DType::I32, [4usize])]),
        (parse("attention[abce,abde,abdf->abcf|4]"), vec![f(&[1, 2, 3, 2]), f(&[1, 2, 4, 2]), f(&[1, 2, 4, 3]), f(&[])]),
    ]
}

/// A program with the op in the middle: operands are functions of parameters, and the loss weighs its result.
fn program(op: &Op, types: &[Type]) -> Graph {
    let b = Builder::default();
    let s = b.scope();
    let operand = |(i, ty): (usize, &Type)| match ty.dtype {
        DType::F32 => {
            let p = s.param(&format!("p{i}"), ty.dims.clone());
            // away from where roots, quotients, ties and kinks are
            let shifted = p * p * 0.5 + p * 0.3 + 1.2 + i as f64 * 0.37;
            if matches!(op, Op::Un(Un::Sin | Un::Cos | Un::Tanh | Un::Exp | Un::Erf | Un::Abs) | Op::Row(_)) && i == 0 { p * 1.3 } else { shifted }
        }
        dtype => s.input(&format!("x{i}"), dtype, ty.dims.clone()),
    };
    let args: Vec<Tensor> = types.iter().enumerate().map(operand).collect();
    let y = args[0].apply(op.clone(), &args[1..]);
    let members: Vec<Tensor> = (0..y.ty().parts.len() as u32).map(|i| y.get(i)).collect();
    let mut loss = s.num(0.0);
    for (k, y) in if members.is_empty() { vec![y] } else { members }.into_iter().enumerate() {
        let n = y.ty().count();
        let flat = y.reshape([n]);
        let weight = (s.iota(-1, n).cast(DType::F32) * 0.9 + k as f64).sin() + 0.4;
        loss = loss + (flat * weight + flat * flat * 0.2).sum().reshape([] as [ir::Dim; 0]);
    }
    b.output("loss", loss);
    b.finish().unwrap_or_else(|e| panic!("{op}: {e}"))
}

/// The worst relative difference between gradients and differences of every parameter's every element.
fn disagreement(graph: &Graph, grads: &Graph, seed: u32) -> f64 {
    let env = environment(graph, seed, 3);
    let results = eval(grads, &env).unwrap();
    let loss = |env: &ir::Env| eval(graph, env).unwrap()["loss"].data[0];
    let mut worst = 0f64;
    for (name, _) in graph.params() {
        let g = &results[&format!("grad.{name}")].data;
        let scale = g.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
        for i in 0..g.len() {
            let h = 1e-5;
            let (mut up, mut down) = (env.clone(), env.clone());
            up.get_mut(name.as_ref()).unwrap().data[i] += h;
            down.get_mut(name.as_ref()).unwrap().data[i] -= h;
            let d = (loss(&up) - loss(&down)) / (2.0 * h);
            let off = (d - g[i]).abs() / scale;
            worst = if off > worst || off.is_nan() { off } else { worst };
        }
    }
    worst
}

fn all() -> Vec<(Op, Vec<Type>)> {
    let mut r = Random(11);
    // differences see through a stopped gradient; comparisons have none, and bits are of whole numbers
    let smooth = |op: &Op| !matches!(op, Op::StopGradient | Op::Bin(Bin::Lt | Bin::Le | Bin::Eq | Bin::And | Bin::Shr));
    let plain: Vec<(Op, Vec<Type>)> =
        (0..3).flat_map(|_| Op::plain()).filter(smooth).filter_map(|op| operands(&op, &mut r).map(|t| (op, t))).collect();
    plain.into_iter().chain(with_attributes()).collect()
}

#[test]
fn every_pullback_agrees_with_differences() {
    for (i, (op, types)) in all().into_iter().enumerate() {
        infer(&op, &types.iter().collect::<Vec<_>>()).unwrap();
        let graph = program(&op, &types);
        for opt in [Opt::Off, Opt::Egg] {
            let stages = optimize(&graph, Some("loss"), opt).unwrap();
            let off = disagreement(&graph, stages.joint.as_ref().unwrap(), i as u32 + 1);
            assert!(off < 2e-6, "{op} of {types:?} at {opt}: off by {off}");
        }
    }
}

/// The same comparison must see a gradient whose one op was exchanged.
#[test]
fn a_wrong_pullback_is_caught() {
    let graph = program(&Op::Un(Un::Tanh), &[Type::f32([2usize, 3])]);
    let joint = optimize(&graph, Some("loss"), Opt::Off).unwrap().joint.unwrap();
    assert!(disagreement(&graph, &joint, 1) < 2e-6);
    let mut wrong = joint.clone();
    // 1 − tanh² becomes 1 + tanh²
    let main = wrong.funcs.last_mut().unwrap();
    let forward = graph.main().nodes.len();
    let neg = main.nodes.iter().skip(forward).position(|n| n.op == Op::Un(Un::Neg)).expect("1 − y y is written with a negation") + forward;
    main.nodes[neg].op = Op::Un(Un::Abs);
    assert!(disagreement(&graph, &wrong, 1) > 1e-3);
}

/// A stopped gradient is 0, exactly.
#[test]
fn a_stopped_gradient_is_zero() {
    let graph = program(&Op::StopGradient, &[Type::f32([2usize, 3])]);
    let joint = optimize(&graph, Some("loss"), Opt::Egg).unwrap().joint.unwrap();
    let g = &eval(&joint, &environment(&graph, 1, 3)).unwrap()["grad.p0"];
    assert!(g.data.iter().all(|x| *x == 0.0));
}
