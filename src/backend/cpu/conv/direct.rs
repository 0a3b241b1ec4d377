//! Direct convolution: tiles of output pixels against panels of filters.
#![allow(unsafe_code)] // Builds tiles of row pointers and writes shared output, within bounds that `bind` checks.

use core::ops::Range;

use super::super::gemm::{MAX_MR, Segment, Tile, kernels};
use super::super::isa::Path;
use super::super::vmath::{Activation, activate};
use super::{Algorithm, ConvTasks, Method, PackedConv, split};

/// Floats of a cache line.
const LINE: usize = 16;

/// Into how many groups of panels and runs of pixels the work is cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pixels: usize,
    groups: usize,
    blocks: usize,
}

impl Cut {
    /// A run's input stays in a core's cache. So do small weights, and then a task takes a run through all of them; of
    /// large weights a task takes one panel, and neighbouring tasks the same one. There are enough tasks in all for a
    /// few threads.
    pub fn new(conv: &PackedConv, pixels: usize) -> Self {
        let s = &conv.shape;
        let each = s.in_channels.saturating_mul(s.stride[0]).saturating_mul(s.stride[1]);
        Self::of(conv, pixels, each, kernels(conv.isa).mr)
    }

    /// The same for what `each` floats of the input are read for, of which a tile has `mr`.
    pub fn of(conv: &PackedConv, pixels: usize, each: usize, mr: usize) -> Self {
        /// Floats of input or of weights that leave room in a cache of 512 KiB.
        const RUN: usize = 64 * 1024;
        const TASKS: usize = 8;
        let run = (RUN / each.max(1)).max(4 * mr);
        let panels = conv.shape.out_channels.div_ceil(kernels(conv.isa).nr());
        let tiles = pixels.div_ceil(mr).max(1);
        if conv.weights.bytes() / 4 <= 2 * RUN {
            let blocks = pixels.div_ceil(run).max(TASKS).min(tiles);
            Self { pixels, groups: TASKS.div_ceil(blocks).min(panels), blocks }
        } else {
            Self { pixels, groups: panels, blocks: pixels.div_ceil(run).max(TASKS.div_ceil(panels)).min(tiles) }
        }
    }

    pub fn tasks(&self) -> usize {
        if self.pixels == 0 { 0 } else { self.groups * self.blocks }
    }

    /// What task `i` does: these pixels and these of so many panels.
    pub fn task(&self, i: usize, panels: usize) -> [Range<usize>; 2] {
        let part = |n, parts, i| split(n, parts, i)..split(n, parts, i + 1);
        [part(self.pixels, self.blocks, i % self.blocks), part(panels, self.groups, i / self.blocks)]
    }
}

/// The sums as they are, over tiles of output pixels.
pub(super) static METHOD: Method = Method {
    algorithm: Algorithm::Direct,
    scratch_len: |_| 0,
    shared_len: |_, _| Some(0),
    cut: |conv, batch, _| {
        Some(super::Cut::Direct(Cut::new(conv, batch.checked_mul(conv.out_size[0])?.checked_mul(conv.out_size[1])?)))
    },
    run_task: |tasks, _, i, _| match &tasks.call.cut {
        // SAFETY: the caller's contract.
        super::Cut::Direct(cut) => unsafe { run_task(tasks, cut, i, &Operand::of(tasks)) },
        super::Cut::Winograd(_) | super::Cut::Bf16(_) => tasks.call.conv.isa.path(),
    },
    halves: false,
    filter: None,
};

/// What is multiplied: two tables of pixels, the floats that a pixel of each has, and the runs of a filter in them.
pub(super) struct Operand<'a> {
    pub data: [*const f32; 2],
    pub channels: [usize; 2],
    pub segments: &'a [Segment],
}

impl<'a> Operand<'a> {
    /// The arguments themselves.
    fn of(tasks: &'a ConvTasks<'_>) -> Self {
        let call = &tasks.call;
        Self {
            data: [call.args.input.as_ptr(), call.args.second.map_or(core::ptr::null(), |(x, _)| x.as_ptr())],
            channels: [call.first, call.second],
            segments: if call.second > 0 { &call.segments } else { &call.conv.segments },
        }
    }
}

/// Weights of the task that this thread is likely to take next, asked for while its tiles are multiplied.
struct Stream<'a> {
    memory: &'a [f32],
    /// Tiles that are multiplied meanwhile, and those that were.
    tiles: usize,
    done: usize,
    /// Lines at each 16th step of a sum.
    lines: usize,
}

impl<'a> Stream<'a> {
    fn new(tasks: &ConvTasks<'a>, cut: &Cut, i: usize, tiles: usize, input: &Operand<'_>) -> Self {
        let conv = tasks.call.conv;
        let nr = kernels(conv.isa).nr();
        let all = conv.shape.out_channels.div_ceil(nr);
        let panels = |i: usize| (i < cut.tasks()).then(|| cut.task(i, all)).map(|[_, panels]| panels);
        let next = panels(i.saturating_add(tasks.call.args.workers)).filter(|next| panels(i).as_ref() != Some(next));
        let memory = next.map_or(&[][..], |p| conv.weights.memory(p.start * nr, p.end * nr));
        let steps: usize = input.segments.iter().map(|s| s.len.div_ceil(LINE)).sum();
        Self { memory, tiles, done: 0, lines: (memory.len() / LINE).div_ceil((tiles * steps).max(1)) }
    }

    /// Of the next tile.
    fn next(&mut self) -> (*const f32, usize) {
        let from = self.memory.len() / LINE * self.done / self.tiles.max(1) * LINE;
        self.done += 1;
        (self.memory.as_ptr().wrapping_add(from), self.lines)
    }
}

/// Runs task `i`.
///
/// # Safety
/// `i < cut.tasks()`, nobody else touches this task's part of the output, and the operand has all padded images.
pub(super) unsafe fn run_task(tasks: &ConvTasks<'_>, cut: &Cut, i: usize, input: &Operand<'_>) -> Path {
    let call = &tasks.call;
    let isa = call.conv.isa;
    let kn = kernels(isa);
    let s = &call.conv.shape;
    let [Range { start: from, end: to }, panels] = cut.task(i, s.out_channels.div_ceil(kn.nr()));
    let tiles = (to - from).div_ceil(kn.mr);
    let mut path = isa.path();
    let mut stream = Stream::new(tasks, cut, i, panels.len() * tiles, input);
    for panel in panels {
        let column = panel * kn.nr();
        let width = kn.panel_width(s.out_channels - column);
        let n = width.min(s.out_channels - column);
        for t in 0..tiles {
            let first = from + split(to - from, tiles, t);
            let last = from + split(to - from, tiles, t + 1);
            // SAFETY: pixels, columns and all strides were checked against the slices by `bind` and `on`; the caller
            // gives this task's part of the output to this thread alone.
            path = unsafe { run_tile(tasks, input, [first, last], column, width, n, stream.next()) };
        }
    }
    path
}

/// Output pixels `first..last` (at most the path's tile height), columns `column..column + n`.
///
/// # Safety
/// The ranges lie inside the output, nobody else touches that part of it, and the operand has all padded images.
unsafe fn run_tile(
    tasks: &ConvTasks<'_>,
    input: &Operand<'_>,
    [first, last]: [usize; 2],
    column: usize,
    width: usize,
    n: usize,
    stream: (*const f32, usize),
) -> Path {
    let call = &tasks.call;
    let conv = call.conv;
    let s = &conv.shape;
    let [oh, ow] = conv.out_size;
    let pw = s.width + s.padding.left + s.padding.right;
    let ph = s.height + s.padding.top + s.padding.bottom;
    let (mut image, mut y, mut x) = (first / (oh * ow), first / ow % oh, first % ow);
    // SAFETY: every pointer is inside its slice for the rows and columns of this tile, as `bind` and `on` checked the
    // slices for all of them; the packed weights hold a panel of this width at this column.
    unsafe {
        let mut tile = stored(tasks, [first, last], column, n);
        tile.segments = input.segments;
        (tile.stream, tile.stream_lines) = stream;
        tile.b = conv.weights.panel(column);
        tile.ahead = (last - first) * s.stride[1] * (input.channels[0] + input.channels[1]);
        for r in 0..(last - first).min(MAX_MR) {
            let at = (image * ph + y * s.stride[0]) * pw + x * s.stride[1];
            tile.a[0][r] = input.data[0].add(at * input.channels[0]);
            if input.channels[1] > 0 {
                tile.a[1][r] = input.data[1].add(at * input.channels[1]);
            }
            x += 1;
            if x == ow {
                (x, y) = (0, y + 1);
                if y == oh {
                    (y, image) = (0, image + 1);
                }
            }
        }
        let path = match kernels(conv.isa).tile_fn_of(conv.weights.tiles, last - first, width) {
            Some(f) => f(&tile),
            None => Path::Portable,
        };
        activate_rows(tasks, &tile, last - first);
        path
    }
}

/// A tile of output pixels `first..last`, columns `column..column + n`, without what is multiplied.
///
/// # Safety
/// The ranges lie inside the output.
unsafe fn stored<'a>(tasks: &ConvTasks<'_>, [first, last]: [usize; 2], column: usize, n: usize) -> Tile<'a> {
    let call = &tasks.call;
    let conv = call.conv;
    let mut tile = Tile::new(&[], n, call.args.scale);
    let pixels = conv.out_size[0] * conv.out_size[1];
    let (mut image, mut left) = (first / pixels, pixels - first % pixels);
    tile.has_sample = call.args.sample.is_some();
    tile.has_residual = call.args.residual.is_some();
    // SAFETY: as in `run_tile`.
    unsafe {
        tile.factor = conv.weights.factor(column);
        tile.bias = conv.bias.as_ptr().add(column);
        for (r, p) in (first..last).enumerate().take(MAX_MR) {
            tile.out[r] = tasks.out.as_ptr().add(p * call.args.out_stride + column);
            if let Some(v) = call.args.sample {
                tile.sample[r] = v.data.as_ptr().add(image * v.stride + column);
            }
            if let Some(v) = call.args.residual {
                tile.residual[r] = v.data.as_ptr().add(p * v.stride + column);
            }
            left -= 1;
            if left == 0 {
                (image, left) = (image + 1, pixels);
            }
        }
    }
    tile
}

/// The activation of a tile's rows, which are stored.
///
/// # Safety
/// The tile is one of [`stored`], and nobody else touches its part of the output.
unsafe fn activate_rows(tasks: &ConvTasks<'_>, tile: &Tile<'_>, rows: usize) {
    let activation = tasks.call.args.activation;
    if activation != Activation::Identity {
        for out in tile.out.iter().take(rows) {
            // SAFETY: `n` floats of the output from here on are this tile's.
            let row = unsafe { core::slice::from_raw_parts_mut(*out, tile.n) };
            activate(tasks.call.conv.isa, activation, row);
        }
    }
}
