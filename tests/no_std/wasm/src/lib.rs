//! The samples of tests/no_std/board in WebAssembly, on the portable path and on simd128; `run.mjs` is the host, which
//! gives `print`.

extern crate alloc;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use undiffuse::backend::cpu::Path;

#[path = "../../board/src/digits.rs"]
mod digits;
#[path = "../../board/src/samples.rs"]
mod samples;

use samples::Board;

#[link(wasm_import_module = "host")]
unsafe extern "C" {
    fn print(text: *const u8, len: usize);
}

static ARMED: AtomicBool = AtomicBool::new(false);

/// The system's allocator, which refuses everything once it is armed.
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

struct Node;

impl Board for Node {
    fn print(&self, text: &str) {
        // SAFETY: the host reads so many bytes there and keeps nothing.
        unsafe { print(text.as_ptr(), text.len()) }
    }

    fn arm(&self, armed: bool) {
        ARMED.store(armed, Ordering::Relaxed);
    }
}

/// Prints everything; 0 where all went well.
#[unsafe(no_mangle)]
pub extern "C" fn run() -> u32 {
    let mut arena = vec![0.0; samples::ARENA];
    match samples::all(&Node, &mut arena, &[Path::Portable, Path::Simd128]) {
        Ok(()) => 0,
        Err(e) => {
            Node.print(&format!("{e}\n"));
            1
        }
    }
}
