//! Dead leaves: images of things that hide one another (Matheron 1968; Lee, Mumford and Huang 2001).

use core::f64::consts::PI;

use super::{Dataset, draw, room};
use crate::error::{Result, ensure, err};
use crate::memory::filled;
use crate::noise::Stream;
use crate::tensor::Dims;

/// The outline of a leaf.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LeafShape {
    /// Circles.
    #[default]
    Disc,
    /// Ellipses of the disc's area, turned by any angle, the ratio of their axes uniform in 1 .. `max_ratio`.
    Ellipse {
        /// The largest ratio of the axes, 1 to 10.
        max_ratio: f64,
    },
}

/// Opaque leaves that fall at random places and hide those below, until no ground is seen. A leaf's radius has the
/// density r^-exponent between the bounds (3 makes images whose statistics do not change with scale); its grey is
/// uniform in 0 .. 1.
///
/// With `subpixels` 1 a pixel takes the grey of the leaf over its centre, and there is no smoothing at edges. With
/// more it is the mean over as many rows and columns of points within it, as a camera's is, so that leaves smaller
/// than a pixel count: what Lee, Mumford and Huang need for statistics that stay the same when an image is scaled
/// down. Leaves are drawn from the uppermost down, so the image is exactly what an endless fall would leave.
///
/// A likelihood of such images depends on all of these numbers, and on the noise of grey levels most;
/// `examples/dead_leaves` states those that are used here.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadLeaves {
    /// Height and width in pixels.
    pub size: usize,
    /// The least radius in pixels, at least 0.5 / `subpixels`.
    pub min_radius: f64,
    /// The largest, at most 4 times the size.
    pub max_radius: f64,
    /// The power by which the density of radii falls.
    pub exponent: f64,
    /// The outline.
    pub shape: LeafShape,
    /// Points of a pixel along each side, 1 to 16; `size` times them at most 4096.
    pub subpixels: usize,
}

impl DeadLeaves {
    /// Images of `size` pixels a side, discs of radius 1 to `size`, density r^-3.
    pub fn new(size: usize) -> Self {
        Self { size, min_radius: 1.0, max_radius: size as f64, exponent: 3.0, shape: LeafShape::Disc, subpixels: 1 }
    }

    fn check(&self) -> Result<()> {
        ensure!(
            (1..=4096).contains(&self.size),
            InvalidArgument,
            "dead leaves of {} pixels a side, expected 1 to 4096",
            self.size
        );
        ensure!(
            (1..=16).contains(&self.subpixels) && self.size * self.subpixels <= 4096,
            InvalidArgument,
            "{} pixels a side of {} subpixels, expected 1 to 16 of these and at most 4096 along a side",
            self.size,
            self.subpixels
        );
        let least = 0.5 / self.subpixels as f64;
        ensure!(
            self.min_radius >= least && self.min_radius <= self.max_radius && self.max_radius <= 4.0 * self.size as f64,
            InvalidArgument,
            "leaves of radius {} to {}, expected {least} to {}",
            self.min_radius,
            self.max_radius,
            4 * self.size
        );
        ensure!(
            (0.0..=10.0).contains(&self.exponent),
            InvalidArgument,
            "radii that fall by the power {}, expected 0 to 10",
            self.exponent
        );
        if let LeafShape::Ellipse { max_ratio } = self.shape {
            ensure!(
                (1.0..=10.0).contains(&max_ratio),
                InvalidArgument,
                "leaves with axes of a ratio up to {max_ratio}, expected 1 to 10"
            );
        }
        Ok(())
    }

    /// `count` images of `[1, size, size]`. Image i takes the stream (seed, i, [`draw::GENERATE`]).
    ///
    /// Errors: kind `InvalidArgument` for options out of their range, no image or too many, or leaves too small to
    /// cover the image; `OutOfMemory`.
    pub fn images(&self, seed: u64, count: usize) -> Result<Dataset> {
        self.check()?;
        ensure!(count > 0, InvalidArgument, "0 images, expected at least 1");
        let dims = Dims::new(&[1, self.size, self.size])?;
        let mut values = room("the dead leaves", count, &dims)?;
        values.resize(count * dims.elements(), GROUND);
        // As points that are pixels.
        let (fine, scale) = (self.size * self.subpixels, self.subpixels as f64);
        let (min_radius, max_radius) = (scale * self.min_radius, scale * self.max_radius);
        let points = Self { size: fine, min_radius, max_radius, subpixels: 1, ..*self };
        let mut seen = filled("the dead leaves", fine * fine, GROUND)?;
        for (i, image) in values.chunks_exact_mut(dims.elements()).enumerate() {
            seen.fill(GROUND);
            points.cover(&mut Stream::new(seed, i as u64, draw::GENERATE), &mut seen)?;
            self.average(&seen, image);
        }
        Dataset::new(dims, values)
    }

    /// The means of squares of points.
    fn average(&self, points: &[f32], image: &mut [f32]) {
        let n = self.subpixels;
        let rows = points.chunks_exact(self.size * n * n);
        for (row, points) in image.chunks_exact_mut(self.size).zip(rows) {
            row.fill(0.0);
            for line in points.chunks_exact(self.size * n) {
                row.iter_mut().zip(line.chunks_exact(n)).for_each(|(v, p)| *v += p.iter().sum::<f32>());
            }
            // Of one point exactly itself.
            row.iter_mut().for_each(|v| *v /= (n * n) as f32);
        }
    }

    /// The radius whose share of smaller ones is `u`.
    fn radius(&self, u: f64) -> f64 {
        let (a, b, p) = (self.min_radius, self.max_radius, 1.0 - self.exponent);
        if p == 0.0 {
            return a * libm::pow(b / a, u);
        }
        let (low, high) = (libm::pow(a, p), libm::pow(b, p));
        libm::pow(low + u * (high - low), 1.0 / p)
    }

    fn cover(&self, stream: &mut Stream, image: &mut [f32]) -> Result<()> {
        let (size, mut bare) = (self.size as f64, image.len());
        for _ in 0..MAX_LEAVES {
            let radius = self.radius(stream.uniform());
            let (ratio, turn) = match self.shape {
                LeafShape::Disc => (1.0, 0.0),
                LeafShape::Ellipse { max_ratio } => (1.0 + (max_ratio - 1.0) * stream.uniform(), PI * stream.uniform()),
            };
            let (long, short) = (radius * libm::sqrt(ratio), radius / libm::sqrt(ratio));
            // Centres as far off the image as any leaf reaches, so that edges look like the middle.
            let reach = match self.shape {
                LeafShape::Disc => self.max_radius,
                LeafShape::Ellipse { max_ratio } => self.max_radius * libm::sqrt(max_ratio),
            };
            let mut place = || (size + 2.0 * reach) * stream.uniform() - reach;
            let (cx, cy) = (place(), place());
            let grey = stream.uniform() as f32;
            let (cos, sin) = (libm::cos(turn), libm::sin(turn));
            let span =
                |c: f64| (libm::floor(c - long).max(0.0) as usize, libm::ceil(c + long).clamp(0.0, size) as usize);
            let ((top, bottom), (left, right)) = (span(cy), span(cx));
            for (y, row) in image.chunks_exact_mut(self.size).enumerate().take(bottom).skip(top) {
                for (x, pixel) in row.iter_mut().enumerate().take(right).skip(left).filter(|(_, p)| **p == GROUND) {
                    let (dx, dy) = (x as f64 + 0.5 - cx, y as f64 + 0.5 - cy);
                    let (along, across) = ((dx * cos + dy * sin) / long, (dy * cos - dx * sin) / short);
                    if along * along + across * across <= 1.0 {
                        *pixel = grey;
                        bare -= 1;
                    }
                }
            }
            if bare == 0 {
                return Ok(());
            }
        }
        Err(err!(InvalidArgument, "{MAX_LEAVES} leaves left {bare} pixels bare: the radii are too small"))
    }
}

/// What no grey is.
const GROUND: f32 = -1.0;
const MAX_LEAVES: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radii_have_the_power_law() {
        for exponent in [0.0, 1.0, 3.0] {
            let leaves = DeadLeaves { min_radius: 1.0, max_radius: 16.0, exponent, ..DeadLeaves::new(16) };
            assert!((leaves.radius(0.0) - 1.0).abs() < 1e-12 && (leaves.radius(1.0) - 16.0).abs() < 1e-9);
            // d u / d r is r^-exponent times a constant: the same between any two places.
            let density = |u: f64| 2e-6 / (leaves.radius(u + 1e-6) - leaves.radius(u - 1e-6));
            let (r, s) = (leaves.radius(0.2), leaves.radius(0.7));
            assert!((density(0.2) / density(0.7) / libm::pow(s / r, exponent) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn greys_are_uniform_and_pieces_are_wide() {
        for shape in [LeafShape::Disc, LeafShape::Ellipse { max_ratio: 3.0 }] {
            let leaves = DeadLeaves { min_radius: 2.0, shape, ..DeadLeaves::new(16) };
            let data = leaves.images(5, 400).unwrap();
            assert!(data.values().iter().all(|v| (0.0..1.0).contains(v)));
            // One pixel of each image: independent uniform values, variance 1 / 12.
            let middle: std::vec::Vec<f64> = (0..400).map(|i| f64::from(data.sample(i)[136])).collect();
            let mean = middle.iter().sum::<f64>() / 400.0;
            assert!((mean - 0.5).abs() < 4.0 * 0.2887 / 20.0, "{mean}");
            // A neighbour is of the same leaf more often than a pixel eight away.
            let same = |d: usize| (0..400).filter(|&i| data.sample(i)[136] == data.sample(i)[136 + d]).count();
            assert!(same(1) > 200 && same(1) > same(7) + 50, "{} {}", same(1), same(7));
            // An image does not depend on how many are made.
            assert_eq!(leaves.images(5, 2).unwrap().values(), &data.values()[..512]);
        }
    }

    #[test]
    fn a_pixel_is_the_mean_of_its_points() {
        let leaves = DeadLeaves { subpixels: 2, max_radius: 4.0, ..DeadLeaves::new(4) };
        let points = DeadLeaves { min_radius: 2.0, max_radius: 8.0, ..DeadLeaves::new(8) };
        let (image, points) = (leaves.images(3, 2).unwrap(), points.images(3, 2).unwrap());
        for (image, points) in (0..2).map(|i| (image.sample(i), points.sample(i))) {
            for (at, v) in image.iter().enumerate() {
                let of = |dy: usize, dx: usize| points[(at / 4 * 2 + dy) * 8 + at % 4 * 2 + dx];
                assert!((v - (of(0, 0) + of(0, 1) + of(1, 0) + of(1, 1)) / 4.0).abs() < 1e-6);
            }
        }
        // Leaves smaller than a pixel average out: less variance than a leaf's 1 / 12.
        let dust = DeadLeaves { min_radius: 0.125, max_radius: 0.25, subpixels: 4, ..DeadLeaves::new(16) };
        let data = dust.images(1, 4).unwrap();
        let mean = data.values().iter().sum::<f32>() / 1024.0;
        let variance = data.values().iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1024.0;
        assert!((mean - 0.5).abs() < 0.03 && variance < 0.03, "{mean} {variance}");
    }

    #[test]
    fn nonsense_is_refused() {
        let good = DeadLeaves::new(8);
        for bad in [
            DeadLeaves { size: 0, ..good },
            DeadLeaves { size: 1 << 20, ..good },
            DeadLeaves { min_radius: 0.1, ..good },
            DeadLeaves { min_radius: 3.0, max_radius: 2.0, ..good },
            DeadLeaves { max_radius: 1e9, ..good },
            DeadLeaves { exponent: f64::NAN, ..good },
            DeadLeaves { subpixels: 0, ..good },
            DeadLeaves { subpixels: 17, ..good },
            DeadLeaves { min_radius: 0.1, subpixels: 4, ..good },
            DeadLeaves { shape: LeafShape::Ellipse { max_ratio: 0.5 }, ..good },
        ] {
            assert!(bad.images(0, 1).is_err(), "{bad:?}");
        }
        assert!(good.images(0, 0).is_err() && good.images(0, usize::MAX).is_err());
    }
}
