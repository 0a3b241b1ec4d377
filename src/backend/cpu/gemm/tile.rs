//! The microkernels: one generic body, compiled for each path and each tile height.
#![allow(unsafe_code)] // Raw row pointers; every dereference is inside what `Tile`'s contract promises.

use super::super::isa::{Isa, Path};
use super::super::simd::{Portable, Simd, unroll};
use super::super::stored::WeightType;
use crate::int4;

/// The largest tile height of any path; `unroll` counts so far.
pub(crate) const MAX_MR: usize = 14;

/// Floats of a cache line.
const LINE: usize = 16;

/// Tiles of at most so many rows, and of fewer than the path's tallest, wait for B more than they compute, and B comes
/// from memory where the tiles are all of a layer's rows. They ask for it this many bytes before: processors look ahead
/// by themselves, but not into the next page, whose address may take as long to find as its first line. Of the tallest
/// there are several to a panel of most layers, and all but the first find it in cache.
const FEW: usize = 8;
const AHEAD: usize = 4096;

/// How an entry of B is read.
pub(crate) trait Entry {
    const BITS: usize;
    /// Rows of a panel that share scales: a row of bf16 that stands before them. 0 for entries without.
    const GROUP: usize = 0;

    /// `LANES` entries from `p` on, without scales.
    ///
    /// # Safety
    /// `p` is valid for them, and the CPU has the instructions of `S`.
    unsafe fn load<S: Simd>(p: *const u8) -> S::V;

    /// Bytes of `n` entries, whole vectors of them.
    #[inline(always)]
    fn bytes(n: usize) -> usize {
        // Not n * BITS / 8, in which a compiler must keep what overflows.
        if Self::BITS >= 8 { n * (Self::BITS / 8) } else { n / (8 / Self::BITS) }
    }
}

/// Entries of f32, f16, bf16, 8-bit integers with factors and 4-bit integers with scales.
pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct Bf16;
pub(crate) struct Int8;
pub(crate) struct Int4;

impl Entry for F32 {
    const BITS: usize = 32;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { S::load(p.cast()) }
    }
}

impl Entry for F16 {
    const BITS: usize = 16;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { S::load_f16(p.cast()) }
    }
}

impl Entry for Bf16 {
    const BITS: usize = 16;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { S::load_bf16(p.cast()) }
    }
}

impl Entry for Int8 {
    const BITS: usize = 8;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { S::load_i8(p.cast()) }
    }
}

impl Entry for Int4 {
    const BITS: usize = 4;
    const GROUP: usize = int4::GROUP;
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8) -> S::V {
        // SAFETY: the caller's contract.
        unsafe { S::load_i4(p) }
    }
}

/// A run of the sum: `len` floats of each row of table `table`, at `offset` floats from the row's pointer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    pub table: usize,
    pub offset: usize,
    pub len: usize,
}

/// One output tile. Rows at and beyond the kernel's height are not looked at.
///
/// Contract: every row pointer is valid for every segment of its table, `b` for `sum(len) * nr` entries of the kernel's
/// type and their scales, `factor` and `bias` (if not null) for `nr` floats, and `out` and (if `has_..`)
/// `sample` and `residual` rows for `n` floats, `1 <= n <= nr`. If `sums` is not null, it is valid for all rows of
/// whole panels, and nothing after it is looked at.
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    pub a: [[*const f32; MAX_MR]; 2],
    pub segments: &'a [Segment],
    pub b: *const u8,
    /// The factors of B's columns, or null.
    pub factor: *const f32,
    /// Floats from these rows to those of the tile that is likely to come next, which are brought into cache.
    pub ahead: usize,
    /// Memory that will be wanted much later, and how many of its cache lines to ask for at each 16th step of the sum.
    pub stream: *const f32,
    pub stream_lines: usize,
    /// Where the sums lie as they are, a panel's width after one another, or null: then as `out` and the rest say.
    pub sums: *mut f32,
    /// Whether sums go on from what lies there; for B of f32.
    pub resume: bool,
    /// Columns to store.
    pub n: usize,
    pub out: [*mut f32; MAX_MR],
    pub bias: *const f32,
    pub has_sample: bool,
    pub sample: [*const f32; MAX_MR],
    pub has_residual: bool,
    pub residual: [*const f32; MAX_MR],
    /// `out = (sum + bias + sample + residual) * scale`.
    pub scale: f32,
}

impl<'a> Tile<'a> {
    /// A tile without rows, bias or additions.
    pub fn new(segments: &'a [Segment], n: usize, scale: f32) -> Self {
        Self {
            a: [[core::ptr::null(); MAX_MR]; 2],
            segments,
            b: core::ptr::null(),
            factor: core::ptr::null(),
            ahead: 0,
            stream: core::ptr::null(),
            stream_lines: 0,
            sums: core::ptr::null_mut(),
            resume: false,
            n,
            out: [core::ptr::null_mut(); MAX_MR],
            bias: core::ptr::null(),
            has_sample: false,
            sample: [core::ptr::null(); MAX_MR],
            has_residual: false,
            residual: [core::ptr::null(); MAX_MR],
            scale,
        }
    }
}

/// A kernel for one tile height and panel width; it returns the path it was compiled for.
pub type TileFn = unsafe fn(&Tile<'_>) -> Path;

/// The kernels of one path for one type of B's entries: by panel width in vectors minus 1, then by height minus 1.
pub type Tiles = &'static [&'static [TileFn]];

/// The sizes of a path's tiles. What has other kernels than those for f32 names them itself (see [`tiles`]), so that a
/// program has only those that its networks use.
pub(crate) struct Kernels {
    /// Floats in a vector: panels are multiples of it wide.
    pub lanes: usize,
    /// Vectors in the widest panel.
    pub nv: usize,
    /// The tallest tile.
    pub mr: usize,
    /// Those for B of f32.
    f32: Tiles,
}

impl Kernels {
    /// Columns of a full panel.
    #[inline]
    pub fn nr(&self) -> usize {
        self.lanes * self.nv
    }

    /// Width of the panel that holds `n` remaining columns.
    #[inline]
    pub fn panel_width(&self, n: usize) -> usize {
        n.min(self.nr()).next_multiple_of(self.lanes)
    }

    /// The kernel for `rows` rows and a panel of f32, `width` columns wide.
    #[inline(always)]
    pub fn tile_fn(&self, rows: usize, width: usize) -> Option<TileFn> {
        self.tile_fn_of(self.f32, rows, width)
    }

    /// The one of `tiles` for `rows` rows and a panel `width` columns wide.
    #[inline(always)]
    pub fn tile_fn_of(&self, tiles: Tiles, rows: usize, width: usize) -> Option<TileFn> {
        tiles.get((width / self.lanes).checked_sub(1)?)?.get(rows.checked_sub(1)?).copied()
    }
}

/// The kernels of a path. Calling one is sound for the holder of the `Isa`.
pub(crate) fn kernels(isa: Isa) -> &'static Kernels {
    match isa.path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => &avx512::KERNELS,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => &avx2::KERNELS,
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Path::Neon => &neon::KERNELS,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Path::Simd128 => &simd128::KERNELS,
        _ => &portable::KERNELS,
    }
}

/// A path's kernels for entries of this type.
pub(crate) fn tiles(isa: Isa, kind: WeightType) -> Tiles {
    let all = match isa.path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => &avx512::TILES,
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => &avx2::TILES,
        #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
        Path::Neon => &neon::TILES,
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Path::Simd128 => &simd128::TILES,
        _ => &portable::TILES,
    };
    all[kind as usize]
}

/// The portable path's, by type.
pub static PORTABLE_TILES: [Tiles; 5] = portable::TILES;

/// The body of all kernels. `acc` lives in registers.
#[inline(always)]
unsafe fn tile_body<S: Simd, E: Entry, const MR: usize, const NV: usize, const TALLEST: usize>(
    t: &Tile<'_>,
    sums: *mut f32,
) {
    // SAFETY: the contract of `Tile` for every pointer, of `S` for the instructions; `sums` has room for all.
    unsafe {
        let mut acc = [[S::zero(); NV]; MR];
        if E::BITS == 32 && t.resume {
            unroll!(i in MR => {
                unroll!(j in NV => { acc[i][j] = S::load(sums.add((i * NV + j) * S::LANES)) });
            });
        }
        let mut b = t.b;
        let mut stream = t.stream;
        let mut scales = [S::zero(); NV];
        let mut scaled = 0; // Rows of B for which these are the scales.
        let mut a = [core::ptr::null::<f32>(); MR];
        let (mut k, mut end, mut len) = (0, 0, 0);
        macro_rules! begin {
            ($segment:expr) => {
                unroll!(i in MR => { a[i] = t.a[$segment.table & 1][i].add($segment.offset) });
                (k, len) = (0, $segment.len);
            };
        }
        // A cache line of each row: asks for the line that the next tile will want.
        macro_rules! line {
            () => {
                end = len.min(k + LINE);
                if E::GROUP > 0 {
                    if scaled == 0 {
                        unroll!(j in NV => { scales[j] = S::load_bf16(b.add(2 * j * S::LANES).cast()) });
                        (b, scaled) = (b.add(2 * NV * S::LANES), E::GROUP);
                    }
                    end = end.min(k + scaled);
                    scaled -= end - k;
                }
                unroll!(i in MR => { S::prefetch(a[i].wrapping_add(k + t.ahead)) });
                // Read anew each time, or the compiler makes a second kernel for tiles that ask for nothing.
                for _ in 0..(&raw const t.stream_lines).read_volatile() {
                    S::prefetch_far(stream);
                    stream = stream.wrapping_add(LINE);
                }
            };
        }
        macro_rules! step {
            () => {
                let mut bv = [S::zero(); NV];
                unroll!(j in NV => {
                    let v = E::load::<S>(b.add(E::bytes(j * S::LANES)));
                    bv[j] = if E::GROUP > 0 { S::mul(v, scales[j]) } else { v };
                });
                if MR <= FEW && MR < TALLEST {
                    let lines = const { (NV * S::LANES * E::BITS).div_ceil(8 * 4 * LINE) };
                    let mut line = 0;
                    while line < lines {
                        S::prefetch(b.wrapping_add(AHEAD + 4 * LINE * line).cast());
                        line += 1;
                    }
                }
                b = b.add(E::bytes(NV * S::LANES));
                unroll!(i in MR => {
                    let av = S::splat(*a[i].add(k));
                    unroll!(j in NV => { acc[i][j] = S::mul_add(av, bv[j], acc[i][j]) });
                });
                k += 1;
            };
        }
        if MR * NV <= 16 {
            for s in t.segments {
                begin!(s);
                while k < len {
                    line!();
                    while k < end {
                        step!();
                    }
                }
            }
        } else {
            // The same in one loop: around loops within one another compilers spill so many sums.
            let mut segments = t.segments.iter();
            loop {
                if k == end {
                    if k == len {
                        let Some(s) = segments.find(|s| s.len > 0) else { break };
                        begin!(s);
                    }
                    line!();
                }
                step!();
            }
        }
        unroll!(i in MR => {
            unroll!(j in NV => { S::store(sums.add((i * NV + j) * S::LANES), acc[i][j]) });
        });
    }
}

/// Stores the sums of `rows` rows, `NV` vectors each, with all that is added to them. Not a part of the body, of which
/// there is one for each height and type.
#[inline(always)]
pub(super) unsafe fn store_body<S: Simd, const NV: usize>(t: &Tile<'_>, sums: *const f32, rows: usize) {
    // SAFETY: the contract of `Tile` for every pointer, of `S` for the instructions; `sums` is what a body wrote.
    unsafe {
        let scale = S::splat(t.scale);
        for j in 0..NV {
            let at = j * S::LANES;
            let left = t.n.saturating_sub(at).min(S::LANES);
            if left == 0 {
                break;
            }
            let bias = if t.bias.is_null() { S::zero() } else { S::load(t.bias.add(at)) };
            for i in 0..rows.min(MAX_MR) {
                let mut v = S::load(sums.add((i * NV + j) * S::LANES));
                if !t.factor.is_null() {
                    v = S::mul(v, S::load(t.factor.add(at)));
                }
                v = S::add(v, bias);
                if t.has_sample {
                    v = S::add(v, S::load_most(t.sample[i].add(at), left));
                }
                if t.has_residual {
                    v = S::add(v, S::load_most(t.residual[i].add(at), left));
                }
                v = S::mul(v, scale);
                S::store_most(t.out[i].add(at), left, v);
            }
        }
    }
}

/// A module with the kernels of one path: its `Simd` type, heights, widths and target features.
macro_rules! kernel_set {
    ($module:ident, $simd:ty, [$($feature:meta)?], mr: $mr:literal [$($h:literal)*], nv: $nv:literal [$($w:literal)*]) => {
        mod $module {
            use super::*;

            $(#[$feature])?
            unsafe fn tile<E: Entry, const MR: usize, const NV: usize>(t: &Tile<'_>) -> Path {
                // Through memory: `acc` is then in registers and has only constant indices.
                let mut sums = [[core::mem::MaybeUninit::<<$simd as Simd>::V>::uninit(); NV]; MR];
                let sums: *mut f32 = sums.as_mut_ptr().cast();
                // SAFETY: the features are enabled here; the rest is the caller's contract.
                unsafe {
                    tile_body::<$simd, E, MR, NV, $mr>(t, if t.sums.is_null() { sums } else { t.sums });
                    if t.sums.is_null() {
                        store::<NV>(t, sums, MR);
                    }
                }
                <$simd>::PATH
            }

            $(#[$feature])?
            #[inline(never)]
            unsafe fn store<const NV: usize>(t: &Tile<'_>, sums: *const f32, rows: usize) {
                // SAFETY: as above.
                unsafe { store_body::<$simd, NV>(t, sums, rows) }
            }

            const fn heights<E: Entry, const NV: usize>() -> [TileFn; $mr] {
                [$(tile::<E, $h, NV>),*]
            }

            pub(super) static KERNELS: Kernels = Kernels {
                lanes: <$simd>::LANES,
                nv: $nv,
                mr: $mr,
                f32: TILES[0],
            };

            /// By type of B's entries.
            pub(super) static TILES: [Tiles; 5] = [
                &[$(&const { heights::<F32, $w>() }),*],
                &[$(&const { heights::<F16, $w>() }),*],
                &[$(&const { heights::<Bf16, $w>() }),*],
                &[$(&const { heights::<Int8, $w>() }),*],
                &[$(&const { heights::<Int4, $w>() }),*],
            ];
        }
    };
}

kernel_set!(portable, Portable, [], mr: 4 [1 2 3 4], nv: 2 [1 2]);
#[cfg(target_arch = "x86_64")]
kernel_set!(
    avx2, super::super::super::simd::Avx2, [target_feature(enable = "avx2,fma,f16c")],
    mr: 6 [1 2 3 4 5 6], nv: 2 [1 2]
);
#[cfg(target_arch = "x86_64")]
kernel_set!(
    avx512, super::super::super::simd::Avx512, [target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw")],
    mr: 14 [1 2 3 4 5 6 7 8 9 10 11 12 13 14], nv: 2 [1 2]
);
#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
kernel_set!(neon, super::super::super::simd::Neon, [], mr: 6 [1 2 3 4 5 6], nv: 4 [1 2 3 4]);
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
kernel_set!(simd128, super::super::super::simd::Simd128, [], mr: 4 [1 2 3 4], nv: 2 [1 2]);
