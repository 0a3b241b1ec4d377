//! What all that run a compiled network have in common: the steps with their weights, and where values lie.
#![allow(unsafe_code)] // Outputs are shared by workers that write different samples.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::vec::Vec;

use super::super::aligned::SharedMut;
use super::super::isa::Isa;
use super::super::memory::{LINE, Memory, Slices, View};
use super::super::steps::{Run, Step, edge};
use crate::backend::threads::Threads;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::tensor::Dims;

/// The steps, in order.
pub enum Steps {
    /// Made when the network was compiled.
    Owned(Vec<Box<dyn Step>>),
    /// A part of the program.
    Static(&'static [&'static dyn Step]),
}

impl Steps {
    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &dyn Step> {
        let len = match self {
            Self::Owned(steps) => steps.len(),
            Self::Static(steps) => steps.len(),
        };
        (0..len).map(move |i| match self {
            Self::Owned(steps) => &*steps[i],
            Self::Static(steps) => steps[i],
        })
    }
}

/// A compiled network.
pub struct Shared {
    /// Of the inputs, one sample each.
    pub inputs: Cow<'static, [Dims]>,
    /// Of the outputs.
    pub outputs: Cow<'static, [Dims]>,
    /// Where inputs go; `None` for one that nothing reads.
    pub input_views: Cow<'static, [Option<View>]>,
    /// Where outputs come from.
    pub output_views: Cow<'static, [View]>,
    /// What is done.
    pub steps: Steps,
    /// Where each buffer begins, for one sample.
    pub offsets: Cow<'static, [usize]>,
    /// How much the buffers take, for one sample.
    pub arena: usize,
    /// For each step, where what is alive while it runs ends, for one sample: there begins what it has for itself.
    pub ends: Cow<'static, [usize]>,
    /// The most samples that a worker takes through all steps at once: see `samples_at_once`.
    pub at_once: usize,
}

/// The buffers of one call.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub batch: usize,
    pub inputs: &'a [&'a [f32]],
    pub outputs: Slices<'a>,
    pub workspace: SharedMut<'a>,
    pub cancel: &'a Cancel,
}

/// Some samples of a call.
#[derive(Clone, Copy)]
pub(super) struct Samples {
    pub first: usize,
    pub count: usize,
}

/// Who does the work.
#[derive(Clone, Copy)]
pub(super) struct On<'a> {
    pub isa: Isa,
    pub threads: &'a dyn Threads,
    pub workers: usize,
}

impl Shared {
    /// The most that buffers and what a step has for itself take.
    fn most(&self, samples: usize, workers: usize) -> Option<usize> {
        let buffers = self.arena.checked_mul(samples)?;
        self.steps.iter().zip(&*self.ends).try_fold(buffers, |most, (s, end)| {
            Some(most.max(end.checked_mul(samples)?.checked_add(s.own(samples, workers)?)?))
        })
    }

    /// What `workers` workers need to run `samples` samples together, alignment included.
    pub(super) fn need(&self, samples: usize, workers: usize) -> Option<usize> {
        // The caller's slice may begin anywhere, so a cache line less one value is for alignment.
        self.most(samples, workers)?.checked_add(LINE - 1)?.checked_next_multiple_of(LINE)
    }

    /// Takes some samples through all steps and calls `after` with the number of each.
    pub(super) fn run(
        &self,
        on: On<'_>,
        call: &Call<'_>,
        samples: Samples,
        workspace: &mut [f32],
        after: &mut dyn FnMut(usize),
    ) -> Result<()> {
        let Samples { first, count } = samples;
        let most = self.most(count, on.workers).unwrap_or(usize::MAX);
        let own = most.saturating_sub(self.arena.saturating_mul(count));
        let memory = Memory::new(workspace, count, &self.offsets, self.arena, own)?;
        let On { isa, threads, workers } = on;
        let run = Run { isa, batch: count, memory, threads, workers, cancel: call.cancel };
        for ((view, dims), from) in self.input_views.iter().zip(&*self.inputs).zip(call.inputs) {
            let n = dims.elements();
            if let (Some(view), Some(from)) = (view, from.get(first * n..(first + count) * n)) {
                edge::load(&run, from, view)?;
            }
        }
        for (i, (step, end)) in self.steps.iter().zip(&*self.ends).enumerate() {
            call.cancel.check()?;
            let run = Run { memory: run.memory.behind(end.saturating_mul(count)), ..run };
            step.run(&run).map_err(|e| e.context(step.name()))?;
            after(i);
        }
        for (i, (view, dims)) in self.output_views.iter().zip(&*self.outputs).enumerate() {
            let n = dims.elements();
            // SAFETY: these samples are this run's.
            edge::store(&run, view, unsafe { call.outputs.get(i).part(first * n, count * n) })?;
        }
        Ok(())
    }
}
