//! Mixtures of Gaussians over a pixel and those before it, by expectation and maximisation.

use std::f64::consts::TAU;

/// Neighbours, and the pixel last.
pub const DIM: usize = 25;

/// What is added to variances, so that no component becomes a point: far below a grey level's noise.
const LEAST: f64 = 1e-7;

struct Component {
    log_weight: f64,
    mean: [f64; DIM],
    /// Cholesky's factor of the covariance, row by row.
    factor: [[f64; DIM]; DIM],
}

impl Component {
    /// Of weighted sums over patches.
    fn of(weight: f64, share: f64, sum: &[f64; DIM], products: &[[f64; DIM]; DIM]) -> Self {
        let mean = sum.map(|s| s / weight);
        let mut factor = [[0.0; DIM]; DIM];
        for i in 0..DIM {
            for k in 0..=i {
                let covariance = products[i][k] / weight - mean[i] * mean[k] + if i == k { LEAST } else { 0.0 };
                let dot: f64 = (0..k).map(|m| factor[i][m] * factor[k][m]).sum();
                factor[i][k] =
                    if i == k { (covariance - dot).max(LEAST).sqrt() } else { (covariance - dot) / factor[k][k] };
            }
        }
        Self { log_weight: share.ln(), mean, factor }
    }

    /// Log densities, with the weight: of the neighbours, and of all with the pixel.
    fn log_densities(&self, patch: &[f64; DIM]) -> (f64, f64) {
        let mut z = [0.0; DIM];
        let (mut before, mut log) = (0.0, self.log_weight);
        for i in 0..DIM {
            let dot: f64 = self.factor[i][..i].iter().zip(&z).map(|(f, z)| f * z).sum();
            z[i] = (patch[i] - self.mean[i] - dot) / self.factor[i][i];
            before = log;
            log -= 0.5 * (z[i] * z[i] + TAU.ln()) + self.factor[i][i].ln();
        }
        (before, log)
    }
}

/// The mixture.
pub struct Mixture {
    components: Vec<Component>,
}

impl Mixture {
    /// A beginning: patches sorted by how much their neighbours differ, in as many groups.
    pub fn new(patches: &[[f64; DIM]], components: usize) -> Self {
        let spread = |p: &[f64; DIM]| {
            let mean = p.iter().sum::<f64>() / DIM as f64;
            p.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
        };
        let mut order: Vec<(f64, usize)> = patches.iter().enumerate().map(|(i, p)| (spread(p), i)).collect();
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let group = patches.len().div_ceil(components);
        let of = |group: &[(f64, usize)]| {
            let mut sums = Sums::default();
            group.iter().for_each(|&(_, i)| sums.add(1.0, &patches[i]));
            sums.component(patches.len())
        };
        Self { components: order.chunks(group).map(of).collect() }
    }

    /// One round.
    pub fn improve(&mut self, patches: &[[f64; DIM]]) {
        let mut sums: Vec<Sums> = self.components.iter().map(|_| Sums::default()).collect();
        let mut logs = vec![0.0; self.components.len()];
        for patch in patches {
            logs.iter_mut().zip(&self.components).for_each(|(l, c)| *l = c.log_densities(patch).1);
            let all = log_sum(logs.iter().copied());
            for (sums, log) in sums.iter_mut().zip(&logs) {
                let share = (log - all).exp();
                // What would not be seen in the sums takes most of the time.
                if share > 1e-6 {
                    sums.add(share, patch);
                }
            }
        }
        self.components =
            sums.iter().filter(|s| s.weight > 2.0 * DIM as f64).map(|s| s.component(patches.len())).collect();
    }

    /// log p(pixel | neighbours), natural.
    pub fn log_conditional(&self, patch: &[f64; DIM]) -> f64 {
        let logs: Vec<(f64, f64)> = self.components.iter().map(|c| c.log_densities(patch)).collect();
        log_sum(logs.iter().map(|l| l.1)) - log_sum(logs.iter().map(|l| l.0))
    }
}

struct Sums {
    weight: f64,
    sum: [f64; DIM],
    products: [[f64; DIM]; DIM],
}

impl Default for Sums {
    fn default() -> Self {
        Self { weight: 0.0, sum: [0.0; DIM], products: [[0.0; DIM]; DIM] }
    }
}

impl Sums {
    fn add(&mut self, weight: f64, patch: &[f64; DIM]) {
        self.weight += weight;
        for i in 0..DIM {
            let v = weight * patch[i];
            self.sum[i] += v;
            self.products[i][..=i].iter_mut().zip(patch).for_each(|(p, u)| *p += v * u);
        }
    }

    fn component(&self, count: usize) -> Component {
        Component::of(self.weight, self.weight / count as f64, &self.sum, &self.products)
    }
}

fn log_sum(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    most + logs.map(|l| (l - most).exp()).sum::<f64>().ln()
}
