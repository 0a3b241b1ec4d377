//! What the programs with one model have in common: the board, and the run.

use core::panic::PanicInfo;

use cortex_m_semihosting::debug;
use undiffuse::chain::ChainOptions;
use undiffuse::embed::{Model, NoHeap};
use undiffuse::noise::Seeded;
use undiffuse::sampler::Sampler;

#[allow(dead_code)]
#[path = "../../models.rs"]
mod models;

/// Nothing takes memory.
#[global_allocator]
static HEAP: NoHeap = NoHeap;

/// Prints without the code that formats.
fn print(text: &[u8]) {
    if let Ok(mut out) = cortex_m_semihosting::hio::hstdout() {
        _ = out.write_all(text);
    }
}

/// One sample, its checksum printed in hexadecimal; then one try in a workspace that is a value too short.
pub fn run<S: Sampler>(name: &str, model: &'static Model<S>, workspace: &mut [f32]) -> ! {
    let short = workspace.len() - 1;
    let refused = model.chain(Seeded::new(models::SEED), &ChainOptions::default(), &[], &mut workspace[..short]);
    let lengths = refused.err().and_then(|e| e.lengths());
    let sum = model.chain(Seeded::new(models::SEED), &ChainOptions::default(), &[], workspace).and_then(|mut chain| {
        chain.run()?;
        Ok(models::checksum(chain.x()))
    });
    match sum {
        Ok(sum) if lengths == Some([short, short + 1]) => {
            let digit = |i: u32| b"0123456789abcdef"[(sum >> (60 - 4 * i)) as usize & 15];
            let mut line = [b'\n'; 17];
            line.iter_mut().take(16).zip(0..).for_each(|(to, i)| *to = digit(i));
            print(name.as_bytes());
            print(b" ");
            print(&line);
            debug::exit(debug::EXIT_SUCCESS);
        }
        Ok(_) => debug::exit(debug::EXIT_FAILURE),
        Err(e) => {
            print(e.message().as_bytes());
            debug::exit(debug::EXIT_FAILURE);
        }
    }
    loop {
        cortex_m::asm::wfi();
    }
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    debug::exit(debug::EXIT_FAILURE);
    loop {
        cortex_m::asm::wfi();
    }
}
