//! Makes the input of a convolution: concatenates, normalises, activates, upsamples and pads, in one pass.
//!
//! `out[n][y + top][x + left][c] = activation(in[n][y / up][x / up][c] * scale[n][c] + shift[n][c])`, and zeros around
//! it.
#![allow(unsafe_code)] // Calls the generic vector code, compiled per path, and writes shared output.

use super::aligned::SharedMut;
use super::isa::{Isa, Path};
use super::simd::{Simd, dispatch};
use super::vmath::{Activation, activate, silu_v};
use crate::error::{Result, ensure, err};
use crate::graph::Padding;

/// A source of channels: `[batch][height][width]` pixels.
#[derive(Clone, Copy, Debug)]
pub struct GatherSource<'a> {
    /// The floats, from the first pixel on.
    pub data: &'a [f32],
    /// Channels of this source.
    pub channels: usize,
    /// Floats from one pixel to the next, at least `channels`.
    pub stride: usize,
}

/// GroupNorm folded into one multiplication and one addition for each sample and channel, over the channels of all
/// sources.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `[batch][channels]`.
    pub scale: &'a [f32],
    /// `[batch][channels]`.
    pub shift: &'a [f32],
    /// Floats from one sample to the next in both, at least the channels.
    pub stride: usize,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct GatherArgs<'a> {
    /// The path.
    pub isa: Isa,
    /// Images.
    pub batch: usize,
    /// Rows of the sources.
    pub height: usize,
    /// Columns of the sources.
    pub width: usize,
    /// What is concatenated along channels, in this order.
    pub sources: &'a [GatherSource<'a>],
    /// Applied first.
    pub affine: Option<Affine<'a>>,
    /// Applied to the values, not to the padding.
    pub activation: Activation,
    /// How often each row and column is repeated (nearest-neighbour upsampling): 1 for none.
    pub upsample: usize,
    /// Zeros around the upsampled image.
    pub padding: Padding,
    /// Whether the output is bf16, two in a float: of an even number of channels, and no activation but SiLU.
    pub halves: bool,
}

/// A call with checked arguments.
#[derive(Clone, Copy, Debug)]
pub struct GatherCall<'a> {
    args: GatherArgs<'a>,
    channels: usize,
    out_height: usize,
    out_width: usize,
    out_len: usize,
}

/// A call with the memory that it writes: its tasks may run on any threads in any order.
#[derive(Clone, Copy, Debug)]
pub struct GatherTasks<'a> {
    call: GatherCall<'a>,
    out: SharedMut<'a>,
}

impl<'a> GatherArgs<'a> {
    /// Checks the arguments once. Allocates nothing.
    ///
    /// # Errors
    /// `Shape` if a tensor has not the floats that the sizes ask for, or a size is 0 or overflows.
    pub fn bind(self) -> Result<GatherCall<'a>> {
        let too_large = || err!(Shape, "gather of {}x{}x{} is too large", self.batch, self.height, self.width);
        ensure!(self.upsample >= 1, InvalidArgument, "upsampling by 0, expected at least 1");
        let image =
            self.height.checked_mul(self.width).and_then(|n| n.checked_mul(self.batch)).ok_or_else(too_large)?;
        let mut channels = 0usize;
        let rows = |count: usize, stride: usize, len: usize| {
            count
                .checked_sub(1)
                .map_or(Some(0), |last| last.checked_mul(stride)?.checked_add(len))
                .filter(|_| stride >= len)
        };
        for s in self.sources {
            ensure!(s.channels > 0, Shape, "gather source without channels");
            ensure!(
                rows(image, s.stride, s.channels).is_some_and(|need| need <= s.data.len()),
                Shape,
                "gather source has {} floats, expected {} x {} x {} pixels of {}, {} apart",
                s.data.len(),
                self.batch,
                self.height,
                self.width,
                s.channels,
                s.stride
            );
            channels = channels.checked_add(s.channels).ok_or_else(too_large)?;
        }
        if let Some(a) = self.affine {
            let need = rows(self.batch, a.stride, channels).ok_or_else(too_large)?;
            ensure!(
                a.scale.len() >= need && a.shift.len() >= need,
                Shape,
                "gather scale and shift have {} and {} floats, expected {} x {channels}, {} apart",
                a.scale.len(),
                a.shift.len(),
                self.batch,
                a.stride
            );
        }
        let side = |n: usize, before: usize, after: usize| {
            n.checked_mul(self.upsample)
                .and_then(|n| n.checked_add(before))
                .and_then(|n| n.checked_add(after))
                .ok_or_else(too_large)
        };
        let out_height = side(self.height, self.padding.top, self.padding.bottom)?;
        let out_width = side(self.width, self.padding.left, self.padding.right)?;
        let out_len = self
            .batch
            .checked_mul(out_height)
            .and_then(|n| n.checked_mul(out_width))
            .and_then(|n| n.checked_mul(channels))
            .ok_or_else(too_large)?;
        let pairs = channels.is_multiple_of(2) && matches!(self.activation, Activation::Identity | Activation::Silu);
        ensure!(!self.halves || pairs, Unsupported, "{channels} channels of bf16 after {:?}", self.activation);
        let out_len = if self.halves { out_len / 2 } else { out_len };
        Ok(GatherCall { args: self, channels, out_height, out_width, out_len })
    }
}

impl<'a> GatherCall<'a> {
    /// How many tasks there are: one for each row of each padded image.
    pub fn tasks(&self) -> usize {
        self.args.batch * self.out_height
    }

    /// The call's tasks. `out` is `[batch][top + height * upsample + bottom][left + width * upsample +
    /// right][channels]`, of f32 or bf16; it must not overlap a source.
    ///
    /// # Errors
    /// `Shape` if it has another length.
    pub fn on(self, out: SharedMut<'a>) -> Result<GatherTasks<'a>> {
        ensure!(out.len() == self.out_len, Shape, "gather output has {} floats, expected {}", out.len(), self.out_len);
        Ok(GatherTasks { call: self, out })
    }

    /// Runs all tasks on this thread; `out` is as in [`on`](Self::on).
    ///
    /// # Errors
    /// As [`on`](Self::on).
    #[cfg(any(test, feature = "bench"))]
    pub fn run(&self, out: &mut [f32]) -> Result<Path> {
        let call = self.on(SharedMut::new(out))?;
        let mut path = self.args.isa.path();
        for i in 0..self.tasks() {
            // SAFETY: one task at a time; the output is borrowed by this function alone.
            path = unsafe { call.run_task(i) };
        }
        Ok(path)
    }
}

impl GatherTasks<'_> {
    /// Makes row `i % padded height` of image `i / padded height`, and says which path ran. Task numbers outside
    /// `0..tasks()` do nothing.
    ///
    /// # Safety
    /// Each task may run on one thread at a time, and nobody else may touch the output meanwhile.
    pub unsafe fn run_task(&self, i: usize) -> Path {
        let call = &self.call;
        let a = &call.args;
        if i >= call.tasks() {
            return a.isa.path();
        }
        let c = call.channels;
        // Floats of the output.
        let floats = |n: usize| if a.halves { n * c / 2 } else { n * c };
        let (image, row) = (i / call.out_height, i % call.out_height);
        // SAFETY: `on` checked the size; a row is one task's.
        let out = unsafe { self.out.part(floats(i * call.out_width), floats(call.out_width)) };
        let inside = row.checked_sub(a.padding.top).map(|y| y / a.upsample).filter(|y| *y < a.height);
        let Some(y) = inside else {
            out.fill(0.0);
            return a.isa.path();
        };
        let middle = floats(a.width * a.upsample);
        let (left, rest) = out.split_at_mut(floats(a.padding.left));
        let (mid, right) = rest.split_at_mut(middle.min(rest.len()));
        left.fill(0.0);
        right.fill(0.0);
        let mut path = a.isa.path();
        let mut done = 0;
        for s in a.sources {
            let start = (image * a.height + y) * a.width * s.stride;
            let line = Line {
                input: s.data.as_ptr().wrapping_add(start),
                out: mid.as_mut_ptr(),
                before: done,
                pixels: a.width,
                channels: s.channels,
                stride: s.stride,
                out_stride: c,
                repeat: a.upsample,
                scale: a.affine.map_or(core::ptr::null(), |f| f.scale.as_ptr().wrapping_add(image * f.stride + done)),
                shift: a.affine.map_or(core::ptr::null(), |f| f.shift.as_ptr().wrapping_add(image * f.stride + done)),
                silu: a.activation == Activation::Silu,
            };
            // SAFETY: `bind` and `on` checked the sizes of sources, scale, shift and output.
            path = unsafe { if a.halves { halves_raw(a.isa, &line) } else { floats_raw(a.isa, &line) } };
            done += s.channels;
        }
        if !matches!(a.activation, Activation::Identity | Activation::Silu) {
            path = activate(a.isa, a.activation, mid);
        }
        path
    }
}

/// One row of pixels of one source.
struct Line {
    input: *const f32,
    /// Floats, or bf16.
    out: *mut f32,
    /// Channels of the output before those of this source.
    before: usize,
    pixels: usize,
    channels: usize,
    stride: usize,
    out_stride: usize,
    repeat: usize,
    scale: *const f32,
    shift: *const f32,
    silu: bool,
}

/// To bf16 or to floats: not asked for at each vector.
#[inline(always)]
unsafe fn line_body<S: Simd, const HALVES: bool>(l: &Line) {
    // SAFETY: the caller gives `pixels` input pixels of `channels` floats, `stride` apart, as many floats of scale and
    // shift or null, and `pixels * repeat` output pixels of `out_stride` values, `channels` of them after `before`.
    unsafe {
        for x in 0..l.pixels {
            let from = l.input.add(x * l.stride);
            let to = x * l.repeat * l.out_stride + l.before;
            let mut c = 0;
            while c < l.channels {
                let n = (l.channels - c).min(S::LANES);
                let mut v = S::load_most(from.add(c), n);
                if !l.scale.is_null() {
                    v = S::mul_add(v, S::load_most(l.scale.add(c), n), S::load_most(l.shift.add(c), n));
                }
                if l.silu {
                    v = silu_v::<S>(v);
                }
                for r in 0..l.repeat {
                    let to = to + r * l.out_stride + c;
                    if HALVES {
                        S::store_bf16(l.out.cast::<u16>().add(to), n, v);
                    } else {
                        S::store_most(l.out.add(to), n, v);
                    }
                }
                c += n;
            }
        }
    }
}

#[inline(always)]
unsafe fn floats_body<S: Simd>(l: &Line) {
    // SAFETY: the contract of `line_body`, here and below.
    unsafe { line_body::<S, false>(l) }
}
dispatch! { unsafe fn floats_raw = floats_body(l: &Line) }

#[inline(always)]
unsafe fn halves_body<S: Simd>(l: &Line) {
    // SAFETY: as above.
    unsafe { line_body::<S, true>(l) }
}
dispatch! { unsafe fn halves_raw = halves_body(l: &Line) }
