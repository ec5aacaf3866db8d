//! What a program's calls touch: inside their regions, and apart where one writes. A program that is tampered with does not run.

use crate::common::Random;
use codegen::{BufferKind, Cpu, LoopInput, LoopResult, Program, Region, Step, Target, Touch};
use ir::Graph;
use ir::names::{LOSS, LOSS_SUM};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

const CPU: Target = Target::Cpu(Cpu { lanes: 8, registers: 16, cache: 1 << 14, pairs: false });

fn program(text: &str) -> Program {
    let graph: Graph = text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"));
    Program::new(&graph, &CPU)
}

/// Every element of a touch, one by one.
fn elements(r: &Touch) -> BTreeSet<i64> {
    let mut out = vec![r.offset];
    for (n, step) in &r.dims {
        out = out.iter().flat_map(|x| (0..*n as i64).map(move |i| x + i * step)).collect();
    }
    out.into_iter().collect()
}

fn random_reach(r: &mut Random) -> Touch {
    let dims = (0..r.below(4)).map(|_| ((5 - r.below(6)).max(r.below(2)), r.below(13) as i64 - 3)).collect();
    Touch { arg: 0, written: false, offset: r.below(20) as i64, dims }
}

/// Reaches are apart exactly where no element is in both.
#[test]
fn reaches_are_apart_as_their_elements_are() {
    let (mut r, mut apart) = (Random(3), 0);
    for _ in 0..4000 {
        let (a, b) = (random_reach(&mut r), random_reach(&mut r));
        let (x, y) = (elements(&a), elements(&b));
        assert_eq!(a.is_apart(&b), x.is_disjoint(&y), "{a:?} {b:?}");
        assert_eq!(a.span(), x.first().map(|low| (*low, *x.last().unwrap())), "{a:?}");
        apart += usize::from(x.is_disjoint(&y));
    }
    assert!((1000..3500).contains(&apart), "both cases occur: {apart}");
}

/// Parts of one buffer by columns, by rows, and by every second element: apart, though their spans overlap.
#[test]
fn parts_of_one_buffer_are_apart() {
    let touch = |offset: i64, dims: &[(usize, i64)]| Touch { arg: 0, written: true, offset, dims: dims.to_vec() };
    assert!(touch(0, &[(1000, 24), (8, 1)]).is_apart(&touch(8, &[(1000, 24), (8, 1)])));
    assert!(!touch(0, &[(1000, 24), (9, 1)]).is_apart(&touch(8, &[(1000, 24), (8, 1)])));
    assert!(touch(0, &[(1000, 24), (8, 1)]).is_apart(&touch(16, &[(8, 1), (1000, 24)])));
    assert!(touch(0, &[(1 << 20, 2)]).is_apart(&touch(1, &[(1 << 20, 2)])));
    assert!(!touch(0, &[(1 << 20, 2)]).is_apart(&touch(4, &[(1 << 20, 2)])));
    assert!(touch(0, &[(0, 1)]).is_apart(&touch(0, &[(5, 1)])), "nothing is apart from everything");
    assert!(touch(0, &[(3, 0), (1, 0)]).is_apart(&touch(1, &[])));
    for (dims, want) in
        [(vec![(3, 1)], true), (vec![(3, 0)], false), (vec![(1, 0), (4, 2)], true), (vec![(0, 0)], true), (vec![(2, 0), (4, 2)], false)]
    {
        assert_eq!(touch(0, &dims).is_one_to_one(), want, "{dims:?}");
    }
}

/// What each template is said to touch.
#[test]
fn templates_touch_their_operands() {
    let spans = |text: &str, name: &str| -> Vec<(usize, bool, Option<(i64, i64)>)> {
        let p = program(text);
        let spec = p.specs.iter().find(|s| s.name() == name).unwrap_or_else(|| panic!("there is no {name}\n{text}"));
        spec.touches().iter().map(|r| (r.arg, r.written, r.span())).collect()
    };
    let product = "main(%0 a: f32[3,5], %1 b: f32[5,7], %2 c: f32[7]) {\n  %3 = contract[ac,cb->ab] %0, %1 : f32[3,7]\n  %4 = add %3, %2 : f32[3,7]\n  return y=%4\n}\n";
    let want = [(0, false, 15), (1, false, 35), (2, false, 7), (3, true, 21)].map(|(arg, written, n)| (arg, written, Some((0, n - 1))));
    assert_eq!(spans(product, "contract"), want);
    let gather = "main(%0 t: f32[9,4], %1 i: i32[2]) {\n  %2 = gather %0, %1 : f32[2,4]\n  return y=%2\n}\n";
    assert_eq!(spans(gather, "map"), [(0, false, Some((0, 1))), (1, false, Some((0, 35))), (2, true, Some((0, 7)))]);
    let scatter = "main(%0 t: f32[9,4], %1 i: i32[2], %2 u: f32[2,4]) {\n  %3 = scatter_add %0, %1, %2 : f32[9,4]\n  return y=%3\n}\n";
    assert_eq!(spans(scatter, "scatter_add"), [(0, false, Some((0, 1))), (1, false, Some((0, 7))), (2, true, Some((0, 35)))]);
    let (q, k, l) = ("f32[1,5,4,3]", "f32[1,5,2,3]", "f32[1,4,5]");
    let labels = "acbe,adbe,adbf->acbf|4|causal|bx2";
    let both = format!(
        "main(%0 q: {q}, %1 k: {k}, %2 v: {k}, %3 g: {q}) {{\n  %4 = attention[{labels}] %0, %1, %2, 0.5 : ({q},{l})\n  %5 = get[0] %4 : {q}\n  %6 = get[1] %4 : {l}\n  %7 = attention_bwd[{labels}] %0, %1, %2, %5, %6, %3, 0.5 : ({q},{k},{k})\n  %8 = get[0] %7 : {q}\n  %9 = get[1] %7 : {k}\n  %10 = get[2] %7 : {k}\n  return o=%5, l=%6, dq=%8, dk=%9, dv=%10\n}}\n"
    );
    let of = |list: &[(usize, bool, i64)]| list.iter().map(|(arg, written, n)| (*arg, *written, Some((0, n - 1)))).collect::<Vec<_>>();
    let forward = [(0, false, 60), (1, false, 30), (2, false, 30), (3, false, 1), (4, true, 60), (5, true, 20)];
    assert_eq!(spans(&both, "attention"), of(&forward));
    let backward = [(0, false, 60), (1, false, 30), (2, false, 30), (6, false, 1), (3, false, 60), (4, false, 20)];
    let gradients = [(5, false, 60), (7, true, 60), (8, true, 30), (9, true, 30)];
    assert_eq!(spans(&both, "attention_bwd"), of(&[&backward[..], &gradients[..]].concat()));
    // by index: any row, and of each row the columns of the values
    let update = "main(%0 s: f32[9,4], %1 v: f32[2,4], %2 p: i32[]) {\n  %3 = update[-2] %0, %1, %2 : f32[9,4]\n  return y=%3\n}\n";
    let program = program(update);
    let kernel = program.specs.iter().find(|s| s.stores[0].at.is_some()).expect("values are stored by index");
    let spans: Vec<_> = kernel.touches().iter().map(|r| (r.arg, r.written, r.span())).collect();
    assert_eq!(spans, [(0, false, Some((0, 7))), (1, false, Some((0, 0))), (2, true, Some((0, 35)))]);
}

/// A loop with an operand of every kind.
fn looped() -> Program {
    program(
        "f0 body(%0: f32[64], %1: f32[64], %2: f32[64]) {\n  %3 = mul %0, %1 : f32[64]\n  %4 = add %3, %2 : f32[64]\n  %5 = softmax %4 : f32[64]\n  %6 = tanh %5 : f32[64]\n  return %6, %5\n}\n\nmain(%0 x: f32[3,64]) {\n  @v : f32[64]\n  @w : f32[64]\n  %1 = repeat[f0,3,1,1] @v, %0, @w : (f32[64],f32[3,64])\n  %2 = get[0] %1 : f32[64]\n  %3 = get[1] %1 : f32[3,64]\n  %4 = add @w, %2 : f32[64]\n  %5 = tanh %3 : f32[3,64]\n  return y=%3, z=%5, @v=%2, @w=%4\n}\n",
    )
}

fn refused(edit: impl Fn(&mut Program), says: &str) {
    let mut p = looped();
    p.calls();
    edit(&mut p);
    let panicked = catch_unwind(AssertUnwindSafe(|| p.calls().len())).expect_err("the program was tampered with");
    let text = panicked.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(says), "{says}: {text}");
}

fn edit_loop(p: &mut Program, edit: impl Fn(&mut codegen::LoopStep)) {
    let step = p.routines.last_mut().unwrap().steps.iter_mut().find_map(|s| if let Step::Loop(l) = s { Some(l) } else { None });
    edit(step.unwrap());
}

#[test]
fn calls_outside_their_memory_are_refused() {
    // operands of a loop: a further iteration, a slot that is not there, a piece that begins late
    refused(|p| edit_loop(p, |l| l.shape.trip = 4), "256 bytes from byte 768");
    refused(
        |p| {
            edit_loop(p, |l| {
                l.inputs[0] = with(l.inputs[0], |i| {
                    if let LoopInput::Carried { slots, .. } = i {
                        *slots = 3
                    }
                })
            })
        },
        "256 bytes from byte 512",
    );
    refused(
        |p| {
            edit_loop(p, |l| {
                l.inputs[1] = with(l.inputs[1], |i| {
                    if let LoopInput::Stacked { place, .. } = i {
                        place.offset = 4
                    }
                })
            })
        },
        "256 bytes from byte 516",
    );
    refused(
        |p| {
            edit_loop(p, |l| {
                l.inputs[2] = with(l.inputs[2], |i| {
                    if let LoopInput::Invariant(place) = i {
                        place.offset = 4
                    }
                })
            })
        },
        "256 bytes from byte 4",
    );
    refused(
        |p| {
            edit_loop(p, |l| {
                l.results[1] = with(l.results[1], |r| {
                    if let LoopResult::Stacked { bytes, .. } = r {
                        *bytes = 260
                    }
                })
            })
        },
        "256 bytes from byte 520",
    );
    // a slot that is read while it is written
    refused(
        |p| {
            edit_loop(p, |l| {
                l.results[0] = with(l.results[0], |r| {
                    if let LoopResult::Carried { slots, .. } = r {
                        *slots = 1
                    }
                })
            })
        },
        "overlaps operand",
    );
    // buffers that are larger than what they stand in, or smaller than what a kernel touches
    for kind in ["@", "result", "arena"] {
        let is = |k: &BufferKind| match k {
            BufferKind::Param(_) => kind == "@",
            BufferKind::Result(_) => kind == "result",
            BufferKind::Temp(_) => kind == "arena",
            BufferKind::Input(_) => false,
        };
        let resize = |p: &mut Program, f: &dyn Fn(usize) -> usize| {
            for b in p.routines.last_mut().unwrap().buffers.iter_mut().filter(|b| is(&b.kind)) {
                b.bytes = f(b.bytes);
            }
        };
        refused(|p| resize(p, &|_| 1 << 20), "is outside its region");
        refused(|p| resize(p, &|n| n.max(4) - 4), "bytes");
    }
    // one operand twice
    refused(
        |p| {
            let main = p.routines.last_mut().unwrap();
            let Some(Step::Kernel { args, .. }) = main.steps.first_mut() else { panic!("the first step copies to the ring") };
            args[0] = args[1];
        },
        "overlaps operand",
    );
}

fn with<T: Copy>(x: T, edit: impl Fn(&mut T)) -> T {
    let mut x = x;
    edit(&mut x);
    x
}

/// In every model's training step, no two operands of a call overlap where one is written, whatever the target.
#[test]
fn no_operand_that_is_written_overlaps_another() {
    for model in [crate::common::gpt(), crate::common::llama(false)] {
        let built = crate::common::bound(&model, 2, 8);
        let joint = passes::optimize(&built.keep_outputs(&LOSS), Some(LOSS_SUM), passes::Opt::Egg).unwrap().joint.unwrap();
        let step = passes::train_step(&joint, &passes::Update::default()).unwrap();
        for target in [CPU, Target::Gpu(codegen::Gpu { processors: 8, shared: 16 << 10, tensor: false, hopper: false })] {
            let p = Program::new(&step, &target);
            for call in p.calls() {
                for (i, a) in call.args.iter().enumerate().filter(|(i, _)| p.specs[call.kernel].params[*i].written) {
                    let apart = |b: &codegen::Address| a.region != b.region || a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
                    let others = call.args.iter().enumerate().filter(|(j, _)| *j != i);
                    assert!(others.map(|o| o.1).all(apart), "{}\n{call:?}", p.specs[call.kernel]);
                    assert!(matches!(a.region, Region::Arena | Region::Output(_) | Region::Param(_)), "inputs are not written");
                }
            }
        }
    }
}
