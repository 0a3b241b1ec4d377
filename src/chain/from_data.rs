//! A run that begins at data.

use super::{Chain, all_finite, short};
use crate::denoiser::Denoiser;
use crate::error::{Result, ensure};
use crate::noise::NoiseSource;
use crate::posterior::Evidence;
use crate::sampler::{Sampler, level_of_start};

impl<D: Denoiser, S: Sampler, N: NoiseSource, E: Evidence> Chain<'_, D, S, N, E> {
    /// Begins in the middle, at data that are noised: image to image, or SDEdit (Meng et al. 2022, algorithm 1).
    /// `data`, `[count, ...dims]`, are x_0 as the sampler makes it (images in [-1, 1]; of a model of 2015 in its own
    /// scale, see [`Pipeline::scale`](crate::pipeline::Pipeline::scale); of a latent model latents), and x of step
    /// `step` becomes alpha x_0 + sigma z at that step's level, each product and the sum rounded to f32: the
    /// `add_noise` of diffusers' schedulers, and `scale_noise` of its flows. z is draw 0 of each sample, which its x_T
    /// would be made of, so that a sample depends neither on the batch nor on the shard it is made in. Allocates
    /// nothing.
    ///
    /// [`start_of_strength`](crate::sampler::start_of_strength) says which step a strength means. `step` may be the
    /// number of steps, which makes a finished chain: the data at the level of the result.
    ///
    /// Errors: kind `Shape` for a length that is no number of samples, `NonFinite` for NaN or infinity in `data` or in
    /// the noise; kind `InvalidArgument` for more samples than the batch, numbers beyond `u64`, a step that there is
    /// not and one that an inner stage leads to; kind `Unsupported` for samplers of bits and classes, and for those
    /// that lead from data to noise; the noise source's. The chain is then where it was.
    ///
    /// ```
    /// use undiffuse::chain::{Chain, ChainOptions};
    /// use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
    /// use undiffuse::noise::Seeded;
    /// use undiffuse::sampler::{PredictionType, SamplerKind, SchedulerConfig, start_of_strength};
    /// use undiffuse::sampler::{SamplerOptions, Steps};
    /// use undiffuse::tensor::Dims;
    ///
    /// let spread = Covariance::Diagonal(vec![0.01; 4]);
    /// let mode = |m: f64| Component { weight: 1.0, mean: vec![m; 4], covariance: spread.clone() };
    /// let dims = Dims::new(&[1, 2, 2])?;
    /// let prior = GaussianMixture::new(dims, &[mode(-0.5), mode(0.5)], PredictionType::Epsilon)?;
    /// let options = SamplerOptions { steps: Steps::Count(20), ..Default::default() };
    /// let sampler = SchedulerConfig::new(SamplerKind::Ddim).sampler(&options)?;
    ///
    /// let mut chain = Chain::new(prior, sampler, Seeded::new(42), &ChainOptions::default())?;
    /// let start = start_of_strength(chain.sampler(), 0.3)?;
    /// chain.start_from_data(start, &[0.9, 0.8, 0.9, 0.7], 0)?;
    /// chain.run()?;
    /// // Of the two modes the one that is nearer.
    /// assert!(chain.x().iter().all(|v| (v - 0.5).abs() < 0.4));
    /// # Ok::<(), undiffuse::Error>(())
    /// ```
    pub fn start_from_data(&mut self, step: usize, data: &[f32], first_sample: u64) -> Result<()> {
        let n = self.layout.sample;
        let count = data.len() / n;
        ensure!(
            count > 0 && data.len() == count * n,
            Shape,
            "the data to start from have {} values, expected a multiple of {n}",
            data.len()
        );
        self.check_samples(first_sample, count)?;
        let level = level_of_start(&self.sampler, step)?;
        ensure!(all_finite(data), NonFinite, "the data to start from are not finite");
        let b = self.layout.split(self.arena.values(), self.layout.batch)?;
        // In the spare buffer, so that a failure leaves x as it is.
        let fresh = b.spare.get_mut(..data.len()).ok_or_else(|| short("spare"))?;
        self.noise.normal(first_sample, 0, n, fresh)?;
        let (alpha, sigma) = (level.alpha as f32, level.sigma as f32);
        fresh.iter_mut().zip(data).for_each(|(z, x0)| *z = alpha * x0 + sigma * *z);
        ensure!(all_finite(fresh), NonFinite, "the noise on the data to start from holds NaN or infinity");
        self.begin(first_sample, count, step)
    }
}
