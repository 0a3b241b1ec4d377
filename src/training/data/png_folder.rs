//! A folder of PNG images.

use alloc::vec::Vec;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::{Dataset, read_bounded, room};
use crate::error::{Error, Result, ensure, err};
use crate::tensor::Dims;

/// The largest image, in bytes once decoded: 64 MiB.
const MAX_IMAGE: usize = 1 << 26;

/// The channels that an image is read as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colors {
    /// One channel; of colours 0.299 R + 0.587 G + 0.114 B, not rounded.
    #[default]
    Grey,
    /// Three; of grey the same three times.
    Rgb,
}

/// All files of a folder (not of folders in it) whose names end in `.png`, in the order of their names, as samples of `[C, H, W]`
/// with values of 0 to 255. 16-bit images are read by their upper bytes.
///
/// Errors: kind `InvalidArgument` if there is none, they differ in size, one is larger than 64 MiB, has an alpha channel or is no
/// PNG; kind `Io`. The message names the file.
pub fn read_png_folder(folder: &Path, colors: Colors) -> Result<Dataset> {
    let named = |e: std::io::Error| Error::from(e).context(folder.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(named)? {
        let path = entry.map_err(named)?.path();
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut all: Option<(Dims, Vec<f32>)> = None;
    for path in &paths {
        let (dims, values) = decode(&read_bounded(path)?, colors).map_err(|e| e.context(path.display()))?;
        let (first, out) = match &mut all {
            Some(all) => all,
            none => none.insert((dims, room("the images", paths.len(), &dims)?)),
        };
        ensure!(
            dims == *first,
            InvalidArgument,
            "{}: the image is {dims}, the first of the folder is {first}",
            path.display()
        );
        out.extend(values);
    }
    let (dims, values) =
        all.ok_or_else(|| err!(InvalidArgument, "{}: the folder holds no .png file", folder.display()))?;
    Dataset::new(dims, values)
}

/// The one image in the bytes of a PNG file, as [`read_png_folder`] reads it.
///
/// Errors: kind `InvalidArgument` for an image larger than 64 MiB, with an alpha channel, or bytes that are no PNG.
pub fn parse_png(bytes: &[u8], colors: Colors) -> Result<Dataset> {
    let (dims, values) = decode(bytes, colors)?;
    Dataset::new(dims, values)
}

fn decode(bytes: &[u8], colors: Colors) -> Result<(Dims, Vec<f32>)> {
    let malformed = |e: png::DecodingError| err!(InvalidArgument, "the PNG cannot be read: {e}");
    let limits = png::Limits { bytes: MAX_IMAGE };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    // Palettes become colours, few bits and 16 bits become 8.
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(malformed)?;
    let size = reader
        .output_buffer_size()
        .filter(|&n| n <= MAX_IMAGE)
        .ok_or_else(|| err!(InvalidArgument, "the image has more than {MAX_IMAGE} bytes"))?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(size).map_err(|_| err!(OutOfMemory, "no memory for an image of {size} bytes"))?;
    pixels.resize(size, 0);
    let info = reader.next_frame(&mut pixels).map_err(malformed)?;
    let stored = match info.color_type {
        png::ColorType::Grayscale => 1,
        png::ColorType::Rgb => 3,
        other => {
            return Err(err!(InvalidArgument, "the image is {other:?}, expected grey or RGB without transparency"));
        }
    };
    let (width, height) = (info.width as usize, info.height as usize);
    let channels = match colors {
        Colors::Grey => 1,
        Colors::Rgb => 3,
    };
    let dims = Dims::new(&[channels, height, width])?;
    let each = || pixels.chunks_exact(stored);
    let mut values = room("the image", 1, &dims)?;
    match (colors, stored) {
        (Colors::Grey, 1) => values.extend(pixels.iter().take(width * height).map(|&v| f32::from(v))),
        (Colors::Grey, _) => values.extend(each().map(|p| {
            let weights = [0.299f32, 0.587, 0.114];
            p.iter().zip(weights).map(|(&v, w)| w * f32::from(v)).sum::<f32>()
        })),
        (Colors::Rgb, _) => {
            for c in 0..3 {
                values.extend(each().map(|p| f32::from(p.get(c).or(p.first()).copied().unwrap_or(0))));
            }
        }
    }
    Ok((dims, values))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    fn write(path: &Path, color: png::ColorType, width: u32, height: u32, data: &[u8]) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), width, height);
        encoder.set_color(color);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().unwrap().write_image_data(data).unwrap();
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_names() {
        let folder = std::env::temp_dir().join(alloc::format!("undiffuse-png-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert!(read_png_folder(&folder, Colors::Grey).unwrap_err().message().contains("no .png"));
        write(&folder.join("b.png"), png::ColorType::Grayscale, 2, 1, &[7, 9]);
        write(&folder.join("a.PNG"), png::ColorType::Rgb, 2, 1, &[10, 20, 30, 1, 2, 3]);
        fs::write(folder.join("note.txt"), "no image").unwrap();
        let grey = read_png_folder(&folder, Colors::Grey).unwrap();
        assert_eq!((grey.count(), grey.dims().as_slice()), (2, &[1, 1, 2][..]));
        assert!((grey.sample(0)[0] - (2.99 + 11.74 + 3.42)).abs() < 1e-4);
        assert_eq!(grey.sample(1), [7.0, 9.0]);
        let rgb = read_png_folder(&folder, Colors::Rgb).unwrap();
        assert_eq!(rgb.sample(0), [10.0, 1.0, 20.0, 2.0, 30.0, 3.0]);
        assert_eq!(rgb.sample(1), [7.0, 9.0, 7.0, 9.0, 7.0, 9.0]);

        write(&folder.join("c.png"), png::ColorType::Rgba, 2, 1, &[0; 8]);
        assert!(read_png_folder(&folder, Colors::Rgb).unwrap_err().message().contains("c.png"));
        write(&folder.join("c.png"), png::ColorType::Grayscale, 1, 2, &[0; 2]);
        let e = read_png_folder(&folder, Colors::Rgb).unwrap_err();
        assert!(e.message().contains("c.png: the image is"), "{e}");
        let whole = fs::read(folder.join("b.png")).unwrap();
        for cut in [0, 8, 20, 40, whole.len() - 13] {
            fs::write(folder.join("b.png"), &whole[..cut]).unwrap();
            assert!(read_png_folder(&folder, Colors::Grey).is_err(), "cut at {cut}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
