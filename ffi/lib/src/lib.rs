//! libundiffuse. The functions are those of `undiffuse-ffi`; this crate gives the files their name, which as a Rust library would
//! be that of `undiffuse` itself.

pub use undiffuse_ffi::*;
