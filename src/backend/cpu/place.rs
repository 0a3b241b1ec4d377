//! Which core a thread runs on, and how it leaves one for another.
//!
//! Kernels now and then wake a worker on the very core of the thread that wakes it and leave it there for tens of
//! milliseconds: as guests of a hypervisor they take a halted core for a busy one. The two then take turns where they
//! should run side by side. Where this cannot be found out, it is as the kernel has it.
#![allow(unsafe_code)] // Calls the C library.

/// The number of the core that this thread runs on, as of now.
pub(super) fn core() -> Option<usize> {
    system::core()
}

/// Moves this thread to another of the cores that it may run on. It stays free to run on all of them.
pub(super) fn leave(core: usize) {
    system::leave(core);
}

#[cfg(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"), not(miri)))]
mod system {
    use core::ffi::c_int;

    /// A set of cores, a bit each, as large as the C library's own.
    type Cores = [usize; 1024 / usize::BITS as usize];

    // What the standard library is linked with has these.
    unsafe extern "C" {
        fn sched_getcpu() -> c_int;
        fn sched_getaffinity(thread: c_int, bytes: usize, cores: *mut Cores) -> c_int;
        fn sched_setaffinity(thread: c_int, bytes: usize, cores: *const Cores) -> c_int;
    }

    /// This thread, to the C library.
    const SELF: c_int = 0;

    pub fn core() -> Option<usize> {
        // SAFETY: takes no arguments and may be called anywhere.
        usize::try_from(unsafe { sched_getcpu() }).ok()
    }

    pub fn leave(core: usize) {
        let mut all: Cores = [0; _];
        // SAFETY: the set is as long as stated and ours.
        if unsafe { sched_getaffinity(SELF, size_of::<Cores>(), &raw mut all) } != 0 {
            return;
        }
        let mut others = all;
        if let Some(word) = others.get_mut(core / usize::BITS as usize) {
            *word &= !(1 << (core % usize::BITS as usize));
        }
        if others.iter().all(|word| *word == 0) {
            return;
        }
        // SAFETY: as above. The kernel moves the thread within this call.
        if unsafe { sched_setaffinity(SELF, size_of::<Cores>(), &raw const others) } != 0 {
            return;
        }
        // The thread gets its freedom back. The kernel cuts the set down to the cores that the process may use, so this
        // fails only if all of `all` were taken away meanwhile; the thread is then where the kernel has put it, and so
        // it is left.
        // SAFETY: as above.
        let _ = unsafe { sched_setaffinity(SELF, size_of::<Cores>(), &raw const all) };
    }
}

#[cfg(not(all(target_os = "linux", any(target_env = "gnu", target_env = "musl"), not(miri))))]
mod system {
    pub fn core() -> Option<usize> {
        None
    }

    pub fn leave(_: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_leaves_its_core_and_may_come_back() {
        let many = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        let Some(here) = core().filter(|_| many) else {
            std::println!("skipped: one core, or cores have no numbers here");
            return;
        };
        leave(here);
        let there = core().unwrap();
        // The kernel may have moved it back already, so one of a few tries has to be seen elsewhere.
        let moved = there != here
            || (0..100).any(|_| {
                let here = core().unwrap();
                leave(here);
                core().unwrap() != here
            });
        assert!(moved);
        assert!(std::thread::available_parallelism().unwrap().get() > 1, "it may run on all cores again");
        // A core that there is not is no core to leave.
        leave(usize::MAX);
        leave(1 << 20);
    }
}
