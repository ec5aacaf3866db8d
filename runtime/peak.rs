//! The ceilings that shares are stated against, by kernels of our own: fused multiply-adds on registers alone, and reading memory.

#![allow(unsafe_code)]

use crate::memory::Block;
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

/// How many times as many products a second there are in a precision as in `f32`.
pub(crate) fn times_faster(precision: ir::DType) -> f64 {
    if precision != ir::DType::BF16 {
        return 1.0;
    }
    codegen::llvm::rates().filter(|r| r.pays()).map_or(1.0, |r| r.ratio())
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

/// Rows of memory that are read side by side: one alone does not keep memory busy.
const STREAMS: usize = 16;
/// Floats of a row that one unit reads.
const ROW: usize = 4096;

/// Adds up rows of floats, so many of them side by side.
fn reading(lanes: u32, units: usize) -> Kernel {
    let params = [true, false].map(|written| Param { elem: Elem::F32, written });
    let mut w = Writer::new("read_peak", params.to_vec(), units);
    let sums = w.local("sum", Elem::F32, lanes, STREAMS);
    let [out, from] = [0, 1].map(codegen::kernel::Buf::Arg);
    let (lo, hi) = (w.lo(), w.hi());
    w.unrolled("i", STREAMS, |w, i| w.set(sums, i, Expr::f32(0.0).splat(lanes)));
    w.each("u", lo, hi, 1, |w, u| {
        w.each("c", 0, ROW as i64, i64::from(lanes), |w, c| {
            w.unrolled("i", STREAMS, |w, i| {
                let at = (u.clone() * STREAMS + i.clone()) * ROW + c.clone();
                w.set(sums, i.clone(), Writer::get(sums, i).plus(codegen::kernel::load(from, at, lanes, None)));
            });
        });
    });
    w.unrolled("i", STREAMS, |w, i| w.store(out, i.clone() * i64::from(lanes), Writer::get(sums, i), None));
    w.finish()
}

/// Bytes a second that `threads` threads read, of so many that lie in memory: the best of a few tries. What fits into a cache is read there.
pub fn read_peak(threads: usize, bytes: usize) -> f64 {
    let lanes = host().target.lanes;
    let units = bytes.div_ceil(4 * STREAMS * ROW).max(threads);
    let Ok((entries, _)) = compile(&[reading(lanes, units)], 1) else { return f64::NAN };
    let Ok(mut memory) = Block::new(4 * STREAMS * ROW * units) else { return f64::NAN };
    // pages that nobody has written are all one
    memory.f32s_mut().fill(1.0);
    let (entry, memory) = (entries[0], &memory);
    let once = || {
        let start = Instant::now();
        std::thread::scope(|s| {
            for t in 0..threads {
                s.spawn(move || {
                    let mut out = vec![0.0f32; STREAMS * lanes as usize];
                    let buffers = [out.as_mut_ptr().cast::<u8>(), memory.bytes().as_ptr().cast_mut()];
                    let [lo, hi] = [t, t + 1].map(|t| (t * units / threads) as i64);
                    // SAFETY: the kernel has so many units, no scratch, and buffers of these sizes, of which it writes only the first.
                    unsafe { entry(buffers.as_ptr(), lo, hi, std::ptr::null_mut()) };
                });
            }
        });
        memory.len() as f64 / start.elapsed().as_secs_f64()
    };
    (0..5).map(|_| once()).fold(0.0, f64::max)
}
