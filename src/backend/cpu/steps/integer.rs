//! Convolutions and linear maps in 8-bit integers with what surrounds them;
//! [`Quantisation`](crate::graph::Quantisation) says what they compute.
//!
//! A task is some rows and columns of one sample's result, all of them where there are as many samples as workers. It
//! goes from strip to strip of its rows: it makes the padded input that a strip needs as integers (concatenated,
//! normalised, activated, upsampled) in memory of its worker, but for the rows that the strip before needed too, and
//! multiplies it at once, so that the input of a whole layer is nowhere: as it stands, or as [`winograd`] does.
//! Sources, residual and result may be bf16.
#![allow(unsafe_code)] // Raw rows of the arena; tasks write disjoint rows of the result.

use alloc::borrow::Cow;
use core::ops::Range;

use super::super::aligned::Floats;
use super::super::conv::ConvShape;
use super::super::gemm::Segment;
use super::super::heap::Heap;
use super::super::integers::winograd::{OUT, PATCH};
use super::super::integers::{self, MOST_COLUMNS, MOST_ROWS, Tile};
use super::super::isa::Isa;
use super::super::memory::{LINE, View};
use super::super::vmath::{Activation, activate};
use super::{Run, Step};
use crate::error::{Result, ensure, err};
use crate::graph::Quantisation;

mod finish;
mod line;
mod winograd;
use finish::{Finish, Rows, ask_raw, finish_raw, store_raw};
use line::{Line, MAGIC, line_raw};

/// Bytes of padded input that a strip has, unless a single row of the result needs more.
const STRIP: usize = 32 * 1024;

/// Pixels of a task's rows that are enough for tiles of some height. With fewer, workers share the columns.
const ENOUGH: usize = 28;

/// Multiplications of a worker that are worth two tasks.
const LONG: usize = 1 << 24;

/// The weights of a layer.
#[derive(Debug)]
pub struct Integers {
    pub shape: ConvShape,
    pub out_size: [usize; 2],
    /// Packed integers, four in a float.
    pub weights: Floats,
    /// Of each column, rounded up to whole panels: factors, then what the input's zero and the path's excess add to
    /// the sums (whole numbers, as bits), then biases.
    pub columns: Floats,
    pub segments: Cow<'static, [Segment]>,
    /// The inverse of the input's scale.
    pub inverse: f32,
    /// The input's zero.
    pub zero: f32,
    /// Rows of tiles of a strip for `winograd`; 0 if the layer is multiplied as it stands.
    pub tile_rows: usize,
}

/// A layer.
#[derive(Debug)]
pub struct IntegerConv {
    pub name: &'static str,
    pub sources: Cow<'static, [View]>,
    /// `[2 * C]` factors and offsets.
    pub affine: Option<View>,
    pub silu: bool,
    pub upsample: usize,
    pub layer: Integers,
    pub channel: Option<View>,
    pub residual: Option<View>,
    pub scale: f32,
    pub activation: Activation,
    pub out: View,
}

impl Integers {
    /// Packs `weights` (`[out][in][ky][kx]`) and `bias`.
    ///
    /// # Errors
    /// `Shape` for sizes that do not fit; `OutOfMemory`.
    pub fn pack(
        heap: &Heap,
        isa: Isa,
        shape: ConvShape,
        input: Quantisation,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let out_size = shape.output()?;
        let (cin, cout, [kh, kw]) = (shape.in_channels, shape.out_channels, shape.kernel);
        let k = cin * kh * kw;
        let fits = cin.is_multiple_of(integers::STEP) && weights.len() == k * cout;
        ensure!(fits, Shape, "{} weights of a layer of integers of {shape:?}", weights.len());
        let too_large = || err!(Shape, "convolution of {shape:?} is too large");
        let bytes = integers::packed_len(isa, k, cout).ok_or_else(too_large)?;
        let sizes = integers::sizes(isa);
        let n = sizes.padded(cout).ok_or_else(too_large)?;
        let mut packed = heap.zeroed(bytes.div_ceil(4))?;
        let mut columns = heap.zeroed(3 * n)?;
        let (factors, rest) = columns.split_at_mut(n);
        for (factor, row) in factors.iter_mut().zip(weights.chunks_exact(k)) {
            *factor = row.iter().fold(0f32, |m, w| m.max(w.abs())) / 127.0;
        }
        let integer = |row: usize, o: usize| {
            let (tap, c) = (row / cin, row % cin);
            let w = weights.get((o * cin + c) * kh * kw + tap).copied().unwrap_or(0.0);
            // The factor may be 0; the cast takes NaN to 0.
            libm::roundf(w / factors.get(o).copied().unwrap_or(0.0)).clamp(-127.0, 127.0) as i8
        };
        let magnitude = |o: usize| (0..k).map(|row| i64::from(integer(row, o).unsigned_abs())).sum::<i64>();
        let largest = (0..cout).map(magnitude).max().unwrap_or(0);
        let tile_rows = winograd::tile_rows(isa, &shape, out_size, largest);
        let step = if tile_rows > 0 { integers::winograd::step(isa) } else { integers::STEP };
        for (word, to) in packed.iter_mut().enumerate() {
            let byte = |b: usize| {
                let (row, column) = integers::entry(isa, step, [k, cout], 4 * word + b);
                if column < cout { integer(row, column).cast_unsigned() } else { 0 }
            };
            *to = f32::from_bits(u32::from_ne_bytes([byte(0), byte(1), byte(2), byte(3)]));
        }
        let zero = i32::from(input.zero()) + i32::from(sizes.excess);
        for (o, to) in rest.iter_mut().enumerate().take(cout) {
            let sum: i32 = (0..k).map(|row| i32::from(integer(row, o))).sum();
            *to = f32::from_bits((zero * sum).cast_unsigned());
        }
        rest[n..].iter_mut().zip(bias.unwrap_or(&[])).for_each(|(to, b)| *to = *b);
        factors.iter_mut().for_each(|factor| *factor *= input.scale());
        let [ph, pw] = shape.padded().ok_or_else(too_large)?;
        ph.checked_mul(pw).and_then(|n| n.checked_mul(cin)).ok_or_else(too_large)?;
        let (runs, taps) = if shape.dilation == 1 { (1, kw) } else { (kw, 1) };
        let segments = (0..kh * runs).map(|i| Segment {
            table: 0,
            offset: (i / runs * pw * cin + i % runs * cin) * shape.dilation,
            len: taps * cin,
        });
        Ok(Self {
            shape,
            out_size,
            weights: packed.into(),
            columns: columns.into(),
            segments: segments.collect(),
            inverse: 1.0 / input.scale(),
            zero: f32::from(input.zero()),
            tile_rows,
        })
    }

    /// Bytes of a row of the padded input.
    fn pitch(&self) -> usize {
        let s = &self.shape;
        match self.tile_rows {
            0 => (s.width + s.padding.left + s.padding.right) * s.in_channels,
            _ => (self.across() * OUT + PATCH - OUT) * s.in_channels,
        }
    }

    /// Rows of the padded input that `rows` rows of the result need.
    fn rows_for(&self, rows: usize) -> usize {
        (rows.max(1) - 1) * self.shape.stride[0] + (self.shape.kernel[0] - 1) * self.shape.dilation + 1
    }

    /// Into how many strips a sample's result is cut, and how many rows each has, the last perhaps fewer.
    fn strips(&self) -> (usize, usize) {
        let (oh, fit) = (self.out_size[0], STRIP / self.pitch().max(1));
        let most = fit.saturating_sub(self.rows_for(1)) / self.shape.stride[0].max(1) + 1;
        // As even as can be.
        let rows = oh.div_ceil(oh.div_ceil(most)).max(1);
        (oh.div_ceil(rows), rows)
    }

    /// Floats that a worker needs.
    fn scratch(&self) -> usize {
        if self.tile_rows > 0 {
            let layout = winograd::Layout::new(self.shape.in_channels, self.tile_rows, self.across());
            return layout.map_or(0, |l| l.end / 4);
        }
        let (_, rows) = self.strips();
        (self.rows_for(rows) * self.pitch()).div_ceil(4).next_multiple_of(LINE)
    }
}

/// Where what becomes of a layer's sums lies.
struct Place {
    out: Rows,
    residual: Option<Rows>,
    channel: Option<Rows>,
    /// Columns of all panels.
    n: usize,
}

impl IntegerConv {
    /// The rows of a view that has `count` for each sample.
    fn rows(&self, run: &Run<'_>, v: &View, count: usize, channels: usize) -> Result<Rows> {
        // SAFETY: only a pointer is made of it; the plan gives the result to this step alone and keeps the arguments
        // unwritten.
        let memory = unsafe { run.memory.write(v) };
        let size = if v.half { 2 } else { 4 };
        let need = (count * run.batch).saturating_sub(1) * v.stride + channels;
        ensure!(
            v.channels == channels && need * size <= memory.len() * 4,
            Shape,
            "{} floats for {} rows of {channels} values",
            memory.len(),
            count * run.batch
        );
        Ok(Rows { data: memory.as_ptr().cast(), size, stride: v.stride })
    }

    /// Makes rows `first ..` of the padded input of a sample, as many as there is room for.
    fn gather(&self, run: &Run<'_>, sample: usize, first: usize, to: &mut [u8]) -> Result<()> {
        let (l, s) = (&self.layer, &self.layer.shape);
        let (pitch, c) = (l.pitch().max(1), s.in_channels);
        let affine = self.affine.as_ref().map(|v| self.rows(run, v, 1, 2 * c)).transpose()?;
        let excess = integers::sizes(run.isa).excess;
        let zero = (l.zero as i8).cast_unsigned().wrapping_add(excess);
        let mut before = None;
        for row in 0..to.len() / pitch {
            let (done, to) = to.split_at_mut(row * pitch);
            let to = &mut to[..pitch];
            let inside = (first + row).checked_sub(s.padding.top).filter(|y| *y < s.height).map(|y| y / self.upsample);
            let again = before == Some(inside);
            before = Some(inside);
            if again {
                // The same row once more, upsampled or of padding.
                to.copy_from_slice(&done[done.len() - pitch..]);
                continue;
            }
            let Some(y) = inside else {
                to.fill(zero);
                continue;
            };
            let (left, rest) = to.split_at_mut(s.padding.left * c);
            let (middle, right) = rest.split_at_mut((s.width * c).min(rest.len()));
            left.fill(zero);
            right.fill(zero);
            let mut done = 0;
            for v in &*self.sources {
                let rows = self.rows(run, v, v.positions(), v.channels)?;
                let fits = v.width * self.upsample == s.width && y < v.height && done + v.channels <= c;
                ensure!(fits, Shape, "a source of {}x{} for an input of {}x{}", v.height, v.width, s.height, s.width);
                let norm =
                    |at: usize| affine.map_or(core::ptr::null(), |a| a.at(sample, at + done).cast_const().cast());
                let line = Line {
                    input: rows.at(sample * v.positions() + y * v.width, 0),
                    half: v.half,
                    stride: v.stride,
                    out: middle.as_mut_ptr().wrapping_add(done),
                    out_stride: c,
                    pixels: v.width,
                    channels: v.channels,
                    repeat: self.upsample,
                    scale: norm(0),
                    shift: norm(c),
                    silu: self.silu,
                    inverse: l.inverse,
                    zero: l.zero,
                    magic: MAGIC + f32::from(excess),
                };
                // SAFETY: the sizes were checked above.
                unsafe { line_raw(run.isa, &line) };
                done += v.channels;
            }
            ensure!(done == c, Shape, "sources of {done} channels, expected {c}");
        }
        Ok(())
    }

    /// Rows and columns of a sample's result.
    fn task(
        &self,
        run: &Run<'_>,
        sample: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        own: &mut [f32],
    ) -> Result<()> {
        let (l, stride) = (&self.layer, self.layer.shape.stride[0]);
        let (pitch, (_, most)) = (l.pitch(), l.strips());
        let have = size_of_val(own);
        // SAFETY: floats are bytes, and any bytes are floats.
        let bytes = unsafe { core::slice::from_raw_parts_mut(own.as_mut_ptr().cast::<u8>(), have) };
        if l.tile_rows > 0 {
            return self.tiles(run, sample, rows, columns, bytes);
        }
        // Rows of the padded input that are there.
        let mut made: Range<usize> = 0..0;
        for first in rows.clone().step_by(most) {
            run.cancel.check()?;
            let last = (first + most).min(rows.end);
            let need = first * stride..first * stride + l.rows_for(last - first);
            ensure!(need.len() * pitch <= have, Shape, "{have} bytes for {} rows of {pitch}", need.len());
            // What the strip before needed too is at its end.
            let again = made.end.saturating_sub(need.start.max(made.start)).min(need.len());
            if again > 0 {
                let from = (need.start - made.start) * pitch;
                bytes.copy_within(from..from + again * pitch, 0);
            }
            let input = &mut bytes[..need.len() * pitch];
            self.gather(run, sample, need.start + again, &mut input[again * pitch..])?;
            made = need;
            self.multiply(run, sample, first..last, columns.clone(), input)?;
        }
        Ok(())
    }

    /// Rows and columns of a sample's result, from the padded input that the rows need.
    fn multiply(
        &self,
        run: &Run<'_>,
        sample: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        input: &[u8],
    ) -> Result<()> {
        let (l, s) = (&self.layer, &self.layer.shape);
        let (pitch, [oh, ow]) = (l.pitch(), l.out_size);
        let k = s.in_channels * s.kernel[0] * s.kernel[1];
        let (weights, place, mut f) = self.ends(run)?;
        let sizes = integers::sizes(run.isa);
        let mut sums = [0; MOST_ROWS * MOST_COLUMNS];
        f.sums = sums.as_ptr();
        let pixels = rows.len() * ow;
        // As even as can be.
        let tiles = pixels.div_ceil(sizes.rows);
        let height = pixels.div_ceil(tiles.max(1)).max(1);
        let isa = if sizes.columns <= 8 { run.isa.of_eight_lanes() } else { run.isa };
        let steps = [s.stride[0] * pitch, s.stride[1] * s.in_channels];
        for column in columns.clone().step_by(sizes.columns) {
            self.columns_from(run, sample, column, &place, &mut f);
            // Where the next pixel and its row begin, and which of the row it is.
            let [mut next, mut begin] = [input.as_ptr(); 2];
            let mut x = 0;
            for pixel in (0..pixels).step_by(height) {
                f.rows = height.min(pixels - pixel);
                let mut a = [next; MOST_ROWS];
                // The first row again, where there are not enough.
                let a_of_tile = a.iter_mut().take(f.rows);
                if x + f.rows < ow {
                    for a in a_of_tile {
                        *a = next;
                        next = next.wrapping_add(steps[1]);
                    }
                    x += f.rows;
                } else {
                    for a in a_of_tile {
                        *a = next;
                        next = next.wrapping_add(steps[1]);
                        x += 1;
                        if x == ow {
                            begin = begin.wrapping_add(steps[0]);
                            (next, x) = (begin, 0);
                        }
                    }
                }
                let row = (sample * oh + rows.start) * ow + pixel;
                (f.out, f.residual) = (place.out.from(row, column), place.residual.map(|v| v.from(row, column)));
                let b = weights.wrapping_add(column * k);
                let (to, width) = (sums.as_mut_ptr(), f.width);
                let tile = Tile { a, segments: &l.segments, b, sums: to, rows: f.rows, width };
                // SAFETY: the padded rows are those that these pixels need, the weights were found to be all there, the
                // rows of result, residual and channel value inside the arena; these rows and columns of the result are
                // this task's.
                unsafe {
                    ask_raw(isa, &f);
                    integers::run(run.isa, &tile);
                    self.finish(isa, &mut f);
                }
            }
        }
        Ok(())
    }

    /// The weights, all of them, where results go, and what becomes of sums but for their columns.
    fn ends(&self, run: &Run<'_>) -> Result<(*const i8, Place, Finish)> {
        let (l, s) = (&self.layer, &self.layer.shape);
        let ([oh, ow], cout) = (l.out_size, s.out_channels);
        let out = self.rows(run, &self.out, oh * ow, cout)?;
        let residual = self.residual.as_ref().map(|v| self.rows(run, v, oh * ow, cout)).transpose()?;
        let channel = self.channel.as_ref().map(|v| self.rows(run, v, 1, cout)).transpose()?;
        let k = s.in_channels * s.kernel[0] * s.kernel[1];
        let n = integers::sizes(run.isa).padded(cout);
        let n = n.ok_or_else(|| err!(Shape, "{cout} output channels are too many"))?;
        let fits = l.weights.len() * 4 >= n * k && l.columns.len() >= 3 * n;
        ensure!(fits, Shape, "{} weights for {k} x {n}", l.weights.len() * 4);
        let f = Finish {
            sums: core::ptr::null(),
            width: 0,
            rows: 0,
            n: 0,
            factor: core::ptr::null(),
            offset: core::ptr::null(),
            bias: core::ptr::null(),
            channel: core::ptr::null(),
            residual: None,
            scale: self.scale,
            values: (self.activation != Activation::Identity).then_some([0.0; MOST_ROWS * MOST_COLUMNS]),
            out,
        };
        Ok((l.weights.as_ptr().cast(), Place { out, residual, channel, n }, f))
    }

    /// Has the sums be of the panel that begins with `column`.
    fn columns_from(&self, run: &Run<'_>, sample: usize, column: usize, place: &Place, f: &mut Finish) {
        let (sizes, cout) = (integers::sizes(run.isa), self.layer.shape.out_channels);
        f.width = sizes.width(cout - column);
        f.n = sizes.columns.min(cout - column);
        let of = |i: usize| self.layer.columns.as_ptr().wrapping_add(i * place.n + column);
        (f.factor, f.offset, f.bias) = (of(0), of(1).cast(), of(2));
        f.channel = place.channel.map_or(core::ptr::null(), |c| c.at(sample, column).cast_const().cast());
    }

    /// Makes results of sums.
    ///
    /// # Safety
    /// `f` has the sums, and what it refers to is inside the arena; the results are the caller's alone.
    unsafe fn finish(&self, isa: Isa, f: &mut Finish) {
        // SAFETY: the caller's contract.
        unsafe {
            finish_raw(isa, f);
            if let Some(values) = &mut f.values {
                activate(isa, self.activation, &mut values[..f.rows * f.width]);
                store_raw(isa, f);
            }
        }
    }

    /// Multiplications for one sample.
    fn products(&self) -> usize {
        let s = &self.layer.shape;
        let all = [s.out_channels, s.kernel[0], s.kernel[1], self.out.positions()];
        all.iter().fold(s.in_channels, |a, &b| a.saturating_mul(b))
    }

    /// Into how many parts the rows of a sample's result, and its panels of columns, are cut. A cut between rows costs
    /// a few rows of input that are made twice, one between columns all of them.
    fn cut(&self, run: &Run<'_>) -> [usize; 2] {
        let l = &self.layer;
        let [oh, ow] = l.out_size;
        let panels = l.shape.out_channels.div_ceil(integers::sizes(run.isa).columns);
        let want = run.workers.div_ceil(run.batch.max(1));
        // Two for each where that is long enough, as a worker may be held up.
        let many = if run.workers > 1 && self.products() / want >= LONG { 2 * want } else { want };
        let rows = many.min(oh * ow / ENOUGH).min(oh).max(1);
        [rows, want.div_ceil(rows).min(panels)]
    }
}

impl Step for IntegerConv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn own(&self, _batch: usize, workers: usize) -> Option<usize> {
        self.layer.scratch().checked_mul(workers)
    }

    fn weight_bytes(&self) -> usize {
        (self.layer.weights.len() + self.layer.columns.len()) * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let (scratch, oh) = (self.layer.scratch(), self.layer.out_size[0]);
        let s = &self.layer.shape;
        let cost = self.products().saturating_mul(run.batch) / 16;
        let wide = integers::sizes(run.isa).columns;
        let [rows, columns] = self.cut(run);
        let panels = s.out_channels.div_ceil(wide);
        let part = |i: usize, parts: usize, of: usize| of * i / parts..of * (i + 1) / parts;
        run.each(cost, rows * columns * run.batch, &|worker, i| {
            let (sample, part_of) = (i / (rows * columns), i % (rows * columns));
            // SAFETY: one worker number is one thread's at a time.
            let own = unsafe { run.memory.own(worker * scratch, scratch).part(0, scratch) };
            let of = part(part_of % columns, columns, panels);
            let of = of.start * wide..(of.end * wide).min(s.out_channels);
            self.task(run, sample, part(part_of / columns, rows, oh), of, own)
        })
    }
}
