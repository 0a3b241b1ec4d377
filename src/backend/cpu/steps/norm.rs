//! The statistics of group normalisation.
//!
//! Each channel's mean and squared deviation are taken around its first value, so that a mean that is large against the
//! deviation costs no digits: sums of at most [`BLOCK`] values in f32, those sums and everything after in f64. The
//! order depends on the shape alone. The relative error of the factors is below 1e-6 for any mean up to 1e4 times the
//! deviation.
#![allow(unsafe_code)] // Calls the generic vector code on columns of the arena.

use alloc::borrow::Cow;

use super::super::aligned::Floats;
use super::super::aligned::SharedMut;
use super::super::halves;
use super::super::isa::Path;
use super::super::memory::View;
use super::super::simd::{Simd, dispatch, unroll};
use super::{Run, Step};
use crate::error::{Result, ensure};

/// Rows that are summed in f32.
pub(super) const BLOCK: usize = 64;

/// Columns that are summed at once: four vectors of 16 lanes.
pub(super) const COLUMNS: usize = 64;

/// [`GroupNormAffine`](crate::graph::Op::GroupNormAffine): `[2 * C]` factors and offsets for each sample.
#[derive(Debug)]
pub struct GroupNormAffine {
    /// What is concatenated along channels.
    pub sources: Cow<'static, [View]>,
    /// Factors and offsets `[C]` that are applied to the normalised value: m and s.
    pub modulation: Option<[View; 2]>,
    pub out: View,
    pub groups: usize,
    pub eps: f32,
    pub weight: Floats,
    pub bias: Floats,
    /// Where `Statistics` of the groups are kept for the gradient.
    pub statistics: Option<View>,
}

/// What a norm knows of a group.
#[derive(Clone, Copy, Default)]
pub(in super::super) struct Statistics {
    pub mean: f64,
    /// The inverse deviation.
    pub r: f64,
}

impl Statistics {
    /// Floats that they are kept in.
    pub const FLOATS: usize = 4;

    /// Of the sums of a group's channels, each of so many positions.
    pub(super) fn new(sums: &Sums, channels: usize, positions: usize, eps: f32) -> Self {
        let (n, rows) = (channels as f64, positions as f64);
        let mean = sums.mean / n;
        // The channels' own deviations, and that of their means. f64 has digits to spare for this difference.
        let between = (sums.square - n * mean * mean).max(0.0) * rows;
        let variance = (sums.deviation + between) / (n * rows);
        Self { mean, r: 1.0 / libm::sqrt(variance + f64::from(eps)) }
    }

    /// Each in two parts, that together have its digits.
    pub fn to_floats(self) -> [f32; Self::FLOATS] {
        let low = |x: f64| (x - f64::from(x as f32)) as f32;
        [self.mean as f32, low(self.mean), self.r as f32, low(self.r)]
    }

    pub fn from_floats([mean, mean_low, r, r_low]: [f32; Self::FLOATS]) -> Self {
        Self { mean: f64::from(mean) + f64::from(mean_low), r: f64::from(r) + f64::from(r_low) }
    }
}

/// The groups that a task takes: of [`COLUMNS`] channels, or of fewer whole cache lines where workers would have
/// nothing to do otherwise. What is computed for a group does not depend on it.
pub(super) fn groups_per_task(run: &Run<'_>, groups: usize, per_group: usize) -> usize {
    let of = |columns: usize| (columns / per_group.max(1)).max(1);
    // The groups that the busiest worker gets.
    let longest = |each: usize| groups.div_ceil(each).saturating_mul(run.batch).div_ceil(run.workers.max(1)) * each;
    // The first of the best.
    [COLUMNS, COLUMNS / 2, COLUMNS / 4].map(of).into_iter().min_by_key(|&each| longest(each)).unwrap_or(1)
}

/// One source's floats.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub data: &'a [f32],
    pub view: View,
}

impl Step for GroupNormAffine {
    fn name(&self) -> &'static str {
        "group_norm_affine"
    }

    fn weight_bytes(&self) -> usize {
        (self.weight.len() + self.bias.len()) * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let channels = self.weight.len();
        let per_group = channels / self.groups.max(1);
        let positions = self.sources.first().map_or(0, View::positions);
        // SAFETY: the plan gives this step's result to this step alone.
        let out = unsafe { run.memory.write(&self.out) };
        let groups_per_task = groups_per_task(run, self.groups, per_group);
        let tasks = self.groups.div_ceil(groups_per_task);
        let cost = positions.saturating_mul(channels).saturating_mul(run.batch);
        run.each(cost, tasks * run.batch, &|_, i| {
            let (sample, first) = (i / tasks, i % tasks * groups_per_task);
            let last = (first + groups_per_task).min(self.groups);
            self.groups_of(run, sample, first, last, positions, out)
        })
    }
}

impl GroupNormAffine {
    fn groups_of(
        &self,
        run: &Run<'_>,
        sample: usize,
        first: usize,
        last: usize,
        positions: usize,
        out: SharedMut<'_>,
    ) -> Result<()> {
        let channels = self.weight.len();
        let per_group = channels / self.groups;
        let (mut channel, end) = (first * per_group, last * per_group);
        let mut sums = Sums::default();
        let mut source_begin = 0;
        for view in &*self.sources {
            let source_end = source_begin + view.channels;
            // SAFETY: the plan keeps arguments unwritten while a step reads them.
            let source = Source { data: unsafe { run.memory.read(view) }, view: *view };
            while channel < end.min(source_end) {
                let n = (end.min(source_end) - channel).min(COLUMNS);
                let mut columns = Columns::default();
                source.columns(run, sample * positions, positions, channel - source_begin, n, &mut columns)?;
                for (mean, deviation) in columns.mean.iter().zip(&columns.deviation).take(n) {
                    sums.mean += mean;
                    sums.square += mean * mean;
                    sums.deviation += deviation;
                    channel += 1;
                    if channel % per_group == 0 {
                        self.finish(run, sample, channel - per_group, channel, positions, &sums, out);
                        sums = Sums::default();
                    }
                }
            }
            source_begin = source_end;
        }
        Ok(())
    }

    /// Turns the sums of the group `begin .. end` into factors and offsets.
    #[expect(clippy::too_many_arguments, reason = "the coordinates of one group")]
    fn finish(
        &self,
        run: &Run<'_>,
        sample: usize,
        begin: usize,
        end: usize,
        positions: usize,
        sums: &Sums,
        out: SharedMut<'_>,
    ) {
        let channels = self.weight.len();
        let of = Statistics::new(sums, end - begin, positions, self.eps);
        let Statistics { mean, r: inverse } = of;
        if let Some(view) = &self.statistics {
            let at = sample * view.stride + begin / (end - begin) * Statistics::FLOATS;
            // SAFETY: the plan gives the statistics to this step alone, and a group's are one task's.
            let kept = unsafe { run.memory.write(view).part(at, Statistics::FLOATS) };
            kept.copy_from_slice(&of.to_floats());
        }
        // SAFETY: a group's factors and offsets are one task's.
        let (a, b) = unsafe {
            let row = sample * self.out.stride;
            (out.part(row + begin, end - begin), out.part(row + channels + begin, end - begin))
        };
        let params = self.weight[begin..end].iter().zip(&self.bias[begin..end]);
        for (i, ((a, b), (w, bias))) in a.iter_mut().zip(b).zip(params).enumerate() {
            let factor = f64::from(*w) * inverse;
            let offset = f64::from(*bias) - mean * factor;
            let (m, s) = match &self.modulation {
                None => (1.0, 0.0),
                Some([m, s]) => {
                    let at = |v: &View| {
                        // SAFETY: the plan keeps arguments unwritten while a step reads them.
                        let data = unsafe { run.memory.read(v) };
                        data.get(sample * v.stride + begin + i).copied().map_or(f64::NAN, f64::from)
                    };
                    (at(m), at(s))
                }
            };
            *a = (factor * m) as f32;
            *b = (offset * m + s) as f32;
        }
    }
}

/// Sums over the channels of a group.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    /// Of the channels' means.
    pub mean: f64,
    /// Of their squares.
    pub square: f64,
    /// Of the channels' squared deviations from their own means.
    pub deviation: f64,
}

/// Mean and sum of squared deviations from it, for each of some channels.
pub(super) struct Columns {
    pub mean: [f64; COLUMNS],
    pub deviation: [f64; COLUMNS],
}

impl Default for Columns {
    fn default() -> Self {
        Self { mean: [0.0; COLUMNS], deviation: [0.0; COLUMNS] }
    }
}

impl Source<'_> {
    /// The columns `from .. from + n` (at most [`COLUMNS`]) of `rows` rows from `first` on.
    pub fn columns(
        &self,
        run: &Run<'_>,
        first: usize,
        rows: usize,
        from: usize,
        n: usize,
        columns: &mut Columns,
    ) -> Result<()> {
        let stride = self.view.stride;
        let begin = first * stride + from;
        let half = self.view.half;
        let have = if half { 2 * self.data.len() } else { self.data.len() };
        let inside = rows > 0 && begin + (rows - 1) * stride + n <= have;
        ensure!(inside && n <= COLUMNS, Shape, "{rows} rows of {n} channels are not inside their buffer");
        // SAFETY: the rows were found inside the slice.
        unsafe {
            let x = self.data.as_ptr().cast::<u8>().add(begin * if half { 2 } else { 4 });
            columns_raw(run.isa, x, half, stride, rows, n, columns);
        }
        Ok(())
    }
}

/// A vector of columns at a time: rows follow each other fast enough that more at once gain nothing. Of bf16 two, where
/// those are a cache line, and with NEON, whose vectors are short.
#[inline(always)]
unsafe fn columns_body<S: Simd>(x: *const u8, half: bool, stride: usize, rows: usize, n: usize, columns: &mut Columns) {
    let mut c = 0;
    while c < n {
        let width = (n - c).min(S::LANES);
        // SAFETY: c + width <= n, and the caller's contract: `rows` rows of n values, `stride` apart, at x. What is
        // known where it is compiled makes loops without a question in them.
        unsafe {
            if half && (S::LANES == 16 || matches!(S::PATH, Path::Neon)) && n - c >= 2 * S::LANES {
                vectors::<S, true, 2>(x.add(2 * c), stride, rows, S::LANES, c, columns);
                c += 2 * S::LANES;
                continue;
            }
            match (half, width == S::LANES) {
                (true, true) => vectors::<S, true, 1>(x.add(2 * c), stride, rows, S::LANES, c, columns),
                (true, false) => vectors::<S, true, 1>(x.add(2 * c), stride, rows, width, c, columns),
                (false, true) => vectors::<S, false, 1>(x.add(4 * c), stride, rows, S::LANES, c, columns),
                (false, false) => vectors::<S, false, 1>(x.add(4 * c), stride, rows, width, c, columns),
            }
        }
        c += width;
    }
}
dispatch! {
    unsafe fn columns_raw = columns_body(
        x: *const u8, half: bool, stride: usize, rows: usize, n: usize, columns: &mut Columns
    )
}

/// `NV` vectors of `n` columns each.
#[inline(always)]
unsafe fn vectors<S: Simd, const HALF: bool, const NV: usize>(
    x: *const u8,
    stride: usize,
    rows: usize,
    n: usize,
    at: usize,
    columns: &mut Columns,
) {
    let (mut sum, mut square) = ([[0f64; 16]; NV], [[0f64; 16]; NV]);
    // SAFETY: the caller's contract: `rows` rows of n values, `stride` apart, at x.
    unsafe {
        let mut pivot = [S::zero(); NV];
        unroll!(j in NV => { pivot[j] = halves::load::<S>(x, HALF, j * S::LANES, n) });
        let mut row = 0;
        while row < rows {
            let (mut s1, mut s2) = ([S::zero(); NV], [S::zero(); NV]);
            let end = (row + BLOCK).min(rows);
            while row < end {
                unroll!(j in NV => {
                    let d = S::sub(halves::load::<S>(x, HALF, row * stride + j * S::LANES, n), pivot[j]);
                    s1[j] = S::add(s1[j], d);
                    s2[j] = S::mul_add(d, d, s2[j]);
                });
                row += 1;
            }
            unroll!(j in NV => {
                let (s1, s2) = (S::to_array(s1[j]), S::to_array(s2[j]));
                for lane in 0..S::LANES {
                    sum[j][lane] += f64::from(s1[lane]);
                    square[j][lane] += f64::from(s2[lane]);
                }
            });
        }
        let count = rows as f64;
        for j in 0..NV {
            let (pivot, sum, square) = (S::to_array(pivot[j]), &sum[j], &square[j]);
            let to = columns.mean.iter_mut().zip(&mut columns.deviation).skip(at + j * S::LANES);
            for (lane, (mean, deviation)) in to.take(n).enumerate() {
                *mean = f64::from(pivot[lane]) + sum[lane] / count;
                *deviation = (square[lane] - sum[lane] * sum[lane] / count).max(0.0);
            }
        }
    }
}
