//! Samples on a microcontroller: core and alloc only, a heap of fixed size. Prints what `examples/embedded` prints on
//! the host.
#![no_std]
#![no_main]

extern crate alloc;

use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use cortex_m_semihosting::{debug, hprint, hprintln};
use embedded_alloc::LlffHeap;

#[path = "../../../../../examples/embedded/samples.rs"]
mod samples;

/// The model lies in flash; nothing reads a file.
static MODEL: &[u8] = include_bytes!("../../../tiny.safetensors");

const HEAP_BYTES: usize = 1 << 20;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut MEMORY: [MaybeUninit<u8>; HEAP_BYTES] = [MaybeUninit::uninit(); HEAP_BYTES];
    // SAFETY: `MEMORY` is used by nothing else (the entry macro hands it out once), and the heap is made before it is
    // used.
    unsafe { HEAP.init((&raw mut *MEMORY) as usize, HEAP_BYTES) }
    match samples::report(MODEL) {
        Ok(report) => {
            hprint!("{}", report);
            debug::exit(debug::EXIT_SUCCESS);
        }
        Err(e) => {
            hprintln!("{}", e);
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    loop {
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}
