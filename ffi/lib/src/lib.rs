//! libundiffuse. The functions are those of `undiffuse-ffi`; this crate gives the files their name, which as a Rust
//! library would be that of `undiffuse` itself.

pub use undiffuse_ffi::*;

/// A refused small allocation must not end the host's process.
#[global_allocator]
static ALLOCATOR: undiffuse_ffi::reserve::Reserve = undiffuse_ffi::reserve::Reserve;
