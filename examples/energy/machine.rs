//! A restricted Boltzmann machine, and its fit by minimum probability flow (Sohl-Dickstein, Battaglino and DeWeese
//! 2011), whose gradient is that of its free energy: hidden units are summed out, never sampled.

use undiffuse::Result;
use undiffuse::noise::Stream;
use undiffuse::training::optim::{LbfgsOptions, LbfgsReport, minimize};

use crate::{BITS, STATES, bits};

/// Hidden units.
pub const HIDDEN: usize = 6;
/// Biases of the bits, then of each hidden unit its bias and weights.
const PARAMETERS: usize = BITS + HIDDEN * (1 + BITS);

/// The machine.
pub struct Machine {
    parameters: [f64; PARAMETERS],
}

impl Machine {
    /// Weights of deviation `scale`, and biases with which hidden units are on half of the time, and bits likewise.
    pub fn random(seed: u64, scale: f64) -> Self {
        let mut stream = Stream::new(seed, 0, 0);
        let mut parameters = [0.0; PARAMETERS];
        let (visible, hidden) = parameters.split_at_mut(BITS);
        for unit in hidden.chunks_exact_mut(1 + BITS) {
            unit[1..].iter_mut().for_each(|w| *w = scale * stream.normal());
            unit[0] = -0.5 * unit[1..].iter().sum::<f64>();
            visible.iter_mut().zip(&unit[1..]).for_each(|(b, w)| *b -= 0.5 * w);
        }
        Self { parameters }
    }

    fn hidden(&self) -> impl Iterator<Item = (f64, &[f64])> {
        self.parameters[BITS..].chunks_exact(1 + BITS).map(|unit| (unit[0], &unit[1..]))
    }

    /// F(v) = -b v - sum over j of log(1 + exp(c_j + W_j v)), and its gradient by v.
    pub fn free_energy(&self, v: &[f32], gradient: &mut [f32]) -> f64 {
        let dot = |row: &[f64]| row.iter().zip(v).map(|(w, &v)| w * f64::from(v)).sum::<f64>();
        let visible = &self.parameters[..BITS];
        let mut slope: [f64; BITS] = std::array::from_fn(|i| visible[i]);
        let mut energy = -dot(visible);
        for (c, row) in self.hidden() {
            let input = c + dot(row);
            energy -= input.max(0.0) + (-input.abs()).exp().ln_1p();
            let on = 1.0 / (1.0 + (-input).exp());
            slope.iter_mut().zip(row).for_each(|(s, w)| *s += on * w);
        }
        gradient.iter_mut().zip(slope).for_each(|(g, s)| *g = -s as f32);
        energy
    }

    /// F of all states.
    pub fn energies(&self) -> Vec<f64> {
        (0..STATES).map(|s| self.free_energy(&bits(s), &mut [0.0; BITS])).collect()
    }

    /// Adds `factor` times the gradient of F(v) by the parameters.
    fn add_slope(&self, v: &[f32; BITS], factor: f64, to: &mut [f64]) {
        let (visible, hidden) = to.split_at_mut(BITS);
        visible.iter_mut().zip(v).for_each(|(to, v)| *to -= factor * f64::from(*v));
        for ((c, row), to) in self.hidden().zip(hidden.chunks_exact_mut(1 + BITS)) {
            let input = c + row.iter().zip(v).map(|(w, v)| w * f64::from(*v)).sum::<f64>();
            let on = factor / (1.0 + (-input).exp());
            to[0] -= on;
            to[1..].iter_mut().zip(v).for_each(|(to, v)| *to -= on * f64::from(*v));
        }
    }

    /// The flow out of the data, which have the share `data[s]` in state s, by flips of one bit, and its gradient.
    ///
    /// ```text
    /// K = sum over s of data[s] sum over i of exp((F(s) - F(s^i)) / 2),    s^i: s with bit i flipped
    /// ```
    fn flow(&self, data: &[f64], gradient: &mut [f64]) -> f64 {
        gradient.fill(0.0);
        let energies = self.energies();
        let mut sum = 0.0;
        for (s, share) in data.iter().enumerate() {
            let mut slope = 0.0;
            for other in (0..BITS).map(|i| s ^ 1 << i) {
                let rate = ((energies[s] - energies[other]) / 2.0).exp();
                sum += share * rate;
                slope += 0.5 * (share * rate - data[other] / rate);
            }
            self.add_slope(&bits(s), slope, gradient);
        }
        sum
    }

    /// The machine with the least flow out of the data, of `starts` searches by L-BFGS from small weights: K is not
    /// convex in them.
    pub fn fit(data: &[f64], starts: u64) -> Result<(Self, LbfgsReport)> {
        let mut best: Option<(Self, LbfgsReport)> = None;
        for seed in 0..starts {
            let mut x = Self::random(100 + seed, 0.3).parameters;
            let mut cost = |x: &[f64], gradient: &mut [f64]| {
                let parameters = std::array::from_fn(|i| x[i]);
                Self { parameters }.flow(data, gradient)
            };
            let options = LbfgsOptions { tolerance: 1e-5, evaluations: 2000, ..Default::default() };
            let report = minimize(options, &mut x, &mut cost)?;
            if best.as_ref().is_none_or(|(_, b)| report.cost < b.cost) {
                best = Some((Self { parameters: x }, report));
            }
        }
        best.ok_or_else(|| undiffuse::Error::new(undiffuse::ErrorKind::InvalidArgument, "no search for a machine"))
    }
}
