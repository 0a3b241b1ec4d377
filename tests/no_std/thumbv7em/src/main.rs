//! Samples on a microcontroller: core and alloc only, a heap of fixed size.
#![no_std]
#![no_main]

extern crate alloc;

use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use cortex_m_semihosting::{debug, hprintln};
use embedded_alloc::LlffHeap;

const HEAP_BYTES: usize = 1 << 20;

#[global_allocator]
static HEAP: LlffHeap = LlffHeap::empty();

#[cortex_m_rt::entry]
fn main() -> ! {
    static mut MEMORY: [MaybeUninit<u8>; HEAP_BYTES] = [MaybeUninit::uninit(); HEAP_BYTES];
    // SAFETY: `MEMORY` is used by nothing else (the entry macro hands it out once), and the heap is made before it is used.
    unsafe { HEAP.init((&raw mut *MEMORY) as usize, HEAP_BYTES) }
    match run() {
        Ok(()) => debug::exit(debug::EXIT_SUCCESS),
        Err(e) => {
            hprintln!("{}", e);
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    loop {
        cortex_m::asm::wfi();
    }
}

fn run() -> undiffuse::Result<()> {
    use undiffuse::noise::NoiseSource;
    let mut x = [0f32; 4];
    undiffuse::noise::Seeded::new(42).normal(0, 0, 4, &mut x)?;
    hprintln!("{:?}", x);
    Ok(())
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}
