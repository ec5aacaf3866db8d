//! The kernels of attention, whatever becomes of a score: specs by hand, against plain loops in `f64`.

mod case;
mod plain;

use crate::common::Random;
use case::{Case, Term, build};
use codegen::kernel::Memory;
use codegen::{Cpu, Program, Target, interpret, lower};
use plain::{Number, plain};

const CPUS: [Cpu; 3] = [
    Cpu { lanes: 4, registers: 16, cache: 1 << 14, pairs: false },
    Cpu { lanes: 8, registers: 32, cache: 1 << 16, pairs: false },
    Cpu { lanes: 16, registers: 32, cache: 1 << 20, pairs: false },
];

/// Each term alone, all that go together, and none.
fn variants() -> Vec<Vec<Term>> {
    let mut out: Vec<Vec<Term>> = Term::ALL.iter().map(|t| vec![*t]).collect();
    out.push(vec![]);
    out.push(Term::ALL.to_vec());
    out.push(vec![Term::Causal, Term::Window, Term::Cap, Term::Slope]);
    out.push(vec![Term::Offset, Term::Window, Term::Dropout]);
    out.push(vec![Term::Lengths, Term::Bias]);
    out.push(vec![Term::Documents, Term::Causal, Term::Dropout]);
    out
}

fn cases(seed: u32, most: usize) -> Vec<Case> {
    let mut r = Random(seed);
    let mut out = vec![];
    for (i, terms) in variants().into_iter().enumerate() {
        let sizes = |r: &mut Random| if r.below(4) == 0 { 1 + r.below(3) } else { 1 + r.below(most) };
        let (queries, keys) = (sizes(&mut r), if r.below(12) == 0 { 0 } else { sizes(&mut r) });
        let depths = [1 + r.below(9), 1 + r.below(20)];
        out.push(Case {
            batch: 1 + r.below(2),
            shared: 1 + r.below(2),
            group: 1 + r.below(3),
            queries,
            keys,
            depths,
            terms,
            dlse: i % 2 == 0,
            seed: seed + i as u32,
        });
    }
    out
}

/// More keys than there are in a block of values, or in a panel; few queries, and several tiles of them.
fn long_cases() -> Vec<Case> {
    let mut out = vec![];
    for terms in [vec![], vec![Term::Causal], vec![Term::Window, Term::Offset], vec![Term::Lengths, Term::Bias], vec![Term::Documents, Term::Dropout]]
    {
        for queries in [3, 29] {
            let terms = terms.clone();
            out.push(Case { batch: 1, shared: 1, group: 2, queries, keys: 300, depths: [33, 70], terms, dlse: false, seed: 7 });
        }
    }
    out
}

/// Each result against what plain loops give, as near as the arithmetic allows.
fn check(what: &str, case: &Case, want: &[Vec<Number>], have: &[Memory]) {
    assert_eq!(want.len(), have.len(), "{what}: results");
    for (i, (want, have)) in want.iter().zip(have).enumerate() {
        assert_eq!(want.len(), have.len(), "{what}: result {i} of {case:?}");
        for (j, (w, h)) in want.iter().zip(have).enumerate() {
            let near = w.value == *h || (w.value - h).abs() <= w.error;
            assert!(near, "{what}: element {j} of result {i} is {h}, not {} ± {}\n{case:?}", w.value, w.error);
        }
    }
}

/// What kernels gave so far for a case, by a way to run them.
fn both(case: &Case, what: &str, run: &mut dyn FnMut(&codegen::Spec, &[Memory]) -> Vec<Memory>) {
    let (forward, backward) = plain(case);
    let f = build(case, None);
    let results = run(&f.spec, &f.memory);
    check(&format!("{what}, forward"), case, &forward, &results);
    let b = build(case, Some([&results[0], &results[1]]));
    check(&format!("{what}, backward"), case, &backward, &run(&b.spec, &b.memory));
}

/// What a kernel writes, run by the interpreter unit by unit, or all cubes at once.
fn interpreted(spec: &codegen::Spec, memory: &[Memory], target: &Target) -> Vec<Memory> {
    let kernel = lower(spec, "attention", target, &vec![false; spec.params.len()]);
    let mut memory = memory.to_vec();
    let step = if kernel.cube.is_some() { kernel.units.max(1) } else { 1 };
    for unit in (0..kernel.units).step_by(step) {
        interpret(&kernel, &mut memory, unit as i64, (unit + step) as i64);
    }
    memory.into_iter().zip(&spec.params).filter(|(_, p)| p.written).map(|(m, _)| m).collect()
}

#[test]
fn interpreted_kernels_are_as_plain_loops() {
    for cpu in CPUS {
        for case in cases(cpu.lanes, 40).into_iter().chain(long_cases()) {
            both(&case, &format!("{cpu:?}"), &mut |spec, memory| interpreted(spec, memory, &Target::Cpu(cpu)));
        }
    }
}

/// On a graphics processor, with whatever two threads do to one place noticed.
#[test]
fn interpreted_cubes_are_as_plain_loops() {
    for target in crate::gpu::TARGETS.into_iter().take(1) {
        for case in cases(9, 40).into_iter().chain(cases(10, 90)) {
            both(&case, "cubes", &mut |spec, memory| interpreted(spec, memory, &target));
        }
    }
}

/// Every kernel for threads has a text that WebGPU's validator accepts.
#[cfg(feature = "wgpu")]
#[test]
fn naga_accepts_every_kernel() {
    use codegen::gpu::{Dialect, Source};
    let target = crate::gpu::TARGETS[0];
    for case in cases(9, 40) {
        let f = build(&case, None);
        let results: Vec<&Memory> = f.memory.iter().zip(&f.spec.params).filter(|(_, p)| p.written).map(|(m, _)| m).collect();
        let b = build(&case, Some([results[0], results[1]]));
        for spec in [&f.spec, &b.spec] {
            let none = vec![false; spec.params.len()];
            let source = Source::new(&lower(spec, "attention", &target, &none), &none, Dialect::Wgsl);
            let text = source.text().unwrap_or_else(|e| panic!("{e}\n{spec}"));
            crate::toolchains::naga(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        }
    }
}

/// Tensor cores take what is plain or causal, and leave the rest to threads that can.
#[test]
fn tensor_cores_take_what_they_can() {
    let target = crate::gpu::TENSOR[0];
    for terms in [vec![], vec![Term::Causal], vec![Term::Window], vec![Term::Offset], vec![Term::Causal, Term::Slope], vec![Term::Dropout]] {
        let can = matches!(terms[..], [] | [Term::Causal]);
        let case = Case { batch: 1, shared: 1, group: 2, queries: 70, keys: 70, depths: [16, 16], terms, dlse: false, seed: 5 };
        both(&case, "in 16 bits", &mut |spec, memory| {
            let (mut spec, mut memory) = (spec.clone(), memory.to_vec());
            let read = if spec.name() == "attention" { vec![0, 1, 2] } else { vec![0, 1, 2, 3, 5] };
            for i in read {
                spec.params[i].elem = codegen::kernel::Elem::BF16;
            }
            let kernel = lower(&spec, "attention", &target, &vec![true; spec.params.len()]);
            assert_eq!(kernel.name.ends_with("_tensor"), can, "{case:?}");
            if can {
                // what tensor cores round is checked elsewhere
                return interpreted(&spec, &memory, &crate::gpu::TARGETS[0]);
            }
            interpret(&kernel, &mut memory, 0, kernel.units as i64);
            memory.into_iter().zip(&spec.params).filter(|(_, p)| p.written).map(|(m, _)| m).collect()
        });
    }
}

/// A program of one kernel, whose operands are inputs and whose results are outputs.
fn program(spec: &codegen::Spec, memory: &[Memory], target: &Target) -> Program {
    use codegen::{Buffer, BufferKind, Routine, Step};
    let of = |written: bool| -> Vec<(String, ir::Type)> {
        let ty = |(i, p): (usize, &codegen::kernel::Param)| (format!("a{i}"), ir::Type::of(p.elem.dtype(), [memory[i].len()]));
        spec.params.iter().enumerate().filter(|(_, p)| p.written == written).map(ty).collect()
    };
    let (inputs, outputs) = (of(false), of(true));
    let count = |written: bool, before: usize| spec.params[..before].iter().filter(|p| p.written == written).count();
    let buffer = |(i, p): (usize, &codegen::kernel::Param)| Buffer {
        kind: if p.written { BufferKind::Result(count(true, i)) } else { BufferKind::Input(count(false, i)) },
        bytes: memory[i].len() * p.elem.bytes(),
    };
    let buffers: Vec<Buffer> = spec.params.iter().enumerate().map(buffer).collect();
    let steps = vec![Step::Kernel { kernel: 0, args: (0..buffers.len()).collect() }];
    let results = (0..buffers.len()).filter(|i| spec.params[*i].written).map(Ok).collect();
    let main = Routine { name: "main".into(), buffers, steps, results, ..Routine::default() };
    let kernels = vec![lower(spec, "attention", target, &vec![false; spec.params.len()])];
    Program { inputs, params: vec![], outputs, routines: vec![main], specs: vec![spec.clone()], kernels }
}

#[cfg(feature = "llvm")]
mod compiled {
    use super::*;
    use codegen::kernel::Elem;
    use runtime::{Pool, Session};
    use std::sync::Arc;

    fn run(spec: &codegen::Spec, memory: &[Memory], target: &Target, threads: usize) -> Vec<Memory> {
        let mut s = Session::of(program(spec, memory, target), Arc::new(Pool::new(threads))).unwrap();
        for (i, p) in spec.params.iter().enumerate().filter(|(_, p)| !p.written) {
            let bytes: Vec<u8> = memory[i]
                .iter()
                .flat_map(|x| if p.elem == Elem::F32 { (*x as f32).to_le_bytes() } else { (*x as i64 as u32).to_le_bytes() })
                .collect();
            s.set_input(&format!("a{i}"), &bytes).unwrap();
        }
        s.poison().unwrap();
        s.run().unwrap();
        let floats = |i: usize| s.output(&format!("a{i}")).unwrap().bytes().chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())));
        (0..memory.len()).filter(|i| spec.params[*i].written).map(|i| floats(i).take(memory[i].len()).collect()).collect()
    }

    /// And the bits are the same on any number of threads.
    #[test]
    fn compiled_kernels_are_as_plain_loops() {
        let host = codegen::llvm::host().target;
        for case in cases(1, 50).into_iter().chain(cases(2, 300)) {
            both(&case, "compiled", &mut |spec, memory| {
                let one = run(spec, memory, &Target::Cpu(host), 1);
                let bits = |m: &[Memory]| m.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
                for threads in [2, 5] {
                    assert!(bits(&run(spec, memory, &Target::Cpu(host), threads)) == bits(&one), "{threads} threads\n{case:?}");
                }
                one
            });
        }
    }
}
