//! The ceiling that shares of peak are stated against: fused multiply-adds on registers alone, by a kernel of our own.

#![allow(unsafe_code)]

use codegen::kernel::{Elem, Expr, Kernel, Param, Writer};
use codegen::llvm::{compile, host};
use std::time::Instant;

/// Accumulators: enough to hide the latency of an addition on two pipes.
const SUMS: usize = 24;
const ROUNDS: usize = 200_000;

fn kernel(lanes: u32) -> Kernel {
    let mut w = Writer::new("fma_peak", vec![Param { elem: Elem::F32, written: true }], 1);
    let sums = w.local("sum", Elem::F32, lanes, SUMS);
    let x = w.local("x", Elem::F32, lanes, 1);
    let out = codegen::kernel::Buf::Arg(0);
    w.set(x, 0, codegen::kernel::load(out, 0.into(), 1, None).splat(lanes));
    w.unrolled("i", SUMS, |w, i| w.set(sums, i, Writer::get(x, 0)));
    w.each("r", 0, ROUNDS, 1, |w, _| {
        w.unrolled("i", SUMS, |w, i| w.set(sums, i.clone(), Expr::fma(Writer::get(sums, i), Writer::get(x, 0), Writer::get(x, 0))));
    });
    w.unrolled("i", SUMS, |w, i| w.store(out, i.clone() * i64::from(lanes), Writer::get(sums, i), None));
    w.finish()
}

/// Floating-point operations a second of `threads` threads, the best of a few tries.
pub fn fma_peak(threads: usize) -> f64 {
    let lanes = host().target.lanes;
    let Ok((entries, _)) = compile(&[kernel(lanes)], 1) else { return f64::NAN };
    let entry = entries[0];
    let once = || {
        let start = Instant::now();
        std::thread::scope(|s| {
            for _ in 0..threads {
                s.spawn(|| {
                    let mut out = vec![0.5f32; SUMS * lanes as usize];
                    let buffers = [out.as_mut_ptr().cast::<u8>()];
                    // SAFETY: the kernel has one unit, no scratch, and one buffer of this size.
                    unsafe { entry(buffers.as_ptr(), 0, 1, std::ptr::null_mut()) };
                });
            }
        });
        (threads * SUMS * lanes as usize * ROUNDS * 2) as f64 / start.elapsed().as_secs_f64()
    };
    (0..3).map(|_| once()).fold(0.0, f64::max)
}
