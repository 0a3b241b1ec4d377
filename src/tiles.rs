//! Where tiles lie, and how their images are put together.
//!
//! A tile is so many cells (of a latent model its latents, of a denoiser the squares that its network makes one of), of
//! `factor` pixels each way. Tiles of an axis have one size and are spread evenly from its first cell to its last, each
//! overlapping its neighbour by a least number of cells or more. What is nearest to a border that is none of the
//! image's suffers most from the zeros behind it: it has no weight over a share of the overlap, then a weight that
//! grows linearly. The weights of the tiles that see a pixel are divided by their sum. The weight of a pixel in a
//! square is that of its row times that of its column, and sums to 1 as well.

use alloc::vec::Vec;

/// How neighbours overlap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Overlap {
    /// Cells that they have in common at least, fewer than a tile has.
    pub least: usize,
    /// The part of an overlap, at either end, that is not looked at; below a half.
    pub ignored: f64,
}

impl Overlap {
    /// For networks that see their whole tile, so that there is no right size: a quarter of the side, and 8 cells where
    /// that is no more than half of it; a quarter of it is not looked at.
    pub fn usual(tile: usize) -> Self {
        Self { least: least_overlap(tile), ignored: 0.25 }
    }

    /// For networks whose output at a cell depends on what is within `reach` cells of it: no cell has a weight that is
    /// nearer to a border, so that blending changes nothing but the rounding.
    pub fn beyond(reach: usize, ramp: usize) -> Self {
        let least = 2 * reach + ramp;
        Self { least, ignored: reach as f64 / least.max(1) as f64 }
    }
}

fn least_overlap(tile: usize) -> usize {
    tile.div_ceil(4).max((tile / 2).min(8)).min(tile.saturating_sub(1))
}

/// The tiles of one axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// Cells of a tile.
    tile: usize,
    /// The first cell of each.
    starts: Vec<usize>,
    /// Pixels for a cell.
    factor: usize,
    /// For each tile the weights of its pixels.
    weights: Vec<Vec<f32>>,
}

impl Axis {
    /// Tiles of `tile` for `n` cells; `tile` is at most `n`, and both are above 0.
    pub fn new(n: usize, tile: usize, factor: usize, overlap: Overlap) -> Self {
        let Overlap { least, ignored } = overlap;
        let count = n.saturating_sub(least).div_ceil(tile.saturating_sub(least).max(1)).max(1);
        let starts: Vec<usize> = (0..count).map(|i| (i * (n - tile)).checked_div(count - 1).unwrap_or(0)).collect();
        let pixels = n * factor;
        let mut raw: Vec<Vec<f64>> = Vec::new();
        for (i, &start) in starts.iter().enumerate() {
            let overlap = |other: usize| tile.saturating_sub(start.abs_diff(other)) * factor;
            let before = i.checked_sub(1).and_then(|b| starts.get(b)).map_or(0, |b| overlap(*b));
            let after = starts.get(i + 1).map_or(0, |a| overlap(*a));
            let ramp = |distance: usize, overlap: usize| {
                let inwards = (distance as f64 + 0.5) / overlap.max(1) as f64;
                if distance < overlap { ((inwards - ignored) / (1.0 - 2.0 * ignored)).clamp(0.0, 1.0) } else { 1.0 }
            };
            let side = tile * factor;
            raw.push((0..side).map(|p| ramp(p, before) * ramp(side - 1 - p, after)).collect());
        }
        let mut sum = alloc::vec![0.0; pixels];
        for (weights, start) in raw.iter().zip(&starts) {
            sum.iter_mut().skip(start * factor).zip(weights).for_each(|(s, w)| *s += w);
        }
        let weights = raw.iter().zip(&starts).map(|(weights, start)| {
            weights.iter().zip(sum.iter().skip(start * factor)).map(|(w, s)| (w / s) as f32).collect()
        });
        Self { tile, factor, weights: weights.collect(), starts }
    }

    pub fn tile(&self) -> usize {
        self.tile
    }

    pub fn count(&self) -> usize {
        self.starts.len()
    }

    fn start(&self, i: usize) -> usize {
        self.starts.get(i).copied().unwrap_or(0)
    }

    fn weights(&self, i: usize) -> &[f32] {
        self.weights.get(i).map_or(&[], Vec::as_slice)
    }
}

/// The numbers of all tiles, row by row.
pub(crate) fn tiles(axes: &[Axis; 2]) -> impl Iterator<Item = [usize; 2]> + use<> {
    let [rows, columns] = axes.each_ref().map(Axis::count);
    (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
}

/// One tile of planes of a size in pixels. Where the tiles go beyond the planes, the last row and column stand for what
/// is missing.
#[derive(Clone, Copy)]
pub(crate) struct Tile<'a> {
    axes: &'a [Axis; 2],
    at: [usize; 2],
    size: [usize; 2],
}

impl<'a> Tile<'a> {
    pub fn new(axes: &'a [Axis; 2], at: [usize; 2], size: [usize; 2]) -> Self {
        Self { axes, at, size }
    }

    /// The first row and column, and the sides, in units of which a cell has `unit` each way.
    fn place(&self, unit: [usize; 2]) -> ([usize; 2], [usize; 2]) {
        let ([rows, columns], [row, column], [y, x]) = (self.axes, self.at, unit);
        ([rows.start(row) * y, columns.start(column) * x], [rows.tile * y, columns.tile * x])
    }

    fn factor(&self) -> [usize; 2] {
        self.axes.each_ref().map(|axis| axis.factor)
    }

    /// Copies the tile out of planes that have `unit` values for a cell each way, `None` as many as pixels.
    pub fn cut(&self, from: &[f32], to: &mut [f32], unit: Option<usize>) {
        let ([h, w], ([top, left], [height, width])) = (self.size, self.place(unit.map_or(self.factor(), |u| [u; 2])));
        for (plane, to) in from.chunks_exact(h * w).zip(to.chunks_exact_mut(height * width)) {
            for (i, to) in to.chunks_exact_mut(width).enumerate() {
                let at = (top + i).min(h - 1) * w;
                let line = plane.get(at..at + w).unwrap_or(&[]);
                let (Some(last), seen) = (line.last(), line.get(left..).unwrap_or(&[])) else { continue };
                let (inside, beyond) = to.split_at_mut(seen.len().min(width));
                inside.iter_mut().zip(seen).for_each(|(to, v)| *to = *v);
                beyond.fill(*last);
            }
        }
    }

    /// The adjoint of [`Tile::cut`] with as many values for a cell as pixels: adds a tile to planes.
    pub fn uncut(&self, from: &[f32], to: &mut [f32]) {
        let ([h, w], ([top, left], [height, width])) = (self.size, self.place(self.factor()));
        for (from, plane) in from.chunks_exact(height * width).zip(to.chunks_exact_mut(h * w)) {
            for (i, from) in from.chunks_exact(width).enumerate() {
                let at = (top + i).min(h - 1) * w;
                let line = plane.get_mut(at..at + w).unwrap_or(&mut []);
                for (k, v) in from.iter().enumerate() {
                    if let Some(to) = line.get_mut((left + k).min(w - 1)) {
                        *to += v;
                    }
                }
            }
        }
    }

    /// Adds the tile's image, weighted, to planes of pixels.
    pub fn blend(&self, image: &[f32], to: &mut [f32]) {
        let ([h, w], ([top, left], [height, width])) = (self.size, self.place(self.factor()));
        let [ys, xs] = self.weights();
        for (image, plane) in image.chunks_exact(height * width).zip(to.chunks_exact_mut(h * w)) {
            let lines = image.chunks_exact(width).zip(plane.chunks_exact_mut(w).skip(top));
            for ((line, plane), y) in lines.zip(ys) {
                for ((v, to), x) in line.iter().zip(plane.iter_mut().skip(left)).zip(xs) {
                    *to += v * (y * x);
                }
            }
        }
    }

    /// The adjoint of [`Tile::blend`]: what the planes say of each pixel of the tile, weighted.
    pub fn unblend(&self, from: &[f32], image: &mut [f32]) {
        image.fill(0.0);
        let ([h, w], ([top, left], [height, width])) = (self.size, self.place(self.factor()));
        let [ys, xs] = self.weights();
        for (image, plane) in image.chunks_exact_mut(height * width).zip(from.chunks_exact(h * w)) {
            let lines = image.chunks_exact_mut(width).zip(plane.chunks_exact(w).skip(top));
            for ((line, plane), y) in lines.zip(ys) {
                for ((to, v), x) in line.iter_mut().zip(plane.iter().skip(left)).zip(xs) {
                    *to = v * (y * x);
                }
            }
        }
    }

    fn weights(&self) -> [&'a [f32]; 2] {
        let ([rows, columns], [row, column]) = (self.axes, self.at);
        [rows.weights(row), columns.weights(column)]
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn weights_sum_to_one_and_tiles_reach_both_ends() {
        for (n, tile) in [(64, 64), (64, 32), (65, 32), (100, 8), (9, 8), (17, 16), (3, 3), (5, 2), (5, 1)] {
            for factor in [1, 2, 8] {
                let axis = Axis::new(n, tile, factor, Overlap::usual(tile));
                assert_eq!(axis.start(0), 0);
                assert_eq!(axis.starts.last().unwrap() + tile, n, "{n}, {tile}");
                let least = least_overlap(tile);
                assert!(axis.starts.windows(2).all(|s| s[1] > s[0] && s[1] + least <= s[0] + tile), "{n}, {tile}");
                let mut sum = vec![0.0f32; n * factor];
                for (weights, start) in axis.weights.iter().zip(&axis.starts) {
                    assert_eq!(weights.len(), tile * factor);
                    sum.iter_mut().skip(start * factor).zip(weights).for_each(|(s, w)| *s += w);
                    assert!(weights.iter().all(|w| (0.0..=1.0).contains(w)));
                }
                assert!(sum.iter().all(|s| (s - 1.0).abs() < 1e-6), "{n}, {tile}, {factor}");
                // From one pixel to the next a weight changes by at most what its overlap says.
                let step =
                    2.0 / ((1.0 - 2.0 * Overlap::usual(tile).ignored) * (least.max(1) * factor) as f64).max(1.0) as f32;
                for weights in &axis.weights {
                    assert!(weights.windows(2).all(|w| (w[1] - w[0]).abs() <= step), "{n}, {tile}, {factor}");
                }
            }
        }
    }

    #[test]
    fn what_is_cut_and_put_together_is_what_it_was() {
        let (h, w) = (11, 20);
        let whole: Vec<f32> = (0..3 * h * w).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let axes = [Axis::new(h, 4, 1, Overlap::usual(4)), Axis::new(w, 9, 1, Overlap::usual(9))];
        let mut to = vec![0.0; whole.len()];
        for at in tiles(&axes) {
            let (tile, mut part) = (Tile::new(&axes, at, [h, w]), vec![0.0; 3 * 4 * 9]);
            tile.cut(&whole, &mut part, None);
            tile.blend(&part, &mut to);
        }
        for (a, b) in whole.iter().zip(&to) {
            assert!((a - b).abs() < 1e-6);
        }
    }

    #[test]
    fn tiles_beyond_the_image_see_its_last_pixels_and_have_adjoints() {
        // 7 x 9 pixels in cells of 2.
        let size = [7, 9];
        let overlap = Overlap::beyond(1, 1);
        let axes = [Axis::new(4, 4, 2, overlap), Axis::new(5, 4, 2, overlap)];
        let numbers = |len: usize, by: usize| (0..len).map(|i| (i * by % 23) as f32 - 11.0).collect::<Vec<f32>>();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let (whole, part) = (numbers(63, 5), numbers(64, 7));
        for at in tiles(&axes) {
            let (tile, mut cut) = (Tile::new(&axes, at, size), vec![0.0; 64]);
            tile.cut(&whole, &mut cut, None);
            let [top, left] = [axes[0].start(at[0]) * 2, axes[1].start(at[1]) * 2];
            for (i, v) in cut.iter().enumerate() {
                assert_eq!(*v, whole[(top + i / 8).min(6) * 9 + (left + i % 8).min(8)]);
            }
            let (mut uncut, mut blended, mut unblended) = (vec![0.0; 63], vec![0.0; 63], vec![0.0; 64]);
            tile.uncut(&part, &mut uncut);
            assert_eq!(dot(&cut, &part), dot(&whole, &uncut));
            tile.blend(&part, &mut blended);
            tile.unblend(&whole, &mut unblended);
            assert!((dot(&blended, &whole) - dot(&part, &unblended)).abs() < 1e-3);
        }
    }

    #[test]
    fn nothing_has_a_weight_within_the_reach_of_a_border() {
        for (n, tile, reach, ramp) in [(100, 40, 12, 4), (53, 30, 12, 1), (26, 25, 12, 0), (300, 64, 20, 8)] {
            for factor in [1, 2] {
                let axis = Axis::new(n, tile, factor, Overlap::beyond(reach, ramp));
                for (i, weights) in axis.weights.iter().enumerate() {
                    let near = reach * factor;
                    assert!(i == 0 || weights[..near].iter().all(|w| *w == 0.0), "{n} {tile} {i}");
                    let last = i + 1 == axis.count();
                    assert!(last || weights[weights.len() - near..].iter().all(|w| *w == 0.0), "{n} {tile} {i}");
                }
            }
        }
    }
}
