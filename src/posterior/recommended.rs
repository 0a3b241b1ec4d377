//! How a method is run unless one knows better: the sampler and the number of steps that it was published with or, for
//! what is this project's own, those that restored digits best.

use alloc::boxed::Box;

use crate::error::Result;
use crate::sampler::{DdimNoise, Jumps, Ladder, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};

/// The reverse chain that a method recommends, from [`Evidence::recommended`](super::Evidence::recommended).
///
/// ```
/// use undiffuse::posterior::operator::Identity;
/// use undiffuse::posterior::{Calibrated, Evidence, Measurement};
/// use undiffuse::sampler::SchedulerConfig;
/// use undiffuse::tensor::Dims;
///
/// let seen = Measurement::new(Identity::new(Dims::new(&[1, 2, 2])?)?, &[0.1, 0.9, -0.4, 0.0], 0.3)?;
/// let evidence = Calibrated::new(seen, 2)?;
/// let config = SchedulerConfig::from_json(r#"{"_class_name": "DDPMScheduler"}"#)?;
/// let sampler = evidence.recommended().sampler(&config)?;
/// assert_eq!(sampler.levels().len(), 36);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recommended {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// How many timesteps it visits, or all of T where these are more; `None` for all.
    pub steps: Option<usize>,
}

/// A sampler of real numbers that carries evidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Algorithm {
    /// [`ddpm`](crate::sampler::ddpm), with the variance of the model's configuration.
    Ddpm,
    /// [`ddim`](crate::sampler::ddim).
    Ddim {
        /// 0 ..= 1.
        eta: f64,
        /// What eta is a fraction of.
        noise: DdimNoise,
    },
    /// [`RePaint`](crate::sampler::repaint).
    RePaint(Jumps),
    /// [`split_gibbs`](crate::sampler::split_gibbs).
    SplitGibbs(Ladder),
    /// [`decoupled_annealing`](crate::sampler::decoupled_annealing).
    DecoupledAnnealing {
        /// Network calls from each level to x_0.
        flow_steps: usize,
    },
    /// [`input_optimization`](crate::sampler::input_optimization).
    InputOptimization {
        /// Network calls at each level before the one that leads on.
        gradient_steps: usize,
    },
}

impl Recommended {
    /// DDPM's every step: evidence that says nothing else, and what the methods of 2015, DPS and MCG are published
    /// with.
    pub const EVERY_STEP: Self = Self { algorithm: Algorithm::Ddpm, steps: None };
    /// [`Calibrated`](super::Calibrated), from 100 digits: back by 4 timesteps twice, so that samples that settled on
    /// what the measurement rules out come back. It makes 36 calls.
    pub const CALIBRATED: Self =
        Self { algorithm: Algorithm::RePaint(Jumps { length: 4, resamplings: 2 }), steps: Some(20) };
    /// [`OptimalVariance`](super::OptimalVariance): as many steps as samples need, not their variance.
    pub const OPTIMAL_VARIANCE: Self = Self { algorithm: Algorithm::Ddpm, steps: Some(50) };
    /// [`CalibratedWhite`](super::CalibratedWhite).
    pub const CALIBRATED_WHITE: Self = Self { algorithm: Algorithm::Ddpm, steps: Some(250) };
    /// [`Pigdm`](super::Pigdm): Song et al. 2023.
    pub const PIGDM: Self = Self::ddim(1.0, DdimNoise::Posterior, 100);
    /// [`Tmpd`](super::Tmpd).
    pub const TMPD: Self = Self { algorithm: Algorithm::Ddpm, steps: Some(100) };
    /// [`Ddrm`](super::Ddrm): Kawar et al. 2022.
    pub const DDRM: Self = Self::ddim(0.85, DdimNoise::Level, 20);
    /// [`Ddnm`](super::Ddnm) and [`Ddrm::ddnm_plus`](super::Ddrm::ddnm_plus): Wang et al. 2023.
    pub const DDNM: Self = Self::ddim(0.85, DdimNoise::Level, 100);
    /// [`KnownPixels`](super::KnownPixels): Lugmayr et al. 2022.
    pub const REPAINT: Self =
        Self { algorithm: Algorithm::RePaint(Jumps { length: 10, resamplings: 10 }), steps: Some(250) };

    /// [`DiffPir`](super::DiffPir): Zhu et al. 2023, whose zeta is eta squared. They took 1 for inpainting, 0.25 for
    /// super-resolution and 0.1 for deblurring.
    pub fn diffpir(zeta: f64) -> Self {
        Self::ddim(libm::sqrt(zeta), DdimNoise::Level, 100)
    }

    /// [`SplitGibbs`](super::SplitGibbs): 60 levels on the way down, so that what the steps between them lose is 1 or 2
    /// per cent. The ladder follows from the measurement.
    pub const fn split_gibbs(ladder: Ladder) -> Self {
        Self { algorithm: Algorithm::SplitGibbs(ladder), steps: Some(60) }
    }

    /// [`Daps`](super::Daps): 50 levels, each with so many steps of the flow. (Zhang et al. 2024 take 200 levels of 5
    /// steps, and for 100 calls 50 of 2.)
    pub const fn daps(flow_steps: usize) -> Self {
        Self { algorithm: Algorithm::DecoupledAnnealing { flow_steps }, steps: Some(50) }
    }

    /// [`Sitcom`](super::Sitcom): 20 levels, each with so many gradient steps (Alkhouri et al. 2025).
    pub const fn sitcom(gradient_steps: usize) -> Self {
        Self { algorithm: Algorithm::InputOptimization { gradient_steps }, steps: Some(20) }
    }

    /// [`Fps`](super::Fps), as the authors' code runs it (Dou and Song 2024): noise of 0.95 of each level's variance.
    pub fn fps() -> Self {
        Self::ddim(libm::sqrt(0.95), DdimNoise::Level, 1000)
    }

    /// [`RedDiff`](super::RedDiff): Mardani et al. 2023.
    pub const RED_DIFF: Self = Self::ddim(1.0, DdimNoise::Level, 1000);

    const fn ddim(eta: f64, noise: DdimNoise, steps: usize) -> Self {
        Self { algorithm: Algorithm::Ddim { eta, noise }, steps: Some(steps) }
    }

    /// The sampler for a model's scheduler. A model of 2015 or of classes has its own chain, whose every step it makes.
    ///
    /// Errors: kind `InvalidArgument` if values of the configuration make no schedule.
    pub fn sampler(&self, config: &SchedulerConfig) -> Result<Box<dyn Sampler + Send + Sync>> {
        if config.class.has_own_class() {
            return config.sampler(&SamplerOptions::default());
        }
        let steps = self.steps.map_or(Steps::All, |n| Steps::Count(n.min(config.num_train_timesteps)));
        let options = SamplerOptions { steps, ..SamplerOptions::default() };
        match self.algorithm {
            Algorithm::Ddpm => config.sampler(&SamplerOptions { sampler: Some(SamplerKind::Ddpm), ..options }),
            Algorithm::Ddim { eta, noise } => {
                let kind = Some(SamplerKind::Ddim);
                config.sampler(&SamplerOptions { sampler: kind, eta, ddim_noise: noise, ..options })
            }
            Algorithm::RePaint(jumps) => Ok(Box::new(config.repaint(&options, jumps)?)),
            Algorithm::SplitGibbs(ladder) => Ok(Box::new(config.split_gibbs(&options, &ladder)?)),
            Algorithm::DecoupledAnnealing { flow_steps } => {
                Ok(Box::new(config.decoupled_annealing(&options, flow_steps)?))
            }
            Algorithm::InputOptimization { gradient_steps } => {
                Ok(Box::new(config.input_optimization(&options, gradient_steps)?))
            }
        }
    }
}
