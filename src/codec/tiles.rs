//! Where tiles lie, and how their images are put together.
//!
//! Tiles of an axis have one size and are spread evenly from its first latent to its last, each overlapping its
//! neighbour by at least a quarter of its side, and by 8 latents where that is no more than half of it. What is nearest
//! to a border that is none of the image's suffers most from the zeros behind it: it has no weight over a quarter of
//! the overlap, then a weight that grows linearly. The weights of the tiles that see a pixel are divided by their sum.
//! The weight of a pixel in a square is that of its row times that of its column, and sums to 1 as well.

use alloc::vec::Vec;

/// The part of an overlap, at either end, that is not looked at.
const IGNORED: f64 = 0.25;

/// Latents that neighbours have in common at least.
fn least_overlap(tile: usize) -> usize {
    tile.div_ceil(4).max((tile / 2).min(8)).min(tile.saturating_sub(1))
}

/// The tiles of one axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// Latents of a tile.
    tile: usize,
    /// The first latent of each.
    starts: Vec<usize>,
    /// Pixels for a latent.
    factor: usize,
    /// For each tile the weights of its pixels.
    weights: Vec<Vec<f32>>,
}

impl Axis {
    /// Tiles of `tile` for `n` latents; `tile` is at most `n`, and both are above 0.
    pub fn new(n: usize, tile: usize, factor: usize) -> Self {
        let least = least_overlap(tile);
        let count = (n - least).div_ceil((tile - least).max(1)).max(1);
        let starts: Vec<usize> = (0..count).map(|i| (i * (n - tile)).checked_div(count - 1).unwrap_or(0)).collect();
        let pixels = n * factor;
        let mut raw: Vec<Vec<f64>> = Vec::new();
        for (i, &start) in starts.iter().enumerate() {
            let overlap = |other: usize| tile.saturating_sub(start.abs_diff(other)) * factor;
            let before = i.checked_sub(1).and_then(|b| starts.get(b)).map_or(0, |b| overlap(*b));
            let after = starts.get(i + 1).map_or(0, |a| overlap(*a));
            let ramp = |distance: usize, overlap: usize| {
                let inwards = (distance as f64 + 0.5) / overlap.max(1) as f64;
                if distance < overlap { ((inwards - IGNORED) / (1.0 - 2.0 * IGNORED)).clamp(0.0, 1.0) } else { 1.0 }
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
pub(super) fn tiles(axes: &[Axis; 2]) -> impl Iterator<Item = [usize; 2]> + use<> {
    let [rows, columns] = axes.each_ref().map(Axis::count);
    (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
}

/// Copies a tile's latents out of planes of `size`.
pub(super) fn cut(from: &[f32], to: &mut [f32], axes: [&Axis; 2], tile: [usize; 2], [h, w]: [usize; 2]) {
    let ([rows, columns], [row, column]) = (axes, tile);
    let (top, left) = (rows.start(row), columns.start(column));
    for (plane, to) in from.chunks_exact(h * w).zip(to.chunks_exact_mut(rows.tile * columns.tile)) {
        for (line, to) in plane.chunks_exact(w).skip(top).zip(to.chunks_exact_mut(columns.tile)) {
            to.iter_mut().zip(line.iter().skip(left)).for_each(|(to, v)| *to = *v);
        }
    }
}

/// Adds a tile's image, weighted, to planes of `size` pixels.
pub(super) fn blend(image: &[f32], to: &mut [f32], axes: [&Axis; 2], tile: [usize; 2], [h, w]: [usize; 2]) {
    let ([rows, columns], [row, column]) = (axes, tile);
    let (top, left) = (rows.start(row) * rows.factor, columns.start(column) * columns.factor);
    let (height, width) = (rows.tile * rows.factor, columns.tile * columns.factor);
    for (plane, to) in image.chunks_exact(height * width).zip(to.chunks_exact_mut(h * w)) {
        let lines = plane.chunks_exact(width).zip(to.chunks_exact_mut(w).skip(top));
        for ((line, to), y) in lines.zip(rows.weights(row)) {
            for ((v, to), x) in line.iter().zip(to.iter_mut().skip(left)).zip(columns.weights(column)) {
                *to += v * (y * x);
            }
        }
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
                let axis = Axis::new(n, tile, factor);
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
                let step = 2.0 / ((1.0 - 2.0 * IGNORED) * (least.max(1) * factor) as f64).max(1.0) as f32;
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
        let axes = [Axis::new(h, 4, 1), Axis::new(w, 9, 1)];
        let mut to = vec![0.0; whole.len()];
        for tile in tiles(&axes) {
            let mut part = vec![0.0; 3 * 4 * 9];
            cut(&whole, &mut part, [&axes[0], &axes[1]], tile, [h, w]);
            blend(&part, &mut to, [&axes[0], &axes[1]], tile, [h, w]);
        }
        for (a, b) in whole.iter().zip(&to) {
            assert!((a - b).abs() < 1e-6);
        }
    }
}
