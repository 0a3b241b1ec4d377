//! Evidence in a binary chain: heartbeats of the 2015 paper, completed from half of their bits.
//!
//!     cargo run --release --example known_bits

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::BitSequences;
use undiffuse::noise::Seeded;
use undiffuse::posterior::{BitProduct, BitSchedule, IndependentBits, RSchedule};
use undiffuse::process::Binomial;
use undiffuse::sampler::{BitPrediction, Bits2015, Ending2015};
use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
use undiffuse::tensor::Dims;

fn main() -> undiffuse::Result<()> {
    // The model: 20 bins, a 1 in every fifth, each phase as likely. Its denoiser is exact; a network would do as well.
    let process = Binomial::new(0.2)?;
    let rows: Vec<bool> = (0..5).flat_map(|phase| (0..20).map(move |i| i % 5 == phase)).collect();
    let heartbeats = BitSequences::new(Dims::new(&[20])?, &rows, &[1.0; 5], process)?;
    let schedule = NoiseSchedule::new(&Betas::erasing_evenly(2000)?, Arithmetic::Float64)?;
    let sampler = Bits2015::new(&schedule, process, BitPrediction::Clean, false, Ending2015::Mean)?;

    // The evidence: the first ten bits of the phase that begins in the fourth bin.
    let known: Vec<Option<bool>> = (0..20).map(|i| (i < 10).then_some(i % 5 == 3)).collect();
    let evidence = BitProduct::new(IndependentBits::known(&known, BitSchedule::Paper(RSchedule::Constant)));

    let options = ChainOptions { batch: 5, first_sample: 0 };
    let mut chain = Chain::with_evidence(heartbeats, sampler, Seeded::new(7), evidence, &options)?;
    let show = |x: &[f32]| x.iter().map(|&b| if b == 1.0 { '1' } else { '.' }).collect::<String>();
    let seen = |b: &Option<bool>| b.map_or('?', |b| if b { '1' } else { '.' });
    println!("known     {}", known.iter().map(seen).collect::<String>());
    chain.x().chunks(20).for_each(|x| println!("x_T       {}", show(x)));
    chain.run()?;
    chain.x().chunks(20).for_each(|x| println!("completed {}", show(x)));
    Ok(())
}
