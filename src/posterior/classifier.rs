//! Guidance by a classifier (Dhariwal and Nichol 2021).

use alloc::string::String;

use super::common::{check_keeps_x, check_levels, check_mean, check_noise, check_real, cut, is_blank};
use super::{At, Evidence, Jacobian, Kernel};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::sampler::{Sampler, Spread};
use crate::tensor::Dims;

/// What is done with the gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClassifierRule {
    /// The score gets it (Algorithm 2): eps -= sigma_t g and x_0 += sigma_t^2 / alpha_t g. Any sampler carries it.
    #[default]
    Score,
    /// The mean of each step is shifted by its variance times it (Algorithm 1), with the gradient taken at x_t as in
    /// the authors' code. The sampler must add noise.
    Mean,
}

/// Samples from p(x) p(c | x)^scale, where a classifier that knows noisy x gives the gradient g of scale log p(c |
/// x_t).
///
/// The gradient is the caller's function, `f(at, x, out)`, for a whole batch `[batch, ...dims]` at the level
/// `at.level`; it may run a network. What it samples is as good as the classifier is at every level; with a scale above
/// 1 it favours what the classifier is sure of.
///
/// One call of the classifier and its gradient per step beside the network call. Published scales: 1 to 10.
///
/// ```
/// use undiffuse::posterior::{Classifier, ClassifierRule};
///
/// // log p(c | x_t) = -(x - 1)^2 / 2.
/// let evidence = Classifier::new("near one", 1.0, ClassifierRule::Score, |_, x, out| {
///     out.iter_mut().zip(x).for_each(|(g, x)| *g = 1.0 - x);
///     Ok(())
/// })?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
pub struct Classifier<F> {
    name: String,
    scale: f64,
    rule: ClassifierRule,
    gradient: F,
    fingerprint: u64,
}

impl<F: FnMut(&At, &[f32], &mut [f32]) -> Result<()>> Classifier<F> {
    /// Errors: kind `InvalidArgument` for a scale that is not finite. A negative one keeps away from the class.
    pub fn new(name: impl Into<String>, scale: f64, rule: ClassifierRule, gradient: F) -> Result<Self> {
        ensure!(scale.is_finite(), InvalidArgument, "the scale of a classifier is {scale}, expected a finite number");
        Ok(Self { name: name.into(), scale, rule, gradient, fingerprint: 0 })
    }

    /// Gives it an identity that saved chains remember.
    #[must_use]
    pub fn with_fingerprint(self, fingerprint: u64) -> Self {
        Self { fingerprint, ..self }
    }
}

impl<F: FnMut(&At, &[f32], &mut [f32]) -> Result<()>> Evidence for Classifier<F> {
    fn name(&self) -> &str {
        &self.name
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_real("a classifier", sampler)?;
        check_mean("a classifier", sampler)?;
        match self.rule {
            ClassifierRule::Score => check_levels("a classifier", sampler),
            ClassifierRule::Mean => {
                check_keeps_x("a classifier that shifts means", sampler)?;
                check_noise("a classifier that shifts means (ClassifierRule::Score does not)", dims.elements(), sampler)
            }
        }
    }
    fn scratch_len(&self, dims: Dims, batch: usize) -> usize {
        dims.elements().saturating_mul(batch)
    }
    fn estimate(
        &mut self,
        at: &At,
        x: &[f32],
        x0: &mut [f32],
        eps: &mut [f32],
        _: &mut dyn Jacobian,
        scratch: &mut [f32],
    ) -> Result<()> {
        let (g, _) = cut(scratch, x.len())?;
        (self.gradient)(at, x, g)?;
        ensure!(g.iter().all(|g| g.is_finite()), NonFinite, "the gradient of the classifier is not finite");
        if self.rule == ClassifierRule::Score && !is_blank(at) {
            let (alpha, sigma) = (at.level.alpha, at.level.sigma);
            let (of_x0, of_eps) = (self.scale * sigma * sigma / alpha, self.scale * sigma);
            for ((x0, eps), &g) in x0.iter_mut().zip(eps).zip(&*g) {
                *x0 = (f64::from(*x0) + of_x0 * f64::from(g)) as f32;
                *eps = (f64::from(*eps) - of_eps * f64::from(g)) as f32;
            }
        }
        Ok(())
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        if self.rule != ClassifierRule::Mean {
            return Ok(());
        }
        let n = at.sample_len.max(1);
        let (g, _) = cut(scratch, x.len())?;
        let scale = self.scale;
        let shift = |mean: &mut f32, std: f32, g: f32| {
            let variance = f64::from(std) * f64::from(std);
            *mean = (f64::from(*mean) + scale * variance * f64::from(g)) as f32;
        };
        match kernel.spread {
            Spread::None | Spread::Langevin { .. } | Spread::Bits | Spread::Classes { .. } => {}
            Spread::Scalar(std) => kernel.mean.iter_mut().zip(&*g).for_each(|(m, &g)| shift(m, std, g)),
            Spread::PerElement => {
                let rows = kernel.stds.chunks(kernel.std_stride.max(1));
                for ((mean, g), stds) in kernel.mean.chunks_exact_mut(n).zip(g.chunks_exact(n)).zip(rows) {
                    mean.iter_mut().zip(g).zip(stds).for_each(|((m, &g), &std)| shift(m, std, g));
                }
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().bytes(b"classifier").f64(self.scale).u64(self.rule as u64);
        f.bytes(self.name.as_bytes()).u64(self.fingerprint).finish()
    }
}
