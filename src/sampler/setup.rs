//! What a solver is made from: the schedule, the timesteps or the sigmas that a configuration and a run's options make.

use alloc::vec::Vec;

use super::options::{Compat, SamplerOptions, Sigmas, Steps};
use super::{Prediction, PredictionType, SampleClip, SchedulerConfig, TimeShift, TimestepType};
use crate::error::{Result, ensure, err};
use crate::schedule::{
    Grid, GridEnd, GridRules, Level, NoiseSchedule, Points, SigmaSpacing, SigmaTable, Whole, custom_timesteps,
    discrete_grid, given_grid, polyexponential, spaced_timesteps, time_shift,
};

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

    /// The sigmas of the training's timesteps.
    pub fn table(&self) -> Result<SigmaTable> {
        let schedule = self.schedule()?;
        Ok(if self.options.compat == Compat::Fixed {
            SigmaTable::rising(&schedule)
        } else {
            SigmaTable::new(&schedule)
        })
    }

    /// How the configuration spreads sigmas.
    fn spacing(&self) -> Result<SigmaSpacing> {
        Ok(match self.config.grid.spacing()? {
            SigmaSpacing::Beta if self.options.compat == Compat::Fixed => SigmaSpacing::BetaTimesteps,
            spacing => spacing,
        })
    }

    /// The grid of a discrete schedule or, with `use_flow_sigmas`, of a flow.
    pub fn grid(&self, rules: &GridRules) -> Result<Grid> {
        let c = self.config;
        let table = self.table()?;
        if let Some(list) = self.given_sigmas()? {
            return given_grid(&table, list);
        }
        let points = match &self.options.steps {
            Steps::All => Points::All,
            Steps::Count(n) => Points::Count(*n, c.timestep_spacing, c.steps_offset),
            Steps::Timesteps(list) => return discrete_grid(&table, Points::Timesteps(list), self.spacing()?, rules),
            Steps::Sigmas(_) => Points::All,
        };
        let steps = if let Points::Count(n, ..) = points { n } else { table.len() } as f64;
        let (spacing, min, max) = match self.options.sigmas {
            Sigmas::Configured => return discrete_grid(&table, points, self.spacing()?, rules),
            Sigmas::Usual if rules.end == GridEnd::Smallest => (SigmaSpacing::Karras, 0.0, 60.0),
            Sigmas::Usual => (SigmaSpacing::Karras, (10.0 / (steps * steps)).min(0.1), 60.0),
            Sigmas::Range { spacing, min, max } => (spacing, min, max),
            Sigmas::Simple => {
                let list = table.simple(steps as usize)?;
                let whole = GridRules { whole: Whole::No, range: [None; 2], ..*rules };
                return discrete_grid(&table, Points::Timesteps(&list), SigmaSpacing::Timesteps, &whole);
            }
            Sigmas::AlignYourSteps(model) => {
                let sigmas = model.sigmas(steps as usize)?;
                let (top, largest) = (sigmas.first().copied().unwrap_or(0.0), table.largest());
                ensure!(
                    top <= 1.01 * largest || c.grid.timestep_type == TimestepType::Continuous,
                    InvalidArgument,
                    "the sigmas of {model:?} begin at {top}, expected at most the {largest} that the model was trained to"
                );
                return given_grid(&table, &ending(sigmas, rules.end));
            }
            Sigmas::Polyexponential { rho } => {
                let [top, bottom] =
                    [rules.range[0].unwrap_or(table.largest()), rules.range[1].unwrap_or(table.smallest())];
                let mut sigmas = polyexponential(bottom, top, steps as usize, rho)?;
                sigmas.push(bottom);
                return given_grid(&table, &ending(sigmas, rules.end));
            }
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
            (true, Some(mu)) if g.time_shift_type == TimeShift::Exponential => libm::exp(mu),
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

/// Sigmas whose last one is where a solver of these rules ends.
fn ending(mut sigmas: Vec<f64>, end: GridEnd) -> Vec<f64> {
    if let (Some(last), GridEnd::Zero) = (sigmas.last_mut(), end) {
        *last = 0.0;
    }
    sigmas
}

/// Every level of a grid.
pub(super) fn levels(grid: &Grid, of: impl Fn(f64, f64) -> Level) -> Vec<Level> {
    let end = grid.sigmas.get(grid.len()).map(|&s| if s == 0.0 { Level::CLEAN } else { of(0.0, s) });
    grid.timesteps.iter().zip(&grid.sigmas).map(|(&t, &s)| of(t, s)).chain(end).collect()
}
