//! What is kept in 16 bits between a body forward and backward, and what comes of it.

use crate::common::{bound, difference, environment, gpt, llama};
use ir::names::LOSS_SUM;
use ir::{DType, Graph, Op, Type, eval, verify};
use passes::{Goal, Options, compile};

fn joint(graph: &Graph, precision: DType) -> Graph {
    let options = Options { precision, ..Options::default() };
    let stages = compile(graph, Goal::Gradient(LOSS_SUM), &options).unwrap();
    stages.rounded
}

/// What the backward loop reads of the forward one, as the type of one iteration's.
fn kept(graph: &Graph) -> Vec<Type> {
    let main = graph.main();
    let of = |a: &ir::NodeId| matches!(main.node(*a).op, Op::Get(_)) && matches!(main.node(main.node(*a).args[0]).op, Op::Repeat(_));
    let backward = main.ids().rfind(|id| matches!(main.node(*id).op, Op::Repeat(_))).unwrap();
    let Op::Repeat(l) = &main.node(backward).op else { unreachable!("it is a loop") };
    let stacked = &main.node(backward).args[l.carried as usize..(l.carried + l.stacked) as usize];
    stacked.iter().filter(|a| of(a)).map(|a| Type::of(main.ty(*a).dtype, main.ty(*a).dims[1..].iter().copied())).collect()
}

/// What is multiplied and what goes into GELU and gates is kept in 16 bits; what norms read, and the log of sums of exponentials, whole.
#[test]
fn what_is_kept_is_kept_short_where_that_is_enough() {
    let names = |types: Vec<Type>| {
        let mut names: Vec<String> = types.iter().map(Type::to_string).collect();
        names.sort();
        names
    };
    let gpt2 = bound(&gpt(), 2, 5).keep_outputs(&ir::names::LOSS);
    let width = names(kept(&joint(&gpt2, DType::F32)));
    let short = names(kept(&joint(&gpt2, DType::BF16)));
    assert!(width.iter().all(|t| t.starts_with("f32")), "{width:?}");
    assert_eq!(short.len(), width.len(), "{short:?} {width:?}");
    // qkv, attention's result, what goes into GELU; twice the residuals, the log-sum-exp
    assert_eq!(short.iter().filter(|t| t.starts_with("bf16")).count(), 3, "{short:?}");
    let bytes = |p| kept(&joint(&bound(&llama(true), 2, 5).keep_outputs(&ir::names::LOSS), p)).iter().map(Type::bytes).sum::<usize>();
    assert!(bytes(DType::BF16) * 10 < bytes(DType::F32) * 7, "{} of {}", bytes(DType::BF16), bytes(DType::F32));
}

/// Every gradient in 16 bits is near the one in 32: each rounds by a part in 256, and few rounds follow each other.
#[test]
fn gradients_beside_short_values_are_near() {
    for model in [gpt(), llama(true), llama(false)] {
        let graph = bound(&model, 2, 5).keep_outputs(&ir::names::LOSS);
        let env = environment(&graph, 3, 9);
        let short = joint(&graph, DType::BF16);
        verify(&short).unwrap();
        let again: Graph = short.to_string().parse().unwrap();
        assert_eq!(again.to_string(), short.to_string(), "the text reads back");
        let (exact, want) = (eval(&joint(&graph, DType::F32), &env).unwrap(), eval(&short, &env).unwrap());
        for (name, w) in &want {
            let e = &exact[name];
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let apart = norm(&mut w.data.iter().zip(&e.data).map(|(a, b)| a - b));
            assert!(apart <= 0.05 * norm(&mut e.data.iter().copied()) + 1e-6, "{name}: {apart}");
        }
        assert!(difference(&want[LOSS_SUM], &exact[LOSS_SUM]) > 0.0, "something was rounded");
    }
}

/// The compiled step is the evaluated one, whatever the threads, with products in pairs, by an instruction or without, and widened.
#[cfg(feature = "llvm")]
#[test]
fn compiled_it_is_as_evaluated() {
    use crate::compiled::run_for;
    use codegen::Cpu;
    let host = codegen::llvm::host().target;
    for model in [gpt(), llama(true)] {
        let graph = bound(&model, 3, 7).keep_outputs(&ir::names::LOSS);
        let env = environment(&graph, 4, 9);
        let short = joint(&graph, DType::BF16);
        let want = eval(&short, &env).unwrap();
        // one lane at a time no machine has an instruction for: its meaning is written out
        for target in [Cpu { pairs: false, ..host }, Cpu { pairs: true, ..host }, Cpu { pairs: true, lanes: 1, ..host }] {
            let have = run_for(&short, &env, 2, &target);
            for (name, w) in &want {
                // a number that lies between two of 16 bits may be rounded to either
                let d = difference(&have[name], w);
                assert!(d < 0.01, "{name}: {d}, {target:?}");
            }
            assert_eq!(have, run_for(&short, &env, 3, &target), "{target:?}");
        }
    }
}

/// A product that is only wanted in 16 bits is a matrix product all the same, however long its sums: they stay in registers.
#[test]
fn a_product_that_is_only_stored_short_is_a_matrix_product() {
    use codegen::{Cpu, Program, Target};
    for (k, pairs) in [(1, true), (5, true), (2050, true), (2050, false)] {
        let text = format!(
            "main(%0 a: f32[40,{k}], %1 b: f32[{k},70]) {{\n  %2 = cast[bf16] %0 : bf16[40,{k}]\n  %3 = cast[bf16] %1 : bf16[{k},70]\n  %4 = contract[ac,cb->ab] %2, %3 : f32[40,70]\n  %5 = cast[bf16] %4 : bf16[40,70]\n  return y=%5\n}}\n"
        );
        let graph: Graph = text.parse().unwrap();
        let program = Program::new(&graph, &Target::Cpu(Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs }));
        let product = program.kernels.iter().find(|kernel| kernel.name.starts_with("contract")).expect("there is a product");
        assert!(!product.scratch.is_empty(), "b is packed: {program}");
        let env = environment(&graph, 1, 3);
        let (want, have) = (eval(&graph, &env).unwrap(), crate::running::interpreted_calls(&program, &env));
        // what lies between two numbers of 16 bits may go to either
        assert!(difference(&have["y"], &want["y"]) < 1.0 / 128.0, "{k}");
        // and few do: sums that were rounded on the way would end elsewhere in every fourth place
        let apart = have["y"].data.iter().zip(&want["y"].data).filter(|(a, b)| a != b).count();
        assert!(apart * 20 < 40 * 70, "{k}: {apart} of {}", 40 * 70);
        #[cfg(feature = "llvm")]
        for lanes in [1, codegen::llvm::host().target.lanes] {
            let target = Cpu { lanes, pairs, ..codegen::llvm::host().target };
            assert!(difference(&crate::compiled::run_for(&graph, &env, 2, &target)["y"], &want["y"]) < 1.0 / 128.0, "{k}, {target:?}");
        }
    }
}
