//! Threads of a pool: shares, barriers, panics, callers that wait for each other.

use runtime::{Barrier, Pool};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Runs `f` on a thread of its own; a hang is a failure.
#[track_caller]
fn in_time<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || {
        let out = f();
        let _ = send.send(());
        out
    });
    let ended = receive.recv_timeout(Duration::from_secs(60));
    assert!(ended != Err(std::sync::mpsc::RecvTimeoutError::Timeout), "it hangs");
    thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p))
}

/// What a run panics with.
fn panic_of(pool: &Pool, job: &(dyn Fn(usize) + Sync)) -> Option<String> {
    let p = catch_unwind(AssertUnwindSafe(|| pool.run(job))).err()?;
    Some(p.downcast_ref::<String>().cloned().or_else(|| p.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default())
}

/// Each thread adds 1 between barriers, and all see the sum of all. Fails where the pool is not as good as new.
fn works(pool: &Pool) {
    let n = pool.threads();
    let sum = AtomicUsize::new(0);
    let shares: Vec<AtomicUsize> = (0..n).map(|_| AtomicUsize::new(0)).collect();
    pool.run(&|t| {
        shares[t].fetch_add(1, Ordering::Relaxed);
        for round in 1..=5 {
            sum.fetch_add(1, Ordering::Relaxed);
            pool.barrier.wait();
            assert_eq!(sum.load(Ordering::Relaxed), round * n, "no thread is past a barrier that another has not reached");
            pool.barrier.wait();
        }
    });
    assert!(shares.iter().all(|s| s.load(Ordering::Relaxed) == 1), "each thread has its share once");
}

#[test]
fn every_thread_has_its_share_and_meets_the_others() {
    in_time(|| {
        for n in 0..=8 {
            let pool = Pool::new(n);
            assert_eq!(pool.threads(), n.max(1));
            for _ in 0..50 {
                works(&pool);
            }
            pool.run(&|_| {});
        }
        // dropped before any work, and asleep
        drop(Pool::new(3));
        let pool = Pool::new(3);
        works(&pool);
        std::thread::sleep(Duration::from_millis(20));
        works(&pool);
        std::thread::sleep(Duration::from_millis(20));
    });
}

/// A panic of any thread, before, between or after barriers, is the caller's, after all shares have ended; the pool stays fit for use.
#[test]
fn a_panic_of_any_thread_is_the_callers() {
    in_time(|| {
        for n in 1..=8 {
            let pool = Pool::new(n);
            for who in 0..n {
                for when in 0..3 {
                    let inside = AtomicUsize::new(0);
                    let job = |t: usize| {
                        inside.fetch_add(1, Ordering::SeqCst);
                        let _ended = OnDrop(|| inside.fetch_sub(1, Ordering::SeqCst));
                        for round in 0..3 {
                            // the others are at the barrier, awake or asleep, when it happens
                            if t == who && round == when {
                                std::thread::sleep(Duration::from_micros([0, 1000][who % 2]));
                                panic!("thread {t} in round {round}");
                            }
                            pool.barrier.wait();
                        }
                    };
                    assert_eq!(panic_of(&pool, &job), Some(format!("thread {who} in round {when}")), "of {n} threads");
                    assert_eq!(inside.load(Ordering::SeqCst), 0, "no share is left running");
                    works(&pool);
                }
            }
            let all = panic_of(&pool, &|t| panic!("thread {t}")).unwrap();
            assert!(all.starts_with("thread "), "{all}");
            works(&pool);
        }
    });
}

struct OnDrop<F: Fn() -> usize>(F);

impl<F: Fn() -> usize> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A share that ends while others wait for it would be waited for in vain.
#[test]
fn a_share_that_ends_early_is_a_panic_not_a_hang() {
    in_time(|| {
        for n in 2..=4 {
            let pool = Pool::new(n);
            for who in 0..n {
                let early = panic_of(&pool, &|t| {
                    pool.barrier.wait();
                    if t != who {
                        pool.barrier.wait();
                    }
                });
                assert!(early.as_ref().is_some_and(|e| e.contains("others waited")), "{early:?}");
                works(&pool);
            }
        }
    });
}

/// Of several ends the one with a cause of its own is told.
#[test]
fn a_panic_is_told_before_what_follows_from_others() {
    in_time(|| {
        let pool = Pool::new(3);
        for [leaves, waits, panics] in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
            let told = panic_of(&pool, &|t| {
                if t == waits {
                    pool.barrier.wait();
                } else if t == panics {
                    std::thread::sleep(Duration::from_millis(20));
                    panic!("the cause");
                }
                assert!(t == leaves);
            });
            assert_eq!(told.as_deref(), Some("the cause"));
        }
        works(&pool);
    });
}

#[test]
fn a_job_inside_a_job_of_the_same_pool_is_refused() {
    in_time(|| {
        for n in 1..=3 {
            let (pool, other) = (Pool::new(n), Pool::new(2));
            for who in 0..n {
                let nested = panic_of(&pool, &|t| {
                    if t == who {
                        pool.run(&|_| {});
                    }
                });
                assert!(nested.as_ref().is_some_and(|e| e.contains("its own pool")), "{nested:?}");
            }
            // another pool's threads are free
            let ran = AtomicUsize::new(0);
            pool.run(&|t| {
                if t == 0 {
                    other.run(&|_| {
                        ran.fetch_add(1, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(ran.load(Ordering::Relaxed), 2);
            works(&pool);
        }
    });
}

/// Jobs of several callers follow one another.
#[test]
fn callers_take_turns() {
    in_time(|| {
        let (pool, busy) = (Pool::new(3), AtomicBool::new(false));
        let log = Mutex::new(vec![]);
        std::thread::scope(|s| {
            for caller in 0..4 {
                let (pool, busy, log) = (&pool, &busy, &log);
                s.spawn(move || {
                    for _ in 0..20 {
                        pool.run(&|t| {
                            if t == 0 {
                                assert!(!busy.swap(true, Ordering::SeqCst), "two jobs at once");
                            }
                            pool.barrier.wait();
                            log.lock().unwrap().push(caller);
                            pool.barrier.wait();
                            if t == 0 {
                                busy.store(false, Ordering::SeqCst);
                            }
                        });
                    }
                });
            }
        });
        assert_eq!(log.into_inner().unwrap().len(), 4 * 20 * 3);
    });
}

/// Barriers one after the other where there are more threads than cores: who waits must let others run.
#[test]
fn more_threads_than_cores_do_not_stand_in_each_others_way() {
    in_time(|| {
        let rounds = 2000;
        let seconds = |n: usize| {
            let pool = Pool::new(n);
            let start = std::time::Instant::now();
            pool.run(&|_| (0..rounds).for_each(|_| pool.barrier.wait()));
            start.elapsed().as_secs_f64()
        };
        // thread switches, not time slices of milliseconds
        let cores = runtime::cores();
        let most = [cores + 1, 2 * cores + 1].map(seconds).into_iter().fold(0.0, f64::max);
        assert!(most / f64::from(rounds) < 1e-3, "{:.0} microseconds a barrier", most / f64::from(rounds) * 1e6);
    });
}

/// The barrier is for the pool's users, too.
#[test]
fn a_barrier_of_one_thread_is_no_wait() {
    let pool = Pool::new(1);
    let barrier: &Barrier = &pool.barrier;
    pool.run(&|_| (0..1000).for_each(|_| barrier.wait()));
}
