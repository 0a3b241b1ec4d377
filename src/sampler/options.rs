//! From a configuration and the caller's options to a sampler.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::setup::Setup;
use super::solvers::SOLVERS;
use super::{
    DdimNoise, DdimPrevious, Jumps, Ladder, Plan, SampleClip, Sampler, SamplerKind, SchedulerConfig, decoupled,
    decoupled_annealing, input_optimization, probability_flow, repaint, split_gibbs,
};
use crate::error::{Result, ensure, err};
use crate::schedule::{AlignYourSteps, Arithmetic, SigmaSpacing};

/// Which levels a run visits.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Steps {
    /// All T of the training, from the last to the first.
    #[default]
    All,
    /// So many, spread as the configuration says.
    Count(usize),
    /// These: decreasing, each below T; of a flow 1 to T.
    Timesteps(Vec<u32>),
    /// These sigmas: those of the calls, and the one that the last step leads to, 0 as a rule. sigma is the noise where
    /// x_0 has factor 1, sqrt((1 - abar) / abar); of a flow its time, 1 to 0, before any shift. Between whole timesteps
    /// the network is told a broken one. For solvers over sigmas: not for DDPM, DDIM, PNDM and the distilled ones.
    Sigmas(Vec<f64>),
}

/// How solvers over sigmas spread them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Sigmas {
    /// As the configuration says.
    #[default]
    Configured,
    /// Karras's rule from sigma 60 to 0.1, and of N > 10 steps to 10 / N^2.
    ///
    /// At sigma 60 there is nothing of a sample left that a network could see, but much less than at the last timestep
    /// of a schedule of cosine betas, sigma 20,000, from where the first of few steps would go astray. The last step,
    /// of first order, leads to the x_0 predicted at the smallest, so this falls as the error of a method of second
    /// order does; solvers that end at the smallest sigma itself take the schedule's. The ends are the best of a few
    /// that were tried on the digits in 10 calls.
    Usual,
    /// By a table that was fitted to a model. In a run of other steps than ten it is interpolated.
    AlignYourSteps(AlignYourSteps),
    /// Those of every T / N-th timestep, from the last on (ComfyUI's `simple`).
    Simple,
    /// Evenly in a power of ln sigma between the schedule's ends:
    /// [`polyexponential`](crate::schedule::polyexponential).
    Polyexponential {
        /// The power; 1 is [`SigmaSpacing::Exponential`].
        rho: f64,
    },
    /// By a rule of the caller's own. Its ends are the schedule's where these are closer.
    Range {
        /// The rule.
        spacing: SigmaSpacing,
        /// The smallest sigma.
        min: f64,
        /// The largest.
        max: f64,
    },
}

/// Whose formulas are taken where a reference is known to be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compat {
    /// diffusers 0.42.1's, but that the clip of x_0 goes with the model: where another sampler runs it than the one
    /// that it was saved with, its clip holds there too, and eps follows from the clipped x_0. Most classes of
    /// diffusers have no such key and forget the clip, and a model of cosine betas then starts from x_0 of hundreds and
    /// ends in nonsense.
    #[default]
    Usual,
    /// diffusers 0.42.1's in everything, so that Python and this library agree also there.
    Diffusers,
    /// As [`Compat::Usual`], and what was meant where diffusers 0.42.1 is wrong:
    ///
    /// - the third order of [`dpm_solver_multistep`](super::dpm_solver_multistep), which is of second order as
    ///   published, and of `sde-dpmsolver++`, where a sign is wrong (after 200 steps multistep is 7 % too wide,
    ///   singlestep seven times);
    /// - churn of Euler's method, whose noise diffusers adds after the network was asked, so that samples are too wide:
    ///   [`churned_euler`](super::churned_euler);
    /// - `use_beta_sigmas`, whose quantiles the paper takes as timesteps and diffusers as sigmas:
    ///   [`SigmaSpacing::BetaTimesteps`];
    /// - `interpolation_type` log_linear, where the network is told the timestep of another sigma;
    /// - DDIM's steps between timesteps that are not evenly spread lead to the next of them
    ///   ([`DdimPrevious::NextTimestep`]);
    /// - `rescale_betas_zero_snr`, whose last sigma may lie below those before it:
    ///   [`SigmaTable::rising`](crate::schedule::SigmaTable::rising);
    /// - Karras VE, whose sigmas are squared.
    ///
    /// PNDM's formulas are for evenly spread timesteps, as the default `leading` has them. UniPC on eps, and with bh1,
    /// is NaN in diffusers where the last sigma is 0; here it ends at the predicted x_0 in any case.
    Fixed,
}

impl Compat {
    /// All of them, with the names that the command line uses.
    pub const NAMES: [(&'static str, Self); 3] =
        [("usual", Self::Usual), ("diffusers", Self::Diffusers), ("fixed", Self::Fixed)];
}

/// Noise that a step adds before it goes on (Karras et al. 2022, algorithm 2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// S_churn, 0 for none: of N steps each raises sigma by the factor 1 + min(S_churn / N, sqrt 2 - 1).
    pub s_churn: f64,
    /// The smallest sigma that is raised.
    pub s_tmin: f64,
    /// The largest.
    pub s_tmax: f64,
    /// The standard deviation of the noise.
    pub s_noise: f64,
}

impl Default for Churn {
    fn default() -> Self {
        Self { s_churn: 0.0, s_tmin: 0.0, s_tmax: f64::INFINITY, s_noise: 1.0 }
    }
}

impl Churn {
    /// The factor by which sigma is raised, less 1.
    pub(super) fn gamma(&self, sigma: f64, steps: usize) -> f64 {
        if (self.s_tmin..=self.s_tmax).contains(&sigma) {
            (self.s_churn / steps as f64).min(core::f64::consts::SQRT_2 - 1.0)
        } else {
            0.0
        }
    }
}

/// What is chosen per run and not in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerOptions {
    /// The algorithm; `None` takes the configuration's class. The other options of the configuration carry over, as
    /// with diffusers' `from_config`: see [`SchedulerConfig::for_sampler`].
    pub sampler: Option<SamplerKind>,
    /// The timesteps.
    pub steps: Steps,
    /// DDIM's eta, 0 (the default) ..= 1. The other samplers ignore it.
    pub eta: f64,
    /// What eta is a fraction of.
    pub ddim_noise: DdimNoise,
    /// Whether eps is computed again from the clipped x_0. DDPM's steps do not use eps.
    pub use_clipped_model_output: bool,
    /// Which timestep a DDIM step leads to. With [`Steps::Timesteps`] it is always the next of the list.
    pub ddim_previous: DdimPrevious,
    /// The precision of schedules and step scalars.
    pub arithmetic: Arithmetic,
    /// TCD's gamma (diffusers' `eta` of `TCDScheduler.step`), 0 ..= 1: how far each step goes beyond its level and
    /// back. 0.3.
    pub tcd_gamma: f64,
    /// Noise before each step of [`SamplerKind::Euler`], [`SamplerKind::EdmEuler`], [`SamplerKind::EdmHeun`],
    /// [`SamplerKind::KarrasVe`] and [`SamplerKind::FlowHeun`].
    pub churn: Churn,
    /// The shift of a flow whose configuration says `use_dynamic_shifting`: mu, the logarithm of the shift
    /// (`time_shift_type` exponential), or the shift itself (linear). `None` for every other configuration.
    pub mu: Option<f64>,
    /// How solvers over sigmas spread them. Of no use with a list in `steps`. Timesteps are rounded only with
    /// [`Sigmas::Configured`].
    pub sigmas: Sigmas,
    /// The order of a solver that has one (`solver_order` of its configuration, or LMS's, which has none there); `None`
    /// for the configuration's, LMS's 4.
    pub order: Option<usize>,
    /// Whose formulas are taken where diffusers' are known to be wrong.
    pub compat: Compat,
    /// The relative tolerance of [`SamplerKind::Rk45`], 1e-7 to 1.
    pub rtol: f64,
    /// Its absolute tolerance, 1e-7 to 1.
    pub atol: f64,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            sampler: None,
            steps: Steps::All,
            eta: 0.0,
            ddim_noise: DdimNoise::default(),
            use_clipped_model_output: false,
            ddim_previous: DdimPrevious::default(),
            arithmetic: Arithmetic::default(),
            tcd_gamma: 0.3,
            churn: Churn::default(),
            mu: None,
            sigmas: Sigmas::Configured,
            order: None,
            compat: Compat::Usual,
            rtol: 1e-5,
            atol: 1e-5,
        }
    }
}

/// The steps where the caller names no number, see [`SamplerOptions::default_for`].
pub const DEFAULT_STEPS: usize = 50;
/// The same for solvers of high order.
const HIGH_ORDER_STEPS: usize = 20;
/// The same for distilled models.
const DISTILLED_STEPS: usize = 4;

impl SamplerOptions {
    /// The options of a run whose caller names no steps and perhaps no algorithm: what the program's `sample`, the C
    /// interface and undiffuse.hpp run by default.
    ///
    /// Without a `kind` it is the sampler that the model was saved with; but UniPC for a model saved with DDPM, which
    /// is what training leaves (DDIM where it has no more than [`DEFAULT_STEPS`] timesteps). With the sampler that the
    /// model was saved with all is as diffusers has it. Another one over sigmas takes [`Sigmas::Usual`] unless the file
    /// says how its levels are spread, and UniPC order 3. `examples/samplers/README.md` has the measurements.
    ///
    /// DDPM and the chains of 2015 and of classes make all T steps, distilled models 4, UniPC, DPM-Solver multistep and
    /// DEIS 20, the others [`DEFAULT_STEPS`], or T where that is fewer.
    pub fn default_for(config: &SchedulerConfig, kind: Option<SamplerKind>) -> Self {
        use SamplerKind::{Ancestral2015, Bits2015, Cm, D3pm, Ddim, Ddpm, Deis, DpmSolverMultistep, Lcm, Tcd, UniPc};
        let (train, own) = (config.num_train_timesteps, config.saved_with());
        let kind = kind.unwrap_or(match own {
            Ddpm if train > DEFAULT_STEPS => UniPc,
            Ddpm => Ddim,
            own => own,
        });
        let count = |n: usize| Steps::Count(n.min(train));
        let steps = match kind {
            Ddpm | Ancestral2015 | Bits2015 | D3pm => Steps::All,
            Lcm | Tcd | Cm => count(DISTILLED_STEPS),
            UniPc | DpmSolverMultistep | Deis => count(HIGH_ORDER_STEPS),
            _ => count(DEFAULT_STEPS),
        };
        let usual = Self { sampler: Some(kind), steps, ..Self::default() };
        let Ok(config) = config.for_sampler(kind) else { return usual };
        if kind == own || !config.levels_are_the_class_s() {
            return usual;
        }
        let order = (kind == UniPc && config.solver.solver_order == 2).then_some(3);
        Self { sigmas: Sigmas::Usual, order, ..usual }
    }

    /// These with another [`Compat`]; with [`Compat::Diffusers`] also without levels and an order other than the
    /// configuration's.
    pub fn with_compat(self, compat: Compat) -> Self {
        match compat {
            Compat::Diffusers => Self { sigmas: Sigmas::Configured, order: None, compat, ..self },
            _ => Self { compat, ..self },
        }
    }
}

impl SchedulerConfig {
    /// Makes the sampler of a run.
    ///
    /// Errors (kind `InvalidArgument`): more steps than T or none, timesteps out of range or order, eta out of range,
    /// or values of the configuration that make no schedule. Kind `Unsupported`: a chain of 2015 for the configuration
    /// of another class or the other way round, options that it has not, a combination that the sampler does not
    /// define.
    pub fn sampler(&self, options: &SamplerOptions) -> Result<Box<dyn Sampler + Send + Sync>> {
        let kind = options.sampler.unwrap_or(self.class);
        let apart = kind.has_own_class() || self.class.has_own_class() || kind == SamplerKind::Rk45;
        ensure!(
            !apart || self.preconditioning.is_none(),
            Unsupported,
            "{} with a network behind a preconditioning, which only lists of calls make: expected another sampler",
            kind.class_name()
        );
        if kind.has_own_class() || self.class.has_own_class() {
            return self.chain_sampler(kind, options);
        }
        if kind == SamplerKind::Rk45 {
            return probability_flow::build(self, options);
        }
        let solver = SOLVERS.iter().find(|s| s.kind == kind);
        let solver = solver.ok_or_else(|| err!(Unsupported, "the sampler {kind:?} is not in this build"))?;
        let mut config = self.for_sampler(kind)?;
        use SamplerKind::{EdmEuler, EdmHeun, Euler, FlowHeun};
        ensure!(
            options.churn.s_churn == 0.0 || matches!(kind, Euler | EdmEuler | EdmHeun | FlowHeun),
            Unsupported,
            "churn with the sampler {}, expected euler, edm-euler, edm-heun or flow-heun",
            solver.name
        );
        let (discrete, edm) =
            (config.has("use_karras_sigmas") && config.has("beta_start"), config.has("sigma_schedule"));
        let over_sigmas = (discrete && !config.grid.use_flow_sigmas) || kind == SamplerKind::EulerAncestral;
        let goes = match options.sigmas {
            Sigmas::Configured | Sigmas::Usual => true,
            Sigmas::Range { .. } => config.has("use_karras_sigmas") || edm || kind == SamplerKind::EulerAncestral,
            Sigmas::AlignYourSteps(_) | Sigmas::Polyexponential { .. } => over_sigmas || edm,
            Sigmas::Simple => over_sigmas,
        };
        ensure!(
            goes,
            Unsupported,
            "sigmas by {:?} with the sampler {} of this model, expected a solver over the sigmas of discrete betas, as euler",
            options.sigmas,
            solver.name
        );
        ensure!(
            options.mu.is_none() || config.grid.use_dynamic_shifting,
            InvalidArgument,
            "mu is given to the sampler {}, whose configuration does not say use_dynamic_shifting, expected none",
            solver.name
        );
        if let Some(order) = options.order {
            ensure!(
                config.has("solver_order") || kind == SamplerKind::Lms,
                Unsupported,
                "an order with the sampler {}, which has one only",
                solver.name
            );
            config.solver.solver_order = order;
        }
        let plan = (solver.build)(&Setup { config: &config, options, model_clip: self.model_clip() })?;
        Ok(Box::new(config.preconditioned(plan, options.churn.s_churn != 0.0)?))
    }

    /// Makes the sampler that goes back and forth (Lugmayr et al. 2022): DDPM's steps, some of which are followed by a
    /// jump back into noise, x <- sqrt(1 - b) x + sqrt(b) z with 1 - b = abar_u / abar_s from s to u. A jump belongs to
    /// the step before it, so that a step is one network call. Without evidence it is DDPM made longer; with
    /// [`KnownPixels`](crate::posterior::KnownPixels) it lets known and unknown parts agree, and
    /// [`Calibrated`](crate::posterior::Calibrated) should have it. The kind of `options` and what is DDIM's are not
    /// used.
    ///
    /// Errors: as [`SchedulerConfig::sampler`]; kind `InvalidArgument` for a jump of length 0, no resampling, or more
    /// than 2^20 calls.
    pub fn repaint(&self, options: &SamplerOptions, jumps: Jumps) -> Result<Plan> {
        let config = self.for_ddpms_levels()?;
        let setup = Setup { config: &config, options, model_clip: self.model_clip() };
        config.preconditioned(repaint(&setup.schedule()?, &setup.timesteps()?, setup.prediction(), jumps)?, false)
    }

    /// The configuration as DDPM's, for chains of its levels. Errors: kind `Unsupported` for a class that one chain
    /// alone runs.
    fn for_ddpms_levels(&self) -> Result<Self> {
        ensure!(
            !self.class.has_own_class(),
            Unsupported,
            "the scheduler configuration is of {}, which only that chain runs",
            self.class.class_name()
        );
        self.for_sampler(SamplerKind::Ddpm)
    }

    /// Makes the sampler that goes back into ever less noise: DDPM's steps down to x_0; from there, for every rung of
    /// the `ladder`, back to alpha x_0 + sigma z at the noisiest of the levels that has at most the rung's noise, and
    /// down again. Without evidence the chain keeps the model's law; [`SplitGibbs`](crate::posterior::SplitGibbs)
    /// draws the returns given y. [`Steps::Count`] levels are spread as [`Ladder::timesteps`] says, [`Steps::All`] are
    /// all. The kind of `options` and what is DDIM's are not used.
    ///
    /// Errors: as [`SchedulerConfig::sampler`] and [`Ladder::rungs`]; kind `InvalidArgument` for a ladder that ends
    /// below the least noise of the schedule by more than 1 %, or more than 2^20 calls.
    pub fn split_gibbs(&self, options: &SamplerOptions, ladder: &Ladder) -> Result<Plan> {
        let config = self.for_ddpms_levels()?;
        let setup = Setup { config: &config, options, model_clip: self.model_clip() };
        let schedule = setup.schedule()?;
        let list = match &options.steps {
            Steps::Count(n) => ladder.timesteps(&schedule, *n)?,
            Steps::All => ladder.timesteps(&schedule, config.num_train_timesteps)?,
            Steps::Timesteps(_) | Steps::Sigmas(_) => setup.timesteps()?,
        };
        config.preconditioned(split_gibbs(&schedule, &list, setup.prediction(), ladder)?, false)
    }

    /// Makes the sampler of [`Daps`](crate::posterior::Daps), see [`decoupled_annealing`], with `flow_steps` calls from
    /// each level to x_0. [`Steps::Count`] levels are those nearest to noises that fall as EDM's grid does, with rho 7,
    /// from 100 times the signal or the noisiest there is to the least; there may be fewer timesteps than that.
    /// [`Steps::All`] are all. The kind of `options` and what is DDIM's are not used.
    ///
    /// Errors: as [`SchedulerConfig::sampler`] and [`decoupled_annealing`].
    pub fn decoupled_annealing(&self, options: &SamplerOptions, flow_steps: usize) -> Result<Plan> {
        let config = self.for_ddpms_levels()?;
        let setup = Setup { config: &config, options, model_clip: self.model_clip() };
        let schedule = setup.schedule()?;
        let list = match &options.steps {
            Steps::Count(n) => decoupled::levels(&schedule, *n)?,
            Steps::All => decoupled::levels(&schedule, config.num_train_timesteps)?,
            Steps::Timesteps(_) | Steps::Sigmas(_) => setup.timesteps()?,
        };
        let plan = decoupled_annealing(&schedule, &list, flow_steps, setup.prediction())?;
        config.preconditioned(plan, false)
    }

    /// Makes the sampler of [`Sitcom`](crate::posterior::Sitcom): `gradient_steps` calls at each level before the one
    /// that leads on. The levels are those that [`SamplerKind::Ddpm`] would visit. The kind of `options` and what is
    /// DDIM's are not used.
    ///
    /// Errors: as [`SchedulerConfig::sampler`]; kind `InvalidArgument` for no gradient step or more than 2^20 calls.
    pub fn input_optimization(&self, options: &SamplerOptions, gradient_steps: usize) -> Result<Plan> {
        let config = self.for_ddpms_levels()?;
        let setup = Setup { config: &config, options, model_clip: self.model_clip() };
        let plan = input_optimization(&setup.schedule()?, &setup.timesteps()?, gradient_steps, setup.prediction())?;
        config.preconditioned(plan, false)
    }

    /// What is done to a predicted x_0: `thresholding` wins over `clip_sample`, as in diffusers. A class without these
    /// keys does nothing.
    pub fn clip(&self) -> SampleClip {
        if self.thresholding && self.has("thresholding") {
            SampleClip::Dynamic { ratio: self.dynamic_thresholding_ratio as f32, max: self.sample_max_value as f32 }
        } else if self.clip_sample && (self.has("clip_sample") || self.has("clip_denoised")) {
            SampleClip::Range(self.clip_sample_range as f32)
        } else {
            SampleClip::None
        }
    }
}
