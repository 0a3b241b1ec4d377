//! The beta schedules of diffusers and their cumulative products.

use alloc::vec::Vec;

use super::paper2015::{authors_beta, cosine_beta, even_beta};
use super::{Arithmetic, Real};
use crate::error::{Result, ensure, err};

/// The largest `num_train_timesteps` that is accepted; real models have 1000 to 4000.
pub const MAX_TRAIN_TIMESTEPS: usize = 100_000;

/// How beta grows with t. The names are diffusers'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BetaSchedule {
    /// Evenly from `start` to `end` (Ho 2020).
    #[default]
    Linear,
    /// The square of an even grid from sqrt(start) to sqrt(end) (latent diffusion).
    ScaledLinear,
    /// From abar(t) = cos^2((t + 0.008) / 1.008 pi / 2), each beta at most 0.999 (Nichol 2021); ignores start and end.
    SquaredcosCapV2,
    /// sigmoid of an even grid from -6 to 6, scaled to start..end (GeoDiff).
    Sigmoid,
    /// From the Laplace signal-to-noise curve, each beta at most 0.999; ignores start and end.
    Laplace,
    /// From abar(t) = exp(-12 t), each beta at most 0.999; ignores start and end. Diffusers has it in its Heun
    /// scheduler.
    Exp,
    /// [`Betas::erasing_evenly`]: the paper of 2015. abar_T is 0. Ignores start and end.
    ErasingEvenly,
    /// [`Betas::authors_2015`] without coefficients. Ignores start and end.
    Authors2015,
    /// [`Betas::cosine`]: D3PM's, of uniform transitions. Ignores start and end.
    Cosine,
}

impl BetaSchedule {
    /// Those of 2015, with the names that this library's configurations use.
    pub const NAMES_2015: [(&'static str, Self); 2] =
        [("erasing_evenly", Self::ErasingEvenly), ("authors_2015", Self::Authors2015)];

    /// Those of D3PM, with the names that this library's configurations use.
    pub const NAMES_D3PM: [(&'static str, Self); 2] =
        [("mutual_information", Self::ErasingEvenly), ("cosine", Self::Cosine)];

    /// Those of diffusers, with the names that its configurations use.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("linear", Self::Linear),
        ("scaled_linear", Self::ScaledLinear),
        ("squaredcos_cap_v2", Self::SquaredcosCapV2),
        ("sigmoid", Self::Sigmoid),
        ("laplace", Self::Laplace),
        ("exp", Self::Exp),
    ];
}

/// What a [`NoiseSchedule`] is made of. The default is diffusers': 1000 steps, linear from 1e-4 to 0.02.
#[derive(Clone, Debug, PartialEq)]
pub struct Betas {
    /// T, the number of steps the model was trained with.
    pub num_train_timesteps: usize,
    /// The first beta.
    pub start: f64,
    /// The last beta.
    pub end: f64,
    /// The curve between them.
    pub schedule: BetaSchedule,
    /// The betas themselves, T of them, instead of start, end and schedule.
    pub trained: Option<Vec<f64>>,
    /// Rescale so that abar_T is 0 (Lin 2023, algorithm 1).
    pub rescale_zero_snr: bool,
}

impl Default for Betas {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            start: 1e-4,
            end: 0.02,
            schedule: BetaSchedule::Linear,
            trained: None,
            rescale_zero_snr: false,
        }
    }
}

/// beta_t and abar_t = prod_{s <= t} (1 - beta_s) for t = 0 .. T - 1.
///
/// With [`Arithmetic::Float32`] each value is an f32, widened: alpha = 1 - beta is rounded to f32, the product runs in
/// f64 and every entry is rounded, as `torch.cumprod` does on a CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
    arithmetic: Arithmetic,
}

impl NoiseSchedule {
    /// Computes the schedule.
    ///
    /// Errors (kind `InvalidArgument`): T is 0 or above [`MAX_TRAIN_TIMESTEPS`]; `trained` has another length; a beta
    /// is not in (0, 1], or is 1 before the last, or the cumulative product vanishes before the last step.
    pub fn new(betas: &Betas, arithmetic: Arithmetic) -> Result<Self> {
        let t = betas.num_train_timesteps;
        ensure!(
            (1..=MAX_TRAIN_TIMESTEPS).contains(&t),
            InvalidArgument,
            "num_train_timesteps is {t}, expected 1 to {MAX_TRAIN_TIMESTEPS}"
        );
        if let Some(trained) = &betas.trained {
            ensure!(
                trained.len() == t,
                InvalidArgument,
                "trained_betas has {} values, num_train_timesteps is {t}",
                trained.len()
            );
        }
        let (list, cumprod) = match arithmetic {
            Arithmetic::Float32 => compute::<f32>(betas)?,
            Arithmetic::Float64 => compute::<f64>(betas)?,
        };
        for (i, (&beta, &abar)) in list.iter().zip(&cumprod).enumerate() {
            let last = i + 1 == t;
            ensure!(
                beta > 0.0 && beta <= 1.0 && (last || abar > 0.0),
                InvalidArgument,
                "beta of timestep {i} is {beta} and the product of the alphas is {abar}, expected a beta between 0 and 1 \
                 and a product above 0 before the last timestep"
            );
        }
        Ok(Self { betas: list, alphas_cumprod: cumprod, arithmetic })
    }

    /// beta_t, t = 0 .. T - 1.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// abar_t, t = 0 .. T - 1: decreasing, in [0, 1).
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// abar of a timestep; an error (kind `InvalidArgument`) above T - 1.
    pub fn alpha_bar(&self, timestep: u32) -> Result<f64> {
        usize::try_from(timestep).ok().and_then(|t| self.alphas_cumprod.get(t)).copied().ok_or_else(|| {
            err!(InvalidArgument, "timestep {timestep} is not below the {} steps of the schedule", self.betas.len())
        })
    }

    /// T.
    pub fn num_train_timesteps(&self) -> usize {
        self.betas.len()
    }

    /// The precision it was computed in.
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }
}

/// An even grid of n values, both ends included. Each half counts from its own end and each value rounds once, which is
/// what `torch.linspace` computes on CPUs with fused multiply-add.
fn linspace<R: Real>(start: f64, end: f64, n: usize) -> Vec<R> {
    let (first, last) = (R::of(start), R::of(end));
    if n <= 1 {
        return alloc::vec![first; n];
    }
    let step = (last - first) / R::of((n - 1) as f64);
    (0..n)
        .map(|i| {
            if i < n / 2 {
                step.mul_add(R::of(i as f64), first)
            } else {
                step.mul_add(R::of(-((n - 1 - i) as f64)), last)
            }
        })
        .collect()
}

/// Betas from a cumulative product, each at most 0.999; always in f64, converted once.
fn from_alpha_bar<R: Real>(n: usize, alpha_bar: impl Fn(f64) -> f64) -> Vec<R> {
    let at = |i: usize| alpha_bar(i as f64 / n as f64);
    (0..n).map(|i| R::of((1.0 - at(i + 1) / at(i)).min(0.999))).collect()
}

fn laplace_alpha_bar(t: f64) -> f64 {
    let lambda = -0.5 * libm::copysign(1.0, 0.5 - t) * libm::log(1.0 - 2.0 * (0.5 - t).abs() + 1e-6);
    let snr = libm::exp(lambda);
    libm::sqrt(snr / (1.0 + snr))
}

fn cosine_alpha_bar(t: f64) -> f64 {
    let c = libm::cos((t + 0.008) / 1.008 * core::f64::consts::PI / 2.0);
    c * c
}

fn cumprod<R: Real>(betas: &[R]) -> Vec<R> {
    let mut product = 1.0;
    betas
        .iter()
        .map(|&b| {
            product *= (R::ONE - b).f64();
            R::of(product)
        })
        .collect()
}

/// Lin 2023 ("Common diffusion noise schedules and sample steps are flawed"), algorithm 1.
fn rescale_zero_terminal_snr<R: Real>(betas: &[R]) -> Vec<R> {
    let mut roots: Vec<R> = cumprod(betas).into_iter().map(R::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return roots };
    let scale = first / (first - last);
    roots.iter_mut().for_each(|r| *r = (*r - last) * scale);
    let squares: Vec<R> = roots.into_iter().map(|r| r * r).collect();
    let previous = core::iter::once(R::ONE).chain(squares.iter().copied());
    squares.iter().zip(previous).map(|(&s, p)| R::ONE - s / p).collect()
}

fn compute<R: Real>(spec: &Betas) -> Result<(Vec<f64>, Vec<f64>)> {
    let n = spec.num_train_timesteps;
    let uses_range = spec.trained.is_none()
        && matches!(spec.schedule, BetaSchedule::Linear | BetaSchedule::ScaledLinear | BetaSchedule::Sigmoid);
    ensure!(
        !uses_range || (spec.start > 0.0 && spec.start <= 1.0 && spec.end > 0.0 && spec.end <= 1.0),
        InvalidArgument,
        "beta_start is {} and beta_end is {}, expected both above 0 and at most 1",
        spec.start,
        spec.end
    );
    let mut betas: Vec<R> = match (&spec.trained, spec.schedule) {
        (Some(trained), _) => trained.iter().map(|&b| R::of(b)).collect(),
        (None, BetaSchedule::Linear) => linspace(spec.start, spec.end, n),
        (None, BetaSchedule::ScaledLinear) => {
            linspace::<R>(libm::sqrt(spec.start), libm::sqrt(spec.end), n).into_iter().map(|b| b * b).collect()
        }
        (None, BetaSchedule::SquaredcosCapV2) => from_alpha_bar(n, cosine_alpha_bar),
        (None, BetaSchedule::Laplace) => from_alpha_bar(n, laplace_alpha_bar),
        (None, BetaSchedule::Exp) => from_alpha_bar(n, |t| libm::exp(-12.0 * t)),
        (None, BetaSchedule::Cosine) => (0..n).map(|i| R::of(cosine_beta(i, n))).collect(),
        (None, BetaSchedule::ErasingEvenly) => (0..n).map(|i| R::of(even_beta(i, n))).collect(),
        (None, BetaSchedule::Authors2015) => (0..n).map(|i| R::of(authors_beta(i, n, 0.0))).collect(),
        (None, BetaSchedule::Sigmoid) => {
            let range = R::of(spec.end - spec.start);
            linspace::<R>(-6.0, 6.0, n)
                .into_iter()
                .map(|x| R::of(1.0 / (1.0 + libm::exp(-x.f64()))) * range + R::of(spec.start))
                .collect()
        }
    };
    if spec.rescale_zero_snr {
        betas = rescale_zero_terminal_snr(&betas);
    }
    let product = cumprod(&betas).into_iter().map(R::f64).collect();
    Ok((betas.into_iter().map(R::f64).collect(), product))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::error::ErrorKind;

    fn all() -> impl Iterator<Item = Betas> {
        BetaSchedule::NAMES.into_iter().flat_map(|(_, schedule)| {
            [false, true].map(|rescale_zero_snr| Betas { schedule, rescale_zero_snr, ..Betas::default() })
        })
    }

    #[test]
    fn cumulative_products_decrease_to_their_end() {
        for spec in all() {
            for arithmetic in [Arithmetic::Float32, Arithmetic::Float64] {
                let s = NoiseSchedule::new(&spec, arithmetic).unwrap();
                let abar = s.alphas_cumprod();
                assert_eq!((abar.len(), s.num_train_timesteps()), (1000, 1000));
                assert!(abar.windows(2).all(|w| w[0] > w[1]), "{spec:?}");
                assert!(abar[0] < 1.0);
                assert_eq!(abar[999] == 0.0, spec.rescale_zero_snr, "{spec:?}: {}", abar[999]);
                if spec.rescale_zero_snr {
                    let plain = Betas { rescale_zero_snr: false, ..spec.clone() };
                    let first = NoiseSchedule::new(&plain, arithmetic).unwrap().alphas_cumprod()[0];
                    // Four roundings near 1 between them.
                    let eps = if arithmetic == Arithmetic::Float32 { f64::from(f32::EPSILON) } else { f64::EPSILON };
                    assert!((abar[0] - first).abs() < 4.0 * eps);
                }
            }
        }
    }

    #[test]
    fn both_precisions_agree() {
        for spec in all() {
            let a = NoiseSchedule::new(&spec, Arithmetic::Float32).unwrap();
            let b = NoiseSchedule::new(&spec, Arithmetic::Float64).unwrap();
            for (t, (x, y)) in a.alphas_cumprod().iter().zip(b.alphas_cumprod()).enumerate() {
                assert!((x - y).abs() < 3e-6, "{spec:?} at {t}: {x} {y}");
            }
        }
    }

    #[test]
    fn closed_forms_in_f64() {
        let s = NoiseSchedule::new(&Betas { schedule: BetaSchedule::Exp, ..Betas::default() }, Arithmetic::Float64)
            .unwrap();
        assert!((s.alphas_cumprod()[499] - libm::exp(-6.0)).abs() < 1e-15);
        let cosine = Betas { schedule: BetaSchedule::SquaredcosCapV2, ..Betas::default() };
        let s = NoiseSchedule::new(&cosine, Arithmetic::Float64).unwrap();
        let f = |t: f64| cosine_alpha_bar(t) / cosine_alpha_bar(0.0);
        assert!((s.alphas_cumprod()[499] - f(0.5)).abs() < 1e-14);
        let s = NoiseSchedule::new(&Betas::default(), Arithmetic::Float64).unwrap();
        assert!((s.betas()[0] - 1e-4).abs() < 1e-18 && (s.betas()[999] - 0.02).abs() < 1e-16);
        assert!((s.betas()[500] - (1e-4 + 0.0199 * 500.0 / 999.0)).abs() < 1e-16);
    }

    #[test]
    fn trained_betas_are_taken() {
        let trained = vec![0.1, 0.2, 0.5];
        let spec = Betas { num_train_timesteps: 3, trained: Some(trained.clone()), ..Betas::default() };
        let s = NoiseSchedule::new(&spec, Arithmetic::Float64).unwrap();
        assert_eq!(s.betas(), trained);
        assert!((s.alpha_bar(2).unwrap() - 0.9 * 0.8 * 0.5).abs() < 1e-15);
        assert_eq!(s.alpha_bar(3).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn nonsense_is_refused() {
        let base = Betas::default;
        let bad = [
            Betas { num_train_timesteps: 0, ..base() },
            Betas { num_train_timesteps: MAX_TRAIN_TIMESTEPS + 1, ..base() },
            Betas { start: 0.0, ..base() },
            Betas { end: f64::NAN, ..base() },
            Betas { end: 1.5, ..base() },
            Betas { schedule: BetaSchedule::ScaledLinear, start: -1.0, ..base() },
            Betas { trained: Some(vec![0.1; 999]), ..base() },
            Betas { num_train_timesteps: 2, trained: Some(vec![1.0, 0.5]), ..base() },
            Betas { num_train_timesteps: 2, trained: Some(vec![0.1, f64::INFINITY]), ..base() },
            Betas { num_train_timesteps: 1, rescale_zero_snr: true, ..base() },
        ];
        for spec in bad {
            for arithmetic in [Arithmetic::Float32, Arithmetic::Float64] {
                let e = NoiseSchedule::new(&spec, arithmetic).unwrap_err();
                assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{spec:?}");
            }
        }
    }
}
