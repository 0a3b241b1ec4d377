//! The gradient of an activated group norm, in two passes over some channels of a sample that stay in a core's cache; a
//! third before them makes the statistics where the norm has not kept them.
//!
//! With x^ = x - mean, r the inverse deviation of a group, u = x a + b the norm's value, modulated, as
//! [`norm`](super::norm) makes it, and g = dy f'(u) weight m: `dx = r (g - mean(g) - x^ r^2 mean(g x^))`. Sums over
//! [`BLOCK`] rows are in f32, those and everything else about a group in f64.
#![allow(unsafe_code)] // Calls the generic vector code on columns of the arena.

use alloc::vec::Vec;

use super::super::aligned::AlignedBuf;
use super::super::aligned::SharedMut;
use super::super::memory::View;
use super::super::simd::{Simd, dispatch};
use super::super::vmath::slope_v;
use super::norm::{BLOCK, COLUMNS, Columns, Source, Statistics, Sums, groups_per_task};
use super::{Run, Step};
use crate::error::{Result, ensure};
use crate::graph::Activation;

/// [`FusedNormGrad`](crate::graph::Op::FusedNormGrad) and, with nothing around it,
/// [`GroupNormGrad`](crate::graph::Op::GroupNormGrad).
#[derive(Debug)]
pub(in super::super) struct NormGrad {
    /// What is concatenated along channels.
    pub sources: Vec<View>,
    /// Factors and offsets `[C]` that are applied to the normalised value: m and s.
    pub modulation: Option<[View; 2]>,
    pub dy: View,
    pub residual: Option<View>,
    pub out: View,
    pub activation: Option<Activation>,
    pub groups: usize,
    pub eps: f32,
    pub weight: AlignedBuf,
    pub bias: AlignedBuf,
    /// Where the norm has kept its groups' statistics, if it has; they are computed again otherwise.
    pub statistics: Option<View>,
}

/// What is known of a group.
#[derive(Clone, Copy, Default)]
struct Group {
    of: Statistics,
    /// Sums of g and of g x^.
    g: f64,
    gx: f64,
}

/// Some channels of one source.
#[derive(Clone, Copy)]
struct Piece<'a> {
    source: Source<'a>,
    /// The first of them in the source, and in the concatenation.
    from: usize,
    channel: usize,
    n: usize,
}

impl Step for NormGrad {
    fn name(&self) -> &'static str {
        "norm_grad"
    }

    fn weight_bytes(&self) -> usize {
        (self.weight.len() + self.bias.len()) * size_of::<f32>()
    }

    fn run(&self, run: &Run<'_>) -> Result<()> {
        let channels = self.weight.len();
        let per_group = (channels / self.groups.max(1)).max(1);
        let groups_per_task = groups_per_task(run, self.groups, per_group);
        let tasks = self.groups.div_ceil(groups_per_task);
        let cost = self.out.positions().saturating_mul(channels).saturating_mul(run.batch);
        run.each(cost, tasks * run.batch, &|_, i| {
            let (sample, first) = (i / tasks, i % tasks * groups_per_task);
            let last = (first + groups_per_task).min(self.groups);
            self.groups_of(run, sample, [first, last], per_group)
        })
    }
}

impl NormGrad {
    /// Calls `f` for the channels `begin .. end`, at most [`COLUMNS`] of one source at a time.
    fn pieces(
        &self,
        run: &Run<'_>,
        sample: usize,
        [begin, end]: [usize; 2],
        mut f: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let (mut channel, mut first) = (begin, 0);
        for view in &self.sources {
            let last = first + view.channels;
            // SAFETY: the plan keeps arguments unwritten while a step reads them.
            let source = Source { data: unsafe { run.memory.read_samples(view, sample, 1) }, view: *view };
            while channel < end.min(last) {
                let n = (end.min(last) - channel).min(COLUMNS);
                f(Piece { source, from: channel - first, channel, n })?;
                channel += n;
            }
            first = last;
        }
        Ok(())
    }

    fn groups_of(&self, run: &Run<'_>, sample: usize, [first, last]: [usize; 2], per_group: usize) -> Result<()> {
        let rows = self.out.positions();
        let count = (per_group * rows) as f64;
        let range = [first * per_group, last * per_group];
        let mut groups = [Group::default(); COLUMNS];
        let of = |channel: usize| (channel / per_group - first).min(COLUMNS - 1);
        match &self.statistics {
            Some(view) => {
                // SAFETY: the plan keeps them unwritten from the norm to this step.
                let (kept, _) = unsafe { run.memory.read_samples(view, sample, 1) }.as_chunks();
                let kept = kept.get(first..last).unwrap_or(&[]);
                groups.iter_mut().zip(kept).for_each(|(g, kept)| g.of = Statistics::from_floats(*kept));
            }
            None => self.statistics(run, sample, range, &of, &mut groups)?,
        }
        self.pieces(run, sample, range, |p| {
            let mut at = self.place(run, sample, rows, &p)?;
            self.factors(run, sample, &p, |c| groups[of(c)].of, &mut at);
            // SAFETY: `place` found all rows inside their buffers, and these channels of the result are this task's.
            unsafe { slopes_raw(run.isa, &mut at, self.activation) };
            for i in 0..p.n {
                let g = &mut groups[of(p.channel + i)];
                g.g += at.sum[i];
                g.gx += at.sum_x[i];
            }
            Ok(())
        })?;
        self.pieces(run, sample, range, |p| {
            let mut at = self.place(run, sample, rows, &p)?;
            for i in 0..p.n {
                let g = groups[of(p.channel + i)];
                let r = g.of.r;
                at.mean[i] = g.of.mean as f32;
                at.a[i] = r as f32;
                at.b[i] = (-r * g.g / count) as f32;
                at.weight[i] = (-r * r * r * g.gx / count) as f32;
            }
            // SAFETY: as above.
            unsafe { combine_raw(run.isa, &at) };
            Ok(())
        })
    }

    /// The statistics of some groups, from the norm's arguments, in the bits that the norm would have kept; `of` is the
    /// group of a channel.
    fn statistics(
        &self,
        run: &Run<'_>,
        sample: usize,
        range: [usize; 2],
        of: &impl Fn(usize) -> usize,
        groups: &mut [Group; COLUMNS],
    ) -> Result<()> {
        let (rows, per_group) = (self.out.positions(), self.weight.len() / self.groups);
        let mut sums = [Sums::default(); COLUMNS];
        self.pieces(run, sample, range, |p| {
            let mut columns = Columns::default();
            p.source.columns(run, 0, rows, p.from, p.n, &mut columns)?;
            for (i, (mean, deviation)) in columns.mean.iter().zip(&columns.deviation).take(p.n).enumerate() {
                let sums = &mut sums[of(p.channel + i)];
                sums.mean += mean;
                sums.square += mean * mean;
                sums.deviation += deviation;
            }
            Ok(())
        })?;
        for (group, sums) in groups.iter_mut().zip(&sums) {
            let kept = Statistics::new(sums, per_group, rows, self.eps).to_floats();
            group.of = Statistics::from_floats(kept);
        }
        Ok(())
    }

    /// Where a piece lies.
    fn place(&self, run: &Run<'_>, sample: usize, rows: usize, p: &Piece<'_>) -> Result<Place> {
        // SAFETY: the plan gives the result to this step alone and keeps the arguments unwritten.
        let (dy, residual, out) = unsafe {
            (
                run.memory.read_samples(&self.dy, sample, 1),
                self.residual.as_ref().map(|v| (run.memory.read_samples(v, sample, 1), v.stride)),
                run.memory.write_samples(&self.out, sample, 1),
            )
        };
        let inside = |len: usize, stride: usize, at: usize| rows > 0 && at + (rows - 1) * stride + p.n <= len;
        let (x, c) = (p.source, p.channel);
        ensure!(
            p.n <= COLUMNS
                && inside(x.data.len(), x.view.stride, p.from)
                && inside(dy.len(), self.dy.stride, c)
                && inside(out.len(), self.out.stride, c)
                && residual.is_none_or(|(data, stride)| inside(data.len(), stride, c)),
            Shape,
            "{rows} rows of {} channels are not inside their buffer",
            p.n
        );
        let at = |data: &[f32], i: usize| data.as_ptr().wrapping_add(i);
        Ok(Place {
            x: (at(x.data, p.from), x.view.stride),
            dy: (at(dy, c), self.dy.stride),
            residual: residual.map_or((core::ptr::null(), 0), |(data, stride)| (at(data, c), stride)),
            out: (out_ptr(out, c), self.out.stride),
            rows,
            n: p.n,
            mean: [0.0; COLUMNS],
            a: [0.0; COLUMNS],
            b: [0.0; COLUMNS],
            weight: [0.0; COLUMNS],
            sum: [0.0; COLUMNS],
            sum_x: [0.0; COLUMNS],
        })
    }

    /// The factors of u and of g.
    fn factors(
        &self,
        run: &Run<'_>,
        sample: usize,
        p: &Piece<'_>,
        group: impl Fn(usize) -> Statistics,
        at: &mut Place,
    ) {
        for i in 0..p.n {
            let c = p.channel + i;
            let g = group(c);
            let (m, s) = match &self.modulation {
                None => (1.0, 0.0),
                Some([m, s]) => {
                    let at = |v: &View| {
                        // SAFETY: the plan keeps arguments unwritten while a step reads them.
                        let data = unsafe { run.memory.read_samples(v, sample, 1) };
                        data.get(c).copied().map_or(f64::NAN, f64::from)
                    };
                    (at(m), at(s))
                }
            };
            let (w, bias) = (f64::from(self.weight[c]), f64::from(self.bias[c]));
            let factor = w * g.r;
            at.mean[i] = g.mean as f32;
            at.a[i] = (factor * m) as f32;
            at.b[i] = ((bias - g.mean * factor) * m + s) as f32;
            at.weight[i] = (w * m) as f32;
        }
    }
}

fn out_ptr(out: SharedMut<'_>, i: usize) -> *mut f32 {
    out.as_ptr().wrapping_add(i)
}

/// `rows` rows of `n <= COLUMNS` floats of each, pointer and floats from one row to the next, and numbers for each
/// column.
struct Place {
    x: (*const f32, usize),
    dy: (*const f32, usize),
    /// Null if there is none.
    residual: (*const f32, usize),
    out: (*mut f32, usize),
    rows: usize,
    n: usize,
    mean: [f32; COLUMNS],
    a: [f32; COLUMNS],
    b: [f32; COLUMNS],
    weight: [f32; COLUMNS],
    sum: [f64; COLUMNS],
    sum_x: [f64; COLUMNS],
}

/// Calls `f` for the columns of a place, a vector of [`BLOCK`] rows at a time, so that the vectors of a cache line
/// follow each other before it is gone.
macro_rules! by_vectors {
    ($f:ident, $p:ident $(, $more:expr)?) => {{
        let mut row = 0;
        while row < $p.rows {
            let (end, mut c) = ((row + BLOCK).min($p.rows), 0);
            while c < $p.n {
                let n = ($p.n - c).min(S::LANES);
                // What is known where it is compiled makes loops without a question in them.
                match n == S::LANES {
                    true => $f::<S>($p, [row, end], c, S::LANES $(, $more)?),
                    false => $f::<S>($p, [row, end], c, n $(, $more)?),
                }
                c += n;
            }
            row = end;
        }
    }};
}

/// The derivative of what follows the norm. Not a closure, since one that is not inlined would be compiled without the
/// path's instructions.
trait Slope: Copy {
    unsafe fn at<S: Simd>(self, u: S::V) -> S::V;
}

/// Nothing follows.
#[derive(Clone, Copy)]
struct One;

impl Slope for One {
    #[inline(always)]
    unsafe fn at<S: Simd>(self, _: S::V) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { S::splat(1.0) }
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Slope for Silu {
    #[inline(always)]
    unsafe fn at<S: Simd>(self, u: S::V) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { slope_v::<S>(Activation::Silu, u) }
    }
}

impl Slope for Activation {
    #[inline(always)]
    unsafe fn at<S: Simd>(self, u: S::V) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { slope_v::<S>(self, u) }
    }
}

/// `out = g`, and its sums for each column.
#[inline(always)]
unsafe fn slopes_body<S: Simd>(p: &mut Place, f: Option<Activation>) {
    // SAFETY: the caller's contract.
    unsafe {
        match f {
            None => by_vectors!(slope_columns, p, One),
            // A loop of its own, so that none is chosen within.
            Some(Activation::Silu) => by_vectors!(slope_columns, p, Silu),
            // The others are long and rare after a norm: one copy of them.
            Some(f) => by_vectors!(slope_columns, p, f),
        }
    }
}
dispatch! {
    /// # Safety
    /// The rows of `p` lie in memory that this thread may read, and write for `out`.
    unsafe fn slopes_raw = slopes_body(p: &mut Place, f: Option<Activation>)
}

/// Means, a, b and weights of the `n` columns from `c` on, at most one vector.
#[inline(always)]
unsafe fn column_values<S: Simd>(p: &Place, c: usize, n: usize) -> [S::V; 4] {
    // SAFETY: the caller gives c + n <= COLUMNS.
    unsafe {
        [
            S::load_most(p.mean.as_ptr().add(c), n),
            S::load_most(p.a.as_ptr().add(c), n),
            S::load_most(p.b.as_ptr().add(c), n),
            S::load_most(p.weight.as_ptr().add(c), n),
        ]
    }
}

/// The `n` columns from `c` on, at most one vector, of at most [`BLOCK`] rows.
#[inline(always)]
unsafe fn slope_columns<S: Simd>(p: &mut Place, [first, end]: [usize; 2], c: usize, n: usize, slope: impl Slope) {
    // SAFETY: c + n <= p.n <= COLUMNS, rows below p.rows.
    unsafe {
        let [mean, a, b, weight] = column_values::<S>(p, c, n);
        let (mut s, mut sx) = (S::zero(), S::zero());
        for row in first..end {
            let x = S::load_most(p.x.0.add(row * p.x.1 + c), n);
            let dy = S::load_most(p.dy.0.add(row * p.dy.1 + c), n);
            let g = S::mul(S::mul(dy, weight), slope.at::<S>(S::mul_add(x, a, b)));
            s = S::add(s, g);
            sx = S::mul_add(g, S::sub(x, mean), sx);
            S::store_most(p.out.0.add(row * p.out.1 + c), n, g);
        }
        let (s, sx) = (S::to_array(s), S::to_array(sx));
        for lane in 0..n {
            p.sum[c + lane] += f64::from(s[lane]);
            p.sum_x[c + lane] += f64::from(sx[lane]);
        }
    }
}

/// `out = out a + (x - mean) weight + b + residual`.
#[inline(always)]
unsafe fn combine_body<S: Simd>(p: &Place) {
    // SAFETY: the caller's contract.
    unsafe { by_vectors!(combine_columns, p) }
}

#[inline(always)]
unsafe fn combine_columns<S: Simd>(p: &Place, [first, end]: [usize; 2], c: usize, n: usize) {
    // SAFETY: as in `slope_columns`.
    unsafe {
        let [mean, a, b, weight] = column_values::<S>(p, c, n);
        for row in first..end {
            let x = S::sub(S::load_most(p.x.0.add(row * p.x.1 + c), n), mean);
            let to = p.out.0.add(row * p.out.1 + c);
            let mut sum = S::mul_add(S::load_most(to, n), a, S::mul_add(x, weight, b));
            if !p.residual.0.is_null() {
                sum = S::add(sum, S::load_most(p.residual.0.add(row * p.residual.1 + c), n));
            }
            S::store_most(to, n, sum);
        }
    }
}
dispatch! {
    /// # Safety
    /// As [`slopes_raw`].
    unsafe fn combine_raw = combine_body(p: &Place)
}
