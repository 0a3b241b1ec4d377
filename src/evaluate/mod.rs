//! What a chain is worth: lower bounds on the log-likelihood of data, entropy bounds of its steps, and the Parzen
//! window estimate.
//!
//! [`bound`] takes any [`Denoiser`](crate::denoiser::Denoiser) with any sampler that draws each x_s from a density of
//! its own: the 2015 chains, Gaussian and binary, with each of their readouts, D3PM's chain of classes, and DDPM. What
//! it evaluates is that chain, step by step as it is sampled (Sohl-Dickstein et al. 2015, Eqs. 10 to 15):
//!
//! ```text
//! K = - sum_t E KL(q(x_s | x_t, x_0) || p(x_s | x_t)) - H_start + H_end - H_prior,   K <= log p(x_0)
//! ```
//!
//! # What the variance costs
//! The bound is that of the chain with the variance that its configuration names. `fixed_small` is right for data of
//! one point, `fixed_large` for x_0 ~ N(0, I) (Ho et al. 2020, section 3.2). For x_0 of variance v in each element, v
//! from 0.01 to 1, the exact network and 1,000 linear betas, K is 0.56 to 0.67 bits per dimension below that of the
//! best variance with `fixed_small`, and at most 0.03 with `fixed_large` (sums of the divergences in closed form; a
//! test holds v = 0.25). So K says as much about this choice as about the network: compare models with the same one, or
//! see what the other gives.
//!
//! Logarithms are natural; [`Unit`] turns them into bits. x_t is drawn from q(x_t | x_0), and noise is keyed by (seed,
//! sample, draw), so that K of a data point does not depend on the batch or on the other points, and a data set can be
//! split over machines.
//!
//! ```
//! use undiffuse::Cancel;
//! use undiffuse::denoiser::FnDenoiser;
//! use undiffuse::evaluate::{BoundOptions, Unit, bound};
//! use undiffuse::noise::{NoiseSource, Seeded};
//! use undiffuse::sampler::{Ancestral2015, Ending2015, Readout2015};
//! use undiffuse::schedule::{Arithmetic, Betas, NoiseSchedule};
//! use undiffuse::tensor::Dims;
//!
//! // The authors' readout of a network at zero is the white Gaussian model.
//! let schedule = NoiseSchedule::new(&Betas::authors_2015(20, &[])?, Arithmetic::Float64)?;
//! let sampler = Ancestral2015::new(&schedule, Readout2015::Code, Ending2015::Mean)?;
//! let mut zero = FnDenoiser::new("zero", Dims::new(&[4])?, |_, _, out| Ok(out.fill(0.0))).with_output_len(8)?;
//! let mut data = [0.0; 4 * 100];
//! Seeded::new(7).normal(0, 0, 4, &mut data)?;
//! let report = bound(&mut zero, &sampler, &mut Seeded::new(1), &data, &BoundOptions::default(), &Cancel::new())?;
//! assert!((report.k - report.l_null).abs() < 4.0 * report.standard_error + 0.05);
//! println!("K = {:.3} bits per dimension", report.value(report.k, Unit::BitsPerDim));
//! # Ok::<(), undiffuse::Error>(())
//! ```

mod bound;
mod edges;
mod null;
mod options;
mod parzen;
mod plan;
mod report;
mod terms;

pub use bound::{Progress, bound, bound_with};
pub use null::{null_binomial, null_fitted_gaussian, null_gaussian};
pub use options::{BoundOptions, Edges, Times};
pub use parzen::{Parzen, parzen, parzen_bandwidth};
#[doc(hidden)] // The steps of `parzen_bandwidth`, for the program, which shows them.
pub use parzen::{parzen_bandwidths, parzen_bandwidths_near};
pub use report::{Bound, StepBound, Unit};

#[cfg(test)]
mod tests;
