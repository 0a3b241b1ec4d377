//! The pool's protocol under every interleaving of its threads, and every value that an atomic may be read as, by the
//! crate loom: `cargo test --manifest-path tests/loom/Cargo.toml`. The lines are those of the library, on loom's
//! atomics instead of the machine's. Panics are left to the library's own tests: loom's threads share one thread of the
//! system, so one that unwinds poisons the others' locks.
#![cfg(test)]

extern crate alloc;

#[path = "../../../src/backend/cpu/pool/gate.rs"]
mod gate;

/// What the library's file of this name gives the gate.
mod sync {
    use core::time::Duration;

    pub(super) use loom::cell::UnsafeCell;
    pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};

    /// One look: what comes later is another interleaving.
    pub(super) fn spin(ready: &mut dyn FnMut() -> bool) -> Result<Duration, Duration> {
        ready().then_some(Duration::ZERO).ok_or(Duration::ZERO)
    }
}

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use gate::Gate;

/// Threads to the number of tasks they switch against their will: more find nothing new and take hours.
fn model(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

fn worker(gate: &Arc<Gate>) -> thread::JoinHandle<usize> {
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        let (mut seen, mut entered) = (0, 0);
        while let Some(inside) = gate.next(&mut seen) {
            inside.call();
            entered += 1;
        }
        entered
    })
}

/// What a call's closure borrows. Loom fails the model if it is read while or after the caller takes it back.
struct Borrowed {
    cell: UnsafeCell<usize>,
    reads: AtomicUsize,
}

// SAFETY: loom watches the cell, which is the point.
unsafe impl Sync for Borrowed {}

impl Borrowed {
    fn new(value: usize) -> Self {
        Self { cell: UnsafeCell::new(value), reads: AtomicUsize::new(0) }
    }

    /// A reader's act. Relaxed: that all reads are counted, only leaving and closing can see to.
    fn read(&self) -> usize {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // SAFETY: loom fails the model if it is written meanwhile.
        self.cell.with(|p| unsafe { *p })
    }

    /// The caller has it back. How often it was read.
    fn take_back(mut self) -> usize {
        // SAFETY: loom fails the model if it is read meanwhile.
        self.cell.with_mut(|p| unsafe { *p = usize::MAX });
        self.reads.with_mut(|reads| *reads)
    }
}

/// One call: how many threads were inside.
fn call(gate: &Gate, value: usize) -> Option<usize> {
    let borrowed = Borrowed::new(value);
    let ran = gate.run(&|| assert_eq!(borrowed.read(), value, "the closure of another call"), || ());
    let inside = borrowed.take_back();
    ran.map(|_| inside)
}

#[test]
fn a_worker_is_inside_only_while_its_caller_waits_and_wakes_for_every_call_or_the_end() {
    model(4, || {
        let gate = Arc::new(Gate::new());
        let one = worker(&gate);
        let inside: usize = (1..=2).map(|value| call(&gate, value).unwrap()).sum();
        gate.stop();
        assert_eq!(one.join().unwrap() + 2, inside, "the caller is inside once a call, the worker as often as it says");
    });
}

#[test]
fn a_worker_that_sleeps_is_woken_by_the_next_call() {
    model(4, || {
        let gate = Arc::new(Gate::new());
        let entered = Arc::new((Mutex::new(false), Condvar::new()));
        let one = {
            let (gate, entered) = (Arc::clone(&gate), Arc::clone(&entered));
            thread::spawn(move || {
                let inside = gate.next(&mut 0).unwrap();
                inside.call();
                *entered.0.lock().unwrap() = true;
                entered.1.notify_one();
            })
        };
        let caller = thread::current().id();
        // It stays open until the worker is in: if the word of it were lost both would wait for ever, which loom
        // reports.
        let work = || {
            if thread::current().id() == caller {
                let mut is_in = entered.0.lock().unwrap();
                while !*is_in {
                    is_in = entered.1.wait(is_in).unwrap();
                }
            }
        };
        assert!(gate.run(&work, || ()).is_some());
        one.join().unwrap();
    });
}

#[test]
fn two_workers_share_a_call() {
    model(2, || {
        let gate = Arc::new(Gate::new());
        let workers = [worker(&gate), worker(&gate)];
        let inside = call(&gate, 1).unwrap();
        gate.stop();
        let entered: usize = workers.into_iter().map(|w| w.join().unwrap()).sum();
        assert_eq!(entered + 1, inside);
    });
}

#[test]
fn two_callers_never_open_at_once() {
    model(3, || {
        let gate = Arc::new(Gate::new());
        let one = worker(&gate);
        let other = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || call(&gate, 1).unwrap_or(1))
        };
        let inside = call(&gate, 2).unwrap_or(1);
        let others = other.join().unwrap();
        gate.stop();
        assert_eq!(one.join().unwrap() + 2, inside + others);
    });
}
