//! Convolutions and linear maps with what surrounds them.
//!
//! The input is gathered into a padded buffer (concatenated, normalised, activated, upsampled) unless it can be read
//! where it lies.
#![allow(unsafe_code)] // Tasks write disjoint parts of the padded buffer and of the result.

use alloc::vec::Vec;

use super::super::aligned::SharedMut;
use super::super::conv::{ConvArgs, PackedConv, Padding, Rows};
use super::super::gather::{Affine, GatherArgs, GatherSource};
use super::super::memory::{View, lines};
use super::super::vmath::Activation;
use super::{Run, Step};
use crate::error::{Result, ensure};

/// The most sources that are gathered; more are concatenated before.
pub(in super::super) const MAX_SOURCES: usize = 4;

/// What is done to the input on its way into the padded buffer.
#[derive(Debug)]
pub(in super::super) struct Gather {
    /// The padded buffer, `input_len` floats for each sample.
    pub buffer: usize,
    /// `[2 * C]` factors and offsets.
    pub affine: Option<View>,
    pub activation: Activation,
    pub upsample: usize,
    pub padding: Padding,
}

/// A convolution; [`FusedConv`](crate::graph::FusedConv) says what it computes.
#[derive(Debug)]
pub(in super::super) struct Conv {
    pub name: &'static str,
    /// Between 1 and [`MAX_SOURCES`]; without a gather one or two dense ones.
    pub sources: Vec<View>,
    pub gather: Option<Gather>,
    pub weights: PackedConv,
    /// What the stages of the convolution hand on, if it needs any.
    pub shared: Option<usize>,
    pub channel: Option<View>,
    pub residual: Option<View>,
    pub scale: f32,
    pub activation: Activation,
    pub out: View,
}

impl Conv {
    fn gather(&self, run: &Run<'_>, gather: &Gather) -> Result<()> {
        let Some(first) = self.sources.first() else { return Ok(()) };
        ensure!(
            self.sources.len() <= MAX_SOURCES,
            Unsupported,
            "{} sources, expected {MAX_SOURCES}",
            self.sources.len()
        );
        let mut sources = [GatherSource { data: &[], channels: 0, stride: 0 }; MAX_SOURCES];
        for (s, v) in sources.iter_mut().zip(&self.sources) {
            // SAFETY: the plan keeps arguments unwritten while a step reads them.
            *s = GatherSource { data: unsafe { run.memory.read(v) }, channels: v.channels, stride: v.stride };
        }
        let affine = gather.affine.as_ref().map(|v| {
            // SAFETY: as above.
            let ab = unsafe { run.memory.read(v) };
            Affine { scale: ab, shift: ab.get(v.channels / 2..).unwrap_or(&[]), stride: v.stride }
        });
        let len = self.weights.input_len(run.batch).unwrap_or(0);
        let call = GatherArgs {
            isa: run.isa,
            batch: run.batch,
            height: first.height,
            width: first.width,
            sources: &sources[..self.sources.len()],
            affine,
            activation: gather.activation,
            upsample: gather.upsample,
            padding: gather.padding,
            // SAFETY: the buffer is this step's.
            out: unsafe { batch_buffer(run, gather.buffer, len) },
        }
        .bind()?;
        run.each(len, call.tasks(), &|_, i| {
            // SAFETY: each task is run once.
            unsafe { call.run_task(i) };
            Ok(())
        })
    }
}

/// A buffer as `len` floats for the whole batch, at most its size per sample times the batch.
///
/// # Safety
/// As [`Memory::write`](super::super::memory::Memory::write).
unsafe fn batch_buffer<'a>(run: &Run<'a>, buffer: usize, len: usize) -> SharedMut<'a> {
    let view = View { buffer, start: 0, stride: 0, channels: len, height: 1, width: 1 };
    // SAFETY: the caller's promise.
    unsafe { run.memory.write(&view) }
}

impl Step for Conv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn scratch(&self) -> usize {
        // A size that does not fit is refused when the network is compiled.
        lines(self.weights.scratch_len()).unwrap_or(usize::MAX)
    }

    fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        if let Some(g) = &self.gather {
            self.gather(run, g)?;
        }
        // SAFETY: the plan keeps arguments unwritten while a step reads them, and gives the result to this step alone.
        let read = |v: &View| unsafe { run.memory.read(v) };
        let rows = |v: &View| Rows { data: read(v), stride: v.stride };
        let (input, second) = match (&self.gather, self.sources.as_slice()) {
            (Some(g), _) => {
                let len = self.weights.input_len(run.batch).unwrap_or(0);
                // SAFETY: the gather is done; the buffer is only read from here on.
                let all = unsafe { batch_buffer(run, g.buffer, len) };
                // SAFETY: as above.
                (unsafe { &*all.part(0, len) }, None)
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
            // SAFETY: the plan gives the result to this step alone.
            out: unsafe { run.memory.write(&self.out) },
            out_stride: self.out.stride,
            shared: match self.shared {
                // SAFETY: the buffer is this step's.
                Some(buffer) => unsafe { batch_buffer(run, buffer, self.weights.shared_len(run.batch).unwrap_or(0)) },
                None => SharedMut::empty(),
            },
        };
        let call = self.weights.bind(run.batch, args)?;
        // A core multiplies and adds some 16 times in the time it takes to move a float.
        let shape = self.weights.shape();
        let macs = [shape.out_channels, shape.kernel[0], shape.kernel[1], self.out.positions(), run.batch];
        let cost = macs.iter().fold(shape.in_channels, |a, &b| a.saturating_mul(b)) / 16;
        for stage in 0..call.stages() {
            run.each(cost, call.tasks(stage), &|worker, i| {
                // SAFETY: each task is run once, the stages one after the other, and `each` gives one worker number to one
                // thread at a time.
                unsafe { call.run_task(stage, i, run.memory.scratch(worker, self.scratch())) };
                Ok(())
            })?;
        }
        Ok(())
    }
}
