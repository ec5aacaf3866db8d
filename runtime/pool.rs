//! Persistent threads with a static partition: a job is one function of the thread's number, and a barrier separates its kernels.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};

/// Turns of waiting before a thread lets others run.
const SPINS: u32 = 2_000;
/// Turns of waiting for work before a thread sleeps.
const SPINS_IDLE: u32 = 20_000;

type Job = &'static (dyn Fn(usize) + Sync);

struct Shared {
    /// Number of the current job; workers wait for it to change.
    ticket: AtomicUsize,
    /// The job: a pointer to a `Job` on the caller's stack.
    job: AtomicPtr<Job>,
    done: AtomicUsize,
    asleep: AtomicUsize,
    stop: AtomicBool,
    failed: AtomicBool,
}

/// Threads that wait for work. The caller is thread 0.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    /// One job at a time.
    busy: Mutex<()>,
    /// Separates kernels of a job.
    pub barrier: Barrier,
}

impl Pool {
    /// A pool of `n` threads, the caller among them.
    pub fn new(n: usize) -> Pool {
        let shared = Arc::new(Shared {
            ticket: AtomicUsize::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            done: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        });
        let spawn = |t: usize| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("eggcorn-{t}")).spawn(move || work(&shared, t)).expect("the system starts a thread")
        };
        let workers: Vec<JoinHandle<()>> = (1..n.max(1)).map(spawn).collect();
        let threads = workers.iter().map(|w| w.thread().clone()).collect();
        Pool { shared, workers, threads, busy: Mutex::new(()), barrier: Barrier::new(n.max(1)) }
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(t)` on every thread t and waits for all.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        let _guard = self.busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if self.workers.is_empty() {
            return job(0);
        }
        let s = &self.shared;
        // SAFETY: workers use the job only between the ticket below and their count in `done`, which is waited for before returning.
        let mut job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        s.done.store(0, Ordering::Relaxed);
        s.job.store(&mut job, Ordering::Relaxed);
        s.ticket.fetch_add(1, Ordering::SeqCst);
        if s.asleep.load(Ordering::SeqCst) > 0 {
            self.threads.iter().for_each(Thread::unpark);
        }
        job(0);
        let mut turns = 0;
        while s.done.load(Ordering::Acquire) < self.workers.len() {
            pause(&mut turns);
        }
        assert!(!s.failed.load(Ordering::Relaxed), "a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.ticket.fetch_add(1, Ordering::SeqCst);
        self.threads.iter().for_each(Thread::unpark);
        for w in self.workers.drain(..) {
            // a worker that panicked was reported by the job it failed
            let _ = w.join();
        }
    }
}

fn work(s: &Shared, t: usize) {
    let mut seen = 0;
    loop {
        let mut turns = 0;
        while s.ticket.load(Ordering::Acquire) == seen {
            turns += 1;
            if turns < SPINS_IDLE {
                std::hint::spin_loop();
                continue;
            }
            s.asleep.fetch_add(1, Ordering::SeqCst);
            if s.ticket.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            s.asleep.fetch_sub(1, Ordering::SeqCst);
        }
        seen += 1;
        if s.stop.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: the caller keeps the job alive until `done` counts this thread.
        let job = unsafe { *s.job.load(Ordering::Acquire) };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(t))).is_err() {
            s.failed.store(true, Ordering::Relaxed);
        }
        s.done.fetch_add(1, Ordering::Release);
    }
}

fn pause(turns: &mut u32) {
    *turns += 1;
    if *turns < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

/// All threads of a job wait for each other.
pub struct Barrier {
    threads: usize,
    waiting: AtomicUsize,
    round: AtomicUsize,
}

impl Barrier {
    fn new(threads: usize) -> Barrier {
        Barrier { threads, waiting: AtomicUsize::new(0), round: AtomicUsize::new(0) }
    }

    /// Returns when every thread has called.
    pub fn wait(&self) {
        if self.threads == 1 {
            return;
        }
        let round = self.round.load(Ordering::Acquire);
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.waiting.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut turns = 0;
        while self.round.load(Ordering::Acquire) == round {
            pause(&mut turns);
        }
    }
}
