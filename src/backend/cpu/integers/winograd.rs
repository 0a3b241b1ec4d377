//! Winograd's F(4x4, 3x3) in integers: a 3x3 convolution with stride 1 by a quarter of the multiplications, and exact.
//!
//! With the points 0, 1, -1, 2, -2 and infinity, and the rows of G times 4, 6, 6, 24, 24 and 1, all that is
//! transformed are integers: of a patch of bytes at most 100 * 128, of a filter at most 49 * 127, both of 16 bits.
//! Row i of what comes out is then 24, 12, 6 or 6 times what it should be, so a pixel 9 * 2^n times, with n at most
//! 6. All of it is arithmetic modulo 2^32: the inverse of 9 and a shift make the sum of it wherever that is within
//! [`LARGEST`], whatever overflowed on the way.
//!
//! A strip of tiles is transformed at once, the filters of a panel for [`BLOCK`] channels at a time, at each call: they
//! would take eight times the memory of what they are made of.

use super::super::isa::{Isa, Path};
use super::COLUMNS;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
mod neon;
mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

/// Rows and columns of outputs in a tile.
pub const OUT: usize = 4;
/// Rows and columns of a patch of inputs.
pub const PATCH: usize = 6;
/// Entries of a transformed patch.
pub const POINTS: usize = PATCH * PATCH;
/// Channels whose filters are transformed at a time.
pub const BLOCK: usize = 32;
/// What channels are a multiple of.
pub const UNIT: usize = 8;
/// Entries of the filters of a panel and a block at one point, or fewer.
const PLANE: usize = BLOCK * COLUMNS;
/// Bytes of transformed filters.
pub const FILTERS: usize = POINTS * PLANE * size_of::<i16>();
/// No sum may be larger, so that 64 times it is a number of 32 bits.
pub const LARGEST: i64 = (1 << 25) - 1;

/// Nine times this is 1 modulo 2^32.
const NINTH: i32 = 954_437_177;
/// The powers of two in the factors of a tile's rows and columns.
const POWERS: [i32; OUT] = [3, 2, 1, 1];

/// How many steps of a column of packed weights lie together, see [`entry`](super::entry).
pub fn step(isa: Isa) -> usize {
    match isa.path() {
        Path::Neon => 1,
        _ => super::STEP,
    }
}

/// Vectors of integers of 16 and of 32 bits, with sums that wrap.
///
/// # Safety
/// Every function needs the path's instructions, and that what its pointers refer to is there.
trait Ints: Copy {
    /// Lanes of 16 bits.
    const NARROW: usize;
    /// Lanes of 32 bits.
    const WIDE: usize;
    /// The most rows of a product.
    const ROWS: usize;
    type N: Copy;
    type W: Copy;

    /// Bytes as lanes. Some path's lanes are in another order; then also in memory, of patches and filters alike.
    unsafe fn bytes(p: *const i8) -> Self::N;
    unsafe fn put(p: *mut i16, v: Self::N);
    unsafe fn add(a: Self::N, b: Self::N) -> Self::N;
    unsafe fn sub(a: Self::N, b: Self::N) -> Self::N;
    unsafe fn double(a: Self::N) -> Self::N;
    #[inline(always)]
    unsafe fn quadruple(a: Self::N) -> Self::N {
        // SAFETY: the trait's contract.
        unsafe { Self::double(Self::double(a)) }
    }
    /// Where entry `i` of a point's filters lies, of `len` for a panel and a block.
    #[inline(always)]
    fn place(i: usize, _len: usize) -> usize {
        i
    }

    unsafe fn get(p: *const i32) -> Self::W;
    unsafe fn set(p: *mut i32, v: Self::W);
    unsafe fn plus(a: Self::W, b: Self::W) -> Self::W;
    unsafe fn minus(a: Self::W, b: Self::W) -> Self::W;
    unsafe fn times(a: Self::W, b: i32) -> Self::W;
    /// Divided by 2^n, rounded down.
    unsafe fn halve(a: Self::W, n: i32) -> Self::W;

    /// One point's products of `rows` tiles and a panel, set or added.
    unsafe fn multiply(of: &Product, rows: usize);
}

/// Some tiles and a panel at one point.
struct Product {
    /// Transformed patches, `stride` from one tile to the next.
    u: *const i16,
    stride: usize,
    /// Transformed filters of `channels`.
    v: *const i16,
    channels: usize,
    /// Sums, [`COLUMNS`] of each tile.
    m: *mut i32,
    /// Whether the sums that are there are kept.
    add: bool,
}

/// The path's code for a function of this file.
macro_rules! by_path {
    ($(#[$doc:meta])* pub unsafe fn $name:ident = $body:ident($a:ident: $t:ty)) => {
        $(#[$doc])*
        pub unsafe fn $name(isa: Isa, $a: $t) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            unsafe fn avx2($a: $t) {
                // SAFETY: the feature is enabled here; the rest is the caller's contract.
                unsafe { $body::<x86::Avx2>($a) }
            }
            match isa.path() {
                // SAFETY: an Isa of either path proves the feature; the rest is the caller's contract.
                #[cfg(target_arch = "x86_64")]
                Path::Avx2 | Path::Avx512 => unsafe { avx2($a) },
                // SAFETY: the build has the instructions; the rest is the caller's contract.
                #[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
                Path::Neon => unsafe { $body::<neon::Neon>($a) },
                // SAFETY: the caller's contract.
                _ => unsafe { $body::<plain::Plain>($a) },
            }
        }
    };
}

/// B^T d.
#[inline(always)]
unsafe fn patch<I: Ints>([d0, d1, d2, d3, d4, d5]: [I::N; PATCH]) -> [I::N; PATCH] {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let (p, q) = (I::sub(I::quadruple(d2), d4), I::sub(I::quadruple(d1), d3));
        let (r, s) = (I::sub(d4, d2), I::double(I::sub(d3, d1)));
        [
            I::add(I::quadruple(I::sub(d0, d2)), r),
            I::add(p, q),
            I::sub(p, q),
            I::add(r, s),
            I::sub(r, s),
            I::sub(I::sub(d5, d3), I::double(s)),
        ]
    }
}

/// G g.
#[inline(always)]
unsafe fn filter<I: Ints>([g0, g1, g2]: [I::N; 3]) -> [I::N; PATCH] {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let (s, u, w) = (I::add(g0, g2), I::add(g0, I::quadruple(g2)), I::double(g1));
        [g0, I::add(s, g1), I::sub(s, g1), I::add(u, w), I::sub(u, w), g2]
    }
}

/// A^T m, its rows 24, 12, 6 and 6 times as large.
#[inline(always)]
unsafe fn pixels<I: Ints>([m0, m1, m2, m3, m4, m5]: [I::W; PATCH]) -> [I::W; OUT] {
    // SAFETY: the caller answers for the instructions.
    unsafe {
        let (s, d, s2, d2) = (I::plus(m1, m2), I::minus(m1, m2), I::plus(m3, m4), I::minus(m3, m4));
        let dd2 = I::plus(d, d2);
        [
            I::plus(I::plus(I::times(m0, 6), I::times(s, 4)), s2),
            I::plus(dd2, d),
            I::plus(s, s2),
            I::plus(I::plus(dd2, d2), I::times(m5, 6)),
        ]
    }
}

/// Patches to transform.
pub struct Patches {
    /// Padded rows of pixels: as many as the tiles need, each of `(OUT * across + 2)` pixels of `channels` bytes.
    pub rows: *const i8,
    pub channels: usize,
    /// Tiles down and across.
    pub tiles: [usize; 2],
    /// For each point `channels` numbers of each tile.
    pub to: *mut i16,
}

#[inline(always)]
unsafe fn patches_body<I: Ints>(x: &Patches) {
    let ([down, across], channels) = (x.tiles, x.channels);
    let pitch = (OUT * across + PATCH - OUT) * channels;
    let plane = down * across * channels;
    // SAFETY: the contract of the fields; channels are a multiple of UNIT, and that of the lanes.
    unsafe {
        let mut t = [[I::bytes(x.rows); PATCH]; PATCH];
        for tile in 0..down * across {
            let from = x.rows.add(tile / across * OUT * pitch + tile % across * OUT * channels);
            let to = x.to.add(tile * channels);
            for c in (0..channels).step_by(I::NARROW) {
                for column in 0..PATCH {
                    let at = from.add(column * channels + c);
                    let d = patch::<I>([
                        I::bytes(at),
                        I::bytes(at.add(pitch)),
                        I::bytes(at.add(2 * pitch)),
                        I::bytes(at.add(3 * pitch)),
                        I::bytes(at.add(4 * pitch)),
                        I::bytes(at.add(5 * pitch)),
                    ]);
                    for (row, d) in t.iter_mut().zip(d) {
                        row[column] = d;
                    }
                }
                let mut to = to.add(c);
                for t in &t {
                    for d in patch::<I>(*t) {
                        I::put(to, d);
                        to = to.wrapping_add(plane);
                    }
                }
            }
        }
    }
}
by_path! {
    /// Transforms patches.
    ///
    /// # Safety
    /// The contract of the fields.
    pub unsafe fn patches = patches_body(x: &Patches)
}

/// Filters to transform: some channels of a panel.
pub struct Filters {
    /// Packed weights of the first tap.
    pub from: *const i8,
    /// Bytes from one tap to the next.
    pub tap: usize,
    /// At most [`BLOCK`].
    pub channels: usize,
    /// Room for [`FILTERS`] bytes.
    pub to: *mut i16,
}

#[inline(always)]
unsafe fn filters_body<I: Ints>(x: &Filters) {
    let (tap, len) = (x.tap, x.channels * COLUMNS);
    // SAFETY: the contract of the fields; a panel's entries are a multiple of the lanes.
    unsafe {
        let mut t = [[I::bytes(x.from); 3]; PATCH];
        for i in (0..len).step_by(I::NARROW) {
            for column in 0..3 {
                let at = x.from.add(column * tap + i);
                let g = filter::<I>([I::bytes(at), I::bytes(at.add(3 * tap)), I::bytes(at.add(6 * tap))]);
                for (row, g) in t.iter_mut().zip(g) {
                    row[column] = g;
                }
            }
            let mut to = x.to.add(I::place(i, len));
            for t in &t {
                let [g0, g1, g2, g3, g4, g5] = filter::<I>(*t);
                I::put(to, g0);
                I::put(to.add(PLANE), g1);
                I::put(to.add(2 * PLANE), g2);
                I::put(to.add(3 * PLANE), g3);
                I::put(to.add(4 * PLANE), g4);
                I::put(to.add(5 * PLANE), g5);
                to = to.wrapping_add(PATCH * PLANE);
            }
        }
    }
}
by_path! {
    /// Transforms filters.
    ///
    /// # Safety
    /// The contract of the fields.
    pub unsafe fn filters = filters_body(x: &Filters)
}

/// Products of transformed patches and filters.
pub struct Products {
    /// Patches of all channels, from the first of the block on.
    pub patches: *const i16,
    /// Channels of a patch.
    pub stride: usize,
    pub tiles: usize,
    pub filters: *const i16,
    /// Channels of the block.
    pub channels: usize,
    /// For each point [`COLUMNS`] sums of each tile.
    pub sums: *mut i32,
    pub add: bool,
}

#[inline(always)]
unsafe fn products_body<I: Ints>(x: &Products) {
    let chunks = x.tiles.div_ceil(I::ROWS);
    for point in 0..POINTS {
        let mut first = 0;
        for chunk in 0..chunks {
            // As even as can be.
            let end = x.tiles * (chunk + 1) / chunks;
            // SAFETY: the contract of the fields.
            unsafe {
                let product = Product {
                    u: x.patches.add((point * x.tiles + first) * x.stride),
                    stride: x.stride,
                    v: x.filters.add(point * PLANE),
                    channels: x.channels,
                    m: x.sums.add((point * x.tiles + first) * COLUMNS),
                    add: x.add,
                };
                I::multiply(&product, end - first);
            }
            first = end;
        }
    }
}
by_path! {
    /// Multiplies.
    ///
    /// # Safety
    /// The contract of the fields.
    pub unsafe fn products = products_body(x: &Products)
}

/// Sums to transform in place.
pub struct Sums {
    /// As in [`Products`]. Then for each pixel of a tile, row by row, [`COLUMNS`] sums of each tile, as far apart.
    pub sums: *mut i32,
    pub tiles: usize,
}

#[inline(always)]
unsafe fn sums_body<I: Ints>(x: &Sums) {
    let plane = x.tiles * COLUMNS;
    // SAFETY: the contract of the fields.
    unsafe {
        for i in (0..x.tiles * COLUMNS).step_by(I::WIDE) {
            let at = x.sums.add(i);
            let mut z = [[I::get(at); PATCH]; OUT];
            for column in 0..PATCH {
                let (mut from, mut m) = (at.add(column * plane), [I::get(at); PATCH]);
                for m in &mut m {
                    *m = I::get(from);
                    from = from.wrapping_add(PATCH * plane);
                }
                for (row, y) in z.iter_mut().zip(pixels::<I>(m)) {
                    row[column] = y;
                }
            }
            let mut to = at;
            for (z, n) in z.iter().zip(POWERS) {
                for (y, m) in pixels::<I>(*z).into_iter().zip(POWERS) {
                    I::set(to, I::halve(I::times(y, NINTH), n + m));
                    to = to.wrapping_add(plane);
                }
            }
        }
    }
}
by_path! {
    /// Makes of products the sums of pixels.
    ///
    /// # Safety
    /// The contract of the fields.
    pub unsafe fn sums = sums_body(x: &Sums)
}

#[cfg(test)]
mod tests {
    use super::super::{entry, packed_len};
    use super::*;
    use alloc::vec::Vec;

    /// Every path that takes this way.
    fn all() -> Vec<Isa> {
        let found = Path::ALL.into_iter().filter_map(Isa::try_new);
        found.map(Isa::without_dot_products).filter(|isa| isa.path() != Path::Simd128).collect()
    }

    /// A number from -128 to 127, often one of the ends; the ends alone where that is wanted.
    fn drawn(seed: usize, i: usize, ends: bool) -> i8 {
        match ((i * 7919 + seed * 104_729) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56 {
            0..64 => -128,
            64..128 => 127,
            v if ends => [-128, 127][v as usize % 2],
            v => (v as i32 - 128) as i8,
        }
    }

    #[test]
    fn the_sums_are_exact_on_every_path() {
        // Tiles down and across, channels; with numbers so large that what is 576 times the sums overflows.
        for (tiles, channels, ends) in
            [([1, 1], 8, 0), ([2, 3], 40, 0), ([1, 2], 72, 0), ([1, 7], 224, 1), ([1, 1], 224, 2)]
        {
            let [down, across] = tiles;
            let (height, width, count, k) = (down * OUT + 2, across * OUT + 2, down * across, 9 * channels);
            let a: Vec<i8> =
                (0..height * width * channels).map(|i| if ends == 2 { -128 } else { drawn(1, i, ends == 1) }).collect();
            let b: Vec<i8> = (0..k * COLUMNS)
                .map(|i| if ends == 2 { [-127, 127][i % COLUMNS % 2] } else { drawn(2, i, ends == 1).max(-127) })
                .collect();
            for isa in all() {
                let packed: Vec<i8> = (0..packed_len(isa, k, COLUMNS).unwrap())
                    .map(|i| {
                        let (row, column) = entry(isa, step(isa), [k, COLUMNS], i);
                        b[row * COLUMNS + column]
                    })
                    .collect();
                let mut transformed = alloc::vec![0i16; POINTS * count * channels];
                let mut panel = alloc::vec![0i16; FILTERS / 2];
                let plane = count * COLUMNS;
                let mut got = alloc::vec![i32::MIN; POINTS * plane];
                // SAFETY: the memory is as the fields say.
                unsafe {
                    let (rows, to) = (a.as_ptr(), transformed.as_mut_ptr());
                    patches(isa, &Patches { rows, channels, tiles, to });
                    for block in (0..channels).step_by(BLOCK) {
                        let (of, to) = (BLOCK.min(channels - block), panel.as_mut_ptr());
                        let from = packed.as_ptr().add(block * COLUMNS);
                        filters(isa, &Filters { from, tap: channels * COLUMNS, channels: of, to });
                        let products_of = Products {
                            patches: transformed.as_ptr().add(block),
                            stride: channels,
                            tiles: count,
                            filters: panel.as_ptr(),
                            channels: of,
                            sums: got.as_mut_ptr(),
                            add: block > 0,
                        };
                        products(isa, &products_of);
                    }
                    sums(isa, &Sums { sums: got.as_mut_ptr(), tiles: count });
                }
                for y in 0..down * OUT {
                    for x in 0..across * OUT {
                        let tile = y / OUT * across + x / OUT;
                        for column in 0..COLUMNS {
                            let product = |row: usize| {
                                let (tap, c) = (row / channels, row % channels);
                                let at = ((y + tap / 3) * width + x + tap % 3) * channels + c;
                                i32::from(a[at]) * i32::from(b[row * COLUMNS + column])
                            };
                            let want: i32 = (0..k).map(product).sum();
                            let at = (y % OUT * OUT + x % OUT) * plane + tile * COLUMNS + column;
                            assert_eq!(
                                got[at], want,
                                "{isa:?}, {tiles:?} tiles, {channels} channels: {y}, {x}, {column}"
                            );
                        }
                    }
                }
            }
        }
    }
}
