//! Evidence for chains of classes.

use alloc::vec::Vec;

use super::{At, Evidence, Jacobian, Kernel, RSchedule};
use crate::error::{Result, ensure};
use crate::noise::Fingerprint;
use crate::process::Categorical;
use crate::sampler::{Sampler, StateSpace};
use crate::tensor::Dims;

/// r over classes.
pub trait ClassR {
    /// A name for messages.
    fn name(&self) -> &str;

    /// Whether it knows samples of shape `dims`, `[..., K]`.
    fn check(&self, dims: Dims) -> Result<()> {
        let _ = dims;
        Ok(())
    }

    /// Writes r(x with class k at position i), the other positions as in `x`, for every class of every position, up to
    /// a factor for each position: one one-hot sample, at the level of x_s in `at`. Each at least 0 and finite, one at
    /// a position above 0.
    fn weights(&mut self, at: &At, sample: u64, x: &[f32], out: &mut [f32]) -> Result<()>;

    /// A number for saved chains, or 0 where it is not known.
    fn fingerprint(&self) -> u64 {
        0
    }
}

/// Multiplies the kernel of each position by r and divides by the sum: what [`BitProduct`](super::BitProduct) does for
/// bits, and as near, since few classes change in a small step. Where model and evidence exclude each other's classes,
/// the evidence holds. With r_t(x_t) = p(y | x_t) the chain samples the posterior. For [`D3pm`](crate::sampler::D3pm).
///
/// ```
/// use undiffuse::posterior::{ClassProduct, ClassSchedule, IndependentClasses};
/// use undiffuse::process::Categorical;
///
/// // Of two positions with three classes the first is class 2; the second is not known.
/// let known = [0.0, 0.0, 1.0, 1.0, 1.0, 1.0];
/// let r = IndependentClasses::new(3, &known, ClassSchedule::White(Categorical::uniform(3)?))?;
/// let evidence = ClassProduct::new(r);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ClassProduct<R> {
    r: R,
}

impl<R: ClassR> ClassProduct<R> {
    /// With evidence `r`.
    pub fn new(r: R) -> Self {
        Self { r }
    }
}

impl<R: ClassR> Evidence for ClassProduct<R> {
    fn name(&self) -> &str {
        self.r.name()
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_classes(sampler)?;
        self.r.check(dims)
    }
    fn scratch_len(&self, dims: Dims, _: usize) -> usize {
        // K of the last dimension, for the step.
        dims.elements()
    }
    fn kernel(&mut self, at: &At, x: &[f32], kernel: Kernel<'_>, scratch: &mut [f32]) -> Result<()> {
        let n = at.sample_len.max(1);
        let crate::sampler::Spread::Classes { count } = kernel.spread else { return Ok(()) };
        let (weights, _) = super::common::cut(scratch, n)?;
        for (i, (x, p)) in x.chunks_exact(n).zip(kernel.mean.chunks_exact_mut(n)).enumerate() {
            self.r.weights(at, at.first_sample.saturating_add(i as u64), x, weights)?;
            check_weights(count, weights)?;
            p.chunks_exact_mut(count).zip(weights.chunks_exact(count)).for_each(|(p, r)| product(p, r));
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"classes").u64(self.r.fingerprint()).finish()
    }
}

/// How evidence about single positions of x_0 speaks of those of x_t.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClassSchedule {
    /// As the paper's r of 2015: of x_t as of x_0, or growing. Not with a mask, of which r of x_0 says nothing.
    Paper(RSchedule),
    /// Calibrated, with the positions of the prior taken for independent and all classes (but the mask) for alike:
    /// r_t(x_t) = sum over x_0 of r(x_0) q(x_0 | x_t).
    White(Categorical),
}

/// Evidence about each position of x_0 by itself: r(x_i = k), any factor for a position.
#[derive(Clone, Debug)]
pub struct IndependentClasses {
    count: usize,
    weights: Vec<f32>,
    schedule: ClassSchedule,
}

impl IndependentClasses {
    /// `weights`: [positions, `count`], at least 0 and one above 0 at each position; all alike where nothing is known.
    ///
    /// Errors: kind `Shape` for no whole rows, or a process of another number of classes; kind `InvalidArgument` for
    /// weights out of range, or all 0 at a position but for the mask.
    pub fn new(count: usize, weights: &[f32], schedule: ClassSchedule) -> Result<Self> {
        ensure!(
            count >= 2 && !weights.is_empty() && weights.len().is_multiple_of(count),
            Shape,
            "{} weights are no whole number of positions of {count} classes",
            weights.len()
        );
        check_weights(count, weights)?;
        let mut weights = weights.to_vec();
        if let ClassSchedule::White(process) = schedule {
            ensure!(
                process.classes() == count,
                Shape,
                "the process has {} classes, the evidence {count}",
                process.classes()
            );
            // Data never have the mask, whatever is said of it.
            if let Some(mask) = process.mask() {
                weights.iter_mut().skip(mask).step_by(count).for_each(|w| *w = 0.0);
                check_weights(count, &weights)?;
            }
        }
        Ok(Self { count, weights, schedule })
    }
}

impl ClassR for IndependentClasses {
    fn name(&self) -> &str {
        "independent classes"
    }
    fn check(&self, dims: Dims) -> Result<()> {
        ensure!(
            self.weights.len() == dims.elements(),
            Shape,
            "the evidence is about {} positions of {} classes, the model's samples have {dims}",
            self.weights.len() / self.count,
            self.count
        );
        Ok(())
    }
    fn weights(&mut self, at: &At, _: u64, _: &[f32], out: &mut [f32]) -> Result<()> {
        match self.schedule {
            ClassSchedule::Paper(s) => {
                let power = s.power(at.step, at.steps);
                let of = |w: &f32| libm::pow(f64::from(*w), power) as f32;
                out.iter_mut().zip(&self.weights).for_each(|(out, w)| *out = of(w));
            }
            ClassSchedule::White(process) => {
                let abar = at.target.alpha_bar();
                for (out, w) in out.chunks_exact_mut(self.count).zip(self.weights.chunks_exact(self.count)) {
                    let total: f64 = w.iter().map(|w| f64::from(*w)).sum();
                    let kinds = (self.count - usize::from(process.mask().is_some())) as f64;
                    for (k, (out, w)) in out.iter_mut().zip(w).enumerate() {
                        let w = f64::from(*w);
                        *out = match process.mask() {
                            // A mask leaves all classes as they were, anything else is x_0.
                            Some(mask) if k == mask => total / kinds,
                            Some(_) => w,
                            None => abar * w + (1.0 - abar) * total / kinds,
                        } as f32;
                    }
                }
            }
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        let f = Fingerprint::new().u64(self.count as u64).f32s(&self.weights);
        match self.schedule {
            ClassSchedule::Paper(s) => f.u64(s as u64),
            ClassSchedule::White(process) => f.u64(2).u64(process.mask().map_or(u64::MAX, |m| m as u64)),
        }
        .finish()
    }
}

/// The counterpart of [`CalibratedBits`](super::CalibratedBits): the predicted probabilities of x_0 are multiplied by
/// what is known of each position and divided by their sum, and the sampler steps on.
///
/// What it samples: the posterior where positions are independent of each other given x_t. No further network call, no
/// derivative. For [`ClassPrediction::Clean`](crate::sampler::ClassPrediction::Clean), whose x_0 are probabilities.
#[derive(Clone, Debug)]
pub struct CalibratedClasses {
    classes: IndependentClasses,
}

impl CalibratedClasses {
    /// What is known of each position; the schedule is not used.
    pub fn new(classes: IndependentClasses) -> Self {
        Self { classes }
    }
}

impl Evidence for CalibratedClasses {
    fn name(&self) -> &str {
        "calibrated classes"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_classes(sampler)?;
        ensure!(
            sampler.predicts_mean(),
            Unsupported,
            "calibrated classes with {}, whose network's x_0 is no probability given x_t (prediction joint): take the product of classes",
            sampler.name()
        );
        self.classes.check(dims)
    }
    fn estimate(
        &mut self,
        at: &At,
        _: &[f32],
        x0: &mut [f32],
        _: &mut [f32],
        _: &mut dyn Jacobian,
        _: &mut [f32],
    ) -> Result<()> {
        let count = self.classes.count;
        for x0 in x0.chunks_exact_mut(at.sample_len.max(1)) {
            let rows = x0.chunks_exact_mut(count).zip(self.classes.weights.chunks_exact(count));
            rows.for_each(|(p, r)| product(p, r));
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"calibrated classes").f32s(&self.classes.weights).finish()
    }
}

/// p r over its sum; r over its own where the two exclude each other's classes.
fn product(p: &mut [f32], r: &[f32]) {
    let both = |p: &f32, r: &f32| f64::from(*p) * f64::from(*r);
    let total: f64 = p.iter().zip(r).map(|(p, r)| both(p, r)).sum();
    if total > 0.0 {
        p.iter_mut().zip(r).for_each(|(p, r)| *p = (both(p, r) / total) as f32);
    } else {
        let total: f64 = r.iter().map(|r| f64::from(*r)).sum();
        p.iter_mut().zip(r).for_each(|(p, r)| *p = (f64::from(*r) / total) as f32);
    }
}

fn check_weights(count: usize, weights: &[f32]) -> Result<()> {
    for (i, row) in weights.chunks_exact(count.max(1)).enumerate() {
        let good = row.iter().all(|w| *w >= 0.0 && w.is_finite()) && row.iter().any(|w| *w > 0.0);
        ensure!(
            good,
            InvalidArgument,
            "the weights of the classes at position {i} are {row:?}, expected numbers of at least 0 and one above"
        );
    }
    Ok(())
}

fn check_classes(sampler: &dyn Sampler) -> Result<()> {
    ensure!(
        matches!(sampler.space(), StateSpace::Classes { .. }),
        Unsupported,
        "evidence about classes needs a chain of classes, {} makes other samples: take d3pm, or evidence about numbers or bits",
        sampler.name()
    );
    Ok(())
}

/// [`ClassR`] by the caller's function `f(at, sample, x, out)`.
pub struct FnClassR<F> {
    f: F,
}

impl<F: FnMut(&At, u64, &[f32], &mut [f32]) -> Result<()>> FnClassR<F> {
    /// From the function.
    pub fn new(f: F) -> Self {
        Self { f }
    }
}

impl<F: FnMut(&At, u64, &[f32], &mut [f32]) -> Result<()>> ClassR for FnClassR<F> {
    fn name(&self) -> &str {
        "callback"
    }
    fn weights(&mut self, at: &At, sample: u64, x: &[f32], out: &mut [f32]) -> Result<()> {
        (self.f)(at, sample, x, out)
    }
}
