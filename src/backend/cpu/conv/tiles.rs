//! Layers of bf16 by AMX: blocks of 32 outputs by 32 channels.
//!
//! An instruction reads sixteen rows that lie equally far apart, and it reads them where the rounded input lies. So
//! outputs are counted with the columns of the padding, as many to a row as the padded input has (of a stride, as many
//! as fit in so many rows of it): the few sums of outputs that there are not are dropped. A sum depends on nothing but
//! its own row and column, so the bits do not depend on how outputs are cut into blocks.
#![allow(unsafe_code)] // Raw rows and shared memory, within bounds that `bind` and `on` check.

use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr;

use super::super::amx::{self, DEEPEST, Operands, SIDE, Shapes, Tiles};
use super::super::gemm::pairs::{self, Sums};
use super::super::gemm::{Segment, kernels};
use super::super::isa::Path;
use super::super::vmath::{Activation, activate};
use super::{Algorithm, ConvShape, ConvTasks, Method, PackedConv, Rows, direct, halves};
use crate::error::Result;
use crate::memory::room;

/// Rows of a block.
const ROWS: usize = 2 * SIDE;
/// Bytes of a cache line, and those before the ones that are multiplied for which is asked.
const LINE: usize = 64;
const AHEAD: usize = 8192;
/// Pairs along which an instruction sums at least, of [`DEEPEST`]: with fewer, layers are not for tiles.
const SHALLOWEST: usize = 8;

/// The pairs of each step of a sum along runs of so many.
fn depth(run: usize) -> Option<usize> {
    (SHALLOWEST..=DEEPEST).rev().find(|d| run.is_multiple_of(*d))
}

/// Whether tiles do this shape.
pub(super) fn can(shape: &ConvShape) -> bool {
    let taps = if shape.dilation == 1 { shape.kernel[1] } else { 1 };
    let whole = shape.padded().is_some_and(|[_, pw]| (pw * shape.stride[0]).is_multiple_of(shape.stride[1]));
    whole && depth(taps * shape.in_channels / 2).is_some()
}

/// The steps of a sum along runs of pairs, all of one length.
pub(super) fn steps(runs: impl ExactSizeIterator<Item = Segment> + Clone) -> Result<Vec<Segment>> {
    let len = runs.clone().next().map_or(0, |r| r.len);
    let depth = depth(len).unwrap_or(DEEPEST);
    let mut steps = room("a filter's steps", runs.len().saturating_mul(len / depth))?;
    let step = |run: Segment, i: usize| Segment { offset: run.offset + i * depth, len: depth, ..run };
    steps.extend(runs.flat_map(|run| (0..run.len / depth).map(move |i| step(run, i))));
    Ok(steps)
}

/// Where outputs lie among those that are counted.
struct Grid {
    /// Those of a row and of an image.
    row: usize,
    image: usize,
    /// Images that are counted on, as one, and how many such groups there are.
    joined: usize,
    groups: usize,
    /// Outputs of a group, up to the last that there is, and blocks.
    outputs: usize,
    blocks: usize,
}

impl Grid {
    fn new(conv: &PackedConv, batch: usize) -> Option<Self> {
        let [ph, pw] = conv.shape.padded()?;
        let [down, right] = conv.shape.stride;
        let [oh, ow] = conv.out_size;
        let pixels = ph.checked_mul(pw)?;
        // Of an image that does not end with a step, the next one begins between two outputs.
        let joined = if pixels.is_multiple_of(right) { batch } else { 1 };
        let (row, image) = (down.checked_mul(pw)? / right, pixels.div_ceil(right));
        let before = joined.saturating_sub(1).checked_mul(image)?;
        let outputs = before.checked_add((oh - 1).checked_mul(row)?)?.checked_add(ow)?;
        let groups = batch / joined.max(1);
        Some(Self { row, image, joined, groups, outputs, blocks: outputs.div_ceil(ROWS) })
    }
}

pub(super) static METHOD: Method = Method {
    algorithm: Algorithm::Bf16,
    scratch_len: |_| 0,
    // The rows of a block's last outputs are read even where there are none.
    shared_len: |conv, batch| {
        let beyond = ROWS.checked_mul(conv.shape.stride[1])?.checked_mul(conv.shape.in_channels)?;
        Some(conv.input_len(batch)?.checked_add(beyond)? / 2)
    },
    cut: |conv, batch, _| {
        let grid = Grid::new(conv, batch)?;
        let each = ROWS.checked_mul(conv.shape.in_channels)?.checked_mul(conv.shape.stride[1])?;
        let direct = direct::Cut::of(conv, grid.groups.checked_mul(grid.blocks)?, each / 2, 1);
        halves::Cut::new(conv, batch, direct).map(super::Cut::Bf16)
    },
    run_task: |tasks, stage, i, _| match &tasks.call.cut {
        // SAFETY: the caller's contract.
        super::Cut::Bf16(cut) if stage == 0 => unsafe { halves::round::<true>(tasks, cut, i) },
        // SAFETY: the caller's contract.
        super::Cut::Bf16(cut) => unsafe { run_task(tasks, cut, i) },
        super::Cut::Direct(_) | super::Cut::Winograd(_) => tasks.call.conv.isa.path(),
    },
    halves: true,
    filter: None,
};

/// Weights of the task that this thread is likely to take next, asked for bit by bit: memory answers while tiles are
/// multiplied.
struct Ahead {
    next: *const u8,
    /// Cache lines that are left, and those of each step.
    left: usize,
    lines: usize,
}

impl Ahead {
    /// For `passes` that are made meanwhile by task `i`.
    fn new(tasks: &ConvTasks<'_>, cut: &halves::Cut, i: usize, passes: usize) -> Self {
        let conv = tasks.call.conv;
        let nr = kernels(conv.isa).nr();
        let panels = |i: usize| {
            let all = conv.shape.out_channels.div_ceil(nr);
            let [_, panels] = (i < cut.direct.tasks()).then(|| cut.direct.task(i, all))?;
            Some(panels)
        };
        let next = panels(i.saturating_add(tasks.call.args.workers)).filter(|next| panels(i).as_ref() != Some(next));
        let memory = next.map_or(&[][..], |p| conv.weights.memory(p.start * nr, p.end * nr));
        let left = size_of_val(memory) / LINE;
        let steps = passes * conv.segments.len();
        Self { next: memory.as_ptr().cast(), left, lines: left.checked_div(steps).map_or(0, |n| n + 1) }
    }

    /// Where the lines of so many steps begin, and how many there are at each.
    fn take(&mut self, steps: usize) -> (*const u8, usize) {
        let (from, all) = (self.next, steps * self.lines);
        if self.left < all {
            self.left = 0;
            return (from, 0);
        }
        (self.next, self.left) = (from.wrapping_add(all * LINE), self.left - all);
        (from, self.lines)
    }
}

/// A block's sums, in whole cache lines.
#[repr(align(64))]
struct Block([f32; ROWS * ROWS]);

/// Outputs of a block, one after the other.
#[derive(Clone, Copy, Default)]
struct Run {
    /// The first one's row in the block, and its number among all outputs.
    row: usize,
    output: usize,
    len: usize,
}

/// Runs task `i` of the products.
///
/// # Safety
/// There is such a task, the input is rounded, and nobody else touches this task's part of the output.
unsafe fn run_task(tasks: &ConvTasks<'_>, cut: &halves::Cut, i: usize) -> Path {
    let call = &tasks.call;
    let conv = call.conv;
    let kn = kernels(conv.isa);
    let (s, [oh, ow]) = (&conv.shape, conv.out_size);
    let (Some(grid), Some(first)) = (Grid::new(conv, call.pixels / (oh * ow)), conv.segments.first()) else {
        return conv.isa.path();
    };
    // SAFETY: the layer is packed for tiles, which the process was given, and a task is not begun within another.
    let _tiles = unsafe { Tiles::new(&Shapes::new(first.len)) };
    // SAFETY: the first stage is done; from here on the input is only read, and `on` found room for it.
    let input = unsafe { tasks.shared.part(0, call.shared_len) }.as_ptr();
    let pairs = s.in_channels / 2;
    let all = s.out_channels.div_ceil(kn.nr());
    let [blocks, panels] = cut.direct.task(i, all);
    let mut ahead = Ahead::new(tasks, cut, i, blocks.len().saturating_sub(1) * panels.len());
    for block in blocks.clone() {
        let (group, start) = (block / grid.blocks, block % grid.blocks * ROWS);
        let mut runs = [Run::default(); ROWS];
        let (count, rows) = outputs(&grid, [oh, ow], group, start, &mut runs);
        if count == 0 {
            continue;
        }
        // SAFETY: the first row of the block, which has an output.
        let a = unsafe { input.add((group * s.image_len(1).unwrap_or(0) + start * s.stride[1]) * pairs) };
        for panel in panels.clone() {
            let column = panel * kn.nr();
            let width = kn.panel_width(s.out_channels - column);
            let vectors = width / kn.lanes;
            let (b, step) = (conv.weights.panel(column), 4 * width * first.len);
            let (from, lines) = if block == blocks.start {
                (b.wrapping_add(AHEAD), step / LINE)
            } else {
                ahead.take(conv.segments.len())
            };
            let operands = Operands {
                a,
                row: 4 * s.stride[1] * pairs,
                steps: &conv.segments,
                b,
                panel: 4 * width,
                step,
                pitch: 4 * width,
                ahead: from,
                lines,
            };
            let mut sums = MaybeUninit::<Block>::uninit();
            // SAFETY: the rows of a block lie within the shared memory, as `shared_len` counts them; a panel of this
            // width begins at this column; `sums` has room for all, and the runs are of rows that the kernel wrote and
            // of outputs that are this task's.
            unsafe {
                let sums = (&raw mut (*sums.as_mut_ptr()).0).cast();
                amx::kernel(rows.div_ceil(SIDE), vectors)(&operands, sums);
                for run in &runs[..count] {
                    store(tasks, run, sums, column, width);
                }
            }
        }
    }
    conv.isa.path()
}

/// Stores a run's columns `column..column + width`, those that there are, of sums whose rows have `width`.
///
/// # Safety
/// The sums are there, and nobody else touches these columns of the run's outputs.
unsafe fn store(tasks: &ConvTasks<'_>, run: &Run, sums: *const f32, column: usize, width: usize) {
    let (args, conv) = (&tasks.call.args, tasks.call.conv);
    let [oh, ow] = conv.out_size;
    let n = width.min(conv.shape.out_channels - column);
    let mut done = 0;
    while done < run.len {
        let output = run.output + done;
        let rows = (oh * ow - output % (oh * ow)).min(run.len - done);
        let row = |of: Option<Rows<'_>>, i: usize| {
            of.map_or((ptr::null(), 0), |r| (r.data.as_ptr().wrapping_add(i * r.stride + column), r.stride))
        };
        let out = tasks.out.as_ptr().wrapping_add(output * args.out_stride + column);
        // SAFETY: the caller's promise; `bind` and `on` found all rows of all outputs in their slices.
        unsafe {
            pairs::store_sums(&Sums {
                sums: sums.add((run.row + done) * width),
                pitch: width,
                rows,
                n,
                bias: conv.bias.as_ptr().add(column),
                sample: row(args.sample, output / (oh * ow)).0,
                scale: args.scale,
                residual: row(args.residual, output),
                out: (out, args.out_stride),
            });
            if args.activation != Activation::Identity {
                for r in 0..rows {
                    let row = core::slice::from_raw_parts_mut(out.add(r * args.out_stride), n);
                    activate(conv.isa, args.activation, row);
                }
            }
        }
        done += rows;
    }
}

/// The outputs among those counted from `start` on in a group: how many runs there are, and the block's rows up to the
/// last of them.
fn outputs(grid: &Grid, [oh, ow]: [usize; 2], group: usize, start: usize, runs: &mut [Run; ROWS]) -> (usize, usize) {
    let (mut count, mut rows, mut r) = (0usize, 0, 0);
    while r < ROWS && start + r < grid.outputs {
        let (image, within) = ((start + r) / grid.image, (start + r) % grid.image);
        let (y, x) = (within / grid.row, within % grid.row);
        // As far as the row goes, or the image if that ends within it.
        let ahead = (grid.row - x).min(grid.image - within).min(ROWS - r);
        if y < oh && x < ow && image < grid.joined {
            let len = ahead.min(ow - x);
            let output = ((group * grid.joined + image) * oh + y) * ow + x;
            // As it goes on where the one before ended, of an image without padding, it is a part of that.
            match count.checked_sub(1).and_then(|last| runs.get_mut(last)) {
                Some(last) if last.row + last.len == r && last.output + last.len == output => last.len += len,
                _ => {
                    runs[count] = Run { row: r, output, len };
                    count += 1;
                }
            }
            rows = r + len;
        }
        r += ahead;
    }
    (count, rows)
}
