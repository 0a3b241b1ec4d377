//! Grids of noise levels, made before and apart from any solver: which sigmas a run visits, and the timestep of each.
//!
//! sigma is k-diffusion's and EDM's: the noise where x_0 has factor 1, sqrt((1 - abar) / abar) of a discrete schedule.
//! The names of the spacings are diffusers'; Karras et al. 2022, eq. 5, has theirs.

use alloc::vec::Vec;

use super::{Arithmetic, NoiseSchedule, Real, TimestepSpacing, custom_timesteps, spaced_timesteps};
use crate::error::{Result, ensure, err};

/// How sigmas are spread between the largest and the smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SigmaSpacing {
    /// Those of the timesteps that a [`TimestepSpacing`] visits, interpolated linearly between whole ones.
    #[default]
    Timesteps,
    /// (smax^(1/rho) + i / (N - 1) (smin^(1/rho) - smax^(1/rho)))^rho (`use_karras_sigmas`, rho 7).
    Karras,
    /// Evenly in their logarithm (`use_exponential_sigmas`).
    Exponential,
    /// By quantiles of the beta distribution of parameters 0.6 and 0.6, taken as sigmas (`use_beta_sigmas`). Lee et al.
    /// 2024, whom diffusers names for it, take them as timesteps: [`SigmaSpacing::BetaTimesteps`].
    Beta,
    /// Those of timesteps at quantiles of the beta distribution of parameters 0.6 and 0.6 between the first and the
    /// last (Lee et al. 2024, "Beta Sampling is All You Need"). In [`spread`], which knows no timesteps, as
    /// [`SigmaSpacing::Beta`].
    BetaTimesteps,
    /// Evenly in their logarithm, over all T timesteps of the training (`use_lu_lambdas`; Lu et al. 2022).
    Lu,
}

/// Levels of a run: N of them, and the sigma that the last step leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// What the network is told at each, N values.
    pub timesteps: Vec<f64>,
    /// N + 1 sigmas, decreasing.
    pub sigmas: Vec<f64>,
}

impl Grid {
    /// The number of steps, N.
    pub fn len(&self) -> usize {
        self.timesteps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timesteps.is_empty()
    }

    /// Rounds both to f32, as PyTorch keeps them.
    fn rounded(mut self, arithmetic: Arithmetic) -> Self {
        if arithmetic == Arithmetic::Float32 {
            self.timesteps.iter_mut().chain(&mut self.sigmas).for_each(|v| *v = f64::from(*v as f32));
        }
        self
    }
}

/// What stands for an abar of 0: 2^-24.
const LEAST: f64 = f32::EPSILON as f64 / 2.0;

/// The sigma of every training timestep.
#[derive(Clone, Debug)]
pub struct SigmaTable {
    sigmas: Vec<f64>,
    logs: Vec<f64>,
    arithmetic: Arithmetic,
}

impl SigmaTable {
    /// Of a discrete schedule. Where nothing of x_0 is left, abar is taken for 2^-24, as diffusers does. Of some
    /// schedules (linear betas, rescaled) that is less noise than the timesteps before have.
    pub fn new(schedule: &NoiseSchedule) -> Self {
        Self::with_least(schedule, |_| LEAST)
    }

    /// As [`SigmaTable::new`], but where nothing of x_0 is left abar is taken for a quarter of that of the timestep
    /// before, where that is less than 2^-24: so sigmas rise to the last.
    pub fn rising(schedule: &NoiseSchedule) -> Self {
        Self::with_least(schedule, |before| LEAST.min(0.25 * before))
    }

    fn with_least(schedule: &NoiseSchedule, least: impl Fn(f64) -> f64) -> Self {
        let mut before = 1.0;
        let arithmetic = schedule.arithmetic();
        let (sigmas, logs) = schedule
            .alphas_cumprod()
            .iter()
            .map(|&abar| {
                let abar = if abar > 0.0 { abar } else { least(before) };
                before = abar;
                match arithmetic {
                    Arithmetic::Float32 => sigma_and_log::<f32>(abar),
                    Arithmetic::Float64 => sigma_and_log::<f64>(abar),
                }
            })
            .unzip();
        Self { sigmas, logs, arithmetic }
    }

    /// T.
    pub fn len(&self) -> usize {
        self.sigmas.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sigmas.is_empty()
    }

    /// The sigma of timestep 0.
    pub fn smallest(&self) -> f64 {
        self.sigmas.first().copied().unwrap_or(0.0)
    }

    /// The sigma of timestep T - 1.
    pub fn largest(&self) -> f64 {
        self.sigmas.last().copied().unwrap_or(0.0)
    }

    /// The sigma of a timestep, interpolated linearly between whole ones; the first and the last stand for what lies
    /// beyond.
    pub fn at(&self, timestep: f64) -> f64 {
        interpolate(&self.sigmas, timestep)
    }

    /// The timestep of a sigma, interpolated linearly in log sigma between whole ones and held to 0 ..= T - 1.
    pub fn timestep(&self, sigma: f64) -> f64 {
        let log = libm::log(sigma.max(1e-10));
        let last = self.logs.len().saturating_sub(2);
        // A sigma of the table, taken to its logarithm and back, is itself. From above: a schedule without any x_0 at
        // its end need not rise there, since its last sigma is a stand-in.
        let low = self.logs.iter().rposition(|&l| l <= log + 1e-12).unwrap_or(0).min(last);
        match (self.logs.get(low), self.logs.get(low + 1)) {
            (Some(a), Some(b)) => low as f64 + ((a - log) / (a - b)).clamp(0.0, 1.0),
            _ => 0.0,
        }
    }

    /// The timesteps of the training whose half log-SNR is at least `lambda_min`: a schedule may be cut where the noise
    /// is so large that a solver would divide by nearly nothing (`lambda_min_clipped`).
    pub fn clipped_len(&self, lambda_min: f64) -> usize {
        // lambda = -ln sigma falls with t.
        self.logs.partition_point(|&l| -l >= lambda_min)
    }
}

fn sigma_and_log<R: Real>(abar: f64) -> (f64, f64) {
    let abar = R::of(abar);
    let sigma = ((R::ONE - abar) / abar).sqrt();
    (sigma.f64(), sigma.ln().f64())
}

fn interpolate(table: &[f64], at: f64) -> f64 {
    let last = table.len().saturating_sub(1);
    let at = at.clamp(0.0, last as f64);
    let low = (at as usize).min(last.saturating_sub(1));
    match (table.get(low), table.get(low + 1)) {
        (Some(a), Some(b)) => a + (b - a) * (at - low as f64),
        (Some(a), None) => *a,
        _ => 0.0,
    }
}

/// What a family of solvers does with a grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridRules {
    /// The timesteps are the upper ends of N intervals over the training's (`DPMSolverMultistepScheduler` and its kin),
    /// not N points from its first to its last (`EulerDiscreteScheduler` and its kin).
    pub intervals: bool,
    /// What becomes of timesteps that are no whole numbers.
    pub whole: Whole,
    /// Where the last step leads.
    pub end: GridEnd,
    /// Largest and smallest sigma instead of the grid's or the training's own, where given (`sigma_max`, `sigma_min`).
    pub range: [Option<f64>; 2],
    /// Half log-SNR below which timesteps are left out; -infinity leaves none out.
    pub lambda_min: f64,
}

/// What becomes of timesteps that are no whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Nothing.
    No,
    /// They are rounded, half to even.
    Rounded,
    /// They are rounded where sigmas are spread by Karras's or Lu's rule, and cut elsewhere.
    RoundedOrCut,
    /// They are cut.
    Cut,
    /// They are rounded where sigmas are spread by Karras's rule, and kept elsewhere.
    RoundedForKarras,
}

/// Where the last step leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GridEnd {
    /// To sigma 0 (`final_sigmas_type` zero).
    Zero,
    /// To the sigma of timestep 0 (`final_sigmas_type` sigma_min).
    FirstTimestep,
    /// To the sigma of timestep 0, or where sigmas are spread by a rule, nowhere: the smallest stands twice.
    Smallest,
}

/// Which points of a schedule a run visits.
#[derive(Clone, Copy, Debug)]
pub enum Points<'a> {
    /// All of the training.
    All,
    /// So many, spread by the rules.
    Count(usize, TimestepSpacing, u32),
    /// The sigmas of these timesteps.
    Timesteps(&'a [u32]),
}

/// The grid of a discrete schedule.
///
/// Errors (kind `InvalidArgument`): no steps or more than T, timesteps out of range or order, timesteps of the caller's
/// own together with a spacing of sigmas, a range that is none.
pub fn discrete_grid(table: &SigmaTable, points: Points<'_>, spacing: SigmaSpacing, rules: &GridRules) -> Result<Grid> {
    let train = table.len();
    let timesteps: Vec<f64> = match points {
        Points::Timesteps(list) => {
            ensure!(
                spacing == SigmaSpacing::Timesteps,
                InvalidArgument,
                "timesteps are given and the scheduler spreads sigmas by a rule of its own, expected one of both"
            );
            custom_timesteps(train, list)?.into_iter().map(f64::from).collect()
        }
        Points::All => (0..train).rev().map(|t| t as f64).collect(),
        // Where a rule spreads the sigmas, the timesteps follow from them.
        Points::Count(n, ..) if spacing != SigmaSpacing::Timesteps && rules.intervals => {
            spaced_timesteps(TimestepSpacing::Linspace, train, n, 0)?.into_iter().map(f64::from).collect()
        }
        Points::Count(n, spacing, offset) if rules.intervals => interval_timesteps(table, n, spacing, offset, rules)?,
        Points::Count(n, TimestepSpacing::Linspace, _) if rules.whole != Whole::Rounded => {
            // Checks the number.
            spaced_timesteps(TimestepSpacing::Linspace, train, n, 0)?;
            // One point is the first that counting upwards gives.
            if n == 1 { alloc::vec![0.0] } else { linspace(train.saturating_sub(1) as f64, 0.0, n) }
        }
        Points::Count(n, spacing, offset) => {
            spaced_timesteps(spacing, train, n, offset)?.into_iter().map(f64::from).collect()
        }
    };
    let n = timesteps.len();
    let own: Vec<f64> = timesteps.iter().map(|&t| table.at(t)).collect();
    // Solvers over intervals spread by the whole training, the others by their own first and last.
    let (top, bottom) = match rules.intervals {
        true => (table.largest(), table.smallest()),
        false => (own.first().copied().unwrap_or(0.0), own.last().copied().unwrap_or(0.0)),
    };
    let [top, bottom] = [rules.range[0].unwrap_or(top), rules.range[1].unwrap_or(bottom)];
    let mut sigmas = match spacing {
        SigmaSpacing::Timesteps => own,
        SigmaSpacing::BetaTimesteps => {
            beta_timesteps(table, [top, bottom], n).into_iter().map(|t| table.at(t)).collect()
        }
        SigmaSpacing::Lu => {
            let log = |i: Option<&f64>| i.copied().unwrap_or(0.0);
            linspace(log(table.logs.last()), log(table.logs.first()), n).into_iter().map(libm::exp).collect()
        }
        _ => spread(spacing, bottom, top, n, 7.0)?,
    };
    let timesteps = match spacing {
        SigmaSpacing::Timesteps => timesteps,
        // Not rounded: near both ends several would be the same.
        SigmaSpacing::BetaTimesteps => beta_timesteps(table, [top, bottom], n),
        _ => sigmas.iter().map(|&s| whole(rules.whole, spacing, table.timestep(s))).collect(),
    };
    sigmas.push(match rules.end {
        GridEnd::Zero => 0.0,
        GridEnd::Smallest if spacing != SigmaSpacing::Timesteps => sigmas.last().copied().unwrap_or(0.0),
        GridEnd::FirstTimestep | GridEnd::Smallest => table.smallest(),
    });
    Ok(Grid { timesteps, sigmas }.rounded(table.arithmetic))
}

/// A grid of the caller's own sigmas, that of the result at their end; each call's timestep is what the sigma has
/// between the training's.
pub fn given_grid(table: &SigmaTable, sigmas: &[f64]) -> Result<Grid> {
    let [calls @ .., _] = sigmas else { return Err(err!(InvalidArgument, "the list of sigmas is empty")) };
    let timesteps = calls.iter().map(|s| table.timestep(*s)).collect();
    Ok(Grid { timesteps, sigmas: sigmas.to_vec() }.rounded(table.arithmetic))
}

fn whole(rule: Whole, spacing: SigmaSpacing, t: f64) -> f64 {
    let by_rule = matches!(spacing, SigmaSpacing::Karras | SigmaSpacing::Lu);
    match rule {
        Whole::No => t,
        Whole::Rounded => libm::rint(t),
        Whole::RoundedOrCut if by_rule => libm::rint(t),
        Whole::RoundedForKarras if spacing == SigmaSpacing::Karras => libm::rint(t),
        Whole::RoundedForKarras => t,
        Whole::RoundedOrCut | Whole::Cut => libm::trunc(t),
    }
}

/// The upper ends of N intervals.
fn interval_timesteps(
    table: &SigmaTable,
    n: usize,
    spacing: TimestepSpacing,
    offset: u32,
    rules: &GridRules,
) -> Result<Vec<f64>> {
    let train = table.len();
    // Checks the number.
    spaced_timesteps(TimestepSpacing::Linspace, train, n, 0)?;
    let last = table.clipped_len(rules.lambda_min);
    ensure!(last > 1, InvalidArgument, "lambda_min_clipped is {}, which leaves no timestep", rules.lambda_min);
    let list: Vec<f64> = match spacing {
        TimestepSpacing::Linspace => {
            linspace((last - 1) as f64, 0.0, n + 1).into_iter().take(n).map(libm::rint).collect()
        }
        TimestepSpacing::Leading => {
            let stride = (last / (n + 1)) as f64;
            (0..n).map(|i| (n - i) as f64 * stride + f64::from(offset)).collect()
        }
        TimestepSpacing::Trailing => {
            let stride = train as f64 / n as f64;
            (0..n).map(|i| libm::rint(last as f64 - i as f64 * stride) - 1.0).collect()
        }
    };
    let falls = list.windows(2).all(|w| matches!(w, [a, b] if a > b));
    let inside = list.iter().all(|&t| (0.0..train as f64).contains(&t));
    ensure!(
        falls && inside,
        InvalidArgument,
        "{n} steps over the {last} timesteps of the training with steps_offset {offset} visit timesteps twice or outside 0 to {}, \
         expected fewer steps",
        train.saturating_sub(1)
    );
    Ok(list)
}

/// n timesteps at quantiles between those of two sigmas.
fn beta_timesteps(table: &SigmaTable, [top, bottom]: [f64; 2], n: usize) -> Vec<f64> {
    let (first, last) = (table.timestep(top), table.timestep(bottom));
    linspace(1.0, 0.0, n).into_iter().map(|p| last + beta_quantile(0.6, 0.6, p) * (first - last)).collect()
}

/// n values from `first` to `last`, both included.
pub(crate) fn linspace(first: f64, last: f64, n: usize) -> Vec<f64> {
    let step = (last - first) / n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| if i > 0 && i + 1 == n { last } else { first + i as f64 * step }).collect()
}

/// n sigmas from `top` to `bottom`. `rho` is Karras's.
///
/// Errors (kind `InvalidArgument`) for a range that is not 0 < bottom <= top, or a rho of 0.
pub fn spread(spacing: SigmaSpacing, bottom: f64, top: f64, n: usize, rho: f64) -> Result<Vec<f64>> {
    ensure!(
        bottom > 0.0 && top >= bottom && top.is_finite(),
        InvalidArgument,
        "sigmas from {top} to {bottom}, expected to fall and to stay above 0"
    );
    ensure!(rho.is_finite() && rho != 0.0, InvalidArgument, "rho is {rho}, expected a number other than 0");
    Ok(match spacing {
        SigmaSpacing::Karras => {
            let (a, b) = (libm::pow(top, 1.0 / rho), libm::pow(bottom, 1.0 / rho));
            linspace(0.0, 1.0, n).into_iter().map(|r| libm::pow(a + r * (b - a), rho)).collect()
        }
        SigmaSpacing::Exponential | SigmaSpacing::Lu | SigmaSpacing::Timesteps => {
            linspace(libm::log(top), libm::log(bottom), n).into_iter().map(libm::exp).collect()
        }
        SigmaSpacing::Beta | SigmaSpacing::BetaTimesteps => {
            let quantile = |p: f64| beta_quantile(0.6, 0.6, p);
            linspace(1.0, 0.0, n).into_iter().map(|p| bottom + quantile(p) * (top - bottom)).collect()
        }
    })
}

/// shift s / (1 + (shift - 1) s): sigmas of a flow moved towards noise (Esser et al. 2024, eq. 23).
///
/// Errors (kind `InvalidArgument`) for a shift that is not above 0.
pub fn time_shift(shift: f64, sigmas: &mut [f64]) -> Result<()> {
    if !(shift > 0.0 && shift.is_finite()) {
        return Err(err!(InvalidArgument, "the shift of the flow is {shift}, expected above 0"));
    }
    sigmas.iter_mut().for_each(|s| *s = shift * *s / (1.0 + (shift - 1.0) * *s));
    Ok(())
}

/// The p-quantile of the beta distribution, by bisection on the regularised incomplete beta function; within 1e-15.
fn beta_quantile(a: f64, b: f64, p: f64) -> f64 {
    let (mut low, mut high) = (0.0f64, 1.0f64);
    if p <= 0.0 || p >= 1.0 {
        return p.clamp(0.0, 1.0);
    }
    // Bits of the result are found one by one; near 0 more of them matter.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if incomplete_beta(a, b, middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// I_x(a, b) by its continued fraction (DLMF 8.17.22), evaluated from the front by Lentz's method.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on one side of the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let log_beta = libm::lgamma(a) + libm::lgamma(b) - libm::lgamma(a + b);
    let front = libm::exp(a * libm::log(x) + b * libm::log1p(-x) - log_beta) / a;
    let tiny = 1e-300;
    let away = |v: f64| if v.abs() < tiny { tiny } else { v };
    let (mut c, mut d, mut f) = (1.0, 0.0, 1.0);
    for i in 0..200 {
        let m = f64::from(i / 2);
        let term = match i {
            0 => 1.0,
            _ if i % 2 == 0 => m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            _ => -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        };
        d = 1.0 / away(1.0 + term * d);
        c = away(1.0 + term / c);
        let change = c * d;
        f *= change;
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    front * (f - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Betas;

    #[test]
    fn quantiles_of_the_beta_distribution() {
        // scipy.stats.beta.ppf(p, 0.6, 0.6), scipy 1.17.1.
        for (p, right) in [(0.1, 0.039_584_405_588_780_85), (0.5, 0.5), (0.9, 0.960_415_594_411_219_2)] {
            assert!((beta_quantile(0.6, 0.6, p) - right).abs() < 1e-13, "{p}: {}", beta_quantile(0.6, 0.6, p));
            let back = incomplete_beta(0.6, 0.6, beta_quantile(0.6, 0.6, p));
            assert!((back - p).abs() < 1e-13, "{p}: {back}");
        }
        // I_x(1, 1) = x and I_x(2, 1) = x^2.
        assert!((incomplete_beta(1.0, 1.0, 0.3) - 0.3).abs() < 1e-14);
        assert!((incomplete_beta(2.0, 1.0, 0.8) - 0.64).abs() < 1e-14);
    }

    #[test]
    fn a_timestep_and_its_sigma_turn_back_into_each_other() {
        let table = SigmaTable::new(&NoiseSchedule::new(&Betas::default(), Arithmetic::Float64).unwrap());
        for t in [0.0, 1.0, 17.0, 500.0, 999.0] {
            assert!((table.timestep(table.at(t)) - t).abs() < 1e-9, "{t}");
        }
        assert_eq!((table.timestep(0.0), table.timestep(1e9)), (0.0, 999.0));
        assert_eq!(table.clipped_len(f64::NEG_INFINITY), 1000);
        assert!(table.clipped_len(-3.0) < 1000);
    }

    #[test]
    fn a_range_or_a_shift_that_is_none_is_refused() {
        for (bottom, top) in [(0.0, 1.0), (2.0, 1.0), (1.0, f64::INFINITY), (f64::NAN, 1.0)] {
            assert!(spread(SigmaSpacing::Karras, bottom, top, 3, 7.0).is_err());
        }
        assert!(spread(SigmaSpacing::Karras, 1.0, 2.0, 3, 0.0).is_err());
        assert!(time_shift(0.0, &mut []).is_err() && time_shift(f64::NAN, &mut []).is_err());
    }
}
