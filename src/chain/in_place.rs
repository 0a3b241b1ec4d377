//! A chain's run in the memory of its sample, for pictures of which a second copy would be too much.

use alloc::vec::Vec;

use crate::cancel::Cancel;
use crate::denoiser::{Call, Denoiser, check_gave};
use crate::error::{Result, ensure, err, first_non_finite};
use crate::memory::filled;
use crate::noise::Stream;
use crate::posterior::At;
use crate::sampler::{Estimate, Sampler, Spread, StateSpace, add_noise};

/// Values that a step takes on at once: its mean, noise and output are made for so many.
const PIECE: usize = 1 << 14;

/// Runs the reverse process on one sample, as [`Chain`](super::Chain) does with [`Seeded`](crate::noise::Seeded) noise,
/// to the bit, in the memory of the sample and its predicted x_0.
///
/// A chain keeps x as it was until a step is whole, so that it can go on after an error; with the step's mean, noise
/// and output it holds seven arrays of a sample or more. This holds two, which are the caller's, and
/// [`MEMORY`](InPlace::MEMORY) values; after an error or a cancel x is in the middle of a step, and the run is over.
///
/// Evidence sees a sample in parts, one after the other, where it acts on each by itself, as an operator on each
/// channel of a picture does: x_0 and eps of a part after the prediction, as
/// [`Evidence::estimate`](crate::posterior::Evidence::estimate) does.
///
/// ```
/// use undiffuse::chain::{Chain, ChainOptions, InPlace, never};
/// use undiffuse::denoiser::{Component, Covariance, GaussianMixture};
/// use undiffuse::noise::{NoiseSource, Seeded};
/// use undiffuse::sampler::{PredictionType, Sampler, SamplerKind, SamplerOptions, SchedulerConfig, Steps};
/// use undiffuse::tensor::Dims;
///
/// let one = Component { weight: 1.0, mean: vec![0.5; 4], covariance: Covariance::Diagonal(vec![0.01; 4]) };
/// let mut prior = GaussianMixture::new(Dims::new(&[1, 2, 2])?, &[one], PredictionType::Epsilon)?;
/// let config = SchedulerConfig::new(SamplerKind::Ddpm);
/// let sampler = config.sampler(&SamplerOptions { steps: Steps::Count(20), ..Default::default() })?;
///
/// let (mut x, mut x0, mut eps) = ([0.0; 4], [0.0; 4], [0.0; 4]);
/// Seeded::new(42).normal(0, 0, 4, &mut x)?;
/// InPlace::new(&sampler)?.run(&mut prior, 42, 0, [&mut x, &mut x0, &mut eps], never(), |_, _, _, _, _| Ok(()))?;
///
/// let mut chain = Chain::new(prior, &sampler, Seeded::new(42), &ChainOptions::default())?;
/// chain.run()?;
/// assert_eq!(chain.x(), x);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Debug)]
pub struct InPlace<S> {
    sampler: S,
    memory: Vec<f32>,
}

impl<S: Sampler> InPlace<S> {
    /// f32 values of memory that it takes.
    pub const MEMORY: usize = 3 * PIECE;

    /// For runs of this sampler.
    ///
    /// Errors: kind `Unsupported` for a sampler whose step is not made of x, x_0, eps and noise of the same element
    /// alone: of bits or classes, with a history, with x scaled for the network, with steps that call no network or
    /// choose their calls; `OutOfMemory`.
    pub fn new(sampler: S) -> Result<Self> {
        let steps = sampler.levels().len();
        let suits = sampler.space() == StateSpace::Real
            && sampler.adaptive().is_none()
            && sampler.state_len(1) == 0
            && (0..steps).all(|step| sampler.calls_network(step) && sampler.input_scale(step) == 1.0);
        ensure!(
            suits,
            Unsupported,
            "{} cannot run in the memory of one sample, which is for steps of real values without a history",
            sampler.name()
        );
        Ok(Self { sampler, memory: filled("the run in place", Self::MEMORY, 0.0)? })
    }

    /// Makes all steps of sample `number` of `seed`, on `[x, x0, eps]`: `x`, one sample, is x_t of the first level, and
    /// in the end the sample; `x0`, as long, is the last step's prediction then; `eps` is as long as a part, or as the
    /// sample. Allocates nothing.
    ///
    /// After each prediction `evidence` is given the step, the number of the part, and its x_t, x_0 and eps, of which
    /// it changes the last two. `At::sample_len` is a part's.
    ///
    /// Errors: kind `Shape` for lengths that do not suit; `Unsupported` for a learned variance and for steps whose size
    /// follows from all elements; `NonFinite`, naming the step; `Cancelled`; those of denoiser and evidence. `x` is
    /// then of no use.
    pub fn run<D: Denoiser>(
        &mut self,
        denoiser: &mut D,
        seed: u64,
        number: u64,
        [x, x0, eps]: [&mut [f32]; 3],
        cancel: &Cancel,
        mut evidence: impl FnMut(&At, usize, &[f32], &mut [f32], &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let n = denoiser.sample_dims().elements();
        ensure!(x.len() == n && x0.len() == n, Shape, "x and x_0 have {} and {} values, not {n}", x.len(), x0.len());
        let part = eps.len();
        ensure!(part > 0 && n.is_multiple_of(part), Shape, "eps has {part} values, expected {n} or equal parts of it");
        let output = denoiser.output_len();
        ensure!(output == n, Unsupported, "a network that gives {output} values for a sample of {n}, run in place");
        let steps = self.sampler.levels().len();
        for step in 0..steps {
            self.step(step, denoiser, [seed, number], [&mut *x, &mut *x0, &mut *eps], cancel, &mut evidence)
                .map_err(|e| e.context(format_args!("step {} of {steps}", step.saturating_add(1))))?;
        }
        Ok(())
    }

    fn step<D: Denoiser>(
        &mut self,
        step: usize,
        denoiser: &mut D,
        [seed, number]: [u64; 2],
        [x, x0, eps]: [&mut [f32]; 3],
        cancel: &Cancel,
        evidence: &mut impl FnMut(&At, usize, &[f32], &mut [f32], &mut [f32]) -> Result<()>,
    ) -> Result<()> {
        let Self { sampler, memory } = self;
        cancel.check()?;
        let (levels, part) = (sampler.levels(), eps.len());
        let level = *levels.get(step).ok_or_else(|| err!(InvalidArgument, "there is no step {step}"))?;
        let call = Call { level, first_sample: number, cancel };
        denoiser.predict(&call, x, x0)?;
        check_gave(denoiser.name(), &call, x0.len(), x0)?;
        let at = At {
            step,
            steps: levels.len(),
            level,
            target: sampler.target(step)?,
            first_sample: 0,
            sample_len: part,
            range: sampler.sample_range(),
        };
        let mut noise = Stream::new(seed, number, (step as u64).saturating_add(1));
        for (k, (x, x0)) in x.chunks_exact_mut(part).zip(x0.chunks_exact_mut(part)).enumerate() {
            for ((x, x0), eps) in x.chunks(PIECE).zip(x0.chunks_mut(PIECE)).zip(eps.chunks_mut(PIECE)) {
                let [_, _, output] = pieces(memory, x.len())?;
                output.copy_from_slice(x0);
                sampler.predict(step, x, output, x0, eps)?;
            }
            evidence(&at, k, x, x0, eps)?;
            for ((x, x0), eps) in x.chunks_mut(PIECE).zip(x0.chunks(PIECE)).zip(eps.chunks(PIECE)) {
                let [mean, z, output] = pieces(memory, x.len())?;
                sampler.mean(step, step, Estimate { x, x0, eps }, &[], &mut [], mean)?;
                if sampler.needs_noise(step) {
                    z.fill_with(|| noise.normal() as f32);
                }
                let spread = sampler.spread(step, x.len(), output)?;
                ensure!(
                    matches!(spread, Spread::None | Spread::Scalar(_)),
                    Unsupported,
                    "{} run in place, whose noise is not of one size",
                    sampler.name()
                );
                add_noise(spread, output, z, mean)?;
                x.copy_from_slice(mean);
            }
        }
        ensure!(first_non_finite(x).is_none(), NonFinite, "it gave NaN or infinity");
        Ok(())
    }
}

/// The mean, the noise and the output of `n` values, at most a piece.
fn pieces(memory: &mut [f32], n: usize) -> Result<[&mut [f32]; 3]> {
    let mut chunks = memory.chunks_exact_mut(PIECE).map(|piece| piece.get_mut(..n));
    let mut next = || chunks.next().flatten().ok_or_else(|| err!(Shape, "a piece of {n} values, expected {PIECE}"));
    Ok([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec;

    use super::*;
    use crate::chain::{Chain, ChainOptions, never};
    use crate::denoiser::FnDenoiser;
    use crate::error::{Error, ErrorKind};
    use crate::noise::{NoiseSource, Seeded};
    use crate::posterior::operator::Mask;
    use crate::posterior::{DiffPir, Evidence, Measurement, NoProducts};
    use crate::sampler::{SamplerKind, SamplerOptions, SchedulerConfig, Steps};
    use crate::tensor::Dims;

    /// More than two pieces, so that the last is not whole.
    const PART: usize = 2 * PIECE + 100;
    const N: usize = 3 * PART;

    /// eps, from a prior of N(0.3, 1/4), and something of its neighbour so that elements are not alone.
    fn denoiser() -> impl Denoiser {
        FnDenoiser::new("near", Dims::new(&[N]).unwrap(), |call: &Call<'_>, x: &[f32], out: &mut [f32]| {
            let (alpha, sigma) = (call.level.alpha, call.level.sigma);
            let by = sigma / (alpha * alpha / 4.0 + sigma * sigma);
            for (i, out) in out.iter_mut().enumerate() {
                *out = (by * (f64::from(x[i]) - 0.3 * alpha) + 0.01 * f64::from(x[(i + 7) % N])) as f32;
            }
            Ok(())
        })
    }

    fn sampler(kind: SamplerKind, eta: f64) -> Box<dyn Sampler + Send + Sync> {
        let options = SamplerOptions { steps: Steps::Count(5), eta, ..Default::default() };
        SchedulerConfig::new(kind).sampler(&options).unwrap()
    }

    fn noise() -> Vec<f32> {
        let mut x = vec![0.0; N];
        Seeded::new(11).normal(4, 0, N, &mut x).unwrap();
        x
    }

    #[test]
    fn gives_the_bits_of_a_chain() {
        for sampler in
            [sampler(SamplerKind::Ddpm, 0.0), sampler(SamplerKind::Ddim, 0.0), sampler(SamplerKind::Ddim, 0.7)]
        {
            for parts in [1, 3] {
                let (mut x, mut x0, mut eps) = (noise(), vec![0.0; N], vec![0.0; N / parts]);
                let mut run = InPlace::new(&sampler).unwrap();
                let mut seen = Vec::new();
                run.run(&mut denoiser(), 11, 4, [&mut x, &mut x0, &mut eps], never(), |at, k, x, x0, eps| {
                    assert!(x.len() == N / parts && x0.len() == x.len() && eps.len() == x.len());
                    assert_eq!(at.sample_len, x.len());
                    seen.push((at.step, k));
                    Ok(())
                })
                .unwrap();
                assert!(seen.iter().copied().eq((0..5).flat_map(|step| (0..parts).map(move |k| (step, k)))));
                let options = ChainOptions { batch: 1, first_sample: 4 };
                let mut chain = Chain::new(denoiser(), &sampler, Seeded::new(11), &options).unwrap();
                chain.run().unwrap();
                assert!(chain.x() == x && chain.x0() == x0, "{} in {parts} parts", sampler.name());
            }
        }
    }

    #[test]
    fn evidence_on_parts_is_that_on_the_whole() {
        let sampler = sampler(SamplerKind::Ddim, 1.0);
        for sigma in [0.0, 0.1] {
            let diffpir = |len: usize, from: usize| {
                let known: Vec<bool> = (from..from + len).map(|i| i % 3 != 0).collect();
                let mask = Mask::new(Dims::new(&[len]).unwrap(), &known).unwrap();
                let y: Vec<f32> =
                    known.iter().zip(from..).filter(|(k, _)| **k).map(|(_, i)| (i % 5) as f32 / 5.0).collect();
                let seen = if sigma > 0.0 { Measurement::new(mask, &y, sigma) } else { Measurement::exact(mask, &y) };
                DiffPir::new(seen.unwrap(), 1.0).unwrap()
            };
            let mut parts: Vec<_> = (0..3).map(|k| diffpir(PART, k * PART)).collect();
            let (mut x, mut x0, mut eps) = (noise(), vec![0.0; N], vec![0.0; PART]);
            let mut run = InPlace::new(&sampler).unwrap();
            run.run(&mut denoiser(), 11, 4, [&mut x, &mut x0, &mut eps], never(), |at, k, x, x0, eps| {
                parts[k].estimate(at, x, x0, eps, &mut NoProducts, &mut [])
            })
            .unwrap();
            let options = ChainOptions { batch: 1, first_sample: 4 };
            let mut chain =
                Chain::with_evidence(denoiser(), &sampler, Seeded::new(11), diffpir(N, 0), &options).unwrap();
            chain.run().unwrap();
            assert!(chain.x() == x && chain.x0() == x0, "sigma {sigma}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_hold() {
        for kind in [SamplerKind::DpmSolverMultistep, SamplerKind::Euler, SamplerKind::Pndm] {
            let refused = InPlace::new(sampler(kind, 0.0)).err().map(|e| e.kind());
            assert_eq!(refused, Some(ErrorKind::Unsupported), "{kind:?}");
        }
        let sampler = sampler(SamplerKind::Ddim, 0.0);
        let mut run = InPlace::new(&sampler).unwrap();
        let mut of = |[x, x0, eps]: [usize; 3], first: f32, cancel: &Cancel| -> Error {
            let (mut x, mut x0, mut eps) = (vec![0.1; x], vec![0.0; x0], vec![0.0; eps]);
            x[0] = first;
            let nothing = |_: &At, _: usize, _: &[f32], _: &mut [f32], _: &mut [f32]| Ok(());
            run.run(&mut denoiser(), 0, 0, [&mut x, &mut x0, &mut eps], cancel, nothing).unwrap_err()
        };
        assert_eq!(of([N - 1, N, N], 0.1, never()).kind(), ErrorKind::Shape);
        assert_eq!(of([N, N + 1, N], 0.1, never()).kind(), ErrorKind::Shape);
        assert_eq!(of([N, N, PART - 1], 0.1, never()).kind(), ErrorKind::Shape);
        assert_eq!(of([N, N, 0], 0.1, never()).kind(), ErrorKind::Shape);
        let infinite = of([N, N, N], f32::INFINITY, never());
        assert!(
            infinite.kind() == ErrorKind::NonFinite && alloc::format!("{infinite}").contains("step 1 of 5"),
            "{infinite}"
        );
        let cancel = Cancel::new();
        cancel.cancel();
        assert_eq!(of([N, N, N], 0.1, &cancel).kind(), ErrorKind::Cancelled);
    }
}
