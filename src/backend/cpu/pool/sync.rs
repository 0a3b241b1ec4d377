//! What [`gate`](super::gate) is made of. `tests/loom` gives it loom's instead, so that the same lines are run under
//! all interleavings.

use core::time::Duration;
use std::time::Instant;

pub(super) use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

/// How long a thread looks for a change before it sleeps.
pub(super) const SPIN: Duration = Duration::from_micros(50);

/// How long it looks before it lets others run in between.
const BRIEF: Duration = Duration::from_micros(3);

/// `core::cell::UnsafeCell` by loom's interface.
pub(super) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Looks at `ready` for [`SPIN`], or for as long as others keep the core that it offers them: how long it took to come
/// true, or, as an error, in vain. After the first moment it lets others run in between, since who is waited for may
/// have been put on this very core.
pub(super) fn spin(ready: &mut dyn FnMut() -> bool) -> Result<Duration, Duration> {
    if ready() {
        return Ok(Duration::ZERO);
    }
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            core::hint::spin_loop();
            if ready() {
                return Ok(start.elapsed());
            }
        }
        let waited = start.elapsed();
        if waited >= SPIN {
            return Err(waited);
        }
        if waited >= BRIEF {
            std::thread::yield_now();
        }
    }
}
