//! Panics, which must not reach C. Without an operating system there is no unwinding: the panic handler then has the
//! last word.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use core::any::Any;

/// What a panic was caught with.
pub(crate) struct Payload(Box<dyn Any + Send>);

impl Payload {
    /// What the panic said.
    pub fn text(&self) -> String {
        let text = self.0.downcast_ref::<&str>().copied().or(self.0.downcast_ref::<String>().map(String::as_str));
        text.unwrap_or("panic").to_string()
    }

    /// Drops it, which may panic in turn.
    pub fn drop(self) {
        #[cfg(feature = "std")]
        undiffuse::backend::threads::drop_payload(self.0);
    }
}

/// Runs `body` and stops a panic of it. What it was doing is left as it was then: handles are poisoned by
/// [`panicking`].
#[cfg(feature = "std")]
pub(crate) fn stop<R>(body: impl FnOnce() -> R) -> Result<R, Payload> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).map_err(Payload)
}

#[cfg(not(feature = "std"))]
pub(crate) fn stop<R>(body: impl FnOnce() -> R) -> Result<R, Payload> {
    Ok(body())
}

/// Whether a panic is on its way through this thread.
pub(crate) fn panicking() -> bool {
    #[cfg(feature = "std")]
    return std::thread::panicking();
    #[cfg(not(feature = "std"))]
    return false;
}
