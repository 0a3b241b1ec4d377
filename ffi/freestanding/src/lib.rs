//! libundiffuse without an operating system: the functions of include/undiffuse.h, and what undiffuse_freestanding.h
//! asks the program for. No files, no threads. A panic, which is a bug of the library or a refused small block, ends in
//! the program's hands.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_char, c_void};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

pub use undiffuse_ffi::*;

unsafe extern "C" {
    fn undiffuse_platform_allocate(size: usize, alignment: usize) -> *mut c_void;
    fn undiffuse_platform_deallocate(block: *mut c_void, size: usize, alignment: usize);
    fn undiffuse_platform_panic(message: *const c_char, len: usize) -> !;
}

struct Platform;

// SAFETY: the header asks the program's functions for what the trait asks for.
unsafe impl GlobalAlloc for Platform {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the header says; the size is above 0.
        unsafe { undiffuse_platform_allocate(layout.size(), layout.align()) }.cast()
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above, and the block is the program's.
        unsafe { undiffuse_platform_deallocate(block.cast(), layout.size(), layout.align()) }
    }
}

#[global_allocator]
static ALLOCATOR: Platform = Platform;

/// A text of bounded length: nothing can be allocated here.
struct Text {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(text.bytes()) {
            *to = from;
            self.len += 1;
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut text = Text { bytes: [0; 256], len: 0 };
    let _ = write!(text, "{info}");
    // SAFETY: as the header says.
    unsafe { undiffuse_platform_panic(text.bytes.as_ptr().cast(), text.len) }
}
