//! Versions.

use core::ffi::{CStr, c_char};

/// The ABI that this header describes. It grows when functions, options or values are added; nothing is ever taken away
/// from an ABI that UNDIFFUSE_ABI_OLDEST includes.
pub const UNDIFFUSE_ABI_VERSION: u32 = 1;

/// The oldest ABI whose programs run with a library of this version.
pub const UNDIFFUSE_ABI_OLDEST: u32 = 1;

/// The version of the library that this header came with, major * 1000000 + minor * 1000 + patch.
pub const UNDIFFUSE_VERSION: u32 = 1_000;

/// The version of the library that the program runs with, such as "0.1.0". The string is static: never free it. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn undiffuse_version_string() -> *const c_char {
    const TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };
    TEXT.as_ptr()
}

/// UNDIFFUSE_VERSION of the library that the program runs with. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn undiffuse_version() -> u32 {
    UNDIFFUSE_VERSION
}

/// UNDIFFUSE_ABI_VERSION of the library that the program runs with: at least the header's if all that the header has is
/// there. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn undiffuse_abi_version() -> u32 {
    UNDIFFUSE_ABI_VERSION
}

/// UNDIFFUSE_ABI_OLDEST of the library that the program runs with: at most the header's UNDIFFUSE_ABI_VERSION if the
/// program runs with it. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn undiffuse_abi_oldest() -> u32 {
    UNDIFFUSE_ABI_OLDEST
}

// The number and the text say the same.
const _: () = {
    let [major, minor, patch] =
        [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    const fn number(text: &str) -> u32 {
        let (bytes, mut i, mut n) = (text.as_bytes(), 0, 0);
        while i < bytes.len() {
            n = n * 10 + (bytes[i] - b'0') as u32;
            i += 1;
        }
        n
    }
    assert!(UNDIFFUSE_VERSION == number(major) * 1_000_000 + number(minor) * 1_000 + number(patch));
};
