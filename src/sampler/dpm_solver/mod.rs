//! DPM-Solver and DPM-Solver++ (Lu et al. 2022a, 2022b): exponential integrators of the probability flow and of the
//! reverse stochastic equation, in half log-SNR lambda = ln(alpha / sigma).

mod multistep;
mod sde;
mod singlestep;

mod inverse;
pub(super) use inverse::build as inverse;
pub use inverse::dpm_solver_multistep_inverse;
pub use multistep::{MultistepOptions, dpm_solver_multistep};
pub(super) use multistep::{build as multistep, intervals, multistep_order, preserving};
pub(super) use sde::build as sde;
pub use sde::{brownian_intervals, dpm_solver_sde};
pub(super) use singlestep::build as singlestep;
pub use singlestep::dpm_solver_singlestep;

use super::path::Path;
use super::plan::{Mix, Of};
use super::{AlgorithmType, Compat, SolverType};
use crate::error::{Result, err};

/// What a step multiplies: x, D0, D1 (by the midpoint and the trapezoidal rule), D2 and noise.
struct Factors {
    x: f64,
    d0: f64,
    midpoint: f64,
    trapezoid: f64,
    d2: f64,
    std: f64,
}

impl Factors {
    /// From level `from` to level `to` of a path.
    ///
    /// With h the gain in lambda, phi_1 = exp(-h) - 1 and so on. The third order is not defined for `sde-dpmsolver`. Of
    /// `sde-dpmsolver++` its weight is the integral of 2 exp(-2 (h - u)) u^2 / (2 h^2) over the step, ((1 - exp(-2
    /// h)) - 2 h) / (2 h)^2 + 1 / 2, which goes to 0 with h; diffusers subtracts the half.
    fn new(options: &MultistepOptions, path: &Path<'_>, from: usize, to: usize) -> Result<Self> {
        let algorithm = options.algorithm_type;
        let (Some(s), Some(t)) = (path.levels.get(from), path.levels.get(to)) else {
            return Err(err!(
                InvalidArgument,
                "a path of {} levels has no step from {from} to {to}",
                path.levels.len()
            ));
        };
        let h = path.lambda(to) - path.lambda(from);
        Ok(match algorithm {
            AlgorithmType::DpmSolverPlusPlus => {
                let e = libm::expm1(-h);
                Self {
                    x: t.sigma / s.sigma,
                    d0: -t.alpha * e,
                    midpoint: -0.5 * t.alpha * e,
                    trapezoid: t.alpha * (e / h + 1.0),
                    d2: -t.alpha * ((e + h) / (h * h) - 0.5),
                    std: 0.0,
                }
            }
            AlgorithmType::DpmSolver => {
                let e = libm::expm1(h);
                Self {
                    x: t.alpha / s.alpha,
                    d0: -t.sigma * e,
                    midpoint: -0.5 * t.sigma * e,
                    trapezoid: -t.sigma * (e / h - 1.0),
                    d2: -t.sigma * ((e - h) / (h * h) - 0.5),
                    std: 0.0,
                }
            }
            AlgorithmType::SdeDpmSolverPlusPlus => {
                let (e, two) = (-libm::expm1(-2.0 * h), 2.0 * h);
                Self {
                    x: t.sigma / s.sigma * libm::exp(-h),
                    d0: t.alpha * e,
                    midpoint: 0.5 * t.alpha * e,
                    trapezoid: t.alpha * (1.0 - e / two),
                    d2: t.alpha * ((e - two) / (two * two) + if options.compat == Compat::Fixed { 0.5 } else { -0.5 }),
                    std: t.sigma * libm::sqrt(e.max(0.0)),
                }
            }
            AlgorithmType::SdeDpmSolver => {
                let e = libm::expm1(h);
                Self {
                    x: t.alpha / s.alpha,
                    d0: -2.0 * t.sigma * e,
                    midpoint: -t.sigma * e,
                    trapezoid: -2.0 * t.sigma * (e / h - 1.0),
                    d2: f64::NAN,
                    std: t.sigma * libm::sqrt(libm::expm1(2.0 * h).max(0.0)),
                }
            }
            AlgorithmType::Deis | AlgorithmType::DataPrediction | AlgorithmType::NoisePrediction => {
                return Err(err!(Unsupported, "algorithm_type {algorithm:?} is none of DPM-Solver's"));
            }
        })
    }

    /// The factor of D1 in a step of second order.
    fn d1(&self, rule: SolverType) -> f64 {
        if rule == SolverType::Heun { self.trapezoid } else { self.midpoint }
    }
}

/// What the integrator works on: x_0 or eps.
fn target(algorithm: AlgorithmType) -> Of {
    match algorithm {
        AlgorithmType::DpmSolver | AlgorithmType::SdeDpmSolver => Of::Eps,
        _ => Of::X0,
    }
}

/// (a - b) / r.
fn difference(a: &Mix, b: &Mix, r: f64) -> Mix {
    a.clone().plus(&b.clone().scaled(-1.0)).scaled(1.0 / r)
}
