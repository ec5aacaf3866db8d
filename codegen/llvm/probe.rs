//! What of two ways to multiply is faster here: asked of the machine, because the instruction for pairs doubles the rate of one make of
//! processor and halves that of another.

use super::host::{Host, host};
use super::jit::Entry;
use super::{Cache, bring, key, loaded};
use crate::kernel::{Buf, Elem, Expr, Kernel, Param, Writer, load};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Sums that a kernel has at once: as many as hide how long one takes.
const SUMS: usize = 24;
/// Turns of a loop that is timed.
const TURNS: usize = 4000;
/// Times each kernel is timed, one after the other; the shortest counts.
const ROUNDS: usize = 12;
/// A pair's product does twice the work; it is taken where it does this much more.
const WORTH: f64 = 1.25;

/// Seconds that a turn of products takes.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of one `f32` a lane.
    pub single: f64,
    /// Of two `bfloat16` a lane.
    pub pair: f64,
}

impl Rates {
    /// Products a second by pairs, for one by single numbers.
    pub fn ratio(&self) -> f64 {
        2.0 * self.single / self.pair
    }
    /// Whether pairs are worth it.
    pub fn pays(&self) -> bool {
        self.ratio() >= WORTH
    }
}

/// How fast this machine multiplies in either way; `None` where it has no instruction for pairs. Measured once a process.
pub fn rates() -> Option<Rates> {
    static RATES: OnceLock<Option<Rates>> = OnceLock::new();
    *RATES.get_or_init(|| {
        let host = host();
        if !host.has_pairs() {
            return None;
        }
        measure(&host).ok()
    })
}

fn measure(host: &Host) -> Result<Rates, String> {
    let cache = Cache::of_environment()?;
    let entry = |pairs: bool| -> Result<Entry, String> {
        let kernel = kernel(host.target.lanes, pairs);
        let key = key(&kernel, host);
        if loaded(&key).is_none() {
            bring(&kernel, &key, host, cache.as_ref())?;
        }
        loaded(&key).ok_or_else(|| "the kernel was not loaded".to_string())
    };
    let entries = [entry(false)?, entry(true)?];
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (entry, best) in entries.iter().zip(&mut best) {
            *best = (*best).min(time(*entry, host.target.lanes));
        }
    }
    Ok(Rates { single: best[0].as_secs_f64(), pair: best[1].as_secs_f64() })
}

#[allow(unsafe_code)]
fn time(entry: Entry, lanes: u32) -> Duration {
    let (mut operands, mut sums) = (vec![0u32; 2 * lanes as usize], vec![0.0f32; SUMS * lanes as usize]);
    let buffers = [operands.as_mut_ptr().cast::<u8>(), sums.as_mut_ptr().cast()];
    let start = Instant::now();
    // SAFETY: the kernel reads two vectors of the first buffer and writes `SUMS` to the second, which are that long; it has no scratch.
    unsafe { entry(buffers.as_ptr(), 0, 1, std::ptr::null_mut()) };
    start.elapsed()
}

/// Sums that go on by products of the same two vectors.
fn kernel(lanes: u32, pairs: bool) -> Kernel {
    let elem = if pairs { Elem::U32 } else { Elem::F32 };
    let param = |elem, written| Param { elem, written };
    let mut w = Writer::new(if pairs { "probe_pairs" } else { "probe_single" }, vec![param(elem, false), param(Elem::F32, true)], 1);
    let (operands, sums) = (w.local("x", elem, lanes, 2), w.local("sum", Elem::F32, lanes, SUMS));
    let at = |i: i64| load(Buf::Arg(0), (i * i64::from(lanes)).into(), lanes, None);
    (0..2).for_each(|i| w.set(operands, i, at(i)));
    w.unrolled("i", SUMS, |w, i| w.set(sums, i, Expr::f32(0.0).splat(lanes)));
    w.each("turn", 0i64, TURNS, 1, |w, _| {
        w.unrolled("i", SUMS, |w, i| {
            let (a, b, c) = (Writer::get(operands, 0), Writer::get(operands, 1), Writer::get(sums, i.clone()));
            w.set(sums, i, if pairs { Expr::dot(a, b, c) } else { Expr::fma(a, b, c) });
        });
    });
    w.unrolled("i", SUMS, |w, i| w.store(Buf::Arg(1), i.clone() * i64::from(lanes), Writer::get(sums, i), None));
    w.finish()
}
