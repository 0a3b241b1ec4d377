//! Winograd's F(4x4, 3x3): a 3x3 convolution with stride 1 by a quarter of the multiplications.
//!
//! Each patch of 6x6 inputs gives 4x4 outputs, `A^T [sum over channels (G g G^T) . (B^T d B)] A`: transforms of filter
//! g and patch d, and between them 36 matrix products of (tiles x channels) by (channels x outputs). Lavin and Gray
//! 2015, with the points 0, 5/8, -5/8, 3/2, -3/2 and infinity instead of the usual 0, 1, -1, 2, -2: all entries of B
//! and A are then exact in f32 and the error is a third, less than twice that of direct sums (1.0e-6 against 6.1e-7 for
//! 128 channels, 1.9e-6 against 1.2e-6 for 512, relative L2; `cargo bench --features bench --bench kernels -- errors`).
//!
//! The filters are transformed at each call, a panel at a time, into cache: of large images that takes a few percent of
//! the time, where transformed filters would take four times the memory and, at batch 1, four times the traffic. The
//! transformed patches of a run of tiles are the shared memory. A tile's result does not depend on the other tiles, so
//! neither on batch nor on tasks.
#![allow(unsafe_code)] // Transforms over raw memory, within bounds that `bind` checks.

use super::super::gemm::{MAX_MR, Segment, Tile, kernels};
use super::super::isa::Path;
use super::super::simd::{Simd, dispatch, unroll};
use super::super::vmath::{Activation, activate};
use super::{Algorithm, ConvTasks, FilterFn, Method, PackedConv, split};

mod filter;

pub(super) use filter::Filter;
use filter::{G, filter_bf16_raw, filter_f16_raw, filter_f32_raw, filter_int4_raw, filter_int8_raw};

/// Rows and columns of outputs in a tile.
const OUT: usize = 4;
/// Rows and columns of a patch of inputs.
const PATCH: usize = 6;
/// Entries of a transformed patch.
const POINTS: usize = PATCH * PATCH;
/// The most tiles that one task multiplies: its products stay in cache.
const BLOCK: usize = 64;
/// Tiles that one task transforms.
const INPUTS: usize = 8;
/// Up to so many tiles take about as long for the transform of the filters as for products, and it waits for filters,
/// which it reads once for each row of G. So it is made for a few channels at a time, so many values of a panel: their
/// filters, transformed and not, are 30 KiB and stay in the first cache, and the products go on from sums in memory.
/// That takes 5 % off ddpm-cifar10-32 at batch 1 on an Intel Xeon (Sapphire Rapids class); of 64 tiles it adds some.
const FEW: usize = 16;
const DEPTH: usize = 512;
/// Floats of one cache line. Planes are one line longer than their contents, so that the same entry of all 36 does not
/// fall into one set of the cache.
const LINE: usize = 16;

// The points a, -a, b, -b, and the sums and products of their squares that the transforms need.
const A: f32 = 0.625;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
const SUM: f32 = A2 + B2;
const PRODUCT: f32 = A2 * B2;

/// How a call is cut: runs of tiles, each transformed in one stage and multiplied in the next.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Tiles of one image, down and across.
    grid: [usize; 2],
    /// Tiles of the batch.
    tiles: usize,
    runs: usize,
    channels: usize,
    panels: usize,
    workers: usize,
}

impl Cut {
    /// `None` on overflow.
    pub fn new(conv: &PackedConv, batch: usize, workers: usize) -> Option<Self> {
        /// Floats of transformed patches in a run: 2 MiB, of which a core's cache holds a good part, and enough tiles
        /// to make the transform of the filters cheap beside the products.
        const RUN: usize = 512 * 1024;
        let grid = [conv.out_size[0].div_ceil(OUT), conv.out_size[1].div_ceil(OUT)];
        let tiles = grid[0].checked_mul(grid[1])?.checked_mul(batch)?;
        let channels = conv.shape.in_channels;
        let run = (RUN / channels.checked_mul(POINTS)?).max(2 * BLOCK);
        let panels = conv.shape.out_channels.div_ceil(kernels(conv.isa).nr());
        Some(Self { grid, tiles, runs: tiles.div_ceil(run), channels, panels, workers: workers.clamp(1, 1024) })
    }

    /// The longest run.
    fn longest(&self) -> usize {
        self.tiles.div_ceil(self.runs.max(1))
    }

    fn plane(&self) -> Option<usize> {
        self.longest().checked_mul(self.channels)?.checked_next_multiple_of(LINE)?.checked_add(LINE)
    }

    pub fn shared_len(&self) -> Option<usize> {
        // One line more, to begin on one.
        self.plane()?.checked_mul(POINTS)?.checked_add(LINE)
    }

    /// Tiles of a run.
    fn run(&self, run: usize) -> [usize; 2] {
        [split(self.tiles, self.runs, run), split(self.tiles, self.runs, run + 1)]
    }

    /// Into how many blocks of tiles a run's products are cut. Each block transforms the filters anew, so there are no
    /// more than cache and an even load of the workers ask for.
    fn blocks(&self, tiles: usize) -> usize {
        let mut blocks = tiles.div_ceil(BLOCK);
        let uneven = |tasks: usize| !tasks.is_multiple_of(self.workers) && tasks < 3 * self.workers;
        while blocks < tiles && uneven(blocks * self.panels) {
            blocks += 1;
        }
        blocks
    }

    pub fn stages(&self) -> usize {
        2 * self.runs
    }

    pub fn tasks(&self, stage: usize) -> usize {
        let [from, to] = self.run(stage / 2);
        if stage.is_multiple_of(2) { (to - from).div_ceil(INPUTS) } else { self.blocks(to - from) * self.panels }
    }
}

/// Floats of a worker's scratch: the filters at six points and the products of a block, or one patch.
pub(super) fn scratch_len(conv: &PackedConv) -> usize {
    let nr = kernels(conv.isa).nr();
    let c = conv.shape.in_channels;
    (PATCH * c * nr + POINTS * (BLOCK * nr + LINE)).max(POINTS * c) + LINE
}

/// Runs task `i` of a stage.
///
/// # Safety
/// The task exists, all stages before have run, and nobody else touches this task's part of output and shared memory.
pub(super) unsafe fn run_task(tasks: &ConvTasks<'_>, cut: &Cut, stage: usize, i: usize, scratch: &mut [f32]) -> Path {
    let run = cut.run(stage / 2);
    // SAFETY: the caller's contract.
    unsafe {
        if stage.is_multiple_of(2) {
            inputs(tasks, cut, run, i, scratch)
        } else {
            products(tasks, cut, run, i, scratch)
        }
    }
}

/// The first float at or after `p` that begins a cache line.
fn aligned(p: *mut f32) -> *mut f32 {
    p.wrapping_add(p.align_offset(LINE * size_of::<f32>()).min(LINE))
}

/// Image, row and column of a tile.
fn place(cut: &Cut, tile: usize) -> [usize; 3] {
    let [rows, columns] = cut.grid;
    [tile / (rows * columns), tile / columns % rows, tile % columns]
}

/// Transforms the patches of up to `INPUTS` tiles into the shared memory, `[point][tile of the run][channel]`.
unsafe fn inputs(tasks: &ConvTasks<'_>, cut: &Cut, run: [usize; 2], i: usize, scratch: &mut [f32]) -> Path {
    let conv = tasks.call.conv;
    let s = &conv.shape;
    let c = s.in_channels;
    let ph = s.height + s.padding.top + s.padding.bottom;
    let pw = s.width + s.padding.left + s.padding.right;
    let plane = cut.plane().unwrap_or(0);
    let count = run[1] - run[0];
    let mut path = conv.isa.path();
    let patch = aligned(scratch.as_mut_ptr());
    for tile in i * INPUTS..count.min((i + 1) * INPUTS) {
        let [image, ty, tx] = place(cut, run[0] + tile);
        let [y, x] = [ty * OUT, tx * OUT];
        let origin = ((image * ph + y) * pw + x) * c;
        // SAFETY: `bind` found the padded image in `input`, `on` the shared memory as long as `shared_len`; rows and
        // columns beyond the image are replaced by zeros in the scratch, which holds a patch.
        unsafe {
            let mut input = tasks.call.args.input.as_ptr().add(origin);
            let mut pitch = pw * c;
            if y + PATCH > ph || x + PATCH > pw {
                core::slice::from_raw_parts_mut(patch, POINTS * c).fill(0.0);
                let columns = (pw - x).min(PATCH) * c;
                for r in 0..(ph - y).min(PATCH) {
                    core::ptr::copy_nonoverlapping(input.add(r * pitch), patch.add(r * PATCH * c), columns);
                }
                (input, pitch) = (patch, PATCH * c);
            }
            let out = aligned(tasks.shared.as_ptr()).add(tile * c);
            path = input_raw(conv.isa, &Input { input, pitch, channels: c, out, plane });
        }
    }
    path
}

/// How many channels of so many tiles go through a filter's transform and the products at a time.
fn depth(count: usize, channels: usize, nr: usize) -> usize {
    if count <= FEW { (DEPTH / nr.max(1)).clamp(LINE, channels.max(LINE)) } else { channels }
}

/// Multiplies a block of transformed patches with one panel of transformed filters, transforms back and stores.
unsafe fn products(tasks: &ConvTasks<'_>, cut: &Cut, run: [usize; 2], i: usize, scratch: &mut [f32]) -> Path {
    let conv = tasks.call.conv;
    let kn = kernels(conv.isa);
    let s = &conv.shape;
    let c = s.in_channels;
    let plane = cut.plane().unwrap_or(0);
    let blocks = cut.blocks(run[1] - run[0]);
    let (panel, block) = (i / blocks, i % blocks);
    let column = panel * kn.nr();
    let width = kn.panel_width(s.out_channels - column);
    let from = split(run[1] - run[0], blocks, block);
    let to = split(run[1] - run[0], blocks, block + 1);
    let count = to - from;
    let groups = count.div_ceil(kn.mr);
    let mut segments = [Segment { table: 0, offset: 0, len: c }];
    let filters = aligned(scratch.as_mut_ptr());
    // SAFETY: `scratch_len` holds six points of filters and the planes of a block; the packed weights hold 9 * channels
    // rows of each panel; the shared memory holds this run's patches.
    unsafe {
        let products = filters.add(PATCH * c * kn.nr());
        let product_plane = count * width + LINE;
        let (weights, factor) = (conv.weights.panel(column), conv.weights.factor(column));
        let patches = aligned(tasks.shared.as_ptr()).add(from * c);
        // Bring the weights of the panel that this worker is likely to take next into cache, spread over this block's
        // products.
        let later = column + tasks.call.args.workers.div_ceil(blocks) * kn.nr();
        let later = conv.weights.memory(later, later + kn.nr());
        let lines = later.len() / LINE;
        let depth = depth(count, c, kn.nr());
        let calls = c.div_ceil(depth) * POINTS * groups;
        let mut call = 0;
        for k in (0..c).step_by(depth) {
            let channels = depth.min(c - k);
            segments[0].len = channels;
            let mut tile = Tile::new(&segments, width, 1.0);
            tile.resume = k > 0;
            tile.stream_lines = if block == 0 { lines.div_ceil(calls * channels.div_ceil(LINE)) } else { 0 };
            for (row, g) in G.iter().enumerate() {
                if let Some(filter) = conv.method.filter {
                    let of = [c, k, channels];
                    filter(conv.isa, &Filter { weights, factor, channels: of, width, g, out: filters });
                }
                for j in 0..PATCH {
                    let point = row * PATCH + j;
                    tile.b = filters.add(j * channels * width).cast();
                    for g in 0..groups {
                        let first = split(count, groups, g);
                        let height = split(count, groups, g + 1) - first;
                        tile.ahead = height * c;
                        for r in 0..height.min(MAX_MR) {
                            tile.a[0][r] = patches.add(point * plane + (first + r) * c + k);
                        }
                        tile.sums = products.add(point * product_plane + first * width);
                        tile.stream = later.as_ptr().wrapping_add(call * lines / calls * LINE);
                        call += 1;
                        if let Some(f) = kn.tile_fn(height, width) {
                            f(&tile);
                        }
                    }
                }
            }
        }
        outputs(tasks, cut, [run[0] + from, run[0] + to], column, products, product_plane)
    }
}

/// Transforms a block's products back and stores them with all that is added to them.
unsafe fn outputs(
    tasks: &ConvTasks<'_>,
    cut: &Cut,
    tiles: [usize; 2],
    column: usize,
    products: *const f32,
    plane: usize,
) -> Path {
    let conv = tasks.call.conv;
    let kn = kernels(conv.isa);
    let left = conv.shape.out_channels - column;
    let width = kn.panel_width(left);
    let n = left.min(width);
    let [oh, ow] = conv.out_size;
    let args = &tasks.call.args;
    let mut path = conv.isa.path();
    for tile in tiles[0]..tiles[1] {
        let [image, ty, tx] = place(cut, tile);
        let [y, x] = [ty * OUT, tx * OUT];
        let pixel = (image * oh + y) * ow + x;
        // SAFETY: `bind` and `on` found every pixel's row in output, residual and sample vector; `size` keeps to pixels
        // of the image.
        unsafe {
            let out = Output {
                products: products.add((tile - tiles[0]) * width),
                plane,
                n,
                size: [(oh - y).min(OUT), (ow - x).min(OUT)],
                row: ow,
                bias: conv.bias.as_ptr().add(column),
                sample: args.sample.map(|v| v.data.as_ptr().add(image * v.stride + column)),
                residual: args.residual.map(|v| (v.data.as_ptr().add(pixel * v.stride + column), v.stride)),
                scale: args.scale,
                out: tasks.out.as_ptr().add(pixel * args.out_stride + column),
                out_stride: args.out_stride,
            };
            path = output_raw(conv.isa, &out);
            if args.activation != Activation::Identity {
                for p in 0..out.size[0] * out.size[1] {
                    let at = (p / out.size[1] * ow + p % out.size[1]) * args.out_stride;
                    activate(conv.isa, args.activation, core::slice::from_raw_parts_mut(out.out.add(at), n));
                }
            }
        }
    }
    path
}

struct Input {
    /// The patch's first pixel.
    input: *const f32,
    /// Floats from one row of the image to the next; pixels are `channels` apart.
    pitch: usize,
    channels: usize,
    /// The tile's row in the first plane.
    out: *mut f32,
    plane: usize,
}

/// For each row or column: one after the other without vectors, where a loop is a fifth of the code and programs are to
/// be small.
macro_rules! each {
    ($simd:ty, $i:ident in [$($k:literal)*] => $body:block) => {
        if const { matches!(<$simd>::PATH, Path::Portable) } {
            for $i in [$($k),*] $body
        } else {
            unroll!($i in [$($k)*] => $body);
        }
    };
}

/// One dimension of B^T d.
#[inline(always)]
unsafe fn input_1d<S: Simd>(d: [S::V; PATCH]) -> [S::V; PATCH] {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        let even_a = S::mul_add(S::splat(-B2), d[2], d[4]);
        let odd_a = S::mul_add(S::splat(-B2), d[1], d[3]);
        let even_b = S::mul_add(S::splat(-A2), d[2], d[4]);
        let odd_b = S::mul_add(S::splat(-A2), d[1], d[3]);
        [
            S::mul_add(S::splat(PRODUCT), d[0], S::mul_add(S::splat(-SUM), d[2], d[4])),
            S::mul_add(S::splat(A), odd_a, even_a),
            S::mul_add(S::splat(-A), odd_a, even_a),
            S::mul_add(S::splat(B), odd_b, even_b),
            S::mul_add(S::splat(-B), odd_b, even_b),
            S::mul_add(S::splat(PRODUCT), d[1], S::mul_add(S::splat(-SUM), d[3], d[5])),
        ]
    }
}

#[inline(always)]
unsafe fn input_body<S: Simd>(t: &Input) {
    // SAFETY: the caller gives a patch of `channels` floats a pixel, and a row of `channels` floats in 36 planes.
    unsafe {
        let mut c = 0;
        while c < t.channels {
            let n = (t.channels - c).min(S::LANES);
            // What is known where it is compiled makes a body without a question in it.
            if n == S::LANES {
                input_vector::<S>(t, c, S::LANES);
            } else {
                input_vector::<S>(t, c, n);
            }
            c += n;
        }
    }
}

#[inline(always)]
unsafe fn input_vector<S: Simd>(t: &Input, c: usize, n: usize) {
    // SAFETY: as in `input_body`.
    unsafe {
        let mut half = [[S::zero(); PATCH]; PATCH];
        each!(S, x in [0 1 2 3 4 5] => {
            let mut d = [S::zero(); PATCH];
            each!(S, y in [0 1 2 3 4 5] => {
                d[y] = S::load_most(t.input.add(y * t.pitch + x * t.channels + c), n)
            });
            half[x] = input_1d::<S>(d);
        });
        each!(S, y in [0 1 2 3 4 5] => {
            let v = input_1d::<S>([half[0][y], half[1][y], half[2][y], half[3][y], half[4][y], half[5][y]]);
            each!(S, x in [0 1 2 3 4 5] => { S::store_most(t.out.add((y * PATCH + x) * t.plane + c), n, v[x]) });
        });
    }
}
dispatch! { unsafe fn input_raw = input_body(t: &Input) }

/// One row of G g G^T, of filters of this type.
///
/// # Safety
/// As [`filter_body`].
const fn method(filter: FilterFn) -> Method {
    Method {
        algorithm: Algorithm::Winograd,
        scratch_len,
        shared_len: |conv, batch| Cut::new(conv, batch, 1)?.shared_len(),
        cut: |conv, batch, workers| Cut::new(conv, batch, workers).map(super::Cut::Winograd),
        run_task: |tasks, stage, i, scratch| match &tasks.call.cut {
            // SAFETY: the caller's contract.
            super::Cut::Winograd(cut) => unsafe { run_task(tasks, cut, stage, i, scratch) },
            super::Cut::Direct(_) | super::Cut::Bf16(_) => tasks.call.conv.isa.path(),
        },
        halves: false,
        filter: Some(filter),
    }
}

/// By type of weights.
pub(super) static METHODS: [Method; 5] = [
    method(filter_f32_raw),
    method(filter_f16_raw),
    method(filter_bf16_raw),
    method(filter_int8_raw),
    method(filter_int4_raw),
];

struct Output {
    /// The tile's row in the first plane.
    products: *const f32,
    plane: usize,
    /// Columns to store.
    n: usize,
    /// Rows and columns of pixels to store.
    size: [usize; 2],
    /// Pixels in a row of the image.
    row: usize,
    bias: *const f32,
    sample: Option<*const f32>,
    residual: Option<(*const f32, usize)>,
    scale: f32,
    out: *mut f32,
    out_stride: usize,
}

/// One dimension of A^T m.
#[inline(always)]
unsafe fn output_1d<S: Simd>(m: [S::V; PATCH]) -> [S::V; OUT] {
    // SAFETY: the caller's contract is that of S.
    unsafe {
        let (sum_a, dif_a) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum_b, dif_b) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(sum_a, sum_b)),
            S::mul_add(S::splat(B), dif_b, S::mul(S::splat(A), dif_a)),
            S::mul_add(S::splat(B2), sum_b, S::mul(S::splat(A2), sum_a)),
            S::mul_add(S::splat(B * B2), dif_b, S::mul_add(S::splat(A * A2), dif_a, m[5])),
        ]
    }
}

#[inline(always)]
unsafe fn output_body<S: Simd>(t: &Output) {
    // SAFETY: the caller gives 36 planes of products, and `size` pixels of `n` floats in out and residual.
    unsafe {
        let mut c = 0;
        while c < t.n {
            let n = (t.n - c).min(S::LANES);
            // As in `input_body`.
            if n == S::LANES {
                output_vector::<S>(t, c, S::LANES);
            } else {
                output_vector::<S>(t, c, n);
            }
            c += n;
        }
    }
}

#[inline(always)]
unsafe fn output_vector<S: Simd>(t: &Output, c: usize, n: usize) {
    // SAFETY: as in `output_body`.
    unsafe {
        let mut half = [[S::zero(); OUT]; PATCH];
        each!(S, x in [0 1 2 3 4 5] => {
            let mut m = [S::zero(); PATCH];
            each!(S, y in [0 1 2 3 4 5] => { m[y] = S::load(t.products.add((y * PATCH + x) * t.plane + c)) });
            half[x] = output_1d::<S>(m);
        });
        let (scale, mut add) = (S::splat(t.scale), S::load(t.bias.add(c)));
        if let Some(p) = t.sample {
            add = S::add(add, S::load_most(p.add(c), n));
        }
        each!(S, y in [0 1 2 3] => {
            if y < t.size[0] {
                let v = output_1d::<S>([half[0][y], half[1][y], half[2][y], half[3][y], half[4][y], half[5][y]]);
                each!(S, x in [0 1 2 3] => {
                    if x < t.size[1] {
                        let pixel = y * t.row + x;
                        let mut v = S::add(v[x], add);
                        if let Some((p, stride)) = t.residual {
                            v = S::add(v, S::load_most(p.add(pixel * stride + c), n));
                        }
                        S::store_most(t.out.add(pixel * t.out_stride + c), n, S::mul(v, scale));
                    }
                });
            }
        });
    }
}
dispatch! { unsafe fn output_raw = output_body(t: &Output) }

#[cfg(test)]
mod tests {
    use super::*;

    /// The three matrices belong together: a correlation of one row, exactly but for rounding.
    #[test]
    fn one_dimension_is_a_correlation() {
        use super::super::super::simd::Portable as P;
        let d = [0.3f32, -1.2, 0.7, 2.1, -0.4, 0.9];
        let g = [0.5f32, -0.25, 1.5];
        // SAFETY: plain Rust.
        let y = unsafe {
            let v = input_1d::<P>(d.map(|x| P::splat(x)));
            let mut m = [P::zero(); PATCH];
            for i in 0..PATCH {
                let u: f32 = (0..3).map(|j| G[i][j] * g[j]).sum();
                m[i] = P::mul(v[i], P::splat(u));
            }
            output_1d::<P>(m).map(|v| P::to_array(v)[0])
        };
        for (i, y) in y.into_iter().enumerate() {
            let want: f32 = (0..3).map(|j| d[i + j] * g[j]).sum();
            assert!((y - want).abs() < 1e-6, "{i}: {y} for {want}");
        }
    }
}
