//! From a configuration and the caller's options to a sampler.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::solvers::SOLVERS;
use super::{
    DdimNoise, DdimPrevious, Jumps, Ladder, Plan, Prediction, PredictionType, SampleClip, Sampler, SchedulerConfig,
    repaint, split_gibbs,
};
use crate::error::{Result, ensure, err};
use crate::schedule::{
    Arithmetic, Grid, GridEnd, GridRules, Level, NoiseSchedule, Points, SigmaSpacing, SigmaTable, Whole,
    custom_timesteps, discrete_grid, given_grid, spaced_timesteps, time_shift,
};

/// The samplers there are. More may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SamplerKind {
    /// [`ddpm`](super::ddpm).
    Ddpm,
    /// [`ddim`](super::ddim).
    Ddim,
    /// [`Ancestral2015`](super::Ancestral2015), for models whose scheduler configuration is of it.
    Ancestral2015,
    /// [`Bits2015`](super::Bits2015), for models whose scheduler configuration is of it.
    Bits2015,
    /// [`ddim_inverse`](super::ddim_inverse): from data to noise.
    DdimInverse,
    /// [`dpm_solver_multistep`](super::dpm_solver_multistep).
    DpmSolverMultistep,
    /// [`dpm_solver_singlestep`](super::dpm_solver_singlestep).
    DpmSolverSinglestep,
    /// [`dpm_solver_sde`](super::dpm_solver_sde).
    DpmSolverSde,
    /// [`unipc`](super::unipc).
    UniPc,
    /// [`deis`](super::deis).
    Deis,
    /// [`euler`](super::euler).
    Euler,
    /// [`euler_ancestral`](super::euler_ancestral).
    EulerAncestral,
    /// [`heun`](super::heun).
    Heun,
    /// [`kdpm2`](super::kdpm2).
    Kdpm2,
    /// [`kdpm2_ancestral`](super::kdpm2_ancestral).
    Kdpm2Ancestral,
    /// [`lms`](super::lms).
    Lms,
    /// [`pndm`](super::pndm).
    Pndm,
    /// [`ipndm`](super::ipndm).
    Ipndm,
    /// [`euler`](super::euler) of a network behind EDM's preconditioning.
    EdmEuler,
    /// [`dpm_solver_multistep`](super::dpm_solver_multistep) of a network behind EDM's preconditioning.
    EdmDpmSolver,
    /// [`dpm_solver_multistep`](super::dpm_solver_multistep) of the stochastic equation for networks of cosine schedules.
    CosineDpmSolver,
    /// [`lcm`](super::lcm).
    Lcm,
    /// [`tcd`](super::tcd).
    Tcd,
    /// [`consistency`](super::consistency).
    Cm,
    /// [`flow_euler`](super::flow_euler).
    FlowEuler,
    /// [`flow_heun`](super::flow_heun).
    FlowHeun,
    /// [`flow_lcm`](super::flow_lcm).
    FlowLcm,
    /// [`sa_solver`](super::sa_solver).
    SaSolver,
    /// [`dpm_solver_multistep_inverse`](super::dpm_solver_multistep_inverse): from data to noise.
    DpmSolverInverse,
    /// [`churned_heun`](super::churned_heun) of a network behind EDM's preconditioning: EDM's own sampler.
    EdmHeun,
    /// [`churned_heun`](super::churned_heun) of a network that gives -eps.
    KarrasVe,
    /// [`score_sde_ve`](super::score_sde_ve).
    ScoreSdeVe,
    /// [`score_sde_vp`](super::score_sde_vp).
    ScoreSdeVp,
}

impl SamplerKind {
    /// All of them, with the names that the command line uses.
    pub const NAMES: [(&'static str, Self); SOLVERS.len()] = {
        let mut names = [("", Self::Ddpm); SOLVERS.len()];
        let mut i = 0;
        while i < SOLVERS.len() {
            names[i] = (SOLVERS[i].name, SOLVERS[i].kind);
            i += 1;
        }
        names
    };

    /// Whether it is a chain of 2015, which has a configuration of its own and makes all of its steps.
    pub const fn is_2015(self) -> bool {
        matches!(self, Self::Ancestral2015 | Self::Bits2015)
    }
}

/// Which levels a run visits.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Steps {
    /// All T of the training, from the last to the first.
    #[default]
    All,
    /// So many, spread as the configuration says.
    Count(usize),
    /// These: decreasing, each below T; of a flow 1 to T.
    Timesteps(Vec<u32>),
    /// These sigmas: those of the calls, and the one that the last step leads to, 0 as a rule. sigma is the noise where x_0 has factor 1,
    /// sqrt((1 - abar) / abar); of a flow its time, 1 to 0, before any shift. Between whole timesteps the network is told a broken one.
    /// For solvers over sigmas: not for DDPM, DDIM, PNDM and the distilled ones.
    Sigmas(Vec<f64>),
}

/// How solvers over sigmas spread them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sigmas {
    /// As the configuration says.
    #[default]
    Configured,
    /// Karras's rule from sigma 60 to 0.1, and of N > 10 steps to 10 / N^2.
    ///
    /// At sigma 60 there is nothing of a sample left that a network could see, but much less than at the last timestep of a schedule of
    /// cosine betas, sigma 20,000, from where the first of few steps would go astray. The last step, of first order, leads to the x_0
    /// predicted at the smallest, so this falls as the error of a method of second order does; solvers that end at the smallest sigma
    /// itself take the schedule's. The ends are the best of a few that were tried on the digits in 10 calls.
    Usual,
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
    /// diffusers 0.42.1's, but that the clip of x_0 goes with the model: where another sampler runs it than the one that it was saved with,
    /// its clip holds there too, and eps follows from the clipped x_0. Most classes of diffusers have no such key and forget the clip, and
    /// a model of cosine betas then starts from x_0 of hundreds and ends in nonsense.
    #[default]
    Usual,
    /// diffusers 0.42.1's in everything, so that Python and this library agree also there.
    Diffusers,
    /// As [`Compat::Usual`], and what was meant where diffusers is wrong: the third order of
    /// [`dpm_solver_multistep`](super::dpm_solver_multistep), which is of second order as published, and of `sde-dpmsolver++`,
    /// where a sign is wrong (after 200 steps multistep is 7 % too wide, singlestep seven times). DDIM's timesteps have
    /// [`DdimPrevious`].
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
    /// TCD's gamma (diffusers' `eta` of `TCDScheduler.step`), 0 ..= 1: how far each step goes beyond its level and back. 0.3.
    pub tcd_gamma: f64,
    /// Noise before each step of [`euler`](super::euler), EDM's Euler, [`churned_heun`](super::churned_heun) and [`flow_heun`](super::flow_heun).
    pub churn: Churn,
    /// The shift of a flow whose configuration says `use_dynamic_shifting`: mu, the logarithm of the shift (`time_shift_type` exponential),
    /// or the shift itself (linear).
    pub mu: Option<f64>,
    /// How solvers over sigmas spread them. Of no use with a list in `steps`. Timesteps are rounded only with [`Sigmas::Configured`].
    pub sigmas: Sigmas,
    /// The order of a solver that has one (`solver_order` of its configuration, or LMS's, which has none there); `None` for the
    /// configuration's, LMS's 4.
    pub order: Option<usize>,
    /// Whose formulas are taken where diffusers' are known to be wrong.
    pub compat: Compat,
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
    /// The options of a run whose caller names no steps and perhaps no algorithm: what the program's `sample`, the C interface and
    /// undiffuse.hpp run by default.
    ///
    /// Without a `kind` it is the sampler that the model was saved with; but UniPC for a model saved with DDPM, which is what training
    /// leaves (DDIM where it has no more than [`DEFAULT_STEPS`] timesteps). With the sampler that the model was saved with all is as
    /// diffusers has it. Another one over sigmas takes [`Sigmas::Usual`] unless the file says how its levels are spread, and UniPC
    /// order 3. `examples/samplers/README.md` has the measurements.
    ///
    /// DDPM and the chains of 2015 make all T steps, distilled models 4, UniPC, DPM-Solver multistep and DEIS 20, the others
    /// [`DEFAULT_STEPS`], or T where that is fewer.
    pub fn default_for(config: &SchedulerConfig, kind: Option<SamplerKind>) -> Self {
        use SamplerKind::{Ancestral2015, Bits2015, Cm, Ddim, Ddpm, Deis, DpmSolverMultistep, Lcm, Tcd, UniPc};
        let (train, own) = (config.num_train_timesteps, config.saved_with());
        let kind = kind.unwrap_or(match own {
            Ddpm if train > DEFAULT_STEPS => UniPc,
            Ddpm => Ddim,
            own => own,
        });
        let count = |n: usize| Steps::Count(n.min(train));
        let steps = match kind {
            Ddpm | Ancestral2015 | Bits2015 => Steps::All,
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

    /// These with another [`Compat`]; with [`Compat::Diffusers`] also without levels and an order other than the configuration's.
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
    /// Errors (kind `InvalidArgument`): more steps than T or none, timesteps out of range or order, eta out of range, or
    /// values of the configuration that make no schedule. Kind `Unsupported`: a chain of 2015 for the configuration of another class or
    /// the other way round, options that it has not, a combination that the sampler does not define.
    pub fn sampler(&self, options: &SamplerOptions) -> Result<Box<dyn Sampler + Send + Sync>> {
        let kind = options.sampler.unwrap_or(self.class);
        if kind.is_2015() || self.class.is_2015() {
            return self.chain_sampler(kind, options);
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
        if let Some(order) = options.order {
            ensure!(
                config.has("solver_order") || kind == SamplerKind::Lms,
                Unsupported,
                "an order with the sampler {}, which has one only",
                solver.name
            );
            config.solver.solver_order = order;
        }
        Ok(Box::new((solver.build)(&Setup { config: &config, options, model_clip: self.model_clip() })?))
    }

    /// Makes the sampler that goes back and forth, see [`repaint`]. The kind of `options` and what is DDIM's are not used.
    ///
    /// Errors: as [`SchedulerConfig::sampler`] and [`repaint`].
    pub fn repaint(&self, options: &SamplerOptions, jumps: Jumps) -> Result<Plan> {
        ensure!(
            !self.class.is_2015(),
            Unsupported,
            "the scheduler configuration is of {}, which only that chain runs",
            self.class.class_name()
        );
        let config = self.for_sampler(SamplerKind::Ddpm)?;
        let setup = Setup { config: &config, options, model_clip: self.model_clip() };
        repaint(&setup.schedule()?, &setup.timesteps()?, setup.prediction(), jumps)
    }

    /// Makes the sampler that goes back into ever less noise, see [`split_gibbs`]. [`Steps::Count`] levels are spread as
    /// [`Ladder::timesteps`] says, [`Steps::All`] are all. The kind of `options` and what is DDIM's are not used.
    ///
    /// Errors: as [`SchedulerConfig::sampler`] and [`split_gibbs`].
    pub fn split_gibbs(&self, options: &SamplerOptions, ladder: &Ladder) -> Result<Plan> {
        ensure!(
            !self.class.is_2015(),
            Unsupported,
            "the scheduler configuration is of {}, which only that chain runs",
            self.class.class_name()
        );
        let config = self.for_sampler(SamplerKind::Ddpm)?;
        let setup = Setup { config: &config, options, model_clip: self.model_clip() };
        let schedule = setup.schedule()?;
        let list = match &options.steps {
            Steps::Count(n) => ladder.timesteps(&schedule, *n)?,
            Steps::All => ladder.timesteps(&schedule, config.num_train_timesteps)?,
            Steps::Timesteps(_) | Steps::Sigmas(_) => setup.timesteps()?,
        };
        split_gibbs(&schedule, &list, setup.prediction(), ladder)
    }

    /// What is done to a predicted x_0: `thresholding` wins over `clip_sample`, as in diffusers. A class without these keys does nothing.
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

/// What a solver is made from: a configuration of its own class, and the options of the run.
pub(super) struct Setup<'a> {
    pub config: &'a SchedulerConfig,
    pub options: &'a SamplerOptions,
    /// What the sampler that the model was saved with does to x_0.
    pub model_clip: SampleClip,
}

impl Setup<'_> {
    /// The discrete schedule.
    pub fn schedule(&self) -> Result<NoiseSchedule> {
        ensure!(
            self.config.has("beta_start"),
            Unsupported,
            "the scheduler {} has no betas",
            self.config.class.class_name()
        );
        NoiseSchedule::new(&self.config.betas(), self.options.arithmetic)
    }

    /// The whole timesteps that a run visits.
    pub fn timesteps(&self) -> Result<Vec<u32>> {
        let c = self.config;
        let train = c.num_train_timesteps;
        match &self.options.steps {
            Steps::All => spaced_timesteps(c.timestep_spacing, train, train, c.steps_offset),
            Steps::Count(n) => spaced_timesteps(c.timestep_spacing, train, *n, c.steps_offset),
            Steps::Timesteps(list) => custom_timesteps(train, list),
            Steps::Sigmas(_) => Err(self.no_list("sigmas", "timesteps or a number of steps")),
        }
    }

    fn no_list(&self, what: &str, expected: &str) -> crate::Error {
        err!(Unsupported, "{} takes no list of {what}, expected {expected}", self.config.class.class_name())
    }

    /// The caller's own sigmas, that of the result with them.
    ///
    /// Errors: kind `InvalidArgument` for fewer than two, or such that do not fall from a positive number to 0 or more.
    pub fn given_sigmas(&self) -> Result<Option<&[f64]>> {
        let Steps::Sigmas(list) = &self.options.steps else { return Ok(None) };
        let falls = list.windows(2).all(|w| matches!(w, [a, b] if a > b));
        ensure!(
            list.len() > 1 && falls && list.iter().all(|s| s.is_finite() && *s >= 0.0),
            InvalidArgument,
            "the list of {} sigmas does not fall from above 0 to 0 or more, with that of the result at its end, expected that it does",
            list.len()
        );
        Ok(Some(list))
    }

    /// The number of steps, where a sampler takes no timesteps of the caller's own.
    ///
    /// Errors: kind `Unsupported` where these are given, kind `InvalidArgument` for a number that is not 1 to T.
    pub fn count(&self) -> Result<usize> {
        let train = self.config.num_train_timesteps;
        match self.options.steps {
            Steps::All => Ok(train),
            Steps::Count(n) => {
                ensure!(
                    (1..=train).contains(&n),
                    InvalidArgument,
                    "the number of steps is {n}, expected 1 to the {train} that the model was trained with"
                );
                Ok(n)
            }
            Steps::Timesteps(_) => Err(self.no_list("timesteps", "a number of steps")),
            Steps::Sigmas(_) => Err(self.no_list("sigmas", "a number of steps")),
        }
    }

    /// How x_0 follows from the network's output.
    pub fn prediction(&self) -> Prediction {
        let own = self.config.clip();
        let carried = own == SampleClip::None && self.options.compat != Compat::Diffusers;
        let clip = if carried { self.model_clip } else { own };
        // A solver that steps by eps alone would not see the clip.
        let rederive_eps = self.options.use_clipped_model_output || (carried && clip != SampleClip::None);
        Prediction { kind: self.config.prediction_type, clip, rederive_eps }
    }

    /// The grid of a discrete schedule or, with `use_flow_sigmas`, of a flow.
    pub fn grid(&self, rules: &GridRules) -> Result<Grid> {
        let c = self.config;
        let table = SigmaTable::new(&self.schedule()?);
        if let Some(list) = self.given_sigmas()? {
            return given_grid(&table, list);
        }
        let points = match &self.options.steps {
            Steps::All => Points::All,
            Steps::Count(n) => Points::Count(*n, c.timestep_spacing, c.steps_offset),
            Steps::Timesteps(list) => return discrete_grid(&table, Points::Timesteps(list), c.grid.spacing()?, rules),
            Steps::Sigmas(_) => Points::All,
        };
        let steps = if let Points::Count(n, ..) = points { n } else { table.len() } as f64;
        let (spacing, min, max) = match self.options.sigmas {
            Sigmas::Configured => return discrete_grid(&table, points, c.grid.spacing()?, rules),
            Sigmas::Usual if rules.end == GridEnd::Smallest => (SigmaSpacing::Karras, 0.0, 60.0),
            Sigmas::Usual => (SigmaSpacing::Karras, (10.0 / (steps * steps)).min(0.1), 60.0),
            Sigmas::Range { spacing, min, max } => (spacing, min, max),
        };
        let range = [Some(table.largest().min(max)), Some(table.smallest().max(min))];
        discrete_grid(&table, points, spacing, &GridRules { range, whole: Whole::No, ..*rules })
    }

    /// Moves the sigmas of a flow as the configuration and [`SamplerOptions::mu`] say.
    pub fn shift(&self, sigmas: &mut [f64]) -> Result<()> {
        let g = &self.config.grid;
        let shift = match (g.use_dynamic_shifting, self.options.mu) {
            (false, _) => g.shift,
            (true, None) => {
                return Err(err!(
                    InvalidArgument,
                    "the scheduler says use_dynamic_shifting, so its shift follows from the image, and mu is missing: give it, or a scheduler with \
                     use_dynamic_shifting false and the shift"
                ));
            }
            (true, Some(mu)) if g.time_shift_type == super::TimeShift::Exponential => libm::exp(mu),
            (true, Some(mu)) => mu,
        };
        time_shift(shift, sigmas)?;
        if let (Some(end), Some(&last)) = (g.shift_terminal.filter(|e| *e != 0.0), sigmas.last()) {
            ensure!((0.0..1.0).contains(&end), InvalidArgument, "shift_terminal is {end}, expected 0 to 1");
            ensure!(
                (0.0..1.0).contains(&last),
                InvalidArgument,
                "one step of a flow cannot end at shift_terminal {end}, expected more"
            );
            let scale = (1.0 - last) / (1.0 - end);
            sigmas.iter_mut().for_each(|s| *s = 1.0 - (1.0 - *s) / scale);
        }
        Ok(())
    }

    /// That the prediction is one of these.
    pub fn expect_prediction(&self, kinds: &[PredictionType]) -> Result<()> {
        let kind = self.config.prediction_type;
        let names = |k: &PredictionType| PredictionType::NAMES.iter().find(|(_, v)| v == k).map_or("", |(n, _)| n);
        ensure!(
            kinds.contains(&kind),
            Unsupported,
            "{} with prediction_type {}, expected {}",
            self.config.class.class_name(),
            names(&kind),
            kinds.iter().map(names).collect::<Vec<_>>().join(" or ")
        );
        Ok(())
    }
}

/// Every level of a grid.
pub(super) fn levels(grid: &Grid, of: impl Fn(f64, f64) -> Level) -> Vec<Level> {
    let end = grid.sigmas.get(grid.len()).map(|&s| if s == 0.0 { Level::CLEAN } else { of(0.0, s) });
    grid.timesteps.iter().zip(&grid.sigmas).map(|(&t, &s)| of(t, s)).chain(end).collect()
}
