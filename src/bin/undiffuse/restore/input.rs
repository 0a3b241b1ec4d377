//! Pictures, measurements and masks from files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use undiffuse::npy::{self, NpyArray};
use undiffuse::tensor::Dims;
use undiffuse::{Error, ErrorKind, Result};

use crate::arrays::Array;

/// The most bytes that a PNG may unpack to.
const MAX_PNG_BYTES: usize = 1 << 30;

/// What a file holds, before it is known what it is for.
pub struct Input {
    /// Bytes as 0 to 255, floats as they are; a PNG as `[C, H, W]`.
    array: Array,
    bytes: bool,
    name: String,
}

fn invalid(kind: ErrorKind, name: &str, text: String) -> Error {
    Error::new(kind, format!("{name}: {text}"))
}

impl Input {
    /// Reads a .png or .npy file.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let (array, bytes) = match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
            Some("npy") => {
                let NpyArray { shape, values: data, is_bytes } = npy::read(path)?;
                (Array { shape, data }, is_bytes)
            }
            Some("png") => (read_png(path).map_err(|e| e.context(&name))?, true),
            _ => {
                let text = "unknown kind of file, expected .png or .npy".into();
                return Err(invalid(ErrorKind::InvalidArgument, &name, text));
            }
        };
        if let Some(i) = array.data.iter().position(|v| !v.is_finite()) {
            return Err(invalid(ErrorKind::NonFinite, &name, format!("value {i} is not finite")));
        }
        Ok(Self { array, bytes, name })
    }

    /// The name of the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Height and width, if it looks like a picture or several.
    pub fn size(&self) -> Option<[usize; 2]> {
        match self.array.shape.as_slice() {
            &[.., h, w] => Some([h, w]),
            _ => None,
        }
    }

    /// `[N, ...dims]` in the model's units: bytes become -1 to 1. One item may come without the N, and items of one channel
    /// without the channel. Errors: kind `Shape` for anything else.
    pub fn items(&self, what: &str, dims: &Dims) -> Result<Array> {
        let expected = dims.as_slice();
        let mut array = self.array.clone();
        let short = match expected {
            [1, rest @ ..] if !rest.is_empty() => rest,
            _ => expected,
        };
        let shape = array.shape.clone();
        let count = if shape == expected || shape == short {
            1
        } else {
            match shape.split_first() {
                Some((&n, rest)) if n > 0 && (rest == expected || rest == short) => n,
                _ if grey_of_colour(&mut array, expected) => 1,
                _ => {
                    let text = format!("{what} has shape {shape:?}, expected {expected:?} or [N, ...] of it");
                    return Err(invalid(ErrorKind::Shape, &self.name, text));
                }
            }
        };
        if self.bytes {
            array.data.iter_mut().for_each(|v| *v = *v / 127.5 - 1.0);
        }
        array.shape = [&[count], expected].concat();
        Ok(array)
    }

    /// The raw numbers, for a kernel or a matrix.
    pub fn numbers(&self) -> &Array {
        &self.array
    }

    /// A mask for samples of `dims`: one flag for each position or each element, true where the file has its largest value
    /// (255 or 1) and false where it has 0. Other values are refused.
    pub fn mask(&self, dims: &Dims) -> Result<Vec<bool>> {
        let known = if self.bytes && self.array.data.contains(&255.0) { 255.0 } else { 1.0 };
        if let Some(v) = self.array.data.iter().find(|&&v| v != 0.0 && v != known) {
            let text = format!("the mask holds {v}, expected 0 for unknown and {known} for known and nothing else");
            return Err(invalid(ErrorKind::InvalidArgument, &self.name, text));
        }
        let expected = dims.as_slice();
        let mut array = self.array.clone();
        let positions = expected.get(1..).unwrap_or(&[]);
        let shape = array.shape.clone();
        let plane = shape == positions || shape.split_first() == Some((&1, positions));
        if !(plane || shape == expected || grey_of_colour(&mut array, &[&[1], positions].concat())) {
            let text = format!("the mask has shape {shape:?}, expected {positions:?} or {expected:?}");
            return Err(invalid(ErrorKind::Shape, &self.name, text));
        }
        Ok(array.data.iter().map(|&v| v == known).collect())
    }
}

/// Whether a picture of three equal channels was asked for as one of one channel; makes it so.
fn grey_of_colour(array: &mut Array, expected: &[usize]) -> bool {
    let (&[3, h, w], &[1, height, width]) = (array.shape.as_slice(), expected) else { return false };
    let plane = h * w;
    let mut planes = array.data.chunks_exact(plane.max(1));
    let Some(first) = planes.next() else { return false };
    if [h, w] != [height, width] || !planes.all(|p| p == first) {
        return false;
    }
    array.data.truncate(plane);
    array.shape = expected.to_vec();
    true
}

/// A PNG as `[C, H, W]` of 0 to 255; C is 1 or 3.
fn read_png(path: &Path) -> Result<Array> {
    let failed = |e: png::DecodingError| Error::new(ErrorKind::InvalidArgument, format!("the PNG cannot be read: {e}"));
    let limits = png::Limits { bytes: MAX_PNG_BYTES };
    let mut decoder = png::Decoder::new_with_limits(BufReader::new(File::open(path)?), limits);
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(failed)?;
    let size = reader.output_buffer_size().filter(|&n| n <= MAX_PNG_BYTES);
    let size = size.ok_or_else(|| Error::new(ErrorKind::OutOfMemory, "the PNG is too large"))?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(size).map_err(|_| Error::new(ErrorKind::OutOfMemory, "there is no memory for the PNG"))?;
    pixels.resize(size, 0);
    let info = reader.next_frame(&mut pixels).map_err(failed)?;
    let wide = info.bit_depth == png::BitDepth::Sixteen;
    let (channels, alpha) = match info.color_type {
        png::ColorType::Grayscale => (1, false),
        png::ColorType::GrayscaleAlpha => (1, true),
        png::ColorType::Rgb => (3, false),
        png::ColorType::Rgba => (3, true),
        png::ColorType::Indexed => return Err(Error::new(ErrorKind::Unsupported, "the PNG has a palette that stayed")),
    };
    let (height, width) = (info.height as usize, info.width as usize);
    let stored = channels + usize::from(alpha);
    let bytes = if wide { 2 } else { 1 };
    let value = |b: &[u8]| match *b {
        [b] => f32::from(b),
        [high, low] => f32::from(u16::from_be_bytes([high, low])) / 257.0,
        _ => 0.0,
    };
    let mut array = Array::zeros("the picture", &[channels, height, width])?;
    let used = pixels.get(..info.buffer_size()).unwrap_or(&pixels);
    for (i, pixel) in used.chunks_exact(stored * bytes).enumerate() {
        for (c, b) in pixel.chunks_exact(bytes).enumerate() {
            if c == channels {
                if value(b) != 255.0 {
                    return Err(Error::new(
                        ErrorKind::Unsupported,
                        "the PNG is transparent, expected an opaque picture",
                    ));
                }
            } else if let Some(to) = array.data.get_mut(c * height * width + i) {
                *to = value(b);
            }
        }
    }
    Ok(array)
}
