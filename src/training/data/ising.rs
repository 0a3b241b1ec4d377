//! Ising models and samples of them.

use alloc::vec::Vec;

use super::{Dataset, draw, room};
use crate::error::{Result, ensure, err};
use crate::noise::Stream;
use crate::tensor::Dims;

/// The most units of a model.
const MAX_UNITS: usize = 4096;

/// p(x) proportional to exp(-E(x)), E = x^T J x, over x in {0, 1}^n, with J symmetric: the biases stand on its
/// diagonal.
///
/// ```
/// use undiffuse::training::data::Ising;
///
/// // Two units that are equal e^2 times as often as not.
/// let model = Ising::from_spins(2, &[0.0, 1.0, 1.0, 0.0])?;
/// assert!((model.energy(&[1.0, 0.0]) - model.energy(&[1.0, 1.0]) - 2.0).abs() < 1e-12);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ising {
    units: usize,
    j: Vec<f64>,
}

impl Ising {
    /// The model of n `units` with J = `couplings`, n x n.
    ///
    /// Errors: kind `Shape` unless there are n^2, n from 1 to 4096; `InvalidArgument` unless they are symmetric;
    /// `NonFinite`.
    pub fn new(units: usize, couplings: &[f64]) -> Result<Self> {
        ensure!(
            (1..=MAX_UNITS).contains(&units) && couplings.len() == units * units,
            Shape,
            "an Ising model of {units} units got {} couplings, expected their square, of at most {MAX_UNITS}",
            couplings.len()
        );
        ensure!(couplings.iter().all(|v| v.is_finite()), NonFinite, "a coupling of the Ising model is not finite");
        let model = Self { units, j: couplings.to_vec() };
        for i in 0..units {
            if let Some(k) = (0..i).find(|&k| model.at(i, k) != model.at(k, i)) {
                return Err(err!(InvalidArgument, "the couplings of units {i} and {k} differ by their order"));
            }
        }
        Ok(model)
    }

    /// The model of spins s = 2 x - 1 with E = - sum over i < j of K_ij s_i s_j - sum of K_ii s_i, as physics writes
    /// it: J_ij = - 2 K_ij and J_ii = 2 sum over j of K_ij - 2 K_ii, the sum without j = i.
    ///
    /// Errors: those of [`Ising::new`].
    pub fn from_spins(units: usize, k: &[f64]) -> Result<Self> {
        let spins = Self::new(units, k)?;
        let mut j: Vec<f64> = k.iter().map(|v| -2.0 * v).collect();
        for i in 0..units {
            let others: f64 = spins.row(i).iter().sum::<f64>() - spins.at(i, i);
            if let Some(bias) = j.get_mut(i * units + i) {
                *bias = 2.0 * others - 2.0 * spins.at(i, i);
            }
        }
        Self::new(units, &j)
    }

    /// How many units.
    pub fn units(&self) -> usize {
        self.units
    }

    /// J, row by row.
    pub fn couplings(&self) -> &[f64] {
        &self.j
    }

    fn at(&self, i: usize, k: usize) -> f64 {
        self.row(i).get(k).copied().unwrap_or(0.0)
    }

    fn row(&self, i: usize) -> &[f64] {
        self.j.chunks_exact(self.units).nth(i).unwrap_or(&[])
    }

    /// E(x) = x^T J x; units beyond the end of `x` are 0.
    pub fn energy(&self, x: &[f64]) -> f64 {
        self.j
            .chunks_exact(self.units)
            .zip(x)
            .map(|(row, xi)| xi * row.iter().zip(x).map(|(j, x)| j * x).sum::<f64>())
            .sum()
    }

    /// `count` samples of n bits, each from a chain of its own: random bits, then `sweeps` sweeps of Gibbs sampling
    /// over the units in their order. Sample i takes the stream (seed, i, [`draw::GENERATE`]), n values per sweep.
    ///
    /// Errors: kind `InvalidArgument` for no sample or too many; `OutOfMemory`.
    pub fn samples(&self, seed: u64, count: usize, sweeps: usize) -> Result<Dataset> {
        ensure!(count > 0, InvalidArgument, "0 samples of the Ising model, expected at least 1");
        let dims = Dims::new(&[self.units])?;
        let mut values = room("the Ising samples", count, &dims)?;
        let mut x: Vec<bool> = Vec::new();
        let mut field: Vec<f64> = Vec::new();
        for i in 0..count {
            let mut stream = Stream::new(seed, i as u64, draw::GENERATE);
            x.clear();
            x.extend((0..self.units).map(|_| stream.uniform() < 0.5));
            // E(x_i = 1) - E(x_i = 0) = J_ii + 2 sum over j of J_ij x_j, kept up to date as bits flip.
            field.clear();
            field.extend(self.j.chunks_exact(self.units).enumerate().map(|(i, row)| {
                let others = row.iter().zip(&x).enumerate().filter(|(k, (_, on))| *k != i && **on);
                row.get(i).unwrap_or(&0.0) + 2.0 * others.map(|(_, (j, _))| j).sum::<f64>()
            }));
            for _ in 0..sweeps {
                for (i, row) in self.j.chunks_exact(self.units).enumerate() {
                    let (Some(bit), Some(&f)) = (x.get_mut(i), field.get(i)) else { continue };
                    let on = stream.uniform() * (1.0 + libm::exp(f)) < 1.0;
                    if on != *bit {
                        *bit = on;
                        let change = if on { 2.0 } else { -2.0 };
                        field.iter_mut().zip(row).for_each(|(f, j)| *f += change * j);
                        // Its own field does not depend on itself.
                        if let (Some(own), Some(j)) = (field.get_mut(i), row.get(i)) {
                            *own -= change * j;
                        }
                    }
                }
            }
            values.extend(x.iter().map(|&on| f32::from(u8::from(on))));
        }
        Dataset::new(dims, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_law_of_the_model() {
        // Three units, all eight states counted.
        let j = [0.5, -0.8, 0.3, -0.8, 0.2, 0.6, 0.3, 0.6, -1.0];
        let model = Ising::new(3, &j).unwrap();
        let state = |s: usize| [0, 1, 2].map(|b| (s >> b & 1) as f64);
        let weights: Vec<f64> = (0..8).map(|s| libm::exp(-model.energy(&state(s)))).collect();
        let z: f64 = weights.iter().sum();
        let n = 20_000;
        let data = model.samples(4, n, 30).unwrap();
        let mut counts = [0.0; 8];
        for i in 0..n {
            counts[data.sample(i).iter().enumerate().map(|(b, &v)| (v as usize) << b).sum::<usize>()] += 1.0;
        }
        let chi: f64 = (0..8)
            .map(|s| {
                let expected = n as f64 * weights[s] / z;
                (counts[s] - expected) * (counts[s] - expected) / expected
            })
            .sum();
        // Seven degrees of freedom: above 24.3 once in a thousand.
        assert!(chi < 24.3, "{chi}");
        assert_eq!(model.samples(4, 2, 30).unwrap().values(), &data.values()[..6]);
    }

    #[test]
    fn spins_and_bits_agree() {
        let k = [0.3, 0.5, -0.2, 0.5, -0.1, 0.7, -0.2, 0.7, 0.4];
        let model = Ising::from_spins(3, &k).unwrap();
        let energy = |s: [f64; 3]| {
            let pair = |i: usize, j: usize| k[3 * i + j] * s[i] * s[j];
            -(pair(0, 1) + pair(0, 2) + pair(1, 2)) - (0..3).map(|i| k[4 * i] * s[i]).sum::<f64>()
        };
        let bits = |s: [f64; 3]| model.energy(&s.map(|v| (v + 1.0) / 2.0));
        let zero = [-1.0; 3];
        for s in [[1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, -1.0, -1.0]] {
            assert!((energy(s) - energy(zero) - bits(s) + bits(zero)).abs() < 1e-12);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Ising::new(0, &[]).is_err() && Ising::new(2, &[0.0; 3]).is_err());
        assert!(Ising::new(2, &[0.0, 1.0, 2.0, 0.0]).is_err() && Ising::new(1, &[f64::NAN]).is_err());
        assert!(Ising::new(1, &[0.0]).unwrap().samples(0, 0, 1).is_err());
    }
}
