//! The library's own threads: a few workers that sleep until a network call has work for them.
//!
//! A network call hands out work some 150 times, a few microseconds apart, so a worker looks for the next piece for
//! [`SPIN`] before it goes to sleep. The caller never waits for a worker to wake up: who comes too late finds the work closed.
#![allow(unsafe_code)] // The work is borrowed by other threads for the time of one call; `run` waits for them.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use alloc::vec::Vec;

use super::place;
use super::threads::Threads;
use crate::error::{Result, ensure, err};

/// How long a thread looks for a change before it sleeps.
pub const SPIN: Duration = Duration::from_micros(50);

/// How long it looks before it lets others run in between.
const BRIEF: Duration = Duration::from_micros(3);

/// How long a worker that has left its caller's core at least stays where it is put.
const STAY: Duration = Duration::from_millis(1);

/// The most threads of one pool.
pub const MAX_THREADS: usize = 256;

/// Worker threads. Several networks may share a pool; while one call uses the workers, another runs on its caller's
/// thread alone. Dropping the pool ends the workers and waits for them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// The work that is open, in one word: its number in the upper half, then [`OPEN`], then how many workers are at it.
/// A worker enters by raising the count while [`OPEN`] is set, so that closing and entering cannot cross.
const OPEN: u64 = 1 << 31;
const NUMBER: u64 = 1 << 32;

type Work = *const (dyn Fn() + Sync);

struct Shared {
    state: AtomicU64,
    /// Written by the owner of `busy` while the state is closed and no worker is in; read by those who have entered.
    work: UnsafeCell<Option<Work>>,
    busy: AtomicBool,
    stop: AtomicBool,
    /// Threads that wait on a condition variable or are about to.
    sleepers: AtomicUsize,
    caller_waits: AtomicBool,
    /// The core of the caller when it opened the work; `usize::MAX` if that is not known.
    core: AtomicUsize,
    /// How many workers have begun.
    begun: AtomicUsize,
    /// For the condition variables.
    lock: Mutex<()>,
    opened: Condvar,
    left: Condvar,
}

// SAFETY: `work` is guarded by the protocol stated at the field; the rest is Sync by itself.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `work` is only used while the call that set it waits.
unsafe impl Send for Shared {}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the open work if its number is not `seen`. Gives the number.
    fn enter(&self, seen: u64) -> Option<u64> {
        let mut s = self.state.load(Ordering::SeqCst);
        while s & OPEN != 0 && s / NUMBER != seen {
            match self.state.compare_exchange_weak(s, s + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some(s / NUMBER),
                Err(now) => s = now,
            }
        }
        None
    }

    fn worker(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        {
            let _guard = self.lock();
            self.left.notify_all();
        }
        let mut seen = 0;
        let mut moved = None;
        while let Some(number) = self.wait_for_work(seen) {
            seen = number;
            self.leave_the_callers_core(&mut moved);
            // SAFETY: this thread has entered, so the caller keeps `work` alive and unchanged until it has left.
            if let Some(work) = unsafe { *self.work.get() } {
                // SAFETY: as above. A panic leaves its task undone, which the caller sees and reports.
                let _ = catch_unwind(AssertUnwindSafe(|| unsafe { (*work)() }));
            }
            self.state.fetch_sub(1, Ordering::SeqCst);
            if self.caller_waits.load(Ordering::SeqCst) {
                let _guard = self.lock();
                self.left.notify_all();
            }
        }
    }

    /// A worker on its caller's core is no help. `moved` is when it left one last: where it is put back at once there is no other.
    fn leave_the_callers_core(&self, moved: &mut Option<Instant>) {
        let callers = self.core.load(Ordering::Relaxed);
        if place::core() == Some(callers) && moved.is_none_or(|at| at.elapsed() >= STAY) {
            place::leave(callers);
            *moved = Some(Instant::now());
        }
    }

    /// Spins, then sleeps, until there is work to enter; `None` when the pool ends.
    fn wait_for_work(&self, seen: u64) -> Option<u64> {
        let mut entered = None;
        let mut ready = || {
            entered = self.enter(seen);
            entered.is_some() || self.stop.load(Ordering::SeqCst)
        };
        if !spin(&mut ready) {
            let mut guard = self.lock();
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            while !ready() {
                guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
        entered
    }

    /// Lets nobody enter any more and waits for those who have.
    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::SeqCst);
        let empty = || self.state.load(Ordering::SeqCst) & (OPEN - 1) == 0;
        if !spin(&mut { empty }) {
            self.caller_waits.store(true, Ordering::SeqCst);
            let mut guard = self.lock();
            while !empty() {
                guard = self.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            drop(guard);
            self.caller_waits.store(false, Ordering::SeqCst);
        }
    }

    fn wake_sleepers(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = self.lock();
            self.opened.notify_all();
        }
    }
}

/// Looks at `ready` for [`SPIN`]; whether it came true. After the first moment it lets others run in between: who is waited for may
/// have been put on this very core.
fn spin(ready: &mut dyn FnMut() -> bool) -> bool {
    if ready() {
        return true;
    }
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            core::hint::spin_loop();
            if ready() {
                return true;
            }
        }
        let waited = start.elapsed();
        if waited >= SPIN {
            return false;
        }
        if waited >= BRIEF {
            std::thread::yield_now();
        }
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
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            caller_waits: AtomicBool::new(false),
            core: AtomicUsize::new(usize::MAX),
            begun: AtomicUsize::new(0),
            lock: Mutex::new(()),
            opened: Condvar::new(),
            left: Condvar::new(),
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
        let mut guard = pool.shared.lock();
        while pool.shared.begun.load(Ordering::SeqCst) < pool.workers.len() {
            guard = pool.shared.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        drop(guard);
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
        if self.workers.is_empty() || shared.busy.swap(true, Ordering::SeqCst) {
            let _ = catch_unwind(AssertUnwindSafe(work));
            return;
        }
        // SAFETY: `busy` is ours, the state is closed and no worker is in. The lifetime is forgotten here and kept by
        // `close` below, which runs before this function returns, as a panic of `work` is caught.
        unsafe { *shared.work.get() = Some(core::mem::transmute::<&(dyn Fn() + Sync), Work>(work)) };
        let number = (shared.state.load(Ordering::SeqCst) / NUMBER).wrapping_add(1) & u64::from(u32::MAX);
        shared.core.store(place::core().unwrap_or(usize::MAX), Ordering::Relaxed);
        // 0 is the number that no work has: a new worker has "seen" it.
        shared.state.store((number.max(1) * NUMBER) | OPEN, Ordering::SeqCst);
        shared.wake_sleepers();
        let _ = catch_unwind(AssertUnwindSafe(work));
        shared.close();
        shared.busy.store(false, Ordering::SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = self.shared.lock();
            self.shared.opened.notify_all();
        }
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
    use super::super::threads::for_each;
    use super::*;
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
}
