//! The whole of a program: a chain, run.

use core::panic::PanicInfo;

use undiffuse::chain::ChainOptions;
use undiffuse::embed::{Given, Model, NoHeap};
use undiffuse::noise::Seeded;
use undiffuse::sampler::Sampler;

#[global_allocator]
static HEAP: NoHeap = NoHeap;

/// Where the result goes, so that it is made.
#[unsafe(no_mangle)]
static mut RESULT: f32 = 0.0;

pub fn run<S: Sampler>(model: &'static Model<S>, conditions: Given<'static>, workspace: &'static mut [f32]) -> ! {
    let chain = model.chain(Seeded::new(42), &ChainOptions::default(), conditions, workspace).and_then(|mut chain| {
        chain.run()?;
        Ok(chain)
    });
    if let Ok(chain) = chain {
        // SAFETY: nobody else writes there.
        unsafe { (&raw mut RESULT).write_volatile(chain.x().iter().sum()) };
    }
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
