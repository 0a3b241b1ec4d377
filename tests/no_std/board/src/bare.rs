//! What all boards without an operating system have in common: a heap, a painted stack, what happens in the end.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use core::ptr::NonNull;

use linked_list_allocator::Heap;
use undiffuse::backend::cpu::Path;

use crate::board;
use crate::samples::{self, Board};

unsafe extern "C" {
    static mut _stack_bottom: u64;
    static mut _stack_top: u64;
    static mut _heap_start: u8;
    static mut _heap_end: u8;
}

struct State {
    heap: Heap,
    armed: bool,
    most: usize,
}

/// One core and no interrupt: whoever is here is alone.
struct Alone<T>(UnsafeCell<T>);

// SAFETY: there is one thread.
unsafe impl<T> Sync for Alone<T> {}

#[global_allocator]
static HEAP: Alone<State> = Alone(UnsafeCell::new(State { heap: Heap::empty(), armed: false, most: 0 }));

static ARENA: Alone<[f32; samples::ARENA]> = Alone(UnsafeCell::new([0.0; samples::ARENA]));

// SAFETY: blocks are the heap's; there is one thread, and no function here calls back.
unsafe impl GlobalAlloc for Alone<State> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the only reference while it lives.
        let state = unsafe { &mut *self.0.get() };
        if state.armed {
            return core::ptr::null_mut();
        }
        let block = state.heap.allocate_first_fit(layout).map_or(core::ptr::null_mut(), NonNull::as_ptr);
        state.most = state.most.max(state.heap.used());
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the only reference while it lives; the block is the heap's.
            unsafe { (*self.0.get()).heap.deallocate(block, layout) }
        }
    }
}

struct Out;

impl Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        board::print(text);
        Ok(())
    }
}

const PAINT: u64 = 0x5741_4e44_4552_4552;

/// Paints the stack below this function's frame.
#[inline(never)]
fn paint() {
    let here = 0u64;
    let mut word = &raw mut _stack_bottom;
    // A margin for this function's own frame.
    let end = (&raw const here).wrapping_byte_sub(256);
    while word.cast_const() < end {
        // SAFETY: within the stack, where no frame is.
        unsafe {
            word.write_volatile(PAINT);
            word = word.add(1);
        }
    }
}

/// Bytes of stack used since it was painted, from its top.
fn stack_used() -> usize {
    let (mut word, top) = (&raw const _stack_bottom, &raw const _stack_top);
    // SAFETY: within the stack.
    while word < top && unsafe { word.read_volatile() } == PAINT {
        word = word.wrapping_add(1);
    }
    top.addr() - word.addr()
}

struct Bare;

impl Board for Bare {
    fn print(&self, text: &str) {
        board::print(text);
    }

    fn arm(&self, armed: bool) {
        // SAFETY: the only reference while it lives.
        unsafe { (*HEAP.0.get()).armed = armed }
    }

    fn instructions(&self) -> Option<u64> {
        Some(board::instructions())
    }

    fn memory(&self) -> Option<samples::Memory> {
        // SAFETY: the only reference while it lives.
        let state = unsafe { &mut *HEAP.0.get() };
        let memory = samples::Memory { stack: stack_used(), heap: state.heap.used(), heap_most: state.most };
        state.most = memory.heap;
        paint();
        Some(memory)
    }
}

#[unsafe(no_mangle)]
extern "C" fn start() -> ! {
    let (from, to) = (&raw mut _heap_start, &raw mut _heap_end);
    // SAFETY: memory that the linker's map gives to nobody else; nothing was allocated yet.
    unsafe { (*HEAP.0.get()).heap.init(from, to.addr() - from.addr()) }
    // SAFETY: the only reference; this function is called once.
    let arena = unsafe { &mut *ARENA.0.get() };
    paint();
    let result = samples::all(&Bare, arena, &[Path::Portable, Path::Neon]);
    if let Err(e) = &result {
        let _ = writeln!(Out, "{e}");
    }
    board::exit(result.is_ok())
}

#[unsafe(no_mangle)]
extern "C" fn fault() -> ! {
    board::print("a fault of the processor\n");
    board::exit(false)
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    Bare.arm(false);
    let _ = writeln!(Out, "{info}");
    board::exit(false)
}
