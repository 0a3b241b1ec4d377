//! The end of an error object. The rest of it is below `guard`, which makes them.

use crate::guard::{free, void};
use crate::status::undiffuse_error;

/// Frees an error object. NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_error_free(error: *mut undiffuse_error) {
    // SAFETY: NULL, or from this library and not freed yet.
    void(|| unsafe { free(error) });
}
