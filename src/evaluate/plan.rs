//! What an evaluation needs to know of a chain before the first call, with everything checked.

use super::{BoundOptions, Edges, Times, null_binomial, null_gaussian};
use crate::denoiser::Denoiser;
use crate::error::{Result, ensure, err};
use crate::process::{Binomial, Categorical, Forgetting};
use crate::sampler::{Sampler, StateSpace};
use crate::schedule::Level;

/// What is known before the first call.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub n: usize,
    /// Values of the denoiser's output per sample.
    pub output: usize,
    pub count: usize,
    /// Steps with a divergence; one more is made where the network is the end.
    pub kl_steps: usize,
    /// Strata of the steps, all of them or those of [`Times::Sampled`].
    pub strata: usize,
    /// What is noised, and how.
    pub space: Space,
    pub network_end: bool,
    /// beta of the step from x^1 to x^0.
    pub first_beta: f64,
    /// abar_T.
    pub last_abar: f64,
}

impl Plan {
    pub fn new(denoiser: &dyn Denoiser, sampler: &dyn Sampler, data: &[f32], options: &BoundOptions) -> Result<Self> {
        let n = denoiser.sample_dims().elements();
        ensure!(
            n > 0 && data.len().is_multiple_of(n),
            Shape,
            "the data have {} values, expected a multiple of the denoiser's {n}",
            data.len()
        );
        ensure!(!data.is_empty(), InvalidArgument, "there is no data to evaluate");
        sampler.check_output_len(n, denoiser.output_len())?;
        let most = denoiser.max_batch();
        ensure!(
            (1..=most).contains(&options.batch),
            InvalidArgument,
            "the batch is {}, expected 1 to {most}",
            options.batch
        );
        ensure!(options.draws > 0, InvalidArgument, "the number of draws is 0, expected at least 1");
        let space = Space::new(sampler)?;
        space.check(n, data)?;
        let name = sampler.name();
        let levels = sampler.levels();
        ensure!(
            sampler.state_len(n) == 0 && levels.iter().enumerate().all(|(i, _)| sampler.input_scale(i) == 1.0),
            Unsupported,
            "the sampler {name} is no Markov chain of variance-preserving steps, so it has no such bound"
        );
        let ensure_vp = |l: &Level| (l.alpha * l.alpha + l.sigma * l.sigma - 1.0).abs() < 1e-6;
        ensure!(levels.iter().all(ensure_vp), Unsupported, "the levels of the sampler {name} do not preserve variance");
        let (Some(first), Some(last)) = (levels.first(), levels.last()) else {
            return Err(err!(InvalidArgument, "the sampler {name} has no steps"));
        };
        let end = sampler.target(levels.len() - 1)?;
        let clean = end.sigma == 0.0;
        let network_end = matches!(options.edges, Edges::Network | Edges::Discretized { .. });
        ensure!(
            clean || !network_end,
            Unsupported,
            "the sampler {name} ends at abar {}, so it has no last step to x_0 itself",
            end.alpha_bar()
        );
        if let Edges::Discretized { levels } = options.edges {
            let real = matches!(space, Space::Real);
            ensure!(real, Unsupported, "grey levels are for real numbers, the chain's samples are bits or classes");
            ensure!(levels >= 2, InvalidArgument, "the number of grey levels is {levels}, expected at least 2");
        }
        if let Space::Classes(process) = &space {
            ensure!(
                options.edges == Edges::Network,
                Unsupported,
                "a bound of the chain of classes {name} has the network's own ends, expected Edges::Network"
            );
            ensure!(
                process.mask().is_none() || first.alpha_bar() == 0.0,
                Unsupported,
                "x_T of {name} is all mask, but x_0 is left in it with chance {}, so that K is minus infinity; expected abar_T = 0, as of betas that \
                 erase evenly",
                first.alpha_bar()
            );
        }
        let kl_steps = if clean { levels.len() - 1 } else { levels.len() };
        let strata = match options.times {
            Times::All => kl_steps,
            Times::Sampled(k) => {
                ensure!(k > 0, InvalidArgument, "the number of sampled steps is 0, expected at least 1");
                k.min(kl_steps)
            }
        };
        Ok(Self {
            n,
            output: denoiser.output_len(),
            count: data.len() / n,
            kl_steps,
            strata,
            space,
            network_end,
            first_beta: 1.0 - if clean { last } else { &end }.alpha_bar(),
            last_abar: first.alpha_bar(),
        })
    }

    /// The first step of stratum `j`.
    pub fn stratum(&self, j: usize) -> usize {
        (j as u128 * self.kl_steps as u128 / self.strata.max(1) as u128) as usize
    }
}

/// What a chain's samples are, with the process that noises them.
#[derive(Clone, Copy)]
pub(super) enum Space {
    Real,
    Bits(Binomial),
    /// In one-hot rows.
    Classes(Categorical),
}

impl Space {
    fn new(sampler: &dyn Sampler) -> Result<Self> {
        Ok(match sampler.space() {
            StateSpace::Real => Self::Real,
            StateSpace::Bits { ones } => Self::Bits(Binomial::new(f64::from(ones))?),
            StateSpace::Classes { count, mask } => Self::Classes(Categorical::new(
                count,
                mask.map_or(Forgetting::Uniform, |mask| Forgetting::Absorbing { mask }),
            )?),
        })
    }

    /// That data, samples of n values, are of this space.
    fn check(&self, n: usize, data: &[f32]) -> Result<()> {
        let (what, wrong) = match self {
            Self::Real => ("a finite number", data.iter().position(|v| !v.is_finite())),
            Self::Bits(_) => ("0 or 1", data.iter().position(|v| *v != 0.0 && *v != 1.0)),
            Self::Classes(process) => {
                let count = process.classes();
                let row = |row: &[f32]| {
                    let zeros = row.iter().filter(|v| **v == 0.0).count();
                    let class = row.iter().position(|v| *v == 1.0);
                    zeros + 1 == count && class.is_some_and(|class| Some(class) != process.mask())
                };
                let wrong = data.chunks_exact(count).position(|r| !row(r));
                ("one 1 among zeros for each position, at no mask", wrong.map(|row| row * count))
            }
        };
        let Some(at) = wrong else { return Ok(()) };
        let got = data.get(at).copied().unwrap_or(f32::NAN);
        Err(err!(InvalidArgument, "sample {} of the data has the value {got}, expected {what}", at / n))
    }

    /// The dimensions of a sample of n values.
    pub fn dims(&self, n: usize) -> usize {
        match self {
            Self::Real | Self::Bits(_) => n,
            Self::Classes(process) => n / process.classes(),
        }
    }

    /// What n values have under their own white model.
    pub fn null(&self, n: usize) -> f64 {
        match self {
            Self::Real => null_gaussian(n, 1.0),
            Self::Bits(process) => null_binomial(n, process.pi()),
            Self::Classes(process) => {
                let kinds = process.classes() - usize::from(process.mask().is_some());
                -(self.dims(n) as f64) * libm::log(kinds as f64)
            }
        }
    }
}
