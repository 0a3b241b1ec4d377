//! The step of a binary chain without its evidence, beside the step with it: what particles are weighed by.

use alloc::vec::Vec;

use crate::error::Result;
use crate::memory::filled;

/// Of the last step of a whole batch of `[count, n]` bits.
pub(super) struct Alone {
    /// The predicted x_0, before evidence.
    pub x0: Vec<f32>,
    /// The model's own probability that a bit of x_s is 1.
    pub mean: Vec<f32>,
    /// For each sample log p(x_s | x_t) less its log with evidence.
    pub log_ratio: Vec<f64>,
}

impl Alone {
    pub fn new(count: usize, n: usize) -> Result<Self> {
        let len = count.saturating_mul(n);
        Ok(Self {
            x0: filled("the particles", len, 0.0)?,
            mean: filled("the particles", len, 0.0)?,
            log_ratio: filled("the particles", count, 0.0)?,
        })
    }

    /// Compares the model's probabilities with `guided` ones for the bits that `uniform` draws by the latter.
    pub fn compare(&mut self, guided: &[f32], uniform: &[f32]) {
        let n = (self.mean.len() / self.log_ratio.len().max(1)).max(1);
        let rows = self.mean.chunks_exact(n).zip(guided.chunks_exact(n)).zip(uniform.chunks_exact(n));
        for (log_ratio, ((own, guided), uniform)) in self.log_ratio.iter_mut().zip(rows) {
            // The ratio of a few bits at a time, so that there are fewer logarithms.
            *log_ratio = 0.0;
            let mut ratio = 1.0;
            for ((&own, &guided), &u) in own.iter().zip(guided).zip(uniform) {
                let (own, guided) = (f64::from(own), f64::from(guided));
                ratio *= if f64::from(u) < guided { own / guided } else { (1.0 - own) / (1.0 - guided) };
                if !(1e-100..1e100).contains(&ratio) {
                    *log_ratio += libm::log(ratio);
                    ratio = 1.0;
                }
            }
            *log_ratio += libm::log(ratio);
        }
    }
}
