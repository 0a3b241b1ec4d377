//! The computer that builds: prints what the boards must print.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use undiffuse::backend::cpu::Path;

use crate::samples::{self, Board};

static ARMED: AtomicBool = AtomicBool::new(false);

/// The system's allocator, which refuses everything once it is armed, as that of the boards does.
struct Armed;

// SAFETY: calls go to the system's allocator unchanged, or get nothing.
unsafe impl GlobalAlloc for Armed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on, here and below.
        if ARMED.load(Ordering::Relaxed) { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Armed = Armed;

struct Host;

impl Board for Host {
    fn print(&self, text: &str) {
        print!("{text}");
    }

    fn arm(&self, armed: bool) {
        ARMED.store(armed, Ordering::Relaxed);
    }
}

pub fn main() -> undiffuse::Result<()> {
    // On x86-64 this is the portable path alone, since that is what all boards have; under an emulated AArch64 also NEON.
    let mut arena = vec![0.0; samples::ARENA];
    samples::all(&Host, &mut arena, &[Path::Portable, Path::Neon])
}
