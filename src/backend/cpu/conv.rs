//! Convolutions and linear layers: weights packed once, tasks that any threads may run in any order.
//!
//! A convolution reads a zero-padded channels-last tensor, which [`gather`](super::gather) makes (a tensor without
//! padding, such as the input of a 1x1 convolution, is read where it lies). The output pixels of the whole batch form
//! one list; a task is a run of them times one panel of output channels. For each output the sum runs over (ky, kx, channel)
//! in that order, whatever the batch, the tasks and the threads: so the result is the same bits for all of them.
#![allow(unsafe_code)] // Builds tiles of row pointers and writes shared output, within bounds that `bind` checks.

use alloc::vec::Vec;

use super::aligned::{AlignedBuf, SharedMut};
use super::gemm::pack::{pack_with, packed_len};
use super::gemm::{MAX_MR, Segment, Tile, kernels};
use super::isa::{Isa, Path};
use super::vmath::{Activation, activate};
use crate::error::{Result, ensure, err};

/// Zeros around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns on the left.
    pub left: usize,
    /// Columns on the right.
    pub right: usize,
}

impl Padding {
    /// `n` on every side.
    pub const fn same(n: usize) -> Self {
        Self { top: n, bottom: n, left: n, right: n }
    }
}

/// The sizes of a convolution of one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    /// Rows of the input, without padding.
    pub height: usize,
    /// Columns of the input, without padding.
    pub width: usize,
    /// Channels of the input (of both sources together).
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Rows and columns of the filter.
    pub kernel: [usize; 2],
    /// Steps down and to the right.
    pub stride: [usize; 2],
    /// Zeros around the input.
    pub padding: Padding,
}

impl ConvShape {
    /// A linear layer on rows: a 1x1 convolution of a 1x1 image, where the batch counts the rows.
    pub const fn linear(in_features: usize, out_features: usize) -> Self {
        Self::square(1, 1, in_features, out_features, 1, 1, Padding::same(0))
    }

    /// A convolution with a square filter and one stride.
    pub const fn square(
        height: usize,
        width: usize,
        in_channels: usize,
        out_channels: usize,
        kernel: usize,
        stride: usize,
        padding: Padding,
    ) -> Self {
        Self { height, width, in_channels, out_channels, kernel: [kernel; 2], stride: [stride; 2], padding }
    }

    /// Rows and columns of the padded input.
    pub fn padded(&self) -> Option<[usize; 2]> {
        let p = &self.padding;
        Some([
            self.height.checked_add(p.top)?.checked_add(p.bottom)?,
            self.width.checked_add(p.left)?.checked_add(p.right)?,
        ])
    }

    /// Rows and columns of the output.
    ///
    /// # Errors
    /// `Shape` if a size is 0, overflows, or the filter does not fit in the padded input.
    pub fn output(&self) -> Result<[usize; 2]> {
        let [ph, pw] = self.padded().ok_or_else(|| err!(Shape, "convolution of {self:?} is too large"))?;
        let [kh, kw] = self.kernel;
        let nonzero =
            [self.height, self.width, self.in_channels, self.out_channels, kh, kw, self.stride[0], self.stride[1]];
        ensure!(!nonzero.contains(&0), Shape, "convolution with a size of 0: {self:?}");
        ensure!(kh <= ph && kw <= pw, Shape, "a {kh}x{kw} filter does not fit in the padded input of {ph}x{pw}");
        Ok([(ph - kh) / self.stride[0] + 1, (pw - kw) / self.stride[1] + 1])
    }

    /// Floats of one padded image of `channels` channels.
    fn image_len(&self, channels: usize) -> Option<usize> {
        let [ph, pw] = self.padded()?;
        ph.checked_mul(pw)?.checked_mul(channels)
    }

    fn weight_len(&self) -> Option<usize> {
        let [kh, kw] = self.kernel;
        self.out_channels.checked_mul(self.in_channels)?.checked_mul(kh)?.checked_mul(kw)
    }
}

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
    /// For 1x1 filters: the last channels of the input and their count, in a tensor of its own of the same height and width.
    pub second: Option<(&'a [f32], usize)>,
    /// One row of out_channels floats for each sample: the time embedding.
    pub sample: Option<Rows<'a>>,
    /// One row of out_channels floats for each output pixel.
    pub residual: Option<Rows<'a>>,
    /// Multiplies the sum.
    pub scale: f32,
    /// Applied last.
    pub activation: Activation,
    /// One row of out_channels floats for each output pixel: `[batch][height][width][out_channels]` if dense. It must
    /// not overlap any input.
    pub out: SharedMut<'a>,
    /// Floats from one pixel of the output to the next, at least out_channels.
    pub out_stride: usize,
    /// Memory of [`PackedConv::shared_len`] floats for what one stage hands to the next. Its contents do not matter.
    pub shared: SharedMut<'a>,
}

impl<'a> ConvArgs<'a> {
    /// A call without additions, writing a dense output.
    pub fn new(input: &'a [f32], out: SharedMut<'a>, out_channels: usize) -> Self {
        Self {
            input,
            second: None,
            sample: None,
            residual: None,
            scale: 1.0,
            activation: Activation::Identity,
            out,
            out_stride: out_channels,
            shared: SharedMut::empty(),
        }
    }
}

/// A convolution's weights and bias, packed for one path and one input size. Immutable, so any number of sessions may
/// share it.
#[derive(Debug)]
pub struct PackedConv {
    isa: Isa,
    shape: ConvShape,
    out_size: [usize; 2],
    weights: AlignedBuf,
    bias: AlignedBuf,
    /// The runs of one filter in the padded input.
    segments: Vec<Segment>,
}

impl PackedConv {
    /// Packs `weights` (`[out][in][ky][kx]`, as PyTorch stores them) and `bias` (`[out]`).
    ///
    /// # Errors
    /// `Shape` if sizes are 0, overflow or do not fit the slices; `OutOfMemory`.
    pub fn new(isa: Isa, shape: ConvShape, weights: &[f32], bias: Option<&[f32]>) -> Result<Self> {
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
        let len = packed_len(isa, k, cout).ok_or_else(|| err!(Shape, "convolution of {shape:?} is too large"))?;
        let mut packed = AlignedBuf::zeroed(len)?;
        pack_with(isa, k, cout, &mut packed, |k, o| {
            let (tap, c) = (k / cin, k % cin);
            weights.get((o * cin + c) * kh * kw + tap).copied().unwrap_or(0.0)
        })?;
        let mut packed_bias = AlignedBuf::zeroed(cout.next_multiple_of(kernels(isa).nr()))?;
        for (to, from) in packed_bias.iter_mut().zip(bias.unwrap_or(&[])) {
            *to = *from;
        }
        // No overflow: one padded image was found to fit in the address space.
        shape.image_len(cin).ok_or_else(|| err!(Shape, "convolution of {shape:?} is too large"))?;
        let pitch = (shape.width + shape.padding.left + shape.padding.right) * cin;
        let mut segments = Vec::new();
        segments.try_reserve_exact(kh).map_err(|_| err!(OutOfMemory, "no memory for {kh} filter rows"))?;
        segments.extend((0..kh).map(|ky| Segment { table: 0, offset: ky * pitch, len: kw * cin }));
        Ok(Self { isa, shape, out_size, weights: packed, bias: packed_bias, segments })
    }

    /// The sizes it was packed for.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Rows and columns of the output.
    pub fn output(&self) -> [usize; 2] {
        self.out_size
    }

    /// Bytes of packed weights and bias.
    pub fn bytes(&self) -> usize {
        self.weights.bytes() + self.bias.bytes()
    }

    /// Floats of the padded input for a batch; `None` on overflow.
    pub fn input_len(&self, batch: usize) -> Option<usize> {
        self.shape.image_len(self.shape.in_channels)?.checked_mul(batch)
    }

    /// Floats of the dense output for a batch; `None` on overflow.
    pub fn output_len(&self, batch: usize) -> Option<usize> {
        batch.checked_mul(self.out_size[0])?.checked_mul(self.out_size[1])?.checked_mul(self.shape.out_channels)
    }

    /// Floats of scratch that each worker brings to [`ConvCall::run_task`]: small, so it stays in the worker's cache.
    pub fn scratch_len(&self) -> usize {
        0
    }

    /// Floats of memory that the tasks of a call share (see [`ConvArgs::shared`]); `None` on overflow.
    pub fn shared_len(&self, _batch: usize) -> Option<usize> {
        Some(0)
    }

    /// Checks the arguments of a call once. Allocates nothing.
    ///
    /// # Errors
    /// `Shape` if a tensor has not the floats that the shape and the batch ask for, or a second source comes with a filter
    /// larger than 1x1 or with padding.
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
        ensure!(
            fits(first, args.input.len()),
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
        let rows = |what: &str, have: usize, stride: usize, count: usize| {
            let need = count.checked_sub(1).map_or(Some(0), |c| c.checked_mul(stride)?.checked_add(cout));
            ensure!(
                need.is_some_and(|n| n <= have),
                Shape,
                "convolution {what} has {have} floats, expected {count} rows of {cout}, {stride} apart"
            );
            Ok(())
        };
        ensure!(args.out_stride >= cout, Shape, "output stride is {}, expected at least {cout}", args.out_stride);
        rows("output", args.out.len(), args.out_stride, pixels)?;
        ensure!(
            self.shared_len(batch).is_some_and(|n| n <= args.shared.len()),
            Shape,
            "convolution has {} floats of shared memory, expected {:?}",
            args.shared.len(),
            self.shared_len(batch)
        );
        if let Some(r) = args.residual {
            rows("residual", r.data.len(), r.stride, pixels)?;
        }
        if let Some(r) = args.sample {
            rows("sample vector", r.data.len(), r.stride, batch)?;
        }
        let mut segments = [Segment::default(); 2];
        if second > 0 {
            segments = [Segment { table: 0, offset: 0, len: first }, Segment { table: 1, offset: 0, len: second }];
        }
        let (groups, blocks) = self.cut(pixels);
        Ok(ConvCall { conv: self, args, first, second, segments, pixels, groups, blocks })
    }

    /// Into how many groups of panels and runs of pixels the work is cut. A run's input stays in a core's cache. So do
    /// small weights, and then a task takes a run through all of them; of large weights a task takes one panel, and
    /// neighbouring tasks the same one. There are enough tasks in all for a few threads.
    fn cut(&self, pixels: usize) -> (usize, usize) {
        /// Floats of input or of weights that leave room in a cache of 512 KiB.
        const RUN: usize = 64 * 1024;
        const TASKS: usize = 8;
        let s = &self.shape;
        let k = kernels(self.isa);
        let per_pixel = s.in_channels.saturating_mul(s.stride[0]).saturating_mul(s.stride[1]);
        let run = (RUN / per_pixel.max(1)).max(4 * k.mr);
        let panels = s.out_channels.div_ceil(k.nr());
        let tiles = pixels.div_ceil(k.mr).max(1);
        if self.weights.len() <= 2 * RUN {
            let blocks = pixels.div_ceil(run).max(TASKS).min(tiles);
            (TASKS.div_ceil(blocks).min(panels), blocks)
        } else {
            (panels, pixels.div_ceil(run).max(TASKS.div_ceil(panels)).min(tiles))
        }
    }
}

/// A checked call: its tasks may run on any threads in any order.
#[derive(Clone, Copy, Debug)]
pub struct ConvCall<'a> {
    conv: &'a PackedConv,
    args: ConvArgs<'a>,
    first: usize,
    second: usize,
    segments: [Segment; 2],
    pixels: usize,
    groups: usize,
    blocks: usize,
}

impl ConvCall<'_> {
    /// How many stages the call has. Every task of a stage must have ended before one of the next begins.
    pub fn stages(&self) -> usize {
        usize::from(self.pixels > 0)
    }

    /// How many tasks a stage has.
    pub fn tasks(&self, stage: usize) -> usize {
        if stage < self.stages() { self.groups * self.blocks } else { 0 }
    }

    /// Runs task `i` of a stage and says which path ran. A worker that takes neighbouring tasks one after the other
    /// finds their weights in its cache. Task numbers outside `0..tasks(stage)`, or a scratch shorter than
    /// [`PackedConv::scratch_len`], do nothing.
    ///
    /// # Safety
    /// Each task may run on one thread at a time, after all tasks of the stages before, and nobody else may touch the
    /// output and the shared memory meanwhile.
    pub unsafe fn run_task(&self, stage: usize, i: usize, scratch: &mut [f32]) -> Path {
        let isa = self.conv.isa;
        if i >= self.tasks(stage) || scratch.len() < self.conv.scratch_len() {
            return isa.path();
        }
        let kn = kernels(isa);
        let s = &self.conv.shape;
        let (group, block) = (i / self.blocks, i % self.blocks);
        let panels = s.out_channels.div_ceil(kn.nr());
        let from = split(self.pixels, self.blocks, block);
        let to = split(self.pixels, self.blocks, block + 1);
        let tiles = (to - from).div_ceil(kn.mr);
        let mut path = isa.path();
        for panel in split(panels, self.groups, group)..split(panels, self.groups, group + 1) {
            let column = panel * kn.nr();
            let width = kn.panel_width(s.out_channels - column);
            let n = width.min(s.out_channels - column);
            for t in 0..tiles {
                let first = from + split(to - from, tiles, t);
                let last = from + split(to - from, tiles, t + 1);
                // SAFETY: pixels, columns and all strides were checked against the slices by `bind`; the caller gives
                // this task's part of the output to this thread alone.
                path = unsafe { self.run_tile(first, last, column, width, n) };
            }
        }
        path
    }

    /// Output pixels `first..last` (at most the path's tile height), columns `column..column + n`.
    ///
    /// # Safety
    /// The ranges lie inside the output, and nobody else touches that part of it.
    unsafe fn run_tile(&self, first: usize, last: usize, column: usize, width: usize, n: usize) -> Path {
        let conv = self.conv;
        let kn = kernels(conv.isa);
        let s = &conv.shape;
        let segments = if self.second > 0 { &self.segments } else { conv.segments.as_slice() };
        let k = s.in_channels * s.kernel[0] * s.kernel[1];
        let mut tile = Tile::new(segments, n, self.args.scale);
        let [oh, ow] = conv.out_size;
        let pw = s.width + s.padding.left + s.padding.right;
        let ph = s.height + s.padding.top + s.padding.bottom;
        let (mut image, mut y, mut x) = (first / (oh * ow), first / ow % oh, first % ow);
        // SAFETY: every pointer is inside its slice for the rows and columns of this tile, as `bind` checked the
        // slices for all of them; the packed weights hold k * width floats from k * column on.
        unsafe {
            tile.b = conv.weights.as_ptr().add(k * column);
            tile.bias = conv.bias.as_ptr().add(column);
            for (r, p) in (first..last).enumerate().take(MAX_MR) {
                let at = (image * ph + y * s.stride[0]) * pw + x * s.stride[1];
                tile.a[0][r] = self.args.input.as_ptr().add(at * self.first);
                if let Some((second, _)) = self.args.second {
                    tile.a[1][r] = second.as_ptr().add(at * self.second);
                }
                tile.out[r] = self.args.out.as_ptr().add(p * self.args.out_stride + column);
                if let Some(v) = self.args.sample {
                    tile.has_sample = true;
                    tile.sample[r] = v.data.as_ptr().add(image * v.stride + column);
                }
                if let Some(v) = self.args.residual {
                    tile.has_residual = true;
                    tile.residual[r] = v.data.as_ptr().add(p * v.stride + column);
                }
                x += 1;
                if x == ow {
                    (x, y) = (0, y + 1);
                    if y == oh {
                        (y, image) = (0, image + 1);
                    }
                }
            }
            let path = match kn.tile_fn(last - first, width) {
                Some(f) => f(&tile),
                None => Path::Portable,
            };
            if self.args.activation != Activation::Identity {
                for out in tile.out.iter().take(last - first) {
                    activate(conv.isa, self.args.activation, core::slice::from_raw_parts_mut(*out, n));
                }
            }
            path
        }
    }

    /// Runs all tasks on this thread; `scratch` has [`PackedConv::scratch_len`] floats.
    pub fn run(&mut self, scratch: &mut [f32]) -> Path {
        let mut path = self.conv.isa.path();
        for stage in 0..self.stages() {
            for i in 0..self.tasks(stage) {
                // SAFETY: one task at a time, stage by stage; output and shared memory are borrowed by the arguments,
                // and `&mut self` keeps other safe calls away.
                path = unsafe { self.run_task(stage, i, scratch) };
            }
        }
        path
    }
}

/// Start of part `i` when `n` things are cut into `parts` as evenly as can be.
fn split(n: usize, parts: usize, i: usize) -> usize {
    n / parts * i + (n % parts).min(i)
}
