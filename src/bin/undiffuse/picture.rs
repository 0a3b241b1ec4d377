//! Pictures from files. A picture knows its height, width and channels; nothing of it is guessed from a shape.

use std::io::Cursor;

use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageFormat, Limits, Luma};
use undiffuse::{Error, ErrorKind, Result};

/// The most bytes that a picture may unpack to; its values take four times as many.
const MAX_BYTES: u64 = 1 << 28;

/// The weights of red, green and blue in the grey of a colour, those of ITU-R BT.601 and of PIL.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// How a picture is brought to a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Resized in its proportions until it covers the size; what stands over is cut off, alike at both ends.
    Cover,
    /// Resized, whatever its proportions.
    Stretch,
    /// Not resized: the middle of it.
    Crop,
}

impl Fit {
    /// As the user types them.
    pub const NAMES: [(&'static str, Self); 3] =
        [("cover", Self::Cover), ("stretch", Self::Stretch), ("crop", Self::Crop)];
}

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// 1 or 3, as the file has them, or as it was converted.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Grey levels 0 to 255, in fractions from files of 16 bits: `[channels, height, width]`.
    pub data: Vec<f32>,
    /// 0 (transparent) to 1, `[height, width]`, where the file has it and it is not 1 everywhere.
    pub alpha: Option<Vec<f32>>,
}

/// Whether these bytes begin as a file of a kind that [`Picture::decode`] reads.
pub fn is_picture(bytes: &[u8]) -> bool {
    format(bytes).is_some()
}

fn format(bytes: &[u8]) -> Option<ImageFormat> {
    let format = image::guess_format(bytes).ok()?;
    matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP).then_some(format)
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, text)
}

impl Picture {
    /// The picture in the bytes of a PNG, JPEG or WebP file, turned as its EXIF data say.
    ///
    /// Errors: bytes that are no such file; an animation; a picture that unpacks to more than 256 MiB.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let kind = format(bytes).ok_or_else(|| invalid("no PNG, JPEG or WebP".into()))?;
        let name = match kind {
            ImageFormat::Png => "PNG",
            ImageFormat::Jpeg => "JPEG",
            _ => "WebP",
        };
        let failed = |e: image::ImageError| match e {
            image::ImageError::Limits(_) => {
                Error::new(ErrorKind::OutOfMemory, format!("the {name} unpacks to more than {MAX_BYTES} bytes"))
            }
            e => invalid(format!("the {name} cannot be read: {e}")),
        };
        let animated =
            || Error::new(ErrorKind::Unsupported, format!("the {name} is an animation, expected one picture"));
        match kind {
            ImageFormat::Png => {
                let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits()).map_err(failed)?;
                if decoder.is_apng().map_err(failed)? {
                    return Err(animated());
                }
                Self::from_decoder(decoder)
            }
            ImageFormat::Jpeg => JpegDecoder::new(Cursor::new(bytes)).and_then(Self::from_decoder),
            _ => {
                let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
                if decoder.has_animation() {
                    return Err(animated());
                }
                Self::from_decoder(decoder)
            }
        }
        .map_err(failed)
    }

    fn from_decoder(mut decoder: impl ImageDecoder) -> image::ImageResult<Self> {
        let mut reserved = limits();
        reserved.reserve(decoder.total_bytes())?;
        decoder.set_limits(reserved)?;
        let orientation = decoder.orientation()?;
        let mut image = DynamicImage::from_decoder(decoder)?;
        image.apply_orientation(orientation);
        Ok(Self::from_image(&image))
    }

    fn from_image(image: &DynamicImage) -> Self {
        let (height, width) = (image.height() as usize, image.width() as usize);
        let color = image.color();
        let wide = color.bytes_per_pixel() / color.channel_count() > 1;
        let (channels, samples): (usize, Vec<f32>) = match (color.has_color(), wide) {
            (false, false) => (1, image.to_luma_alpha8().into_raw().into_iter().map(f32::from).collect()),
            (false, true) => {
                (1, image.to_luma_alpha16().into_raw().into_iter().map(|v| f32::from(v) / 257.0).collect())
            }
            (true, false) => (3, image.to_rgba8().into_raw().into_iter().map(f32::from).collect()),
            (true, true) => (3, image.to_rgba16().into_raw().into_iter().map(|v| f32::from(v) / 257.0).collect()),
        };
        let plane = |c: usize| samples.iter().skip(c).step_by(channels + 1).copied();
        let data = (0..channels).flat_map(plane).collect();
        let alpha: Vec<f32> = plane(channels).map(|v| v / 255.0).collect();
        let alpha = alpha.iter().any(|&a| a < 1.0).then_some(alpha);
        Self { channels, height, width, data, alpha }
    }

    /// Its planes.
    fn planes(&self) -> impl Iterator<Item = &[f32]> {
        self.data.chunks_exact((self.height * self.width).max(1))
    }

    /// Whether it has no colours, however it is stored.
    pub fn is_grey(&self) -> bool {
        let mut planes = self.planes();
        let first = planes.next();
        planes.all(|p| Some(p) == first)
    }

    /// The same with one channel: of colours their grey.
    pub fn into_grey(mut self) -> Self {
        if !self.is_grey() {
            let n = self.height * self.width;
            let mut grey = vec![0.0; n];
            for (plane, weight) in self.planes().zip(LUMA) {
                grey.iter_mut().zip(plane).for_each(|(to, v)| *to += weight * v);
            }
            self.data = grey;
        }
        self.data.truncate(self.height * self.width);
        self.channels = 1;
        self
    }

    /// The same with three channels: grey three times.
    pub fn into_colour(mut self) -> Self {
        if self.channels == 1 {
            self.data = self.data.repeat(3);
            self.channels = 3;
        }
        self
    }

    /// Brings it to a size, with its alpha. Errors: [`Fit::Crop`] of a picture that is smaller.
    pub fn fit(&self, size: [usize; 2], fit: Fit) -> Result<Self> {
        let [h, w] = size;
        let there = [self.height, self.width];
        let resized = match fit {
            Fit::Crop => there,
            Fit::Stretch => size,
            Fit::Cover => {
                let scale = (h as f64 / self.height as f64).max(w as f64 / self.width as f64);
                let side = |n: usize, least: usize| ((n as f64 * scale).round() as usize).max(least);
                [side(self.height, h), side(self.width, w)]
            }
        };
        let [height, width] = resized;
        if height < h || width < w {
            let text =
                format!("the picture is {height}x{width}, which has no middle of {h}x{w}: --fit cover enlarges it");
            return Err(Error::new(ErrorKind::Shape, text));
        }
        if (height as u64).saturating_mul(width as u64) > MAX_BYTES / 16 {
            return Err(Error::new(
                ErrorKind::OutOfMemory,
                format!("a picture resized to {height}x{width} is too large"),
            ));
        }
        let (top, left) = ((height - h) / 2, (width - w) / 2);
        let plane = |plane: &[f32], unit: f32| -> Result<Vec<f32>> {
            let whole = if resized == there { plane.to_vec() } else { resize(plane, there, resized, unit)? };
            Ok(whole
                .chunks_exact(width)
                .skip(top)
                .take(h)
                .flat_map(|row| row.iter().skip(left).take(w).copied())
                .collect())
        };
        let mut data = Vec::new();
        for p in self.planes() {
            data.extend(plane(p, 255.0)?);
        }
        let alpha = self.alpha.as_ref().map(|a| plane(a, 1.0)).transpose()?;
        Ok(Self { channels: self.channels, height: h, width: w, data, alpha })
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_BYTES);
    limits
}

/// A plane of values from 0 to `unit` at another size, by Lanczos' filter, which is widened where it gets smaller.
fn resize(plane: &[f32], [h, w]: [usize; 2], [height, width]: [usize; 2], unit: f32) -> Result<Vec<f32>> {
    let side = |n: usize| u32::try_from(n).map_err(|_| invalid(format!("{n} pixels are too many")));
    // The crate clamps to 0 to 1 what it resizes in f32.
    let values: Vec<f32> = plane.iter().map(|v| v / unit).collect();
    let image = ImageBuffer::<Luma<f32>, Vec<f32>>::from_raw(side(w)?, side(h)?, values);
    let image = image.ok_or_else(|| invalid(format!("a plane of {h}x{w} has {} values", plane.len())))?;
    let resized = imageops::resize(&image, side(width)?, side(height)?, FilterType::Lanczos3);
    Ok(resized.into_raw().into_iter().map(|v| v * unit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(channels: usize, height: usize, width: usize, at: impl Fn(usize, usize, usize) -> f32) -> Picture {
        let mut data = Vec::new();
        for c in 0..channels {
            for y in 0..height {
                data.extend((0..width).map(|x| at(c, y, x)));
            }
        }
        Picture { channels, height, width, data, alpha: None }
    }

    #[test]
    fn a_crop_is_the_middle() {
        let p = picture(3, 5, 4, |c, y, x| (100 * c + 10 * y + x) as f32);
        let q = p.fit([3, 2], Fit::Crop).unwrap();
        assert_eq!(q, picture(3, 3, 2, |c, y, x| (100 * c + 10 * (y + 1) + x + 1) as f32));
        let e = p.fit([6, 2], Fit::Crop).unwrap_err();
        assert!(e.message().contains("--fit cover"), "{e}");
        // What the error advises.
        let q = p.fit([6, 2], Fit::Cover).unwrap();
        assert_eq!((q.height, q.width, q.data.len()), (6, 2, 36));
    }

    #[test]
    fn resizing_keeps_a_ramp_and_what_is_alike() {
        let ramp = picture(1, 32, 64, |_, _, x| x as f32 * 4.0);
        for (size, fit) in [([16, 32], Fit::Stretch), ([16, 16], Fit::Cover), ([8, 32], Fit::Stretch)] {
            let q = ramp.fit(size, fit).unwrap();
            assert_eq!([q.height, q.width], size);
            // A cover of 16 x 16 is the middle of 16 x 32.
            let first = if fit == Fit::Cover { 8 } else { 0 };
            for x in 2..size[1] - 2 {
                let want = (2 * (x + first)) as f32 * 4.0 + 2.0;
                assert!((q.data[3 * size[1] + x] - want).abs() < 0.5, "{x}: {} {want}", q.data[3 * size[1] + x]);
            }
        }
        let flat = picture(3, 7, 5, |_, _, _| 200.0).fit([20, 9], Fit::Cover).unwrap();
        assert!(flat.data.iter().all(|v| (v - 200.0).abs() < 1e-3));
    }

    #[test]
    fn grey_in_colour_form_stays_as_it_is() {
        let p = picture(3, 2, 2, |_, y, x| (y * 2 + x) as f32);
        assert!(p.is_grey());
        assert_eq!(p.clone().into_grey(), picture(1, 2, 2, |_, y, x| (y * 2 + x) as f32));
        assert_eq!(p.clone().into_grey().into_colour(), p);
        let red = picture(3, 1, 1, |c, _, _| if c == 0 { 100.0 } else { 0.0 });
        assert!(!red.is_grey());
        assert!((red.into_grey().data[0] - 29.9).abs() < 1e-4);
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for bytes in [&b""[..], b"text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x04\0\0\0WEBP", b"GIF89a"] {
            assert!(Picture::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
