//! A chain of four values that is saved on its way and gone on with by another.

use undiffuse::chain::Chain;
use undiffuse::denoiser::{Component, Covariance, Denoiser, GaussianMixture};
use undiffuse::noise::NoiseSource;
use undiffuse::posterior::Evidence;
use undiffuse::process::PredictionType;
use undiffuse::sampler::Sampler;
use undiffuse::tensor::Dims;

/// A prior of two modes.
pub fn prior() -> GaussianMixture {
    let part = |m: f64| Component { weight: 1.0, mean: vec![m; 4], covariance: Covariance::Diagonal(vec![0.1; 4]) };
    GaussianMixture::new(Dims::new(&[1, 2, 2]).unwrap(), &[part(-0.5), part(0.4)], PredictionType::Epsilon).unwrap()
}

/// Its samples; after `stop` steps, if there is such a number, another chain takes over what the first has saved.
pub fn finished<'w, D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence>(
    chain: impl Fn() -> Chain<'w, D, S, N, E>,
    stop: Option<usize>,
) -> Vec<f32> {
    let mut c = chain();
    if let Some(stop) = stop {
        (0..stop).for_each(|_| assert!(c.step().is_ok()));
        let saved = c.save().unwrap();
        c = chain();
        c.restore(&saved).unwrap();
    }
    c.run().unwrap();
    c.x().to_vec()
}
