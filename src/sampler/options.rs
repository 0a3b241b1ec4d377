//! From a configuration and the caller's options to a sampler.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::ddim::{Ddim, DdimNoise, DdimOptions, DdimPrevious};
use super::ddpm::Ddpm;
use super::repaint::{Jumps, RePaint};
use super::{Prediction, SampleClip, Sampler, SchedulerConfig};
use crate::error::{Result, ensure};
use crate::schedule::{Arithmetic, NoiseSchedule, custom_timesteps, spaced_timesteps};

/// The samplers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// [`Ddpm`](super::Ddpm).
    Ddpm,
    /// [`Ddim`](super::Ddim).
    Ddim,
    /// [`Ancestral2015`](super::Ancestral2015), for models whose scheduler configuration is of it.
    Ancestral2015,
    /// [`Bits2015`](super::Bits2015), for models whose scheduler configuration is of it.
    Bits2015,
}

impl SamplerKind {
    /// All of them, with the names that the command line uses.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("ddpm", Self::Ddpm),
        ("ddim", Self::Ddim),
        ("ancestral2015", Self::Ancestral2015),
        ("bits2015", Self::Bits2015),
    ];

    /// Whether it is a chain of 2015, which has a configuration of its own and makes all of its steps.
    pub const fn is_2015(self) -> bool {
        matches!(self, Self::Ancestral2015 | Self::Bits2015)
    }

    /// The class name of configurations, diffusers' where it has one.
    pub const fn class_name(self) -> &'static str {
        match self {
            Self::Ddpm => "DDPMScheduler",
            Self::Ddim => "DDIMScheduler",
            Self::Ancestral2015 => "Ancestral2015Scheduler",
            Self::Bits2015 => "Bits2015Scheduler",
        }
    }
}

/// Which timesteps a run visits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Steps {
    /// All T of the training, from the last to the first.
    #[default]
    All,
    /// So many, spread as the configuration says.
    Count(usize),
    /// These: decreasing, each below T.
    Timesteps(Vec<u32>),
}

/// What is chosen per run and not in the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplerOptions {
    /// The algorithm; `None` takes the configuration's class. The other options of the configuration carry over, as
    /// with diffusers' `from_config`.
    pub sampler: Option<SamplerKind>,
    /// The timesteps.
    pub steps: Steps,
    /// DDIM's eta, 0 (the default) ..= 1. DDPM ignores it.
    pub eta: f64,
    /// What eta is a fraction of.
    pub ddim_noise: DdimNoise,
    /// Whether eps is computed again from the clipped x_0. DDPM's steps do not use eps.
    pub use_clipped_model_output: bool,
    /// Which timestep a DDIM step leads to. With [`Steps::Timesteps`] it is always the next of the list.
    pub ddim_previous: DdimPrevious,
    /// The precision of schedules and step scalars.
    pub arithmetic: Arithmetic,
}

/// DDIM's steps where the caller names no number, see [`SamplerOptions::default_for`].
pub const DEFAULT_STEPS: usize = 50;

impl SamplerOptions {
    /// The options of a run whose caller names no steps and perhaps no algorithm: what the program's `sample`, the C interface and
    /// undiffuse.hpp run by default. Without a `kind`, DDIM for every model of diffusers, whatever it was trained with, and its own chain
    /// for a model of 2015. DDIM makes [`DEFAULT_STEPS`] steps, or all T where these are fewer; the others make all.
    pub fn default_for(config: &SchedulerConfig, kind: Option<SamplerKind>) -> Self {
        let kind = kind.unwrap_or(if config.class.is_2015() { config.class } else { SamplerKind::Ddim });
        let steps = match kind {
            SamplerKind::Ddim => Steps::Count(DEFAULT_STEPS.min(config.num_train_timesteps)),
            _ => Steps::All,
        };
        Self { sampler: Some(kind), steps, ..Self::default() }
    }
}

impl SchedulerConfig {
    /// Makes the sampler of a run.
    ///
    /// Errors (kind `InvalidArgument`): more steps than T or none, timesteps out of range or order, eta out of range, or
    /// values of the configuration that make no schedule. Kind `Unsupported`: a chain of 2015 for the configuration of another class or
    /// the other way round, or with options that it has not.
    pub fn sampler(&self, options: &SamplerOptions) -> Result<Box<dyn Sampler + Send + Sync>> {
        let kind = options.sampler.unwrap_or(self.class);
        if kind.is_2015() || self.class.is_2015() {
            return self.chain_sampler(kind, options);
        }
        let (schedule, timesteps, prediction) = self.parts(options)?;
        Ok(match kind {
            SamplerKind::Ddpm => Box::new(Ddpm::new(&schedule, &timesteps, prediction, self.variance_type)?),
            // The others were dealt with above.
            _ => {
                let previous = match options.steps {
                    Steps::Timesteps(_) => DdimPrevious::NextTimestep,
                    _ => options.ddim_previous,
                };
                let ddim = DdimOptions {
                    eta: options.eta,
                    noise: options.ddim_noise,
                    set_alpha_to_one: self.set_alpha_to_one,
                    previous,
                };
                Box::new(Ddim::new(&schedule, &timesteps, prediction, ddim)?)
            }
        })
    }

    /// Makes the sampler that goes back and forth, see [`RePaint`]. The kind of `options` and what is DDIM's are not used.
    ///
    /// Errors: as [`SchedulerConfig::sampler`] and [`RePaint::new`].
    pub fn repaint(&self, options: &SamplerOptions, jumps: Jumps) -> Result<RePaint> {
        let (schedule, timesteps, prediction) = self.parts(options)?;
        RePaint::new(&schedule, &timesteps, prediction, jumps)
    }

    fn parts(&self, options: &SamplerOptions) -> Result<(NoiseSchedule, Vec<u32>, Prediction)> {
        ensure!(
            !self.class.is_2015(),
            Unsupported,
            "the scheduler configuration is of {}, which only that chain runs",
            self.class.class_name()
        );
        let schedule = NoiseSchedule::new(&self.betas(), options.arithmetic)?;
        let train = self.num_train_timesteps;
        let timesteps = match &options.steps {
            Steps::All => spaced_timesteps(self.timestep_spacing, train, train, self.steps_offset)?,
            Steps::Count(n) => spaced_timesteps(self.timestep_spacing, train, *n, self.steps_offset)?,
            Steps::Timesteps(list) => custom_timesteps(train, list)?,
        };
        let prediction = Prediction {
            kind: self.prediction_type,
            clip: self.clip(),
            rederive_eps: options.use_clipped_model_output,
        };
        Ok((schedule, timesteps, prediction))
    }

    /// What is done to a predicted x_0: `thresholding` wins over `clip_sample`, as in diffusers.
    pub fn clip(&self) -> SampleClip {
        if self.thresholding {
            SampleClip::Dynamic { ratio: self.dynamic_thresholding_ratio as f32, max: self.sample_max_value as f32 }
        } else if self.clip_sample {
            SampleClip::Range(self.clip_sample_range as f32)
        } else {
            SampleClip::None
        }
    }
}
