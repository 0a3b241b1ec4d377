//! Evidence given by an energy over bits.

use alloc::vec::Vec;

use super::bits::check_bits;
use super::{At, Evidence, Jacobian, Twist};
use crate::error::{Result, ensure, err};
use crate::memory::filled;
use crate::noise::Fingerprint;
use crate::sampler::Sampler;
use crate::schedule::Level;
use crate::tensor::Dims;

/// How often the mean field is brought in line with itself. Its error is made up for by the particles' weights.
const SWEEPS: usize = 3;

/// r(x_0) = exp(-E(x_0)) for an energy over bits: an energy-based model as the perturbation of a trained chain.
///
/// It is two things. As the [`Twist`] of [`Particles`](crate::chain::Particles) it weighs, so that they reach
/// p(x_0) exp(-E(x_0)) as they become many. As [`Evidence`] it makes a binary chain whose network predicts x_0
/// ([`BitPrediction::Clean`](crate::sampler::BitPrediction::Clean)) lean towards low energies, which by itself is an
/// approximation and the proposal of such particles ([`Particles::guided`](crate::chain::Particles::guided)). Both
/// take the bits of x_0 for independent given x_t, with the predicted probabilities p, and their product with r in its
/// mean field m, from m = p by a few rounds of
///
/// ```text
/// m_i = p_i exp(-g_i) / (p_i exp(-g_i) + 1 - p_i),  g = dE/dm;    log r~_t(x_t) = -E(m) - sum_i KL(m_i || p_i)
/// ```
///
/// which is at most the logarithm of the mean of r under p, as much as r itself where x_0 is known, and exact where E
/// is a sum over bits.
///
/// E is a function of probabilities: of bits, exactly 0 or 1, the energy; between them any smooth continuation, best
/// the mean of E over independent bits. Additive constants do not matter.
///
/// Ten bits, a trained chain of T = 50, an Ising energy fitted by minimum probability flow, 8,192 draws of 64
/// particles (`examples/energy`): total variation from p r over all 1024 states 1.4 %, of which counting the draws is
/// 1.0; the mean field without weights is 18 % off, p itself 75 %.
///
/// ```
/// use undiffuse::posterior::BitEnergy;
///
/// // Two bits that are equal e^2 times as often as not: E = 2 x_0 + 2 x_1 - 4 x_0 x_1.
/// let pair = BitEnergy::ising(2, &[2.0, -2.0, -2.0, 2.0])?;
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BitEnergy<F> {
    dims: Dims,
    f: F,
    fingerprint: u64,
    /// dE/dm, and m: of one sample.
    gradient: Vec<f32>,
    mean: Vec<f32>,
}

impl<F: FnMut(&[f32], &mut [f32]) -> Result<f64>> BitEnergy<F> {
    /// Of samples of shape `dims` by the function `f(m, gradient)`, which gives E(m) and writes dE/dm_i for each bit;
    /// each m_i is 0 to 1.
    ///
    /// Errors: kind `OutOfMemory`.
    pub fn new(dims: Dims, f: F) -> Result<Self> {
        let room = || filled("the energy's gradient", dims.elements(), 0.0);
        Ok(Self { dims, f, fingerprint: 0, gradient: room()?, mean: room()? })
    }

    /// E, with dE/dm in `gradient`.
    fn evaluate(&mut self) -> Result<f64> {
        let energy = (self.f)(&self.mean, &mut self.gradient)?;
        ensure!(
            energy.is_finite() && self.gradient.iter().all(|g| g.is_finite()),
            NonFinite,
            "the energy is {energy}, or its gradient not finite"
        );
        Ok(energy)
    }

    /// The mean field of p r in `mean`.
    fn solve(&mut self, p: &[f32]) -> Result<()> {
        ensure!(p.len() == self.mean.len(), Shape, "the energy is of {} bits, got {}", self.mean.len(), p.len());
        self.mean.copy_from_slice(p);
        if p.iter().all(|&p| p == 0.0 || p == 1.0) {
            return Ok(());
        }
        for _ in 0..SWEEPS {
            self.evaluate()?;
            for ((m, &g), &p) in self.mean.iter_mut().zip(&self.gradient).zip(p) {
                let (p, g) = (f64::from(p), f64::from(g));
                let small = libm::exp(-g.abs());
                let (one, zero) = if g > 0.0 { (p * small, 1.0 - p) } else { (p, (1.0 - p) * small) };
                *m = (one / (one + zero)) as f32;
            }
        }
        Ok(())
    }
}

impl BitEnergy<()> {
    /// E(x) = x^T J x with the symmetric J, `units` x `units` row by row, biases on the diagonal: as
    /// `training::mpf::Mpf` fits it and `training::data::Ising::couplings` gives it. Between bits it is the mean over
    /// independent ones.
    ///
    /// Errors: kind `Shape` unless there are units^2 couplings of 1 to 4096 units; `NonFinite`; `InvalidArgument`
    /// unless they are symmetric; `OutOfMemory`.
    #[expect(clippy::type_complexity, reason = "an `impl` has no other name")]
    pub fn ising(
        units: usize,
        couplings: &[f64],
    ) -> Result<BitEnergy<impl FnMut(&[f32], &mut [f32]) -> Result<f64> + Clone + use<>>> {
        ensure!(
            (1..=4096).contains(&units) && couplings.len() == units * units,
            Shape,
            "an Ising energy of {units} units got {} couplings, expected their square, of at most 4096",
            couplings.len()
        );
        ensure!(couplings.iter().all(|j| j.is_finite()), NonFinite, "a coupling of the Ising energy is not finite");
        for (i, row) in couplings.chunks_exact(units).enumerate() {
            let column = couplings.iter().skip(i).step_by(units);
            if let Some(k) = row.iter().zip(column).position(|(a, b)| a != b) {
                return Err(err!(InvalidArgument, "the couplings of units {i} and {k} differ by their order"));
            }
        }
        let mut fingerprint = Fingerprint::new().bytes(b"ising");
        for &j in couplings {
            fingerprint = fingerprint.f64(j);
        }
        let mut j: Vec<f64> = filled("the couplings", couplings.len(), 0.0)?;
        j.copy_from_slice(couplings);
        let energy = move |m: &[f32], gradient: &mut [f32]| {
            let mut energy = 0.0;
            for (i, ((row, g), &own)) in j.chunks_exact(units).zip(gradient).zip(m).enumerate() {
                let own = f64::from(own);
                let all: f64 = row.iter().zip(m).map(|(j, &m)| j * f64::from(m)).sum();
                // A bit is its own square, so the diagonal counts once.
                let bias = row.get(i).copied().unwrap_or(0.0);
                let others = all - bias * own;
                energy += own * (bias + others);
                *g = (bias + 2.0 * others) as f32;
            }
            Ok(energy)
        };
        let energy = BitEnergy::new(Dims::new(&[units])?, energy)?;
        Ok(BitEnergy { fingerprint: fingerprint.finish(), ..energy })
    }
}

impl<F: FnMut(&[f32], &mut [f32]) -> Result<f64>> Evidence for BitEnergy<F> {
    fn name(&self) -> &str {
        "energy of bits"
    }
    fn check(&self, dims: Dims, sampler: &dyn Sampler) -> Result<()> {
        check_bits(sampler)?;
        Twist::check(self, dims)
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
        for x0 in x0.chunks_exact_mut(at.sample_len.max(1)) {
            self.solve(x0)?;
            x0.copy_from_slice(&self.mean);
        }
        Ok(())
    }
    fn fingerprint(&self) -> u64 {
        Fingerprint::new().bytes(b"energy of bits").u64(self.fingerprint).finish()
    }
}

impl<F: FnMut(&[f32], &mut [f32]) -> Result<f64>> Twist for BitEnergy<F> {
    fn name(&self) -> &str {
        "energy of bits"
    }
    fn check(&self, dims: Dims) -> Result<()> {
        let n = self.dims.elements();
        ensure!(n == dims.elements(), Shape, "the energy is of {n} bits, the model's samples have {dims}");
        Ok(())
    }
    fn log_r(&mut self, _: u64, _: &Level, x0: &[f32], _: &mut [f32]) -> Result<f64> {
        self.solve(x0)?;
        let energy = self.evaluate()?;
        let part = |m: f64, p: f64| if m > 0.0 { m * libm::log(m / p) } else { 0.0 };
        let kl = |(&m, &p): (&f32, &f32)| {
            let (m, p) = (f64::from(m), f64::from(p));
            part(m, p) + part(1.0 - m, 1.0 - p)
        };
        Ok(-energy - self.mean.iter().zip(x0).map(kl).sum::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posterior::{BitSchedule, IndependentBits, RSchedule};

    #[test]
    fn the_ising_energy_is_that_of_bits_and_its_mean_between_them() {
        let j = [0.5, -0.8, 0.3, -0.8, 0.2, 0.6, 0.3, 0.6, -1.0];
        let mut ising = BitEnergy::ising(3, &j).unwrap();
        let of = |x: [f64; 3]| (0..9).map(|k| j[k] * x[k / 3] * x[k % 3]).sum::<f64>();
        let state = |s: usize| [0, 1, 2].map(|b| (s >> b & 1) as f64);
        for s in 0..8 {
            ising.mean.copy_from_slice(&state(s).map(|v| v as f32));
            assert!((ising.evaluate().unwrap() - of(state(s))).abs() < 1e-12, "{s}");
            // Known bits are weighed by r itself.
            let x = state(s).map(|v| v as f32);
            assert!((ising.log_r(0, &Level::CLEAN, &x, &mut []).unwrap() + of(state(s))).abs() < 1e-12);
        }
        let m = [0.3f32, 0.9, 0.25];
        let weight = |s: usize| -> f64 {
            state(s).iter().zip(m).map(|(x, m)| if *x == 1.0 { f64::from(m) } else { 1.0 - f64::from(m) }).product()
        };
        let mean: f64 = (0..8).map(|s| weight(s) * of(state(s))).sum();
        ising.mean.copy_from_slice(&m);
        assert!((ising.evaluate().unwrap() - mean).abs() < 1e-7);
        // The gradient is that of differences, and the twist below the logarithm of the mean of r.
        let gradient = ising.gradient.clone();
        for (i, &slope) in gradient.iter().enumerate() {
            let mut at = |v: f32| {
                ising.mean.copy_from_slice(&m);
                ising.mean[i] = v;
                ising.evaluate().unwrap()
            };
            // E is linear in each.
            assert!((at(1.0) - at(0.0) - f64::from(slope)).abs() < 1e-6);
        }
        let exact = libm::log((0..8).map(|s| weight(s) * libm::exp(-of(state(s)))).sum());
        let got = ising.log_r(0, &Level::CLEAN, &m, &mut []).unwrap();
        assert!(got <= exact + 1e-9 && got > exact - 0.1, "{got} {exact}");
    }

    #[test]
    fn an_energy_of_single_bits_is_evidence_about_each() {
        let dims = Dims::new(&[3]).unwrap();
        let a = [1.5f32, -0.7, 0.0];
        let energy = |m: &[f32], g: &mut [f32]| {
            g.copy_from_slice(&a);
            Ok(m.iter().zip(a).map(|(m, a)| f64::from(m * a)).sum())
        };
        let mut energy = BitEnergy::new(dims, energy).unwrap();
        let odds = a.map(|a| 1.0 / (1.0 + a.exp()));
        let mut bits = IndependentBits::new(&odds, BitSchedule::Paper(RSchedule::Constant)).unwrap();
        let p = [0.2f32, 0.6, 0.9];
        let mut of = |p: &[f32]| {
            energy.log_r(0, &Level::CLEAN, p, &mut []).unwrap() - bits.log_r(0, &Level::CLEAN, p, &mut []).unwrap()
        };
        // Up to one constant for all.
        assert!((of(&p) - of(&[0.0, 1.0, 0.0])).abs() < 1e-6);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(BitEnergy::ising(2, &[0.0; 3]).is_err() && BitEnergy::ising(0, &[]).is_err());
        assert!(BitEnergy::ising(2, &[0.0, 1.0, 2.0, 0.0]).is_err());
        assert!(BitEnergy::ising(1, &[f64::NAN]).is_err());
        let mut bad = BitEnergy::new(Dims::new(&[1]).unwrap(), |_: &[f32], _: &mut [f32]| Ok(f64::NAN)).unwrap();
        assert!(bad.log_r(0, &Level::CLEAN, &[0.5], &mut []).is_err());
        assert!(bad.log_r(0, &Level::CLEAN, &[0.5; 2], &mut []).is_err());
        assert!(Twist::check(&bad, Dims::new(&[2]).unwrap()).is_err());
    }
}
