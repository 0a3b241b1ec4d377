//! Samples as a picture.

use std::io::Write;

use image::ExtendedColorType;
use image::codecs::{jpeg::JpegEncoder, webp::WebPEncoder};
use undiffuse::{Error, ErrorKind, Result};

/// Pixels between two samples.
const GAP: usize = 2;

/// The largest picture, gaps counted.
const MAX_PIXELS: usize = 1 << 28;

/// What a JPEG loses little at, of 100.
const JPEG_QUALITY: u8 = 95;

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PNG, 8 bits.
    Png,
    /// PNG, 16 bits.
    Png16,
    /// JPEG, which loses something.
    Jpeg,
    /// WebP without loss, 8 bits.
    WebP,
}

/// A picture of many samples, near square.
#[derive(Debug)]
pub struct Grid {
    channels: usize,
    height: usize,
    width: usize,
    columns: usize,
    rows: usize,
}

impl Grid {
    /// The grid for `count` samples of `shape`. Errors: `shape` is no image of 1 or 3 channels, or the picture is too
    /// large for a PNG.
    pub fn new(count: usize, shape: &[usize]) -> Result<Self> {
        let columns = (1..=count).find(|c| c.checked_mul(*c).is_none_or(|square| square >= count)).unwrap_or(1);
        Self::with_columns(count, columns, shape)
    }

    /// As [`Grid::new`], with so many columns.
    pub fn with_columns(count: usize, columns: usize, shape: &[usize]) -> Result<Self> {
        let unsupported = |text: String| Error::new(ErrorKind::Unsupported, text);
        let &[channels @ (1 | 3), height, width] = shape else {
            return Err(unsupported(format!(
                "a picture has 1 or 3 channels, the model's samples are {shape:?}: write .npy or .safetensors"
            )));
        };
        let columns = columns.max(1);
        let grid = Self { channels, height, width, columns, rows: count.div_ceil(columns) };
        let side = |n: usize, side: usize| side.checked_add(GAP).and_then(|s| s.checked_mul(n));
        let pixels = side(grid.columns, width).zip(side(grid.rows, height)).and_then(|(w, h)| w.checked_mul(h));
        if pixels.is_some_and(|p| p <= MAX_PIXELS) {
            return Ok(grid);
        }
        Err(unsupported(format!("a picture of {count} samples of {shape:?} is too large: write .npy or .safetensors")))
    }

    /// Draws the samples, `[count, channels, height, width]` in [-1, 1], as pixels by rows; `of` makes a number of a
    /// pixel.
    fn pixels<T: Copy + Default>(&self, samples: &[f32], of: impl Fn(f32) -> T) -> Vec<T> {
        let (line, lines) = self.size();
        let mut pixels = vec![T::default(); line * lines * self.channels];
        for (i, sample) in samples.chunks_exact(self.channels * self.height * self.width).enumerate() {
            let (top, left) = (i / self.columns * (self.height + GAP), i % self.columns * (self.width + GAP));
            for (c, plane) in sample.chunks_exact(self.height * self.width).enumerate() {
                for (y, row) in plane.chunks_exact(self.width).enumerate() {
                    let start = ((top + y) * line + left) * self.channels + c;
                    for (to, &x) in pixels.iter_mut().skip(start).step_by(self.channels).zip(row) {
                        *to = of(x);
                    }
                }
            }
        }
        pixels
    }

    /// Width and height of the picture.
    fn size(&self) -> (usize, usize) {
        (self.columns * (self.width + GAP) - GAP, self.rows * (self.height + GAP) - GAP)
    }

    /// Checks that a file of this kind holds a picture of this size.
    pub fn check(&self, kind: Kind) -> Result<()> {
        let (width, height) = self.size();
        let most = match kind {
            Kind::Png | Kind::Png16 => MAX_PIXELS,
            Kind::Jpeg => 65_535,
            Kind::WebP => 16_383,
        };
        if width.max(height) <= most {
            return Ok(());
        }
        let text =
            format!("a picture of {height}x{width} has more than the {most} pixels that a side may have: write .png");
        Err(Error::new(ErrorKind::Unsupported, text))
    }

    /// Writes the samples, `[count, channels, height, width]` in [-1, 1], as a file of a kind.
    pub fn write(&self, samples: &[f32], kind: Kind, out: &mut impl Write) -> Result<()> {
        // `new` keeps both far below 2^32.
        let (width, height) = (self.size().0 as u32, self.size().1 as u32);
        let failed = |e: image::ImageError| Error::new(ErrorKind::Io, format!("the picture cannot be written: {e}"));
        let color = if self.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        match kind {
            Kind::Png => self.write_png(&self.pixels(samples, to_byte), png::BitDepth::Eight, out),
            Kind::Png16 => {
                let pixels: Vec<u8> = self.pixels(samples, to_word).iter().flat_map(|v| v.to_be_bytes()).collect();
                self.write_png(&pixels, png::BitDepth::Sixteen, out)
            }
            Kind::Jpeg => JpegEncoder::new_with_quality(out, JPEG_QUALITY)
                .encode(&self.pixels(samples, to_byte), width, height, color)
                .map_err(failed),
            Kind::WebP => {
                let mut pixels = self.pixels(samples, to_byte);
                if self.channels == 1 {
                    // It has no grey.
                    pixels = pixels.into_iter().flat_map(|v| [v; 3]).collect();
                }
                WebPEncoder::new_lossless(out).encode(&pixels, width, height, ExtendedColorType::Rgb8).map_err(failed)
            }
        }
    }

    fn write_png(&self, pixels: &[u8], depth: png::BitDepth, out: &mut impl Write) -> Result<()> {
        let (width, height) = self.size();
        let failed = |e: png::EncodingError| Error::new(ErrorKind::Io, format!("the PNG cannot be written: {e}"));
        let mut encoder = png::Encoder::new(out, width as u32, height as u32);
        encoder.set_color(if self.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(depth);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(pixels).map_err(failed)?;
        writer.finish().map_err(failed)
    }
}

/// [-1, 1] to 0..=65535, in the same way as bytes.
fn to_word(x: f32) -> u16 {
    ((f64::from(x) / 2.0 + 0.5).clamp(0.0, 1.0) * 65535.0).round_ties_even() as u16
}

/// [-1, 1] to 0..=255, clamped and rounded as diffusers' image processor does it.
pub fn to_byte(x: f32) -> u8 {
    ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_diffusers() {
        let cases = [(-2.0, 0), (-1.0, 0), (0.0, 128), (1.0, 255), (7.0, 255), (0.5, 191), (-0.99, 1), (f32::NAN, 0)];
        for (x, byte) in cases {
            assert_eq!(to_byte(x), byte, "{x}");
        }
        for (x, word) in [(-2.0, 0), (-1.0, 0), (0.0, 32768), (1.0, 65535), (7.0, 65535), (0.5, 49151), (f32::NAN, 0)] {
            assert_eq!(to_word(x), word, "{x}");
        }
    }

    #[test]
    fn five_images_lie_in_a_grid_of_three_by_two() {
        let grid = Grid::new(5, &[3, 1, 1]).unwrap();
        assert_eq!(grid.size(), (3 + 2 * GAP, 2 + GAP));
        let samples: Vec<f32> = (0..15).map(|i| i as f32 / 7.0 - 1.0).collect();
        let pixels = grid.pixels(&samples, to_byte);
        let at = |x: usize, y: usize| &pixels[(y * grid.size().0 + x) * 3..][..3];
        let bytes = |i: usize| samples[i * 3..][..3].iter().map(|&v| to_byte(v)).collect::<Vec<_>>();
        assert_eq!(at(0, 0), bytes(0));
        assert_eq!(at(1 + GAP, 1 + GAP), bytes(4));
        assert_eq!(at(2 * (1 + GAP), 1 + GAP), [0, 0, 0]);
        assert_eq!(at(1, 0), [0, 0, 0]);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for shape in [&[2, 8, 8][..], &[3, 8], &[1], &[3, 1 << 20, 1 << 20], &[1, usize::MAX, 1]] {
            assert!(Grid::new(4, shape).is_err(), "{shape:?}");
        }
    }
}
