//! A panic on demand, for tests of what happens then. Without the feature it is nothing.

#[cfg(feature = "inject-panic")]
mod on {
    use std::sync::atomic::{AtomicI64, Ordering};

    static LEFT: AtomicI64 = AtomicI64::new(0);

    /// Not in the header (ffi/cbindgen.toml leaves it out): the `calls`-th call of the library from now on panics; 0
    /// for none.
    #[unsafe(no_mangle)]
    pub extern "C" fn undiffuse_test_panic_in(calls: i64) {
        LEFT.store(calls, Ordering::SeqCst);
    }

    pub(crate) fn point() {
        if LEFT.load(Ordering::SeqCst) > 0 && LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            // A panic without a message on standard error.
            std::panic::resume_unwind(std::boxed::Box::new("a panic that a test asked for"));
        }
    }
}

#[cfg(feature = "inject-panic")]
pub(crate) use on::point;

#[cfg(not(feature = "inject-panic"))]
pub(crate) fn point() {}
