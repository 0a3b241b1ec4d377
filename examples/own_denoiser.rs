//! Any function can be the network: another inference engine, or, as here, a formula. The chain, the samplers and the
//! noise are the same.
//!
//!     cargo run --release --example own_denoiser
//!
//! The data are two points, -1 and +1, each with probability one half. Then E[x_0 | x_t] = tanh(sqrt(abar) x_t / (1 -
//! abar)), so the exact noise prediction is known, and half of the samples must arrive at each point.

use undiffuse::Result;
use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::FnDenoiser;
use undiffuse::noise::Seeded;
use undiffuse::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::Dims;

fn main() -> Result<()> {
    let denoiser = FnDenoiser::new("two points", Dims::new(&[1])?, |call, x, out| {
        // x holds a batch of samples; the level says how noisy they are: x_t = alpha x_0 + sigma eps.
        let (alpha, sigma) = (call.level.alpha, call.level.sigma);
        for (eps, &x) in out.iter_mut().zip(x) {
            let x0 = (alpha * f64::from(x) / (sigma * sigma)).tanh();
            *eps = ((f64::from(x) - alpha * x0) / sigma) as f32;
        }
        Ok(())
    });

    let options = SamplerOptions { steps: Steps::Count(100), ..SamplerOptions::default() };
    let sampler = SchedulerConfig::new(SamplerKind::Ddpm).sampler(&options)?;
    let batch = 10_000;
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(1), &ChainOptions { batch, first_sample: 0 })?;
    chain.run()?;

    let near = |point: f32| chain.x().iter().filter(|&&x| (x - point).abs() < 0.1).count();
    println!("of {batch} samples, {} are at -1 and {} at +1", near(-1.0), near(1.0));
    Ok(())
}
