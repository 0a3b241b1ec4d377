//! The operations of a compiled network, each ready to run: where its arguments lie, its packed weights, its task cut.
//!
//! [`compile`](super::compile) makes them, [`network`](super::network) runs them in order.

use super::isa::Isa;
use super::memory::Memory;
use crate::backend::threads::{Threads, for_each};
use crate::cancel::Cancel;
use crate::emit::Emit;
use crate::error::Result;

pub(super) mod activation;
pub(super) mod attention;
pub(super) mod attention_grad;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
pub(super) mod attention_tiles;
pub(super) mod basis;
pub(super) mod channel_norm;
pub(super) mod channel_norm_grad;
pub(super) mod conv;
pub(super) mod convert;
pub(super) mod edge;
pub(super) mod elementwise;
pub(super) mod embed;
pub(super) mod fallback;
pub(super) mod fold;
pub(super) mod grad;
pub(super) mod integer;
pub(super) mod linear_attention;
pub(super) mod mat_vec;
pub(super) mod max_pool;
pub(super) mod norm;
pub(super) mod norm_grad;
pub(super) mod resample;
pub(super) mod reshape;
pub(super) mod rows;

/// One operation of a compiled network.
pub trait Step: Send + Sync + Emit {
    /// The operation's name, for reports.
    fn name(&self) -> &'static str;

    /// Floats of memory that it has for itself while it runs, beside the values; `None` on overflow. What it holds does
    /// not outlive the run.
    fn own(&self, _batch: usize, _workers: usize) -> Option<usize> {
        Some(0)
    }

    /// Bytes of weights that it holds.
    fn weight_bytes(&self) -> usize {
        0
    }

    /// Does it. Results do not depend on threads, and those of a sample on no other sample.
    fn run(&self, run: &Run<'_>) -> Result<()>;
}

/// A step that is a part of the program: of a reference there is nothing to drop, so a program has not the code for it.
impl<T: Step> Step for &'static T {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn own(&self, batch: usize, workers: usize) -> Option<usize> {
        (**self).own(batch, workers)
    }

    fn weight_bytes(&self) -> usize {
        (**self).weight_bytes()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        (**self).run(run)
    }
}

/// What a step may use during a run.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    pub isa: Isa,
    pub batch: usize,
    pub memory: Memory<'a>,
    pub threads: &'a dyn Threads,
    /// The most tasks at once.
    pub workers: usize,
    pub cancel: &'a Cancel,
}

/// `len` floats from `begin` on; none if they are not inside.
fn row_of(data: &[f32], begin: usize, len: usize) -> &[f32] {
    data.get(begin..).and_then(|d| d.get(..len)).unwrap_or(&[])
}

/// Floats that a core moves in the time it takes to hand a task to another core.
const SMALL: usize = 4096;

impl Run<'_> {
    /// Runs `task(worker, i)` for `i` below `count`, on several threads if `cost` (floats moved, or the like) is worth
    /// it.
    pub fn each(&self, cost: usize, count: usize, task: &(dyn Fn(usize, usize) -> Result<()> + Sync)) -> Result<()> {
        let workers = if cost <= SMALL { 1 } else { self.workers };
        for_each(self.threads, workers, self.cancel, count, task)
    }

    /// Cuts `rows` rows of `channels` floats into tasks of whole rows and runs `task(first, last)` for each.
    pub fn each_rows(
        &self,
        rows: usize,
        channels: usize,
        task: &(dyn Fn(usize, usize) -> Result<()> + Sync),
    ) -> Result<()> {
        let per_task = (SMALL / channels.max(1)).max(1);
        self.each(rows.saturating_mul(channels), rows.div_ceil(per_task), &|_, i| {
            task(i * per_task, ((i + 1) * per_task).min(rows))
        })
    }
}
