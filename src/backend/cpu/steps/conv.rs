//! Convolutions and linear maps with what surrounds them.
//!
//! The input is gathered into a padded buffer (concatenated, normalised, activated, upsampled) unless it can be read
//! where it lies.
#![allow(unsafe_code)] // Tasks write disjoint parts of the padded buffer and of the result.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use core::ops::Deref;

use super::super::aligned::SharedMut;
use super::super::conv::{ConvArgs, PackedConv, Rows};
use super::super::gather::{Affine, GatherArgs, GatherSource};
use super::super::memory::{LINE, View};
use super::super::vmath::Activation;
use super::{Run, Step};
use crate::error::{Result, ensure, err};
use crate::graph::Padding;

/// The most sources that are gathered; more are concatenated before.
pub(in super::super) const MAX_SOURCES: usize = 4;

/// Floats of padded input that are made and consumed at a time, so that they are still in cache when they are read.
const GROUP: usize = 1 << 20;

/// What is done to the input on its way into the padded buffer.
#[derive(Debug)]
pub struct Gather {
    /// `[2 * C]` factors and offsets.
    pub affine: Option<View>,
    pub activation: Activation,
    pub upsample: usize,
    pub padding: Padding,
}

/// Weights that steps may share.
#[derive(Debug)]
pub enum Packed {
    /// Packed when the network was made.
    Shared(Arc<PackedConv>),
    /// A part of the program.
    Static(&'static PackedConv),
}

impl Deref for Packed {
    type Target = PackedConv;

    fn deref(&self) -> &PackedConv {
        match self {
            Self::Shared(weights) => weights,
            Self::Static(weights) => weights,
        }
    }
}

/// A convolution; [`FusedConv`](crate::graph::FusedConv) says what it computes.
#[derive(Debug)]
pub struct Conv {
    pub name: &'static str,
    /// Between 1 and `MAX_SOURCES`; without a gather one or two dense ones.
    pub sources: Cow<'static, [View]>,
    pub gather: Option<Gather>,
    pub weights: Packed,
    /// Whether it is the one to count the weights, which others may use too.
    pub owner: bool,
    pub channel: Option<View>,
    pub residual: Option<View>,
    pub scale: f32,
    pub activation: Activation,
    pub out: View,
}

/// How the step's own memory is cut: the padded input, what the convolution's stages share, each worker's scratch.
#[derive(Clone, Copy)]
struct Own {
    padded: usize,
    shared: usize,
    scratch: usize,
}

/// Some samples of the batch.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    samples: usize,
}

impl Conv {
    /// How many samples go through gather and convolution at a time.
    fn group(&self, batch: usize) -> usize {
        match (&self.gather, self.weights.input_len(1)) {
            (Some(_), Some(n)) => (GROUP / n.max(1)).clamp(1, batch.max(1)),
            _ => batch,
        }
    }

    /// Whether the gather rounds too, as the convolution multiplies bf16.
    fn rounds(&self) -> bool {
        let plain = |g: &Gather| matches!(g.activation, Activation::Identity | Activation::Silu);
        self.weights.takes_halves() && self.gather.as_ref().is_some_and(plain)
    }

    fn layout(&self, batch: usize) -> Option<Own> {
        let group = self.group(batch);
        // The last group may be smaller, and smaller is not always less.
        let last = batch.checked_rem(group)?;
        let shared = self.weights.shared_len(group)?.max(self.weights.shared_len(last)?);
        let line = |n: usize| n.checked_next_multiple_of(LINE);
        let apart = self.gather.is_some() && !self.rounds();
        let padded = if apart { self.weights.input_len(group)? } else { 0 };
        Some(Own { padded: line(padded)?, shared: line(shared)?, scratch: line(self.weights.scratch_len())? })
    }

    fn gather(&self, run: &Run<'_>, gather: &Gather, group: Group, out: SharedMut<'_>) -> Result<()> {
        let Some(first) = self.sources.first() else { return Ok(()) };
        ensure!(
            self.sources.len() <= MAX_SOURCES,
            Unsupported,
            "{} sources, expected {MAX_SOURCES}",
            self.sources.len()
        );
        // SAFETY: the plan keeps arguments unwritten while a step reads them.
        let read = |v: &View| unsafe { run.memory.read_samples(v, group.first, group.samples) };
        let mut sources = [GatherSource { data: &[], channels: 0, stride: 0 }; MAX_SOURCES];
        for (s, v) in sources.iter_mut().zip(&*self.sources) {
            *s = GatherSource { data: read(v), channels: v.channels, stride: v.stride };
        }
        let affine = gather.affine.as_ref().map(|v| {
            let ab = read(v);
            Affine { scale: ab, shift: ab.get(v.channels / 2..).unwrap_or(&[]), stride: v.stride }
        });
        let cost = out.len();
        let call = GatherArgs {
            isa: run.isa,
            batch: group.samples,
            height: first.height,
            width: first.width,
            sources: &sources[..self.sources.len()],
            affine,
            activation: gather.activation,
            upsample: gather.upsample,
            padding: gather.padding,
            halves: self.rounds(),
        }
        .bind()?;
        let tasks = call.on(out)?;
        run.each(cost, call.tasks(), &|_, i| {
            // SAFETY: each task is run once.
            unsafe { tasks.run_task(i) };
            Ok(())
        })
    }

    fn run_group(&self, run: &Run<'_>, own: Own, group: Group) -> Result<()> {
        let Group { first, samples } = group;
        // SAFETY: the plan keeps arguments unwritten while a step reads them.
        let read = |v: &View| unsafe { run.memory.read_samples(v, first, samples) };
        let rows = |v: &View| Rows { data: read(v), stride: v.stride };
        let (input, second) = match (&self.gather, &*self.sources) {
            (Some(g), _) if self.rounds() => {
                let len = self.weights.input_len(samples).unwrap_or(0) / 2;
                // SAFETY: the convolution's memory begins with its input, which only the gather writes.
                self.gather(run, g, group, unsafe { run.memory.own(own.padded, len) })?;
                (&[][..], None)
            }
            (Some(g), _) => {
                let len = self.weights.input_len(samples).unwrap_or(0);
                // SAFETY: this part of the step's own memory is for the padded input, which only the gather writes.
                let padded = unsafe { run.memory.own(0, len) };
                self.gather(run, g, group, padded)?;
                // SAFETY: the gather is done; from here on it is only read.
                (unsafe { &*padded.part(0, len) }, None)
            }
            (None, [x]) => (read(x), None),
            (None, [x, y]) => (read(x), Some((read(y), y.channels))),
            (None, _) => (&[][..], None),
        };
        let args = ConvArgs {
            input,
            second,
            sample: self.channel.as_ref().map(rows),
            residual: self.residual.as_ref().map(rows),
            scale: self.scale,
            activation: self.activation,
            out_stride: self.out.stride,
            rounded: self.rounds(),
            workers: run.workers,
        };
        let call = self.weights.bind(samples, args)?;
        // SAFETY: the plan gives the result to this step alone, and this part of the step's own memory is for the
        // convolution alone.
        let (out, shared) =
            unsafe { (run.memory.write_samples(&self.out, first, samples), run.memory.own(own.padded, own.shared)) };
        let tasks = call.on(out, shared)?;
        // A core multiplies and adds some 16 times in the time it takes to move a float.
        let shape = self.weights.shape();
        let macs = [shape.out_channels, shape.kernel[0], shape.kernel[1], self.out.positions(), samples];
        let cost = macs.iter().fold(shape.in_channels, |a, &b| a.saturating_mul(b)) / 16;
        let scratch = own.padded + own.shared;
        for stage in 0..call.stages() {
            run.each(cost, call.tasks(stage), &|worker, i| {
                // SAFETY: each task is run once, the stages one after the other, and `each` gives one worker number to
                // one thread at a time, so a part of the scratch is one thread's.
                unsafe {
                    let scratch = run.memory.own(scratch + worker * own.scratch, own.scratch);
                    tasks.run_task(stage, i, scratch.part(0, own.scratch));
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Step for Conv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn own(&self, batch: usize, workers: usize) -> Option<usize> {
        let own = self.layout(batch)?;
        own.scratch.checked_mul(workers)?.checked_add(own.padded)?.checked_add(own.shared)
    }

    fn weight_bytes(&self) -> usize {
        if self.owner { self.weights.bytes() } else { 0 }
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let own = self.layout(run.batch).ok_or_else(|| err!(OutOfMemory, "a batch of {} is too large", run.batch))?;
        let step = self.group(run.batch).max(1);
        for first in (0..run.batch).step_by(step) {
            self.run_group(run, own, Group { first, samples: step.min(run.batch - first) })?;
        }
        Ok(())
    }
}
