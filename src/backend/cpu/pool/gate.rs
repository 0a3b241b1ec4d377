//! Who may be inside a call's work and when: the pool's protocol, without its threads.
//!
//! One thread at a time opens work, runs it too, and closes it: from then on nobody enters, and it waits for those who
//! are inside. Both ends are guards, so that a panic on the way leaves and closes like a return. `tests/loom` runs this
//! file under every interleaving that loom finds.
#![allow(unsafe_code)] // The work is borrowed by other threads for the time of one call; `run` waits for them.

use core::time::Duration;
use std::sync::PoisonError;
use std::time::Instant;

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, UnsafeCell, fence, spin};

/// The work that is open, in one word: its number in the upper half, then [`OPEN`], then how many workers are inside.
/// A worker enters by raising the count while [`OPEN`] is set, so that closing and entering cannot cross.
const OPEN: u64 = 1 << 31;
const NUMBER: u64 = 1 << 32;

type Work = *const (dyn Fn() + Sync);

/// What a caller and its workers share.
pub(super) struct Gate {
    state: AtomicU64,
    /// Written by the owner of `busy` while the state is closed and no worker is inside; read by those who have
    /// entered.
    work: UnsafeCell<Option<Work>>,
    busy: AtomicBool,
    stop: AtomicBool,
    /// Workers that wait on `opened` or are about to.
    sleepers: AtomicUsize,
    caller_waits: AtomicBool,
    /// For the condition variables.
    lock: Mutex<()>,
    opened: Condvar,
    left: Condvar,
}

// SAFETY: `work` is guarded by the protocol stated at the field; the rest is Sync by itself.
unsafe impl Sync for Gate {}
// SAFETY: the pointer in `work` is only used while the call that set it waits.
unsafe impl Send for Gate {}

impl Gate {
    pub fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            work: UnsafeCell::new(None),
            busy: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            caller_waits: AtomicBool::new(false),
            lock: Mutex::new(()),
            opened: Condvar::new(),
            left: Condvar::new(),
        }
    }

    /// Opens `work` to the workers and calls it on this thread too. It returns, or passes a panic of that call on, once
    /// no thread is inside any more. `opening` is called first. How long this thread waited until the others had left;
    /// `None` if another call's work is open: then nothing was called.
    pub fn run(&self, work: &(dyn Fn() + Sync), opening: impl FnOnce()) -> Option<Duration> {
        if self.busy.swap(true, Ordering::Acquire) {
            return None;
        }
        let _claim = Claim(self);
        opening();
        // SAFETY: `busy` is ours, the state is closed and no worker is inside. The lifetime is forgotten here and kept
        // by `open`, which closes before this function returns or unwinds.
        self.work.with_mut(|p| unsafe { *p = Some(core::mem::transmute::<&(dyn Fn() + Sync), Work>(work)) });
        let number = (self.state.load(Ordering::Relaxed) / NUMBER).wrapping_add(1) & u64::from(u32::MAX);
        // Dropped before `_claim`, also by a panic.
        let open = Open(self);
        // 0 is the number that no work has: a new worker has "seen" it.
        self.state.store((number.max(1) * NUMBER) | OPEN, Ordering::Release);
        // Either this thread sees the sleeper or the sleeper sees the work: there is such a fence between its two acts
        // as well.
        fence(Ordering::SeqCst);
        if self.sleepers.load(Ordering::Relaxed) > 0 {
            let _guard = self.lock();
            self.opened.notify_all();
        }
        work();
        Some(open.close())
    }

    /// Waits, first awake, then asleep, for work of another number than `seen`, and enters it; `None` when the gate
    /// ends.
    pub fn next(&self, seen: &mut u64) -> Option<Inside<'_>> {
        let mut entered = None;
        let mut ready = || {
            entered = self.enter(*seen);
            entered.is_some() || self.stop.load(Ordering::Acquire)
        };
        if spin(&mut ready).is_err() {
            let mut guard = self.lock();
            self.sleepers.fetch_add(1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            while !ready() {
                guard = self.opened.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
        }
        *seen = entered?;
        Some(Inside(self))
    }

    /// Lets every worker's [`Gate::next`] return `None`.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _guard = self.lock();
        self.opened.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the open work if its number is not `seen`. Gives the number.
    fn enter(&self, seen: u64) -> Option<u64> {
        let mut s = self.state.load(Ordering::Relaxed);
        while s & OPEN != 0 && s / NUMBER != seen {
            match self.state.compare_exchange_weak(s, s + 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(s / NUMBER),
                Err(now) => s = now,
            }
        }
        None
    }

    /// Lets nobody enter any more and waits for those who have. How long that was.
    fn close(&self) -> Duration {
        self.state.fetch_and(!OPEN, Ordering::Relaxed);
        let empty = || self.state.load(Ordering::Acquire) & (OPEN - 1) == 0;
        spin(&mut { empty }).unwrap_or_else(|awake| {
            let asleep = Instant::now();
            let mut guard = self.lock();
            self.caller_waits.store(true, Ordering::Relaxed);
            // Either this thread sees that the last worker has left or that worker sees that it is waited for.
            fence(Ordering::SeqCst);
            while !empty() {
                guard = self.left.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.caller_waits.store(false, Ordering::Relaxed);
            awake + asleep.elapsed()
        })
    }
}

/// `busy` is ours.
struct Claim<'a>(&'a Gate);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// Work is open, or about to be.
struct Open<'a>(&'a Gate);

impl Open<'_> {
    fn close(self) -> Duration {
        let gate = self.0;
        core::mem::forget(self);
        gate.close()
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A worker inside the open work: until this is dropped, the caller does not return.
pub(super) struct Inside<'a>(&'a Gate);

impl Inside<'_> {
    /// Calls the work.
    pub fn call(&self) {
        // SAFETY: this thread has entered, so the caller keeps `work` alive and unchanged until it has left.
        if let Some(work) = self.0.work.with(|p| unsafe { *p }) {
            // SAFETY: as above.
            unsafe { (*work)() };
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.0.caller_waits.load(Ordering::Relaxed) {
            let _guard = self.0.lock();
            self.0.left.notify_all();
        }
    }
}
