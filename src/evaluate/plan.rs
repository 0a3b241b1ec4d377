//! What an evaluation needs to know of a chain before the first call, with everything checked.

use super::{BoundOptions, Edges, Times};
use crate::denoiser::Denoiser;
use crate::error::{Result, ensure, err};
use crate::process::Binomial;
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
    /// None for real numbers.
    pub bits: Option<Binomial>,
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
        let bits = match sampler.space() {
            StateSpace::Real => None,
            StateSpace::Bits { ones } => Some(Binomial::new(f64::from(ones))?),
        };
        let fits = |v: &f32| if bits.is_some() { *v == 0.0 || *v == 1.0 } else { v.is_finite() };
        if let Some(at) = data.iter().position(|v| !fits(v)) {
            let (what, got) = (if bits.is_some() { "0 or 1" } else { "a finite number" }, data.get(at));
            let got = got.copied().unwrap_or(f32::NAN);
            return Err(err!(InvalidArgument, "sample {} of the data has the value {got}, expected {what}", at / n));
        }
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
            ensure!(bits.is_none(), Unsupported, "grey levels are for real numbers, the chain's samples are bits");
            ensure!(levels >= 2, InvalidArgument, "the number of grey levels is {levels}, expected at least 2");
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
            bits,
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
