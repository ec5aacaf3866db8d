//! Persistent threads with a static partition: a job is one function of the thread's number, and a barrier separates its kernels.
#![allow(unsafe_code)]

use crate::barrier::{Barrier, Deserted, Gate, lock};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a thread waits for its fellows before it sleeps, where each has a core: longer than their shares of a kernel differ.
const AWAKE: Duration = Duration::from_micros(200);
/// The same where there are more threads than cores: who waits keeps another from working.
const AWAKE_CROWDED: Duration = Duration::from_micros(2);
/// How long a thread waits for the next job before it sleeps.
const AWAKE_IDLE: Duration = Duration::from_micros(500);

type Job = &'static (dyn Fn(usize) + Sync);

thread_local! {
    /// The pools whose jobs this thread is in.
    static INSIDE: RefCell<Vec<*const Shared>> = const { RefCell::new(vec![]) };
}

struct Shared {
    /// Number of the current job; workers wait for it to change.
    ticket: AtomicUsize,
    /// The job: a pointer to a `Job` on the caller's stack.
    job: AtomicPtr<Job>,
    idle: Gate,
    stop: AtomicBool,
    /// What the first share that panicked, panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    barrier: Arc<Barrier>,
}

/// Threads that wait for work. The caller is thread 0.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One job at a time.
    busy: Mutex<()>,
    /// Separates kernels of a job; for the threads of a job alone.
    pub barrier: Arc<Barrier>,
}

impl Pool {
    /// A pool of `n` threads, the caller among them; at least one.
    ///
    /// # Panics
    /// Where the system starts no more threads; [`open`](Self::open) says so instead.
    pub fn new(n: usize) -> Pool {
        Pool::open(n).expect("the system starts a thread")
    }

    /// A pool of `n` threads, the caller among them; at least one. An error where the system starts no more threads.
    pub fn open(n: usize) -> Result<Pool, String> {
        let n = n.max(1);
        let crowded = n > crate::limits::cores();
        let barrier = Arc::new(Barrier::new(n, if crowded { AWAKE_CROWDED } else { AWAKE }));
        let shared = Arc::new(Shared {
            ticket: AtomicUsize::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            idle: Gate::default(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            barrier: barrier.clone(),
        });
        // a pool that is dropped half made stops the threads it has
        let mut pool = Pool { shared, workers: vec![], busy: Mutex::new(()), barrier };
        for t in 1..n {
            let (shared, idle) = (pool.shared.clone(), if crowded { AWAKE_CROWDED } else { AWAKE_IDLE });
            let worker = std::thread::Builder::new().name(format!("eggcorn-{t}")).spawn(move || work(&shared, t, idle));
            pool.workers.push(worker.map_err(|e| format!("thread {t} of {n} was refused: {e}; try fewer --threads"))?);
        }
        Ok(pool)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(t)` on every thread t and waits for all. Jobs of several callers follow one another.
    ///
    /// # Panics
    /// As a share of the job did, after all shares have ended: the others at their next barrier. The pool stays fit for use. From inside
    /// a job of the same pool, whose threads are all taken.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        let s = &*self.shared;
        let inside = INSIDE.with_borrow(|pools| pools.contains(&std::ptr::from_ref(s)));
        assert!(!inside, "a job cannot run another on its own pool: its threads are taken");
        let _one = lock(&self.busy);
        s.barrier.begin();
        // SAFETY: workers use the job only between the ticket below and their leaving the barrier, and `end` waits until all have left;
        // nothing between unwinds, for a share's panic is caught.
        let mut job: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        s.job.store(&mut job, Ordering::Relaxed);
        s.ticket.fetch_add(1, Ordering::Release);
        s.idle.ring();
        share(s, job, 0);
        s.barrier.end();
        let panic = lock(&s.panic).take();
        match panic {
            None => {}
            Some(p) if p.is::<Deserted>() => panic!("a thread ended its share of the job while others waited for it at a barrier"),
            Some(p) => resume_unwind(p),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.ticket.fetch_add(1, Ordering::Release);
        self.shared.idle.ring();
        for w in self.workers.drain(..) {
            // a worker catches what its shares panic with, and has nothing else to say
            let _ = w.join();
        }
    }
}

/// One thread's share of a job. A panic is kept for the caller; of several, the first that is not for want of the others.
fn share(s: &Shared, job: Job, t: usize) {
    INSIDE.with_borrow_mut(|pools| pools.push(s));
    if let Err(p) = catch_unwind(AssertUnwindSafe(|| job(t))) {
        let mut kept = lock(&s.panic);
        if kept.as_ref().is_none_or(|k| k.is::<Deserted>()) {
            *kept = Some(p);
        }
    }
    INSIDE.with_borrow_mut(|pools| pools.pop());
    s.barrier.leave();
}

fn work(s: &Shared, t: usize, idle: Duration) {
    let mut seen = 0usize;
    loop {
        s.idle.wait(idle, || s.ticket.load(Ordering::Acquire) != seen);
        seen = seen.wrapping_add(1);
        if s.stop.load(Ordering::Relaxed) {
            return;
        }
        // SAFETY: the caller keeps the job alive until this thread has left the barrier.
        let job = unsafe { *s.job.load(Ordering::Relaxed) };
        share(s, job, t);
    }
}
