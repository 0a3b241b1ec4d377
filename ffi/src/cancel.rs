//! The flag that stops a session from any thread.

use alloc::sync::Arc;

use undiffuse::Cancel;

use crate::guard::{free, ok, output, void};
use crate::status::{undiffuse_error, undiffuse_status};

/// A flag that stops what is running. All functions on it but _new and _free may be called from any thread at any time,
/// also while a session uses it.
pub struct undiffuse_cancel(Arc<Cancel>);

impl undiffuse_cancel {
    /// The flag that an option names.
    ///
    /// # Safety
    /// NULL, or from this library and not freed.
    pub(crate) unsafe fn shared(pointer: *const Self) -> Arc<Cancel> {
        // SAFETY: the caller's promise.
        unsafe { pointer.as_ref() }.map_or_else(|| Arc::new(Cancel::new()), |c| Arc::clone(&c.0))
    }
}

/// Makes a flag that is not set. You free it with undiffuse_cancel_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_cancel_new(
    cancel: *mut *mut undiffuse_cancel,
    error: *mut *mut undiffuse_error,
) -> undiffuse_status {
    // SAFETY: pointers are what the header asks for, here and below.
    unsafe {
        ok(error, || {
            let out = output(cancel, "cancel")?;
            out.give(undiffuse_cancel(Arc::new(Cancel::new())))
        })
    }
}

/// Sets the flag: each session that uses it returns UNDIFFUSE_CANCELLED within the time of one layer of the network,
/// and stays usable.
///
/// Any thread, also a signal handler: it is one atomic store. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_cancel_set(cancel: *mut undiffuse_cancel) {
    // SAFETY: NULL, or a flag; its content is atomic.
    if let Some(c) = unsafe { cancel.as_ref() } {
        c.0.cancel();
    }
}

/// Clears the flag, for the next run. Nothing clears it by itself. Any thread, also a signal handler; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_cancel_reset(cancel: *mut undiffuse_cancel) {
    // SAFETY: as above.
    if let Some(c) = unsafe { cancel.as_ref() } {
        c.0.reset();
    }
}

/// Whether the flag is set; false for NULL. Any thread, also a signal handler.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_cancel_is_set(cancel: *const undiffuse_cancel) -> bool {
    // SAFETY: as above.
    unsafe { cancel.as_ref() }.is_some_and(|c| c.0.is_cancelled())
}

/// Frees the flag. Sessions that use it keep what they need of it, so the order does not matter. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_cancel_free(cancel: *mut undiffuse_cancel) {
    // SAFETY: NULL, or from this library and not freed yet.
    void(|| unsafe { free(cancel) });
}
