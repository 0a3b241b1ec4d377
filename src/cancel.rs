//! A flag that stops a run from any thread.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Result, ensure};

/// Asks a running chain or network call to stop. Share it by reference (or in an `Arc`) with the thread that may
/// cancel.
///
/// A network call looks at it between layers, a chain between steps. What was running returns
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) and stays usable; the flag stays set until [`Cancel::reset`].
///
/// ```
/// let cancel = undiffuse::Cancel::new();
/// assert!(cancel.check().is_ok());
/// cancel.cancel();
/// assert_eq!(cancel.check().unwrap_err().kind(), undiffuse::ErrorKind::Cancelled);
/// ```
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// A flag that is not set.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Sets the flag. It takes one atomic store, so a signal handler may call it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Clears the flag for the next run.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// `Err(Cancelled)` if the flag is set.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.is_cancelled(), Cancelled, "the run was cancelled");
        Ok(())
    }
}
