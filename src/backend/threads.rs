//! How a network call is spread over threads: the trait a host may implement, and the loop that every step uses.
//!
//! A step is cut into tasks that are claimed one by one, so a thread that comes late or never costs no correctness, and
//! what a task computes never depends on which thread runs it.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::cancel::Cancel;
use crate::error::{Result, ensure};

/// Threads that a network call may use. Implement it to give the threads of a host program; the library's own are
/// [`Pool`](super::cpu::pool::Pool) (feature `threads`) and [`Serial`].
pub trait Threads: Send + Sync {
    /// The most calls of `work` that are of use at once, counting the caller's; at least 1.
    fn count(&self) -> usize;

    /// Calls `work` on the caller's thread and, for those that are free, on other threads at the same time. Each call
    /// takes what is left to do and returns when nothing is left. Returns after all calls that began have returned.
    ///
    /// It is called many times during one network call, so it should not start threads. It may be called from several
    /// threads at once and must then not wait for another call of it.
    fn run(&self, work: &(dyn Fn() + Sync));
}

/// The caller's thread alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Threads for Serial {
    fn count(&self) -> usize {
        1
    }

    fn run(&self, work: &(dyn Fn() + Sync)) {
        work();
    }
}

/// Drops what a panic was caught with. That may panic in turn, and so may what it then panics with, which is left
/// alone.
#[cfg(feature = "std")]
#[doc(hidden)]
pub fn drop_payload(payload: alloc::boxed::Box<dyn core::any::Any + Send>) {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        core::mem::forget(another);
    }
}

/// The most parts that tasks are cut into to begin with.
const PARTS: usize = 8;

/// A part of the tasks. Each has cache lines of its own, as its counter is hot on one core.
#[repr(align(128))]
struct Part {
    next: AtomicUsize,
    end: usize,
}

/// Runs `task(worker, i)` for every `i` below `count`, each once. No two calls that run at the same time have the same
/// `worker`, which is below `workers`.
///
/// Each worker begins with a part of its own, neighbouring tasks one after the other, and then helps with the others'
/// parts. So cores do not fight over one counter, and find in cache what they made in the step before.
///
/// # Errors
/// `Cancelled` if `cancel` was set before the last task began; `Callback` if a task failed or the host's threads did
/// not finish.
pub(crate) fn for_each(
    threads: &dyn Threads,
    workers: usize,
    cancel: &Cancel,
    count: usize,
    task: &(dyn Fn(usize, usize) -> Result<()> + Sync),
) -> Result<()> {
    if workers <= 1 || count <= 1 {
        for i in 0..count {
            cancel.check()?;
            task(0, i)?;
        }
        return Ok(());
    }
    let n = workers.min(PARTS).min(count);
    let begin = |part: usize| count / n * part + (count % n).min(part);
    let parts: [Part; PARTS] = core::array::from_fn(|p| Part {
        next: AtomicUsize::new(if p < n { begin(p) } else { count }),
        end: if p < n { begin(p + 1) } else { count },
    });
    let (tickets, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    threads.run(&|| {
        // A ticket instead of a number from the host: two calls can then never share a worker's scratch.
        let worker = tickets.fetch_add(1, Ordering::Relaxed);
        if worker >= workers {
            return;
        }
        let mut finished = 0;
        for part in parts.iter().cycle().skip(worker % n).take(PARTS) {
            loop {
                let i = part.next.fetch_add(1, Ordering::Relaxed);
                if i >= part.end {
                    break;
                }
                if cancel.is_cancelled() || task(worker, i).is_err() {
                    return;
                }
                finished += 1;
            }
        }
        done.fetch_add(finished, Ordering::Relaxed);
    });
    if done.into_inner() < count {
        cancel.check()?;
        ensure!(
            false,
            Callback,
            "not all {count} tasks of a layer finished: one failed on its thread, or a thread did"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, err};
    use alloc::vec::Vec;

    /// A host that calls the work more often than it said.
    struct Eager;
    impl Threads for Eager {
        fn count(&self) -> usize {
            2
        }
        fn run(&self, work: &(dyn Fn() + Sync)) {
            std::thread::scope(|s| {
                for _ in 0..5 {
                    s.spawn(work);
                }
            });
        }
    }

    /// A host that does nothing.
    struct Idle;
    impl Threads for Idle {
        fn count(&self) -> usize {
            2
        }
        fn run(&self, _: &(dyn Fn() + Sync)) {}
    }

    #[test]
    fn every_task_runs_once_and_workers_are_never_shared() {
        for threads in [&Serial as &dyn Threads, &Eager] {
            let runs: Vec<_> = (0..100).map(|_| AtomicUsize::new(0)).collect();
            let busy = [AtomicUsize::new(0), AtomicUsize::new(0)];
            for_each(threads, 2, &Cancel::new(), runs.len(), &|worker, i| {
                assert_eq!(busy[worker].fetch_add(1, Ordering::SeqCst), 0);
                runs[i].fetch_add(1, Ordering::SeqCst);
                busy[worker].fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
            assert!(runs.iter().all(|r| r.load(Ordering::SeqCst) == 1));
        }
    }

    #[test]
    fn what_is_left_undone_is_an_error() {
        let cancel = Cancel::new();
        let kind = |threads: &dyn Threads, task: &(dyn Fn(usize, usize) -> Result<()> + Sync)| {
            for_each(threads, threads.count(), &cancel, 4, task).map_err(|e| e.kind())
        };
        assert_eq!(kind(&Idle, &|_, _| Ok(())), Err(ErrorKind::Callback));
        assert_eq!(
            kind(&Eager, &|_, i| if i == 2 { Err(err!(Shape, "no")) } else { Ok(()) }),
            Err(ErrorKind::Callback)
        );
        cancel.cancel();
        assert_eq!(kind(&Serial, &|_, _| Ok(())), Err(ErrorKind::Cancelled));
        assert_eq!(kind(&Eager, &|_, _| Ok(())), Err(ErrorKind::Cancelled));
    }
}
