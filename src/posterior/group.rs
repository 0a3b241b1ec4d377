//! Samples of a group that are weighed against one another, and drawn anew by weight.

use alloc::vec::Vec;

use crate::error::{Result, ensure, err};
use crate::memory::filled;

/// A group draws its ancestors when its weights leave no more than this part of it effective.
const FEW: f64 = 0.5;

/// The weights of one group at a time.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The logarithms of its samples' weights.
    pub log_w: Vec<f64>,
    ancestors: Vec<usize>,
    effective: f64,
}

impl Group {
    /// Without memory, before a chain is made.
    pub const NONE: Self = Self { log_w: Vec::new(), ancestors: Vec::new(), effective: 1.0 };

    /// Of `count` samples.
    pub fn new(method: &str, count: usize) -> Result<Self> {
        Ok(Self { log_w: filled(method, count, 0.0)?, ancestors: filled(method, count, 0)?, effective: 1.0 })
    }

    /// The least effective fraction of a group so far.
    pub fn effective(&self) -> f64 {
        self.effective
    }

    /// Whether it is time for the group of samples from `sample` on to draw its ancestors, which it then does
    /// (systematic resampling), with `u` a standard normal value; `at_once` it is always time. The weights are lost.
    pub fn resample(&mut self, sample: u64, u: f32, at_once: bool) -> Result<bool> {
        let most = self.log_w.iter().fold(f64::NEG_INFINITY, |m, &w| m.max(w));
        ensure!(most.is_finite(), NonFinite, "the weights of the samples from {sample} on are not finite");
        let u = 0.5 * libm::erfc(-f64::from(u) * core::f64::consts::FRAC_1_SQRT_2);
        let (mut sum, mut squares) = (0.0, 0.0);
        for w in &mut self.log_w {
            *w = libm::exp(*w - most);
            sum += *w;
            squares += *w * *w;
        }
        let count = self.log_w.len();
        let effective = sum * sum / squares / count as f64;
        self.effective = self.effective.min(effective);
        if effective > FEW && !at_once {
            return Ok(false);
        }
        let (mut of, mut reached) = (0, self.log_w.first().copied().unwrap_or(0.0) / sum);
        for (k, ancestor) in self.ancestors.iter_mut().enumerate() {
            let place = (k as f64 + u) / count as f64;
            while reached <= place && of + 1 < count {
                of += 1;
                reached += self.log_w.get(of).copied().unwrap_or(0.0) / sum;
            }
            *ancestor = of;
        }
        // Rounding may have led to a last one that weighs nothing.
        if self.log_w.get(of) == Some(&0.0) {
            let heaviest = self.log_w.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |b| b.0);
            self.ancestors.iter_mut().filter(|a| **a == of).for_each(|a| *a = heaviest);
        }
        Ok(true)
    }

    /// Gives each sample of `rows`, n values each, the values of its ancestor; `moved` is as long.
    pub fn take_ancestors(&self, n: usize, rows: &mut [f32], moved: &mut [f32]) -> Result<()> {
        for (moved, &ancestor) in moved.chunks_exact_mut(n.max(1)).zip(&self.ancestors) {
            let from = rows.get(ancestor * n..(ancestor + 1) * n);
            moved.copy_from_slice(from.ok_or_else(|| err!(Shape, "a group of {} values", rows.len()))?);
        }
        rows.copy_from_slice(moved);
        Ok(())
    }
}

/// That a batch from sample `first` on holds whole groups of `k`.
pub(super) fn check_whole(first: u64, batch: usize, k: usize) -> Result<()> {
    ensure!(
        batch.is_multiple_of(k) && first.is_multiple_of(k as u64),
        InvalidArgument,
        "{batch} samples from number {first} on, expected whole groups of {k} (the option ensemble)"
    );
    Ok(())
}
