//! The library's own threads: a few workers that sleep until a network call has work for them.
//!
//! A network call hands out work some 150 times, a few microseconds apart, so a worker looks for the next piece for a
//! while before it goes to sleep (`sync`). The caller never waits for a worker to wake up: who comes too late finds
//! the work closed (`gate`). And it waits for a worker that was stopped inside only as long as that costs little: on a
//! machine that others keep busy it goes on alone for a while (`alone`).

use core::sync::atomic::{AtomicUsize, Ordering};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use alloc::vec::Vec;

use super::place;
use crate::backend::threads::{Threads, drop_payload};
use crate::error::{Result, ensure, err};

mod alone;
mod gate;
mod sync;

use alone::Alone;
use gate::Gate;

/// Shortest time between two moves of one worker.
const STAY: Duration = Duration::from_millis(1);

/// The most threads of one pool.
pub const MAX_THREADS: usize = 256;

/// Worker threads. Several networks may share a pool; while one call uses the workers, another runs on its caller's
/// thread alone. Dropping the pool ends the workers and waits for them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

struct Shared {
    gate: Gate,
    /// The core of the caller when it opened the work; `usize::MAX` if that is not known.
    core: AtomicUsize,
    alone: Alone,
    /// How many workers have begun, and word of each. An atomic beside its lock: ThreadSanitizer does not see into the
    /// standard library's condition variable, so what orders two threads must stand outside of it.
    begun: AtomicUsize,
    begun_lock: Mutex<()>,
    one_more: Condvar,
}

impl Shared {
    fn worker(&self) {
        self.begun.fetch_add(1, Ordering::Release);
        drop(self.begun_lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.one_more.notify_all();
        let mut seen = 0;
        let mut moved = None;
        while let Some(inside) = self.gate.next(&mut seen) {
            self.leave_the_callers_core(&mut moved);
            inside.call();
        }
    }

    /// A worker on its caller's core is no help. `moved` is the time of its last move: if the kernel puts it straight
    /// back there is no other core, so it waits for [`STAY`] before it tries again.
    fn leave_the_callers_core(&self, moved: &mut Option<Instant>) {
        let callers = self.core.load(Ordering::Relaxed);
        if place::core() == Some(callers) && moved.is_none_or(|at| at.elapsed() >= STAY) {
            place::leave(callers);
            *moved = Some(Instant::now());
        }
    }
}

/// Calls `work`. A panic leaves its task undone, which the caller of [`Threads::run`] sees and reports.
fn call(work: &(dyn Fn() + Sync)) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
        drop_payload(payload);
    }
}

impl Pool {
    /// A pool of `threads` in all: the caller's and `threads - 1` workers.
    ///
    /// # Errors
    /// `InvalidArgument` unless `threads` is in `1..=256`; `OutOfMemory` if the system refuses a thread.
    pub fn new(threads: usize) -> Result<Self> {
        ensure!(
            (1..=MAX_THREADS).contains(&threads),
            InvalidArgument,
            "{threads} threads, expected 1 to {MAX_THREADS}"
        );
        let shared = Arc::new(Shared {
            gate: Gate::new(),
            core: AtomicUsize::new(usize::MAX),
            alone: Alone::new(),
            begun: AtomicUsize::new(0),
            begun_lock: Mutex::new(()),
            one_more: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::with_capacity(threads - 1) };
        for i in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let spawned = std::thread::Builder::new()
                .name(alloc::format!("undiffuse-{i}"))
                .spawn(move || shared.worker())
                .map_err(|e| err!(OutOfMemory, "thread {i} of {threads} did not start: {e}"))?;
            pool.workers.push(spawned);
        }
        // What a thread allocates when it starts is then done before the first network call.
        let mut lock = pool.shared.begun_lock.lock().unwrap_or_else(PoisonError::into_inner);
        while pool.shared.begun.load(Ordering::Acquire) < pool.workers.len() {
            lock = pool.shared.one_more.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        drop(lock);
        Ok(pool)
    }

    /// As many threads as the process may use at once.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn with_all_cores() -> Result<Self> {
        Self::new(std::thread::available_parallelism().map_or(1, |n| n.get()).min(MAX_THREADS))
    }
}

impl Threads for Pool {
    fn count(&self) -> usize {
        self.workers.len() + 1
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        let shared = &*self.shared;
        let here = || shared.core.store(place::core().unwrap_or(usize::MAX), Ordering::Relaxed);
        if self.workers.is_empty() {
            return call(work);
        }
        let start = Instant::now();
        let waited = if shared.alone.lasts(start) { None } else { shared.gate.run(&|| call(work), here) };
        match waited {
            None => call(work),
            Some(Duration::ZERO) => {}
            Some(waited) => shared.alone.after(start, start.elapsed(), waited, self.workers.len()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.gate.stop();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl core::fmt::Debug for Pool {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Pool({} threads)", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::sync::SPIN;
    use super::*;
    use crate::backend::threads::for_each;
    use crate::cancel::Cancel;
    use crate::error::ErrorKind;

    #[test]
    fn refuses_sizes_that_make_no_sense() {
        assert!(Pool::new(0).is_err());
        assert!(Pool::new(MAX_THREADS + 1).is_err());
        assert_eq!(Pool::new(3).unwrap().count(), 3);
    }

    #[test]
    fn two_threads_do_meet() {
        let pool = Pool::new(2).unwrap();
        // Each of the two tasks waits until the other has begun: only two threads at once can finish them.
        let begun = AtomicUsize::new(0);
        for _ in 0..3 {
            begun.store(0, Ordering::SeqCst);
            pool.shared.alone.end();
            for_each(&pool, 2, &Cancel::new(), 2, &|_, _| {
                begun.fetch_add(1, Ordering::SeqCst);
                while begun.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                Ok(())
            })
            .unwrap();
            // Long enough for the worker to fall asleep, so that the next round wakes it.
            std::thread::sleep(SPIN * 4);
        }
    }

    #[test]
    fn many_callers_share_a_pool() {
        let pool = Pool::new(3).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    for _ in 0..500 {
                        for_each(&pool, 3, &Cancel::new(), 7, &|_, i| {
                            total.fetch_add(i, Ordering::Relaxed);
                            Ok(())
                        })
                        .unwrap();
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 500 * 21);
    }

    #[test]
    fn a_panic_in_a_task_is_an_error_and_the_pool_lives_on() {
        let pool = Pool::new(2).unwrap();
        for _ in 0..20 {
            let e = for_each(&pool, 2, &Cancel::new(), 64, &|_, i| {
                assert!(i != 5, "on purpose");
                Ok(())
            });
            assert_eq!(e.map_err(|e| e.kind()), Err(ErrorKind::Callback));
            for_each(&pool, 2, &Cancel::new(), 64, &|_, _| Ok(())).unwrap();
        }
    }

    /// A payload that panics when it is dropped, with another such payload `left` times over.
    struct Spiteful(u32);
    impl Drop for Spiteful {
        fn drop(&mut self) {
            match self.0 {
                0 => std::panic::panic_any("the last"),
                left => std::panic::panic_any(Spiteful(left - 1)),
            }
        }
    }

    /// Whether the thread is the caller's; only one side panics in the tests below.
    fn at_the_callers(caller: std::thread::ThreadId) -> bool {
        std::thread::current().id() == caller
    }

    #[test]
    fn a_payload_that_panics_when_dropped_neither_lets_a_caller_return_early_nor_loses_a_worker() {
        let pool = Pool::new(2).unwrap();
        let caller = std::thread::current().id();
        for (from_the_caller, depth) in [(true, 0), (false, 0), (true, 2), (false, 2), (true, 0), (false, 0)] {
            let [inside, left] = [AtomicUsize::new(0), AtomicUsize::new(0)];
            pool.shared.alone.end();
            pool.run(&|| {
                inside.fetch_add(1, Ordering::SeqCst);
                while inside.load(Ordering::SeqCst) < 2 {
                    std::thread::yield_now();
                }
                if at_the_callers(caller) == from_the_caller {
                    left.fetch_add(1, Ordering::SeqCst);
                    std::panic::panic_any(Spiteful(depth));
                }
                // The other side is still inside when this one's payload is dropped.
                std::thread::sleep(Duration::from_millis(20));
                left.fetch_add(1, Ordering::SeqCst);
            });
            // Both have met, so the worker has outlived the payloads of the rounds before, and both have left.
            assert_eq!((inside.into_inner(), left.into_inner()), (2, 2));
        }
    }

    #[test]
    fn a_gate_that_a_panic_goes_through_is_closed_first() {
        let gate = Gate::new();
        let [inside, left] = [AtomicUsize::new(0), AtomicUsize::new(0)];
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut seen = 0;
                for panics in [true, false] {
                    let work = gate.next(&mut seen).unwrap();
                    let ended = catch_unwind(AssertUnwindSafe(|| {
                        let work = work;
                        work.call();
                    }));
                    assert_eq!(ended.is_err(), panics);
                }
                assert!(gate.next(&mut seen).is_none());
            });
            let caller = std::thread::current().id();
            let round = |workers: bool, callers: bool| {
                inside.store(0, Ordering::SeqCst);
                left.store(0, Ordering::SeqCst);
                catch_unwind(AssertUnwindSafe(|| {
                    gate.run(
                        &|| {
                            inside.fetch_add(1, Ordering::SeqCst);
                            while inside.load(Ordering::SeqCst) < 2 {
                                std::thread::yield_now();
                            }
                            let panics = if at_the_callers(caller) { callers } else { workers };
                            std::thread::sleep(Duration::from_millis(if panics { 0 } else { 20 }));
                            left.fetch_add(1, Ordering::SeqCst);
                            assert!(!panics, "on purpose");
                        },
                        || (),
                    )
                }))
            };
            assert!(round(true, false).unwrap().is_some());
            assert!(round(false, true).is_err());
            assert_eq!(left.load(Ordering::SeqCst), 2, "the caller has waited for the worker");
            gate.stop();
        });
    }
}
