//! Evidence written as a closure: the gradient of any log r(x).
//!
//! Here r says that the two values of a sample lie close to a circle, of which the model, two blobs, knows nothing.
//!
//!     cargo run --release --example closure_evidence

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
use undiffuse::noise::Seeded;
use undiffuse::posterior::{FnLogR, MeanShift, NoEvidence, RSchedule};
use undiffuse::process::PredictionType;
use undiffuse::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::schedule::Level;
use undiffuse::tensor::Dims;

fn main() -> undiffuse::Result<()> {
    let blob = |x: f64| Component { weight: 1.0, mean: vec![x, 0.0], covariance: Covariance::Diagonal(vec![0.1, 0.3]) };
    let prior = GaussianMixture::new(Dims::new(&[2])?, &[blob(-0.6), blob(0.6)], PredictionType::Epsilon)?;
    let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(500), ..Default::default() })?;

    // log r = -(|x| - 1)^2 / (2 w^2). x_t is noisy, so the ring is taken wider where the noise is strong: w^2 = 0.01 +
    // sigma^2, and smaller by alpha.
    let ring = FnLogR::new(|_sample, level: &Level, x: &[f32], out: &mut [f32]| {
        let (width, radius) = (0.01 + level.sigma * level.sigma, level.alpha);
        let length = f64::from(x[0]).hypot(f64::from(x[1])).max(1e-6);
        for (out, &x) in out.iter_mut().zip(x) {
            *out = (-(length - radius) / width * f64::from(x) / length) as f32;
        }
        Ok(())
    });

    let options = ChainOptions { batch: 2000, first_sample: 0 };
    let off = |x: &[f32]| -> f64 {
        let squares = x.chunks(2).map(|p| (f64::from(p[0]).hypot(f64::from(p[1])) - 1.0).powi(2));
        (squares.sum::<f64>() / (x.len() / 2) as f64).sqrt()
    };
    let mut free = Chain::with_evidence(prior.clone(), &sampler, Seeded::new(1), NoEvidence, &options)?;
    free.run()?;
    let mut held =
        Chain::with_evidence(prior, &sampler, Seeded::new(1), MeanShift::new(ring, RSchedule::Constant), &options)?;
    held.run()?;
    println!(
        "distance from the circle, root mean square: {:.3} without evidence, {:.3} with it",
        off(free.x()),
        off(held.x())
    );
    Ok(())
}
