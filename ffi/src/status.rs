//! Status codes and the error object.

use alloc::ffi::CString;
use alloc::format;
use alloc::string::String;
use core::ffi::c_char;

use undiffuse::{Error, ErrorKind};

/// What a call returns. The values never change; new ones may be added, so treat an unknown one as an error.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum undiffuse_status {
    /// Success.
    UNDIFFUSE_OK = 0,
    /// Not an error: the progress callback asked to stop. The session is at a step boundary and can be continued.
    UNDIFFUSE_STOPPED = 1,
    /// An argument or option is out of its range, NULL where it must not be, or two of them contradict each other.
    UNDIFFUSE_INVALID_ARGUMENT = -1,
    /// A buffer or tensor has the wrong shape or length for the call.
    UNDIFFUSE_SHAPE = -2,
    /// A model, scheduler or pipeline configuration is malformed or holds an unknown key or value.
    UNDIFFUSE_CONFIG = -3,
    /// A weight file is malformed, or a tensor in it is missing, unexpected, misshapen or not finite.
    UNDIFFUSE_WEIGHTS = -4,
    /// The request is well formed, but this build or backend does not support it.
    UNDIFFUSE_UNSUPPORTED = -5,
    /// Reading or writing a file failed.
    UNDIFFUSE_IO = -6,
    /// A cancel flag was set. The session is at the end of its last complete step and can be continued.
    UNDIFFUSE_CANCELLED = -7,
    /// Memory could not be allocated, or a workspace is too small.
    UNDIFFUSE_OUT_OF_MEMORY = -8,
    /// A callback of yours returned a failure, or your threads did not do the work they were given.
    UNDIFFUSE_CALLBACK = -9,
    /// NaN or infinity, in an array that you passed or in what a network, callback or evidence returned.
    UNDIFFUSE_NON_FINITE = -10,
    /// The caller's buffer is too small; the required length was written.
    UNDIFFUSE_BUFFER_TOO_SMALL = -11,
    /// Another call is using this handle, for example the one whose callback is running.
    UNDIFFUSE_BUSY = -12,
    /// An earlier call on this handle returned UNDIFFUSE_PANIC. It can only be freed.
    UNDIFFUSE_POISONED = -13,
    /// A bug of this library, caught before it could reach your code. The handles of the call are poisoned.
    UNDIFFUSE_PANIC = -14,
    /// An error for which this version of the ABI has no code; see the message.
    UNDIFFUSE_OTHER = -15,
    /// A GPU or its driver is missing, failed or was lost.
    UNDIFFUSE_DEVICE = -16,
}

use undiffuse_status::*;

impl undiffuse_status {
    fn name(code: i32) -> &'static core::ffi::CStr {
        const NAMES: [(undiffuse_status, &core::ffi::CStr); 18] = [
            (UNDIFFUSE_OK, c"ok"),
            (UNDIFFUSE_STOPPED, c"stopped"),
            (UNDIFFUSE_INVALID_ARGUMENT, c"invalid argument"),
            (UNDIFFUSE_SHAPE, c"wrong shape"),
            (UNDIFFUSE_CONFIG, c"bad configuration"),
            (UNDIFFUSE_WEIGHTS, c"bad weights"),
            (UNDIFFUSE_UNSUPPORTED, c"unsupported"),
            (UNDIFFUSE_IO, c"input or output failed"),
            (UNDIFFUSE_CANCELLED, c"cancelled"),
            (UNDIFFUSE_OUT_OF_MEMORY, c"out of memory"),
            (UNDIFFUSE_CALLBACK, c"callback failed"),
            (UNDIFFUSE_NON_FINITE, c"not finite"),
            (UNDIFFUSE_BUFFER_TOO_SMALL, c"buffer too small"),
            (UNDIFFUSE_BUSY, c"busy"),
            (UNDIFFUSE_POISONED, c"poisoned"),
            (UNDIFFUSE_PANIC, c"internal error"),
            (UNDIFFUSE_OTHER, c"other error"),
            (UNDIFFUSE_DEVICE, c"device failed"),
        ];
        NAMES.iter().find(|(s, _)| *s as i32 == code).map_or(c"unknown status", |(_, name)| name)
    }
}

/// Why a call did not return UNDIFFUSE_OK.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: undiffuse_status,
    pub message: String,
}

/// What the inner side of every function returns.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(status: undiffuse_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// Puts what it is about in front of the text.
    pub fn context(self, context: impl core::fmt::Display) -> Self {
        Self { message: format!("{context}: {}", self.message), ..self }
    }

    pub fn argument(message: impl Into<String>) -> Self {
        Self::new(UNDIFFUSE_INVALID_ARGUMENT, message)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let status = match e.kind() {
            ErrorKind::InvalidArgument => UNDIFFUSE_INVALID_ARGUMENT,
            ErrorKind::Shape => UNDIFFUSE_SHAPE,
            ErrorKind::Config => UNDIFFUSE_CONFIG,
            ErrorKind::Weights => UNDIFFUSE_WEIGHTS,
            ErrorKind::Unsupported => UNDIFFUSE_UNSUPPORTED,
            ErrorKind::Io => UNDIFFUSE_IO,
            ErrorKind::Cancelled => UNDIFFUSE_CANCELLED,
            ErrorKind::OutOfMemory => UNDIFFUSE_OUT_OF_MEMORY,
            ErrorKind::Callback => UNDIFFUSE_CALLBACK,
            ErrorKind::NonFinite => UNDIFFUSE_NON_FINITE,
            ErrorKind::Device => UNDIFFUSE_DEVICE,
            _ => UNDIFFUSE_OTHER,
        };
        Self::new(status, e.message())
    }
}

/// Why a call failed: a status and one line of text for a person, which names the thing, what was expected and what was
/// got.
pub struct undiffuse_error {
    status: undiffuse_status,
    message: CString,
}

impl undiffuse_error {
    pub(crate) fn new(failure: Failure) -> Self {
        // What follows a NUL byte, which a path of the caller's cannot hold and a file's text may, is of no use to C.
        let text = failure.message.split('\0').next().unwrap_or_default();
        Self { status: failure.status, message: CString::new(text).unwrap_or_default() }
    }
}

/// A short name of a status, such as "out of memory"; "unknown status" for a number that is none.
///
/// The string is static: never free it. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn undiffuse_status_name(status: i32) -> *const c_char {
    undiffuse_status::name(status).as_ptr()
}

/// The status that the failed call returned; UNDIFFUSE_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_error_status(error: *const undiffuse_error) -> undiffuse_status {
    // SAFETY: NULL or an error of this library, which nothing changes.
    unsafe { error.as_ref() }.map_or(UNDIFFUSE_OK, |e| e.status)
}

/// The text, UTF-8 on one line; "" for NULL. It lives as long as the error object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn undiffuse_error_message(error: *const undiffuse_error) -> *const c_char {
    // SAFETY: as above.
    unsafe { error.as_ref() }.map_or(c"".as_ptr(), |e| e.message.as_ptr())
}
