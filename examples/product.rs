//! A product and a quotient of models: two blobs, times a Gaussian that says "up and to the right", divided by white
//! noise.
//!
//! None has to know of the others; the chain follows the sum of their scores. As the docs of `Product` say, what is
//! sampled is near the product of the densities and not the product itself: at high noise every model is white noise,
//! and the product of two is white noise of half the variance, which the chain does not start from. The Gaussian over
//! white noise is 1 there, which mends part of it. Here the products are known, and printed beside what is sampled.
//!
//!     cargo run --release --example product

use undiffuse::chain::{Chain, ChainOptions};
use undiffuse::denoiser::{Component, Covariance, Denoiser, GaussianMixture, Product};
use undiffuse::noise::Seeded;
use undiffuse::sampler::{PredictionType, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
use undiffuse::tensor::Dims;

const BATCH: usize = 20_000;
const KIND: PredictionType = PredictionType::Epsilon;

fn main() -> undiffuse::Result<()> {
    let gaussian = |mean: [f64; 2], variance: f64| Component {
        weight: 1.0,
        mean: mean.to_vec(),
        covariance: Covariance::Diagonal(vec![variance; 2]),
    };
    let mixture = |parts: &[Component]| GaussianMixture::new(Dims::new(&[2])?, parts, KIND);
    let blobs = || mixture(&[gaussian([-0.6, 0.0], 0.2), gaussian([0.6, 0.0], 0.2)]);
    let up_right = || mixture(&[gaussian([0.5, 0.5], 0.5)]);
    let white = mixture(&[gaussian([0.0, 0.0], 1.0)])?;

    let plain = Product::new((1.0, blobs()?), (1.0, up_right()?), KIND, BATCH)?;
    let quotient = Product::new((1.0, up_right()?), (-1.0, white), KIND, BATCH)?;
    let both = Product::new((1.0, blobs()?), (1.0, quotient), KIND, BATCH)?;

    println!("                                right of 0   mean height   variance of it");
    print("two blobs, sampled", moments(&sample(blobs()?)?));
    print("blobs x Gaussian", known(0.5, 0.5));
    print("  sampled", moments(&sample(plain)?));
    // N(1/2, 1/2) over N(0, 1) is N(1, 1).
    print("blobs x Gaussian / white", known(1.0, 1.0));
    print("  sampled", moments(&sample(both)?));
    Ok(())
}

/// Of the blobs times N(mean, variance) in both directions: the share right of 0, mean and variance of the height.
fn known(mean: f64, variance: f64) -> [f64; 3] {
    let (mut right, mut all) = (0.0, 0.0);
    for i in -4000..4000 {
        let x = (f64::from(i) + 0.5) / 1000.0;
        let blobs = (-(x - 0.6).powi(2) / 0.4).exp() + (-(x + 0.6).powi(2) / 0.4).exp();
        let p = blobs * (-(x - mean).powi(2) / (2.0 * variance)).exp();
        all += p;
        right += if i >= 0 { p } else { 0.0 };
    }
    let precision = 1.0 / 0.2 + 1.0 / variance;
    [right / all, mean / variance / precision, 1.0 / precision]
}

fn sample(denoiser: impl Denoiser) -> undiffuse::Result<Vec<f32>> {
    let config = SchedulerConfig { clip_sample: false, ..SchedulerConfig::new(SamplerKind::Ddpm) };
    let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(500), ..Default::default() })?;
    let options = ChainOptions { batch: BATCH, first_sample: 0 };
    let mut chain = Chain::new(denoiser, sampler, Seeded::new(1), &options)?;
    chain.run()?;
    Ok(chain.x().to_vec())
}

/// The same of samples.
fn moments(x: &[f32]) -> [f64; 3] {
    let n = (x.len() / 2) as f64;
    let right = x.chunks(2).filter(|p| p[0] > 0.0).count() as f64 / n;
    let mean = x.chunks(2).map(|p| f64::from(p[1])).sum::<f64>() / n;
    [right, mean, x.chunks(2).map(|p| (f64::from(p[1]) - mean).powi(2)).sum::<f64>() / n]
}

fn print(title: &str, [right, mean, variance]: [f64; 3]) {
    println!("{title:30} {:9.1} % {mean:13.3} {variance:16.3}", 100.0 * right);
}
