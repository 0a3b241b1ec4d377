//! Convolutions and linear layers: weights packed once, tasks that any threads may run in any order.
//!
//! A convolution reads a zero-padded channels-last tensor, which [`gather`](super::gather) makes (a tensor without
//! padding, such as the input of a 1x1 convolution, is read where it lies). The output pixels of the whole batch form
//! one list; a task is a run of them times one panel of output channels. For each output the sum runs over (ky, kx,
//! channel) in that order, whatever the batch, the tasks and the threads: so the result is the same bits for all of
//! them.
#![allow(unsafe_code)] // Builds tiles of row pointers and writes shared output, within bounds that `bind` checks.

use alloc::borrow::Cow;
use alloc::vec::Vec;

mod direct;
mod halves;
mod shape;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "x86_64", feature = "std"))]
mod tiles;
mod winograd;

pub use shape::ConvShape;

use super::aligned::{Floats, SharedMut};
use super::gemm::{Segment, kernels};
use super::heap::Heap;
use super::isa::{Halves, Isa, Path};
use super::stored::{Stored, WeightType};
use super::vmath::Activation;
use crate::error::{Result, ensure, err};
use crate::graph::Padding;
use crate::memory::room;

/// Rows of floats that lie `stride` apart. The first row starts at the first float.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The floats.
    pub data: &'a [f32],
    /// Floats from one row to the next; 0 gives every row the first one's values.
    pub stride: usize,
}

/// One call of a convolution: `out = activation((conv(input) + bias + sample + residual) * scale)`.
#[derive(Clone, Copy, Debug)]
pub struct ConvArgs<'a> {
    /// `[batch][padded height][padded width][channels]`, all in_channels, or those that `second` does not bring.
    pub input: &'a [f32],
    /// For 1x1 filters: the last channels of the input and their count, in a tensor of its own of the same height and
    /// width.
    pub second: Option<(&'a [f32], usize)>,
    /// One row of out_channels floats for each sample: the time embedding.
    pub sample: Option<Rows<'a>>,
    /// One row of out_channels floats for each output pixel.
    pub residual: Option<Rows<'a>>,
    /// Multiplies the sum.
    pub scale: f32,
    /// Applied last.
    pub activation: Activation,
    /// Floats from one pixel of the output to the next, at least out_channels.
    pub out_stride: usize,
    /// Whether the input lies rounded in the shared memory, for a method that [takes it so](PackedConv::takes_halves);
    /// `input` is empty then.
    pub rounded: bool,
    /// How many threads will share the tasks. It says into how many tasks the work is cut; results do not depend on it.
    pub workers: usize,
}

impl<'a> ConvArgs<'a> {
    /// A call without additions, writing a dense output.
    #[cfg(any(test, feature = "bench"))]
    pub fn new(input: &'a [f32], out_channels: usize) -> Self {
        Self {
            input,
            second: None,
            sample: None,
            residual: None,
            scale: 1.0,
            activation: Activation::Identity,
            out_stride: out_channels,
            rounded: false,
            workers: 1,
        }
    }
}

/// A convolution's weights and bias, packed for one path and one input size. Immutable, so any number of sessions may
/// share it.
#[derive(Debug)]
pub struct PackedConv {
    pub isa: Isa,
    pub shape: ConvShape,
    pub out_size: [usize; 2],
    pub weights: Stored,
    pub bias: Floats,
    pub method: &'static Method,
    /// The runs of one filter in the padded input.
    pub segments: Cow<'static, [Segment]>,
}

/// What an algorithm does, as functions, so that a program has only the algorithms that its networks use.
#[derive(Debug)]
pub struct Method {
    #[allow(dead_code)] // Asked by tests and by what writes programs.
    algorithm: Algorithm,
    scratch_len: fn(&PackedConv) -> usize,
    /// For a batch; `None` on overflow.
    shared_len: fn(&PackedConv, usize) -> Option<usize>,
    /// For a batch and so many workers; `None` on overflow.
    cut: fn(&PackedConv, usize, usize) -> Option<Cut>,
    /// Whether it multiplies pairs of bf16.
    halves: bool,
    /// Task `i` of a stage, which there is, of a cut of its own, with scratch.
    run_task: unsafe fn(&ConvTasks<'_>, usize, usize, &mut [f32]) -> Path,
    /// The transform of the filters, of an algorithm that has one.
    filter: Option<FilterFn>,
}

type FilterFn = unsafe fn(Isa, &winograd::Filter) -> Path;

impl Method {
    /// The direct method.
    pub const DIRECT: &'static Self = &direct::METHOD;

    /// Winograd's, by type of weights.
    pub const WINOGRAD: [&'static Self; 5] = [
        &winograd::METHODS[0],
        &winograd::METHODS[1],
        &winograd::METHODS[2],
        &winograd::METHODS[3],
        &winograd::METHODS[4],
    ];

    /// Products of bf16, as floats.
    pub const BF16: &'static Self = &halves::METHODS[0];

    /// Which it is.
    #[cfg(feature = "embed")]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn of(algorithm: Algorithm, kind: WeightType, halves: Halves) -> &'static Self {
        match algorithm {
            Algorithm::Direct => Self::DIRECT,
            Algorithm::Bf16 => halves::method_of(halves),
            Algorithm::Winograd => Self::WINOGRAD[kind as usize],
        }
    }
}

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Products of the input and the filters as they are.
    Direct,
    /// Winograd's F(4x4, 3x3): a quarter of the multiplications, between transforms of input, filters and output.
    Winograd,
    /// Products of the input and the filters rounded to bf16.
    Bf16,
}

/// The algorithm for a shape. It never depends on the batch, so that neither do the bits of the result.
///
/// Winograd pays from 8x8 images and 32 channels on; at 8x8, where a batch of one has but four tiles to share a
/// transform of the filters, only for many channels. Microseconds per image on one Zen 4 core with AVX-512
/// (`cargo bench --features bench --bench kernels`), direct and Winograd, at batch 1 and 16:
///
/// | layer | batch 1 | batch 16 |
/// |---|---|---|
/// | 32x32, 128 to 128 | 2670, 929 | 2696, 910 |
/// | 16x16, 256 to 256 | 2739, 1054 | 2631, 860 |
/// | 14x14, 64 to 64 | 137, 93 | 131, 77 |
/// | 8x8, 256 to 256 | 743, 510 | 660, 218 |
/// | 8x8, 32 to 32 | 16, 24 | 11, 8 |
/// | 7x7, 64 to 64 | 36, 52 | 33, 22 |
/// | 4x4, 256 to 256 | 200, 463 | 170, 71 |
pub fn choose_algorithm(shape: &ConvShape) -> Algorithm {
    let can = winograd_can(shape);
    let pixels = shape.height.saturating_mul(shape.width);
    let pairs = shape.in_channels.saturating_mul(shape.out_channels);
    let pays =
        pixels >= 64 && shape.in_channels >= 32 && shape.out_channels >= 32 && (pixels > 100 || pairs >= 128 * 128);
    if can && pays { Algorithm::Winograd } else { Algorithm::Direct }
}

fn winograd_can(shape: &ConvShape) -> bool {
    shape.kernel == [3, 3] && shape.stride == [1, 1] && shape.dilation == 1
}

impl PackedConv {
    /// [`in_heap`](Self::in_heap) in the system's memory.
    #[cfg(test)]
    pub fn new(isa: Isa, shape: ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Result<Self> {
        Self::in_heap(&Heap::default(), isa, WeightType::F32, shape, weights, bias)
    }

    /// Packs `weights` (`[out][in][ky][kx]`, as PyTorch stores them) as numbers of `kind`, and `bias` (`[out]`), in the
    /// memory of `heap`.
    ///
    /// # Errors
    /// `Shape` if sizes are 0, overflow or do not fit the slices; `Unsupported` for a weight beyond the range of
    /// `kind`; `OutOfMemory`.
    pub fn in_heap(
        heap: &Heap,
        isa: Isa,
        kind: WeightType,
        shape: ConvShape,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        Self::pack(heap, isa, kind, shape, choose_algorithm(&shape), weights, bias)
    }

    /// [`in_heap`](Self::in_heap) in the system's memory with a given algorithm.
    ///
    /// # Errors
    /// As `in_heap`; `Unsupported` if the algorithm cannot do the shape.
    #[cfg(any(test, feature = "bench"))]
    pub fn with_algorithm(
        isa: Isa,
        shape: ConvShape,
        algorithm: Algorithm,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        Self::pack(&Heap::default(), isa, WeightType::F32, shape, algorithm, weights, bias)
    }

    fn pack(
        heap: &Heap,
        isa: Isa,
        kind: WeightType,
        shape: ConvShape,
        algorithm: Algorithm,
        weights: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self> {
        let out_size = shape.output()?;
        let need = shape.weight_len().ok_or_else(|| err!(Shape, "convolution of {shape:?} is too large"))?;
        ensure!(weights.len() == need, Shape, "convolution weights have {} floats, expected {need}", weights.len());
        if let Some(b) = bias {
            let n = shape.out_channels;
            ensure!(b.len() == n, Shape, "convolution bias has {} floats, expected {n}", b.len());
        }
        let (cin, cout) = (shape.in_channels, shape.out_channels);
        let [kh, kw] = shape.kernel;
        let k = cin * kh * kw;
        let can = match algorithm {
            Algorithm::Direct => true,
            Algorithm::Winograd => winograd_can(&shape),
            Algorithm::Bf16 => cin.is_multiple_of(2),
        };
        ensure!(can, Unsupported, "{algorithm:?} convolution of {shape:?}, expected a shape that the method can do");
        // Direct sums run over (tap, channel), and so do groups that share a scale; the filter transform takes the taps
        // of a channel together, as they are stored.
        let stored = kh * kw == 1 || (algorithm == Algorithm::Winograd && kind != WeightType::Int4);
        let mut order: Vec<usize> = room("the order of a filter's weights", k)?;
        order.extend((0..k).map(|i| if stored { i } else { i % cin * kh * kw + i / cin }));
        let at = |i: usize, o: usize| order.get(i).and_then(|i| weights.get(o * k + i)).copied().unwrap_or(0.0);
        let halves = if algorithm == Algorithm::Bf16 { halves::choose(isa, &shape) } else { Halves::Floats };
        let packed = match algorithm {
            Algorithm::Bf16 => halves::pack(heap, isa, halves, [k, cout], at)?,
            _ if stored && kind == WeightType::F32 => Stored::pack_rows(heap, isa, [k, cout], weights)?,
            Algorithm::Direct | Algorithm::Winograd => Stored::pack(heap, isa, kind, [k, cout], at)?,
        };
        let mut packed_bias = heap.zeroed(cout.next_multiple_of(kernels(isa).nr()))?;
        for (to, from) in packed_bias.iter_mut().zip(bias.unwrap_or(&[])) {
            *to = *from;
        }
        // No overflow: one padded image was found to fit in the address space.
        shape.image_len(cin).ok_or_else(|| err!(Shape, "convolution of {shape:?} is too large"))?;
        let pitch = (shape.width + shape.padding.left + shape.padding.right) * cin;
        // Neighbouring taps of a row are one run of floats, unless there are gaps between them.
        let (runs, taps) = if shape.dilation == 1 { (1, kw) } else { (kw, 1) };
        let mut segments = room("a filter's rows", kh * runs)?;
        let run = |i: usize| Segment {
            table: 0,
            offset: (i / runs * pitch + i % runs * cin) * shape.dilation,
            len: taps * cin,
        };
        segments.extend((0..kh * runs).map(run));
        Ok(Self {
            isa,
            shape,
            out_size,
            weights: packed,
            bias: packed_bias.into(),
            method: Method::of(algorithm, kind, halves),
            segments: halves::segments(halves, segments)?.into(),
        })
    }

    /// The sizes it was packed for.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Bytes of packed weights and bias.
    pub fn bytes(&self) -> usize {
        self.weights.bytes() + self.bias.len() * size_of::<f32>()
    }

    /// Floats of the padded input for a batch; `None` on overflow.
    pub fn input_len(&self, batch: usize) -> Option<usize> {
        self.shape.image_len(self.shape.in_channels)?.checked_mul(batch)
    }

    /// Floats of the dense output for a batch; `None` on overflow.
    #[cfg(any(test, feature = "bench"))]
    pub fn output_len(&self, batch: usize) -> Option<usize> {
        batch.checked_mul(self.out_size[0])?.checked_mul(self.out_size[1])?.checked_mul(self.shape.out_channels)
    }

    /// The algorithm in use.
    #[cfg(any(test, feature = "bench"))]
    pub fn algorithm(&self) -> Algorithm {
        self.method.algorithm
    }

    /// Floats of scratch that each worker brings to [`ConvTasks::run_task`]: small, so it stays in the worker's cache.
    pub fn scratch_len(&self) -> usize {
        (self.method.scratch_len)(self)
    }

    /// Whether a call may begin with its padded input as bf16, two in a float, at the start of the memory that its
    /// tasks share.
    pub fn takes_halves(&self) -> bool {
        self.method.halves
    }

    /// Floats of memory that the tasks of a call share (see [`ConvCall::on`]); `None` on overflow.
    pub fn shared_len(&self, batch: usize) -> Option<usize> {
        (self.method.shared_len)(self, batch)
    }

    /// Checks the arguments of a call once. Allocates nothing.
    ///
    /// # Errors
    /// `Shape` if a tensor has not the floats that the shape and the batch ask for, or a second source comes with a
    /// filter larger than 1x1 or with padding.
    pub fn bind<'a>(&'a self, batch: usize, args: ConvArgs<'a>) -> Result<ConvCall<'a>> {
        let s = &self.shape;
        let second = args.second.map_or(0, |(_, c)| c);
        ensure!(second < s.in_channels, Shape, "second source has {second} channels of {} in all", s.in_channels);
        ensure!(
            second == 0 || (s.kernel == [1, 1] && s.padding == Padding::default()),
            Unsupported,
            "a second source for a {}x{} filter, expected 1x1 without padding",
            s.kernel[0],
            s.kernel[1]
        );
        let first = s.in_channels - second;
        let fits = |c: usize, have: usize| s.image_len(c).and_then(|n| n.checked_mul(batch)).is_some_and(|n| n == have);
        ensure!(!args.rounded || self.method.halves, Unsupported, "a rounded input of a method for floats");
        ensure!(
            args.rounded || fits(first, args.input.len()),
            Shape,
            "convolution input has {} floats, expected {batch} padded images of {}x{}x{first}",
            args.input.len(),
            s.height,
            s.width
        );
        if let Some((x, c)) = args.second {
            ensure!(
                fits(c, x.len()),
                Shape,
                "second source has {} floats, expected {batch} x {} x {} x {c}",
                x.len(),
                s.height,
                s.width
            );
        }
        let cout = s.out_channels;
        let pixels = batch
            .checked_mul(self.out_size[0])
            .and_then(|n| n.checked_mul(self.out_size[1]))
            .ok_or_else(|| err!(Shape, "batch of {batch} is too large"))?;
        ensure!(args.out_stride >= cout, Shape, "output stride is {}, expected at least {cout}", args.out_stride);
        if let Some(r) = args.residual {
            check_rows("residual", r.data.len(), r.stride, pixels, cout)?;
        }
        if let Some(r) = args.sample {
            check_rows("sample vector", r.data.len(), r.stride, batch, cout)?;
        }
        let mut segments = [Segment::default(); 2];
        if second > 0 {
            segments = [Segment { table: 0, offset: 0, len: first }, Segment { table: 1, offset: 0, len: second }];
        }
        let cut = (self.method.cut)(self, batch, args.workers);
        let cut = cut.ok_or_else(|| err!(Shape, "batch of {batch} is too large"))?;
        let shared_len = self.shared_len(batch).ok_or_else(|| err!(Shape, "batch of {batch} is too large"))?;
        Ok(ConvCall { conv: self, args, first, second, segments, cut, pixels, shared_len })
    }
}

/// A call with checked arguments.
#[derive(Clone, Copy, Debug)]
pub struct ConvCall<'a> {
    conv: &'a PackedConv,
    args: ConvArgs<'a>,
    first: usize,
    second: usize,
    segments: [Segment; 2],
    cut: Cut,
    /// Of the output.
    pixels: usize,
    shared_len: usize,
}

/// A call with the memory that it writes: its tasks may run on any threads in any order.
#[derive(Clone, Copy, Debug)]
pub struct ConvTasks<'a> {
    call: ConvCall<'a>,
    out: SharedMut<'a>,
    shared: SharedMut<'a>,
}

/// How the work is cut into tasks.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Direct(direct::Cut),
    Winograd(winograd::Cut),
    Bf16(halves::Cut),
}

impl<'a> ConvCall<'a> {
    /// How many stages the call has. Every task of a stage must have ended before one of the next begins.
    pub fn stages(&self) -> usize {
        match &self.cut {
            Cut::Direct(c) => usize::from(c.tasks() > 0),
            Cut::Winograd(c) => c.stages(),
            Cut::Bf16(c) => c.stages(),
        }
    }

    /// How many tasks a stage has.
    pub fn tasks(&self, stage: usize) -> usize {
        match &self.cut {
            Cut::Direct(c) if stage == 0 => c.tasks(),
            Cut::Winograd(c) if stage < c.stages() => c.tasks(stage),
            Cut::Bf16(_) if stage == 0 && self.args.rounded => 0,
            Cut::Bf16(c) => c.tasks(stage),
            _ => 0,
        }
    }

    /// The call's tasks. `out` is one row of out_channels floats for each output pixel,
    /// `[batch][height][width][out_channels]` if dense; it must not overlap an argument. `shared`, of at least
    /// [`PackedConv::shared_len`] floats, is for what one stage hands to the next; its contents do not matter.
    ///
    /// # Errors
    /// `Shape` if one of them is too short.
    pub fn on(self, out: SharedMut<'a>, shared: SharedMut<'a>) -> Result<ConvTasks<'a>> {
        check_rows("output", out.len(), self.args.out_stride, self.pixels, self.conv.shape.out_channels)?;
        ensure!(
            shared.len() >= self.shared_len,
            Shape,
            "convolution has {} floats of shared memory, expected {}",
            shared.len(),
            self.shared_len
        );
        Ok(ConvTasks { call: self, out, shared })
    }

    /// Runs all tasks on this thread; `scratch` has [`PackedConv::scratch_len`] floats, the rest is as in
    /// [`on`](Self::on).
    ///
    /// # Errors
    /// As [`on`](Self::on), also for `scratch`.
    #[cfg(any(test, feature = "bench"))]
    pub fn run(&self, out: &mut [f32], shared: &mut [f32], scratch: &mut [f32]) -> Result<Path> {
        let need = self.conv.scratch_len();
        ensure!(scratch.len() >= need, Shape, "convolution has {} floats of scratch, expected {need}", scratch.len());
        let call = self.on(SharedMut::new(out), SharedMut::new(shared))?;
        let mut path = self.conv.isa.path();
        for stage in 0..self.stages() {
            for i in 0..self.tasks(stage) {
                // SAFETY: one task at a time, stage by stage; output and shared memory are borrowed by this function
                // alone.
                path = unsafe { call.run_task(stage, i, scratch) };
            }
        }
        Ok(path)
    }
}

impl ConvTasks<'_> {
    /// Runs task `i` of a stage and says which path ran. A worker that takes neighbouring tasks one after the other
    /// finds their weights in its cache. Task numbers outside `0..tasks(stage)`, or a scratch shorter than
    /// [`PackedConv::scratch_len`], do nothing.
    ///
    /// # Safety
    /// Each task may run on one thread at a time, after all tasks of the stages before, and nobody else may touch the
    /// output and the shared memory meanwhile.
    pub unsafe fn run_task(&self, stage: usize, i: usize, scratch: &mut [f32]) -> Path {
        let isa = self.call.conv.isa;
        if i >= self.call.tasks(stage) || scratch.len() < self.call.conv.scratch_len() {
            return isa.path();
        }
        // SAFETY: the task exists, `bind` and `on` checked all slices, and the caller gives this task's part of output
        // and shared memory to this thread alone.
        unsafe { (self.call.conv.method.run_task)(self, stage, i, scratch) }
    }
}

/// That `have` floats hold `count` rows of `len`, `stride` apart.
fn check_rows(what: &str, have: usize, stride: usize, count: usize, len: usize) -> Result<()> {
    let need = count.checked_sub(1).map_or(Some(0), |c| c.checked_mul(stride)?.checked_add(len));
    ensure!(
        need.is_some_and(|n| n <= have),
        Shape,
        "convolution {what} has {have} floats, expected {count} rows of {len}, {stride} apart"
    );
    Ok(())
}

/// Start of part `i` when `n` things are cut into `parts` as evenly as can be.
fn split(n: usize, parts: usize, i: usize) -> usize {
    n / parts * i + (n % parts).min(i)
}
