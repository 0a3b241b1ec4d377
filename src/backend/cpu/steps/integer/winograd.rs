//! 3x3 convolutions in integers by [`winograd`](super::super::super::integers::winograd).
//!
//! A strip is some rows of tiles. Its padded input is made where the products will stand, all of its patches are
//! transformed, and then panel after panel is multiplied. What the next strip needs of the input is kept at the begin.
#![allow(unsafe_code)] // Parts of the worker's memory.

use core::ops::Range;

use super::super::super::conv::ConvShape;
use super::super::super::integers::MOST_ROWS;
use super::super::super::integers::winograd::{self, BLOCK, FILTERS, OUT, PATCH, POINTS, UNIT};
use super::super::super::isa::{Isa, Path};
use super::super::Run;
use super::finish::Rows;
use super::{IntegerConv, Integers};
use crate::error::{Result, ensure};

/// Columns of a panel.
const COLUMNS: usize = 8;
/// Rows of padded input that two rows of tiles share.
const SHARED: usize = PATCH - OUT;
/// Bytes that parts of the memory are a multiple of.
const LINE: usize = 64;

/// Bytes of a worker's memory that a strip may take, and one of a single row of tiles: what a board can spare, and what
/// a core's cache has.
const STRIP: usize = 88 * 1024;
const ROW: usize = 256 * 1024;

/// Where the parts of a strip begin, in bytes.
pub(super) struct Layout {
    /// What is kept of the padded input, and then the rest of it, or the filters and the products.
    filters: usize,
    sums: usize,
    patches: usize,
    pub end: usize,
}

impl Layout {
    /// Of strips of `rows` rows of `across` tiles; `None` on overflow.
    pub fn new(channels: usize, rows: usize, across: usize) -> Option<Self> {
        let tiles = rows.checked_mul(across)?;
        let pitch = across.checked_mul(OUT)?.checked_add(SHARED)?.checked_mul(channels)?;
        let line = |at: usize| at.checked_next_multiple_of(LINE);
        let filters = line(pitch.checked_mul(SHARED)?)?;
        let sums = line(filters.checked_add(FILTERS)?)?;
        let products = tiles.checked_mul(POINTS * COLUMNS * size_of::<i32>())?;
        let input = pitch.checked_mul(rows.checked_mul(OUT)?.checked_add(SHARED)?)?;
        let patches = line(sums.checked_add(products)?.max(input))?;
        let end = tiles.checked_mul(channels)?.checked_mul(POINTS * size_of::<i16>())?.checked_add(patches)?;
        Some(Self { filters, sums, patches, end: line(end)? })
    }
}

/// Rows of tiles of a strip for which a layer takes this way; 0 if it is multiplied as it stands.
///
/// No column's integers have a sum of magnitudes over `largest`.
pub(super) fn tile_rows(isa: Isa, s: &ConvShape, [oh, ow]: [usize; 2], largest: i64) -> usize {
    let fits = s.kernel == [3, 3]
        && s.stride == [1, 1]
        && s.dilation == 1
        && s.in_channels.is_multiple_of(UNIT)
        && !isa.has_dot_products()
        && matches!(isa.path(), Path::Portable | Path::Neon | Path::Avx2 | Path::Avx512)
        && largest.saturating_mul(128) <= winograd::LARGEST;
    let (down, across) = (oh.div_ceil(OUT), ow.div_ceil(OUT));
    let tiles = down.saturating_mul(across);
    // Half of the products at most, of enough tiles to make the transform of the filters cheap.
    if !fits || tiles < 4 || 2 * POINTS * tiles > 9 * oh * ow {
        return 0;
    }
    let len = |rows: usize| Layout::new(s.in_channels, rows, across).map_or(usize::MAX, |l| l.end);
    let most = match (1..=down).take_while(|rows| len(*rows) <= STRIP).last() {
        None => usize::from(len(1) <= ROW),
        Some(most) => most,
    };
    // As even as can be.
    if most == 0 { 0 } else { down.div_ceil(down.div_ceil(most)) }
}

impl Integers {
    /// Tiles across an image.
    pub(super) fn across(&self) -> usize {
        self.out_size[1].div_ceil(OUT)
    }
}

impl IntegerConv {
    /// Rows and columns of a sample's result.
    pub(super) fn tiles(
        &self,
        run: &Run<'_>,
        sample: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        bytes: &mut [u8],
    ) -> Result<()> {
        let (l, c) = (&self.layer, self.layer.shape.in_channels);
        let (pitch, across) = (l.pitch(), l.across());
        let layout = Layout::new(c, l.tile_rows, across).filter(|layout| layout.end <= bytes.len());
        ensure!(layout.is_some(), Shape, "{} bytes for a strip of {} rows of tiles", bytes.len(), l.tile_rows);
        let Some(layout) = layout else { return Ok(()) };
        // Rows of the padded input that are there.
        let mut have = 0;
        for first in rows.clone().step_by(l.tile_rows * OUT) {
            run.cancel.check()?;
            let last = (first + l.tile_rows * OUT).min(rows.end);
            let down = (last - first).div_ceil(OUT);
            let input = &mut bytes[..(down * OUT + SHARED) * pitch];
            self.gather(run, sample, first + have, &mut input[have * pitch..])?;
            // SAFETY: the parts are apart and inside.
            unsafe {
                let base = bytes.as_mut_ptr();
                let to = base.add(layout.patches).cast();
                let rows = base.cast_const().cast();
                winograd::patches(run.isa, &winograd::Patches { rows, channels: c, tiles: [down, across], to });
            }
            bytes.copy_within(down * OUT * pitch..(down * OUT + SHARED) * pitch, 0);
            have = SHARED;
            self.multiply_tiles(run, sample, first..last, columns.clone(), &layout, bytes)?;
        }
        Ok(())
    }

    /// Rows and columns of a sample's result, from the strip's patches.
    fn multiply_tiles(
        &self,
        run: &Run<'_>,
        sample: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        layout: &Layout,
        bytes: &mut [u8],
    ) -> Result<()> {
        let (l, c, [oh, ow]) = (&self.layer, self.layer.shape.in_channels, self.layer.out_size);
        let (weights, place, mut f) = self.ends(run)?;
        let isa = run.isa.of_eight_lanes();
        let across = l.across();
        let tiles = rows.len().div_ceil(OUT) * across;
        let base = bytes.as_mut_ptr();
        let at = |byte: usize| base.wrapping_add(byte);
        let (filters, sums, patches) = (at(layout.filters), at(layout.sums), at(layout.patches));
        let (filters, sums, patches) = (filters.cast::<i16>(), sums.cast::<i32>(), patches.cast::<i16>());
        let k = 9 * c;
        for column in columns.step_by(COLUMNS) {
            self.columns_from(run, sample, column, &place, &mut f);
            for block in (0..c).step_by(BLOCK) {
                let channels = BLOCK.min(c - block);
                // SAFETY: the parts are apart and inside, the weights were found to be all there.
                unsafe {
                    let from = weights.add(column * k + block * COLUMNS);
                    winograd::filters(run.isa, &winograd::Filters { from, tap: c * COLUMNS, channels, to: filters });
                    let products = winograd::Products {
                        patches: patches.add(block),
                        stride: c,
                        tiles,
                        filters,
                        channels,
                        sums,
                        add: block > 0,
                    };
                    winograd::products(run.isa, &products);
                }
            }
            // SAFETY: as above.
            unsafe { winograd::sums(run.isa, &winograd::Sums { sums, tiles }) };
            for y in 0..rows.len() {
                let row = (sample * oh + rows.start + y) * ow;
                for x in 0..OUT.min(ow) {
                    let pixel = (y % OUT * OUT + x) * tiles + y / OUT * across;
                    // Of every tile of the row that has this pixel.
                    let count = (ow - x).div_ceil(OUT);
                    for first in (0..count).step_by(MOST_ROWS) {
                        let every = |v: Rows| v.from(row + x + first * OUT, column).every(OUT);
                        (f.out, f.residual) = (every(place.out), place.residual.map(every));
                        f.rows = MOST_ROWS.min(count - first);
                        f.sums = sums.wrapping_add((pixel + first) * COLUMNS);
                        // SAFETY: the rows of result, residual and channel value are inside the arena; these rows and
                        // columns of the result are this task's.
                        unsafe { self.finish(isa, &mut f) };
                    }
                }
            }
        }
        Ok(())
    }
}
