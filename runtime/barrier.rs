//! Threads that wait for each other: some turns awake, then asleep, so that a thread whose core others need gives it up.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Turns between two looks at the clock.
const TURNS: u32 = 64;

/// A lock whose data no panic can leave half written.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where threads wait for what another brings about.
#[derive(Default)]
pub(crate) struct Gate {
    asleep: AtomicUsize,
    lock: Mutex<()>,
    bell: Condvar,
}

impl Gate {
    /// Returns when `ready` is so: after turns awake for so long, sleeps until [`ring`](Self::ring).
    pub(crate) fn wait(&self, awake: Duration, ready: impl Fn() -> bool) {
        if turns(awake, &ready) {
            return;
        }
        let mut guard = lock(&self.lock);
        self.asleep.fetch_add(1, Ordering::Relaxed);
        // either this thread sees below what was done before a ring, or the ring sees that it sleeps
        fence(Ordering::SeqCst);
        while !ready() {
            guard = self.bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes who sleeps, after what they wait for was done.
    pub(crate) fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) > 0 {
            // whoever has looked in vain and does not sleep yet holds the lock
            drop(lock(&self.lock));
            self.bell.notify_all();
        }
    }
}

/// Whether `ready` came to be within so long.
fn turns(awake: Duration, ready: &impl Fn() -> bool) -> bool {
    let mut start = None;
    loop {
        for _ in 0..TURNS {
            if ready() {
                return true;
            }
            std::hint::spin_loop();
        }
        if start.get_or_insert_with(Instant::now).elapsed() >= awake {
            return false;
        }
    }
}

/// What a thread ends with whose fellows will not come to the barrier.
pub(crate) struct Deserted;

/// All threads of a job wait for each other.
pub struct Barrier {
    threads: usize,
    /// How long a thread waits awake.
    awake: Duration,
    waiting: AtomicUsize,
    round: AtomicUsize,
    /// Threads that have ended their share of the job, well or not.
    left: AtomicUsize,
    gate: Gate,
}

impl Barrier {
    pub(crate) fn new(threads: usize, awake: Duration) -> Barrier {
        let zero = || AtomicUsize::new(0);
        Barrier { threads, awake, waiting: zero(), round: zero(), left: zero(), gate: Gate::default() }
    }

    /// Returns when every thread of the job has called. Where one has ended its share instead, this thread's ends here, too, by a panic
    /// that [`Pool::run`](crate::Pool::run) reports.
    pub fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let round = self.round.load(Ordering::Acquire);
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.waiting.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return self.gate.ring();
        }
        let passed = || self.round.load(Ordering::Acquire) != round;
        self.gate.wait(self.awake, || passed() || self.left.load(Ordering::Acquire) > 0);
        // who leaves after a barrier has passed it, so this look sees that it was passed
        if !passed() {
            resume_unwind(Box::new(Deserted));
        }
    }

    /// Before a job: nobody waits, nobody has left.
    pub(crate) fn begin(&self) {
        self.waiting.store(0, Ordering::Relaxed);
        self.left.store(0, Ordering::Relaxed);
    }

    /// A thread has ended its share.
    pub(crate) fn leave(&self) {
        self.left.fetch_add(1, Ordering::AcqRel);
        self.gate.ring();
    }

    /// Returns when all have.
    pub(crate) fn end(&self) {
        self.gate.wait(self.awake, || self.left.load(Ordering::Acquire) == self.threads);
    }
}
