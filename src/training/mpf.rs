//! Minimum probability flow (Sohl-Dickstein, Battaglino and DeWeese 2011): the parameters of an energy from samples,
//! without a partition function, for Ising models.

use alloc::vec::Vec;

use super::data::{Dataset, Ising};
use super::optim::{LbfgsOptions, LbfgsReport, minimize};
use crate::error::{Result, ensure, err};

/// The flow out of a set of data under the dynamics that flip one unit,
///
/// ```text
/// K(J) = mean over data x of sum over units i of exp((E(x) - E(x^i)) / 2),    E = x^T J x,  x^i: x with unit i flipped
///      = mean over x of sum over i of exp(-s_i f_i / 2),    s_i = 1 - 2 x_i,  f_i = J_ii + 2 sum over j != i of J_ij x_j
/// ```
///
/// which the model that made the data makes least, as their number grows. K is convex in J; its gradient costs one pass
/// over the data.
///
/// The couplings of a 50-unit model with K_ij (of spins) normal of variance 1/50, no fields, from independent samples
/// (`tests/training/mpf.rs`; the error is |J' - J| / |J| over all entries):
///
/// | samples | relative error | evaluations |
/// |---|---|---|
/// | 2,500 | 0.335 | 57 |
/// | 10,000 | 0.146 | 51 |
/// | 40,000 | 0.073 | 51 |
///
/// ```
/// use undiffuse::training::{data::Ising, mpf::Mpf};
///
/// let truth = Ising::new(2, &[0.5, -0.4, -0.4, 0.1])?;
/// let data = truth.samples(1, 20_000, 20)?;
/// let (model, _) = Mpf::new(&data)?.fit(Default::default())?;
/// assert!((model.couplings()[1] + 0.4).abs() < 0.05);
/// # Ok::<(), undiffuse::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mpf {
    units: usize,
    /// The units that are on, sample by sample, and how many they are.
    on: Vec<u32>,
    counts: Vec<u32>,
}

impl Mpf {
    /// The objective for samples of n bits each, whatever their dimensions.
    ///
    /// Errors: kind `InvalidArgument` for more than 4096 units or a value that is neither 0 nor 1.
    pub fn new(data: &Dataset) -> Result<Self> {
        let units = data.dims().elements();
        ensure!(units <= 4096, InvalidArgument, "an Ising model of {units} units, expected at most 4096");
        let (mut on, mut counts) = (Vec::new(), Vec::new());
        for (i, sample) in data.values().chunks_exact(units).enumerate() {
            let before = on.len();
            for (unit, &v) in sample.iter().enumerate() {
                match v {
                    0.0 => {}
                    1.0 => on.push(unit as u32),
                    _ => return Err(err!(InvalidArgument, "unit {unit} of sample {i} is {v}, expected 0 or 1")),
                }
            }
            counts.push((on.len() - before) as u32);
        }
        Ok(Self { units, on, counts })
    }

    /// n (n + 1) / 2: the upper triangle of J with its diagonal, row by row.
    pub fn parameters(&self) -> usize {
        self.units * (self.units + 1) / 2
    }

    /// K, and its gradient by the parameters to `gradient`.
    ///
    /// Errors: kind `Shape` for another number of parameters or values.
    pub fn evaluate(&self, parameters: &[f64], gradient: &mut [f64]) -> Result<f64> {
        ensure!(
            parameters.len() == self.parameters() && gradient.len() == self.parameters(),
            Shape,
            "an Ising model of {} units got {} parameters and {} gradients, expected {} of both",
            self.units,
            parameters.len(),
            gradient.len(),
            self.parameters()
        );
        Ok(self.flow(parameters, gradient))
    }

    fn flow(&self, parameters: &[f64], gradient: &mut [f64]) -> f64 {
        let n = self.units;
        let mut twice = self.square(parameters);
        let bias: Vec<f64> = twice.iter().step_by(n + 1).copied().collect();
        // f of a unit that is on must not hold its own coupling: its row gives 2 J_ij off the diagonal and 0 on it.
        twice.iter_mut().for_each(|j| *j *= 2.0);
        twice.iter_mut().step_by(n + 1).for_each(|j| *j = 0.0);
        let mut pairs = alloc::vec![0.0; n * n];
        let mut single = alloc::vec![0.0; n];
        let (mut f, mut slope, mut sum, mut on) = (bias.clone(), bias.clone(), 0.0, self.on.as_slice());
        for &count in &self.counts {
            let Some((units, rest)) = on.split_at_checked(count as usize) else { break };
            on = rest;
            f.copy_from_slice(&bias);
            for &j in units {
                f.iter_mut().zip(&twice[j as usize * n..][..n]).for_each(|(f, j)| *f += j);
            }
            // s = -1 where a unit is on: exp(f / 2), and dK/df = w / 2 there and -w / 2 elsewhere.
            f.iter_mut().for_each(|f| *f = -*f);
            units.iter().for_each(|&i| f[i as usize] = -f[i as usize]);
            for (s, f) in slope.iter_mut().zip(&f) {
                let w = libm::exp(0.5 * f);
                sum += w;
                *s = -0.5 * w;
            }
            units.iter().for_each(|&i| slope[i as usize] = -slope[i as usize]);
            single.iter_mut().zip(&slope).for_each(|(to, s)| *to += s);
            for &j in units {
                pairs[j as usize * n..][..n].iter_mut().zip(&slope).for_each(|(to, s)| *to += s);
            }
        }
        let scale = 1.0 / self.counts.len() as f64;
        let mut out = gradient.iter_mut();
        for i in 0..n {
            let both = (i + 1..n).map(|k| 2.0 * (pairs[i * n + k] + pairs[k * n + i]));
            out.by_ref().zip(core::iter::once(single[i]).chain(both)).for_each(|(to, g)| *to = scale * g);
        }
        sum * scale
    }

    /// The square matrix of an upper triangle.
    fn square(&self, parameters: &[f64]) -> Vec<f64> {
        let n = self.units;
        let mut j = alloc::vec![0.0; n * n];
        let mut from = parameters.iter();
        for i in 0..n {
            for k in i..n {
                let value = from.next().copied().unwrap_or(0.0);
                (j[i * n + k], j[k * n + i]) = (value, value);
            }
        }
        j
    }

    /// The model with the least flow, from J = 0 by L-BFGS. It works on the couplings of spins ([`Ising::from_spins`]),
    /// in which the flow is much rounder.
    ///
    /// Errors: those of [`minimize`]. A unit that never changes has no finite bias: the search then ends without
    /// convergence.
    pub fn fit(&self, options: LbfgsOptions) -> Result<(Ising, LbfgsReport)> {
        let n = self.units;
        let (mut spins, mut j) = (alloc::vec![0.0; self.parameters()], alloc::vec![0.0; self.parameters()]);
        let report = minimize(options, &mut spins, &mut |spins, gradient| {
            self.of_spins(spins, &mut j);
            let k = self.flow(&j, gradient);
            // The transpose of of_spins.
            let diagonal: Vec<f64> = self.diagonal().filter_map(|at| gradient.get(at).copied()).collect();
            for (i, row) in self.diagonal().enumerate() {
                for (at, g) in gradient.iter_mut().enumerate().skip(row).take(n - i) {
                    *g = -2.0 * *g + if at > row { 2.0 * (diagonal[i] + diagonal[i + at - row]) } else { 0.0 };
                }
            }
            k
        })?;
        self.of_spins(&spins, &mut j);
        Ok((Ising::new(n, &self.square(&j))?, report))
    }

    /// Where the diagonal stands among the parameters.
    fn diagonal(&self) -> impl Iterator<Item = usize> {
        let n = self.units;
        (0..n).scan(0, move |at, i| Some(core::mem::replace(at, *at + n - i)))
    }

    /// J_ij = - 2 K_ij and J_ii = 2 sum over j of K_ij - 2 K_ii, as upper triangles.
    fn of_spins(&self, spins: &[f64], j: &mut [f64]) {
        let k = self.square(spins);
        let mut out = j.iter_mut();
        for (i, row) in k.chunks_exact(self.units).enumerate() {
            let all: f64 = row.iter().sum();
            let values =
                row.iter().skip(i).enumerate().map(|(d, k)| if d == 0 { 2.0 * (all - k) - 2.0 * k } else { -2.0 * k });
            out.by_ref().zip(values).for_each(|(to, v)| *to = v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Stream;
    use crate::tensor::Dims;

    fn data(rows: &[[u8; 3]]) -> Dataset {
        Dataset::new(Dims::new(&[3]).unwrap(), rows.iter().flatten().map(|&v| f32::from(v)).collect()).unwrap()
    }

    #[test]
    fn the_flow_is_its_definition_and_its_gradient_that_of_differences() {
        let data = data(&[[0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]]);
        let mpf = Mpf::new(&data).unwrap();
        let mut stream = Stream::new(9, 0, 0);
        let j: Vec<f64> = (0..6).map(|_| stream.normal()).collect();
        let model = Ising::new(3, &mpf.square(&j)).unwrap();
        let mut expected = 0.0;
        for i in 0..4 {
            let x: Vec<f64> = data.sample(i).iter().map(|&v| f64::from(v)).collect();
            for unit in 0..3 {
                let mut other = x.clone();
                other[unit] = 1.0 - other[unit];
                expected += libm::exp((model.energy(&x) - model.energy(&other)) / 2.0) / 4.0;
            }
        }
        let mut gradient = [0.0; 6];
        let k = mpf.evaluate(&j, &mut gradient).unwrap();
        assert!((k - expected).abs() < 1e-12, "{k} {expected}");
        for p in 0..6 {
            let h = 1e-5;
            let at = |h: f64| {
                let mut j = j.clone();
                j[p] += h;
                mpf.evaluate(&j, &mut [0.0; 6]).unwrap()
            };
            let difference = (at(h) - at(-h)) / (2.0 * h);
            assert!((gradient[p] - difference).abs() < 1e-8, "{p}: {} {difference}", gradient[p]);
        }
        assert!(mpf.evaluate(&j[1..], &mut gradient).is_err());
    }

    #[test]
    fn data_in_the_exact_proportions_of_a_model_give_it_back() {
        // Weights 2 for unit 0, 3 for units 0 and 1 together, 2 for 1 and 2, 1/2 for unit 2: all eight states in whole
        // numbers.
        let mut rows = Vec::new();
        for s in 0..8u8 {
            let [a, b, c] = [s & 1, s >> 1 & 1, s >> 2];
            let weight = (1 + a) * (1 + 2 * a * b) * (1 + b * c) * (2 - c);
            (0..weight).for_each(|_| rows.push([a, b, c]));
        }
        let (l2, l3) = (libm::log(2.0), libm::log(3.0));
        let truth = [-l2, -l3 / 2.0, 0.0, 0.0, -l2 / 2.0, l2];
        let mpf = Mpf::new(&data(&rows)).unwrap();
        let mut gradient = [0.0; 6];
        mpf.evaluate(&truth, &mut gradient).unwrap();
        assert!(gradient.iter().all(|g| g.abs() < 1e-14), "{gradient:?}");
        let (model, report) = mpf.fit(LbfgsOptions { tolerance: 1e-9, ..Default::default() }).unwrap();
        assert!(report.converged);
        assert!(model.couplings().iter().zip(mpf.square(&truth)).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn what_is_no_bit_is_refused() {
        let data = Dataset::new(Dims::new(&[2]).unwrap(), [0.0, 0.5].to_vec()).unwrap();
        assert!(Mpf::new(&data).is_err());
    }
}
